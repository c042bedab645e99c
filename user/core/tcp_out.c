/* SPDX-License-Identifier: MIT */
/*
 * Segments to the client. Payload is sent from where it lies: headers are
 * written in front of it, in the same frame, which stays in the send queue
 * until it is acknowledged. A frame that the kernel still reads is not touched;
 * its turn comes when it is done.
 *
 * A frame of several segments is sent as one packet that the port cuts. To cut
 * one here costs copying what is behind the cut. So where the windows allow
 * only a small part of a frame, new data waits for the next acknowledgement,
 * as senders behind a NIC that cuts packets do.
 */
#include "stack_priv.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#define TCP_CHALLENGES_PER_SECOND 10
#define TCP_RESETS_PER_SECOND 1000
#define TCP_TIMESTAMP_BYTES 12
#define TCP_CUT_POOL_SHARE 4 /* below this part of the pool, frames are not cut for the scoreboard's sake */

static uint32_t tcp_timestamp(const struct flow *flow, uint64_t now_ns)
{
	return (uint32_t)(now_ns / 1000000) + flow->ts_offset;
}

uint16_t tcp_segment_bytes(const struct flow *flow)
{
	return (uint16_t)(flow->mss - (flow->use_timestamps ? TCP_TIMESTAMP_BYTES : 0));
}

uint16_t tcp_own_mss(const struct stack *stack, const struct flow *flow)
{
	uint32_t headers = addr_is_ipv4(&flow->link.dst.addr) ? 40 : 60;
	/* a segment to us must fit a frame behind the driver's headroom */
	uint32_t most = stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET - BUILD_MAX_HEADER_BYTES;

	return (uint16_t)MIN(stack->ports[flow->port].mtu - headers, most);
}

uint32_t tcp_packet_bytes(const struct stack *stack, const struct flow *flow)
{
	return stack->ports[flow->port].offload ? stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET
						: tcp_segment_bytes(flow);
}

static uint8_t *tcp_put32(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 24);
	p[1] = (uint8_t)(value >> 16);
	p[2] = (uint8_t)(value >> 8);
	p[3] = (uint8_t)value;
	return p + 4;
}

static uint8_t *tcp_put_timestamp(uint8_t *p, const struct flow *flow, uint64_t now_ns)
{
	memcpy(p, "\x01\x01\x08\x0a", 4);
	return tcp_put32(tcp_put32(p + 4, tcp_timestamp(flow, now_ns)), flow->ts_recent);
}

/* As many blocks as fit into `room` bytes of options. */
static uint8_t *tcp_put_sacks(uint8_t *p, const struct flow *flow, uint32_t room)
{
	uint32_t count = room < 4 ? 0 : MIN((room - 4) / 8, (uint32_t)flow->sack_count);

	if (!count)
		return p;
	memcpy(p, "\x01\x01\x05", 3);
	p[3] = (uint8_t)(2 + 8 * count);
	p += 4;
	for (uint32_t i = 0; i < count; i++)
		p = tcp_put32(tcp_put32(p, flow->sacks[i].start), flow->sacks[i].end);
	return p;
}

static void tcp_put_options(struct build_segment *segment, const struct flow *flow, uint16_t payload_bytes,
			    uint64_t now_ns)
{
	/* SACK blocks ride on data only where a full segment would not outgrow the MSS */
	uint32_t room = payload_bytes >= flow->mss ? 0 : MIN(40u, (uint32_t)flow->mss - payload_bytes);
	uint8_t *p = segment->options;

	if (flow->use_timestamps)
		p = tcp_put_timestamp(p, flow, now_ns);
	if (flow->use_sack && flow->sack_count && room > (uint32_t)(p - segment->options))
		p = tcp_put_sacks(p, flow, room - (uint32_t)(p - segment->options));
	segment->option_bytes = (uint8_t)(p - segment->options);
}

