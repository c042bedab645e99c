/* SPDX-License-Identifier: MIT */
/*
 * The SOCKS5 wire format (RFC 1928, RFC 1929), as a client speaks it: building
 * messages, and a parser of replies that may arrive one byte at a time.
 */
#ifndef SOCKSPLICE_SOCKS_H
#define SOCKSPLICE_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define SOCKS_GREETING_MAX_BYTES 4
#define SOCKS_AUTH_MAX_BYTES 513
/* With a name: its length has one byte, and the longest name in DNS is 253. */
#define SOCKS_NAME_MAX_BYTES 253
#define SOCKS_CONNECT_MAX_BYTES (4 + 1 + SOCKS_NAME_MAX_BYTES + 2)
/* VER REP RSV ATYP, a domain name of 255 bytes with its length, the port */
#define SOCKS_REPLY_MAX_BYTES 262

/* RFC 1928 section 6, field REP. */
enum socks_reply {
	SOCKS_REPLY_SUCCEEDED = 0,
	SOCKS_REPLY_GENERAL_FAILURE = 1,
	SOCKS_REPLY_NOT_ALLOWED = 2,
	SOCKS_REPLY_NET_UNREACHABLE = 3,
	SOCKS_REPLY_HOST_UNREACHABLE = 4,
	SOCKS_REPLY_REFUSED = 5,
	SOCKS_REPLY_TTL_EXPIRED = 6,
	SOCKS_REPLY_COMMAND_UNSUPPORTED = 7,
	SOCKS_REPLY_ADDRESS_UNSUPPORTED = 8,
};

/* The authentication methods of the greeting (RFC 1928 section 3). */
enum socks_offer {
	SOCKS_OFFER_NONE,     /* no authentication */
	SOCKS_OFFER_EITHER,   /* user/password or no authentication, as the server likes */
	SOCKS_OFFER_PASSWORD, /* user/password only: what must be offered when the password follows unasked */
};

/* Each writes one message to `out` (at least the matching _MAX_BYTES) and returns its length. */
size_t socks_build_greeting(uint8_t *out, enum socks_offer offer);
/* user and password: 1..255 bytes each (RFC 1929 section 2). */
size_t socks_build_auth(uint8_t *out, const char *username, const char *password);
/* CONNECT to an IPv4 or IPv6 address. */
size_t socks_build_connect(uint8_t *out, const struct endpoint *destination);
/* CONNECT to a name of 1 to SOCKS_NAME_MAX_BYTES bytes, which the server resolves. */
size_t socks_build_connect_name(uint8_t *out, const char *name, __be16 port);
/* UDP ASSOCIATE; `source`: where datagrams will come from, all zero if that is not known yet (RFC 1928 section 4). */
size_t socks_build_associate(uint8_t *out, const struct endpoint *source);

/* What a UDP association is asked by: RFC 1928 section 4, and an extension of hev-socks5-core. */
#define SOCKS_COMMAND_ASSOCIATE 3
#define SOCKS_COMMAND_UDP_IN_TCP 5
/* UDP ASSOCIATE or the like, from an address that the server learns from the first datagram. */
size_t socks_build_udp_request(uint8_t *out, uint8_t command, bool ipv6);

/* What the parser of the server's half of a handshake has to say. */
enum socks_event {
	SOCKS_EVENT_MORE,         /* needs more bytes */
	SOCKS_EVENT_SEND_AUTH,    /* the server chose user/password: send the auth message */
	SOCKS_EVENT_SEND_REQUEST, /* send CONNECT */
	SOCKS_EVENT_REPLY,        /* the reply to CONNECT is whole: `reply` and `bound` are set */
	SOCKS_EVENT_NO_METHOD,    /* the server accepts none of our methods (0xff) */
	SOCKS_EVENT_AUTH_REJECTED,
	SOCKS_EVENT_MALFORMED,
};

struct socks_handshake {
	uint8_t stage;
	uint8_t offer;         /* enum socks_offer */
	uint8_t reply;         /* enum socks_reply or an unassigned value */
	struct endpoint bound; /* BND.ADDR and BND.PORT; a domain name leaves it zero */
	uint16_t have;         /* bytes in `message` */
	uint8_t message[SOCKS_REPLY_MAX_BYTES];
};

void socks_handshake_init(struct socks_handshake *handshake, enum socks_offer offer);
/* At most so many more bytes belong to the handshake for sure: who reads no more takes none of the payload behind it.
 */
size_t socks_handshake_wants(const struct socks_handshake *handshake);
/*
 * Takes bytes from data[0..len) up to the end of the current message and no further: *used tells how many. Bytes
 * after SOCKS_EVENT_REPLY belong to the relayed connection. Call again with the rest after any event but MORE,
 * NO_METHOD, AUTH_REJECTED, MALFORMED.
 */
enum socks_event socks_handshake_feed(struct socks_handshake *handshake, const uint8_t *data, size_t len, size_t *used);

#endif
