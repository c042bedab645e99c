/* SPDX-License-Identifier: MIT */
/* The way to one upstream SOCKS5 server: sockets, the interface and the addresses and ports to dial from. */
#ifndef SOCKSPLICE_UPSTREAM_H
#define SOCKSPLICE_UPSTREAM_H

#include <sys/socket.h>

#include "config.h"
#include "ports.h"
#include "route.h"

/* Addresses of a name that are tried, in the resolver's order. */
#define UPSTREAM_MAX_ADDRS 8

/* What is the upstream's fault, and counts against it. */
#define UPSTREAM_FAILURE_KINDS(X)                                                                                      \
	X(dial_refused)                                                                                                \
	X(dial_unreachable)                                                                                            \
	X(dial_timed_out)                                                                                              \
	X(dial_failed)                                                                                                 \
	X(handshake_timed_out)                                                                                         \
	X(handshake_closed)                                                                                            \
	X(handshake_malformed)                                                                                         \
	X(no_acceptable_method)                                                                                        \
	X(auth_rejected)

enum upstream_failure {
#define X(name) UPSTREAM_FAILURE_##name,
	UPSTREAM_FAILURE_KINDS(X)
#undef X
		UPSTREAM_FAILURE_COUNT
};

/* What became of CONNECT, where it was not granted: the destination's fault or nobody's. */
#define UPSTREAM_REFUSALS(X)                                                                                           \
	X(request_timed_out)                                                                                           \
	X(reply_general_failure)                                                                                       \
	X(reply_not_allowed)                                                                                           \
	X(reply_net_unreachable)                                                                                       \
	X(reply_host_unreachable)                                                                                      \
	X(reply_refused)                                                                                               \
	X(reply_ttl_expired)                                                                                           \
	X(reply_command_unsupported)                                                                                   \
	X(reply_address_unsupported)                                                                                   \
	X(reply_unknown)

enum upstream_refusal {
#define X(name) UPSTREAM_REFUSAL_##name,
	UPSTREAM_REFUSALS(X)
#undef X
		UPSTREAM_REFUSAL_COUNT
};

#define UPSTREAM_COUNTERS(X)                                                                                           \
	X(dials)                                                                                                       \
	X(connects_ok)      /* SOCKS CONNECT succeeded */                                                              \
	X(connects_refused) /* it answered CONNECT with a reason why not: no failure of its own */                     \
	X(moved_away)       /* connections that were tried by another after a failure here */                          \
	X(times_failed)     /* how often it was taken out of use */                                                    \
	X(probes)                                                                                                      \
	X(probes_failed)                                                                                               \
	X(pool_hits)                                                                                                   \
	X(pool_misses)    /* a warm connection would have served, but none was there */                                \
	X(pool_unfit)     /* those there could not carry this client's TCP options */                                  \
	X(pool_discarded) /* closed by the upstream, or of no use any more */                                          \
	X(pool_aged)

struct upstream_counters {
#define X(name) uint64_t name;
	UPSTREAM_COUNTERS(X)
#undef X
	uint64_t failed[UPSTREAM_FAILURE_COUNT];
	uint64_t refused[UPSTREAM_REFUSAL_COUNT];
};

struct upstream_latency {
	uint64_t last_ns, sum_ns, count;
};

struct upstream {
	struct config_upstream settings; /* a copy of its own: a reload must not pull it away */
	char uplink[IFNAMSIZ];           /* empty: by route */
	uint32_t id;                     /* hash of the name: the same in every run */

	/* where the server is */
	struct addr addrs[UPSTREAM_MAX_ADDRS];
	uint32_t addr_count; /* 0: its name is not resolved yet */
	uint32_t addr_current;
	struct sockaddr_storage server; /* the current address */
	socklen_t server_bytes;

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

	/* who uses it; each is kept by the file that is named */
	uint32_t conns;                    /* slots of connections (bridge_conn.c) */
	uint32_t dialing;                  /* clients' connections up to the reply of CONNECT (bridge_conn.c) */
	uint32_t relaying;                 /* (bridge_conn.c) */
	uint32_t entries;                  /* of the kernel's table (splice.c) */
	uint32_t spliced;                  /* flows of the kernel (splice.c) */
	uint32_t warm, warming;            /* connections of the pool; being made for it (pool.c) */
	uint32_t warm_oldest, warm_newest; /* list of connections (pool.c) */

	struct upstream_counters counters;
	struct upstream_latency dial, handshake;

	/* what it has said last; times are CLOCK_MONOTONIC, 0: never */
	uint64_t answered_ns; /* a handshake or a CONNECT, whatever the answer (upkeep.c, bridge_record.c) */
	uint64_t fault_ns;    /* its last failure, of one address alone too (upkeep.c) */
	const char *fault;    /* the kind of that, static; NULL: none yet (upkeep.c) */
	const char *refusal;  /* of the last CONNECT, static; NULL: it was granted (bridge_record.c) */
	uint32_t refusals;    /* CONNECTs in a row that were not granted (bridge_record.c) */

	/* of a name (upkeep.c) */
	bool resolving;
	uint64_t resolve_ns; /* when to ask again */
	uint32_t resolve_failures;
};

/* `uplink`: empty, by route. The ports are not there yet: upstream_create_ports(). */
void upstream_init(struct upstream *upstream, const struct config_upstream *settings, const char *uplink);
/* After the first upstream_find_route(), since source addresses count. 0 or -errno. */
int upstream_create_ports(struct upstream *upstream);
void upstream_release(struct upstream *upstream);
/* The server's address now; only where addr_count is not 0. */
const struct addr *upstream_address(const struct upstream *upstream);
/*
 * What the resolver found, best first. The current address stays current if it is still among them. True: another is
 * current now, and upstream_find_route() is due.
 */
bool upstream_set_addresses(struct upstream *upstream, const struct addr *addrs, uint32_t count);
/*
 * `tried` did not answer. True: there is another address to try, the current one now; it is `tried` no more if somebody
 * has moved on already. After the last one the first is current again, and the answer is false.
 */
bool upstream_next_address(struct upstream *upstream, const struct addr *tried);
/*
 * Asks the kernel for the way to the server again. The source addresses follow the first successful answer for its
 * current address unless they are configured. 0 or -errno: there is no way now, upstream->routed is
 * false.
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
/* Closes; with `reset` the server sees RST instead of FIN. */
void upstream_close_socket(int fd, int reset);
const char *upstream_failure_name(enum upstream_failure kind);
const char *upstream_refusal_name(enum upstream_refusal refusal);

#endif
