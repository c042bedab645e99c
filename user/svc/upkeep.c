/* SPDX-License-Identifier: MIT */
/*
 * What upstreams need beside connections of clients: what these tell about
 * them is noted (health, latency, failures by kind), probes find out whether a
 * failed one is back, names are resolved again when their TTL is up, and pools
 * are filled.
 *
 * One timer serves all of it: upkeep_run() looks at every slot, which is a few
 * dozen at most, and arms the timer for what is due next. Whoever changes
 * something calls upkeep_at().
 */
#include "bridge_priv.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"

#define UPKEEP_SECOND_NS 1000000000ull
/* Bounds of a TTL: no name server can make us ask all the time, nor hold us to an address for a day. */
#define UPKEEP_TTL_MIN_S 5
#define UPKEEP_TTL_MAX_S 3600
/* After the first failure to resolve a name; doubled up to the limit. */
#define UPKEEP_RESOLVE_RETRY_NS (1 * UPKEEP_SECOND_NS)
#define UPKEEP_RESOLVE_RETRY_MAX 32
/* A question that was not answered by then was lost. */
#define UPKEEP_RESOLVE_LOST_NS (120 * UPKEEP_SECOND_NS)
/* A pool that could not be filled (no descriptor, no port, a failed dial) is tended again after that time. */
#define UPKEEP_POOL_RETRY_NS UPKEEP_SECOND_NS

void upkeep_at(struct bridge *bridge, uint64_t at_ns)
{
	if (!wheel_armed(&bridge->upkeep) || at_ns < bridge->upkeep.expires_ns)
		wheel_arm(&bridge->wheel, &bridge->upkeep, at_ns);
}

/* --- what connections tell --- */

static void upkeep_measure(struct upstream_latency *latency, uint64_t ns)
{
	latency->last_ns = ns;
	latency->sum_ns += ns;
	latency->count++;
}

void upkeep_connected(struct bridge *bridge, struct conn *conn)
{
	conn->connected_ns = bridge->now_ns;
	upkeep_measure(&conn_upstream(bridge, conn)->dial, bridge->now_ns - conn->dialled_ns);
}

void upkeep_answered(struct bridge *bridge, struct conn *conn)
{
	struct upstream_health *health = &bridge->upstreams.health[conn->upstream];
	struct upstream *upstream = conn_upstream(bridge, conn);
	uint64_t failed_ns = health->failed_ns;

	upkeep_measure(&upstream->handshake, bridge->now_ns - conn->connected_ns);
	upstream->answered_ns = bridge->now_ns;
	if (!upstream_health_answered(health, bridge->now_ns))
		return;
	log_info("upstream %s: it answers again, %llu s after its last failure", upstream->settings.name,
		 (unsigned long long)((bridge->now_ns - failed_ns) / UPKEEP_SECOND_NS));
	upkeep_at(bridge, bridge->now_ns);
}

void upkeep_failed(struct bridge *bridge, const struct conn *conn, enum upstream_failure kind)
{
	struct upstream_health *health = &bridge->upstreams.health[conn->upstream];
	struct upstream *upstream = conn_upstream(bridge, conn);
	bool probe = conn->purpose == CONN_FOR_PROBE;

	upstream->counters.failed[kind]++;
	upstream->fault = upstream_failure_name(kind);
	upstream->fault_ns = bridge->now_ns;
	upstream->counters.probes_failed += probe;
	if (!health->present)
		return;
	/* the next address of a name first: only when none of them answers has the upstream failed */
	if (kind <= UPSTREAM_FAILURE_dial_failed && upstream_next_address(upstream, &conn->server)) {
		upkeep_moved(bridge, conn->upstream);
		health->probing = health->probing && !probe;
		upkeep_at(bridge, bridge->now_ns);
		return;
	}
	if (kind <= UPSTREAM_FAILURE_dial_failed && upstream->addr_count > 1)
		upkeep_moved(bridge, conn->upstream);
	/* what others say while a probe is on its way is not the probe's answer */
	if (!probe && health->probing) {
		health->failed_ns = bridge->now_ns;
		return;
	}
	if (upstream_health_failed(health, bridge->now_ns, (uint32_t)random())) {
		upstream->counters.times_failed++;
		log_warn("upstream %s: failed (%s, %u in a row); it is left alone for %llu ms, then probed",
			 upstream->settings.name, upstream_failure_name(kind), health->failures,
			 (unsigned long long)((health->until_ns - bridge->now_ns) / 1000000));
		pool_discard_all(bridge, conn->upstream);
	}
	upkeep_at(bridge, bridge->now_ns);
}

void upkeep_moved(struct bridge *bridge, uint32_t slot)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];
	int before = upstream->routed ? upstream->route.ifindex : 0;

	upstream_find_route(upstream);
	splice_forget_next_hop(bridge->splice, slot);
	if (upstream->routed && upstream->route.ifindex != before && bridge->settings.uplinks_changed)
		bridge->settings.uplinks_changed(bridge->settings.ctx);
}

/* --- names --- */

int bridge_resolver_fd(struct bridge *bridge)
{
	bool needed = false;

	for (uint32_t i = 0; i < bridge->upstreams.used; i++)
		needed = needed || (bridge->upstreams.health[i].present && bridge->upstreams.list[i].settings.host[0]);
	if (needed && !bridge->resolver && resolver_create(&bridge->resolver))
		log_error("no thread to resolve names of upstreams: those stay unused");
	return bridge->resolver ? resolver_fd(bridge->resolver) : -1;
}

