/* SPDX-License-Identifier: MIT */
/*
 * What an acknowledgement does to the send side.
 *
 * Loss is found by time, RACK (RFC 8985): a segment is lost when one that was
 * sent later has been delivered and a reordering window has passed; the window
 * is zero once three segments were selectively acknowledged and no reordering
 * has been seen, which is fast retransmit (RFC 6675). Clients without SACK get
 * NewReno (RFC 6582): three duplicate ACKs, then one hole per partial ACK.
 * Congestion control is RFC 5681 with byte counting (RFC 3465).
 */
#include "stack_priv.h"

#include <string.h>

#define TCP_DUP_THRESHOLD 3
#define TCP_INITIAL_WINDOW_SEGMENTS 10 /* RFC 6928 */
#define TCP_SEND_LIMIT_MIN_BYTES (256u << 10)
#define TCP_SEND_LIMIT_LOW_BYTES (32u << 10) /* while the pool is nearly empty */

#define TCP_RTO_MIN_NS 200000000ull /* RFC 6298 says 1 s; 200 ms is what Linux and BSD use */
#define TCP_RTO_MAX_NS 60000000000ull

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_WSCALE 3
#define TCP_OPTION_SACK_PERMITTED 4
#define TCP_OPTION_SACK 5
#define TCP_OPTION_TIMESTAMP 8

static uint32_t tcp_read32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void tcp_option_sack(const uint8_t *value, uint32_t bytes, struct tcp_options *out)
{
	for (; bytes >= 8 && out->sack_count < TCP_SACK_BLOCKS; value += 8, bytes -= 8)
		out->sacks[out->sack_count++] = (struct sack_block){tcp_read32(value), tcp_read32(value + 4)};
}

static void tcp_option(const uint8_t *option, uint32_t bytes, struct tcp_options *out)
{
	if (option[0] == TCP_OPTION_MSS && bytes == 4) {
		out->mss = (uint16_t)(option[2] << 8 | option[3]);
	} else if (option[0] == TCP_OPTION_WSCALE && bytes == 3) {
		out->has_wscale = true;
		out->wscale = option[2] > 14 ? 14 : option[2]; /* RFC 7323 2.3 */
	} else if (option[0] == TCP_OPTION_SACK_PERMITTED && bytes == 2) {
		out->sack_permitted = true;
	} else if (option[0] == TCP_OPTION_SACK) {
		tcp_option_sack(option + 2, bytes - 2, out);
	} else if (option[0] == TCP_OPTION_TIMESTAMP && bytes == 10) {
		out->has_timestamp = true;
		out->ts_value = tcp_read32(option + 2);
		out->ts_echo = tcp_read32(option + 6);
	}
}

bool tcp_options_parse(const uint8_t *options, uint32_t bytes, struct tcp_options *out)
{
	uint32_t pos = 0;

	memset(out, 0, sizeof(*out));
	while (pos < bytes && options[pos] != TCP_OPTION_END) {
		if (options[pos] == TCP_OPTION_NOP) {
			pos++;
			continue;
		}
		if (pos + 1 >= bytes || options[pos + 1] < 2 || pos + options[pos + 1] > bytes)
			return false;
		tcp_option(options + pos, options[pos + 1], out);
		pos += options[pos + 1];
	}
	return true;
}

/* --- round-trip time (RFC 6298 section 2) --- */

void tcp_rtt_sample(struct flow *flow, uint64_t rtt_ns)
{
	uint64_t difference;

	rtt_ns = MAX(rtt_ns, 1000ull); /* within one batch of input; 0 would mean: no sample yet */
	if (!flow->min_rtt_ns || rtt_ns < flow->min_rtt_ns)
		flow->min_rtt_ns = rtt_ns;
	if (!flow->srtt_ns) {
		flow->srtt_ns = rtt_ns;
		flow->rttvar_ns = rtt_ns / 2;
	} else {
		difference = flow->srtt_ns > rtt_ns ? flow->srtt_ns - rtt_ns : rtt_ns - flow->srtt_ns;
		flow->rttvar_ns = (3 * flow->rttvar_ns + difference) / 4;
		flow->srtt_ns = (7 * flow->srtt_ns + rtt_ns) / 8;
	}
	flow->rto_ns = flow->srtt_ns + 4 * flow->rttvar_ns;
	flow->rto_ns = MIN(MAX(flow->rto_ns, TCP_RTO_MIN_NS), TCP_RTO_MAX_NS);
}

/* --- congestion window --- */

