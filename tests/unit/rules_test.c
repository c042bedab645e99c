/* SPDX-License-Identifier: MIT */
/* The compiled rules: by hand, and a million random packets of random lists against the plainest decision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_yaml.h"
#include "lib_rules.h"
#include "rules.h"

#define TCP 6
#define UDP 17
#define LISTS 2000
#define PACKETS_PER_LIST 500

static struct rules_set *compile(const char *list)
{
	struct config_error error;
	struct rules_set *set;
	struct config config;
	char text[4096];

	snprintf(text, sizeof(text),
		 "interfaces: [ { name: eth1 } ]\nupstreams: [ { name: main, server: 10.2.0.2:1080 } ]\nrules:\n%s",
		 list);
	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(rules_compile(&set, &config.rules), 0);
	config_release(&config);
	return set;
}

static struct addr address(const char *text)
{
	struct addr addr;
	__be32 ip;

	if (inet_pton(AF_INET, text, &ip) == 1)
		return addr_from_ipv4(ip);
	assert_int_equal(inet_pton(AF_INET6, text, addr.bytes), 1);
	return addr;
}

static int decide(const struct rules_set *set, const char *src, const char *dst, uint8_t proto, uint16_t port)
{
	const struct rules_packet packet = {
		.src = address(src), .dst = address(dst), .proto = proto, .dport = be16(port), .has_port = port != 0};

	return rules_decide(set, &packet).rule;
}

#define CLIENT4 "192.168.1.5"
#define CLIENT6 "fd01::5"

static void test_nested_prefixes(void **state)
{
	struct rules_set *set = compile("  - { dst: [10.1.2.0/24, 10.255.255.255], action: drop }\n"
					"  - { dst: [10.1.0.0/16, 'fd00::/16'], action: direct }\n"
					"  - { dst: [10.0.0.0/8, 'fd00::/8', 10.1.2.128/25], action: reject }\n"
					"  - { dst: 0.0.0.0/0, action: direct }\n");
	static const struct {
		const char *dst;
		int rule;
	} cases[] = {
		{"10.1.2.0", 0},
		{"10.1.2.255", 0},
		{"10.1.3.0", 1},
		{"10.1.1.255", 1},
		{"10.0.255.255", 2},
		{"10.2.0.0", 2},
		{"10.255.255.255", 0},
		{"10.255.255.254", 2},
		{"9.255.255.255", 3},
		{"11.0.0.0", 3},
		{"0.0.0.0", 3},
		{"255.255.255.255", 3},
		{"fd00::1", 1},
		{"fd01::", 2},
		{"fdff:ffff::", 2},
		{"fe00::", RULES_NONE},
		{"::", RULES_NONE},
		{"::1", RULES_NONE},
		{"fcff::", RULES_NONE},
		{"::fffe:ffff:ffff", RULES_NONE},
		{"::1:0:0:0", RULES_NONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *src = strchr(cases[i].dst, ':') ? CLIENT6 : CLIENT4;

		if (decide(set, src, cases[i].dst, TCP, 80) != cases[i].rule)
			fail_msg("%s: rule %d, wanted %d", cases[i].dst, decide(set, src, cases[i].dst, TCP, 80),
				 cases[i].rule);
	}
	rules_free(set);
}

/* An IPv6 prefix that covers ::ffff:0:0/96 says nothing about IPv4. */
static void test_families(void **state)
{
	struct rules_set *set = compile("  - { dst: '::/0', action: drop }\n  - { src: 0.0.0.0/0, action: reject }\n");

	(void)state;
	assert_int_equal(decide(set, CLIENT4, "1.2.3.4", TCP, 80), 1);
	assert_int_equal(decide(set, CLIENT4, "255.255.255.255", TCP, 80), 1);
	assert_int_equal(decide(set, CLIENT6, "2001:db8::1", TCP, 80), 0);
	assert_int_equal(decide(set, CLIENT6, "::ffff", TCP, 80), 0);
	rules_free(set);
	set = compile("  - { src: '::/0', action: drop }\n");
	assert_int_equal(decide(set, CLIENT4, "1.2.3.4", TCP, 80), RULES_NONE);
	assert_int_equal(decide(set, CLIENT6, "2001:db8::1", TCP, 80), 0);
	rules_free(set);
}

