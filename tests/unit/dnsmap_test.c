/* SPDX-License-Identifier: MIT */
/* The map of names: who gives way and who never does, which addresses come again and when, saving and broken files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_scalar.h"
#include "dnsmap.h"

static struct config_prefix prefix(const char *text)
{
	struct config_prefix out = {.pad = {0}};

	assert_true(config_scalar_prefix(text, &out.addr, &out.bits));
	return out;
}

static struct addr addr(const char *text)
{
	struct addr out;

	assert_true(config_scalar_addr(text, &out));
	return out;
}

static struct dnsmap *make(const char *mapped, const char *mapped6, uint32_t entries)
{
	const struct dnsmap_settings settings = {.mapped = prefix(mapped),
						 .mapped6 = prefix(mapped6),
						 .except = addr("198.18.0.1"),
						 .entries = entries,
						 .secret = "fifteen letters"};
	struct dnsmap *map;

	assert_int_equal(dnsmap_create(&map, &settings), 0);
	return map;
}

static uint32_t give(struct dnsmap *map, int i)
{
	char name[32];

	snprintf(name, sizeof(name), "host%d.example", i);
	return dnsmap_give(map, name);
}

static struct addr ipv4_of(struct dnsmap *map, uint32_t entry)
{
	struct addr ipv4, ipv6;

	dnsmap_addrs(map, entry, &ipv4, &ipv6);
	/* both families lead to the same name */
	assert_int_equal(dnsmap_find(map, &ipv4), entry);
	assert_int_equal(dnsmap_find(map, &ipv6), entry);
	return ipv4;
}

static void test_addresses(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 100);
	struct addr ipv4, ipv6, wanted;
	uint32_t entry = dnsmap_give(map, "www.example");

	(void)state;
	/* neither the first address nor the excepted one */
	dnsmap_addrs(map, entry, &ipv4, &ipv6);
	wanted = addr("198.18.0.2");
	assert_true(addr_equal(&ipv4, &wanted));
	wanted = addr("fc00:5::2");
	assert_true(addr_equal(&ipv6, &wanted));
	assert_int_equal(dnsmap_give(map, "www.example"), entry);
	assert_string_equal(dnsmap_name(map, dnsmap_find(map, &ipv4)), "www.example");
	assert_string_equal(dnsmap_name(map, dnsmap_find(map, &ipv6)), "www.example");
	for (size_t i = 0; i < 2; i++) {
		static const char *const others[][2] = {{"198.18.0.1", "fc00:5::1"}, {"198.19.255.255", "fc00:5::3"}};

		ipv4 = addr(others[i][0]);
		ipv6 = addr(others[i][1]);
		assert_int_equal(dnsmap_find(map, &ipv4), DNSMAP_NONE);
		assert_int_equal(dnsmap_find(map, &ipv6), DNSMAP_NONE);
		assert_true(dnsmap_covers(map, &ipv4));
		assert_true(dnsmap_covers(map, &ipv6));
	}
	ipv4 = addr("198.20.0.0");
	assert_false(dnsmap_covers(map, &ipv4));
	ipv4 = addr("198.17.255.255");
	assert_false(dnsmap_covers(map, &ipv4));
	assert_int_equal(dnsmap_find(map, &ipv4), DNSMAP_NONE);
	ipv6 = addr("fc00:5:0:0:0:1::2");
	assert_false(dnsmap_covers(map, &ipv6));
	assert_int_equal(dnsmap_find(map, &ipv6), DNSMAP_NONE);
	dnsmap_destroy(map);
}

static void test_lru(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 4);
	struct addr first = ipv4_of(map, give(map, 0)), second = ipv4_of(map, give(map, 1));

	(void)state;
	give(map, 2);
	give(map, 3);
	/* 0 is used again, so 1 is the oldest */
	give(map, 0);
	give(map, 4);
	assert_int_not_equal(dnsmap_find(map, &first), DNSMAP_NONE);
	assert_int_equal(dnsmap_find(map, &second), DNSMAP_NONE);
	/* its address leads nowhere for long, and 1 gets another */
	second = ipv4_of(map, give(map, 1));
	assert_int_equal(second.bytes[15], 7);
	dnsmap_destroy(map);
}

