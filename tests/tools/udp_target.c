/* SPDX-License-Identifier: MIT */
/*
 * A SOCKS5 server for UDP that is relay and target at once, for tests and benchmarks.
 *
 *   udp_target SOCKS-PORT [zero-address | refuse | no-udp-port]
 *
 * It answers UDP ASSOCIATE (RFC 1928; no authentication) with one relay port for all, and CMD 0x05 (UDP inside the
 * control connection). Any datagram that is sent through it, whatever the address, is answered as its port says:
 *
 *   5007   echo
 *   5008   nothing
 *   5009   echo, seemingly from 203.0.113.9:999 or [2001:db8::9]:999
 *   5010   once with FRAG 1, then as from the name "example.com", then cut short, then the echo
 *   5011   as many bytes as the first four tell (big endian), byte i = i * 7
 *   5012   the echo twice
 *   5013   ends the control connections of all, then nothing
 *   others echo
 *
 * Besides, UDP port 5007 of its own echoes without SOCKS5.
 *
 * zero-address   BND.ADDR is 0.0.0.0 or ::
 * refuse         reply 07 to UDP ASSOCIATE
 * no-udp-port    the relay port named is one where nobody listens
 *
 * Prints "ready" when it listens; ends on SIGTERM. One thread, epoll; what does not fit a socket buffer is lost, in a
 * stream it ends the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 65536
#define DATAGRAM_BYTES 66000
#define BATCH 64
#define PLAIN_PORT 5007
#define STREAM_BYTES (DATAGRAM_BYTES * 2)

enum kind { UNUSED, LISTENER, RELAY, PLAIN, GREETING, REQUEST, HELD, STREAM };

struct peer {
	enum kind kind;
	uint32_t have;
	uint8_t *bytes; /* GREETING, REQUEST: 512; STREAM: STREAM_BYTES */
};

static struct peer peers[MAX_FDS];
static int epoll_fd, highest_fd;
static bool zero_address, refuse, no_udp_port;
static uint16_t relay_port;
static uint8_t in_buffers[BATCH][DATAGRAM_BYTES];
static uint8_t answer[DATAGRAM_BYTES + 512];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int fd, enum kind kind)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (fd >= MAX_FDS || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		close(fd);
		return;
	}
	peers[fd].kind = kind;
	peers[fd].have = 0;
	highest_fd = fd > highest_fd ? fd : highest_fd;
}

static void end(int fd)
{
	free(peers[fd].bytes);
	peers[fd] = (struct peer){.kind = UNUSED};
	close(fd);
}

static int open_socket(int type, uint16_t port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), on = 1, off = 0, bytes = 8 << 20;

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 4096))
		die("listen");
	return fd;
}

/* Bytes of ATYP, address and port at `at`; 0: unknown or cut off. */
static size_t address_bytes(const uint8_t *at, size_t len)
{
	size_t bytes = !len ? 0 : at[0] == 1 ? 7 : at[0] == 4 ? 19 : at[0] == 3 && len > 1 ? 4u + at[1] : 0;

	return bytes <= len ? bytes : 0;
}

/* --- services: the answers to one datagram by `send`, with ATYP, address and port, and payload --- */

struct reply_way {
	int fd;
	const struct sockaddr_in6 *to; /* NULL: in a stream */
};

static void send_answer(const struct reply_way *way, uint8_t frag, const uint8_t *address, size_t address_len,
			const uint8_t *payload, size_t bytes)
{
	size_t header = 3 + address_len;

	memset(answer, 0, 3);
	if (way->to) {
		answer[2] = frag;
	} else {
		answer[0] = (uint8_t)(bytes >> 8);
		answer[1] = (uint8_t)bytes;
		answer[2] = (uint8_t)header;
	}
	memcpy(answer + 3, address, address_len);
	memcpy(answer + header, payload, bytes);
	if (way->to)
		sendto(way->fd, answer, header + bytes, 0, (const struct sockaddr *)way->to, sizeof(*way->to));
	else if (send(way->fd, answer, header + bytes, MSG_NOSIGNAL) != (ssize_t)(header + bytes))
		shutdown(way->fd, SHUT_RDWR);
}

