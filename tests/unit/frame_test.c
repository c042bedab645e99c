/* SPDX-License-Identifier: MIT */
/* The frame pool: one owner at a time, and the sum over all owners is always the total. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "frame.h"

#define FRAMES 64
#define FRAME_SIZE 2048

static uint8_t area[FRAMES * FRAME_SIZE];
static struct frame frames[FRAMES];
static struct frame_pool pool;

static void assert_accounts(void)
{
	uint32_t count[FRAME_OWNER_COUNT] = {0};

	for (uint32_t i = 0; i < FRAMES; i++)
		count[frames[i].tx_busy ? FRAME_TX : frames[i].owner]++;
	for (int owner = 0; owner < FRAME_OWNER_COUNT; owner++)
		assert_int_equal(count[owner], pool.owned[owner]);
}

static int setup(void **state)
{
	(void)state;
	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	return 0;
}

static void test_empty_pool(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FRAMES; i++)
		assert_int_not_equal(frame_get(&pool, FRAME_RX), FRAME_NONE);
	assert_int_equal(frame_get(&pool, FRAME_RX), FRAME_NONE);
	assert_int_equal(pool.exhausted, 1);
	assert_int_equal(pool.low_water, 0);
	assert_int_equal(pool.owned[FRAME_RX], FRAMES);
	assert_accounts();
	for (uint32_t i = 0; i < FRAMES; i++)
		frame_put(&pool, i);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	assert_accounts();
}

static void test_frames_do_not_overlap(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < FRAMES; i++)
		assert_ptr_equal(frame_data(&pool, frame_get(&pool, FRAME_RX)), area + i * FRAME_SIZE);
}

static void test_put_while_transmitted(void **state)
{
	uint32_t index = frame_get(&pool, FRAME_FLOW);

	(void)state;
	frame_tx_start(&pool, index);
	assert_int_equal(pool.owned[FRAME_TX], 1);
	assert_int_equal(pool.owned[FRAME_FLOW], 0);
	/* acknowledged before the kernel was done with it: freed only then */
	frame_put(&pool, index);
	assert_int_equal(frame_pool_free(&pool), FRAMES - 1);
	assert_true(frames[index].tx_busy);
	frame_tx_done(&pool, index);
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	assert_accounts();
}

static void test_transmitted_data_returns_to_its_flow(void **state)
{
	uint32_t index = frame_get(&pool, FRAME_FLOW);

	(void)state;
	frame_tx_start(&pool, index);
	frame_tx_done(&pool, index);
	assert_int_equal(frames[index].owner, FRAME_FLOW);
	assert_int_equal(pool.owned[FRAME_FLOW], 1);
	assert_accounts();
}

static void test_random_changes(void **state)
{
	(void)state;
	srand(1);
	for (int step = 0; step < 20000; step++) {
		uint32_t index = (uint32_t)rand() % FRAMES;

		switch (rand() % 4) {
		case 0:
			frame_get(&pool, rand() % 2 ? FRAME_FLOW : FRAME_TX);
			break;
		case 1:
			if (frames[index].owner != FRAME_POOL && !frames[index].tx_busy)
				frame_tx_start(&pool, index);
			break;
		case 2:
			if (frames[index].tx_busy)
				frame_tx_done(&pool, index);
			break;
		default:
			if (frames[index].owner == FRAME_FLOW)
				frame_put(&pool, index);
			break;
		}
		assert_accounts();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_empty_pool, setup),
		cmocka_unit_test_setup(test_frames_do_not_overlap, setup),
		cmocka_unit_test_setup(test_put_while_transmitted, setup),
		cmocka_unit_test_setup(test_transmitted_data_returns_to_its_flow, setup),
		cmocka_unit_test_setup(test_random_changes, setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
