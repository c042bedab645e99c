/* SPDX-License-Identifier: MIT */
/*
 * The memory of the frame pool: one contiguous area, in huge pages where the
 * system has some free, bound to the NIC's NUMA node. It serves as AF_XDP
 * UMEM and as io_uring receive buffers at once.
 */
#ifndef SOCKSPLICE_UMEM_H
#define SOCKSPLICE_UMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

struct umem {
	uint8_t *area;
	uint64_t area_bytes;
	struct frame *frames;
	struct frame_pool pool;
	bool huge_pages;
	int numa_node; /* -1: not bound */
};

/*
 * `frame_count` frames of `frame_bytes` (a power of two; 2048 or 4096 for AF_XDP, at most 32768). numa_node -1: do not
 * bind. 0 or -ENOMEM. Falls back to normal pages with a log line that says how to get huge ones.
 */
int umem_create(struct umem *umem, uint32_t frame_count, uint32_t frame_bytes, int numa_node);
void umem_destroy(struct umem *umem);

/* Smallest frame size that holds a received packet of `mtu`; 0: none does (multi-buffer is not supported). */
uint32_t umem_frame_bytes_for(uint32_t mtu);

#endif
