/* SPDX-License-Identifier: MIT */
/*
 * ICMP errors about packets of spliced flows, through the tc program by BPF_PROG_RUN. A router quotes a packet as we
 * sent it; the end that sent the original must find its own packet inside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <string.h>

#include "lib_splice.h"
#include "socksplice_tc.skel.h"

static struct socksplice_tc *skeleton;
static struct rig rig;
static struct run run;

/* An IP header and eight bytes: what every error quotes. */
#define LEAST(version) ((version) == 4 ? 28u : 48u)

static struct flow_entry *fresh(int version, enum flow_phase phase)
{
	rig_configure(&rig, CFG_ON_DOWN_DROP);
	rig_set_port(&rig, CFG_PORT_LAN | CFG_PORT_UPLINK);
	return rig_flow(&rig, version, phase);
}

static struct addr router(int version)
{
	struct addr ipv6 = {.bytes = {0xfd, 9, [15] = 9}};

	return version == 4 ? addr_from_ipv4(be32(0xc0a80909)) : ipv6;
}

/* A segment of the flow's `direction` as we sent it, and TTL or hop limit as the router saw it. */
static void build_inner(struct packet *p, int version, int direction)
{
	struct segment s = segment_leaving(version, direction);

	s.ttl = 9;
	s.seq = 0x00000123; /* its SEQ delta wraps one way or the other */
	s.ack = 0xabcdef01;
	s.payload_bytes = 500;
	segment_options(&s, "\1\1\x08\x0a\1\2\3\4\5\6\7\x08", 12);
	segment_build(p, &s);
}

/* What the sender must find: addresses, ports and SEQ its own, the IP header's checksum right, all other as it was. */
static void original_inner(struct packet *p, int version, int direction)
{
	struct segment s = segment_arriving(version, direction);
	size_t l4 = version == 4 ? 34 : 54;
	__be32 seq = be32(0x00000123 - (direction == FLOW_UP ? SEQ_ADD : -ACK_ADD));
	uint8_t tcp_check[2];

	build_inner(p, version, direction);
	memcpy(tcp_check, p->bytes + l4 + 16, 2);
	if (version == 4) {
		memcpy(p->bytes + 26, s.src.addr.bytes + 12, 4);
		memcpy(p->bytes + 30, s.dst.addr.bytes + 12, 4);
	} else {
		memcpy(p->bytes + 22, &s.src.addr, 16);
		memcpy(p->bytes + 38, &s.dst.addr, 16);
	}
	memcpy(p->bytes + l4, &s.src.port, 2);
	memcpy(p->bytes + l4 + 2, &s.dst.port, 2);
	memcpy(p->bytes + l4 + 4, &seq, 4);
	packet_set_checksums(p);
	memcpy(p->bytes + l4 + 16, tcp_check, 2);
}

/* --- translated --------------------------------------------------------------------- */

struct error_kind {
	const char *what;
	uint8_t version, type, code;
	uint32_t rest;
};

static const struct error_kind kinds[] = {
	{"fragmentation needed", 4, 3, 4, 1400},
	{"host unreachable", 4, 3, 1, 0},
	{"port unreachable", 4, 3, 3, 0},
	{"time exceeded", 4, 11, 0, 0},
	{"parameter problem", 4, 12, 0, 0x14000000},
	{"no route", 6, 1, 0, 0},
	{"packet too big", 6, 2, 0, 1280},
	{"hop limit exceeded", 6, 3, 0, 0},
	{"bad next header", 6, 4, 1, 6},
};

/* `direction`: of the packet that the error is about; the error itself goes back. */
static void check_error(const struct error_kind *kind, int direction, struct addr from, struct addr from_out,
			size_t quoted)
{
	struct segment told = segment_leaving(kind->version, direction ^ 1);
	struct icmp_message m = {.src = from,
				 .dst = segment_leaving(kind->version, direction).src.addr,
				 .rest = kind->rest,
				 .version = kind->version,
				 .type = kind->type,
				 .code = kind->code,
				 .ttl = 61};
	struct packet inner, p, wanted;

	build_inner(&inner, kind->version, direction);
	icmp_build(&p, &m, &inner, quoted);
	m.src = from_out;
	m.dst = told.dst.addr;
	m.ttl = 60;
	original_inner(&inner, kind->version, direction);
	icmp_build(&wanted, &m, &inner, quoted);
	for (int complete = 0; complete < 2; complete++) {
		struct arrival how = {.complete_checksum = complete};

		rig_run(&rig, "socksplice_tc", &p, &how, &run);
		if (run.verdict != TC_REDIRECTED)
			fail_msg("%s: verdict %u", kind->what, run.verdict);
		ASSERT_COUNTED(kind->what, &run, COUNT_ICMP_TRANSLATED);
		assert_true(packet_checksums_good(&run.out));
		packet_assert_equal(kind->what, &run.out, &wanted);
	}
}

