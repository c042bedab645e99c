/* SPDX-License-Identifier: MIT */
/* Shares, standby, failures, back-off and probes, on a clock that the tests turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "upstream_choice.h"

#define SECOND 1000000000ull
#define BACKOFF (5 * SECOND)

static struct upstream_health list[4];

static void begin(uint32_t a, uint32_t b, uint32_t c)
{
	const uint32_t weights[] = {a, b, c};

	memset(list, 0, sizeof(list));
	for (int i = 0; i < 3; i++) {
		upstream_health_init(&list[i], weights[i], BACKOFF, SECOND);
		list[i].resolved = true;
	}
}

static void take_out(struct upstream_health *health, uint64_t now_ns)
{
	for (int i = 0; i < UPSTREAM_FAILURES; i++)
		upstream_health_failed(health, now_ns, 0);
	assert_int_equal(health->state, UPSTREAM_FAILED);
}

static void test_shares_follow_weights(void **state)
{
	int counts[3] = {0}, last = -1, row = 0, longest = 0;

	(void)state;
	begin(5, 3, 2);
	for (int i = 0; i < 1000; i++) {
		int chosen = upstream_choose(list, 3, 0, false);

		row = chosen == last ? row + 1 : 1;
		longest = row > longest ? row : longest;
		last = chosen;
		counts[chosen]++;
	}
	assert_int_equal(counts[0], 500);
	assert_int_equal(counts[1], 300);
	assert_int_equal(counts[2], 200);
	/* smooth: no bursts to the heaviest */
	assert_true(longest <= 2);
}

static void test_standby_only_when_no_other_is_healthy(void **state)
{
	(void)state;
	begin(0, 1, 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(upstream_choose(list, 3, 0, false), 1);
	take_out(&list[1], 10 * SECOND);
	/* the first of the standbys */
	assert_int_equal(upstream_choose(list, 3, 0, false), 0);
	take_out(&list[0], 11 * SECOND);
	assert_int_equal(upstream_choose(list, 3, 0, false), 2);
	upstream_health_answered(&list[1], 12 * SECOND);
	assert_int_equal(upstream_choose(list, 3, 0, false), 1);
}

static void test_failed_ones_get_nothing(void **state)
{
	int counts[3] = {0};

	(void)state;
	begin(1, 1, 2);
	take_out(&list[2], 10 * SECOND);
	for (int i = 0; i < 100; i++)
		counts[upstream_choose(list, 3, 0, false)]++;
	assert_int_equal(counts[0], 50);
	assert_int_equal(counts[1], 50);
	assert_int_equal(counts[2], 0);
}

static void test_with_none_healthy_the_least_recently_failed(void **state)
{
	(void)state;
	begin(1, 1, 0);
	take_out(&list[0], 12 * SECOND);
	take_out(&list[1], 10 * SECOND);
	take_out(&list[2], 11 * SECOND);
	assert_int_equal(upstream_choose(list, 3, 0, false), 1);
	/* it fails again: it is the next one's turn */
	upstream_health_failed(&list[1], 13 * SECOND, 0);
	assert_int_equal(upstream_choose(list, 3, 0, false), 2);
	/* a second try goes to healthy ones only */
	assert_int_equal(upstream_choose(list, 3, 0, true), -1);
}

static void test_a_lone_one_is_never_given_up(void **state)
{
	(void)state;
	begin(1, 0, 0);
	take_out(&list[0], 10 * SECOND);
	assert_int_equal(upstream_choose(list, 1, 0, false), 0);
}

static void test_excluded_absent_and_unresolved(void **state)
{
	(void)state;
	begin(1, 1, 1);
	assert_int_equal(upstream_choose(list, 3, 3, false), 2);
	list[2].resolved = false;
	assert_int_equal(upstream_choose(list, 3, 3, false), -1);
	list[0].present = false;
	assert_int_equal(upstream_choose(list, 3, 0, false), 1);
	assert_int_equal(upstream_choose(list, 3, 2, false), -1);
}

static void test_failures_must_be_in_a_row(void **state)
{
	(void)state;
	begin(1, 0, 0);
	for (int i = 0; i < 10; i++) {
		for (int j = 1; j < UPSTREAM_FAILURES; j++)
			assert_false(upstream_health_failed(&list[0], 10 * SECOND, 0));
		assert_false(upstream_health_answered(&list[0], 10 * SECOND));
	}
	for (int j = 1; j < UPSTREAM_FAILURES; j++)
		assert_false(upstream_health_failed(&list[0], 10 * SECOND, 0));
	/* told once */
	assert_true(upstream_health_failed(&list[0], 10 * SECOND, 0));
	assert_false(upstream_health_failed(&list[0], 10 * SECOND, 0));
}

static void test_backoff_doubles_up_to_sixteen_times(void **state)
{
	static const uint64_t times[] = {2, 4, 8, 16, 16, 16};
	uint64_t now = 10 * SECOND, due;

	(void)state;
	begin(1, 0, 0);
	take_out(&list[0], now);
	due = upstream_health_probe_ns(&list[0]);
	assert_true(due >= now + BACKOFF * 7 / 8 && due <= now + BACKOFF * 9 / 8);
	for (int i = 0; i < 6; i++) {
		now = due;
		upstream_health_probe(&list[0], now);
		assert_true(upstream_health_probe_ns(&list[0]) == UINT64_MAX);
		assert_string_equal(upstream_health_name(&list[0]), "probing");
		upstream_health_failed(&list[0], now, (uint32_t)i * 1000000007u);
		due = upstream_health_probe_ns(&list[0]);
		assert_true(due >= now + times[i] * BACKOFF * 7 / 8);
		assert_true(due <= now + times[i] * BACKOFF * 9 / 8);
	}
	/* it answers: all is forgotten */
	upstream_health_probe(&list[0], due);
	assert_true(upstream_health_answered(&list[0], due));
	list[0].probing = false;
	assert_string_equal(upstream_health_name(&list[0]), "healthy");
	assert_true(upstream_health_probe_ns(&list[0]) == UINT64_MAX);
	take_out(&list[0], due);
	assert_true(upstream_health_probe_ns(&list[0]) <= due + BACKOFF * 9 / 8);
}

static void test_jitter_is_spread(void **state)
{
	uint64_t least = UINT64_MAX, most = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		begin(1, 0, 0);
		for (int j = 0; j < UPSTREAM_FAILURES; j++)
			upstream_health_failed(&list[0], SECOND, i * 2654435761u);
		least = list[0].until_ns < least ? list[0].until_ns : least;
		most = list[0].until_ns > most ? list[0].until_ns : most;
	}
	assert_true(most - least > BACKOFF / 5);
}

