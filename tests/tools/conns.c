/* SPDX-License-Identifier: MIT */
/*
 * A load of TCP connections, for tests and benchmarks.
 *
 *   conns serve PORT [BANNER-BYTES]   echoes what it gets; sends BANNER-BYTES first. IPv4 and IPv6.
 *   conns run HOST PORT TOTAL AT-ONCE BYTES [BANNER-BYTES]
 *                                     opens TOTAL connections, AT-ONCE at a time; each sends BYTES, reads BANNER-BYTES
 *                                     and the echo back, checks them, and closes
 *   conns target HOST PORT TOTAL AT-ONCE BYTES BANNER-BYTES [echo|end|reset]
 *                                     the same against a service of target.c: the banner is its own, and no two
 *                                     connections send the same bytes. They end by us after the echo; by the service
 *                                     after its banner; or by its reset, before or after we are connected
 *   conns hold HOST PORT COUNT        opens COUNT connections, checks an echo on each, prints "holding", waits for the
 *                                     end of its standard input, checks an echo on each again
 *   conns ping HOST PORT SECONDS BYTES   echoes one after the other on one connection
 *
 * Prints one line of key=value; the exit code is 0 when nothing failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES 65536

enum ending { ENDING_ECHO, ENDING_END, ENDING_RESET };

struct conn {
	int fd;
	uint32_t got, sent;
	uint32_t number;
	bool connected;
};

static struct sockaddr_storage target;
static socklen_t target_bytes;
static uint32_t payload_bytes, banner_bytes;
static uint8_t payload[MAX_BYTES];
/* Of the command `target`. */
static bool of_target;
static enum ending ending;
static uint32_t wrong;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "conns: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void resolve(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;

	if (getaddrinfo(host, port, &hints, &list))
		die(host);
	memcpy(&target, list->ai_addr, list->ai_addrlen);
	target_bytes = list->ai_addrlen;
	freeaddrinfo(list);
}

/* --- serve --- */

struct echo {
	uint32_t banner_left, pending, done;
	uint8_t buffer[4096];
};

static struct echo *echoes[65536];

/* false: the connection is over */
static bool echo_step(int fd, struct echo *e)
{
	for (;;) {
		ssize_t n;

		if (e->banner_left) {
			n = send(fd, payload, e->banner_left < MAX_BYTES ? e->banner_left : MAX_BYTES, MSG_NOSIGNAL);
			if (n <= 0)
				return n < 0 && errno == EAGAIN;
			e->banner_left -= (uint32_t)n;
			continue;
		}
		if (e->done == e->pending) {
			n = recv(fd, e->buffer, sizeof(e->buffer), 0);
			if (n <= 0)
				return n < 0 && errno == EAGAIN;
			e->pending = (uint32_t)n;
			e->done = 0;
		}
		n = send(fd, e->buffer + e->done, e->pending - e->done, MSG_NOSIGNAL);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		e->done += (uint32_t)n;
	}
}

static void serve(uint16_t port)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0), on = 1, off = 0;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd}, events[256];

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 8192))
		die("listen");
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
	for (;;) {
		int count = epoll_wait(ep, events, 256, -1);

		for (int i = 0; i < count; i++) {
			int c = events[i].data.fd;

			if (c == fd) {
				while ((c = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
					echoes[c] = calloc(1, sizeof(struct echo));
					echoes[c]->banner_left = banner_bytes;
					event = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET,
								     .data.fd = c};
					epoll_ctl(ep, EPOLL_CTL_ADD, c, &event);
				}
			} else if (!echo_step(c, echoes[c])) {
				free(echoes[c]);
				close(c);
			}
		}
	}
}

/* --- run --- */

static int dial(int flags)
{
	int fd = socket(target.ss_family, SOCK_STREAM | flags, 0), on = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&target, target_bytes) && errno != EINPROGRESS) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

