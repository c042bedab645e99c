/* SPDX-License-Identifier: MIT */
/*
 * The io_uring of one worker, behind verbs for what the worker does with it.
 * Created on any thread, used only by the one that called uring_enable().
 *
 * user_data is an index, a generation and an op, never a pointer: a late
 * completion of a recycled slot is recognised and dropped by its owner.
 */
#ifndef SOCKSPLICE_URING_H
#define SOCKSPLICE_URING_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Most frames in one sendmsg: throughput still grows up to here, and 128 * 1448 B fit a send buffer. */
#define URING_IOVECS 128
/* sendmsg calls prepared between two submissions; their iovecs must stay until the kernel has copied them. */
#define URING_MESSAGES 64

union uring_word {
	struct {
		uint32_t index;
		uint16_t generation;
		uint8_t op;
		uint8_t pad;
	};
	uint64_t u64;
};

struct uring_message {
	struct msghdr header;
	struct iovec iovecs[URING_IOVECS];
};

struct uring {
	struct io_uring ring;
	bool defer_taskrun;
	bool recv_bundle;
	uint32_t messages_used;
	struct uring_message *messages; /* URING_MESSAGES */
	uint64_t submits, completions, waits;
	uint32_t queued, peak; /* entries that the last submission took, and the most that one did */
	uint64_t full;         /* times that the queue had to be submitted to make room */
};

/*
 * entries: submission queue size. allow_bundle false: as on a kernel before 6.10. 0 or -errno; older kernels get
 * fewer setup flags (defer_taskrun tells).
 */
int uring_create(struct uring *uring, uint32_t entries, bool allow_bundle);
/* The calling thread becomes the ring's only user. 0 or -errno. */
int uring_enable(struct uring *uring);
void uring_destroy(struct uring *uring);

/* A submission entry, always: submits what is there first when the queue is full. */
struct io_uring_sqe *uring_sqe(struct uring *uring, union uring_word word);

void uring_poll_multishot(struct uring *uring, union uring_word word, int fd);
void uring_poll_once(struct uring *uring, union uring_word word, int fd);
/* The address is copied before the next submission returns. */
void uring_connect(struct uring *uring, union uring_word word, int fd, const struct sockaddr *addr, socklen_t len);
/* Sends all of it (MSG_WAITALL), however often the socket buffer fills. */
void uring_send(struct uring *uring, union uring_word word, int fd, const void *data, uint32_t len);
void uring_recv(struct uring *uring, union uring_word word, int fd, void *data, uint32_t len);
/* Receives once, what is there, into as many buffers of the ring of group `group` as that needs. */
void uring_recv_bundle(struct uring *uring, union uring_word word, int fd, uint16_t group, uint32_t max_bytes);
/* Room for one message; fill header-less iovecs, then uring_sendmsg() or uring_recvmsg() with it. */
struct uring_message *uring_message(struct uring *uring);
void uring_sendmsg(struct uring *uring, union uring_word word, int fd, struct uring_message *message, uint32_t iovecs);
void uring_recvmsg(struct uring *uring, union uring_word word, int fd, struct uring_message *message, uint32_t iovecs);
/* For datagrams: what the socket has no room for now fails with -EAGAIN. */
void uring_send_datagram(struct uring *uring, union uring_word word, int fd, struct uring_message *message,
			 uint32_t iovecs);
/*
 * Receives datagrams, one per completion, into buffers of group `group`; each begins with struct io_uring_recvmsg_out.
 * `header`: its controllen says how much room control data gets; it must stay.
 */
void uring_recv_datagrams(struct uring *uring, union uring_word word, int fd, struct msghdr *header, uint16_t group);
/* Multishot reception of a stream into buffers of that group, one per completion. */
void uring_recv_buffers(struct uring *uring, union uring_word word, int fd, uint16_t group);
/* Cancels everything on fd; `word` completes after. */
void uring_cancel_fd(struct uring *uring, union uring_word word, int fd);
/* Cancels the operation whose user_data is `target`. */
void uring_cancel(struct uring *uring, union uring_word word, union uring_word target);

/* Hands over what was prepared and runs due completions, without sleeping. */
void uring_submit(struct uring *uring);
/* The same, then sleeps until a completion or until timeout_ns has passed (UINT64_MAX: no limit). */
void uring_wait(struct uring *uring, uint64_t timeout_ns);

#endif
