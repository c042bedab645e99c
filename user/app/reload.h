/* SPDX-License-Identifier: MIT */
/* `reload` and SIGHUP: the configuration is read again, and what can change while packets are served does. */
#ifndef SOCKSPLICE_RELOAD_H
#define SOCKSPLICE_RELOAD_H

#include <jansson.h>

#include "config.h"

struct worker;

/*
 * Reads `path` and applies it to `worker` and to the settings in force, all of it or nothing; logs what was done.
 * Returns, as a new reference, what there is to say: {"file", "rules", "prefixes", "milliseconds", "applied": [KEY...],
 * "needs_restart": [KEY...]}, or {"error", "exit"}, and NULL when memory is out.
 */
json_t *reload_apply(struct config *running, const char *path, struct worker *worker);

#endif
