/* SPDX-License-Identifier: MIT */
/*
 * The handover of a connection to the kernel. The invariant: the upstream
 * socket never acknowledges a byte that the client must receive, so the
 * upstream keeps the duty to send it again, and no state for retransmission is
 * needed here. In order:
 *
 *   offload_prepare    before the dial: entry PENDING, keys, port; the SYN will offer the client's options
 *   offload_clamp      before CONNECT is sent: nothing behind the server's last answer is acknowledged from here on
 *   offload_replied    after the reply: the socket is frozen, the entry filled in, phase OPENING: client→upstream is
 *                      open; SYN-ACK with the sequence number that the upstream's bytes for the client start at
 *   offload_report     BPF saw the client's first segment, and opened upstream→client: what the socket holds is
 *                      delivered; SPLICED just before the last segment of it, so that the client's ACK goes up and
 *                      covers all (any earlier, the upstream would send nearly everything again); the socket closes
 *                      without a word
 *
 * The SYN-ACK is sent again until the client answers: its only ACK may be
 * lost while a server that speaks first waits for nothing. What BPF tells may
 * be lost too, so the timer looks at the entry itself.
 *
 * Until OPENING a connection can still go to the relay (offload_relay): the
 * clamp is lifted, an ACK forced, and the window of the socket translated at
 * egress for the life of the flow where the SYN offered another scale.
 */
#include "bridge_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "flowmap.h"
#include "repair.h"

#define OFFLOAD_TIMER_NS 100000000ull
/* Not under 500 ms: Linux limits the challenge ACKs that answer a SYN-ACK sent twice. */
#define OFFLOAD_SYNACK_RTO_NS 1000000000ull
#define OFFLOAD_SYNACK_TRIES 5
#define OFFLOAD_SYNACK_MIN_GAP_NS 500000000ull
/* What BPF passed up may still be on its way into the socket, on another CPU. */
#define OFFLOAD_PEEK_TRIES 64
#define OFFLOAD_DEFAULT_MSS_IPV4 536
#define OFFLOAD_DEFAULT_MSS_IPV6 1220
#define OFFLOAD_IPV4_HEADERS 40
#define OFFLOAD_IPV6_HEADERS 60
#define OFFLOAD_TIMESTAMP_BYTES 12

#define OFFLOAD_TCP_FIN 0x01
#define OFFLOAD_TCP_SYN 0x02
#define OFFLOAD_TCP_RST 0x04
#define OFFLOAD_TCP_PSH 0x08
#define OFFLOAD_TCP_ACK 0x10

static bool offload_fault(const struct bridge *bridge, enum cfg_fault which)
{
	return bridge->faults.until_ns > bridge->now_ns && (uint32_t)(random() % 1000) < bridge->faults.permille[which];
}

static uint32_t offload_header_bytes(const struct flow_entry *entry)
{
	return addr_is_ipv4(&entry->half[FLOW_UP].dst) ? OFFLOAD_IPV4_HEADERS : OFFLOAD_IPV6_HEADERS;
}

/* --- before the dial --- */

/* The upstream may send segments as large as the client takes, and as the client's link carries. */
static int offload_set_mss(struct bridge *bridge, const struct conn *conn, const struct stack_syn *syn)
{
	const struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	bool ipv4 = offload_header_bytes(entry) == OFFLOAD_IPV4_HEADERS;
	uint32_t headers = offload_header_bytes(entry);
	uint32_t client = syn->mss ? syn->mss : ipv4 ? OFFLOAD_DEFAULT_MSS_IPV4 : OFFLOAD_DEFAULT_MSS_IPV6;
	uint32_t link = stack_port_mtu(bridge->stack, syn->port) - headers;
	int mss = (int)(client < link ? client : link);

	/* what the socket would announce by itself is not more */
	if ((uint32_t)mss >= conn_upstream(bridge, conn)->mtu - headers)
		return 0;
	return setsockopt(conn->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss)) ? -errno : 0;
}

void offload_count_refusal(struct bridge *bridge, struct conn *conn, enum splice_refusal why)
{
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "not spliced: %s", splice_refusal_name(why));
	conn->not_spliced = (uint8_t)why;
	splice_counters(bridge->splice)->not_spliced[why]++;
}

