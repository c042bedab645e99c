/* SPDX-License-Identifier: MIT */
/*
 * Flows whose handshake is not complete cost an upstream connection each, so
 * they are limited in total and per source address. At a limit the oldest
 * gives way: a flood evicts its own connections first (per source), and a
 * flood from many addresses evicts the longest waiting. A flow's age counts
 * from its last progress, the SYN-ACK: an honest client answers that within a
 * round trip, and must not be reset because its upstream was slow.
 *
 * Sources with half-open flows stand in a hash table with one entry per
 * possible flow, so that it is never full whatever the limits become; entries
 * that were never used cost no memory. Its buckets are as many as the limit at
 * the start asks for.
 */
#include "stack_priv.h"

#include <stdlib.h>
#include <string.h>

int halfopen_create(struct stack *stack)
{
	uint32_t buckets = 64;

	while (buckets < stack->settings.half_open)
		buckets *= 2;
	stack->sources = calloc(stack->settings.max_flows, sizeof(*stack->sources));
	stack->source_buckets = malloc(buckets * sizeof(*stack->source_buckets));
	if (!stack->sources || !stack->source_buckets)
		return -1;
	memset(stack->source_buckets, 0xff, buckets * sizeof(*stack->source_buckets));
	stack->source_mask = buckets - 1;
	stack->source_free = FLOW_NONE;
	return 0;
}

void halfopen_destroy(struct stack *stack)
{
	free(stack->sources);
	free(stack->source_buckets);
}

static uint32_t *halfopen_bucket(struct stack *stack, const struct addr *addr)
{
	struct build_link link = {.dst.addr = *addr};

	return &stack->source_buckets[flow_keyed_hash(stack, &link, 1) & stack->source_mask];
}

static uint32_t halfopen_find(struct stack *stack, const struct addr *addr)
{
	uint32_t i = *halfopen_bucket(stack, addr);

	while (i != FLOW_NONE && !addr_equal(&stack->sources[i].addr, addr))
		i = stack->sources[i].hash_next;
	return i;
}

static uint32_t halfopen_add_source(struct stack *stack, const struct addr *addr)
{
	uint32_t index = stack->source_free, *bucket = halfopen_bucket(stack, addr);
	struct half_source *source;

	if (index == FLOW_NONE)
		index = stack->source_used++;
	else
		stack->source_free = stack->sources[index].hash_next;
	source = &stack->sources[index];
	*source = (struct half_source){.addr = *addr, .hash_next = *bucket, .head = FLOW_NONE, .tail = FLOW_NONE};
	*bucket = index;
	return index;
}

static void halfopen_remove_source(struct stack *stack, uint32_t index)
{
	uint32_t *link = halfopen_bucket(stack, &stack->sources[index].addr);

	while (*link != index)
		link = &stack->sources[*link].hash_next;
	*link = stack->sources[index].hash_next;
	stack->sources[index].hash_next = stack->source_free;
	stack->source_free = index;
}

/* false: there is room. */
static bool halfopen_evict(struct stack *stack, const struct addr *addr)
{
	uint32_t index = halfopen_find(stack, addr);

	if (index != FLOW_NONE && stack->sources[index].count >= stack->settings.half_open_per_source) {
		stack->counters.flows_evicted_per_source++;
		flow_end(stack, &stack->flows[stack->sources[index].head], FLOW_END_EVICTED);
		return true;
	}
	if (stack->half_open.count >= stack->settings.half_open) {
		stack->counters.flows_evicted_total++;
		flow_end(stack, &stack->flows[stack->half_open.head], FLOW_END_EVICTED);
		return true;
	}
	return false;
}

void halfopen_enter(struct stack *stack, struct flow *flow)
{
	const struct addr *addr = &flow->link.dst.addr;
	struct half_source *source;
	uint32_t index;

	/* twice: so the numbers come down after the limits have */
	if (halfopen_evict(stack, addr))
		halfopen_evict(stack, addr);
	/* the eviction may have removed the source */
	index = halfopen_find(stack, addr);
	if (index == FLOW_NONE)
		index = halfopen_add_source(stack, addr);
	source = &stack->sources[index];
	flow->source = index;
	flow->source_prev = source->tail;
	flow->source_next = FLOW_NONE;
	if (source->tail == FLOW_NONE)
		source->head = flow_index(stack, flow);
	else
		stack->flows[source->tail].source_next = flow_index(stack, flow);
	source->tail = flow_index(stack, flow);
	source->count++;
	flow->half_open = true;
	flow_list_add(stack, &stack->half_open, flow);
}

void halfopen_leave(struct stack *stack, struct flow *flow)
{
	struct half_source *source;

	if (!flow->half_open)
		return;
	source = &stack->sources[flow->source];
	flow->half_open = false;
	flow_list_remove(stack, &stack->half_open, flow);
	if (flow->source_prev == FLOW_NONE)
		source->head = flow->source_next;
	else
		stack->flows[flow->source_prev].source_next = flow->source_next;
	if (flow->source_next == FLOW_NONE)
		source->tail = flow->source_prev;
	else
		stack->flows[flow->source_next].source_prev = flow->source_prev;
	if (!--source->count)
		halfopen_remove_source(stack, flow->source);
}

void halfopen_progress(struct stack *stack, struct flow *flow)
{
	halfopen_leave(stack, flow);
	halfopen_enter(stack, flow);
}
