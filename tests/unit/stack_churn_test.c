/* SPDX-License-Identifier: MIT */
/*
 * Clients that obey no rule: random segments near the window of random flows, some in chains of frames, random calls of
 * the owner, a ring that is full now and then, a pool that runs dry. After every step all invariants hold; in the end
 * every frame is back.
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
#include "parse.h"
#include "stack.h"

#define FRAMES 256
#define FRAME_SIZE 2048
#define FLOWS 12
#define CLIENTS 16
#define STEPS 150000
#define SECOND 1000000000ull

/* What a client has seen last of the stack, to aim near it. */
struct client {
	struct build_link link;
	uint32_t ack, seq;
};

static struct frame_pool pool;
static struct stack *stack;
static struct client clients[CLIENTS];
static struct flow *owned[FLOWS];
static bool shut[FLOWS];
static uint64_t now = 1000 * SECOND;
static uint32_t busy[FRAMES], busy_count;
static uint64_t opened, closed;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	uint8_t *packet = frame_data(&pool, frame) + off;
	struct packet_view view;

	(void)ctx;
	(void)port;
	assert_int_equal(segment_bytes, 0);
	if (rand() % 8 == 0)
		return -EAGAIN;
	assert_int_equal(packet_parse(packet, packet + len, &view), DROP_NONE);
	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].link.src.port != view.dport)
			continue;
		clients[i].ack = view.seq + view.payload_len;
		clients[i].seq = view.ack;
	}
	frame_tx_start(&pool, frame);
	busy[busy_count++] = frame;
	return 0;
}

static void finish_transmissions(void)
{
	while (busy_count && rand() % 4)
		frame_tx_done(&pool, busy[--busy_count]);
}

static void on_opened(void *ctx, struct flow *flow)
{
	uint32_t index = stack_flow_index(stack, flow);

	(void)ctx;
	opened++;
	assert_null(owned[index]);
	owned[index] = flow;
	shut[index] = false;
	if (rand() % 4) {
		stack_accept(stack, flow, now);
	} else if (rand() % 4 == 0) {
		owned[index] = NULL;
		opened--;
		stack_hand_over(stack, flow);
	} else if (rand() % 2) {
		owned[index] = NULL;
		opened--;
		stack_refuse(stack, flow, rand() % 2 ? REFUSE_RESET : REFUSE_ADMIN_PROHIBITED, now);
	}
}

static void on_event(void *ctx, struct flow *flow)
{
	(void)ctx;
	assert_ptr_equal(owned[stack_flow_index(stack, flow)], flow);
	if (rand() % 16 == 0)
		stack_abort(stack, flow, now);
	else if (rand() % 2)
		stack_consume(stack, flow, stack_readable_bytes(flow), now);
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	uint32_t index = stack_flow_index(stack, flow), frame = FRAME_NONE;

	(void)ctx;
	(void)why;
	closed++;
	assert_ptr_equal(owned[index], flow);
	owned[index] = NULL;
	if (rand() % 2)
		frame = stack_take_receive_queue(stack, flow);
	while (frame != FRAME_NONE) {
		uint32_t next = pool.frames[frame].next;

		frame_put(&pool, frame);
		frame = next;
	}
}

static uint32_t near(uint32_t seq)
{
	static const int32_t distances[] = {0, 0, 0, 0, 1, -1, 100, -100, 1448, -1448, -2896, 70000, -70000, INT32_MAX};

	return seq + (uint32_t)distances[(size_t)rand() % ARRAY_SIZE(distances)];
}

static void random_options(struct build_segment *segment, const struct client *client)
{
	uint8_t *p = segment->options;

	if (rand() % 4 == 0) {
		segment->option_bytes = (uint8_t)(rand() % 11 * 4);
		for (int i = 0; i < segment->option_bytes; i++)
			segment->options[i] = (uint8_t)(rand() % 12);
		return;
	}
	if (segment->flags & 2) {
		memcpy(p, "\x02\x04\x05\xb4\x04\x02\x01\x01\x03\x03\x07\x00", 12);
		segment->option_bytes = 12;
	} else if (rand() % 2) {
		uint32_t end = near(client->ack), start = be32(end - (uint32_t)rand() % 5000);

		end = be32(end);

		memcpy(p, "\x01\x01\x05\x0a", 4);
		memcpy(p + 4, &start, 4);
		memcpy(p + 8, &end, 4);
		segment->option_bytes = 12;
	}
}

static uint32_t received_frame(const uint8_t *bytes, uint32_t len)
{
	uint32_t frame = frame_get(&pool, FRAME_RX);

	if (frame == FRAME_NONE)
		return frame;
	memcpy(frame_data(&pool, frame) + FRAME_PAYLOAD_OFFSET, bytes, len);
	pool.frames[frame].off = FRAME_PAYLOAD_OFFSET;
	pool.frames[frame].len = (uint16_t)len;
	return frame;
}