/* What connection `number` of the command `target` sends at `offset`. */
static uint8_t own_byte(uint32_t number, uint32_t offset)
{
	return (uint8_t)((number * 2654435761u >> offset % 4 * 8) + offset * 131 + (offset >> 8));
}

/* Up to MAX_BYTES from `offset` of what connection `c` sends. */
static const uint8_t *run_outgoing(const struct conn *c)
{
	static uint8_t bytes[MAX_BYTES];

	if (!of_target)
		return payload + c->sent;
	for (uint32_t i = c->sent; i < payload_bytes; i++)
		bytes[i - c->sent] = own_byte(c->number, i);
	return bytes;
}

/* `bytes` of the banner, or of the echo, from c->got on. */
static const uint8_t *run_expected(const struct conn *c, uint32_t bytes)
{
	static uint8_t expected[MAX_BYTES];

	if (!of_target)
		return payload + (c->got < banner_bytes ? c->got : c->got - banner_bytes);
	for (uint32_t i = 0, at = c->got; i < bytes; i++, at++)
		expected[i] = (uint8_t)(at < banner_bytes ? 'A' + at % 26 : own_byte(c->number, at - banner_bytes));
	return expected;
}

static int run_connected(struct conn *c, uint32_t *refused)
{
	socklen_t bytes = sizeof(int);
	int err = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &bytes);
	if (err) {
		*refused += err == ECONNREFUSED;
		return ending == ENDING_RESET && (err == ECONNREFUSED || err == ECONNRESET) ? 1 : -1;
	}
	c->connected = true;
	return 0;
}

/* All was read that the service sends: 1 when it ends in the way it should. */
static int run_ended(const struct conn *c)
{
	uint8_t byte;
	ssize_t n;

	if (!of_target || ending == ENDING_ECHO)
		return 1;
	n = recv(c->fd, &byte, 1, 0);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n > 0)
		wrong++;
	return n == 0 && ending == ENDING_END ? 1 : n < 0 && errno == ECONNRESET && ending == ENDING_RESET ? 1 : -1;
}

/* 1: finished well, 0: goes on, -1: failed */
static int run_step(struct conn *c, uint32_t *refused)
{
	uint8_t buffer[MAX_BYTES];
	ssize_t n;

	if (!c->connected) {
		int result = run_connected(c, refused);

		if (result)
			return result;
	}
	while (c->sent < payload_bytes) {
		n = send(c->fd, run_outgoing(c), payload_bytes - c->sent, MSG_NOSIGNAL);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
		c->sent += (uint32_t)n;
	}
	while (c->got < banner_bytes + payload_bytes) {
		uint32_t want = c->got < banner_bytes ? banner_bytes - c->got : banner_bytes + payload_bytes - c->got;

		n = recv(c->fd, buffer, want < sizeof(buffer) ? want : sizeof(buffer), 0);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
		if (memcmp(buffer, run_expected(c, (uint32_t)n), (size_t)n)) {
			wrong++;
			return -1;
		}
		c->got += (uint32_t)n;
	}
	return run_ended(c);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int run(uint32_t total, uint32_t at_once)
{
	struct conn *conns = calloc(65536, sizeof(*conns));
	double *begun = calloc(65536, sizeof(*begun)), *took = calloc(total + 1, sizeof(*took)), start = now();
	struct epoll_event events[256];
	uint32_t opened = 0, live = 0, good = 0, failed = 0, refused = 0, stuck = 0;
	int ep = epoll_create1(0);

	while (good + failed < total) {
		int count;

		while (live < at_once && opened < total) {
			int fd = dial(SOCK_NONBLOCK);
			struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};

			opened++;
			if (fd < 0) {
				failed++;
				continue;
			}
			conns[fd] = (struct conn){.fd = fd, .number = opened};
			begun[fd] = now();
			epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
			live++;
		}
		count = epoll_wait(ep, events, 256, 30000);
		if (count == 0) {
			stuck = live;
			failed += live;
			break;
		}
		for (int i = 0; i < count; i++) {
			struct conn *c = &conns[events[i].data.fd];
			int result = run_step(c, &refused);

			if (!result)
				continue;
			if (result > 0)
				took[good++] = now() - begun[c->fd];
			else
				failed++;
			close(c->fd);
			live--;
		}
	}
	qsort(took, good, sizeof(*took), compare);
	printf("connections=%u failed=%u refused=%u seconds=%.3f rate=%.0f p50_us=%.0f p99_us=%.0f", good, failed,
	       refused, now() - start, good / (now() - start), good ? took[good / 2] * 1e6 : 0,
	       good ? took[good * 99 / 100] * 1e6 : 0);
	if (of_target)
		printf(" wrong=%u stuck=%u", wrong, stuck);
	putchar('\n');
	return failed != 0;
}

