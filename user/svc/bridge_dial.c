/* SPDX-License-Identifier: MIT */
/*
 * Which upstream a flow goes to, and the dial. What fails before the client
 * was answered is tried once more by another healthy upstream (and by every
 * address of a name): with `accept: deferred` the client only sees a SYN-ACK
 * that took a little longer. A rule that names an upstream means it: then
 * there is no other.
 */
#include "bridge_priv.h"

#include <errno.h>

/* How often a client's connection may be moved to another upstream. */
#define DIAL_MOVES 1

/* What is known of a client's connection beside its flow. */
struct dial {
	int wanted;
	uint64_t tried;
	uint32_t name; /* entry of the map of names, DNSMAP_NONE */
	uint16_t address_tries;
	bool traced;
	bool fresh; /* not from the pool */
};

static void dial_trace(struct bridge *bridge, struct conn *conn, bool traced)
{
	struct flow_info info;

	conn->traced = traced;
	if (!traced && bridge->trace.state == TRACE_WAITING) {
		stack_flow_describe(bridge->stack, conn->flow, &info);
		conn->traced = trace_begins(&bridge->trace, &info.client.addr, bridge->now_ns);
		if (conn->traced)
			trace_note(&bridge->trace, bridge->now_ns, "SYN from client port %u to port %u",
				   be16(info.client.port), be16(info.destination.port));
	}
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "upstream %s%s", conn_upstream(bridge, conn)->settings.name,
			   conn->from_pool ? ", a connection of its pool" : "");
}

/* NULL: there is no connection, and *why is the counter that counted it. */
static struct conn *dial_open(struct bridge *bridge, enum conn_purpose purpose, uint32_t slot, struct flow *flow,
			      const char **why)
{
	int fd = upstream_open_socket(&bridge->upstreams.list[slot]);
	struct conn *conn;

	if (fd == -EMFILE || fd == -ENFILE) {
		bridge->counters.dial_no_descriptor++;
		*why = "dial_no_descriptor";
	} else if (fd < 0) {
		bridge->counters.dial_failed++;
		*why = "dial_failed";
	}
	if (fd < 0)
		return NULL;
	conn = conn_get(bridge, purpose, slot, fd, flow);
	if (!conn) {
		bridge->counters.dial_no_slot++;
		*why = "dial_no_slot";
		upstream_close_socket(fd, 1);
		return NULL;
	}
	conn->one_flight = purpose == CONN_FOR_CLIENT && conn_upstream(bridge, conn)->settings.pipeline;
	return conn;
}

static void dial_request(struct bridge *bridge, struct conn *conn)
{
	if (conn->entry == SPLICE_NONE)
		bridge_keep_flow(bridge, conn->flow, false);
	socks_client_request(bridge, conn);
}

/* `tcp.relay: splice`: what the kernel cannot carry is not carried. */
static void dial_refuse_relay(struct bridge *bridge, struct conn *conn)
{
	conn->why = "not_spliced";
	socks_client_refuse(bridge, conn, REFUSE_RESET);
}

/* By a connection of the pool; false: there is none that fits. */
static bool dial_from_pool(struct bridge *bridge, struct flow *flow, uint32_t slot, const struct dial *dial)
{
	struct conn *conn;
	bool spliceable;

	conn = pool_take(bridge, slot, flow, &spliceable);
	if (!conn)
		return false;
	conn->wanted = (int16_t)dial->wanted;
	conn->tried = dial->tried;
	bridge_hold_name(bridge, conn, dial->name);
	dial_trace(bridge, conn, dial->traced);
	if (!offload_give_client(bridge, conn, spliceable))
		socks_client_refuse(bridge, conn, REFUSE_SILENTLY);
	else if (!offload_is_pending(conn) && bridge->config->tcp.relay == CONFIG_RELAY_SPLICE)
		dial_refuse_relay(bridge, conn);
	else
		dial_request(bridge, conn);
	return true;
}

