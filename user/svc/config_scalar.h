/* SPDX-License-Identifier: MIT */
/*
 * Strict readers of single values: the whole text must be the value. No
 * leading zeros (is 010 eight or ten?), no trailing text, no sign. Each
 * returns false and leaves *out alone when the text is not such a value.
 */
#ifndef SOCKSPLICE_CONFIG_SCALAR_H
#define SOCKSPLICE_CONFIG_SCALAR_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

/* Decimal digits, at most UINT32_MAX. */
bool config_scalar_uint(const char *text, uint32_t *out);
/* true or false. */
bool config_scalar_bool(const char *text, bool *out);
/* A number with one unit of ms, s, m, h; in nanoseconds; at most 30 days. */
bool config_scalar_duration(const char *text, uint64_t *out_ns);
/* a.b.c.d:port or [v6]:port, port 1..65535. */
bool config_scalar_endpoint(const char *text, struct endpoint *out);
/*
 * name:port, as RFC 952 and RFC 1123 2.1 have host names, with `_` besides. The last label is not all digits, so that a
 * mistyped address is none. `host`: CONFIG_MAX_HOST + 1 bytes; *port in network order.
 */
bool config_scalar_host(const char *text, char *host, __be16 *port);
/* a.b.c.d or an IPv6 address without brackets. */
bool config_scalar_addr(const char *text, struct addr *out);
/* FIRST-LAST, 1..65535, FIRST not behind LAST. */
bool config_scalar_ports(const char *text, uint16_t *first, uint16_t *last);
/* FIRST-LAST as above, or one port. */
bool config_scalar_port_or_ports(const char *text, uint16_t *first, uint16_t *last);
/*
 * ADDRESS/BITS, or ADDRESS alone, which is all its bits; IPv4 or IPv6. *bits counts in the 128 of *out. Bits behind
 * them may be set: config_scalar_mask() clears these.
 */
bool config_scalar_prefix(const char *text, struct addr *out, uint8_t *bits);
struct addr config_scalar_mask(const struct addr *addr, uint8_t bits);

#endif
