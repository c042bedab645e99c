/* SPDX-License-Identifier: MIT */
/*
 * Client keys of the flows that user space relays, in the kernel's table of
 * flows: packets of live flows come up whatever the rules have become since
 * these were opened. A key lives as long as the flow is in the stack.
 */
#ifndef SOCKSPLICE_RELAY_KEYS_H
#define SOCKSPLICE_RELAY_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "flowmap.h"

struct relay_keys {
	struct flowmap *map;
	bool *held; /* by index of the flow in the stack */
	uint32_t count;
};

/* For flows of index 0 ... count - 1. 0 or -ENOMEM. */
int relay_keys_create(struct relay_keys *keys, struct flowmap *map, uint32_t count);
void relay_keys_destroy(struct relay_keys *keys);
/*
 * The flow is relayed from now on. `known`: its key led to an entry of the kernel, and changes at once. 0; -E2BIG: the
 * table is full; -EEXIST: another flow has these addresses. After an error there is no key.
 */
int relay_keys_add(struct relay_keys *keys, uint32_t flow, const struct flow_key *key, bool known);
/* The flow is gone. Nothing happens if it has no key. */
void relay_keys_remove(struct relay_keys *keys, uint32_t flow, const struct flow_key *key);

#endif
