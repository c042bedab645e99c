/* SPDX-License-Identifier: MIT */
/* Which keys differ between two configurations, and which of these a running daemon can take over. */
#ifndef SOCKSPLICE_CONFIG_DIFF_H
#define SOCKSPLICE_CONFIG_DIFF_H

#include <stdbool.h>

#include "config.h"

/*
 * Calls `each` once for every key that differs, such as "tcp.idle-timeout"; for a list with its name alone. `live`: a
 * reload applies it. Values are not told.
 */
void config_diff(const struct config *before, const struct config *after,
		 void (*each)(void *ctx, const char *key, bool live), void *ctx);

#endif
