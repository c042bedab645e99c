/* SPDX-License-Identifier: MIT */
/* What the kernel's tables say about the way to an upstream, and when they change. */
#ifndef SOCKSPLICE_ROUTE_H
#define SOCKSPLICE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct route {
	int ifindex;
	struct addr gateway; /* may be IPv6 for an IPv4 destination: `via inet6`, RFC 5549 */
	bool has_gateway;    /* false: the destination itself is on the link */
	struct addr source;  /* the kernel's choice, or `src` of the lookup; zero: the kernel named none */
	bool local;          /* the destination is this machine */
	uint32_t mtu;        /* of the route, or the path MTU the kernel learnt; 0: the interface's */
};

struct neighbour {
	uint8_t mac[6];
	bool valid; /* `mac` may be used: reachable, stale, delay, probe, permanent or noarp */
};

struct route_changes {
	bool links;
	bool addresses;
	bool routes;
	bool neighbours;
};

/*
 * The route of a packet that this machine would send to `dst`, with everything that counts: rules, mark, nexthops.
 * `src` (NULL: any) must be an own address of the same family, `oif` 0 is any interface. 0 or -errno:
 *   -ENETUNREACH   no route; with `oif`, IPv4 assumes the destination on the link instead and succeeds
 *                  (net/ipv4/route.c, ip_route_output_key_hash_rcu())
 *   -EHOSTUNREACH  an unreachable route
 *   -EACCES        a prohibit route, or a broadcast or multicast destination
 *   -EINVAL        a blackhole, or a `src` of the other family; for an IPv4 `src` that is not ours also -ENETUNREACH,
 *                  as the kernel has it
 */
int route_lookup(const struct addr *dst, const struct addr *src, uint32_t mark, int oif, struct route *out);

/*
 * The entry of `addr` in the neighbour table of that interface. Does not ask the network: an entry appears when the
 * kernel itself sends there. 0 or -errno: -ENOENT no entry, -ENODEV no such interface (-ENOENT before Linux 5.0).
 */
int route_neighbour(int ifindex, const struct addr *addr, struct neighbour *out);

/*
 * A non-blocking rtnetlink socket subscribed to changes of links, addresses, routes and neighbours of this namespace;
 * fd or -errno. The caller closes it.
 */
int route_open_monitor(void);

/*
 * Reads all that waits and says of what kind it was; lost messages count as a change of everything. `neighbours` means
 * that an entry has a link-layer address (perhaps the same as before) or was deleted; attempts and failures to resolve
 * one do not set it.
 */
void route_drain_monitor(int fd, struct route_changes *out);

#endif
