/* SPDX-License-Identifier: MIT */
/* Resets, challenges and closing, segment by segment (RFC 9293 3.10.7, RFC 5961, RFC 7323, RFC 6191). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "lib_replay.h"

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
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
	replay_stop(&r);
	return 0;
}

static void assert_seen(uint8_t flags, uint32_t seq, uint32_t ack)
{
	const struct packet_view *v = replay_seen(&r);

	assert_non_null(v);
	assert_int_equal(v->tcp_flags & ~PSH, flags);
	assert_int_equal(v->seq, seq);
	if (flags & ACK)
		assert_int_equal(v->ack, ack);
}

static void inject(uint8_t flags, uint32_t seq, uint32_t ack)
{
	replay_inject(&r, flags, seq, ack, 60000, NULL, 0);
}

/* RFC 5961 3.2: exactly rcv_nxt ends the connection, without an answer. */
static void test_reset_exact(void **state)
{
	(void)state;
	inject(RST, C, 0);
	assert_string_equal(replay_state(&r), "CLOSED");
	assert_true(r.closed);
	assert_int_equal(r.why, FLOW_END_CLIENT_RESET);
	assert_null(replay_seen(&r));
}

/* RFC 5961 3.2: elsewhere in the window draws a challenge ACK; outside it is ignored. */
static void test_reset_inexact(void **state)
{
	(void)state;
	inject(RST, C + 1, 0);
	assert_seen(ACK, iss + 1, C);
	assert_string_equal(replay_state(&r), "ESTABLISHED");
	inject(RST, C - 1, 0);
	inject(RST, C + 500000, 0);
	assert_null(replay_seen(&r));
	assert_string_equal(replay_state(&r), "ESTABLISHED");
}

/* RFC 5961 7: challenges are limited, ten per second and connection here. */
static void test_challenges_are_limited(void **state)
{
	uint32_t count = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		inject(RST, C + 5, 0);
	while (replay_seen(&r))
		count++;
	assert_int_equal(count, 10);
}

/* RFC 5961 4.2: a SYN never ends a connection. */
static void test_syn_in_window(void **state)
{
	(void)state;
	inject(SYN, C, 0);
	assert_seen(ACK, iss + 1, C);
	inject(SYN, C + 100000, 0);
	assert_seen(ACK, iss + 1, C);
	assert_string_equal(replay_state(&r), "ESTABLISHED");
}

/* RFC 9293 3.10.7.4: an ACK of what was never sent is answered and dropped. */
static void test_ack_of_the_future(void **state)
{
	(void)state;
	replay_inject(&r, ACK, C, iss + 1000, 60000, "x", 1);
	assert_seen(ACK, iss + 1, C);
	assert_int_equal(stack_readable_bytes(r.flow), 0);
}

/* A segment without ACK is dropped. */
static void test_no_ack_bit(void **state)
{
	(void)state;
	replay_inject(&r, PSH, C, 0, 60000, "x", 1);
	assert_null(replay_seen(&r));
	assert_int_equal(stack_readable_bytes(r.flow), 0);
}

/* RFC 9293 3.10.7.4: old data is acknowledged again and not delivered twice. */
static void test_old_duplicate(void **state)
{
	(void)state;
	replay_inject(&r, ACK, C, iss + 1, 60000, "hello", 5);
	assert_seen(ACK, iss + 1, C + 5);
	replay_inject(&r, ACK, C, iss + 1, 60000, "hello", 5);
	assert_seen(ACK, iss + 1, C + 5);
	assert_int_equal(stack_readable_bytes(r.flow), 5);
	/* half of it is new */
	replay_inject(&r, ACK, C + 3, iss + 1, 60000, "lo you", 6);
	assert_int_equal(stack_readable_bytes(r.flow), 9);
}

/* RFC 9293 3.6, the client ends first: CLOSE-WAIT, LAST-ACK, CLOSED. */
static void test_passive_close(void **state)
{
	(void)state;
	inject(FIN | ACK, C, iss + 1);
	assert_seen(ACK, iss + 1, C + 1);
	assert_string_equal(replay_state(&r), "CLOSE-WAIT");
	assert_true(stack_read_finished(r.flow));
	stack_shutdown(r.stack, r.flow, r.now_ns);
	stack_flush(r.stack, r.now_ns);
	assert_seen(FIN | ACK, iss + 1, C + 1);
	assert_string_equal(replay_state(&r), "LAST-ACK");
	inject(ACK, C + 1, iss + 2);
	assert_string_equal(replay_state(&r), "CLOSED");
	assert_int_equal(r.why, FLOW_END_CLOSED);
}

