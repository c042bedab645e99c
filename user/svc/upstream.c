/* SPDX-License-Identifier: MIT */
#include "upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "topo.h"

/* As near as this, so much of window is more than any link takes. */
#define UPSTREAM_NEAR_US 500
#define UPSTREAM_NEAR_BYTES (1 << 20)

static socklen_t upstream_sockaddr(const struct addr *addr, __be16 port, struct sockaddr_storage *out)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)out;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (addr_is_ipv4(addr)) {
		sin->sin_family = AF_INET;
		sin->sin_port = port;
		sin->sin_addr.s_addr = addr->words[3];
		return sizeof(*sin);
	}
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = port;
	memcpy(&sin6->sin6_addr, addr->bytes, 16);
	return sizeof(*sin6);
}

/* FNV-1a: names are few and chosen by the administrator. */
static uint32_t upstream_hash_name(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return hash;
}

static void upstream_set_current(struct upstream *upstream, uint32_t index)
{
	upstream->addr_current = index;
	/* which own address is right depends on the way there */
	upstream->source_count = upstream->settings.source_count;
	upstream->server_bytes =
		upstream_sockaddr(&upstream->addrs[index], upstream->settings.server.port, &upstream->server);
}

void upstream_init(struct upstream *upstream, const struct config_upstream *settings, const char *uplink)
{
	memset(upstream, 0, sizeof(*upstream));
	upstream->settings = *settings;
	upstream->id = upstream_hash_name(settings->name);
	snprintf(upstream->uplink, sizeof(upstream->uplink), "%s", uplink);
	upstream->source_count = settings->source_count;
	memcpy(upstream->sources, settings->sources, sizeof(upstream->sources));
	if (!settings->host[0])
		upstream_set_addresses(upstream, &settings->server.addr, 1);
}

int upstream_create_ports(struct upstream *upstream)
{
	return ports_pool_create(&upstream->ports, upstream->settings.ports.first, upstream->settings.ports.last,
				 upstream->source_count ? upstream->source_count : 1);
}

const struct addr *upstream_address(const struct upstream *upstream)
{
	return &upstream->addrs[upstream->addr_current];
}

bool upstream_set_addresses(struct upstream *upstream, const struct addr *addrs, uint32_t count)
{
	struct addr before = upstream->addrs[upstream->addr_current];
	bool had = upstream->addr_count;

	upstream->addr_count = count < UPSTREAM_MAX_ADDRS ? count : UPSTREAM_MAX_ADDRS;
	memcpy(upstream->addrs, addrs, upstream->addr_count * sizeof(*addrs));
	for (uint32_t i = 0; had && i < upstream->addr_count; i++) {
		if (!addr_equal(&upstream->addrs[i], &before))
			continue;
		upstream->addr_current = i;
		return false;
	}
	upstream_set_current(upstream, 0);
	return true;
}

bool upstream_next_address(struct upstream *upstream, const struct addr *tried)
{
	uint32_t next = upstream->addr_current + 1;

	if (upstream->addr_count < 2)
		return false;
	if (!addr_equal(upstream_address(upstream), tried))
		return true;
	upstream_set_current(upstream, next < upstream->addr_count ? next : 0);
	return next < upstream->addr_count;
}

void upstream_release(struct upstream *upstream)
{
	ports_pool_destroy(&upstream->ports);
}

int upstream_find_route(struct upstream *upstream)
{
	const struct addr *from = upstream->source_count ? &upstream->sources[0] : NULL;
	const struct addr *server = upstream_address(upstream);
	struct topo_interface topo;
	char name[IFNAMSIZ];
	int oif = upstream->uplink[0] ? (int)if_nametoindex(upstream->uplink) : 0;
	int err;

	upstream->routed = false;
	if (!upstream->addr_count)
		return -EAGAIN;
	err = route_lookup(server, from, upstream->settings.mark, oif, &upstream->route);
	if (err)
		return err;
	if (!if_indextoname((unsigned int)upstream->route.ifindex, name))
		return -ENODEV;
	err = topo_read_interface(name, &topo);
	if (err)
		return err;
	memcpy(upstream->mac, topo.mac, sizeof(upstream->mac));
	memcpy(upstream->ifname, name, sizeof(upstream->ifname));
	upstream->mtu = topo.mtu;
	if (upstream->route.mtu && upstream->route.mtu < upstream->mtu)
		upstream->mtu = upstream->route.mtu;
	if (!upstream->source_count) {
		upstream->sources[0] = upstream->route.source;
		upstream->source_count = 1;
	}
	upstream->routed = true;
	upstream_find_next_hop(upstream);
	return 0;
}

