/* SPDX-License-Identifier: MIT */
/* The timing wheel against the obvious model: a timer fires at the first tick not before its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "wheel.h"

#define TIMERS 500
#define MS 1000000ull

struct item {
	struct wheel_timer timer;
	int fired;
};

static struct item items[TIMERS];
static uint64_t fired_at;
static uint64_t previous_ns;

static void on_expire(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct item *item = (struct item *)timer;

	(void)ctx;
	assert_false(wheel_armed(timer));
	assert_true(timer->expires_ns <= now_ns);
	/* not due at the call before */
	assert_true(timer->expires_ns + WHEEL_TICK_NS > previous_ns);
	item->fired++;
	fired_at = now_ns;
}

static void test_random_against_model(void **state)
{
	struct wheel wheel;
	uint64_t now = 12345678;
	int armed = 0, fired = 0;

	(void)state;
	srandom(7);
	wheel_init(&wheel, now);
	for (int i = 0; i < TIMERS; i++)
		items[i] = (struct item){0};
	for (int round = 0; round < 20000; round++) {
		struct item *item = &items[random() % TIMERS];
		static const uint64_t spans[] = {3 * MS, 70 * MS, 5000 * MS, 400000 * MS, 30000000 * MS};

		if (random() % 4 == 0) {
			wheel_cancel(&wheel, &item->timer);
		} else {
			wheel_arm(&wheel, &item->timer, now + (uint64_t)random() % spans[random() % 5]);
			armed++;
		}
		previous_ns = now;
		now += (uint64_t)random() % spans[random() % 4];
		/* never later than the next expiry */
		for (int i = 0; i < TIMERS; i++)
			if (wheel_armed(&items[i].timer) && items[i].timer.expires_ns > previous_ns)
				assert_true(wheel_next_ns(&wheel) <= items[i].timer.expires_ns + WHEEL_TICK_NS);
		wheel_expire(&wheel, now, on_expire, NULL);
		for (int i = 0; i < TIMERS; i++)
			assert_true(!wheel_armed(&items[i].timer) || items[i].timer.expires_ns + WHEEL_TICK_NS > now);
	}
	for (int i = 0; i < TIMERS; i++)
		fired += items[i].fired;
	assert_true(fired > 1000 && fired <= armed);
}

static void test_never_early_at_most_a_tick_late(void **state)
{
	struct wheel wheel;

	(void)state;
	wheel_init(&wheel, 0);
	for (uint64_t delay = 1; delay < 300 * MS; delay += MS / 3 + 1) {
		struct item item = {0};
		uint64_t start = wheel.now_tick * WHEEL_TICK_NS, now = start;

		wheel_arm(&wheel, &item.timer, start + delay);
		for (; !item.fired; now += MS / 4) {
			previous_ns = start;
			wheel_expire(&wheel, now, on_expire, NULL);
		}
		assert_true(fired_at >= start + delay);
		assert_true(fired_at <= start + delay + WHEEL_TICK_NS + MS / 4);
	}
}

static struct wheel chain_wheel;

static void on_chain(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	int *left = ctx;

	wheel_cancel(&chain_wheel, &items[1].timer);
	if (--*left)
		wheel_arm(&chain_wheel, timer, now_ns + MS);
}

static void test_callback_arms_and_cancels(void **state)
{
	int left = 5;

	(void)state;
	wheel_init(&chain_wheel, 0);
	items[0] = items[1] = (struct item){0};
	wheel_arm(&chain_wheel, &items[0].timer, MS);
	wheel_arm(&chain_wheel, &items[1].timer, MS);
	for (uint64_t now = 0; now < 20 * MS; now += MS)
		wheel_expire(&chain_wheel, now, on_chain, &left);
	assert_int_equal(left, 0);
	assert_int_equal(wheel_next_ns(&chain_wheel), UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_against_model),
		cmocka_unit_test(test_never_early_at_most_a_tick_late),
		cmocka_unit_test(test_callback_arms_and_cancels),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