bool offload_prepare(struct bridge *bridge, struct conn *conn)
{
	enum splice_refusal refusal;
	struct stack_syn syn;

	/* the stack has answered already, with sequence numbers of its own */
	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY) {
		offload_count_refusal(bridge, conn, SPLICE_REFUSED_POLICY);
		return true;
	}
	stack_flow_syn(bridge->stack, conn->flow, &syn);
	refusal = splice_take(bridge->splice, conn->upstream, &syn, conn->fd, bridge->now_ns, &conn->entry);
	if (refusal == SPLICE_REFUSED_KEY_IN_USE) {
		if (splice_answer_syn(bridge->splice, &syn, bridge->now_ns))
			return false;
		refusal = splice_take(bridge->splice, conn->upstream, &syn, conn->fd, bridge->now_ns, &conn->entry);
	}
	if (!refusal && offload_set_mss(bridge, conn, &syn)) {
		splice_release(bridge->splice, conn->entry, bridge->now_ns);
		refusal = SPLICE_REFUSED_OPTIONS;
	}
	if (refusal) {
		conn->entry = SPLICE_NONE;
		offload_count_refusal(bridge, conn, refusal);
		return true;
	}
	conn->client_tsval = syn.ts_value;
	conn->client_window = syn.window;
	splice_set_conn(bridge->splice, conn->entry, conn_index(bridge, conn));
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "entry %u of the kernel's table, dialling from port %u",
			   conn->entry, be16(splice_entry(bridge->splice, conn->entry)->half[FLOW_UP].sport));
	return true;
}

/* --- to the relay --- */

void offload_relay(struct bridge *bridge, struct conn *conn, enum splice_refusal why)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	bool clamped = entry->clamp_on, kept;

	offload_count_refusal(bridge, conn, why);
	__atomic_store_n(&entry->clamp_on, 0, __ATOMIC_SEQ_CST);
	kept = splice_demote(bridge->splice, conn->entry, conn->flow != NULL);
	if (conn->flow)
		bridge_keep_flow(bridge, conn->flow, kept);
	conn->relayed_after_dial = true;
	/* an ACK for what the clamp held back, or the server would send it again */
	if (clamped && !repair_freeze(conn->fd))
		repair_thaw(conn->fd, true);
}

/* --- before CONNECT --- */

void offload_clamp(struct bridge *bridge, struct conn *conn)
{
	struct flow_entry *entry;
	uint32_t clamp;

	if (!offload_is_pending(conn))
		return;
	entry = splice_entry(bridge->splice, conn->entry);
	if (entry->flags & FLOW_FLAG_CLAMP_AT_SYNACK)
		return;
	if (!entry->has_synack) {
		offload_relay(bridge, conn, SPLICE_REFUSED_NO_SYNACK);
		return;
	}
	clamp = entry->upstream_isn + 1 + conn->handshake_read;
	/* all that the server may have said so far was read; more of it is not SOCKS5 */
	if (entry->held & FLOW_HELD_DATA && (int32_t)(entry->held_end - clamp) > 0) {
		offload_relay(bridge, conn, SPLICE_REFUSED_EARLY_BYTES);
		return;
	}
	entry->clamp = clamp;
	__atomic_store_n(&entry->clamp_on, 1, __ATOMIC_SEQ_CST);
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "clamp on: the socket acknowledges nothing behind %u",
			   clamp);
}

/* --- the entry --- */

static uint32_t offload_l3_diff(const struct addr *from_src, const struct addr *from_dst, const struct flow_half *half)
{
	uint64_t sum = 0;

	for (int i = addr_is_ipv4(&half->src) ? 3 : 0; i < 4; i++)
		sum += (uint64_t)(uint32_t)~from_src->words[i] + (uint32_t)~from_dst->words[i] + half->src.words[i] +
		       half->dst.words[i];
	while (sum >> 32)
		sum = (sum & 0xffffffff) + (sum >> 32);
	return (uint32_t)sum;
}

static uint32_t offload_l4_diff(__be16 from_sport, __be16 from_dport, const struct flow_half *half)
{
	return (uint32_t)(uint16_t)~from_sport + (uint16_t)~from_dport + half->sport + half->dport;
}

