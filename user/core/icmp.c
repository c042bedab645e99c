/* SPDX-License-Identifier: MIT */
/*
 * ICMP errors to a client whose connection will not be, in answer to its SYN,
 * or whose packet a rule rejects (RFC 792, RFC 4443). They come from the destination's address, the only one
 * that means something to the client, and quote the SYN, rebuilt from what the
 * flow knows of it: addresses, ports and sequence number are the client's own,
 * which is what it recognises its connection by.
 */
#include "stack_priv.h"

#include <linux/icmp.h>
#include <linux/in.h>
#include <string.h>

#include "csum.h"
#include "rules_abi.h"

#define ICMP_ERRORS_PER_SECOND 1000
#define ICMP_ECHOES_PER_SECOND 1000
#define ICMP_HEADER_BYTES 8
/* The whole message: what every host takes (RFC 1812 4.3.2.3), and the least MTU of IPv6 (RFC 4443 2.4 c) */
#define ICMP_MAX_BYTES_IPV4 576
#define ICMP_MAX_BYTES_IPV6 1280
#define ICMPV6_FIRST_INFORMATIONAL 128
#define ICMPV6_ECHO_REQUEST_TYPE 128
#define ICMPV6_ECHO_REPLY_TYPE 129

struct icmp_error {
	uint8_t type, code;
};

/* By enum flow_refusal: IPv4, IPv6. */
static const struct icmp_error icmp_errors[][2] = {
	[REFUSE_NET_UNREACHABLE] = {{3, 0}, {1, 0}},
	[REFUSE_HOST_UNREACHABLE] = {{3, 1}, {1, 3}},
	[REFUSE_TTL_EXPIRED] = {{11, 0}, {3, 0}},
	[REFUSE_ADMIN_PROHIBITED] = {{3, 13}, {1, 1}},
};

static bool icmp_allowed(struct stack *stack, uint64_t now_ns)
{
	uint64_t second = now_ns / 1000000000;

	if (second != stack->icmp_second) {
		stack->icmp_second = second;
		stack->icmp_in_second = 0;
	}
	return stack->icmp_in_second++ < ICMP_ERRORS_PER_SECOND;
}

/* The client's SYN as it would have arrived, without options. Written in front of `end`. */
static uint8_t *icmp_quote_syn(uint8_t *end, const struct flow *flow)
{
	struct build_link client = build_reverse(&flow->link);
	const struct build_segment syn = {.seq = flow->irs, .flags = TCP_SYN, .window = (uint16_t)flow->snd_wnd};
	uint8_t *tcp = build_tcp_header(end, 0, &client, &syn);

	return build_ip(tcp, (uint16_t)(end - tcp), &client.src, &client.dst, IPPROTO_TCP);
}

/* Headers in front of a message that ends at `end`, and off with it. */
static void icmp_transmit(struct stack *stack, uint16_t port, const struct build_link *link, uint32_t frame,
			  uint8_t *message, const uint8_t *end)
{
	const uint8_t *data = frame_data(stack->pool, frame);
	const uint8_t *start = build_icmp(message, (uint16_t)(end - message), link);

	if (stack->callbacks.transmit(stack->callbacks.ctx, port, frame, (uint16_t)(start - data),
				      (uint16_t)(end - start), 0)) {
		frame_put(stack->pool, frame);
		stack->counters.tx_ring_full++;
		return;
	}
	stack->counters.packets_out++;
}

void icmp_send_refusal(struct stack *stack, const struct flow *flow, enum flow_refusal how, uint64_t now_ns)
{
	const struct icmp_error *error = &icmp_errors[how][!addr_is_ipv4(&flow->link.dst.addr)];
	uint8_t *end, *message;
	uint32_t frame;

	if (!icmp_allowed(stack, now_ns))
		return;
	frame = frame_get(stack->pool, FRAME_TX);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return;
	}
	end = frame_data(stack->pool, frame) + 2 * FRAME_PAYLOAD_OFFSET;
	message = icmp_quote_syn(end, flow) - ICMP_HEADER_BYTES;
	memset(message, 0, ICMP_HEADER_BYTES);
	message[0] = error->type;
	message[1] = error->code;
	stack->counters.icmp_sent++;
	icmp_transmit(stack, flow->port, &flow->link, frame, message, end);
}