/* Whatever happens: an address with flows keeps its name. */
static void test_held(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 8);
	struct dnsmap_gauges gauges;
	uint32_t held[3];
	struct addr addrs[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		held[i] = give(map, i);
		addrs[i] = ipv4_of(map, held[i]);
		dnsmap_hold(map, held[i]);
	}
	dnsmap_hold(map, held[0]);
	for (int round = 0; round < 3; round++) {
		for (int i = 100; i < 200000; i++)
			assert_int_not_equal(give(map, i), DNSMAP_NONE);
		for (int i = round; i < 3; i++) {
			char name[32];

			snprintf(name, sizeof(name), "host%d.example", i);
			assert_string_equal(dnsmap_name(map, dnsmap_find(map, &addrs[i])), name);
			assert_int_equal(give(map, i), held[i]);
		}
		dnsmap_gauges(map, &gauges);
		assert_int_equal(gauges.held, 3 - round);
		/* twice held, twice released */
		if (!round)
			dnsmap_release(map, held[0]);
		dnsmap_release(map, held[round]);
	}
	for (int i = 100; i < 120; i++)
		give(map, i);
	for (int i = 0; i < 3; i++)
		assert_int_equal(dnsmap_find(map, &addrs[i]), DNSMAP_NONE);
	dnsmap_destroy(map);
}

static void test_all_held(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 8);
	struct dnsmap_gauges gauges;
	uint32_t entry = 0;

	(void)state;
	for (int i = 0; i < 8; i++) {
		entry = give(map, i);
		dnsmap_hold(map, entry);
	}
	assert_int_equal(give(map, 8), DNSMAP_NONE);
	assert_int_equal(give(map, 7), entry);
	dnsmap_release(map, entry);
	assert_int_equal(give(map, 8), entry);
	dnsmap_gauges(map, &gauges);
	assert_int_equal(gauges.names, 8);
	assert_int_equal(gauges.held, 7);
	assert_true(gauges.evicted == 1);
	dnsmap_destroy(map);
}

/* As many names as addresses: those that are free come again at once, and never two names have one. */
static void test_narrow(void **state)
{
	struct dnsmap *map = make("198.18.0.0/28", "fc00:5::/124", 13);
	struct addr seen[13];

	(void)state;
	for (int round = 0; round < 1000; round++) {
		struct addr now = ipv4_of(map, give(map, round));

		assert_in_range(now.bytes[15], 2, 14);
		seen[round % 13] = now;
		for (int i = 0; i < 13 && i < round; i++)
			if (i != round % 13)
				assert_false(addr_equal(&seen[i], &now));
	}
	dnsmap_destroy(map);
}

/* A flow of an earlier daemon whose name is lost keeps its address from everybody. */
static void test_adopted(void **state)
{
	struct dnsmap *map = make("198.18.0.0/28", "fc00:5::/124", 8);
	struct addr lost = addr("198.18.0.5"), listen = addr("198.18.0.1"), other = addr("198.18.1.5");
	struct dnsmap_gauges gauges;
	uint32_t entry = dnsmap_hold_addr(map, &lost), seen = 0;

	(void)state;
	assert_int_not_equal(entry, DNSMAP_NONE);
	assert_int_equal(dnsmap_hold_addr(map, &lost), entry);
	assert_int_equal(dnsmap_hold_addr(map, &listen), DNSMAP_NONE);
	assert_int_equal(dnsmap_hold_addr(map, &other), DNSMAP_NONE);
	assert_string_equal(dnsmap_name(map, entry), "");
	for (int i = 0; i < 1000; i++) {
		struct addr now = ipv4_of(map, give(map, i));

		assert_false(addr_equal(&now, &lost));
	}
	dnsmap_release(map, entry);
	assert_int_equal(dnsmap_find(map, &lost), entry);
	dnsmap_release(map, entry);
	assert_int_equal(dnsmap_find(map, &lost), DNSMAP_NONE);
	dnsmap_gauges(map, &gauges);
	assert_int_equal(gauges.held, 0);
	/* and then it comes round again */
	for (int i = 1000; i < 1020; i++)
		ipv4_of(map, give(map, i));
	assert_int_not_equal(dnsmap_find(map, &lost), DNSMAP_NONE);
	dnsmap_destroy(map);

	/* one that was free all the time is not free twice afterwards: all addresses are still given away */
	map = make("198.18.0.0/28", "fc00:5::/124", 8);
	for (int i = 0; i < 100; i++)
		dnsmap_release(map, dnsmap_hold_addr(map, &lost));
	for (int i = 0; i < 26; i++) {
		struct addr now = ipv4_of(map, give(map, i));

		seen |= 1u << now.bytes[15];
	}
	assert_int_equal(seen, 0x7ffc); /* 2 to 14 */
	dnsmap_destroy(map);
}

