/* SPDX-License-Identifier: MIT */
/* The set of upstreams: slots, what a rule names, pools cut to the limit, and going over to another configuration. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_yaml.h"
#include "upstreams.h"

#define HEAD "interfaces: [ { name: eth1 } ]\nupstreams:\n"
#define A "  - { name: a, server: 192.0.2.1:1080, ports: 10000-10099"
#define B "  - { name: b, server: 192.0.2.2:1080, ports: 10000-10099"
#define C "  - { name: c, server: '[2001:db8::3]:1080', ports: 20000-20009"
#define END " }\n"

static struct upstreams *set;
static char error[256];

static struct config *parse(const char *text)
{
	struct config *config = malloc(sizeof(*config));
	struct config_error problem;

	if (config_parse(text, strlen(text), "t", config, &problem))
		fail_msg("%s", problem.text);
	return config;
}

static void begin(const char *text)
{
	struct config *config = parse(text);

	set = calloc(1, sizeof(*set));
	upstreams_init(set, config, 1);
	assert_int_equal(upstreams_open(set), 0);
	free(config);
}

static int reload(const char *text)
{
	struct config *config = parse(text);
	int err = upstreams_reload(set, config, 2, error, sizeof(error));

	/* nothing of it may be needed any more */
	memset(config, 0xee, sizeof(*config));
	free(config);
	return err;
}

static int end(void **state)
{
	(void)state;
	if (set) {
		upstreams_release(set);
		free(set);
		set = NULL;
	}
	return 0;
}

static void fail_upstream(uint32_t slot)
{
	for (int i = 0; i < UPSTREAM_FAILURES; i++)
		upstream_health_failed(&set->health[slot], 10, 0);
}

static void test_what_a_rule_names_is_meant(void **state)
{
	(void)state;
	begin(HEAD A END B END "  - { name: d, server: 'proxy.example:1080' }\n");
	assert_int_equal(upstreams_pick(set, 1, 0), 1);
	fail_upstream(1);
	/* its state does not matter, and there is no second try elsewhere */
	assert_int_equal(upstreams_pick(set, 1, 0), 1);
	assert_int_equal(upstreams_pick(set, 1, 2), UPSTREAMS_NONE);
	/* a name that is not resolved */
	assert_int_equal(upstreams_pick(set, 2, 0), UPSTREAMS_NONE);
	assert_int_equal(upstreams_pick(set, 3, 0), UPSTREAMS_NONE);
	for (int i = 0; i < 10; i++)
		assert_int_equal(upstreams_pick(set, UPSTREAMS_ANY, 0), 0);
	/* the second try takes healthy ones only */
	assert_int_equal(upstreams_pick(set, UPSTREAMS_ANY, 1), UPSTREAMS_NONE);
}

static void test_pools_share_the_limit(void **state)
{
	(void)state;
	begin(HEAD A ", pool: 30" END B ", pool: 10" END C END "performance: { connection_pool_size: 20 }\n");
	assert_int_equal(upstreams_pool_target(set, 0), 15);
	assert_int_equal(upstreams_pool_target(set, 1), 5);
	assert_int_equal(upstreams_pool_target(set, 2), 0);
	assert_int_equal(reload(HEAD A ", pool: 30" END B ", pool: 10" END), 0);
	assert_int_equal(upstreams_pool_target(set, 0), 30);
	assert_int_equal(
		reload(HEAD A ", pool: 30" END B ", pool: 10" END "performance: { enable_connection_pool: false }\n"),
		0);
	assert_int_equal(upstreams_pool_target(set, 0), 0);
}

static void test_reload_changes_in_place(void **state)
{
	(void)state;
	begin(HEAD A END B END);
	set->list[0].spliced = 5;
	ports_pool_claim(&set->list[0].ports, 0, 10050);
	assert_int_equal(
		reload(HEAD B END A ", weight: 7, backoff: 9s, pool: 3, username: u, password: p, pipeline: true" END),
		0);
	/* same slots, other indexes, also for who still counts by the old ones */
	assert_int_equal(upstreams_renamed(set, 0), 1);
	assert_int_equal(upstreams_renamed(set, 1), 0);
	assert_int_equal(upstreams_renamed(set, 2), UPSTREAMS_GONE);
	assert_int_equal(set->slots[0], 1);
	assert_int_equal(set->slots[1], 0);
	assert_false(set->ways_changed);
	assert_int_equal(set->health[0].weight, 7);
	assert_true(set->health[0].backoff_ns == 9000000000ull);
	assert_string_equal(set->list[0].settings.password, "p");
	assert_true(set->list[0].settings.pipeline);
	assert_int_equal(set->list[0].spliced, 5);
	assert_int_equal(set->list[0].ports.in_use, 1);
	assert_int_equal(upstreams_pick(set, 1, 0), 0);
}

static void test_reload_keeps_what_is_known(void **state)
{
	(void)state;
	begin(HEAD A END B END);
	fail_upstream(0);
	assert_int_equal(reload(HEAD A ", weight: 2" END B END), 0);
	assert_int_equal(set->health[0].state, UPSTREAM_FAILED);
}

