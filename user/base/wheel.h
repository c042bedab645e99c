/* SPDX-License-Identifier: MIT */
/*
 * Timers by a hierarchical timing wheel: arming, cancelling and expiring are
 * O(1). Timers are embedded in what they time; the wheel allocates nothing and
 * reads no clock.
 */
#ifndef SOCKSPLICE_WHEEL_H
#define SOCKSPLICE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_TICK_NS 1000000ull /* 1 ms: a timer fires at most one tick late, never early */
#define WHEEL_LEVELS 5
#define WHEEL_SLOTS 64

struct wheel_timer {
	struct wheel_timer *next, *prev; /* NULL while not armed */
	uint64_t expires_ns;
	uint16_t level_slot; /* where it hangs, for the occupancy bitmap */
	uint16_t kind;       /* the owner's word: which of its timers this is */
};

struct wheel {
	uint64_t now_tick;
	uint64_t occupied[WHEEL_LEVELS];                     /* one bit per slot */
	struct wheel_timer slots[WHEEL_LEVELS][WHEEL_SLOTS]; /* list heads */
};

typedef void wheel_expire_fn(void *ctx, struct wheel_timer *timer, uint64_t now_ns);

void wheel_init(struct wheel *wheel, uint64_t now_ns);
/* Arms, or moves an armed timer. Times beyond the wheel's span (about 12 days) are cut to it. */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t expires_ns);
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
static inline bool wheel_armed(const struct wheel_timer *timer)
{
	return timer->next;
}
/* Calls `fn` for every timer due by now_ns, each disarmed first; `fn` may arm and cancel any timer. */
void wheel_expire(struct wheel *wheel, uint64_t now_ns, wheel_expire_fn *fn, void *ctx);
/* A time not later than the next expiry (so that a sleeper wakes in time), UINT64_MAX when nothing is armed. */
uint64_t wheel_next_ns(const struct wheel *wheel);

#endif