static int tcp_transmit(struct stack *stack, uint16_t port, uint32_t frame, const uint8_t *start, const uint8_t *end,
			uint16_t segment_bytes)
{
	uint16_t off = (uint16_t)(start - frame_data(stack->pool, frame));
	int err = stack->callbacks.transmit(stack->callbacks.ctx, port, frame, off, (uint16_t)(end - start),
					    segment_bytes);

	if (err)
		stack->counters.tx_ring_full++;
	else
		stack->counters.packets_out++;
	return err;
}

/* A segment in a frame of its own; false: no frame, or the ring is full. */
bool stack_transmit_segment(struct stack *stack, uint16_t port, const struct build_link *link,
			    const struct build_segment *segment, const void *payload, uint16_t payload_bytes)
{
	uint32_t frame = frame_get(stack->pool, FRAME_TX);
	struct build_segment finished = *segment;
	uint8_t *start;

	assert(payload_bytes <= stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return false;
	}
	start = frame_data(stack->pool, frame) + FRAME_PAYLOAD_OFFSET;
	if (payload_bytes)
		memcpy(start, payload, payload_bytes);
	finished.no_checksum = stack->ports[port].offload;
	if (!tcp_transmit(stack, port, frame, build_tcp(start, payload_bytes, link, &finished), start + payload_bytes,
			  0))
		return true;
	frame_put(stack->pool, frame);
	return false;
}

static bool tcp_transmit_empty(struct stack *stack, struct flow *flow, const struct build_segment *segment)
{
	bool sent = stack_transmit_segment(stack, flow->port, &flow->link, segment, NULL, 0);

	flow->packets_to_client += sent;
	return sent;
}

static uint16_t tcp_window_field(const struct stack *stack, struct flow *flow)
{
	uint32_t window = tcp_receive_window(stack, flow);

	return (uint16_t)(flow->use_wscale ? window >> TCP_OUR_WSCALE : MIN(window, 65535u));
}

static void tcp_ack_done(struct stack *stack, struct flow *flow)
{
	flow->last_ack_sent = flow->rcv_nxt;
	flow->segments_unacked = 0;
	flow->ack_now = false;
	tcp_timer_cancel(stack, flow, FLOW_TIMER_ACK);
}

static struct build_segment tcp_segment(struct stack *stack, struct flow *flow, uint32_t seq, uint8_t flags,
					uint16_t payload_bytes, uint64_t now_ns)
{
	struct build_segment segment = {.seq = seq, .ack = flow->rcv_nxt, .flags = flags};

	segment.window = tcp_window_field(stack, flow);
	segment.no_checksum = stack->ports[flow->port].offload;
	tcp_put_options(&segment, flow, payload_bytes, now_ns);
	return segment;
}

void tcp_send_ack(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	struct build_segment segment = tcp_segment(stack, flow, flow->snd_nxt, TCP_ACK, 0, now_ns);

	if (tcp_transmit_empty(stack, flow, &segment)) {
		tcp_ack_done(stack, flow);
		return;
	}
	flow->ack_now = true; /* stack_flush() tries again */
	flow_add_work(stack, flow);
}

void tcp_send_challenge(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (now_ns - flow->challenge_ns >= 1000000000ull) {
		flow->challenge_ns = now_ns;
		flow->challenges = 0;
	}
	if (flow->challenges >= TCP_CHALLENGES_PER_SECOND)
		return;
	flow->challenges++;
	stack->counters.challenge_acks++;
	tcp_send_ack(stack, flow, now_ns);
}

