/* SPDX-License-Identifier: MIT */
#include "upstreams.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

static void upstreams_set_limit(struct upstreams *upstreams, const struct config *config)
{
	upstreams->pool_limit =
		config->performance.enable_connection_pool ? config->performance.connection_pool_size : 0;
}

static void upstreams_add(struct upstreams *upstreams, uint32_t slot, const struct config_upstream *settings,
			  const char *uplink, uint64_t now_ns)
{
	struct upstream *upstream = &upstreams->list[slot];

	upstream_init(upstream, settings, uplink);
	upstream->warm_oldest = upstream->warm_newest = UPSTREAMS_NONE;
	upstream_health_init(&upstreams->health[slot], settings->weight, settings->backoff_ns, now_ns);
	upstreams->health[slot].resolved = upstream->addr_count > 0;
	if (slot >= upstreams->used)
		upstreams->used = slot + 1;
}

void upstreams_init(struct upstreams *upstreams, const struct config *config, uint64_t now_ns)
{
	memset(upstreams, 0, sizeof(*upstreams));
	for (uint32_t i = 0; i < config->upstream_count; i++) {
		upstreams_add(upstreams, i, &config->upstreams[i], config->uplink, now_ns);
		upstreams->slots[i] = i;
	}
	upstreams->count = config->upstream_count;
	memcpy(upstreams->uplink, config->uplink, sizeof(upstreams->uplink));
	upstreams_set_limit(upstreams, config);
}

int upstreams_open(struct upstreams *upstreams)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < upstreams->used; i++) {
		upstream_find_route(&upstreams->list[i]);
		err = upstream_create_ports(&upstreams->list[i]);
	}
	return err;
}

void upstreams_release(struct upstreams *upstreams)
{
	for (uint32_t i = 0; i < upstreams->used; i++)
		upstream_release(&upstreams->list[i]);
}

uint32_t upstreams_pick(struct upstreams *upstreams, int wanted, uint64_t tried)
{
	uint32_t slot;
	int chosen;

	if (wanted == UPSTREAMS_ANY) {
		chosen = upstream_choose(upstreams->health, upstreams->used, tried, tried != 0);
		return chosen < 0 ? UPSTREAMS_NONE : (uint32_t)chosen;
	}
	if (wanted < 0 || (uint32_t)wanted >= upstreams->count || tried)
		return UPSTREAMS_NONE;
	slot = upstreams->slots[wanted];
	return upstreams->health[slot].resolved ? slot : UPSTREAMS_NONE;
}

int upstreams_renamed(const struct upstreams *upstreams, int before)
{
	for (uint32_t i = 0; (uint32_t)before < upstreams->count_before && i < upstreams->count; i++)
		if (upstreams->slots[i] == upstreams->slots_before[before])
			return (int)i;
	return UPSTREAMS_GONE;
}

uint32_t upstreams_find(const struct upstreams *upstreams, uint32_t id)
{
	for (uint32_t i = 0; i < upstreams->used; i++)
		if (upstreams->health[i].present && upstreams->list[i].id == id)
			return i;
	return UPSTREAMS_NONE;
}

void upstreams_ports(const struct upstreams *upstreams, struct ports_set *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < upstreams->used; i++)
		if (upstreams->health[i].present || upstreams->list[i].entries)
			ports_set_add(out, upstreams->list[i].settings.ports.first,
				      upstreams->list[i].settings.ports.last);
}

uint32_t upstreams_pool_target(const struct upstreams *upstreams, uint32_t slot)
{
	uint64_t wanted = 0, own = upstreams->list[slot].settings.pool;

	if (!upstreams->health[slot].present)
		return 0;
	for (uint32_t i = 0; i < upstreams->count; i++)
		wanted += upstreams->list[upstreams->slots[i]].settings.pool;
	return (uint32_t)(wanted > upstreams->pool_limit ? own * upstreams->pool_limit / wanted : own);
}

void upstreams_sweep(struct upstreams *upstreams)
{
	for (uint32_t i = 0; i < upstreams->used; i++)
		if (!upstreams->health[i].present && !upstreams->list[i].conns && !upstreams->list[i].entries)
			upstream_release(&upstreams->list[i]);
}

/* --- another configuration --- */

/* The same way to the same server? What else differs can be changed under way. */
static bool upstreams_same_way(const struct config_upstream *a, const struct config_upstream *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->host, b->host) && a->server.port == b->server.port &&
	       addr_equal(&a->server.addr, &b->server.addr) && a->ports.first == b->ports.first &&
	       a->ports.last == b->ports.last && a->mark == b->mark && a->source_count == b->source_count &&
	       !memcmp(a->sources, b->sources, a->source_count * sizeof(a->sources[0]));
}

