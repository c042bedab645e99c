/* SPDX-License-Identifier: MIT */
/*
 * The stack from its two ends: packets in and out, calls of the owner. Only
 * what is not an exchange over time; those stand in tests/replay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "csum.h"
#include "parse.h"
#include "stack.h"

#define FRAMES 2048
#define FRAME_SIZE 2048
#define FLOWS 16
#define SECOND 1000000000ull
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define PACKETS 64

/* Ether/IP 192.0.2.80 > 10.0.0.5/ICMP host unreachable/the SYN, built by scapy */
static const char host_unreachable[] =
	"0200000000010200000000090800450000440000400040016e64c00002500a0000050301c96e00000000450000280000"
	"400040066e7b0a000005c00002509c400050000003e8000000005002faf048240000";
/* Ether/IPv6 2001:db8::80 > fd00::5/ICMPv6 address unreachable/the SYN, built by scapy */
static const char host_unreachable6[] =
	"02000000000102000000000986dd6000000000443a4020010db8000000000000000000000080fd000000000000000000"
	"00000000000501036d05000000006000000000140640fd00000000000000000000000000000520010db8000000000000"
	"0000000000809c400050000003e8000000005002faf0e93a0000";

static struct {
	struct frame_pool pool;
	struct stack *stack;
	uint64_t now;
	bool ring_full;
	uint8_t packets[PACKETS][FRAME_SIZE];
	uint16_t lengths[PACKETS];
	uint32_t sent, opened, established, readable, closed, syn_again;
	struct flow *flow; /* the last one that was opened */
	enum flow_end why;
	enum flow_refusal refuse_in_callback;
	bool hand_over_on_syn_again;
} t;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	(void)ctx;
	(void)port;
	assert_int_equal(segment_bytes, 0);
	if (t.ring_full)
		return -EAGAIN;
	assert_in_range(t.sent, 0, PACKETS - 1);
	memcpy(t.packets[t.sent], frame_data(&t.pool, frame) + off, len);
	t.lengths[t.sent++] = len;
	frame_tx_start(&t.pool, frame);
	frame_tx_done(&t.pool, frame);
	return 0;
}

static void on_opened(void *ctx, struct flow *flow)
{
	(void)ctx;
	t.flow = flow;
	t.opened++;
	if (t.refuse_in_callback)
		stack_refuse(t.stack, flow, t.refuse_in_callback, t.now);
}

static void on_established(void *ctx, struct flow *flow)
{
	(void)ctx;
	(void)flow;
	t.established++;
}

static void on_readable(void *ctx, struct flow *flow)
{
	(void)ctx;
	(void)flow;
	t.readable++;
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	(void)ctx;
	(void)flow;
	t.closed++;
	t.why = why;
}

static void on_syn_again(void *ctx, struct flow *flow)
{
	(void)ctx;
	assert_ptr_equal(flow, t.flow);
	t.syn_again++;
	if (t.hand_over_on_syn_again)
		stack_hand_over(t.stack, flow);
}

static int setup(void **state)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_established,
		.flow_readable = on_readable,
		.flow_writable = on_readable,
		.flow_closed = on_closed,
		.flow_syn_again = on_syn_again,
	};
	static const struct stack_settings settings = {
		.max_flows = FLOWS,
		.half_open = 8,
		.half_open_per_source = 4,
		.handshake_timeout_ns = 10 * SECOND,
		.idle_timeout_ns = 3600 * SECOND,
		.time_wait_ns = 60 * SECOND,
		.receive_window_max_bytes = 1 << 20,
		.send_queue_max_bytes = 1 << 20,
		.secret = "not so secret",
	};
	struct stack_port port = {.mtu = 1500};

	(void)state;
	memset(&t, 0, sizeof(t));
	t.now = 1000 * SECOND;
	frame_pool_init(&t.pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	t.stack = stack_create(&settings, &t.pool, &callbacks, t.now);
	stack_set_port(t.stack, 0, &port);
	port.partial_checksum_ok = true;
	stack_set_port(t.stack, 1, &port);
	return t.stack ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	stack_check(t.stack);
	stack_destroy(t.stack);
	free(t.pool.area);
	free(t.pool.frames);
	return 0;
}

