/* SPDX-License-Identifier: MIT */
/* Rules for names: which rule of the list counts for which name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_yaml.h"
#include "domains.h"

#define HEAD "interfaces: [ { name: eth1 } ]\nupstreams: [ { name: main, server: 10.2.0.2:1080 } ]\ndns: {}\nrules:\n"

static struct config config;
static struct domains *domains;

static void load(const char *text)
{
	struct config_error error;

	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(domains_compile(&domains, &config.rules), 0);
}

static void unload(void)
{
	domains_free(domains);
	config_release(&config);
}

static void check(const char *name, int rule, enum rules_action action)
{
	struct rules_verdict verdict = domains_decide(domains, name);

	if (verdict.rule != rule || verdict.action != action)
		fail_msg("%s: rule %d, action %d instead of %d, %d", name, verdict.rule, verdict.action, rule, action);
}

static void test_matching(void **state)
{
	(void)state;
	load(HEAD "  - { domain: exact.example, action: drop }\n"
		  "  - { domain: [.corp.example, .Upper.Example], action: direct }\n"
		  "  - { domain: .example, action: reject }\n"
		  "  - { domain: .a.b.corp.example, action: drop }\n"
		  "  - { domain: only.org, action: proxy, upstream: main }\n");
	check("exact.example", 0, RULES_DROP);
	check("www.exact.example", 2, RULES_REJECT);
	check("inexact.example", 2, RULES_REJECT);
	/* it, and all below it */
	check("corp.example", 1, RULES_DIRECT);
	check("www.corp.example", 1, RULES_DIRECT);
	check("a.b.c.d.corp.example", 1, RULES_DIRECT);
	check("x.upper.example", 1, RULES_DIRECT);
	/* labels are whole */
	check("xcorp.example", 2, RULES_REJECT);
	check("corp.example.org", RULES_NONE, RULES_PROXY);
	/* the order of the list counts, not the length */
	check("x.a.b.corp.example", 1, RULES_DIRECT);
	check("example", 2, RULES_REJECT);
	check("org", RULES_NONE, RULES_PROXY);
	check("only.org", 4, RULES_PROXY);
	check("not.only.org", RULES_NONE, RULES_PROXY);
	assert_int_equal(domains_decide(domains, "only.org").upstream, 0);
	assert_int_equal(domains_decide(domains, "www.org").upstream, -1);
	unload();
}

/* A rule that says nothing about packets is one for names too; any other is not. */
static void test_for_all(void **state)
{
	(void)state;
	load(HEAD "  - { dst: 10.0.0.0/8, action: drop }\n  - { src: 10.0.0.0/8, action: drop }\n"
		  "  - { proto: tcp, action: drop }\n  - { domain: .example, action: proxy }\n"
		  "  - { action: reject }\n  - { domain: www.org, action: drop }\n  - { action: drop }\n");
	check("www.example", 3, RULES_PROXY);
	check("www.org", 4, RULES_REJECT);
	check("org", 4, RULES_REJECT);
	unload();
	domains = NULL;
	check("www.org", RULES_NONE, RULES_PROXY);
}

/* Rules for names do nothing to packets. */
static void test_packets(void **state)
{
	struct rules_packet packet = {.proto = RULES_IPPROTO_TCP, .has_port = 1};
	struct rules_set *set;

	(void)state;
	load(HEAD "  - { domain: .example, action: drop }\n  - { dst: 10.0.0.0/8, action: reject }\n");
	assert_int_equal(rules_compile(&set, &config.rules), 0);
	packet.dst = addr_from_ipv4(be32(0x0a000001));
	assert_int_equal(rules_decide(set, &packet).rule, 1);
	packet.dst = addr_from_ipv4(be32(0x0b000001));
	assert_int_equal(rules_decide(set, &packet).rule, RULES_NONE);
	rules_free(set);
	unload();
}

/* The most domains that a configuration may have. */
static void test_many(void **state)
{
	char *text = malloc(4 << 20), *at = text, name[32];

	(void)state;
	at += sprintf(at, "%s  - { domain: [", HEAD);
	for (int i = 0; i < 65536; i++)
		at += sprintf(at, "%s%sd%d.example", i ? ", " : "", i % 2 ? "." : "", i);
	sprintf(at, "], action: drop }\n");
	load(text);
	for (int i = 0; i < 65536; i++) {
		snprintf(name, sizeof(name), "d%d.example", i);
		check(name, 0, RULES_DROP);
		snprintf(name, sizeof(name), "x.d%d.example", i);
		check(name, i % 2 ? 0 : RULES_NONE, i % 2 ? RULES_DROP : RULES_PROXY);
	}
	unload();
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_for_all),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
