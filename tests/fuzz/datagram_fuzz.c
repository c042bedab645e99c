/* SPDX-License-Identifier: MIT */
/*
 * What is not TCP, through the stack: the input is a list of packets, each as it stands but with a right IPv4 header
 * checksum, many of them fragments of few datagrams. A datagram that comes out must have as many bytes as it says; in
 * the end all frames must be back.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "csum.h"
#include "stack.h"

#define FRAMES 64
#define FRAME_BYTES 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct frame_pool pool;
static struct stack *stack;
static uint8_t judgement;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	(void)ctx;
	(void)port;
	assert(off + len <= FRAME_BYTES && len >= 42 && !segment_bytes);
	frame_tx_start(&pool, frame);
	frame_tx_done(&pool, frame);
	return 0;
}

static enum stack_judgement on_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	(void)ctx;
	(void)view;
	(void)has_port;
	return (enum stack_judgement)(judgement % 3);
}

static void on_datagram(void *ctx, struct stack_datagram *datagram)
{
	uint32_t bytes = 0;

	(void)ctx;
	for (uint32_t i = datagram->frames; i != FRAME_NONE; i = pool.frames[i].next) {
		assert((uint32_t)pool.frames[i].off + pool.frames[i].len <= FRAME_BYTES);
		bytes += pool.frames[i].len;
	}
	assert(bytes == datagram->bytes);
	/* what the owner writes in front of the payload has room there */
	assert(pool.frames[datagram->frames].off >= 22);
	stack_send_error(stack, 0, &datagram->link, datagram->quote, datagram->quote_bytes, STACK_ERROR_TOO_BIG, 1490,
			 1);
}

static void input(const uint8_t *bytes, uint16_t len, uint64_t now_ns)
{
	uint32_t frame = frame_get(&pool, FRAME_RX);
	uint8_t *packet;
	uint16_t check;

	if (frame == FRAME_NONE)
		return;
	packet = frame_data(&pool, frame) + 128;
	memcpy(packet, bytes, len);
	if (len >= 34 && packet[14] == 0x45) {
		memset(packet + 24, 0, 2);
		check = csum_fold(csum_partial(packet + 14, 20, 0));
		memcpy(packet + 24, &check, 2);
	}
	stack_input(stack, 0, frame, 128, len, now_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit, .judge = on_judge, .datagram = on_datagram};
	static const struct stack_settings settings = {
		.max_flows = 4, .half_open = 4, .half_open_per_source = 4, .echo_reply = true};
	const struct stack_port port = {.mtu = 1500, .own = {addr_from_ipv4(0x0100010a)}};
	uint64_t now_ns = 1000000000;

	frame_pool_init(&pool, calloc(FRAMES, FRAME_BYTES), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_BYTES);
	stack = stack_create(&settings, &pool, &callbacks, now_ns);
	stack_set_port(stack, 0, &port);
	while (len > 3) {
		uint16_t bytes = (uint16_t)((data[0] | data[1] << 8) % 1700);

		judgement = data[2] & 3;
		now_ns += (uint64_t)(data[2] >> 2) * 100000000;
		data += 3;
		len -= 3;
		bytes = bytes < len ? bytes : (uint16_t)len;
		input(data, bytes, now_ns);
		stack_run_timers(stack, now_ns);
		data += bytes;
		len -= bytes;
	}
	stack_run_timers(stack, UINT64_MAX / 2);
	assert(frame_pool_free(&pool) == FRAMES);
	stack_destroy(stack);
	free(pool.area);
	free(pool.frames);
	return 0;
}
