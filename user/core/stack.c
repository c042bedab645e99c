/* SPDX-License-Identifier: MIT */
#include "stack_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reassembly.h"

/* Datagrams in fragments at once, their share of all frames, and how long they are waited for (RFC 1122 3.3.2: 60 s at
 * least; Linux 30). */
#define STACK_REASSEMBLIES 1024
#define STACK_REASSEMBLY_SHARE 8
#define STACK_REASSEMBLY_NS 30000000000ull
/* stack_send_room() tells of no less than this part of the limit. */
#define STACK_ROOM_SHARE 8

struct stack *stack_create(const struct stack_settings *settings, struct frame_pool *pool,
			   const struct stack_callbacks *callbacks, uint64_t now_ns)
{
	struct stack *stack = calloc(1, sizeof(*stack));
	uint64_t secret;

	if (!stack)
		return NULL;
	stack->settings = *settings;
	stack->callbacks = *callbacks;
	stack->pool = pool;
	wheel_init(&stack->wheel, now_ns);
	memcpy(&secret, settings->secret, sizeof(secret));
	stack->fragment_id = (uint32_t)(secret >> 32);
	stack->reassembly = reassembly_create(STACK_REASSEMBLIES, pool->total / STACK_REASSEMBLY_SHARE,
					      STACK_REASSEMBLY_NS, secret, pool);
	if (!stack->reassembly || flow_table_create(stack) || halfopen_create(stack)) {
		stack_destroy(stack);
		errno = ENOMEM;
		return NULL;
	}
	return stack;
}

void stack_destroy(struct stack *stack)
{
	flow_table_destroy(stack);
	halfopen_destroy(stack);
	reassembly_destroy(stack->reassembly);
	free(stack);
}

void stack_set_limits(struct stack *stack, const struct stack_limits *limits)
{
	stack->settings.half_open = limits->half_open;
	stack->settings.half_open_per_source = limits->half_open_per_source;
	stack->settings.handshake_timeout_ns = limits->handshake_timeout_ns;
	stack->settings.idle_timeout_ns = limits->idle_timeout_ns;
	stack->settings.time_wait_ns = limits->time_wait_ns;
}

void stack_set_port(struct stack *stack, uint16_t port, const struct stack_port *settings)
{
	assert(port < STACK_MAX_PORTS);
	stack->ports[port] = *settings;
}

uint16_t stack_port_mtu(const struct stack *stack, uint16_t port)
{
	return stack->ports[port].mtu;
}

/* --- after a batch, and by time --- */

static void stack_flush_flow(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (flow->state == FLOW_SYN_RECEIVED) {
		if (flow->ack_now)
			tcp_send_synack(stack, flow, now_ns);
		return;
	}
	tcp_output(stack, flow, now_ns);
	if (flow->ack_now)
		tcp_send_ack(stack, flow, now_ns);
}

void stack_flush(struct stack *stack, uint64_t now_ns)
{
	/* one pass: who must wait for the ring is appended again */
	for (uint32_t left = stack->work.count; left && stack->work.head != FLOW_NONE; left--) {
		struct flow *flow = &stack->flows[stack->work.head];

		flow_remove_work(stack, flow);
		stack_flush_flow(stack, flow, now_ns);
	}
}

void stack_run_timers(struct stack *stack, uint64_t now_ns)
{
	wheel_expire(&stack->wheel, now_ns, tcp_timer_expired, stack);
	reassembly_expire(stack->reassembly, now_ns);
}

uint64_t stack_next_timer_ns(const struct stack *stack)
{
	uint64_t flows = wheel_next_ns(&stack->wheel), fragments = reassembly_next_ns(stack->reassembly);

	return MIN(flows, fragments);
}

/* --- the owner's half --- */

void stack_accept(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (flow->state != FLOW_HELD)
		return;
	flow_move(stack, flow, FLOW_SYN_RECEIVED);
	halfopen_progress(stack, flow);
	tcp_timer_arm(stack, flow, FLOW_TIMER_LIFE, now_ns + stack->settings.handshake_timeout_ns);
	tcp_send_synack(stack, flow, now_ns);
}

