/* SPDX-License-Identifier: MIT */
/*
 * Payload from the client. In-order bytes stand in the receive queue until the
 * owner consumes them; what came too early stands in the out-of-order queue,
 * sorted, without overlaps. Small in-order segments are merged into the last
 * frame, so that a client of tiny segments does not occupy a frame for each.
 *
 * Memory: the advertised window bounds bytes, TCP_FRAMES_PER_LIMIT bounds
 * frames per flow, and a pool that runs low stops windows from growing, then
 * drops what is out of order, then everything.
 */
#include "stack_priv.h"

#include <string.h>

#define TCP_MERGE_MIN_BYTES 512 /* so much is merged even into small frames */
#define TCP_MERGE_SHARE 8
/* A flow may hold three times the frames that its buffer would fill, and some. */
#define TCP_FRAMES_SHARE 3
#define TCP_LOW_POOL_SHARE 8     /* below: windows stop growing, nothing out of order is kept */
#define TCP_EMPTY_POOL_SHARE 32  /* below: nothing is kept */
#define TCP_LOW_POOL_SEGMENTS 4  /* the window that is still offered then */
#define TCP_MAX_SEARCH_STEPS 256 /* frames that are looked at to find an out-of-order segment's place */
#define TCP_WINDOW_PERIOD_MIN_NS 200000

bool tcp_pool_below(const struct stack *stack, uint32_t share)
{
	return frame_pool_free(stack->pool) < stack->pool->total / share;
}

uint32_t tcp_merge_bytes(const struct stack *stack)
{
	return MAX(stack->pool->frame_bytes / TCP_MERGE_SHARE, (uint32_t)TCP_MERGE_MIN_BYTES);
}

/* --- SACK blocks to report (RFC 2018 section 4) --- */

static void tcp_sack_remove(struct flow *flow, uint32_t i)
{
	memmove(&flow->sacks[i], &flow->sacks[i + 1], (flow->sack_count - i - 1u) * sizeof(flow->sacks[0]));
	flow->sack_count--;
}

/* The block that holds the newest segment comes first, joined with what it touches. */
static void tcp_sack_add(struct flow *flow, uint32_t start, uint32_t end)
{
	for (uint32_t i = 0; i < flow->sack_count;) {
		struct sack_block *block = &flow->sacks[i];

		if (seq_lt(end, block->start) || seq_lt(block->end, start)) {
			i++;
			continue;
		}
		start = seq_lt(block->start, start) ? block->start : start;
		end = seq_lt(end, block->end) ? block->end : end;
		tcp_sack_remove(flow, i);
	}
	if (flow->sack_count == TCP_SACK_BLOCKS)
		flow->sack_count--;
	memmove(&flow->sacks[1], &flow->sacks[0], flow->sack_count * sizeof(flow->sacks[0]));
	flow->sacks[0] = (struct sack_block){start, end};
	flow->sack_count++;
}

static void tcp_sack_forget_received(struct flow *flow)
{
	for (uint32_t i = 0; i < flow->sack_count;)
		if (seq_leq(flow->sacks[i].end, flow->rcv_nxt))
			tcp_sack_remove(flow, i);
		else
			i++;
}

/* --- queues --- */

static void tcp_trim_front(struct frame *frame, uint32_t bytes)
{
	frame->off = (uint16_t)(frame->off + bytes);
	frame->len = (uint16_t)(frame->len - bytes);
	frame->seq += bytes;
}

/* Copies the payload of one frame behind that of another, if it is not much and has room. */
static bool tcp_merge(struct stack *stack, uint32_t into_index, uint32_t from_index)
{
	const struct frame *from = stack_frame(stack, from_index);
	struct frame *into = stack_frame(stack, into_index);

	if (from->len > tcp_merge_bytes(stack) ||
	    (uint32_t)into->off + into->len + from->len > stack->pool->frame_bytes)
		return false;
	memcpy(frame_data(stack->pool, into_index) + into->off + into->len,
	       frame_data(stack->pool, from_index) + from->off, from->len);
	into->len = (uint16_t)(into->len + from->len);
	return true;
}

/* Appends to the in-order queue; false: the bytes were merged and the frame is not needed. */
static bool tcp_append(struct stack *stack, struct flow *flow, uint32_t index)
{
	struct frame *frame = stack_frame(stack, index);

	flow->rcv_nxt += frame->len;
	flow->receive_bytes += frame->len;
	flow->bytes_from_client += frame->len;
	stack->counters.bytes_from_clients += frame->len;
	if (flow->receive_tail != FRAME_NONE && tcp_merge(stack, flow->receive_tail, index))
		return false;
	frame->next = FRAME_NONE;
	if (flow->receive_tail == FRAME_NONE)
		flow->receive_head = index;
	else
		stack_frame(stack, flow->receive_tail)->next = index;
	flow->receive_tail = index;
	return true;
}

