/* SPDX-License-Identifier: MIT */
#include "build.h"

#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>
#include <string.h>

#include "base.h"
#include "csum.h"

#define BUILD_TTL 64
#define BUILD_NEXT_FRAGMENT 44

static uint8_t *build_ipv4(uint8_t *l4, uint16_t l4_bytes, const struct endpoint *src, const struct endpoint *dst,
			   uint8_t proto)
{
	/* DF and ID 0: RFC 6864 4.1, an atomic datagram */
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = be16((uint16_t)(l4_bytes + sizeof(ip))),
		.frag_off = be16(0x4000),
		.ttl = BUILD_TTL,
		.protocol = proto,
		.saddr = src->addr.words[3],
		.daddr = dst->addr.words[3],
	};

	ip.check = csum_fold(csum_partial(&ip, sizeof(ip), 0));
	return memcpy(l4 - sizeof(ip), &ip, sizeof(ip)); /* nothing says that headers are aligned */
}

static uint8_t *build_ipv6(uint8_t *l4, uint16_t l4_bytes, const struct endpoint *src, const struct endpoint *dst,
			   uint8_t proto)
{
	struct ipv6hdr ip = {.version = 6, .payload_len = be16(l4_bytes), .nexthdr = proto, .hop_limit = BUILD_TTL};

	memcpy(&ip.saddr, &src->addr, sizeof(ip.saddr));
	memcpy(&ip.daddr, &dst->addr, sizeof(ip.daddr));
	return memcpy(l4 - sizeof(ip), &ip, sizeof(ip));
}

uint8_t *build_ip(uint8_t *l4, uint16_t l4_bytes, const struct endpoint *src, const struct endpoint *dst, uint8_t proto)
{
	return addr_is_ipv4(&src->addr) ? build_ipv4(l4, l4_bytes, src, dst, proto)
					: build_ipv6(l4, l4_bytes, src, dst, proto);
}

static uint8_t *build_ethernet(uint8_t *l3, const struct build_link *link)
{
	uint16_t ethertype = be16(addr_is_ipv4(&link->src.addr) ? ETH_P_IP : ETH_P_IPV6);
	uint16_t vlan[2] = {be16(ETH_P_8021Q), be16(link->vlan_tci)};

	l3 -= 2;
	memcpy(l3, &ethertype, 2);
	if (link->has_vlan) {
		l3 -= 4;
		memcpy(l3, vlan, 4);
	}
	l3 -= 12;
	memcpy(l3, link->dst_mac, 6);
	memcpy(l3 + 6, link->src_mac, 6);
	return l3;
}

uint8_t *build_tcp_header(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link,
			  const struct build_segment *segment)
{
	uint8_t header_bytes = (uint8_t)(sizeof(struct tcphdr) + segment->option_bytes);
	uint8_t *start = payload - header_bytes;
	uint16_t l4_bytes = (uint16_t)(header_bytes + payload_bytes);
	struct tcphdr th = {
		.source = link->src.port,
		.dest = link->dst.port,
		.seq = be32(segment->seq),
		.ack_seq = be32(segment->ack),
		.doff = header_bytes / 4,
		.window = be16(segment->window),
	};
	uint32_t sum;

	((uint8_t *)&th)[13] = segment->flags;
	memcpy(start, &th, sizeof(th));
	memcpy(start + sizeof(th), segment->options, segment->option_bytes);
	if (segment->no_checksum)
		return start;
	sum = csum_pseudo(&link->src.addr, &link->dst.addr, IPPROTO_TCP, l4_bytes);
	th.check = csum_fold(csum_partial(start, l4_bytes, sum));
	memcpy(start + offsetof(struct tcphdr, check), &th.check, sizeof(th.check));
	return start;
}

uint8_t *build_tcp(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link,
		   const struct build_segment *segment)
{
	uint8_t *tcp = build_tcp_header(payload, payload_bytes, link, segment);
	uint16_t l4_bytes = (uint16_t)(payload - tcp + payload_bytes);

	return build_ethernet(build_ip(tcp, l4_bytes, &link->src, &link->dst, IPPROTO_TCP), link);
}

