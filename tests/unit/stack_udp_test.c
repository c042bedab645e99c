/* SPDX-License-Identifier: MIT */
/* Datagrams and echo requests through the stack: whole, in fragments, with what may be wrong about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "csum.h"
#include "parse.h"
#include "reassembly.h"
#include "stack.h"

#define FRAMES 1024
#define FRAME_SIZE 2048
#define MTU 1500
#define PACKETS 64
#define MOST 65507

static struct {
	struct frame_pool pool;
	struct stack *stack;
	uint64_t now;
	uint8_t packets[PACKETS][FRAME_SIZE];
	uint16_t lengths[PACKETS];
	uint32_t sent, datagrams;
	struct stack_datagram last;
	uint8_t payload[65536], quote[64];
	enum stack_judgement judgement;
} t;

static int on_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	(void)ctx;
	(void)port;
	assert_int_equal(segment_bytes, 0);
	assert_in_range(t.sent, 0, PACKETS - 1);
	memcpy(t.packets[t.sent], frame_data(&t.pool, frame) + off, len);
	t.lengths[t.sent++] = len;
	frame_tx_start(&t.pool, frame);
	frame_tx_done(&t.pool, frame);
	return 0;
}

static void on_datagram(void *ctx, struct stack_datagram *datagram)
{
	uint32_t at = 0;

	(void)ctx;
	t.datagrams++;
	t.last = *datagram;
	memcpy(t.quote, datagram->quote, datagram->quote_bytes < 64 ? datagram->quote_bytes : 64);
	for (uint32_t i = datagram->frames; i != FRAME_NONE; i = t.pool.frames[i].next) {
		memcpy(t.payload + at, frame_data(&t.pool, i) + t.pool.frames[i].off, t.pool.frames[i].len);
		at += t.pool.frames[i].len;
	}
	assert_int_equal(at, datagram->bytes);
}

static enum stack_judgement on_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	(void)ctx;
	(void)view;
	(void)has_port;
	return t.judgement;
}

static int setup(void **state)
{
	static const struct stack_callbacks callbacks = {
		.transmit = on_transmit, .datagram = on_datagram, .judge = on_judge};
	static const struct stack_settings settings = {
		.max_flows = 16, .half_open = 16, .half_open_per_source = 16, .echo_reply = true, .secret = {7}};
	struct stack_port port = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = MTU};

	(void)state;
	memset(&t, 0, sizeof(t));
	t.now = 1000000000;
	t.judgement = STACK_TAKE;
	frame_pool_init(&t.pool, calloc(FRAMES, FRAME_SIZE), calloc(FRAMES, sizeof(struct frame)), FRAMES, FRAME_SIZE);
	t.stack = stack_create(&settings, &t.pool, &callbacks, t.now);
	port.own[0] = addr_from_ipv4(be32(0x0a010001));
	memcpy(port.own[1].bytes, "\xfd\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	stack_set_port(t.stack, 0, &port);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stack_run_timers(t.stack, UINT64_MAX / 2);
	assert_int_equal(frame_pool_free(&t.pool), FRAMES);
	stack_destroy(t.stack);
	free(t.pool.area);
	free(t.pool.frames);
	return 0;
}

/* From the client's side: src is the client. */
static struct build_link link_of(int version)
{
	struct build_link link = {.src_mac = {2, 0, 0, 0, 0, 2}, .dst_mac = {2, 0, 0, 0, 0, 1}};

