/* SPDX-License-Identifier: MIT */
/*
 * The rules in the kernel, by BPF_PROG_RUN on both hooks: random packets of random lists against the plainest decision,
 * what the two hooks do with each action, live flows, changes of the rules under packets, and how long a large list
 * takes. A TAP is played by a veth; no AF_XDP socket is bound, so on XDP what would go to one meets `on-down: pass`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpfload_priv.h"
#include "config_yaml.h"
#include "flowmap.h"
#include "lib_packet.h"
#include "lib_rules.h"
#include "lib_splice.h"
#include "rulemap.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"

#define ICMP 1
#define ICMPV6 58
#define TCP 6
#define UDP 17
#define FRAGMENT_HEADER 44
#define LISTS 600
#define PACKETS_PER_LIST 200
#define LARGE_LIST 10000
#define SWAP_SECONDS 2

enum hook { HOOK_XDP, HOOK_TC, HOOKS };

static const char *const hook_names[] = {"XDP", "tc"};

static struct bpfload *bpf;
static struct rulemap map;
static int programs[HOOKS];

/* --- packets ---------------------------------------------------------------- */

static void build(struct packet *p, const struct rules_packet *packet)
{
	bool ipv4 = addr_is_ipv4(&packet->dst), fragment;
	size_t l4;

	fragment = !packet->has_port && (packet->proto == TCP || packet->proto == UDP);
	packet_ethernet(p, ipv4 ? 0x0800 : 0x86dd);
	if (ipv4) {
		packet_ipv4(p, "0.0.0.0", packet->proto, 0, fragment ? 0x2000 : 0);
		memcpy(p->bytes + 14 + 12, &packet->src.words[3], 4);
		memcpy(p->bytes + 14 + 16, &packet->dst.words[3], 4);
	} else {
		packet_ipv6(p, "::", fragment ? FRAGMENT_HEADER : packet->proto);
		memcpy(p->bytes + 14 + 8, &packet->src, 16);
		memcpy(p->bytes + 14 + 24, &packet->dst, 16);
		if (fragment)
			packet_ext(p, FRAGMENT_HEADER, packet->proto, 1);
	}
	l4 = p->len;
	if (packet->proto == TCP)
		packet_tcp(p, 5);
	else
		packet_bytes(p, 20);
	p->bytes[l4] = 0x30;
	memcpy(p->bytes + l4 + 2, &packet->dport, 2);
	if (packet->proto == UDP)
		p->bytes[l4 + 5] = 20;
	packet_finish(p);
}

/* As the programs see it: such a packet is the gateway's own. */
static bool is_link_scope(const struct addr *a)
{
	if (addr_is_ipv4(a))
		return a->bytes[12] == 0 || a->bytes[12] == 127 || a->bytes[12] >= 224;
	return a->bytes[0] == 0xff || (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80) ||
	       (a->words[0] | a->words[1] | a->words[2]) == 0;
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

static uint32_t run(enum hook hook, const struct packet *p)
{
	static _Thread_local uint8_t out[4096];
	struct __sk_buff skb = {.ifindex = TEST_IFINDEX};
	struct xdp_md xdp = {.data_end = (uint32_t)p->len, .ingress_ifindex = TEST_IFINDEX};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p->bytes, .data_size_in = (uint32_t)p->len, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = 1);

	options.ctx_in = hook == HOOK_XDP ? (void *)&xdp : &skb;
	options.ctx_size_in = hook == HOOK_XDP ? sizeof(xdp) : sizeof(skb);
	if (bpf_prog_test_run_opts(programs[hook], &options))
		fail_msg("BPF_PROG_RUN on %s failed", hook_names[hook]);
	return options.retval;
}

/* What a hook counts for a decision. */
static enum packet_counter counter_of(enum hook hook, enum rules_action action, const struct rules_packet *packet)
{
	bool fragment = !packet->has_port && (packet->proto == TCP || packet->proto == UDP);

	switch (action) {
	case RULES_DIRECT:
		return COUNT_PASS_DIRECT;
	case RULES_DROP:
		return COUNT_DROP_RULE;
	case RULES_REJECT:
		return hook == HOOK_TC && !fragment ? COUNT_TO_TAP : COUNT_DROP_RULE;
	default:
		/* no echo request */
		if (packet->proto == (addr_is_ipv4(&packet->dst) ? ICMP : ICMPV6))
			return COUNT_DROP_ICMP;
		if (packet->proto != TCP && packet->proto != UDP)
			return COUNT_PASS_OTHER;
		if (fragment && packet->proto == TCP)
			return COUNT_DROP_FRAGMENT;
		return hook == HOOK_TC ? COUNT_TO_TAP : COUNT_PASS_ON_DOWN;
	}
}

