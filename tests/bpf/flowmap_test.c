/* SPDX-License-Identifier: MIT */
/*
 * The kernel's tables at full size: a million connections of each tier, three million keys, and the memory that
 * docs/splice.md states. Nothing is attached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bpfload.h"
#include "flowmap.h"

#define FLOWS 1000000u
/* docs/splice.md: entry and three keys; some slack for the kernel's own rounding */
#define KERNEL_BYTES_PER_ENTRY 780u

static struct bpfload *bpf;
static struct flowmap map;

static void on_report(void *ctx, const struct flow_report *report)
{
	(void)ctx;
	(void)report;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void make_key(uint32_t i, uint32_t direction, struct flow_key *key)
{
	*key = (struct flow_key){.src = addr_from_ipv4(be32(0x0a000000u + i)),
				 .dst = addr_from_ipv4(be32(0xc6000000u + direction)),
				 .sport = be16((uint16_t)(1024 + i % 60000)),
				 .dport = be16(443)};
}

/* What the kernel says it holds for a map, in bytes. */
static uint64_t map_bytes(int fd)
{
	char path[64], line[256];
	unsigned long long bytes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "memlock: %llu", &bytes) == 1)
			break;
	fclose(file);
	return bytes;
}

static int open_tables(void **state)
{
	const struct bpfload_settings settings = {.max_flows = FLOWS};
	char error[512] = "";

	(void)state;
	if (bpfload_open(&bpf, &settings, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		return -1;
	}
	return flowmap_open(&map, bpf, on_report, NULL);
}

static int close_tables(void **state)
{
	(void)state;
	flowmap_close(&map);
	bpfload_close(bpf, false);
	return 0;
}

static void test_memory(void **state)
{
	int keys, flows, reports;
	uint32_t entries;
	uint64_t bytes;

	(void)state;
	bpfload_flow_maps(bpf, &keys, &flows, &reports, &entries);
	assert_int_equal(entries, FLOWS);
	bytes = map_bytes(keys) + map_bytes(flows);
	printf("# %u connections: %.0f MB of kernel memory, %.0f bytes each\n", FLOWS, (double)bytes / 1e6,
	       (double)bytes / FLOWS);
	assert_true(bytes / FLOWS <= KERNEL_BYTES_PER_ENTRY);
}

static void test_a_million(void **state)
{
	struct flow_key key;
	struct flow_ref ref;
	double start = now();

	(void)state;
	for (uint32_t i = 0; i < FLOWS; i++) {
		map.entries[i].generation = i & 7;
		for (uint32_t direction = 0; direction < 2; direction++) {
			make_key(i, direction, &key);
			assert_int_equal(flowmap_add_key(&map, &key, i, direction), 0);
		}
	}
	printf("# %.2f us to enter a connection\n", (now() - start) * 1e6 / FLOWS);
	for (uint32_t i = 0; i < FLOWS; i += 997) {
		make_key(i, i & 1, &key);
		assert_true(flowmap_find(&map, &key, &ref));
		assert_int_equal(ref.index, i);
		assert_int_equal(ref.direction, i & 1);
	}
	make_key(5, 0, &key);
	assert_int_equal(flowmap_add_key(&map, &key, 6, 0), -EEXIST);
	assert_int_equal(flowmap_add_relayed(&map, &key, false), -EEXIST);
	start = now();
	for (uint32_t i = 0; i < FLOWS; i++) {
		make_key(i, 2, &key);
		assert_int_equal(flowmap_add_relayed(&map, &key, false), 0);
	}
	printf("# %.2f us to enter a relayed one\n", (now() - start) * 1e6 / FLOWS);
	make_key(FLOWS + 1, 0, &key);
	assert_int_equal(flowmap_add_key(&map, &key, 6, 0), -E2BIG);
	assert_int_equal(flowmap_add_relayed(&map, &key, false), -E2BIG);
	make_key(5, 2, &key);
	assert_false(flowmap_find(&map, &key, &ref));
	/* those of a daemon that is gone go all, and no others */
	assert_int_equal(flowmap_forget_relayed(&map), FLOWS);
	assert_int_equal(flowmap_forget_relayed(&map), 0);
	start = now();
	for (uint32_t i = 0; i < FLOWS; i++)
		for (uint32_t direction = 0; direction < 2; direction++) {
			make_key(i, direction, &key);
			flowmap_remove_key(&map, &key);
		}
	printf("# %.2f us to remove one\n", (now() - start) * 1e6 / FLOWS);
	make_key(5, 0, &key);
	assert_false(flowmap_find(&map, &key, &ref));
}

/* A key whose entry has been given to another connection leads nowhere. */
static void test_stale_key(void **state)
{
	struct flow_key key;
	struct flow_ref ref;

	(void)state;
	make_key(7, 0, &key);
	map.entries[7].generation = 3;
	assert_int_equal(flowmap_add_key(&map, &key, 7, 0), 0);
	assert_true(flowmap_find(&map, &key, &ref));
	map.entries[7].generation = 4;
	assert_false(flowmap_find(&map, &key, &ref));
	flowmap_remove_key(&map, &key);
}

/* A flow that becomes user space's keeps its key, which leads to no entry from then on. */
static void test_relayed_key(void **state)
{
	struct flow_key key;
	struct flow_ref ref;

	(void)state;
	make_key(8, 0, &key);
	assert_int_equal(flowmap_add_key(&map, &key, 8, 0), 0);
	assert_int_equal(flowmap_add_relayed(&map, &key, true), 0);
	assert_false(flowmap_find(&map, &key, &ref));
	assert_int_equal(ref.index, FLOW_INDEX_RELAYED);
	assert_int_equal(flowmap_add_key(&map, &key, 8, 0), -EEXIST);
	flowmap_remove_key(&map, &key);
	assert_int_equal(flowmap_add_key(&map, &key, 8, 0), 0);
	flowmap_remove_key(&map, &key);
}

/* The key of a direction is what the other one sends, reversed. */
static void test_key_of(void **state)
{
	struct flow_entry *entry = &map.entries[9];
	struct flow_key key;

	(void)state;
	memset(entry, 0, sizeof(*entry));
	entry->half[FLOW_DOWN] = (struct flow_half){.src = addr_from_ipv4(be32(0xc0000201)),
						    .dst = addr_from_ipv4(be32(0x0a010002)),
						    .sport = be16(80),
						    .dport = be16(4000)};
	flowmap_key_of(entry, FLOW_UP, &key);
	assert_int_equal(key.src.words[3], be32(0x0a010002));
	assert_int_equal(key.dst.words[3], be32(0xc0000201));
	assert_int_equal(key.sport, be16(4000));
	assert_int_equal(key.dport, be16(80));
	flowmap_move(entry, FLOW_PHASE_PENDING);
	flowmap_move(entry, FLOW_PHASE_OPENING);
	flowmap_move(entry, FLOW_PHASE_SPLICED);
	assert_string_equal(flowmap_phase_name(flowmap_phase(entry)), "spliced");
	flowmap_move(entry, FLOW_PHASE_FREE);
	assert_string_equal(flowmap_phase_name(99), "unknown");
}

/* While a daemon starts, the programs must know which interfaces clients come by: else they let everything pass. */
static void test_forgotten_ports(void **state)
{
	const struct bpf_port lan = {.flags = CFG_PORT_LAN | CFG_PORT_UPLINK}, uplink = {.flags = CFG_PORT_UPLINK};
	int here = (int)if_nametoindex("lo"), found[4];

	(void)state;
	assert_int_equal(bpfload_set_port(bpf, here, &lan), 0);
	assert_int_equal(bpfload_set_port(bpf, INT32_MAX, &lan), 0);
	bpfload_forget_ports(bpf, &here, 1);
	assert_int_equal(bpfload_uplinks(bpf, found, 4), 1);
	assert_int_equal(found[0], here);
	bpfload_forget_ports(bpf, NULL, 0);
	assert_int_equal(bpfload_uplinks(bpf, found, 4), 0);
	assert_int_equal(bpfload_set_port(bpf, here, &uplink), 0);
	bpfload_forget_ports(bpf, NULL, 0);
	assert_int_equal(bpfload_uplinks(bpf, found, 4), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forgotten_ports), cmocka_unit_test(test_memory),
		cmocka_unit_test(test_a_million),       cmocka_unit_test(test_stale_key),
		cmocka_unit_test(test_relayed_key),     cmocka_unit_test(test_key_of),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("flowmap", tests, open_tables, close_tables);
}
