/* SPDX-License-Identifier: MIT */
/*
 * The whole stack under a client that may do anything: the input is a list of commands, each a packet with correct
 * checksums and odd contents, in one frame or cut into a chain, a call of the owner, or time. After each run the
 * bookkeeping must be exact, and after an abort of everything all frames must be back.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "build.h"
#include "parse.h"
#include "stack.h"

#define FRAMES 256
#define FRAME_BYTES 2048
#define FLOWS 8
#define RX_OFFSET 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct {
	struct frame_pool pool;
	struct stack *stack;
	uint64_t now_ns;
	uint32_t last_seq, last_ack; /* of what the stack sent last: so that inputs can hit */
	struct flow *live[FLOWS];
	uint8_t ring_room;
	bool abort_in_callback;
	bool offload;
	bool may_shut; /* inputs either end directions or send: sending after the end is the owner's bug */
} f;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	const uint8_t *packet = frame_data(&f.pool, frame) + off;

	(void)ctx;
	(void)port;
	assert(off + len <= FRAME_BYTES && len >= 54);
	assert(f.offload ? segment_bytes < len : !segment_bytes);
	if (!f.ring_room)
		return -EAGAIN;
	f.ring_room--;
	memcpy(&f.last_seq, packet + 14 + 20 + 4, 4);
	memcpy(&f.last_ack, packet + 14 + 20 + 8, 4);
	frame_tx_start(&f.pool, frame);
	frame_tx_done(&f.pool, frame);
	return 0;
}

static void on_opened(void *ctx, struct flow *flow)
{
	(void)ctx;
	assert(!f.live[stack_flow_index(f.stack, flow)]);
	f.live[stack_flow_index(f.stack, flow)] = flow;
}

static void on_event(void *ctx, struct flow *flow)
{
	(void)ctx;
	assert(f.live[stack_flow_index(f.stack, flow)] == flow);
	if (!f.abort_in_callback)
		return;
	f.abort_in_callback = false;
	stack_abort(f.stack, flow, f.now_ns);
}

static void on_syn_again(void *ctx, struct flow *flow)
{
	uint32_t index = stack_flow_index(f.stack, flow);

	(void)ctx;
	assert(f.live[index] == flow);
	if (!f.abort_in_callback)
		return;
	f.abort_in_callback = false;
	f.live[index] = NULL;
	stack_hand_over(f.stack, flow);
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	(void)ctx;
	(void)why;
	assert(f.live[stack_flow_index(f.stack, flow)] == flow);
	f.live[stack_flow_index(f.stack, flow)] = NULL;
}

/* Bytes of the input, zero when it is over. */
struct input {
	const uint8_t *data;
	size_t len;
};

static uint32_t take(struct input *in, size_t bytes)
{
	uint32_t value = 0;

	for (; bytes; bytes--) {
		value = value << 8 | (in->len ? *in->data : 0);
		in->data += !!in->len;
		in->len -= !!in->len;
	}
	return value;
}

static uint32_t received_frame(const uint8_t *bytes, uint32_t len)
{
	uint32_t index = frame_get(&f.pool, FRAME_RX);

	if (index == FRAME_NONE)
		return index;
	memcpy(frame_data(&f.pool, index) + RX_OFFSET, bytes, len);
	f.pool.frames[index].off = RX_OFFSET;
	f.pool.frames[index].len = (uint16_t)len;
	f.pool.frames[index].next = FRAME_NONE;
	return index;
}

/* [start, start+len) in frames of any length; the last may be missing, or hold nothing of the packet. */
static void do_chain(struct input *in, const uint8_t *start, uint32_t len, uint32_t padding)
{
	uint32_t choice = take(in, 1), at = take(in, 1) * 6, first, last, parts = 0;

	len += padding;
	at = MIN(at, len);
	first = last = received_frame(start, at);
	if (first == FRAME_NONE)
		return;
	for (; at < len && parts < 64; parts++) {
		uint32_t part = take(in, 1) * 7, index;

		part = MIN(part, len - at);
		index = received_frame(start + at, part);

		if (index == FRAME_NONE || (choice & 2 && parts == choice >> 3))
			len = at; /* cut short */
		if (index == FRAME_NONE)
			break;
		f.pool.frames[last].next = index;
		last = index;
		at += part;
	}
	stack_input_chain(f.stack, 0, first, choice & 4 ? at : len, choice & 1, f.now_ns);
}

static void do_packet(struct input *in)
{
	static uint8_t buffer[RX_OFFSET + BUILD_MAX_HEADER_BYTES + 0x10000 + 0x100];
	uint32_t choice = take(in, 1), index;
	struct build_link link = {.src.port = (uint16_t)(1 + choice % 4), .dst.port = 80};
	struct build_segment segment = {.flags = (uint8_t)take(in, 1), .window = (uint16_t)take(in, 2)};
	uint16_t bytes = (uint16_t)(take(in, 2) % 1400);
	uint8_t *payload, *start;

	link.src.addr = addr_from_ipv4(be32(0x0a010002 + (choice >> 6)));
	link.dst.addr = addr_from_ipv4(be32(0x0a090001));
	segment.seq = be32(f.last_ack) + (choice & 4 ? (uint32_t)(int8_t)take(in, 1) * 100 : 0);
	segment.ack = be32(f.last_seq) + (choice & 8 ? take(in, 1) * 50 : 1);
	segment.option_bytes = (uint8_t)(take(in, 1) % 11 * 4);
	for (uint8_t i = 0; i < segment.option_bytes; i++)
		segment.options[i] = (uint8_t)take(in, 1);
	f.abort_in_callback = choice & 0x20;
	if (choice & 0x10) {
		bytes = (uint16_t)(bytes + take(in, 1) * 0xf0);
		payload = buffer + sizeof(buffer) - 0x10000 - 0x100;
		start = build_tcp(payload, bytes, &link, &segment);
		do_chain(in, start, (uint32_t)(payload + bytes - start), take(in, 1));
		return;
	}
	index = frame_get(&f.pool, FRAME_RX);
	if (index == FRAME_NONE)
		return;
	payload = frame_data(&f.pool, index) + 400;
	start = build_tcp(payload, bytes, &link, &segment);
	stack_input(f.stack, 0, index, (uint16_t)(start - frame_data(&f.pool, index)),
		    (uint16_t)(payload + bytes - start), f.now_ns);
}