static void expect(const char *what, enum hook hook, const struct packet *p, enum packet_counter counter)
{
	uint64_t before = read_counter(counter);
	uint32_t verdict = run(hook, p);

	if (read_counter(counter) - before != 1)
		fail_msg("%s on %s: counter %d did not move by one; verdict %d", what, hook_names[hook], (int)counter,
			 (int)verdict);
}

static void load(const struct config_rules *rules)
{
	struct rules_set *set;

	assert_int_equal(rules_compile(&set, rules), 0);
	rulemap_load(&map, set);
	rules_free(set);
}

/* The list of a text, in YAML. */
static void load_text(const char *list)
{
	struct config_error error;
	struct config config;
	char text[2048];

	snprintf(text, sizeof(text),
		 "interfaces: [ { name: eth1 } ]\nupstreams: [ { name: main, server: 10.2.0.2:1080 } ]\nrules:\n%s",
		 list);
	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	load(&config.rules);
	config_release(&config);
}

static struct rules_packet packet_to(const char *dst, uint8_t proto, uint16_t port)
{
	bool ipv4 = !strchr(dst, ':');
	struct rules_packet packet = {.proto = proto, .dport = be16(port), .has_port = port != 0};
	__be32 ip = 0;

	assert_int_equal(inet_pton(ipv4 ? AF_INET : AF_INET6, dst, ipv4 ? (void *)&ip : packet.dst.bytes), 1);
	if (ipv4)
		packet.dst = addr_from_ipv4(ip);
	packet.src = ipv4 ? addr_from_ipv4(be32(0x0a010002)) : (struct addr){{.bytes = {0xfd, 1, [15] = 2}}};
	return packet;
}

/* --- tests ------------------------------------------------------------------- */

static void test_actions(void **state)
{
	static const struct {
		const char *dst;
		uint8_t proto;
		uint16_t port;
		enum rules_action action;
	} cases[] = {
		{"11.1.1.1", TCP, 80, RULES_DIRECT},  {"2001:db8::1", TCP, 80, RULES_DIRECT},
		{"11.1.1.1", UDP, 53, RULES_DIRECT},  {"11.1.1.1", ICMP, 0, RULES_DIRECT},
		{"11.1.1.1", 47, 0, RULES_DIRECT},    {"11.1.1.1", TCP, 0, RULES_DIRECT},
		{"12.1.1.1", TCP, 80, RULES_DROP},    {"12.1.1.1", UDP, 80, RULES_DROP},
		{"12.1.1.1", UDP, 0, RULES_DROP},     {"2001:db9::1", TCP, 80, RULES_DROP},
		{"13.1.1.1", TCP, 80, RULES_REJECT},  {"13.1.1.1", UDP, 0, RULES_REJECT},
		{"13.1.1.1", 47, 0, RULES_REJECT},    {"2001:dba::1", UDP, 80, RULES_REJECT},
		{"14.1.1.1", UDP, 443, RULES_REJECT}, {"14.1.1.1", UDP, 444, RULES_PROXY},
		{"14.1.1.1", UDP, 0, RULES_PROXY},    {"14.1.1.1", TCP, 443, RULES_PROXY},
		{"14.1.1.1", TCP, 0, RULES_PROXY},    {"2001:dbb::1", TCP, 443, RULES_PROXY},
	};
	struct packet p;

	(void)state;
	load_text("  - { dst: [11.0.0.0/8, '2001:db8::/32'], action: direct }\n"
		  "  - { dst: [12.0.0.0/8, '2001:db9::/32'], action: drop }\n"
		  "  - { dst: [13.0.0.0/8, '2001:dba::/32'], action: reject }\n"
		  "  - { proto: udp, dport: 443, action: reject }\n");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int hook = 0; hook < HOOKS; hook++) {
			struct rules_packet packet = packet_to(cases[i].dst, cases[i].proto, cases[i].port);

			build(&p, &packet);
			for (int again = 0; again < 3; again++)
				expect(cases[i].dst, (enum hook)hook, &p,
				       counter_of((enum hook)hook, cases[i].action, &packet));
		}
	/* its header is cut off: no port, so no rule with a port */
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, "14.1.1.1", UDP, 0, 0);
	packet_bytes(&p, 4);
	packet_finish(&p);
	for (int hook = 0; hook < HOOKS; hook++)
		expect("a UDP header cut off", (enum hook)hook, &p,
		       hook == HOOK_TC ? COUNT_TO_TAP : COUNT_PASS_ON_DOWN);
}

