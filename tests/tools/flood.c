/* SPDX-License-Identifier: MIT */
/*
 * Hostile frames on an interface.
 *
 *   flood IF DST-MAC syn COUNT
 *
 * sends SYNs, 10,000 a second, from COUNT made-up IPv4 addresses (10.66.0.0/16) to 10.9.0.1 port 7000;
 *
 *   flood IF DST-MAC random COUNT
 *
 * sends frames of random length: half pure noise behind an Ethernet header, half TCP/IPv4 and TCP/IPv6 with correct
 * addresses and checksummed IPv4 headers and noise behind them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t frame[1514];

static uint16_t checksum(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		sum += (uint32_t)p[i] << (i & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void put_ipv4(uint32_t source, uint16_t total)
{
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(total)};

	ip.saddr = htonl(source);
	ip.daddr = inet_addr("10.9.0.1");
	ip.check = checksum(&ip, sizeof(ip), 0);
	frame[12] = 0x08;
	frame[13] = 0x00;
	memcpy(frame + 14, &ip, sizeof(ip));
}

static size_t make_syn(uint32_t i)
{
	struct tcphdr th = {
		.source = htons((uint16_t)(1024 + i % 60000)), .dest = htons(7000), .seq = htonl(i * 7919), .doff = 5};
	uint8_t pseudo[12];

	th.syn = 1;
	th.window = htons(65535);
	put_ipv4(0x0a420000 + i, 40);
	memcpy(pseudo, frame + 14 + 12, 8);
	memcpy(pseudo + 8, "\0\6\0\24", 4);
	th.check = checksum(&th, sizeof(th), (uint16_t)~ntohs(checksum(pseudo, sizeof(pseudo), 0)));
	memcpy(frame + 34, &th, sizeof(th));
	return 54;
}

static size_t make_random(uint32_t i)
{
	size_t len = 14 + (size_t)random() % 1500;

	for (size_t b = 12; b < len; b++)
		frame[b] = (uint8_t)random();
	if (i % 4 == 0 && len >= 34) {
		put_ipv4(0x0a010002, (uint16_t)(len - 14));
	} else if (i % 4 == 1 && len >= 54) {
		struct ip6_hdr ip = {
			.ip6_flow = htonl(6u << 28), .ip6_plen = htons((uint16_t)(len - 54)), .ip6_nxt = IPPROTO_TCP};

		inet_pton(AF_INET6, "fd01::2", &ip.ip6_src);
		inet_pton(AF_INET6, "fd09::1", &ip.ip6_dst);
		frame[12] = 0x86;
		frame[13] = 0xdd;
		memcpy(frame + 14, &ip, sizeof(ip));
	}
	return len < 60 ? 60 : len;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), bytes = 16 << 20;
	uint32_t count;

	if (argc != 5)
		return fprintf(stderr, "flood: see the top of flood.c\n");
	count = (uint32_t)atoi(argv[4]);
	to.sll_ifindex = (int)if_nametoindex(argv[1]);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	if (sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", frame, frame + 1, frame + 2, frame + 3, frame + 4,
		   frame + 5) != 6)
		return fprintf(stderr, "flood: %s is no MAC address\n", argv[2]);
	memcpy(frame + 6, "\x02\0\0\0\0\x01", 6);
	srandom(1);
	for (uint32_t i = 0; i < count; i++) {
		size_t len = !strcmp(argv[3], "syn") ? make_syn(i) : make_random(i);

		if (sendto(fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != ENOBUFS) {
			perror("flood: sendto");
			return 1;
		}
		if (i % 64 == 63)
			usleep(!strcmp(argv[3], "syn") ? 6000 : 1000);
	}
	return 0;
}
