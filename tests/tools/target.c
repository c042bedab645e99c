/* SPDX-License-Identifier: MIT */
/*
 * A target that itself speaks SOCKS5, for tests and benchmarks: behind a gateway it stands for the upstream proxy and
 * for the destination at once, so that only the gateway is measured.
 *
 *   target SOCKS-PORT [PLAIN-PORT...]
 *
 * On SOCKS-PORT it answers a CONNECT (RFC 1928; "no auth", or else any user and password, RFC 1929) and then behaves as
 * the service of the requested port, whatever the address. On each PLAIN-PORT a connection is that port's service at
 * once. IPv4 and IPv6. Prints "ready" when it listens; ends on SIGTERM and SIGINT.
 *
 *   5001, 5014  sink: reads to EOF, answers with the number of bytes (8 bytes, little endian), closes
 *   5002        source: sends zero bytes until the peer closes
 *   5003        echo, to EOF
 *   5004        a banner of 1 byte in a segment of its own, then echo
 *   5005        a banner of 100 bytes in the same send() as the reply, then echo
 *   5006        the same, then close
 *   5007        a banner of 20000 bytes in the same send() as the reply, then echo
 *   5008        a banner of 1000000 bytes, then echo
 *   5009        refuses: reply 05
 *   5010        resets after the reply
 *   5011        closes after the reply
 *   5012        silent: reads to EOF, sends nothing, closes
 *   5013        a banner of 100 bytes 200 ms after the reply, then echo
 *   5015        download: 100000000 bytes, byte i = i * 31 + (i >> 8) * 7 + (i >> 16), then FIN
 *   others      reply 04 (host unreachable)
 *
 * Byte i of a banner is 'A' + i % 26.
 *
 * One thread runs an edge-triggered epoll loop over all connections. A connection is a small state machine: what is due
 * to the peer (reply, banner) is sent first, then the step of its state runs, until nothing more can be done. The bulk
 * services (sink, source, download) leave the loop: a thread of their own takes over the socket and the struct conn,
 * and frees both. Whatever a peer does costs that connection only.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS (1 << 20)
#define MAX_LISTENERS 64
#define MAX_BANNER_BYTES 1000000
#define BULK_BYTES (256 << 10)
#define DOWNLOAD_BYTES 100000000
/* The pattern of the download repeats after 2^24 bytes. */
#define PATTERN_BYTES (16 << 20)
/* Steps of one connection before the others get their turn. */
#define MAX_STEPS 64
#define ACCEPT_PAUSE_NS 100000000ull
#define NS_PER_MS 1000000ull

enum step {
	STEP_AGAIN, /* something was done, more may be possible */
	STEP_WAIT,  /* until epoll or the clock says so */
	STEP_OVER,  /* to be closed */
	STEP_GONE,  /* a thread has it now */
};

enum conn_state { GREETING, PASSWORD, REQUEST, DELAYED, SERVING };

struct conn;

struct service {
	uint16_t port;
	uint8_t rep; /* of the SOCKS reply */
	bool joined; /* banner in the same send() as the reply */
	uint32_t banner_bytes, delay_ms;
	enum step (*serve)(struct conn *c);
	void *(*bulk)(void *conn); /* of serve_bulk() */
};

struct conn {
	TAILQ_ENTRY(conn) link; /* in `delayed`, in state DELAYED only */
	uint64_t due_ns;
	const struct service *service;
	int fd;
	enum conn_state state;
	uint32_t reply_bytes, reply_sent, banner_bytes, banner_sent;
	uint8_t reply[32];
	/* Received and not used yet: buffer[done..pending). A whole handshake takes less than 1100 bytes. */
	uint32_t done, pending;
	uint8_t buffer[16384];
};

struct listener {
	int fd;
	const struct service *service; /* NULL: SOCKS */
};

