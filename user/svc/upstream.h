/* SPDX-License-Identifier: MIT */
/* Sockets toward the upstream SOCKS5 server. */
#ifndef SOCKSPLICE_UPSTREAM_H
#define SOCKSPLICE_UPSTREAM_H

#include <sys/socket.h>

#include "config.h"

struct upstream {
	const struct config_upstream *settings;
	char uplink[IFNAMSIZ]; /* empty: by route */
	struct sockaddr_storage server;
	socklen_t server_bytes;
};

void upstream_init(struct upstream *upstream, const struct config *config);
/* An unconnected TCP socket for this upstream, or -errno (-EMFILE: out of descriptors). */
int upstream_open_socket(const struct upstream *upstream);
/* Closes; with `reset` the server sees RST instead of FIN. */
void upstream_close_socket(int fd, int reset);

#endif
