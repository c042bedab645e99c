/* SPDX-License-Identifier: MIT */
/* Headers of datagrams against the byte layouts of RFC 1928 section 7, and of UDP inside the control connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "socks.h"
#include "socks_udp.h"

static struct endpoint v4(void)
{
	return (struct endpoint){.addr = addr_from_ipv4(be32(0xc0000207)), .port = be16(443)};
}

static struct endpoint v6(void)
{
	return (struct endpoint){.addr = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 7}}, .port = be16(53)};
}

#define V4_HEADER "\0\0\0\x01\xc0\x00\x02\x07\x01\xbb"
#define V6_HEADER "\0\0\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\0\x35"

static void test_request(void **state)
{
	uint8_t out[SOCKS_CONNECT_MAX_BYTES];

	(void)state;
	assert_int_equal(socks_build_udp_request(out, SOCKS_COMMAND_ASSOCIATE, false), 10);
	assert_memory_equal(out, "\x05\x03\x00\x01\0\0\0\0\0\0", 10);
	assert_int_equal(socks_build_udp_request(out, SOCKS_COMMAND_UDP_IN_TCP, true), 22);
	assert_memory_equal(out, "\x05\x05\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
}

static void test_build(void **state)
{
	struct endpoint to4 = v4(), to6 = v6();
	uint8_t out[SOCKS_UDP_IPV6_BYTES];

	(void)state;
	assert_int_equal(socks_udp_header_bytes(&to4.addr), SOCKS_UDP_IPV4_BYTES);
	assert_int_equal(socks_udp_build(out, &to4), SOCKS_UDP_IPV4_BYTES);
	assert_memory_equal(out, V4_HEADER, SOCKS_UDP_IPV4_BYTES);
	assert_int_equal(socks_udp_header_bytes(&to6.addr), SOCKS_UDP_IPV6_BYTES);
	assert_int_equal(socks_udp_build(out, &to6), SOCKS_UDP_IPV6_BYTES);
	assert_memory_equal(out, V6_HEADER, SOCKS_UDP_IPV6_BYTES);
}

static void expect(const char *bytes, size_t len, enum socks_udp_verdict wanted)
{
	struct endpoint remote;
	size_t header;

	assert_int_equal(socks_udp_parse((const uint8_t *)bytes, len, &remote, &header), wanted);
}

static void test_parse(void **state)
{
	struct endpoint remote, wanted4 = v4(), wanted6 = v6();
	size_t header = 0;

	(void)state;
	assert_int_equal(socks_udp_parse((const uint8_t *)V4_HEADER "x", 11, &remote, &header), SOCKS_UDP_OK);
	assert_int_equal(header, 10);
	assert_memory_equal(&remote, &wanted4, sizeof(remote));
	/* a datagram without payload */
	assert_int_equal(socks_udp_parse((const uint8_t *)V6_HEADER, 22, &remote, &header), SOCKS_UDP_OK);
	assert_int_equal(header, 22);
	assert_memory_equal(&remote, &wanted6, sizeof(remote));
	for (size_t len = 0; len < 10; len++)
		expect(V4_HEADER, len, SOCKS_UDP_MALFORMED);
	for (size_t len = 0; len < 22; len++)
		expect(V6_HEADER, len, SOCKS_UDP_MALFORMED);
	expect("\0\x01\0\x01\xc0\x00\x02\x07\x01\xbb", 10, SOCKS_UDP_MALFORMED);
	expect("\0\0\0\x02\xc0\x00\x02\x07\x01\xbb", 10, SOCKS_UDP_MALFORMED);
	expect("\0\0\x01\x01\xc0\x00\x02\x07\x01\xbb", 10, SOCKS_UDP_FRAGMENT);
	expect("\0\0\0\x03\x02"
	       "ab\0\x35",
	       9, SOCKS_UDP_NAME);
	expect("\0\0\0\x03\x03"
	       "ab\0\x35",
	       9, SOCKS_UDP_MALFORMED);
	/* an IPv4-mapped address would be mistaken for IPv4 */
	expect("\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0\x35", 22, SOCKS_UDP_MALFORMED);
}

static void test_stream(void **state)
{
	struct endpoint to4 = v4(), to6 = v6(), remote;
	uint8_t out[64];
	size_t at, bytes;

	(void)state;
	assert_int_equal(socks_udp_tcp_build(out, &to4, 5), 10);
	memcpy(out + 10, "hello", 5);
	assert_memory_equal(out, "\x00\x05\x0a\x01\xc0\x00\x02\x07\x01\xbbhello", 15);
	for (size_t len = 0; len < 15; len++)
		assert_int_equal(socks_udp_tcp_parse(out, len, &remote, &at, &bytes), 0);
	assert_int_equal(socks_udp_tcp_parse(out, sizeof(out), &remote, &at, &bytes), 15);
	assert_int_equal(at, 10);
	assert_int_equal(bytes, 5);
	assert_memory_equal(&remote, &to4, sizeof(remote));
	assert_int_equal(socks_udp_tcp_build(out, &to6, 0xffff), 22);
	assert_memory_equal(out, "\xff\xff\x16\x04\x20\x01\x0d\xb8", 8);
	/* without payload */
	assert_int_equal(socks_udp_tcp_build(out, &to6, 0), 22);
	assert_int_equal(socks_udp_tcp_parse(out, 22, &remote, &at, &bytes), 22);
	assert_int_equal(bytes, 0);
	assert_memory_equal(&remote, &to6, sizeof(remote));
	/* a header length that lies */
	out[2] = 21;
	assert_int_equal(socks_udp_tcp_parse(out, sizeof(out), &remote, &at, &bytes), -1);
	out[2] = 22;
	out[3] = 9;
	assert_int_equal(socks_udp_tcp_parse(out, sizeof(out), &remote, &at, &bytes), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_stream),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("socks_udp", tests, NULL, NULL);
}
