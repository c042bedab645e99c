/* SPDX-License-Identifier: MIT */
/*
 * DNS messages. The first byte chooses: a query as it is, which is then answered in every way there is; or, behind a
 * query that the second byte measures, what a name server says to it. Besides, lines of the file of names.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "dnsmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What we write must be a message of the size that was allowed, and understood by whoever reads as we do. */
static void check_written(const struct dns_query *query, uint8_t *message, size_t bytes, size_t limit)
{
	struct dns_query again;
	uint8_t *copy;

	assert(bytes >= DNS_HEADER_BYTES && bytes <= limit && message[2] & 0x80);
	if (!query->has_question || query->opcode)
		return;
	/* as a query, without the records and what only answers have */
	copy = malloc(bytes);
	memcpy(copy, message, bytes);
	copy[2] &= 0x01;
	memset(copy + 6, 0, 6);
	bytes = DNS_HEADER_BYTES + query->name_bytes + 4u;
	assert(dns_parse_query(copy, bytes, &again) == DNS_NOERROR);
	assert(again.id == query->id && again.type == query->type && again.name_bytes == query->name_bytes);
	assert(!memcmp(again.name, query->name, query->name_bytes));
	free(copy);
}

static void fuzz_query(const uint8_t *data, size_t len)
{
	static uint8_t message[DNS_TCP_BYTES];
	struct addr ipv4 = addr_from_ipv4(be32(0xc6120002)), ipv6 = {.bytes = {0xfc}}, reverse;
	struct dns_query query;
	struct dns_answer answer;
	uint8_t wire[DNS_NAME_BYTES];
	char text[DNS_TEXT_BYTES];
	int rcode = dns_parse_query(data, len, &query);

	if (rcode == DNS_IGNORE)
		return;
	for (int way = 0; way < 3; way++) {
		size_t limit = way == 2 ? DNS_TCP_BYTES : dns_udp_limit(&query);

		dns_answer_begin(&answer, &query, (enum dns_rcode)rcode, message, limit);
		for (int i = 0; i < (way ? 60 : 0) && query.has_question; i++) {
			dns_answer_addr(&answer, i % 2 ? &ipv4 : &ipv6, (uint32_t)i);
			dns_answer_ptr(&answer, query.name, query.name_bytes, 1);
		}
		if (query.has_question)
			dns_answer_soa(&answer, 60);
		check_written(&query, message, dns_answer_end(&answer), limit);
	}
	if (rcode != DNS_NOERROR)
		return;
	dns_name_reverse(query.name, &reverse);
	if (dns_name_text(query.name, text)) {
		assert(strlen(text) < DNS_TEXT_BYTES);
		assert(dns_name_from_text(text, wire) == query.name_bytes);
	}
}

static void fuzz_response(const uint8_t *data, size_t len)
{
	static uint8_t message[DNS_TCP_BYTES];
	struct dns_query query;
	size_t query_bytes = data[0] < len - 1 ? data[0] : len - 1, bytes;

	if (dns_parse_query(data + 1, query_bytes, &query) != DNS_NOERROR)
		return;
	bytes = dns_answer_forward(&query, data + 1 + query_bytes, len - 1 - query_bytes, message, DNS_UDP_BYTES);
	if (bytes)
		check_written(&query, message, bytes, DNS_UDP_BYTES);
}

static void fuzz_lines(const uint8_t *data, size_t len)
{
	const struct dnsmap_settings settings = {
		.mapped = {.addr = addr_from_ipv4(be32(0xc6120000)), .bits = 124},
		.mapped6 = {.addr = {.bytes = {0xfc}}, .bits = 124},
		.entries = 8,
	};
	char *text = malloc(len + 1), out[8 * DNSMAP_LINE_BYTES];
	struct dnsmap_gauges gauges;
	struct dnsmap *map;
	uint32_t cursor = 0;
	bool more;

	memcpy(text, data, len);
	text[len] = 0;
	assert(!dnsmap_create(&map, &settings));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		dnsmap_load(map, line);
	dnsmap_load_end(map, (uint32_t)len);
	for (int i = 0; i < 20; i++) {
		char name[] = {(char)('a' + i), 0};

		assert(dnsmap_give(map, name) != DNSMAP_NONE);
	}
	dnsmap_gauges(map, &gauges);
	assert(gauges.names == 8);
	dnsmap_save(map, &cursor, 8, out, sizeof(out), &more);
	dnsmap_destroy(map);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 2)
		return 0;
	if (data[0] % 3 == 0)
		fuzz_query(data + 1, len - 1);
	else if (data[0] % 3 == 1)
		fuzz_response(data + 1, len - 1);
	else
		fuzz_lines(data + 1, len - 1);
	return 0;
}
