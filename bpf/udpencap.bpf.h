/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * UDP associations in the kernel, for both hooks: a client's datagram gets the
 * SOCKS5 UDP header with its destination (RFC 1928 section 7: 10 bytes for
 * IPv4, 22 for IPv6) and goes to the relay; the relay's loses it, and seems to
 * come from the address in it.
 *
 * What does not fit goes on to user space or to the association's socket and is
 * handled there: fragments, IP options, what would be larger than the next
 * link's MTU, FRAG other than 0, names, another family.
 *
 * Checksums follow by differences (RFC 1624); a UDP checksum of zero over IPv4
 * stays zero.
 *
 *   XDP   moves the headers, in front of a payload that stays where it is
 *   tc    moves the payload, behind headers that stay: a partial checksum of a local sender is tied to the place of its
 *         UDP header, and there is no way to tell the kernel another
 */
#ifndef SOCKSPLICE_UDPENCAP_BPF_H
#define SOCKSPLICE_UDPENCAP_BPF_H

#include "classify.bpf.h"
#include "splice.bpf.h"

#define UDPENCAP_IPV4_BYTES 10
#define UDPENCAP_IPV6_BYTES 22
#define UDPENCAP_ATYP_IPV4 1
#define UDPENCAP_ATYP_IPV6 4

/* On the wire. `words` of both sum up to the same, wherever they stand: offsets are even. */
struct udpencap_ipv4 {
	__be16 rsv;
	__u8 frag, atyp;
	__be32 addr;
	__be16 port;
} __attribute__((packed, aligned(2)));

struct udpencap_ipv6 {
	__be16 rsv;
	__u8 frag, atyp;
	__be32 addr[4];
	__be16 port;
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct udpencap_ipv4) == UDPENCAP_IPV4_BYTES, "on the wire");
_Static_assert(sizeof(struct udpencap_ipv6) == UDPENCAP_IPV6_BYTES, "on the wire");

struct udp_match {
	struct udp_assoc *assoc; /* NULL: none */
	__u32 direction;
};

static __always_inline void udp_find(const struct flow_key *key, struct udp_match *match)
{
	const struct flow_ref *ref = bpf_map_lookup_elem(&udp_keys, key);
	struct udp_assoc *assoc;
	__u32 index;

	match->assoc = (void *)0;
	if (!ref)
		return;
	index = ref->index;
	assoc = bpf_map_lookup_elem(&udp_assocs, &index);
	if (!assoc)
		return;
	/* between our two look-ups the daemon may have given the entry to another association */
	if (assoc->generation != ref->generation) {
		count(COUNT_STALE_KEYS);
		return;
	}
	match->assoc = assoc;
	match->direction = ref->direction;
}

/* `upstream`: number that the rules name, or UDP_KEY_ANY. */
static __always_inline void udp_find_client(const struct packet_view *v, __u16 upstream, struct udp_match *match)
{
	struct flow_key key = {.src = v->src, .sport = v->sport, .dport = upstream};

	udp_find(&key, match);
}

static __always_inline void udp_find_relay(const struct packet_view *v, __u32 ifindex, struct udp_match *match)
{
	struct flow_key key = {.src = v->src, .dst = v->dst, .sport = v->sport, .dport = v->dport};

	udp_find(&key, match);
	/* somebody elsewhere who guessed addresses and ports */
	if (match->assoc && (match->direction != FLOW_DOWN || match->assoc->upstream_ifindex != ifindex))
		match->assoc = (void *)0;
}

static __always_inline __u32 udp_header_bytes(const struct packet_view *v)
{
	return v->ip_version == 4 ? UDPENCAP_IPV4_BYTES : UDPENCAP_IPV6_BYTES;
}

static __always_inline int udp_is_plain(const struct packet_view *v)
{
	return !v->has_ip_options && v->ip_ttl > 1 && v->payload_off + v->payload_len == v->l3_off + v->l3_len;
}

/* The client's datagram can be made the relay's here. */
static __always_inline int udp_fits_up(const struct packet_view *v, const struct udp_assoc *assoc)
{
	return udp_is_plain(v) && v->l3_len + udp_header_bytes(v) <= assoc->way[FLOW_UP].mtu;
}

