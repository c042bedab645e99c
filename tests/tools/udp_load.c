/* SPDX-License-Identifier: MIT */
/*
 * Load by UDP, for tests and benchmarks. One thread, one line of key=value each.
 *
 *   udp_load echo HOST PORT SECONDS SIZE [WINDOW]   one endpoint, WINDOW (64) datagrams on their way: round trips a
 * second, and how many of those sent came back at all udp_load ping HOST PORT SECONDS SIZE            one at a time:
 * latency udp_load endpoints HOST PORT SECONDS RATE       RATE new endpoints a second with one datagram each: how many
 * were answered within a second, and how soon
 *
 * HOST is an address. A datagram that is not answered within 100 ms counts as lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
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

#define MAX_WINDOW 1024
#define MAX_SIZE 1472
#define MAX_LATENCIES (1u << 20)
#define MAX_ENDPOINTS 20000
#define LOST_NS 100000000ull
#define ANSWER_NS 1000000000ull

static struct sockaddr_storage target;
static socklen_t target_bytes;
static uint32_t latencies[MAX_LATENCIES]; /* microseconds */
static uint32_t latency_count;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static bool read_target(const char *host, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&target;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target;

	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		target_bytes = sizeof(*v4);
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	target_bytes = sizeof(*v6);
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static int open_endpoint(void)
{
	int fd = socket(target.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = 4 << 20;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (!connect(fd, (struct sockaddr *)&target, target_bytes))
		return fd;
	close(fd);
	return -1;
}

static void note_latency(uint64_t ns)
{
	if (latency_count < MAX_LATENCIES)
		latencies[latency_count++] = (uint32_t)(ns / 1000);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void print_latencies(void)
{
	qsort(latencies, latency_count, sizeof(*latencies), compare);
	printf(" p50_us=%u p99_us=%u\n", latency_count ? latencies[latency_count / 2] : 0,
	       latency_count ? latencies[(uint64_t)latency_count * 99 / 100] : 0);
}

/* --- one endpoint --- */

struct window {
	uint64_t sent_ns[MAX_WINDOW]; /* of the datagram with this number modulo the window; 0: answered, or given up */
	uint64_t sent, answered, lost;
	uint32_t size;
};

/* Sends what the window has room for: a place is free once its datagram is answered or lost. */
static void fill_window(int fd, struct window *w, uint32_t bytes)
{
	static uint8_t buffers[64][MAX_SIZE];
	struct mmsghdr messages[64];
	struct iovec iov[64];
	uint64_t now = now_ns();
	int count = 0, sent;

	while (count < 64 && count < (int)w->size) {
		uint64_t number = w->sent + (uint64_t)count, *place = &w->sent_ns[number % w->size];

		if (*place && now - *place < LOST_NS)
			break;
		if (*place)
			w->lost++;
		*place = now;
		memcpy(buffers[count], &number, sizeof(number));
		iov[count] = (struct iovec){buffers[count], bytes};
		messages[count] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[count], .msg_iovlen = 1}};
		count++;
	}
	if (!count)
		return;
	sent = sendmmsg(fd, messages, (unsigned int)count, 0);
	sent = sent < 0 ? 0 : sent;
	for (int i = sent; i < count; i++)
		w->sent_ns[(w->sent + (uint64_t)i) % w->size] = 0;
	w->sent += (uint64_t)sent;
}

static void take_answers(int fd, struct window *w)
{
	static uint8_t buffers[64][MAX_SIZE + 1];
	struct mmsghdr messages[64];
	struct iovec iov[64];
	uint64_t now;
	int count;

	for (int i = 0; i < 64; i++) {
		iov[i] = (struct iovec){buffers[i], sizeof(buffers[i])};
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
	}
	count = recvmmsg(fd, messages, 64, 0, NULL);
	now = now_ns();
	for (int i = 0; i < count; i++) {
		uint64_t number, *place;

		memcpy(&number, buffers[i], sizeof(number));
		place = &w->sent_ns[number % w->size];
		if (number >= w->sent || number + w->size < w->sent || !*place)
			continue;
		note_latency(now - *place);
		*place = 0;
		w->answered++;
	}
}

static int run_echo(double seconds, uint32_t bytes, uint32_t size)
{
	static struct window w;
	int fd = open_endpoint();
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	uint64_t started, counted_from = 0, before = 0, lost_before = 0, sent_before = 0, until;

	if (fd < 0 || bytes < sizeof(uint64_t) || bytes > MAX_SIZE || !size || size > MAX_WINDOW)
		return 2;
	w.size = size;
	started = now_ns();
	until = started + (uint64_t)((seconds + 0.5) * 1e9);
	for (uint64_t now = started; now < until; now = now_ns()) {
		/* the first half second is not counted: associations are made */
		if (!counted_from && now - started > 500000000ull) {
			counted_from = now;
			before = w.answered;
			lost_before = w.lost;
			sent_before = w.sent;
			latency_count = 0;
		}
		fill_window(fd, &w, bytes);
		poll(&wait, 1, 10);
		take_answers(fd, &w);
	}
	printf("rate=%.0f sent=%llu lost=%llu", (double)(w.answered - before) * 1e9 / (double)(now_ns() - counted_from),
	       (unsigned long long)(w.sent - sent_before), (unsigned long long)(w.lost - lost_before));
	print_latencies();
	return 0;
}

/* --- many endpoints --- */

struct endpoint {
	int fd; /* -1: none */
	uint64_t opened_ns;
};

static int run_endpoints(double seconds, double rate)
{
	static struct endpoint endpoints[MAX_ENDPOINTS];
	const struct rlimit files = {MAX_ENDPOINTS + 100, MAX_ENDPOINTS + 100};
	uint64_t started, opened = 0, answered = 0, failed = 0, wanted = (uint64_t)(seconds * rate), oldest = 0;
	int epoll_fd = epoll_create1(0);

	setrlimit(RLIMIT_NOFILE, &files);
	started = now_ns();
	for (;;) {
		struct epoll_event events[256];
		uint64_t now = now_ns(), due = (uint64_t)((double)(now - started) * rate / 1e9);
		int count;

		for (due = due < wanted ? due : wanted; opened < due && opened - oldest < MAX_ENDPOINTS; opened++) {
			struct endpoint *e = &endpoints[opened % MAX_ENDPOINTS];
			struct epoll_event event = {.events = EPOLLIN, .data.u64 = opened};

			e->fd = open_endpoint();
			e->opened_ns = now;
			if (e->fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, e->fd, &event) ||
			    send(e->fd, &opened, sizeof(opened), 0) < 0)
				failed++;
		}
		count = epoll_wait(epoll_fd, events, 256, 1);
		now = now_ns();
		for (int i = 0; i < count; i++) {
			struct endpoint *e = &endpoints[events[i].data.u64 % MAX_ENDPOINTS];
			uint64_t number = 0;

			if (e->fd < 0)
				continue;
			if (recv(e->fd, &number, sizeof(number), 0) == sizeof(number) && number == events[i].data.u64) {
				answered++;
				note_latency(now - e->opened_ns);
			}
			close(e->fd);
			e->fd = -1;
		}
		for (; oldest < opened; oldest++) {
			struct endpoint *e = &endpoints[oldest % MAX_ENDPOINTS];

			if (e->fd >= 0 && now - e->opened_ns < ANSWER_NS)
				break;
			if (e->fd >= 0)
				close(e->fd);
			e->fd = -1;
		}
		if (opened == wanted && oldest == opened)
			break;
	}
	printf("opened=%llu answered=%llu failed=%llu seconds=%.2f rate=%.0f", (unsigned long long)opened,
	       (unsigned long long)answered, (unsigned long long)failed, (double)(now_ns() - started) / 1e9,
	       (double)answered / seconds);
	print_latencies();
	return answered != wanted;
}

int main(int argc, char **argv)
{
	if (argc >= 6 && read_target(argv[2], argv[3])) {
		if (!strcmp(argv[1], "echo"))
			return run_echo(atof(argv[4]), (uint32_t)atoi(argv[5]),
					argc > 6 ? (uint32_t)atoi(argv[6]) : 64);
		if (!strcmp(argv[1], "ping"))
			return run_echo(atof(argv[4]), (uint32_t)atoi(argv[5]), 1);
		if (!strcmp(argv[1], "endpoints"))
			return run_endpoints(atof(argv[4]), atof(argv[5]));
	}
	fprintf(stderr, "usage: udp_load echo HOST PORT SECONDS SIZE [WINDOW] | ping HOST PORT SECONDS SIZE |\n"
			"       endpoints HOST PORT SECONDS RATE\n");
	return 2;
}
