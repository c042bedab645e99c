/* SPDX-License-Identifier: MIT */
/*
 * The egress program by BPF_PROG_RUN: what the gateway's own socket says to an upstream, and what of it gets through.
 * Each packet runs twice: without a checksum of the sk_buff, and with a complete one that the kernel verifies after.
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

#define MSS "\2\4\x05\xb4"
#define TS "\x08\x0a\x11\x11\x11\x11\x00\x00\x00\x00"
#define BLOCK "\x30\x00\x00\x00\x30\x00\x01\x00"
#define CLAMP 0xfffffff0u /* ACKs beyond it have wrapped */

/* --- one packet ------------------------------------------------------------------ */

static void expect(const char *what, const struct packet *in, uint32_t verdict, const struct packet *wanted,
		   enum packet_counter counter)
{
	for (int complete = 0; complete < 2; complete++) {
		struct arrival how = {.complete_checksum = complete};

		rig_run(&rig, "socksplice_egress", in, &how, &run);
		if (run.verdict != verdict)
			fail_msg("%s: verdict %u, wanted %u", what, run.verdict, verdict);
		ASSERT_COUNTED(what, &run, counter);
		packet_assert_equal(what, &run.out, wanted);
	}
}

static void expect_passed_as(const char *what, const struct segment *in, const struct segment *out,
			     enum packet_counter counter)
{
	struct packet p, wanted;

	segment_build(&p, in);
	segment_build(&wanted, out);
	expect(what, &p, TC_PASS, &wanted, counter);
}

static void expect_dropped(const char *what, const struct segment *s, enum packet_counter counter)
{
	struct packet p;

	segment_build(&p, s);
	expect(what, &p, TC_DROP, &p, counter);
}

/* Of the socket to its upstream. */
static struct segment said(int version)
{
	return segment_leaving(version, FLOW_UP);
}

/* --- SYNs ------------------------------------------------------------------------- */

struct part {
	uint8_t option, bytes; /* option: FLOW_OPTION_*, 0: stays whatever the client offered */
	const char *text;
};

#define PART(option, text)                                                                                             \
	{                                                                                                              \
		option, sizeof(text) - 1, text                                                                         \
	}
#define PART_SACK PART(FLOW_OPTION_SACK, "\4\2")
#define PART_TS PART(FLOW_OPTION_TIMESTAMPS, TS)
#define PART_WSCALE PART(FLOW_OPTION_WSCALE, "\3\3\7")

static const struct {
	const char *what;
	struct part parts[8];
} layouts[] = {
	{"Linux", {PART(0, MSS), PART_SACK, PART_TS, PART(0, "\1"), PART_WSCALE}},
	{"Linux without SACK", {PART(0, MSS "\1\1"), PART_TS, PART(0, "\1"), PART_WSCALE}},
	{"Linux without timestamps", {PART(0, MSS "\1\1"), PART_SACK, PART(0, "\1"), PART_WSCALE}},
	{"Linux without scale", {PART(0, MSS), PART_SACK, PART_TS}},
	{"MSS", {PART(0, MSS)}},
	{"scale first", {PART_WSCALE, PART_SACK, PART(0, "\1\1\1"), PART_TS, PART(0, "\1\1")}},
	{"timestamp at 1", {PART(0, "\1"), PART_TS, PART_WSCALE, PART_SACK}},
	{"all odd", {PART(0, "\1"), PART_SACK, PART(0, "\xfd\4\1\2"), PART_WSCALE, PART_TS}},
	{"fast open", {PART(0, MSS), PART_SACK, PART_TS, PART(0, "\1"), PART_WSCALE, PART(0, "\x22\x0a" BLOCK "\1\1")}},
	{"behind the end", {PART(0, MSS "\0\3\3\7\4\2\1\1")}},
	{"lying length", {PART(0, MSS "\xfd\x28\3\3\7\4\2\1")}},
};