static void tcp_pull_out_of_order(struct stack *stack, struct flow *flow)
{
	while (flow->ooo_head != FRAME_NONE) {
		uint32_t index = flow->ooo_head;
		struct frame *frame = stack_frame(stack, index);

		if (seq_lt(flow->rcv_nxt, frame->seq))
			return;
		flow->ooo_head = frame->next;
		if (flow->ooo_head == FRAME_NONE)
			flow->ooo_tail = FRAME_NONE;
		if (seq_leq(frame->seq + frame->len, flow->rcv_nxt)) {
			flow->held_frames--;
			frame_put(stack->pool, index);
			continue;
		}
		tcp_trim_front(frame, flow->rcv_nxt - frame->seq);
		if (!tcp_append(stack, flow, index)) {
			flow->held_frames--;
			frame_put(stack->pool, index);
		}
	}
}

/*
 * The frame behind which `seq` belongs, FRAME_NONE: the front. What follows in order is found at once, what is sent
 * again belongs near the front; false: it is neither, and a client that aims at the middle does not get our time.
 */
static bool tcp_find_place(struct stack *stack, const struct flow *flow, uint32_t seq, uint32_t *previous)
{
	uint32_t i = flow->ooo_head, steps = 0;

	*previous = flow->ooo_tail;
	if (i == FRAME_NONE || seq_leq(stack_frame(stack, flow->ooo_tail)->seq, seq))
		return true;
	*previous = FRAME_NONE;
	for (; seq_leq(stack_frame(stack, i)->seq, seq); i = stack_frame(stack, i)->next) {
		if (++steps > TCP_MAX_SEARCH_STEPS)
			return false;
		*previous = i;
	}
	return true;
}

/* Cuts off what the neighbours have already; false: nothing new is left. */
static bool tcp_trim_to_gap(struct stack *stack, struct flow *flow, uint32_t previous, struct frame *frame)
{
	uint32_t next = previous == FRAME_NONE ? flow->ooo_head : stack_frame(stack, previous)->next;

	if (previous != FRAME_NONE) {
		const struct frame *before = stack_frame(stack, previous);
		uint32_t end = before->seq + before->len;

		if (seq_leq(frame->seq + frame->len, end))
			return false;
		if (seq_lt(frame->seq, end))
			tcp_trim_front(frame, end - frame->seq);
	}
	if (next != FRAME_NONE && seq_lt(stack_frame(stack, next)->seq, frame->seq + frame->len))
		frame->len = (uint16_t)(stack_frame(stack, next)->seq - frame->seq);
	return frame->len;
}

/* false: the frame is not needed; its bytes are known already, were merged, or are dropped. */
static bool tcp_insert_out_of_order(struct stack *stack, struct flow *flow, uint32_t index)
{
	struct frame *frame = stack_frame(stack, index);
	uint32_t previous;

	if (!tcp_find_place(stack, flow, frame->seq, &previous)) {
		stack->counters.segments_over_budget++;
		return false;
	}
	if (!tcp_trim_to_gap(stack, flow, previous, frame)) {
		stack->counters.segments_duplicate++;
		return false;
	}
	stack->counters.segments_out_of_order++;
	tcp_sack_add(flow, frame->seq, frame->seq + frame->len);
	if (previous != FRAME_NONE &&
	    stack_frame(stack, previous)->seq + stack_frame(stack, previous)->len == frame->seq &&
	    tcp_merge(stack, previous, index))
		return false;
	if (previous == FRAME_NONE) {
		frame->next = flow->ooo_head;
		flow->ooo_head = index;
	} else {
		frame->next = stack_frame(stack, previous)->next;
		stack_frame(stack, previous)->next = index;
	}
	if (frame->next == FRAME_NONE)
		flow->ooo_tail = index;
	return true;
}

/* --- a segment's payload --- */

static bool tcp_may_hold(const struct stack *stack, const struct flow *flow, bool in_order)
{
	uint32_t most = TCP_FRAMES_SHARE * (flow->rcv_limit_bytes / stack->pool->frame_bytes) + TCP_EXTRA_FRAMES;

	/* what is in order may take as much again: it is what sets the out-of-order frames free */
	if (flow->held_frames > (in_order ? 2 * most : most))
		return false;
	return !tcp_pool_below(stack, in_order ? TCP_EMPTY_POOL_SHARE : TCP_LOW_POOL_SHARE);
}