static void start_active_close(void)
{
	stack_shutdown(r.stack, r.flow, r.now_ns);
	stack_flush(r.stack, r.now_ns);
	assert_seen(FIN | ACK, iss + 1, C);
	assert_string_equal(replay_state(&r), "FIN-WAIT-1");
}

/* RFC 9293 3.6, we end first: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT; the client may still send in between. */
static void test_active_close(void **state)
{
	(void)state;
	start_active_close();
	inject(ACK, C, iss + 2);
	assert_string_equal(replay_state(&r), "FIN-WAIT-2");
	replay_inject(&r, ACK, C, iss + 2, 60000, "late", 4);
	assert_int_equal(stack_readable_bytes(r.flow), 4);
	assert_seen(ACK, iss + 2, C + 4);
	inject(FIN | ACK, C + 4, iss + 2);
	assert_seen(ACK, iss + 2, C + 5);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
	assert_true(r.closed);
	/* RFC 9293 3.10.7.4: a repeated FIN is acknowledged again; RFC 1337: a reset changes nothing */
	inject(FIN | ACK, C + 4, iss + 2);
	assert_seen(ACK, iss + 2, C + 5);
	inject(RST, C + 5, 0);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
	replay_advance(&r, 2100 * REPLAY_MS);
	assert_string_equal(replay_state(&r), "CLOSED");
}

/* RFC 9293 3.6 figure 13: both at once go through CLOSING. */
static void test_simultaneous_close(void **state)
{
	(void)state;
	start_active_close();
	inject(FIN | ACK, C, iss + 1);
	assert_seen(ACK, iss + 2, C + 1);
	assert_string_equal(replay_state(&r), "CLOSING");
	inject(ACK, C + 1, iss + 2);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
	assert_int_equal(r.why, FLOW_END_CLOSED);
}

/* The FIN that also acknowledges ours leads to TIME-WAIT at once. */
static void test_fin_with_ack_of_fin(void **state)
{
	(void)state;
	start_active_close();
	inject(FIN | ACK, C, iss + 2);
	assert_seen(ACK, iss + 2, C + 1);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
}

/* A FIN ahead of missing data waits for it (RFC 9293 3.10.7.4 eighth). */
static void test_fin_out_of_order(void **state)
{
	(void)state;
	replay_inject(&r, FIN | ACK, C + 3, iss + 1, 60000, "def", 3);
	assert_string_equal(replay_state(&r), "ESTABLISHED");
	assert_seen(ACK, iss + 1, C);
	replay_inject(&r, ACK, C, iss + 1, 60000, "abc", 3);
	assert_string_equal(replay_state(&r), "CLOSE-WAIT");
	assert_int_equal(stack_readable_bytes(r.flow), 6);
}

static void expect_reset_ends(const char *in_state, uint32_t seq)
{
	assert_string_equal(replay_state(&r), in_state);
	while (replay_seen(&r))
		;
	inject(RST, seq + 3, 0);
	assert_string_equal(replay_state(&r), in_state);
	inject(RST, seq, 0);
	assert_string_equal(replay_state(&r), "CLOSED");
	assert_int_equal(r.why, FLOW_END_CLIENT_RESET);
}

/* RFC 9293 3.10.7.4 second: in every state that is not over. */
static void test_reset_in_fin_wait_1(void **state)
{
	(void)state;
	start_active_close();
	expect_reset_ends("FIN-WAIT-1", C);
}

static void test_reset_in_fin_wait_2(void **state)
{
	(void)state;
	start_active_close();
	inject(ACK, C, iss + 2);
	expect_reset_ends("FIN-WAIT-2", C);
}

static void test_reset_in_close_wait(void **state)
{
	(void)state;
	inject(FIN | ACK, C, iss + 1);
	expect_reset_ends("CLOSE-WAIT", C + 1);
}

static void test_reset_in_closing(void **state)
{
	(void)state;
	start_active_close();
	inject(FIN | ACK, C, iss + 1);
	expect_reset_ends("CLOSING", C + 1);
}

