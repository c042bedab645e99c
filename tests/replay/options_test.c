/* SPDX-License-Identifier: MIT */
/* Options of the handshake, SACK blocks, and the retransmission timer, by script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "lib_replay.h"

#define SYN 0x02
#define ACK 0x10

static struct replay r;
static struct replay_settings settings;
static uint32_t iss;

static uint32_t read32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The option of this kind in the packet that was seen last, NULL: it is not there. */
static const uint8_t *find_option(const struct packet_view *v, uint8_t kind)
{
	const uint8_t *p = replay_seen_bytes() + v->l4_off + 20, *end = replay_seen_bytes() + v->payload_off;

	while (p < end && *p) {
		if (*p == kind)
			return p;
		p += *p == 1 ? 1 : p[1];
	}
	return NULL;
}

/* RFC 7323 1.3, RFC 2018 2: an option is in the SYN-ACK only if it was in the SYN; the MSS always is (RFC 9293 3.7.1).
 */
static void test_handshake_options(void **state)
{
	(void)state;
	for (int i = 0; i < 16; i++) {
		const struct packet_view *v;

		settings = replay_defaults();
		settings.sack = i & 1;
		settings.timestamps = i & 2;
		settings.window_scale = i & 4;
		settings.ipv6 = i & 8;
		replay_establish(&r, &settings, &iss);
		stack_abort(r.stack, r.flow, r.now_ns);
		replay_stop(&r);
		/* once more, to look at the SYN-ACK itself */
		replay_start(&r, &settings);
		replay_inject(&r, SYN, 5, 0, 1000, NULL, 0);
		stack_accept(r.stack, r.flow, r.now_ns);
		v = replay_seen(&r);
		assert_non_null(find_option(v, 2));
		assert_int_equal(find_option(v, 2)[2] << 8 | find_option(v, 2)[3], settings.ipv6 ? 1440 : 1460);
		assert_int_equal(find_option(v, 4) != NULL, settings.sack);
		assert_int_equal(find_option(v, 8) != NULL, settings.timestamps);
		assert_int_equal(find_option(v, 3) != NULL, settings.window_scale);
		replay_stop(&r);
	}
}

static void assert_sacks(const uint32_t *offsets, int blocks, uint32_t ack)
{
	uint32_t base = settings.client_iss + 1;
	const struct packet_view *v = replay_seen(&r);
	const uint8_t *option;

	assert_non_null(v);
	assert_int_equal(v->ack, base + ack);
	option = find_option(v, 5);
	if (!blocks) {
		assert_null(option);
		return;
	}
	assert_non_null(option);
	assert_int_equal(option[1], 2 + 8 * blocks);
	for (int i = 0; i < blocks; i++) {
		assert_int_equal(read32(option + 2 + 8 * i), base + offsets[2 * i]);
		assert_int_equal(read32(option + 6 + 8 * i), base + offsets[2 * i + 1]);
	}
	assert_null(replay_seen(&r));
}

static void data(uint32_t from, uint32_t to)
{
	static const uint8_t zeros[1460];

	replay_inject(&r, ACK, settings.client_iss + 1 + from, iss + 1, 60000, zeros, (uint16_t)(to - from));
}

/* RFC 2018 4: the newest block first, neighbours joined, blocks that are filled gone. */
static void test_sack_blocks(void **state)
{
	(void)state;
	settings = replay_defaults();
	settings.timestamps = false;
	replay_establish(&r, &settings, &iss);
	data(100, 200);
	assert_sacks((uint32_t[]){100, 200}, 1, 0);
	data(300, 400);
	assert_sacks((uint32_t[]){300, 400, 100, 200}, 2, 0);
	data(500, 600);
	assert_sacks((uint32_t[]){500, 600, 300, 400, 100, 200}, 3, 0);
	data(200, 300); /* joins two */
	assert_sacks((uint32_t[]){100, 400, 500, 600}, 2, 0);
	data(0, 100);
	assert_sacks((uint32_t[]){500, 600}, 1, 400);
	data(400, 500);
	assert_sacks(NULL, 0, 600);
	assert_int_equal(stack_readable_bytes(r.flow), 600);
	stack_abort(r.stack, r.flow, r.now_ns);
	replay_stop(&r);
}