static bool upstreams_is_free(const struct upstreams *upstreams, uint32_t slot)
{
	return !upstreams->health[slot].present && !upstreams->list[slot].conns && !upstreams->list[slot].entries;
}

/* Where each of the new configuration goes: a slot that stays, or a free one. False: no slot is free. */
static bool upstreams_assign(const struct upstreams *upstreams, const struct config *config,
			     uint32_t slots[CONFIG_MAX_UPSTREAMS])
{
	uint64_t taken = 0;

	for (uint32_t i = 0; i < config->upstream_count; i++) {
		slots[i] = UPSTREAMS_NONE;
		for (uint32_t j = 0; j < upstreams->used && slots[i] == UPSTREAMS_NONE; j++)
			if (upstreams->health[j].present &&
			    upstreams_same_way(&upstreams->list[j].settings, &config->upstreams[i]))
				slots[i] = j;
	}
	for (uint32_t i = 0; i < config->upstream_count; i++) {
		uint32_t j = 0;

		if (slots[i] != UPSTREAMS_NONE)
			continue;
		while (j < UPSTREAMS_SLOTS && (!upstreams_is_free(upstreams, j) || taken >> j & 1))
			j++;
		if (j == UPSTREAMS_SLOTS)
			return false;
		slots[i] = j;
		taken |= 1ull << j;
	}
	return true;
}

/* The memory of those that are new, before anything is changed. */
static int upstreams_prepare(const struct upstreams *upstreams, const struct config *config, const uint32_t *slots,
			     struct ports_pool *pools)
{
	int err = 0;

	memset(pools, 0, CONFIG_MAX_UPSTREAMS * sizeof(*pools));
	for (uint32_t i = 0; !err && i < config->upstream_count; i++) {
		const struct config_upstream *settings = &config->upstreams[i];

		if (!upstreams->health[slots[i]].present)
			err = ports_pool_create(&pools[i], settings->ports.first, settings->ports.last,
						settings->source_count ? settings->source_count : 1);
	}
	for (uint32_t i = 0; err && i < config->upstream_count; i++)
		ports_pool_destroy(&pools[i]);
	return err;
}

static void upstreams_change(struct upstreams *upstreams, uint32_t slot, const struct config_upstream *settings)
{
	struct upstream_health *health = &upstreams->health[slot];

	upstreams->list[slot].settings = *settings;
	if (health->weight != settings->weight)
		health->credit = 0;
	health->weight = settings->weight;
	health->backoff_ns = settings->backoff_ns;
}

static void upstreams_remove_others(struct upstreams *upstreams, const uint32_t *slots, uint32_t count)
{
	for (uint32_t i = 0; i < upstreams->used; i++) {
		bool stays = false;

		for (uint32_t j = 0; j < count; j++)
			stays = stays || slots[j] == i;
		if (stays || !upstreams->health[i].present)
			continue;
		upstreams->health[i].present = false;
		upstreams->ways_changed = true;
		log_info("upstream %s: no more in the configuration; %u connections live on",
			 upstreams->list[i].settings.name,
			 upstreams->list[i].spliced + upstreams->list[i].relaying + upstreams->list[i].dialing);
	}
}

int upstreams_reload(struct upstreams *upstreams, const struct config *config, uint64_t now_ns, char *error,
		     uint32_t error_bytes)
{
	struct ports_pool pools[CONFIG_MAX_UPSTREAMS];
	uint32_t slots[CONFIG_MAX_UPSTREAMS];
	int err;

	if (!upstreams_assign(upstreams, config, slots)) {
		snprintf(error, error_bytes,
			 "upstreams: connections still live by too many that were removed earlier; try again when they "
			 "have ended");
		return -EBUSY;
	}
	err = upstreams_prepare(upstreams, config, slots, pools);
	if (err) {
		snprintf(error, error_bytes, "upstreams: memory for their ports: %s", strerror(-err));
		return err;
	}
	memcpy(upstreams->slots_before, upstreams->slots, sizeof(upstreams->slots));
	upstreams->count_before = upstreams->count;
	upstreams->ways_changed = false;
	upstreams_remove_others(upstreams, slots, config->upstream_count);
	for (uint32_t i = 0; i < config->upstream_count; i++) {
		struct upstream *upstream = &upstreams->list[slots[i]];

		upstreams->slots[i] = slots[i];
		if (upstreams->health[slots[i]].present) {
			upstreams_change(upstreams, slots[i], &config->upstreams[i]);
			continue;
		}
		upstream_release(upstream);
		upstreams_add(upstreams, slots[i], &config->upstreams[i], upstreams->uplink, now_ns);
		upstream->ports = pools[i];
		upstream_find_route(upstream);
		upstreams->ways_changed = true;
	}
	upstreams->count = config->upstream_count;
	upstreams_set_limit(upstreams, config);
	return 0;
}
