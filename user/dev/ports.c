/* SPDX-License-Identifier: MIT */
/*
 * The reservation. ip_local_reserved_ports keeps the kernel from giving a port to a socket that did not ask for one;
 * who binds to a port by number still gets it, and so do sockets that have one already. The file belongs to no one, so
 * what others wrote must stay. Two properties of proc_do_large_bitmap() (kernel/sysctl.c) are used:
 *  - A write at offset 0 replaces the set, a write at any other offset adds to it. Ports are added in the second way,
 *    without a moment in which what someone else adds could be lost.
 *  - One write takes at most a page and says how much it took; the rest is written behind it, which adds.
 * Taking out has no such way: it reads, and writes all the rest. A change by others just in between would be lost.
 *
 * The pool. A free pair hangs in a queue, the one that is free for longest at its head: it is taken there and put back
 * at the end, so that a port comes again as late as possible and the server's TIME-WAIT of the connection before it
 * (RFC 9293 3.6.1) is most likely over. A pair put back must rest in any case: without that, a nearly empty pool would
 * give out the same port at once, while segments of its last connection are still on their way.
 *
 * Invariant: a pair is either in the queue, or in use and marked so in its slot. The queue is doubly linked by indices,
 * so that a pair can be claimed from its middle. in_use + length of the queue = total.
 *
 * Limits: the time of put must not go back, else younger pairs wait behind older ones (they are never given out early).
 * The order is known, so ports can be foretold (RFC 6056); connections are protected by their sequence numbers.
 */
#include "ports.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PORTS_SYSCTL "/proc/sys/net/ipv4/ip_local_reserved_ports"
#define PORTS_MAX 65535
#define PORTS_NONE UINT32_MAX         /* no such neighbour: an end of the queue */
#define PORTS_IN_USE (UINT32_MAX - 1) /* in `older`: not in the queue */

/* --- sets of ports --------------------------------------------------------- */

static bool ports_set_has(const struct ports_set *set, uint32_t port)
{
	return set->words[port / 64] >> (port % 64) & 1;
}

void ports_set_add(struct ports_set *set, uint16_t first, uint16_t last)
{
	for (uint32_t port = first; port <= last; port++)
		set->words[port / 64] |= 1ull << (port % 64);
}

void ports_set_remove(struct ports_set *set, uint16_t first, uint16_t last)
{
	for (uint32_t port = first; port <= last; port++)
		set->words[port / 64] &= ~(1ull << (port % 64));
}

bool ports_set_has_range(const struct ports_set *set, uint16_t first, uint16_t last)
{
	for (uint32_t port = first; port <= last; port++)
		if (!ports_set_has(set, port))
			return false;
	return true;
}

bool ports_set_next(const struct ports_set *set, uint32_t from, uint16_t *first, uint16_t *last)
{
	while (from <= PORTS_MAX && !ports_set_has(set, from))
		from++;
	if (from > PORTS_MAX)
		return false;
	*first = (uint16_t)from;
	while (from < PORTS_MAX && ports_set_has(set, from + 1))
		from++;
	*last = (uint16_t)from;
	return true;
}

static const char *ports_skip_space(const char *at)
{
	while (isspace((unsigned char)*at))
		at++;
	return at;
}

static bool ports_parse_port(const char **at, uint16_t *out)
{
	uint32_t value = 0;
	const char *p = *at;

	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint32_t)(*p - '0');
		if (value > PORTS_MAX)
			return false;
	}
	if (p == *at)
		return false;
	*at = p;
	*out = (uint16_t)value;
	return true;
}

/* One "N" or "N-M", up to the comma or the end. */
static bool ports_parse_range(const char **at, struct ports_set *set)
{
	uint16_t first, last;

	*at = ports_skip_space(*at);
	if (!ports_parse_port(at, &first))
		return false;
	last = first;
	if (**at == '-') {
		(*at)++;
		if (!ports_parse_port(at, &last) || last < first)
			return false;
	}
	ports_set_add(set, first, last);
	*at = ports_skip_space(*at);
	return true;
}

int ports_set_parse(const char *text, struct ports_set *set)
{
	const char *at = ports_skip_space(text);

	memset(set, 0, sizeof(*set));
	if (!*at)
		return 0;
	while (ports_parse_range(&at, set)) {
		if (!*at)
			return 0;
		if (*at++ != ',')
			break;
	}
	memset(set, 0, sizeof(*set));
	return -EINVAL;
}

