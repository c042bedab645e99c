/* SPDX-License-Identifier: MIT */
/* Lists of ports as text and back, and the pool of source ports against the obvious model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ports.h"

#define FIRST 40000
#define SECOND_NS 1000000000ull

/* --- sets ------------------------------------------------------------------ */

static char text[PORTS_TEXT_BYTES];

static void test_parse_and_format(void **state)
{
	static const struct {
		const char *list, *canonical;
	} cases[] = {
		{"", ""},
		{"\n", ""},
		{" \t\n", ""},
		{"1", "1"},
		{"0", "0"},
		{"1\n", "1"},
		{"1-2,2-5", "1-5"},
		{"1-2,3-5", "1-5"},
		{"1-2,4-5", "1-2,4-5"},
		{"5,3,4", "3-5"},
		{"65535", "65535"},
		{"65534,65535", "65534-65535"},
		{"0-65535", "0-65535"},
		{"7-7", "7"},
		{"00080", "80"},
		{"8080,9000-9100\n", "8080,9000-9100"},
		{" 8080 , 9000-9100 ", "8080,9000-9100"},
		{"63-64,127,128", "63-64,127-128"},
	};
	struct ports_set set;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(ports_set_parse(cases[i].list, &set), 0);
		assert_int_equal(ports_set_format(&set, text, sizeof(text)), 0);
		assert_string_equal(text, cases[i].canonical);
	}
}

static void test_parse_refuses(void **state)
{
	static const char *const lists[] = {
		"a",
		"5-3",
		"70000",
		"65536",
		"1-70000",
		"1,",
		",",
		",1",
		"1,,2",
		"1-",
		"-1",
		"1--2",
		"1-2-3",
		"1 2",
		"1 -2",
		"1;2",
		"0x10",
		"1,a",
		"+1",
		"1-\n2",
		"1.5",
		"4294967297",
		"18446744073709551617",
	};
	static const struct ports_set empty;
	struct ports_set set;

	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (ports_set_parse(lists[i], &set) != -EINVAL)
			fail_msg("\"%s\" was accepted", lists[i]);
		assert_memory_equal(&set, &empty, sizeof(set));
	}
}

static void test_format_in_little_room(void **state)
{
	struct ports_set set;
	char small[8];

	(void)state;
	assert_int_equal(ports_set_parse("1,3,5,7", &set), 0);
	assert_int_equal(ports_set_format(&set, small, 8), 0);
	assert_string_equal(small, "1,3,5,7");
	for (size_t bytes = 0; bytes < 8; bytes++)
		assert_int_equal(ports_set_format(&set, small, bytes), -E2BIG);
	assert_int_equal(ports_set_parse("", &set), 0);
	assert_int_equal(ports_set_format(&set, small, 1), 0);
	assert_int_equal(ports_set_format(&set, small, 0), -E2BIG);
}

/* The longest lists: every second port, and two of three. */
static void test_format_always_fits(void **state)
{
	struct ports_set set, again;

	(void)state;
	for (uint32_t step = 2; step <= 4; step++) {
		memset(&set, 0, sizeof(set));
		for (uint32_t port = 0; port + step <= PORTS_COUNT; port += step)
			ports_set_add(&set, (uint16_t)port, (uint16_t)(port + step - 2));
		assert_int_equal(ports_set_format(&set, text, sizeof(text) - 1), 0);
		assert_int_equal(ports_set_parse(text, &again), 0);
		assert_memory_equal(&set, &again, sizeof(set));
	}
}