/* An error, or what cannot be told from one: neither is answered by an error (RFC 1122 3.2.2, RFC 4443 2.4 e). */
static bool icmp_is_error(const struct tcp_segment *segment, uint32_t frame_bytes)
{
	const struct packet_view *view = &segment->view;
	bool ipv4 = view->ip_version == 4;
	uint8_t type;

	if (view->l4_proto != (ipv4 ? IPPROTO_ICMP : RULES_IPPROTO_ICMPV6))
		return false;
	if (view->l4_off >= frame_bytes)
		return true;
	type = segment->eth[view->l4_off];
	if (!ipv4)
		return type < ICMPV6_FIRST_INFORMATIONAL;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* By enum stack_error: IPv4, IPv6. */
static const struct icmp_error icmp_datagram_errors[][2] = {
	[STACK_ERROR_PORT_UNREACHABLE] = {{3, 3}, {1, 4}},
	[STACK_ERROR_HOST_UNREACHABLE] = {{3, 1}, {1, 3}},
	[STACK_ERROR_PROHIBITED] = {{3, 13}, {1, 1}},
	[STACK_ERROR_TOO_BIG] = {{3, 4}, {2, 0}}, /* RFC 1191 section 4, RFC 4443 3.2 */
	[STACK_ERROR_TTL_EXPIRED] = {{11, 0}, {3, 0}},
};

void stack_send_error(struct stack *stack, uint16_t port, const struct build_link *link, const uint8_t *quote,
		      uint16_t quote_bytes, enum stack_error error, uint32_t mtu, uint64_t now_ns)
{
	bool ipv4 = addr_is_ipv4(&link->dst.addr);
	const struct icmp_error *what = &icmp_datagram_errors[error][!ipv4];
	uint32_t most =
		ipv4 ? ICMP_MAX_BYTES_IPV4 - 20 - ICMP_HEADER_BYTES : ICMP_MAX_BYTES_IPV6 - 40 - ICMP_HEADER_BYTES;
	uint32_t quoted = MIN((uint32_t)quote_bytes, most), rest = be32(ipv4 ? mtu & 0xffff : mtu);
	uint8_t *message;
	uint32_t frame;

	if (!icmp_allowed(stack, now_ns))
		return;
	frame = frame_get(stack->pool, FRAME_TX);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return;
	}
	message = frame_data(stack->pool, frame) + FRAME_PAYLOAD_OFFSET;
	memset(message, 0, ICMP_HEADER_BYTES);
	message[0] = what->type;
	message[1] = what->code;
	if (error == STACK_ERROR_TOO_BIG)
		memcpy(message + 4, &rest, sizeof(rest));
	memcpy(message + ICMP_HEADER_BYTES, quote, quoted);
	stack->counters.icmp_sent++;
	icmp_transmit(stack, port, link, frame, message, message + ICMP_HEADER_BYTES + quoted);
}

struct build_link icmp_link(const struct tcp_segment *segment)
{
	const struct packet_view *view = &segment->view;
	struct build_link link = {
		.has_vlan = view->has_vlan,
		.vlan_tci = view->vlan_tci,
		.src = {.addr = view->dst, .port = view->dport},
		.dst = {.addr = view->src, .port = view->sport},
	};

	memcpy(link.dst_mac, segment->eth + 6, 6);
	memcpy(link.src_mac, segment->eth, 6);
	return link;
}

void icmp_send_about(struct stack *stack, const struct tcp_segment *segment, enum stack_error error,
		     const struct addr *from, uint64_t now_ns)
{
	const struct packet_view *view = &segment->view;
	uint32_t first_bytes = stack_frame(stack, segment->frames)->len;
	uint32_t quoted = MIN(first_bytes - view->l3_off, (uint32_t)view->l3_len);
	struct build_link link = icmp_link(segment);

	/* its frames hold nothing but payload already */
	if (view->l4_proto == IPPROTO_TCP)
		quoted = (uint32_t)view->payload_off - view->l3_off;
	/* a multicast Ethernet address: to many at once (RFC 1122 3.2.2) */
	if (segment->eth[0] & 1 || icmp_is_error(segment, first_bytes))
		return;
	link.src.addr = *from;
	stack_send_error(stack, segment->port, &link, segment->eth + segment->view.l3_off, (uint16_t)quoted, error, 0,
			 now_ns);
}

void icmp_send_prohibited(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns)
{
	icmp_send_about(stack, segment, STACK_ERROR_PROHIBITED, &segment->view.dst, now_ns);
}

/* --- echo (RFC 792, RFC 4443 4.2): the destination cannot be asked, so the gateway says that packets get this far ---
 */

bool icmp_is_echo_request(const struct tcp_segment *segment, uint32_t frame_bytes)
{
	const struct packet_view *view = &segment->view;
	bool ipv4 = view->ip_version == 4;

	if (view->l4_proto != (ipv4 ? IPPROTO_ICMP : RULES_IPPROTO_ICMPV6) ||
	    (uint32_t)view->l4_off + ICMP_HEADER_BYTES > frame_bytes ||
	    view->l4_off + ICMP_HEADER_BYTES > view->l3_off + view->l3_len)
		return false;
	return segment->eth[view->l4_off] == (ipv4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST_TYPE);
}

static bool icmp_echo_allowed(struct stack *stack, uint64_t now_ns)
{
	uint64_t second = now_ns / 1000000000;

	if (second != stack->echo_second) {
		stack->echo_second = second;
		stack->echoes_in_second = 0;
	}
	return stack->echoes_in_second++ < ICMP_ECHOES_PER_SECOND;
}

enum drop_reason icmp_answer_echo(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns)
{
	const struct packet_view *view = &segment->view;
	uint16_t bytes = (uint16_t)(view->l3_len - (view->l4_off - view->l3_off));
	const uint8_t *request = segment->eth + view->l4_off;
	bool ipv4 = view->ip_version == 4;
	struct build_link link = icmp_link(segment);
	uint32_t sum = ipv4 ? 0 : csum_pseudo(&view->src, &view->dst, RULES_IPPROTO_ICMPV6, bytes), frame;
	uint8_t *message;

	if ((uint32_t)view->l4_off + bytes > stack_frame(stack, segment->frames)->len)
		return DROP_TRUNCATED;
	if (bytes > stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET)
		return DROP_FRAGMENT;
	if (csum_fold(csum_partial(request, bytes, sum)) != 0)
		return DROP_ICMP_CHECKSUM;
	if (!icmp_echo_allowed(stack, now_ns)) {
		stack->counters.echo_limited++;
		return DROP_NONE;
	}
	frame = frame_get(stack->pool, FRAME_TX);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return DROP_NONE;
	}
	message = frame_data(stack->pool, frame) + FRAME_PAYLOAD_OFFSET;
	memcpy(message, request, bytes);
	message[0] = ipv4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY_TYPE;
	message[2] = message[3] = 0;
	stack->counters.echo_replies++;
	icmp_transmit(stack, segment->port, &link, frame, message, message + bytes);
	return DROP_NONE;
}
