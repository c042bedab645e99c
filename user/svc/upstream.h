/* SPDX-License-Identifier: MIT */
/* The way to an upstream SOCKS5 server: sockets, the interface and the addresses and ports to dial from. */
#ifndef SOCKSPLICE_UPSTREAM_H
#define SOCKSPLICE_UPSTREAM_H

#include <sys/socket.h>

#include "config.h"
#include "ports.h"
#include "route.h"

struct upstream {
	const struct config_upstream *settings;
	char uplink[IFNAMSIZ]; /* empty: by route */
	struct sockaddr_storage server;
	socklen_t server_bytes;
	uint32_t id; /* hash of the name: the same in every run */

	struct route route; /* as of the last upstream_find_route() */
	bool routed;
	uint32_t mtu;   /* of the uplink, or of the route if that is less */
	uint8_t mac[6]; /* of the uplink */
	char ifname[IFNAMSIZ];
	struct neighbour next_hop;

	/* where spliced connections are dialled from */
	struct addr sources[CONFIG_MAX_SOURCES];
	uint32_t source_count;
	struct ports_pool ports;
};

void upstream_init(struct upstream *upstream, const struct config *config);
void upstream_release(struct upstream *upstream);
/*
 * Asks the kernel for the way to the server again. The source addresses follow the first successful answer unless
 * they are configured. 0 or -errno: there is no way now, upstream->routed is false.
 */
int upstream_find_route(struct upstream *upstream);
/* Looks up the next hop again; true: it has another MAC than before, or lost it. */
bool upstream_find_next_hop(struct upstream *upstream);
/* An unconnected TCP socket for this upstream, or -errno (-EMFILE: out of descriptors). */
int upstream_open_socket(const struct upstream *upstream);
/* For a socket that carries payload, which one that is handed to the kernel never does. */
void upstream_prepare_relay(int fd);
/* Binds to one of the upstream's own pairs of address and port. 0 or -errno (-EADDRINUSE). */
int upstream_bind(const struct upstream *upstream, int fd, uint32_t source, uint16_t port);
/*
 * The list of upstreams has changed from `running` to `wanted`. true: the change is possible while connections live.
 * This build has its one upstream from the start to the end.
 */
bool upstream_reload(const struct config *running, const struct config *wanted);
/* Closes; with `reset` the server sees RST instead of FIN. */
void upstream_close_socket(int fd, int reset);

#endif
