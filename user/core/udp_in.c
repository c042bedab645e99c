/* SPDX-License-Identifier: MIT */
/*
 * What comes up and is not TCP: UDP, whole or in fragments, echo requests, and
 * packets that a rule answers with an ICMP error. A datagram leaves here as
 * `struct stack_datagram`: checked, and its frames cut down to payload.
 */
#include <string.h>

#include "csum.h"
#include "reassembly.h"
#include "rules_abi.h"
#include "stack_priv.h"

#define UDP_HEADER_BYTES 8
#define UDP_CHECKSUM_OFFSET 6
#define FRAGMENT_OFFSET_UNIT 8
#define IPV6_FRAGMENT_HEADER_BYTES 8

/* --- checks --- */

static uint32_t udp_sum_frames(const struct stack *stack, uint32_t frame, uint32_t sum)
{
	uint32_t summed = 0;

	for (; frame != FRAME_NONE; frame = stack_frame(stack, frame)->next) {
		const struct frame *part = stack_frame(stack, frame);

		sum = csum_partial_at(frame_data(stack->pool, frame) + part->off, part->len, sum, summed);
		summed += part->len;
	}
	return sum;
}

/*
 * segment->frames hold the datagram from its UDP header on. As for TCP, a local sender's partial checksum is believed
 * of a single frame (packet_in.c).
 */
static bool udp_checksum_ok(const struct stack *stack, const struct tcp_segment *segment)
{
	const struct packet_view *view = &segment->view;
	const struct frame *first = stack_frame(stack, segment->frames);
	uint32_t bytes = UDP_HEADER_BYTES + (uint32_t)view->payload_len;
	uint32_t sum = csum_pseudo(&view->src, &view->dst, IPPROTO_UDP, bytes);
	uint16_t field;

	memcpy(&field, frame_data(stack->pool, segment->frames) + first->off + UDP_CHECKSUM_OFFSET, sizeof(field));
	if (!field)
		return view->ip_version == 4; /* RFC 768: not computed; not allowed in IPv6 (RFC 8200 8.1) */
	if (first->next == FRAME_NONE && stack->ports[segment->port].partial_checksum_ok && field == csum_fold_sum(sum))
		return true;
	return csum_fold(udp_sum_frames(stack, segment->frames, sum)) == 0;
}

/* --- whole datagrams --- */

/* The frames begin with the UDP header; `quote`: the IP packet of the first. */
static enum drop_reason udp_deliver(struct stack *stack, struct tcp_segment *segment, const struct stack_datagram *as)
{
	struct frame *first = stack_frame(stack, segment->frames);
	struct stack_datagram datagram = *as;

	first->off = (uint16_t)(first->off + UDP_HEADER_BYTES);
	first->len = (uint16_t)(first->len - UDP_HEADER_BYTES);
	datagram.link = icmp_link(segment);
	datagram.port = segment->port;
	datagram.frames = segment->frames;
	datagram.bytes = segment->view.payload_len;
	stack->counters.datagrams_in++;
	stack->counters.datagram_bytes_in += datagram.bytes;
	if (!stack->callbacks.datagram)
		return DROP_RULE;
	stack->callbacks.datagram(stack->callbacks.ctx, &datagram);
	segment->frames = datagram.frames;
	return DROP_NONE;
}

static enum drop_reason udp_input(struct stack *stack, struct tcp_segment *segment, bool has_port, bool checksum_ok)
{
	struct packet_view *view = &segment->view;
	struct stack_datagram datagram = {
		.packet_bytes = view->l3_len,
		.dont_fragment = view->dont_fragment,
		.quote = segment->eth + view->l3_off,
	};
	uint16_t payload_len;

	if (!has_port || !view->sport || !view->dport)
		return DROP_BAD_UDP_HDR;
	datagram.quote_bytes = (uint16_t)MIN((uint32_t)stack_frame(stack, segment->frames)->len - view->l3_off,
					     (uint32_t)view->l3_len);
	/* cut in front of the UDP header, which the checksum covers */
	payload_len = view->payload_len;
	view->payload_off = view->l4_off;
	view->payload_len = (uint16_t)(payload_len + UDP_HEADER_BYTES);
	if (!packet_cut(stack, segment))
		return DROP_TRUNCATED;
	view->payload_len = payload_len;
	if (!checksum_ok && !udp_checksum_ok(stack, segment))
		return DROP_UDP_CHECKSUM;
	return udp_deliver(stack, segment, &datagram);
}

/* --- fragments --- */

/* Where this part belongs; false: not UDP, or cut off. */
static bool udp_read_fragment(const struct tcp_segment *segment, uint32_t frame_bytes, struct reassembly_key *key,
			      struct reassembly_fragment *fragment)
{
	const struct packet_view *view = &segment->view;
	const uint8_t *at;
	uint16_t field, id;

	*key = (struct reassembly_key){.src = view->src, .dst = view->dst};
	key->port = (uint32_t)segment->port << 16 | (view->has_vlan ? 0x8000u | (view->vlan_tci & 0xfff) : 0);
	if (view->ip_version == 4) {
		at = segment->eth + view->l3_off;
		memcpy(&id, at + 4, sizeof(id));
		memcpy(&field, at + 6, sizeof(field));
		key->id = id;
		fragment->offset = (uint16_t)((be16(field) & 0x1fff) * FRAGMENT_OFFSET_UNIT);
		fragment->more = be16(field) & 0x2000;
		return true;
	}
	/* the parser stops behind the fragment header */
	if (view->l4_off > frame_bytes)
		return false;
	at = segment->eth + view->l4_off - IPV6_FRAGMENT_HEADER_BYTES;
	memcpy(&field, at + 2, sizeof(field));
	memcpy(&key->id, at + 4, sizeof(key->id));
	fragment->offset = be16(field) & 0xfff8;
	fragment->more = be16(field) & 1;
	return true;
}

