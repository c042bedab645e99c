/* SPDX-License-Identifier: MIT */
#include "recvring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t recvring_map_bytes(uint32_t entries)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (entries * sizeof(struct io_uring_buf) + page - 1) & ~(page - 1);
}

int recvring_create(struct recvring *recv, struct uring *uring, struct frame_pool *pool, uint16_t group,
		    uint32_t entries, uint16_t buffer_bytes)
{
	struct io_uring_buf_reg reg = {.ring_entries = entries, .bgid = group};
	void *ring;
	int err;

	memset(recv, 0, sizeof(*recv));
	ring = mmap(NULL, recvring_map_bytes(entries), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;
	recv->frames = malloc(entries * sizeof(*recv->frames));
	if (!recv->frames) {
		err = -ENOMEM;
		goto unmap;
	}
	for (uint32_t i = 0; i < entries; i++)
		recv->frames[i] = FRAME_NONE;
	io_uring_buf_ring_init(ring);
	reg.ring_addr = (uintptr_t)ring;
	err = io_uring_register_buf_ring(&uring->ring, &reg, 0);
	if (err)
		goto free_frames;
	recv->pool = pool;
	recv->ring = ring;
	recv->group = group;
	recv->buffer_bytes = buffer_bytes;
	recv->entries = entries;
	return 0;

free_frames:
	free(recv->frames);
	recv->frames = NULL;
unmap:
	munmap(ring, recvring_map_bytes(entries));
	return err;
}

void recvring_destroy(struct recvring *recv)
{
	if (!recv->ring)
		return;
	munmap(recv->ring, recvring_map_bytes(recv->entries));
	free(recv->frames);
	memset(recv, 0, sizeof(*recv));
}

uint32_t recvring_refill(struct recvring *recv, uint32_t reserve)
{
	uint32_t mask = recv->entries - 1, added = 0;

	/* in ring order only: a slot whose completion was not seen yet still holds its frame and ends the run */
	while (added < recv->entries && recv->frames[recv->tail & mask] == FRAME_NONE &&
	       frame_pool_free(recv->pool) > reserve) {
		uint32_t slot = recv->tail & mask, frame = frame_get(recv->pool, FRAME_RECV);

		recv->frames[slot] = frame;
		io_uring_buf_ring_add(recv->ring, frame_data(recv->pool, frame) + FRAME_PAYLOAD_OFFSET,
				      recv->buffer_bytes, (uint16_t)slot, (int)mask, (int)added);
		recv->tail++;
		added++;
	}
	if (added)
		io_uring_buf_ring_advance(recv->ring, (int)added);
	recv->filled += added;
	return added;
}

uint32_t recvring_take(struct recvring *recv, uint16_t first_id, uint32_t nth)
{
	uint32_t slot = (first_id + nth) & (recv->entries - 1), frame = recv->frames[slot];

	if (frame == FRAME_NONE)
		return FRAME_NONE;
	recv->frames[slot] = FRAME_NONE;
	recv->filled--;
	frame_set_owner(recv->pool, frame, FRAME_FLOW);
	return frame;
}