static void tcp_cwnd_set(struct stack *stack, struct flow *flow, uint32_t bytes)
{
	uint32_t most = stack->settings.send_queue_max_bytes;

	flow->cwnd_bytes = MIN(bytes, most);
	/* twice the window: one in flight, one ready to follow */
	flow->send_limit_bytes = MIN(MAX(flow->cwnd_bytes * 2ull, (uint64_t)TCP_SEND_LIMIT_MIN_BYTES), (uint64_t)most);
	/* with what is copied together (stack_send()), frames that are at least a third full */
	flow->send_limit_frames = 3 * (flow->send_limit_bytes / stack->pool->frame_bytes) + TCP_EXTRA_FRAMES;
	if (frame_pool_free(stack->pool) < stack->pool->total / 8)
		flow->send_limit_bytes = MIN(flow->send_limit_bytes, TCP_SEND_LIMIT_LOW_BYTES);
	/* a limit that shrinks takes away room that the owner had: it is owed a flow_writable all the same */
	if (!stack_send_room(flow))
		flow->send_blocked = true;
}

void tcp_cwnd_start(struct stack *stack, struct flow *flow)
{
	tcp_cwnd_set(stack, flow, TCP_INITIAL_WINDOW_SEGMENTS * (uint32_t)flow->mss);
	flow->ssthresh_bytes = UINT32_MAX;
}

/* What may stay unused of the window although it is the limit: less than a segment, or what waits to be sent uncut. */
static uint32_t tcp_unused_bytes(const struct stack *stack, const struct flow *flow)
{
	return MAX(flow->mss, MIN(tcp_packet_bytes(stack, flow), flow->cwnd_bytes / TCP_WAIT_SHARE));
}

/* RFC 5681 3.1; only when the window was the limit, else it would grow without having been tried. */
static void tcp_cwnd_grow(struct stack *stack, struct flow *flow, uint32_t acked_bytes, uint32_t flight_bytes)
{
	if (flight_bytes + tcp_unused_bytes(stack, flow) < flow->cwnd_bytes) {
		tcp_cwnd_set(stack, flow, flow->cwnd_bytes); /* the pool may allow more, or less, than before */
		return;
	}
	if (flow->cwnd_bytes < flow->ssthresh_bytes) {
		/* RFC 3465 2.3: after a time-out one ACK may cover much that had arrived before */
		if (flow->after_timeout)
			acked_bytes = MIN(acked_bytes, flow->mss);
		tcp_cwnd_set(stack, flow, flow->cwnd_bytes + acked_bytes);
		return;
	}
	flow->cwnd_acked_bytes += acked_bytes;
	if (flow->cwnd_acked_bytes >= flow->cwnd_bytes) {
		flow->cwnd_acked_bytes -= flow->cwnd_bytes;
		tcp_cwnd_set(stack, flow, flow->cwnd_bytes + flow->mss);
	}
}

void tcp_restart_after_idle(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	uint32_t initial = TCP_INITIAL_WINDOW_SEGMENTS * (uint32_t)flow->mss;

	if (flow->send_head == FRAME_NONE && now_ns - flow->active_ns > flow->rto_ns && flow->cwnd_bytes > initial)
		tcp_cwnd_set(stack, flow, initial);
}

static void tcp_halve(struct flow *flow)
{
	uint32_t flight = flow->snd_nxt - flow->snd_una;

	flow->ssthresh_bytes = MAX(MIN(flight, flow->cwnd_bytes) / 2, 2u * flow->mss);
	flow->recover = flow->snd_nxt;
	flow->cwnd_acked_bytes = 0;
}

void tcp_enter_recovery(struct stack *stack, struct flow *flow)
{
	if (flow->in_recovery || flow->after_timeout)
		return;
	stack->counters.fast_recoveries++;
	tcp_halve(flow);
	flow->in_recovery = flow->retransmit_now = true;
	/* without SACK the three duplicate ACKs stand for segments that have left (RFC 5681 3.2 step 3) */
	tcp_cwnd_set(stack, flow, flow->ssthresh_bytes + (flow->use_sack ? 0 : TCP_DUP_THRESHOLD * flow->mss));
}

static void tcp_mark_lost(struct flow *flow, struct frame *frame)
{
	if (frame->tcp_flags & (SEND_LOST | SEND_SACKED))
		return;
	frame->tcp_flags |= SEND_LOST;
	flow->lost_frames++;
	flow->pipe_bytes -= frame->len;
}