/* --- hold, ping: blocking --- */

static bool echo_once(int fd, uint32_t bytes)
{
	uint8_t buffer[MAX_BYTES];
	uint32_t got = 0;

	if (send(fd, payload, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		return false;
	while (got < bytes) {
		ssize_t n = recv(fd, buffer + got, bytes - got, 0);

		if (n <= 0)
			return false;
		got += (uint32_t)n;
	}
	return !memcmp(buffer, payload, bytes);
}

static int hold(uint32_t count)
{
	int *fds = calloc(count, sizeof(*fds));
	uint32_t bad = 0, lost = 0;
	char byte;

	for (uint32_t i = 0; i < count; i++) {
		fds[i] = dial(0);
		bad += fds[i] < 0 || !echo_once(fds[i], 16);
	}
	printf("holding connections=%u failed=%u\n", count - bad, bad);
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	for (uint32_t i = 0; i < count; i++)
		lost += fds[i] < 0 || !echo_once(fds[i], 16);
	printf("alive=%u lost=%u\n", count - lost, lost);
	return bad || lost;
}

static int ping(double seconds, uint32_t bytes)
{
	double *took = calloc(10000000, sizeof(*took)), start = now();
	uint32_t count = 0;
	int fd = dial(0);

	if (fd < 0)
		die("connect");
	while (now() - start < seconds && count < 10000000) {
		double begun = now();

		if (!echo_once(fd, bytes))
			die("echo");
		took[count++] = now() - begun;
	}
	qsort(took, count, sizeof(*took), compare);
	printf("pings=%u p50_us=%.1f p99_us=%.1f\n", count, took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	for (uint32_t i = 0; i < MAX_BYTES; i++)
		payload[i] = (uint8_t)(i * 131 + (i >> 8));
	if (argc >= 3 && !strcmp(argv[1], "serve")) {
		banner_bytes = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
		serve((uint16_t)atoi(argv[2]));
	}
	if (argc >= 5)
		resolve(argv[2], argv[3]);
	if (argc >= 7 && !strcmp(argv[1], "run")) {
		payload_bytes = (uint32_t)atoi(argv[6]);
		banner_bytes = argc > 7 ? (uint32_t)atoi(argv[7]) : 0;
		return run((uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
	}
	if (argc >= 8 && !strcmp(argv[1], "target")) {
		of_target = true;
		payload_bytes = (uint32_t)atoi(argv[6]);
		banner_bytes = (uint32_t)atoi(argv[7]);
		if (argc > 8)
			ending = !strcmp(argv[8], "end")     ? ENDING_END
				 : !strcmp(argv[8], "reset") ? ENDING_RESET
							     : ENDING_ECHO;
		return run((uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
	}
	if (argc == 5 && !strcmp(argv[1], "hold"))
		return hold((uint32_t)atoi(argv[4]));
	if (argc == 6 && !strcmp(argv[1], "ping"))
		return ping(atof(argv[4]), (uint32_t)atoi(argv[5]));
	fprintf(stderr, "conns: see the top of conns.c for its commands\n");
	return 2;
}