/* All numbers are known without asking the socket: what BPF saw pass, and the bytes that were read and sent. */
static void offload_fill_entry(struct bridge *bridge, struct conn *conn)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];
	const struct upstream *upstream = conn_upstream(bridge, conn);
	uint8_t both = entry->offered.flags & entry->agreed.flags;
	uint32_t snd_nxt = entry->own_isn + 1 + conn->handshake_sent;

	entry->hold = entry->upstream_isn + 1 + conn->handshake_read;
	up->seq_add = snd_nxt - (entry->client_isn + 1);
	up->tsval_add = both & FLOW_OPTION_TIMESTAMPS ? entry->own_tsval + 1 - conn->client_tsval : 0;
	up->next_seq = entry->client_isn + 1;
	up->ack = entry->hold;
	up->window = conn->client_window;
	up->tsval = conn->client_tsval;
	down->ack_add = 0u - up->seq_add;
	down->tsecr_add = 0u - up->tsval_add;
	down->next_seq = entry->hold;
	down->ack = snd_nxt;
	up->last_ns = down->last_ns = bridge->now_ns;
	up->l3_diff = offload_l3_diff(&down->dst, &down->src, up);
	up->l4_diff = offload_l4_diff(down->dport, down->sport, up);
	down->l3_diff = offload_l3_diff(&up->dst, &up->src, down);
	down->l4_diff = offload_l4_diff(up->dport, up->sport, down);
	down->mac_valid = 1;
	if (upstream->next_hop.valid) {
		memcpy(up->dmac, upstream->next_hop.mac, 6);
		memcpy(up->smac, upstream->mac, 6);
		up->mac_valid = 1;
	}
	/* a connection of the pool offered a scale before its client was known */
	if (conn->from_pool && both & FLOW_OPTION_WSCALE) {
		up->window_shift = (int8_t)(conn->client_wscale - entry->offered.wscale);
		entry->offered.wscale = conn->client_wscale;
	}
	/* a scale that only one side has is none (RFC 7323 2.2); the window of both is read with these from now on */
	if (!(both & FLOW_OPTION_WSCALE))
		entry->agreed.wscale = entry->offered.wscale = 0;
}

/* --- segments to the client --- */

static uint8_t *offload_put32(uint8_t *p, uint32_t value)
{
	value = be32(value);
	memcpy(p, &value, 4);
	return p + 4;
}

static bool offload_has(const struct flow_entry *entry, uint8_t option)
{
	return entry->offered.flags & entry->agreed.flags & option;
}

static uint16_t offload_client_mss(const struct upstream *upstream, const struct flow_entry *entry)
{
	bool ipv4 = offload_header_bytes(entry) == OFFLOAD_IPV4_HEADERS;
	uint32_t mss = entry->agreed.mss ? entry->agreed.mss
		       : ipv4            ? OFFLOAD_DEFAULT_MSS_IPV4
					 : OFFLOAD_DEFAULT_MSS_IPV6;
	uint32_t path = upstream->mtu - offload_header_bytes(entry);

	return (uint16_t)(mss < path ? mss : path);
}

/* Mirrors what the upstream agreed to. */
static void offload_send_synack(struct bridge *bridge, struct conn *conn)
{
	const struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	const struct flow_half *down = &entry->half[FLOW_DOWN];
	uint32_t window = (uint32_t)down->window << entry->agreed.wscale;
	uint16_t mss = offload_client_mss(conn_upstream(bridge, conn), entry);
	struct build_segment segment = {
		.seq = entry->hold - 1,
		.ack = entry->client_isn + 1,
		/* the window of a SYN is never scaled (RFC 7323 2.2) */
		.window = (uint16_t)(window > 0xffff ? 0xffff : window),
		.flags = OFFLOAD_TCP_SYN | OFFLOAD_TCP_ACK,
	};
	uint8_t *p = segment.options;
	struct build_link link;
	int port = splice_client_link(bridge->splice, conn->entry, &link);

	memcpy(p, (uint8_t[]){2, 4, (uint8_t)(mss >> 8), (uint8_t)mss}, 4);
	p += 4;
	if (offload_has(entry, FLOW_OPTION_TIMESTAMPS)) {
		memcpy(p, offload_has(entry, FLOW_OPTION_SACK) ? "\x04\x02\x08\x0a" : "\x01\x01\x08\x0a", 4);
		p = offload_put32(offload_put32(p + 4, down->tsval), conn->client_tsval);
	} else if (offload_has(entry, FLOW_OPTION_SACK)) {
		memcpy(p, "\x01\x01\x04\x02", 4);
		p += 4;
	}
	if (offload_has(entry, FLOW_OPTION_WSCALE)) {
		memcpy(p, (uint8_t[]){1, 3, 3, entry->agreed.wscale}, 4);
		p += 4;
	}
	segment.option_bytes = (uint8_t)(p - segment.options);
	conn->synack_ns = bridge->now_ns;
	if (port >= 0 && !offload_fault(bridge, CFG_FAULT_SYNACK))
		stack_transmit_segment(bridge->stack, (uint16_t)port, &link, &segment, NULL, 0);
}

