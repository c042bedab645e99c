/* SPDX-License-Identifier: MIT */
/*
 * The range of source ports that connections to an upstream are dialled from: taken away from the kernel, then given
 * out and taken back one by one.
 */
#ifndef SOCKSPLICE_PORTS_H
#define SOCKSPLICE_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORTS_COUNT 65536
/* Room for any list: at worst every third port is missing, "10000-10001," for three of them. */
#define PORTS_TEXT_BYTES ((PORTS_COUNT / 3 + 1) * sizeof("10000-10001"))
/* How long a pair rests before it is used again at all. */
#define PORTS_REST_NS 1000000000ull

/* --- sets of ports --------------------------------------------------------- */

struct ports_set {
	uint64_t words[PORTS_COUNT / 64];
};

/*
 * A list as in ip_local_reserved_ports: "8080,9000-9100", ranges in any order and overlapping, white space around them,
 * or nothing at all. 0, or -EINVAL and the set is empty.
 */
int ports_set_parse(const char *text, struct ports_set *set);
/* The same set as the shortest such list, ascending, without newline; "" for the empty set. 0, or -E2BIG. */
int ports_set_format(const struct ports_set *set, char *out, size_t bytes);
/* From `first` to `last`, both included. */
void ports_set_add(struct ports_set *set, uint16_t first, uint16_t last);
void ports_set_remove(struct ports_set *set, uint16_t first, uint16_t last);
/* The next range of ports in the set at `from` or behind; false: there is none. */
bool ports_set_next(const struct ports_set *set, uint32_t from, uint16_t *first, uint16_t *last);
/* All of them are in the set. */
bool ports_set_has_range(const struct ports_set *set, uint16_t first, uint16_t last);

/* --- the kernel's reservation ---------------------------------------------- */

/*
 * Adds the range to net.ipv4.ip_local_reserved_ports of this network namespace, keeping what others reserved there; it
 * counts for IPv6 too. `added` gets the ports that were not reserved before, to be given back by ports_release().
 * Nothing is written when all were, so an administrator can do it where /proc/sys is read-only. 0, or -errno with a
 * message for a person, and `added` empty.
 */
int ports_reserve(uint16_t first, uint16_t last, struct ports_set *added, char *error, uint32_t error_bytes);
/* Takes exactly these ports out again and keeps the rest; 0, or -errno with a message for a person. */
int ports_release(const struct ports_set *added, char *error, uint32_t error_bytes);

/* --- giving out ------------------------------------------------------------ */

struct ports_slot;

struct ports_pool {
	struct ports_slot *slots; /* one a pair, 16 bytes */
	uint32_t oldest, newest;  /* ends of the queue of free pairs */
	uint32_t sources;
	uint16_t first, last;
	/* gauges and counters, to be read by the owner */
	uint32_t total;
	uint32_t in_use;
	uint64_t exhausted; /* takes that found nothing */
	uint64_t bad_puts;  /* puts of what was not in use: a mistake of the caller, ignored */
};

/*
 * All ports of the range, once for each of the `sources` own addresses: so many connections can there be to one
 * endpoint. 0, -EINVAL (port 0, an empty range, no source, too many pairs), or -ENOMEM.
 */
int ports_pool_create(struct ports_pool *pool, uint16_t first, uint16_t last, uint32_t sources);
/* Also right for a pool that is all zero or was not created. */
void ports_pool_destroy(struct ports_pool *pool);
/* The pair that is free for longest; false when none is, or none has rested for PORTS_REST_NS. */
bool ports_pool_take(struct ports_pool *pool, uint64_t now_ns, uint32_t *source, uint16_t *port);
void ports_pool_put(struct ports_pool *pool, uint32_t source, uint16_t port, uint64_t now_ns);
/*
 * Takes this very pair, rested or not: for a flow adopted from an earlier process. False when it is in use or no pair
 * of this pool.
 */
bool ports_pool_claim(struct ports_pool *pool, uint32_t source, uint16_t port);

#endif
