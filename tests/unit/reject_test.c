/* SPDX-License-Identifier: MIT */
/* What the stack does with packets of no flow when a rule says proxy, reject, or nothing; and limits that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "csum.h"
#include "parse.h"
#include "stack.h"

#define FRAMES 64
#define FRAME_SIZE 2048
#define SECOND 1000000000ull
#define PACKETS 4096
#define ICMP 1
#define TCP 6
#define UDP 17
#define ICMPV6 58
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

static struct {
	struct frame_pool pool;
	struct stack *stack;
	uint64_t now;
	uint8_t packet[FRAME_SIZE];
	uint16_t length;
	uint32_t sent, opened, released, judged;
	enum stack_judgement judgement;
	struct packet_view view;
	bool has_port;
} t;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	(void)ctx;
	(void)port;
	(void)segment_bytes;
	memcpy(t.packet, frame_data(&t.pool, frame) + off, len);
	t.length = len;
	t.sent++;
	frame_tx_start(&t.pool, frame);
	frame_tx_done(&t.pool, frame);
	return 0;
}

static void on_flow(void *ctx, struct flow *flow)
{
	(void)ctx;
	(void)flow;
}

static void on_opened(void *ctx, struct flow *flow)
{
	on_flow(ctx, flow);
	t.opened++;
}

static void on_released(void *ctx, struct flow *flow)
{
	struct flow_info info;

	(void)ctx;
	/* it still can be described: its owner looks for it by its addresses */
	stack_flow_describe(t.stack, flow, &info);
	assert_int_equal(info.destination.port, be16(80));
	t.released++;
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	on_flow(ctx, flow);
	(void)why;
}

static enum stack_judgement on_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	(void)ctx;
	t.judged++;
	t.view = *view;
	t.has_port = has_port;
	return t.judgement;
}

