/* SPDX-License-Identifier: MIT */
/*
 * The flow table: a hash table over a fixed array, keyed by a secret so that
 * clients cannot choose collisions. Slots are taken in order first (untouched
 * memory costs nothing), then from a free list. All lists are linked by index.
 */
#include "stack_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "siphash.h"

static const char *const flow_names[] = {
#define X(name, text, next) [FLOW_##name] = text,
	FLOW_STATES(X)
#undef X
};

static const uint16_t flow_next[] = {
#define X(name, text, next) [FLOW_##name] = next,
	FLOW_STATES(X)
#undef X
};

const char *flow_state_name(enum flow_state state)
{
	return flow_names[state];
}

void flow_move(struct stack *stack, struct flow *flow, enum flow_state to)
{
	(void)stack;
	assert(flow_next[flow->state] & BIT(to));
	flow->state = (uint8_t)to;
}

int flow_table_create(struct stack *stack)
{
	uint32_t buckets = 1024;

	while (buckets < stack->settings.max_flows)
		buckets *= 2;
	stack->flows = calloc(stack->settings.max_flows, sizeof(*stack->flows));
	stack->buckets = malloc(buckets * sizeof(*stack->buckets));
	if (!stack->flows || !stack->buckets)
		return -1;
	memset(stack->buckets, 0xff, buckets * sizeof(*stack->buckets)); /* FLOW_NONE */
	stack->bucket_mask = buckets - 1;
	stack->flow_free = FLOW_NONE;
	stack->half_open = stack->time_wait = stack->work = (struct flow_list){FLOW_NONE, FLOW_NONE, 0};
	return 0;
}

void flow_table_destroy(struct stack *stack)
{
	free(stack->flows);
	free(stack->buckets);
}

uint32_t flow_index(const struct stack *stack, const struct flow *flow)
{
	return (uint32_t)(flow - stack->flows);
}

static uint64_t flow_hash_endpoints(const struct stack *stack, const struct endpoint *client,
				    const struct endpoint *destination, uint64_t salt)
{
	uint64_t words[6];

	memcpy(words, &client->addr, 16);
	memcpy(words + 2, &destination->addr, 16);
	words[4] = (uint64_t)client->port << 16 | destination->port;
	words[5] = salt;
	return siphash_words(stack->settings.secret, words, 6);
}

uint64_t flow_keyed_hash(const struct stack *stack, const struct build_link *link, uint64_t salt)
{
	return flow_hash_endpoints(stack, &link->dst, &link->src, salt);
}

static uint32_t *flow_bucket(struct stack *stack, const struct endpoint *client, const struct endpoint *destination)
{
	return &stack->buckets[flow_hash_endpoints(stack, client, destination, 0) & stack->bucket_mask];
}

struct flow *flow_lookup(struct stack *stack, const struct packet_view *view)
{
	struct endpoint client = {.addr = view->src, .port = view->sport};
	struct endpoint destination = {.addr = view->dst, .port = view->dport};

	for (uint32_t i = *flow_bucket(stack, &client, &destination); i != FLOW_NONE; i = stack->flows[i].hash_next) {
		const struct build_link *link = &stack->flows[i].link;

		if (link->dst.port == client.port && link->src.port == destination.port &&
		    addr_equal(&link->dst.addr, &client.addr) && addr_equal(&link->src.addr, &destination.addr))
			return &stack->flows[i];
	}
	return NULL;
}

static uint32_t flow_take_slot(struct stack *stack)
{
	uint32_t index = stack->flow_free;

	if (index == FLOW_NONE && stack->flow_used == stack->settings.max_flows && stack->time_wait.count) {
		flow_release(stack, &stack->flows[stack->time_wait.head]);
		stack->counters.time_wait_recycled++;
		index = stack->flow_free;
	}
	if (index != FLOW_NONE) {
		stack->flow_free = stack->flows[index].hash_next;
		return index;
	}
	return stack->flow_used < stack->settings.max_flows ? stack->flow_used++ : FLOW_NONE;
}

struct flow *flow_create(struct stack *stack, const struct tcp_segment *syn, uint64_t now_ns)
{
	const struct packet_view *view = &syn->view;
	uint32_t index = flow_take_slot(stack), *bucket;
	struct flow *flow;
	uint16_t generation;

	if (index == FLOW_NONE)
		return NULL;
	flow = &stack->flows[index];
	generation = flow->generation;
	memset(flow, 0, sizeof(*flow));
	flow->generation = (uint16_t)(generation + 1);
	flow->port = syn->port;
	flow->link.src = (struct endpoint){.addr = view->dst, .port = view->dport};
	flow->link.dst = (struct endpoint){.addr = view->src, .port = view->sport};
	memcpy(flow->link.dst_mac, syn->eth + 6, 6);
	memcpy(flow->link.src_mac, syn->eth, 6);
	flow->link.has_vlan = view->has_vlan;
	flow->link.vlan_tci = view->vlan_tci;
	flow->send_head = flow->send_tail = flow->send_next = FRAME_NONE;
	flow->receive_head = flow->receive_tail = flow->ooo_head = flow->ooo_tail = FRAME_NONE;
	flow->created_ns = flow->active_ns = now_ns;
	bucket = flow_bucket(stack, &flow->link.dst, &flow->link.src);
	flow->hash_next = *bucket;
	*bucket = index;
	stack->flow_count++;
	return flow;
}

