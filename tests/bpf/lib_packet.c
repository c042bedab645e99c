/* SPDX-License-Identifier: MIT */
#include "lib_packet.h"

#include <arpa/inet.h>
#include <string.h>

static void put(struct packet *p, const void *bytes, size_t count)
{
	memcpy(p->bytes + p->len, bytes, count);
	p->len += count;
}

static void put16(struct packet *p, uint16_t value)
{
	put(p, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

void packet_ethernet(struct packet *p, uint16_t ethertype)
{
	memset(p, 0, sizeof(*p));
	put(p, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
	put16(p, ethertype);
}

void packet_vlan(struct packet *p, uint16_t tpid, uint16_t ethertype)
{
	memset(p, 0, sizeof(*p));
	put(p, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
	put16(p, tpid);
	put16(p, 0x2005);
	put16(p, ethertype);
}

void packet_ipv4(struct packet *p, const char *dst, uint8_t proto, uint8_t option_bytes, uint16_t fragment)
{
	uint8_t header[60] = {(uint8_t)(0x45 + option_bytes / 4), [8] = 64, [9] = proto, [12] = 10, 1, 0, 2};

	header[6] = (uint8_t)(fragment >> 8);
	header[7] = (uint8_t)fragment;
	memset(header + 20, 1, option_bytes); /* no operation */
	inet_pton(AF_INET, dst, header + 16);
	put(p, header, 20u + option_bytes);
}

void packet_ipv6(struct packet *p, const char *dst, uint8_t next)
{
	uint8_t header[40] = {0x60, [6] = next, [7] = 64, [8] = 0xfd, 1, [23] = 2};

	inet_pton(AF_INET6, dst, header + 24);
	put(p, header, sizeof(header));
}

void packet_ext(struct packet *p, uint8_t kind, uint8_t next, uint16_t fragment)
{
	uint8_t header[16] = {next};

	header[1] = kind == 51 ? 2 : 0; /* AH counts in 4 bytes less 2 */
	header[2] = (uint8_t)(fragment >> 8);
	header[3] = (uint8_t)fragment;
	put(p, header, kind == 51 ? 16 : 8);
}

void packet_tcp(struct packet *p, uint8_t doff)
{
	uint8_t header[60] = {0x80, 1, 0, 80, [12] = (uint8_t)(doff << 4), [13] = 2};

	put(p, header, doff < 5 ? 20 : doff * 4u);
}

void packet_bytes(struct packet *p, size_t count)
{
	p->len += count;
}

void packet_finish(struct packet *p)
{
	size_t l3 = p->bytes[12] == 0x81 || p->bytes[12] == 0x88 ? 18 : 14, total = p->len - l3;

	if (p->bytes[l3] >> 4 == 4) {
		p->bytes[l3 + 2] = (uint8_t)(total >> 8);
		p->bytes[l3 + 3] = (uint8_t)total;
	} else if (p->bytes[l3] >> 4 == 6) {
		p->bytes[l3 + 4] = (uint8_t)((total - 40) >> 8);
		p->bytes[l3 + 5] = (uint8_t)(total - 40);
	}
}