/* Leads to the options that `offered` leaves of the layout; returns all that the layout holds. */
static uint8_t put_layout(struct segment *s, const struct part *parts, uint8_t offered, uint8_t wscale)
{
	uint8_t options = 0, len = 0;

	for (; parts->bytes; parts++) {
		options |= parts->option;
		if (parts->option & ~offered)
			memset(s->options + len, 1, parts->bytes);
		else
			memcpy(s->options + len, parts->text, parts->bytes);
		if (parts->option & offered & FLOW_OPTION_WSCALE)
			s->options[len + 2] = wscale;
		len = (uint8_t)(len + parts->bytes);
	}
	s->option_bytes = len;
	return options;
}

static void check_mirror(int version, size_t layout, uint8_t offered, uint8_t wscale, uint8_t ecn)
{
	struct flow_entry *entry = rig_flow(&rig, version, FLOW_PHASE_PENDING);
	struct segment in = said(version), out = in;
	bool scaled;
	uint8_t all;

	entry->offered.flags = offered;
	entry->offered.wscale = wscale;
	/* the clamp is armed at the SYN-ACK; a SYN sent again meets it */
	entry->clamp_on = ecn != 0;
	entry->window_shift = 0;
	entry->own_tsval = 0;
	in.flags = SYN | ecn;
	out.flags = SYN;
	in.seq = out.seq = 0xfffffffe;
	in.ack = out.ack = 0;
	all = put_layout(&in, layouts[layout].parts, 7, 7);
	put_layout(&out, layouts[layout].parts, offered, wscale);
	expect_passed_as(layouts[layout].what, &in, &out, COUNT_SYNS_MIRRORED);
	scaled = all & offered & FLOW_OPTION_WSCALE;
	assert_int_equal(entry->own_wscale, all & FLOW_OPTION_WSCALE ? 7 : 0);
	assert_int_equal(entry->window_shift, scaled ? 7 - wscale : 0);
	assert_int_equal(entry->own_isn, 0xfffffffe);
	assert_int_equal(entry->own_tsval != 0, (all & FLOW_OPTION_TIMESTAMPS) != 0);
}

/* The newest timestamp that the socket has sent is what the client's must not be older than. */
static void check_own_timestamp(int version)
{
	struct flow_entry *entry = rig_flow(&rig, version, FLOW_PHASE_PENDING);
	struct segment s = said(version);

	s.flags = ACK;
	segment_options(&s, "\1\1\x08\x0a\x01\x02\x03\x04\x05\x06\x07\x08", 12);
	expect_passed_as("an ACK with timestamps", &s, &s, COUNT_END);
	assert_int_equal(entry->own_tsval, 0x01020304);
	s.option_bytes = 0;
	expect_passed_as("an ACK without", &s, &s, COUNT_END);
	assert_int_equal(entry->own_tsval, 0x01020304);
}

static void test_own_timestamp(void **state)
{
	(void)state;
	check_own_timestamp(4);
	check_own_timestamp(6);
}

static void test_syn_mirrored(void **state)
{
	static const uint8_t ecn[] = {0, ECE | CWR, ECE, CWR};
	static const uint8_t scales[] = {0, 7, 8, 14};

	(void)state;
	for (int version = 4; version <= 6; version += 2)
		for (size_t layout = 0; layout < ARRAY_SIZE(layouts); layout++)
			for (uint8_t offered = 0; offered < 8; offered++)
				for (size_t i = 0; i < 4; i++)
					check_mirror(version, layout, offered, scales[i], ecn[i]);
}

static void test_syn_without_options(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		struct segment in = said(version), out = in;

		rig_flow(&rig, version, FLOW_PHASE_PENDING);
		in.flags = out.flags = SYN;
		expect_passed_as("no options", &in, &out, COUNT_END);
		in.flags |= ECE | CWR;
		expect_passed_as("no options, ECN", &in, &out, COUNT_END);
	}
}

/* --- the clamp -------------------------------------------------------------------- */

