/* SPDX-License-Identifier: MIT */
/* GSO packets: one TCP segment of up to 64 KB in a chain of frames, in exchanges over time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib_replay.h"

#define FIN 0x01
#define RST 0x04
#define ACK 0x10
#define C (settings.client_iss + 1) /* the client's first byte */

static struct replay r;
static struct replay_settings settings;
static uint32_t iss;

static int setup(void **state)
{
	(void)state;
	settings = replay_defaults();
	settings.timestamps = false;
	replay_establish(&r, &settings, &iss);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(r.pool.owned[FRAME_RX], 0);
	replay_stop(&r);
	return 0;
}

static uint32_t count_seen(uint32_t *last_ack)
{
	const struct packet_view *v;
	uint32_t count = 0;

	while ((v = replay_seen(&r))) {
		*last_ack = v->ack;
		count++;
	}
	return count;
}

static void chain(uint8_t flags, uint32_t offset, uint16_t bytes, uint16_t frame_bytes)
{
	replay_inject_chain(&r, flags | ACK, C + offset, iss + 1, bytes, frame_bytes);
	stack_check(r.stack);
}

/* One ACK for all frames, one flow_readable. */
static void test_in_order(void **state)
{
	uint32_t ack;

	(void)state;
	chain(0, 0, 33 * 1500, 1500);
	assert_true(replay_readable_is(&r, 33 * 1500));
	assert_int_equal(count_seen(&ack), 1);
	assert_int_equal(ack, C + 33 * 1500);
	assert_int_equal(r.pool.owned[FRAME_FLOW], 33);
}

/* Odd sizes; small frames are merged. */
static void test_small_frames(void **state)
{
	(void)state;
	chain(0, 0, 2000, 61);
	chain(0, 2000, 999, 333);
	assert_true(replay_readable_is(&r, 2999));
	assert_true(r.pool.owned[FRAME_FLOW] < 4);
}

/* A gap is answered once, with one SACK block; what fills it frees the rest. */
static void test_out_of_order(void **state)
{
	const struct packet_view *v;
	uint32_t ack;

	(void)state;
	chain(0, 10000, 9000, 1000);
	assert_true(replay_readable_is(&r, 0));
	v = replay_seen(&r);
	assert_non_null(v);
	assert_int_equal(v->ack, C);
	assert_int_equal(v->tcp_hdr_len, 20 + 12);
	assert_memory_equal(replay_seen_bytes() + v->l4_off + 24,
			    ((uint32_t[]){be32(C + 10000), be32(C + 10000 + 9000)}), 8);
	assert_null(replay_seen(&r));
	chain(0, 0, 10000, 1500);
	assert_true(replay_readable_is(&r, 19000));
	assert_int_equal(count_seen(&ack), 1);
	assert_int_equal(ack, C + 19000);
}

/* The beginning is old, the middle fills a gap, the end is new. */
static void test_overlap(void **state)
{
	uint32_t ack;

	(void)state;
	chain(0, 0, 5000, 1000);
	chain(0, 7000, 3000, 1000);
	count_seen(&ack);
	chain(0, 1500, 12000, 700);
	assert_true(replay_readable_is(&r, 13500));
	assert_int_equal(count_seen(&ack), 1);
	assert_int_equal(ack, C + 13500);
	/* all of it again is answered once and not delivered */
	chain(0, 0, 13500, 1000);
	assert_true(replay_readable_is(&r, 13500));
	assert_int_equal(count_seen(&ack), 1);
}

/* What lies behind the advertised edge is not taken, be the packet's beginning before it. */
static void test_beyond_window(void **state)
{
	uint32_t ack;

	(void)state;
	/* the handshake offered 65535, unscaled */
	chain(0, 60000, 20000, 1000);
	assert_int_equal(stack_counters(r.stack)->segments_outside_window, 14);
	for (uint32_t at = 0; at < 60000; at += 20000)
		chain(0, at, 20000, 1000);
	assert_true(replay_readable_is(&r, 65535));
	count_seen(&ack);
	assert_int_equal(ack, C + 65535);
}

/* A FIN counts with the last frame: what it ends is there, or it waits. */
static void test_fin(void **state)
{
	uint32_t ack;

	(void)state;
	chain(FIN, 5000, 5000, 1000);
	assert_string_equal(replay_state(&r), "ESTABLISHED");
	chain(0, 0, 5000, 1000);
	assert_string_equal(replay_state(&r), "CLOSE-WAIT");
	assert_true(replay_readable_is(&r, 10000));
	assert_true(stack_read_finished(r.flow));
	count_seen(&ack);
	assert_int_equal(ack, C + 10001);
	/* more behind it is refused */
	chain(FIN, 5000, 20000, 1000);
	assert_true(replay_readable_is(&r, 10000));
	assert_int_equal(count_seen(&ack), 1);
}

