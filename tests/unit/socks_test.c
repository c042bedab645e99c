/* SPDX-License-Identifier: MIT */
/* The SOCKS5 client codec against the byte layouts of RFC 1928 and RFC 1929. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "socks.h"

static void test_greeting(void **state)
{
	uint8_t out[SOCKS_GREETING_MAX_BYTES];

	(void)state;
	assert_int_equal(socks_build_greeting(out, SOCKS_OFFER_NONE), 3);
	assert_memory_equal(out, "\x05\x01\x00", 3);
	assert_int_equal(socks_build_greeting(out, SOCKS_OFFER_EITHER), 4);
	assert_memory_equal(out, "\x05\x02\x00\x02", 4);
	assert_int_equal(socks_build_greeting(out, SOCKS_OFFER_PASSWORD), 3);
	assert_memory_equal(out, "\x05\x01\x02", 3);
}

static void test_auth(void **state)
{
	uint8_t out[SOCKS_AUTH_MAX_BYTES];
	char longest[256];

	(void)state;
	assert_int_equal(socks_build_auth(out, "alice", "pw"), 10);
	assert_memory_equal(out,
			    "\x01\x05"
			    "alice"
			    "\x02pw",
			    10);
	memset(longest, 'x', 255);
	longest[255] = 0;
	assert_int_equal(socks_build_auth(out, longest, longest), SOCKS_AUTH_MAX_BYTES);
	assert_int_equal(out[1], 255);
	assert_int_equal(out[257], 255);
}

static void test_connect(void **state)
{
	uint8_t out[SOCKS_CONNECT_MAX_BYTES];
	struct endpoint v4 = {.addr = addr_from_ipv4(be32(0xc0000201)), .port = be16(443)};
	struct endpoint v6 = {.addr = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 7}}, .port = be16(80)};

	(void)state;
	assert_int_equal(socks_build_connect(out, &v4), 10);
	assert_memory_equal(out, "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", 10);
	assert_int_equal(socks_build_connect(out, &v6), 22);
	assert_memory_equal(out, "\x05\x01\x00\x04\x20\x01\x0d\xb8", 8);
	assert_int_equal(out[19], 7);
	assert_memory_equal(out + 20, "\x00\x50", 2);
}

/* RFC 1928 section 5: ATYP 3, a length, the name. */
static void test_connect_name(void **state)
{
	uint8_t out[SOCKS_CONNECT_MAX_BYTES];
	char longest[SOCKS_NAME_MAX_BYTES + 1];

	(void)state;
	assert_int_equal(socks_build_connect_name(out, "www.example", be16(443)), 18);
	assert_memory_equal(out, "\x05\x01\x00\x03\x0bwww.example\x01\xbb", 18);
	memset(longest, 'a', SOCKS_NAME_MAX_BYTES);
	longest[SOCKS_NAME_MAX_BYTES] = 0;
	assert_int_equal(socks_build_connect_name(out, longest, be16(80)), SOCKS_CONNECT_MAX_BYTES);
	assert_int_equal(out[4], 253);
	assert_memory_equal(out + 258, "\x00\x50", 2);
}

/* RFC 1928 section 4: CMD 3, DST all zero when the client does not know yet where it will send from */
static void test_associate(void **state)
{
	static const uint8_t want[] = {5, 3, 0, 1, 0, 0, 0, 0, 0, 0};
	const struct endpoint unknown = {.addr = addr_from_ipv4(0)};
	uint8_t out[SOCKS_CONNECT_MAX_BYTES];

	(void)state;
	assert_int_equal(socks_build_associate(out, &unknown), sizeof(want));
	assert_memory_equal(out, want, sizeof(want));
}

/* Feeds `bytes` in pieces of `step` until an event other than MORE. */
static enum socks_event feed(struct socks_handshake *handshake, const char *bytes, size_t len, size_t step, size_t *pos)
{
	enum socks_event event = SOCKS_EVENT_MORE;
	size_t used;

	while (event == SOCKS_EVENT_MORE && *pos < len) {
		size_t part = len - *pos < step ? len - *pos : step;

		event = socks_handshake_feed(handshake, (const uint8_t *)bytes + *pos, part, &used);
		assert_true(used <= part);
		if (event == SOCKS_EVENT_MORE)
			assert_int_equal(used, part);
		*pos += used;
	}
	return event;
}

/* A whole exchange, in pieces of 1 byte up to all at once; what follows the reply must be left alone. */
static void test_exchange_in_pieces(void **state)
{
	static const char bytes[] = "\x05\x02"
				    "\x01\x00"
				    "\x05\x00\x00\x01\x0a\x02\x00\x02\x04\x38"
				    "payload";
	size_t len = sizeof(bytes) - 1;

	(void)state;
	for (size_t step = 1; step <= len; step++) {
		struct socks_handshake handshake;
		size_t pos = 0;

		socks_handshake_init(&handshake, SOCKS_OFFER_EITHER);
		assert_int_equal(feed(&handshake, bytes, len, step, &pos), SOCKS_EVENT_SEND_AUTH);
		assert_int_equal(feed(&handshake, bytes, len, step, &pos), SOCKS_EVENT_SEND_REQUEST);
		assert_int_equal(feed(&handshake, bytes, len, step, &pos), SOCKS_EVENT_REPLY);
		assert_int_equal(pos, 14);
		assert_int_equal(handshake.reply, SOCKS_REPLY_SUCCEEDED);
		assert_int_equal(handshake.bound.port, be16(1080));
		assert_true(handshake.bound.addr.words[3] == be32(0x0a020002));
	}
}

