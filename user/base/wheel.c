/* SPDX-License-Identifier: MIT */
/*
 * Level 0 has one slot per tick, level n one slot per 64^n ticks. A timer is
 * put on the lowest level whose span reaches it; when the time of a higher
 * slot comes its timers are put again, each time at most one level higher
 * than needed, so that a timer moves at most WHEEL_LEVELS times in its life.
 */
#include "wheel.h"

#include <stddef.h>

#define WHEEL_SLOT_BITS 6
#define WHEEL_SPAN_TICKS (1ull << (WHEEL_SLOT_BITS * WHEEL_LEVELS))

static uint64_t wheel_tick(uint64_t ns)
{
	return ns / WHEEL_TICK_NS;
}

void wheel_init(struct wheel *wheel, uint64_t now_ns)
{
	wheel->now_tick = wheel_tick(now_ns);
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		wheel->occupied[level] = 0;
		for (int slot = 0; slot < WHEEL_SLOTS; slot++) {
			struct wheel_timer *head = &wheel->slots[level][slot];

			head->next = head->prev = head;
		}
	}
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
	unsigned int level = timer->level_slot >> 8, slot = timer->level_slot & 0xff;
	struct wheel_timer *head = &wheel->slots[level][slot];

	if (!timer->next)
		return;
	timer->prev->next = timer->next;
	timer->next->prev = timer->prev;
	timer->next = timer->prev = NULL;
	if (head->next == head)
		wheel->occupied[level] &= ~(1ull << slot);
}

/* Hangs the timer where `due`, a tick not before now_tick, says. */
static void wheel_put(struct wheel *wheel, struct wheel_timer *timer, uint64_t due)
{
	unsigned int level = 0, slot;
	struct wheel_timer *head;

	/* the slot of a level serves the timer if both ticks differ in no higher digit than that level's */
	while (level < WHEEL_LEVELS - 1 &&
	       (due >> (WHEEL_SLOT_BITS * (level + 1))) != (wheel->now_tick >> (WHEEL_SLOT_BITS * (level + 1))))
		level++;
	slot = (unsigned int)(due >> (WHEEL_SLOT_BITS * level)) & (WHEEL_SLOTS - 1);
	head = &wheel->slots[level][slot];
	timer->level_slot = (uint16_t)(level << 8 | slot);
	timer->next = head;
	timer->prev = head->prev;
	head->prev->next = timer;
	head->prev = timer;
	wheel->occupied[level] |= 1ull << slot;
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t expires_ns)
{
	/* rounded up: never early */
	uint64_t due = wheel_tick(expires_ns) + (expires_ns % WHEEL_TICK_NS != 0);

	wheel_cancel(wheel, timer);
	timer->expires_ns = expires_ns;
	if (due <= wheel->now_tick)
		due = wheel->now_tick + 1;
	/* the highest level wraps around: keep clear of its current slot */
	if (due - wheel->now_tick >= WHEEL_SPAN_TICKS - WHEEL_SPAN_TICKS / WHEEL_SLOTS)
		due = wheel->now_tick + WHEEL_SPAN_TICKS - WHEEL_SPAN_TICKS / WHEEL_SLOTS - 1;
	wheel_put(wheel, timer, due);
}

/* Takes the whole list of a slot out, into `list` (a head). */
static void wheel_take_slot(struct wheel *wheel, unsigned int level, unsigned int slot, struct wheel_timer *list)
{
	struct wheel_timer *head = &wheel->slots[level][slot];

	list->next = list->prev = list;
	if (head->next == head)
		return;
	list->next = head->next;
	list->prev = head->prev;
	list->next->prev = list;
	list->prev->next = list;
	head->next = head->prev = head;
	wheel->occupied[level] &= ~(1ull << slot);
}

static struct wheel_timer *wheel_pop(struct wheel_timer *list)
{
	struct wheel_timer *timer = list->next;

	if (timer == list)
		return NULL;
	timer->prev->next = timer->next;
	timer->next->prev = timer->prev;
	timer->next = timer->prev = NULL;
	return timer;
}

/* At a tick where the lower digits are all zero, the slot of the level above comes down. */
static void wheel_cascade(struct wheel *wheel)
{
	for (unsigned int level = 1; level < WHEEL_LEVELS; level++) {
		unsigned int slot = (unsigned int)(wheel->now_tick >> (WHEEL_SLOT_BITS * level)) & (WHEEL_SLOTS - 1);
		struct wheel_timer list, *timer;

		if (wheel->now_tick & ((1ull << (WHEEL_SLOT_BITS * level)) - 1))
			return;
		wheel_take_slot(wheel, level, slot, &list);
		while ((timer = wheel_pop(&list))) {
			uint64_t due = wheel_tick(timer->expires_ns) + (timer->expires_ns % WHEEL_TICK_NS != 0);

			wheel_put(wheel, timer, due > wheel->now_tick ? due : wheel->now_tick);
		}
	}
}

/* The next tick at which a slot must be looked at, not after `limit`. */
static uint64_t wheel_next_tick(const struct wheel *wheel, uint64_t limit)
{
	for (unsigned int level = 0; level < WHEEL_LEVELS; level++) {
		unsigned int shift = WHEEL_SLOT_BITS * level;
		uint64_t digit = (wheel->now_tick >> shift) & (WHEEL_SLOTS - 1);
		uint64_t ahead = digit + 1 < WHEEL_SLOTS ? wheel->occupied[level] & (~0ull << (digit + 1)) : 0;
		uint64_t base = wheel->now_tick >> shift >> WHEEL_SLOT_BITS << WHEEL_SLOT_BITS, tick;

		if (level == WHEEL_LEVELS - 1 && !ahead && wheel->occupied[level]) {
			/* only the highest level wraps */
			ahead = wheel->occupied[level];
			base += WHEEL_SLOTS;
		}
		if (!ahead)
			continue;
		tick = (base + (uint64_t)__builtin_ctzll(ahead)) << shift;
		return tick < limit ? tick : limit;
	}
	return limit;
}

void wheel_expire(struct wheel *wheel, uint64_t now_ns, wheel_expire_fn *fn, void *ctx)
{
	uint64_t now_tick = wheel_tick(now_ns);

	while (wheel->now_tick < now_tick) {
		struct wheel_timer *head, *timer;

		wheel->now_tick = wheel_next_tick(wheel, now_tick);
		wheel_cascade(wheel);
		head = &wheel->slots[0][wheel->now_tick & (WHEEL_SLOTS - 1)];
		/* what `fn` arms lies in a later tick, so this list only gets shorter */
		while ((timer = head->next) != head) {
			wheel_cancel(wheel, timer);
			fn(ctx, timer, now_ns);
		}
	}
}

uint64_t wheel_next_ns(const struct wheel *wheel)
{
	uint64_t tick = wheel_next_tick(wheel, UINT64_MAX);

	return tick == UINT64_MAX ? UINT64_MAX : tick * WHEEL_TICK_NS;
}