int ports_set_format(const struct ports_set *set, char *out, size_t bytes)
{
	uint16_t first, last = 0;
	size_t used = 0;

	if (!bytes)
		return -E2BIG;
	out[0] = 0;
	for (uint32_t from = 0; ports_set_next(set, from, &first, &last); from = last + 1u) {
		int len;

		if (first == last)
			len = snprintf(out + used, bytes - used, "%s%u", used ? "," : "", first);
		else
			len = snprintf(out + used, bytes - used, "%s%u-%u", used ? "," : "", first, last);
		if ((size_t)len >= bytes - used)
			return -E2BIG;
		used += (size_t)len;
	}
	return 0;
}

/* --- the kernel's reservation ---------------------------------------------- */

static int ports_read_text(int fd, char *text, size_t bytes)
{
	size_t used = 0;
	ssize_t len;

	while ((len = read(fd, text + used, bytes - 1 - used)) > 0)
		used += (size_t)len;
	text[used] = 0;
	return len < 0 ? -errno : 0;
}

static int ports_read_reserved(struct ports_set *out)
{
	int fd = open(PORTS_SYSCTL, O_RDONLY | O_CLOEXEC), err = -ENOMEM;
	char *text;

	if (fd < 0)
		return -errno;
	text = malloc(PORTS_TEXT_BYTES);
	if (text) {
		err = ports_read_text(fd, text, PORTS_TEXT_BYTES);
		if (!err)
			err = ports_set_parse(text, out);
	}
	free(text);
	close(fd);
	return err;
}

/* Offset 0 replaces the kernel's set, any other adds to it. */
static int ports_write_text(const char *text, off_t offset)
{
	int fd = open(PORTS_SYSCTL, O_WRONLY | O_CLOEXEC), err = 0;
	size_t bytes = strlen(text);

	if (fd < 0)
		return -errno;
	while (bytes && !err) {
		ssize_t len = pwrite(fd, text, bytes, offset);

		if (len <= 0) {
			err = len ? -errno : -EIO;
		} else {
			text += len;
			offset += len;
			bytes -= (size_t)len;
		}
	}
	close(fd);
	return err;
}

static int ports_replace_reserved(const struct ports_set *set)
{
	char *text = malloc(PORTS_TEXT_BYTES);
	int err = -ENOMEM;

	if (!text)
		return err;
	err = ports_set_format(set, text, PORTS_TEXT_BYTES - 1);
	if (!err) {
		strcat(text, "\n"); /* the empty set needs a byte to be written at all */
		err = ports_write_text(text, 0);
	}
	free(text);
	return err;
}

static int ports_add_reserved(uint16_t first, uint16_t last, struct ports_set *check)
{
	char text[32];
	int err;

	snprintf(text, sizeof(text), "%u-%u\n", first, last);
	err = ports_write_text(text, 1);
	if (!err)
		err = ports_read_reserved(check);
	if (!err && !ports_set_has_range(check, first, last))
		err = -EIO;
	return err;
}

static int ports_reserve_fail(int err, uint16_t first, uint16_t last, char *error, uint32_t error_bytes)
{
	snprintf(error, error_bytes,
		 "reserving source ports %u-%u in " PORTS_SYSCTL ": %s; run as root or with CAP_NET_ADMIN, and with a "
		 "writable /proc/sys, or add %u-%u to net.ipv4.ip_local_reserved_ports of this network namespace "
		 "beforehand",
		 first, last, strerror(-err), first, last);
	return err;
}

int ports_reserve(uint16_t first, uint16_t last, struct ports_set *added, char *error, uint32_t error_bytes)
{
	struct ports_set before, check;
	int err;

	memset(added, 0, sizeof(*added));
	if (!first || first > last) {
		snprintf(error, error_bytes, "source ports %u-%u are no range; give the lower port first, from 1 on",
			 first, last);
		return -EINVAL;
	}
	err = ports_read_reserved(&before);
	if (!err && ports_set_has_range(&before, first, last))
		return 0;
	if (!err)
		err = ports_add_reserved(first, last, &check);
	if (err)
		return ports_reserve_fail(err, first, last, error, error_bytes);
	ports_set_add(added, first, last);
	for (size_t i = 0; i < PORTS_COUNT / 64; i++)
		added->words[i] &= ~before.words[i];
	return 0;
}