bool tcp_receive_payload(struct stack *stack, struct flow *flow, uint32_t frame_index, bool *delivered)
{
	struct frame *frame = stack_frame(stack, frame_index);
	bool in_order, kept;

	if (seq_lt(frame->seq, flow->rcv_nxt)) {
		if (seq_leq(frame->seq + frame->len, flow->rcv_nxt)) {
			stack->counters.segments_duplicate++;
			return false;
		}
		tcp_trim_front(frame, flow->rcv_nxt - frame->seq);
	}
	if (seq_leq(flow->rcv_adv, frame->seq)) {
		/* behind it: a later frame of a packet that began before; at it: probes of a closed window */
		stack->counters.segments_outside_window += seq_lt(flow->rcv_adv, frame->seq);
		return false;
	}
	if (seq_lt(flow->rcv_adv, frame->seq + frame->len))
		frame->len = (uint16_t)(flow->rcv_adv - frame->seq);
	if (flow->fin_seen && seq_lt(flow->fin_seq, frame->seq + frame->len)) {
		if (seq_leq(flow->fin_seq, frame->seq))
			return false;
		frame->len = (uint16_t)(flow->fin_seq - frame->seq);
	}
	in_order = frame->seq == flow->rcv_nxt;
	if (!tcp_may_hold(stack, flow, in_order)) {
		stack->counters.segments_over_budget++;
		return false;
	}
	frame_set_owner(stack->pool, frame_index, FRAME_FLOW);
	if (in_order) {
		kept = tcp_append(stack, flow, frame_index);
		flow->held_frames += kept;
		tcp_pull_out_of_order(stack, flow);
		tcp_sack_forget_received(flow);
		*delivered = true;
	} else {
		kept = tcp_insert_out_of_order(stack, flow, frame_index);
		flow->held_frames += kept;
	}
	return kept;
}

void tcp_receive_end(struct stack *stack, struct flow *flow)
{
	for (uint32_t i = flow->ooo_head; i != FRAME_NONE; i = stack_frame(stack, i)->next)
		flow->held_frames--;
	flow_put_list(stack, &flow->ooo_head);
	flow->ooo_tail = FRAME_NONE;
	flow->sack_count = 0;
}

/* --- the window --- */

uint32_t tcp_receive_window(const struct stack *stack, struct flow *flow)
{
	uint32_t window = flow->rcv_limit_bytes > flow->receive_bytes ? flow->rcv_limit_bytes - flow->receive_bytes : 0;
	uint32_t unit = flow->use_wscale ? 1u << TCP_OUR_WSCALE : 1, most = 65535u * unit, edge;

	if (tcp_pool_below(stack, TCP_LOW_POOL_SHARE))
		window = MIN(window, TCP_LOW_POOL_SEGMENTS * (uint32_t)flow->mss);
	/* silly window avoidance (RFC 1122 4.2.3.3): nothing rather than less than a segment */
	if (window < MIN((uint32_t)flow->mss, flow->rcv_limit_bytes / 2))
		window = 0;
	edge = flow->rcv_nxt + MIN(window, most);
	/* an edge once advertised is kept (RFC 9293 3.8.6) */
	if (seq_lt(edge, flow->rcv_adv))
		edge = flow->rcv_adv;
	/* in units of the scale, rounded up: less would take back part of what was offered */
	window = (edge - flow->rcv_nxt + unit - 1) / unit * unit;
	window = MIN(window, most);
	if (seq_lt(flow->rcv_adv, flow->rcv_nxt + window))
		flow->rcv_adv = flow->rcv_nxt + window;
	return window;
}

/*
 * The buffer grows when one round trip brings more than half of it, and the owner had to wait for more: the path can
 * use more. While the owner is the slower one, more would only wait, and leave the CPU's caches meanwhile.
 */
static void tcp_grow_buffer(struct stack *stack, struct flow *flow, uint32_t bytes, uint64_t now_ns)
{
	uint64_t period_ns = MAX(flow->srtt_ns, (uint64_t)TCP_WINDOW_PERIOD_MIN_NS);

	flow->window_period_bytes += bytes;
	flow->window_ran_dry |= !flow->receive_bytes;
	if (now_ns - flow->window_period_ns < period_ns)
		return;
	if (flow->window_period_bytes > flow->rcv_limit_bytes / 2 && flow->window_ran_dry &&
	    !tcp_pool_below(stack, TCP_LOW_POOL_SHARE))
		flow->rcv_limit_bytes = MIN(flow->rcv_limit_bytes * 2, stack->settings.receive_window_max_bytes);
	flow->window_period_bytes = 0;
	flow->window_ran_dry = false;
	flow->window_period_ns = now_ns;
}

void tcp_receive_consume(struct stack *stack, struct flow *flow, uint32_t bytes, uint64_t now_ns)
{
	uint32_t left = bytes, offered, possible;

	while (left) {
		uint32_t index = flow->receive_head;
		struct frame *frame = stack_frame(stack, index);

		if (left < frame->len) {
			tcp_trim_front(frame, left);
			break;
		}
		left -= frame->len;
		flow->receive_head = frame->next;
		if (flow->receive_head == FRAME_NONE)
			flow->receive_tail = FRAME_NONE;
		flow->held_frames--;
		frame_put(stack->pool, index);
	}
	flow->receive_bytes -= bytes;
	tcp_grow_buffer(stack, flow, bytes, now_ns);
	if (flow->fin_received)
		return;
	/* a window update when the client may be waiting for it and it is worth a packet */
	offered = flow->rcv_adv - flow->rcv_nxt;
	possible = flow->rcv_limit_bytes - MIN(flow->rcv_limit_bytes, flow->receive_bytes);
	if (offered < flow->rcv_limit_bytes / 2 && possible > offered &&
	    possible - offered >= MIN(2u * flow->mss, flow->rcv_limit_bytes / 2)) {
		flow->ack_now = true;
		flow_add_work(stack, flow);
	}
}
