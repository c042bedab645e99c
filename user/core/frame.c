/* SPDX-License-Identifier: MIT */
#include "frame.h"

#include <assert.h>

void frame_pool_init(struct frame_pool *pool, uint8_t *area, struct frame *frames, uint32_t total, uint32_t frame_bytes)
{
	*pool = (struct frame_pool){
		.area = area,
		.frames = frames,
		.frame_bytes = frame_bytes,
		.total = total,
		.free_head = total ? 0 : FRAME_NONE,
		.low_water = total,
	};
	for (uint32_t i = 0; i < total; i++)
		frames[i] = (struct frame){.next = i + 1 < total ? i + 1 : FRAME_NONE, .owner = FRAME_POOL};
	pool->owned[FRAME_POOL] = total;
}

static enum frame_owner frame_account(const struct frame *frame)
{
	return frame->tx_busy ? FRAME_TX : frame->owner;
}

/* The one setter: every change of owner or tx_busy passes here. */
static void frame_change(struct frame_pool *pool, struct frame *frame, enum frame_owner owner, bool tx_busy)
{
	pool->owned[frame_account(frame)]--;
	frame->owner = owner;
	frame->tx_busy = tx_busy;
	pool->owned[frame_account(frame)]++;
}

uint32_t frame_get(struct frame_pool *pool, enum frame_owner owner)
{
	uint32_t index = pool->free_head;
	struct frame *frame;

	if (index == FRAME_NONE) {
		pool->exhausted++;
		return FRAME_NONE;
	}
	frame = &pool->frames[index];
	pool->free_head = frame->next;
	frame->next = FRAME_NONE;
	frame->tcp_flags = 0;
	frame_change(pool, frame, owner, false);
	if (pool->owned[FRAME_POOL] < pool->low_water)
		pool->low_water = pool->owned[FRAME_POOL];
	return index;
}

static void frame_release(struct frame_pool *pool, uint32_t index)
{
	struct frame *frame = &pool->frames[index];

	frame_change(pool, frame, FRAME_POOL, false);
	frame->next = pool->free_head;
	pool->free_head = index;
}

void frame_put(struct frame_pool *pool, uint32_t index)
{
	struct frame *frame = &pool->frames[index];

	assert(frame->owner != FRAME_POOL);
	if (frame->tx_busy)
		frame_change(pool, frame, FRAME_TX, true);
	else
		frame_release(pool, index);
}

void frame_set_owner(struct frame_pool *pool, uint32_t index, enum frame_owner owner)
{
	struct frame *frame = &pool->frames[index];

	assert(frame->owner != FRAME_POOL && owner != FRAME_POOL && !frame->tx_busy);
	frame_change(pool, frame, owner, false);
}

void frame_tx_start(struct frame_pool *pool, uint32_t index)
{
	struct frame *frame = &pool->frames[index];

	assert(frame->owner != FRAME_POOL && !frame->tx_busy);
	frame_change(pool, frame, frame->owner, true);
}

void frame_tx_done(struct frame_pool *pool, uint32_t index)
{
	struct frame *frame = &pool->frames[index];

	assert(frame->tx_busy);
	if (frame->owner == FRAME_TX)
		frame_release(pool, index);
	else
		frame_change(pool, frame, frame->owner, false);
}
