/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum (RFC 1071): ones-complement sums in the byte order of
 * memory, so that a folded sum is stored as it is. The summing routine is
 * chosen at run time.
 */
#ifndef SOCKSPLICE_CSUM_H
#define SOCKSPLICE_CSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

typedef uint32_t csum_fn(const void *data, size_t len, uint32_t sum);

/* One routine that this machine can run. */
struct csum_variant {
	const char *name;
	csum_fn *partial;
};

/* The routines that this machine can run, slowest first; at least one. */
size_t csum_variants(const struct csum_variant **out);
/* Takes the fastest routine, or with simd = false the scalar one. Scalar until called. */
void csum_select(bool simd);
const char *csum_name(void);

/* `sum` plus the sum of len bytes, any alignment; an odd last byte counts as if a zero followed. */
uint32_t csum_partial(const void *data, size_t len, uint32_t sum);
/* The same for a piece of what is summed, with `before` bytes in other pieces before it. */
uint32_t csum_partial_at(const void *data, size_t len, uint32_t sum, uint32_t before);
/* Sum of the TCP/UDP pseudo-header (RFC 9293 3.1, RFC 8200 8.1); the family follows from the addresses. */
uint32_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t proto, uint32_t l4_len);

static inline uint16_t csum_fold_sum(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Complemented: ready to be stored. */
static inline uint16_t csum_fold(uint32_t sum)
{
	return (uint16_t)~csum_fold_sum(sum);
}

#endif