uint8_t *build_icmp(uint8_t *message, uint16_t message_bytes, const struct build_link *link)
{
	bool ipv4 = addr_is_ipv4(&link->src.addr);
	uint32_t sum = ipv4 ? 0 : csum_pseudo(&link->src.addr, &link->dst.addr, IPPROTO_ICMPV6, message_bytes);
	uint16_t check = csum_fold(csum_partial(message, message_bytes, sum));

	memcpy(message + offsetof(struct icmphdr, checksum), &check, sizeof(check));
	return build_ethernet(
		build_ip(message, message_bytes, &link->src, &link->dst, ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6), link);
}

uint8_t *build_udp_header(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link)
{
	uint16_t bytes = (uint16_t)(sizeof(struct udphdr) + payload_bytes);
	uint8_t *start = payload - sizeof(struct udphdr);
	struct udphdr uh = {.source = link->src.port, .dest = link->dst.port, .len = be16(bytes)};
	uint32_t sum = csum_pseudo(&link->src.addr, &link->dst.addr, IPPROTO_UDP, bytes);

	memcpy(start, &uh, sizeof(uh));
	uh.check = csum_fold(csum_partial(start, bytes, sum));
	/* RFC 768: zero would mean that there is none */
	uh.check = uh.check ? uh.check : 0xffff;
	return memcpy(start, &uh, sizeof(uh));
}

uint8_t *build_udp(uint8_t *l4, uint16_t l4_bytes, const struct build_link *link)
{
	return build_ethernet(build_ip(l4, l4_bytes, &link->src, &link->dst, IPPROTO_UDP), link);
}

static uint8_t *build_ipv4_fragment(uint8_t *part, uint16_t part_bytes, const struct build_link *link,
				    const struct build_fragment *fragment)
{
	uint8_t *start = build_ipv4(part, part_bytes, &link->src, &link->dst, IPPROTO_UDP);
	struct iphdr ip;

	memcpy(&ip, start, sizeof(ip));
	ip.id = be16((uint16_t)fragment->id);
	ip.frag_off = be16((uint16_t)(fragment->offset / 8 | (fragment->more ? 0x2000 : 0)));
	ip.check = 0;
	ip.check = csum_fold(csum_partial(&ip, sizeof(ip), 0));
	return memcpy(start, &ip, sizeof(ip));
}

static uint8_t *build_ipv6_fragment(uint8_t *part, uint16_t part_bytes, const struct build_link *link,
				    const struct build_fragment *fragment)
{
	/* RFC 8200 4.5: next header, reserved, offset with flags, identification */
	uint16_t offset = be16((uint16_t)(fragment->offset | fragment->more));
	uint32_t id = be32(fragment->id);

	part -= 8;
	part[0] = IPPROTO_UDP;
	part[1] = 0;
	memcpy(part + 2, &offset, sizeof(offset));
	memcpy(part + 4, &id, sizeof(id));
	return build_ipv6(part, (uint16_t)(part_bytes + 8), &link->src, &link->dst, BUILD_NEXT_FRAGMENT);
}

uint8_t *build_udp_fragment(uint8_t *part, uint16_t part_bytes, const struct build_link *link,
			    const struct build_fragment *fragment)
{
	if (addr_is_ipv4(&link->src.addr))
		return build_ethernet(build_ipv4_fragment(part, part_bytes, link, fragment), link);
	return build_ethernet(build_ipv6_fragment(part, part_bytes, link, fragment), link);
}

struct build_link build_reverse(const struct build_link *link)
{
	struct build_link reverse = *link;

	memcpy(reverse.src_mac, link->dst_mac, 6);
	memcpy(reverse.dst_mac, link->src_mac, 6);
	reverse.src = link->dst;
	reverse.dst = link->src;
	return reverse;
}
