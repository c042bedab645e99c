/* SPDX-License-Identifier: MIT */
/*
 * Spliced flows by BPF_PROG_RUN, through the tc program and the XDP program: segment in, verdict, exact packet out,
 * counters, and what the entry then holds. What a segment must become is written down as bytes in the tables; for
 * random segments a model says it again, and both programs must agree with it and with each other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib_splice.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"

static struct socksplice_tc *tc_skeleton;
static struct socksplice_xdp *xdp_skeleton;
static struct rig tc, xdp;
static struct run run;

/* --- running one segment -------------------------------------------------------- */

static const char *program_of(const struct rig *rig)
{
	return rig->is_xdp ? "socksplice_xdp" : "socksplice_tc";
}

/* Comes from the host that its direction's answers are sent to. */
static void build(struct packet *p, const struct segment *s, const struct flow_entry *entry, int direction)
{
	segment_build(p, s);
	memcpy(p->bytes, entry->half[direction ^ 1].smac, 6);
	memcpy(p->bytes + 6, entry->half[direction ^ 1].dmac, 6);
}

static struct packet send_segment(struct rig *rig, const struct segment *s, int direction)
{
	struct packet p;

	build(&p, s, rig_entry(rig, s->version), direction);
	rig_run(rig, program_of(rig), &p, NULL, &run);
	return p;
}

/* Rewritten into exactly this and sent on. */
static void expect_spliced(struct rig *rig, const char *what, const struct segment *in, const struct segment *out,
			   int direction)
{
	const struct flow_half *half = &rig_entry(rig, in->version)->half[direction];
	struct packet sent = send_segment(rig, in, direction), wanted;

	if (run.verdict != (rig->is_xdp ? XDP_REDIRECT : TC_REDIRECTED))
		fail_msg("%s: verdict %u", what, run.verdict);
	segment_build(&wanted, out);
	/* behind tc the kernel fills in the addresses */
	memcpy(wanted.bytes, rig->is_xdp ? half->dmac : sent.bytes, 6);
	memcpy(wanted.bytes + 6, rig->is_xdp ? half->smac : sent.bytes + 6, 6);
	packet_assert_equal(what, &run.out, &wanted);
}

static enum packet_counter spliced(const struct rig *rig)
{
	return rig->is_xdp ? COUNT_SPLICED_XDP : COUNT_SPLICED_TC;
}

/* Ends here or goes on, but as it came, and exactly `counter` moves (COUNT_END: none). */
static void expect_untouched(struct rig *rig, const char *what, const struct packet *p, uint32_t verdict,
			     enum packet_counter counter)
{
	rig_run(rig, program_of(rig), p, NULL, &run);
	if (run.verdict != verdict)
		fail_msg("%s: verdict %u, wanted %u", what, run.verdict, verdict);
	ASSERT_COUNTED(what, &run, counter);
	packet_assert_equal(what, &run.out, p);
}

static void expect_verdict(struct rig *rig, const char *what, const struct segment *s, int direction, uint32_t verdict,
			   enum packet_counter counter)
{
	struct packet p;

	build(&p, s, rig_entry(rig, s->version), direction);
	expect_untouched(rig, what, &p, verdict, counter);
}

static struct flow_entry *fresh(struct rig *rig, int version, enum flow_phase phase)
{
	struct flow_entry *entry = rig_flow(rig, version, phase);

	rig_configure(rig, CFG_ON_DOWN_DROP);
	rig_set_port(rig, CFG_PORT_LAN | CFG_PORT_UPLINK);
	entry->half[FLOW_UP].mac_valid = entry->half[FLOW_DOWN].mac_valid = rig->is_xdp;
	return entry;
}

/* --- the rewriting, by tables ----------------------------------------------------- */

struct rewrite_row {
	const char *what;
	uint32_t seq, seq_out, ack, ack_out;
	uint16_t window, window_out, payload;
	uint8_t direction, flags, ttl;
	int8_t shift;
};

#define UP FLOW_UP
#define DOWN FLOW_DOWN

static const struct rewrite_row rewrite_rows[] = {
	/* what, SEQ, ACK, window, payload, direction, flags, TTL, shift */
	{"up", 5000, 0x10001389, 6000, 0x20001772, 500, 500, 100, UP, ACK | PSH, 64, 0},
	{"down", 0x20001772, 6000, 0x10001389, 5000, 500, 500, 100, DOWN, ACK, 64, 0},
	{"SEQ wraps", 0xefffffff, 0, 0xdffffffe, 0, 500, 500, 1, UP, ACK, 64, 0},
	{"SEQ wraps down", 5, 0xe0000003, 7, 0xf0000006, 500, 500, 1, DOWN, ACK, 64, 0},
	{"all bits", 0xffffffff, 0x10000000, 0xffffffff, 0x20000001, 0xffff, 0xffff, 1400, UP, ACK, 255, 0},
	{"zeros", 0, 0x10000001, 0, 0x20000002, 0, 0, 0, UP, ACK, 2, 0},
	{"odd payload", 1, 0x10000002, 1, 0x20000003, 1, 1, 777, UP, ACK, 3, 0},
	{"one byte", 1, 0x10000002, 1, 0x20000003, 1, 1, 1, UP, ACK, 3, 0},
	{"no ACK: the field stays", 1, 0x10000002, 99, 99, 0, 0, 0, UP, RST, 64, 0},
	{"FIN", 1, 0x10000002, 1, 0x20000003, 9, 9, 0, UP, ACK | FIN, 64, 0},
	{"ECN bits stay", 1, 0x10000002, 1, 0x20000003, 9, 9, 3, UP, ACK | ECE | CWR, 64, 0},
	{"window left", 1, 0x10000002, 1, 0x20000003, 0x0123, 0x0918, 0, UP, ACK, 64, 3},
	{"window left, clamped", 1, 0x10000002, 1, 0x20000003, 0x2000, 0xffff, 0, UP, ACK, 64, 3},
	{"window left, just below", 1, 0x10000002, 1, 0x20000003, 0x1fff, 0xfff8, 0, UP, ACK, 64, 3},
	{"window left by 14", 1, 0x10000002, 1, 0x20000003, 0xffff, 0xffff, 0, UP, ACK, 64, 14},
	{"window right", 1, 0x10000002, 1, 0x20000003, 0x1234, 0x0123, 0, UP, ACK, 64, -4},
	{"window right, to nothing", 1, 0x10000002, 1, 0x20000003, 7, 0, 0, UP, ACK, 64, -14},
	{"window of 0", 1, 0x10000002, 1, 0x20000003, 0, 0, 0, UP, ACK, 64, 14},
	{"window of a SYN-ACK is never scaled", 1, 0xe0000000 - 1, 1, 0xf0000000, 7, 7, 0, DOWN, SYN | ACK, 64, 3},
};

static void check_rewrite(struct rig *rig, int version, const struct rewrite_row *row)
{
	struct segment in = segment_arriving(version, row->direction), out = segment_leaving(version, row->direction);
	struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);

	entry->half[row->direction].window_shift = row->shift;
	in.seq = row->seq;
	in.ack = row->ack;
	in.window = row->window;
	in.ttl = row->ttl;
	out.seq = row->seq_out;
	out.ack = row->ack_out;
	out.window = row->window_out;
	out.ttl = (uint8_t)(row->ttl - 1);
	in.flags = out.flags = row->flags;
	in.payload_bytes = out.payload_bytes = row->payload;
	expect_spliced(rig, row->what, &in, &out, row->direction);
	ASSERT_COUNTED(row->what, &run, spliced(rig));
}