void flow_put_list(struct stack *stack, uint32_t *head)
{
	while (*head != FRAME_NONE) {
		uint32_t index = *head;

		*head = stack_frame(stack, index)->next;
		frame_put(stack->pool, index);
	}
}

/* Half-open and TIME_WAIT flows share the links: no flow is both. */
void flow_list_add(struct stack *stack, struct flow_list *list, struct flow *flow)
{
	uint32_t index = flow_index(stack, flow);

	flow->half_prev = list->tail;
	flow->half_next = FLOW_NONE;
	if (list->tail == FLOW_NONE)
		list->head = index;
	else
		stack->flows[list->tail].half_next = index;
	list->tail = index;
	list->count++;
}

void flow_list_remove(struct stack *stack, struct flow_list *list, struct flow *flow)
{
	if (flow->half_prev == FLOW_NONE)
		list->head = flow->half_next;
	else
		stack->flows[flow->half_prev].half_next = flow->half_next;
	if (flow->half_next == FLOW_NONE)
		list->tail = flow->half_prev;
	else
		stack->flows[flow->half_next].half_prev = flow->half_prev;
	list->count--;
}

void flow_add_work(struct stack *stack, struct flow *flow)
{
	uint32_t index = flow_index(stack, flow);

	if (flow->linked_work)
		return;
	flow->linked_work = true;
	flow->work_prev = stack->work.tail;
	flow->work_next = FLOW_NONE;
	if (stack->work.tail == FLOW_NONE)
		stack->work.head = index;
	else
		stack->flows[stack->work.tail].work_next = index;
	stack->work.tail = index;
	stack->work.count++;
}

void flow_remove_work(struct stack *stack, struct flow *flow)
{
	if (!flow->linked_work)
		return;
	if (flow->work_prev == FLOW_NONE)
		stack->work.head = flow->work_next;
	else
		stack->flows[flow->work_prev].work_next = flow->work_next;
	if (flow->work_next == FLOW_NONE)
		stack->work.tail = flow->work_prev;
	else
		stack->flows[flow->work_next].work_prev = flow->work_prev;
	stack->work.count--;
	flow->linked_work = false;
}

static void flow_unhash(struct stack *stack, struct flow *flow)
{
	uint32_t *link = flow_bucket(stack, &flow->link.dst, &flow->link.src), index = flow_index(stack, flow);

	while (*link != index)
		link = &stack->flows[*link].hash_next;
	*link = flow->hash_next;
}

static void flow_drop_queues(struct stack *stack, struct flow *flow)
{
	flow_put_list(stack, &flow->send_head);
	flow_put_list(stack, &flow->receive_head);
	flow_put_list(stack, &flow->ooo_head);
	flow->send_tail = flow->send_next = flow->receive_tail = flow->ooo_tail = FRAME_NONE;
	flow->send_queue_bytes = flow->send_frames = flow->receive_bytes = flow->held_frames = 0;
}

void flow_release(struct stack *stack, struct flow *flow)
{
	assert(flow->state != FLOW_CLOSED);
	if (flow->state == FLOW_TIME_WAIT)
		flow_list_remove(stack, &stack->time_wait, flow);
	halfopen_leave(stack, flow);
	flow_remove_work(stack, flow);
	for (int i = 0; i < FLOW_TIMER_COUNT; i++)
		tcp_timer_cancel(stack, flow, (enum flow_timer)i);
	flow_drop_queues(stack, flow);
	flow_unhash(stack, flow);
	if (stack->callbacks.flow_released)
		stack->callbacks.flow_released(stack->callbacks.ctx, flow);
	flow_move(stack, flow, FLOW_CLOSED);
	flow->hash_next = stack->flow_free;
	stack->flow_free = flow_index(stack, flow);
	stack->flow_count--;
}

static void flow_count_end(struct stack *stack, enum flow_end why)
{
	struct stack_counters *counters = &stack->counters;

	switch (why) {
	case FLOW_END_CLOSED:
		counters->flows_closed++;
		break;
	case FLOW_END_CLIENT_RESET:
		counters->flows_client_reset++;
		break;
	case FLOW_END_ABORTED:
		counters->flows_aborted++;
		break;
	case FLOW_END_TIMED_OUT:
		counters->flows_timed_out++;
		break;
	case FLOW_END_IDLE:
		counters->flows_idle++;
		break;
	case FLOW_END_EVICTED: /* counted by halfopen.c, which knows the limit that was hit */
		break;
	}
}

static void flow_tell_closed(struct stack *stack, struct flow *flow, enum flow_end why)
{
	flow_count_end(stack, why);
	if (!flow->owner_knows)
		return;
	flow->owner_knows = false;
	stack->callbacks.flow_closed(stack->callbacks.ctx, flow, why);
}

void flow_end(struct stack *stack, struct flow *flow, enum flow_end why)
{
	flow_tell_closed(stack, flow, why);
	flow_release(stack, flow);
}

void flow_enter_time_wait(struct stack *stack, struct flow *flow, uint64_t now_ns)
{
	flow_move(stack, flow, FLOW_TIME_WAIT);
	flow_list_add(stack, &stack->time_wait, flow);
	flow_tell_closed(stack, flow, FLOW_END_CLOSED);
	flow_drop_queues(stack, flow);
	tcp_timer_cancel(stack, flow, FLOW_TIMER_RETRANSMIT);
	flow->rtx_mode = RTX_OFF;
	tcp_timer_arm(stack, flow, FLOW_TIMER_LIFE, now_ns + stack->settings.time_wait_ns);
}