static void do_owner(struct input *in)
{
	uint32_t choice = take(in, 1);
	struct flow *flow = f.live[choice % FLOWS];
	struct flow_info info;
	uint32_t index, part;
	struct stack_syn syn;

	if (!flow)
		return;
	stack_flow_describe(f.stack, flow, &info);
	if (!strcmp(info.state, "SYN-HELD")) {
		stack_flow_syn(f.stack, flow, &syn);
		if (choice >= 0xf8) {
			const struct build_segment segment = {.ack = syn.isn + 1, .flags = 0x12};

			f.live[choice % FLOWS] = NULL;
			stack_hand_over(f.stack, flow);
			stack_transmit_segment(f.stack, syn.port, &syn.link, &segment, NULL, 0);
		} else if (choice & 0x80) {
			f.live[choice % FLOWS] = NULL;
			stack_refuse(f.stack, flow, (enum flow_refusal)(choice / 8 % 6), f.now_ns);
		} else {
			stack_accept(f.stack, flow, f.now_ns);
		}
		return;
	}
	if (!strcmp(info.state, "SYN-RECEIVED") || choice >= 0xf0) {
		if (choice >= 0xf0)
			stack_abort(f.stack, flow, f.now_ns);
		return;
	}
	part = stack_readable_bytes(flow) * (take(in, 1) + 1) / 256;
	stack_consume(f.stack, flow, part, f.now_ns);
	if (f.may_shut) {
		stack_shutdown(f.stack, flow, f.now_ns);
		return;
	}
	index = frame_get(&f.pool, FRAME_FLOW);
	if (index != FRAME_NONE)
		stack_send(f.stack, flow, index, FRAME_PAYLOAD_OFFSET,
			   (uint16_t)(1 + take(in, 2) % (FRAME_BYTES - FRAME_PAYLOAD_OFFSET)), f.now_ns);
}

/* By what the packet is, so that the same input is judged alike. */
static enum stack_judgement on_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	(void)ctx;
	assert(!has_port || view->l4_proto == IPPROTO_TCP || view->l4_proto == IPPROTO_UDP);
	if (view->l4_proto != IPPROTO_TCP)
		return view->ip_tos & 1 ? STACK_IGNORE : STACK_REJECT;
	return view->ip_tos == 3 ? STACK_REJECT : view->ip_tos == 5 ? STACK_IGNORE : STACK_TAKE;
}

static void on_released(void *ctx, struct flow *flow)
{
	(void)ctx;
	assert(stack_flow_at(f.stack, stack_flow_index(f.stack, flow)) == flow);
}

static void start(bool offload)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_event,
		.flow_readable = on_event,
		.flow_writable = on_event,
		.flow_closed = on_closed,
		.flow_syn_again = on_syn_again,
		.judge = on_judge,
		.flow_released = on_released,
	};
	static const struct stack_settings settings = {
		.max_flows = FLOWS,
		.half_open = 4,
		.half_open_per_source = 3,
		.handshake_timeout_ns = 5000000000ull,
		.idle_timeout_ns = 100000000000ull,
		.time_wait_ns = 2000000000ull,
		.receive_window_max_bytes = 1 << 19,
		.send_queue_max_bytes = 1 << 19,
		.secret = "fuzz",
	};
	const struct stack_port port = {.mtu = 1500, .offload = offload};
	static uint8_t area[FRAMES * FRAME_BYTES];
	static struct frame frames[FRAMES];

	memset(&f, 0, sizeof(f));
	f.now_ns = 1000000000000ull;
	f.offload = offload;
	f.ring_room = 255;
	frame_pool_init(&f.pool, area, frames, FRAMES, FRAME_BYTES);
	f.stack = stack_create(&settings, &f.pool, &callbacks, f.now_ns);
	stack_set_port(f.stack, 0, &port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};

	start(len & 2);
	f.may_shut = len & 1;
	while (in.len) {
		uint32_t command = take(&in, 1);

		if (command < 160) {
			do_packet(&in);
		} else if (command < 210) {
			do_owner(&in);
		} else if (command < 240) {
			f.now_ns += (uint64_t)take(&in, 2) * 1000000;
			stack_run_timers(f.stack, f.now_ns);
		} else {
			f.ring_room = (uint8_t)take(&in, 1);
		}
		stack_flush(f.stack, f.now_ns);
		stack_check(f.stack);
	}
	f.ring_room = 255;
	for (uint32_t i = 0; i < FLOWS; i++) {
		struct flow_info info;

		if (!f.live[i])
			continue;
		stack_flow_describe(f.stack, f.live[i], &info);
		if (!strcmp(info.state, "SYN-HELD"))
			stack_refuse(f.stack, f.live[i], REFUSE_SILENTLY, f.now_ns);
		else
			stack_abort(f.stack, f.live[i], f.now_ns);
	}
	stack_check(f.stack);
	assert(f.pool.owned[FRAME_POOL] == FRAMES);
	stack_destroy(f.stack);
	return 0;
}