static void answer_from_elsewhere(const struct reply_way *way, const uint8_t *address, const uint8_t *payload,
				  size_t bytes)
{
	static const uint8_t v4[] = {1, 203, 0, 113, 9, 999 >> 8, 999 & 255};
	static const uint8_t v6[] = {4, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 999 >> 8, 999 & 255};

	if (address[0] == 1)
		send_answer(way, 0, v4, sizeof(v4), payload, bytes);
	else
		send_answer(way, 0, v6, sizeof(v6), payload, bytes);
}

static void answer_oddly(const struct reply_way *way, const uint8_t *address, size_t address_len,
			 const uint8_t *payload, size_t bytes)
{
	static const uint8_t name[] = "\x03\x0b"
				      "example.com\x00\x50";

	send_answer(way, 1, address, address_len, payload, bytes);
	send_answer(way, 0, name, sizeof(name) - 1, payload, bytes);
	if (way->to)
		sendto(way->fd, answer, 5, 0, (const struct sockaddr *)way->to, sizeof(*way->to));
	send_answer(way, 0, address, address_len, payload, bytes);
}

static void answer_bytes(const struct reply_way *way, const uint8_t *address, size_t address_len,
			 const uint8_t *payload, size_t bytes)
{
	static uint8_t many[65535];
	uint32_t count;

	if (bytes < sizeof(count))
		return;
	memcpy(&count, payload, sizeof(count));
	count = ntohl(count);
	if (count > sizeof(many))
		return;
	for (uint32_t i = 0; i < count; i++)
		many[i] = (uint8_t)(i * 7);
	send_answer(way, 0, address, address_len, many, count);
}

static void end_all_controls(void)
{
	for (int fd = 0; fd <= highest_fd; fd++)
		if (peers[fd].kind == HELD || peers[fd].kind == STREAM)
			end(fd);
}

static void serve(const struct reply_way *way, const uint8_t *address, size_t address_len, const uint8_t *payload,
		  size_t bytes)
{
	switch (address[address_len - 2] << 8 | address[address_len - 1]) {
	case 5008:
		break;
	case 5009:
		answer_from_elsewhere(way, address, payload, bytes);
		break;
	case 5010:
		answer_oddly(way, address, address_len, payload, bytes);
		break;
	case 5011:
		answer_bytes(way, address, address_len, payload, bytes);
		break;
	case 5012:
		send_answer(way, 0, address, address_len, payload, bytes);
		send_answer(way, 0, address, address_len, payload, bytes);
		break;
	case 5013:
		end_all_controls();
		break;
	default:
		send_answer(way, 0, address, address_len, payload, bytes);
	}
}

/* --- the relay --- */

static void relay(int fd)
{
	struct sockaddr_in6 from[BATCH];
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	int count;

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){in_buffers[i], DATAGRAM_BYTES};
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
							   .msg_namelen = sizeof(from[i]),
							   .msg_iov = &iov[i],
							   .msg_iovlen = 1}};
	}
	count = recvmmsg(fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < count; i++) {
		const struct reply_way way = {fd, &from[i]};
		const uint8_t *data = in_buffers[i];
		size_t len = messages[i].msg_len, header = len > 3 ? address_bytes(data + 3, len - 3) : 0;

		if (header && !data[2])
			serve(&way, data + 3, header, data + 3 + header, len - 3 - header);
	}
}

static void stream(int fd)
{
	const struct reply_way way = {fd, NULL};
	struct peer *peer = &peers[fd];
	uint32_t at = 0;

	for (;;) {
		size_t left = peer->have - at, header, bytes;
		const uint8_t *data = peer->bytes + at;

		if (left < 5)
			break;
		bytes = (size_t)data[0] << 8 | data[1];
		header = data[2];
		if (left < header + bytes)
			break;
		if (header < 3 || address_bytes(data + 3, header - 3) != header - 3) {
			end(fd);
			return;
		}
		serve(&way, data + 3, header - 3, data + header, bytes);
		if (peer->kind != STREAM)
			return;
		at += (uint32_t)(header + bytes);
	}
	memmove(peer->bytes, peer->bytes + at, peer->have - at);
	peer->have -= at;
}

/* Without SOCKS5. */
static void plain(int fd)
{
	struct sockaddr_in6 from[BATCH];
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	int count;

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){in_buffers[i], DATAGRAM_BYTES};
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
							   .msg_namelen = sizeof(from[i]),
							   .msg_iov = &iov[i],
							   .msg_iovlen = 1}};
	}
	count = recvmmsg(fd, messages, BATCH, 0, NULL);
	for (int i = 0; i < count; i++)
		sendto(fd, in_buffers[i], messages[i].msg_len, 0, (const struct sockaddr *)&from[i], sizeof(from[i]));
}