/* A packet as a chain, cut anywhere, sometimes without its end. */
static void random_chain(const struct client *client, const struct build_segment *segment)
{
	static uint8_t buffer[65536 + FRAME_PAYLOAD_OFFSET];
	uint16_t bytes = (uint16_t)(rand() % (rand() % 8 ? 6000 : 60000));
	uint8_t *payload = buffer + FRAME_PAYLOAD_OFFSET;
	uint8_t *start = build_tcp(payload, bytes, &client->link, segment);
	uint32_t len = (uint32_t)(payload + bytes - start), at = 40u + (uint32_t)rand() % 1500, first, *last;

	at = MIN(at, len);
	first = received_frame(start, at);
	if (first == FRAME_NONE)
		return;
	for (last = &pool.frames[first].next; at < len && rand() % 256; last = &pool.frames[*last].next) {
		uint32_t part = (uint32_t)rand() % 1500;

		part = MIN(part, len - at);
		*last = received_frame(start + at, part);
		if (*last == FRAME_NONE)
			break;
		at += part;
	}
	*last = FRAME_NONE;
	stack_input_chain(stack, 0, first, len, rand() % 2, now);
}

static void random_segment(void)
{
	static const uint8_t flags[] = {0x02, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x04, 0x12, 0x00};
	struct client *client = &clients[rand() % CLIENTS];
	struct build_segment segment = {.flags = flags[(size_t)rand() % ARRAY_SIZE(flags)]};
	uint16_t bytes = rand() % 2 ? 0 : (uint16_t)(rand() % 1400);
	uint8_t *payload, *start;
	uint32_t frame;

	segment.seq = near(client->seq);
	segment.ack = near(client->ack);
	segment.window = (uint16_t)(rand() % 4 ? rand() : 0);
	random_options(&segment, client);
	if (rand() % 8 == 0) {
		random_chain(client, &segment);
		return;
	}
	frame = frame_get(&pool, FRAME_RX);
	if (frame == FRAME_NONE)
		return;
	payload = frame_data(&pool, frame) + 2 * FRAME_PAYLOAD_OFFSET;
	memset(payload, 'x', bytes);
	start = build_tcp(payload, bytes, &client->link, &segment);
	stack_input(stack, 0, frame, (uint16_t)(start - frame_data(&pool, frame)), (uint16_t)(payload + bytes - start),
		    now);
}

static void random_call(void)
{
	uint32_t index = (uint32_t)rand() % FLOWS, frame;
	struct flow *flow = owned[index];

	if (!flow)
		return;
	switch (rand() % 8) {
	case 0:
		stack_accept(stack, flow, now);
		break;
	case 1:
		stack_consume(stack, flow, stack_readable_bytes(flow) / 2, now);
		break;
	case 2:
		if (rand() % 4 == 0)
			stack_abort(stack, flow, now);
		break;
	case 3:
		if (rand() % 4 == 0) {
			shut[index] = true;
			stack_shutdown(stack, flow, now);
		}
		break;
	default:
		frame = shut[index] ? FRAME_NONE : frame_get(&pool, FRAME_FLOW);
		if (frame != FRAME_NONE)
			stack_send(stack, flow, frame, FRAME_PAYLOAD_OFFSET, (uint16_t)(rand() % 1700), now);
		break;
	}
}

static void create(void)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_event,
		.flow_readable = on_event,
		.flow_writable = on_event,
		.flow_closed = on_closed,
	};
	static const struct stack_settings settings = {
		.max_flows = FLOWS,
		.half_open = 6,
		.half_open_per_source = 3,
		.handshake_timeout_ns = 10 * SECOND,
		.idle_timeout_ns = 100 * SECOND,
		.time_wait_ns = 5 * SECOND,
		.receive_window_max_bytes = 1 << 20,
		.send_queue_max_bytes = 1 << 20,
		.secret = "not so secret",
	};
	const struct stack_port port = {.mtu = 1500};

	frame_pool_init(&pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	stack = stack_create(&settings, &pool, &callbacks, now);
	assert_non_null(stack);
	stack_set_port(stack, 0, &port);
	for (uint16_t i = 0; i < CLIENTS; i++) {
		clients[i].link = (struct build_link){
			.src = {.addr = addr_from_ipv4(be32(0x0a000001u + i % 4)), .port = be16((uint16_t)(40000 + i))},
			.dst = {.addr = addr_from_ipv4(be32(0xc0000250)), .port = be16(80)},
		};
		clients[i].seq = i % 2 ? 0xfffffc00u : 1000; /* some wrap soon */
	}
}

static void test_churn(void **state)
{
	(void)state;
	srand(7);
	create();
	for (int step = 0; step < STEPS; step++) {
		if (rand() % 3)
			random_segment();
		else
			random_call();
		finish_transmissions();
		if (rand() % 4 == 0) {
			now += (uint64_t)rand() % (rand() % 16 ? 1000000 : SECOND);
			stack_run_timers(stack, now);
			stack_flush(stack, now);
		}
		stack_check(stack);
	}
	/* the run was worth something */
	assert_true(stack_counters(stack)->flows_established > 100);
	assert_true(stack_counters(stack)->bytes_from_clients > 10000);
	assert_true(stack_counters(stack)->segments_out_of_order > 100);
	assert_true(stack_counters(stack)->fast_recoveries > 10);
	for (int i = 0; i < FLOWS; i++)
		if (owned[i])
			stack_abort(stack, owned[i], now);
	assert_int_equal(opened, closed);
	/* TIME_WAIT runs out */
	stack_run_timers(stack, now + 10 * SECOND);
	while (busy_count)
		frame_tx_done(&pool, busy[--busy_count]);
	stack_check(stack);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	stack_destroy(stack);
	free(pool.area);
	free(pool.frames);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_churn)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