/* Early data, or the upstream's FIN. */
static void offload_send_crafted(struct bridge *bridge, struct conn *conn, uint32_t seq, uint8_t flags,
				 const uint8_t *payload, uint16_t bytes)
{
	const struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	struct build_segment segment = {
		.seq = seq,
		.ack = entry->client_isn + 1,
		.window = entry->half[FLOW_DOWN].window,
		.flags = flags,
	};
	struct build_link link;
	int port = splice_client_link(bridge->splice, conn->entry, &link);

	if (offload_has(entry, FLOW_OPTION_TIMESTAMPS)) {
		memcpy(segment.options, "\x01\x01\x08\x0a", 4);
		offload_put32(offload_put32(segment.options + 4, entry->half[FLOW_DOWN].tsval), conn->client_tsval);
		segment.option_bytes = OFFLOAD_TIMESTAMP_BYTES;
	}
	if (port >= 0 && !offload_fault(bridge, CFG_FAULT_CRAFTED))
		stack_transmit_segment(bridge->stack, (uint16_t)port, &link, &segment, payload, bytes);
}

/* --- after the reply --- */

static void offload_arm(struct bridge *bridge, struct conn *conn)
{
	wheel_arm(&bridge->wheel, &conn->timer, bridge->now_ns + OFFLOAD_TIMER_NS);
}

void offload_replied(struct bridge *bridge, struct conn *conn)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);

	if (!entry->has_synack || !entry->clamp_on) {
		offload_relay(bridge, conn, SPLICE_REFUSED_NO_SYNACK);
		return;
	}
	if (repair_freeze(conn->fd)) {
		offload_relay(bridge, conn, SPLICE_REFUSED_REPAIR);
		return;
	}
	if (entry->held & FLOW_HELD_RST && repair_tcp_state(conn->fd) == TCP_CLOSE) {
		splice_counters(bridge->splice)->upstream_reset++;
		conn->end = RECORD_END_UPSTREAM_RESET;
		socks_client_refuse(bridge, conn, REFUSE_RESET);
		return;
	}
	offload_fill_entry(bridge, conn);
	flowmap_move(entry, FLOW_PHASE_OPENING);
	conn_move(bridge, conn, CONN_OPENING);
	splice_counters(bridge->splice)->handovers++;
	conn->synack_rto_ns = OFFLOAD_SYNACK_RTO_NS;
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns,
			   "socket frozen, client→upstream open, SYN-ACK with seq %u, mss %u, options %s%s%s",
			   entry->hold - 1, offload_client_mss(conn_upstream(bridge, conn), entry),
			   offload_has(entry, FLOW_OPTION_TIMESTAMPS) ? "TS " : "",
			   offload_has(entry, FLOW_OPTION_SACK) ? "SACK " : "",
			   offload_has(entry, FLOW_OPTION_WSCALE) ? "WS" : "");
	offload_send_synack(bridge, conn);
	frame_put(bridge->pool, conn->frame);
	conn->frame = FRAME_NONE;
	offload_arm(bridge, conn);
}

/* --- the client is established --- */

static ssize_t offload_peek(struct bridge *bridge, const struct conn *conn, uint32_t wanted)
{
	ssize_t got = -EAGAIN;

	for (int tries = 0; tries < OFFLOAD_PEEK_TRIES && got < (ssize_t)wanted; tries++)
		got = repair_peek(conn->fd, bridge->early_data, BRIDGE_EARLY_DATA_BYTES);
	if (got < (ssize_t)wanted && wanted <= BRIDGE_EARLY_DATA_BYTES)
		splice_counters(bridge->splice)->early_data_missed += wanted - (got > 0 ? (uint32_t)got : 0);
	return got > 0 ? got : 0;
}

