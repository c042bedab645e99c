/* SPDX-License-Identifier: MIT */
/* IP fragments back into datagrams (RFC 791 3.2, RFC 8200 4.5), bounded in memory, count and time. Pure. */
#ifndef SOCKSPLICE_REASSEMBLY_H
#define SOCKSPLICE_REASSEMBLY_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "frame.h"

#define REASSEMBLY_MAX_BYTES 65535

/* What fragments of one datagram share. */
struct reassembly_key {
	struct addr src, dst;
	uint32_t id;
	uint32_t port; /* where they arrive, and the VLAN tag above */
};

struct reassembly_fragment {
	uint32_t frame; /* one frame (FRAME_RX); off and len tell the bytes behind the IP headers */
	uint16_t offset;
	bool more;
};

#define REASSEMBLY_COUNTERS(X)                                                                                         \
	X(fragments)                                                                                                   \
	X(reassembled)                                                                                                 \
	X(fragments_overlapping) /* their datagrams are dropped whole (RFC 5722) */                                    \
	X(fragments_malformed)                                                                                         \
	X(fragments_duplicate)                                                                                         \
	X(fragments_over_limit) /* no room: of the source, or in all */                                                \
	X(reassembly_timed_out) /* datagrams that were never whole */                                                  \
	X(reassembly_evicted)   /* datagrams that gave way to newer ones */

struct reassembly_counters {
#define X(name) uint64_t name;
	REASSEMBLY_COUNTERS(X)
#undef X
};

struct reassembly;

/* At most `max` datagrams in `max_frames` frames of `pool` at once, about an eighth of both from one source. NULL: no
 * memory. */
struct reassembly *reassembly_create(uint32_t max, uint32_t max_frames, uint64_t timeout_ns, uint64_t secret,
				     struct frame_pool *pool);
void reassembly_destroy(struct reassembly *r);
/*
 * Takes the fragment's frame on every path. Returns the first frame of the whole datagram, a chain linked by `next` in
 * order whose off and len tell its bytes (FRAME_RX, the caller's now), with *bytes in all; or FRAME_NONE.
 */
uint32_t reassembly_add(struct reassembly *r, const struct reassembly_key *key,
			const struct reassembly_fragment *fragment, uint64_t now_ns, uint32_t *bytes);
/* Drops what is too old. */
void reassembly_expire(struct reassembly *r, uint64_t now_ns);
/* When that is next due; UINT64_MAX: never. */
uint64_t reassembly_next_ns(const struct reassembly *r);
const struct reassembly_counters *reassembly_counters(const struct reassembly *r);

#endif
