/* SPDX-License-Identifier: MIT */
/*
 * Frames: the one memory pool of a worker. A frame is a fixed-size chunk of
 * the UMEM, named by its index; what is known about it stands beside the
 * area in a struct frame.
 *
 * Every frame has exactly one owner at any time, and changes owner only
 * through frame_set_owner(), frame_tx_start() and frame_tx_done(), which keep
 * `owned[]` exact: the sum over all owners is always `total`.
 *
 * A data frame that is being transmitted still belongs to its flow (which may
 * have to send it again); while the kernel reads it, it is accounted as
 * FRAME_TX and its bytes must not be changed (`tx_busy`).
 */
#ifndef SOCKSPLICE_FRAME_H
#define SOCKSPLICE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#define FRAME_NONE UINT32_MAX
/* Where payload starts in a frame that we fill: room for VLAN Ethernet (18), IPv6 (40) and TCP (60) headers. */
#define FRAME_PAYLOAD_OFFSET 256

#define FRAME_OWNERS(X)                                                                                                \
	X(POOL, pool) /* free */                                                                                       \
	X(FILL, fill) /* given to the kernel for reception; umem/xsk split off what waits in the rx ring */            \
	X(RX, rx)     /* received, being looked at */                                                                  \
	X(FLOW, flows)                                                                                                 \
	X(RECV, recv) /* lent to io_uring as receive buffers of the upstream side */                                   \
	X(TX, tx)

enum frame_owner {
#define X(name, text) FRAME_##name,
	FRAME_OWNERS(X)
#undef X
		FRAME_OWNER_COUNT
};

struct frame {
	uint32_t next; /* link of whichever list its owner keeps; FRAME_NONE ends it */
	uint32_t seq;  /* TCP queues: sequence number of the first payload byte */
	uint16_t off;  /* first byte of what matters now (payload, in queues), from the start of the frame */
	uint16_t len;
	uint8_t owner;      /* enum frame_owner */
	bool tx_busy;       /* in a transmit ring */
	uint16_t tcp_flags; /* the TCP stack's own marks (sacked, lost, retransmitted, FIN, ...) */
	uint64_t sent_ns;   /* when it was last transmitted */
};

struct frame_pool {
	uint8_t *area;
	struct frame *frames; /* `total` entries */
	uint32_t frame_bytes; /* power of two */
	uint32_t total;
	uint32_t free_head;
	uint32_t owned[FRAME_OWNER_COUNT];
	uint32_t low_water; /* fewest free frames seen */
	uint64_t exhausted; /* times frame_get() found the pool empty */
};

/* Takes over `area` (total * frame_bytes) and `frames` (total entries); all frames start in the pool. */
void frame_pool_init(struct frame_pool *pool, uint8_t *area, struct frame *frames, uint32_t total,
		     uint32_t frame_bytes);

/* A free frame for `owner`, or FRAME_NONE when the pool is empty (counted). */
uint32_t frame_get(struct frame_pool *pool, enum frame_owner owner);

/* Gives the frame back. While it is being transmitted it stays FRAME_TX and is freed by frame_tx_done(). */
void frame_put(struct frame_pool *pool, uint32_t index);

/* Hands a frame that is not being transmitted to another owner. */
void frame_set_owner(struct frame_pool *pool, uint32_t index, enum frame_owner owner);

/* The transmit ring took it. With owner FRAME_TX nobody else wants it back: completion frees it. */
void frame_tx_start(struct frame_pool *pool, uint32_t index);
void frame_tx_done(struct frame_pool *pool, uint32_t index);

static inline uint8_t *frame_data(const struct frame_pool *pool, uint32_t index)
{
	return pool->area + (uint64_t)index * pool->frame_bytes;
}

static inline uint32_t frame_pool_free(const struct frame_pool *pool)
{
	return pool->owned[FRAME_POOL];
}

#endif