/* A client that timed us out while the first segment stands as received has reneged (RFC 2018 section 8). */
static void tcp_forget_sacks(struct stack *stack, struct flow *flow)
{
	if (flow->send_head == flow->send_next || !(stack_frame(stack, flow->send_head)->tcp_flags & SEND_SACKED))
		return;
	for (uint32_t i = flow->send_head; i != flow->send_next; i = stack_frame(stack, i)->next) {
		struct frame *frame = stack_frame(stack, i);

		if (!(frame->tcp_flags & SEND_SACKED))
			continue;
		frame->tcp_flags &= (uint16_t)~SEND_SACKED;
		flow->sacked_frames--;
		flow->pipe_bytes += frame->len;
	}
}

void tcp_timeout_loss(struct stack *stack, struct flow *flow)
{
	if (!flow->after_timeout)
		tcp_halve(flow);
	tcp_forget_sacks(stack, flow);
	flow->in_recovery = false;
	flow->after_timeout = true;
	flow->recover = flow->snd_nxt;
	flow->dup_acks = 0;
	tcp_cwnd_set(stack, flow, flow->mss);
	for (uint32_t i = flow->send_head; i != flow->send_next; i = stack_frame(stack, i)->next)
		tcp_mark_lost(flow, stack_frame(stack, i));
}

/* --- RACK (RFC 8985) --- */

static void tcp_rack_delivered(struct flow *flow, const struct frame *frame, uint64_t now_ns)
{
	uint64_t rtt_ns = now_ns - frame->sent_ns;
	uint32_t end = frame->seq + frame->len;

	/* 6.2 step 2: an ACK sooner than any round trip answers the original, not the retransmission */
	if ((frame->tcp_flags & SEND_RETRANSMITTED) && rtt_ns < flow->min_rtt_ns)
		return;
	if (frame->sent_ns > flow->rack_sent_ns ||
	    (frame->sent_ns == flow->rack_sent_ns && seq_lt(flow->rack_end_seq, end))) {
		flow->rack_sent_ns = frame->sent_ns;
		flow->rack_end_seq = end;
		flow->rack_rtt_ns = rtt_ns;
	}
	/* above what was delivered before this segment came: else a lost ACK would look like reordering */
	if (!(frame->tcp_flags & SEND_RETRANSMITTED) && seq_lt(end, flow->sack_high_before))
		flow->reordering_seen = true;
}

static uint64_t tcp_reorder_window_ns(const struct flow *flow)
{
	if (!flow->reordering_seen && (flow->in_recovery || flow->sacked_frames >= TCP_DUP_THRESHOLD))
		return 0;
	return MIN(flow->min_rtt_ns / 4, flow->srtt_ns);
}

void tcp_detect_loss(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	uint64_t window_ns = tcp_reorder_window_ns(flow), wake_ns = 0;
	uint32_t lost = flow->lost_frames;

	if (!flow->sacked_frames)
		return;
	for (uint32_t i = flow->send_head; i != flow->send_next; i = stack_frame(stack, i)->next) {
		struct frame *frame = stack_frame(stack, i);
		uint32_t end = frame->seq + frame->len;
		uint64_t due_ns = frame->sent_ns + flow->rack_rtt_ns + window_ns;

		/* nothing above the highest selective acknowledgement was overtaken */
		if (seq_leq(flow->sack_high, frame->seq))
			break;
		if (frame->tcp_flags & (SEND_SACKED | SEND_LOST))
			continue;
		if (frame->sent_ns > flow->rack_sent_ns ||
		    (frame->sent_ns == flow->rack_sent_ns && !seq_lt(end, flow->rack_end_seq)))
			continue;
		if (due_ns <= now_ns || !window_ns)
			tcp_mark_lost(flow, frame);
		else if (due_ns > wake_ns)
			wake_ns = due_ns;
	}
	if (flow->lost_frames > lost)
		tcp_enter_recovery(stack, flow);
	if (wake_ns) {
		flow->rtx_mode = RTX_REORDER;
		tcp_timer_arm(stack, flow, FLOW_TIMER_RETRANSMIT, wake_ns);
	}
}

/* --- the scoreboard --- */

static void tcp_sack_frame(struct flow *flow, struct frame *frame, uint64_t now_ns)
{
	if (frame->tcp_flags & SEND_SACKED)
		return;
	tcp_rack_delivered(flow, frame, now_ns);
	if (frame->tcp_flags & SEND_LOST) {
		frame->tcp_flags &= (uint16_t)~SEND_LOST;
		flow->lost_frames--;
	} else {
		flow->pipe_bytes -= frame->len;
	}
	frame->tcp_flags |= SEND_SACKED;
	flow->sacked_frames++;
}

