/* SPDX-License-Identifier: MIT */
/*
 * Payload between an established flow and its upstream socket.
 *
 * Up: what the client sent stays in its frames; one sendmsg of up to
 * URING_IOVECS of them is in flight per connection, and the frames are freed
 * when it completes. Down: bundled multishot reception into frames, each of
 * which is handed to the stack as one segment; a client that does not keep up
 * (no room in its send queue) pauses the reception, so that the upstream's
 * window closes. Kernels without bundles: poll, then recvmsg over frames.
 */
#include "bridge_priv.h"

#include <errno.h>

#define RELAY_RECVMSG_FRAMES 16

static void relay_upstream_reset(struct bridge *bridge, struct conn *conn)
{
	bridge->counters.upstream_resets++;
	conn->end = RECORD_END_UPSTREAM_RESET;
	conn_abort(bridge, conn);
}

/* Payload that waits for the upstream: in the flow, or left behind by it. */
static uint32_t relay_peek(const struct bridge *bridge, const struct conn *conn, struct iovec *iov, uint32_t *bytes)
{
	uint32_t count = 0;

	*bytes = 0;
	if (conn->flow) {
		count = stack_peek(bridge->stack, conn->flow, 0, iov, URING_IOVECS);
	} else {
		for (uint32_t i = conn->left_head; i != FRAME_NONE && count < URING_IOVECS;
		     i = bridge->pool->frames[i].next) {
			const struct frame *frame = &bridge->pool->frames[i];

			iov[count++] = (struct iovec){frame_data(bridge->pool, i) + frame->off, frame->len};
		}
	}
	for (uint32_t i = 0; i < count; i++)
		*bytes += (uint32_t)iov[i].iov_len;
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
	uint32_t count, bytes;

	if (conn->state != CONN_RELAYING || conn->sending)
		return;
	message = uring_message(bridge->uring);
	count = relay_peek(bridge, conn, message->iovecs, &bytes);
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
	upstream_prepare_relay(conn->fd);
	/* rings are ordered by falling buffer size: the largest whose buffers fit one segment */
	while (conn->ring + 1 < BRIDGE_RECV_RINGS && bridge->rings[conn->ring].buffer_bytes > segment)
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

void relay_receive_start(struct bridge *bridge, struct conn *conn)
{
	if (conn->state != CONN_RELAYING || conn->receiving || conn->upstream_ended || !conn->flow ||
	    !stack_send_room(conn->flow))
		return;
	conn->receiving = true;
	if (bridge->uring->recv_bundle) {
		bridge->counters.receive_arms++;
		uring_recv_bundle(bridge->uring, conn_start_op(bridge, conn, CONN_OP_RECV), conn->fd,
				  bridge->rings[conn->ring].group);
	} else {
		uring_poll_once(bridge->uring, conn_start_op(bridge, conn, CONN_OP_POLL), conn->fd);
	}
}

static void relay_pause(struct bridge *bridge, struct conn *conn)
{
	union uring_word target = {
		.index = conn_index(bridge, conn), .generation = conn->generation, .op = CONN_OP_RECV};

	if (conn->pausing)
		return;
	conn->pausing = true;
	bridge->counters.receive_pauses++;
	uring_cancel(bridge->uring, conn_start_op(bridge, conn, CONN_OP_CANCEL), target);
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
	if (!(flags & IORING_CQE_F_MORE))
		conn->receiving = conn->pausing = false;
	if (res > 0)
		relay_take_bundle(bridge, conn, (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT), (uint32_t)res);
	if (conn->state != CONN_RELAYING)
		return;
	if (res == 0) {
		relay_upstream_ended(bridge, conn);
	} else if (res == -ENOBUFS) {
		bridge->counters.receive_no_buffers++;
		conn_list_add(bridge, CONN_LINK_STARVED, conn);
	} else if (res < 0 && res != -ECANCELED) {
		relay_upstream_reset(bridge, conn);
	} else if (!conn->receiving) {
		relay_receive_start(bridge, conn);
	} else if (conn->flow && !stack_send_room(conn->flow)) {
		relay_pause(bridge, conn);
	}
}

void relay_polled(struct bridge *bridge, struct conn *conn, int32_t res)
{
	uint16_t buffer_bytes = bridge->rings[conn->ring].buffer_bytes;
	struct uring_message *message;
	uint32_t count = 0;

	conn->receiving = false;
	if (conn->state != CONN_RELAYING || !conn->flow)
		return;
	if (res < 0) {
		relay_upstream_reset(bridge, conn);
		return;
	}
	message = uring_message(bridge->uring);
	while (count < RELAY_RECVMSG_FRAMES) {
		uint32_t frame = frame_get(bridge->pool, FRAME_FLOW);

		if (frame == FRAME_NONE)
			break;
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
		conn_list_add(bridge, CONN_LINK_STARVED, conn);
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
	conn->receiving = false;
	if (res > 0) {
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
		relay_receive_start(bridge, conn);
	}
}
