/* SPDX-License-Identifier: MIT */
/*
 * Host names to addresses, by c-ares, on a thread of its own: c-ares reads
 * files (hosts, resolv.conf, nsswitch.conf) whenever it likes, opens and
 * closes sockets, and none of that may hold up packets. Questions are few (one
 * per name and TTL), so the thread sleeps.
 */
#ifndef SOCKSPLICE_RESOLVER_H
#define SOCKSPLICE_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#define RESOLVER_MAX_ADDRS 8
/* Questions that are on their way, and answers that wait to be taken. */
#define RESOLVER_MAX_PENDING 64

struct resolver;

struct resolver_answer {
	char host[CONFIG_MAX_HOST + 1];
	const char *error; /* NULL: there are addresses; else why not, static */
	struct addr addrs[RESOLVER_MAX_ADDRS];
	uint32_t count;
	uint32_t ttl_s; /* least of the records, as the name server has it */
};

/* Starts the thread. 0 or -errno. */
int resolver_create(struct resolver **out);
/* Also right for NULL. Ends the thread; what it was asked is not answered. */
void resolver_destroy(struct resolver *resolver);
/* Readable when answers wait. */
int resolver_fd(const struct resolver *resolver);
/* IPv4 and IPv6 addresses of `host`, in the order of RFC 6724. False: too many questions are pending. */
bool resolver_ask(struct resolver *resolver, const char *host);
/* One answer; false: none is there. */
bool resolver_take(struct resolver *resolver, struct resolver_answer *out);

#endif
