/* SPDX-License-Identifier: MIT */
/* What the control socket says, as JSON. */
#ifndef SOCKSPLICE_CONTROL_JSON_H
#define SOCKSPLICE_CONTROL_JSON_H

#include <jansson.h>

#include "config.h"
#include "observe.h"
#include "worker.h"

/* Each returns a new reference, or NULL when memory is out. */
json_t *control_json_status(const struct config *config, const struct worker *worker,
			    const struct observe_report *report);
json_t *control_json_stats(struct worker *worker, const struct worker_stats *stats);
json_t *control_json_trace(const struct trace *trace);
json_t *control_json_endpoint(const struct endpoint *endpoint);
/* All of each, and what `status` shows. */
json_t *control_json_upstreams(const struct worker_upstream *rows, uint32_t count);
/* Where it is dialled: "10.2.0.2:1080", or "proxy.example:1080". */
json_t *control_json_server(const struct worker_upstream *row);
json_t *control_json_flow(const struct worker_flow_row *row, uint64_t now_ns);

#endif
