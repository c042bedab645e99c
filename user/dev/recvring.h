/* SPDX-License-Identifier: MIT */
/*
 * A provided-buffer ring of io_uring whose buffers are UMEM frames at the
 * payload offset, each as long as one segment or several: what arrives from
 * the upstream lies where the packet to the client needs it.
 *
 * A completion of a bundled receive names its first buffer only; the others
 * follow in ring order. Buffer ids are slot numbers, so the order in which
 * completions of different sockets are seen does not matter.
 */
#ifndef SOCKSPLICE_RECVRING_H
#define SOCKSPLICE_RECVRING_H

#include <stdint.h>

#include "frame.h"
#include "uring.h"

struct recvring {
	struct frame_pool *pool;
	struct io_uring_buf_ring *ring;
	uint16_t group;
	uint16_t buffer_bytes; /* payload of one buffer */
	uint32_t entries;      /* power of two */
	uint32_t tail;         /* slots handed to the kernel so far */
	uint32_t filled;       /* slots that hold a frame */
	uint32_t *frames;      /* frame in each slot, FRAME_NONE: free */
};

/* 0 or -errno. Before uring_enable(). */
int recvring_create(struct recvring *recv, struct uring *uring, struct frame_pool *pool, uint16_t group,
		    uint32_t entries, uint16_t buffer_bytes);
/* After uring_destroy(), which unregisters the ring. */
void recvring_destroy(struct recvring *recv);
/* Fills free slots in ring order while the pool keeps `reserve` free frames; returns how many frames were added. */
uint32_t recvring_refill(struct recvring *recv, uint32_t reserve);
/*
 * The frame of the `nth` buffer of a completion that named `first_id`; its owner is FRAME_FLOW from now on and the
 * slot is free. FRAME_NONE: the kernel named a slot that holds none (cannot happen; counted by the caller).
 */
uint32_t recvring_take(struct recvring *recv, uint16_t first_id, uint32_t nth);

#endif