/* --- control connections --- */

static void reply(int fd, uint8_t code)
{
	struct sockaddr_in6 own;
	socklen_t own_bytes = sizeof(own);
	uint8_t out[22] = {5, code, 0, 4};
	uint16_t port = htons(no_udp_port ? 1 : relay_port);
	size_t len = 4;

	getsockname(fd, (struct sockaddr *)&own, &own_bytes);
	if (IN6_IS_ADDR_V4MAPPED(&own.sin6_addr)) {
		out[3] = 1;
		if (!zero_address)
			memcpy(out + 4, own.sin6_addr.s6_addr + 12, 4);
		len += 4;
	} else {
		if (!zero_address)
			memcpy(out + 4, &own.sin6_addr, 16);
		len += 16;
	}
	memcpy(out + len, &port, 2);
	if (send(fd, out, len + 2, MSG_NOSIGNAL) < 0)
		perror("send");
}

static void request(int fd)
{
	struct peer *peer = &peers[fd];
	uint8_t command = peer->bytes[1];
	size_t need = peer->have > 4 ? address_bytes(peer->bytes + 3, peer->have - 3) : 0;

	if (!need)
		return;
	if (refuse || (command != 3 && command != 5)) {
		reply(fd, 7);
		end(fd);
		return;
	}
	reply(fd, 0);
	free(peer->bytes);
	peer->bytes = command == 5 ? malloc(STREAM_BYTES) : NULL;
	peer->kind = command == 5 ? STREAM : HELD;
	peer->have = 0;
}

static void control(int fd)
{
	struct peer *peer = &peers[fd];
	uint8_t ignored[256];
	uint8_t *to = peer->bytes ? peer->bytes + peer->have : ignored;
	size_t room = peer->kind == STREAM ? STREAM_BYTES - peer->have
		      : peer->bytes        ? 512 - peer->have
					   : sizeof(ignored);
	ssize_t got = recv(fd, to, room, 0);

	if (got <= 0) {
		if (!got || errno != EAGAIN)
			end(fd);
		return;
	}
	if (peer->kind == HELD)
		return;
	peer->have += (uint32_t)got;
	if (peer->kind == GREETING && peer->have >= 2 && peer->have >= 2u + peer->bytes[1]) {
		peer->have = 0;
		peer->kind = REQUEST;
		if (send(fd, "\5\0", 2, MSG_NOSIGNAL) < 0)
			end(fd);
	} else if (peer->kind == REQUEST) {
		request(fd);
	} else if (peer->kind == STREAM) {
		stream(fd);
	}
}

static void take_connections(int listener)
{
	int fd, on = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		watch(fd, GREETING);
		if (fd < MAX_FDS && peers[fd].kind == GREETING)
			peers[fd].bytes = malloc(512);
	}
}

int main(int argc, char **argv)
{
	const struct rlimit files = {MAX_FDS, MAX_FDS};
	struct epoll_event events[256];
	struct sockaddr_in6 own;
	socklen_t own_bytes = sizeof(own);
	int listener, udp;

	if (argc < 2) {
		fprintf(stderr, "usage: udp_target SOCKS-PORT [zero-address | refuse | no-udp-port]\n");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		zero_address |= !strcmp(argv[i], "zero-address");
		refuse |= !strcmp(argv[i], "refuse");
		no_udp_port |= !strcmp(argv[i], "no-udp-port");
	}
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(0);
	listener = open_socket(SOCK_STREAM, (uint16_t)atoi(argv[1]));
	udp = open_socket(SOCK_DGRAM, 0);
	if (epoll_fd < 0 || getsockname(udp, (struct sockaddr *)&own, &own_bytes))
		die("epoll");
	relay_port = ntohs(own.sin6_port);
	watch(listener, LISTENER);
	watch(udp, RELAY);
	watch(open_socket(SOCK_DGRAM, PLAIN_PORT), PLAIN);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, 256, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (peers[fd].kind == LISTENER)
				take_connections(fd);
			else if (peers[fd].kind == RELAY)
				relay(fd);
			else if (peers[fd].kind == PLAIN)
				plain(fd);
			else if (peers[fd].kind != UNUSED)
				control(fd);
		}
	}
}
