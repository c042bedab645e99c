/* SPDX-License-Identifier: MIT */
/*
 * Is it working? One verdict from a few facts, for `status`, /healthz and the
 * log, so that all three say the same. Pure: ages come in, nothing is asked.
 *
 * An upstream that was taken out of use is down until a probe succeeds. What
 * failed short of that counts for HEALTH_WINDOW_NS after the last of it: nobody
 * may have tried since, and a balancer that sends no traffic to an unhealthy
 * gateway would never learn that it has recovered.
 */
#ifndef SOCKSPLICE_HEALTH_H
#define SOCKSPLICE_HEALTH_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#define HEALTH_WINDOW_NS 30000000000ull
/* One lost dial says little of an upstream that has answered before. */
#define HEALTH_FAILURES 3
/* So many refused CONNECTs in a row are more than a client's port scan. */
#define HEALTH_REFUSALS 20
#define HEALTH_TEXT_BYTES 200
#define HEALTH_MAX_LINKS (CONFIG_MAX_INTERFACES + CONFIG_MAX_UPSTREAMS)

enum health_state { HEALTH_WORKING, HEALTH_DEGRADED, HEALTH_FAILED };

/* What it is about; a new one is worth a line in the log. */
enum health_cause {
	HEALTH_CAUSE_NONE,
	HEALTH_CAUSE_DATA_PATH,
	HEALTH_CAUSE_LINK,
	HEALTH_CAUSE_ROUTE,
	HEALTH_CAUSE_UPSTREAM,
	HEALTH_CAUSE_FRAMES,
	HEALTH_CAUSE_TABLE,
	HEALTH_CAUSE_PORTS,
	HEALTH_CAUSE_REFUSALS,
};

struct health_upstream {
	char name[64];
	bool routed;
	bool unresolved;     /* its name has no address yet */
	bool failed;         /* out of use until a probe succeeds */
	bool standby;        /* weight 0: not needed while another works */
	bool answered;       /* ever */
	uint32_t failures;   /* dials and handshakes in a row */
	uint64_t failed_age; /* ns since the last of them */
	const char *failure; /* name of its counter */
	uint32_t refusals;   /* answers in a row that were no */
	uint64_t answered_age;
	const char *refusal;
};

struct health_link {
	char name[IFNAMSIZ];
	bool up;
	bool uplink;
};

struct health_facts {
	bool answers; /* the data path does */
	struct health_link links[HEALTH_MAX_LINKS];
	uint32_t link_count;
	struct health_upstream upstreams[CONFIG_MAX_UPSTREAMS];
	uint32_t upstream_count;
	uint32_t frames_free, frames_total;
	uint64_t frames_missed;                 /* times in the last seconds that none was free */
	uint32_t entries_in_use, entries_total; /* of the kernel's table */
	uint32_t ports_in_use, ports_total;
};

struct health_verdict {
	enum health_state state;
	enum health_cause cause;
	char text[HEALTH_TEXT_BYTES]; /* why, without the state; empty when all is well */
};

void health_judge(const struct health_facts *facts, struct health_verdict *out);
/* "working", "degraded" or "not working" */
const char *health_state_name(enum health_state state);
/* Is this upstream of no use now, as far as anybody has tried lately? */
bool health_upstream_down(const struct health_upstream *upstream);
/* What a counter of failures means, in plain words. */
const char *health_failure_text(const char *counter);

#endif
