/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One address type for both families: 16 bytes in network order, IPv4 as
 * ::ffff:a.b.c.d (RFC 4291 2.5.5.2). Tables then need one key, not two.
 */
#ifndef SOCKSPLICE_ADDR_H
#define SOCKSPLICE_ADDR_H

#include <linux/types.h>

#include "base.h"

struct addr {
	union {
		__u8 bytes[16];
		__be32 words[4];
	};
};

struct endpoint {
	struct addr addr;
	__be16 port;
	__u16 pad; /* zero: endpoints are compared and hashed as bytes */
};

static __always_inline struct addr addr_from_ipv4(__be32 ip)
{
	struct addr a = {{.words = {0, 0, be32(0x0000ffff), ip}}};

	return a;
}

static __always_inline int addr_is_ipv4(const struct addr *a)
{
	return a->words[0] == 0 && a->words[1] == 0 && a->words[2] == be32(0x0000ffff);
}

static __always_inline int addr_equal(const struct addr *a, const struct addr *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
	       a->words[3] == b->words[3];
}

#endif
