/* SPDX-License-Identifier: MIT */
/*
 * Payload between an established flow and its upstream socket.
 *
 * Up: what the client sent stays in its frames; one sendmsg of up to
 * URING_IOVECS of them is in flight per connection, and the frames are freed
 * when it completes. Down: bundled reception into frames, which are handed to
 * the stack as they are. Kernels without bundles: poll, then recvmsg over
 * frames.
 *
 * Fairness: one call moves no more than RELAY_RECEIVE_BYTES or RELAY_SEND_BYTES,
 * then the others have their turn. Reception is not multishot, as that would
 * take whatever buffers there are for one connection, again and again. Who has
 * received queues to receive again (RECEIVE), and each turn of the loop starts
 * as many as there are buffers for, in order. Who waited in the kernel for the
 * upstream and then found no buffer goes first. A client that does not keep up
 * (no room in its send queue) stops its reception, so that the upstream's
 * window closes. The bounds also keep what is copied in and out again in the
 * CPU's own cache.
 */
#include "bridge_priv.h"

#include <errno.h>

#define RELAY_RECEIVE_BYTES (256u << 10)
#define RELAY_SEND_BYTES (256u << 10)
#define RELAY_TURN_BYTES (384u << 10)
#define RELAY_SHARE_MIN_BYTES (32u << 10)

static void relay_upstream_reset(struct bridge *bridge, struct conn *conn)
{
	bridge->counters.upstream_resets++;
	conn->end = RECORD_END_UPSTREAM_RESET;
	conn_abort(bridge, conn);
}

/* Payload that waits for the upstream: in the flow, or left behind by it. */
static uint32_t relay_peek(const struct bridge *bridge, const struct conn *conn, struct iovec *iov)
{
	uint32_t count = 0;

	if (conn->flow) {
		count = stack_peek(bridge->stack, conn->flow, 0, iov, RELAY_SEND_BYTES, URING_IOVECS);
	} else {
		for (uint32_t i = conn->left_head; i != FRAME_NONE && count < URING_IOVECS;
		     i = bridge->pool->frames[i].next) {
			const struct frame *frame = &bridge->pool->frames[i];

			iov[count++] = (struct iovec){frame_data(bridge->pool, i) + frame->off, frame->len};
		}
	}
	return count;
}

static void relay_consume_left(struct bridge *bridge, struct conn *conn, uint32_t bytes)
{
	while (bytes && conn->left_head != FRAME_NONE) {
		uint32_t index = conn->left_head;
		struct frame *frame = &bridge->pool->frames[index];

		if (bytes < frame->len) {
			frame->off = (uint16_t)(frame->off + bytes);
			frame->len = (uint16_t)(frame->len - bytes);
			return;
		}
		bytes -= frame->len;
		conn->left_head = frame->next;
		frame_put(bridge->pool, index);
	}
}

/* Everything that the client will ever send has been passed on. */
static void relay_up_finished(struct bridge *bridge, struct conn *conn)
{
	if (!conn->shut) {
		conn->shut = true;
		shutdown(conn->fd, SHUT_WR);
	}
	if (conn->client_ended)
		conn_close(bridge, conn, false);
}

void relay_send_start(struct bridge *bridge, struct conn *conn)
{
	struct uring_message *message;
	uint32_t count;

	if (conn->state != CONN_RELAYING || conn->sending)
		return;
	message = uring_message(bridge->uring);
	count = relay_peek(bridge, conn, message->iovecs);
	if (!count) {
		bridge->uring->messages_used--;
		if (conn->client_ended || (conn->flow && stack_read_finished(conn->flow)))
			relay_up_finished(bridge, conn);
		return;
	}
	conn->sending = true;
	uring_sendmsg(bridge->uring, conn_start_op(bridge, conn, CONN_OP_SEND), conn->fd, message, count);
}

void relay_sent(struct bridge *bridge, struct conn *conn, int32_t res)
{
	conn->sending = false;
	if (conn->state == CONN_CLOSING)
		return;
	if (res < 0) {
		relay_upstream_reset(bridge, conn);
		return;
	}
	bridge->counters.upstream_sends++;
	bridge->counters.upstream_send_bytes += (uint32_t)res;
	if (conn->flow)
		stack_consume(bridge->stack, conn->flow, (uint32_t)res, bridge->now_ns);
	else
		relay_consume_left(bridge, conn, (uint32_t)res);
	if (conn->state == CONN_RELAYING)
		conn_list_add(bridge, CONN_LINK_DIRTY, conn);
}

void relay_drain(struct bridge *bridge, struct conn *conn)
{
	conn->client_ended = true;
	/* an upstream that never takes the rest must not hold the slot for ever */
	wheel_arm(&bridge->wheel, &conn->timer, bridge->now_ns + bridge->config->tcp.idle_timeout_ns);
	conn_list_add(bridge, CONN_LINK_DIRTY, conn);
}