static struct conn *conns[MAX_FDS];
static struct listener listeners[MAX_LISTENERS];
static uint32_t listener_count;
/* All delays are equal, so the queue is in the order of due_ns. */
static TAILQ_HEAD(delay_queue, conn) delayed = TAILQ_HEAD_INITIALIZER(delayed);
static uint64_t accept_paused_until_ns;
static int epoll_fd;

static uint8_t banner[MAX_BANNER_BYTES];
static uint8_t zeros[BULK_BYTES];
static uint8_t discard[BULK_BYTES]; /* MSG_TRUNC writes nothing into it */
static uint8_t pattern[PATTERN_BYTES];
static pthread_once_t pattern_once = PTHREAD_ONCE_INIT;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "target: %s: %s\n", what, strerror(errno));
	exit(2);
}

static enum step wait_or_over(void)
{
	return errno == EAGAIN ? STEP_WAIT : STEP_OVER;
}

static void reset_on_close(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* --- services in the loop --- */

static enum step serve_echo(struct conn *c)
{
	bool sending = c->done < c->pending;
	ssize_t n;

	if (sending) {
		n = send(c->fd, c->buffer + c->done, c->pending - c->done, MSG_NOSIGNAL);
	} else {
		c->done = c->pending = 0;
		n = recv(c->fd, c->buffer, sizeof(c->buffer), 0);
	}
	if (n <= 0)
		return n < 0 ? wait_or_over() : STEP_OVER;
	*(sending ? &c->done : &c->pending) += (uint32_t)n;
	return STEP_AGAIN;
}

static enum step serve_silent(struct conn *c)
{
	ssize_t n = recv(c->fd, discard, sizeof(discard), MSG_TRUNC);

	if (n <= 0)
		return n < 0 ? wait_or_over() : STEP_OVER;
	return STEP_AGAIN;
}

static enum step serve_close(struct conn *c)
{
	(void)c;
	return STEP_OVER;
}

static enum step serve_reset(struct conn *c)
{
	reset_on_close(c->fd);
	return STEP_OVER;
}

/* --- services in a thread: blocking; each ends its connection --- */

static void *bulk_end(struct conn *c)
{
	close(c->fd);
	free(c);
	return NULL;
}

static void *bulk_sink(void *conn)
{
	struct conn *c = conn;
	uint64_t total = c->pending - c->done;
	ssize_t n;

	while ((n = recv(c->fd, discard, sizeof(discard), MSG_TRUNC)) > 0)
		total += (uint64_t)n;
	total = htole64(total);
	if (n == 0)
		send(c->fd, &total, sizeof(total), MSG_NOSIGNAL);
	return bulk_end(c);
}

/* Sends data[0..period_bytes) over and over; false: the peer is gone. */
static bool bulk_send(int fd, const uint8_t *data, uint64_t period_bytes, uint64_t total)
{
	uint64_t sent = 0;

	while (sent < total) {
		uint64_t at = sent % period_bytes, bytes = period_bytes - at;
		ssize_t n;

		if (bytes > BULK_BYTES)
			bytes = BULK_BYTES;
		if (bytes > total - sent)
			bytes = total - sent;
		n = send(fd, data + at, bytes, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		sent += (uint64_t)n;
	}
	return true;
}

static void *bulk_source(void *conn)
{
	struct conn *c = conn;

	bulk_send(c->fd, zeros, sizeof(zeros), UINT64_MAX);
	return bulk_end(c);
}

static void pattern_make(void)
{
	for (uint32_t i = 0; i < PATTERN_BYTES; i++)
		pattern[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void *bulk_download(void *conn)
{
	struct conn *c = conn;
	struct timeval patience = {.tv_sec = 10};

	pthread_once(&pattern_once, pattern_make);
	/* Closing with unread bytes would be a reset, and the peer would lose the end of the download. */
	if (bulk_send(c->fd, pattern, sizeof(pattern), DOWNLOAD_BYTES) && !shutdown(c->fd, SHUT_WR)) {
		setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		while (recv(c->fd, discard, sizeof(discard), MSG_TRUNC) > 0)
			;
	}
	return bulk_end(c);
}

static enum step serve_bulk(struct conn *c)
{
	pthread_attr_t attr;
	pthread_t thread;
	int fd = c->fd, err;

	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	/* The thread may close the fd, and a new connection may get it, before pthread_create() returns. */
	conns[fd] = NULL;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	err = pthread_create(&thread, &attr, c->service->bulk, c);
	pthread_attr_destroy(&attr);
	if (!err)
		return STEP_GONE;
	fprintf(stderr, "target: no thread for a connection, reset it: %s\n", strerror(err));
	reset_on_close(fd);
	bulk_end(c);
	return STEP_GONE;
}

static const struct service services[] = {
	{.port = 5001, .serve = serve_bulk, .bulk = bulk_sink},
	{.port = 5002, .serve = serve_bulk, .bulk = bulk_source},
	{.port = 5003, .serve = serve_echo},
	{.port = 5004, .serve = serve_echo, .banner_bytes = 1},
	{.port = 5005, .serve = serve_echo, .banner_bytes = 100, .joined = true},
	{.port = 5006, .serve = serve_close, .banner_bytes = 100, .joined = true},
	{.port = 5007, .serve = serve_echo, .banner_bytes = 20000, .joined = true},
	{.port = 5008, .serve = serve_echo, .banner_bytes = MAX_BANNER_BYTES},
	{.port = 5009, .serve = serve_close, .rep = 5},
	{.port = 5010, .serve = serve_reset},
	{.port = 5011, .serve = serve_close},
	{.port = 5012, .serve = serve_silent},
	{.port = 5013, .serve = serve_echo, .banner_bytes = 100, .delay_ms = 200},
	{.port = 5014, .serve = serve_bulk, .bulk = bulk_sink},
	{.port = 5015, .serve = serve_bulk, .bulk = bulk_download},
};

/* What a port without a service, and a handshake that cannot go on, get. */
static const struct service host_unreachable = {.serve = serve_close, .rep = 4};
static const struct service bad_command = {.serve = serve_close, .rep = 7};
static const struct service bad_address_type = {.serve = serve_close, .rep = 8};

static const struct service *service_find(uint16_t port)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++) {
		if (services[i].port == port)
			return &services[i];
	}
	return &host_unreachable;
}

/* --- the handshake --- */

static void conn_reply(struct conn *c, const uint8_t *data, uint32_t bytes)
{
	memcpy(c->reply, data, bytes);
	c->reply_bytes = bytes;
	c->reply_sent = 0;
}

static void conn_serve(struct conn *c, const struct service *service)
{
	c->service = service;
	if (service->delay_ms) {
		c->state = DELAYED;
		c->due_ns = now_ns() + service->delay_ms * NS_PER_MS;
		TAILQ_INSERT_TAIL(&delayed, c, link);
		return;
	}
	c->state = SERVING;
	c->banner_bytes = service->banner_bytes;
}

static enum step conn_fill(struct conn *c)
{
	ssize_t n = recv(c->fd, c->buffer + c->pending, sizeof(c->buffer) - c->pending, 0);

	if (n <= 0)
		return n < 0 ? wait_or_over() : STEP_OVER;
	c->pending += (uint32_t)n;
	return STEP_AGAIN;
}

/* RFC 1928, section 3 */
static enum step step_greeting(struct conn *c)
{
	const uint8_t *p = c->buffer + c->done;
	uint32_t n = c->pending - c->done;
	uint8_t method = 0xff;

	if (n && p[0] != 5)
		return STEP_OVER;
	if (n < 2 || n < 2u + p[1])
		return conn_fill(c);
	if (memchr(p + 2, 0, p[1]))
		method = 0;
	else if (memchr(p + 2, 2, p[1]))
		method = 2;
	c->done += 2u + p[1];
	conn_reply(c, (uint8_t[]){5, method}, 2);
	if (method == 0xff)
		conn_serve(c, &host_unreachable);
	else
		c->state = method == 2 ? PASSWORD : REQUEST;
	return STEP_AGAIN;
}

/* RFC 1929 */
static enum step step_password(struct conn *c)
{
	const uint8_t *p = c->buffer + c->done;
	uint32_t n = c->pending - c->done;

	if (n && p[0] != 1)
		return STEP_OVER;
	if (n < 2 || n < 3u + p[1] || n < 3u + p[1] + p[2 + p[1]])
		return conn_fill(c);
	c->done += 3u + p[1] + p[2 + p[1]];
	conn_reply(c, (uint8_t[]){1, 0}, 2);
	c->state = REQUEST;
	return STEP_AGAIN;
}

/* RFC 1928, sections 4 to 6. BND.ADDR is all zero, IPv6 for an IPv6 request. */
static enum step step_request(struct conn *c)
{
	enum { IPV4 = 1, DOMAIN = 3, IPV6 = 4 };
	static const uint8_t address_bytes[] = {[IPV4] = 4, [DOMAIN] = 1, [IPV6] = 16};
	const uint8_t *p = c->buffer + c->done;
	uint32_t n = c->pending - c->done, port_at;
	const struct service *service = &bad_address_type;
	uint8_t answer[22] = {5, 0, 0, IPV4};

	if (n && p[0] != 5)
		return STEP_OVER;
	if (n < 5)
		return conn_fill(c);
	if (p[3] < sizeof(address_bytes) && address_bytes[p[3]]) {
		port_at = 4u + address_bytes[p[3]] + (p[3] == DOMAIN ? p[4] : 0);
		if (n < port_at + 2)
			return conn_fill(c);
		service = p[1] == 1 ? service_find((uint16_t)(p[port_at] << 8 | p[port_at + 1])) : &bad_command;
		c->done += port_at + 2;
		if (p[3] == IPV6)
			answer[3] = IPV6;
	}
	answer[1] = service->rep;
	conn_reply(c, answer, answer[3] == IPV6 ? 22 : 10);
	conn_serve(c, service);
	return STEP_AGAIN;
}

/* The clock moves it on. */
static enum step step_delayed(struct conn *c)
{
	(void)c;
	return STEP_WAIT;
}

static enum step step_serving(struct conn *c)
{
	return c->service->serve(c);
}

/* --- connections --- */

static enum step conn_flush(struct conn *c)
{
	uint32_t reply_left, banner_left;

	while ((reply_left = c->reply_bytes - c->reply_sent), (banner_left = c->banner_bytes - c->banner_sent),
	       reply_left || banner_left) {
		struct iovec parts[] = {{c->reply + c->reply_sent, reply_left}, {banner + c->banner_sent, banner_left}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 1};
		ssize_t n;

		if (!reply_left)
			message.msg_iov = &parts[1];
		else if (banner_left && c->service->joined)
			message.msg_iovlen = 2;
		n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
		if (n < 0)
			return wait_or_over();
		if ((size_t)n < reply_left)
			reply_left = (uint32_t)n;
		c->reply_sent += reply_left;
		c->banner_sent += (uint32_t)n - reply_left;
	}
	return STEP_AGAIN;
}

static void conn_close(struct conn *c)
{
	if (c->state == DELAYED)
		TAILQ_REMOVE(&delayed, c, link);
	/* Closing with unread bytes would be a reset instead of a FIN. */
	for (int i = 0; i < MAX_STEPS && recv(c->fd, discard, sizeof(discard), MSG_TRUNC) > 0; i++)
		;
	conns[c->fd] = NULL;
	close(c->fd);
	free(c);
}

static void conn_run(struct conn *c)
{
	static enum step (*const steps[])(struct conn *) = {
		[GREETING] = step_greeting, [PASSWORD] = step_password, [REQUEST] = step_request,
		[DELAYED] = step_delayed,   [SERVING] = step_serving,
	};
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = c->fd};
	enum step step = STEP_AGAIN;

	for (int i = 0; i < MAX_STEPS && step == STEP_AGAIN; i++) {
		step = conn_flush(c);
		if (step == STEP_AGAIN)
			step = steps[c->state](c);
	}
	if (step == STEP_OVER)
		conn_close(c);
	else if (step == STEP_AGAIN) /* arms the edge again: the others first, then this one goes on */
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void conn_open(int fd, const struct service *service)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
	struct conn *c = malloc(sizeof(*c));
	int on = 1;

	if (!c || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		free(c);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* All but the buffer, so that its pages stay untouched until they are needed. */
	memset(c, 0, offsetof(struct conn, buffer));
	c->fd = fd;
	conns[fd] = c;
	if (service)
		conn_serve(c, service);
	conn_run(c);
}

/* --- the loop --- */

static void target_listen(uint16_t port, const struct service *service)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	/* Edge-triggered: while accepting pauses, a waiting connection must not wake the loop. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 8192) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		fprintf(stderr, "target: port %u: %s\n", port, strerror(errno));
		exit(2);
	}
	listeners[listener_count++] = (struct listener){.fd = fd, .service = service};
}

static void target_accept(const struct listener *l)
{
	while (!accept_paused_until_ns) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			conn_open(fd, l->service);
		else if (errno == EAGAIN)
			return;
		else if (errno != ECONNABORTED && errno != EINTR) /* EMFILE and the like */
			accept_paused_until_ns = now_ns() + ACCEPT_PAUSE_NS;
	}
}

