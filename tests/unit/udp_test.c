/* SPDX-License-Identifier: MIT */
/* The table of associations: who is found, who has to go, what waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "udp.h"

#define FRAMES 256
#define FRAME_SIZE 2048

static const uint8_t secret[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static struct frame_pool pool;
static struct frame frames[FRAMES];
static uint8_t area[FRAMES * FRAME_SIZE];

static struct udp_table *create(uint32_t max, uint32_t per_client)
{
	const struct udp_limits limits = {
		.max = max, .per_client = per_client, .queue_pkts = 3, .queue_bytes = 1000, .queue_frames = 8};
	struct udp_table *table;

	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	table = udp_create(&limits, secret, &pool);
	assert_non_null(table);
	return table;
}

static struct udp_key key_of(uint32_t client, uint16_t port)
{
	return (struct udp_key){.client = {.addr = addr_from_ipv4(be32(0x0a000000 + client)), .port = be16(port)},
				.wanted = UDP_ANY_UPSTREAM};
}

static uint32_t add(struct udp_table *table, uint32_t client, uint16_t port)
{
	struct udp_key key = key_of(client, port);

	return udp_add(table, &key, 0);
}

static uint32_t find(struct udp_table *table, uint32_t client, uint16_t port)
{
	struct udp_key key = key_of(client, port);

	return udp_find(table, &key);
}

static uint32_t victim(struct udp_table *table, uint32_t client)
{
	struct addr addr = addr_from_ipv4(be32(0x0a000000 + client));

	return udp_victim(table, &addr);
}

static void test_find(void **state)
{
	struct udp_table *table = create(16, 16);
	uint32_t a = add(table, 1, 5000), b = add(table, 2, 5000), c = add(table, 1, 5001), d;
	struct udp_key other = key_of(1, 5000);

	(void)state;
	/* the same endpoint by an upstream that a rule names */
	other.wanted = 3;
	d = udp_add(table, &other, 0);
	assert_int_equal(find(table, 1, 5000), a);
	assert_int_equal(find(table, 2, 5000), b);
	assert_int_equal(find(table, 1, 5001), c);
	assert_int_equal(udp_find(table, &other), d);
	assert_int_equal(find(table, 2, 5001), UDP_NONE);
	assert_int_equal(udp_count(table), 4);
	assert_int_equal(udp_clients(table), 2);
	udp_remove(table, b);
	assert_int_equal(find(table, 2, 5000), UDP_NONE);
	assert_int_equal(udp_clients(table), 1);
	udp_destroy(table);
}

static void test_per_client(void **state)
{
	struct udp_table *table = create(16, 3);
	uint32_t first = add(table, 1, 1), second = add(table, 1, 2);

	(void)state;
	assert_int_equal(victim(table, 1), UDP_NONE);
	add(table, 1, 3);
	assert_int_equal(victim(table, 1), first);
	assert_int_equal(victim(table, 2), UDP_NONE);
	assert_int_equal(add(table, 1, 4), UDP_NONE);
	udp_touch(table, first, 5);
	assert_int_equal(udp_last_ns(table, first), 5);
	assert_int_equal(victim(table, 1), second);
	udp_remove(table, second);
	assert_int_not_equal(add(table, 1, 4), UDP_NONE);
	udp_destroy(table);
}

/* At the limit: a client with more than its share makes room itself, another takes the oldest of all. */
static void test_full(void **state)
{
	struct udp_table *table = create(16, 16);
	uint32_t quiet = add(table, 9, 1), first = UDP_NONE;

	(void)state;
	for (uint16_t port = 1; port <= 15; port++) {
		uint32_t index = add(table, 1, port);

		first = first == UDP_NONE ? index : first;
	}
	assert_int_equal(udp_count(table), 16);
	assert_int_equal(victim(table, 1), first); /* not `quiet`, though that is older */
	assert_int_equal(victim(table, 2), quiet);
	udp_touch(table, quiet, 1);
	assert_int_equal(victim(table, 2), first);
	udp_destroy(table);
}

/* A flood of source ports never gets at the others. */
static void test_flood(void **state)
{
	struct udp_table *table = create(64, 64);
	uint32_t others[8];

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		others[i] = add(table, 100 + i, 7);
	for (uint32_t port = 1; port < 5000; port++) {
		uint32_t goes = victim(table, 1);

		if (goes != UDP_NONE)
			udp_remove(table, goes);
		assert_int_not_equal(add(table, 1, (uint16_t)port), UDP_NONE);
	}
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(find(table, 100 + i, 7), others[i]);
	assert_int_equal(udp_count(table), 64);
	udp_destroy(table);
}

/* All that are wanted, found again; then indexes are used again oldest first. */
static void test_large(void **state)
{
	struct udp_table *table = create(65536, 1024);
	uint32_t before;

	(void)state;
	for (uint32_t i = 0; i < 65536; i++)
		assert_int_not_equal(add(table, i / 1024, (uint16_t)(i % 1024 + 1)), UDP_NONE);
	assert_int_equal(udp_count(table), 65536);
	assert_int_equal(udp_clients(table), 64);
	for (uint32_t i = 0; i < 65536; i++)
		assert_int_equal(find(table, i / 1024, (uint16_t)(i % 1024 + 1)), i);
	assert_int_equal(add(table, 1000, 1), UDP_NONE);
	before = find(table, 5, 5);
	udp_remove(table, before);
	udp_remove(table, find(table, 5, 6));
	assert_int_equal(add(table, 5, 5), before);
	for (uint32_t i = 0; i < 65536; i++)
		if (find(table, i / 1024, (uint16_t)(i % 1024 + 1)) != UDP_NONE)
			udp_remove(table, find(table, i / 1024, (uint16_t)(i % 1024 + 1)));
	assert_int_equal(udp_count(table), 0);
	assert_int_equal(udp_clients(table), 0);
	udp_destroy(table);
}

static void test_queue(void **state)
{
	struct udp_table *table = create(4, 4);
	uint32_t index = add(table, 1, 1), other = add(table, 1, 2), got[5];

	(void)state;
	for (int i = 0; i < 5; i++)
		got[i] = frame_get(&pool, FRAME_FLOW);
	assert_int_equal(udp_dequeue(table, index), FRAME_NONE);
	assert_true(udp_queue(table, index, got[0], 400, 1));
	assert_true(udp_queue(table, index, got[1], 400, 2));
	assert_int_equal(udp_queued_frames(table, index), 1);
	assert_false(udp_queue(table, index, got[2], 201, 1)); /* bytes */
	assert_true(udp_queue(table, index, got[2], 200, 1));
	assert_false(udp_queue(table, index, got[3], 0, 1)); /* count */
	assert_false(udp_queue(table, other, got[3], 1, 5)); /* frames of all */
	assert_true(udp_queue(table, other, got[3], 1, 4));
	assert_int_equal(udp_dequeue(table, index), got[0]);
	assert_int_equal(udp_queued_frames(table, index), 2);
	assert_int_equal(udp_dequeue(table, index), got[1]);
	assert_int_equal(udp_dequeue(table, index), got[2]);
	assert_int_equal(udp_dequeue(table, index), FRAME_NONE);
	assert_int_equal(udp_dequeue(table, other), got[3]);
	assert_true(udp_queue(table, index, got[4], 1000, 8));
	assert_int_equal(udp_dequeue(table, index), got[4]);
	udp_remove(table, index);
	udp_destroy(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),  cmocka_unit_test(test_per_client), cmocka_unit_test(test_full),
		cmocka_unit_test(test_flood), cmocka_unit_test(test_large),      cmocka_unit_test(test_queue),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("udp", tests, NULL, NULL);
}