/* Nobody is there to answer: a rejected packet must not pass, whatever `on-down` says. */
static void test_reject_without_daemon(void **state)
{
	struct rules_packet packet = packet_to("13.1.1.1", TCP, 80);
	struct bpf_port port = {.flags = CFG_PORT_LAN | CFG_PORT_TAP, .tap_slot = 5};
	struct packet p;

	(void)state;
	load_text("  - { dst: 13.0.0.0/8, action: reject }\n");
	build(&p, &packet);
	assert_int_equal(bpfload_set_port(bpf, TEST_IFINDEX, &port), 0);
	for (int hook = 0; hook < HOOKS; hook++)
		expect("reject", (enum hook)hook, &p, COUNT_DROP_RULE);
	port.tap_slot = 0;
	assert_int_equal(bpfload_set_port(bpf, TEST_IFINDEX, &port), 0);
}

/* No rules, and a program that no daemon has adopted: as if there were none. */
static void test_no_rules(void **state)
{
	struct rules_packet packet = packet_to("12.1.1.1", TCP, 80);
	struct bpf_cfg cfg = {.abi_version = 0};
	struct packet p;

	(void)state;
	load_text("  - { dst: 12.0.0.0/8, action: drop }\n");
	build(&p, &packet);
	expect("a rule", HOOK_XDP, &p, COUNT_DROP_RULE);
	assert_int_equal(bpfload_configure(bpf, &cfg), 0);
	expect("not adopted", HOOK_XDP, &p, COUNT_PASS_NOT_ADOPTED);
	cfg = (struct bpf_cfg){.abi_version = CFG_ABI_VERSION, .on_down = CFG_ON_DOWN_PASS};
	assert_int_equal(bpfload_configure(bpf, &cfg), 0);
	expect("the rule again: settings leave rules alone", HOOK_XDP, &p, COUNT_DROP_RULE);
	rulemap_load(&map, NULL);
	for (int hook = 0; hook < HOOKS; hook++)
		expect("no rules", (enum hook)hook, &p, counter_of((enum hook)hook, RULES_PROXY, &packet));
}

/* Flows that user space relays: their packets go up, before and after a change of the rules. */
static void test_relayed_flows(void **state)
{
	struct rules_packet packet = packet_to("12.1.1.1", TCP, 80);
	struct flow_key key = {.src = packet.src, .dst = packet.dst, .sport = be16(0x3001), .dport = be16(80)};
	struct flowmap flows = {.keys_fd = bpf->maps[MAP_FLOW_KEYS]};
	struct packet p;

	(void)state;
	build(&p, &packet);
	p.bytes[14 + 20 + 1] = 0x01;
	load_text("  - { dst: 12.0.0.0/8, action: drop }\n");
	assert_int_equal(flowmap_add_relayed(&flows, &key, false), 0);
	expect("a live flow", HOOK_XDP, &p, COUNT_PASS_ON_DOWN);
	expect("a live flow", HOOK_TC, &p, COUNT_TO_TAP);
	flowmap_remove_key(&flows, &key);
	for (int hook = 0; hook < HOOKS; hook++)
		expect("it has ended", (enum hook)hook, &p, COUNT_DROP_RULE);
}

/* A direct connection goes on when the rules have changed; nothing begins against them. */
static void test_live_direct_flows(void **state)
{
	struct rules_packet packet = packet_to("11.1.1.1", TCP, 80);
	struct packet syn, later, other;

	(void)state;
	build(&syn, &packet);
	later = other = syn;
	later.bytes[14 + 20 + 13] = ACK;
	other.bytes[14 + 20 + 13] = ACK;
	other.bytes[14 + 20 + 1] = 0x77;
	for (int hook = 0; hook < HOOKS; hook++) {
		load_text("  - { dst: 11.0.0.0/8, action: direct }\n");
		expect("it begins", (enum hook)hook, &syn, COUNT_PASS_DIRECT);
		expect("it goes on", (enum hook)hook, &later, COUNT_PASS_DIRECT);
		load_text("  - { dst: 11.0.0.0/8, action: drop }\n");
		expect("it goes on under other rules", (enum hook)hook, &later, COUNT_PASS_DIRECT);
		expect("another has not begun", (enum hook)hook, &other, COUNT_DROP_RULE);
		expect("and none begins", (enum hook)hook, &syn, COUNT_DROP_RULE);
		rulemap_load(&map, NULL);
		expect("it goes on without rules", (enum hook)hook, &later, COUNT_PASS_DIRECT);
		expect("another does not", (enum hook)hook, &other, counter_of((enum hook)hook, RULES_PROXY, &packet));
		bpf_map_delete_elem(bpf->maps[MAP_DIRECT_FLOWS], &(struct flow_key){.src = packet.src,
										    .dst = packet.dst,
										    .sport = be16(0x3001),
										    .dport = packet.dport});
	}
}

