/* SPDX-License-Identifier: MIT */
/*
 * Mapped DNS in the kernel, by BPF_PROG_RUN on both hooks: which packets are queries, what rules can say about fake
 * addresses, and who may go where directly, for how long. A TAP is played by a veth; no AF_XDP socket is bound, so on
 * XDP what would go to one meets `on-down: pass`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bpfload_priv.h"
#include "config_scalar.h"
#include "config_yaml.h"
#include "directmap.h"
#include "dns_service.h"
#include "lib_packet.h"
#include "lib_splice.h"
#include "rulemap.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"

#define ICMP 1
#define TCP 6
#define UDP 17
#define FRAGMENT 0x2000

enum hook { HOOK_XDP, HOOK_TC, HOOKS };

/* What is expected: to the daemon, or a counter of both hooks. */
#define UP (-1)

static const char *const hook_names[] = {"XDP", "tc"};

static struct bpfload *bpf;
static struct rulemap map;
static struct directmap direct;
static int programs[HOOKS];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static struct addr addr(const char *text)
{
	struct addr out;

	assert_true(config_scalar_addr(text, &out));
	return out;
}

static void build(struct packet *p, const char *dst, uint8_t proto, uint16_t port, uint16_t fragment)
{
	bool ipv4 = !strchr(dst, ':');
	size_t l4;

	packet_ethernet(p, ipv4 ? 0x0800 : 0x86dd);
	if (ipv4)
		packet_ipv4(p, dst, proto, 0, fragment);
	else
		packet_ipv6(p, dst, proto);
	l4 = p->len;
	if (proto == TCP)
		packet_tcp(p, 5);
	else
		packet_bytes(p, 20);
	p->bytes[l4 + 2] = (uint8_t)(port >> 8);
	p->bytes[l4 + 3] = (uint8_t)port;
	if (proto == UDP) {
		p->bytes[l4 + 4] = 0;
		p->bytes[l4 + 5] = 20;
	}
	packet_finish(p);
}

static uint64_t read_counter(enum packet_counter counter)
{
	uint64_t values[256], sum = 0;
	uint32_t key = counter;
	int cpus = libbpf_num_possible_cpus();

	assert_int_equal(bpf_map_lookup_elem(bpf->maps[MAP_COUNTERS], &key, values), 0);
	for (int cpu = 0; cpu < cpus; cpu++)
		sum += values[cpu];
	return sum;
}

static void run(enum hook hook, const struct packet *p)
{
	static uint8_t out[4096];
	struct __sk_buff skb = {.ifindex = TEST_IFINDEX};
	struct xdp_md xdp = {.data_end = (uint32_t)p->len, .ingress_ifindex = TEST_IFINDEX};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p->bytes, .data_size_in = (uint32_t)p->len, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = 1);

	options.ctx_in = hook == HOOK_XDP ? (void *)&xdp : &skb;
	options.ctx_size_in = hook == HOOK_XDP ? sizeof(xdp) : sizeof(skb);
	if (bpf_prog_test_run_opts(programs[hook], &options))
		fail_msg("BPF_PROG_RUN on %s failed", hook_names[hook]);
}

static void expect(const char *what, enum hook hook, const struct packet *p, int wanted)
{
	enum packet_counter counter = wanted != UP      ? (enum packet_counter)wanted
				      : hook == HOOK_TC ? COUNT_TO_TAP
							: COUNT_PASS_ON_DOWN;
	uint64_t before = read_counter(counter);

	run(hook, p);
	if (read_counter(counter) - before != 1)
		fail_msg("%s on %s: counter %d did not move by one", what, hook_names[hook], (int)counter);
}

static void expect_both(const char *what, const struct packet *p, int wanted)
{
	for (int hook = 0; hook < HOOKS; hook++)
		expect(what, (enum hook)hook, p, wanted);
}

