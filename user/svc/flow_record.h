/* SPDX-License-Identifier: MIT */
/* What is known of a connection when it has ended: one line of `log.flows`. */
#ifndef SOCKSPLICE_FLOW_RECORD_H
#define SOCKSPLICE_FLOW_RECORD_H

#include <stdint.h>

#include "addr.h"
#include "dns.h"

/* Who carried the payload. */
#define RECORD_TIERS(X)                                                                                                \
	X(NONE, "none") /* nobody: it was never established */                                                         \
	X(RELAY, "relay")                                                                                              \
	X(SPLICED, "spliced")

#define RECORD_ENDS(X)                                                                                                 \
	X(NONE, "none")                                                                                                \
	X(CLOSED, "closed") /* both sides, in order */                                                                 \
	X(CLIENT_RESET, "client_reset")                                                                                \
	X(UPSTREAM_RESET, "upstream_reset")                                                                            \
	X(IDLE, "idle")           /* tcp.idle-timeout */                                                               \
	X(TIMED_OUT, "timed_out") /* the client did not answer any more */                                             \
	X(REFUSED, "refused")     /* the client was told so; `why` says more */                                        \
	X(EVICTED, "evicted")     /* a half-open connection gave way to newer ones */                                  \
	X(FLUSHED, "flushed")     /* by `stop --flush` */                                                              \
	X(STOPPED, "stopped")     /* the daemon that it needed stopped */

enum record_tier {
#define X(id, text) RECORD_TIER_##id,
	RECORD_TIERS(X)
#undef X
		RECORD_TIER_COUNT
};

enum record_end {
#define X(id, text) RECORD_END_##id,
	RECORD_ENDS(X)
#undef X
		RECORD_END_COUNT
};

struct flow_record {
	struct endpoint client, destination;
	char name[DNS_TEXT_BYTES]; /* that the client asked for; empty: it went to an address */
	char upstream[64];         /* empty: none was tried, or it is not in the configuration any more */
	enum record_tier tier;
	enum record_end end;
	const char *why;         /* static; of REFUSED: the counter that counted it. NULL: nothing to add */
	const char *not_spliced; /* static; NULL */
	uint64_t bytes_from_client, bytes_to_client;
	uint64_t packets_from_client, packets_to_client;
	uint64_t started_ns, ended_ns; /* CLOCK_MONOTONIC */
};

/* Where records go. `put` must not block: it is called on the data path, and keeps nothing of `record`. */
struct flow_recorder {
	void *ctx;
	void (*put)(void *ctx, const struct flow_record *record);
};

#endif
