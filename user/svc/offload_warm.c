/* SPDX-License-Identifier: MIT */
/*
 * Connections of the pool that the kernel will carry. They are dialled before
 * any client is known, so they offer what nearly every client offers:
 * timestamps, SACK, a window scale, and an MSS that leaves room for tunnels.
 * What the upstream agreed to must be what the client can do too; the SYN-ACK
 * for the client repeats it. The window scale alone may differ: the client's
 * window is translated for the life of the flow.
 *
 * All else is as offload.c has it: the upstream's key stands before the dial,
 * so that BPF sees the handshake of the socket, and the clamp is armed before
 * CONNECT, which is sent when the client has come.
 */
#include "bridge_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#define OFFLOAD_WARM_WSCALE 7
#define OFFLOAD_WARM_MSS_IPV4 1400
#define OFFLOAD_WARM_MSS_IPV6 1380
#define OFFLOAD_IPV4_HEADERS 40
#define OFFLOAD_IPV6_HEADERS 60

static uint32_t offload_warm_headers(const struct upstream *upstream)
{
	return addr_is_ipv4(upstream_address(upstream)) ? OFFLOAD_IPV4_HEADERS : OFFLOAD_IPV6_HEADERS;
}

void offload_prepare_warm(struct bridge *bridge, struct conn *conn)
{
	const struct upstream *upstream = conn_upstream(bridge, conn);
	struct flow_options offered = {.wscale = OFFLOAD_WARM_WSCALE,
				       .flags = FLOW_OPTION_TIMESTAMPS | FLOW_OPTION_SACK | FLOW_OPTION_WSCALE};
	uint32_t headers = offload_warm_headers(upstream);
	int mss = headers == OFFLOAD_IPV4_HEADERS ? OFFLOAD_WARM_MSS_IPV4 : OFFLOAD_WARM_MSS_IPV6;

	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY)
		return;
	if (upstream->routed && (uint32_t)mss > upstream->mtu - headers)
		mss = (int)(upstream->mtu - headers);
	offered.mss = (uint16_t)mss;
	if (splice_take_warm(bridge->splice, conn->upstream, &offered, conn->fd, bridge->now_ns, &conn->entry)) {
		conn->entry = SPLICE_NONE;
	} else if (setsockopt(conn->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss))) {
		splice_release(bridge->splice, conn->entry, bridge->now_ns);
		conn->entry = SPLICE_NONE;
	} else {
		splice_set_conn(bridge->splice, conn->entry, conn_index(bridge, conn));
	}
}

bool offload_warm_fits(struct bridge *bridge, const struct conn *conn, const struct stack_syn *syn)
{
	const struct flow_entry *entry;
	uint8_t both, has;

	if (conn->entry == SPLICE_NONE)
		return false;
	entry = splice_entry(bridge->splice, conn->entry);
	both = entry->offered.flags & entry->agreed.flags;
	has = (uint8_t)((syn->has_timestamp ? FLOW_OPTION_TIMESTAMPS : 0) |
			(syn->sack_permitted ? FLOW_OPTION_SACK : 0) | (syn->has_wscale ? FLOW_OPTION_WSCALE : 0));
	return entry->has_synack && (both & has) == both && syn->mss >= entry->offered.mss &&
	       stack_port_mtu(bridge->stack, syn->port) >=
		       entry->offered.mss + offload_warm_headers(conn_upstream(bridge, conn));
}

bool offload_give_client(struct bridge *bridge, struct conn *conn, bool spliceable)
{
	enum splice_refusal refusal = SPLICE_REFUSED_POLICY;
	struct stack_syn syn;

	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY) {
		offload_count_refusal(bridge, conn, refusal);
		return true;
	}
	stack_flow_syn(bridge->stack, conn->flow, &syn);
	if (spliceable) {
		refusal = splice_give_client(bridge->splice, conn->entry, &syn, bridge->now_ns);
		if (refusal == SPLICE_REFUSED_KEY_IN_USE) {
			if (splice_answer_syn(bridge->splice, &syn, bridge->now_ns))
				return false;
			refusal = splice_give_client(bridge->splice, conn->entry, &syn, bridge->now_ns);
		}
	} else {
		refusal = splice_judge(bridge->splice, conn->upstream, &syn);
	}
	if (refusal && conn->entry != SPLICE_NONE)
		offload_relay(bridge, conn, refusal);
	else if (refusal)
		offload_count_refusal(bridge, conn, refusal);
	conn->client_tsval = syn.ts_value;
	conn->client_window = syn.window;
	conn->client_wscale = syn.wscale;
	return true;
}