static void dial_by(struct bridge *bridge, struct flow *flow, uint32_t slot, const struct dial *dial)
{
	const char *why;
	struct conn *conn;

	if (!dial->fresh && dial_from_pool(bridge, flow, slot, dial))
		return;
	conn = dial_open(bridge, CONN_FOR_CLIENT, slot, flow, &why);
	if (!conn) {
		if (dial->traced)
			trace_end(&bridge->trace, bridge->now_ns, "no socket for another dial");
		bridge_turn_away(bridge, flow, why);
		return;
	}
	conn->wanted = (int16_t)dial->wanted;
	conn->tried = dial->tried;
	bridge_hold_name(bridge, conn, dial->name);
	conn->address_tries = dial->address_tries;
	dial_trace(bridge, conn, dial->traced);
	if (!offload_prepare(bridge, conn)) {
		socks_client_refuse(bridge, conn, REFUSE_SILENTLY);
		return;
	}
	if (conn->entry == SPLICE_NONE && bridge->config->tcp.relay == CONFIG_RELAY_SPLICE) {
		dial_refuse_relay(bridge, conn);
		return;
	}
	if (conn->entry == SPLICE_NONE)
		bridge_keep_flow(bridge, flow, false);
	socks_client_dial(bridge, conn);
}

void dial_flow(struct bridge *bridge, struct flow *flow, int wanted, uint32_t name)
{
	const struct dial dial = {.wanted = wanted, .name = name};
	uint32_t slot = upstreams_pick(&bridge->upstreams, wanted, 0);

	if (slot == UPSTREAMS_NONE) {
		bridge->counters.no_upstream++;
		bridge_turn_away(bridge, flow, "no_upstream");
		return;
	}
	dial_by(bridge, flow, slot, &dial);
}

/* The flow goes on by another connection. */
static void dial_move(struct bridge *bridge, struct conn *conn, uint32_t slot, const struct dial *dial)
{
	struct flow *flow = conn->flow;

	bridge->counters.dialled_again++;
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "dialled again");
	conn->traced = false;
	conn_detach_flow(bridge, conn);
	/* of the kernel's tables too: the next one may be spliced */
	bridge_flow_released(bridge, flow);
	offload_forget(bridge, conn);
	conn_close(bridge, conn, true);
	dial_by(bridge, flow, slot, dial);
}

static bool dial_is_of_address(enum upstream_failure kind)
{
	return kind == UPSTREAM_FAILURE_dial_refused || kind == UPSTREAM_FAILURE_dial_unreachable ||
	       kind == UPSTREAM_FAILURE_dial_timed_out || kind == UPSTREAM_FAILURE_dial_failed;
}

bool dial_again(struct bridge *bridge, struct conn *conn, enum upstream_failure kind)
{
	struct dial dial = {.wanted = conn->wanted, .tried = conn->tried, .name = conn->name, .traced = conn->traced};
	struct upstream *upstream = conn_upstream(bridge, conn);
	uint32_t slot = conn->upstream;

	if (!conn->flow || bridge->stopping)
		return false;
	if (dial_is_of_address(kind) && conn->address_tries + 1u < upstream->addr_count &&
	    bridge->upstreams.health[slot].present) {
		dial.address_tries = (uint16_t)(conn->address_tries + 1);
		dial_move(bridge, conn, slot, &dial);
		return true;
	}
	dial.tried |= 1ull << slot;
	if (conn->wanted != UPSTREAMS_ANY || __builtin_popcountll(dial.tried) > DIAL_MOVES)
		return false;
	slot = upstreams_pick(&bridge->upstreams, UPSTREAMS_ANY, dial.tried);
	if (slot == UPSTREAMS_NONE)
		return false;
	upstream->counters.moved_away++;
	dial_move(bridge, conn, slot, &dial);
	return true;
}

bool dial_instead(struct bridge *bridge, struct conn *conn)
{
	const struct dial dial = {.wanted = conn->wanted,
				  .tried = conn->tried,
				  .name = conn->name,
				  .traced = conn->traced,
				  .fresh = true};

	if (!conn->flow || bridge->stopping || !bridge->upstreams.health[conn->upstream].present)
		return false;
	dial_move(bridge, conn, conn->upstream, &dial);
	return true;
}

void dial_probe(struct bridge *bridge, uint32_t slot)
{
	const char *why;
	struct conn *conn = dial_open(bridge, CONN_FOR_PROBE, slot, NULL, &why);

	/* for want of a descriptor or a slot here: later */
	if (!conn)
		return;
	upstream_health_probe(&bridge->upstreams.health[slot], bridge->now_ns);
	conn_upstream(bridge, conn)->counters.probes++;
	socks_client_dial(bridge, conn);
}

bool dial_warm(struct bridge *bridge, uint32_t slot)
{
	const char *why;
	struct conn *conn = dial_open(bridge, CONN_FOR_POOL, slot, NULL, &why);

	if (!conn)
		return false;
	offload_prepare_warm(bridge, conn);
	socks_client_dial(bridge, conn);
	return true;
}