static const struct clamp_row {
	const char *what;
	int32_t ack; /* from the clamp */
	int32_t ack_out;
	uint8_t flags, option_bytes, payload, timestamps; /* timestamps: agreed */
	const char *options;
	bool dropped, counted;
} clamp_rows[] = {
	{"at", 0, 0, ACK, 0, 0, 0, "", false, false},
	{"below", -1, -1, ACK, 0, 0, 0, "", false, false},
	{"far below", -0x70000000, -0x70000000, ACK, 0, 0, 0, "", false, false},
	{"beyond", 1, 1, ACK, 0, 0, 0, "", true, true},
	{"far beyond", 0x70000000, 0, ACK, 0, 0, 0, "", true, true},
	{"at, timestamps", 0, 0, ACK, 12, 0, 1, "\1\1" TS, false, false},
	{"beyond, timestamps", 20, 20, ACK, 12, 0, 1, "\1\1" TS, true, true},
	{"SACK below", -5, -5, ACK, 24, 0, 1, "\1\1" TS "\1\1\5\x0a" BLOCK, true, true},
	{"SACK 1, no timestamps", -5, -5, ACK, 12, 0, 0, "\1\1\5\x0a" BLOCK, true, true},
	{"SACK 2, no timestamps", 0, 0, ACK, 20, 0, 0, "\1\1\5\x12" BLOCK BLOCK, true, true},
	{"data at", 0, 0, ACK | PSH, 12, 9, 1, "\1\1" TS, false, false},
	{"data below", -100, -100, ACK | PSH, 12, 9, 1, "\1\1" TS, false, false},
	{"data beyond", 1, 0, ACK | PSH, 12, 9, 1, "\1\1" TS, false, true},
	{"data far beyond", 0x12345678, 0, ACK, 0, 255, 0, "", false, true},
	{"FIN beyond", 7, 0, ACK | FIN, 0, 0, 0, "", false, true},
	{"FIN at", 0, 0, ACK | FIN, 0, 0, 0, "", false, false},
	{"RST beyond", 7, 0, ACK | RST, 0, 0, 0, "", false, true},
	{"RST without ACK", 7, 7, RST, 0, 0, 0, "", false, false},
};

static void check_clamp(int version, const struct clamp_row *row)
{
	struct flow_entry *entry = rig_flow(&rig, version, FLOW_PHASE_PENDING);
	struct segment in = said(version), out;

	in.flags = row->flags;
	in.payload_bytes = row->payload;
	segment_options(&in, row->options, row->option_bytes);
	in.ack = CLAMP + (uint32_t)row->ack;
	out = in;
	out.ack = CLAMP + (uint32_t)row->ack_out;
	entry->agreed.flags = row->timestamps ? FLOW_OPTION_TIMESTAMPS | FLOW_OPTION_SACK : FLOW_OPTION_SACK;
	entry->clamp = CLAMP;
	entry->clamp_on = 0;
	expect_passed_as("the clamp is off", &in, &in, COUNT_END);
	entry->clamp_on = 1;
	if (row->dropped)
		expect_dropped(row->what, &in, COUNT_CLAMPED_ACKS);
	else
		expect_passed_as(row->what, &in, &out, row->counted ? COUNT_CLAMPED_ACKS : COUNT_END);
}

static void test_clamp(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(clamp_rows); i++) {
		check_clamp(4, &clamp_rows[i]);
		check_clamp(6, &clamp_rows[i]);
	}
}

/* --- the window -------------------------------------------------------------------- */

static void test_window(void **state)
{
	static const struct {
		int8_t shift;
		uint16_t window, window_out;
	} rows[] = {
		{0, 0x1234, 0x1234}, {1, 0x1234, 0x2468},  {4, 0x1234, 0xffff}, {14, 1, 0x4000},
		{14, 0, 0},          {-1, 0x1235, 0x091a}, {-14, 0x8000, 2},    {-14, 0x3fff, 0},
	};
	static const enum flow_phase phases[] = {FLOW_PHASE_PENDING, FLOW_PHASE_RELAYED};

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_SIZE(rows); i++) {
		int version = i & 1 ? 6 : 4;
		struct flow_entry *entry = rig_flow(&rig, version, phases[i / 2 % 2]);
		struct segment in = said(version), out = in;

		entry->window_shift = rows[i / 4].shift;
		in.payload_bytes = out.payload_bytes = (uint16_t)i;
		in.flags = out.flags = ACK | PSH | ECE;
		in.window = rows[i / 4].window;
		out.window = rows[i / 4].window_out;
		expect_passed_as("window", &in, &out, COUNT_END);
	}
}

