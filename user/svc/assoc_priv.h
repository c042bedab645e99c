/* SPDX-License-Identifier: MIT */
/* What the files of the associations share: one association, and all of them. */
#ifndef SOCKSPLICE_ASSOC_PRIV_H
#define SOCKSPLICE_ASSOC_PRIV_H

#include "assoc.h"
#include "base.h"
#include "socks.h"
#include "udp.h"
#include "udpmap.h"
#include "wheel.h"

#define ASSOC_NONE UINT32_MAX
/* Of a refused datagram, for the ICMP error that may come later: an IPv6 header and eight bytes. */
#define ASSOC_QUOTE_BYTES 48

/* name, text, states that may follow */
#define ASSOC_STATES(X)                                                                                                \
	X(FREE, "free", BIT(ASSOC_DIALING))                                                                            \
	X(DIALING, "dialing", BIT(ASSOC_GREETING) | BIT(ASSOC_REFUSED) | BIT(ASSOC_CLOSING))                           \
	X(GREETING, "greeting",                                                                                        \
	  BIT(ASSOC_AUTHENTICATING) | BIT(ASSOC_REQUESTING) | BIT(ASSOC_REFUSED) | BIT(ASSOC_CLOSING))                 \
	X(AUTHENTICATING, "authenticating", BIT(ASSOC_REQUESTING) | BIT(ASSOC_REFUSED) | BIT(ASSOC_CLOSING))           \
	X(REQUESTING, "requesting", BIT(ASSOC_READY) | BIT(ASSOC_REFUSED) | BIT(ASSOC_CLOSING))                        \
	X(READY, "ready", BIT(ASSOC_REFUSED) | BIT(ASSOC_CLOSING))                                                     \
	X(REFUSED, "refused", BIT(ASSOC_CLOSING))                                                                      \
	X(CLOSING, "closing", BIT(ASSOC_FREE))

enum assoc_state {
#define X(name, text, next) ASSOC_##name,
	ASSOC_STATES(X)
#undef X
		ASSOC_STATE_COUNT
};

enum assoc_op {
	ASSOC_OP_CONNECT = ASSOC_FIRST_OP,
	ASSOC_OP_HANDSHAKE_SEND,
	ASSOC_OP_HANDSHAKE_RECV,
	ASSOC_OP_WATCH, /* the control connection: its end */
	ASSOC_OP_RECV,  /* multishot: of the UDP socket, or of the stream */
	ASSOC_OP_STREAM_SEND,
	ASSOC_OP_SEND, /* its word names the first frame, whose seq is the slot */
	ASSOC_OP_CANCEL,
};

/* Buffer group of all receptions; those below are the bridge's. */
#define ASSOC_RECV_GROUP 16
/* The largest datagram, what the kernel tells about it, and a SOCKS5 header of any kind. */
#define ASSOC_BUFFER_BYTES (65536 + 512)
/* A message that is not whole yet, and what comes behind it; in front of a payload 8 bytes are written (stack.h). */
#define ASSOC_STREAM_BYTES (2 * ASSOC_BUFFER_BYTES)

/* Where things lie in the frame of a handshake. */
#define ASSOC_SEND_OFFSET 0
#define ASSOC_AUTH_OFFSET (ASSOC_SEND_OFFSET + SOCKS_GREETING_MAX_BYTES)
#define ASSOC_REQUEST_OFFSET (ASSOC_AUTH_OFFSET + SOCKS_AUTH_MAX_BYTES)
#define ASSOC_RECV_OFFSET 1024
#define ASSOC_RECV_BYTES 512
#define ASSOC_HANDSHAKE_OFFSET 1536

_Static_assert(ASSOC_REQUEST_OFFSET + SOCKS_CONNECT_MAX_BYTES <= ASSOC_RECV_OFFSET, "messages overlap");
_Static_assert(ASSOC_HANDSHAKE_OFFSET + sizeof(struct socks_handshake) <= 2048, "beyond the smallest frame");

struct assoc {
	uint8_t state;
	bool handling; /* a completion is being handled */
	bool cancelling;
	bool receiving; /* a recvmsg is armed */
	bool starved;   /* in the list of those that wait for buffers */
	bool carried;   /* the kernel's, with both keys */
	bool stream;    /* `udp: tcp`: datagrams go through the control connection */
	uint16_t generation;
	uint16_t in_flight; /* completions that will still come */
	uint16_t pending;   /* bit per enum assoc_op: those of them that can be cancelled */
	uint16_t port;      /* of the stack */
	uint16_t quote_bytes;
	uint32_t entry; /* of the table and of the kernel's; UDP_NONE: gone */
	uint32_t next;  /* free list, or list of the starved */
	int control_fd, udp_fd;
	uint32_t frame;         /* of the handshake; FRAME_NONE outside of it */
	uint32_t sending;       /* stream: first frames of the messages that the kernel reads, linked by seq */
	uint32_t sending_bytes; /* of all these */
	uint32_t partial;       /* stream: frames with the beginning of a message */
	struct upstream *upstream;
	struct build_link link; /* toward the client; src is where it sent last */
	struct endpoint relay, own;
	struct wheel_timer timer;
	uint64_t created_ns;
	uint64_t packets_up, packets_down, bytes_up, bytes_down; /* by user space */
	uint8_t quote[ASSOC_QUOTE_BYTES];                        /* of the last datagram before it was ready */
};