static void tcp_sacked(struct stack *stack, struct flow *flow, const struct tcp_options *options, uint64_t now_ns)
{
	bool useful = flow->sacked_frames, any = false;

	for (int i = 0; i < options->sack_count; i++) {
		const struct sack_block *block = &options->sacks[i];

		/* a block outside of what is in flight is a lie, or a duplicate report (RFC 2883) */
		if (!seq_lt(block->start, block->end) || seq_lt(block->start, flow->snd_una) ||
		    seq_lt(flow->snd_nxt, block->end))
			continue;
		if (!useful || seq_lt(flow->sack_high, block->end))
			flow->sack_high = block->end;
		useful = any = true;
	}
	if (!any)
		return;
	for (uint32_t f = flow->send_head; f != flow->send_next; f = stack_frame(stack, f)->next) {
		struct frame *frame = stack_frame(stack, f);

		if (seq_leq(flow->sack_high, frame->seq))
			break;
		for (int i = 0; i < options->sack_count && !(frame->tcp_flags & SEND_SACKED); i++) {
			tcp_cut_at(stack, flow, f, options->sacks[i].start);
			tcp_cut_at(stack, flow, f, options->sacks[i].end);
			if (seq_leq(options->sacks[i].start, frame->seq) &&
			    seq_leq(frame->seq + frame->len, options->sacks[i].end))
				tcp_sack_frame(flow, frame, now_ns);
		}
	}
}

static void tcp_count_acknowledged(struct stack *stack, struct flow *flow, const struct frame *frame, uint32_t bytes)
{
	if (!(frame->tcp_flags & (SEND_SACKED | SEND_LOST)))
		flow->pipe_bytes -= bytes;
	flow->send_queue_bytes -= bytes;
	flow->bytes_to_client += bytes;
	stack->counters.bytes_to_clients += bytes;
}

/* The front of the first frame is acknowledged: no more of it needs to be sent again. */
static void tcp_trim_acknowledged(struct stack *stack, struct flow *flow, uint32_t ack)
{
	struct frame *frame;
	uint32_t bytes;

	if (flow->send_head == flow->send_next)
		return;
	frame = stack_frame(stack, flow->send_head);
	if (!seq_lt(frame->seq, ack))
		return;
	bytes = ack - frame->seq;
	tcp_count_acknowledged(stack, flow, frame, bytes);
	frame->seq = ack;
	frame->off = (uint16_t)(frame->off + bytes);
	frame->len = (uint16_t)(frame->len - bytes);
}

/* Frees what is acknowledged; *rtt_ns: a sample that Karn's rule allows, 0: none. */
static void tcp_pop_acknowledged(struct stack *stack, struct flow *flow, uint32_t ack, uint64_t now_ns,
				 uint64_t *rtt_ns)
{
	*rtt_ns = 0;
	while (flow->send_head != flow->send_next) {
		uint32_t index = flow->send_head;
		struct frame *frame = stack_frame(stack, index);

		if (seq_lt(ack, frame->seq + frame->len))
			break;
		tcp_count_acknowledged(stack, flow, frame, frame->len);
		if (frame->tcp_flags & SEND_SACKED) {
			flow->sacked_frames--;
		} else {
			tcp_rack_delivered(flow, frame, now_ns);
			flow->lost_frames -= !!(frame->tcp_flags & SEND_LOST);
			if (!(frame->tcp_flags & SEND_RETRANSMITTED))
				*rtt_ns = now_ns - frame->sent_ns;
		}
		flow->send_head = frame->next;
		if (flow->send_head == FRAME_NONE)
			flow->send_tail = FRAME_NONE;
		flow->send_frames--;
		frame_put(stack->pool, index);
	}
	tcp_trim_acknowledged(stack, flow, ack);
}

static void tcp_recovery_progress(struct stack *stack, struct flow *flow, uint32_t acked_bytes)
{
	if (!seq_lt(flow->snd_una, flow->recover)) {
		if (flow->in_recovery)
			tcp_cwnd_set(stack, flow, flow->ssthresh_bytes);
		flow->in_recovery = flow->after_timeout = false;
	} else if (flow->in_recovery && !flow->use_sack && flow->send_head != flow->send_next) {
		/* RFC 6582 3.2 step 3: a partial ACK shows the next hole; the window is deflated by what has left */
		tcp_cwnd_set(stack, flow, flow->cwnd_bytes - MIN(acked_bytes, flow->cwnd_bytes) + flow->mss);
		flow->retransmit_now = true;
		tcp_cut_to_segment(stack, flow, flow->send_head);
		tcp_mark_lost(flow, stack_frame(stack, flow->send_head));
	}
}

