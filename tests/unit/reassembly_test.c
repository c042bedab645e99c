/* SPDX-License-Identifier: MIT */
/* Fragments in any order become the datagram; whatever is wrong with them costs bounded memory and no frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "reassembly.h"

#define FRAMES 256
#define FRAME_SIZE 2048
#define TIMEOUT 1000

static struct frame_pool pool;
static struct frame frames[FRAMES];
static uint8_t area[FRAMES * FRAME_SIZE];
static struct reassembly *r;

static int setup(void **state)
{
	(void)state;
	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	r = reassembly_create(16, 200, TIMEOUT, 0x123456789abcdef1ull, &pool);
	return !r;
}

static int teardown(void **state)
{
	(void)state;
	reassembly_destroy(r);
	return 0;
}

static struct reassembly_key key_of(uint32_t source, uint32_t id)
{
	return (struct reassembly_key){.src = addr_from_ipv4(be32(source)), .dst = addr_from_ipv4(1), .id = id};
}

/* Byte i of a datagram is i * 7. */
static uint32_t give(uint32_t source, uint32_t id, uint16_t offset, uint16_t len, bool more, uint64_t now_ns,
		     uint32_t *bytes)
{
	struct reassembly_key key = key_of(source, id);
	struct reassembly_fragment fragment = {.frame = frame_get(&pool, FRAME_RX), .offset = offset, .more = more};
	struct frame *frame;

	assert_int_not_equal(fragment.frame, FRAME_NONE);
	frame = &pool.frames[fragment.frame];
	frame->off = 34;
	frame->len = len;
	for (uint32_t i = 0; i < len; i++)
		frame_data(&pool, fragment.frame)[34 + i] = (uint8_t)((offset + i) * 7);
	return reassembly_add(r, &key, &fragment, now_ns, bytes);
}

static void take_back(uint32_t head, uint32_t bytes)
{
	uint32_t at = 0;

	while (head != FRAME_NONE) {
		const struct frame *frame = &pool.frames[head];
		uint32_t next = frame->next;

		for (uint32_t i = 0; i < frame->len; i++)
			assert_int_equal(frame_data(&pool, head)[frame->off + i], (uint8_t)((at + i) * 7));
		at += frame->len;
		frame_put(&pool, head);
		head = next;
	}
	assert_int_equal(at, bytes);
}

#define PIECES 5
static const struct {
	uint16_t offset, len;
	bool more;
} pieces[PIECES] = {{0, 800, true}, {800, 8, true}, {808, 1000, true}, {1808, 16, true}, {1824, 3, false}};

/* All 120 orders. */
static void test_orders(void **state)
{
	uint32_t id = 1;

	(void)state;
	for (uint32_t code = 0; code < PIECES * PIECES * PIECES * PIECES * PIECES; code++) {
		uint32_t order[PIECES], rest = code, seen = 0, bytes = 0, head = FRAME_NONE;

		for (int i = 0; i < PIECES; i++, rest /= PIECES) {
			order[i] = rest % PIECES;
			seen |= 1u << order[i];
		}
		if (seen != (1u << PIECES) - 1)
			continue;
		for (int i = 0; i < PIECES; i++) {
			assert_int_equal(head, FRAME_NONE);
			head = give(1, id, pieces[order[i]].offset, pieces[order[i]].len, pieces[order[i]].more, 0,
				    &bytes);
		}
		assert_int_equal(bytes, 1827);
		take_back(head, bytes);
		id++;
	}
	assert_int_equal(reassembly_counters(r)->reassembled, 120);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	assert_int_equal(reassembly_next_ns(r), UINT64_MAX);
}

static void test_keys(void **state)
{
	uint32_t bytes;

	(void)state;
	/* another source, and another identification, are other datagrams */
	assert_int_equal(give(1, 7, 0, 8, true, 0, &bytes), FRAME_NONE);
	assert_int_equal(give(2, 7, 8, 8, false, 0, &bytes), FRAME_NONE);
	assert_int_equal(give(1, 8, 8, 8, false, 0, &bytes), FRAME_NONE);
	take_back(give(1, 7, 8, 8, false, 0, &bytes), 16);
}

