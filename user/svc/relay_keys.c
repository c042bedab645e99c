/* SPDX-License-Identifier: MIT */
#include "relay_keys.h"

#include <errno.h>
#include <stdlib.h>

int relay_keys_create(struct relay_keys *keys, struct flowmap *map, uint32_t count)
{
	*keys = (struct relay_keys){.map = map, .count = count};
	keys->held = calloc(count, sizeof(*keys->held));
	return keys->held ? 0 : -ENOMEM;
}

void relay_keys_destroy(struct relay_keys *keys)
{
	free(keys->held);
	*keys = (struct relay_keys){0};
}

int relay_keys_add(struct relay_keys *keys, uint32_t flow, const struct flow_key *key, bool known)
{
	int err = flowmap_add_relayed(keys->map, key, known);

	keys->held[flow] = !err;
	if (err && known)
		flowmap_remove_key(keys->map, key);
	return err;
}

void relay_keys_remove(struct relay_keys *keys, uint32_t flow, const struct flow_key *key)
{
	if (!keys->held || !keys->held[flow])
		return;
	keys->held[flow] = false;
	flowmap_remove_key(keys->map, key);
}
