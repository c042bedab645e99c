/* SPDX-License-Identifier: MIT */
/*
 * Packets that lie in several frames, at the stack's door: where they may be cut, padding, checksums, and that each
 * frame is put back once whatever the packet meets. Then a client at random, whose packets come to two stacks: to one
 * as chains, to the other as one packet per frame. Both must tell the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "csum.h"
#include "parse.h"
#include "stack.h"

#define FRAMES 1024
#define FRAME_SIZE 2048
#define RX_OFFSET 128
#define RX_BYTES 1900
#define SECOND 1000000000ull
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define STREAM 200000 /* bytes of a random client */

enum in_callback { NOTHING, ABORT, REFUSE, HAND_OVER };

/* A stack with its owner. */
struct side {
	struct frame_pool pool;
	struct stack *stack;
	struct flow *flow;
	bool closed, ring_full;
	enum in_callback on_opened, on_established, on_readable;
	uint32_t sent, last_ack, last_seq, consumed;
	uint8_t last_flags;
};

static struct side sides[2], *t = &sides[0];
static uint64_t now;
static uint8_t stream[STREAM];

/* How a packet is cut: payload in the first frame (negative: it ends within the headers), in each other, and padding.
 */
struct cut {
	int first;
	uint32_t each;
	uint32_t padding; /* bytes behind the IP packet, in the last frame and then in frames of their own */
	bool checksum_ok;
	uint32_t missing; /* frames that are not there */
	uint8_t options;  /* bytes of TCP options, all NOP */
	bool partial;     /* the checksum is the one that a local sender leaves to hardware */
	int flip;         /* not 0: a bit is wrong at this payload byte */
};

/* --- the owner --- */

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	struct side *s = ctx;
	uint8_t *packet = frame_data(&s->pool, frame) + off;
	struct packet_view view;

	(void)port;
	assert_int_equal(segment_bytes, 0);
	if (s->ring_full)
		return -EAGAIN;
	assert_int_equal(packet_parse(packet, packet + len, &view), DROP_NONE);
	s->sent++;
	s->last_ack = view.ack;
	s->last_seq = view.seq;
	s->last_flags = view.tcp_flags;
	frame_tx_start(&s->pool, frame);
	frame_tx_done(&s->pool, frame);
	return 0;
}

static void act(struct side *s, struct flow *flow, enum in_callback what)
{
	if (what == ABORT)
		stack_abort(s->stack, flow, now);
	else if (what == REFUSE)
		stack_refuse(s->stack, flow, REFUSE_RESET, now);
	else if (what == HAND_OVER)
		stack_hand_over(s->stack, flow);
}

static void on_opened(void *ctx, struct flow *flow)
{
	struct side *s = ctx;

	s->flow = flow;
	act(s, flow, s->on_opened);
}

static void on_established(void *ctx, struct flow *flow)
{
	struct side *s = ctx;

	act(s, flow, s->on_established);
}

static void on_readable(void *ctx, struct flow *flow)
{
	struct side *s = ctx;

	act(s, flow, s->on_readable);
}

static void on_writable(void *ctx, struct flow *flow)
{
	(void)ctx;
	(void)flow;
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	struct side *s = ctx;

	(void)flow;
	(void)why;
	s->closed = true;
}