/* The relay's can be made the client's here; *from: who it is from. */
static __always_inline int udp_fits_down(hook_ctx *ctx, const struct packet_view *v, const struct udp_assoc *assoc,
					 struct addr *from, __be16 *from_port)
{
	struct udpencap_ipv6 h = {};

	if (!udp_is_plain(v) || v->payload_len < udp_header_bytes(v) ||
	    v->l3_len - udp_header_bytes(v) > assoc->way[FLOW_DOWN].mtu)
		return 0;
	if (v->ip_version == 4) {
		const struct udpencap_ipv4 *h4 = (const void *)&h;

		if (hook_load_bytes(ctx, v->payload_off, &h, UDPENCAP_IPV4_BYTES) || h.atyp != UDPENCAP_ATYP_IPV4)
			return 0;
		*from = addr_from_ipv4(h4->addr);
		*from_port = h4->port;
	} else {
		if (hook_load_bytes(ctx, v->payload_off, &h, UDPENCAP_IPV6_BYTES) || h.atyp != UDPENCAP_ATYP_IPV6)
			return 0;
		__builtin_memcpy(from, h.addr, sizeof(*from));
		*from_port = h.port;
		if (addr_is_ipv4(from))
			return 0;
	}
	/* user space counts what is odd about it */
	return !h.rsv && !h.frag && *from_port && !addr_is_link_scope(from);
}

static __always_inline __u64 udp_sum_addr(const struct addr *a, int ipv4)
{
	if (ipv4)
		return a->words[3];
	return (__u64)a->words[0] + a->words[1] + a->words[2] + a->words[3];
}

static __always_inline __u64 udp_sum_addr_gone(const struct addr *a, int ipv4)
{
	if (ipv4)
		return (__u32)~a->words[3];
	return (__u64)(__u32)~a->words[0] + (__u32)~a->words[1] + (__u32)~a->words[2] + (__u32)~a->words[3];
}

/* A datagram as it will be. */
struct udp_change {
	struct addr src, dst;
	__be16 sport, dport;
	__u16 l4_len;      /* with the UDP header */
	__u64 pseudo_diff; /* addresses and the length, as the pseudo-header has them */
	__u64 data_diff;   /* what stands in the datagram: ports, length, and the SOCKS5 header that comes or goes */
};

/* `header_addr`, `header_port`: what the SOCKS5 header says. */
static __always_inline void udp_sum_change(struct udp_change *change, const struct packet_view *v, int ipv4, int up,
					   const struct addr *header_addr, __be16 header_port)
{
	__u16 old_len = v->payload_len + sizeof(struct udphdr);
	__u16 lengths_gone = (__u16)~be16(old_len), lengths = be16(change->l4_len);
	__be16 atyp = be16(ipv4 ? UDPENCAP_ATYP_IPV4 : UDPENCAP_ATYP_IPV6);

	change->pseudo_diff = udp_sum_addr_gone(&v->src, ipv4) + udp_sum_addr_gone(&v->dst, ipv4) +
			      udp_sum_addr(&change->src, ipv4) + udp_sum_addr(&change->dst, ipv4) + lengths_gone +
			      lengths;
	change->data_diff =
		(__u64)(__u16)~v->sport + (__u16)~v->dport + change->sport + change->dport + lengths_gone + lengths;
	if (up)
		change->data_diff += udp_sum_addr(header_addr, ipv4) + header_port + atyp;
	else
		change->data_diff += udp_sum_addr_gone(header_addr, ipv4) + (__u16)~header_port + (__u16)~atyp;
}

static __always_inline void udp_change_up(struct udp_change *change, const struct packet_view *v,
					  const struct udp_way *way, int ipv4)
{
	change->src = way->src;
	change->dst = way->dst;
	change->sport = way->sport;
	change->dport = way->dport;
	change->l4_len = v->payload_len + sizeof(struct udphdr) + (ipv4 ? UDPENCAP_IPV4_BYTES : UDPENCAP_IPV6_BYTES);
	udp_sum_change(change, v, ipv4, 1, &v->dst, v->dport);
}