static void test_rewrite(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rewrite_rows); i++) {
		for (int version = 4; version <= 6; version += 2) {
			check_rewrite(&tc, version, &rewrite_rows[i]);
			check_rewrite(&xdp, version, &rewrite_rows[i]);
		}
	}
}

/* Upward; what a flow's constants make of them. */
#define TS "\x08\x0a\x11\x11\x11\x11\x22\x22\x22\x22"
#define TS_OUT "\x08\x0a\x12\x12\x12\x12\x24\x24\x24\x24"
#define BLOCK "\x30\x00\x00\x00\xf0\x00\x00\x00"
#define BLOCK_OUT "\x50\x00\x00\x02\x10\x00\x00\x02"

struct option_row {
	const char *what;
	uint8_t bytes, slow;
	const char *in, *out;
};

static const struct option_row option_rows[] = {
	{"none", 0, 0, "", ""},
	{"the usual timestamp", 12, 0, "\1\1" TS, "\1\1" TS_OUT},
	{"timestamp first", 12, 1, TS "\1\1", TS_OUT "\1\1"},
	{"timestamp at 1", 12, 1, "\1" TS "\1", "\1" TS_OUT "\1"},
	{"timestamp at 3", 16, 1, "\1\1\1" TS "\1\1\1", "\1\1\1" TS_OUT "\1\1\1"},
	{"timestamp, then the end", 12, 1, TS "\0\x99", TS_OUT "\0\x99"},
	{"usual begin, more behind", 16, 1, "\1\1" TS "\1\1\1\1", "\1\1" TS_OUT "\1\1\1\1"},
	{"unknown, timestamp at 3", 16, 1, "\xfd\3\x08" TS "\1\1\1", "\xfd\3\x08" TS_OUT "\1\1\1"},
	{"unknown alone", 4, 1, "\xfd\4\x12\x34", "\xfd\4\x12\x34"},
	{"timestamps at the very end", 40, 1, "\xfd\x1e" BLOCK BLOCK BLOCK "abcd" TS,
	 "\xfd\x1e" BLOCK BLOCK BLOCK "abcd" TS_OUT},
	{"SACK 1", 12, 1, "\1\1\5\x0a" BLOCK, "\1\1\5\x0a" BLOCK_OUT},
	{"SACK 1 first", 12, 1, "\5\x0a" BLOCK "\1\1", "\5\x0a" BLOCK_OUT "\1\1"},
	{"SACK 1 at 1", 12, 1, "\1\5\x0a" BLOCK "\1", "\1\5\x0a" BLOCK_OUT "\1"},
	{"SACK 2", 20, 1, "\1\1\5\x12" BLOCK BLOCK, "\1\1\5\x12" BLOCK_OUT BLOCK_OUT},
	{"SACK 3 at 1", 28, 1, "\1\5\x1a" BLOCK BLOCK BLOCK "\1", "\1\5\x1a" BLOCK_OUT BLOCK_OUT BLOCK_OUT "\1"},
	{"SACK 4", 36, 1, "\1\1\5\x22" BLOCK BLOCK BLOCK BLOCK, "\1\1\5\x22" BLOCK_OUT BLOCK_OUT BLOCK_OUT BLOCK_OUT},
	{"timestamp, SACK 1", 24, 1, "\1\1" TS "\1\1\5\x0a" BLOCK, "\1\1" TS_OUT "\1\1\5\x0a" BLOCK_OUT},
	{"timestamp, SACK 1, no NOP", 20, 1, TS "\5\x0a" BLOCK, TS_OUT "\5\x0a" BLOCK_OUT},
	{"timestamp, SACK 2", 32, 1, "\1\1" TS "\1\1\5\x12" BLOCK BLOCK,
	 "\1\1" TS_OUT "\1\1\5\x12" BLOCK_OUT BLOCK_OUT},
	{"timestamp, SACK 3", 40, 1, "\1\1" TS "\1\1\5\x1a" BLOCK BLOCK BLOCK,
	 "\1\1" TS_OUT "\1\1\5\x1a" BLOCK_OUT BLOCK_OUT BLOCK_OUT},
	{"SACK 3, timestamp", 40, 1, "\1\5\x1a" BLOCK BLOCK BLOCK TS "\1\1\0",
	 "\1\5\x1a" BLOCK_OUT BLOCK_OUT BLOCK_OUT TS_OUT "\1\1\0"},
	{"behind the end", 12, 1, "\0\1" TS, "\0\1" TS},
	{"length 0", 12, 1, "\xfd\0" TS, "\xfd\0" TS},
	{"length 1", 12, 1, "\xfd\1" TS, "\xfd\1" TS},
	{"length beyond the header", 12, 1, "\xfd\x0d" TS, "\xfd\x0d" TS},
	{"length of 255", 12, 1, "\xfd\xff" TS, "\xfd\xff" TS},
	{"timestamp of 11", 12, 1, "\x08\x0b\1\1\1\1\1\1\1\1\1\1", "\x08\x0b\1\1\1\1\1\1\1\1\1\1"},
	{"timestamp cut off", 8, 1, "\1\1\x08\x0a\1\2\3\4", "\1\1\x08\x0a\1\2\3\4"},
	{"SACK of 11", 12, 1, "\5\x0b" BLOCK "\1\1", "\5\x0b" BLOCK "\1\1"},
	{"SACK of 2", 4, 1, "\5\2\1\1", "\5\2\1\1"},
	{"SACK cut off", 12, 1, "\1\1\5\x12" BLOCK, "\1\1\5\x12" BLOCK},
	{"kind at the last byte", 4, 1, "\1\1\1\x08", "\1\1\1\x08"},
	{"zeros", 4, 1, "\0\0\0\0", "\0\0\0\0"},
};

static void check_options(struct rig *rig, int version, const struct option_row *row)
{
	struct segment in = segment_arriving(version, UP), out = segment_leaving(version, UP);

	fresh(rig, version, FLOW_PHASE_SPLICED);
	out.seq = SEQ_ADD;
	out.ack = ACK_ADD;
	out.ttl = 63;
	in.payload_bytes = out.payload_bytes = 33;
	segment_options(&in, row->in, row->bytes);
	segment_options(&out, row->out, row->bytes);
	expect_spliced(rig, row->what, &in, &out, UP);
	if (row->slow)
		ASSERT_COUNTED(row->what, &run, spliced(rig), COUNT_SLOW_OPTIONS);
	else
		ASSERT_COUNTED(row->what, &run, spliced(rig));
	/* without ACK there is no echo to translate */
	in.flags = out.flags = PSH;
	out.ack = 0;
	for (int i = 0; i + 10 <= row->bytes; i++)
		if (!memcmp(out.options + i, TS_OUT, 10))
			memcpy(out.options + i + 6, TS + 6, 4);
	expect_spliced(rig, row->what, &in, &out, UP);
}

static void test_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
		for (int version = 4; version <= 6; version += 2) {
			check_options(&tc, version, &option_rows[i]);
			check_options(&xdp, version, &option_rows[i]);
		}
	}
}

/* --- what an entry notes ------------------------------------------------------------ */

