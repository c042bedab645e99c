/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Mapped DNS, before the rules: queries are the daemon's whatever the rules
 * say; a fake address can only be proxied; an address that a client was told
 * for a name that goes direct, goes direct.
 */
#ifndef SOCKSPLICE_DNS_BPF_H
#define SOCKSPLICE_DNS_BPF_H

#include "classify.bpf.h"
#include "dns_abi.h"

enum dns_kind {
	DNS_KIND_OTHER,
	DNS_KIND_QUERY,
	DNS_KIND_FAKE,
	DNS_KIND_DIRECT,
};

/* The two addresses are the key of `direct_addrs` as they lie in the view. */
_Static_assert(__builtin_offsetof(struct packet_view, dst) ==
		       __builtin_offsetof(struct packet_view, src) + sizeof(struct addr),
	       "no copy is needed");

static __always_inline int dns_is_query(const struct bpf_dns *settings, struct cursor *c, struct packet_view *v)
{
	if (v->is_fragment || (v->l4_proto == IPPROTO_UDP ? !packet_parse_udp(c, v) : v->l4_proto != IPPROTO_TCP))
		return 0;
	if (v->dport == settings->listen.port && addr_equal(&v->dst, &settings->listen.addr))
		return 1;
	return (settings->flags & DNS_FLAG_HIJACK) && v->dport == be16(DNS_PORT) && !addr_is_link_scope(&v->dst);
}

static __always_inline int dns_is_direct(const struct bpf_dns *settings, struct packet_view *v)
{
	struct direct_value *value = bpf_map_lookup_elem(&direct_addrs, &v->src);
	__u64 now_ns;

	if (!value)
		return 0;
	now_ns = bpf_ktime_get_coarse_ns();
	if (value->until_ns < now_ns)
		return 0;
	/* who talks to it goes on when the name's TTL is over; one write for many packets */
	if (value->until_ns < now_ns + settings->direct_idle_ns / 2)
		value->until_ns = now_ns + settings->direct_idle_ns;
	return 1;
}

/* Of a packet of a LAN interface that belongs to no known flow; TCP has been parsed by the caller. */
static __always_inline enum dns_kind dns_kind_of(struct cursor *c, struct packet_view *v)
{
	__u32 zero = 0;
	const struct bpf_dns *settings = bpf_map_lookup_elem(&dns, &zero);

	if (!settings || !(settings->flags & DNS_FLAG_ON))
		return DNS_KIND_OTHER;
	/* an IPv4-mapped address on an IPv6 packet would be mistaken for IPv4: user space drops it */
	if (v->ip_version == 6 && (addr_is_ipv4(&v->src) || addr_is_ipv4(&v->dst)))
		return DNS_KIND_OTHER;
	if (dns_is_query(settings, c, v))
		return DNS_KIND_QUERY;
	if (dns_is_fake(settings, &v->dst))
		return DNS_KIND_FAKE;
	return dns_is_direct(settings, v) ? DNS_KIND_DIRECT : DNS_KIND_OTHER;
}

#endif
