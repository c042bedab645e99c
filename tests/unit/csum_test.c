/* SPDX-License-Identifier: MIT */
/* Every checksum routine of this machine against a plain reference, and against RFC 1071's own example. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "csum.h"

#define BUFFER_BYTES 9100

/* 16 bits at a time, as RFC 1071 section 4.1 has it. */
static uint16_t reference(const uint8_t *data, size_t len, uint32_t start)
{
	uint64_t sum = start;

	for (size_t i = 0; i < len; i++)
		sum += (uint64_t)data[i] << (i & 1 ? 8 : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* 0 and 0xffff are the same number in ones-complement arithmetic. */
static void assert_sum(uint32_t got, uint16_t want)
{
	assert_int_equal(csum_fold_sum(got) % 0xffff, want % 0xffff);
}

static void test_rfc1071_example(void **state)
{
	static const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint16_t sum = csum_fold_sum(csum_partial(data, sizeof(data), 0));

	(void)state;
	assert_memory_equal(&sum, "\xdd\xf2", 2);
}

static void test_variants_agree(void **state)
{
	const struct csum_variant *variants;
	size_t count = csum_variants(&variants);
	uint8_t *buffer = malloc(BUFFER_BYTES);

	(void)state;
	srandom(1);
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		buffer[i] = (uint8_t)random();
	for (size_t v = 0; v < count; v++) {
		for (size_t len = 0; len <= 300; len++)
			for (size_t shift = 0; shift < 8; shift++)
				assert_sum(variants[v].partial(buffer + shift, len, 0),
					   reference(buffer + shift, len, 0));
		for (int i = 0; i < 20000; i++) {
			size_t shift = (size_t)random() % 64, len = (size_t)random() % (BUFFER_BYTES - shift);
			uint32_t start = (uint32_t)random() * 3;

			assert_sum(variants[v].partial(buffer + shift, len, start),
				   reference(buffer + shift, len, start));
		}
	}
	free(buffer);
}

/* All ones carry the most. */
static void test_carries(void **state)
{
	const struct csum_variant *variants;
	size_t count = csum_variants(&variants);
	uint8_t *buffer = malloc(BUFFER_BYTES);

	(void)state;
	memset(buffer, 0xff, BUFFER_BYTES);
	for (size_t v = 0; v < count; v++)
		for (size_t len = 1; len <= BUFFER_BYTES; len += 7)
			assert_sum(variants[v].partial(buffer, len, 0xffffffff), reference(buffer, len, 0xffffffff));
	free(buffer);
}

static void test_selection(void **state)
{
	const struct csum_variant *variants;
	size_t count = csum_variants(&variants);

	(void)state;
	csum_select(false);
	assert_string_equal(csum_name(), "scalar");
	csum_select(true);
	assert_string_equal(csum_name(), variants[count - 1].name);
}

static void test_pseudo_header(void **state)
{
	struct addr a = addr_from_ipv4(be32(0x0a000001)), b = addr_from_ipv4(be32(0x0a000002));
	static const uint8_t v4[] = {10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0x05, 0xdc};
	struct addr c = {{.bytes = {0xfd, [15] = 1}}}, d = {{.bytes = {0xfd, [15] = 2}}};
	uint8_t v6[40] = {0xfd, [15] = 1, [16] = 0xfd, [31] = 2, [34] = 0x05, [35] = 0xdc, [39] = 6};

	(void)state;
	assert_sum(csum_pseudo(&a, &b, 6, 1500), reference(v4, sizeof(v4), 0));
	assert_sum(csum_pseudo(&c, &d, 6, 1500), reference(v6, sizeof(v6), 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc1071_example), cmocka_unit_test(test_variants_agree),
		cmocka_unit_test(test_carries),         cmocka_unit_test(test_selection),
		cmocka_unit_test(test_pseudo_header),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("csum", tests, NULL, NULL);
}