void stack_refuse(struct stack *stack, struct flow *flow, enum flow_refusal how, uint64_t now_ns)
{
	assert(flow->state == FLOW_HELD);
	if (how == REFUSE_RESET)
		tcp_send_reset(stack, flow);
	else if (how != REFUSE_SILENTLY)
		icmp_send_refusal(stack, flow, how, now_ns);
	stack->counters.flows_refused++;
	flow->owner_knows = false;
	flow_release(stack, flow);
}

void stack_flow_syn(const struct stack *stack, const struct flow *flow, struct stack_syn *out)
{
	(void)stack;
	assert(flow->state == FLOW_HELD);
	*out = (struct stack_syn){
		.link = flow->link,
		.port = flow->port,
		.isn = flow->irs,
		.ts_value = flow->ts_recent,
		.mss = flow->syn_mss,
		.window = (uint16_t)flow->snd_wnd,
		.wscale = flow->snd_wscale,
		.has_wscale = flow->use_wscale,
		.has_timestamp = flow->use_timestamps,
		.sack_permitted = flow->use_sack,
		.has_ip_options = flow->syn_has_ip_options,
		.ecn = flow->syn_ecn,
	};
}

void stack_hand_over(struct stack *stack, struct flow *flow)
{
	assert(flow->state == FLOW_HELD);
	stack->counters.flows_handed_over++;
	flow->owner_knows = false;
	flow_release(stack, flow);
}

uint32_t stack_peek(const struct stack *stack, const struct flow *flow, uint32_t skip_bytes, struct iovec *iov,
		    uint32_t max_bytes, uint32_t max)
{
	uint32_t count = 0, bytes = 0;

	for (uint32_t i = flow->receive_head; i != FRAME_NONE && count < max && bytes < max_bytes;
	     i = stack_frame(stack, i)->next) {
		const struct frame *frame = stack_frame(stack, i);

		if (skip_bytes >= frame->len) {
			skip_bytes -= frame->len;
			continue;
		}
		iov[count++] = (struct iovec){frame_data(stack->pool, i) + frame->off + skip_bytes,
					      (size_t)frame->len - skip_bytes};
		bytes += frame->len - skip_bytes;
		skip_bytes = 0;
	}
	return count;
}

uint32_t stack_readable_bytes(const struct flow *flow)
{
	return flow->receive_bytes;
}

bool stack_read_finished(const struct flow *flow)
{
	return flow->fin_received;
}

void stack_consume(struct stack *stack, struct flow *flow, uint32_t bytes, uint64_t now_ns)
{
	assert(bytes <= flow->receive_bytes);
	tcp_receive_consume(stack, flow, bytes, now_ns);
}

uint32_t stack_take_receive_queue(struct stack *stack, struct flow *flow)
{
	uint32_t head = flow->receive_head;

	for (uint32_t i = head; i != FRAME_NONE; i = stack_frame(stack, i)->next)
		flow->held_frames--;
	flow->receive_head = flow->receive_tail = FRAME_NONE;
	flow->receive_bytes = 0;
	return head;
}

uint32_t stack_send_room(const struct flow *flow)
{
	uint32_t limit = flow->send_limit_bytes;

	/* what is worth a system call, or nothing */
	if (flow->send_queue_bytes > limit - limit / STACK_ROOM_SHARE || flow->send_frames >= flow->send_limit_frames)
		return 0;
	return limit - flow->send_queue_bytes;
}

uint16_t stack_send_segment_bytes(const struct flow *flow)
{
	return tcp_segment_bytes(flow);
}

static void stack_enqueue(struct stack *stack, struct flow *flow, uint32_t index)
{
	struct frame *frame = stack_frame(stack, index);

	frame->seq = flow->snd_queued;
	frame->next = FRAME_NONE;
	frame->tcp_flags = 0;
	if (flow->send_tail == FRAME_NONE)
		flow->send_head = index;
	else
		stack_frame(stack, flow->send_tail)->next = index;
	flow->send_tail = index;
	if (flow->send_next == FRAME_NONE)
		flow->send_next = index;
	flow->snd_queued += frame->len;
	flow->send_queue_bytes += frame->len;
	flow->send_frames++;
}

