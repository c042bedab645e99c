/* SPDX-License-Identifier: MIT */
/* Headers against packets that scapy built. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "build.h"
#include "parse.h"

/* Ether/Dot1Q(7)/IP 192.0.2.80 > 10.0.0.5/TCP 80 > 40000 PA/"hello" */
static const char ipv4_packet[] =
	"0200000000010200000000098100000708004500002d0000400040066e76c00002500a00000500509c40010203040a0b"
	"0c0d50180200e6f1000068656c6c6f";
/* Ether/IPv6 2001:db8::80 > fd00::5/TCP 80 > 40000 A */
static const char ipv6_packet[] =
	"02000000000102000000000986dd600000000014064020010db8000000000000000000000080fd000000000000000000"
	"00000000000500509c40010203040a0b0c0d50100200cbe70000";

static const struct build_segment segment = {.seq = 0x01020304, .ack = 0x0a0b0c0d, .window = 512, .flags = 0x18};

static void assert_packet(const uint8_t *start, const uint8_t *end, const char *hex)
{
	assert_int_equal(end - start, strlen(hex) / 2);
	for (const uint8_t *p = start; p < end; p++, hex += 2) {
		char text[3];

		snprintf(text, sizeof(text), "%02x", *p);
		assert_memory_equal(text, hex, 2);
	}
}

static struct build_link test_link(void)
{
	return (struct build_link){
		.src_mac = {2, 0, 0, 0, 0, 9},
		.dst_mac = {2, 0, 0, 0, 0, 1},
		.src = {.addr = addr_from_ipv4(be32(0xc0000250)), .port = be16(80)},
		.dst = {.addr = addr_from_ipv4(be32(0x0a000005)), .port = be16(40000)},
	};
}

static void test_ipv4_vlan(void **state)
{
	uint8_t packet[512];
	struct build_link link = test_link();

	(void)state;
	link.has_vlan = true;
	link.vlan_tci = 7;
	memcpy(packet + 256, "hello", 5);
	assert_packet(build_tcp(packet + 256, 5, &link, &segment), packet + 261, ipv4_packet);
}

static void test_ipv6(void **state)
{
	static const struct addr src = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x80}};
	static const struct addr dst = {.bytes = {0xfd, [15] = 5}};
	uint8_t packet[512];
	struct build_link link = test_link();
	struct build_segment bare = segment;

	(void)state;
	link.src.addr = src;
	link.dst.addr = dst;
	bare.flags = 0x10;
	assert_packet(build_tcp(packet + 256, 0, &link, &bare), packet + 256, ipv6_packet);
}

/* What we build, the parser reads back, at every alignment. */
static void test_parse_back(void **state)
{
	uint8_t packet[600];

	(void)state;
	for (unsigned int shift = 0; shift < 8; shift++) {
		struct build_link link = test_link();
		struct build_segment with_options = segment;
		struct packet_view view;
		uint8_t *payload = packet + 256 + shift, *start;

		with_options.option_bytes = 40;
		memset(with_options.options, 1, 40);
		memset(payload, 'x', 100);
		start = build_tcp(payload, 100, &link, &with_options);
		assert_in_range(payload - start, 1, BUILD_MAX_HEADER_BYTES);
		assert_int_equal(packet_parse(start, payload + 100, &view), DROP_NONE);
		assert_int_equal(view.seq, segment.seq);
		assert_int_equal(view.tcp_hdr_len, 60);
		assert_int_equal(view.payload_len, 100);
		assert_ptr_equal(start + view.payload_off, payload);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4_vlan),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_parse_back),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