static void test_random(void **state)
{
	uint64_t seed = 0xfeed;
	uint32_t packets = 0, met = 0;

	(void)state;
	for (uint32_t list = 0; list < LISTS; list++) {
		struct config_rules rules;

		rules_random(&rules, &seed, list % 8 ? 12 : RULES_MAX, list % 50 ? 60 : 4000);
		load(&rules);
		for (uint32_t i = 0; i < PACKETS_PER_LIST; i++) {
			struct rules_packet packet = rules_random_packet(&rules, &seed);
			enum rules_action action = RULES_PROXY;
			struct packet p;
			int rule;

			if (is_link_scope(&packet.dst))
				continue;
			rule = rules_match_plainly(&rules, &packet);
			if (rule != RULES_NONE)
				action = (enum rules_action)rules.rules[rule].action;
			met += rule != RULES_NONE;
			packets++;
			build(&p, &packet);
			/* the second time from the cache */
			for (int again = 0; again < 1 + (i % 4 == 0); again++)
				for (int hook = 0; hook < HOOKS; hook++)
					expect("random", (enum hook)hook, &p,
					       counter_of((enum hook)hook, action, &packet));
		}
		config_rules_free(&rules);
	}
	printf("# %u packets of %u lists on both hooks, %u met a rule\n", packets, LISTS, met);
	assert_true(packets > LISTS * PACKETS_PER_LIST / 2 && met > packets / 4 && met < packets * 9 / 10);
}

/* --- changing the rules under packets ----------------------------------------- */

static atomic_bool swapping;

static void *run_packets(void *count)
{
	struct rules_packet packet = packet_to("11.0.0.0", TCP, 80);
	uint64_t seed = 1, *done = count;
	struct packet p;

	while (atomic_load(&swapping)) {
		/* another one each time: the cache knows none of them; in 11/8, and in no longer prefix */
		packet.dst = addr_from_ipv4(be32(0x0b800000 | (uint32_t)(random_next(&seed) >> 48)));
		packet.src = addr_from_ipv4((__be32)random_next(&seed));
		build(&p, &packet);
		run((enum hook)(*done & 1), &p);
		++*done;
	}
	return NULL;
}

/*
 * Two sets that both say direct about the packets, but have nothing in common: ranges of one under the header of the
 * other, or half of one, would say something else.
 */
static void test_swap(void **state)
{
	struct config_rules sets[2] = {{.count = 2}, {.count = 128}};
	uint64_t done = 0, direct = read_counter(COUNT_PASS_DIRECT);
	struct rules_set *compiled[2];
	uint32_t swaps = 0;
	time_t end;
	pthread_t thread;

	(void)state;
	for (int s = 0; s < 2; s++) {
		uint32_t count = s ? 60000 : 1;
		struct config_rule *last;

		sets[s].rules = calloc(sets[s].count, sizeof(*sets[s].rules));
		sets[s].prefixes = calloc(count, sizeof(*sets[s].prefixes));
		sets[s].prefix_count = count;
		for (uint32_t i = 0; i < sets[s].count; i++)
			sets[s].rules[i] = (struct config_rule){
				.proto = CONFIG_RULE_ICMP, .action = CONFIG_RULE_DROP, .upstream = -1};
		for (uint32_t i = 0; i < count; i++)
			sets[s].prefixes[i] =
				(struct config_prefix){addr_from_ipv4(be32(0x0b000000 + i * 2)), 127, {0}};
		sets[s].prefixes[0].bits = s ? 127 : 104;
		/* the first set: direct to 11/8 by rule 0; the second: by its last, which the prefixes are not part of
		 */
		last = &sets[s].rules[s ? 127 : 0];
		*last = (struct config_rule){.dst_count = s ? 0 : 1, .action = CONFIG_RULE_DIRECT, .upstream = -1};
		if (s) {
			/* nothing matches rule 0 here, which is the one of the first set */
			sets[s].rules[0].src_count = 1;
			sets[s].rules[1].dst_count = count;
		} else {
			sets[s].rules[1].proto = CONFIG_RULE_ANY;
		}
		assert_int_equal(rules_compile(&compiled[s], &sets[s]), 0);
	}
	rulemap_load(&map, compiled[0]);
	atomic_store(&swapping, true);
	assert_int_equal(pthread_create(&thread, NULL, run_packets, &done), 0);
	for (end = time(NULL) + SWAP_SECONDS; time(NULL) < end; swaps++)
		rulemap_load(&map, compiled[swaps & 1]);
	atomic_store(&swapping, false);
	pthread_join(thread, NULL);
	printf("# %llu packets, %u changes of the rules\n", (unsigned long long)done, swaps);
	assert_true(done > 1000 && swaps > 10);
	assert_int_equal(read_counter(COUNT_PASS_DIRECT) - direct, done);
	for (int s = 0; s < 2; s++) {
		rules_free(compiled[s]);
		config_rules_free(&sets[s]);
	}
}

