/* SPDX-License-Identifier: MIT */
/* Slots of upstream connections: states, the count of completions in flight, orderly release. */
#include "bridge_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const conn_names[] = {
#define X(name, text, next) [CONN_##name] = text,
	CONN_STATES(X)
#undef X
};

static const uint16_t conn_next[] = {
#define X(name, text, next) [CONN_##name] = next,
	CONN_STATES(X)
#undef X
};

const char *conn_state_name(enum conn_state state)
{
	return conn_names[state];
}

/* Is it on its way to an answer? */
static bool conn_is_dialing(enum conn_state state)
{
	return state != CONN_FREE && state <= CONN_REQUESTING && state != CONN_WARM;
}

/* Keeps what the upstream is asked about: how many of its connections are what. */
static void conn_count_move(struct bridge *bridge, const struct conn *conn, enum conn_state from, enum conn_state to)
{
	struct upstream *upstream = conn_upstream(bridge, conn);
	uint32_t *count = conn->purpose == CONN_FOR_CLIENT ? &upstream->dialing
			  : conn->purpose == CONN_FOR_POOL ? &upstream->warming
							   : NULL;

	if (count)
		*count += (uint32_t)(conn_is_dialing(to) - conn_is_dialing(from));
	upstream->relaying += (uint32_t)((to == CONN_RELAYING) - (from == CONN_RELAYING));
	if (conn->purpose == CONN_FOR_PROBE && to == CONN_CLOSING) {
		bridge->upstreams.health[conn->upstream].probing = false;
		upkeep_at(bridge, bridge->now_ns);
	}
}

void conn_move(struct bridge *bridge, struct conn *conn, enum conn_state to)
{
	enum conn_state from = (enum conn_state)conn->state;

	assert(conn_next[from] & BIT(to));
	conn_count_move(bridge, conn, from, to);
	bridge->state_counts[from]--;
	conn->state = (uint8_t)to;
	bridge->state_counts[to]++;
	if (from == CONN_WARM)
		pool_leave(bridge, conn);
	if (conn->traced)
		trace_note(&bridge->trace, bridge->now_ns, "upstream connection: %s", conn_names[to]);
}

int conn_table_create(struct bridge *bridge, uint32_t count)
{
	bridge->conns = calloc(count, sizeof(*bridge->conns));
	if (!bridge->conns)
		return -ENOMEM;
	bridge->conn_count = count;
	bridge->free_head = CONN_NONE;
	for (int link = 0; link < CONN_LINK_COUNT; link++)
		bridge->lists[link] = (struct conn_list){.head = CONN_NONE, .tail = CONN_NONE};
	return 0;
}

void conn_table_destroy(struct bridge *bridge)
{
	free(bridge->conns);
	bridge->conns = NULL;
}

uint32_t conn_index(const struct bridge *bridge, const struct conn *conn)
{
	return (uint32_t)(conn - bridge->conns);
}

/* Slots are first taken in order, so that untouched ones cost no memory; then from the free list. */
static struct conn *conn_take_slot(struct bridge *bridge)
{
	struct conn *conn;

	if (bridge->free_head != CONN_NONE) {
		conn = &bridge->conns[bridge->free_head];
		bridge->free_head = conn->next[0];
		return conn;
	}
	if (bridge->conn_used == bridge->conn_count)
		return NULL;
	bridge->state_counts[CONN_FREE]++;
	return &bridge->conns[bridge->conn_used++];
}

struct upstream *conn_upstream(struct bridge *bridge, const struct conn *conn)
{
	return &bridge->upstreams.list[conn->upstream];
}

void conn_attach_flow(struct bridge *bridge, struct conn *conn, struct flow *flow)
{
	conn->flow = flow;
	conn->flow_index = stack_flow_index(bridge->stack, flow);
	bridge->flow_conns[conn->flow_index] = conn_index(bridge, conn);
}

struct conn *conn_get(struct bridge *bridge, enum conn_purpose purpose, uint32_t upstream, int fd, struct flow *flow)
{
	struct conn *conn = conn_take_slot(bridge);
	uint16_t generation;

	if (!conn)
		return NULL;
	generation = conn->generation;
	memset(conn, 0, sizeof(*conn));
	conn->generation = (uint16_t)(generation + 1);
	conn->fd = fd;
	conn->purpose = (uint8_t)purpose;
	conn->upstream = (uint8_t)upstream;
	conn->wanted = UPSTREAMS_ANY;
	conn->left_head = conn->recvmsg_head = conn->frame = FRAME_NONE;
	conn->entry = SPLICE_NONE;
	conn->name = DNSMAP_NONE;
	bridge->upstreams.list[upstream].conns++;
	if (flow)
		conn_attach_flow(bridge, conn, flow);
	conn_move(bridge, conn, CONN_DIALING);
	return conn;
}

