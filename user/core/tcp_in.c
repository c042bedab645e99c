/* SPDX-License-Identifier: MIT */
/*
 * A segment for a flow, in the order of RFC 9293 3.10.7.4: PAWS and sequence
 * check, RST, SYN, ACK, payload, FIN. Against blind attacks RFC 5961: a reset
 * must hit rcv_nxt exactly, a SYN never ends a flow, an ACK must be plausible.
 *
 * A packet of several frames passes all checks once, then its payload is taken
 * frame by frame. No call-back is made before the last frame is taken, so that
 * no owner can end the flow between two of them.
 */
#include "stack_priv.h"

#include <string.h>

#define TCP_DEFAULT_MSS_IPV4 536 /* RFC 9293 3.7.1 */
#define TCP_DEFAULT_MSS_IPV6 1220
#define TCP_LEAST_MSS 64 /* smaller ones only serve to make us work */
#define TCP_START_BUFFER_BYTES (256u << 10)
#define TCP_QUICK_ACKS 16
#define TCP_ACK_DELAY_NS 40000000ull
#define TCP_INITIAL_RTO_NS 1000000000ull
#define TCP_PAWS_LIMIT_NS (24ull * 86400 * 1000000000ull) /* RFC 7323 5.5 */

/* --- a new flow --- */

static void tcp_agree_options(struct stack *stack, struct flow *flow, const struct tcp_options *options,
			      uint64_t now_ns)
{
	bool ipv4 = addr_is_ipv4(&flow->link.dst.addr);
	uint16_t own = tcp_own_mss(stack, flow);
	uint16_t theirs = options->mss ? options->mss : ipv4 ? TCP_DEFAULT_MSS_IPV4 : TCP_DEFAULT_MSS_IPV6;

	flow->mss = MAX(MIN(own, theirs), (uint16_t)TCP_LEAST_MSS);
	flow->use_wscale = options->has_wscale;
	flow->snd_wscale = options->wscale;
	flow->use_sack = options->sack_permitted;
	flow->use_timestamps = options->has_timestamp;
	flow->syn_mss = options->mss;
	flow->ts_recent = options->ts_value;
	flow->ts_recent_ns = now_ns;
}

static void tcp_start_sequences(struct stack *stack, struct flow *flow, const struct packet_view *view, uint64_t now_ns)
{
	/* RFC 6528: a clock of 4 microseconds plus a keyed hash of the connection */
	uint64_t hash = flow_keyed_hash(stack, &flow->link, 2);

	flow->iss = (uint32_t)(now_ns / 4096) + (uint32_t)hash;
	flow->ts_offset = (uint32_t)(hash >> 32);
	flow->snd_una = flow->recover = flow->iss;
	flow->snd_nxt = flow->snd_queued = flow->iss + 1;
	flow->snd_wnd = flow->snd_wnd_max = view->window;
	flow->snd_wl1 = view->seq;
	flow->irs = view->seq;
	flow->rcv_nxt = view->seq + 1;
	flow->rcv_limit_bytes = MIN(TCP_START_BUFFER_BYTES, stack->settings.receive_window_max_bytes);
	flow->window_period_ns = now_ns;
	flow->quick_acks = TCP_QUICK_ACKS;
	flow->rto_ns = TCP_INITIAL_RTO_NS;
	tcp_cwnd_start(stack, flow);
}

void tcp_open(struct stack *stack, const struct tcp_segment *syn, uint64_t now_ns)
{
	struct flow *flow = flow_create(stack, syn, now_ns);

	if (!flow) {
		stack->counters.syn_table_full++;
		return;
	}
	flow->packets_from_client = 1;
	flow->syn_has_ip_options = syn->view.has_ip_options;
	flow->syn_ecn = (syn->view.tcp_flags & (TCP_ECE | TCP_CWR)) == (TCP_ECE | TCP_CWR);
	tcp_agree_options(stack, flow, &syn->options, now_ns);
	tcp_start_sequences(stack, flow, &syn->view, now_ns);
	flow_move(stack, flow, FLOW_HELD);
	halfopen_enter(stack, flow);
	stack->counters.flows_opened++;
	if (stack->settings.early_accept) {
		stack_accept(stack, flow, now_ns);
		return;
	}
	flow->owner_knows = true;
	stack->callbacks.flow_opened(stack->callbacks.ctx, flow);
}