/* Delivers what the socket holds; returns the sequence number behind it. */
static uint32_t offload_deliver(struct bridge *bridge, struct conn *conn, uint32_t held)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	uint32_t seq = entry->hold, mtu = conn_upstream(bridge, conn)->mtu, bytes, segment;

	if (!held)
		return seq;
	bytes = (uint32_t)offload_peek(bridge, conn, held);
	segment = entry->offered.mss                                    ? entry->offered.mss
		  : offload_header_bytes(entry) == OFFLOAD_IPV4_HEADERS ? OFFLOAD_DEFAULT_MSS_IPV4
									: OFFLOAD_DEFAULT_MSS_IPV6;
	if (segment > mtu - offload_header_bytes(entry))
		segment = mtu - offload_header_bytes(entry);
	segment -= offload_has(entry, FLOW_OPTION_TIMESTAMPS) ? OFFLOAD_TIMESTAMP_BYTES : 0;
	splice_counters(bridge->splice)->early_data_flows += bytes > 0;
	splice_counters(bridge->splice)->early_data_bytes += bytes;
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "the upstream spoke first: %u bytes are delivered", bytes);
	for (uint32_t off = 0; off < bytes; off += segment) {
		uint32_t part = bytes - off < segment ? bytes - off : segment;

		if (off + part == bytes) {
			/* what went before must be with the client before its ACKs go up */
			bridge_flush_transmissions(bridge);
			flowmap_move(entry, FLOW_PHASE_SPLICED);
		}
		offload_send_crafted(bridge, conn, seq + off, OFFLOAD_TCP_PSH | OFFLOAD_TCP_ACK,
				     bridge->early_data + off, (uint16_t)part);
	}
	if (bytes)
		bridge_flush_transmissions(bridge);
	return seq + bytes;
}

/* The socket goes without a word; from here on the flow is the kernel's. */
static void offload_let_go(struct bridge *bridge, struct conn *conn)
{
	struct flow *flow = conn->flow;
	uint32_t entry = conn->entry;

	splice_let_go(bridge->splice, entry);
	conn->entry = SPLICE_NONE;
	if (conn->traced) {
		trace_note(&bridge->trace, bridge->now_ns, "client is established: spliced, the socket is gone");
		splice_set_traced(bridge->splice, entry);
		conn->traced = false;
	}
	if (flow) {
		conn_detach_flow(bridge, conn);
		stack_hand_over(bridge->stack, flow);
	}
	conn_close(bridge, conn, false);
}

static void offload_finish(struct bridge *bridge, struct conn *conn)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);
	struct flow_half *down = &entry->half[FLOW_DOWN];
	bool wanted = entry->held & FLOW_HELD_DATA && !(entry->half[FLOW_UP].seen & FLOW_SEEN_RST);
	uint32_t held = wanted && (int32_t)(entry->held_end - entry->hold) > 0 ? entry->held_end - entry->hold : 0;
	uint32_t behind = offload_deliver(bridge, conn, held);

	if (flowmap_phase(entry) == FLOW_PHASE_OPENING)
		flowmap_move(entry, FLOW_PHASE_SPLICED);
	if (behind != entry->hold) {
		__atomic_fetch_add(&down->payload_bytes, behind - entry->hold, __ATOMIC_RELAXED);
		if ((int32_t)(behind - down->next_seq) > 0)
			down->next_seq = behind;
	}
	/* the upstream has closed already; its FIN sits in the socket, unacknowledged like all the rest */
	if (entry->held & FLOW_HELD_FIN && behind == entry->hold + held &&
	    repair_tcp_state(conn->fd) == TCP_CLOSE_WAIT) {
		down->fin_end = down->next_seq = behind + 1;
		__atomic_fetch_or(&down->seen, FLOW_SEEN_FIN, __ATOMIC_SEQ_CST);
		offload_send_crafted(bridge, conn, behind, OFFLOAD_TCP_FIN | OFFLOAD_TCP_ACK, NULL, 0);
	}
	if (splice_is_over(entry))
		splice_ended(bridge->splice, conn->entry, bridge->now_ns);
	offload_let_go(bridge, conn);
}

/* Neither end has heard of the other: both are reset. */
static void offload_give_up(struct bridge *bridge, struct conn *conn, enum record_end end)
{
	bridge_record_handover(bridge, conn, end);
	splice_reset_client(bridge->splice, conn->entry);
	if (conn->flow) {
		struct flow *flow = conn->flow;

		conn_detach_flow(bridge, conn);
		stack_refuse(bridge->stack, flow, REFUSE_SILENTLY, bridge->now_ns);
	}
	conn_close(bridge, conn, true);
}