void tcp_send_synack(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	struct build_segment segment = {.seq = flow->iss, .ack = flow->rcv_nxt, .flags = TCP_SYN | TCP_ACK};
	uint16_t mss = tcp_own_mss(stack, flow);
	uint8_t *p = segment.options;

	*p++ = 2;
	*p++ = 4;
	*p++ = (uint8_t)(mss >> 8);
	*p++ = (uint8_t)mss;
	if (flow->use_sack && flow->use_timestamps) {
		memcpy(p, "\x04\x02\x08\x0a", 4); /* SACK-permitted in place of the padding */
		p = tcp_put32(tcp_put32(p + 4, tcp_timestamp(flow, now_ns)), flow->ts_recent);
	} else if (flow->use_timestamps) {
		p = tcp_put_timestamp(p, flow, now_ns);
	} else if (flow->use_sack) {
		memcpy(p, "\x01\x01\x04\x02", 4);
		p += 4;
	}
	if (flow->use_wscale) {
		memcpy(p, (uint8_t[]){1, 3, 3, TCP_OUR_WSCALE}, 4);
		p += 4;
	}
	segment.option_bytes = (uint8_t)(p - segment.options);
	/* the window of a SYN is never scaled (RFC 7323 2.2) */
	segment.window = (uint16_t)MIN(flow->rcv_limit_bytes, 65535u);
	flow->rcv_adv = flow->rcv_nxt + segment.window;
	flow->last_ack_sent = flow->rcv_nxt;
	if (!flow->rtx_count)
		flow->synack_sent_ns = now_ns;
	flow->ack_now = !tcp_transmit_empty(stack, flow, &segment);
	if (flow->ack_now)
		flow_add_work(stack, flow); /* stack_flush() tries again */
	tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, now_ns + (1000000000ull << MIN(flow->rtx_count, (uint8_t)6)));
}

void tcp_send_reset(struct stack *stack, struct flow *flow)
{
	struct build_segment segment = {.seq = flow->snd_nxt, .ack = flow->rcv_nxt, .flags = TCP_RST | TCP_ACK};

	/* a SYN that was not answered: sequence number 0 (RFC 9293 3.5.2 group 1) */
	if (flow->state == FLOW_HELD)
		segment.seq = 0;
	stack->counters.resets_sent++;
	tcp_transmit_empty(stack, flow, &segment);
}

void tcp_send_reset_to(struct stack *stack, uint16_t port, const struct packet_view *view, const uint8_t *eth,
		       uint64_t now_ns)
{
	struct build_link link = {
		.has_vlan = view->has_vlan,
		.vlan_tci = view->vlan_tci,
		.src = {.addr = view->dst, .port = view->dport},
		.dst = {.addr = view->src, .port = view->sport},
	};
	struct build_segment segment = {.flags = TCP_RST};

	if (now_ns / 1000000000 != stack->reset_second) {
		stack->reset_second = now_ns / 1000000000;
		stack->resets_in_second = 0;
	}
	if (stack->resets_in_second >= TCP_RESETS_PER_SECOND)
		return;
	stack->resets_in_second++;
	memcpy(link.dst_mac, eth + 6, 6);
	memcpy(link.src_mac, eth, 6);
	if (view->tcp_flags & TCP_ACK) {
		segment.seq = view->ack;
	} else {
		segment.flags |= TCP_ACK;
		segment.ack =
			view->seq + view->payload_len + !!(view->tcp_flags & TCP_SYN) + !!(view->tcp_flags & TCP_FIN);
	}
	stack->counters.resets_sent++;
	stack_transmit_segment(stack, port, &link, &segment, NULL, 0);
}

/* --- the send queue --- */

bool tcp_split_frame(struct stack *stack, struct flow *flow, uint32_t index, uint32_t bytes)
{
	struct frame *frame = stack_frame(stack, index), *rest;
	uint32_t rest_index = frame_get(stack->pool, FRAME_FLOW);

	if (rest_index == FRAME_NONE) {
		stack->counters.no_frame++;
		return false;
	}
	rest = stack_frame(stack, rest_index);
	rest->off = FRAME_PAYLOAD_OFFSET;
	rest->len = (uint16_t)(frame->len - bytes);
	rest->seq = frame->seq + bytes;
	rest->next = frame->next;
	rest->tcp_flags = frame->tcp_flags;
	rest->sent_ns = frame->sent_ns;
	memcpy(frame_data(stack->pool, rest_index) + rest->off, frame_data(stack->pool, index) + frame->off + bytes,
	       rest->len);
	frame->len = (uint16_t)bytes;
	frame->next = rest_index;
	flow->send_frames++;
	flow->lost_frames += !!(frame->tcp_flags & SEND_LOST);
	flow->sacked_frames += !!(frame->tcp_flags & SEND_SACKED);
	if (flow->send_tail == index)
		flow->send_tail = rest_index;
	return true;
}

