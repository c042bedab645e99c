/* SPDX-License-Identifier: MIT */
/*
 * `udp: tcp`: datagrams inside the control connection (core/socks_udp.h has the
 * wire form), for upstreams whose UDP ports cannot be reached.
 *
 * Up, messages wait in the table's queue of the association, bounded in count
 * and bytes: a stream that stands still holds up all behind it (head of line),
 * and what is too late for a client is better lost. One sendmsg at a time takes
 * as many of them as it has vectors for.
 *
 * Down, what is received ends anywhere. The incomplete message at the end stays
 * in frames of the pool until the rest comes.
 */
#include "assoc_priv.h"

#include <string.h>

#include "socks_udp.h"

void assoc_stream_send(struct assocs *assocs, struct assoc *assoc)
{
	struct uring_message *message;
	const struct frame_pool *pool = assocs->pool;
	uint32_t count = 0, bytes = 0, frames, last = FRAME_NONE;

	if (assoc->sending != FRAME_NONE || assoc->state != ASSOC_READY ||
	    !udp_queued_frames(assocs->table, assoc->entry))
		return;
	message = uring_message(assocs->uring);
	while ((frames = udp_queued_frames(assocs->table, assoc->entry)) && count + frames <= URING_IOVECS) {
		uint32_t frame = udp_dequeue(assocs->table, assoc->entry), whole = 0;

		for (uint32_t i = frame; i != FRAME_NONE; i = pool->frames[i].next) {
			const struct frame *part = &pool->frames[i];

			message->iovecs[count++] = (struct iovec){frame_data(pool, i) + part->off, part->len};
			whole += part->len;
		}
		bytes += whole;
		/* the list of what the kernel reads, by the first frames */
		pool->frames[frame].seq = FRAME_NONE;
		if (last == FRAME_NONE)
			assoc->sending = frame;
		else
			pool->frames[last].seq = frame;
		last = frame;
		whole -= frame_data(pool, frame)[pool->frames[frame].off + 2];
		assoc->packets_up++;
		assoc->bytes_up += whole;
		assocs->counters.sent++;
		assocs->counters.sent_bytes += whole;
	}
	assoc->sending_bytes = bytes;
	uring_sendmsg(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_STREAM_SEND), assoc->control_fd, message,
		      count);
}

void assoc_stream_put(struct assocs *assocs, struct assoc *assoc)
{
	while (assoc->sending != FRAME_NONE) {
		uint32_t next = assocs->pool->frames[assoc->sending].seq;

		assoc_put_frames(assocs, assoc->sending);
		assoc->sending = next;
	}
	assoc_put_frames(assocs, assoc->partial);
	assoc->partial = FRAME_NONE;
}

void assoc_stream_sent(struct assocs *assocs, struct assoc *assoc, int32_t res)
{
	bool whole = res > 0 && (uint32_t)res == assoc->sending_bytes;

	while (assoc->sending != FRAME_NONE) {
		uint32_t next = assocs->pool->frames[assoc->sending].seq;

		assoc_put_frames(assocs, assoc->sending);
		assoc->sending = next;
	}
	if (assoc->state != ASSOC_READY)
		return;
	/* nobody can tell where the next message would begin */
	if (!whole) {
		assocs->counters.control_ended++;
		assoc_close(assocs, assoc);
		return;
	}
	assoc_stream_send(assocs, assoc);
}

void assoc_stream_receive(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc->receiving || assoc->state != ASSOC_READY)
		return;
	assoc->receiving = true;
	uring_recv_buffers(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_RECV), assoc->control_fd,
			   ASSOC_RECV_GROUP);
}

/* What is left of the last reception, in front of what has just come. */
static size_t assoc_stream_join(struct assocs *assocs, struct assoc *assoc, const uint8_t *data, size_t len)
{
	size_t have = 0;

	for (uint32_t i = assoc->partial; i != FRAME_NONE; i = assocs->pool->frames[i].next) {
		const struct frame *part = &assocs->pool->frames[i];

		memcpy(assocs->stream + have, frame_data(assocs->pool, i), part->len);
		have += part->len;
	}
	assoc_put_frames(assocs, assoc->partial);
	assoc->partial = FRAME_NONE;
	memcpy(assocs->stream + have, data, len);
	return have + len;
}

/* false: no frames for it. */
static bool assoc_stream_keep(struct assocs *assocs, struct assoc *assoc, const uint8_t *data, size_t len)
{
	uint32_t *link = &assoc->partial;

	while (len) {
		size_t bytes = MIN(len, (size_t)assocs->pool->frame_bytes);
		uint32_t frame = frame_get(assocs->pool, FRAME_FLOW);

		if (frame == FRAME_NONE)
			return false;
		memcpy(frame_data(assocs->pool, frame), data, bytes);
		assocs->pool->frames[frame].len = (uint16_t)bytes;
		*link = frame;
		link = &assocs->pool->frames[frame].next;
		data += bytes;
		len -= bytes;
	}
	return true;
}

void assoc_stream_take(struct assocs *assocs, struct assoc *assoc, const uint8_t *data, size_t len)
{
	size_t have = assoc_stream_join(assocs, assoc, data, len), at = 0, data_at, data_bytes;
	struct endpoint remote;
	long used;

	udp_touch(assocs->table, assoc->entry, assocs->now_ns);
	assocs->counters.received_batches++;
	while ((used = socks_udp_tcp_parse(assocs->stream + at, have - at, &remote, &data_at, &data_bytes)) > 0) {
		assoc_relay_deliver(assocs, assoc, &remote, assocs->stream + at + data_at, data_bytes);
		at += (size_t)used;
	}
	if (used < 0)
		assocs->counters.received_malformed++;
	if (used < 0 || !assoc_stream_keep(assocs, assoc, assocs->stream + at, have - at))
		assoc_close(assocs, assoc);
}