/* change->src and sport are set: who the header names. */
static __always_inline void udp_change_down(struct udp_change *change, const struct packet_view *v,
					    const struct udp_way *way, int ipv4)
{
	change->dst = way->dst;
	change->dport = way->dport;
	change->l4_len = v->payload_len + sizeof(struct udphdr) - (ipv4 ? UDPENCAP_IPV4_BYTES : UDPENCAP_IPV6_BYTES);
	udp_sum_change(change, v, ipv4, 0, &change->src, change->sport);
}

static __always_inline void udp_put_header(void *at, const struct packet_view *v, int ipv4)
{
	if (ipv4) {
		struct udpencap_ipv4 *h = at;

		h->rsv = 0;
		h->frag = 0;
		h->atyp = UDPENCAP_ATYP_IPV4;
		h->addr = v->dst.words[3];
		h->port = v->dport;
	} else {
		struct udpencap_ipv6 *h = at;

		h->rsv = 0;
		h->frag = 0;
		h->atyp = UDPENCAP_ATYP_IPV6;
		__builtin_memcpy(h->addr, &v->dst, 16);
		h->port = v->dport;
	}
}

static __always_inline void udp_change_ipv4(struct iphdr *ip, const struct udp_change *change)
{
	__u64 sum = (__u16)~ip->check;
	__u16 ttl_and_protocol;

	__builtin_memcpy(&ttl_and_protocol, &ip->ttl, 2);
	sum += (__u16)~ttl_and_protocol;
	sum += (__u64)(__u16)~ip->tot_len + (__u32)~ip->saddr + (__u32)~ip->daddr;
	ip->ttl--;
	ip->tot_len = be16((__u16)(change->l4_len + sizeof(*ip)));
	ip->saddr = change->src.words[3];
	ip->daddr = change->dst.words[3];
	__builtin_memcpy(&ttl_and_protocol, &ip->ttl, 2);
	sum += (__u64)ttl_and_protocol + ip->tot_len + ip->saddr + ip->daddr;
	ip->check = (__u16)~fold16(sum);
}

static __always_inline void udp_change_ipv6(struct ipv6hdr *ip, const struct udp_change *change)
{
	ip->hop_limit--;
	ip->payload_len = be16(change->l4_len);
	__builtin_memcpy(&ip->saddr, &change->src, 16);
	__builtin_memcpy(&ip->daddr, &change->dst, 16);
}

static __always_inline void udp_note(struct udp_way *way, __u32 payload_bytes)
{
	__sync_fetch_and_add(&way->packets, 1);
	__sync_fetch_and_add(&way->payload_bytes, payload_bytes);
	way->last_ns = bpf_ktime_get_coarse_ns();
}

#if defined(HOOK_XDP)

/* Where a change is put together: the stack has no room for it. Writer: the XDP program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct udp_change);
} udp_changes SEC(".maps");

/*
 * Headers and all, in the packet; `up` and `ipv4` are constants of the caller. 0; or < 0: the packet is not what it was
 * any more, and is to be dropped.
 */
static __always_inline int udp_move_headers(struct xdp_md *ctx, const struct packet_view *v, struct udp_change *change,
					    const struct udp_way *way, int up, int ipv4)
{
	const __u32 header = ipv4 ? UDPENCAP_IPV4_BYTES : UDPENCAP_IPV6_BYTES;
	const __u32 ip_bytes = ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	struct ethhdr *eth;
	struct udphdr uh, *out;

	if (data + ETH_HLEN + ip_bytes + sizeof(uh) > end)
		return -1;
	__builtin_memcpy(&ip, data + ETH_HLEN, ip_bytes);
	__builtin_memcpy(&uh, data + ETH_HLEN + ip_bytes, sizeof(uh));
	if (bpf_xdp_adjust_head(ctx, up ? -(int)header : (int)header))
		return -1;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN + ip_bytes + sizeof(uh) + (up ? header : 0) > end)
		return -1;
	eth = data;
	__builtin_memcpy(eth->h_dest, way->dmac, 6);
	__builtin_memcpy(eth->h_source, way->smac, 6);
	eth->h_proto = be16(ipv4 ? ETH_P_IP : ETH_P_IPV6);
	if (ipv4)
		udp_change_ipv4(&ip.v4, change);
	else
		udp_change_ipv6(&ip.v6, change);
	__builtin_memcpy(data + ETH_HLEN, &ip, ip_bytes);
	out = data + ETH_HLEN + ip_bytes;
	out->source = change->sport;
	out->dest = change->dport;
	out->len = be16(change->l4_len);
	out->check = 0;
	if (uh.check) {
		out->check = (__u16)~fold16((__u64)(__u16)~uh.check + fold32(change->pseudo_diff) +
					    fold32(change->data_diff));
		if (!out->check)
			out->check = 0xffff;
	}
	if (up)
		udp_put_header(out + 1, v, ipv4);
	return 0;
}

