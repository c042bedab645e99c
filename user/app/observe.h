/* SPDX-License-Identifier: MIT */
/*
 * The daemon looks at itself once a second: rates over the last seconds, the
 * verdict on its health, and a line in the log when that changes. A thread of
 * its own; what it keeps is a handful of samples.
 */
#ifndef SOCKSPLICE_OBSERVE_H
#define SOCKSPLICE_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "health.h"
#include "worker.h"

/* Rates are taken over this many samples of a second each. */
#define OBSERVE_SAMPLES 5

struct observe;

/* Per second, over `over_ms`. Bytes are payload. */
struct observe_rates {
	uint32_t over_ms; /* 0: the daemon is too young to tell */
	uint64_t spliced_packets, relayed_packets;
	uint64_t spliced_bytes_up, spliced_bytes_down, relayed_bytes_up, relayed_bytes_down;
	uint64_t connections_opened, connections_refused;
	uint64_t drops; /* of the BPF programs and of the stack */
};

struct observe_report {
	struct worker_stats stats;                         /* of now; all zero when the data path does not answer */
	struct worker_upstream upstreams[UPSTREAMS_SLOTS]; /* the first are those of facts.upstreams */
	uint32_t upstream_count;
	struct observe_rates rates;
	struct health_facts facts;
	struct health_verdict health;
	uint64_t now_ns; /* CLOCK_MONOTONIC */
};

/* `worker` must outlive it. 0 or -errno. */
int observe_create(struct observe **out, struct worker *worker);
void observe_destroy(struct observe *observe);
/* What one upstream's row says about its health. */
void observe_upstream(const struct worker_upstream *row, uint64_t now_ns, struct health_upstream *out);
/* Asks the data path now; takes up to 2 s when that does not answer. From any thread. */
void observe_read(struct observe *observe, struct observe_report *out);

#endif