/* 10.0.0.`host`:`port` > 192.0.2.80:80 */
static struct build_link client_link(uint8_t host, uint16_t port)
{
	return (struct build_link){
		.src_mac = {2, 0, 0, 0, 0, 1},
		.dst_mac = {2, 0, 0, 0, 0, 9},
		.src = {.addr = addr_from_ipv4(be32(0x0a000000 + host)), .port = be16(port)},
		.dst = {.addr = addr_from_ipv4(be32(0xc0000250)), .port = be16(80)},
	};
}

/* `change` is applied to the finished packet: byte `at` (from the IP header on) is xor-ed with it. */
static void input_changed(const struct build_link *link, const struct build_segment *segment, uint16_t payload_bytes,
			  uint16_t at, uint8_t change)
{
	uint32_t frame = frame_get(&t.pool, FRAME_RX);
	uint8_t *payload = frame_data(&t.pool, frame) + 2 * FRAME_PAYLOAD_OFFSET, *start;

	memset(payload, 'x', payload_bytes);
	start = build_tcp(payload, payload_bytes, link, segment);
	start[14 + at] ^= change;
	stack_input(t.stack, 0, frame, (uint16_t)(start - frame_data(&t.pool, frame)),
		    (uint16_t)(payload + payload_bytes - start), t.now);
}

static void input(const struct build_link *link, uint32_t seq, uint32_t ack, uint8_t flags, uint16_t payload_bytes)
{
	struct build_segment segment = {.seq = seq, .ack = ack, .flags = flags, .window = 64240};

	input_changed(link, &segment, payload_bytes, 0, 0);
}

static struct packet_view sent_packet(uint32_t index)
{
	struct packet_view view;

	assert_in_range(index, 0, t.sent - 1);
	assert_int_equal(packet_parse(t.packets[index], t.packets[index] + t.lengths[index], &view), DROP_NONE);
	return view;
}

static void assert_sent(uint32_t index, const char *hex)
{
	assert_int_equal(t.lengths[index], strlen(hex) / 2);
	for (uint16_t i = 0; i < t.lengths[index]; i++) {
		char text[3];

		snprintf(text, sizeof(text), "%02x", t.packets[index][i]);
		assert_memory_equal(text, hex + 2 * i, 2);
	}
}

/* A connection up to ESTABLISHED; returns our next sequence number. */
static uint32_t establish(const struct build_link *link)
{
	uint32_t iss;

	input(link, 1000, 0, SYN, 0);
	stack_accept(t.stack, t.flow, t.now);
	iss = sent_packet(t.sent - 1).seq;
	input(link, 1001, iss + 1, ACK, 0);
	assert_int_equal(t.established, 1);
	return iss + 1;
}

/* --- the answer to a SYN waits for the owner --- */

static void test_deferred_accept(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	input(&link, 1000, 0, SYN, 0);
	stack_flush(t.stack, t.now);
	assert_int_equal(t.opened, 1);
	assert_int_equal(t.sent, 0);
	stack_accept(t.stack, t.flow, t.now);
	assert_int_equal(t.sent, 1);
	assert_int_equal(sent_packet(0).tcp_flags, SYN | ACK);
	assert_int_equal(sent_packet(0).ack, 1001);
}

