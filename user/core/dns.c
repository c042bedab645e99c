/* SPDX-License-Identifier: MIT */
#include "dns.h"

#include <string.h>

#define DNS_FLAG_QR 0x8000
#define DNS_FLAG_TC 0x0200
#define DNS_FLAG_RD 0x0100
#define DNS_FLAG_RA 0x0080
#define DNS_FLAG_AA 0x0400
#define DNS_FLAG_CD 0x0010
#define DNS_OPCODE_SHIFT 11
#define DNS_OPT_BYTES 11
#define DNS_EDNS_DO 0x8000
#define DNS_MAX_LABEL 63
#define DNS_POINTER 0xc0
/* Type, class, TTL, length of the data. */
#define DNS_RECORD_BYTES 10
/* The question's name, which stands right behind the header. */
#define DNS_QUESTION_POINTER (DNS_POINTER << 8 | DNS_HEADER_BYTES)

static uint16_t dns_get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void dns_put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void dns_put32(uint8_t *at, uint32_t value)
{
	dns_put16(at, value >> 16);
	dns_put16(at + 2, value);
}

/* --- names --- */

/*
 * The end of a name in a message, 0: malformed. A pointer must lead to before the piece that it stands in, so each step
 * goes back and there is no loop; all pieces together are no longer than a name may be.
 */
static size_t dns_skip_name(const uint8_t *message, size_t bytes, size_t pos)
{
	size_t end = 0, piece = pos, name_bytes = 0;

	for (;;) {
		size_t target;

		if (pos >= bytes)
			return 0;
		if (message[pos] <= DNS_MAX_LABEL) {
			name_bytes += 1u + message[pos];
			if (name_bytes > DNS_NAME_BYTES)
				return 0;
			if (!message[pos])
				return end ? end : pos + 1;
			pos += 1u + message[pos];
			continue;
		}
		if ((message[pos] & DNS_POINTER) != DNS_POINTER || pos + 2 > bytes)
			return 0;
		target = dns_get16(message + pos) & 0x3fffu;
		if (target >= piece || target < DNS_HEADER_BYTES)
			return 0;
		if (!end)
			end = pos + 2;
		pos = piece = target;
	}
}