void tcp_cut_to_segment(struct stack *stack, struct flow *flow, uint32_t index)
{
	if (stack_frame(stack, index)->len > tcp_segment_bytes(flow))
		tcp_split_frame(stack, flow, index, tcp_segment_bytes(flow));
}

void tcp_cut_at(struct stack *stack, struct flow *flow, uint32_t index, uint32_t seq)
{
	const struct frame *frame = stack_frame(stack, index);

	/* a client that reports many small blocks must not have us spend a frame on each */
	if (frame->len <= tcp_segment_bytes(flow) || !seq_lt(frame->seq, seq) ||
	    !seq_lt(seq, frame->seq + frame->len) || flow->send_frames >= flow->send_limit_frames ||
	    tcp_pool_below(stack, TCP_CUT_POOL_SHARE))
		return;
	tcp_split_frame(stack, flow, index, seq - frame->seq);
}

static void tcp_frame_sent(struct stack *stack, struct flow *flow, uint32_t index, uint64_t now_ns)
{
	struct frame *frame = stack_frame(stack, index);

	if (frame->tcp_flags & SEND_SENT) {
		stack->counters.segments_retransmitted++;
		flow->retransmitted++;
		frame->tcp_flags |= SEND_RETRANSMITTED;
		if (frame->tcp_flags & SEND_LOST) {
			frame->tcp_flags &= (uint16_t)~SEND_LOST;
			flow->lost_frames--;
			flow->pipe_bytes += frame->len;
		}
	} else {
		frame->tcp_flags |= SEND_SENT;
		flow->pipe_bytes += frame->len;
		flow->snd_nxt = frame->seq + frame->len;
		flow->send_next = frame->next;
	}
	frame->sent_ns = now_ns;
}

bool tcp_send_frame(struct stack *stack, struct flow *flow, uint32_t index, uint64_t now_ns)
{
	struct frame *frame = stack_frame(stack, index);
	uint8_t *payload = frame_data(stack->pool, index) + frame->off;
	uint16_t segment_bytes = tcp_segment_bytes(flow);
	struct build_segment segment;
	uint8_t *start, flags = TCP_ACK;

	/* too long for the port: the client has moved to one that does not cut */
	if (frame->tx_busy ||
	    (frame->len > tcp_packet_bytes(stack, flow) && !tcp_split_frame(stack, flow, index, segment_bytes))) {
		flow_add_work(stack, flow);
		return false;
	}
	/* our FIN, once sent, goes again with the segment before it */
	if (frame->next == FRAME_NONE)
		flags |= flow->fin_sent ? TCP_PSH | TCP_FIN : TCP_PSH;
	segment = tcp_segment(stack, flow, frame->seq, flags, MIN(frame->len, segment_bytes), now_ns);
	start = build_tcp(payload, frame->len, &flow->link, &segment);
	if (tcp_transmit(stack, flow->port, index, start, payload + frame->len,
			 frame->len > segment_bytes ? segment_bytes : 0)) {
		flow_add_work(stack, flow);
		return false;
	}
	flow->packets_to_client++;
	tcp_ack_done(stack, flow);
	tcp_frame_sent(stack, flow, index, now_ns);
	return true;
}