static void test_syn_again(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	input(&link, 1000, 0, SYN, 0);
	input(&link, 1000, 0, SYN, 0);
	assert_int_equal(t.opened, 1);
	assert_int_equal(stack_counters(t.stack)->syn_retransmitted_by_client, 1);
	assert_int_equal(t.syn_again, 1);
	/* with another sequence number it is another connection */
	input(&link, 2000, 0, SYN, 0);
	assert_int_equal(t.opened, 2);
	assert_int_equal(t.closed, 1);
	assert_int_equal(t.why, FLOW_END_CLIENT_RESET);
	stack_accept(t.stack, t.flow, t.now);
	input(&link, 2000, 0, SYN, 0);
	assert_int_equal(t.opened, 2);
	assert_int_equal(t.syn_again, 1); /* it has been answered: not the owner's business */
	assert_int_equal(t.sent, 2);
	assert_int_equal(sent_packet(1).seq, sent_packet(0).seq);
}

static void test_reset_of_waiting_client(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	input(&link, 1000, 0, SYN, 0);
	input(&link, 1001, 0, RST, 0);
	assert_int_equal(t.closed, 1);
	assert_int_equal(t.why, FLOW_END_CLIENT_RESET);
	assert_int_equal(t.sent, 0);
}

/* --- refusals --- */

static void test_refuse_reset(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	input(&link, 1000, 0, SYN, 0);
	stack_refuse(t.stack, t.flow, REFUSE_RESET, t.now);
	assert_int_equal(sent_packet(0).tcp_flags, RST | ACK);
	assert_int_equal(sent_packet(0).seq, 0);
	assert_int_equal(sent_packet(0).ack, 1001);
	assert_int_equal(t.closed, 0);
}

static void test_refuse_icmp(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	t.refuse_in_callback = REFUSE_HOST_UNREACHABLE;
	input(&link, 1000, 0, SYN, 0);
	assert_sent(0, host_unreachable);
	link.src.addr = (struct addr){.bytes = {0xfd, [15] = 5}};
	link.dst.addr = (struct addr){.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x80}};
	input(&link, 1000, 0, SYN, 0);
	assert_sent(1, host_unreachable6);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
}

/* --- somebody else answers --- */

static void test_syn_as_given(void **state)
{
	const struct build_segment plain = {.seq = 5, .flags = SYN, .window = 100};
	struct build_segment syn = {.seq = 0x12345678, .flags = SYN | 0xc0, .window = 64240, .option_bytes = 20};
	struct build_link link = client_link(5, 40000);
	struct stack_syn out;

	(void)state;
	/* MSS 9000 (more than our MTU takes), SACK-permitted, timestamp, window scale 15 */
	memcpy(syn.options, "\x02\x04\x23\x28\x04\x02\x08\x0a\xde\xad\xbe\xef\0\0\0\0\x01\x03\x03\x0f", 20);
	input_changed(&link, &syn, 0, 0, 0);
	stack_flow_syn(t.stack, t.flow, &out);
	assert_int_equal(out.isn, 0x12345678);
	assert_int_equal(out.ts_value, 0xdeadbeef);
	assert_int_equal(out.mss, 9000);
	assert_int_equal(out.window, 64240);
	assert_int_equal(out.wscale, 14);
	assert_true(out.has_wscale && out.has_timestamp && out.sack_permitted && out.ecn);
	assert_false(out.has_ip_options);
	assert_memory_equal(&out.link.dst, &link.src, sizeof(link.src));
	assert_memory_equal(&out.link.src, &link.dst, sizeof(link.dst));
	assert_memory_equal(out.link.dst_mac, link.src_mac, 6);
	link = client_link(6, 40000);
	input_changed(&link, &plain, 0, 0, 0);
	stack_flow_syn(t.stack, t.flow, &out);
	assert_int_equal(out.isn, 5);
	assert_int_equal(out.mss, 0);
	assert_int_equal(out.window, 100);
	assert_false(out.has_wscale || out.has_timestamp || out.sack_permitted || out.ecn);
}