	link.src = (struct endpoint){.addr = addr_from_ipv4(be32(0x0a010002)), .port = be16(5000)};
	link.dst = (struct endpoint){.addr = addr_from_ipv4(be32(0x0a090001)), .port = be16(53)};
	if (version == 6) {
		memcpy(link.src.addr.bytes, "\xfd\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
		memcpy(link.dst.addr.bytes, "\xfd\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	}
	return link;
}

static void input(const uint8_t *packet, uint16_t len)
{
	uint32_t frame = frame_get(&t.pool, FRAME_RX);

	assert_int_not_equal(frame, FRAME_NONE);
	memcpy(frame_data(&t.pool, frame) + 256, packet, len);
	stack_input(t.stack, 0, frame, 256, len, t.now);
}

/* A whole datagram of the client; returns its first byte in `buffer`. */
static uint8_t *make(uint8_t *buffer, int version, uint16_t bytes, uint16_t *len)
{
	struct build_link link = link_of(version);
	uint8_t *payload = buffer + 256, *start;

	for (uint32_t i = 0; i < bytes; i++)
		payload[i] = (uint8_t)(i * 3);
	start = build_udp(build_udp_header(payload, bytes, &link), (uint16_t)(bytes + 8), &link);
	*len = (uint16_t)(payload + bytes - start);
	return start;
}

static uint64_t dropped(enum drop_reason reason)
{
	return stack_counters(t.stack)->dropped[reason];
}

static void test_whole(void **state)
{
	static const uint16_t sizes[] = {0, 1, 9, 1000, 1452};
	uint8_t buffer[FRAME_SIZE];
	uint16_t len;

	(void)state;
	for (int version = 4; version <= 6; version += 2)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			struct build_link back = link_of(version);
			const uint8_t *start = make(buffer, version, sizes[i], &len);

			back = build_reverse(&back);
			t.datagrams = 0;
			input(start, len);
			assert_int_equal(t.datagrams, 1);
			assert_int_equal(t.last.bytes, sizes[i]);
			assert_int_equal(t.last.packet_bytes, len - 14);
			assert_true(t.last.dont_fragment);
			assert_memory_equal(t.payload, buffer + 256, sizes[i]);
			assert_memory_equal(&t.last.link, &back, sizeof(back));
			assert_memory_equal(t.quote, start + 14, 28);
		}
}

static void test_wrong(void **state)
{
	uint8_t buffer[FRAME_SIZE], *start;
	uint16_t len;

	(void)state;
	start = make(buffer, 4, 100, &len);
	buffer[256 + 50] ^= 1;
	input(start, len);
	assert_int_equal(dropped(DROP_UDP_CHECKSUM), 1);
	/* none at all: allowed for IPv4 only */
	start[14 + 20 + 6] = start[14 + 20 + 7] = 0;
	input(start, len);
	assert_int_equal(t.datagrams, 1);
	start = make(buffer, 6, 100, &len);
	start[14 + 40 + 6] = start[14 + 40 + 7] = 0;
	input(start, len);
	assert_int_equal(dropped(DROP_UDP_CHECKSUM), 2);
	/* lengths that lie, and ports that nobody has */
	start = make(buffer, 4, 100, &len);
	start[14 + 20 + 5] = 200;
	input(start, len);
	start[14 + 20 + 4] = 0;
	start[14 + 20 + 5] = 7;
	input(start, len);
	start = make(buffer, 4, 100, &len);
	start[14 + 20 + 2] = start[14 + 20 + 3] = 0;
	input(start, len);
	start = make(buffer, 4, 0, &len);
	start[14 + 3] = 24; /* the IP packet ends in the UDP header */
	start[14 + 10] = start[14 + 11] = 0;
	start[14 + 10] = 0x66;
	memcpy(start + 24, &(uint16_t){csum_fold(csum_partial(start + 14, 10, csum_partial(start + 26, 8, 0)))}, 2);
	input(start, len);
	assert_int_equal(dropped(DROP_BAD_UDP_HDR), 4);
	assert_int_equal(t.datagrams, 1);
}

static void test_rules(void **state)
{
	uint8_t buffer[FRAME_SIZE];
	uint16_t len;
	uint8_t *start = make(buffer, 4, 10, &len);

	(void)state;
	t.judgement = STACK_IGNORE;
	input(start, len);
	assert_int_equal(t.sent, 0);
	t.judgement = STACK_REJECT;
	input(start, len);
	assert_int_equal(t.sent, 1);
	assert_int_equal(t.packets[0][14 + 20], 3);
	assert_int_equal(t.packets[0][14 + 20 + 1], 13);
	assert_memory_equal(t.packets[0] + 14 + 28, start + 14, 38);
}

/* Sends to the client, turns the packets round, and takes them back in: in order, and the last first. */
static void test_fragments(void **state)
{
	static const uint16_t sizes[] = {1473, 1480, 4000, 8000, 65507};
	uint8_t *data = malloc(8 + MOST);

	(void)state;
	for (uint32_t i = 0; i < MOST; i++)
		data[8 + i] = (uint8_t)(i * 11 + (i >> 8));
	for (int version = 4; version <= 6; version += 2)
		for (size_t i = 0; i < ARRAY_SIZE(sizes) * 2; i++) {
			struct build_link link = link_of(version);
			struct iovec payload = {data + 8, sizes[i / 2]};

			t.sent = t.datagrams = 0;
			memset(data, 0x5a, 8);
			assert_true(stack_send_datagram(t.stack, 0, &link, &payload));
			assert_memory_equal(data, "ZZZZZZZZ", 8);
			assert_true(t.sent > 1);
			for (uint32_t n = 0; n < t.sent; n++) {
				uint32_t k = i % 2 ? t.sent - 1 - n : n;

				assert_in_range(t.lengths[k], 15, 14 + MTU);
				assert_int_equal(t.datagrams, 0);
				input(t.packets[k], t.lengths[k]);
			}
			assert_int_equal(t.datagrams, 1);
			assert_int_equal(t.last.bytes, sizes[i / 2]);
			assert_false(t.last.dont_fragment);
			assert_memory_equal(t.payload, data + 8, sizes[i / 2]);
			assert_int_equal(t.quote[0] >> 4, version);
		}
	assert_int_equal(stack_reassembly_counters(t.stack)->reassembled, ARRAY_SIZE(sizes) * 4);
	free(data);
}

static void test_fragment_checksum(void **state)
{
	struct build_link link = link_of(4);
	uint8_t data[8 + 3000] = {0};
	struct iovec payload = {data + 8, 3000};

	(void)state;
	assert_true(stack_send_datagram(t.stack, 0, &link, &payload));
	t.packets[1][100] ^= 0x10;
	for (uint32_t n = 0; n < t.sent; n++)
		input(t.packets[n], t.lengths[n]);
	assert_int_equal(dropped(DROP_UDP_CHECKSUM), 1);
	assert_int_equal(t.datagrams, 0);
	payload.iov_len = 65508;
	assert_false(stack_send_datagram(t.stack, 0, &link, &payload));
}

static uint8_t *make_echo(uint8_t *buffer, int version, uint16_t bytes, uint16_t *len)
{
	struct build_link link = link_of(version);
	uint8_t *message = buffer + 256, *start;

	memset(message, 0, 8);
	message[0] = version == 4 ? 8 : 128;
	memcpy(message + 4, "\x12\x34\x00\x01", 4);
	for (uint32_t i = 8; i < bytes; i++)
		message[i] = (uint8_t)i;
	start = build_icmp(message, bytes, &link);
	*len = (uint16_t)(message + bytes - start);
	return start;
}

static void test_echo(void **state)
{
	uint8_t buffer[FRAME_SIZE], *start;
	uint16_t len;

	(void)state;
	for (int version = 4; version <= 6; version += 2) {
		uint32_t icmp = version == 4 ? 34 : 54, sum = 0;
		struct build_link back = link_of(version);

		t.sent = 0;
		back = build_reverse(&back);
		start = make_echo(buffer, version, 64, &len);
		input(start, len);
		assert_int_equal(t.sent, 1);
		assert_int_equal(t.lengths[0], len);
		assert_int_equal(t.packets[0][icmp], version == 4 ? 0 : 129);
		assert_memory_equal(t.packets[0] + icmp + 4, buffer + 256 + 4, 60);
		assert_memory_equal(t.packets[0], back.dst_mac, 6);
		if (version == 6)
			sum = csum_pseudo(&back.src.addr, &back.dst.addr, IPPROTO_ICMPV6, 64);
		assert_int_equal(csum_fold(csum_partial(t.packets[0] + icmp, 64, sum)), 0);
	}
	/* damaged */
	start = make_echo(buffer, 4, 64, &len);
	buffer[256 + 20] ^= 1;
	input(start, len);
	assert_int_equal(dropped(DROP_ICMP_CHECKSUM), 1);
	/* what a rule rejects is no echo any more */
	t.judgement = STACK_REJECT;
	t.sent = 0;
	start = make_echo(buffer, 4, 64, &len);
	input(start, len);
	assert_int_equal(t.packets[0][34], 3);
}

static void test_echo_limit(void **state)
{
	uint8_t buffer[FRAME_SIZE];
	uint16_t len;
	uint8_t *start = make_echo(buffer, 4, 64, &len);

	(void)state;
	for (int i = 0; i < 1500; i++) {
		t.sent = 0;
		input(start, len);
	}
	assert_int_equal(stack_counters(t.stack)->echo_replies, 1000);
	assert_int_equal(stack_counters(t.stack)->echo_limited, 500);
	t.now += 1000000000;
	input(start, len);
	assert_int_equal(stack_counters(t.stack)->echo_replies, 1001);
}

/* A hop of traceroute: from the gateway's own address, about the packet. */
static void test_ttl(void **state)
{
	uint8_t buffer[FRAME_SIZE], *start;
	uint16_t len;

	(void)state;
	start = make(buffer, 4, 20, &len);
	start[14 + 8] = 1;
	start[14 + 10] = start[14 + 11] = 0;
	memcpy(start + 24, &(uint16_t){csum_fold(csum_partial(start + 14, 20, 0))}, 2);
	input(start, len);
	assert_int_equal(t.datagrams, 0);
	assert_int_equal(t.sent, 1);
	assert_int_equal(t.packets[0][34], 11);
	assert_memory_equal(t.packets[0] + 26, "\x0a\x01\x00\x01\x0a\x01\x00\x02", 8);
	assert_memory_equal(t.packets[0] + 42, start + 14, 48);
	start = make(buffer, 6, 20, &len);
	start[14 + 7] = 1;
	input(start, len);
	assert_int_equal(t.sent, 2);
	assert_int_equal(t.packets[1][54], 3);
	assert_memory_equal(t.packets[1] + 62, start + 14, 68);
	assert_int_equal(dropped(DROP_TTL_EXPIRED), 2);
}

/* Against what RFC 1191 and RFC 4443 say, byte by byte. */
static void test_errors(void **state)
{
	static const struct {
		enum stack_error error;
		uint8_t type4, code4, type6, code6;
	} errors[] = {{STACK_ERROR_PORT_UNREACHABLE, 3, 3, 1, 4},
		      {STACK_ERROR_HOST_UNREACHABLE, 3, 1, 1, 3},
		      {STACK_ERROR_PROHIBITED, 3, 13, 1, 1},
		      {STACK_ERROR_TOO_BIG, 3, 4, 2, 0},
		      {STACK_ERROR_TTL_EXPIRED, 11, 0, 3, 0}};
	static const uint8_t quote[2000] = {0x45, 1, 2, 3};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		for (int version = 4; version <= 6; version += 2) {
			struct build_link link = link_of(version);
			const uint8_t *icmp = t.packets[0] + (version == 4 ? 34 : 54);
			uint32_t rest;

			link = build_reverse(&link);
			t.sent = 0;
			stack_send_error(t.stack, 0, &link, quote, sizeof(quote), errors[i].error, 1490, t.now);
			assert_int_equal(t.sent, 1);
			assert_int_equal(icmp[0], version == 4 ? errors[i].type4 : errors[i].type6);
			assert_int_equal(icmp[1], version == 4 ? errors[i].code4 : errors[i].code6);
			memcpy(&rest, icmp + 4, 4);
			assert_int_equal(be32(rest), errors[i].error == STACK_ERROR_TOO_BIG ? 1490 : 0);
			/* not more than every host takes */
			assert_int_equal(t.lengths[0], version == 4 ? 14 + 576 : 14 + 1280);
		}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_whole),
		TEST(test_wrong),
		TEST(test_rules),
		TEST(test_fragments),
		TEST(test_fragment_checksum),
		TEST(test_echo),
		TEST(test_echo_limit),
		TEST(test_ttl),
		TEST(test_errors),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("stack_udp", tests, NULL, NULL);
}
