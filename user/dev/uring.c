/* SPDX-License-Identifier: MIT */
#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"
#include "log.h"

/* Multishot receives complete in bursts; an overflowing queue costs the kernel an allocation per completion. */
#define URING_CQ_ENTRIES 8192

static int uring_setup(struct uring *uring, uint32_t entries, unsigned int flags, struct io_uring_params *params)
{
	memset(params, 0, sizeof(*params));
	params->flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
	params->cq_entries = URING_CQ_ENTRIES;
	return io_uring_queue_init_params(entries, &uring->ring, params);
}

int uring_create(struct uring *uring, uint32_t entries, bool allow_bundle)
{
	struct io_uring_params params;
	int err;

	memset(uring, 0, sizeof(*uring));
	uring->messages = calloc(URING_MESSAGES, sizeof(*uring->messages));
	if (!uring->messages)
		return -ENOMEM;
	/*
	 * SINGLE_ISSUER: only one thread submits, the kernel saves locking. DEFER_TASKRUN (6.1): completions are
	 * made when we ask, not by interrupting us. Without it everything works, with more wake-ups.
	 */
	err = uring_setup(uring, entries, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, &params);
	uring->defer_taskrun = !err;
	if (err == -EINVAL)
		err = uring_setup(uring, entries, 0, &params);
	if (err) {
		free(uring->messages);
		uring->messages = NULL;
		return err;
	}
	uring->recv_bundle = allow_bundle && (params.features & IORING_FEAT_RECVSEND_BUNDLE);
	return 0;
}

int uring_enable(struct uring *uring)
{
	/* liburing 2.3 declares io_uring_enable_rings() and does not export it */
	return io_uring_register((unsigned int)uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

void uring_destroy(struct uring *uring)
{
	if (!uring->messages)
		return;
	io_uring_queue_exit(&uring->ring);
	free(uring->messages);
	uring->messages = NULL;
}

static void uring_note_queued(struct uring *uring)
{
	uring->queued = io_uring_sq_ready(&uring->ring);
	if (uring->queued > uring->peak)
		uring->peak = uring->queued;
}

void uring_submit(struct uring *uring)
{
	int err;

	uring_note_queued(uring);
	uring->submits++;
	err = io_uring_submit_and_get_events(&uring->ring);
	/* the kernel copied every msghdr, iovec and address (IORING_FEAT_SUBMIT_STABLE) */
	if (!io_uring_sq_ready(&uring->ring))
		uring->messages_used = 0;
	if (err < 0 && err != -EINTR && err != -EAGAIN && err != -EBUSY)
		log_error("io_uring: submitting failed: %s", strerror(-err));
}

void uring_wait(struct uring *uring, uint64_t timeout_ns)
{
	struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000),
					    .tv_nsec = (long long)(timeout_ns % 1000000000)};
	struct io_uring_cqe *cqe;
	int err;

	uring_note_queued(uring);
	uring->waits++;
	err = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
	if (!io_uring_sq_ready(&uring->ring))
		uring->messages_used = 0;
	if (err < 0 && err != -ETIME && err != -EINTR && err != -EAGAIN && err != -EBUSY)
		log_error("io_uring: waiting failed: %s", strerror(-err));
}

struct io_uring_sqe *uring_sqe(struct uring *uring, union uring_word word)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&uring->ring))) {
		uring->full++;
		uring_submit(uring);
	}
	io_uring_sqe_set_data64(sqe, word.u64);
	return sqe;
}

/* The prep functions of liburing 2.3 clear user_data, so it is set again after each. */
#define URING_PREP(uring, word, prep, ...)                                                                             \
	({                                                                                                             \
		struct io_uring_sqe *sqe_ = uring_sqe(uring, word);                                                    \
                                                                                                                       \
		prep(sqe_, __VA_ARGS__);                                                                               \
		io_uring_sqe_set_data64(sqe_, (word).u64);                                                             \
		sqe_;                                                                                                  \
	})

void uring_poll_multishot(struct uring *uring, union uring_word word, int fd)
{
	URING_PREP(uring, word, io_uring_prep_poll_multishot, fd, POLLIN);
}

void uring_poll_once(struct uring *uring, union uring_word word, int fd)
{
	URING_PREP(uring, word, io_uring_prep_poll_add, fd, POLLIN);
}

void uring_connect(struct uring *uring, union uring_word word, int fd, const struct sockaddr *addr, socklen_t len)
{
	URING_PREP(uring, word, io_uring_prep_connect, fd, addr, len);
}

void uring_send(struct uring *uring, union uring_word word, int fd, const void *data, uint32_t len)
{
	URING_PREP(uring, word, io_uring_prep_send, fd, data, len, MSG_WAITALL | MSG_NOSIGNAL);
}

void uring_recv(struct uring *uring, union uring_word word, int fd, void *data, uint32_t len)
{
	URING_PREP(uring, word, io_uring_prep_recv, fd, data, len, 0);
}

void uring_recv_bundle(struct uring *uring, union uring_word word, int fd, uint16_t group, uint32_t max_bytes)
{
	struct io_uring_sqe *sqe = URING_PREP(uring, word, io_uring_prep_recv, fd, NULL, max_bytes, 0);

	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = group;
	sqe->ioprio |= IORING_RECVSEND_BUNDLE;
}

void uring_recv_buffers(struct uring *uring, union uring_word word, int fd, uint16_t group)
{
	struct io_uring_sqe *sqe = URING_PREP(uring, word, io_uring_prep_recv_multishot, fd, NULL, 0, 0);

	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = group;
}

struct uring_message *uring_message(struct uring *uring)
{
	struct uring_message *message;

	while (uring->messages_used == URING_MESSAGES)
		uring_submit(uring);
	message = &uring->messages[uring->messages_used++];
	memset(&message->header, 0, sizeof(message->header));
	message->header.msg_iov = message->iovecs;
	return message;
}

void uring_sendmsg(struct uring *uring, union uring_word word, int fd, struct uring_message *message, uint32_t iovecs)
{
	message->header.msg_iovlen = iovecs;
	URING_PREP(uring, word, io_uring_prep_sendmsg, fd, &message->header, MSG_WAITALL | MSG_NOSIGNAL);
}

void uring_recvmsg(struct uring *uring, union uring_word word, int fd, struct uring_message *message, uint32_t iovecs)
{
	message->header.msg_iovlen = iovecs;
	URING_PREP(uring, word, io_uring_prep_recvmsg, fd, &message->header, MSG_DONTWAIT);
}

void uring_send_datagram(struct uring *uring, union uring_word word, int fd, struct uring_message *message,
			 uint32_t iovecs)
{
	message->header.msg_iovlen = iovecs;
	URING_PREP(uring, word, io_uring_prep_sendmsg, fd, &message->header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void uring_recv_datagrams(struct uring *uring, union uring_word word, int fd, struct msghdr *header, uint16_t group)
{
	struct io_uring_sqe *sqe = URING_PREP(uring, word, io_uring_prep_recvmsg_multishot, fd, header, MSG_TRUNC);

	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = group;
}

void uring_cancel_fd(struct uring *uring, union uring_word word, int fd)
{
	URING_PREP(uring, word, io_uring_prep_cancel_fd, fd, IORING_ASYNC_CANCEL_ALL);
}

void uring_cancel(struct uring *uring, union uring_word word, union uring_word target)
{
	URING_PREP(uring, word, io_uring_prep_cancel64, target.u64, 0);
}