/* The last part was the missing one: `frame` is the first of all, and holds the headers of its packet too. */
static enum drop_reason udp_reassembled(struct stack *stack, struct tcp_segment *segment, uint32_t frame,
					uint32_t bytes, uint64_t now_ns)
{
	const struct frame *first = stack_frame(stack, frame);
	const uint8_t *uh = frame_data(stack->pool, frame) + first->off;
	struct packet_view *view = &segment->view;
	struct stack_datagram datagram = {
		.packet_bytes = bytes + (view->ip_version == 4 ? 20 : 40),
		.quote = frame_data(stack->pool, frame) + first->tcp_flags,
		.quote_bytes = (uint16_t)(first->off - first->tcp_flags + first->len),
	};
	uint16_t length;

	segment->frames = frame;
	if (first->len < UDP_HEADER_BYTES)
		return DROP_BAD_UDP_HDR;
	memcpy(&view->sport, uh, sizeof(view->sport));
	memcpy(&view->dport, uh + 2, sizeof(view->dport));
	memcpy(&length, uh + 4, sizeof(length));
	if (be16(length) != bytes || !view->sport || !view->dport)
		return DROP_BAD_UDP_HDR;
	view->payload_len = (uint16_t)(bytes - UDP_HEADER_BYTES);
	if (!udp_checksum_ok(stack, segment))
		return DROP_UDP_CHECKSUM;
	switch (stack->callbacks.judge(stack->callbacks.ctx, view, true)) {
	case STACK_TAKE:
		return udp_deliver(stack, segment, &datagram);
	case STACK_REJECT:
		stack->counters.rule_rejected++;
		datagram.link = icmp_link(segment);
		stack_send_error(stack, segment->port, &datagram.link, datagram.quote, datagram.quote_bytes,
				 STACK_ERROR_PROHIBITED, 0, now_ns);
		return DROP_NONE;
	default:
		return DROP_RULE;
	}
}

static enum drop_reason udp_fragment(struct stack *stack, struct tcp_segment *segment, uint64_t now_ns)
{
	struct packet_view *view = &segment->view;
	struct frame *only = stack_frame(stack, segment->frames);
	struct reassembly_fragment fragment;
	struct reassembly_key key;
	uint32_t whole, bytes;

	if (!udp_read_fragment(segment, only->len, &key, &fragment))
		return DROP_TRUNCATED;
	view->payload_off = view->l4_off;
	view->payload_len = (uint16_t)(view->l3_len - (view->l4_off - view->l3_off));
	/* for the quote of the first */
	only->tcp_flags = (uint16_t)(segment->start + view->l3_off);
	if (!packet_cut(stack, segment))
		return DROP_TRUNCATED;
	/* a link's MTU fits a frame: this is a sender's jumbo fragment on a TAP, cut by nobody */
	if (only->next != FRAME_NONE)
		return DROP_FRAGMENT;
	fragment.frame = segment->frames;
	segment->frames = FRAME_NONE;
	whole = reassembly_add(stack->reassembly, &key, &fragment, now_ns, &bytes);
	return whole == FRAME_NONE ? DROP_NONE : udp_reassembled(stack, segment, whole, bytes, now_ns);
}

/* --- all --- */

/* What the rules make of it; for what is not taken, that is done. */
static bool other_is_taken(struct stack *stack, struct tcp_segment *segment, bool has_port, enum drop_reason *reason,
			   uint64_t now_ns)
{
	*reason = DROP_NONE;
	switch (stack->callbacks.judge(stack->callbacks.ctx, &segment->view, has_port)) {
	case STACK_TAKE:
		return true;
	case STACK_REJECT:
		stack->counters.rule_rejected++;
		icmp_send_prohibited(stack, segment, now_ns);
		return false;
	default:
		*reason = DROP_RULE;
		return false;
	}
}

enum drop_reason packet_input_other(struct stack *stack, struct tcp_segment *segment, struct cursor *whole,
				    bool checksum_ok, uint64_t now_ns)
{
	struct packet_view *view = &segment->view;
	bool has_port = view->l4_proto == IPPROTO_UDP && !view->is_fragment && packet_parse_udp(whole, view);
	uint32_t frame_bytes = stack_frame(stack, segment->frames)->len;
	enum drop_reason reason;

	if (!packet_ipv4_checksum_ok(segment))
		return DROP_IP_CHECKSUM;
	if (!stack->callbacks.judge)
		return DROP_BAD_IP_HDR;
	if (packet_expired(stack, segment, now_ns))
		return DROP_NONE;
	/* judged when it is whole */
	if (view->l4_proto == IPPROTO_UDP && view->is_fragment)
		return udp_fragment(stack, segment, now_ns);
	if (!other_is_taken(stack, segment, has_port, &reason, now_ns))
		return reason;
	if (view->l4_proto == IPPROTO_UDP)
		return udp_input(stack, segment, has_port, checksum_ok);
	if (!stack->settings.echo_reply || !icmp_is_echo_request(segment, frame_bytes))
		return DROP_RULE;
	return icmp_answer_echo(stack, segment, now_ns);
}
