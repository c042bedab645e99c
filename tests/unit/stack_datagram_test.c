/* SPDX-License-Identifier: MIT */
/* UDP through the stack: what the owner gets of a datagram, what never reaches it, and the bytes of an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "stack.h"

#define FRAMES 64
#define FRAME_SIZE 2048
#define SECOND 1000000000ull
#define IPV4_UDP (14 + 20)
#define IPV6_VLAN_UDP (18 + 40)

/* 10.0.0.5:40000 > 192.0.2.53:53 "question", and "answer!" back; the same over IPv6 in VLAN 5; built by scapy */
static const char query4[] =
	"0200000000090200000000010800450000240000400040116e8f0a000005c00002359c4000350010dc5d7175657374696f6e";
static const char answer4[] =
	"0200000000010200000000090800450000230000400040116e90c00002350a00000500359c40000f3bc8616e7377657221";
static const char query6[] =
	"0200000000090200000000018100200586dd6000000000101140fd00000000000000000000000000000520010db8"
	"0000000000000000000000539c40003500107d867175657374696f6e";
static const char answer6[] =
	"0200000000010200000000098100200586dd60000000000f114020010db8000000000000000000000053fd000000"
	"00000000000000000000000500359c40000fdcf0616e7377657221";

static struct {
	struct frame_pool pool;
	struct stack *stack;
	enum stack_judgement judgement;
	bool ring_full;
	uint32_t judged, delivered, sent;
	uint16_t bytes, port;
	uint8_t payload[FRAME_SIZE];
	uint8_t packet[FRAME_SIZE];
	uint16_t packet_bytes;
} t;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	(void)ctx;
	(void)port;
	assert_int_equal(segment_bytes, 0);
	if (t.ring_full)
		return -EAGAIN;
	memcpy(t.packet, frame_data(&t.pool, frame) + off, len);
	t.packet_bytes = len;
	t.sent++;
	frame_tx_start(&t.pool, frame);
	frame_tx_done(&t.pool, frame);
	return 0;
}

static enum stack_judgement on_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	(void)ctx;
	assert_true(!has_port || view->dport == be16(53));
	t.judged++;
	return t.judgement;
}

static void on_datagram(void *ctx, struct stack_datagram *datagram)
{
	static uint8_t buffer[8 + 7];
	const struct iovec answer = {buffer + 8, 7};

	(void)ctx;
	t.delivered++;
	t.bytes = (uint16_t)datagram->bytes;
	t.port = datagram->port;
	memcpy(t.payload, frame_data(&t.pool, datagram->frames) + t.pool.frames[datagram->frames].off, datagram->bytes);
	/* the answer is on its way before this returns */
	memcpy(buffer, "in front", 8);
	memcpy(buffer + 8, "answer!", 7);
	stack_send_datagram(t.stack, datagram->port, &datagram->link, &answer);
}

static int setup(void **state)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit, .judge = on_judge, .datagram = on_datagram};
	static const struct stack_settings settings = {.max_flows = 16,
						       .half_open = 8,
						       .half_open_per_source = 4,
						       .handshake_timeout_ns = SECOND,
						       .idle_timeout_ns = SECOND,
						       .time_wait_ns = SECOND,
						       .receive_window_max_bytes = 1 << 20,
						       .send_queue_max_bytes = 1 << 20};
	struct stack_port port = {.mtu = 1500};

	(void)state;
	memset(&t, 0, sizeof(t));
	t.judgement = STACK_TAKE;
	frame_pool_init(&t.pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	t.stack = stack_create(&settings, &t.pool, &callbacks, SECOND);
	stack_set_port(t.stack, 0, &port);
	port.partial_checksum_ok = true;
	stack_set_port(t.stack, 1, &port);
	return t.stack ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	/* whatever came, every frame is back */
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
	stack_check(t.stack);
	stack_destroy(t.stack);
	free(t.pool.area);
	free(t.pool.frames);
	return 0;
}

static uint16_t from_hex(const char *hex, uint8_t *out)
{
	uint16_t bytes = 0;
	unsigned int value;

	for (; sscanf(hex, "%2x", &value) == 1; hex += 2)
		out[bytes++] = (uint8_t)value;
	return bytes;
}

/* The packet with `change` xor-ed at byte `at`, cut by `cut` bytes. */
static void input(uint16_t port, const char *hex, uint16_t at, uint8_t change, uint16_t cut)
{
	uint32_t frame = frame_get(&t.pool, FRAME_RX);
	uint8_t *data = frame_data(&t.pool, frame);
	uint16_t bytes = from_hex(hex, data);

	data[at] ^= change;
	stack_input(t.stack, port, frame, 0, (uint16_t)(bytes - cut), SECOND);
}

