/* SPDX-License-Identifier: MIT */
#include "upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

void upstream_init(struct upstream *upstream, const struct config *config)
{
	const struct endpoint *server = &config->upstream.server;

	memset(upstream, 0, sizeof(*upstream));
	upstream->settings = &config->upstream;
	memcpy(upstream->uplink, config->uplink, sizeof(upstream->uplink));
	if (addr_is_ipv4(&server->addr)) {
		struct sockaddr_in *sin = (struct sockaddr_in *)&upstream->server;

		sin->sin_family = AF_INET;
		sin->sin_port = server->port;
		sin->sin_addr.s_addr = server->addr.words[3];
		upstream->server_bytes = sizeof(*sin);
	} else {
		struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&upstream->server;

		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = server->port;
		memcpy(&sin6->sin6_addr, server->addr.bytes, 16);
		upstream->server_bytes = sizeof(*sin6);
	}
}

int upstream_open_socket(const struct upstream *upstream)
{
	int fd = socket(upstream->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP), on = 1, err;

	if (fd < 0)
		return -errno;
	/* payload is batched already: Nagle would only add its delay to the last segment */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    (upstream->uplink[0] &&
	     setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, upstream->uplink, (socklen_t)strlen(upstream->uplink) + 1))) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

void upstream_close_socket(int fd, int reset)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}