static void create(struct side *s)
{
	const struct stack_callbacks callbacks = {
		.ctx = s,
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_established,
		.flow_readable = on_readable,
		.flow_writable = on_writable,
		.flow_closed = on_closed,
	};
	static const struct stack_settings settings = {
		.max_flows = 4,
		.half_open = 4,
		.half_open_per_source = 4,
		.handshake_timeout_ns = 10 * SECOND,
		.idle_timeout_ns = 3600 * SECOND,
		.time_wait_ns = 60 * SECOND,
		.receive_window_max_bytes = 1 << 20,
		.send_queue_max_bytes = 1 << 20,
		.secret = "not so secret",
	};
	struct stack_port port = {.mtu = 1500};

	memset(s, 0, sizeof(*s));
	frame_pool_init(&s->pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	s->stack = stack_create(&settings, &s->pool, &callbacks, now);
	assert_non_null(s->stack);
	stack_set_port(s->stack, 0, &port);
	port.partial_checksum_ok = true;
	stack_set_port(s->stack, 1, &port);
}

static void destroy(struct side *s)
{
	stack_check(s->stack);
	assert_int_equal(s->pool.owned[FRAME_RX], 0);
	stack_destroy(s->stack);
	free(s->pool.area);
	free(s->pool.frames);
}

static int setup(void **state)
{
	(void)state;
	now = 1000 * SECOND;
	for (uint32_t i = 0; i < STREAM; i++)
		stream[i] = (uint8_t)(i * 7 + i / 251);
	create(&sides[0]);
	create(&sides[1]);
	t = &sides[0];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	destroy(&sides[0]);
	destroy(&sides[1]);
	return 0;
}

/* --- the client --- */

static struct build_link client_link(void)
{
	return (struct build_link){
		.src_mac = {2, 0, 0, 0, 0, 1},
		.dst_mac = {2, 0, 0, 0, 0, 9},
		.src = {.addr = addr_from_ipv4(be32(0x0a000005)), .port = be16(40000)},
		.dst = {.addr = addr_from_ipv4(be32(0xc0000250)), .port = be16(80)},
	};
}

static uint32_t received_frame(struct side *s, const uint8_t *bytes, uint32_t len)
{
	uint32_t index = frame_get(&s->pool, FRAME_RX);

	assert_int_not_equal(index, FRAME_NONE);
	assert_in_range(len, 0, RX_BYTES);
	memcpy(frame_data(&s->pool, index) + RX_OFFSET, bytes, len);
	s->pool.frames[index].off = RX_OFFSET;
	s->pool.frames[index].len = (uint16_t)len;
	s->pool.frames[index].next = FRAME_NONE;
	return index;
}

static void set_partial_checksum(uint8_t *start, uint16_t payload_bytes, const struct build_link *link)
{
	uint16_t sum = csum_fold_sum(csum_pseudo(&link->src.addr, &link->dst.addr, IPPROTO_TCP, 20u + payload_bytes));

	memcpy(start + 34 + 16, &sum, sizeof(sum));
}

/* Sends [offset, offset+bytes) of the stream; the packet's headers are 54 bytes and the options. */
static void input_to(uint16_t port, uint32_t offset, uint16_t bytes, uint32_t ack, uint8_t flags, const struct cut *cut)
{
	static uint8_t buffer[FRAME_PAYLOAD_OFFSET + 65536 + 2000];
	struct build_segment segment = {.seq = 1001 + offset, .ack = ack, .flags = flags, .window = 64240};
	struct build_link link = client_link();
	uint8_t *payload = buffer + FRAME_PAYLOAD_OFFSET, *start;
	uint32_t headers = 54u + cut->options, total = headers + bytes + cut->padding, first, last;
	uint32_t at = (uint32_t)((int)headers + cut->first);
	uint32_t missing = cut->missing;

	if (bytes)
		memcpy(payload, stream + offset, bytes);
	memset(payload + bytes, 'P', cut->padding);
	memset(segment.options, 1, sizeof(segment.options));
	segment.option_bytes = cut->options;
	start = build_tcp(payload, bytes, &link, &segment);
	if (cut->partial)
		set_partial_checksum(start, bytes, &link);
	if (cut->flip)
		payload[cut->flip] ^= 4;
	first = last = received_frame(t, start, at < total ? at : total);
	for (; at < total; at += cut->each) {
		uint32_t part = total - at < cut->each ? total - at : cut->each;

		if (missing && total - at <= missing * cut->each)
			break;
		t->pool.frames[last].next = received_frame(t, start + at, part);
		last = t->pool.frames[last].next;
	}
	stack_input_chain(t->stack, port, first, total, cut->checksum_ok, now);
	stack_check(t->stack);
	assert_int_equal(t->pool.owned[FRAME_RX], 0);
}

static void input(uint32_t offset, uint16_t bytes, uint32_t ack, uint8_t flags, const struct cut *cut)
{
	input_to(0, offset, bytes, ack, flags, cut);
}

static const struct cut whole = {.first = 1000, .each = 1000};

/* Up to SYN-RECEIVED; returns the acknowledgement that completes it. */
static uint32_t open_flow(void)
{
	input((uint32_t)-1, 0, 0, SYN, &whole);
	stack_accept(t->stack, t->flow, now);
	assert_int_equal(t->last_flags, SYN | ACK);
	return t->last_seq + 1;
}

static uint32_t establish(void)
{
	uint32_t ack = open_flow();

	input(0, 0, ack, ACK, &whole);
	return ack;
}

static uint64_t dropped(enum drop_reason reason)
{
	return stack_counters(t->stack)->dropped[reason];
}

/* The receive queue is [from, from+bytes) of the stream. */
static void assert_readable(uint32_t from, uint32_t bytes)
{
	uint32_t at = 0;
	struct iovec iov;

	assert_int_equal(stack_readable_bytes(t->flow), bytes);
	for (; stack_peek(t->stack, t->flow, at, &iov, UINT32_MAX, 1); at += (uint32_t)iov.iov_len)
		assert_memory_equal(iov.iov_base, stream + from + at, iov.iov_len);
	assert_int_equal(at, bytes);
}

/* --- where packets are cut --- */

/* 2 to 33 frames, and one whose first frame holds headers only. */
static void test_frames(void **state)
{
	uint32_t ack = establish(), at = 0;

	(void)state;
	for (uint16_t frames = 2; frames <= 33; frames++) {
		struct cut cut = {.first = frames % 5 * 100, .each = 1000};
		uint16_t bytes = (uint16_t)((uint32_t)cut.first + (frames - 1u) * 1000);

		input(at, bytes, ack, ACK, &cut);
		assert_readable(at, bytes);
		stack_consume(t->stack, t->flow, bytes, now);
		stack_flush(t->stack, now);
		at = (at + bytes) % STREAM;
		if (at > STREAM - 40000)
			break;
	}
	assert_int_equal(stack_counters(t->stack)->bytes_from_clients, at);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
}

/* Packets of one frame may come by this door too. */
static void test_one_frame(void **state)
{
	const struct cut vouched = {.first = 100, .flip = 5, .checksum_ok = true};
	uint32_t ack = establish();

	(void)state;
	input(0, 700, ack, ACK, &whole);
	assert_readable(0, 700);
	input(700, 100, ack, ACK, &vouched);
	assert_int_equal(stack_readable_bytes(t->flow), 800);
}

static void test_headers_cut(void **state)
{
	uint32_t ack = establish();

	(void)state;
	for (int first = -66; first < 0; first++) {
		const struct cut cut = {.first = first, .each = 1500, .checksum_ok = true, .options = 12};

		input(0, 1000, ack, ACK, &cut);
	}
	assert_int_equal(dropped(DROP_TRUNCATED), 66);
	assert_readable(0, 0);
}

static void test_frames_missing(void **state)
{
	const struct cut cut = {.first = 1000, .each = 1000, .missing = 2, .checksum_ok = true};
	uint32_t ack = establish();

	(void)state;
	input(0, 9500, ack, ACK, &cut);
	assert_int_equal(dropped(DROP_TRUNCATED), 1);
	assert_readable(0, 0);
}

/* Ethernet padding in the last frame, over a frame's end, and with its headers alone in the first one. */
static void test_padding(void **state)
{
	uint32_t ack = establish(), at = 0;

	(void)state;
	for (uint32_t padding = 0; padding < 1200; padding += 7) {
		const struct cut cut = {.first = 40, .each = 300, .padding = padding};
		const struct cut none = {.first = 0, .each = 300, .padding = padding};

		input(at, 700, ack, ACK, &cut);
		assert_readable(at, 700);
		stack_consume(t->stack, t->flow, 700, now);
		stack_flush(t->stack, now);
		at += 700;
		input(at, 0, ack, ACK, &none);
		assert_int_equal(frame_pool_free(&t->pool), FRAMES);
	}
}

/* --- checksums --- */

static void test_wrong_checksum(void **state)
{
	uint32_t ack = establish();

	(void)state;
	for (int flip = 1; flip < 5000; flip += 499) {
		const struct cut cut = {.first = 501, .each = 777, .flip = flip};

		input(0, 5000, ack, ACK, &cut);
	}
	assert_int_equal(dropped(DROP_TCP_CHECKSUM), 11);
	assert_readable(0, 0);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
}

/* A chain's partial checksum is believed when the kernel vouches for it, not because of the port. */
static void test_partial_checksum(void **state)
{
	const struct cut vouched = {.first = 501, .each = 777, .partial = true, .checksum_ok = true};
	const struct cut alone = {.first = 501, .each = 777, .partial = true};
	uint32_t ack = establish();

	(void)state;
	input_to(1, 0, 5000, ack, ACK, &alone);
	assert_int_equal(dropped(DROP_TCP_CHECKSUM), 1);
	input_to(0, 0, 5000, ack, ACK, &vouched);
	assert_readable(0, 5000);
	input_to(1, 5000, 400, ack, ACK, &alone);
	assert_readable(0, 5400);
}

/* --- every frame comes back, once --- */

static void test_no_flow(void **state)
{
	(void)state;
	input(0, 20000, 77, ACK, &whole);
	input(0, 20000, 77, RST, &whole);
	assert_int_equal(stack_counters(t->stack)->no_flow, 2);
	assert_int_equal(t->sent, 1);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
}

/* A SYN with payload in frames; the payload is not for us (it comes again). */
static void test_syn(void **state)
{
	(void)state;
	t->on_opened = REFUSE;
	input(0, 20000, 0, SYN, &whole);
	t->on_opened = HAND_OVER;
	input(0, 20000, 0, SYN, &whole);
	t->on_opened = NOTHING;
	input(0, 20000, 0, SYN, &whole);
	input(0, 20000, 0, SYN, &whole); /* again */
	input(5, 20000, 0, SYN, &whole); /* another connection */
	input(6, 20000, 0, RST, &whole);
	assert_true(t->closed);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
}

/* The owner resets the flow inside a call-back that the chain has caused. */
static void test_reset_in_callback(void **state)
{
	uint32_t ack = open_flow();

	(void)state;
	t->on_established = ABORT;
	input(0, 20000, ack, ACK, &whole);
	assert_true(t->closed);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
	t->closed = false;
	t->on_established = NOTHING;
	t->on_readable = ABORT;
	ack = establish();
	input(3000, 20000, ack, ACK, &whole); /* nothing readable yet */
	assert_false(t->closed);
	input(0, 20000, ack, ACK, &whole);
	assert_true(t->closed);
	assert_int_equal(frame_pool_free(&t->pool), FRAMES);
}

/* The acknowledgement of the handshake is wrong: reset, and nothing is kept. */
static void test_handshake_refused(void **state)
{
	uint32_t ack = open_flow();

	(void)state;
	input(0, 20000, ack + 5, ACK, &whole);
	assert_int_equal(t->last_flags, RST);
	input(0, 20000, ack, ACK, &whole);
	assert_readable(0, 20000);
}

/* A pool that is nearly empty keeps nothing; the frames come back to it and the bytes come again. */
static void test_pool_low(void **state)
{
	uint32_t ack = establish(), taken[FRAMES], count = 0;

	(void)state;
	while (frame_pool_free(&t->pool) > FRAMES / 32 + 15)
		taken[count++] = frame_get(&t->pool, FRAME_RECV);
	input(0, 33000, ack, ACK, &whole);
	assert_readable(0, 0);
	assert_int_equal(stack_counters(t->stack)->segments_over_budget, 33);
	while (count)
		frame_put(&t->pool, taken[--count]);
	input(0, 33000, ack, ACK, &whole);
	assert_readable(0, 33000);
}

static void test_ring_full(void **state)
{
	uint32_t ack = establish(), sent = t->sent;

	(void)state;
	t->ring_full = true;
	input(5000, 20000, ack, ACK, &whole);
	stack_flush(t->stack, now);
	assert_int_equal(t->sent, sent);
	t->ring_full = false;
	stack_flush(t->stack, now);
	assert_int_equal(t->sent, sent + 1);
	assert_int_equal(t->last_ack, 1001);
}

/* --- chains against single frames --- */

/* What a chain brings, in packets of their own; the FIN stands in the last. */
static void input_apart(uint32_t offset, uint32_t bytes, uint32_t ack, uint8_t flags, const struct cut *cut)
{
	uint32_t part = bytes < (uint32_t)cut->first ? bytes : (uint32_t)cut->first;

	while (part < bytes) {
		if (part)
			input(offset, (uint16_t)part, ack, ACK, &whole);
		offset += part;
		bytes -= part;
		part = bytes < cut->each ? bytes : cut->each;
	}
	input(offset, (uint16_t)bytes, ack, flags, &whole);
}

static void input_to_both(uint32_t offset, uint32_t bytes, uint32_t ack, uint8_t flags)
{
	const struct cut cut = {.first = rand() % 1000, .each = 1 + (uint32_t)rand() % 1000};

	if (bytes > (uint32_t)cut.first + 63 * cut.each) { /* not more frames than there are */
		bytes = (uint32_t)cut.first + 63 * cut.each;
		flags = ACK;
	}
	t = &sides[0];
	input(offset, (uint16_t)bytes, ack, flags, &cut);
	t = &sides[1];
	input_apart(offset, bytes, ack, flags, &cut);
}

static void consume_all(struct side *s)
{
	uint32_t bytes;

	t = s;
	if (!t->flow || t->closed)
		return;
	bytes = stack_readable_bytes(t->flow);
	assert_readable(t->consumed, bytes);
	t->consumed += bytes;
	stack_consume(t->stack, t->flow, bytes, now);
	stack_flush(t->stack, now);
	stack_check(t->stack);
}

/* Within the first window: after every packet both stacks must say the same. */
static void same_in_window(uint32_t stream_bytes)
{
	uint32_t ack, fin = 0;

	t = &sides[1];
	establish();
	t = &sides[0];
	ack = establish();
	for (int step = 0; step < 60; step++) {
		uint32_t offset = (uint32_t)rand() % stream_bytes, bytes = (uint32_t)rand() % 20000;

		if (rand() % 2)
			offset = sides[0].last_ack - 1001;
		if (offset >= stream_bytes)
			break;
		if (bytes > stream_bytes - offset)
			bytes = stream_bytes - offset;
		input_to_both(offset, bytes, ack, ACK);
		if (sides[0].pool.owned[FRAME_FLOW] > FRAMES / 2)
			break;
		for (int i = 0; i < 2; i++)
			consume_all(&sides[i]);
		now += 50000000; /* delayed acknowledgements are sent */
		for (int i = 0; i < 2; i++)
			stack_run_timers(sides[i].stack, now);
		assert_int_equal(sides[0].consumed, sides[1].consumed);
		assert_int_equal(sides[0].last_ack, sides[1].last_ack);
		assert_int_equal(stack_counters(sides[0].stack)->segments_out_of_order,
				 stack_counters(sides[1].stack)->segments_out_of_order);
	}
	while (fin < stream_bytes) {
		uint32_t bytes = stream_bytes - fin < 5000 ? stream_bytes - fin : 5000;

		input_to_both(fin, bytes, ack, bytes == stream_bytes - fin ? FIN | ACK : ACK);
		fin = sides[0].last_ack - 1001 > fin ? sides[0].last_ack - 1001 : fin;
		for (int i = 0; i < 2; i++)
			consume_all(&sides[i]);
		assert_int_equal(sides[0].consumed, sides[1].consumed);
		assert_int_equal(stack_read_finished(sides[0].flow), stack_read_finished(sides[1].flow));
		if (stack_read_finished(sides[0].flow))
			break;
	}
	assert_int_equal(sides[0].consumed, stream_bytes);
}

static void test_same_in_window(void **state)
{
	srand(11);
	for (int run = 0; run < 40; run++) {
		same_in_window(1 + (uint32_t)rand() % 60000);
		teardown(state);
		setup(state);
	}
}

/* Far beyond it, in no order, with a FIN that comes early: in the end the owner has the same bytes. */
static void same_in_the_end(void)
{
	uint32_t ack, finished = 0;

	t = &sides[1];
	establish();
	t = &sides[0];
	ack = establish();
	for (int step = 0; step < 5000 && finished < 2; step++) {
		uint32_t done = sides[rand() % 2].last_ack - 1001, bytes = (uint32_t)rand() % 40000, offset = done;

		if (rand() % 2)
			offset += (uint32_t)rand() % 100000;
		else if (rand() % 4 == 0)
			offset -= (uint32_t)rand() % (offset + 1);
		if (offset > STREAM)
			offset = STREAM;
		if (bytes > STREAM - offset)
			bytes = STREAM - offset;
		if (rand() % 3 == 0)
			bytes = bytes % 300;
		input_to_both(offset, bytes, ack, ACK);
		if (rand() % 4 == 0)
			input_to_both(STREAM - 3000, 3000, ack, FIN | ACK);
		finished = 0;
		for (int i = 0; i < 2; i++) {
			if (rand() % 3)
				consume_all(&sides[i]);
			stack_flush(sides[i].stack, now);
			finished += stack_read_finished(sides[i].flow);
		}
	}
	for (int i = 0; i < 2; i++) {
		consume_all(&sides[i]);
		assert_int_equal(sides[i].consumed, STREAM);
		assert_int_equal(frame_pool_free(&sides[i].pool), FRAMES);
	}
}

static void test_same_in_the_end(void **state)
{
	srand(12);
	for (int run = 0; run < 20; run++) {
		same_in_the_end();
		teardown(state);
		setup(state);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_frames),
		TEST(test_one_frame),
		TEST(test_headers_cut),
		TEST(test_frames_missing),
		TEST(test_padding),
		TEST(test_wrong_checksum),
		TEST(test_partial_checksum),
		TEST(test_no_flow),
		TEST(test_syn),
		TEST(test_reset_in_callback),
		TEST(test_handshake_refused),
		TEST(test_pool_low),
		TEST(test_ring_full),
		TEST(test_same_in_window),
		TEST(test_same_in_the_end),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