/* Both are for the same packet. */
static void test_window_and_clamp(void **state)
{
	struct flow_entry *entry = rig_flow(&rig, 4, FLOW_PHASE_PENDING);
	struct segment in = said(4), out;

	(void)state;
	entry->window_shift = -3;
	entry->clamp = CLAMP;
	entry->clamp_on = 1;
	in.payload_bytes = 5;
	in.window = 800;
	in.ack = CLAMP + 100;
	out = in;
	out.window = 100;
	out.ack = CLAMP;
	expect_passed_as("window and clamp", &in, &out, COUNT_CLAMPED_ACKS);
}

/* --- the other phases, and what is none of ours --------------------------------------- */

static void test_phases(void **state)
{
	static const uint8_t flags[] = {ACK, SYN, RST, FIN | ACK};
	static const struct {
		enum flow_phase phase;
		bool dropped;
	} rows[] = {{FLOW_PHASE_FREE, false},
		    {FLOW_PHASE_OPENING, true},
		    {FLOW_PHASE_SPLICED, true},
		    {FLOW_PHASE_RELAYED, false},
		    {FLOW_PHASE_ABORTING, false}};

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_SIZE(rows); i++) {
		for (int version = 4; version <= 6; version += 2) {
			struct flow_entry *entry = rig_flow(&rig, version, rows[i / 4].phase);
			struct segment s = said(version);

			entry->clamp_on = 1; /* it ends with PENDING */
			s.flags = flags[i % 4];
			s.payload_bytes = 3;
			if (rows[i / 4].dropped)
				expect_dropped("the kernel's flow", &s, COUNT_GUARDED_PACKETS);
			else
				expect_passed_as("the socket's flow", &s, &s, COUNT_END);
		}
	}
}

static void check_untouched(const char *what, const struct packet *p)
{
	expect(what, p, TC_PASS, p, COUNT_END);
}

static void check_none_of_ours(int version)
{
	struct arrival how = {.ingress_ifindex = TEST_IFINDEX};
	struct segment s = said(version), other;
	struct packet p, fragment;

	rig_flow(&rig, version, FLOW_PHASE_SPLICED);
	segment_build(&p, &s);
	rig_run(&rig, "socksplice_egress", &p, &how, &run);
	assert_int_equal(run.verdict, TC_PASS);
	ASSERT_NOT_COUNTED("came in somewhere", &run);
	packet_assert_equal("came in somewhere", &run.out, &p);
	other = s;
	other.dst.port ^= be16(1);
	segment_build(&p, &other);
	check_untouched("another port", &p);
	other = segment_leaving(version, FLOW_DOWN);
	segment_build(&p, &other);
	check_untouched("toward the client", &p);
	segment_build(&fragment, &s);
	fragment.bytes[12] = 0x08;
	fragment.bytes[13] = 0x06;
	check_untouched("not IP", &fragment);
	segment_build(&fragment, &s);
	fragment.bytes[version == 4 ? 23 : 20] = 17;
	check_untouched("UDP", &fragment);
	if (version == 4) {
		segment_build(&fragment, &s);
		fragment.bytes[20] = 0x20;
		packet_set_checksums(&fragment);
		check_untouched("a fragment", &fragment);
	}
	rig_set_keys(&rig, version, TEST_GENERATION + 1);
	segment_build(&p, &s);
	expect("a stale key", &p, TC_PASS, &p, COUNT_STALE_KEYS);
}

static void test_none_of_ours(void **state)
{
	(void)state;
	check_none_of_ours(4);
	check_none_of_ours(6);
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
		cmocka_unit_test(test_own_timestamp),
		cmocka_unit_test(test_syn_mirrored),
		cmocka_unit_test(test_syn_without_options),
		cmocka_unit_test(test_clamp),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_and_clamp),
		cmocka_unit_test(test_phases),
		cmocka_unit_test(test_none_of_ours),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("guard", tests, setup, teardown);
}