static void test_duplicate(void **state)
{
	uint32_t bytes;

	(void)state;
	give(1, 1, 8, 8, true, 0, &bytes);
	give(1, 1, 8, 8, true, 0, &bytes);
	give(1, 1, 0, 8, true, 0, &bytes);
	assert_int_equal(reassembly_counters(r)->fragments_duplicate, 1);
	take_back(give(1, 1, 16, 1, false, 0, &bytes), 17);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
}

/* RFC 5722: the whole datagram goes. */
static void test_overlaps(void **state)
{
	static const struct {
		uint16_t first, first_len, second, second_len;
	} overlaps[] = {{0, 16, 8, 16}, {8, 16, 0, 16}, {0, 32, 8, 8}, {8, 8, 0, 32}, {0, 16, 0, 8}, {0, 8, 0, 16}};
	uint32_t bytes;

	(void)state;
	for (uint32_t i = 0; i < sizeof(overlaps) / sizeof(overlaps[0]); i++) {
		give(1, i, overlaps[i].first, overlaps[i].first_len, true, 0, &bytes);
		assert_int_equal(give(1, i, overlaps[i].second, overlaps[i].second_len, true, 0, &bytes), FRAME_NONE);
		assert_int_equal(reassembly_counters(r)->fragments_overlapping, i + 1);
		assert_int_equal(frame_pool_free(&pool), FRAMES);
	}
}

static void test_ends(void **state)
{
	uint32_t bytes;

	(void)state;
	/* two ends that differ; something behind the end; an end before what is there */
	give(1, 1, 8, 8, false, 0, &bytes);
	give(1, 1, 24, 8, false, 0, &bytes);
	give(1, 2, 8, 8, false, 0, &bytes);
	give(1, 2, 16, 8, true, 0, &bytes);
	give(1, 3, 32, 8, true, 0, &bytes);
	give(1, 3, 8, 8, false, 0, &bytes);
	assert_int_equal(reassembly_counters(r)->fragments_overlapping, 3);
	/* no multiple of 8, nothing in it, beyond 65535 */
	give(1, 4, 0, 9, true, 0, &bytes);
	give(1, 4, 0, 0, false, 0, &bytes);
	give(1, 4, 65528, 8, false, 0, &bytes);
	assert_int_equal(reassembly_counters(r)->fragments_malformed, 3);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
}

static void test_time(void **state)
{
	uint32_t bytes;

	(void)state;
	give(1, 1, 0, 8, true, 0, &bytes);
	give(2, 2, 0, 8, true, 500, &bytes);
	assert_int_equal(reassembly_next_ns(r), TIMEOUT);
	reassembly_expire(r, TIMEOUT - 1);
	assert_int_equal(frame_pool_free(&pool), FRAMES - 2);
	reassembly_expire(r, TIMEOUT);
	assert_int_equal(frame_pool_free(&pool), FRAMES - 1);
	assert_int_equal(reassembly_next_ns(r), TIMEOUT + 500);
	reassembly_expire(r, TIMEOUT + 500);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	assert_int_equal(reassembly_counters(r)->reassembly_timed_out, 2);
}

/* One source has an eighth of 16 datagrams, and 96 frames; many sources push out the oldest. */
static void test_limits(void **state)
{
	uint32_t bytes;

	(void)state;
	for (uint32_t id = 0; id < 10; id++)
		give(1, id, 0, 8, true, 0, &bytes);
	assert_int_equal(frame_pool_free(&pool), FRAMES - 2);
	assert_int_equal(reassembly_counters(r)->fragments_over_limit, 8);
	/* 96 frames; and none for what is beyond */
	for (uint16_t i = 1; i < 110; i++)
		give(1, i % 2, (uint16_t)(i * 8), 8, true, 0, &bytes);
	assert_in_range(FRAMES - frame_pool_free(&pool), 1, 96);
	assert_int_equal(reassembly_counters(r)->fragments_over_limit, 8 + 1);
	for (uint32_t source = 2; source < 200; source++)
		give(source, 1, 0, 8, true, 0, &bytes);
	assert_in_range(FRAMES - frame_pool_free(&pool), 16, 16 + 96);
	assert_true(reassembly_counters(r)->reassembly_evicted > 0);
	reassembly_expire(r, UINT64_MAX);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_orders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_duplicate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overlaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("reassembly", tests, NULL, NULL);
}