static void check_exchange(const char *query, const char *answer)
{
	uint8_t wanted[FRAME_SIZE];

	input(0, query, 0, 0, 0);
	assert_int_equal(t.delivered, 1);
	assert_int_equal(t.bytes, 8);
	assert_memory_equal(t.payload, "question", 8);
	assert_int_equal(t.sent, 1);
	assert_int_equal(t.packet_bytes, from_hex(answer, wanted));
	assert_memory_equal(t.packet, wanted, t.packet_bytes);
}

static void test_ipv4(void **state)
{
	(void)state;
	check_exchange(query4, answer4);
}

static void test_ipv6_vlan(void **state)
{
	(void)state;
	check_exchange(query6, answer6);
}

static void expect_dropped(enum drop_reason reason)
{
	assert_int_equal(t.delivered, 0);
	assert_int_equal(t.sent, 0);
	assert_int_equal(stack_counters(t.stack)->dropped[reason], 1);
}

static void test_checksum(void **state)
{
	(void)state;
	input(0, query4, IPV4_UDP + 8, 1, 0);
	expect_dropped(DROP_UDP_CHECKSUM);
}

static void test_checksum_ipv6(void **state)
{
	(void)state;
	input(0, query6, IPV6_VLAN_UDP + 15, 0x80, 0);
	expect_dropped(DROP_UDP_CHECKSUM);
}

/* IPv4 may do without (RFC 768), IPv6 may not (RFC 8200 8.1). */
static void test_no_checksum(void **state)
{
	char none[sizeof(query4)];

	(void)state;
	strcpy(none, query4);
	memcpy(none + 2 * (IPV4_UDP + 6), "0000", 4);
	input(0, none, 0, 0, 0);
	assert_int_equal(t.delivered, 1);
}

static void test_no_checksum_ipv6(void **state)
{
	char none[sizeof(query6)];

	(void)state;
	strcpy(none, query6);
	memcpy(none + 2 * (IPV6_VLAN_UDP + 6), "0000", 4);
	input(0, none, 0, 0, 0);
	expect_dropped(DROP_UDP_CHECKSUM);
}

/* A local sender on a virtual device leaves the sum of the pseudo-header: c000+0235+0a00+0005+0011+0010 */
static void test_partial_checksum(void **state)
{
	char partial[sizeof(query4)];

	(void)state;
	strcpy(partial, query4);
	memcpy(partial + 2 * (IPV4_UDP + 6), "cc5b", 4);
	input(1, partial, 0, 0, 0);
	assert_int_equal(t.delivered, 1);
	input(0, partial, 0, 0, 0);
	assert_int_equal(t.delivered, 1);
	assert_int_equal(stack_counters(t.stack)->dropped[DROP_UDP_CHECKSUM], 1);
}

/* A length that is more than there is, and less than its own header. */
static void test_length(void **state)
{
	(void)state;
	input(0, query4, IPV4_UDP + 5, 0x10 ^ 0x11, 0);
	expect_dropped(DROP_BAD_UDP_HDR);
}

static void test_short_length(void **state)
{
	(void)state;
	input(0, query4, IPV4_UDP + 5, 0x10 ^ 0x07, 0);
	expect_dropped(DROP_BAD_UDP_HDR);
}

static void test_cut_off(void **state)
{
	(void)state;
	input(0, query4, 0, 0, 1);
	expect_dropped(DROP_TRUNCATED);
}

static void test_not_wanted(void **state)
{
	(void)state;
	t.judgement = STACK_IGNORE;
	input(0, query4, 0, 0, 0);
	assert_int_equal(t.delivered, 0);
	assert_int_equal(stack_counters(t.stack)->dropped[DROP_RULE], 1);
	/* told by ICMP, not delivered */
	t.judgement = STACK_REJECT;
	input(0, query4, 0, 0, 0);
	assert_int_equal(t.delivered, 0);
	assert_int_equal(t.sent, 1);
	assert_int_equal(stack_counters(t.stack)->icmp_sent, 1);
}

static void test_no_way_out(void **state)
{
	(void)state;
	t.ring_full = true;
	input(0, query4, 0, 0, 0);
	assert_int_equal(stack_counters(t.stack)->tx_ring_full, 1);
	t.ring_full = false;
	input(0, query4, 0, 0, 0);
	assert_int_equal(t.sent, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_ipv4),
		TEST(test_ipv6_vlan),
		TEST(test_checksum),
		TEST(test_checksum_ipv6),
		TEST(test_no_checksum),
		TEST(test_no_checksum_ipv6),
		TEST(test_partial_checksum),
		TEST(test_length),
		TEST(test_short_length),
		TEST(test_cut_off),
		TEST(test_not_wanted),
		TEST(test_no_way_out),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("stack_datagram", tests, NULL, NULL);
}