void relay_begin(struct bridge *bridge, struct conn *conn)
{
	uint16_t segment = stack_send_segment_bytes(conn->flow);

	conn_move(bridge, conn, CONN_RELAYING);
	conn->receive_buffers = 1;
	upstream_prepare_relay(conn->fd);
	/* buffers of whole segments, else the smaller ones */
	while (conn->ring + 1 < BRIDGE_RECV_RINGS && bridge->rings[conn->ring].buffer_bytes % segment)
		conn->ring++;
	if (conn->early_len) {
		stack_send(bridge->stack, conn->flow, conn->frame, conn->early_off, conn->early_len, bridge->now_ns);
		conn->frame = FRAME_NONE;
	} else {
		frame_put(bridge->pool, conn->frame);
		conn->frame = FRAME_NONE;
	}
	if (conn->state != CONN_RELAYING)
		return;
	relay_receive_start(bridge, conn);
	conn_list_add(bridge, CONN_LINK_DIRTY, conn);
}

/* The more there are, the less each time: whoever waits long loses its congestion window (RFC 5681 4.1). */
static uint32_t relay_share_bytes(const struct bridge *bridge)
{
	uint32_t share = RELAY_TURN_BYTES / (bridge->lists[CONN_LINK_RECEIVE].count + 1);

	return MIN(MAX(share, RELAY_SHARE_MIN_BYTES), RELAY_RECEIVE_BYTES);
}

void relay_receive_start(struct bridge *bridge, struct conn *conn)
{
	if (conn->state != CONN_RELAYING || conn->receiving || conn->upstream_ended || !conn->flow ||
	    !stack_send_room(conn->flow))
		return;
	conn->receiving = true;
	if (bridge->uring->recv_bundle) {
		bridge->counters.receive_arms++;
		uring_recv_bundle(bridge->uring, conn_start_op(bridge, conn, CONN_OP_RECV), conn->fd,
				  bridge->rings[conn->ring].group,
				  MIN(stack_send_room(conn->flow), relay_share_bytes(bridge)));
	} else {
		uring_poll_once(bridge->uring, conn_start_op(bridge, conn, CONN_OP_POLL), conn->fd);
	}
}

/* After a reception: behind those that wait for their turn. */
static void relay_receive_again(struct bridge *bridge, struct conn *conn)
{
	if (conn->flow && !stack_send_room(conn->flow))
		bridge->counters.receive_pauses++;
	else
		conn_list_add(bridge, CONN_LINK_RECEIVE, conn);
}

/* What a connection of this ring can receive into now. */
static uint32_t relay_buffers(const struct bridge *bridge, uint32_t ring)
{
	uint32_t pool = frame_pool_free(bridge->pool);

	if (bridge->uring->recv_bundle)
		return bridge->rings[ring].filled;
	return pool > bridge->reserve_frames ? pool - bridge->reserve_frames : 0;
}

bool relay_may_receive(const struct bridge *bridge)
{
	uint32_t first = bridge->lists[CONN_LINK_RECEIVE].head;

	return first != CONN_NONE && relay_buffers(bridge, bridge->conns[first].ring);
}

void relay_receive_waiting(struct bridge *bridge)
{
	struct conn_list *list = &bridge->lists[CONN_LINK_RECEIVE];
	uint32_t bytes = 0, used[BRIDGE_RECV_RINGS] = {0};

	while (list->head != CONN_NONE && bytes < RELAY_TURN_BYTES) {
		const struct conn *first = &bridge->conns[list->head];

		if (used[first->ring] >= relay_buffers(bridge, first->ring))
			return;
		/* as much as it took the last time, so that those with little to receive are many */
		used[first->ring] += first->receive_buffers;
		bytes += first->receive_buffers * bridge->rings[first->ring].buffer_bytes;
		relay_receive_start(bridge, conn_list_take(bridge, CONN_LINK_RECEIVE));
	}
}

static void relay_upstream_ended(struct bridge *bridge, struct conn *conn)
{
	conn->upstream_ended = true;
	if (conn->flow)
		stack_shutdown(bridge->stack, conn->flow, bridge->now_ns);
}