static uint8_t dns_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool dns_is_host_character(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_name_text(const uint8_t *name, char text[DNS_TEXT_BYTES])
{
	char *out = text;

	while (*name) {
		uint8_t label = *name++;

		if (out != text)
			*out++ = '.';
		for (; label; label--) {
			uint8_t c = dns_lower(*name++);

			if (!dns_is_host_character(c))
				return false;
			*out++ = (char)c;
		}
	}
	*out = 0;
	return out != text;
}

uint16_t dns_name_from_text(const char *text, uint8_t name[DNS_NAME_BYTES])
{
	uint16_t bytes = 0;

	while (*text) {
		size_t label = strcspn(text, ".");

		/* the length, the label, and later the root */
		if (!label || label > DNS_MAX_LABEL || bytes + label + 2 > DNS_NAME_BYTES)
			return 0;
		name[bytes++] = (uint8_t)label;
		memcpy(name + bytes, text, label);
		bytes = (uint16_t)(bytes + label);
		text += label;
		if (*text == '.' && !*++text)
			return 0;
	}
	if (!bytes)
		return 0;
	name[bytes++] = 0;
	return bytes;
}

/* The next label of a name, as a number in base 10 or 16 up to 255 without leading zeros; -1: none. */
static int dns_label_number(const uint8_t **name, int base)
{
	const uint8_t *label = *name;
	int value = 0;

	if (!label[0] || label[0] > 3 || (label[0] > 1 && label[1] == '0'))
		return -1;
	for (uint8_t i = 1; i <= label[0]; i++) {
		uint8_t c = dns_lower(label[i]);
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : base;

		if (digit >= base)
			return -1;
		value = value * base + digit;
	}
	*name += 1 + label[0];
	return value < 256 ? value : -1;
}

static bool dns_name_ends(const uint8_t *name, const char *wire, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (dns_lower(name[i]) != (uint8_t)wire[i])
			return false;
	return true;
}

bool dns_name_reverse(const uint8_t *name, struct addr *out)
{
	static const char ipv4[] = "\7in-addr\4arpa", ipv6[] = "\3ip6\4arpa";
	const uint8_t *at = name;
	struct addr addr = addr_from_ipv4(0);
	int value = 0, i;

	for (i = 0; i < 4 && (value = dns_label_number(&at, 10)) >= 0; i++)
		addr.bytes[15 - i] = (uint8_t)value;
	if (i == 4 && dns_name_ends(at, ipv4, sizeof(ipv4))) {
		*out = addr;
		return true;
	}
	memset(&addr, 0, sizeof(addr));
	at = name;
	for (i = 0; i < 32 && at[0] == 1 && (value = dns_label_number(&at, 16)) >= 0; i++)
		addr.bytes[15 - i / 2] |= (uint8_t)(value << (i % 2 ? 4 : 0));
	if (i != 32 || !dns_name_ends(at, ipv6, sizeof(ipv6)))
		return false;
	*out = addr;
	return true;
}

/* --- queries --- */

/* The one question, whose name cannot be compressed: nothing stands before it. Returns its end, 0: malformed. */
static size_t dns_parse_question(const uint8_t *message, size_t bytes, struct dns_query *out)
{
	size_t end = dns_skip_name(message, bytes, DNS_HEADER_BYTES);

	if (!end || end + 4 > bytes)
		return 0;
	out->name_bytes = (uint16_t)(end - DNS_HEADER_BYTES);
	memcpy(out->name, message + DNS_HEADER_BYTES, out->name_bytes);
	out->type = dns_get16(message + end);
	out->class = dns_get16(message + end + 2);
	out->has_question = true;
	return end + 4;
}

/* RFC 6891 6.1.2: the class is the size, the TTL holds version and flags. */
static int dns_parse_opt(const uint8_t *record, struct dns_query *out)
{
	uint16_t udp_bytes = dns_get16(record + 2);

	/* more than one is a format error (6.1.1) */
	if (out->has_edns)
		return DNS_FORMERR;
	out->has_edns = true;
	out->udp_bytes = udp_bytes < DNS_UDP_BYTES ? DNS_UDP_BYTES : udp_bytes;
	out->dnssec_ok = dns_get16(record + 6) & DNS_EDNS_DO;
	return record[5] ? DNS_BADVERS : DNS_NOERROR;
}

static int dns_parse_additional(const uint8_t *message, size_t bytes, size_t pos, uint16_t count, struct dns_query *out)
{
	int rcode = DNS_NOERROR;

	for (; count; count--) {
		size_t end = dns_skip_name(message, bytes, pos);

		if (!end || end + DNS_RECORD_BYTES > bytes ||
		    end + DNS_RECORD_BYTES + dns_get16(message + end + 8) > bytes)
			return DNS_FORMERR;
		if (dns_get16(message + end) == DNS_TYPE_OPT) {
			int opt = message[pos] ? DNS_FORMERR : dns_parse_opt(message + end, out);

			if (opt == DNS_FORMERR)
				return DNS_FORMERR;
			rcode = opt;
		}
		pos = end + DNS_RECORD_BYTES + dns_get16(message + end + 8);
	}
	return pos == bytes ? rcode : DNS_FORMERR;
}

int dns_parse_query(const uint8_t *message, size_t bytes, struct dns_query *out)
{
	uint16_t flags;
	size_t pos;

	memset(out, 0, sizeof(*out));
	out->udp_bytes = DNS_UDP_BYTES;
	if (bytes < DNS_HEADER_BYTES)
		return DNS_IGNORE;
	flags = dns_get16(message + 2);
	if (flags & DNS_FLAG_QR)
		return DNS_IGNORE;
	out->id = dns_get16(message);
	out->opcode = flags >> DNS_OPCODE_SHIFT & 0xf;
	out->recursion_desired = flags & DNS_FLAG_RD;
	out->checking_disabled = flags & DNS_FLAG_CD;
	if (out->opcode)
		return DNS_NOTIMP;
	/* one question (RFC 9619), no answers; a truncated query cannot be (RFC 1035 4.1.1) */
	if (dns_get16(message + 4) != 1 || dns_get16(message + 6) || dns_get16(message + 8) || flags & DNS_FLAG_TC)
		return DNS_FORMERR;
	pos = dns_parse_question(message, bytes, out);
	return pos ? dns_parse_additional(message, bytes, pos, dns_get16(message + 10), out) : DNS_FORMERR;
}

size_t dns_udp_limit(const struct dns_query *query)
{
	return query->udp_bytes < DNS_EDNS_BYTES ? query->udp_bytes : DNS_EDNS_BYTES;
}

/* --- answers --- */

/* OPT's room is always kept free. */
static bool dns_answer_room(struct dns_answer *answer, size_t bytes)
{
	size_t opt = answer->query->has_edns ? DNS_OPT_BYTES : 0;

	if (!answer->truncated && answer->bytes + bytes + opt <= answer->limit)
		return true;
	answer->truncated = true;
	return false;
}

void dns_answer_begin(struct dns_answer *answer, const struct dns_query *query, enum dns_rcode rcode, uint8_t *message,
		      size_t limit)
{
	*answer = (struct dns_answer){
		.message = message,
		.bytes = DNS_HEADER_BYTES,
		.limit = limit,
		.query = query,
		.rcode = (uint8_t)rcode,
	};
	if (!query->has_question)
		return;
	memcpy(message + answer->bytes, query->name, query->name_bytes);
	answer->bytes += query->name_bytes;
	dns_put16(message + answer->bytes, query->type);
	dns_put16(message + answer->bytes + 2, query->class);
	answer->bytes += 4;
}

/* A record of the question's name up to its data. */
static uint8_t *dns_answer_record(struct dns_answer *answer, enum dns_type type, uint32_t ttl, size_t data_bytes)
{
	uint8_t *at = answer->message + answer->bytes;

	if (!dns_answer_room(answer, 2 + DNS_RECORD_BYTES + data_bytes))
		return NULL;
	dns_put16(at, DNS_QUESTION_POINTER);
	dns_put16(at + 2, type);
	dns_put16(at + 4, DNS_CLASS_IN);
	dns_put32(at + 6, ttl);
	dns_put16(at + 10, (uint32_t)data_bytes);
	answer->bytes += 2 + DNS_RECORD_BYTES + data_bytes;
	return at + 2 + DNS_RECORD_BYTES;
}

void dns_answer_addr(struct dns_answer *answer, const struct addr *addr, uint32_t ttl)
{
	bool ipv4 = addr_is_ipv4(addr);
	size_t bytes = ipv4 ? 4 : 16;
	uint8_t *data = dns_answer_record(answer, ipv4 ? DNS_TYPE_A : DNS_TYPE_AAAA, ttl, bytes);

	if (!data)
		return;
	memcpy(data, addr->bytes + 16 - bytes, bytes);
	answer->answers++;
}

void dns_answer_ptr(struct dns_answer *answer, const uint8_t *name, uint16_t name_bytes, uint32_t ttl)
{
	uint8_t *data = dns_answer_record(answer, DNS_TYPE_PTR, ttl, name_bytes);

	if (!data)
		return;
	memcpy(data, name, name_bytes);
	answer->answers++;
}

void dns_answer_soa(struct dns_answer *answer, uint32_t ttl)
{
	/* primary server: the name itself; responsible: nobody.invalid (RFC 2606 2) */
	static const char responsible[] = "\6nobody\7invalid";
	uint8_t *data = dns_answer_record(answer, DNS_TYPE_SOA, ttl, 2 + sizeof(responsible) + 20);

	if (!data)
		return;
	dns_put16(data, DNS_QUESTION_POINTER);
	memcpy(data + 2, responsible, sizeof(responsible));
	data += 2 + sizeof(responsible);
	dns_put32(data, 1);        /* serial */
	dns_put32(data + 4, 3600); /* refresh, retry, expire: for secondaries, which there are not */
	dns_put32(data + 8, 600);
	dns_put32(data + 12, 86400);
	dns_put32(data + 16, ttl); /* of negative answers */
	answer->authorities++;
}

static size_t dns_put_opt(uint8_t *at, const struct dns_query *query, uint8_t rcode)
{
	at[0] = 0;
	dns_put16(at + 1, DNS_TYPE_OPT);
	dns_put16(at + 3, DNS_EDNS_BYTES);
	at[5] = rcode >> 4;
	at[6] = 0;
	dns_put16(at + 7, query->dnssec_ok ? DNS_EDNS_DO : 0); /* RFC 3225 3 */
	dns_put16(at + 9, 0);
	return DNS_OPT_BYTES;
}

static uint16_t dns_answer_flags(const struct dns_query *query, uint8_t rcode, bool truncated)
{
	return (uint16_t)(DNS_FLAG_QR | query->opcode << DNS_OPCODE_SHIFT | (truncated ? DNS_FLAG_TC : 0) |
			  (query->recursion_desired ? DNS_FLAG_RD : 0) | DNS_FLAG_RA |
			  (query->checking_disabled ? DNS_FLAG_CD : 0) | (rcode & 0xf));
}

size_t dns_answer_end(struct dns_answer *answer)
{
	const struct dns_query *query = answer->query;
	uint8_t *message = answer->message;

	dns_put16(message, query->id);
	dns_put16(message + 2, dns_answer_flags(query, answer->rcode, answer->truncated));
	dns_put16(message + 4, query->has_question);
	dns_put16(message + 6, answer->answers);
	dns_put16(message + 8, answer->authorities);
	dns_put16(message + 10, query->has_edns);
	if (query->has_edns)
		answer->bytes += dns_put_opt(message + answer->bytes, query, answer->rcode);
	return answer->bytes;
}

/* --- a name server's answer --- */

/* Where the records of a response end that are passed on, and how many of the additional ones there are. */
struct dns_response {
	size_t end;
	uint16_t additional;
};

static bool dns_same_question(const struct dns_query *query, const uint8_t *response, size_t bytes)
{
	size_t end = DNS_HEADER_BYTES + query->name_bytes;

	if (bytes < end + 4 || dns_get16(response + 4) != 1)
		return false;
	for (size_t i = 0; i < query->name_bytes; i++)
		if (dns_lower(response[DNS_HEADER_BYTES + i]) != dns_lower(query->name[i]))
			return false;
	return dns_get16(response + end) == query->type && dns_get16(response + end + 2) == query->class;
}

/*
 * All records must be whole. Additional ones end before OPT: what names compressed into it or behind it is left out
 * with it, so no pointer leads anywhere else than before.
 */
static bool dns_check_response(const struct dns_query *query, const uint8_t *response, size_t bytes,
			       struct dns_response *out)
{
	uint32_t fixed = (uint32_t)dns_get16(response + 6) + dns_get16(response + 8);
	uint32_t total = fixed + dns_get16(response + 10);
	size_t pos = DNS_HEADER_BYTES + query->name_bytes + 4u;
	bool past_opt = false;

	*out = (struct dns_response){.end = pos};
	for (uint32_t i = 0; i < total; i++) {
		size_t end = dns_skip_name(response, bytes, pos);

		if (!end || end + DNS_RECORD_BYTES > bytes)
			return false;
		past_opt = past_opt || dns_get16(response + end) == DNS_TYPE_OPT;
		if (past_opt && i < fixed)
			return false;
		pos = end + DNS_RECORD_BYTES + dns_get16(response + end + 8);
		if (pos > bytes)
			return false;
		if (past_opt)
			continue;
		out->end = pos;
		out->additional = (uint16_t)(out->additional + (i >= fixed));
	}
	return true;
}

size_t dns_answer_forward(const struct dns_query *query, const uint8_t *response, size_t bytes, uint8_t *message,
			  size_t limit)
{
	size_t opt = query->has_edns ? DNS_OPT_BYTES : 0, question_end = DNS_HEADER_BYTES + query->name_bytes + 4u;
	struct dns_response checked;
	bool truncated;
	uint16_t flags;

	if (bytes < DNS_HEADER_BYTES || !(dns_get16(response + 2) & DNS_FLAG_QR) ||
	    !dns_same_question(query, response, bytes) || !dns_check_response(query, response, bytes, &checked))
		return 0;
	truncated = checked.end + opt > limit;
	if (truncated)
		checked = (struct dns_response){.end = question_end};
	memcpy(message, response, checked.end);
	memcpy(message + DNS_HEADER_BYTES, query->name, query->name_bytes);
	/* whether it is authentic, nobody here has verified */
	flags = dns_answer_flags(query, response[3] & 0xf, truncated);
	dns_put16(message, query->id);
	dns_put16(message + 2, flags | (dns_get16(response + 2) & DNS_FLAG_AA));
	if (truncated)
		memset(message + 6, 0, 4);
	dns_put16(message + 10, checked.additional + query->has_edns);
	if (query->has_edns)
		checked.end += dns_put_opt(message + checked.end, query, 0);
	return checked.end;
}