static void target_event(int fd)
{
	if (conns[fd]) {
		conn_run(conns[fd]);
		return;
	}
	for (uint32_t i = 0; i < listener_count; i++) {
		if (listeners[i].fd == fd)
			target_accept(&listeners[i]);
	}
}

/* Does what the clock has made due; returns the milliseconds to the next time, or -1. */
static int target_clock(void)
{
	uint64_t now, next = UINT64_MAX;
	struct conn *c;

	if (!accept_paused_until_ns && TAILQ_EMPTY(&delayed))
		return -1;
	now = now_ns();
	if (accept_paused_until_ns && accept_paused_until_ns <= now) {
		accept_paused_until_ns = 0;
		for (uint32_t i = 0; i < listener_count; i++)
			target_accept(&listeners[i]);
	}
	while ((c = TAILQ_FIRST(&delayed)) && c->due_ns <= now) {
		TAILQ_REMOVE(&delayed, c, link);
		c->state = SERVING;
		c->banner_bytes = c->service->banner_bytes;
		conn_run(c);
	}
	if (accept_paused_until_ns)
		next = accept_paused_until_ns;
	if (c && c->due_ns < next)
		next = c->due_ns;
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void target_end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

static uint16_t parse_port(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (*end || !port || port > 65535) {
		fprintf(stderr, "target: \"%s\" is not a port\n", text);
		exit(2);
	}
	return (uint16_t)port;
}

static void target_set_up(int argc, char **argv)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < MAX_FDS ? limit.rlim_max : MAX_FDS;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, target_end);
	signal(SIGINT, target_end);
	for (uint32_t i = 0; i < MAX_BANNER_BYTES; i++)
		banner[i] = (uint8_t)('A' + i % 26);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	target_listen(parse_port(argv[1]), NULL);
	for (int i = 2; i < argc; i++) {
		uint16_t port = parse_port(argv[i]);

		if (service_find(port) == &host_unreachable) {
			fprintf(stderr, "target: port %u has no service; see the top of target.c\n", port);
			exit(2);
		}
		target_listen(port, service_find(port));
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];

	if (argc < 2 || argc > MAX_LISTENERS) {
		fprintf(stderr, "usage: target SOCKS-PORT [PLAIN-PORT...]\n");
		return 2;
	}
	target_set_up(argc, argv);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, 256, target_clock());

		for (int i = 0; i < count; i++)
			target_event(events[i].data.fd);
	}
}