static void test_add_remove_has(void **state)
{
	struct ports_set set = {0};

	(void)state;
	ports_set_add(&set, 100, 200);
	ports_set_add(&set, 65535, 65535);
	assert_true(ports_set_has_range(&set, 100, 200));
	assert_true(ports_set_has_range(&set, 150, 150));
	assert_true(ports_set_has_range(&set, 65535, 65535));
	assert_false(ports_set_has_range(&set, 99, 200));
	assert_false(ports_set_has_range(&set, 100, 201));
	ports_set_remove(&set, 150, 160);
	assert_false(ports_set_has_range(&set, 100, 200));
	assert_true(ports_set_has_range(&set, 161, 200));
	ports_set_remove(&set, 65000, 65535);
	assert_int_equal(ports_set_format(&set, text, sizeof(text)), 0);
	assert_string_equal(text, "100-149,161-200");
	ports_set_add(&set, 0, 65535);
	assert_true(ports_set_has_range(&set, 0, 65535));
	ports_set_remove(&set, 0, 65535);
	assert_int_equal(ports_set_format(&set, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

/* --- pool ------------------------------------------------------------------ */

static void expect_take(struct ports_pool *pool, uint64_t now_ns, uint32_t source, uint16_t port)
{
	uint16_t got_port = 0;
	uint32_t got_source = 99;

	assert_true(ports_pool_take(pool, now_ns, &got_source, &got_port));
	assert_int_equal(got_source, source);
	assert_int_equal(got_port, port);
}

static void expect_none(struct ports_pool *pool, uint64_t now_ns)
{
	uint64_t before = pool->exhausted;
	uint16_t port;
	uint32_t source;

	assert_false(ports_pool_take(pool, now_ns, &source, &port));
	assert_int_equal(pool->exhausted, before + 1);
}

static void test_create_refuses(void **state)
{
	struct ports_pool pool;

	(void)state;
	assert_int_equal(ports_pool_create(&pool, 0, 10, 1), -EINVAL);
	assert_int_equal(ports_pool_create(&pool, 11, 10, 1), -EINVAL);
	assert_int_equal(ports_pool_create(&pool, 10, 20, 0), -EINVAL);
	assert_int_equal(ports_pool_create(&pool, 1, 65535, UINT32_MAX), -EINVAL);
	ports_pool_destroy(&pool);
}

static void test_oldest_first(void **state)
{
	struct ports_pool pool;
	uint64_t now = 0; /* unused pairs need no rest, not even at time 0 */

	(void)state;
	assert_int_equal(ports_pool_create(&pool, FIRST, FIRST + 3, 1), 0);
	assert_int_equal(pool.total, 4);
	for (uint16_t i = 0; i < 4; i++)
		expect_take(&pool, now, 0, FIRST + i);
	assert_int_equal(pool.in_use, 4);
	ports_pool_put(&pool, 0, FIRST + 2, now);
	ports_pool_put(&pool, 0, FIRST + 0, now);
	ports_pool_put(&pool, 0, FIRST + 3, now);
	assert_int_equal(pool.in_use, 1);
	now += PORTS_REST_NS;
	expect_take(&pool, now, 0, FIRST + 2);
	ports_pool_put(&pool, 0, FIRST + 1, now);
	expect_take(&pool, now, 0, FIRST + 0);
	expect_take(&pool, now, 0, FIRST + 3);
	expect_none(&pool, now);
	ports_pool_destroy(&pool);
}

static void test_rest_and_exhaustion(void **state)
{
	struct ports_pool pool;
	uint64_t now = 5 * SECOND_NS;

	(void)state;
	assert_int_equal(ports_pool_create(&pool, 65535, 65535, 1), 0);
	expect_take(&pool, now, 0, 65535);
	expect_none(&pool, now);
	expect_none(&pool, now + 100 * SECOND_NS);
	ports_pool_put(&pool, 0, 65535, now);
	expect_none(&pool, now);
	expect_none(&pool, now + PORTS_REST_NS - 1);
	expect_take(&pool, now + PORTS_REST_NS, 0, 65535);
	assert_int_equal(pool.in_use, 1);
	ports_pool_destroy(&pool);
}

static void test_sources_take_turns(void **state)
{
	struct ports_pool pool;

	(void)state;
	assert_int_equal(ports_pool_create(&pool, FIRST, FIRST + 9, 3), 0);
	assert_int_equal(pool.total, 30);
	for (uint32_t i = 0; i < 30; i++)
		expect_take(&pool, 0, i % 3, (uint16_t)(FIRST + i / 3));
	expect_none(&pool, 0);
	ports_pool_put(&pool, 2, FIRST + 5, 0);
	ports_pool_put(&pool, 1, FIRST + 5, 0);
	expect_take(&pool, PORTS_REST_NS, 2, FIRST + 5);
	expect_take(&pool, PORTS_REST_NS, 1, FIRST + 5);
	ports_pool_destroy(&pool);
}

static void test_claim(void **state)
{
	struct ports_pool pool;
	uint64_t now = SECOND_NS;

	(void)state;
	assert_int_equal(ports_pool_create(&pool, FIRST, FIRST + 3, 2), 0);
	assert_false(ports_pool_claim(&pool, 0, FIRST - 1));
	assert_false(ports_pool_claim(&pool, 0, FIRST + 4));
	assert_false(ports_pool_claim(&pool, 2, FIRST));
	assert_int_equal(pool.in_use, 0);
	/* from the middle, the head and the end of the queue */
	assert_true(ports_pool_claim(&pool, 1, FIRST + 1));
	assert_true(ports_pool_claim(&pool, 0, FIRST));
	assert_true(ports_pool_claim(&pool, 1, FIRST + 3));
	assert_false(ports_pool_claim(&pool, 1, FIRST + 1));
	assert_int_equal(pool.in_use, 3);
	/* put back before the others were taken: at the end, and once only */
	ports_pool_put(&pool, 1, FIRST + 1, now);
	now += PORTS_REST_NS;
	expect_take(&pool, now, 1, FIRST);
	expect_take(&pool, now, 0, FIRST + 1);
	assert_false(ports_pool_claim(&pool, 0, FIRST + 1)); /* taken, not claimed: in use all the same */
	expect_take(&pool, now, 0, FIRST + 2);
	expect_take(&pool, now, 1, FIRST + 2);
	expect_take(&pool, now, 0, FIRST + 3);
	expect_take(&pool, now, 1, FIRST + 1);
	expect_none(&pool, now);
	assert_int_equal(pool.in_use, pool.total);
	/* one that rests can be claimed */
	ports_pool_put(&pool, 0, FIRST, now);
	expect_none(&pool, now);
	assert_true(ports_pool_claim(&pool, 0, FIRST));
	assert_int_equal(pool.in_use, pool.total);
	ports_pool_destroy(&pool);
}

static void test_bad_puts_change_nothing(void **state)
{
	struct ports_pool pool;

	(void)state;
	assert_int_equal(ports_pool_create(&pool, FIRST, FIRST + 1, 1), 0);
	ports_pool_put(&pool, 0, FIRST, 0);
	ports_pool_put(&pool, 0, FIRST + 2, 0);
	ports_pool_put(&pool, 1, FIRST, 0);
	assert_int_equal(pool.bad_puts, 3);
	assert_int_equal(pool.in_use, 0);
	expect_take(&pool, 0, 0, FIRST);
	ports_pool_put(&pool, 0, FIRST, 0);
	ports_pool_put(&pool, 0, FIRST, 0);
	assert_int_equal(pool.bad_puts, 4);
	expect_take(&pool, PORTS_REST_NS, 0, FIRST + 1);
	expect_take(&pool, PORTS_REST_NS, 0, FIRST);
	expect_none(&pool, PORTS_REST_NS);
	ports_pool_destroy(&pool);
}

/* --- against a model ------------------------------------------------------- */

#define PORTS 17
#define SOURCES 3
#define PAIRS (PORTS * SOURCES)

/* Each pair knows when it came into the queue; the oldest is found by looking at all. */
static struct model_pair {
	bool in_use;
	uint64_t turn, ready_ns;
} model[PAIRS];

static int model_oldest(void)
{
	int oldest = -1;

	for (int i = 0; i < PAIRS; i++)
		if (!model[i].in_use && (oldest < 0 || model[i].turn < model[oldest].turn))
			oldest = i;
	return oldest;
}

static void step_take(struct ports_pool *pool, uint64_t now)
{
	int i = model_oldest();

	if (i < 0 || model[i].ready_ns > now) {
		expect_none(pool, now);
		return;
	}
	expect_take(pool, now, (uint32_t)i % SOURCES, (uint16_t)(FIRST + i / SOURCES));
	model[i].in_use = true;
}

static void step_put(struct ports_pool *pool, int i, uint64_t now, uint64_t turn)
{
	uint64_t bad = pool->bad_puts;

	ports_pool_put(pool, (uint32_t)i % SOURCES, (uint16_t)(FIRST + i / SOURCES), now);
	assert_int_equal(pool->bad_puts, bad + !model[i].in_use);
	if (model[i].in_use)
		model[i] = (struct model_pair){.turn = turn, .ready_ns = now + PORTS_REST_NS};
}

static void step_claim(struct ports_pool *pool, int i)
{
	assert_int_equal(ports_pool_claim(pool, (uint32_t)i % SOURCES, (uint16_t)(FIRST + i / SOURCES)),
			 !model[i].in_use);
	model[i].in_use = true;
}

static void test_random_against_model(void **state)
{
	struct ports_pool pool;
	uint64_t now = 0, taken = 0;

	(void)state;
	srandom(11);
	assert_int_equal(ports_pool_create(&pool, FIRST, FIRST + PORTS - 1, SOURCES), 0);
	for (int i = 0; i < PAIRS; i++)
		model[i] = (struct model_pair){.turn = (uint64_t)i};
	for (uint64_t round = 0; round < 300000; round++) {
		int i = (int)(random() % PAIRS);
		/* phases: mostly taking, then mostly giving back */
		long put_percent = round / 500 % 2 ? 70 : 30, dice = random() % 100;
		uint32_t in_use = 0;

		if (dice < put_percent)
			step_put(&pool, i, now, PAIRS + round);
		else if (dice % 4 == 0)
			step_claim(&pool, i);
		else
			step_take(&pool, now);
		for (int j = 0; j < PAIRS; j++)
			in_use += model[j].in_use;
		assert_int_equal(pool.in_use, in_use);
		taken += in_use == PAIRS;
		now += (uint64_t)random() % (SECOND_NS / 10);
	}
	assert_true(taken > 0 && pool.exhausted > 0); /* it went to the end */
	ports_pool_destroy(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_and_format),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_format_in_little_room),
		cmocka_unit_test(test_format_always_fits),
		cmocka_unit_test(test_add_remove_has),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_oldest_first),
		cmocka_unit_test(test_rest_and_exhaustion),
		cmocka_unit_test(test_sources_take_turns),
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_bad_puts_change_nothing),
		cmocka_unit_test(test_random_against_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