void offload_flow_closed(struct bridge *bridge, struct conn *conn)
{
	/* its report may be on the way: then the connection is the kernel's already */
	if (splice_entry(bridge->splice, conn->entry)->half[FLOW_UP].seen & FLOW_SEEN_ANY)
		offload_finish(bridge, conn);
	else
		offload_give_up(bridge, conn, RECORD_END_EVICTED);
}

void offload_report(struct bridge *bridge, struct conn *conn, enum flow_report_kind kind)
{
	struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);

	if (conn->state != CONN_OPENING)
		return;
	/* the client reset, or data of it went up: in either case the flow is the kernel's to end */
	if (entry->half[FLOW_UP].seen & (FLOW_SEEN_ANY | FLOW_SEEN_RST)) {
		if (entry->half[FLOW_UP].seen & FLOW_SEEN_RST && !(entry->half[FLOW_UP].seen & FLOW_SEEN_ANY))
			splice_counters(bridge->splice)->client_reset++;
		offload_finish(bridge, conn);
	} else if (kind == FLOW_REPORT_RESET && repair_tcp_state(conn->fd) == TCP_CLOSE) {
		splice_counters(bridge->splice)->upstream_reset++;
		offload_give_up(bridge, conn, RECORD_END_UPSTREAM_RESET);
	}
}

void offload_timer(struct bridge *bridge, struct conn *conn)
{
	const struct flow_entry *entry = splice_entry(bridge->splice, conn->entry);

	if (entry->half[FLOW_UP].seen & (FLOW_SEEN_ANY | FLOW_SEEN_RST)) {
		splice_counters(bridge->splice)->reports_found++;
		offload_report(bridge, conn, FLOW_REPORT_FIRST);
		return;
	}
	if (entry->held & FLOW_HELD_RST && repair_tcp_state(conn->fd) == TCP_CLOSE) {
		offload_report(bridge, conn, FLOW_REPORT_RESET);
		return;
	}
	if (bridge->now_ns - conn->synack_ns >= conn->synack_rto_ns) {
		if (conn->synack_tries++ >= OFFLOAD_SYNACK_TRIES ||
		    bridge->now_ns - entry->half[FLOW_UP].last_ns > bridge->config->tcp.handshake_timeout_ns) {
			splice_counters(bridge->splice)->client_never_acked++;
			offload_give_up(bridge, conn, RECORD_END_TIMED_OUT);
			return;
		}
		conn->synack_rto_ns *= 2;
		splice_counters(bridge->splice)->synacks_resent++;
		offload_send_synack(bridge, conn);
	}
	offload_arm(bridge, conn);
}

void offload_syn_again(struct bridge *bridge, struct conn *conn)
{
	if (conn->state != CONN_OPENING || bridge->now_ns - conn->synack_ns < OFFLOAD_SYNACK_MIN_GAP_NS)
		return;
	splice_counters(bridge->splice)->synacks_resent++;
	offload_send_synack(bridge, conn);
}

/* --- the end of a connection that did not become the kernel's --- */

void offload_before_close(struct bridge *bridge, struct conn *conn)
{
	struct flow_entry *entry;

	if (conn->entry == SPLICE_NONE)
		return;
	entry = splice_entry(bridge->splice, conn->entry);
	if (entry->phase != FLOW_PHASE_OPENING)
		return;
	/* the guard opens for the socket's reset, which needs a socket that works */
	flowmap_move(entry, FLOW_PHASE_ABORTING);
	repair_thaw(conn->fd, false);
	conn->reset = true;
}

void offload_after_close(struct bridge *bridge, struct conn *conn)
{
	if (conn->entry == SPLICE_NONE)
		return;
	splice_release(bridge->splice, conn->entry, bridge->now_ns);
	conn->entry = SPLICE_NONE;
}

void offload_forget(struct bridge *bridge, struct conn *conn)
{
	offload_after_close(bridge, conn);
	conn->relayed_after_dial = false;
}

bool offload_is_pending(const struct conn *conn)
{
	return conn->entry != SPLICE_NONE && !conn->relayed_after_dial;
}
