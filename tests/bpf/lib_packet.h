/* SPDX-License-Identifier: MIT */
/* Packets for the tables of the BPF tests, built byte by byte. */
#ifndef SOCKSPLICE_TEST_PACKET_H
#define SOCKSPLICE_TEST_PACKET_H

#include <stddef.h>
#include <stdint.h>

struct packet {
	uint8_t bytes[2048];
	size_t len;
};

/* Each appends to the packet; lengths in headers are those of the whole packet and are set by packet_finish(). */
void packet_ethernet(struct packet *p, uint16_t ethertype);
void packet_vlan(struct packet *p, uint16_t tpid, uint16_t ethertype);
void packet_ipv4(struct packet *p, const char *dst, uint8_t proto, uint8_t option_bytes, uint16_t fragment);
void packet_ipv6(struct packet *p, const char *dst, uint8_t next);
/* An extension header of 8 bytes (AH: 16). fragment: of a fragment header. */
void packet_ext(struct packet *p, uint8_t kind, uint8_t next, uint16_t fragment);
void packet_tcp(struct packet *p, uint8_t doff);
void packet_bytes(struct packet *p, size_t count);
void packet_finish(struct packet *p);

#endif
