/* SPDX-License-Identifier: MIT */
/*
 * The same bytes as the daemon sends (core/socks), on a blocking schedule:
 * connect, greeting, user and password if the server asks for them, and a UDP
 * ASSOCIATE, which the end of the connection takes back. No CONNECT: that
 * would reach a third party.
 */
#include "upstream_probe.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "resolve.h"
#include "socks.h"

struct probe_visit {
	int fd;
	uint64_t started_ns;
	uint64_t deadline_ns;
	struct socks_handshake handshake;
};

static uint64_t probe_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static double probe_ms_since(uint64_t start_ns)
{
	return (double)(probe_now_ns() - start_ns) / 1e6;
}

/* Until the socket is ready for `events` or time is up. 0 or -ETIMEDOUT. */
static int probe_wait(const struct probe_visit *visit, short events)
{
	struct pollfd poll_fd = {.fd = visit->fd, .events = events};
	uint64_t now = probe_now_ns();
	int ready;

	if (now >= visit->deadline_ns)
		return -ETIMEDOUT;
	ready = poll(&poll_fd, 1, (int)((visit->deadline_ns - now) / 1000000) + 1);
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	return ready ? 0 : -ETIMEDOUT;
}

static socklen_t probe_sockaddr(const struct endpoint *server, struct sockaddr_storage *out)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)out;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (addr_is_ipv4(&server->addr)) {
		*sin = (struct sockaddr_in){
			.sin_family = AF_INET, .sin_port = server->port, .sin_addr.s_addr = server->addr.words[3]};
		return sizeof(*sin);
	}
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = server->port;
	memcpy(&sin6->sin6_addr, server->addr.bytes, sizeof(server->addr.bytes));
	return sizeof(*sin6);
}

static int probe_connect(struct probe_visit *visit, const struct endpoint *server, uint32_t mark, const char *uplink)
{
	struct sockaddr_storage address;
	socklen_t bytes = probe_sockaddr(server, &address), err_bytes = sizeof(int);
	int err;

	visit->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (visit->fd < 0)
		return -errno;
	if (mark && setsockopt(visit->fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -errno;
	if (uplink[0] && setsockopt(visit->fd, SOL_SOCKET, SO_BINDTODEVICE, uplink, (socklen_t)strlen(uplink) + 1))
		return -errno;
	if (!connect(visit->fd, (struct sockaddr *)&address, bytes))
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	err = probe_wait(visit, POLLOUT);
	if (err)
		return err;
	if (getsockopt(visit->fd, SOL_SOCKET, SO_ERROR, &err, &err_bytes))
		return -errno;
	return -err;
}

/* Messages are short and the socket's buffer is empty: what it does not take at once is an error. */
static int probe_send(const struct probe_visit *visit, const uint8_t *message, size_t bytes)
{
	ssize_t sent = send(visit->fd, message, bytes, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return (size_t)sent == bytes ? 0 : -EAGAIN;
}

/* The next thing that the server has to say, other than "more". */
static int probe_hear(struct probe_visit *visit, enum socks_event *event)
{
	*event = SOCKS_EVENT_MORE;
	while (*event == SOCKS_EVENT_MORE) {
		size_t wants = socks_handshake_wants(&visit->handshake), used;
		uint8_t data[SOCKS_REPLY_MAX_BYTES];
		ssize_t got;
		int err = probe_wait(visit, POLLIN);

		if (err)
			return err;
		got = recv(visit->fd, data, wants < sizeof(data) ? wants : sizeof(data), 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0)
			return got ? -errno : -ECONNRESET;
		*event = socks_handshake_feed(&visit->handshake, data, (size_t)got, &used);
	}
	return 0;
}

static int probe_greet(struct probe_visit *visit, const struct config_upstream *settings)
{
	enum socks_offer offer = !settings->username[0] ? SOCKS_OFFER_NONE
				 : settings->pipeline   ? SOCKS_OFFER_PASSWORD
							: SOCKS_OFFER_EITHER;
	uint8_t message[SOCKS_GREETING_MAX_BYTES];

	socks_handshake_init(&visit->handshake, offer);
	return probe_send(visit, message, socks_build_greeting(message, offer));
}

static int probe_answer(struct probe_visit *visit, const struct config_upstream *settings, enum socks_event event,
			struct upstream_probe *out)
{
	static const struct endpoint unknown_source = {.addr = {{.words = {0, 0, be32(0x0000ffff), 0}}}};
	uint8_t message[SOCKS_AUTH_MAX_BYTES];

	switch (event) {
	case SOCKS_EVENT_SEND_AUTH:
		out->stage = UPSTREAM_PROBE_AUTH;
		return probe_send(visit, message, socks_build_auth(message, settings->username, settings->password));
	case SOCKS_EVENT_SEND_REQUEST:
		out->stage = UPSTREAM_PROBE_UDP;
		out->handshake_ms = probe_ms_since(visit->started_ns) - out->connect_ms;
		return probe_send(visit, message, socks_build_associate(message, &unknown_source));
	case SOCKS_EVENT_REPLY:
		out->stage = UPSTREAM_PROBE_DONE;
		out->udp_reply = visit->handshake.reply;
		return 0;
	case SOCKS_EVENT_NO_METHOD:
	case SOCKS_EVENT_AUTH_REJECTED:
		return -EACCES;
	default:
		return -EPROTO;
	}
}

void upstream_probe(const struct config_upstream *settings, const char *uplink, struct upstream_probe *out)
{
	struct probe_visit visit = {.fd = -1, .started_ns = probe_now_ns()};
	enum socks_event event;

	visit.deadline_ns = visit.started_ns + UPSTREAM_PROBE_TIMEOUT_MS * 1000000ull;
	*out = (struct upstream_probe){.connect_ms = -1, .handshake_ms = -1};
	out->err = resolve_within(settings, UPSTREAM_PROBE_RESOLVE_MS, &out->server);
	if (!out->err) {
		out->stage = UPSTREAM_PROBE_CONNECT;
		visit.started_ns = probe_now_ns();
		out->err = probe_connect(&visit, &out->server, settings->mark, uplink);
	}
	if (!out->err) {
		out->connect_ms = probe_ms_since(visit.started_ns);
		out->stage = UPSTREAM_PROBE_GREETING;
		out->err = probe_greet(&visit, settings);
	}
	while (!out->err && out->stage != UPSTREAM_PROBE_DONE) {
		out->err = probe_hear(&visit, &event);
		if (!out->err)
			out->err = probe_answer(&visit, settings, event, out);
	}
	if (visit.fd >= 0)
		close(visit.fd);
}
