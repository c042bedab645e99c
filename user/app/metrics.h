/* SPDX-License-Identifier: MIT */
/*
 * The `metrics` listener: /metrics in Prometheus' text format, /healthz for
 * balancers and keepalived. By libmicrohttpd on one thread of its own, which
 * asks the data path as `status` does. Connections, their memory and their
 * time are bounded, and a flood of requests is answered from one reading.
 */
#ifndef SOCKSPLICE_METRICS_H
#define SOCKSPLICE_METRICS_H

#include <stdint.h>

#include "config.h"
#include "observe.h"
#include "worker.h"

#define METRICS_CONNECTIONS 32
#define METRICS_CONNECTIONS_PER_CLIENT 8
#define METRICS_IDLE_SECONDS 5
/* An answer may be so old. */
#define METRICS_MAX_AGE_NS 250000000ull

struct metrics;

/* Binds the port, so that a start can fail early. *out is NULL when metrics are off. 0 or -errno with `error`. */
int metrics_listen(struct metrics **out, const struct config *config, char *error, uint32_t error_bytes);
/* Answers from now on. NULL: does nothing. 0 or -errno. */
int metrics_serve(struct metrics *metrics, struct worker *worker, struct observe *observe);
/* No request is being answered any more when this returns. */
void metrics_stop(struct metrics *metrics);
void metrics_destroy(struct metrics *metrics);

#endif