/* --- acceptability --- */

/* RFC 7323 5.3 R1; false: the segment is old. */
static bool tcp_paws_ok(const struct flow *flow, const struct tcp_options *options, uint64_t now_ns)
{
	if (!flow->use_timestamps)
		return true;
	if (!options->has_timestamp)
		return false;
	return !seq_lt(options->ts_value, flow->ts_recent) || now_ns - flow->ts_recent_ns > TCP_PAWS_LIMIT_NS;
}

/* RFC 9293 3.4; the left edge is what we acknowledged last, as the client may not know more. */
static bool tcp_in_window(const struct flow *flow, const struct packet_view *view)
{
	uint32_t length = view->payload_len + !!(view->tcp_flags & TCP_SYN) + !!(view->tcp_flags & TCP_FIN);

	if (seq_lt(view->seq + length, flow->last_ack_sent))
		return false;
	return seq_leq(view->seq, flow->rcv_adv);
}

static void tcp_reset_received(struct stack *stack, struct flow *flow, const struct packet_view *view, uint64_t now_ns)
{
	if (view->seq == flow->rcv_nxt) {
		flow_end(stack, flow, FLOW_END_CLIENT_RESET);
		return;
	}
	/* RFC 5961 3.2: in the window but not exact */
	if (seq_lt(flow->rcv_nxt, view->seq) && seq_leq(view->seq, flow->rcv_adv))
		tcp_send_challenge(stack, flow, now_ns);
	else
		stack->counters.segments_outside_window++;
}

/* RFC 9293 3.10.7.4 first to fourth check; false: the segment is done with (the flow may be gone). */
static bool tcp_check_segment(struct stack *stack, struct flow *flow, const struct packet_view *view,
			      const struct tcp_options *options, uint64_t now_ns)
{
	if (view->tcp_flags & TCP_RST) {
		tcp_reset_received(stack, flow, view, now_ns);
		return false;
	}
	if (!tcp_paws_ok(flow, options, now_ns)) {
		stack->counters.paws_rejected++;
		/* RFC 7323 3.2: one without the option is dropped silently; 5.3 R1: an old one is answered */
		if (options->has_timestamp)
			tcp_send_challenge(stack, flow, now_ns);
		return false;
	}
	if (view->tcp_flags & TCP_SYN) {
		/* RFC 5961 4.2; the client's first SYN again, when our SYN-ACK was lost, gets that again */
		if (flow->state == FLOW_SYN_RECEIVED && view->seq == flow->irs) {
			stack->counters.syn_retransmitted_by_client++;
			tcp_send_synack(stack, flow, now_ns);
		} else {
			tcp_send_challenge(stack, flow, now_ns);
		}
		return false;
	}
	if (!tcp_in_window(flow, view)) {
		stack->counters.segments_outside_window++;
		/* payload that is only old tells that our ACK was lost; bare ACKs could answer each other for ever */
		if (view->payload_len) {
			flow->ack_now = true;
			flow_add_work(stack, flow);
		} else {
			tcp_send_challenge(stack, flow, now_ns);
		}
		return false;
	}
	return view->tcp_flags & TCP_ACK;
}

/* RFC 9293 3.10.7.4 fifth check, with RFC 5961 5.2. */
static bool tcp_check_ack(struct stack *stack, struct flow *flow, const struct packet_view *view, uint64_t now_ns)
{
	if (seq_lt(flow->snd_nxt, view->ack) || seq_lt(view->ack, flow->snd_una - MAX(flow->snd_wnd_max, 65535u))) {
		tcp_send_challenge(stack, flow, now_ns);
		return false;
	}
	return true;
}

