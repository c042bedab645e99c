/* SPDX-License-Identifier: MIT */
/*
 * What time does to a flow. One timer serves everything that sends again,
 * in one of the modes of enum tcp_rtx_mode: retransmission time-out (RFC
 * 6298), tail loss probe and reordering (RFC 8985), zero-window probe (RFC
 * 9293 3.8.6.1). A second one delays ACKs; a third ends flows: handshakes that
 * are not completed, idle ones, TIME_WAIT.
 */
#include "stack_priv.h"

#include <stddef.h>

#define TCP_RTO_LIMIT_NS 60000000000ull
/* 200 ms doubling 10 times is over three minutes; RFC 9293 3.8.3 asks for 100 s at least. */
#define TCP_MAX_RETRANSMISSIONS 10
#define TCP_PROBE_MIN_NS 10000000ull
/* A lone segment's ACK may be delayed at the client. */
#define TCP_PEER_ACK_DELAY_NS 50000000ull

void tcp_timer_arm(struct stack *stack, struct flow *flow, enum flow_timer which, uint64_t when_ns)
{
	flow->timers[which].kind = which;
	wheel_arm(&stack->wheel, &flow->timers[which], when_ns);
}

void tcp_timer_cancel(struct stack *stack, struct flow *flow, enum flow_timer which)
{
	wheel_cancel(&stack->wheel, &flow->timers[which]);
}

static uint64_t tcp_backed_off_ns(const struct flow *flow)
{
	uint64_t rto_ns = flow->rto_ns << MIN(flow->rtx_count, (uint8_t)12);

	return MIN(rto_ns, TCP_RTO_LIMIT_NS);
}

static bool tcp_wants_probe(const struct flow *flow)
{
	return flow->use_sack && !flow->in_recovery && !flow->after_timeout && !flow->probe_outstanding &&
	       !flow->rtx_count && flow->srtt_ns && flow->send_head != flow->send_next;
}

void tcp_timer_update(struct stack *stack, struct flow *flow, bool restart, uint64_t now_ns)
{
	bool outstanding = flow->snd_una != flow->snd_nxt;
	bool waiting = flow->send_next != FRAME_NONE, closed;
	uint64_t delay_ns = tcp_backed_off_ns(flow);

	if (!outstanding && !waiting) {
		flow->rtx_mode = RTX_OFF;
		tcp_timer_cancel(stack, flow, FLOW_TIMER_RETRANSMIT);
		return;
	}
	closed = !flow->snd_wnd || !outstanding;
	if (!restart && flow->rtx_mode != RTX_OFF && closed == (flow->rtx_mode == RTX_PERSIST))
		return;
	if (closed) {
		flow->rtx_mode = RTX_PERSIST;
	} else if (tcp_wants_probe(flow)) {
		uint64_t probe_ns = MAX(2 * flow->srtt_ns, TCP_PROBE_MIN_NS);

		if (flow->pipe_bytes <= flow->mss)
			probe_ns += TCP_PEER_ACK_DELAY_NS;
		flow->rtx_mode = probe_ns < delay_ns ? RTX_PROBE : RTX_RTO;
		delay_ns = MIN(probe_ns, delay_ns);
	} else {
		flow->rtx_mode = RTX_RTO;
	}
	tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, now_ns + delay_ns);
}

/* One more try of whatever gets no answer; false: that was the last, the flow is gone. */
static bool tcp_count_try(struct stack *stack, struct flow *flow)
{
	if (++flow->rtx_count <= TCP_MAX_RETRANSMISSIONS)
		return true;
	tcp_send_reset(stack, flow);
	flow_end(stack, flow, FLOW_END_TIMED_OUT);
	return false;
}

static void tcp_synack_again(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	/* the end of the handshake is the life timer's */
	flow->rtx_count++;
	stack->counters.segments_retransmitted++;
	tcp_send_synack(stack, flow, now_ns);
}

static void tcp_retransmission_timeout(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (!tcp_count_try(stack, flow))
		return;
	stack->counters.retransmission_timeouts++;
	flow->probe_outstanding = false;
	tcp_timeout_loss(stack, flow);
	flow->rtx_mode = RTX_OFF;
	if (flow->send_head == flow->send_next && flow->fin_sent) {
		stack->counters.segments_retransmitted++;
		tcp_send_fin(stack, flow, now_ns);
	}
	tcp_output(stack, flow, now_ns);
	tcp_timer_update(stack, flow, false, now_ns);
}