static void test_reset_in_last_ack(void **state)
{
	(void)state;
	inject(FIN | ACK, C, iss + 1);
	stack_shutdown(r.stack, r.flow, r.now_ns);
	stack_flush(r.stack, r.now_ns);
	expect_reset_ends("LAST-ACK", C + 1);
}

/* RFC 6191 2: a SYN with a later sequence number opens a new connection out of TIME-WAIT; an earlier one does not. */
static void test_time_wait_reuse(void **state)
{
	(void)state;
	start_active_close();
	inject(FIN | ACK, C, iss + 2);
	while (replay_seen(&r))
		;
	inject(SYN, C - 100, 0);
	assert_string_equal(replay_state(&r), "TIME-WAIT");
	inject(SYN, C + 100000, 0);
	assert_string_equal(replay_state(&r), "SYN-HELD");
	stack_refuse(r.stack, r.flow, REFUSE_SILENTLY, r.now_ns);
}

/* A connection that the owner aborts is reset, with the next sequence number. */
static void test_abort(void **state)
{
	(void)state;
	stack_abort(r.stack, r.flow, r.now_ns);
	assert_seen(RST | ACK, iss + 1, C);
	assert_string_equal(replay_state(&r), "CLOSED");
	/* and what the client still sends is answered by a reset (RFC 9293 3.10.7.1) */
	replay_inject(&r, ACK, C, iss + 1, 60000, "x", 1);
	assert_seen(RST, iss + 1, 0);
}

/* RFC 1122 4.2.3.2: a lone segment's ACK may wait, not longer than half a second; the second brings it at once. */
static void test_delayed_ack(void **state)
{
	uint32_t at = C;

	(void)state;
	for (int i = 0; i < 16; i++, at++) /* the first ones are acknowledged at once */
		replay_inject(&r, ACK, at, iss + 1, 60000, "q", 1);
	while (replay_seen(&r))
		;
	replay_inject(&r, ACK, at++, iss + 1, 60000, "x", 1);
	assert_null(replay_seen(&r));
	replay_advance(&r, 50 * REPLAY_MS);
	assert_seen(ACK, iss + 1, at);
	replay_inject(&r, ACK, at++, iss + 1, 60000, "y", 1);
	replay_inject(&r, ACK, at++, iss + 1, 60000, "z", 1);
	assert_seen(ACK, iss + 1, at);
	assert_null(replay_seen(&r));
}

/* RFC 7323 5.3: a segment with an older timestamp is answered and dropped, though its numbers fit. */
static void test_paws(void **state)
{
	(void)state;
	replay_stop(&r);
	settings.timestamps = true;
	replay_establish(&r, &settings, &iss);
	replay_inject_ts(&r, ACK, C, iss + 1, 10, (uint32_t)(r.now_ns / REPLAY_MS) + 100);
	assert_int_equal(stack_readable_bytes(r.flow), 10);
	while (replay_seen(&r))
		;
	replay_inject_ts(&r, ACK, C + 10, iss + 1, 10, (uint32_t)(r.now_ns / REPLAY_MS) + 99);
	assert_int_equal(stack_readable_bytes(r.flow), 10);
	assert_seen(ACK, iss + 1, C + 10);
	assert_int_equal(stack_counters(r.stack)->paws_rejected, 1);
	replay_inject_ts(&r, ACK, C + 10, iss + 1, 10, (uint32_t)(r.now_ns / REPLAY_MS) + 100);
	assert_int_equal(stack_readable_bytes(r.flow), 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reset_exact),
		TEST(test_reset_inexact),
		TEST(test_challenges_are_limited),
		TEST(test_syn_in_window),
		TEST(test_ack_of_the_future),
		TEST(test_no_ack_bit),
		TEST(test_old_duplicate),
		TEST(test_passive_close),
		TEST(test_active_close),
		TEST(test_simultaneous_close),
		TEST(test_fin_with_ack_of_fin),
		TEST(test_fin_out_of_order),
		TEST(test_reset_in_fin_wait_1),
		TEST(test_reset_in_fin_wait_2),
		TEST(test_reset_in_close_wait),
		TEST(test_reset_in_closing),
		TEST(test_reset_in_last_ack),
		TEST(test_time_wait_reuse),
		TEST(test_abort),
		TEST(test_delayed_ack),
		TEST(test_paws),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("reset", tests, NULL, NULL);
}
