/* SPDX-License-Identifier: MIT */
/*
 * Which upstream a new connection goes to, and which of them are fit for it. Pure: time and randomness are arguments.
 *
 *                       UPSTREAM_FAILURES in a row
 *         HEALTHY ────────────────────────────────────► FAILED, left alone for the back-off
 *            ▲                                             │ then
 *            │                it answers                   ▼
 *            └────────────────────────────────────────  a probe  ──► fails: FAILED again, twice as long, up to 16 times
 *
 * An upstream with weight 0 is a standby: it gets connections only while no other is healthy. It is probed now and
 * then, so that its state is known before it is needed.
 */
#ifndef SOCKSPLICE_UPSTREAM_CHOICE_H
#define SOCKSPLICE_UPSTREAM_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

/* One alone may be the fault of the connection; so many in a row are the upstream's. */
#define UPSTREAM_FAILURES 3
#define UPSTREAM_BACKOFF_MAX_TIMES 16
/* A standby that nobody has heard of for so many back-offs is probed. */
#define UPSTREAM_STANDBY_BACKOFFS 6

enum upstream_state { UPSTREAM_HEALTHY, UPSTREAM_FAILED };

struct upstream_health {
	bool present;      /* it is in the configuration */
	bool resolved;     /* an address of it is known */
	bool probing;      /* a probe is on its way */
	uint8_t state;     /* enum upstream_state */
	uint32_t failures; /* in a row */
	uint32_t times;    /* what the back-off is multiplied by */
	uint32_t weight;
	uint64_t backoff_ns;
	int64_t credit;     /* of the smooth weighted round robin */
	uint64_t failed_ns; /* its last failure; 0: none */
	uint64_t until_ns;  /* FAILED: no probe before */
	uint64_t spare_ns;  /* no probe before, whatever became of the last one */
	uint64_t heard_ns;  /* when it answered last, or came into the configuration */
};

/* New in the configuration at `now_ns`: healthy until it fails. */
void upstream_health_init(struct upstream_health *health, uint32_t weight, uint64_t backoff_ns, uint64_t now_ns);
/*
 * It refused, was silent, or spoke nonsense; `random` is any number, for the jitter (an eighth either way). True: it
 * was healthy until now and is FAILED.
 */
bool upstream_health_failed(struct upstream_health *health, uint64_t now_ns, uint32_t random);
/* It answered as it should. True: it was FAILED until now. */
bool upstream_health_answered(struct upstream_health *health, uint64_t now_ns);
/* A probe is on its way. */
void upstream_health_probe(struct upstream_health *health, uint64_t now_ns);
/* When the next probe is due; UINT64_MAX: none is. */
uint64_t upstream_health_probe_ns(const struct upstream_health *health);
/* A word for people: "healthy", "standby", "failed", "probing", "unresolved", "removed". Static. */
const char *upstream_health_name(const struct upstream_health *health);

/*
 * One of list[0..count) that is not in the bit set `excluded`; -1: there is none. In this order:
 *   healthy with a weight   by smooth weighted round robin: exact shares, and never many in a row to one
 *   healthy standby         the first
 *   any                     the one whose last failure is longest ago, so that a lone upstream is never given up;
 *                           not with `healthy_only`
 */
int upstream_choose(struct upstream_health *list, uint32_t count, uint64_t excluded, bool healthy_only);

#endif
