/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The one packet parser, for the XDP program and for the user-space stack:
 * Ethernet with one VLAN tag, IPv4 with options, IPv6 with extension headers,
 * TCP. It reads a frame once, into a struct that everything above looks at.
 *
 * Offsets count from the start of the frame. Lengths come from the IP header,
 * so padding of short Ethernet frames is never taken for payload.
 */
#ifndef SOCKSPLICE_PARSE_H
#define SOCKSPLICE_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "addr.h"
#include "base.h"
#include "stats_abi.h"

/* RFC 8200 names six kinds of extension header; more than this many in a row is no honest packet. */
#define PARSE_MAX_EXT_HDRS 6
#define PARSE_MAX_OFFSET 512 /* no L4 header starts behind this: headers above it are not followed */

#define PARSE_NEXT_HOPOPTS 0
#define PARSE_NEXT_ROUTING 43
#define PARSE_NEXT_FRAGMENT 44
#define PARSE_NEXT_AUTH 51
#define PARSE_NEXT_DSTOPTS 60

#define PARSE_IPV4_DONT_FRAGMENT 0x4000
#define PARSE_IPV4_FRAGMENT_BITS 0x3fff /* more-fragments flag and offset */
#define PARSE_IPV6_FRAGMENT_BITS 0xfff9

struct packet_view {
	struct addr src, dst;
	__u32 seq, ack; /* host order */
	__be16 sport, dport;
	__u16 window;    /* host order, not scaled */
	__u16 ethertype; /* host order, behind the VLAN tag */
	__u16 vlan_tci;
	__u16 l3_off, l4_off, payload_off;
	__u16 l3_len; /* IP packet with its header */
	__u16 payload_len;
	__u8 has_vlan;
	__u8 ip_version; /* 4, 6, or 0: not IP */
	__u8 l4_proto;
	__u8 ip_ttl, ip_tos;
	__u8 is_fragment;
	__u8 has_ip_options; /* IPv4 options or IPv6 extension headers */
	__u8 tcp_flags;      /* byte 13 of the TCP header */
	__u8 tcp_hdr_len;
	__u8 dont_fragment; /* IPv4: DF; IPv6: always */
};

/* `end` bounds what may be read; the packet itself may be longer (a GSO packet whose payload lies elsewhere). */
struct cursor {
	void *start, *pos, *end;
	__u32 packet_bytes; /* of the whole packet */
};

/* `bytes` more bytes, or (void *)0 when the frame ends before. */
static __always_inline void *cursor_take(struct cursor *c, __u32 bytes)
{
	void *taken = c->pos;

	if (taken + bytes > c->end)
		return (void *)0;
	c->pos = taken + bytes;
	return taken;
}

#define CURSOR_TAKE(c, type) ((type *)cursor_take(c, sizeof(type)))

struct parse_vlan {
	__be16 tci;
	__be16 ethertype;
};

struct parse_ext {
	__u8 next;
	__u8 len;
	__be16 fragment; /* fragment header only */
	__be32 id;
};

static __always_inline enum drop_reason parse_ethernet(struct cursor *c, struct packet_view *v)
{
	struct ethhdr *eth = CURSOR_TAKE(c, struct ethhdr);
	struct parse_vlan *vlan;

	if (!eth)
		return DROP_TRUNCATED;
	v->ethertype = be16(eth->h_proto);
	if (v->ethertype != ETH_P_8021Q && v->ethertype != ETH_P_8021AD)
		return DROP_NONE;
	vlan = CURSOR_TAKE(c, struct parse_vlan);
	if (!vlan)
		return DROP_TRUNCATED;
	v->has_vlan = 1;
	v->vlan_tci = be16(vlan->tci);
	v->ethertype = be16(vlan->ethertype);
	return DROP_NONE;
}