static void send_bytes(uint16_t bytes)
{
	uint32_t index = frame_get(&r.pool, FRAME_FLOW);

	memset(frame_data(&r.pool, index) + FRAME_PAYLOAD_OFFSET, 'x', bytes);
	stack_send(r.stack, r.flow, index, FRAME_PAYLOAD_OFFSET, bytes, r.now_ns);
	stack_flush(r.stack, r.now_ns);
}

/* RFC 6298 5.5: each time-out doubles the next; RFC 9293 3.8.3: after more than 100 s the connection is given up. */
static void test_retransmission_backoff(void **state)
{
	uint64_t last_ns = 0, gap_ns = 0;
	uint32_t count = 0;
	uint64_t start_ns;

	(void)state;
	settings = replay_defaults();
	settings.sack = false; /* no tail loss probe before the time-out */
	replay_establish(&r, &settings, &iss);
	send_bytes(100);
	assert_non_null(replay_seen(&r));
	start_ns = last_ns = r.now_ns;
	while (!r.closed) {
		const struct packet_view *v;

		replay_advance(&r, REPLAY_MS);
		v = replay_seen(&r);
		assert_true(r.now_ns - start_ns < 600000 * REPLAY_MS);
		if (!v || v->tcp_flags & 0x04)
			continue;
		assert_int_equal(v->seq, iss + 1);
		assert_int_equal(v->payload_len, 100);
		if (gap_ns && gap_ns < 30000 * REPLAY_MS)
			assert_in_range((r.now_ns - last_ns) / REPLAY_MS, 2 * gap_ns / REPLAY_MS - 4,
					2 * gap_ns / REPLAY_MS + 4);
		gap_ns = r.now_ns - last_ns;
		last_ns = r.now_ns;
		count++;
	}
	assert_int_equal(r.why, FLOW_END_TIMED_OUT);
	assert_true(count >= 8);
	assert_true(r.now_ns - start_ns > 100000 * REPLAY_MS);
	replay_stop(&r);
}

/* RFC 8985 7: a lone lost segment is probed long before the time-out. */
static void test_tail_loss_probe(void **state)
{
	(void)state;
	settings = replay_defaults();
	replay_establish(&r, &settings, &iss);
	send_bytes(100);
	assert_non_null(replay_seen(&r));
	replay_advance(&r, 120 * REPLAY_MS);
	assert_non_null(replay_seen(&r));
	assert_int_equal(stack_counters(r.stack)->retransmission_timeouts, 0);
	stack_abort(r.stack, r.flow, r.now_ns);
	replay_stop(&r);
}

/* The SYN-ACK is sent again while the client is silent, and the attempt ends with handshake_timeout. */
static void test_synack_again(void **state)
{
	uint32_t count = 0;

	(void)state;
	settings = replay_defaults();
	replay_establish(&r, &settings, &iss); /* sets the harness to scripts */
	stack_abort(r.stack, r.flow, r.now_ns);
	replay_stop(&r);
	replay_start(&r, &settings);
	replay_inject(&r, SYN, 5, 0, 1000, NULL, 0);
	stack_accept(r.stack, r.flow, r.now_ns);
	for (int ms = 0; ms < 61000 && !r.closed; ms += 10) {
		const struct packet_view *v;

		while ((v = replay_seen(&r))) {
			assert_int_equal(v->tcp_flags, SYN | ACK);
			count++;
		}
		replay_advance(&r, 10 * REPLAY_MS);
	}
	assert_true(r.closed);
	assert_int_equal(r.why, FLOW_END_TIMED_OUT);
	assert_in_range(count, 5, 7);
	replay_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_options),      cmocka_unit_test(test_sack_blocks),
		cmocka_unit_test(test_retransmission_backoff), cmocka_unit_test(test_tail_loss_probe),
		cmocka_unit_test(test_synack_again),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
