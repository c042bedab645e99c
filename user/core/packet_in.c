/* SPDX-License-Identifier: MIT */
/*
 * A packet up to its flow: parsed, checked, and its frames cut down to the
 * payload that they hold. A packet in one frame is a chain of one. All frames
 * stay in the segment's list until somebody keeps them; whatever happens, what
 * is left there in the end is put back, each once.
 */
#include "stack_priv.h"

#include <string.h>

#include "csum.h"

bool packet_ipv4_checksum_ok(const struct tcp_segment *segment)
{
	const struct packet_view *view = &segment->view;

	return view->ip_version != 4 ||
	       csum_fold(csum_partial(segment->eth + view->l3_off, (size_t)view->l4_off - view->l3_off, 0)) == 0;
}

/*
 * A local sender on a virtual device leaves CHECKSUM_PARTIAL: its field holds the folded sum of the pseudo-header,
 * for hardware to finish. Such a packet never was on a wire, so there is nothing to verify.
 */
static bool packet_tcp_checksum_ok(const struct stack *stack, const struct tcp_segment *segment)
{
	const struct packet_view *view = &segment->view;
	const struct frame *frame = stack_frame(stack, segment->frames);
	const uint8_t *tcp = segment->eth + view->l4_off;
	uint32_t summed = view->tcp_hdr_len + (uint32_t)frame->len;
	uint32_t sum = csum_pseudo(&view->src, &view->dst, view->l4_proto, view->tcp_hdr_len + view->payload_len);
	uint16_t field;

	memcpy(&field, tcp + 16, sizeof(field));
	if (frame->next == FRAME_NONE && stack->ports[segment->port].partial_checksum_ok && field == csum_fold_sum(sum))
		return true;
	sum = csum_partial(tcp, summed, sum);
	for (uint32_t i = frame->next; i != FRAME_NONE; i = frame->next) {
		frame = stack_frame(stack, i);
		sum = csum_partial_at(frame_data(stack->pool, i) + frame->off, frame->len, sum, summed);
		summed += frame->len;
	}
	return csum_fold(sum) == 0;
}

/* Multicast, broadcast, loopback, unspecified: neither end of a connection (RFC 9293 3.9.2.3). */
bool packet_address_ok(const struct addr *a)
{
	if (addr_is_ipv4(a))
		return a->bytes[12] != 0 && a->bytes[12] != 127 && a->bytes[12] < 224;
	return a->bytes[0] != 0xff && (a->words[0] | a->words[1] | a->words[2]) != 0; /* also ::, ::1 and ::a.b.c.d */
}

static enum drop_reason packet_check_view(const struct packet_view *view)
{
	if (view->is_fragment && view->l4_proto != IPPROTO_UDP)
		return DROP_FRAGMENT;
	if (!view->ip_version)
		return DROP_BAD_IP_HDR; /* the programs do not send such packets up */
	if (!packet_address_ok(&view->src) || !packet_address_ok(&view->dst))
		return DROP_BAD_ADDRESS;
	if (view->l4_proto == IPPROTO_TCP && (!view->sport || !view->dport))
		return DROP_BAD_ADDRESS;
	/* an IPv4-mapped address on the wire would be mistaken for IPv4 */
	if (view->ip_version == 6 && (addr_is_ipv4(&view->src) || addr_is_ipv4(&view->dst)))
		return DROP_BAD_ADDRESS;
	return DROP_NONE;
}

/* Leaves nothing but payload in the frames; those that hold only padding are put back. false: bytes are missing. */
bool packet_cut(struct stack *stack, struct tcp_segment *segment)
{
	struct frame *frame = stack_frame(stack, segment->frames);
	uint32_t left = segment->view.payload_len;

	if (segment->view.payload_off > frame->len)
		return false;
	frame->off = (uint16_t)(frame->off + segment->view.payload_off);
	frame->len = (uint16_t)(frame->len - segment->view.payload_off);
	while (left > frame->len) {
		left -= frame->len;
		if (frame->next == FRAME_NONE)
			return false;
		frame = stack_frame(stack, frame->next);
	}
	frame->len = (uint16_t)left;
	flow_put_list(stack, &frame->next);
	return true;
}

