/* SPDX-License-Identifier: MIT */
/*
 * How connections end, for `log.flows`, and what that says about the upstream.
 *
 * Each flow is recorded once, where it ends: at the upstream's or our refusal
 * (socks_client_refuse, bridge_flow_opened), in the stack (bridge_flow_closed),
 * in the middle of a handover (offload.c). A flow that has become the kernel's
 * is recorded by splice_life.c.
 */
#include "bridge_priv.h"

#include <string.h>

/* `conn`: NULL, no upstream was tried. */
static void bridge_record_put(struct bridge *bridge, const struct conn *conn, struct flow_record *record,
			      uint64_t started_ns)
{
	const struct flow_recorder *recorder = bridge->settings.recorder;

	bridge_record_name(bridge, &record->destination.addr, record->name);
	if (conn)
		memcpy(record->upstream, conn_upstream(bridge, conn)->settings.name, sizeof(record->upstream));
	record->started_ns = started_ns;
	record->ended_ns = bridge->now_ns;
	recorder->put(recorder->ctx, record);
}

static void bridge_record_describe(struct bridge *bridge, const struct conn *conn, const struct flow *flow,
				   struct flow_record *record)
{
	struct flow_info info;

	stack_flow_describe(bridge->stack, flow, &info);
	record->client = info.client;
	record->destination = info.destination;
	record->bytes_from_client = info.bytes_from_client;
	record->bytes_to_client = info.bytes_to_client;
	record->packets_from_client = info.packets_from_client;
	record->packets_to_client = info.packets_to_client;
	bridge_record_put(bridge, conn, record, info.created_ns);
}

void bridge_record_turned_away(struct bridge *bridge, const struct flow *flow, const char *why)
{
	struct flow_record record = {.end = bridge->stopping ? RECORD_END_STOPPED : RECORD_END_REFUSED, .why = why};

	if (bridge->settings.recorder)
		bridge_record_describe(bridge, NULL, flow, &record);
}

void bridge_record(struct bridge *bridge, const struct conn *conn, enum record_end end)
{
	struct flow_record record = {
		.tier = conn->state == CONN_RELAYING ? RECORD_TIER_RELAY : RECORD_TIER_NONE,
		.end = bridge->stopping ? RECORD_END_STOPPED
		       : conn->end      ? (enum record_end)conn->end
					: end,
		.why = conn->why,
		.not_spliced = conn->not_spliced ? splice_refusal_name((enum splice_refusal)conn->not_spliced) : NULL,
	};

	if (bridge->settings.recorder && conn->flow)
		bridge_record_describe(bridge, conn, conn->flow, &record);
}

void bridge_record_closed(struct bridge *bridge, const struct conn *conn, enum flow_end why)
{
	static const enum record_end ends[] = {
		[FLOW_END_CLOSED] = RECORD_END_CLOSED,   [FLOW_END_CLIENT_RESET] = RECORD_END_CLIENT_RESET,
		[FLOW_END_ABORTED] = RECORD_END_REFUSED, [FLOW_END_TIMED_OUT] = RECORD_END_TIMED_OUT,
		[FLOW_END_IDLE] = RECORD_END_IDLE,       [FLOW_END_EVICTED] = RECORD_END_EVICTED,
	};

	bridge_record(bridge, conn, ends[why]);
}

void bridge_record_handover(struct bridge *bridge, const struct conn *conn, enum record_end end)
{
	const struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];
	struct flow_record record = {
		.client = {.addr = down->dst, .port = down->dport},
		.destination = {.addr = down->src, .port = down->sport},
		.end = bridge->stopping ? RECORD_END_STOPPED : end,
		.packets_from_client = up->packets,
		.packets_to_client = down->packets,
	};

	if (bridge->settings.recorder)
		bridge_record_put(bridge, conn, &record, entry->created_ns);
}

/* --- what it says about the upstream --- */

void bridge_granted(struct bridge *bridge, struct conn *conn)
{
	struct upstream *upstream = conn_upstream(bridge, conn);

	upstream->counters.connects_ok++;
	upstream->answered_ns = bridge->now_ns;
	upstream->refusal = NULL;
	upstream->refusals = 0;
}

void bridge_refused(struct bridge *bridge, struct conn *conn, enum upstream_refusal refusal)
{
	struct upstream *upstream = conn_upstream(bridge, conn);

	conn->why = upstream_refusal_name(refusal);
	upstream->counters.connects_refused++;
	upstream->counters.refused[refusal]++;
	upstream->answered_ns = bridge->now_ns;
	upstream->refusal = conn->why;
	upstream->refusals++;
}