static void configure(const char *keys, const char *rules)
{
	struct config_error error;
	struct rules_set *set = NULL;
	struct config config;
	char text[1024];

	snprintf(text, sizeof(text),
		 "interfaces: [ { name: eth1 } ]\nupstreams: [ { name: main, server: 10.2.0.2:1080 } ]\n%s%s%s", keys,
		 *rules ? "rules:\n" : "", rules);
	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	if (*rules)
		assert_int_equal(rules_compile(&set, &config.rules), 0);
	rulemap_load(&map, set);
	rules_free(set);
	assert_int_equal(dns_service_tell_programs(&config, bpf), 0);
	config_release(&config);
}

struct kase {
	const char *dst;
	uint8_t proto;
	uint16_t port, fragment;
	int wanted;
};

static void expect_cases(const char *what, const struct kase *cases, size_t count)
{
	char name[128];
	struct packet p;

	for (size_t i = 0; i < count; i++) {
		build(&p, cases[i].dst, cases[i].proto, cases[i].port, cases[i].fragment);
		snprintf(name, sizeof(name), "%s: %s, protocol %u, port %u", what, cases[i].dst, cases[i].proto,
			 cases[i].port);
		expect_both(name, &p, cases[i].wanted);
	}
}

static void test_queries(void **state)
{
	static const struct kase off[] = {
		{"198.18.0.1", UDP, 53, 0, COUNT_PASS_DIRECT},
		{"198.18.0.2", UDP, 443, 0, COUNT_PASS_DIRECT},
		{"198.18.0.1", TCP, 53, 0, UP},
	};
	static const struct kase listening[] = {
		{"198.18.0.1", UDP, 53, 0, UP},
		{"198.18.0.1", TCP, 53, 0, UP},
		{"9.9.9.9", UDP, 53, 0, COUNT_PASS_DIRECT},
		{"9.9.9.9", UDP, 5353, 0, COUNT_PASS_DIRECT},
		{"10.1.0.1", UDP, 53, 0, COUNT_PASS_LOCAL},
	};
	static const struct kase hijacking[] = {
		{"198.18.0.1", UDP, 53, 0, UP},
		{"9.9.9.9", UDP, 53, 0, UP},
		{"2001:db8::53", UDP, 53, 0, UP},
		{"10.1.0.1", UDP, 53, 0, UP},
		{"10.1.0.1", TCP, 53, 0, UP},
		{"9.9.9.9", UDP, 54, 0, COUNT_PASS_DIRECT},
		{"9.9.9.9", UDP, 53, FRAGMENT, COUNT_PASS_DIRECT},
		{"9.9.9.9", ICMP, 53, 0, COUNT_PASS_DIRECT},
		{"224.0.0.251", UDP, 53, 0, COUNT_PASS_LOCAL},
		{"ff02::fb", UDP, 53, 0, COUNT_PASS_LOCAL},
		{"fe80::1", UDP, 53, 0, COUNT_PASS_LOCAL},
	};
	static const struct kase own[] = {
		{"10.1.0.1", UDP, 5353, 0, UP},
		{"10.1.0.1", TCP, 5353, 0, UP},
		{"10.1.0.1", UDP, 53, 0, COUNT_PASS_LOCAL},
	};

	(void)state;
	/* what nobody here wants shows by a rule */
	configure("", "  - { proto: udp, action: direct }\n");
	expect_cases("off", off, ARRAY_SIZE(off));
	/* whatever the rules say */
	configure("dns: {}\n", "  - { proto: udp, action: direct }\n");
	expect_cases("listen", listening, ARRAY_SIZE(listening));
	configure("dns: { hijack: true }\n", "  - { action: direct }\n");
	expect_cases("hijack", hijacking, ARRAY_SIZE(hijacking));
	configure("dns: { hijack: true }\n", "  - { action: drop }\n");
	expect_cases("hijack against the rules", hijacking, 5);
	configure("dns: { listen: 10.1.0.1:5353 }\n", "");
	expect_cases("an own address", own, ARRAY_SIZE(own));
}

