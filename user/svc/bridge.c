/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * One `struct conn` per upstream connection. It is born when the stack reports
 * a new flow (bridge_flow_opened) and dials at once, by an upstream that
 * bridge_dial.c chooses; socks_client.c takes it to the reply of CONNECT; then
 * the client gets its SYN-ACK, and when its handshake is complete
 * bridge_relay.c moves payload both ways.
 *
 *   DIALING ► GREETING ► (AUTHENTICATING ►) (WARM ►) REQUESTING ► ACCEPTING ► RELAYING ► CLOSING ► FREE
 *
 * Probes of upstreams (upkeep.c) end where CONNECT would be sent; connections
 * of the pool (pool.c) wait there, WARM, for a flow to carry. Both have none.
 *
 * Flow and connection know each other by index (flow_conns[]) and by pointer
 * (conn.flow), and part in conn_detach_flow(), whichever goes first. A
 * connection outlives its flow for as long as the kernel works for it: the
 * slot is free only when `in_flight` is zero, and completions carry the slot's
 * generation. Frames that the kernel may still read (a sendmsg in flight) stay
 * with the connection (`left_head`) when the flow is gone.
 *
 * Nothing here is linear in the number of connections. What must be looked at
 * again hangs in a list: DIRTY (payload may be sendable), RECEIVE (its turn to
 * receive from the upstream comes).
 *
 * How ends are passed on: the client's FIN becomes SHUT_WR after the last
 * byte, the upstream's FIN becomes ours after the last byte, a reset or
 * time-out of either side resets the other.
 */
#include "bridge_priv.h"

#include <errno.h>
#include <stdlib.h>

/* Connections that still close may outnumber flows for a moment. */
#define BRIDGE_EXTRA_CONNS 1024
/* The most that `connection_pool_size` may be. */
#define BRIDGE_MAX_WARM 4096
#define BRIDGE_RECV_GROUP 1
/* Somewhat under a second: who asks every second gets a new answer each time. */
#define BRIDGE_SAMPLE_NS 900000000ull
/* Of each ring of receive buffers. */
#define BRIDGE_RECV_BYTES (1u << 20)
#define BRIDGE_RECV_ENTRIES_MIN 32

/* Few bytes are soon used again, while they are in the CPU's caches. */
static uint32_t bridge_recv_entries(const struct frame_pool *pool)
{
	uint32_t entries = BRIDGE_RECV_ENTRIES_MIN;

	while (entries * 2 * pool->frame_bytes <= BRIDGE_RECV_BYTES && entries * 2 <= pool->total / 32)
		entries *= 2;
	return entries;
}

static int bridge_create_rings(struct bridge *bridge, const uint16_t buffer_bytes[2])
{
	uint32_t entries = bridge_recv_entries(bridge->pool);
	int err;

	for (int i = 0; i < BRIDGE_RECV_RINGS; i++) {
		bridge->rings[i].buffer_bytes = buffer_bytes[i];
		if (!bridge->uring->recv_bundle)
			continue;
		err = recvring_create(&bridge->rings[i], bridge->uring, bridge->pool, (uint16_t)(BRIDGE_RECV_GROUP + i),
				      entries, buffer_bytes[i]);
		if (err)
			return err;
	}
	return 0;
}

static int bridge_port_of(void *ctx, uint32_t ifindex)
{
	const struct bridge *bridge = ctx;

	return bridge->settings.port_of(bridge->settings.ctx, ifindex);
}

static uint32_t bridge_ifindex_of(void *ctx, uint16_t port)
{
	const struct bridge *bridge = ctx;

	return bridge->settings.ifindex_of(bridge->settings.ctx, port);
}

static bool bridge_has_uplink(void *ctx, uint32_t ifindex)
{
	const struct bridge *bridge = ctx;

	return bridge->settings.has_uplink(bridge->settings.ctx, ifindex);
}

static void bridge_handover(void *ctx, uint32_t index, enum flow_report_kind kind)
{
	struct bridge *bridge = ctx;

	if (index < bridge->conn_used)
		offload_report(bridge, &bridge->conns[index], kind);
}