static void test_translated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int version = kinds[i].version;
		const struct flow_ends *ends = flow_ends(version);
		struct flow_entry *entry = fresh(version, FLOW_PHASE_SPLICED);
		const size_t quotes[] = {LEAST(version), LEAST(version) + 1, 200, 301, LEAST(version) + 524};

		for (size_t q = 0; q < ARRAY_SIZE(quotes); q++) {
			/* about the client's packets: the client hears of it */
			check_error(&kinds[i], FLOW_UP, router(version), router(version), quotes[q]);
			/* the upstream is the target, as far as the client knows */
			check_error(&kinds[i], FLOW_UP, ends->upstream.addr, ends->target.addr, quotes[q]);
			/* about the upstream's: it knows nobody but the gateway */
			check_error(&kinds[i], FLOW_DOWN, router(version), ends->gateway.addr, quotes[q]);
			check_error(&kinds[i], FLOW_DOWN, ends->client.addr, ends->gateway.addr, quotes[q]);
		}
		assert_int_equal(entry->half[FLOW_UP].packets + entry->half[FLOW_DOWN].packets, 0);
	}
}

/* --- untouched ----------------------------------------------------------------------- */

static void expect_untouched(const char *what, const struct packet *p, enum packet_counter counter)
{
	rig_run(&rig, "socksplice_tc", p, NULL, &run);
	if (run.verdict != TC_PASS)
		fail_msg("%s: verdict %u", what, run.verdict);
	/* an error about no flow that a LAN interface brings: judged here, as XDP leaves it to tc */
	run.moved[COUNT_PASS_OTHER] = 0;
	ASSERT_COUNTED(what, &run, counter);
	packet_assert_equal(what, &run.out, p);
}

static struct icmp_message usual_message(int version, int direction)
{
	return (struct icmp_message){.src = router(version),
				     .dst = segment_leaving(version, direction).src.addr,
				     .rest = 1400,
				     .version = (uint8_t)version,
				     .type = version == 4 ? 3 : 2,
				     .code = version == 4 ? 4 : 0,
				     .ttl = 61};
}

static void check_types(int version, int direction)
{
	static const uint8_t types4[] = {0, 4, 5, 8, 9, 13, 255}, types6[] = {0, 5, 127, 128, 129, 133, 134, 135, 136};
	const uint8_t *types = version == 4 ? types4 : types6;
	size_t count = version == 4 ? ARRAY_SIZE(types4) : ARRAY_SIZE(types6);
	struct icmp_message m = usual_message(version, direction);
	struct packet inner, p;

	build_inner(&inner, version, direction);
	for (size_t i = 0; i < count; i++) {
		m.type = types[i];
		icmp_build(&p, &m, &inner, 100);
		expect_untouched("no error", &p, COUNT_END);
	}
}

/* `at` of the quoted packet, counted from its IP header, has another value. */
static void check_inner_byte(const char *what, int version, int direction, size_t at, uint8_t value)
{
	struct icmp_message m = usual_message(version, direction);
	struct packet inner, p;

	build_inner(&inner, version, direction);
	inner.bytes[14 + at] = value;
	icmp_build(&p, &m, &inner, 100);
	expect_untouched(what, &p, COUNT_END);
}

static void check_phases(int version, int direction)
{
	struct icmp_message m = usual_message(version, direction);
	struct packet inner, p;

	build_inner(&inner, version, direction);
	icmp_build(&p, &m, &inner, 100);
	for (int phase = 0; phase < FLOW_PHASE_COUNT; phase++) {
		if (phase == FLOW_PHASE_SPLICED)
			continue;
		fresh(version, (enum flow_phase)phase);
		expect_untouched("another phase", &p, COUNT_END);
	}
	fresh(version, FLOW_PHASE_SPLICED);
	rig_set_keys(&rig, version, TEST_GENERATION + 1);
	expect_untouched("a stale key", &p, COUNT_STALE_KEYS);
	rig_set_keys(&rig, version, TEST_GENERATION);
}

static void check_untouched(int version, int direction)
{
	struct icmp_message m = usual_message(version, direction);
	struct packet inner, p;
	size_t l4 = version == 4 ? 20 : 40;

	fresh(version, FLOW_PHASE_SPLICED);
	build_inner(&inner, version, direction);
	for (size_t quoted = 0; quoted < LEAST(version); quoted++) {
		icmp_build(&p, &m, &inner, quoted);
		expect_untouched("quoted too little", &p, COUNT_END);
	}
	check_types(version, direction);
	check_inner_byte("unknown source port", version, direction, l4, 7);
	check_inner_byte("unknown destination port", version, direction, l4 + 2, 7);
	check_inner_byte("unknown address", version, direction, l4 - 1, 77);
	check_inner_byte("UDP inside", version, direction, version == 4 ? 9 : 6, 17);
	if (version == 4) {
		check_inner_byte("options inside", version, direction, 0, 0x46);
		icmp_build(&p, &m, &inner, 100);
		p.bytes[20] = 0x20;
		packet_set_checksums(&p);
		expect_untouched("an ICMP fragment", &p, COUNT_END);
		check_inner_byte("a later fragment inside", version, direction, 7, 9);
	} else {
		check_inner_byte("extension header inside", version, direction, 6, 60);
	}
	check_phases(version, direction);
	m.ttl = 1;
	icmp_build(&p, &m, &inner, 100);
	expect_untouched("TTL 1", &p, COUNT_END);
}

static void test_untouched(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		check_untouched(version, FLOW_UP);
		check_untouched(version, FLOW_DOWN);
	}
}

static int setup(void **state)
{
	(void)state;
	test_namespace();
	skeleton = socksplice_tc__open();
	return skeleton ? rig_load(&rig, skeleton->obj) : -1;
}

static int teardown(void **state)
{
	(void)state;
	rig_unload(&rig);
	socksplice_tc__destroy(skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_translated),
		cmocka_unit_test(test_untouched),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("icmp", tests, setup, teardown);
}
