/* SPDX-License-Identifier: MIT */
/*
 * What rules cost per packet, by BPF_PROG_RUN on both hooks.
 *
 *   rules_bench [RUNS]
 *
 * A packet of each kind goes RUNS times (default 1,000,000) through each program, without rules and with lists of up to
 * 65,536 prefixes, in turns; then packets that differ each time, which the cache of decisions does not know. Prints
 * lines of bench.sh: lab, system, run, metric, value.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpfload_priv.h"
#include "lib_packet.h"
#include "lib_rules.h"
#include "rulemap.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"

#define TURNS 5
#define LO 1
#define TCP 6
#define MISSES 20000

static struct bpfload *bpf;
static struct rulemap map;
static uint32_t runs = 1000000;

static void die(const char *what)
{
	fprintf(stderr, "rules_bench: %s\n", what);
	exit(1);
}

static void build(struct packet *p, bool ipv4, const char *dst)
{
	packet_ethernet(p, ipv4 ? 0x0800 : 0x86dd);
	if (ipv4)
		packet_ipv4(p, dst, TCP, 0, 0);
	else
		packet_ipv6(p, dst, TCP);
	packet_tcp(p, 5);
	packet_finish(p);
}

/* Nanoseconds a packet, as the kernel measures. */
static double run(bool xdp, const struct packet *p, uint32_t repeat)
{
	struct __sk_buff skb = {.ifindex = LO};
	struct xdp_md md = {.data_end = (uint32_t)p->len, .ingress_ifindex = LO};
	static uint8_t out[4096];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p->bytes, .data_size_in = (uint32_t)p->len, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = (int)repeat);

	options.ctx_in = xdp ? (void *)&md : &skb;
	options.ctx_size_in = xdp ? sizeof(md) : sizeof(skb);
	if (bpf_prog_test_run_opts(bpf_program__fd(xdp ? bpf->xdp->progs.socksplice_xdp : bpf->tc->progs.socksplice_tc),
				   &options))
		die("BPF_PROG_RUN failed");
	return options.duration;
}

/* The same with another source each time: one call for each, so the kernel's clock is read once a packet too. */
static double run_misses(bool xdp, struct packet *p, bool ipv4)
{
	uint64_t seed = 7, total = 0;

	for (uint32_t i = 0; i < MISSES; i++) {
		uint64_t random = random_next(&seed);

		memcpy(p->bytes + 14 + (ipv4 ? 13 : 12), &random, ipv4 ? 3 : 8);
		total += (uint64_t)run(xdp, p, 1);
	}
	return (double)total / MISSES;
}

static int compare(const void *a, const void *b)
{
	return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b;
}

static double median(double *values)
{
	qsort(values, TURNS, sizeof(*values), compare);
	return values[TURNS / 2];
}

static void load(uint32_t prefixes)
{
	struct config_rules rules;
	struct rules_set *set;

	if (!prefixes) {
		rulemap_load(&map, NULL);
		return;
	}
	rules_of_prefixes(&rules, prefixes, CONFIG_RULE_DROP);
	if (rules_compile(&set, &rules))
		die("no memory");
	rulemap_load(&map, set);
	rules_free(set);
	config_rules_free(&rules);
}

static const uint32_t sizes[] = {0, 100, 10000, 65536};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void measure(bool xdp, bool ipv4)
{
	double again[SIZES][TURNS], other[SIZES][TURNS];
	const char *name = xdp ? "XDP" : "tc";
	struct packet p;

	for (int turn = 0; turn < TURNS; turn++)
		for (uint32_t size = 0; size < SIZES; size++) {
			load(sizes[size]);
			/* an address that no prefix covers: to be proxied, as without rules */
			build(&p, ipv4, ipv4 ? "198.51.100.1" : "2001:db8::1");
			run(xdp, &p, runs / 10);
			again[size][turn] = run(xdp, &p, runs);
			other[size][turn] = run_misses(xdp, &p, ipv4);
		}
	for (uint32_t size = 0; size < SIZES; size++)
		printf("rules\t%s IPv%d\t1\t%u prefixes ns\t%.1f\nrules\t%s IPv%d\t1\t%u prefixes first ns\t%.1f\n",
		       name, ipv4 ? 4 : 6, sizes[size], median(again[size]), name, ipv4 ? 4 : 6, sizes[size],
		       median(other[size]));
}

int main(int argc, char **argv)
{
	const struct bpfload_settings settings = {.max_flows = 1024};
	const struct bpf_port port = {.flags = CFG_PORT_LAN | CFG_PORT_TAP};
	const struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION, .on_down = CFG_ON_DOWN_DROP};
	char error[512] = "";

	if (argc > 1)
		runs = (uint32_t)strtoul(argv[1], NULL, 10);
	if (!runs)
		die("RUNS must be a number");
	if (bpfload_open(&bpf, &settings, error, sizeof(error)))
		die(error);
	if (rulemap_open(&map, bpf) || bpfload_set_port(bpf, LO, &port) || bpfload_configure(bpf, &cfg))
		die("the maps cannot be written");
	for (int xdp = 1; xdp >= 0; xdp--)
		for (int ipv4 = 1; ipv4 >= 0; ipv4--)
			measure(xdp, ipv4);
	rulemap_close(&map);
	bpfload_close(bpf, false);
	return 0;
}
