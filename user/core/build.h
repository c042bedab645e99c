/* SPDX-License-Identifier: MIT */
/* Headers of packets to a client, written backwards from the payload: Ethernet (VLAN), IPv4 or IPv6, TCP. */
#ifndef SOCKSPLICE_BUILD_H
#define SOCKSPLICE_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

/* One way of a flow, as seen by who sends it. */
struct build_link {
	uint8_t src_mac[6], dst_mac[6];
	uint16_t vlan_tci;
	bool has_vlan;
	struct endpoint src, dst;
};

struct build_segment {
	uint32_t seq, ack;
	uint16_t window; /* as it stands in the header */
	uint8_t flags;
	uint8_t option_bytes; /* multiple of 4, at most 40 */
	bool no_checksum;     /* of TCP: who sends the packet writes it */
	uint8_t options[40];
};

/*
 * Writes all headers in front of `payload` (payload_bytes long; up to BUILD_MAX_HEADER_BYTES must be free before it)
 * with checksums, and returns the first byte of the packet.
 */
#define BUILD_MAX_HEADER_BYTES (18 + 40 + 60)
uint8_t *build_tcp(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link,
		   const struct build_segment *segment);
/* IP and Ethernet in front of an ICMP or ICMPv6 message whose checksum field is zero; fills that field too. */
uint8_t *build_icmp(uint8_t *message, uint16_t message_bytes, const struct build_link *link);
/* Just the IP header of a packet with `l4_bytes` behind it. Returns its first byte. */
uint8_t *build_ip(uint8_t *l4, uint16_t l4_bytes, const struct endpoint *src, const struct endpoint *dst,
		  uint8_t proto);
/* Just the TCP header, checksum included. Returns its first byte. */
uint8_t *build_tcp_header(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link,
			  const struct build_segment *segment);
/* A UDP header with the checksum of the whole datagram, whose payload of `payload_bytes` follows. Returns its first
 * byte. */
uint8_t *build_udp_header(uint8_t *payload, uint16_t payload_bytes, const struct build_link *link);
/* IP and Ethernet in front of a UDP datagram of `l4_bytes`, header included. */
uint8_t *build_udp(uint8_t *l4, uint16_t l4_bytes, const struct build_link *link);
/* The same for a part of one: `offset` a multiple of 8, `id` that of all parts. Needs BUILD_FRAGMENT_BYTES before it.
 */
#define BUILD_FRAGMENT_BYTES (18 + 40 + 8)
struct build_fragment {
	uint32_t id;
	uint16_t offset; /* in bytes */
	bool more;
};
uint8_t *build_udp_fragment(uint8_t *part, uint16_t part_bytes, const struct build_link *link,
			    const struct build_fragment *fragment);
/* The opposite direction. */
struct build_link build_reverse(const struct build_link *link);

#endif
