/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ICMP errors about packets of spliced flows (RFC 792, RFC 4443): a router
 * on one leg complains about a packet that we rewrote, to the address that we
 * wrote into it. The other end must hear of it, above all "fragmentation
 * needed" (RFC 1191) and "packet too big" (RFC 8201), and must recognise its
 * own packet inside.
 *
 *   outer source        of an upstream's side: stays, it is the router that complains;
 *                       of the client's side: the gateway's own address, as the upstream knows no other
 *   outer destination   the end that sent the original packet
 *   inner packet        addresses, ports and sequence number as that end had sent them
 *
 * The inner checksums: the IPv4 header's is made right, TCP's is left as it is
 * (RFC 5508 section 4.2 asks for no more, most errors do not even carry it).
 */
#ifndef SOCKSPLICE_ICMP_BPF_H
#define SOCKSPLICE_ICMP_BPF_H

#include "classify.bpf.h"
#include "splice.bpf.h"

#define ICMP_HEADER_BYTES 8
#define ICMP_INNER_OFFSET_BITS 0x1fff /* a later fragment has no ports */
#define ICMP_INNER_L4_BYTES 8         /* ports and sequence number: what every error carries */

struct icmp_inner4 {
	struct iphdr ip;
	__be16 sport, dport;
	__be32 seq;
};

struct icmp_inner6 {
	struct ipv6hdr ip;
	__be16 sport, dport;
	__be32 seq;
};

_Static_assert(sizeof(struct icmp_inner4) == 28 && sizeof(struct icmp_inner6) == 48, "copied as they are");

/* The flow that the inner packet belongs to: an answer to it would have come in by this key. */
static __always_inline void icmp_find(struct addr src, struct addr dst, __be16 sport, __be16 dport,
				      struct flow_match *match)
{
	struct flow_key key = {.src = dst, .dst = src, .sport = dport, .dport = sport};

	flow_find(&key, match);
	if (match->entry && match->entry->phase != FLOW_PHASE_SPLICED)
		match->entry = (void *)0;
}

/*
 * `match->direction` is the direction that the error itself takes. 1: translated, to be sent out of
 * entry->half[direction].ifindex; 0: not about a spliced flow.
 */
static __always_inline int icmp4_translate(struct __sk_buff *skb, struct flow_match *match)
{
	const __u32 icmp_off = ETH_HLEN + sizeof(struct iphdr), inner_off = icmp_off + ICMP_HEADER_BYTES;
	struct icmp_inner4 old, new;
	struct iphdr outer, outer_new;
	struct flow_half *there, *back;
	__s64 diff;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)) || outer.ihl != 5 || outer.ttl <= 1 ||
	    bpf_skb_load_bytes(skb, inner_off, &old, sizeof(old)) || old.ip.ihl != 5 ||
	    old.ip.protocol != IPPROTO_TCP || (old.ip.frag_off & be16(ICMP_INNER_OFFSET_BITS)))
		return 0;
	icmp_find(addr_from_ipv4(old.ip.saddr), addr_from_ipv4(old.ip.daddr), old.sport, old.dport, match);
	if (!match->entry)
		return 0;
	there = &match->entry->half[match->direction & 1];
	back = &match->entry->half[(match->direction & 1) ^ 1];
	new = old;
	new.ip.saddr = there->dst.words[3];
	new.ip.daddr = there->src.words[3];
	new.sport = there->dport;
	new.dport = there->sport;
	new.seq = be32(be32(old.seq) - back->seq_add);
	new.ip.check = (__u16)~fold16((__u64)(__u16)~old.ip.check + (__u32)~old.ip.saddr + (__u32)~old.ip.daddr +
				      new.ip.saddr + new.ip.daddr);
	outer_new = outer;
	outer_new.daddr = there->dst.words[3];
	if (match->direction == FLOW_UP)
		outer_new.saddr = there->src.words[3];
	else if (outer.saddr == old.ip.daddr) /* the upstream itself complains: for the client that is the target */
		outer_new.saddr = there->src.words[3];
	outer_new.ttl--;
	outer_new.check = 0;
	diff = bpf_csum_diff((void *)0, 0, (__be32 *)&outer_new, sizeof(outer_new), 0);
	outer_new.check = (__u16)~fold16((__u64)diff);
	diff = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	if (bpf_skb_store_bytes(skb, inner_off, &new, sizeof(new), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &outer_new, sizeof(outer_new), 0))
		return 0;
	bpf_l4_csum_replace(skb, icmp_off + 2, 0, (__u64)diff, 0);
	return 1;
}

static __always_inline int icmp6_translate(struct __sk_buff *skb, struct flow_match *match)
{
	const __u32 icmp_off = ETH_HLEN + sizeof(struct ipv6hdr), inner_off = icmp_off + ICMP_HEADER_BYTES;
	struct icmp_inner6 old, new;
	struct ipv6hdr outer, outer_new;
	struct flow_half *there, *back;
	struct addr src, dst;
	__s64 diff, pseudo;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)) || outer.nexthdr != IPPROTO_ICMPV6 ||
	    outer.hop_limit <= 1 || bpf_skb_load_bytes(skb, inner_off, &old, sizeof(old)) ||
	    old.ip.nexthdr != IPPROTO_TCP)
		return 0;
	__builtin_memcpy(&src, &old.ip.saddr, 16);
	__builtin_memcpy(&dst, &old.ip.daddr, 16);
	if (addr_is_ipv4(&src) || addr_is_ipv4(&dst))
		return 0;
	icmp_find(src, dst, old.sport, old.dport, match);
	if (!match->entry)
		return 0;
	there = &match->entry->half[match->direction & 1];
	back = &match->entry->half[(match->direction & 1) ^ 1];
	new = old;
	__builtin_memcpy(&new.ip.saddr, &there->dst, 16);
	__builtin_memcpy(&new.ip.daddr, &there->src, 16);
	new.sport = there->dport;
	new.dport = there->sport;
	new.seq = be32(be32(old.seq) - back->seq_add);
	outer_new = outer;
	__builtin_memcpy(&outer_new.daddr, &there->dst, 16);
	__builtin_memcpy(&src, &outer.saddr, 16);
	if (match->direction == FLOW_UP || addr_equal(&src, &dst))
		__builtin_memcpy(&outer_new.saddr, &there->src, 16);
	outer_new.hop_limit--;
	diff = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	pseudo = bpf_csum_diff((__be32 *)&outer.saddr, 32, (__be32 *)&outer_new.saddr, 32, 0);
	if (bpf_skb_store_bytes(skb, inner_off, &new, sizeof(new), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &outer_new, sizeof(outer_new), 0))
		return 0;
	bpf_l4_csum_replace(skb, icmp_off + 2, 0, (__u64)diff, 0);
	bpf_l4_csum_replace(skb, icmp_off + 2, 0, (__u64)pseudo, BPF_F_PSEUDO_HDR);
	splice_complete_ipv6(skb, (__u32)pseudo);
	return 1;
}

#endif