/* RFC 8985 7.3: new data if there is some, else the last segment again. */
static void tcp_tail_probe(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	uint32_t last = flow->send_head;

	if (last == flow->send_next)
		return;
	while (stack_frame(stack, last)->next != flow->send_next)
		last = stack_frame(stack, last)->next;
	if (stack_frame(stack, last)->len > tcp_segment_bytes(flow) &&
	    tcp_split_frame(stack, flow, last, stack_frame(stack, last)->len - tcp_segment_bytes(flow)))
		last = stack_frame(stack, last)->next;
	flow->probe_outstanding = true;
	if (!(stack_frame(stack, last)->tcp_flags & (SEND_SACKED | SEND_LOST)))
		tcp_send_frame(stack, flow, last, now_ns);
	flow->rtx_mode = RTX_RTO;
	tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, now_ns + tcp_backed_off_ns(flow));
}

/* A byte beyond the closed window; also what overrides silly-window avoidance of the sender (RFC 1122 4.2.3.4). */
static void tcp_window_probe(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	uint32_t usable = flow->snd_una + flow->snd_wnd - flow->snd_nxt;
	uint32_t index = flow->send_next;

	usable = (int32_t)usable < 1 ? 1 : MIN(usable, (uint32_t)tcp_segment_bytes(flow));
	/* a probe that could not leave is no try that the client did not answer */
	if (stack_frame(stack, index)->len <= usable || tcp_split_frame(stack, flow, index, (uint16_t)usable)) {
		if (!tcp_count_try(stack, flow))
			return;
		if (tcp_send_frame(stack, flow, index, now_ns))
			stack->counters.zero_window_probes++;
	}
	flow->rtx_mode = RTX_PERSIST;
	tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, now_ns + tcp_backed_off_ns(flow));
}

static void tcp_persist(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	if (flow->send_head == flow->send_next && flow->send_next != FRAME_NONE) {
		tcp_window_probe(stack, flow, now_ns);
		return;
	}
	/* the probe of before has not been taken yet: the same byte again */
	if (!tcp_count_try(stack, flow))
		return;
	stack->counters.zero_window_probes++;
	if (flow->send_head != FRAME_NONE) {
		tcp_cut_to_segment(stack, flow, flow->send_head);
		tcp_send_frame(stack, flow, flow->send_head, now_ns);
	} else {
		tcp_send_fin(stack, flow, now_ns);
	}
	flow->rtx_mode = RTX_PERSIST;
	tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, now_ns + tcp_backed_off_ns(flow));
}

static void tcp_retransmit_timer(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	enum tcp_rtx_mode mode = flow->rtx_mode;

	if (flow->state == FLOW_SYN_RECEIVED) {
		tcp_synack_again(stack, flow, now_ns);
		return;
	}
	switch (mode) {
	case RTX_RTO:
		tcp_retransmission_timeout(stack, flow, now_ns);
		break;
	case RTX_PROBE:
		tcp_tail_probe(stack, flow, now_ns);
		break;
	case RTX_REORDER:
		flow->rtx_mode = RTX_OFF;
		tcp_detect_loss(stack, flow, now_ns);
		tcp_output(stack, flow, now_ns);
		tcp_timer_update(stack, flow, false, now_ns);
		break;
	case RTX_PERSIST:
		tcp_persist(stack, flow, now_ns);
		break;
	case RTX_OFF:
		break;
	}
}

static void tcp_life_timer(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	uint64_t idle_until_ns = flow->active_ns + stack->settings.idle_timeout_ns;

	switch (flow->state) {
	case FLOW_TIME_WAIT:
		flow_release(stack, flow);
		return;
	case FLOW_SYN_RECEIVED:
		flow_end(stack, flow, FLOW_END_TIMED_OUT);
		return;
	default:
		break;
	}
	/* activity only moves active_ns; the timer catches up here */
	if (idle_until_ns > now_ns) {
		tcp_timer_arm(stack, flow, FLOW_TIMER_LIFE, idle_until_ns);
		return;
	}
	tcp_send_reset(stack, flow);
	flow_end(stack, flow, FLOW_END_IDLE);
}

void tcp_timer_expired(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct stack *stack = ctx;
	struct flow *flow;

	flow = (struct flow *)((char *)(timer - timer->kind) - offsetof(struct flow, timers));
	switch (timer->kind) {
	case FLOW_TIMER_RETRANSMIT:
		tcp_retransmit_timer(stack, flow, now_ns);
		break;
	case FLOW_TIMER_ACK:
		tcp_send_ack(stack, flow, now_ns);
		break;
	default:
		tcp_life_timer(stack, flow, now_ns);
		break;
	}
}
