/* SPDX-License-Identifier: MIT */
/* The text of /metrics. docs/metrics.md lists every name; a test compares. */
#ifndef SOCKSPLICE_METRICS_TEXT_H
#define SOCKSPLICE_METRICS_TEXT_H

#include <stdio.h>

#include "config.h"
#include "observe.h"
#include "worker.h"

/* Prometheus text format 0.0.4. When the data path does not answer, only what is known without it. */
void metrics_text(FILE *out, struct worker *worker, const struct observe_report *report);

#endif