bool upstream_find_next_hop(struct upstream *upstream)
{
	const struct addr *hop = upstream->route.has_gateway ? &upstream->route.gateway : upstream_address(upstream);
	struct neighbour now = {.valid = false}, before = upstream->next_hop;

	if (!upstream->routed || route_neighbour(upstream->route.ifindex, hop, &now))
		now.valid = false;
	upstream->next_hop = now;
	return before.valid && (!now.valid || memcmp(now.mac, before.mac, sizeof(now.mac)) != 0);
}

static void upstream_set_quickack(int fd, int on)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on)))
		log_debug("upstream socket: TCP_QUICKACK: %s", strerror(errno));
}

int upstream_open_socket(const struct upstream *upstream)
{
	int fd = socket(upstream->server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP), err;

	if (fd < 0)
		return -errno;
	if ((upstream->uplink[0] &&
	     setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, upstream->uplink, (socklen_t)strlen(upstream->uplink) + 1)) ||
	    (upstream->settings.mark &&
	     setsockopt(fd, SOL_SOCKET, SO_MARK, &upstream->settings.mark, sizeof(upstream->settings.mark)))) {
		err = -errno;
		close(fd);
		return err;
	}
	/* the acknowledgements of the handshake ride on its messages */
	upstream_set_quickack(fd, 0);
	return fd;
}

/*
 * What an upstream near by sends faster than it is relayed waits in the socket. The kernel lets that grow to many
 * megabytes for each connection: memory that brings nothing, as the window of so short a way is small, and payload that
 * has left the CPU's caches when its turn comes. Far ones keep the kernel's own tuning.
 */
static void upstream_bound_receive(int fd)
{
	int bytes = UPSTREAM_NEAR_BYTES;
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) || !info.tcpi_min_rtt ||
	    info.tcpi_min_rtt > UPSTREAM_NEAR_US)
		return;
	/* a fixed buffer ends the tuning; the window that it stopped at is raised to it */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof(bytes)))
		log_debug("upstream socket: %s", strerror(errno));
}

void upstream_prepare_relay(int fd)
{
	int on = 1;

	/* payload is batched already: Nagle would only add its delay to the last segment */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)))
		log_debug("upstream socket: %s", strerror(errno));
	upstream_bound_receive(fd);
	upstream_set_quickack(fd, 1);
}

int upstream_bind(const struct upstream *upstream, int fd, uint32_t source, uint16_t port)
{
	struct sockaddr_storage own;
	socklen_t bytes = upstream_sockaddr(&upstream->sources[source], be16(port), &own);
	int on = 1;

	/* a port whose last connection is still in TIME-WAIT is free for another */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || bind(fd, (struct sockaddr *)&own, bytes))
		return -errno;
	return 0;
}

void upstream_close_socket(int fd, int reset)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

const char *upstream_failure_name(enum upstream_failure kind)
{
	static const char *const names[] = {
#define X(name) [UPSTREAM_FAILURE_##name] = #name,
		UPSTREAM_FAILURE_KINDS(X)
#undef X
	};

	return kind < UPSTREAM_FAILURE_COUNT ? names[kind] : "unknown";
}

const char *upstream_refusal_name(enum upstream_refusal refusal)
{
	static const char *const names[] = {
#define X(name) [UPSTREAM_REFUSAL_##name] = #name,
		UPSTREAM_REFUSALS(X)
#undef X
	};

	return refusal < UPSTREAM_REFUSAL_COUNT ? names[refusal] : "unknown";
}