static void test_protocols_and_ports(void **state)
{
	struct rules_set *set = compile("  - { proto: udp, dport: [443, 8000-8100], action: reject }\n"
					"  - { proto: tcp, dport: 65535, src: 192.168.1.5, action: drop }\n"
					"  - { proto: tcp, dport: 1-10, action: direct }\n"
					"  - { proto: icmp, action: drop }\n"
					"  - { proto: udp, action: proxy, upstream: main }\n");

	(void)state;
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 443), 0);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 442), 4);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 8000), 0);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 8100), 0);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 8101), 4);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", UDP, 0), 4); /* a fragment: no port is known */
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", TCP, 443), RULES_NONE);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", TCP, 65535), 1);
	assert_int_equal(decide(set, "192.168.1.6", "1.1.1.1", TCP, 65535), RULES_NONE);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", TCP, 1), 2);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", TCP, 10), 2);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", TCP, 11), RULES_NONE);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", 1, 0), 3);
	assert_int_equal(decide(set, CLIENT6, "2001::1", 58, 0), 3);
	assert_int_equal(decide(set, CLIENT4, "1.1.1.1", 58, 0), RULES_NONE);
	assert_int_equal(decide(set, CLIENT6, "2001::1", 1, 0), RULES_NONE);
	rules_free(set);
}

static void test_verdict(void **state)
{
	struct rules_set *set = compile(
		"  - { dst: 10.0.0.0/8, action: proxy, upstream: main }\n  - { dst: 11.0.0.0/8, action: direct }\n");
	struct rules_packet packet = {.src = address(CLIENT4), .dst = address("10.0.0.1"), .proto = TCP};
	struct rules_verdict verdict = rules_decide(set, &packet);

	(void)state;
	assert_int_equal(verdict.action, RULES_PROXY);
	assert_int_equal(verdict.upstream, 0);
	packet.dst = address("11.0.0.1");
	verdict = rules_decide(set, &packet);
	assert_int_equal(verdict.action, RULES_DIRECT);
	assert_int_equal(verdict.upstream, -1);
	packet.dst = address("12.0.0.1");
	verdict = rules_decide(set, &packet);
	assert_int_equal(verdict.action, RULES_PROXY);
	assert_int_equal(verdict.rule, RULES_NONE);
	assert_int_equal(verdict.upstream, -1);
	assert_int_equal(rules_decide(NULL, &packet).action, RULES_PROXY);
	rules_free(set);
}