static int bridge_create_splice(struct bridge *bridge, const struct bridge_settings *settings)
{
	const struct splice_calls calls = {.ctx = bridge,
					   .trace = &bridge->trace,
					   .recorder = settings->recorder,
					   .handover = bridge_handover,
					   .names = settings->dns ? dns_service_names(settings->dns) : NULL,
					   .port_of = bridge_port_of,
					   .ifindex_of = bridge_ifindex_of,
					   .has_uplink = bridge_has_uplink};
	int err;

	bridge->early_data = malloc(BRIDGE_EARLY_DATA_BYTES);
	if (!bridge->early_data)
		return -ENOMEM;
	err = upstreams_open(&bridge->upstreams);
	if (err)
		return err;
	return splice_create(&bridge->splice, settings->config, settings->bpf, &bridge->upstreams, &calls);
}

int bridge_create(struct bridge **out, const struct bridge_settings *settings)
{
	const struct config *config = settings->config;
	struct bridge *bridge = calloc(1, sizeof(*bridge));
	int err = -ENOMEM;

	if (!bridge)
		return -ENOMEM;
	bridge->config = config;
	bridge->uring = settings->uring;
	bridge->pool = settings->pool;
	bridge->faults = settings->faults;
	bridge->settings = *settings;
	upstreams_init(&bridge->upstreams, config, settings->now_ns);
	bridge->upkeep.kind = BRIDGE_TIMER_UPKEEP;
	bridge->flow_conns = malloc(config->tcp.max_flows * sizeof(*bridge->flow_conns));
	if (!bridge->flow_conns)
		goto fail;
	for (uint32_t i = 0; i < config->tcp.max_flows; i++)
		bridge->flow_conns[i] = CONN_NONE;
	err = conn_table_create(bridge, config->tcp.max_flows + BRIDGE_EXTRA_CONNS + BRIDGE_MAX_WARM);
	if (err)
		goto fail;
	err = bridge_create_rings(bridge, settings->buffer_bytes);
	if (err)
		goto fail;
	err = bridge_create_splice(bridge, settings);
	if (err)
		goto fail;
	err = relay_keys_create(&bridge->relay_keys, splice_map(bridge->splice), config->tcp.max_flows);
	if (err)
		goto fail;
	*out = bridge;
	return 0;

fail:
	bridge_destroy(bridge);
	return err;
}

static struct flow_key bridge_key_of(const struct bridge *bridge, const struct flow *flow)
{
	struct flow_info info;

	stack_flow_describe(bridge->stack, flow, &info);
	return (struct flow_key){.src = info.client.addr,
				 .dst = info.destination.addr,
				 .sport = info.client.port,
				 .dport = info.destination.port};
}

void bridge_keep_flow(struct bridge *bridge, const struct flow *flow, bool known_key)
{
	struct flow_key key;

	/* then the kernel has no rules */
	if (!bridge->config->performance.enable_ebpf)
		return;
	key = bridge_key_of(bridge, flow);
	if (relay_keys_add(&bridge->relay_keys, stack_flow_index(bridge->stack, flow), &key, known_key))
		bridge->counters.relay_keys_missing++;
}

void bridge_flow_released(struct bridge *bridge, struct flow *flow)
{
	uint32_t index = stack_flow_index(bridge->stack, flow);
	struct flow_key key;

	if (!bridge->relay_keys.held[index])
		return;
	key = bridge_key_of(bridge, flow);
	relay_keys_remove(&bridge->relay_keys, index, &key);
}

/* What rests in TIME_WAIT at the end still has its key. */
static void bridge_forget_flows(struct bridge *bridge)
{
	for (uint32_t i = 0; bridge->stack && i < bridge->relay_keys.count; i++)
		if (bridge->relay_keys.held[i] && stack_flow_at(bridge->stack, i))
			bridge_flow_released(bridge, stack_flow_at(bridge->stack, i));
	relay_keys_destroy(&bridge->relay_keys);
}

