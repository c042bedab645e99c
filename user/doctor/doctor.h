/* SPDX-License-Identifier: MIT */
/* What this machine can do, which path each interface gets and why, whether the upstreams answer, and what would help.
 */
#ifndef SOCKSPLICE_DOCTOR_H
#define SOCKSPLICE_DOCTOR_H

#include <stdbool.h>

#include "config.h"

#define DOCTOR_EXIT_FINE 0
#define DOCTOR_EXIT_PREVENTS 1 /* the daemon would not start */
#define DOCTOR_EXIT_PROBLEM 5  /* it would, but something would not work; 2 to 4 mean the same as for every command */

/* config NULL: every interface of this namespace, as if all keys had their defaults. Returns DOCTOR_EXIT_*. */
int doctor_run(const struct config *config, bool as_json);

#endif