static void test_fake(void **state)
{
	static const struct kase plain[] = {
		{"198.18.0.2", TCP, 80, 0, UP},
		{"198.19.255.255", TCP, 80, 0, UP},
		{"198.18.0.2", UDP, 443, 0, UP},
		{"198.18.0.2", ICMP, 0, 0, UP},
		{"198.18.0.2", UDP, 0, FRAGMENT, COUNT_DROP_FRAGMENT},
		{"fc00:5::2", TCP, 80, 0, UP},
		{"fc00:5::ffff:ffff", UDP, 80, 0, UP},
		{"198.17.255.255", UDP, 443, 0, COUNT_PASS_DIRECT},
		{"198.20.0.0", UDP, 443, 0, COUNT_PASS_DIRECT},
		{"fc00:5::1:0:2", UDP, 80, 0, COUNT_PASS_DIRECT},
	};
	static const struct kase ruled[] = {
		{"198.18.0.2", TCP, 80, 0, UP}, /* direct: to where? */
		{"198.18.0.2", TCP, 25, 0, COUNT_DROP_RULE},
		{"fc00:5::2", TCP, 80, 0, UP},
		{"11.1.1.1", TCP, 80, 0, COUNT_PASS_DIRECT},
	};

	(void)state;
	configure("dns: {}\n", "  - { action: direct }\n");
	expect_cases("fake", plain, ARRAY_SIZE(plain));
	configure("dns: {}\n", "  - { proto: tcp, dport: 25, action: drop }\n  - { action: direct }\n");
	expect_cases("fake, rules", ruled, ARRAY_SIZE(ruled));
}

static uint64_t until_of(const uint8_t mac[6], const struct addr *destination)
{
	struct direct_key key = {.destination = *destination};
	struct direct_value value;

	memcpy(key.client_mac, mac, 6);
	return bpf_map_lookup_elem(direct.direct_fd, &key, &value) ? 0 : value.until_ns;
}

/* The client of packet_ethernet(). */
static const uint8_t client[6] = {2, 0, 0, 0, 0, 2}, stranger[6] = {2, 0, 0, 0, 0, 3};

static void test_direct(void **state)
{
	struct addr destination = addr("11.1.1.1"), other6 = addr("2001:db8::7");
	struct packet p, p6, udp;
	uint64_t until;

	(void)state;
	configure("dns: {}\n", "  - { dst: 11.0.0.0/8, action: drop }\n");
	build(&p, "11.1.1.1", TCP, 80, 0);
	build(&udp, "11.1.1.1", UDP, 443, 0);
	build(&p6, "2001:db8::7", TCP, 80, 0);
	expect_both("before", &p, COUNT_DROP_RULE);
	/* before the rules, for all that goes there, from this client alone */
	assert_int_equal(directmap_add(&direct, client, &destination, now_ns() + 120000000000ull), 0);
	expect_both("direct", &p, COUNT_PASS_DIRECT);
	expect_both("direct, UDP", &udp, COUNT_PASS_DIRECT);
	expect_both("another address", &p6, UP);
	memcpy(p.bytes + 6, stranger, 6);
	p.bytes[14 + 20 + 1] = 0x55; /* another connection */
	expect_both("another client", &p, COUNT_DROP_RULE);
	memcpy(p.bytes + 6, client, 6);
	/* a shorter time does not take a longer one away */
	until = until_of(client, &destination);
	assert_int_equal(directmap_add(&direct, client, &destination, now_ns() + 1000000000ull), 0);
	assert_true(until_of(client, &destination) == until);
	/* with IPv6, which the same client has asked for by whatever */
	assert_int_equal(directmap_add(&direct, client, &other6, now_ns() + 1000000000ull), 0);
	expect_both("IPv6", &p6, COUNT_PASS_DIRECT);
	/* an entry in use lasts a minute from then on */
	until = until_of(client, &other6);
	assert_true(until > now_ns() + 50000000000ull && until < now_ns() + 70000000000ull);
}

