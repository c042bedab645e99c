/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whose packet is it: the gateway's own, one of a known flow, or one that would be proxied? */
#ifndef SOCKSPLICE_CLASSIFY_BPF_H
#define SOCKSPLICE_CLASSIFY_BPF_H

#include "count.bpf.h"
#include "maps.bpf.h"
#include "parse.h"

#define TCP_FLAG_BYTE_FIN 0x01
#define TCP_FLAG_BYTE_SYN 0x02
#define TCP_FLAG_BYTE_RST 0x04
#define TCP_FLAG_BYTE_ACK 0x10

#define ICMP_TYPE_ECHO 8
#define ICMPV6_TYPE_ECHO 128

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

/* A packet of the upstream on another interface than its own is somebody else's, who guessed addresses and ports. */
static __always_inline int flow_comes_by(const struct flow_entry *entry, __u32 direction, __u32 ifindex)
{
	return direction == FLOW_UP || !entry->upstream_ifindex || entry->upstream_ifindex == ifindex;
}

/* RFC 792: unreachable, time exceeded, parameter problem. RFC 4443: these and packet too big. */
static __always_inline int icmp4_is_error(__u8 type)
{
	return type == 3 || type == 11 || type == 12;
}

static __always_inline int icmp6_is_error(__u8 type)
{
	return type >= 1 && type <= 4;
}

static __always_inline int icmp_is_error(hook_ctx *ctx, const struct packet_view *v)
{
	__u8 type = 0;

	if (v->is_fragment || v->l4_proto != (v->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) ||
	    hook_load_bytes(ctx, v->l4_off, &type, 1))
		return 0;
	return v->ip_version == 4 ? icmp4_is_error(type) : icmp6_is_error(type);
}

enum icmp_decision { ICMP_PASSES, ICMP_TO_USER, ICMP_DROPPED };

/*
 * What is neither TCP nor UDP and to be proxied. Of ICMP only echo requests can have an answer; the rest would leave
 * the gateway unproxied, with the client's address.
 */
static __always_inline enum icmp_decision icmp_decide(hook_ctx *ctx, const struct bpf_cfg *settings,
						      const struct packet_view *v)
{
	__u8 type = 0;

	if (v->l4_proto != (v->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) || settings->icmp == CFG_ICMP_PASS)
		return ICMP_PASSES;
	if (settings->icmp == CFG_ICMP_DROP || v->is_fragment || hook_load_bytes(ctx, v->l4_off, &type, 1))
		return ICMP_DROPPED;
	return type == (v->ip_version == 4 ? ICMP_TYPE_ECHO : ICMPV6_TYPE_ECHO) ? ICMP_TO_USER : ICMP_DROPPED;
}

struct flow_match {
	struct flow_entry *entry; /* NULL: no flow of the kernel */
	__u32 index;
	__u32 direction;
	__u32 relayed; /* a flow of user space; without an entry */
};

static __always_inline void flow_find(const struct flow_key *key, struct flow_match *match)
{
	const struct flow_ref *ref = bpf_map_lookup_elem(&flow_keys, key);
	struct flow_entry *entry;
	__u32 index;

	match->entry = (void *)0;
	match->relayed = 0;
	if (!ref)
		return;
	index = ref->index;
	match->relayed = index == FLOW_INDEX_RELAYED;
	entry = bpf_map_lookup_elem(&flows, &index);
	if (!entry)
		return;
	/* between our two look-ups the daemon may have given the entry to another flow */
	if (entry->generation != ref->generation) {
		count(COUNT_STALE_KEYS);
		return;
	}
	match->entry = entry;
	match->index = index;
	match->direction = ref->direction;
}

/* The flow of a TCP packet as it arrived. */
static __always_inline void flow_find_arriving(const struct packet_view *v, struct flow_match *match)
{
	struct flow_key key = {.src = v->src, .dst = v->dst, .sport = v->sport, .dport = v->dport};

	match->entry = (void *)0;
	match->relayed = 0;
	/* an IPv4-mapped address on an IPv6 packet would be mistaken for IPv4 */
	if (v->ip_version == 6 && (addr_is_ipv4(&v->src) || addr_is_ipv4(&v->dst)))
		return;
	flow_find(&key, match);
}

#endif