int ports_release(const struct ports_set *added, char *error, uint32_t error_bytes)
{
	struct ports_set reserved;
	uint64_t removed = 0;
	int err = ports_read_reserved(&reserved);

	if (!err) {
		for (size_t i = 0; i < PORTS_COUNT / 64; i++) {
			removed |= reserved.words[i] & added->words[i];
			reserved.words[i] &= ~added->words[i];
		}
		if (removed)
			err = ports_replace_reserved(&reserved);
	}
	if (err)
		snprintf(error, error_bytes,
			 "releasing source ports in " PORTS_SYSCTL ": %s; they stay reserved until they are taken "
			 "out of net.ipv4.ip_local_reserved_ports by hand",
			 strerror(-err));
	return err;
}

/* --- giving out ------------------------------------------------------------ */

struct ports_slot {
	uint64_t ready_ns;     /* 0: never used */
	uint32_t older, newer; /* neighbours in the queue */
};

_Static_assert(sizeof(struct ports_slot) == 16, "memory of a pool");

/* Port by port, so that neighbouring takes go to different sources. */
static uint32_t ports_pool_index(const struct ports_pool *pool, uint32_t source, uint16_t port)
{
	if (source >= pool->sources || port < pool->first || port > pool->last)
		return PORTS_NONE;
	return (uint32_t)(port - pool->first) * pool->sources + source;
}

static void ports_pool_append(struct ports_pool *pool, uint32_t index)
{
	struct ports_slot *slot = &pool->slots[index];

	slot->older = pool->newest;
	slot->newer = PORTS_NONE;
	if (pool->newest == PORTS_NONE)
		pool->oldest = index;
	else
		pool->slots[pool->newest].newer = index;
	pool->newest = index;
	pool->in_use--;
}

static void ports_pool_unlink(struct ports_pool *pool, uint32_t index)
{
	struct ports_slot *slot = &pool->slots[index];

	if (slot->older == PORTS_NONE)
		pool->oldest = slot->newer;
	else
		pool->slots[slot->older].newer = slot->newer;
	if (slot->newer == PORTS_NONE)
		pool->newest = slot->older;
	else
		pool->slots[slot->newer].older = slot->older;
	slot->older = PORTS_IN_USE;
	pool->in_use++;
}

int ports_pool_create(struct ports_pool *pool, uint16_t first, uint16_t last, uint32_t sources)
{
	uint64_t total = ((uint64_t)last - first + 1) * sources;

	memset(pool, 0, sizeof(*pool));
	if (!first || first > last || !sources || total >= PORTS_IN_USE)
		return -EINVAL;
	pool->slots = calloc(total, sizeof(*pool->slots));
	if (!pool->slots)
		return -ENOMEM;
	pool->first = first;
	pool->last = last;
	pool->sources = sources;
	pool->total = pool->in_use = (uint32_t)total;
	pool->oldest = pool->newest = PORTS_NONE;
	for (uint32_t i = 0; i < pool->total; i++)
		ports_pool_append(pool, i);
	return 0;
}

void ports_pool_destroy(struct ports_pool *pool)
{
	free(pool->slots);
	memset(pool, 0, sizeof(*pool));
}

bool ports_pool_take(struct ports_pool *pool, uint64_t now_ns, uint32_t *source, uint16_t *port)
{
	uint32_t index = pool->oldest;

	if (index == PORTS_NONE || pool->slots[index].ready_ns > now_ns) {
		pool->exhausted++;
		return false;
	}
	ports_pool_unlink(pool, index);
	*source = index % pool->sources;
	*port = (uint16_t)(pool->first + index / pool->sources);
	return true;
}

void ports_pool_put(struct ports_pool *pool, uint32_t source, uint16_t port, uint64_t now_ns)
{
	uint32_t index = ports_pool_index(pool, source, port);

	if (index == PORTS_NONE || pool->slots[index].older != PORTS_IN_USE) {
		pool->bad_puts++;
		return;
	}
	pool->slots[index].ready_ns = now_ns + PORTS_REST_NS;
	ports_pool_append(pool, index);
}

bool ports_pool_claim(struct ports_pool *pool, uint32_t source, uint16_t port)
{
	uint32_t index = ports_pool_index(pool, source, port);

	if (index == PORTS_NONE || pool->slots[index].older == PORTS_IN_USE)
		return false;
	ports_pool_unlink(pool, index);
	return true;
}
