/* SPDX-License-Identifier: MIT */
/*
 * ICMP errors to a client whose connection will not be, in answer to its SYN
 * (RFC 792, RFC 4443). They come from the destination's address, the only one
 * that means something to the client, and quote the SYN, rebuilt from what the
 * flow knows of it: addresses, ports and sequence number are the client's own,
 * which is what it recognises its connection by.
 */
#include "stack_priv.h"

#include <linux/in.h>
#include <string.h>

#define ICMP_ERRORS_PER_SECOND 1000
#define ICMP_HEADER_BYTES 8

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

void icmp_send_refusal(struct stack *stack, const struct flow *flow, enum flow_refusal how, uint64_t now_ns)
{
	const struct icmp_error *error = &icmp_errors[how][!addr_is_ipv4(&flow->link.dst.addr)];
	uint8_t *data, *end, *message, *start;
	uint32_t frame;

	if (!icmp_allowed(stack, now_ns))
		return;
	frame = frame_get(stack->pool, FRAME_TX);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return;
	}
	data = frame_data(stack->pool, frame);
	end = data + 2 * FRAME_PAYLOAD_OFFSET;
	message = icmp_quote_syn(end, flow) - ICMP_HEADER_BYTES;
	memset(message, 0, ICMP_HEADER_BYTES);
	message[0] = error->type;
	message[1] = error->code;
	start = build_icmp(message, (uint16_t)(end - message), &flow->link);
	if (stack->callbacks.transmit(stack->callbacks.ctx, flow->port, frame, (uint16_t)(start - data),
				      (uint16_t)(end - start), 0)) {
		frame_put(stack->pool, frame);
		stack->counters.tx_ring_full++;
		return;
	}
	stack->counters.packets_out++;
	stack->counters.icmp_sent++;
}
