/* SPDX-License-Identifier: MIT */
/*
 * A port that cuts packets into segments (GSO): what goes into one packet, and that windows, acknowledgements and
 * losses are still those of segments. Frames are large there, so little payload must not occupy many of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "lib_replay.h"

#define ACK 0x10
#define MSS 1448 /* 1460 less timestamps */
#define SEVEN (7 * MSS)
#define C 1001 /* the client's next byte */

static struct replay r;
static uint32_t iss;

static void establish(bool sack)
{
	struct replay_settings s = replay_defaults();

	s.offload_bytes = SEVEN;
	s.sack = sack;
	replay_establish(&r, &s, &iss);
}

static void queue_payload(uint16_t bytes)
{
	uint32_t index = frame_get(&r.pool, FRAME_FLOW);

	memset(frame_data(&r.pool, index) + FRAME_PAYLOAD_OFFSET, 'x', bytes);
	stack_send(r.stack, r.flow, index, FRAME_PAYLOAD_OFFSET, bytes, r.now_ns);
}

static void acknowledge(uint32_t bytes)
{
	replay_inject(&r, ACK, C, iss + 1 + bytes, 60000, NULL, 0);
}

/* The next segment that the client gets begins at `offset` and has so many bytes. */
static void expect_segment(uint32_t offset, uint32_t bytes)
{
	const struct packet_view *v = replay_seen(&r);

	assert_non_null(v);
	assert_int_equal(v->seq - iss - 1, offset);
	assert_int_equal(v->payload_len, bytes);
}

static void expect_segments(uint32_t offset, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		expect_segment(offset + i * MSS, MSS);
}

static uint64_t packets_out(void)
{
	return stack_counters(r.stack)->packets_out;
}

static uint32_t flow_frames(void)
{
	return r.pool.owned[FRAME_FLOW];
}

static void test_one_packet(void **state)
{
	uint64_t before;

	(void)state;
	establish(true);
	before = packets_out();
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	assert_int_equal(packets_out() - before, 1);
	expect_segments(0, 7);
	assert_null(replay_seen(&r));
	replay_stop(&r);
}

/* RFC 6928: ten segments, so the second frame is cut; the rest follows as acknowledgements come. */
static void test_initial_window(void **state)
{
	(void)state;
	establish(true);
	queue_payload(SEVEN);
	queue_payload(SEVEN);
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	expect_segments(0, 10);
	assert_null(replay_seen(&r));
	acknowledge(10 * MSS);
	expect_segments(10 * MSS, 11);
	assert_null(replay_seen(&r));
	stack_check(r.stack);
	replay_stop(&r);
}

/* A window that has room for a small part of a frame is not worth the copying: it waits for more. */
static void test_small_part_waits(void **state)
{
	(void)state;
	establish(true);
	queue_payload(9 * MSS);
	replay_advance(&r, 0);
	expect_segments(0, 9);
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	assert_null(replay_seen(&r));
	acknowledge(4 * MSS);
	expect_segments(9 * MSS, 7);
	assert_null(replay_seen(&r));
	replay_stop(&r);
}

/* What is acknowledged of a frame is not sent again, and after a time-out one segment is (RFC 5681 3.1). */
static void test_acknowledged_front(void **state)
{
	(void)state;
	establish(false);
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	expect_segments(0, 7);
	acknowledge(3 * MSS);
	stack_check(r.stack);
	assert_null(replay_seen(&r));
	replay_advance(&r, 500 * REPLAY_MS);
	expect_segment(3 * MSS, MSS);
	assert_null(replay_seen(&r));
	acknowledge(4 * MSS + 100);
	/* cut where the client's acknowledgement ends, in the middle of a segment */
	expect_segment(4 * MSS + 100, MSS);
	stack_check(r.stack);
	acknowledge(SEVEN);
	assert_int_equal(flow_frames(), 0);
	replay_stop(&r);
}

/* RFC 6582: three duplicates bring one segment, a partial acknowledgement the next. */
static void test_duplicates(void **state)
{
	(void)state;
	establish(false);
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	expect_segments(0, 7);
	for (int i = 0; i < 3; i++)
		acknowledge(0);
	expect_segment(0, MSS);
	assert_null(replay_seen(&r));
	acknowledge(2 * MSS);
	expect_segment(2 * MSS, MSS);
	stack_check(r.stack);
	replay_stop(&r);
}

