/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whose packet is it: the gateway's own, or one that would be proxied? */
#ifndef SOCKSPLICE_CLASSIFY_BPF_H
#define SOCKSPLICE_CLASSIFY_BPF_H

#include "maps.bpf.h"
#include "parse.h"

/*
 * Addresses that no proxy can reach for a client: multicast, broadcast,
 * loopback and unspecified of IPv4 (RFC 1122 3.2.1.3), and multicast,
 * link-local and unspecified of IPv6 (RFC 4291). Neighbour discovery lives here.
 */
static __always_inline int addr_is_link_scope(const struct addr *a)
{
	if (addr_is_ipv4(a)) {
		__u8 first = a->bytes[12];

		return first == 0 || first == 127 || first >= 224;
	}
	if (a->bytes[0] == 0xff)
		return 1;
	if (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80)
		return 1;
	return (a->words[0] | a->words[1] | a->words[2]) == 0; /* :: and ::1 */
}

static __always_inline int dst_is_local(const struct packet_view *v)
{
	return addr_is_link_scope(&v->dst) || bpf_map_lookup_elem(&local_addrs, &v->dst) != (void *)0;
}

#endif