/* The frames of one completion go to the client, or back to the pool when it is gone. */
static void relay_take_bundle(struct bridge *bridge, struct conn *conn, uint16_t first_id, uint32_t bytes)
{
	struct recvring *ring = &bridge->rings[conn->ring];

	conn->receive_buffers = (uint8_t)((bytes + ring->buffer_bytes - 1) / ring->buffer_bytes);
	bridge->counters.upstream_receives++;
	bridge->counters.upstream_receive_bytes += bytes;
	for (uint32_t nth = 0; bytes; nth++) {
		uint16_t len = (uint16_t)(bytes < ring->buffer_bytes ? bytes : ring->buffer_bytes);
		uint32_t frame = recvring_take(ring, first_id, nth);

		bytes -= len;
		if (frame == FRAME_NONE)
			bridge->counters.stale_completions++;
		else if (conn->flow)
			stack_send(bridge->stack, conn->flow, frame, FRAME_PAYLOAD_OFFSET, len, bridge->now_ns);
		else
			frame_put(bridge->pool, frame);
	}
}

void relay_received(struct bridge *bridge, struct conn *conn, int32_t res, uint32_t flags)
{
	conn->receiving = false;
	if (res > 0)
		relay_take_bundle(bridge, conn, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT), (uint32_t)res);
	if (conn->state != CONN_RELAYING)
		return;
	if (res > 0) {
		relay_receive_again(bridge, conn);
	} else if (res == 0) {
		relay_upstream_ended(bridge, conn);
	} else if (res == -ENOBUFS) {
		bridge->counters.receive_no_buffers++;
		conn_list_add_first(bridge, CONN_LINK_RECEIVE, conn);
	} else if (res != -ECANCELED) {
		relay_upstream_reset(bridge, conn);
	}
}

void relay_polled(struct bridge *bridge, struct conn *conn, int32_t res)
{
	uint16_t buffer_bytes = bridge->rings[conn->ring].buffer_bytes;
	struct uring_message *message;
	uint32_t count = 0, share = relay_share_bytes(bridge);

	conn->receiving = false;
	if (conn->state != CONN_RELAYING || !conn->flow)
		return;
	if (res < 0) {
		relay_upstream_reset(bridge, conn);
		return;
	}
	message = uring_message(bridge->uring);
	while (count < URING_IOVECS && (!count || (count + 1) * buffer_bytes <= share) &&
	       relay_buffers(bridge, conn->ring)) {
		uint32_t frame = frame_get(bridge->pool, FRAME_FLOW);

		bridge->pool->frames[frame].next = conn->recvmsg_head;
		conn->recvmsg_head = frame;
		count++;
	}
	/* the list was built head first: the iovecs follow it */
	uint32_t index = conn->recvmsg_head;

	for (uint32_t i = 0; i < count; i++, index = bridge->pool->frames[index].next)
		message->iovecs[i] =
			(struct iovec){frame_data(bridge->pool, index) + FRAME_PAYLOAD_OFFSET, buffer_bytes};
	if (!count) {
		bridge->uring->messages_used--;
		bridge->counters.receive_no_buffers++;
		conn_list_add_first(bridge, CONN_LINK_RECEIVE, conn);
		return;
	}
	conn->receiving = true;
	uring_recvmsg(bridge->uring, conn_start_op(bridge, conn, CONN_OP_RECVMSG), conn->fd, message, count);
}

/* Frames that the message filled go to the client, the rest to the pool. */
static void relay_take_message(struct bridge *bridge, struct conn *conn, uint32_t bytes)
{
	uint16_t buffer_bytes = bridge->rings[conn->ring].buffer_bytes;
	uint32_t index = conn->recvmsg_head;

	conn->recvmsg_head = FRAME_NONE;
	while (index != FRAME_NONE) {
		uint32_t next = bridge->pool->frames[index].next;
		uint16_t len = (uint16_t)(bytes < buffer_bytes ? bytes : buffer_bytes);

		bytes -= len;
		bridge->pool->frames[index].next = FRAME_NONE;
		if (len && conn->flow)
			stack_send(bridge->stack, conn->flow, index, FRAME_PAYLOAD_OFFSET, len, bridge->now_ns);
		else
			frame_put(bridge->pool, index);
		index = next;
	}
}

void relay_received_message(struct bridge *bridge, struct conn *conn, int32_t res)
{
	uint32_t buffer_bytes = bridge->rings[conn->ring].buffer_bytes;

	conn->receiving = false;
	if (res > 0) {
		conn->receive_buffers = (uint8_t)(((uint32_t)res + buffer_bytes - 1) / buffer_bytes);
		bridge->counters.upstream_receives++;
		bridge->counters.upstream_receive_bytes += (uint32_t)res;
	}
	relay_take_message(bridge, conn, res > 0 ? (uint32_t)res : 0);
	if (conn->state != CONN_RELAYING)
		return;
	if (res == 0) {
		relay_upstream_ended(bridge, conn);
	} else if (res < 0 && res != -ECANCELED && res != -EAGAIN) {
		relay_upstream_reset(bridge, conn);
	} else {
		relay_receive_again(bridge, conn);
	}
}