/* The last of 128 rules, and the room that the largest list takes. */
static void test_largest(void **state)
{
	struct config_rules rules = {.count = RULES_MAX, .prefix_count = RULES_MAX_PREFIXES};
	struct rules_packet packet = {.src = address(CLIENT4), .proto = TCP, .has_port = 1, .dport = be16(80)};
	struct rules_set *set;

	(void)state;
	rules.rules = calloc(RULES_MAX, sizeof(*rules.rules));
	rules.prefixes = calloc(RULES_MAX_PREFIXES, sizeof(*rules.prefixes));
	rules.ports = calloc(RULES_MAX_PORT_RANGES, sizeof(*rules.ports));
	rules.port_count = RULES_MAX_PORT_RANGES;
	for (uint32_t i = 0; i < RULES_MAX; i++) {
		const uint32_t share = RULES_MAX_PREFIXES / RULES_MAX, ports = RULES_MAX_PORT_RANGES / RULES_MAX;

		rules.rules[i] = (struct config_rule){.dst_first = i * share,
						      .dst_count = share,
						      .port_first = i * ports,
						      .port_count = ports,
						      .proto = CONFIG_RULE_TCP,
						      .upstream = -1};
	}
	/* every second address of 10.0/15, so that nothing joins; every second port below 16384 */
	for (uint32_t i = 0; i < RULES_MAX_PREFIXES; i++)
		rules.prefixes[i] = (struct config_prefix){addr_from_ipv4(be32(0x0a000000 + 2 * i)), 128, {0}};
	for (uint32_t i = 0; i < RULES_MAX_PORT_RANGES; i++)
		rules.ports[i] = (struct config_ports){(uint16_t)(2 * i + 1), (uint16_t)(2 * i + 1)};
	assert_int_equal(rules_compile(&set, &rules), 0);
	assert_true(set->range_count <= RULES_MAX_RANGES);
	assert_true(set->range_count >= 2 * RULES_MAX_PREFIXES + 2 * RULES_MAX_PORT_RANGES);
	assert_true(set->header.dst.count < 1u << RULES_MAX_STEPS);
	for (uint32_t i = 0; i < RULES_MAX_PREFIXES; i += 11) {
		packet.dst = addr_from_ipv4(be32(0x0a000000 + 2 * i));
		packet.dport = be16((uint16_t)(2 * (i / 512 * 64) + 1));
		assert_int_equal(rules_decide(set, &packet).rule, i / 512);
		packet.dst = addr_from_ipv4(be32(0x0a000001 + 2 * i));
		assert_int_equal(rules_decide(set, &packet).rule, RULES_NONE);
	}
	rules_free(set);
	config_rules_free(&rules);
}

/* The same prefix in every rule, as often as there is room. */
static void test_repeated_prefix(void **state)
{
	struct config_rules rules = {.count = RULES_MAX, .prefix_count = RULES_MAX_PREFIXES};
	struct rules_packet packet = {.src = address(CLIENT4), .dst = address("10.9.9.9"), .proto = TCP};
	struct rules_set *set;

	(void)state;
	rules.rules = calloc(RULES_MAX, sizeof(*rules.rules));
	rules.prefixes = calloc(RULES_MAX_PREFIXES, sizeof(*rules.prefixes));
	for (uint32_t i = 0; i < RULES_MAX; i++)
		rules.rules[i] = (struct config_rule){
			.dst_first = i * 512, .dst_count = 512, .proto = CONFIG_RULE_UDP, .upstream = -1};
	rules.rules[RULES_MAX - 1].proto = CONFIG_RULE_TCP;
	for (uint32_t i = 0; i < RULES_MAX_PREFIXES; i++)
		rules.prefixes[i] = (struct config_prefix){addr_from_ipv4(be32(0x0a000000)), 104, {0}};
	assert_int_equal(rules_compile(&set, &rules), 0);
	assert_int_equal(rules_decide(set, &packet).rule, RULES_MAX - 1);
	rules_free(set);
	config_rules_free(&rules);
}

static void test_random(void **state)
{
	uint64_t seed = 0x5eed;
	uint32_t matched = 0;

	(void)state;
	for (uint32_t list = 0; list < LISTS; list++) {
		struct config_rules rules;
		struct rules_set *set;

		rules_random(&rules, &seed, list % 8 ? 12 : RULES_MAX, list % 50 ? 60 : 4000);
		assert_int_equal(rules_compile(&set, &rules), 0);
		for (uint32_t i = 0; i < PACKETS_PER_LIST; i++) {
			struct rules_packet packet = rules_random_packet(&rules, &seed);
			int wanted = rules_match_plainly(&rules, &packet), got = rules_decide(set, &packet).rule;

			matched += wanted != RULES_NONE;
			if (got != wanted)
				fail_msg("list %u, packet %u: rule %d, wanted %d", list, i, got, wanted);
		}
		rules_free(set);
		config_rules_free(&rules);
	}
	print_message("# %u packets of %u lists, %u met a rule\n", LISTS * PACKETS_PER_LIST, LISTS, matched);
	/* neither all nor none: else little was compared */
	assert_true(matched > LISTS * PACKETS_PER_LIST / 4 && matched < LISTS * PACKETS_PER_LIST * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nested_prefixes),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_protocols_and_ports),
		cmocka_unit_test(test_verdict),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_repeated_prefix),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