/* Four NOPs behind the IPv4 header. */
static void test_syn_with_ip_options(void **state)
{
	const struct build_segment syn = {.seq = 5, .flags = SYN, .window = 100};
	struct build_link link = client_link(5, 40000);
	uint32_t frame = frame_get(&t.pool, FRAME_RX);
	uint8_t *end = frame_data(&t.pool, frame) + 2 * FRAME_PAYLOAD_OFFSET;
	uint8_t *start = build_tcp(end, 0, &link, &syn) - 4;
	struct stack_syn out;
	uint16_t sum;

	(void)state;
	memmove(start, start + 4, 34);
	memset(start + 34, 1, 4);
	start[14] = 0x46;
	start[17] += 4;
	memset(start + 24, 0, 2);
	sum = csum_fold(csum_partial(start + 14, 24, 0));
	memcpy(start + 24, &sum, 2);
	stack_input(t.stack, 0, frame, (uint16_t)(start - frame_data(&t.pool, frame)), (uint16_t)(end - start), t.now);
	assert_int_equal(t.opened, 1);
	stack_flow_syn(t.stack, t.flow, &out);
	assert_true(out.has_ip_options);
}

static void test_hand_over(void **state)
{
	struct build_link link = client_link(5, 40000);
	struct stack_gauges gauges;

	(void)state;
	input(&link, 1000, 0, SYN, 0);
	stack_hand_over(t.stack, t.flow);
	stack_gauges(t.stack, &gauges);
	assert_int_equal(gauges.flows, 0);
	assert_int_equal(gauges.half_open, 0);
	assert_int_equal(stack_counters(t.stack)->flows_handed_over, 1);
	/* within the call-back, too */
	t.hand_over_on_syn_again = true;
	input(&link, 1000, 0, SYN, 0);
	input(&link, 1000, 0, SYN, 0);
	assert_int_equal(t.syn_again, 1);
	assert_int_equal(stack_counters(t.stack)->flows_handed_over, 2);
	assert_int_equal(t.opened, 2);
	assert_int_equal(t.closed, 0);
	assert_int_equal(t.sent, 0);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
}

static void test_transmit_segment(void **state)
{
	const struct build_segment segment = {.seq = 7, .ack = 9, .flags = SYN | ACK, .window = 1234};
	struct build_link link = client_link(5, 40000);

	(void)state;
	assert_true(stack_transmit_segment(t.stack, 0, &link, &segment, "hello", 5));
	assert_int_equal(sent_packet(0).seq, 7);
	assert_int_equal(sent_packet(0).ack, 9);
	assert_int_equal(sent_packet(0).payload_len, 5);
	assert_memory_equal(t.packets[0] + sent_packet(0).payload_off, "hello", 5);
	assert_int_equal(stack_counters(t.stack)->packets_out, 1);
	assert_true(stack_transmit_segment(t.stack, 0, &link, &segment, NULL, 0));
	t.ring_full = true;
	assert_false(stack_transmit_segment(t.stack, 0, &link, &segment, "hello", 5));
	t.ring_full = false;
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
	while (frame_pool_free(&t.pool))
		frame_get(&t.pool, FRAME_RECV);
	assert_false(stack_transmit_segment(t.stack, 0, &link, &segment, "hello", 5));
	assert_int_equal(stack_counters(t.stack)->no_frame, 1);
}

/* --- limits --- */

static void test_half_open_per_source(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < 5; i++) {
		struct build_link link = client_link(5, (uint16_t)(40000 + i));

		input(&link, 1000, 0, SYN, 0);
	}
	assert_int_equal(t.closed, 1);
	assert_int_equal(t.why, FLOW_END_EVICTED);
	assert_int_equal(stack_counters(t.stack)->flows_evicted_per_source, 1);
	assert_int_equal(t.sent, 0);
}

static void test_half_open_total(void **state)
{
	struct stack_gauges gauges;

	(void)state;
	for (uint8_t i = 0; i < 10; i++) {
		struct build_link link = client_link((uint8_t)(1 + i), 40000);

		input(&link, 1000, 0, SYN, 0);
	}
	stack_gauges(t.stack, &gauges);
	assert_int_equal(gauges.half_open, 8);
	assert_int_equal(stack_counters(t.stack)->flows_evicted_total, 2);
}