static enum socks_event feed_reply(struct socks_handshake *handshake, const char *reply, size_t len, size_t step)
{
	size_t pos = 0;

	socks_handshake_init(handshake, SOCKS_OFFER_NONE);
	assert_int_equal(feed(handshake, "\x05\x00", 2, step, &pos), SOCKS_EVENT_SEND_REQUEST);
	pos = 0;
	return feed(handshake, reply, len, step, &pos);
}

static void test_reply_address_types(void **state)
{
	struct socks_handshake handshake;
	char domain[SOCKS_REPLY_MAX_BYTES] = "\x05\x05\x00\x03\xff";

	(void)state;
	for (size_t step = 1; step < 8; step++) {
		assert_int_equal(feed_reply(&handshake, "\x05\x00\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\x01\x02",
					    22, step),
				 SOCKS_EVENT_REPLY);
		assert_int_equal(handshake.bound.addr.bytes[0], 0xfd);
		assert_int_equal(handshake.bound.addr.bytes[15], 9);
		assert_int_equal(handshake.bound.port, be16(0x0102));
		assert_int_equal(feed_reply(&handshake, domain, sizeof(domain), step), SOCKS_EVENT_REPLY);
		assert_int_equal(handshake.reply, SOCKS_REPLY_REFUSED);
		assert_int_equal(feed_reply(&handshake, domain, sizeof(domain) - 1, step), SOCKS_EVENT_MORE);
	}
	assert_int_equal(feed_reply(&handshake, "\x05\x00\x00\x03\x00\x00\x00", 7, 1), SOCKS_EVENT_REPLY);
}

/* Who reads no more than is wanted takes nothing of the payload, and comes to the end. */
static void test_wants(void **state)
{
	static const struct {
		const char *bytes;
		size_t handshake; /* the rest is payload */
		size_t len;
	} rows[] = {
		{"\x05\x00\x05\x00\x00\x01\1\2\3\4\5\6payload", 12, 19},
		{"\x05\x00\x05\x00\x00\x04\1\2\3\4\5\6\7\0\1\2\3\4\5\6\7\0\1\2payload", 24, 31},
		{"\x05\x00\x05\x00\x00\x03\x05hello\1\2payload", 14, 21},
		{"\x05\x02\x01\x00\x05\x00\x00\x01\1\2\3\4\5\6payload", 14, 21},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct socks_handshake handshake;
		enum socks_event event = SOCKS_EVENT_MORE;
		size_t pos = 0, used;

		socks_handshake_init(&handshake, SOCKS_OFFER_EITHER);
		while (event != SOCKS_EVENT_REPLY) {
			size_t part = socks_handshake_wants(&handshake);

			assert_true(part > 0 && pos + part <= rows[i].handshake);
			event = socks_handshake_feed(&handshake, (const uint8_t *)rows[i].bytes + pos, part, &used);
			assert_int_equal(used, part);
			pos += part;
		}
		assert_int_equal(pos, rows[i].handshake);
	}
}

static void test_bad_servers(void **state)
{
	struct socks_handshake handshake;
	size_t pos;

	(void)state;
	assert_int_equal(feed_reply(&handshake, "\x05\x00\x00\x02\x01", 5, 1), SOCKS_EVENT_MALFORMED);
	assert_int_equal(feed_reply(&handshake, "HTTP/1.1 400", 12, 12), SOCKS_EVENT_MALFORMED);
	socks_handshake_init(&handshake, SOCKS_OFFER_NONE);
	assert_int_equal(feed(&handshake, "\x04\x00", 2, 2, (pos = 0, &pos)), SOCKS_EVENT_MALFORMED);
	socks_handshake_init(&handshake, SOCKS_OFFER_NONE);
	assert_int_equal(feed(&handshake, "\x05\xff", 2, 2, (pos = 0, &pos)), SOCKS_EVENT_NO_METHOD);
	socks_handshake_init(&handshake, SOCKS_OFFER_NONE); /* user/password was not offered */
	assert_int_equal(feed(&handshake, "\x05\x02", 2, 2, (pos = 0, &pos)), SOCKS_EVENT_MALFORMED);
	socks_handshake_init(&handshake, SOCKS_OFFER_PASSWORD); /* the password is on its way */
	assert_int_equal(feed(&handshake, "\x05\x00", 2, 2, (pos = 0, &pos)), SOCKS_EVENT_MALFORMED);
	socks_handshake_init(&handshake, SOCKS_OFFER_EITHER);
	assert_int_equal(feed(&handshake, "\x05\x02\x01\x01", 4, 4, (pos = 0, &pos)), SOCKS_EVENT_SEND_AUTH);
	assert_int_equal(feed(&handshake, "\x05\x02\x01\x01", 4, 4, &pos), SOCKS_EVENT_AUTH_REJECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_connect_name),
		cmocka_unit_test(test_associate),
		cmocka_unit_test(test_exchange_in_pieces),
		cmocka_unit_test(test_reply_address_types),
		cmocka_unit_test(test_wants),
		cmocka_unit_test(test_bad_servers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("socks", tests, NULL, NULL);
}
