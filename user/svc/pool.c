/* SPDX-License-Identifier: MIT */
/*
 * Connections to upstreams that are connected and authenticated before anybody
 * needs them: a client's connection then costs one round trip to the upstream
 * (CONNECT and its reply) instead of two to four.
 *
 * A warm connection is a conn in state WARM, in its upstream's list from oldest
 * to newest; the newest is taken, so that servers which give up on silent
 * clients early are used well. It leaves when it is taken, when its age is up
 * (jittered, so that a pool does not age all at once), when the upstream closes
 * it or says something (nothing is due from it), or when the upstream fails.
 * Each departure wakes upkeep.c, which fills up: half of the pool at a time,
 * and not at all while the upstream is failed.
 *
 * Where connections are spliced, a warm one has an entry of the kernel's table
 * from before its dial, which offered options that most clients offer (see
 * offload_warm.c).
 */
#include "bridge_priv.h"

#include <errno.h>
#include <stdlib.h>

#define POOL_LEAST_AT_ONCE 4

void pool_enter(struct bridge *bridge, struct conn *conn)
{
	struct upstream *upstream = conn_upstream(bridge, conn);
	uint32_t index = conn_index(bridge, conn);
	uint64_t age_ns = upstream->settings.pool_max_age_ns;

	conn_move(bridge, conn, CONN_WARM);
	conn->warm_older = upstream->warm_newest;
	conn->warm_newer = CONN_NONE;
	if (upstream->warm_newest == CONN_NONE)
		upstream->warm_oldest = index;
	else
		bridge->conns[upstream->warm_newest].warm_newer = index;
	upstream->warm_newest = index;
	upstream->warm++;
	if (++bridge->upstreams.warm > bridge->upstreams.warm_peak)
		bridge->upstreams.warm_peak = bridge->upstreams.warm;
	wheel_arm(&bridge->wheel, &conn->timer, bridge->now_ns + age_ns - (uint64_t)random() % (age_ns / 8));
	uring_poll_once(bridge->uring, conn_start_op(bridge, conn, CONN_OP_WATCH), conn->fd);
	/* half-way there, perhaps */
	upkeep_at(bridge, bridge->now_ns);
}

void pool_leave(struct bridge *bridge, struct conn *conn)
{
	struct upstream *upstream = conn_upstream(bridge, conn);

	wheel_cancel(&bridge->wheel, &conn->timer);
	if (conn->warm_older == CONN_NONE)
		upstream->warm_oldest = conn->warm_newer;
	else
		bridge->conns[conn->warm_older].warm_newer = conn->warm_newer;
	if (conn->warm_newer == CONN_NONE)
		upstream->warm_newest = conn->warm_older;
	else
		bridge->conns[conn->warm_newer].warm_older = conn->warm_older;
	upstream->warm--;
	bridge->upstreams.warm--;
	upkeep_at(bridge, bridge->now_ns);
}

/* Does it still wait for our request? The ring may not have told yet that it does not. */
static bool pool_is_alive(const struct conn *conn)
{
	char byte;

	return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
}

static void pool_discard(struct bridge *bridge, struct conn *conn)
{
	conn_upstream(bridge, conn)->counters.pool_discarded++;
	conn_close(bridge, conn, false);
}

/* The newest one that is alive, and prepared for the kernel if it must be. */
static struct conn *pool_find(struct bridge *bridge, uint32_t slot, const struct stack_syn *syn, bool *unfit)
{
	uint32_t index = bridge->upstreams.list[slot].warm_newest;

	while (index != CONN_NONE) {
		struct conn *conn = &bridge->conns[index];

		index = conn->warm_older;
		if (syn && !offload_warm_fits(bridge, conn, syn)) {
			*unfit = true;
			continue;
		}
		if (pool_is_alive(conn))
			return conn;
		pool_discard(bridge, conn);
	}
	return NULL;
}

struct conn *pool_take(struct bridge *bridge, uint32_t slot, struct flow *flow, bool *spliceable)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];
	struct stack_syn syn;
	struct conn *conn;
	bool unfit = false;

	*spliceable = false;
	if (!upstream->settings.pool)
		return NULL;
	if (bridge->config->tcp.accept != CONFIG_ACCEPT_EARLY) {
		stack_flow_syn(bridge->stack, flow, &syn);
		*spliceable = !splice_judge(bridge->splice, slot, &syn);
	}
	conn = pool_find(bridge, slot, *spliceable ? &syn : NULL, &unfit);
	if (!conn) {
		if (unfit)
			upstream->counters.pool_unfit++;
		else
			upstream->counters.pool_misses++;
		return NULL;
	}
	upstream->counters.pool_hits++;
	conn->purpose = CONN_FOR_CLIENT;
	conn->from_pool = true;
	conn_move(bridge, conn, CONN_REQUESTING);
	conn_attach_flow(bridge, conn, flow);
	return conn;
}

void pool_watched(struct bridge *bridge, struct conn *conn)
{
	/* once it is a client's, what it has to say is read elsewhere */
	if (conn->state == CONN_WARM)
		pool_discard(bridge, conn);
}

void pool_aged(struct bridge *bridge, struct conn *conn)
{
	conn_upstream(bridge, conn)->counters.pool_aged++;
	conn_close(bridge, conn, false);
}

void pool_discard_all(struct bridge *bridge, uint32_t slot)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];

	while (upstream->warm_oldest != CONN_NONE)
		pool_discard(bridge, &bridge->conns[upstream->warm_oldest]);
}

void pool_tend(struct bridge *bridge, uint32_t slot)
{
	struct upstream *upstream = &bridge->upstreams.list[slot];
	uint32_t target = upstreams_pool_target(&bridge->upstreams, slot);
	uint32_t at_once = target / 2 > POOL_LEAST_AT_ONCE ? target / 2 : POOL_LEAST_AT_ONCE;

	while (upstream->warm > target)
		pool_discard(bridge, &bridge->conns[upstream->warm_oldest]);
	if (bridge->upstreams.health[slot].state != UPSTREAM_HEALTHY || !bridge->upstreams.health[slot].resolved)
		return;
	while (upstream->warm + upstream->warming < target && upstream->warming < at_once)
		if (!dial_warm(bridge, slot))
			return;
}