struct assocs {
	const struct config *config;
	struct uring *uring;
	struct frame_pool *pool;
	struct stack *stack;
	struct assoc_calls calls;
	struct udp_table *table;
	struct udpmap map;
	bool map_open;
	struct assoc *list;
	uint32_t *owners; /* table entry -> slot */
	uint32_t count, used, free_head, close_cursor;
	uint32_t state_counts[ASSOC_STATE_COUNT];
	uint32_t carried;
	uint32_t starved_head;
	bool stopping;
	uint64_t now_ns;
	struct wheel wheel;
	struct assoc_counters counters;

	/* receive buffers of all UDP sockets (assoc_relay.c) */
	struct io_uring_buf_ring *ring;
	uint8_t *buffers;
	struct msghdr receive_header;
	uint8_t *stream; /* ASSOC_STREAM_BYTES (assoc_stream.c) */
};

/* assoc.c */
static inline uint32_t assoc_index(const struct assocs *assocs, const struct assoc *assoc)
{
	return (uint32_t)(assoc - assocs->list);
}
void assoc_move(struct assocs *assocs, struct assoc *assoc, enum assoc_state to);
union uring_word assoc_start_op(struct assocs *assocs, struct assoc *assoc, enum assoc_op op);
/* Ends it: keys, queue and table entry go at once, the slot when the last completion has come. */
void assoc_close(struct assocs *assocs, struct assoc *assoc);
/* After a completion was handled: the slot is free if that was the last of a closing one. */
void assoc_finish(struct assocs *assocs, struct assoc *assoc);
/* There will be none for now: tells the client, and remembers it for a moment. */
void assoc_refuse(struct assocs *assocs, struct assoc *assoc, enum stack_error error);
void assoc_arm(struct assocs *assocs, struct assoc *assoc, uint64_t after_ns);

/* assoc_dial.c: from the dial to the reply */
/* An unconnected TCP socket, or -errno. */
int assoc_open_control(struct assocs *assocs, struct upstream *upstream);
void assoc_dial(struct assocs *assocs, struct assoc *assoc);
void assoc_connected(struct assocs *assocs, struct assoc *assoc, int32_t res);
void assoc_handshake_sent(struct assocs *assocs, struct assoc *assoc, int32_t res);
void assoc_handshake_received(struct assocs *assocs, struct assoc *assoc, int32_t res);
void assoc_dial_timed_out(struct assocs *assocs, struct assoc *assoc);

/* assoc_relay.c: datagrams by the socket */
int assoc_relay_create(struct assocs *assocs);
void assoc_relay_destroy(struct assocs *assocs);
/* Opens the UDP socket toward assoc->relay. 0 or -errno. */
int assoc_relay_open(struct assocs *assocs, struct assoc *assoc);
void assoc_relay_receive(struct assocs *assocs, struct assoc *assoc);
void assoc_relay_received(struct assocs *assocs, struct assoc *assoc, int32_t res, uint32_t flags);
/* Puts the header with the destination in front of the payload: there were headers in its frame. */
void assoc_relay_address(struct assocs *assocs, const struct assoc *assoc, const struct stack_datagram *datagram,
			 uint32_t frame);
/* Sends a chain that begins with that header, and takes its frames (FRAME_FLOW). */
void assoc_relay_send(struct assocs *assocs, struct assoc *assoc, uint32_t frame);
void assoc_relay_sent(struct assocs *assocs, uint32_t frame, int32_t res);
void assoc_relay_feed_starved(struct assocs *assocs);
void assoc_put_frames(struct assocs *assocs, uint32_t frame);

/* A datagram of `remote` for the client, with room for 8 bytes in front of it. */
void assoc_relay_deliver(struct assocs *assocs, struct assoc *assoc, const struct endpoint *remote, uint8_t *data,
			 size_t bytes);
/* Waits for a buffer. */
void assoc_relay_starve(struct assocs *assocs, struct assoc *assoc);

/* assoc_stream.c: datagrams by the control connection */
void assoc_stream_send(struct assocs *assocs, struct assoc *assoc);
void assoc_stream_sent(struct assocs *assocs, struct assoc *assoc, int32_t res);
void assoc_stream_receive(struct assocs *assocs, struct assoc *assoc);
void assoc_stream_take(struct assocs *assocs, struct assoc *assoc, const uint8_t *data, size_t len);
/* Gives back what it still holds, once nothing is in flight. */
void assoc_stream_put(struct assocs *assocs, struct assoc *assoc);

/* assoc_kernel.c: the kernel's part */
void assoc_kernel_take(struct assocs *assocs, struct assoc *assoc);
void assoc_kernel_release(struct assocs *assocs, struct assoc *assoc);
/* Traffic that user space has not seen is noted in the table. */
void assoc_kernel_note(struct assocs *assocs, struct assoc *assoc);

#endif