static void test_table_full(void **state)
{
	struct build_link link;

	(void)state;
	for (uint8_t i = 0; i < FLOWS; i++) {
		t.established = 0;
		link = client_link((uint8_t)(1 + i), 40000);
		establish(&link);
	}
	link = client_link(100, 40000);
	input(&link, 1000, 0, SYN, 0);
	assert_int_equal(stack_counters(t.stack)->syn_table_full, 1);
	assert_int_equal(t.opened, FLOWS);
	assert_int_equal(t.closed, 0);
}

/* --- packets that are not taken --- */

static uint64_t dropped(enum drop_reason reason)
{
	return stack_counters(t.stack)->dropped[reason];
}

static void test_bad_checksums(void **state)
{
	struct build_segment syn = {.seq = 1000, .flags = SYN, .window = 64240};
	struct build_link link = client_link(5, 40000);

	(void)state;
	input_changed(&link, &syn, 0, 8, 1); /* TTL */
	assert_int_equal(dropped(DROP_IP_CHECKSUM), 1);
	input_changed(&link, &syn, 0, 20 + 7, 1); /* sequence number */
	assert_int_equal(dropped(DROP_TCP_CHECKSUM), 1);
	input_changed(&link, &syn, 100, 20 + 20 + 50, 1);
	assert_int_equal(dropped(DROP_TCP_CHECKSUM), 2);
	assert_int_equal(t.opened, 0);
	input_changed(&link, &syn, 0, 0, 0);
	assert_int_equal(t.opened, 1);
}

/* A field with only the pseudo-header's sum is good on a virtual port, and nowhere else. */
static void test_partial_checksum(void **state)
{
	const struct build_segment syn = {.seq = 1000, .flags = SYN, .window = 64240};
	struct build_link link = client_link(5, 40000);

	(void)state;
	for (uint16_t port = 0; port < 2; port++) {
		uint32_t frame = frame_get(&t.pool, FRAME_RX);
		uint8_t *end = frame_data(&t.pool, frame) + 2 * FRAME_PAYLOAD_OFFSET;
		uint8_t *start = build_tcp(end, 0, &link, &syn);
		uint16_t sum = csum_fold_sum(csum_pseudo(&link.src.addr, &link.dst.addr, IPPROTO_TCP, 20));

		memcpy(end - 4, &sum, sizeof(sum));
		stack_input(t.stack, port, frame, (uint16_t)(start - frame_data(&t.pool, frame)),
			    (uint16_t)(end - start), t.now);
		assert_int_equal(t.opened, port);
	}
	assert_int_equal(dropped(DROP_TCP_CHECKSUM), 1);
}

static void test_bad_addresses(void **state)
{
	static const uint32_t bad[] = {0, 0x7f000001, 0xe0000001, 0xffffffff};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct build_link link = client_link(5, 40000);

		link.src.addr = addr_from_ipv4(be32(bad[i]));
		input(&link, 1000, 0, SYN, 0);
	}
	assert_int_equal(dropped(DROP_BAD_ADDRESS), ARRAY_SIZE(bad));
	assert_int_equal(t.opened, 0);
	assert_int_equal(t.sent, 0);
}

/* RFC 9293 3.10.7.1: what belongs to no connection is reset, except a reset. */
static void test_no_flow(void **state)
{
	struct build_link link = client_link(5, 40000);

	(void)state;
	input(&link, 1000, 5555, ACK, 0);
	assert_int_equal(sent_packet(0).tcp_flags, RST);
	assert_int_equal(sent_packet(0).seq, 5555);
	input(&link, 1000, 0, 0, 10);
	assert_int_equal(sent_packet(1).tcp_flags, RST | ACK);
	assert_int_equal(sent_packet(1).ack, 1010);
	input(&link, 1000, 0, RST, 0);
	assert_int_equal(t.sent, 2);
}

/* --- payload --- */