static enum drop_reason packet_take_apart(struct stack *stack, struct tcp_segment *segment, bool checksum_ok)
{
	const uint8_t *packet = segment->eth;
	struct packet_view *view = &segment->view;

	if (!packet_cut(stack, segment))
		return DROP_TRUNCATED;
	if (!packet_ipv4_checksum_ok(segment))
		return DROP_IP_CHECKSUM;
	if (!checksum_ok && !packet_tcp_checksum_ok(stack, segment))
		return DROP_TCP_CHECKSUM;
	if (!tcp_options_parse(packet + view->l4_off + 20, view->tcp_hdr_len - 20u, &segment->options))
		return DROP_BAD_TCP_HDR;
	return DROP_NONE;
}

bool packet_expired(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns)
{
	const struct addr *own = &stack->ports[segment->port].own[segment->view.ip_version != 4];

	if (segment->view.ip_ttl > 1)
		return false;
	stack->counters.dropped[DROP_TTL_EXPIRED]++;
	if (packet_address_ok(own))
		icmp_send_about(stack, segment, STACK_ERROR_TTL_EXPIRED, own, now_ns);
	return true;
}

static void packet_deliver(struct stack *stack, struct tcp_segment *segment, uint64_t now_ns)
{
	const struct packet_view *view = &segment->view;
	struct flow *flow = flow_lookup(stack, view);
	enum stack_judgement judgement = STACK_TAKE;

	if (flow) {
		tcp_input(stack, flow, segment, now_ns);
		return;
	}
	if (stack->callbacks.judge)
		judgement = stack->callbacks.judge(stack->callbacks.ctx, view, true);
	if (judgement == STACK_IGNORE) {
		stack->counters.dropped[DROP_RULE]++;
		return;
	}
	if (judgement == STACK_REJECT) {
		stack->counters.rule_rejected++;
		if (!(view->tcp_flags & TCP_RST))
			tcp_send_reset_to(stack, segment->port, view, segment->eth, now_ns);
		return;
	}
	if (packet_expired(stack, segment, now_ns))
		return;
	if ((view->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN) {
		tcp_open(stack, segment, now_ns);
		return;
	}
	stack->counters.no_flow++;
	if (!(view->tcp_flags & TCP_RST))
		tcp_send_reset_to(stack, segment->port, view, segment->eth, now_ns);
}

void stack_input_chain(struct stack *stack, uint16_t port, uint32_t frame, uint32_t packet_bytes, bool checksum_ok,
		       uint64_t now_ns)
{
	struct tcp_segment segment = {
		.eth = frame_data(stack->pool, frame) + stack_frame(stack, frame)->off,
		.frames = frame,
		.port = port,
		.start = stack_frame(stack, frame)->off,
	};
	/* the parser, shared with BPF code, knows no const */
	uint8_t *packet = (uint8_t *)segment.eth;
	struct cursor whole = {.start = packet,
			       .pos = packet,
			       .end = packet + stack_frame(stack, frame)->len,
			       .packet_bytes = packet_bytes};
	bool is_tcp;
	enum drop_reason reason;

	stack->counters.packets_in++;
	reason = packet_parse_part(whole.start, whole.end, packet_bytes, &segment.view);
	if (!reason)
		reason = packet_check_view(&segment.view);
	is_tcp = segment.view.l4_proto == IPPROTO_TCP;
	if (!reason)
		reason = is_tcp ? packet_take_apart(stack, &segment, checksum_ok)
				: packet_input_other(stack, &segment, &whole, checksum_ok, now_ns);
	if (reason)
		stack->counters.dropped[reason]++;
	else if (is_tcp)
		packet_deliver(stack, &segment, now_ns);
	flow_put_list(stack, &segment.frames);
}

void stack_input(struct stack *stack, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint64_t now_ns)
{
	struct frame *only = stack_frame(stack, frame);

	only->off = off;
	only->len = len;
	only->next = FRAME_NONE;
	stack_input_chain(stack, port, frame, len, false, now_ns);
}