bool tcp_send_fin(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	struct build_segment segment = tcp_segment(stack, flow, flow->snd_queued, TCP_ACK | TCP_FIN, 0, now_ns);

	if (!tcp_transmit_empty(stack, flow, &segment)) {
		flow_add_work(stack, flow);
		return false;
	}
	tcp_ack_done(stack, flow);
	if (flow->fin_sent)
		return true;
	flow->fin_sent = true;
	flow->snd_nxt = flow->snd_queued + 1;
	flow_move(stack, flow, flow->state == FLOW_CLOSE_WAIT ? FLOW_LAST_ACK : FLOW_FIN_WAIT_1);
	return true;
}

/* What the congestion window allows; with nothing in flight, or `at_least_one`, a segment whatever it says. */
static uint32_t tcp_congestion_room(const struct flow *flow, bool at_least_one)
{
	uint32_t room = flow->cwnd_bytes > flow->pipe_bytes ? flow->cwnd_bytes - flow->pipe_bytes : 0;

	return at_least_one || !flow->pipe_bytes ? MAX(room, (uint32_t)tcp_segment_bytes(flow)) : room;
}

/* Frames that are believed lost, in order, as far as the congestion window goes; false: the ring is full. */
static bool tcp_output_lost(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	for (uint32_t i = flow->send_head; flow->lost_frames && i != flow->send_next; i = stack_frame(stack, i)->next) {
		uint32_t room = tcp_congestion_room(flow, flow->retransmit_now);

		if (!(stack_frame(stack, i)->tcp_flags & SEND_LOST))
			continue;
		if (stack_frame(stack, i)->len > room) {
			room -= room % tcp_segment_bytes(flow);
			if (!room)
				return false;
			/* without a frame to cut it, rather too much than nothing */
			tcp_split_frame(stack, flow, i, room);
		}
		if (!tcp_send_frame(stack, flow, i, now_ns))
			return false;
		flow->retransmit_now = false; /* RFC 6675 section 5 step 4.3: the first one only */
	}
	return true;
}

/* How much of the next frame both windows take; 0: nothing worth sending (RFC 1122 4.2.3.4). */
static uint32_t tcp_sendable_bytes(const struct stack *stack, const struct flow *flow, const struct frame *frame)
{
	int32_t usable = (int32_t)(flow->snd_una + flow->snd_wnd - flow->snd_nxt);
	uint32_t window = usable > 0 ? (uint32_t)usable : 0, congestion = tcp_congestion_room(flow, false);
	uint32_t bytes = MIN(frame->len, tcp_packet_bytes(stack, flow)), segment = tcp_segment_bytes(flow);
	uint32_t most = MIN(window, congestion);

	if (most >= bytes)
		return bytes;
	if (most >= segment) {
		/* a small part of what the windows hold waits for the rest: the acknowledgement will come */
		if (flow->pipe_bytes && most < MIN(flow->cwnd_bytes, flow->snd_wnd_max) / TCP_WAIT_SHARE)
			return 0;
		return most - most % segment;
	}
	if (congestion < MIN(bytes, segment))
		return 0;
	return window >= flow->snd_wnd_max / 2 ? window : 0;
}

static void tcp_output_new(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	while (flow->send_next != FRAME_NONE) {
		uint32_t index = flow->send_next;
		struct frame *frame = stack_frame(stack, index);
		uint32_t bytes = tcp_sendable_bytes(stack, flow, frame);

		if (!bytes)
			return;
		/* without a frame to cut it, the timer tries again */
		if (bytes < frame->len && !tcp_split_frame(stack, flow, index, bytes))
			return;
		if (!tcp_send_frame(stack, flow, index, now_ns))
			return;
	}
	if (flow->fin_queued && !flow->fin_sent)
		tcp_send_fin(stack, flow, now_ns);
}

void tcp_output(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (flow->state < FLOW_ESTABLISHED || flow->state == FLOW_TIME_WAIT)
		return;
	if (!flow->lost_frames || tcp_output_lost(stack, flow, now_ns))
		tcp_output_new(stack, flow, now_ns);
	tcp_timer_update(stack, flow, false, now_ns);
}