static void tcp_update_ts_recent(struct flow *flow, const struct packet_view *view, const struct tcp_options *options,
				 uint64_t now_ns)
{
	/* RFC 7323 4.3 (2) */
	if (!options->has_timestamp || seq_lt(flow->last_ack_sent, view->seq) ||
	    seq_lt(options->ts_value, flow->ts_recent))
		return;
	flow->ts_recent = options->ts_value;
	flow->ts_recent_ns = now_ns;
}

/* --- the third segment of the handshake --- */

static bool tcp_complete_handshake(struct stack *stack, struct flow *flow, const struct packet_view *view,
				   uint64_t now_ns)
{
	if (view->ack != flow->iss + 1) {
		/* RFC 9293 3.10.7.4: an unacceptable ACK in SYN-RECEIVED is answered with a reset */
		struct build_link reply = flow->link;
		struct packet_view refused = *view;
		uint8_t eth[12];

		memcpy(eth, reply.src_mac, 6);
		memcpy(eth + 6, reply.dst_mac, 6);
		refused.tcp_flags = TCP_ACK;
		tcp_send_reset_to(stack, flow->port, &refused, eth, now_ns);
		return false;
	}
	halfopen_leave(stack, flow);
	flow_move(stack, flow, FLOW_ESTABLISHED);
	if (!flow->rtx_count)
		tcp_rtt_sample(flow, now_ns - flow->synack_sent_ns);
	else
		flow->rto_ns = 3 * TCP_INITIAL_RTO_NS; /* RFC 6298 (5.7) */
	flow->rtx_count = 0;
	flow->rtx_mode = RTX_OFF;
	flow->snd_una = view->ack;
	flow->snd_wnd = (uint32_t)view->window << (flow->use_wscale ? flow->snd_wscale : 0);
	flow->snd_wnd_max = flow->snd_wnd;
	flow->snd_wl1 = view->seq;
	flow->snd_wl2 = view->ack;
	tcp_timer_cancel(stack, flow, FLOW_TIMER_RETRANSMIT);
	tcp_timer_arm(stack, flow, FLOW_TIMER_LIFE, now_ns + stack->settings.idle_timeout_ns);
	stack->counters.flows_established++;
	return true;
}

static void tcp_tell_established(struct stack *stack, struct flow *flow)
{
	if (flow->owner_knows) {
		stack->callbacks.flow_established(stack->callbacks.ctx, flow);
		return;
	}
	flow->owner_knows = true; /* early accept: now is when the owner learns of it */
	stack->callbacks.flow_opened(stack->callbacks.ctx, flow);
}

/* --- payload and FIN --- */

static void tcp_acknowledge_later(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	flow->segments_unacked++;
	/* RFC 9293 3.8.6.3: at least every second segment; the first ones at once, for clients in slow start */
	if (flow->segments_unacked >= 2 || flow->quick_acks) {
		flow->quick_acks -= !!flow->quick_acks;
		flow->ack_now = true;
		flow_add_work(stack, flow);
	} else if (!wheel_armed(&flow->timers[FLOW_TIMER_ACK])) {
		tcp_timer_arm(stack, flow, FLOW_TIMER_ACK, now_ns + TCP_ACK_DELAY_NS);
	}
}

/* The payload of one frame. true: a gap, the filling of one, a duplicate; the client should know (RFC 5681 4.2). */
static bool tcp_take_payload(struct stack *stack, struct flow *flow, uint32_t index, bool *readable, uint64_t now_ns)
{
	bool in_order = stack_frame(stack, index)->seq == flow->rcv_nxt && flow->ooo_head == FRAME_NONE;
	bool delivered = false;

	if (!tcp_receive_payload(stack, flow, index, &delivered))
		frame_put(stack->pool, index);
	*readable |= delivered;
	if (!in_order || !delivered)
		return true;
	tcp_acknowledge_later(stack, flow, now_ns);
	return false;
}

