/* SPDX-License-Identifier: MIT */
#include "stack_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "csum.h"

struct stack *stack_create(const struct stack_settings *settings, struct frame_pool *pool,
			   const struct stack_callbacks *callbacks, uint64_t now_ns)
{
	struct stack *stack = calloc(1, sizeof(*stack));

	if (!stack)
		return NULL;
	stack->settings = *settings;
	stack->callbacks = *callbacks;
	stack->pool = pool;
	wheel_init(&stack->wheel, now_ns);
	if (flow_table_create(stack) || halfopen_create(stack)) {
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
	free(stack);
}

void stack_set_port(struct stack *stack, uint16_t port, const struct stack_port *settings)
{
	assert(port < STACK_MAX_PORTS);
	stack->ports[port] = *settings;
}

/* --- a packet, up to its flow --- */

static bool stack_ipv4_checksum_ok(const uint8_t *packet, const struct packet_view *view)
{
	return view->ip_version != 4 ||
	       csum_fold(csum_partial(packet + view->l3_off, (size_t)view->l4_off - view->l3_off, 0)) == 0;
}

/*
 * A local sender on a virtual device leaves CHECKSUM_PARTIAL: its field holds the folded sum of the pseudo-header,
 * for hardware to finish. Such a packet never was on a wire, so there is nothing to verify.
 */
static bool stack_tcp_checksum_ok(const uint8_t *packet, const struct packet_view *view, bool partial_ok)
{
	const uint8_t *tcp = packet + view->l4_off;
	uint32_t l4_bytes = view->tcp_hdr_len + (uint32_t)view->payload_len;
	uint32_t pseudo = csum_pseudo(&view->src, &view->dst, view->l4_proto, l4_bytes);
	uint16_t field;

	memcpy(&field, tcp + 16, sizeof(field));
	if (partial_ok && field == csum_fold_sum(pseudo))
		return true;
	return csum_fold(csum_partial(tcp, l4_bytes, pseudo)) == 0;
}

/* Multicast, broadcast, loopback, unspecified: neither end of a connection (RFC 9293 3.9.2.3). */
static bool stack_address_ok(const struct addr *a)
{
	if (addr_is_ipv4(a))
		return a->bytes[12] != 0 && a->bytes[12] != 127 && a->bytes[12] < 224;
	return a->bytes[0] != 0xff && (a->words[0] | a->words[1] | a->words[2]) != 0; /* also ::, ::1 and ::a.b.c.d */
}

static enum drop_reason stack_check_packet(const struct stack *stack, uint16_t port, const uint8_t *packet,
					   const struct packet_view *view)
{
	if (view->is_fragment)
		return DROP_FRAGMENT;
	if (!view->ip_version || view->l4_proto != IPPROTO_TCP)
		return DROP_BAD_IP_HDR; /* the XDP program does not send such packets up */
	if (!stack_address_ok(&view->src) || !stack_address_ok(&view->dst) || !view->sport || !view->dport)
		return DROP_BAD_ADDRESS;
	/* an IPv4-mapped address on the wire would be mistaken for IPv4 */
	if (view->ip_version == 6 && (addr_is_ipv4(&view->src) || addr_is_ipv4(&view->dst)))
		return DROP_BAD_ADDRESS;
	if (!stack_ipv4_checksum_ok(packet, view))
		return DROP_IP_CHECKSUM;
	if (!stack_tcp_checksum_ok(packet, view, stack->ports[port].partial_checksum_ok))
		return DROP_TCP_CHECKSUM;
	return DROP_NONE;
}

static void stack_input_stray(struct stack *stack, uint16_t port, const struct packet_view *view, const uint8_t *packet,
			      uint64_t now_ns)
{
	if ((view->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN) {
		tcp_open(stack, port, view, packet, now_ns);
		return;
	}
	stack->counters.no_flow++;
	if (!(view->tcp_flags & TCP_RST))
		tcp_send_reset_to(stack, port, view, packet, now_ns);
}

void stack_input(struct stack *stack, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint64_t now_ns)
{
	uint8_t *packet = frame_data(stack->pool, frame) + off;
	struct packet_view view;
	enum drop_reason reason = packet_parse(packet, packet + len, &view);
	struct flow *flow;

	stack->counters.packets_in++;
	if (!reason)
		reason = stack_check_packet(stack, port, packet, &view);
	if (reason) {
		stack->counters.dropped[reason]++;
		frame_put(stack->pool, frame);
		return;
	}
	flow = flow_lookup(stack, &view);
	if (flow) {
		tcp_input(stack, flow, port, &view, frame, off, now_ns);
		return;
	}
	stack_input_stray(stack, port, &view, packet, now_ns);
	frame_put(stack->pool, frame);
}

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
}

uint64_t stack_next_timer_ns(const struct stack *stack)
{
	return wheel_next_ns(&stack->wheel);
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

uint32_t stack_peek(const struct stack *stack, const struct flow *flow, uint32_t skip_bytes, struct iovec *iov,
		    uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = flow->receive_head; i != FRAME_NONE && count < max; i = stack_frame(stack, i)->next) {
		const struct frame *frame = stack_frame(stack, i);

		if (skip_bytes >= frame->len) {
			skip_bytes -= frame->len;
			continue;
		}
		iov[count++] = (struct iovec){frame_data(stack->pool, i) + frame->off + skip_bytes,
					      (size_t)frame->len - skip_bytes};
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
	return flow->send_limit_bytes > flow->send_queue_bytes ? flow->send_limit_bytes - flow->send_queue_bytes : 0;
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
		.created_ns = flow->created_ns,
		.srtt_us = (uint32_t)(flow->srtt_ns / 1000),
		.cwnd_bytes = flow->cwnd_bytes,
		.receive_queue_bytes = flow->receive_bytes,
		.send_queue_bytes = flow->send_queue_bytes,
		.retransmitted = flow->retransmitted,
	};
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
