/* SPDX-License-Identifier: MIT */
#include "rawip.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "build.h"

#define RAWIP_TCP_RST_ACK 0x14

int rawip_open(struct rawip *raw)
{
	int err;

	/* IPPROTO_RAW: the IP header is ours (raw(7), ipv6(7)) */
	raw->fd4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	err = raw->fd4 < 0 ? -errno : 0;
	raw->fd6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	return raw->fd4 < 0 && raw->fd6 < 0 ? err : 0;
}

void rawip_close(struct rawip *raw)
{
	if (raw->fd4 >= 0)
		close(raw->fd4);
	if (raw->fd6 >= 0)
		close(raw->fd6);
	raw->fd4 = raw->fd6 = -1;
}

static int rawip_send(const struct rawip *raw, const struct endpoint *dst, const uint8_t *packet, size_t bytes)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = dst->addr.words[3]};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
	ssize_t sent;

	memcpy(&sin6.sin6_addr, dst->addr.bytes, sizeof(sin6.sin6_addr));
	if (addr_is_ipv4(&dst->addr))
		sent = sendto(raw->fd4, packet, bytes, 0, (const struct sockaddr *)&sin, sizeof(sin));
	else
		sent = sendto(raw->fd6, packet, bytes, 0, (const struct sockaddr *)&sin6, sizeof(sin6));
	return sent < 0 ? -errno : 0;
}

int rawip_send_reset(const struct rawip *raw, const struct endpoint *src, const struct endpoint *dst, uint32_t seq,
		     uint32_t ack)
{
	const struct build_link link = {.src = *src, .dst = *dst};
	const struct build_segment segment = {.seq = seq, .ack = ack, .flags = RAWIP_TCP_RST_ACK};
	uint8_t buffer[BUILD_MAX_HEADER_BYTES], *end = buffer + sizeof(buffer), *tcp, *ip;

	tcp = build_tcp_header(end, 0, &link, &segment);
	ip = build_ip(tcp, (uint16_t)(end - tcp), src, dst, IPPROTO_TCP);
	return rawip_send(raw, dst, ip, (size_t)(end - ip));
}