/* A FIN whose frame lies behind the window has not been received. */
static void test_fin_beyond_window(void **state)
{
	(void)state;
	chain(FIN, 60000, 20000, 1000);
	for (uint32_t at = 0; at < 80000; at += 20000)
		chain(0, at, 20000, 1000);
	assert_string_equal(replay_state(&r), "ESTABLISHED");
	chain(FIN, 60000, 20000, 1000);
	assert_string_equal(replay_state(&r), "CLOSE-WAIT");
	assert_true(replay_readable_is(&r, 80000));
}

static void shut(void)
{
	stack_shutdown(r.stack, r.flow, r.now_ns);
	stack_flush(r.stack, r.now_ns);
}

/* The owner has ended its direction; the client's last chain acknowledges that and ends its own. */
static void test_early_close(void **state)
{
	(void)state;
	shut();
	assert_string_equal(replay_state(&r), "FIN-WAIT-1");
	chain(0, 0, 8000, 1000);
	assert_true(replay_readable_is(&r, 8000));
	replay_inject_chain(&r, FIN | ACK, C + 8000, iss + 2, 8000, 1000);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
	assert_int_equal(r.why, FLOW_END_CLOSED);
	assert_int_equal(r.pool.owned[FRAME_FLOW], 0);
	/* nothing of what still comes is kept */
	chain(FIN, 0, 16000, 1000);
	assert_int_equal(r.pool.owned[FRAME_FLOW], 0);
}

/* The acknowledgement that ends the flow comes with a chain behind the client's own FIN. */
static void test_last_ack(void **state)
{
	(void)state;
	chain(FIN, 0, 3000, 1000);
	shut();
	assert_string_equal(replay_state(&r), "LAST-ACK");
	replay_inject_chain(&r, ACK, C + 3001, iss + 2, 20000, 1000);
	assert_string_equal(replay_state(&r), "CLOSED");
	assert_int_equal(r.pool.owned[FRAME_POOL], r.pool.total);
}

/* A reset is a reset once, whatever it carries. */
static void test_reset(void **state)
{
	(void)state;
	chain(RST, 5, 9000, 1000);
	assert_int_equal(stack_counters(r.stack)->challenge_acks, 1);
	chain(RST, 0, 9000, 1000);
	assert_string_equal(replay_state(&r), "CLOSED");
	assert_int_equal(r.why, FLOW_END_CLIENT_RESET);
	/* and a chain that belongs to nothing is answered once, for all its bytes */
	while (replay_seen(&r))
		;
	replay_inject_chain(&r, 0, C, 0, 9000, 1000);
	assert_int_equal(replay_seen(&r)->ack, C + 9000);
	assert_null(replay_seen(&r));
}

/* Chains with payload are no duplicate ACKs, and count once as an acknowledgement (RFC 5681 2). */
static void test_acknowledges_once(void **state)
{
	uint32_t index = frame_get(&r.pool, FRAME_FLOW);

	(void)state;
	stack_send(r.stack, r.flow, index, FRAME_PAYLOAD_OFFSET, 1000, r.now_ns);
	stack_flush(r.stack, r.now_ns);
	chain(0, 0, 9000, 1000);
	chain(0, 9000, 9000, 1000);
	assert_int_equal(stack_counters(r.stack)->fast_recoveries, 0);
	replay_inject_chain(&r, ACK, C + 18000, iss + 1001, 9000, 1000);
	assert_int_equal(stack_counters(r.stack)->bytes_to_clients, 1000);
	assert_true(replay_readable_is(&r, 27000));
}

/* --- whole connections: replay_run() compares every byte with what single frames bring --- */

static void run(uint16_t segment_bytes, uint16_t frame_bytes, uint32_t lose_every, uint32_t late, bool plain)
{
	static struct replay whole;
	struct replay_settings s = replay_defaults();

	s.up_bytes = 65000;
	s.client_segment_bytes = segment_bytes;
	s.chain_frame_bytes = frame_bytes;
	s.lose_every[TO_STACK] = lose_every;
	s.late[TO_STACK] = late;
	s.twice[TO_STACK] = late == REPLAY_NONE ? REPLAY_NONE : late + 1;
	s.timestamps = s.sack = !plain;
	s.ipv6 = plain;
	replay_run(&whole, &s);
}

static void test_runs(void **state)
{
	static const uint16_t segments[] = {0, 3000, 9999, 30000, 64000};
	static const uint16_t frames[] = {67, 333, 1448, 1600};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		for (size_t j = i ? 0 : ARRAY_SIZE(frames) - 1; j < ARRAY_SIZE(frames); j++)
			for (uint32_t k = 0; k < 8; k++)
				run(segments[i], frames[j], k & 1 ? 3 : 0, k & 2 ? 2 : REPLAY_NONE, k & 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_order),          TEST(test_small_frames),
		TEST(test_out_of_order),      TEST(test_overlap),
		TEST(test_beyond_window),     TEST(test_fin),
		TEST(test_fin_beyond_window), TEST(test_early_close),
		TEST(test_last_ack),          TEST(test_reset),
		TEST(test_acknowledges_once), cmocka_unit_test(test_runs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
