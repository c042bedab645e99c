/* SPDX-License-Identifier: MIT */
/*
 * Whatever single packet of a connection is lost, doubled or late, all bytes arrive, both sides end in order and every
 * frame returns to the pool (RFC 9293 3.8, RFC 5681, RFC 6298, RFC 6582, RFC 8985).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "lib_replay.h"

static struct replay r;

static struct replay_settings variant(int i)
{
	struct replay_settings s = replay_defaults();

	s.ipv6 = i & 1;
	if (i == 2)
		s.sack = false;
	if (i == 3)
		s.sack = s.timestamps = s.window_scale = false;
	if (i == 4)
		s.client_ends_first = true;
	if (i == 5)
		s.client_ends_first = s.owner_waits = true;
	/* packets of several segments, which the port cuts: whole segments in each, and not */
	if (i >= 6)
		s.offload_bytes = i == 6 ? 7 * 1448 : 9000;
	if (i == 8)
		s.sack = false;
	return s;
}

#define VARIANTS 9

static void test_nothing_lost(void **state)
{
	(void)state;
	for (int i = 0; i < VARIANTS; i++) {
		struct replay_settings s = variant(i);

		replay_run(&r, &s);
	}
}

/* Runs once undisturbed to count packets, then once per packet and direction with `which` pointing at it. */
static void each_packet(size_t which)
{
	for (int i = 0; i < VARIANTS; i++) {
		struct replay_settings s = variant(i);
		uint32_t count[2];

		replay_run(&r, &s);
		memcpy(count, r.sent, sizeof(count));
		for (int direction = 0; direction < 2; direction++) {
			for (uint32_t n = 0; n < count[direction]; n++) {
				uint32_t *target = (uint32_t *)((char *)&s + which);

				target[direction] = n;
				replay_run(&r, &s);
				target[direction] = REPLAY_NONE;
			}
		}
	}
}

static void test_each_packet_lost(void **state)
{
	(void)state;
	each_packet(offsetof(struct replay_settings, lose));
}

static void test_each_packet_twice(void **state)
{
	(void)state;
	each_packet(offsetof(struct replay_settings, twice));
}

static void test_each_packet_late(void **state)
{
	(void)state;
	each_packet(offsetof(struct replay_settings, late));
}

static void test_many_lost(void **state)
{
	(void)state;
	for (int i = 0; i < VARIANTS; i++)
		for (uint32_t every = 3; every < 12; every++) {
			struct replay_settings s = variant(i);

			s.lose_every[TO_STACK] = every;
			s.lose_every[TO_CLIENT] = every + 1;
			replay_run(&r, &s);
		}
}

/* RFC 9293 3.4: sequence numbers wrap in the middle of each direction. */
static void test_sequence_wrap(void **state)
{
	(void)state;
	for (uint32_t before = 0; before < 30000; before += 1999) {
		struct replay_settings s = variant(before & 1);

		s.client_iss = 0u - before;
		replay_run(&r, &s);
		s.lose[TO_STACK] = 5;
		s.lose[TO_CLIENT] = 7;
		replay_run(&r, &s);
	}
}

/* RFC 9293 3.7.1: segments are never longer than the client's MSS; the harness checks each. */
static void test_small_mss(void **state)
{
	static const uint16_t sizes[] = {88, 536, 1000, 1459};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct replay_settings s = replay_defaults();

		s.client_mss = sizes[i];
		replay_run(&r, &s);
		s.offload_bytes = 9000;
		replay_run(&r, &s);
	}
}

/* RFC 9293 3.8.6.1: a window that stays closed is probed, and opens again; its update may be lost. */
static void test_zero_window(void **state)
{
	(void)state;
	for (uint64_t seconds = 1; seconds < 60; seconds = seconds * 3 + 1) {
		struct replay_settings s = replay_defaults();

		s.window_opens_ns = seconds * 1000 * REPLAY_MS;
		replay_run(&r, &s);
		s.offload_bytes = 9000;
		replay_run(&r, &s);
	}
}

/* RFC 1122 4.2.3.4: a client that offers little gets small segments, and all of them. */
static void test_small_window(void **state)
{
	static const uint32_t windows[] = {100, 700, 1448, 3000};

	(void)state;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		struct replay_settings s = replay_defaults();

		s.client_window = windows[i];
		s.down_bytes = 5000;
		replay_run(&r, &s);
		s.offload_bytes = 4000;
		replay_run(&r, &s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_lost),      cmocka_unit_test(test_each_packet_lost),
		cmocka_unit_test(test_each_packet_twice), cmocka_unit_test(test_each_packet_late),
		cmocka_unit_test(test_many_lost),         cmocka_unit_test(test_sequence_wrap),
		cmocka_unit_test(test_small_mss),         cmocka_unit_test(test_zero_window),
		cmocka_unit_test(test_small_window),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
