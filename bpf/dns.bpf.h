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

static __always_inline int dns_is_query(const struct bpf_dns *settings, const struct packet_view *v)
{
	/* neither TCP nor UDP, or a fragment */
	if (!v->payload_off)
		return 0;
	if (v->dport == settings->listen.port && addr_equal(&v->dst, &settings->listen.addr))
		return 1;
	return (settings->flags & DNS_FLAG_HIJACK) && v->dport == be16(DNS_PORT) && !addr_is_link_scope(&v->dst);
}

static __always_inline int dns_is_direct(const struct bpf_dns *settings, hook_ctx *ctx, const struct packet_view *v)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct direct_key key = {.destination = v->dst};
	const struct ethhdr *eth = data;
	struct direct_value *value;
	__u64 now_ns;

	if ((const void *)(eth + 1) > end)
		return 0;
	__builtin_memcpy(key.client_mac, eth->h_source, 6);
	value = bpf_map_lookup_elem(&direct_addrs, &key);
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

/* Of a packet of a LAN interface that belongs to no known flow; TCP and UDP have been parsed by the caller. */
static __always_inline enum dns_kind dns_kind_of(hook_ctx *ctx, const struct packet_view *v)
{
	__u32 zero = 0;
	const struct bpf_dns *settings = bpf_map_lookup_elem(&dns, &zero);

	if (!settings || !(settings->flags & DNS_FLAG_ON))
		return DNS_KIND_OTHER;
	/* an IPv4-mapped address on an IPv6 packet would be mistaken for IPv4: user space drops it */
	if (v->ip_version == 6 && (addr_is_ipv4(&v->src) || addr_is_ipv4(&v->dst)))
		return DNS_KIND_OTHER;
	if (dns_is_query(settings, v))
		return DNS_KIND_QUERY;
	if (dns_is_fake(settings, &v->dst))
		return DNS_KIND_FAKE;
	return dns_is_direct(settings, ctx, v) ? DNS_KIND_DIRECT : DNS_KIND_OTHER;
}

#endif