static void send_tcp(struct rig *rig, int version, int direction, uint8_t flags, uint32_t seq, uint32_t ack,
		     uint16_t payload)
{
	struct segment s = segment_arriving(version, direction);

	s.flags = flags;
	s.seq = seq;
	s.ack = ack;
	s.payload_bytes = payload;
	send_segment(rig, &s, direction);
}

static void expect_report(const char *what, const struct rig *rig, int version, uint32_t kind)
{
	if (rig->report_count != (kind != 0))
		fail_msg("%s: %zu reports", what, rig->report_count);
	if (!kind)
		return;
	assert_int_equal(rig->reports[0].kind, kind);
	assert_int_equal(rig->reports[0].index, FLOW_OF(version));
	assert_int_equal(rig->reports[0].generation, TEST_GENERATION);
}

static void check_traffic(struct rig *rig, int version)
{
	struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);
	struct flow_half *up = &entry->half[UP];

	up->next_seq = up->ack = 0xfffffff0;
	up->window = 1;
	send_tcp(rig, version, UP, ACK, 0xfffffff0, 0xfffffff5, 100);
	assert_int_equal(up->next_seq, 84);
	assert_int_equal(up->ack, 0xfffffff5);
	assert_int_equal(up->window, 500);
	assert_true(up->last_ns > 0);
	send_tcp(rig, version, UP, ACK, 0xfffffff0, 0xfffffff4, 20);
	assert_int_equal(up->next_seq, 84);
	assert_int_equal(up->ack, 0xfffffff5);
	send_tcp(rig, version, UP, ACK, 84, 3, 0);
	assert_int_equal(up->ack, 3);
	send_tcp(rig, version, UP, RST, 0x1000, 0, 50);
	assert_int_equal(up->next_seq, 84);
	assert_int_equal(up->packets, 4);
	assert_int_equal(up->payload_bytes, 170);
	assert_int_equal(up->seen, 0);
	assert_int_equal(entry->half[DOWN].packets, 0);
	assert_int_equal(entry->half[DOWN].last_ns, 0);
}

static void check_close(struct rig *rig, int version)
{
	struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);
	struct flow_half *up = &entry->half[UP], *down = &entry->half[DOWN];
	const uint32_t up_end = 1011 + SEQ_ADD, down_end = 2001 - ACK_ADD;

	send_tcp(rig, version, UP, ACK | FIN, 1000, 0, 10);
	assert_int_equal(up->seen, FLOW_SEEN_FIN);
	assert_int_equal(up->fin_end, up_end);
	assert_int_equal(up->next_seq, 1011);
	send_tcp(rig, version, DOWN, ACK, 0, up_end - 1, 0);
	assert_int_equal(up->seen, FLOW_SEEN_FIN);
	send_tcp(rig, version, DOWN, 0, 0, up_end, 0);
	assert_int_equal(up->seen, FLOW_SEEN_FIN);
	send_tcp(rig, version, DOWN, ACK, 0, up_end, 5);
	assert_int_equal(up->seen, FLOW_SEEN_FIN | FLOW_SEEN_FIN_ACKED);
	expect_report("half closed", rig, version, 0);
	send_tcp(rig, version, DOWN, ACK | FIN, 2000, up_end, 0);
	assert_int_equal(down->fin_end, down_end);
	expect_report("both FINs", rig, version, 0);
	send_tcp(rig, version, UP, ACK, 1011, down_end - 1, 0);
	expect_report("second FIN not acknowledged", rig, version, 0);
	send_tcp(rig, version, UP, ACK, 1011, down_end, 0);
	assert_int_equal(down->seen, FLOW_SEEN_FIN | FLOW_SEEN_FIN_ACKED);
	expect_report("both FINs acknowledged", rig, version, FLOW_REPORT_DONE);
	assert_int_equal(entry->reported, FLOW_REPORTED_DONE);
	send_tcp(rig, version, UP, ACK, 1011, down_end, 0);
	expect_report("told once", rig, version, 0);
	assert_int_equal(run.moved[spliced(rig)], 1);
}

/* The receiver's window begins at what it has acknowledged last; beyond what was sent to it no RST counts. */
static void check_resets(struct rig *rig, int version, int direction)
{
	/* offset from the newest ACK, window, wscale of the receiver; end of what was sent; ends */
	static const struct {
		uint32_t offset, window, wscale, sent;
		bool agreed, ends;
	} rows[] = {
		{0, 0, 0, 900, true, true},
		{1, 0, 0, 900, true, false},
		{0xffffffff, 100, 0, 900, true, false},
		{100, 100, 0, 900, true, true},
		{101, 100, 0, 900, true, false},
		{800, 100, 3, 900, true, true},
		{801, 100, 3, 900, true, false},
		{100, 100, 3, 900, false, true},
		{101, 100, 3, 900, false, false},
		{0, 100, 0, 0, true, true},
		{1, 100, 0, 0, true, false},
		{50, 100, 0, 50, true, true},
		{51, 100, 0, 50, true, false},
		{0, 100, 0, 0xffffff00, true, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);
		struct flow_half *half = &entry->half[direction], *other = &entry->half[direction ^ 1];

		other->ack = 0xffffffc0; /* some windows wrap */
		other->window = (uint16_t)rows[i].window;
		half->next_seq = other->ack + rows[i].sent - half->seq_add;
		if (rows[i].agreed)
			entry->agreed.flags = FLOW_OPTION_WSCALE;
		entry->offered.flags = FLOW_OPTION_WSCALE;
		/* the other one is never asked */
		entry->offered.wscale = direction == DOWN ? (uint8_t)rows[i].wscale : 14;
		entry->agreed.wscale = direction == UP && rows[i].agreed ? (uint8_t)rows[i].wscale : 0;
		send_tcp(rig, version, direction, RST, other->ack + rows[i].offset - half->seq_add, 0, 0);
		assert_int_equal(run.moved[spliced(rig)], 1);
		if ((half->seen & FLOW_SEEN_RST ? 1 : 0) != rows[i].ends)
			fail_msg("RST row %zu, direction %d: seen is 0x%x", i, direction, half->seen);
		assert_int_equal(entry->reset_ns != 0, rows[i].ends);
		expect_report("RST", rig, version, rows[i].ends ? FLOW_REPORT_DONE : 0);
		send_tcp(rig, version, direction, RST, other->ack + rows[i].offset - half->seq_add, 0, 0);
		expect_report("a second RST", rig, version, 0);
	}
}

/* What an upstream sent may still wait in the socket: its RST comes behind that. */
static void check_reset_behind_held(struct rig *rig, int version)
{
	for (uint32_t offset = 60; offset <= 61; offset++) {
		struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);
		struct flow_half *half = &entry->half[DOWN], *other = &entry->half[UP];

		other->ack = 5000;
		half->next_seq = 5000 - half->seq_add;
		other->window = 1000;
		entry->held = FLOW_HELD_DATA;
		entry->held_end = 5060 - half->seq_add;
		send_tcp(rig, version, DOWN, RST, 5000 + offset - half->seq_add, 0, 0);
		assert_int_equal(half->seen & FLOW_SEEN_RST, offset == 60 ? FLOW_SEEN_RST : 0);
		expect_report("RST behind held data", rig, version, offset == 60 ? FLOW_REPORT_DONE : 0);
	}
}