static void start(bool with_judge)
{
	static struct stack_callbacks callbacks;
	const struct stack_settings settings = {
		.max_flows = 32,
		.half_open = 8,
		.half_open_per_source = 8,
		.handshake_timeout_ns = 10 * SECOND,
		.idle_timeout_ns = 3600 * SECOND,
		.time_wait_ns = 60 * SECOND,
		.receive_window_max_bytes = 1 << 20,
		.send_queue_max_bytes = 1 << 20,
	};
	const struct stack_port port = {.mtu = 1500};

	memset(&t, 0, sizeof(t));
	callbacks = (struct stack_callbacks){
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_flow,
		.flow_readable = on_flow,
		.flow_writable = on_flow,
		.flow_closed = on_closed,
		.judge = with_judge ? on_judge : NULL,
		.flow_released = on_released,
	};
	t.now = 1000 * SECOND;
	frame_pool_init(&t.pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	t.stack = stack_create(&settings, &t.pool, &callbacks, t.now);
	assert_non_null(t.stack);
	stack_set_port(t.stack, 0, &port);
}

static int setup(void **state)
{
	(void)state;
	start(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stack_check(t.stack);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
	stack_destroy(t.stack);
	free(t.pool.area);
	free(t.pool.frames);
	return 0;
}

static struct endpoint end_of(int version, bool client, uint16_t port)
{
	struct endpoint end = {.addr = addr_from_ipv4(client ? be32(0x0a000005) : be32(0xc0000250)),
			       .port = be16(port)};

	if (version == 6)
		end.addr = client ? (struct addr){{.bytes = {0xfd, [15] = 5}}}
				  : (struct addr){{.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x80}}};
	return end;
}

/* Ethernet and IP around an L4 header that begins with `head`. */
static void input(int version, uint8_t proto, const void *head, size_t head_bytes, uint16_t l4_bytes)
{
	struct endpoint src = end_of(version, true, 0), dst = end_of(version, false, 0);
	uint32_t frame = frame_get(&t.pool, FRAME_RX);
	uint8_t *l4 = frame_data(&t.pool, frame) + 2 * FRAME_PAYLOAD_OFFSET, *start;

	memset(l4, 'x', l4_bytes);
	memcpy(l4, head, head_bytes);
	start = build_ip(l4, l4_bytes, &src, &dst, proto) - 14;
	memcpy(start, "\x02\0\0\0\0\x09\x02\0\0\0\0\x01", 12);
	memcpy(start + 12, version == 4 ? "\x08\x00" : "\x86\xdd", 2);
	stack_input(t.stack, 0, frame, (uint16_t)(start - frame_data(&t.pool, frame)),
		    (uint16_t)(l4 + l4_bytes - start), t.now);
}

static void input_tcp(uint16_t from, uint8_t flags)
{
	struct build_link link = {.src = end_of(4, true, from), .dst = end_of(4, false, 80)};
	struct build_segment segment = {.seq = 1000, .ack = 7, .flags = flags, .window = 64240};
	uint32_t frame = frame_get(&t.pool, FRAME_RX);
	uint8_t *payload = frame_data(&t.pool, frame) + 2 * FRAME_PAYLOAD_OFFSET;
	uint8_t *start = build_tcp(payload, 0, &link, &segment);

	stack_input(t.stack, 0, frame, (uint16_t)(start - frame_data(&t.pool, frame)), (uint16_t)(payload - start),
		    t.now);
}

/* An ICMP error of this type from the destination to the client, with the first bytes of what was sent. */
static void expect_icmp(int version, uint8_t type, uint8_t code, uint16_t quoted)
{
	size_t ip_bytes = version == 4 ? 20 : 40;
	const uint8_t *message = t.packet + 14 + ip_bytes;
	struct endpoint client = end_of(version, true, 0), destination = end_of(version, false, 0);
	struct packet_view view, inner = {0};
	uint8_t copy[FRAME_SIZE];
	uint32_t sum = 0;

	assert_int_equal(packet_parse(t.packet, t.packet + t.length, &view), DROP_NONE);
	assert_true(addr_equal(&view.src, &destination.addr) && addr_equal(&view.dst, &client.addr));
	assert_int_equal(view.l4_proto, version == 4 ? ICMP : ICMPV6);
	assert_memory_equal(t.packet, "\x02\0\0\0\0\x01\x02\0\0\0\0\x09", 12);
	assert_int_equal(message[0], type);
	assert_int_equal(message[1], code);
	assert_int_equal(t.length, 14 + ip_bytes + 8 + quoted);
	if (version == 6)
		sum = csum_pseudo(&view.src, &view.dst, ICMPV6, (uint16_t)(8 + quoted));
	assert_int_equal(csum_fold(csum_partial(message, 8u + quoted, sum)), 0);
	/* what is quoted is an IP packet of the client's */
	memcpy(copy, t.packet, 14);
	memcpy(copy + 14, message + 8, quoted);
	if (version == 4) {
		struct cursor c = {.start = copy, .pos = copy, .end = copy + 14 + quoted, .packet_bytes = 65535};

		assert_int_equal(packet_parse_network(&c, &inner), DROP_NONE);
		assert_true(addr_equal(&inner.src, &client.addr) && addr_equal(&inner.dst, &destination.addr));
	} else {
		assert_memory_equal(copy + 14 + 8, &client.addr, 16);
		assert_memory_equal(copy + 14 + 24, &destination.addr, 16);
	}
}

static void test_tcp(void **state)
{
	struct packet_view view;

	(void)state;
	t.judgement = STACK_REJECT;
	input_tcp(40000, SYN);
	assert_int_equal(t.opened, 0);
	assert_int_equal(t.sent, 1);
	assert_int_equal(packet_parse(t.packet, t.packet + t.length, &view), DROP_NONE);
	assert_int_equal(view.tcp_flags, RST | ACK);
	assert_int_equal(view.ack, 1001);
	assert_true(t.has_port);
	assert_int_equal(t.view.dport, be16(80));
	assert_int_equal(stack_counters(t.stack)->rule_rejected, 1);
	/* nobody answers a reset */
	input_tcp(40000, RST);
	assert_int_equal(t.sent, 1);
	t.judgement = STACK_IGNORE;
	input_tcp(40000, SYN);
	input_tcp(40000, ACK);
	assert_int_equal(t.sent, 1);
	assert_int_equal(stack_counters(t.stack)->dropped[DROP_RULE], 2);
	t.judgement = STACK_TAKE;
	input_tcp(40000, SYN);
	assert_int_equal(t.opened, 1);
	/* a packet of a flow is nobody's to judge */
	t.judged = 0;
	input_tcp(40000, SYN);
	assert_int_equal(t.judged, 0);
}

static void test_udp(void **state)
{
	static const uint8_t header[] = {0x9c, 0x40, 0x01, 0xbb, 0, 100, 0, 0};

	(void)state;
	t.judgement = STACK_REJECT;
	input(4, UDP, header, sizeof(header), 100);
	assert_true(t.has_port);
	assert_int_equal(t.view.dport, be16(443));
	expect_icmp(4, 3, 13, 120);
	input(6, UDP, header, sizeof(header), 100);
	expect_icmp(6, 1, 1, 140);
	/* as much as every host takes, and no more */
	input(4, UDP, header, sizeof(header), 1400);
	expect_icmp(4, 3, 13, 576 - 28);
	input(6, UDP, header, sizeof(header), 1400);
	expect_icmp(6, 1, 1, 1280 - 48);
	/* its header is cut off */
	input(4, UDP, header, 4, 4);
	assert_false(t.has_port);
	assert_int_equal(t.sent, 5);
	assert_int_equal(stack_counters(t.stack)->icmp_sent, 5);
	t.judgement = STACK_IGNORE;
	input(4, UDP, header, sizeof(header), 100);
	t.judgement = STACK_TAKE;
	input(4, UDP, header, sizeof(header), 100);
	assert_int_equal(t.sent, 5);
	assert_int_equal(stack_counters(t.stack)->dropped[DROP_RULE], 2);
	assert_int_equal(stack_counters(t.stack)->rule_rejected, 5);
}

static void test_icmp(void **state)
{
	static const uint8_t errors4[] = {3, 4, 5, 11, 12}, errors6[] = {1, 2, 3, 4, 127};
	uint8_t type = 8;

	(void)state;
	t.judgement = STACK_REJECT;
	input(4, ICMP, &type, 1, 64);
	expect_icmp(4, 3, 13, 84);
	type = 128;
	input(6, ICMPV6, &type, 1, 64);
	expect_icmp(6, 1, 1, 104);
	input(4, 47, &type, 1, 64);
	expect_icmp(4, 3, 13, 84);
	assert_int_equal(t.sent, 3);
	/* no error about an error (RFC 1122 3.2.2, RFC 4443 2.4) */
	for (size_t i = 0; i < 5; i++) {
		input(4, ICMP, &errors4[i], 1, 64);
		input(6, ICMPV6, &errors6[i], 1, 64);
	}
	input(4, ICMP, &type, 0, 0);
	assert_int_equal(t.sent, 3);
}

static void test_rate(void **state)
{
	static const uint8_t header[] = {0x9c, 0x40, 0x01, 0xbb, 0, 20, 0, 0};

	(void)state;
	t.judgement = STACK_REJECT;
	for (int i = 0; i < 3000; i++)
		input(4, UDP, header, sizeof(header), 20);
	assert_int_equal(t.sent, 1000);
	t.now += SECOND;
	input(4, UDP, header, sizeof(header), 20);
	assert_int_equal(t.sent, 1001);
}

static void test_without_judge(void **state)
{
	static const uint8_t header[] = {0x9c, 0x40, 0x01, 0xbb, 0, 20, 0, 0};

	(void)state;
	teardown(state);
	start(false);
	input(4, UDP, header, sizeof(header), 20);
	assert_int_equal(t.sent, 0);
	assert_int_equal(stack_counters(t.stack)->dropped[DROP_BAD_IP_HDR], 1);
	input_tcp(40000, SYN);
	assert_int_equal(t.opened, 1);
	input_tcp(40001, ACK);
	assert_int_equal(t.sent, 1);
}

/* Fewer half-open flows are allowed, while more than that are there: two go for one that comes. */
static void test_limits(void **state)
{
	struct stack_limits limits = {.half_open = 3,
				      .half_open_per_source = 3,
				      .handshake_timeout_ns = SECOND,
				      .idle_timeout_ns = SECOND,
				      .time_wait_ns = SECOND};
	struct stack_gauges gauges;

	(void)state;
	for (uint16_t i = 0; i < 10; i++)
		input_tcp((uint16_t)(40000 + i), SYN);
	stack_gauges(t.stack, &gauges);
	assert_int_equal(gauges.half_open, 8);
	assert_int_equal(t.released, 2);
	stack_set_limits(t.stack, &limits);
	for (uint16_t i = 0; i < 10; i++) {
		input_tcp((uint16_t)(41000 + i), SYN);
		stack_check(t.stack);
	}
	stack_gauges(t.stack, &gauges);
	assert_int_equal(gauges.half_open, 3);
	assert_int_equal(t.released, 17);
	limits.half_open = limits.half_open_per_source = 30;
	stack_set_limits(t.stack, &limits);
	for (uint16_t i = 0; i < 40; i++)
		input_tcp((uint16_t)(42000 + i), SYN);
	stack_gauges(t.stack, &gauges);
	assert_int_equal(gauges.half_open, 30);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_tcp),  TEST(test_udp),           TEST(test_icmp),
		TEST(test_rate), TEST(test_without_judge), TEST(test_limits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("reject", tests, NULL, NULL);
}