/* Copies a little behind the last frame, if that waits; the frame is not needed then. */
static bool stack_send_merge(struct stack *stack, struct flow *flow, const uint8_t *bytes, uint16_t len)
{
	struct frame *tail;
	uint32_t room;

	/* while nothing waits, the last frame was sent */
	if (flow->send_next == FRAME_NONE || len > tcp_merge_bytes(stack))
		return false;
	tail = stack_frame(stack, flow->send_tail);
	room = MIN(stack->pool->frame_bytes - tail->off, tcp_packet_bytes(stack, flow));
	if ((uint32_t)tail->len + len > room)
		return false;
	memcpy(frame_data(stack->pool, flow->send_tail) + tail->off + tail->len, bytes, len);
	tail->len = (uint16_t)(tail->len + len);
	flow->snd_queued += len;
	flow->send_queue_bytes += len;
	return true;
}

void stack_send(struct stack *stack, struct flow *flow, uint32_t frame_index, uint16_t off, uint16_t len,
		uint64_t now_ns)
{
	struct frame *frame = stack_frame(stack, frame_index);

	assert(!flow->fin_queued && off >= BUILD_MAX_HEADER_BYTES);
	if (!len) {
		frame_put(stack->pool, frame_index);
		return;
	}
	if (frame->owner != FRAME_FLOW)
		frame_set_owner(stack->pool, frame_index, FRAME_FLOW);
	frame->off = off;
	frame->len = len;
	tcp_restart_after_idle(stack, flow, now_ns);
	if (stack_send_merge(stack, flow, frame_data(stack->pool, frame_index) + off, len))
		frame_put(stack->pool, frame_index);
	else
		stack_enqueue(stack, flow, frame_index);
	if (!stack_send_room(flow))
		flow->send_blocked = true;
	flow_add_work(stack, flow);
}

void stack_shutdown(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	(void)now_ns;
	flow->fin_queued = true;
	flow_add_work(stack, flow);
}

void stack_abort(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	(void)now_ns;
	if (!flow->owner_knows)
		return;
	tcp_send_reset(stack, flow);
	flow_end(stack, flow, FLOW_END_ABORTED);
}

/* --- looking at it --- */

uint32_t stack_flow_index(const struct stack *stack, const struct flow *flow)
{
	return flow_index(stack, flow);
}

uint16_t stack_flow_generation(const struct flow *flow)
{
	return flow->generation;
}

struct flow *stack_flow_at(struct stack *stack, uint32_t index)
{
	if (index >= stack->flow_used || stack->flows[index].state == FLOW_CLOSED)
		return NULL;
	return &stack->flows[index];
}

void stack_flow_describe(const struct stack *stack, const struct flow *flow, struct flow_info *out)
{
	(void)stack;
	*out = (struct flow_info){
		.client = flow->link.dst,
		.destination = flow->link.src,
		.state = flow_state_name((enum flow_state)flow->state),
		.bytes_from_client = flow->bytes_from_client,
		.bytes_to_client = flow->bytes_to_client,
		.packets_from_client = flow->packets_from_client,
		.packets_to_client = flow->packets_to_client,
		.created_ns = flow->created_ns,
		.srtt_us = (uint32_t)(flow->srtt_ns / 1000),
		.cwnd_bytes = flow->cwnd_bytes,
		.receive_queue_bytes = flow->receive_bytes,
		.send_queue_bytes = flow->send_queue_bytes,
		.retransmitted = flow->retransmitted,
	};
	memcpy(out->client_mac, flow->link.dst_mac, sizeof(out->client_mac));
}

const struct reassembly_counters *stack_reassembly_counters(const struct stack *stack)
{
	return reassembly_counters(stack->reassembly);
}

const struct stack_counters *stack_counters(const struct stack *stack)
{
	return &stack->counters;
}

void stack_gauges(const struct stack *stack, struct stack_gauges *out)
{
	out->flows = stack->flow_count;
	out->half_open = stack->half_open.count;
	out->time_wait = stack->time_wait.count;
	out->established = out->flows - out->half_open - out->time_wait;
}