#else

/* Most payload that is moved here: no link that carries more in one packet is known. */
#define UDPENCAP_MAX_PAYLOAD 16383
#define UDPENCAP_PAYLOAD_AT 32

struct udp_scratch {
	__u8 headers[UDPENCAP_PAYLOAD_AT]; /* UDP and SOCKS5 header end here */
	__u8 payload[UDPENCAP_MAX_PAYLOAD + 1];
};

/* Where a payload is kept while it moves. Writer: the tc program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct udp_scratch);
} udp_scratch SEC(".maps");

static __always_inline int udp_store_ip(struct __sk_buff *skb, const struct udp_change *change, int ipv4)
{
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	const __u32 ip_bytes = ipv4 ? sizeof(ip.v4) : sizeof(ip.v6);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, ip_bytes))
		return -1;
	if (ipv4)
		udp_change_ipv4(&ip.v4, change);
	else
		udp_change_ipv6(&ip.v6, change);
	return (int)bpf_skb_store_bytes(skb, ETH_HLEN, &ip, ip_bytes, BPF_F_RECOMPUTE_CSUM);
}

/* As the one for XDP; Ethernet apart. */
static __always_inline int udp_move_payload(struct __sk_buff *skb, const struct packet_view *v,
					    struct udp_change *change, int up, int ipv4)
{
	const __u32 header = ipv4 ? UDPENCAP_IPV4_BYTES : UDPENCAP_IPV6_BYTES;
	const __u32 l4_off = ipv4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF, check_off = l4_off + 6;
	const __u32 headers = sizeof(struct udphdr) + (up ? header : 0);
	__u32 zero = 0, bytes = v->payload_len - (up ? 0 : header);
	struct udp_scratch *scratch = bpf_map_lookup_elem(&udp_scratch, &zero);
	struct udphdr *uh;

	if (!scratch || bytes > UDPENCAP_MAX_PAYLOAD)
		return -1;
	uh = (void *)(scratch->payload - headers);
	if (bpf_skb_load_bytes(skb, l4_off, uh, sizeof(*uh)))
		return -1;
	/* clang 14 loses the bound of a value that it keeps in memory */
	asm volatile("" : "+r"(bytes));
	bytes &= UDPENCAP_MAX_PAYLOAD;
	if (bytes && bpf_skb_load_bytes(skb, l4_off + sizeof(*uh) + (up ? 0 : header), scratch->payload, bytes))
		return -1;
	uh->source = change->sport;
	uh->dest = change->dport;
	uh->len = be16(change->l4_len);
	if (up)
		udp_put_header(uh + 1, v, ipv4);
	if (bpf_skb_change_tail(skb, l4_off + change->l4_len, 0) ||
	    bpf_skb_store_bytes(skb, l4_off, uh, headers + bytes, BPF_F_RECOMPUTE_CSUM) ||
	    udp_store_ip(skb, change, ipv4))
		return -1;
	bpf_l4_csum_replace(skb, check_off, 0, fold32(change->pseudo_diff), BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	bpf_l4_csum_replace(skb, check_off, 0, fold32(change->data_diff), BPF_F_MARK_MANGLED_0);
	/* where the length stayed (padding), the stores above have counted what the second one makes up for */
	bpf_csum_update(skb, (__u32)~fold32(change->data_diff));
	return 0;
}

#endif
#endif