static void test_receive_queue(void **state)
{
	struct build_link link = client_link(5, 40000);
	uint32_t ack = establish(&link), sent;
	struct iovec iov[8];

	(void)state;
	input(&link, 2001, ack, ACK, 1000); /* too early */
	assert_int_equal(stack_readable_bytes(t.flow), 0);
	input(&link, 1001, ack, ACK, 1000);
	assert_int_equal(stack_readable_bytes(t.flow), 2000);
	assert_int_equal(stack_peek(t.stack, t.flow, 1500, iov, UINT32_MAX, 8), 1);
	assert_int_equal(iov[0].iov_len, 500);
	stack_check(t.stack);
	stack_consume(t.stack, t.flow, 2000, t.now);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
	/* many tiny segments do not take a frame each */
	for (uint32_t i = 0; i < 200; i++) {
		sent = t.sent;
		input(&link, 3001 + i, ack, ACK, 1);
		stack_flush(t.stack, t.now);
		t.sent = sent;
	}
	assert_int_equal(stack_readable_bytes(t.flow), 200);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES - 1);
}

/* A ring that is full holds data back; stack_flush() sends it later, and nothing twice. */
static void test_ring_full(void **state)
{
	struct build_link link = client_link(5, 40000);
	uint32_t sent, frame;

	(void)state;
	establish(&link);
	sent = t.sent;
	t.ring_full = true;
	frame = frame_get(&t.pool, FRAME_FLOW);
	stack_send(t.stack, t.flow, frame, FRAME_PAYLOAD_OFFSET, 100, t.now);
	stack_flush(t.stack, t.now);
	assert_int_equal(t.sent, sent);
	t.ring_full = false;
	stack_flush(t.stack, t.now);
	stack_flush(t.stack, t.now);
	assert_int_equal(t.sent, sent + 1);
	assert_int_equal(sent_packet(sent).payload_len, 100);
}

/* More than a segment in one frame is cut; the bytes stay the same. */
static void test_cut(void **state)
{
	struct build_link link = client_link(5, 40000);
	uint32_t sent, frame, seen = 0;
	uint8_t *data;

	(void)state;
	establish(&link);
	sent = t.sent;
	frame = frame_get(&t.pool, FRAME_FLOW);
	data = frame_data(&t.pool, frame) + FRAME_PAYLOAD_OFFSET;
	for (int i = 0; i < 1500; i++)
		data[i] = (uint8_t)(i * 7);
	stack_send(t.stack, t.flow, frame, FRAME_PAYLOAD_OFFSET, 1500, t.now);
	stack_flush(t.stack, t.now);
	for (; sent < t.sent; sent++) {
		struct packet_view view = sent_packet(sent);

		/* the client offered no MSS: 536 */
		assert_in_range(view.payload_len, 1, 536);
		for (uint16_t i = 0; i < view.payload_len; i++)
			assert_int_equal(t.packets[sent][view.payload_off + i], (uint8_t)((seen + i) * 7));
		seen += view.payload_len;
	}
	assert_int_equal(seen, 1500);
	stack_abort(t.stack, t.flow, t.now);
	assert_int_equal(t.why, FLOW_END_ABORTED);
	assert_int_equal(sent_packet(t.sent - 1).tcp_flags & RST, RST);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_deferred_accept),  TEST(test_syn_again),           TEST(test_reset_of_waiting_client),
		TEST(test_refuse_reset),     TEST(test_refuse_icmp),         TEST(test_half_open_per_source),
		TEST(test_half_open_total),  TEST(test_table_full),          TEST(test_bad_checksums),
		TEST(test_partial_checksum), TEST(test_bad_addresses),       TEST(test_no_flow),
		TEST(test_receive_queue),    TEST(test_ring_full),           TEST(test_cut),
		TEST(test_syn_as_given),     TEST(test_syn_with_ip_options), TEST(test_hand_over),
		TEST(test_transmit_segment),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