void bridge_destroy(struct bridge *bridge)
{
	if (!bridge)
		return;
	for (int i = 0; i < BRIDGE_RECV_RINGS; i++)
		recvring_destroy(&bridge->rings[i]);
	conn_table_destroy(bridge);
	bridge_forget_flows(bridge);
	rules_free(bridge->rules);
	rules_free(bridge->rules_before);
	splice_destroy(bridge->splice);
	upstreams_release(&bridge->upstreams);
	resolver_destroy(bridge->resolver);
	free(bridge->early_data);
	free(bridge->flow_conns);
	free(bridge);
}

void bridge_set_stack(struct bridge *bridge, struct stack *stack)
{
	bridge->stack = stack;
	splice_set_stack(bridge->splice, stack);
}

void bridge_set_time(struct bridge *bridge, uint64_t now_ns)
{
	if (!bridge->now_ns) {
		wheel_init(&bridge->wheel, now_ns);
		splice_start(bridge->splice, now_ns);
		upkeep_at(bridge, now_ns);
	}
	bridge->now_ns = now_ns;
}

static struct conn *bridge_conn_of(const struct bridge *bridge, const struct flow *flow)
{
	uint32_t index = bridge->flow_conns[stack_flow_index(bridge->stack, flow)];

	return index == CONN_NONE ? NULL : &bridge->conns[index];
}

void bridge_turn_away(struct bridge *bridge, struct flow *flow, const char *why)
{
	bridge_record_turned_away(bridge, flow, why);
	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY)
		stack_abort(bridge->stack, flow, bridge->now_ns);
	else
		stack_refuse(bridge->stack, flow, REFUSE_RESET, bridge->now_ns);
}

void bridge_flow_opened(struct bridge *bridge, struct flow *flow)
{
	struct rules_verdict verdict = bridge_decide_flow(bridge, flow);
	uint32_t name;

	/* with `accept: early` the rules may have changed since the SYN */
	if (bridge->stopping || verdict.action != RULES_PROXY) {
		bridge_turn_away(bridge, flow, "rule");
		return;
	}
	if (bridge_find_name(bridge, flow, &verdict, &name))
		dial_flow(bridge, flow, verdict.upstream, name);
}

void bridge_flow_syn_again(struct bridge *bridge, struct flow *flow)
{
	struct conn *conn = bridge_conn_of(bridge, flow);

	if (conn)
		offload_syn_again(bridge, conn);
}

void bridge_flow_established(struct bridge *bridge, struct flow *flow)
{
	struct conn *conn = bridge_conn_of(bridge, flow);

	if (conn && conn->state == CONN_ACCEPTING)
		relay_begin(bridge, conn);
}

void bridge_flow_readable(struct bridge *bridge, struct flow *flow)
{
	struct conn *conn = bridge_conn_of(bridge, flow);

	if (conn && conn->state == CONN_RELAYING)
		conn_list_add(bridge, CONN_LINK_DIRTY, conn);
}

void bridge_flow_writable(struct bridge *bridge, struct flow *flow)
{
	struct conn *conn = bridge_conn_of(bridge, flow);

	if (conn && conn->state == CONN_RELAYING)
		conn_list_add(bridge, CONN_LINK_RECEIVE, conn);
}

void bridge_flow_closed(struct bridge *bridge, struct flow *flow, enum flow_end why)
{
	struct conn *conn = bridge_conn_of(bridge, flow);

	if (!conn)
		return;
	if (conn->state != CONN_OPENING)
		bridge_record_closed(bridge, conn, why);
	conn_detach_flow(bridge, conn);
	conn->left_head = stack_take_receive_queue(bridge->stack, flow);
	if (conn->state == CONN_OPENING)
		offload_flow_closed(bridge, conn);
	else if (conn->state == CONN_RELAYING && why == FLOW_END_CLOSED)
		relay_drain(bridge, conn);
	else
		conn_close(bridge, conn, true);
}

