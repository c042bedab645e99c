/* SPDX-License-Identifier: MIT */
/* Every invariant of the stack's bookkeeping, for tests: linear in everything, never called by the daemon. */
#include "stack_priv.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "stack_check: %s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static uint32_t check_send_queue(const struct stack *stack, const struct flow *flow)
{
	uint32_t frames = 0, bytes = 0, lost = 0, sacked = 0, pipe = 0, seq = 0;
	bool sent = true;

	for (uint32_t i = flow->send_head; i != FRAME_NONE; i = stack_frame(stack, i)->next) {
		const struct frame *frame = stack_frame(stack, i);

		CHECK(frame->owner == FRAME_FLOW);
		CHECK(!frames || frame->seq == seq);
		seq = frame->seq + frame->len;
		sent = sent && i != flow->send_next;
		CHECK(sent == !!(frame->tcp_flags & SEND_SENT));
		bytes += frame->len;
		lost += !!(frame->tcp_flags & SEND_LOST);
		sacked += !!(frame->tcp_flags & SEND_SACKED);
		if (sent && !(frame->tcp_flags & (SEND_LOST | SEND_SACKED)))
			pipe += frame->len;
		CHECK(i != flow->send_tail || frame->next == FRAME_NONE);
		frames++;
	}
	CHECK(bytes == flow->send_queue_bytes && frames == flow->send_frames);
	CHECK(lost == flow->lost_frames && sacked == flow->sacked_frames && pipe == flow->pipe_bytes);
	CHECK(!frames || seq == flow->snd_queued);
	CHECK((flow->send_head == FRAME_NONE) == (flow->send_tail == FRAME_NONE));
	return frames;
}

static uint32_t check_receive_queues(const struct stack *stack, const struct flow *flow)
{
	uint32_t frames = 0, bytes = 0, end = flow->rcv_nxt;

	for (uint32_t i = flow->receive_head; i != FRAME_NONE; i = stack_frame(stack, i)->next) {
		CHECK(stack_frame(stack, i)->owner == FRAME_FLOW && stack_frame(stack, i)->len);
		bytes += stack_frame(stack, i)->len;
		frames++;
	}
	CHECK(bytes == flow->receive_bytes);
	for (uint32_t i = flow->ooo_head; i != FRAME_NONE; i = stack_frame(stack, i)->next) {
		const struct frame *frame = stack_frame(stack, i);

		CHECK(frame->len && seq_leq(end, frame->seq) && frame->seq != flow->rcv_nxt);
		end = frame->seq + frame->len;
		CHECK(i != flow->ooo_tail || frame->next == FRAME_NONE);
		frames++;
	}
	CHECK(frames == flow->held_frames);
	return frames;
}

static void check_flow(const struct stack *stack, const struct flow *flow, uint32_t *frames)
{
	*frames += check_send_queue(stack, flow);
	*frames += check_receive_queues(stack, flow);
	CHECK(seq_leq(flow->snd_una, flow->snd_nxt));
	CHECK(seq_leq(flow->snd_nxt, flow->snd_queued + flow->fin_sent));
	CHECK(flow->half_open == (flow->state == FLOW_HELD || flow->state == FLOW_SYN_RECEIVED));
	CHECK(flow->sack_count <= TCP_SACK_BLOCKS);
}

void stack_check(const struct stack *stack)
{
	uint32_t flows = 0, half_open = 0, time_wait = 0, frames = 0, sources = 0, owned = 0;

	for (uint32_t i = 0; i < stack->flow_used; i++) {
		const struct flow *flow = &stack->flows[i];

		if (flow->state == FLOW_CLOSED)
			continue;
		flows++;
		half_open += flow->half_open;
		time_wait += flow->state == FLOW_TIME_WAIT;
		check_flow(stack, flow, &frames);
	}
	CHECK(flows == stack->flow_count);
	CHECK(half_open == stack->half_open.count && time_wait == stack->time_wait.count);
	for (uint32_t b = 0; b <= stack->source_mask; b++)
		for (uint32_t i = stack->source_buckets[b]; i != FLOW_NONE; i = stack->sources[i].hash_next)
			sources += stack->sources[i].count;
	CHECK(sources == half_open);
	for (uint32_t i = 0; i < stack->pool->total; i++)
		owned += stack->pool->frames[i].owner == FRAME_FLOW;
	CHECK(frames <= owned);
	for (int i = 0, sum = 0; i < FRAME_OWNER_COUNT; i++) {
		sum += (int)stack->pool->owned[i];
		CHECK(i + 1 < FRAME_OWNER_COUNT || sum == (int)stack->pool->total);
	}
}