/* When the time is over nothing begins, but a connection that has begun goes on. */
static void test_expired(void **state)
{
	struct addr destination = addr("11.2.2.2");
	struct packet syn, later, stray;
	uint8_t *flags;

	(void)state;
	configure("dns: {}\n", "  - { dst: 11.0.0.0/8, action: drop }\n");
	build(&syn, "11.2.2.2", TCP, 80, 0);
	later = stray = syn;
	flags = &later.bytes[14 + 20 + 13];
	*flags = ACK;
	stray.bytes[14 + 20 + 13] = ACK;
	stray.bytes[14 + 20 + 1] = 0x77;
	assert_int_equal(directmap_add(&direct, client, &destination, now_ns() + 60000000000ull), 0);
	expect_both("in time", &syn, COUNT_PASS_DIRECT);
	for (int i = 0; i < 2; i++) {
		struct direct_key key = {.destination = destination};
		struct direct_value value = {.until_ns = 1};

		memcpy(key.client_mac, client, 6);
		assert_int_equal(bpf_map_update_elem(direct.direct_fd, &key, &value, BPF_ANY), 0);
	}
	expect_both("too late", &syn, COUNT_DROP_RULE);
	expect_both("a connection that began in time", &later, COUNT_PASS_DIRECT);
	expect_both("one that did not", &stray, COUNT_DROP_RULE);
	assert_true(until_of(client, &destination) == 1);
}

/* Without `dns` the set says nothing, whatever an earlier daemon left in it. */
static void test_off(void **state)
{
	struct addr destination = addr("11.3.3.3");
	struct packet p;

	(void)state;
	configure("", "  - { dst: 11.0.0.0/8, action: drop }\n");
	assert_int_equal(directmap_add(&direct, client, &destination, now_ns() + 60000000000ull), 0);
	build(&p, "11.3.3.3", TCP, 80, 0);
	expect_both("off", &p, COUNT_DROP_RULE);
}

/* More than there is room for: the oldest go, the newest are there. */
static void test_bound(void **state)
{
	struct addr destination = addr("20.0.0.0");
	uint32_t found = 0;

	(void)state;
	for (uint32_t i = 0; i < DIRECT_ADDRS + 20000; i++) {
		destination.words[3] = be32(0x14000000 + i);
		assert_int_equal(directmap_add(&direct, client, &destination, 2), 0);
	}
	assert_true(until_of(client, &destination) == 2);
	for (uint32_t i = 0; i < DIRECT_ADDRS + 20000; i++) {
		destination.words[3] = be32(0x14000000 + i);
		found += until_of(client, &destination) == 2;
	}
	assert_in_range(found, DIRECT_ADDRS / 2, DIRECT_ADDRS);
}

static int setup(void **state)
{
	const struct bpfload_settings settings = {.max_flows = 16};
	const struct bpf_port port = {.flags = CFG_PORT_LAN | CFG_PORT_TAP};
	const struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION, .on_down = CFG_ON_DOWN_PASS};
	struct addr own = addr("10.1.0.1");
	char error[512] = "";

	(void)state;
	test_namespace();
	if (bpfload_open(&bpf, &settings, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	programs[HOOK_XDP] = bpf_program__fd(bpf->xdp->progs.socksplice_xdp);
	programs[HOOK_TC] = bpf_program__fd(bpf->tc->progs.socksplice_tc);
	directmap_open(&direct, bpf);
	if (rulemap_open(&map, bpf) || bpfload_set_port(bpf, TEST_IFINDEX, &port) ||
	    bpfload_set_tap(bpf, 0, (int)test_veth(), TEST_IFINDEX) || bpfload_set_local_addrs(bpf, &own, 1))
		return -1;
	return bpfload_configure(bpf, &cfg);
}

static int teardown(void **state)
{
	(void)state;
	rulemap_close(&map);
	bpfload_close(bpf, false);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queries), cmocka_unit_test(test_fake), cmocka_unit_test(test_direct),
		cmocka_unit_test(test_expired), cmocka_unit_test(test_off),  cmocka_unit_test(test_bound),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("dnskind", tests, setup, teardown);
}
