/* SPDX-License-Identifier: MIT */
/* Datagrams to clients. */
#include "stack_priv.h"

#include <assert.h>
#include <string.h>

bool stack_transmit_datagram(struct stack *stack, uint16_t port, const struct build_link *link, const void *payload,
			     uint16_t payload_bytes)
{
	uint32_t frame = frame_get(stack->pool, FRAME_TX);
	uint8_t *data, *start, *packet;

	assert(payload_bytes <= stack->pool->frame_bytes - FRAME_PAYLOAD_OFFSET);
	if (frame == FRAME_NONE) {
		stack->counters.no_frame++;
		return false;
	}
	data = frame_data(stack->pool, frame);
	start = data + FRAME_PAYLOAD_OFFSET;
	if (payload_bytes)
		memcpy(start, payload, payload_bytes);
	packet = build_udp(start, payload_bytes, link);
	if (stack->callbacks.transmit(stack->callbacks.ctx, port, frame, (uint16_t)(packet - data),
				      (uint16_t)(start + payload_bytes - packet), 0)) {
		stack->counters.tx_ring_full++;
		frame_put(stack->pool, frame);
		return false;
	}
	stack->counters.packets_out++;
	return true;
}
