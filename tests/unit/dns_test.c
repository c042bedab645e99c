/* SPDX-License-Identifier: MIT */
/* DNS messages: what is understood, what is answered byte by byte, and what hostile ones come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"

#define MESSAGE(text) (const uint8_t *)(text), sizeof(text) - 1
#define HEADER(flags, counts) "\x12\x34" flags counts
/* Counts: questions, answers, authorities, additional. */
#define ONE_QUESTION "\0\1\0\0\0\0\0\0"
#define QUESTION_AND_OPT "\0\1\0\0\0\0\0\1"
#define RD "\1\0"
/* The example name of RFC 1035 4.1.4. */
#define FARPA "\1F\3ISI\4ARPA\0"
#define TYPE_A "\0\1\0\1"
#define TYPE_TXT "\0\x10\0\1"
#define OPT(size, ttl) "\0\0\x29" size ttl "\0\0"

static void test_query(void **state)
{
	struct dns_query query;

	(void)state;
	assert_int_equal(dns_parse_query(MESSAGE(HEADER(RD, ONE_QUESTION) FARPA TYPE_A), &query), DNS_NOERROR);
	assert_int_equal(query.id, 0x1234);
	assert_true(query.recursion_desired);
	assert_false(query.checking_disabled);
	assert_false(query.has_edns);
	assert_int_equal(query.udp_bytes, 512);
	assert_int_equal(dns_udp_limit(&query), 512);
	assert_int_equal(query.type, DNS_TYPE_A);
	assert_int_equal(query.class, DNS_CLASS_IN);
	assert_int_equal(query.name_bytes, sizeof(FARPA) - 1);
	assert_memory_equal(query.name, FARPA, sizeof(FARPA) - 1);

	assert_int_equal(
		dns_parse_query(MESSAGE(HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\x10\0", "\0\0\x80\0")), &query),
		DNS_NOERROR);
	assert_true(query.has_edns);
	assert_true(query.dnssec_ok);
	assert_int_equal(query.udp_bytes, 4096);
	assert_int_equal(dns_udp_limit(&query), DNS_EDNS_BYTES);
	/* RFC 6891 6.2.3: less than 512 is 512 */
	assert_int_equal(
		dns_parse_query(MESSAGE(HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\0\1", "\0\0\0\0")), &query),
		DNS_NOERROR);
	assert_int_equal(query.udp_bytes, 512);
	assert_int_equal(
		dns_parse_query(MESSAGE(HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\2\x58", "\0\0\0\0")), &query),
		DNS_NOERROR);
	assert_int_equal(dns_udp_limit(&query), 600);
}

#define LABEL_63                                                                                                       \
	"\x3f"                                                                                                         \
	"012345678901234567890123456789012345678901234567890123456789012"
#define NAME_255                                                                                                       \
	LABEL_63 LABEL_63 LABEL_63 "\x3d"                                                                              \
				   "0123456789012345678901234567890123456789012345678901234567890"                     \
				   "\0"
#define NAME_256                                                                                                       \
	LABEL_63 LABEL_63 LABEL_63 "\x3e"                                                                              \
				   "01234567890123456789012345678901234567890123456789012345678901"                    \
				   "\0"

static const struct {
	int rcode;
	const char *what;
	const char *message;
	size_t bytes;
} hostile[] = {
#define CASE(rcode, what, text)                                                                                        \
	{                                                                                                              \
		rcode, what, text, sizeof(text) - 1                                                                    \
	}
	CASE(DNS_IGNORE, "nothing", ""),
	CASE(DNS_IGNORE, "half a header", "\x12\x34\1\0\0\1"),
	CASE(DNS_IGNORE, "an answer", HEADER("\x81\x80", ONE_QUESTION) FARPA TYPE_A),
	CASE(DNS_NOTIMP, "STATUS", HEADER("\x10\0", ONE_QUESTION) FARPA TYPE_A),
	CASE(DNS_NOTIMP, "UPDATE, whatever follows", HEADER("\x28\0", "\0\1\xff\xff\xff\xff\xff\xff") FARPA TYPE_A),
	CASE(DNS_FORMERR, "no question", HEADER(RD, "\0\0\0\0\0\0\0\0")),
	CASE(DNS_FORMERR, "two questions", HEADER(RD, "\0\2\0\0\0\0\0\0") FARPA TYPE_A FARPA TYPE_A),
	CASE(DNS_FORMERR, "a question that is not there", HEADER(RD, ONE_QUESTION)),
	CASE(DNS_FORMERR, "an answer in a query", HEADER(RD, "\0\1\0\1\0\0\0\0") FARPA TYPE_A),
	CASE(DNS_FORMERR, "an authority in a query", HEADER(RD, "\0\1\0\0\0\1\0\0") FARPA TYPE_A),
	CASE(DNS_FORMERR, "truncated by its own account", HEADER("\3\0", ONE_QUESTION) FARPA TYPE_A),
	CASE(DNS_FORMERR, "no type", HEADER(RD, ONE_QUESTION) FARPA "\0\1\0"),
	CASE(DNS_FORMERR, "a name without an end", HEADER(RD, ONE_QUESTION) "\1F\3ISI"),
	CASE(DNS_FORMERR, "a label beyond the end",
	     HEADER(RD, ONE_QUESTION) "\x3f"
				      "abc"),
	CASE(DNS_FORMERR, "a pointer to itself", HEADER(RD, ONE_QUESTION) "\xc0\x0c" TYPE_A),
	CASE(DNS_FORMERR, "a pointer forward", HEADER(RD, ONE_QUESTION) "\xc0\x20" TYPE_A),
	CASE(DNS_FORMERR, "a pointer into the header", HEADER(RD, ONE_QUESTION) "\1a\xc0\0" TYPE_A),
	CASE(DNS_FORMERR, "a loop of a label and a pointer", HEADER(RD, ONE_QUESTION) "\1a\xc0\x0c" TYPE_A),
	CASE(DNS_FORMERR, "a reserved label type",
	     HEADER(RD, ONE_QUESTION) "\x41"
				      "a" TYPE_A),
	CASE(DNS_FORMERR, "half a pointer", HEADER(RD, ONE_QUESTION) "\xc0"),
	CASE(DNS_NOERROR, "the longest name", HEADER(RD, ONE_QUESTION) NAME_255 TYPE_A),
	CASE(DNS_FORMERR, "a longer name", HEADER(RD, ONE_QUESTION) NAME_256 TYPE_A),
	CASE(DNS_FORMERR, "bytes behind", HEADER(RD, ONE_QUESTION) FARPA TYPE_A "x"),
	CASE(DNS_FORMERR, "OPT that is not there", HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A),
	CASE(DNS_FORMERR, "65535 additional records", HEADER(RD, "\0\1\0\0\0\0\xff\xff") FARPA TYPE_A),
	CASE(DNS_FORMERR, "OPT with a name", HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A "\1a" OPT("\4\0", "\0\0\0\0")),
	CASE(DNS_FORMERR, "two OPT",
	     HEADER(RD, "\0\1\0\0\0\0\0\2") FARPA TYPE_A OPT("\4\0", "\0\0\0\0") OPT("\4\0", "\0\0\0\0")),
	CASE(DNS_FORMERR, "OPT longer than the message",
	     HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A "\0\0\x29\4\0\0\0\0\0\0\1"),
	CASE(DNS_BADVERS, "EDNS version 1", HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\4\0", "\0\1\0\0")),
	CASE(DNS_NOERROR, "a record of an unknown type, its name compressed",
	     HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A "\xc0\x0e\xff\0\0\1\0\0\0\0\0\2ab"),
	CASE(DNS_FORMERR, "the same with a pointer to itself",
	     HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A "\xc0\x1b\xff\0\0\1\0\0\0\0\0\2ab"),
#undef CASE
};

/* Each in a block of its own size, so that sanitizers see what is read behind it. */
static void test_hostile(void **state)
{
	struct dns_query query;

	(void)state;
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		uint8_t *copy = malloc(hostile[i].bytes + 1);
		int rcode;

		memcpy(copy, hostile[i].message, hostile[i].bytes);
		rcode = dns_parse_query(copy, hostile[i].bytes, &query);
		free(copy);
		if (rcode != hostile[i].rcode)
			fail_msg("%s: %d instead of %d", hostile[i].what, rcode, hostile[i].rcode);
	}
}

/* Every beginning of a good message is none. */
static void test_cut_off(void **state)
{
	static const char whole[] = HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\4\0", "\0\0\0\0");
	struct dns_query query;

	(void)state;
	for (size_t bytes = 0; bytes < sizeof(whole) - 1; bytes++) {
		uint8_t *copy = malloc(bytes + 1);

		memcpy(copy, whole, bytes);
		assert_int_equal(dns_parse_query(copy, bytes, &query), bytes < 12 ? DNS_IGNORE : DNS_FORMERR);
		free(copy);
	}
}

static void test_names(void **state)
{
	uint8_t wire[DNS_NAME_BYTES];
	char text[DNS_TEXT_BYTES];
	char longest[300];

	(void)state;
	assert_true(dns_name_text((const uint8_t *)FARPA, text));
	assert_string_equal(text, "f.isi.arpa");
	assert_true(dns_name_text((const uint8_t *)NAME_255, text));
	assert_int_equal(strlen(text), 253);
	assert_false(dns_name_text((const uint8_t *)"\0", text));
	assert_false(dns_name_text((const uint8_t *)"\3a.b\0", text));
	assert_false(dns_name_text((const uint8_t *)"\3a\0b\0", text));
	assert_false(dns_name_text((const uint8_t *)"\3a b\0", text));
	assert_true(dns_name_text((const uint8_t *)"\4_tcp\1-\0", text));
	assert_string_equal(text, "_tcp.-");

	assert_int_equal(dns_name_from_text("F.ISI.ARPA", wire), sizeof(FARPA) - 1);
	assert_memory_equal(wire, FARPA, sizeof(FARPA) - 1);
	assert_true(dns_name_text((const uint8_t *)NAME_255, longest));
	assert_int_equal(dns_name_from_text(longest, wire), 255);
	assert_memory_equal(wire, NAME_255, 255);
	strcat(longest, "x");
	assert_int_equal(dns_name_from_text(longest, wire), 0);
	assert_int_equal(dns_name_from_text("", wire), 0);
	assert_int_equal(dns_name_from_text(".", wire), 0);
	assert_int_equal(dns_name_from_text("a.", wire), 0);
	assert_int_equal(dns_name_from_text("a..b", wire), 0);
	memset(longest, 'a', 64);
	longest[64] = 0;
	assert_int_equal(dns_name_from_text(longest, wire), 0);
	longest[63] = 0;
	assert_int_equal(dns_name_from_text(longest, wire), 65);
}

static void check_reverse(const char *text, const char *wanted, size_t wanted_bytes)
{
	uint8_t wire[DNS_NAME_BYTES];
	struct addr addr;

	assert_true(dns_name_from_text(text, wire));
	assert_int_equal(dns_name_reverse(wire, &addr), wanted != NULL);
	if (wanted)
		assert_memory_equal(addr.bytes + 16 - wanted_bytes, wanted, wanted_bytes);
}

static void test_reverse(void **state)
{
	(void)state;
	check_reverse("1.0.18.198.in-addr.arpa", "\xff\xff\xc6\x12\0\1", 6);
	check_reverse("255.255.255.255.IN-ADDR.ARPA", "\xff\xff\xff\xff", 4);
	check_reverse("256.0.18.198.in-addr.arpa", NULL, 0);
	check_reverse("01.0.18.198.in-addr.arpa", NULL, 0);
	check_reverse("0.18.198.in-addr.arpa", NULL, 0);
	check_reverse("1.1.0.18.198.in-addr.arpa", NULL, 0);
	check_reverse("a.0.18.198.in-addr.arpa", NULL, 0);
	check_reverse("1.0.18.198.in-addr.arpa.example", NULL, 0);
	/* RFC 3596 2.5 */
	check_reverse("b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
		      "\x43\x21\0\0\0\1\0\2\0\3\0\4\x05\x67\x89\xab", 16);
	check_reverse("b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.ip6.arpa", NULL, 0);
	check_reverse("g.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa", NULL, 0);
	check_reverse("ba.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa", NULL, 0);
}

static struct dns_query ask(const char *message, size_t bytes)
{
	struct dns_query query;

	assert_true(dns_parse_query((const uint8_t *)message, bytes, &query) >= 0);
	return query;
}
#define ASK(text) ask(text, sizeof(text) - 1)

static void check_message(const uint8_t *message, size_t bytes, const char *wanted, size_t wanted_bytes)
{
	assert_int_equal(bytes, wanted_bytes);
	assert_memory_equal(message, wanted, wanted_bytes);
}
#define CHECK(message, bytes, text) check_message(message, bytes, text, sizeof(text) - 1)

static void test_answers(void **state)
{
	struct dns_query query = ASK(HEADER(RD, ONE_QUESTION) FARPA TYPE_A);
	struct addr ipv4 = addr_from_ipv4(be32(0x0a020034)), ipv6 = {.bytes = {0xfd, [15] = 1}};
	struct dns_answer answer;
	uint8_t message[DNS_EDNS_BYTES];

	(void)state;
	/* RFC 1035 4.1.4: the owner is a pointer to the question */
	dns_answer_begin(&answer, &query, DNS_NOERROR, message, 512);
	dns_answer_addr(&answer, &ipv4, 60);
	CHECK(message, dns_answer_end(&answer),
	      HEADER("\x81\x80", "\0\1\0\1\0\0\0\0") FARPA TYPE_A "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\2\0\x34");
	query = ASK(HEADER("\0\x10", QUESTION_AND_OPT) "\1f\3IsI\4aRpA\0"
						       "\0\x1c\0\1" OPT("\x10\0", "\0\0\x80\0"));
	dns_answer_begin(&answer, &query, DNS_NOERROR, message, 512);
	dns_answer_addr(&answer, &ipv6, 1);
	CHECK(message, dns_answer_end(&answer),
	      HEADER("\x80\x90",
		     "\0\1\0\1\0\0\0\1") "\1f\3IsI\4aRpA\0"
					 "\0\x1c\0\1"
					 "\xc0\x0c\0\x1c\0\1\0\0\0\1\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
					 "\0\0\x29\4\xd0\0\0\x80\0\0\0");
	/* the extended code stands in OPT */
	dns_answer_begin(&answer, &query, DNS_BADVERS, message, 512);
	CHECK(message, dns_answer_end(&answer),
	      HEADER("\x80\x90", QUESTION_AND_OPT) "\1f\3IsI\4aRpA\0"
						   "\0\x1c\0\1"
						   "\0\0\x29\4\xd0\1\0\x80\0\0\0");
	/* without a question there is none in the answer */
	query = ASK(HEADER("\x11\0", ONE_QUESTION));
	dns_answer_begin(&answer, &query, DNS_NOTIMP, message, 512);
	CHECK(message, dns_answer_end(&answer), HEADER("\x91\x84", "\0\0\0\0\0\0\0\0"));
}

static void test_nothing(void **state)
{
	const struct dns_query query = ASK(HEADER(RD, ONE_QUESTION) FARPA TYPE_TXT);
	struct dns_answer answer;
	uint8_t message[DNS_UDP_BYTES];

	(void)state;
	dns_answer_begin(&answer, &query, DNS_NXDOMAIN, message, sizeof(message));
	dns_answer_soa(&answer, 60);
	CHECK(message, dns_answer_end(&answer),
	      HEADER("\x81\x83", "\0\1\0\0\0\1\0\0") FARPA TYPE_TXT
	      "\xc0\x0c\0\6\0\1\0\0\0\x3c\0\x26\xc0\x0c\6nobody\7invalid\0"
	      "\0\0\0\1\0\0\x0e\x10\0\0\2\x58\0\1\x51\x80\0\0\0\x3c");
}

/* What does not fit is left out as a whole, and TC says so; OPT always fits. */
static void test_truncation(void **state)
{
	struct dns_query query = ASK(HEADER(RD, QUESTION_AND_OPT) FARPA TYPE_A OPT("\2\0", "\0\0\0\0"));
	struct addr ipv4 = addr_from_ipv4(be32(0x0a020034));
	uint8_t message[DNS_UDP_BYTES + 1];
	struct dns_answer answer;
	size_t bytes;

	(void)state;
	message[DNS_UDP_BYTES] = 0xee;
	dns_answer_begin(&answer, &query, DNS_NOERROR, message, DNS_UDP_BYTES);
	for (int i = 0; i < 100; i++)
		dns_answer_addr(&answer, &ipv4, 60);
	bytes = dns_answer_end(&answer);
	/* header 12, question 16, OPT 11; 16 each */
	assert_int_equal(answer.answers, (512 - 12 - 16 - 11) / 16);
	assert_int_equal(bytes, 12 + 16 + 11 + 16 * answer.answers);
	assert_int_equal(message[2] & 2, 2);
	assert_int_equal(message[7], answer.answers);
	assert_int_equal(message[bytes - 9], 0x29);
	assert_int_equal(message[DNS_UDP_BYTES], 0xee);
}

#define MX_QUESTION "\2aB\7example\0\0\x0f\0\1"
/* mail.ab.example: the exchange is compressed into the question. */
#define MX_RECORD "\xc0\x0c\0\x0f\0\1\0\0\1\0\0\x09\0\x0a\4mail\xc0\x0c"
#define A_RECORD "\xc0\x2a\0\1\0\1\0\0\1\0\0\4\x0a\0\0\1"

static void test_forward(void **state)
{
	struct dns_query query = ASK(HEADER(RD, ONE_QUESTION) MX_QUESTION);
	uint8_t message[DNS_UDP_BYTES];

	(void)state;
	/* another ID, another case, AA and AD; OPT goes, and what is behind it */
	CHECK(message,
	      dns_answer_forward(&query,
				 MESSAGE("\0\7\x85\xa0\0\1\0\1\0\0\0\3"
					 "\2AB\7example\0\0\x0f\0\1" MX_RECORD A_RECORD OPT("\4\0", "\0\0\0\0")
						 A_RECORD),
				 message, sizeof(message)),
	      HEADER("\x85\x80", "\0\1\0\1\0\0\0\1") MX_QUESTION MX_RECORD A_RECORD);
	/* the client's OPT gets ours */
	query = ASK(HEADER(RD, QUESTION_AND_OPT) MX_QUESTION OPT("\4\0", "\0\0\0\0"));
	CHECK(message,
	      dns_answer_forward(&query, MESSAGE("\0\7\x81\x83\0\1\0\0\0\0\0\0" MX_QUESTION), message, sizeof(message)),
	      HEADER("\x81\x83", QUESTION_AND_OPT) MX_QUESTION "\0\0\x29\4\xd0\0\0\0\0\0\0");
	/* too long: the question alone, and TC */
	CHECK(message,
	      dns_answer_forward(&query, MESSAGE("\0\7\x81\x80\0\1\0\1\0\0\0\0" MX_QUESTION MX_RECORD), message,
				 sizeof("" MX_QUESTION) - 1 + 12 + 11),
	      HEADER("\x83\x80", QUESTION_AND_OPT) MX_QUESTION "\0\0\x29\4\xd0\0\0\0\0\0\0");
}

static const struct {
	const char *what, *message;
	size_t bytes;
} responses[] = {
#define CASE(what, text)                                                                                               \
	{                                                                                                              \
		what, text, sizeof(text) - 1                                                                           \
	}
	CASE("nothing", ""),
	CASE("a query", "\0\7\1\0\0\1\0\0\0\0\0\0" MX_QUESTION),
	CASE("no question", "\0\7\x81\x80\0\0\0\0\0\0\0\0"),
	CASE("another name", "\0\7\x81\x80\0\1\0\0\0\0\0\0"
			     "\2ac\7example\0\0\x0f\0\1"),
	CASE("another type", "\0\7\x81\x80\0\1\0\0\0\0\0\0"
			     "\2ab\7example\0\0\x10\0\1"),
	CASE("another class", "\0\7\x81\x80\0\1\0\0\0\0\0\0"
			      "\2ab\7example\0\0\x0f\0\3"),
	CASE("a missing record", "\0\7\x81\x80\0\1\0\2\0\0\0\0" MX_QUESTION MX_RECORD),
	CASE("counts that lie", "\0\7\x81\x80\0\1\xff\xff\xff\xff\xff\xff" MX_QUESTION MX_RECORD),
	CASE("half a record", "\0\7\x81\x80\0\1\0\1\0\0\0\0" MX_QUESTION "\xc0\x0c\0\x0f\0\1\0\0\1\0\0\x09\0\x0a"),
	CASE("a loop", "\0\7\x81\x80\0\1\0\1\0\0\0\0" MX_QUESTION "\xc0\x1b\0\x0f\0\1\0\0\1\0\0\0"),
	CASE("OPT as an answer", "\0\7\x81\x80\0\1\0\1\0\0\0\0" MX_QUESTION OPT("\4\0", "\0\0\0\0")),
#undef CASE
};

static void test_bad_responses(void **state)
{
	const struct dns_query query = ASK(HEADER(RD, ONE_QUESTION) MX_QUESTION);
	uint8_t message[DNS_UDP_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
		uint8_t *copy = malloc(responses[i].bytes + 1);

		memcpy(copy, responses[i].message, responses[i].bytes);
		if (dns_answer_forward(&query, copy, responses[i].bytes, message, sizeof(message)))
			fail_msg("%s was passed on", responses[i].what);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),         cmocka_unit_test(test_hostile),    cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_names),         cmocka_unit_test(test_reverse),    cmocka_unit_test(test_answers),
		cmocka_unit_test(test_nothing),       cmocka_unit_test(test_truncation), cmocka_unit_test(test_forward),
		cmocka_unit_test(test_bad_responses),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