/* RFC 8985 7.3: the probe is the last segment, not the last packet. */
static void test_tail_probe(void **state)
{
	(void)state;
	establish(true);
	queue_payload(SEVEN);
	replay_advance(&r, 0);
	expect_segments(0, 7);
	replay_advance(&r, 100 * REPLAY_MS);
	expect_segment(6 * MSS, MSS);
	assert_null(replay_seen(&r));
	stack_check(r.stack);
	replay_stop(&r);
}

/* With SACK one lost segment is one segment more on the wire, wherever it stood in its packet; or a probe besides. */
static void test_only_what_is_missing(void **state)
{
	struct replay_settings s = replay_defaults();
	uint32_t undisturbed;

	(void)state;
	s.offload_bytes = SEVEN;
	s.down_bytes = 20 * MSS;
	s.up_bytes = 0;
	replay_run(&r, &s);
	undisturbed = r.sent[TO_CLIENT];
	for (uint32_t n = 1; n < undisturbed; n++) {
		s.lose[TO_CLIENT] = n;
		replay_run(&r, &s);
		assert_in_range(r.sent[TO_CLIENT], undisturbed, undisturbed + 3);
	}
}

/* Little that has to wait is copied together, and sent so. */
static void test_little_is_merged(void **state)
{
	uint32_t before;

	(void)state;
	establish(true);
	queue_payload(10 * MSS);
	replay_advance(&r, 0);
	expect_segments(0, 10);
	before = flow_frames();
	for (int i = 0; i < 500; i++)
		queue_payload(10);
	replay_advance(&r, 0);
	assert_int_equal(flow_frames(), before + 1);
	assert_null(replay_seen(&r));
	acknowledge(10 * MSS);
	expect_segments(10 * MSS, 3);
	expect_segment(13 * MSS, 5000 - 3 * MSS);
	assert_null(replay_seen(&r));
	replay_stop(&r);
}

/* What is sent at once in small packets fills frames, not bytes: that too closes the room, until it is acknowledged. */
static void test_frames_are_bounded(void **state)
{
	uint32_t sent = 0;

	(void)state;
	establish(true);
	for (; stack_send_room(r.flow) && sent < 1000; sent++) {
		queue_payload(1);
		replay_advance(&r, 0);
		replay_seen(&r);
	}
	/* 64, and three times those that 256 KB would fill */
	assert_int_equal(sent, 64 + 3 * 16);
	assert_int_equal(flow_frames(), sent);
	acknowledge(sent);
	assert_int_equal(flow_frames(), 0);
	assert_true(stack_send_room(r.flow));
	replay_stop(&r);
}

/* Segments of the client share frames as well, in order and not. */
static void test_received_is_merged(void **state)
{
	(void)state;
	establish(true);
	for (uint32_t i = 0; i < 10; i++)
		replay_inject_chain(&r, ACK, C + 1000 + i * 1000, iss + 1, 1000, 1000);
	assert_int_equal(flow_frames(), 1);
	assert_true(replay_readable_is(&r, 0));
	stack_check(r.stack);
	replay_inject_chain(&r, ACK, C, iss + 1, 1000, 1000);
	for (uint32_t i = 11; i < 30; i++)
		replay_inject_chain(&r, ACK, C + i * 1000, iss + 1, 1000, 1000);
	assert_true(replay_readable_is(&r, 30000));
	assert_in_range(flow_frames(), 2, 4);
	stack_check(r.stack);
	replay_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_packet),           cmocka_unit_test(test_initial_window),
		cmocka_unit_test(test_small_part_waits),     cmocka_unit_test(test_acknowledged_front),
		cmocka_unit_test(test_duplicates),           cmocka_unit_test(test_tail_probe),
		cmocka_unit_test(test_only_what_is_missing), cmocka_unit_test(test_little_is_merged),
		cmocka_unit_test(test_frames_are_bounded),   cmocka_unit_test(test_received_is_merged),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("offload", tests, NULL, NULL);
}