static void tcp_note_fin(struct flow *flow, const struct packet_view *view)
{
	if (!(view->tcp_flags & TCP_FIN) || flow->fin_seen || seq_lt(view->seq + view->payload_len, flow->rcv_nxt))
		return;
	flow->fin_seen = true;
	flow->fin_seq = view->seq + view->payload_len;
}

/* Frame by frame, each a segment of its own; the FIN stands with the last. */
static void tcp_take_frames(struct stack *stack, struct flow *flow, struct tcp_segment *segment, bool *readable,
			    uint64_t now_ns)
{
	uint32_t seq = segment->view.seq;
	bool answer = false;

	while (segment->frames != FRAME_NONE) {
		uint32_t index = segment->frames;
		struct frame *frame = stack_frame(stack, index);

		segment->frames = frame->next;
		frame->seq = seq;
		seq += frame->len;
		if (segment->frames == FRAME_NONE && !seq_lt(flow->rcv_adv, frame->seq))
			tcp_note_fin(flow, &segment->view);
		if (frame->len)
			answer |= tcp_take_payload(stack, flow, index, readable, now_ns);
		else
			frame_put(stack->pool, index);
	}
	/* once for the packet, as others do behind GRO: one for each frame would look like many duplicates */
	if (answer)
		tcp_send_ack(stack, flow, now_ns);
}

/* The client's FIN is next: the flow moves on. true: the flow is in TIME_WAIT, the owner was told. */
static bool tcp_take_fin(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	flow->fin_received = true;
	flow->rcv_nxt++;
	tcp_receive_end(stack, flow);
	flow->rcv_adv = seq_lt(flow->rcv_adv, flow->rcv_nxt) ? flow->rcv_nxt : flow->rcv_adv;
	tcp_send_ack(stack, flow, now_ns);
	switch (flow->state) {
	case FLOW_ESTABLISHED:
		flow_move(stack, flow, FLOW_CLOSE_WAIT);
		return false;
	case FLOW_FIN_WAIT_1:
		if (!flow->fin_acked) {
			flow_move(stack, flow, FLOW_CLOSING);
			return false;
		}
		break;
	default: /* FIN_WAIT_2 */
		break;
	}
	flow_enter_time_wait(stack, flow, now_ns);
	return true;
}

/* Our FIN was acknowledged; true: the flow is gone or in TIME_WAIT. */
static bool tcp_fin_acknowledged(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	switch (flow->state) {
	case FLOW_FIN_WAIT_1:
		flow_move(stack, flow, FLOW_FIN_WAIT_2);
		return false;
	case FLOW_CLOSING:
		flow_enter_time_wait(stack, flow, now_ns);
		return true;
	case FLOW_LAST_ACK:
		flow_end(stack, flow, FLOW_END_CLOSED);
		return true;
	default:
		return false;
	}
}

/* --- states that are not synchronised, or over --- */