void bridge_complete(struct bridge *bridge, union uring_word word, int32_t res, uint32_t flags)
{
	struct conn *conn;

	if (word.index >= bridge->conn_used || bridge->conns[word.index].generation != word.generation ||
	    bridge->conns[word.index].state == CONN_FREE) {
		bridge->counters.stale_completions++;
		return;
	}
	conn = &bridge->conns[word.index];
	conn_begin_completion(conn, flags & IORING_CQE_F_MORE);
	switch (word.op) {
	case CONN_OP_CONNECT:
		socks_client_connected(bridge, conn, res);
		break;
	case CONN_OP_HANDSHAKE_SEND:
		socks_client_sent(bridge, conn, res);
		break;
	case CONN_OP_HANDSHAKE_RECV:
		socks_client_received(bridge, conn, res);
		break;
	case CONN_OP_SEND:
		relay_sent(bridge, conn, res);
		break;
	case CONN_OP_RECV:
		relay_received(bridge, conn, res, flags);
		break;
	case CONN_OP_POLL:
		relay_polled(bridge, conn, res);
		break;
	case CONN_OP_RECVMSG:
		relay_received_message(bridge, conn, res);
		break;
	case CONN_OP_WATCH:
		pool_watched(bridge, conn);
		break;
	default: /* CONN_OP_CANCEL: only counted */
		break;
	}
	conn_end_completion(bridge, conn);
}

static void bridge_timer(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct bridge *bridge = ctx;
	struct conn *conn = (struct conn *)((char *)timer - offsetof(struct conn, timer));

	(void)now_ns;
	if (timer->kind == BRIDGE_TIMER_UPKEEP)
		upkeep_run(bridge);
	else if (conn->state == CONN_WARM)
		pool_aged(bridge, conn);
	else if (conn->state == CONN_RELAYING)
		conn_abort(bridge, conn);
	else if (conn->state == CONN_OPENING)
		offload_timer(bridge, conn);
	else if (conn->state != CONN_CLOSING)
		socks_client_timed_out(bridge, conn);
}

void bridge_flush(struct bridge *bridge, uint32_t reserve_frames)
{
	struct conn *conn;

	bridge->reserve_frames = reserve_frames;
	while ((conn = conn_list_take(bridge, CONN_LINK_DIRTY)))
		relay_send_start(bridge, conn);
	if (bridge->uring->recv_bundle)
		for (int i = 0; i < BRIDGE_RECV_RINGS; i++)
			recvring_refill(&bridge->rings[i], reserve_frames);
	relay_receive_waiting(bridge);
	splice_run(bridge->splice, bridge->now_ns);
	wheel_expire(&bridge->wheel, bridge->now_ns, bridge_timer, bridge);
}

bool bridge_has_work(const struct bridge *bridge)
{
	return relay_may_receive(bridge);
}

uint64_t bridge_next_timer_ns(const struct bridge *bridge)
{
	uint64_t own = wheel_next_ns(&bridge->wheel), splice = splice_next_timer_ns(bridge->splice);

	return own < splice ? own : splice;
}

static void bridge_reset(struct bridge *bridge, struct conn *conn)
{
	if (conn->state == CONN_FREE || conn->state == CONN_CLOSING)
		return;
	if (conn->flow && conn->state < CONN_OPENING)
		socks_client_refuse(bridge, conn, REFUSE_RESET);
	else
		conn_abort(bridge, conn);
}

uint32_t bridge_reset_some(struct bridge *bridge, uint32_t max)
{
	uint32_t left = bridge->conn_used - bridge->reset_cursor;

	bridge->stopping = true;
	for (uint32_t i = 0; i < max && bridge->reset_cursor < bridge->conn_used; i++)
		bridge_reset(bridge, &bridge->conns[bridge->reset_cursor++]);
	return left;
}

uint32_t bridge_flush_spliced(struct bridge *bridge, uint32_t max)
{
	return splice_flush_some(bridge->splice, max, bridge->now_ns);
}

bool bridge_update_routes(struct bridge *bridge)
{
	bool moved = false;

	for (uint32_t i = 0; i < bridge->upstreams.used; i++) {
		struct upstream *upstream = &bridge->upstreams.list[i];
		int before = upstream->routed ? upstream->route.ifindex : 0;

		upstream_find_route(upstream);
		moved = moved || (upstream->routed && upstream->route.ifindex != before);
	}
	return moved;
}

