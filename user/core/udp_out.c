/* SPDX-License-Identifier: MIT */
/* Datagrams to clients: in one packet, or in fragments where the link asks for them. */
#include <string.h>

#include "stack_priv.h"

#define UDP_HEADER_BYTES 8
#define IPV4_HEADER_BYTES 20
#define IPV6_HEADER_BYTES 40
#define FRAGMENT_HEADER_BYTES 8

static bool udp_transmit(struct stack *stack, uint16_t port, uint32_t frame, const uint8_t *start, const uint8_t *end)
{
	uint16_t off = (uint16_t)(start - frame_data(stack->pool, frame));

	if (stack->callbacks.transmit(stack->callbacks.ctx, port, frame, off, (uint16_t)(end - start), 0)) {
		frame_put(stack->pool, frame);
		stack->counters.tx_ring_full++;
		return false;
	}
	stack->counters.packets_out++;
	return true;
}

/* The checksum of all, in the place where the header will stand: the payload need not lie in one frame. */
static void udp_put_header(uint8_t *at, const struct build_link *link, const struct iovec *payload)
{
	uint8_t *in_place = (uint8_t *)payload->iov_base - UDP_HEADER_BYTES;
	uint8_t saved[UDP_HEADER_BYTES];

	memcpy(saved, in_place, sizeof(saved));
	build_udp_header(payload->iov_base, (uint16_t)payload->iov_len, link);
	memcpy(at, in_place, UDP_HEADER_BYTES);
	memcpy(in_place, saved, sizeof(saved));
}

static bool udp_send_whole(struct stack *stack, uint16_t port, const struct build_link *link,
			   const struct iovec *payload)
{
	uint32_t frame = frame_get(stack->pool, FRAME_TX);
	uint8_t *data, *start;

	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return false;
	}
	data = frame_data(stack->pool, frame) + FRAME_PAYLOAD_OFFSET;
	if (payload->iov_len)
		memcpy(data, payload->iov_base, payload->iov_len);
	start = build_udp_header(data, (uint16_t)payload->iov_len, link);
	start = build_udp(start, (uint16_t)(UDP_HEADER_BYTES + payload->iov_len), link);
	return udp_transmit(stack, port, frame, start, data + payload->iov_len);
}

/* Bytes [offset, offset + bytes) of header and payload together. */
static bool udp_send_part(struct stack *stack, uint16_t port, const struct build_link *link,
			  const struct iovec *payload, const struct build_fragment *fragment, uint16_t bytes)
{
	uint32_t frame = frame_get(stack->pool, FRAME_TX), skip = fragment->offset ? 0 : UDP_HEADER_BYTES;
	const uint8_t *from = (const uint8_t *)payload->iov_base + fragment->offset + skip - UDP_HEADER_BYTES;
	uint8_t *data;

	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return false;
	}
	data = frame_data(stack->pool, frame) + FRAME_PAYLOAD_OFFSET;
	if (skip)
		udp_put_header(data, link, payload);
	memcpy(data + skip, from, bytes - skip);
	return udp_transmit(stack, port, frame, build_udp_fragment(data, bytes, link, fragment), data + bytes);
}

bool stack_send_datagram(struct stack *stack, uint16_t port, const struct build_link *link, const struct iovec *payload)
{
	bool ipv4 = addr_is_ipv4(&link->src.addr);
	uint32_t ip_bytes = ipv4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
	uint32_t total = UDP_HEADER_BYTES + (uint32_t)payload->iov_len;
	uint32_t room =
		MIN((uint32_t)stack->ports[port].mtu - ip_bytes, stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET);
	struct build_fragment fragment = {.id = stack->fragment_id};

	if (total + (ipv4 ? ip_bytes : 0) > 65535)
		return false;
	stack->counters.datagrams_out++;
	stack->counters.datagram_bytes_out += payload->iov_len;
	if (total <= room)
		return udp_send_whole(stack, port, link, payload);
	stack->counters.datagrams_cut++;
	stack->fragment_id++;
	room = (room - (ipv4 ? 0 : FRAGMENT_HEADER_BYTES)) & ~7u;
	for (uint32_t at = 0; at < total; at += room) {
		uint32_t bytes = MIN(room, total - at);

		fragment.offset = (uint16_t)at;
		fragment.more = at + bytes < total;
		if (!udp_send_part(stack, port, link, payload, &fragment, (uint16_t)bytes))
			return false;
	}
	return true;
}