static __always_inline enum drop_reason parse_ipv4(struct cursor *c, struct packet_view *v)
{
	struct iphdr *ip = CURSOR_TAKE(c, struct iphdr);
	__u32 header, total;

	if (!ip)
		return DROP_TRUNCATED;
	header = ip->ihl * 4u;
	total = be16(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return DROP_BAD_IP_HDR;
	if (v->l3_off + total > c->packet_bytes)
		return DROP_TRUNCATED;
	v->ip_version = 4;
	v->l3_len = (__u16)total;
	v->src = addr_from_ipv4(ip->saddr);
	v->dst = addr_from_ipv4(ip->daddr);
	v->l4_proto = ip->protocol;
	v->ip_ttl = ip->ttl;
	v->ip_tos = ip->tos;
	v->is_fragment = (be16(ip->frag_off) & PARSE_IPV4_FRAGMENT_BITS) != 0;
	v->dont_fragment = (ip->frag_off & be16(PARSE_IPV4_DONT_FRAGMENT)) != 0;
	v->has_ip_options = header > sizeof(*ip);
	v->l4_off = (__u16)(v->l3_off + header);
	return DROP_NONE;
}

/* Length of an extension header, 0: `next` is not one. */
static __always_inline __u32 parse_ext_bytes(__u8 next, const struct parse_ext *ext)
{
	switch (next) {
	case PARSE_NEXT_HOPOPTS:
	case PARSE_NEXT_ROUTING:
	case PARSE_NEXT_DSTOPTS:
		return (ext->len + 1u) * 8;
	case PARSE_NEXT_AUTH: /* RFC 4302 2.2: in 4-byte units, minus 2 */
		return (ext->len + 2u) * 4;
	case PARSE_NEXT_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}

static __always_inline int parse_is_ext(__u8 next)
{
	return next == PARSE_NEXT_HOPOPTS || next == PARSE_NEXT_ROUTING || next == PARSE_NEXT_DSTOPTS ||
	       next == PARSE_NEXT_AUTH || next == PARSE_NEXT_FRAGMENT;
}

static __always_inline enum drop_reason parse_ipv6_ext(struct cursor *c, struct packet_view *v, __u8 next)
{
	__u32 off = v->l3_off + sizeof(struct ipv6hdr);

	for (int i = 0; i <= PARSE_MAX_EXT_HDRS; i++) {
		struct parse_ext *ext;

		/* what follows a fragment header is only there in the first fragment: nothing to look for */
		if (!parse_is_ext(next) || v->is_fragment) {
			v->l4_proto = next;
			v->l4_off = (__u16)off;
			return DROP_NONE;
		}
		if (off > PARSE_MAX_OFFSET)
			return DROP_TOO_MANY_EXT_HDRS;
		ext = c->start + off;
		if ((void *)(ext + 1) > c->end)
			return DROP_TRUNCATED;
		if (next == PARSE_NEXT_FRAGMENT && (be16(ext->fragment) & PARSE_IPV6_FRAGMENT_BITS))
			v->is_fragment = 1;
		v->has_ip_options = 1;
		off += parse_ext_bytes(next, ext);
		next = ext->next;
	}
	return DROP_TOO_MANY_EXT_HDRS;
}

static __always_inline enum drop_reason parse_ipv6(struct cursor *c, struct packet_view *v)
{
	struct ipv6hdr *ip = CURSOR_TAKE(c, struct ipv6hdr);
	__u32 total;

	if (!ip)
		return DROP_TRUNCATED;
	total = be16(ip->payload_len) + (__u32)sizeof(*ip);
	if (ip->version != 6 || total > 0xffff)
		return DROP_BAD_IP_HDR;
	if (v->l3_off + total > c->packet_bytes)
		return DROP_TRUNCATED;
	v->ip_version = 6;
	v->l3_len = (__u16)total;
	__builtin_memcpy(&v->src, &ip->saddr, 16);
	__builtin_memcpy(&v->dst, &ip->daddr, 16);
	v->dont_fragment = 1;
	v->ip_ttl = ip->hop_limit;
	v->ip_tos = (__u8)((ip->priority << 4) | (ip->flow_lbl[0] >> 4));
	return parse_ipv6_ext(c, v, ip->nexthdr);
}

/*
 * Ethernet up to the L4 protocol number. DROP_NONE with ip_version 0: not IP. v must be zeroed.
 * IPv6 extension headers are followed as far as PARSE_MAX_OFFSET; a fragment's L4 header is not.
 */
static __always_inline enum drop_reason packet_parse_network(struct cursor *c, struct packet_view *v)
{
	enum drop_reason reason = parse_ethernet(c, v);

	if (reason)
		return reason;
	v->l3_off = v->has_vlan ? ETH_HLEN + sizeof(struct parse_vlan) : ETH_HLEN;
	if (v->ethertype == ETH_P_IP)
		return parse_ipv4(c, v);
	if (v->ethertype == ETH_P_IPV6)
		return parse_ipv6(c, v);
	return DROP_NONE;
}

/* The TCP header of an unfragmented packet whose l4_proto is TCP. */
static __always_inline enum drop_reason packet_parse_tcp(struct cursor *c, struct packet_view *v)
{
	__u32 l4_len, off = v->l4_off, header;
	struct tcphdr *th;

	if (off > PARSE_MAX_OFFSET + 2048)
		return DROP_TOO_MANY_EXT_HDRS;
	th = c->start + off;
	if ((void *)(th + 1) > c->end)
		return DROP_TRUNCATED;
	if (off - v->l3_off > v->l3_len)
		return DROP_BAD_IP_HDR;
	l4_len = v->l3_len - (off - v->l3_off);
	header = th->doff * 4u;
	if (header < sizeof(*th) || header > l4_len)
		return DROP_BAD_TCP_HDR;
	v->sport = th->source;
	v->dport = th->dest;
	v->seq = be32(th->seq);
	v->ack = be32(th->ack_seq);
	v->window = be16(th->window);
	v->tcp_flags = ((__u8 *)th)[13];
	v->tcp_hdr_len = (__u8)header;
	v->payload_off = (__u16)(off + header);
	v->payload_len = (__u16)(l4_len - header);
	return DROP_NONE;
}

/*
 * Ports and payload of an unfragmented packet whose l4_proto is UDP; false: its header is cut off or its length lies,
 * and the ports stay 0. Jumbograms (RFC 2675) are none.
 */
static __always_inline int packet_parse_udp(struct cursor *c, struct packet_view *v)
{
	__u32 off = v->l4_off, l4_len;
	struct udphdr *uh;

	if (off > PARSE_MAX_OFFSET + 2048)
		return 0;
	uh = c->start + off;
	if ((void *)(uh + 1) > c->end || off - v->l3_off + sizeof(*uh) > v->l3_len)
		return 0;
	l4_len = be16(uh->len);
	if (l4_len < sizeof(*uh) || l4_len > v->l3_len - (off - v->l3_off))
		return 0;
	v->sport = uh->source;
	v->dport = uh->dest;
	v->payload_off = (__u16)(off + sizeof(*uh));
	v->payload_len = (__u16)(l4_len - sizeof(*uh));
	return 1;
}

/*
 * Both steps; for anything but an unfragmented TCP packet the second is left out. [data, end): what may be read, all
 * headers must be there; `packet_bytes`: of the whole packet.
 */
static __always_inline enum drop_reason packet_parse_part(void *data, void *end, __u32 packet_bytes,
							  struct packet_view *v)
{
	struct cursor c = {.start = data, .pos = data, .end = end, .packet_bytes = packet_bytes};
	enum drop_reason reason;

	__builtin_memset(v, 0, sizeof(*v));
	reason = packet_parse_network(&c, v);
	if (reason || !v->ip_version || v->is_fragment || v->l4_proto != IPPROTO_TCP)
		return reason;
	return packet_parse_tcp(&c, v);
}

/* A packet that lies in one piece. */
static __always_inline enum drop_reason packet_parse(void *data, void *end, struct packet_view *v)
{
	return packet_parse_part(data, end, (__u32)((char *)end - (char *)data), v);
}

#endif