bool bridge_update_next_hop(struct bridge *bridge)
{
	bool moved = false;

	for (uint32_t i = 0; i < bridge->upstreams.used; i++)
		if (upstream_find_next_hop(&bridge->upstreams.list[i])) {
			splice_forget_next_hop(bridge->splice, i);
			moved = true;
		}
	return moved;
}

int bridge_reload_upstreams(struct bridge *bridge, const struct config *config, char *error, uint32_t error_bytes)
{
	int err = upstreams_reload(&bridge->upstreams, config, bridge->now_ns, error, error_bytes);

	if (!err)
		upkeep_at(bridge, bridge->now_ns);
	return err;
}

struct trace *bridge_trace(struct bridge *bridge)
{
	return &bridge->trace;
}

const struct upstreams *bridge_upstreams(const struct bridge *bridge)
{
	return &bridge->upstreams;
}

struct splice *bridge_splice(struct bridge *bridge)
{
	return bridge->splice;
}

void bridge_flush_transmissions(struct bridge *bridge)
{
	bridge->settings.flush_transmissions(bridge->settings.ctx);
}

uint32_t bridge_connections(const struct bridge *bridge)
{
	return bridge->conn_used - bridge->state_counts[CONN_FREE];
}

const struct bridge_counters *bridge_counters(const struct bridge *bridge)
{
	return &bridge->counters;
}

void bridge_gauges(const struct bridge *bridge, struct bridge_gauges *out)
{
	const uint32_t *counts = bridge->state_counts;

	out->dialing =
		counts[CONN_DIALING] + counts[CONN_GREETING] + counts[CONN_AUTHENTICATING] + counts[CONN_REQUESTING];
	out->accepting = counts[CONN_ACCEPTING];
	out->opening = counts[CONN_OPENING];
	out->relaying = counts[CONN_RELAYING];
	out->closing = counts[CONN_CLOSING];
}

void bridge_flow_rates(struct bridge *bridge, const struct flow *flow, uint64_t now_ns, uint64_t rates[2])
{
	struct conn *conn = bridge_conn_of(bridge, flow);
	struct flow_info info;
	uint64_t since_ns;

	rates[FLOW_UP] = rates[FLOW_DOWN] = 0;
	if (!conn)
		return;
	stack_flow_describe(bridge->stack, flow, &info);
	since_ns = conn->sampled_ns ? conn->sampled_ns : info.created_ns;
	if (!conn->sampled_ns || now_ns - since_ns >= BRIDGE_SAMPLE_NS) {
		uint64_t bytes[2] = {[FLOW_UP] = info.bytes_from_client, [FLOW_DOWN] = info.bytes_to_client};
		uint64_t past_ms = (now_ns - since_ns) / 1000000;

		for (int i = 0; i < 2; i++) {
			conn->rate[i] = past_ms ? (bytes[i] - conn->sampled_bytes[i]) * 1000 / past_ms : 0;
			conn->sampled_bytes[i] = bytes[i];
		}
		conn->sampled_ns = now_ns;
	}
	rates[FLOW_UP] = conn->rate[FLOW_UP];
	rates[FLOW_DOWN] = conn->rate[FLOW_DOWN];
}

const char *bridge_flow_refusal(const struct bridge *bridge, const struct flow *flow)
{
	const struct conn *conn = bridge_conn_of(bridge, flow);

	if (!conn || offload_is_pending(conn))
		return NULL;
	return splice_refusal_name((enum splice_refusal)conn->not_spliced);
}

const char *bridge_flow_state(const struct bridge *bridge, const struct flow *flow)
{
	const struct conn *conn = bridge_conn_of(bridge, flow);

	return conn ? conn_state_name(conn->state) : "none";
}

const char *bridge_flow_upstream(const struct bridge *bridge, const struct flow *flow)
{
	const struct conn *conn = bridge_conn_of(bridge, flow);

	return conn ? bridge->upstreams.list[conn->upstream].settings.name : NULL;
}