static void load_lines(struct dnsmap *map, char *text, int wanted)
{
	int loaded = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		loaded += dnsmap_load(map, line);
	assert_int_equal(loaded, wanted);
}

static void test_saved(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 100), *again;
	char *text = calloc(100, DNSMAP_LINE_BYTES + 1);
	struct addr addrs[100];
	uint32_t cursor = 0;
	uint64_t version;
	size_t bytes = 0;
	bool more = true;

	(void)state;
	for (int i = 0; i < 100; i++)
		addrs[i] = ipv4_of(map, give(map, i));
	version = dnsmap_version(map);
	/* the oldest is used once more: no change that has to be saved */
	give(map, 0);
	assert_true(dnsmap_version(map) == version);
	while (more)
		bytes += dnsmap_save(map, &cursor, 7, text + bytes, 1000, &more);
	again = make("198.18.0.0/15", "fc00:5::/96", 100);
	load_lines(again, text, 100);
	dnsmap_load_end(again, dnsmap_next_number(map));
	for (int i = 0; i < 100; i++) {
		struct addr now;
		char name[32];

		snprintf(name, sizeof(name), "host%d.example", i);
		assert_string_equal(dnsmap_name(again, dnsmap_find(again, &addrs[i])), name);
		now = ipv4_of(again, dnsmap_find(again, &addrs[i]));
		assert_true(addr_equal(&now, &addrs[i]));
	}
	/* 1 gives way, as it would have before; and new names get addresses far from those that may have been lost */
	addrs[2] = ipv4_of(again, give(again, 1000));
	assert_int_equal(dnsmap_find(again, &addrs[1]), DNSMAP_NONE);
	assert_int_not_equal(dnsmap_find(again, &addrs[0]), DNSMAP_NONE);
	assert_true(be32(addrs[2].words[3]) - be32(addrs[99].words[3]) > 10000);
	dnsmap_destroy(map);
	dnsmap_destroy(again);
	free(text);
}

static void test_broken_lines(void **state)
{
	static const char *const broken[] = {
		"",
		" ",
		"5",
		"5 6",
		"5 6 ",
		"5  6 a",
		"-5 6 a",
		"5 -6 a",
		"x 6 a",
		"5 x a",
		"5 6 a b",
		"5 6 A.example",
		"5 6 a.",
		"5 6 .a",
		"5 6 a..b",
		"5 6 a/b",
		"0 6 a.example",
		"1 6 a.example",
		"65537 6 a.example",
		"4294967301 6 a.example",
		"5 6 a\xc3\xa4",
		"99999999999999999999 6 a",
		"5 99999999999999999999 a",
	};
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 8);
	char line[600];
	struct dnsmap_gauges gauges;

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (dnsmap_load(map, broken[i]))
			fail_msg("accepted: %s", broken[i]);
	snprintf(line, sizeof(line), "5 6 %0500d", 0);
	assert_false(dnsmap_load(map, line));
	assert_true(dnsmap_load(map, "5 6 a.example"));
	/* the same number, the same name */
	assert_false(dnsmap_load(map, "5 7 b.example"));
	assert_false(dnsmap_load(map, "6 7 a.example"));
	/* not more than there is room for */
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "%d 18446744073709551615 c%d.example", 100 + i, i);
		dnsmap_load(map, line);
	}
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "%d 10 d%d.example", 200 + i, i);
		assert_int_equal(dnsmap_load(map, line), i < 7);
	}
	dnsmap_load_end(map, 4000000000u);
	dnsmap_gauges(map, &gauges);
	assert_int_equal(gauges.names, 8);
	assert_int_not_equal(give(map, 1), DNSMAP_NONE);
	dnsmap_destroy(map);
}

/* What is hostile is the names: a million of them must not cost more than their share of time. */
static void test_many(void **state)
{
	struct dnsmap *map = make("198.18.0.0/15", "fc00:5::/96", 10000);
	struct dnsmap_gauges gauges;

	(void)state;
	for (int i = 0; i < 1000000; i++)
		give(map, i);
	dnsmap_gauges(map, &gauges);
	assert_int_equal(gauges.names, 10000);
	assert_true(gauges.evicted == 990000);
	for (int i = 990000; i < 1000000; i++)
		ipv4_of(map, give(map, i));
	dnsmap_gauges(map, &gauges);
	assert_true(gauges.given == 1000000);
	dnsmap_destroy(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_lru),          cmocka_unit_test(test_held),
		cmocka_unit_test(test_all_held),  cmocka_unit_test(test_narrow),       cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_saved),     cmocka_unit_test(test_broken_lines), cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
