/* SPDX-License-Identifier: MIT */
#include "socks_udp.h"

#include <string.h>

#define ATYP_IPV4 1
#define ATYP_NAME 3
#define ATYP_IPV6 4
#define PORT_BYTES 2

size_t socks_udp_header_bytes(const struct addr *remote)
{
	return addr_is_ipv4(remote) ? SOCKS_UDP_IPV4_BYTES : SOCKS_UDP_IPV6_BYTES;
}

/* ATYP, address and port. */
static size_t socks_udp_put_endpoint(uint8_t *out, const struct endpoint *remote)
{
	size_t bytes = addr_is_ipv4(&remote->addr) ? 4 : 16;

	out[0] = bytes == 4 ? ATYP_IPV4 : ATYP_IPV6;
	memcpy(out + 1, remote->addr.bytes + 16 - bytes, bytes);
	memcpy(out + 1 + bytes, &remote->port, PORT_BYTES);
	return 1 + bytes + PORT_BYTES;
}

size_t socks_udp_build(uint8_t *out, const struct endpoint *remote)
{
	memset(out, 0, 3);
	return 3 + socks_udp_put_endpoint(out + 3, remote);
}

/* Bytes of the address behind ATYP at data[0]; 0: unknown, or what tells is missing. */
static size_t socks_udp_address_bytes(const uint8_t *data, size_t len)
{
	switch (len ? data[0] : 0) {
	case ATYP_IPV4:
		return 4;
	case ATYP_IPV6:
		return 16;
	case ATYP_NAME:
		return len > 1 ? 1u + data[1] : 0;
	default:
		return 0;
	}
}

static void socks_udp_get_endpoint(const uint8_t *data, size_t address_bytes, struct endpoint *remote)
{
	__be32 ip;

	memset(remote, 0, sizeof(*remote));
	if (data[0] == ATYP_IPV4) {
		memcpy(&ip, data + 1, sizeof(ip));
		remote->addr = addr_from_ipv4(ip);
	} else if (data[0] == ATYP_IPV6) {
		memcpy(remote->addr.bytes, data + 1, 16);
	}
	memcpy(&remote->port, data + 1 + address_bytes, PORT_BYTES);
}

enum socks_udp_verdict socks_udp_parse(const uint8_t *data, size_t len, struct endpoint *remote, size_t *header_bytes)
{
	size_t address_bytes;

	if (len < 4 || data[0] || data[1])
		return SOCKS_UDP_MALFORMED;
	address_bytes = socks_udp_address_bytes(data + 3, len - 3);
	if (!address_bytes || len < 4 + address_bytes + PORT_BYTES)
		return SOCKS_UDP_MALFORMED;
	if (data[2])
		return SOCKS_UDP_FRAGMENT;
	if (data[3] == ATYP_NAME)
		return SOCKS_UDP_NAME;
	socks_udp_get_endpoint(data + 3, address_bytes, remote);
	/* an IPv4-mapped address would be mistaken for IPv4 */
	if (data[3] == ATYP_IPV6 && addr_is_ipv4(&remote->addr))
		return SOCKS_UDP_MALFORMED;
	*header_bytes = 4 + address_bytes + PORT_BYTES;
	return SOCKS_UDP_OK;
}

size_t socks_udp_tcp_build(uint8_t *out, const struct endpoint *remote, uint16_t data_bytes)
{
	size_t bytes = SOCKS_UDP_TCP_PREFIX_BYTES + socks_udp_put_endpoint(out + SOCKS_UDP_TCP_PREFIX_BYTES, remote);

	out[0] = (uint8_t)(data_bytes >> 8);
	out[1] = (uint8_t)data_bytes;
	out[2] = (uint8_t)bytes;
	return bytes;
}

long socks_udp_tcp_parse(const uint8_t *data, size_t len, struct endpoint *remote, size_t *data_at, size_t *data_bytes)
{
	size_t address_bytes, header;

	if (len < SOCKS_UDP_TCP_PREFIX_BYTES + 2)
		return 0;
	*data_bytes = (size_t)data[0] << 8 | data[1];
	header = data[2];
	address_bytes = socks_udp_address_bytes(data + SOCKS_UDP_TCP_PREFIX_BYTES, len - SOCKS_UDP_TCP_PREFIX_BYTES);
	if (!address_bytes || header != SOCKS_UDP_TCP_PREFIX_BYTES + 1 + address_bytes + PORT_BYTES)
		return -1;
	if (len < header + *data_bytes)
		return 0;
	socks_udp_get_endpoint(data + SOCKS_UDP_TCP_PREFIX_BYTES, address_bytes, remote);
	if (data[SOCKS_UDP_TCP_PREFIX_BYTES] == ATYP_IPV6 && addr_is_ipv4(&remote->addr))
		return -1;
	*data_at = header;
	return (long)(header + *data_bytes);
}