/* A timestamp goes out, its echo comes back. */
static void check_rtt(struct rig *rig, int version)
{
	struct flow_entry *entry = fresh(rig, version, FLOW_PHASE_SPLICED);
	struct segment up = segment_arriving(version, UP), down = segment_arriving(version, DOWN);

	segment_options(&up, "\1\1" TS, 12);
	segment_options(&down, "\1\1\x08\x0a\x33\x33\x33\x33\x12\x12\x12\x11", 12);
	send_segment(rig, &up, UP);
	assert_int_equal(entry->half[UP].tsval, 0x11111111);
	assert_int_equal(entry->half[UP].tsecr, 0x22222222);
	assert_int_equal(entry->half[UP].probe_tsval, 0x12121212);
	assert_true(entry->half[UP].probe_ns > 0);
	send_segment(rig, &down, DOWN);
	assert_true(entry->half[UP].probe_ns > 0);
	assert_int_equal(entry->half[UP].rtt_us, 0);
	down.options[11]++;
	entry->half[UP].probe_ns -= 8000000;
	send_segment(rig, &down, DOWN);
	assert_int_equal(entry->half[UP].probe_ns, 0);
	assert_in_range(entry->half[UP].rtt_us, 8000, 4000000);
	assert_int_equal(entry->half[DOWN].tsval, 0x33333333);
	/* an old value is no probe, and none follows at once */
	entry->half[UP].probe_after_ms = 0;
	send_segment(rig, &up, UP);
	assert_int_equal(entry->half[UP].probe_ns, 0);
	up.options[7]++;
	entry->half[UP].probe_after_ms = (uint32_t)(entry->half[UP].last_ns / 1000000) + 5000;
	send_segment(rig, &up, UP);
	assert_int_equal(entry->half[UP].probe_ns, 0);
}

static void test_notes(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		for (int i = 0; i < 2; i++) {
			struct rig *rig = i ? &xdp : &tc;

			check_traffic(rig, version);
			check_close(rig, version);
			check_resets(rig, version, UP);
			check_resets(rig, version, DOWN);
			check_reset_behind_held(rig, version);
			check_rtt(rig, version);
		}
	}
}

static void test_gso(void **state)
{
	struct arrival how = {.gso_segs = 5, .gso_size = 300};
	struct segment s = segment_arriving(4, UP);
	struct flow_entry *entry = fresh(&tc, 4, FLOW_PHASE_SPLICED);
	struct packet p;

	(void)state;
	s.payload_bytes = 1450;
	segment_build(&p, &s);
	rig_run(&tc, "socksplice_tc", &p, &how, &run);
	assert_int_equal(run.verdict, TC_REDIRECTED);
	assert_int_equal(entry->half[UP].packets, 5);
	assert_int_equal(entry->half[UP].payload_bytes, 1450);
}

/* The kernel verifies the sum of the whole sk_buff after the program. */
static void test_complete_checksum(void **state)
{
	struct arrival how = {.complete_checksum = true};
	struct packet p;

	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		for (size_t i = 0; i < ARRAY_SIZE(option_rows); i++) {
			struct segment s = segment_arriving(version, i % 2 ? UP : DOWN);

			fresh(&tc, version, FLOW_PHASE_SPLICED)->half[i % 2 ? UP : DOWN].window_shift = 1;
			s.payload_bytes = (uint16_t)(i * 11);
			segment_options(&s, option_rows[i].in, option_rows[i].bytes);
			segment_build(&p, &s);
			rig_run(&tc, "socksplice_tc", &p, &how, &run);
			assert_int_equal(run.verdict, TC_REDIRECTED);
			assert_true(packet_checksums_good(&run.out));
		}
	}
}

/* --- phase OPENING ------------------------------------------------------------------- */

/* Does not open the flow, and later may still be opened. */
static void check_bad_first_segments(int version)
{
	static const struct {
		const char *what;
		uint8_t flags;
		uint32_t seq, ack;
	} rows[] = {
		{"ACK below hold", ACK, CLIENT_ISN + 1, HOLD - 1},
		{"ACK far below hold", ACK, CLIENT_ISN + 1, HOLD - 0x7fffffff},
		{"no ACK", PSH, CLIENT_ISN + 1, HOLD},
		{"FIN without ACK", FIN, CLIENT_ISN + 1, HOLD},
		{"RST with SEQ above", RST, CLIENT_ISN + 2, HOLD},
		{"RST with SEQ below", RST | ACK, CLIENT_ISN, HOLD},
	};
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_OPENING);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct segment s = segment_arriving(version, UP);

		s.flags = rows[i].flags;
		s.seq = rows[i].seq;
		s.ack = rows[i].ack;
		expect_verdict(&tc, rows[i].what, &s, UP, TC_DROP, COUNT_DROP_OPENING_BAD);
		assert_int_equal(entry->half[UP].seen, 0);
		assert_int_equal(entry->half[UP].packets, 0);
		expect_report(rows[i].what, &tc, version, 0);
	}
}

/* To the socket as it is. */
static void expect_early(const char *what, const struct segment *s)
{
	struct packet p = send_segment(&tc, s, DOWN);

	assert_int_equal(run.verdict, TC_PASS);
	ASSERT_COUNTED(what, &run, COUNT_PASS_UPSTREAM, COUNT_EARLY_SEGMENTS);
	packet_assert_equal(what, &run.out, &p);
}

static void check_opening(int version, uint8_t flags, uint32_t ack, uint16_t payload)
{
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_OPENING);
	struct segment in = segment_arriving(version, UP), out = segment_leaving(version, UP);
	struct segment early = segment_arriving(version, DOWN), late = segment_leaving(version, DOWN);

	early.seq = HOLD;
	expect_early("upstream before", &early);
	in.seq = CLIENT_ISN + 1;
	out.seq = CLIENT_ISN + 1 + SEQ_ADD;
	in.ack = ack;
	out.ack = ack + ACK_ADD;
	in.flags = out.flags = flags;
	in.payload_bytes = out.payload_bytes = payload;
	out.ttl = 63;
	expect_spliced(&tc, "first segment", &in, &out, UP);
	ASSERT_COUNTED("first segment", &run, COUNT_SPLICED_TC, COUNT_FIRST_SEGMENTS);
	expect_report("first segment", &tc, version, FLOW_REPORT_FIRST);
	assert_true(entry->half[UP].seen & FLOW_SEEN_ANY);
	assert_int_equal(entry->reported, FLOW_REPORTED_FIRST);
	expect_spliced(&tc, "second segment", &in, &out, UP);
	ASSERT_COUNTED("second segment", &run, COUNT_SPLICED_TC);
	expect_report("second segment", &tc, version, 0);
	early.seq = HOLD + 10;
	late.seq = HOLD + 10 - ACK_ADD;
	late.ack = -SEQ_ADD;
	late.ttl = 63;
	expect_spliced(&tc, "upstream after", &early, &late, DOWN);
	ASSERT_COUNTED("upstream after", &run, COUNT_SPLICED_TC);
}

