/* SPDX-License-Identifier: MIT */
#include "upstream_choice.h"

#include <string.h>

/* Probes that end without a verdict, for want of something here, are not repeated at once. */
#define UPSTREAM_PROBE_GAP_NS 1000000000ull

void upstream_health_init(struct upstream_health *health, uint32_t weight, uint64_t backoff_ns, uint64_t now_ns)
{
	memset(health, 0, sizeof(*health));
	health->present = true;
	health->weight = weight;
	health->backoff_ns = backoff_ns;
	health->heard_ns = now_ns;
	health->times = 1;
}

static void upstream_health_rest(struct upstream_health *health, uint64_t now_ns, uint32_t random)
{
	uint64_t rest_ns = health->backoff_ns * health->times, jitter_ns = rest_ns / 4;

	health->until_ns = now_ns + rest_ns - rest_ns / 8 + (jitter_ns ? random % jitter_ns : 0);
}

bool upstream_health_failed(struct upstream_health *health, uint64_t now_ns, uint32_t random)
{
	health->failed_ns = now_ns;
	health->failures++;
	if (health->state == UPSTREAM_FAILED) {
		/* connections that are tried for want of anything better must not put the probe off */
		if (!health->probing)
			return false;
		health->probing = false;
		if (health->times < UPSTREAM_BACKOFF_MAX_TIMES)
			health->times *= 2;
		upstream_health_rest(health, now_ns, random);
		return false;
	}
	if (health->probing) {
		/* of a standby: the next one comes after the back-off, not after its usual pause */
		health->probing = false;
		health->failures = UPSTREAM_FAILURES;
	}
	if (health->failures < UPSTREAM_FAILURES)
		return false;
	health->state = UPSTREAM_FAILED;
	health->times = 1;
	health->credit = 0;
	upstream_health_rest(health, now_ns, random);
	return true;
}

bool upstream_health_answered(struct upstream_health *health, uint64_t now_ns)
{
	bool was_failed = health->state == UPSTREAM_FAILED;

	health->state = UPSTREAM_HEALTHY;
	health->failures = 0;
	health->times = 1;
	health->heard_ns = now_ns;
	return was_failed;
}

void upstream_health_probe(struct upstream_health *health, uint64_t now_ns)
{
	health->probing = true;
	health->spare_ns =
		now_ns + (health->backoff_ns < UPSTREAM_PROBE_GAP_NS ? health->backoff_ns : UPSTREAM_PROBE_GAP_NS);
}

uint64_t upstream_health_probe_ns(const struct upstream_health *health)
{
	uint64_t due_ns;

	if (!health->present || !health->resolved || health->probing)
		return UINT64_MAX;
	if (health->state == UPSTREAM_HEALTHY && health->weight)
		return UINT64_MAX;
	due_ns = health->state == UPSTREAM_FAILED ? health->until_ns
						  : health->heard_ns + UPSTREAM_STANDBY_BACKOFFS * health->backoff_ns;
	return due_ns > health->spare_ns ? due_ns : health->spare_ns;
}

const char *upstream_health_name(const struct upstream_health *health)
{
	if (!health->present)
		return "removed";
	if (!health->resolved)
		return "unresolved";
	if (health->state == UPSTREAM_FAILED)
		return health->probing ? "probing" : "failed";
	return health->weight ? "healthy" : "standby";
}

static bool upstream_is_eligible(const struct upstream_health *list, uint32_t index, uint64_t excluded)
{
	return list[index].present && list[index].resolved && !(excluded >> index & 1);
}

/* Each gains its weight, the richest is taken and pays what all have gained. */
static int upstream_choose_weighted(struct upstream_health *list, uint32_t count, uint64_t excluded)
{
	int64_t total = 0;
	int best = -1;

	for (uint32_t i = 0; i < count; i++) {
		if (!upstream_is_eligible(list, i, excluded) || list[i].state != UPSTREAM_HEALTHY || !list[i].weight)
			continue;
		list[i].credit += list[i].weight;
		total += list[i].weight;
		if (best < 0 || list[i].credit > list[best].credit)
			best = (int)i;
	}
	if (best >= 0)
		list[best].credit -= total;
	return best;
}

int upstream_choose(struct upstream_health *list, uint32_t count, uint64_t excluded, bool healthy_only)
{
	int best = upstream_choose_weighted(list, count, excluded);

	if (best >= 0)
		return best;
	for (uint32_t i = 0; i < count; i++)
		if (upstream_is_eligible(list, i, excluded) && list[i].state == UPSTREAM_HEALTHY)
			return (int)i;
	for (uint32_t i = 0; !healthy_only && i < count; i++)
		if (upstream_is_eligible(list, i, excluded) && (best < 0 || list[i].failed_ns < list[best].failed_ns))
			best = (int)i;
	return best;
}