/* A decision that is remembered belongs to its rule set. */
static void test_cache(void **state)
{
	struct rules_packet packet = packet_to("11.0.0.1", TCP, 80);
	struct packet p;

	(void)state;
	build(&p, &packet);
	for (int i = 0; i < 100; i++) {
		if (i % 10 == 9)
			rulemap_load(&map, NULL);
		load_text(i & 1 ? "  - { dst: 11.0.0.0/8, action: direct }\n"
				: "  - { dst: 11.0.0.0/8, action: drop }\n");
		for (int hook = 0; hook < HOOKS; hook++)
			expect("a new set", (enum hook)hook, &p, i & 1 ? COUNT_PASS_DIRECT : COUNT_DROP_RULE);
	}
}

/* --- a large list -------------------------------------------------------------- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_load_time(void **state)
{
	size_t bytes = 256 + LARGE_LIST * 40, used;
	char *text = malloc(bytes);
	struct config_error error;
	struct rules_set *set;
	struct config config;
	double started, parsed, compiled, loaded;

	(void)state;
	used = (size_t)snprintf(text, bytes,
				"interfaces: [ { name: a } ]\nupstreams: [ { name: m, server: 1.1.1.1:1 } ]\n"
				"rules:\n  - action: direct\n    dst:\n");
	for (uint32_t i = 0; i < LARGE_LIST; i++)
		used += (size_t)snprintf(text + used, bytes - used,
					 i & 1 ? "      - 20%02u:%x::/32\n" : "      - 1%02u.%u.0.0/20\n", i % 90,
					 i % 251);
	started = now();
	if (config_parse(text, used, "t", &config, &error))
		fail_msg("%s", error.text);
	parsed = now();
	assert_int_equal(config.rules.prefix_count, LARGE_LIST);
	assert_int_equal(rules_compile(&set, &config.rules), 0);
	compiled = now();
	rulemap_load(&map, set);
	loaded = now();
	printf("# %d prefixes: read in %.1f ms, compiled in %.1f ms, in force after %.1f ms more\n", LARGE_LIST,
	       (parsed - started) * 1e3, (compiled - parsed) * 1e3, (loaded - compiled) * 1e3);
	assert_true(loaded - started < 1);
	rules_free(set);
	config_release(&config);
	free(text);
}

static int setup(void **state)
{
	const struct bpfload_settings settings = {.max_flows = 16};
	const struct bpf_port port = {.flags = CFG_PORT_LAN | CFG_PORT_TAP};
	const struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION, .on_down = CFG_ON_DOWN_PASS};
	char error[512] = "";

	(void)state;
	test_namespace();
	if (bpfload_open(&bpf, &settings, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	programs[HOOK_XDP] = bpf_program__fd(bpf->xdp->progs.socksplice_xdp);
	programs[HOOK_TC] = bpf_program__fd(bpf->tc->progs.socksplice_tc);
	if (rulemap_open(&map, bpf) || bpfload_set_port(bpf, TEST_IFINDEX, &port) ||
	    bpfload_set_tap(bpf, 0, (int)test_veth(), TEST_IFINDEX))
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
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_reject_without_daemon),
		cmocka_unit_test(test_no_rules),
		cmocka_unit_test(test_relayed_flows),
		cmocka_unit_test(test_live_direct_flows),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_load_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("rulemap", tests, setup, teardown);
}