/* It stands for itself: upstream hears of it, downward stays closed. */
static void check_opening_reset(int version)
{
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_OPENING);
	struct segment in = segment_arriving(version, UP), out = segment_leaving(version, UP);
	struct segment early = segment_arriving(version, DOWN);

	entry->half[DOWN].ack = CLIENT_ISN + 1 + SEQ_ADD;
	in.flags = out.flags = RST;
	in.seq = CLIENT_ISN + 1;
	out.seq = CLIENT_ISN + 1 + SEQ_ADD;
	out.ttl = 63;
	expect_spliced(&tc, "RST before the first segment", &in, &out, UP);
	ASSERT_COUNTED("RST before the first segment", &run, COUNT_SPLICED_TC, COUNT_OPENING_RESETS);
	expect_report("RST before the first segment", &tc, version, FLOW_REPORT_DONE);
	assert_int_equal(entry->half[UP].seen, FLOW_SEEN_RST);
	expect_early("upstream after an RST", &early);
}

/* Early data is in the socket: the bare ACK that would draw more is noted and dropped, whatever else passes. */
static void check_held(int version)
{
	static const struct {
		const char *what;
		uint8_t flags;
		uint16_t payload;
		uint32_t held_end;
		bool held_on, dropped;
	} rows[] = {
		{"held", ACK, 0, HOLD + 10, true, true},
		{"payload", ACK, 1, HOLD + 10, true, false},
		{"FIN", ACK | FIN, 0, HOLD + 10, true, false},
		{"RST", ACK | RST, 0, HOLD + 10, true, false},
		{"only what belongs to the daemon", ACK, 0, HOLD, true, false},
		{"nothing held", ACK, 0, HOLD + 10, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_OPENING);
		struct segment s = segment_arriving(version, UP);

		entry->held_end = rows[i].held_end;
		entry->held = rows[i].held_on ? FLOW_HELD_DATA : 0;
		entry->half[DOWN].ack = 1; /* no RST is in the window */
		s.flags = ACK;
		s.seq = CLIENT_ISN + 1;
		s.ack = HOLD;
		s.payload_bytes = 1;
		send_segment(&tc, &s, UP);
		expect_report("the first", &tc, version, FLOW_REPORT_FIRST);
		s.flags = rows[i].flags;
		s.payload_bytes = rows[i].payload;
		send_segment(&tc, &s, UP);
		assert_int_equal(run.verdict, rows[i].dropped ? TC_DROP : TC_REDIRECTED);
		ASSERT_COUNTED(rows[i].what, &run, rows[i].dropped ? COUNT_DROP_OPENING_HELD : COUNT_SPLICED_TC);
		assert_int_equal(entry->half[UP].packets, 2);
	}
}

/* A bare first ACK is dropped too, and opens the flow. */
static void check_held_first(int version)
{
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_OPENING);
	struct segment s = segment_arriving(version, UP);

	entry->held = FLOW_HELD_DATA;
	entry->held_end = HOLD + 1;
	s.seq = CLIENT_ISN + 1;
	s.ack = HOLD;
	send_segment(&tc, &s, UP);
	assert_int_equal(run.verdict, TC_DROP);
	ASSERT_COUNTED("held first", &run, COUNT_DROP_OPENING_HELD, COUNT_FIRST_SEGMENTS);
	expect_report("held first", &tc, version, FLOW_REPORT_FIRST);
	assert_int_equal(entry->half[UP].ack, HOLD);
	entry->phase = FLOW_PHASE_SPLICED;
	send_segment(&tc, &s, UP);
	ASSERT_COUNTED("spliced: nothing is held", &run, COUNT_SPLICED_TC);
}

static void test_opening(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		check_bad_first_segments(version);
		check_opening(version, ACK, HOLD, 0);
		check_opening(version, ACK | PSH, HOLD, 200);
		check_opening(version, ACK | FIN, HOLD + 100, 0);
		check_opening_reset(version);
		check_held(version);
		check_held_first(version);
	}
}

/* --- phase PENDING, and the others --------------------------------------------------- */

static void check_syn(int version)
{
	static const struct {
		enum flow_phase phase;
		uint32_t isn, on_down, verdict;
		enum packet_counter counter;
	} rows[] = {
		{FLOW_PHASE_PENDING, CLIENT_ISN, CFG_ON_DOWN_DROP, TC_DROP, COUNT_DROP_DUPLICATE_SYN},
		{FLOW_PHASE_PENDING, CLIENT_ISN, CFG_ON_DOWN_PASS, TC_DROP, COUNT_DROP_DUPLICATE_SYN},
		{FLOW_PHASE_PENDING, CLIENT_ISN + 1, CFG_ON_DOWN_DROP, TC_DROP, COUNT_DROP_NO_SOCKET},
		{FLOW_PHASE_PENDING, CLIENT_ISN + 1, CFG_ON_DOWN_PASS, TC_PASS, COUNT_PASS_ON_DOWN},
		{FLOW_PHASE_OPENING, CLIENT_ISN, CFG_ON_DOWN_PASS, TC_PASS, COUNT_PASS_ON_DOWN},
		{FLOW_PHASE_SPLICED, CLIENT_ISN, CFG_ON_DOWN_PASS, TC_PASS, COUNT_PASS_ON_DOWN},
		{FLOW_PHASE_RELAYED, CLIENT_ISN, CFG_ON_DOWN_DROP, TC_DROP, COUNT_DROP_NO_SOCKET},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct segment s = segment_arriving(version, UP);

		s.flags = SYN;
		s.seq = rows[i].isn;
		fresh(&tc, version, rows[i].phase);
		rig_configure(&tc, rows[i].on_down);
		expect_verdict(&tc, "SYN, tc", &s, UP, rows[i].verdict, rows[i].counter);
		fresh(&xdp, version, rows[i].phase);
		rig_configure(&xdp, rows[i].on_down);
		expect_verdict(&xdp, "SYN, XDP", &s, UP, rows[i].verdict == TC_DROP ? XDP_DROP : XDP_PASS,
			       rows[i].counter);
	}
}

#define MSS "\2\4\x05\xb4"

static const struct {
	const char *what;
	uint8_t bytes;
	const char *options;
	struct flow_options agreed;
	uint32_t tsval;
} synack_rows[] = {
	{"Linux", 20, MSS "\4\2" TS "\1\3\3\7", {1460, 7, 7}, 0x11111111},
	{"no options", 0, "", {0, 0, 0}, 0},
	{"MSS", 4, MSS, {1460, 0, 0}, 0},
	{"Windows", 12, MSS "\1\3\3\x08\1\1\4\2", {1460, 8, FLOW_OPTION_SACK | FLOW_OPTION_WSCALE}, 0},
	{"scale of 0", 4, "\3\3\0\1", {0, 0, FLOW_OPTION_WSCALE}, 0},
	{"scale too large", 4, "\1\3\3\x0f", {0, 14, FLOW_OPTION_WSCALE}, 0},
	{"timestamp at 1", 12, "\1" TS "\0", {0, 0, FLOW_OPTION_TIMESTAMPS}, 0x11111111},
	{"lying length", 12, "\2\x1e\x05\xb4\3\3\7\1\4\2\1\1", {0, 0, 0}, 0},
};