/* Clients that are tried for want of anything better fail all the time: the probe still comes when it is due. */
static void test_failing_clients_do_not_put_the_probe_off(void **state)
{
	uint64_t due;

	(void)state;
	begin(1, 0, 0);
	take_out(&list[0], 10 * SECOND);
	due = upstream_health_probe_ns(&list[0]);
	for (int i = 0; i < 1000; i++)
		upstream_health_failed(&list[0], 10 * SECOND + (uint64_t)i * 1000000, 0);
	assert_true(upstream_health_probe_ns(&list[0]) == due);
}

static void test_standby_is_probed_now_and_then(void **state)
{
	uint64_t due;

	(void)state;
	begin(0, 1, 0);
	due = upstream_health_probe_ns(&list[0]);
	assert_true(due == SECOND + UPSTREAM_STANDBY_BACKOFFS * BACKOFF);
	assert_string_equal(upstream_health_name(&list[0]), "standby");
	/* one with a weight has connections to tell of it */
	assert_true(upstream_health_probe_ns(&list[1]) == UINT64_MAX);
	upstream_health_probe(&list[0], due);
	upstream_health_answered(&list[0], due);
	list[0].probing = false;
	assert_true(upstream_health_probe_ns(&list[0]) == due + UPSTREAM_STANDBY_BACKOFFS * BACKOFF);
	/* one failed probe is enough: there is nobody else to ask */
	upstream_health_probe(&list[0], due);
	assert_true(upstream_health_failed(&list[0], due, 0));
	assert_string_equal(upstream_health_name(&list[0]), "failed");
}

static void test_probes_without_verdict_are_spaced(void **state)
{
	(void)state;
	begin(1, 0, 0);
	take_out(&list[0], 10 * SECOND);
	upstream_health_probe(&list[0], 20 * SECOND);
	list[0].probing = false;
	assert_true(upstream_health_probe_ns(&list[0]) == 21 * SECOND);
}

static void test_names(void **state)
{
	(void)state;
	begin(1, 0, 0);
	assert_string_equal(upstream_health_name(&list[0]), "healthy");
	list[0].resolved = false;
	assert_string_equal(upstream_health_name(&list[0]), "unresolved");
	assert_true(upstream_health_probe_ns(&list[0]) == UINT64_MAX);
	list[0].present = false;
	assert_string_equal(upstream_health_name(&list[0]), "removed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares_follow_weights),
		cmocka_unit_test(test_standby_only_when_no_other_is_healthy),
		cmocka_unit_test(test_failed_ones_get_nothing),
		cmocka_unit_test(test_with_none_healthy_the_least_recently_failed),
		cmocka_unit_test(test_a_lone_one_is_never_given_up),
		cmocka_unit_test(test_excluded_absent_and_unresolved),
		cmocka_unit_test(test_failures_must_be_in_a_row),
		cmocka_unit_test(test_backoff_doubles_up_to_sixteen_times),
		cmocka_unit_test(test_jitter_is_spread),
		cmocka_unit_test(test_failing_clients_do_not_put_the_probe_off),
		cmocka_unit_test(test_standby_is_probed_now_and_then),
		cmocka_unit_test(test_probes_without_verdict_are_spaced),
		cmocka_unit_test(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("upstream_choice", tests, NULL, NULL);
}