/* Own addresses of one family can only dial servers of that family. */
static uint32_t upkeep_usable_addresses(const struct upstream *upstream, const struct resolver_answer *answer,
					struct addr *out)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < answer->count && count < UPSTREAM_MAX_ADDRS; i++)
		if (!upstream->settings.source_count ||
		    addr_is_ipv4(&answer->addrs[i]) == addr_is_ipv4(&upstream->settings.sources[0]))
			out[count++] = answer->addrs[i];
	return count;
}

static void upkeep_unresolved(struct bridge *bridge, struct upstream *upstream, const char *why)
{
	uint64_t times = 1ull << (upstream->resolve_failures < 5 ? upstream->resolve_failures : 5);

	if (!upstream->resolve_failures++)
		log_warn("upstream %s: %s cannot be resolved: %s; %s", upstream->settings.name, upstream->settings.host,
			 why,
			 upstream->addr_count ? "the addresses known so far stay in use"
					      : "it gets no connections until it can");
	upstream->resolve_ns =
		bridge->now_ns +
		UPKEEP_RESOLVE_RETRY_NS * (times < UPKEEP_RESOLVE_RETRY_MAX ? times : UPKEEP_RESOLVE_RETRY_MAX);
}

static void upkeep_resolved(struct bridge *bridge, uint32_t slot, const struct resolver_answer *answer)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];
	struct addr addrs[UPSTREAM_MAX_ADDRS];
	uint32_t count = answer->error ? 0 : upkeep_usable_addresses(upstream, answer, addrs);
	uint32_t ttl_s = answer->ttl_s < UPKEEP_TTL_MIN_S   ? UPKEEP_TTL_MIN_S
			 : answer->ttl_s > UPKEEP_TTL_MAX_S ? UPKEEP_TTL_MAX_S
							    : answer->ttl_s;
	bool first = !upstream->addr_count;

	upstream->resolving = false;
	if (!count) {
		upkeep_unresolved(bridge, upstream,
				  answer->error ? answer->error : "no address is of the family of `sources`");
		return;
	}
	if (upstream->resolve_failures || first)
		log_info("upstream %s: %s has %u address(es)", upstream->settings.name, upstream->settings.host, count);
	upstream->resolve_failures = 0;
	upstream->resolve_ns = bridge->now_ns + ttl_s * UPKEEP_SECOND_NS;
	if (upstream_set_addresses(upstream, addrs, count)) {
		upkeep_moved(bridge, slot);
		/* warm connections to where it was */
		pool_discard_all(bridge, slot);
	}
	bridge->upstreams.health[slot].resolved = true;
}

void bridge_resolved(struct bridge *bridge)
{
	struct resolver_answer answer;

	while (resolver_take(bridge->resolver, &answer))
		for (uint32_t i = 0; i < bridge->upstreams.used; i++)
			if (bridge->upstreams.health[i].present && bridge->upstreams.list[i].resolving &&
			    !strcmp(bridge->upstreams.list[i].settings.host, answer.host))
				upkeep_resolved(bridge, i, &answer);
	upkeep_at(bridge, bridge->now_ns);
}

static void upkeep_ask(struct bridge *bridge, struct upstream *upstream)
{
	if (bridge->resolver && resolver_ask(bridge->resolver, upstream->settings.host)) {
		upstream->resolving = true;
		upstream->resolve_ns = bridge->now_ns + UPKEEP_RESOLVE_LOST_NS;
	} else {
		upstream->resolve_ns = bridge->now_ns + UPKEEP_RESOLVE_RETRY_NS;
	}
}

/* --- the round --- */

/* Does what is due for one; returns when to come again. */
static uint64_t upkeep_one(struct bridge *bridge, uint32_t slot)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];
	struct upstream_health *health = &bridge->upstreams.health[slot];
	uint64_t next_ns = UINT64_MAX, probe_ns;

	if (health->present && upstream->settings.host[0]) {
		if (upstream->resolve_ns <= bridge->now_ns)
			upkeep_ask(bridge, upstream);
		next_ns = upstream->resolve_ns;
	}
	probe_ns = upstream_health_probe_ns(health);
	if (probe_ns <= bridge->now_ns) {
		dial_probe(bridge, slot);
		probe_ns = health->probing ? UINT64_MAX : bridge->now_ns + UPKEEP_SECOND_NS;
	}
	pool_tend(bridge, slot);
	if (health->state == UPSTREAM_HEALTHY && health->resolved &&
	    upstream->warm + upstream->warming < upstreams_pool_target(&bridge->upstreams, slot) &&
	    next_ns > bridge->now_ns + UPKEEP_POOL_RETRY_NS)
		next_ns = bridge->now_ns + UPKEEP_POOL_RETRY_NS;
	return probe_ns < next_ns ? probe_ns : next_ns;
}

void upkeep_run(struct bridge *bridge)
{
	uint64_t next_ns = UINT64_MAX;

	if (bridge->stopping)
		return;
	for (uint32_t i = 0; i < bridge->upstreams.used; i++) {
		uint64_t at_ns = upkeep_one(bridge, i);

		next_ns = at_ns < next_ns ? at_ns : next_ns;
	}
	upstreams_sweep(&bridge->upstreams);
	if (next_ns != UINT64_MAX)
		upkeep_at(bridge, next_ns);
}