static void check_synack(int version, size_t i, bool clamp)
{
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_PENDING);
	struct segment s = segment_arriving(version, DOWN);

	entry->window_shift = 3;
	entry->flags = clamp ? FLOW_FLAG_CLAMP_AT_SYNACK : 0;
	s.flags = SYN | ACK;
	s.seq = 0xffffffff;
	s.ack = 4711;
	s.window = 1234;
	segment_options(&s, synack_rows[i].options, synack_rows[i].bytes);
	expect_verdict(&tc, synack_rows[i].what, &s, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
	assert_int_equal(entry->has_synack, 1);
	assert_memory_equal(&entry->agreed, &synack_rows[i].agreed, sizeof(entry->agreed));
	assert_int_equal(entry->window_shift, synack_rows[i].agreed.flags & FLOW_OPTION_WSCALE ? 3 : 0);
	assert_int_equal(entry->half[DOWN].tsval, synack_rows[i].tsval);
	assert_int_equal(entry->half[DOWN].window, 1234);
	assert_int_equal(entry->half[DOWN].ack, 4711);
	assert_int_equal(entry->clamp_on, clamp);
	assert_int_equal(entry->clamp, 0);
	assert_int_equal(entry->upstream_isn, s.seq);
	assert_int_equal(entry->held, 0);
}

/* What an upstream says before the splice is noted; the packet goes to its socket. */
static void check_pending_data(int version)
{
	static const struct {
		uint32_t seq, held_end;
		uint16_t payload;
	} rows[] = {{0xfffffff0, 0, 0},   {0xfffffff0, 0xfffffffa, 10}, {0xfffffff0, 0xfffffffa, 5},
		    {0xfffffffa, 14, 20}, {0xfffffff0, 14, 20},         {500, 14, 0}};
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_PENDING);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct segment s = segment_arriving(version, DOWN);

		s.seq = rows[i].seq;
		s.payload_bytes = rows[i].payload;
		segment_options(&s, "\1\1" TS, 12);
		s.options[7] = (uint8_t)i;
		expect_verdict(&tc, "upstream, pending", &s, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
		assert_int_equal(entry->held, i > 0 ? FLOW_HELD_DATA : 0);
		assert_int_equal(entry->held_end, rows[i].held_end);
		assert_int_equal(entry->half[DOWN].tsval, 0x11111100 + i);
		assert_int_equal(entry->half[DOWN].packets, 0);
	}
	assert_int_equal(entry->has_synack, 0);
}

/* The ends of an upstream that closes or resets before its client is established. */
static void check_pending_ends(int version)
{
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_PENDING);
	struct segment s = segment_arriving(version, DOWN);

	s.seq = 1000;
	s.payload_bytes = 0;
	s.flags = FIN | ACK;
	expect_verdict(&tc, "FIN, nothing before it", &s, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
	assert_int_equal(entry->held, FLOW_HELD_FIN);
	assert_int_equal(entry->held_end, 1000);
	entry = fresh(&tc, version, FLOW_PHASE_PENDING);
	s.payload_bytes = 10;
	expect_verdict(&tc, "data and FIN", &s, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
	assert_int_equal(entry->held, FLOW_HELD_DATA | FLOW_HELD_FIN);
	assert_int_equal(entry->held_end, 1010);
	entry = fresh(&tc, version, FLOW_PHASE_PENDING);
	s.payload_bytes = 0;
	s.flags = RST | ACK;
	expect_verdict(&tc, "RST", &s, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
	assert_int_equal(entry->held, FLOW_HELD_RST);
}

/* The TCP header stands further back. */
static void check_synack_behind_ip_options(void)
{
	struct flow_entry *entry = fresh(&tc, 4, FLOW_PHASE_PENDING);
	struct segment s = segment_arriving(4, DOWN);
	struct packet p;

	s.flags = SYN | ACK;
	segment_options(&s, synack_rows[0].options, synack_rows[0].bytes);
	segment_build(&p, &s);
	memmove(p.bytes + 38, p.bytes + 34, p.len - 34);
	memset(p.bytes + 34, 1, 4);
	p.bytes[14] = 0x46;
	p.len += 4;
	packet_finish(&p);
	packet_set_checksums(&p);
	expect_untouched(&tc, "SYN-ACK with IP options", &p, TC_PASS, COUNT_PASS_UPSTREAM);
	assert_memory_equal(&entry->agreed, &synack_rows[0].agreed, sizeof(entry->agreed));
}

static void check_other_phases(int version)
{
	static const enum flow_phase phases[] = {FLOW_PHASE_RELAYED, FLOW_PHASE_ABORTING};

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		struct segment up = segment_arriving(version, UP), down = segment_arriving(version, DOWN);
		struct flow_entry *entry = fresh(&tc, version, phases[i]);

		down.payload_bytes = 7;
		expect_verdict(&tc, "relayed, up", &up, UP, TC_DROP, COUNT_DROP_NO_SOCKET);
		expect_verdict(&tc, "relayed, down", &down, DOWN, TC_PASS, COUNT_PASS_UPSTREAM);
		assert_int_equal(entry->held, 0);
		fresh(&xdp, version, phases[i]);
		expect_verdict(&xdp, "relayed, up, XDP", &up, UP, XDP_DROP, COUNT_DROP_NO_SOCKET);
		expect_verdict(&xdp, "relayed, down, XDP", &down, DOWN, XDP_PASS, COUNT_PASS_TO_TC);
	}
}

static void test_pending(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		check_syn(version);
		for (size_t i = 0; i < ARRAY_SIZE(synack_rows); i++) {
			check_synack(version, i, false);
			check_synack(version, i, true);
		}
		check_pending_data(version);
		check_pending_ends(version);
		check_other_phases(version);
	}
	check_synack_behind_ip_options();
}

/* --- what is not rewritten ------------------------------------------------------------ */

/* IPv4 options of 4 bytes, or a destination options header of 8. */
static void insert_ip_options(struct packet *p, int version)
{
	size_t at = version == 4 ? 34 : 54, bytes = version == 4 ? 4 : 8;

	memmove(p->bytes + at + bytes, p->bytes + at, p->len - at);
	p->len += bytes;
	if (version == 4) {
		memset(p->bytes + at, 1, 4);
		p->bytes[14] = 0x46;
	} else {
		memcpy(p->bytes + at, "\6\0\1\4\0\0\0\0", 8);
		p->bytes[20] = 60;
	}
	packet_finish(p);
}

static void check_left_alone(int version, int direction)
{
	struct segment s = segment_arriving(version, direction);
	struct flow_entry *entry = fresh(&tc, version, FLOW_PHASE_SPLICED);
	struct packet p;

	rig_set_keys(&tc, version, TEST_GENERATION - 1);
	expect_verdict(&tc, "a stale key", &s, direction, TC_PASS, COUNT_STALE_KEYS);
	rig_set_keys(&tc, version, TEST_GENERATION);
	s.ttl = 1;
	expect_verdict(&tc, "TTL 1", &s, direction, TC_DROP, COUNT_DROP_TTL_EXPIRED);
	s.ttl = 0;
	expect_verdict(&tc, "TTL 0", &s, direction, TC_DROP, COUNT_DROP_TTL_EXPIRED);
	s.ttl = 64;
	segment_build(&p, &s);
	insert_ip_options(&p, version);
	expect_untouched(&tc, "IP options", &p, TC_DROP, COUNT_DROP_IP_OPTIONS);
	if (version == 4) {
		for (int later = 0; later < 2; later++) {
			segment_build(&p, &s);
			p.bytes[20] = later ? 0 : 0x20;
			p.bytes[21] = later ? 3 : 0;
			packet_set_checksums(&p);
			expect_untouched(&tc, "a fragment", &p, TC_PASS, COUNT_END);
		}
	}
	s.src.port ^= be16(1);
	expect_verdict(&tc, "another port", &s, direction, TC_PASS, COUNT_END);
	assert_int_equal(entry->half[direction].packets, 0);
}

