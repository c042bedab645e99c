/* SPDX-License-Identifier: MIT */
/* What `status` and `stats` say beyond plain counters. */
#ifndef SOCKSPLICE_OBSERVE_JSON_H
#define SOCKSPLICE_OBSERVE_JSON_H

#include <jansson.h>

#include "observe.h"

/* The verdict, the upstream's answers, rates, and the last problems. */
void observe_json_status(json_t *root, const struct observe_report *report);
/* A group for each bounded resource: how much is in use, was at most, there is, and how often it was not enough. */
void observe_json_groups(json_t *root, struct worker *worker, const struct worker_stats *stats);

#endif