void conn_detach_flow(struct bridge *bridge, struct conn *conn)
{
	if (!conn->flow)
		return;
	bridge->flow_conns[conn->flow_index] = CONN_NONE;
	conn->flow = NULL;
}

union uring_word conn_start_op(struct bridge *bridge, struct conn *conn, enum conn_op op)
{
	conn->in_flight++;
	return (union uring_word){.index = conn_index(bridge, conn), .generation = conn->generation, .op = (uint8_t)op};
}

static void conn_put_frames(struct bridge *bridge, uint32_t *head)
{
	while (*head != FRAME_NONE) {
		uint32_t frame = *head;

		*head = bridge->pool->frames[frame].next;
		frame_put(bridge->pool, frame);
	}
}

static void conn_free(struct bridge *bridge, struct conn *conn)
{
	wheel_cancel(&bridge->wheel, &conn->timer);
	if (conn->traced)
		trace_end(&bridge->trace, bridge->now_ns, "the connection is closed");
	offload_before_close(bridge, conn);
	upstream_close_socket(conn->fd, conn->reset);
	offload_after_close(bridge, conn);
	conn_put_frames(bridge, &conn->left_head);
	conn_put_frames(bridge, &conn->recvmsg_head);
	if (conn->frame != FRAME_NONE)
		frame_put(bridge->pool, conn->frame);
	bridge_release_name(bridge, conn);
	conn_upstream(bridge, conn)->conns--;
	conn_move(bridge, conn, CONN_FREE);
	/* a slot that still hangs in a list goes to the free list when it is taken out there */
	for (int link = 0; link < CONN_LINK_COUNT; link++)
		if (conn->linked[link])
			return;
	conn->next[0] = bridge->free_head;
	bridge->free_head = conn_index(bridge, conn);
}

void conn_close(struct bridge *bridge, struct conn *conn, bool reset)
{
	if (conn->state != CONN_CLOSING)
		conn_move(bridge, conn, CONN_CLOSING);
	conn->reset = conn->reset || reset;
	wheel_cancel(&bridge->wheel, &conn->timer);
	if (!conn->in_flight) {
		if (!conn->handling)
			conn_free(bridge, conn);
		return;
	}
	if (conn->cancelling)
		return;
	conn->cancelling = true;
	uring_cancel_fd(bridge->uring, conn_start_op(bridge, conn, CONN_OP_CANCEL), conn->fd);
}

void conn_begin_completion(struct conn *conn, bool more)
{
	conn->handling = true;
	if (more)
		return;
	assert(conn->in_flight);
	conn->in_flight--;
}

void conn_end_completion(struct bridge *bridge, struct conn *conn)
{
	conn->handling = false;
	if (!conn->in_flight && conn->state == CONN_CLOSING)
		conn_free(bridge, conn);
}

void conn_list_add(struct bridge *bridge, enum conn_link link, struct conn *conn)
{
	struct conn_list *list = &bridge->lists[link];
	uint32_t index = conn_index(bridge, conn);

	if (conn->linked[link])
		return;
	conn->linked[link] = true;
	conn->next[link] = CONN_NONE;
	if (list->tail == CONN_NONE)
		list->head = index;
	else
		bridge->conns[list->tail].next[link] = index;
	list->tail = index;
	list->count++;
}

void conn_list_add_first(struct bridge *bridge, enum conn_link link, struct conn *conn)
{
	struct conn_list *list = &bridge->lists[link];

	if (conn->linked[link])
		return;
	conn->linked[link] = true;
	conn->next[link] = list->head;
	list->head = conn_index(bridge, conn);
	if (list->tail == CONN_NONE)
		list->tail = list->head;
	list->count++;
}

struct conn *conn_list_take(struct bridge *bridge, enum conn_link link)
{
	struct conn_list *list = &bridge->lists[link];
	struct conn *conn;

	if (list->head == CONN_NONE)
		return NULL;
	conn = &bridge->conns[list->head];
	list->head = conn->next[link];
	list->count--;
	if (list->head == CONN_NONE)
		list->tail = CONN_NONE;
	conn->linked[link] = false;
	if (conn->state != CONN_FREE)
		return conn;
	for (int other = 0; other < CONN_LINK_COUNT; other++)
		if (conn->linked[other])
			return conn;
	conn->next[0] = bridge->free_head;
	bridge->free_head = conn_index(bridge, conn);
	return conn;
}

void conn_abort(struct bridge *bridge, struct conn *conn)
{
	if (conn->flow)
		stack_abort(bridge->stack, conn->flow, bridge->now_ns); /* ends in bridge_flow_closed() */
	else
		conn_close(bridge, conn, true);
}