/* ::ffff:a.b.c.d in an IPv6 packet is no IPv4 packet. */
static void test_mapped_addresses(void **state)
{
	(void)state;
	for (int direction = UP; direction <= DOWN; direction++) {
		struct segment s = segment_arriving(4, direction);
		struct packet p;

		fresh(&tc, 4, FLOW_PHASE_SPLICED);
		fresh(&xdp, 4, FLOW_PHASE_SPLICED);
		s.version = 6;
		segment_build(&p, &s);
		expect_untouched(&tc, "mapped, tc", &p, TC_PASS, COUNT_END);
		expect_untouched(&xdp, "mapped, XDP", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
}

static void test_left_alone(void **state)
{
	struct segment s = segment_arriving(4, UP);
	struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION - 1};
	struct segment down = segment_arriving(4, DOWN);
	uint32_t zero = 0;

	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		check_left_alone(version, UP);
		check_left_alone(version, DOWN);
	}
	fresh(&tc, 4, FLOW_PHASE_SPLICED);
	bpf_map_update_elem(rig_map(&tc, "cfg"), &zero, &cfg, BPF_ANY);
	expect_verdict(&tc, "no daemon", &s, UP, TC_PASS, COUNT_END);
	fresh(&tc, 4, FLOW_PHASE_SPLICED);
	rig_entry(&tc, 4)->upstream_ifindex = TEST_IFINDEX + 1;
	expect_verdict(&tc, "upstream on another interface", &down, DOWN, TC_PASS, COUNT_END);
}

/* --- what XDP leaves to tc -------------------------------------------------------------- */

static void set_partial_checksum(struct packet *p)
{
	bool v4 = p->bytes[14] >> 4 == 4;
	size_t l4 = v4 ? 34 : 54, at = v4 ? 26 : 22;
	uint32_t sum = (uint32_t)(p->len - l4) + 6;

	for (; at < l4; at += 2)
		sum += (uint32_t)p->bytes[at] << 8 | p->bytes[at + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	p->bytes[l4 + 16] = (uint8_t)(sum >> 8);
	p->bytes[l4 + 17] = (uint8_t)sum;
}

static void check_to_tc(int version, int direction)
{
	struct segment s = segment_arriving(version, direction);
	struct flow_entry *entry = fresh(&xdp, version, FLOW_PHASE_SPLICED);
	struct flow_half *half = &entry->half[direction];
	uint32_t ifindex = half->ifindex;
	struct packet p, other;

	build(&p, &s, entry, direction);
	half->mac_valid = 0;
	expect_untouched(&xdp, "MAC not known", &p, XDP_PASS, COUNT_PASS_TO_TC);
	half->mac_valid = 1;
	half->has_vlan = 1;
	expect_untouched(&xdp, "leaves with a VLAN tag", &p, XDP_PASS, COUNT_PASS_TO_TC);
	half->has_vlan = 0;
	half->ifindex = ifindex + 1000;
	expect_untouched(&xdp, "device takes no frames", &p, XDP_PASS, COUNT_PASS_TO_TC);
	half->ifindex = ifindex;
	entry->phase = FLOW_PHASE_OPENING;
	expect_untouched(&xdp, "opening", &p, XDP_PASS, COUNT_PASS_TO_TC);
	entry->phase = FLOW_PHASE_SPLICED;
	other = p;
	insert_ip_options(&other, version);
	expect_untouched(&xdp, "IP options", &other, XDP_PASS, COUNT_PASS_TO_TC);
	other = p;
	memmove(other.bytes + 16, other.bytes + 12, other.len - 12);
	memcpy(other.bytes + 12, "\x81\0\0\5", 4);
	other.len += 4;
	rig_run(&xdp, "socksplice_xdp", &other, NULL, &run);
	assert_int_equal(run.verdict, XDP_PASS);
	ASSERT_COUNTED("VLAN", &run, COUNT_PASS_TO_TC);
	assert_memory_equal(run.out.bytes, other.bytes, other.len);
	other = p;
	other.bytes[version == 4 ? 22 : 21] = 1;
	packet_set_checksums(&other);
	expect_untouched(&xdp, "TTL 1", &other, XDP_PASS, COUNT_PASS_TO_TC);
	assert_int_equal(half->packets, 0);
}

static void check_partial_checksum(int version, int direction)
{
	static const uint16_t payloads[] = {0, 1, 1000};

	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		struct segment s = segment_arriving(version, direction);
		struct flow_entry *entry = fresh(&xdp, version, FLOW_PHASE_SPLICED);
		struct packet p;

		s.payload_bytes = payloads[i];
		build(&p, &s, entry, direction);
		rig_set_port(&xdp, CFG_PORT_LAN | CFG_PORT_VIRTUAL);
		rig_run(&xdp, "socksplice_xdp", &p, NULL, &run);
		assert_int_equal(run.verdict, XDP_REDIRECT);
		set_partial_checksum(&p);
		expect_untouched(&xdp, "partial checksum", &p, XDP_PASS, COUNT_PASS_TO_TC);
		rig_set_port(&xdp, CFG_PORT_LAN);
		rig_run(&xdp, "socksplice_xdp", &p, NULL, &run);
		assert_int_equal(run.verdict, XDP_REDIRECT);
	}
}

/* The host behind a side sends from another address: packets to it are for tc until the daemon knows better. */
static void check_mac_change(int version, int direction)
{
	struct segment s = segment_arriving(version, direction), back = segment_arriving(version, direction ^ 1);
	struct flow_entry *entry = fresh(&xdp, version, FLOW_PHASE_SPLICED);

	for (size_t i = 6; i < 12; i++) {
		struct packet p;

		entry->half[direction ^ 1].mac_valid = 1;
		build(&p, &s, entry, direction);
		p.bytes[i] ^= 0x10;
		rig_run(&xdp, "socksplice_xdp", &p, NULL, &run);
		assert_int_equal(run.verdict, XDP_REDIRECT);
		ASSERT_COUNTED("MAC change", &run, COUNT_SPLICED_XDP, COUNT_MAC_CHANGES);
		assert_int_equal(entry->half[direction ^ 1].mac_valid, 0);
		assert_int_equal(entry->half[direction].mac_valid, 1);
		rig_run(&xdp, "socksplice_xdp", &p, NULL, &run);
		ASSERT_COUNTED("counted once", &run, COUNT_SPLICED_XDP);
		expect_verdict(&xdp, "after a MAC change", &back, direction ^ 1, XDP_PASS, COUNT_PASS_TO_TC);
	}
}

static void test_xdp_leaves_to_tc(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		for (int direction = UP; direction <= DOWN; direction++) {
			check_to_tc(version, direction);
			check_partial_checksum(version, direction);
			check_mac_change(version, direction);
		}
	}
}

/* --- random segments: the model, tc and XDP ---------------------------------------------- */