static void tcp_input_held(struct stack *stack, struct flow *flow, const struct tcp_segment *segment, uint64_t now_ns)
{
	const struct packet_view *view = &segment->view;

	if (view->tcp_flags & TCP_RST) {
		if (view->seq == flow->rcv_nxt || view->seq == flow->irs)
			flow_end(stack, flow, FLOW_END_CLIENT_RESET);
		return;
	}
	if ((view->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return;
	if (view->seq == flow->irs) {
		stack->counters.syn_retransmitted_by_client++;
		if (stack->callbacks.flow_syn_again)
			stack->callbacks.flow_syn_again(stack->callbacks.ctx, flow);
		return;
	}
	/* another connection attempt from the same port: the old one is given up */
	flow_end(stack, flow, FLOW_END_CLIENT_RESET);
	tcp_open(stack, segment, now_ns);
}

static void tcp_input_time_wait(struct stack *stack, struct flow *flow, const struct tcp_segment *segment,
				uint64_t now_ns)
{
	const struct tcp_options *options = &segment->options;
	const struct packet_view *view = &segment->view;
	bool newer = seq_lt(flow->rcv_nxt, view->seq);

	if (view->tcp_flags & TCP_RST) {
		/* RFC 1337: a reset does not end TIME_WAIT early */
		return;
	}
	if ((view->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		/* RFC 6191 2: a later timestamp or sequence number tells a new connection */
		if (flow->use_timestamps && options->has_timestamp)
			newer = newer || seq_lt(flow->ts_recent, options->ts_value);
		if (newer) {
			flow_release(stack, flow);
			tcp_open(stack, segment, now_ns);
			return;
		}
	}
	if (view->tcp_flags & TCP_FIN)
		tcp_timer_arm(stack, flow, FLOW_TIMER_LIFE, now_ns + stack->settings.time_wait_ns);
	if (view->payload_len || view->tcp_flags & (TCP_FIN | TCP_SYN))
		tcp_send_challenge(stack, flow, now_ns);
}

/* The client may have moved to another MAC, VLAN or port: replies follow its newest acceptable segment. */
static void tcp_follow_link(struct flow *flow, const struct tcp_segment *segment)
{
	flow->port = segment->port;
	flow->link.has_vlan = segment->view.has_vlan;
	flow->link.vlan_tci = segment->view.vlan_tci;
	memcpy(flow->link.dst_mac, segment->eth + 6, 6);
	memcpy(flow->link.src_mac, segment->eth, 6);
}

/* A segment that passed all checks. */
static void tcp_process(struct stack *stack, struct flow *flow, struct tcp_segment *segment, uint64_t now_ns)
{
	bool established = flow->state == FLOW_SYN_RECEIVED, readable = false, ended = false;
	const struct packet_view *view = &segment->view;
	uint16_t generation = flow->generation;

	if (established) {
		if (!tcp_complete_handshake(stack, flow, view, now_ns))
			return;
	} else if (!tcp_check_ack(stack, flow, view, now_ns)) {
		return;
	}
	flow->active_ns = now_ns;
	tcp_follow_link(flow, segment);
	tcp_update_ts_recent(flow, view, &segment->options, now_ns);
	if (!established)
		tcp_acknowledged(stack, flow, view, &segment->options, now_ns);
	if (flow->fin_acked && tcp_fin_acknowledged(stack, flow, now_ns))
		return;
	if (!flow->fin_received) {
		if (view->payload_len || view->tcp_flags & TCP_FIN)
			tcp_take_frames(stack, flow, segment, &readable, now_ns);
		if (flow->fin_seen && flow->rcv_nxt == flow->fin_seq) {
			readable = true;
			ended = tcp_take_fin(stack, flow, now_ns);
		} else if (view->tcp_flags & TCP_FIN && !view->payload_len) {
			tcp_send_ack(stack, flow, now_ns);
		}
	} else if (view->payload_len || view->tcp_flags & TCP_FIN) {
		tcp_send_ack(stack, flow, now_ns); /* sent again: our ACK was lost */
	}
	if (ended)
		return;
	if (established)
		tcp_tell_established(stack, flow);
	if (readable && flow->generation == generation && flow->state != FLOW_CLOSED)
		stack->callbacks.flow_readable(stack->callbacks.ctx, flow);
	if (flow->generation != generation || flow->state == FLOW_CLOSED)
		return;
	tcp_output(stack, flow, now_ns);
	if (flow->send_blocked && flow->send_queue_bytes < flow->send_limit_bytes / 4 * 3 && stack_send_room(flow)) {
		flow->send_blocked = false;
		stack->callbacks.flow_writable(stack->callbacks.ctx, flow);
	}
}

void tcp_input(struct stack *stack, struct flow *flow, struct tcp_segment *segment, uint64_t now_ns)
{
	flow->packets_from_client++;
	if (flow->state == FLOW_HELD)
		tcp_input_held(stack, flow, segment, now_ns);
	else if (flow->state == FLOW_TIME_WAIT)
		tcp_input_time_wait(stack, flow, segment, now_ns);
	else if (tcp_check_segment(stack, flow, &segment->view, &segment->options, now_ns))
		tcp_process(stack, flow, segment, now_ns);
}
