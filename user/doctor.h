/* SPDX-License-Identifier: MIT */
/* What this machine can do, which path each interface gets, and what would improve it. */
#ifndef SOCKSPLICE_DOCTOR_H
#define SOCKSPLICE_DOCTOR_H

#include <stdbool.h>

#include "config.h"

/* config NULL: every interface that is up. Returns 0 when the gateway can run here, else 1. */
int doctor_run(const struct config *config, bool as_json);

#endif