static void test_reload_adds_and_removes(void **state)
{
	struct ports_set ports;

	(void)state;
	begin(HEAD A END B END);
	set->list[0].conns = 1;
	set->list[1].entries = 1;
	assert_int_equal(reload(HEAD C END), 0);
	assert_true(set->ways_changed);
	/* both still carry something: they keep their slots and get nothing new */
	assert_int_equal(set->slots[0], 2);
	assert_string_equal(upstream_health_name(&set->health[0]), "removed");
	assert_int_equal(upstreams_renamed(set, 0), UPSTREAMS_GONE);
	assert_int_equal(upstreams_pick(set, UPSTREAMS_GONE, 0), UPSTREAMS_NONE);
	assert_int_equal(upstreams_find(set, set->list[0].id), UPSTREAMS_NONE);
	assert_int_equal(upstreams_find(set, set->list[2].id), 2);
	for (int i = 0; i < 10; i++)
		assert_int_equal(upstreams_pick(set, UPSTREAMS_ANY, 0), 2);
	/* the kernel still carries something by B's ports; A's connections have sockets */
	upstreams_ports(set, &ports);
	assert_true(ports_set_has_range(&ports, 10000, 10099));
	assert_true(ports_set_has_range(&ports, 20000, 20009));
	upstreams_sweep(set);
	assert_int_equal(set->list[1].ports.total, 100);
	/* the last one ends: its memory goes, and the slot is used again */
	set->list[1].entries = 0;
	upstreams_sweep(set);
	assert_int_equal(set->list[1].ports.total, 0);
	upstreams_ports(set, &ports);
	assert_false(ports_set_has_range(&ports, 10000, 10099));
	assert_int_equal(reload(HEAD C END B END), 0);
	assert_int_equal(set->slots[1], 1);
	assert_int_equal(set->list[1].ports.total, 100);
	assert_string_equal(upstream_health_name(&set->health[1]), "healthy");
}

static void test_reload_replaces_another_way_under_the_same_name(void **state)
{
	static const char *const ways[] = {
		HEAD "  - { name: a, server: 192.0.2.9:1080, ports: 10000-10099 }\n",
		HEAD "  - { name: a, server: 192.0.2.1:1081, ports: 10000-10099 }\n",
		HEAD "  - { name: a, server: 192.0.2.1:1080, ports: 10000-10098 }\n",
		HEAD A ", mark: 7" END,
		HEAD A ", sources: [ 192.0.2.200 ]" END,
		HEAD "  - { name: a, server: 'proxy.example:1080', ports: 10000-10099 }\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		begin(HEAD A END);
		set->list[0].entries = 1;
		assert_int_equal(reload(ways[i]), 0);
		assert_int_equal(set->slots[0], 1);
		assert_false(set->health[0].present);
		assert_int_equal(set->list[0].id, set->list[1].id);
		assert_int_equal(upstreams_find(set, set->list[0].id), 1);
		end(NULL);
	}
}

static void test_reload_is_all_or_nothing(void **state)
{
	char text[4096] = HEAD;

	(void)state;
	begin(HEAD A END);
	/* every slot is held by connections of what was removed */
	for (int round = 0; round < 2; round++) {
		strcpy(text, HEAD);
		for (int i = 0; i < 16; i++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text),
				 "  - { name: r%di%d, server: 192.0.2.1:1080, ports: 10000-10009 }\n", round, i);
		assert_int_equal(reload(text), round ? -EBUSY : 0);
		for (uint32_t i = 0; i < UPSTREAMS_SLOTS; i++)
			set->list[i].conns = 1;
	}
	assert_non_null(strstr(error, "removed earlier"));
	assert_string_equal(set->list[set->slots[3]].settings.name, "r0i3");
	assert_int_equal(set->count, 16);
}

static void test_addresses_of_a_name(void **state)
{
	const struct addr one = addr_from_ipv4(be32(0xc0000201)), two = addr_from_ipv4(be32(0xc0000202)),
			  three = addr_from_ipv4(be32(0xc0000203));
	const struct addr both[] = {one, two}, others[] = {three, two};
	struct upstream *upstream;

	(void)state;
	begin(HEAD "  - { name: d, server: 'proxy.example:1080' }\n");
	upstream = &set->list[0];
	assert_int_equal(upstream->addr_count, 0);
	assert_false(set->health[0].resolved);
	assert_true(upstream_set_addresses(upstream, both, 2));
	assert_true(addr_equal(upstream_address(upstream), &one));
	/* the first fails: the second is tried, once for all who tried the first */
	assert_true(upstream_next_address(upstream, &one));
	assert_true(upstream_next_address(upstream, &one));
	assert_true(addr_equal(upstream_address(upstream), &two));
	/* a new answer has it too: it stays */
	assert_false(upstream_set_addresses(upstream, others, 2));
	assert_true(addr_equal(upstream_address(upstream), &two));
	/* the last fails: all have, begin again */
	assert_false(upstream_next_address(upstream, &two));
	assert_true(addr_equal(upstream_address(upstream), &three));
	assert_true(upstream_set_addresses(upstream, both, 1));
	assert_true(addr_equal(upstream_address(upstream), &one));
	assert_false(upstream_next_address(upstream, &one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_what_a_rule_names_is_meant, end),
		cmocka_unit_test_teardown(test_pools_share_the_limit, end),
		cmocka_unit_test_teardown(test_reload_changes_in_place, end),
		cmocka_unit_test_teardown(test_reload_keeps_what_is_known, end),
		cmocka_unit_test_teardown(test_reload_adds_and_removes, end),
		cmocka_unit_test_teardown(test_reload_replaces_another_way_under_the_same_name, end),
		cmocka_unit_test_teardown(test_reload_is_all_or_nothing, end),
		cmocka_unit_test_teardown(test_addresses_of_a_name, end),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("upstreams", tests, NULL, NULL);
}
