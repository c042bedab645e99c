/* SPDX-License-Identifier: MIT */
/* The header in front of each datagram between client and server of a UDP association (RFC 1928 section 7). */
#ifndef SOCKSPLICE_SOCKS_UDP_H
#define SOCKSPLICE_SOCKS_UDP_H

#include <stddef.h>
#include <stdint.h>

#include "addr.h"

/* RSV RSV FRAG ATYP, the address, the port */
#define SOCKS_UDP_IPV4_BYTES 10
#define SOCKS_UDP_IPV6_BYTES 22
/* With a name of 255 bytes and its length. */
#define SOCKS_UDP_MAX_BYTES 262

enum socks_udp_verdict {
	SOCKS_UDP_OK,
	SOCKS_UDP_FRAGMENT,  /* FRAG is not 0: reassembly is optional, "MUST drop" without it */
	SOCKS_UDP_NAME,      /* whole, but the sender is a domain name */
	SOCKS_UDP_MALFORMED, /* too short, an unknown ATYP, RSV not zero */
};

/* 10 or 22 by the family of `remote`. */
size_t socks_udp_header_bytes(const struct addr *remote);
/* Writes the header for `remote`, socks_udp_header_bytes() long, and returns that length. */
size_t socks_udp_build(uint8_t *out, const struct endpoint *remote);
/* SOCKS_UDP_OK: *remote is who sent it, and *header_bytes where the payload begins (`len` at most). */
enum socks_udp_verdict socks_udp_parse(const uint8_t *data, size_t len, struct endpoint *remote, size_t *header_bytes);

/*
 * UDP inside the control connection, the extension of hev-socks5-core (CMD 0x05). Each message:
 *
 *   u16 length of DATA alone, u8 length of everything before DATA, ATYP, DST.ADDR, DST.PORT, DATA
 */
#define SOCKS_UDP_TCP_IPV4_BYTES 10
#define SOCKS_UDP_TCP_IPV6_BYTES 22
#define SOCKS_UDP_TCP_PREFIX_BYTES 3

size_t socks_udp_tcp_build(uint8_t *out, const struct endpoint *remote, uint16_t data_bytes);
/*
 * One message at the start of data[0..len). > 0: its bytes in all, with *remote, *data_at and *data_bytes; 0: more is
 * needed; -1: malformed, nothing behind it can be trusted. A domain name leaves *remote zero.
 */
long socks_udp_tcp_parse(const uint8_t *data, size_t len, struct endpoint *remote, size_t *data_at, size_t *data_bytes);

#endif
