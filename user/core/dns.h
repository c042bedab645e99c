/* SPDX-License-Identifier: MIT */
/*
 * DNS messages (RFC 1035, EDNS(0) of RFC 6891): a strict parser of queries, a
 * builder of answers, and a checked copy of a name server's answer. Pure, and
 * bounded whatever a message claims.
 *
 * A name is kept in wire form, uncompressed, in the case that it was asked in:
 * the answer repeats the question byte by byte, which clients that vary the
 * case against spoofing insist on.
 */
#ifndef SOCKSPLICE_DNS_H
#define SOCKSPLICE_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define DNS_HEADER_BYTES 12
#define DNS_NAME_BYTES 255 /* wire form with the root's zero (RFC 1035 2.3.4) */
#define DNS_TEXT_BYTES 254 /* the longest name as text, and a zero */
/* What every client takes by UDP, and what one with EDNS gets at most: fits every path (RFC 9715 3.2). */
#define DNS_UDP_BYTES 512
#define DNS_EDNS_BYTES 1232
#define DNS_TCP_BYTES 65535

enum dns_type {
	DNS_TYPE_A = 1,
	DNS_TYPE_SOA = 6,
	DNS_TYPE_PTR = 12,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_OPT = 41,
	DNS_TYPE_TKEY = 249, /* from here to MAILA: meta queries and zone transfers */
	DNS_TYPE_MAILA = 254,
	DNS_TYPE_ANY = 255,
};

#define DNS_CLASS_IN 1

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16, /* upper bits in OPT (RFC 6891 6.1.3) */
};

struct dns_query {
	uint16_t id;
	uint8_t opcode;
	bool recursion_desired, checking_disabled;
	bool has_question; /* name, type and class are there, also when something behind them is wrong */
	bool has_edns, dnssec_ok;
	uint16_t udp_bytes; /* that the client takes; at least DNS_UDP_BYTES */
	uint16_t type, class;
	uint16_t name_bytes;
	uint8_t name[DNS_NAME_BYTES];
};

/* No answer: too short for a header, or itself an answer. */
#define DNS_IGNORE (-1)

/*
 * DNS_NOERROR: a well-formed standard query with one question. Another rcode: what it has to be answered with
 * (FORMERR, NOTIMP for other opcodes, BADVERS), *out says what is known. Or DNS_IGNORE.
 */
int dns_parse_query(const uint8_t *message, size_t bytes, struct dns_query *out);

/*
 * A name as text in lower case, without the last dot. false: it is the root, or has other characters than letters,
 * digits, '-' and '_': no name of a host that SOCKS5 could be given.
 */
bool dns_name_text(const uint8_t *name, char text[DNS_TEXT_BYTES]);
/* The reverse: letters as they are. Returns the bytes of the wire form, 0: no such name. */
uint16_t dns_name_from_text(const char *text, uint8_t name[DNS_NAME_BYTES]);
/* The address that a name of in-addr.arpa or ip6.arpa (RFC 3596 2.5) stands for. */
bool dns_name_reverse(const uint8_t *name, struct addr *out);

/* An answer in the making. What does not fit sets TC and is left out. */
struct dns_answer {
	uint8_t *message;
	size_t bytes, limit;
	const struct dns_query *query;
	uint16_t answers, authorities;
	uint8_t rcode;
	bool truncated;
};

/* limit: room in `message`, at least DNS_UDP_BYTES. `query` must live until dns_answer_end(). */
void dns_answer_begin(struct dns_answer *answer, const struct dns_query *query, enum dns_rcode rcode, uint8_t *message,
		      size_t limit);
/* A or AAAA for the question's name. */
void dns_answer_addr(struct dns_answer *answer, const struct addr *addr, uint32_t ttl);
/* PTR to a name in wire form. */
void dns_answer_ptr(struct dns_answer *answer, const uint8_t *name, uint16_t name_bytes, uint32_t ttl);
/* The authority that lets a client remember for `ttl` seconds that there is nothing (RFC 2308 3, 5). */
void dns_answer_soa(struct dns_answer *answer, uint32_t ttl);
/* Header and OPT; returns the bytes of the message. */
size_t dns_answer_end(struct dns_answer *answer);

/*
 * The answer of a name server, checked from end to end, for the client that asked `query`: its ID, flags and case; the
 * server's OPT is replaced by ours. Returns the bytes written, at most `limit` (else only the question, with TC);
 * 0: the response is malformed or answers something else.
 */
size_t dns_answer_forward(const struct dns_query *query, const uint8_t *response, size_t bytes, uint8_t *message,
			  size_t limit);

/* What a client may be sent by UDP. */
size_t dns_udp_limit(const struct dns_query *query);

#endif