static uint32_t next_random(void)
{
	static uint64_t seed = 20240607;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

static void model_add(uint8_t *at, uint32_t add)
{
	uint32_t value = ((uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]) + add;

	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void model_options(struct segment *s, const struct flow_half *half)
{
	int timestamps = -1, sack = -1;

	for (int i = 0, len; i < s->option_bytes && s->options[i]; i += len) {
		len = 1;
		if (s->options[i] == 1)
			continue;
		if (i + 1 == s->option_bytes || s->options[i + 1] < 2 || i + s->options[i + 1] > s->option_bytes)
			break;
		len = s->options[i + 1];
		if (s->options[i] == 8 && len == 10)
			timestamps = i;
		if (s->options[i] == 5 && len >= 10 && len % 8 == 2)
			sack = i;
	}
	if (timestamps >= 0) {
		model_add(s->options + timestamps + 2, half->tsval_add);
		if (s->flags & ACK)
			model_add(s->options + timestamps + 6, half->tsecr_add);
	}
	for (int edge = 2; sack >= 0 && edge < s->options[sack + 1]; edge += 4)
		model_add(s->options + sack + edge, half->ack_add);
}

static struct segment model(const struct segment *in, const struct flow_half *half, int direction)
{
	struct segment out = segment_leaving(in->version, direction);
	uint32_t window = in->window;

	out.flags = in->flags;
	out.ttl = (uint8_t)(in->ttl - 1);
	out.payload_bytes = in->payload_bytes;
	out.seq = in->seq + half->seq_add;
	out.ack = in->ack + (in->flags & ACK ? half->ack_add : 0);
	if (!(in->flags & SYN))
		window = half->window_shift > 0 ? window << half->window_shift : window >> -half->window_shift;
	out.window = (uint16_t)MIN(window, 0xffffu);
	segment_options(&out, in->options, in->option_bytes);
	model_options(&out, half);
	return out;
}

/* Usual, odd, or no options at all. */
static void random_options(struct segment *s)
{
	static const char *const parts[] = {"\1",       "\1\1", TS,  "\5\x0a" BLOCK, "\5\x12" BLOCK BLOCK,
					    "\xfd\3\1", "\4\2", "\0"};
	static const uint8_t sizes[] = {1, 2, 10, 10, 18, 3, 2, 1};
	uint8_t len = 0;

	if (next_random() % 4 == 0) {
		segment_options(s, "\1\1" TS, 12);
		return;
	}
	memset(s->options, 1, sizeof(s->options));
	s->option_bytes = (uint8_t)(next_random() % 11 * 4);
	for (size_t part; part = next_random() % ARRAY_SIZE(sizes), len + sizes[part] <= s->option_bytes;
	     len = (uint8_t)(len + sizes[part]))
		memcpy(s->options + len, parts[part], sizes[part]);
	/* some numbers, some kinds and lengths that lie */
	for (uint32_t i = next_random() % 4; i > 0 && s->option_bytes; i--)
		s->options[next_random() % s->option_bytes] = (uint8_t)next_random();
}

static void random_half(struct flow_half *half)
{
	half->seq_add = next_random() % 4 ? next_random() : 0;
	half->ack_add = next_random() % 4 ? next_random() : 0;
	half->tsval_add = next_random() % 4 ? next_random() : 0;
	half->tsecr_add = next_random() % 4 ? next_random() : 0;
	half->window_shift = (int8_t)(next_random() % 4 ? (int)(next_random() % 29) - 14 : 0);
	half->next_seq = next_random();
	half->fin_end = next_random();
	half->ack = next_random();
	half->window = (uint16_t)next_random();
	half->seen = next_random() & (FLOW_SEEN_FIN | FLOW_SEEN_FIN_ACKED);
	half->ifindex = test_veth();
}

static struct segment random_segment(int version, int direction)
{
	struct segment s = segment_arriving(version, direction);

	s.seq = next_random();
	s.ack = next_random();
	s.window = (uint16_t)next_random();
	s.ttl = (uint8_t)(2 + next_random() % 254);
	s.flags = (uint8_t)(next_random() % 2 ? ACK : next_random());
	if ((s.flags & (SYN | ACK)) == SYN)
		s.flags = RST;
	s.payload_bytes = (uint16_t)(next_random() % 3 ? next_random() % 120 : 0);
	random_options(&s);
	return s;
}

/* What depends on the clock and on the hook. */
static void blank_times(struct flow_entry *entry)
{
	entry->reset_ns = !!entry->reset_ns;
	for (int i = 0; i < 2; i++) {
		struct flow_half *half = &entry->half[i];

		half->mac_valid = 0;
		half->rtt_us = 0;
		half->probe_ns = half->last_ns = 0;
		half->probe_after_ms = half->probe_tsval = 0;
	}
}

static void check_random(unsigned n)
{
	int version = next_random() % 2 ? 4 : 6, direction = (int)(next_random() % 2);
	struct flow_entry *by_tc = rig_entry(&tc, version), *by_xdp = rig_entry(&xdp, version), a, b;
	struct segment in = random_segment(version, direction), out;
	struct packet from_tc;
	uint64_t slow;
	char what[32];

	snprintf(what, sizeof(what), "random segment %u", n);
	random_half(&by_tc->half[UP]);
	random_half(&by_tc->half[DOWN]);
	by_tc->reported = 0;
	by_tc->offered.wscale = next_random() % 15;
	by_tc->agreed.wscale = next_random() % 15;
	by_tc->agreed.flags = next_random() % 8;
	*by_xdp = *by_tc;
	by_xdp->half[UP].mac_valid = by_xdp->half[DOWN].mac_valid = 1;
	out = model(&in, &by_tc->half[direction], direction);
	expect_spliced(&tc, what, &in, &out, direction);
	from_tc = run.out;
	slow = run.moved[COUNT_SLOW_OPTIONS];
	assert_true(packet_checksums_good(&from_tc));
	expect_spliced(&xdp, what, &in, &out, direction);
	assert_int_equal(run.moved[COUNT_SLOW_OPTIONS], slow);
	assert_int_equal(run.out.len, from_tc.len);
	assert_memory_equal(run.out.bytes + 12, from_tc.bytes + 12, from_tc.len - 12);
	a = *by_tc;
	b = *by_xdp;
	blank_times(&a);
	blank_times(&b);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(tc.report_count, xdp.report_count);
}

static void test_random(void **state)
{
	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		fresh(&tc, version, FLOW_PHASE_SPLICED);
		fresh(&xdp, version, FLOW_PHASE_SPLICED);
	}
	for (unsigned n = 0; n < 10000; n++)
		check_random(n);
}

/* --- all of them --------------------------------------------------------------------------- */

static int setup(void **state)
{
	uint32_t ifindex;

	(void)state;
	test_namespace();
	tc_skeleton = socksplice_tc__open();
	xdp_skeleton = socksplice_xdp__open();
	if (!tc_skeleton || !xdp_skeleton || rig_load(&tc, tc_skeleton->obj) || rig_load(&xdp, xdp_skeleton->obj))
		return -1;
	ifindex = test_veth();
	return bpf_map_update_elem(rig_map(&xdp, "devices"), &ifindex, &ifindex, BPF_ANY);
}

static int teardown(void **state)
{
	(void)state;
	rig_unload(&tc);
	rig_unload(&xdp);
	socksplice_tc__destroy(tc_skeleton);
	socksplice_xdp__destroy(xdp_skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_gso),
		cmocka_unit_test(test_complete_checksum),
		cmocka_unit_test(test_opening),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_mapped_addresses),
		cmocka_unit_test(test_xdp_leaves_to_tc),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("splice", tests, setup, teardown);
}