static void tcp_new_ack(struct stack *stack, struct flow *flow, uint32_t ack, uint64_t now_ns)
{
	uint32_t acked = ack - flow->snd_una, flight = flow->snd_nxt - flow->snd_una;
	uint64_t rtt_ns;

	tcp_pop_acknowledged(stack, flow, ack, now_ns, &rtt_ns);
	flow->snd_una = ack;
	if (flow->fin_sent && ack == flow->snd_queued + 1)
		flow->fin_acked = true;
	if (rtt_ns)
		tcp_rtt_sample(flow, rtt_ns);
	flow->dup_acks = 0;
	flow->rtx_count = 0;
	flow->probe_outstanding = false;
	if (flow->in_recovery || flow->after_timeout)
		tcp_recovery_progress(stack, flow, acked);
	else if (seq_lt(flow->recover, ack))
		flow->recover = ack - 1; /* follows, so that it is never half the sequence space behind */
	if (!flow->in_recovery)
		tcp_cwnd_grow(stack, flow, acked, flight);
	tcp_timer_update(stack, flow, true, now_ns);
}

/* RFC 5681 section 2: what counts as a duplicate. Only clients without SACK are counted. */
static void tcp_duplicate_ack(struct stack *stack, struct flow *flow)
{
	if (flow->use_sack || flow->send_head == flow->send_next)
		return;
	if (flow->dup_acks < UINT8_MAX)
		flow->dup_acks++;
	/* RFC 6582 3.2 step 2: below `recover` duplicates answer what was sent twice, they tell no new loss */
	if (flow->dup_acks == TCP_DUP_THRESHOLD && !flow->in_recovery && !flow->after_timeout &&
	    seq_lt(flow->recover, flow->snd_una)) {
		tcp_enter_recovery(stack, flow);
		tcp_cut_to_segment(stack, flow, flow->send_head);
		tcp_mark_lost(flow, stack_frame(stack, flow->send_head));
	} else if (flow->dup_acks > TCP_DUP_THRESHOLD && flow->in_recovery) {
		/* a segment has left the network (RFC 6582 3.2 step 3) */
		tcp_cwnd_set(stack, flow, flow->cwnd_bytes + flow->mss);
	}
}

/* What was sent into the closed window, probes above all, was not taken. */
static void tcp_window_opened(struct stack *stack, struct flow *flow)
{
	for (uint32_t i = flow->send_head; i != flow->send_next; i = stack_frame(stack, i)->next)
		tcp_mark_lost(flow, stack_frame(stack, i));
}

static void tcp_update_send_window(struct flow *flow, const struct packet_view *view)
{
	/* RFC 9293 3.10.7.4: only from a newer segment with a current ACK */
	if (seq_lt(view->ack, flow->snd_una))
		return;
	if (!seq_lt(flow->snd_wl1, view->seq) && !(flow->snd_wl1 == view->seq && seq_leq(flow->snd_wl2, view->ack)))
		return;
	flow->snd_wnd = (uint32_t)view->window << flow->snd_wscale;
	flow->snd_wnd_max = MAX(flow->snd_wnd_max, flow->snd_wnd);
	flow->snd_wl1 = view->seq;
	flow->snd_wl2 = view->ack;
}

void tcp_acknowledged(struct stack *stack, struct flow *flow, const struct packet_view *view,
		      const struct tcp_options *options, uint64_t now_ns)
{
	uint32_t window = flow->snd_wnd;

	flow->sack_high_before = flow->sacked_frames ? flow->sack_high : flow->snd_una;
	if (flow->use_sack && options->sack_count)
		tcp_sacked(stack, flow, options, now_ns);
	tcp_update_send_window(flow, view);
	if (seq_lt(flow->snd_una, view->ack))
		tcp_new_ack(stack, flow, view->ack, now_ns);
	else if (view->ack == flow->snd_una && !view->payload_len && flow->snd_wnd == window)
		tcp_duplicate_ack(stack, flow);
	else if (!window && flow->snd_wnd && view->ack == flow->snd_una)
		tcp_window_opened(stack, flow);
	/* a client that answers probes of its closed window is alive (RFC 1122 4.2.2.17) */
	if (flow->rtx_mode == RTX_PERSIST)
		flow->rtx_count = MIN(flow->rtx_count, (uint8_t)6);
	tcp_detect_loss(stack, flow, now_ns);
}
