/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the programs must know of mapped DNS: which packets are queries for the
 * daemon, which destinations are fake addresses, and which real addresses a
 * client may go to directly because the name that it asked for may.
 */
#ifndef SOCKSPLICE_DNS_ABI_H
#define SOCKSPLICE_DNS_ABI_H

#include <linux/types.h>

#include "addr.h"
#include "base.h"

#define DNS_PORT 53

/* struct bpf_dns.flags */
#define DNS_FLAG_ON 0x01
#define DNS_FLAG_HIJACK 0x02 /* all that goes to DNS_PORT, not only what goes to `listen` */

/* The one entry of the `dns` array map. All zero: off. */
struct bpf_dns {
	__u32 flags;
	__be32 fake4, fake4_mask;
	struct addr fake6, fake6_mask;
	struct endpoint listen;
	__u64 direct_idle_ns; /* an address in use stays in `direct_addrs` so long after its last packet */
};

/*
 * Key of `direct_addrs`. A client is known by its MAC, not by an address: a host asks by IPv4 for IPv6 addresses, and
 * has several of these. What is behind another router counts as one client.
 */
struct direct_key {
	struct addr destination;
	__u8 client_mac[6];
	__u8 pad[2]; /* zero */
};

struct direct_value {
	__u64 until_ns; /* CLOCK_MONOTONIC; raised by what is sent there */
};

/* Pairs of client and address. Beyond, the kernel forgets what was not used for the longest time. */
#define DIRECT_ADDRS 65536

static __always_inline int dns_is_fake(const struct bpf_dns *dns, const struct addr *addr)
{
	if (addr_is_ipv4(addr))
		return (addr->words[3] & dns->fake4_mask) == dns->fake4;
	return (addr->words[0] & dns->fake6_mask.words[0]) == dns->fake6.words[0] &&
	       (addr->words[1] & dns->fake6_mask.words[1]) == dns->fake6.words[1] &&
	       (addr->words[2] & dns->fake6_mask.words[2]) == dns->fake6.words[2] &&
	       (addr->words[3] & dns->fake6_mask.words[3]) == dns->fake6.words[3];
}

_Static_assert(sizeof(struct bpf_dns) == 72, "shared with the kernel programs");
_Static_assert(sizeof(struct direct_key) == 24, "a hash key without padding");

#endif
