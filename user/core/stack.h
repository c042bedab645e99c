/* SPDX-License-Identifier: MIT */
/*
 * The packet stack of one worker: terminates the clients' TCP connections.
 * Pure: packets, time (`now_ns`, CLOCK_MONOTONIC) and randomness come in as
 * arguments, packets leave by the `transmit` call-back, what happened to a
 * flow is told by the other call-backs. No system call, no clock, no
 * allocation after stack_create().
 *
 * A flow's life as its owner (the bridge) sees it:
 *
 *   flow_opened ──► stack_accept() ──► flow_established ──► flow_readable / flow_writable ... ──► flow_closed
 *              ├──► stack_refuse()  (RST or ICMP; no flow_closed follows)
 *              └──► stack_hand_over()  (somebody else answers; no flow_closed follows)
 *
 * flow_closed is called exactly once for every flow that was opened and not
 * refused or handed over by the owner; afterwards the owner must not use the
 * flow. When both sides closed in order it comes as the flow enters TIME_WAIT
 * (or LAST_ACK is acknowledged): nothing more arrives then, and what the owner
 * has not consumed it takes inside the call-back by stack_take_receive_queue().
 * With `early_accept` the SYN-ACK is sent at once and flow_opened comes when
 * the client's handshake is complete; stack_accept() is then a no-op.
 */
#ifndef SOCKSPLICE_STACK_H
#define SOCKSPLICE_STACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "addr.h"
#include "build.h"
#include "frame.h"
#include "stats_abi.h"

struct stack;
struct flow;
struct packet_view;
struct reassembly_counters;

/* A received or sent packet's port; ports are numbered by the worker. */
struct stack_port {
	uint8_t mac[6];
	uint16_t mtu;
	/* Virtual device (veth, tap): a TCP checksum field that holds just the folded pseudo-header sum is the
	 * local sender's CHECKSUM_PARTIAL and is accepted. */
	bool partial_checksum_ok;
	/* own addresses there, IPv4 and IPv6, which errors about expired packets come from; zero: none */
	struct addr own[2];
	/* It writes TCP checksums and cuts packets into segments: it is given packets of several segments (GSO), and
	 * the TCP checksum field of all packets is zero. */
	bool offload;
};

enum flow_end {
	FLOW_END_CLOSED,       /* both directions finished in order */
	FLOW_END_CLIENT_RESET, /* the client sent an acceptable RST */
	FLOW_END_ABORTED,      /* the owner called stack_abort() */
	FLOW_END_TIMED_OUT,    /* retransmissions, handshake, or keep-alive got no answer */
	FLOW_END_IDLE,         /* nothing for idle_timeout_ns */
	FLOW_END_EVICTED,      /* a half-open flow gave way to a newer one (limits below) */
};

/* How to tell a waiting client that its connection will not be. */
enum flow_refusal {
	REFUSE_RESET,            /* RST, ACK of the SYN */
	REFUSE_NET_UNREACHABLE,  /* ICMP type 3 code 0; ICMPv6 type 1 code 0 */
	REFUSE_HOST_UNREACHABLE, /* ICMP type 3 code 1; ICMPv6 type 1 code 3 */
	REFUSE_TTL_EXPIRED,      /* ICMP type 11 code 0; ICMPv6 type 3 code 0 */
	REFUSE_ADMIN_PROHIBITED, /* ICMP type 3 code 13; ICMPv6 type 1 code 1 */
	REFUSE_SILENTLY,
};

/* What becomes of a packet that belongs to no flow. */
enum stack_judgement {
	STACK_TAKE,   /* a SYN opens a flow, other TCP is answered with RST; a UDP datagram is delivered */
	STACK_REJECT, /* TCP: RST; else ICMP, administratively prohibited */
	STACK_IGNORE,
};

/* A client's UDP datagram, checked. */
struct stack_datagram {
	struct build_link link; /* toward the client: dst is the client, src what it sent to */
	uint16_t port;
	uint32_t frames;       /* chain with just the payload, FRAME_RX; who keeps it sets FRAME_NONE here */
	uint32_t bytes;        /* payload */
	uint32_t packet_bytes; /* of the IP packet that it came in; of the reassembled one, if in several */
	bool dont_fragment;    /* it must not be cut on its way: IPv4 DF, or IPv6 in one piece */
	/* the packet from its IP header on, for an ICMP error: of a fragmented one the first. Gone with the frames. */
	const uint8_t *quote;
	uint16_t quote_bytes;
};

/* ICMP errors about datagrams. */
enum stack_error {
	STACK_ERROR_PORT_UNREACHABLE,
	STACK_ERROR_HOST_UNREACHABLE,
	STACK_ERROR_PROHIBITED,
	STACK_ERROR_TOO_BIG, /* with the MTU that the packet's way has */
	STACK_ERROR_TTL_EXPIRED,
	STACK_ERROR_COUNT,
};

struct stack_callbacks {
	void *ctx;
	/*
	 * Sends frame bytes [off, off+len) out of `port`. 0: taken, the frame is marked by frame_tx_start().
	 * -EAGAIN: the ring is full, nothing happened; stack_flush() will try data again.
	 * segment_bytes: not 0 on ports with `offload` only: the payload of each segment that the packet is to be cut
	 * into; the last may be shorter.
	 */
	int (*transmit)(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes);
	void (*flow_opened)(void *ctx, struct flow *flow);
	void (*flow_established)(void *ctx, struct flow *flow);
	void (*flow_readable)(void *ctx, struct flow *flow); /* more in-order payload, or the client's FIN is next */
	void (*flow_writable)(void *ctx, struct flow *flow); /* stack_send_room() became > 0 after having been 0 */
	void (*flow_closed)(void *ctx, struct flow *flow, enum flow_end why);
	/* The client sent its SYN again while the flow is held; the owner may answer or end it. NULL: not wanted. */
	void (*flow_syn_again)(void *ctx, struct flow *flow);
	/*
	 * May a packet that belongs to no flow have an answer? `has_port`: view->dport is known. NULL: all TCP is
	 * taken, and nothing else is expected.
	 */
	enum stack_judgement (*judge)(void *ctx, const struct packet_view *view, bool has_port);
	/* A datagram for somebody else, which `judge` wants to be taken. NULL: UDP is ignored. */
	void (*datagram)(void *ctx, struct stack_datagram *datagram);
	/* The flow's slot is free from now on, TIME_WAIT is over; opened, refused or handed over. NULL: not wanted. */
	void (*flow_released)(void *ctx, struct flow *flow);
};

/* Of the settings below, those that can be changed while flows live. Timers that run go on as they were started. */
struct stack_limits {
	uint32_t half_open, half_open_per_source;
	uint64_t handshake_timeout_ns, idle_timeout_ns, time_wait_ns;
};

struct stack_settings {
	uint32_t max_flows; /* table size: live, half-open and TIME_WAIT flows together */
	uint32_t half_open; /* most flows whose handshake is not complete; beyond: oldest evicted */
	uint32_t half_open_per_source;
	uint64_t handshake_timeout_ns; /* from our SYN-ACK to the client's ACK */
	uint64_t idle_timeout_ns;
	uint64_t time_wait_ns;
	bool early_accept;
	bool echo_reply;                   /* echo requests to proxied destinations are answered here */
	uint32_t receive_window_max_bytes; /* per flow; the window grows to it as the path needs */
	uint32_t send_queue_max_bytes;     /* per flow; stack_send_room() grows to it with the congestion window */
	uint8_t secret[16];                /* keys of the flow hash and of initial sequence numbers (RFC 6528) */
};

/* Counted facts, by name (X-macro) so that `stats` and tests print the same words. */
#define STACK_COUNTERS(X)                                                                                              \
	X(packets_in)                                                                                                  \
	X(packets_out)                                                                                                 \
	X(bytes_from_clients) /* payload accepted in order */                                                          \
	X(bytes_to_clients)   /* payload acknowledged by clients */                                                    \
	X(flows_opened)                                                                                                \
	X(flows_established)                                                                                           \
	X(flows_closed)                                                                                                \
	X(flows_client_reset)                                                                                          \
	X(flows_refused)                                                                                               \
	X(flows_handed_over) /* somebody else answers their SYN */                                                     \
	X(flows_aborted)                                                                                               \
	X(flows_timed_out)                                                                                             \
	X(flows_idle)                                                                                                  \
	X(flows_evicted_total)      /* half-open limit */                                                              \
	X(flows_evicted_per_source) /* half-open-per-source limit */                                                   \
	X(time_wait_recycled)                                                                                          \
	X(syn_retransmitted_by_client)                                                                                 \
	X(syn_table_full)                                                                                              \
	X(segments_retransmitted)                                                                                      \
	X(fast_recoveries)                                                                                             \
	X(retransmission_timeouts)                                                                                     \
	X(zero_window_probes)                                                                                          \
	X(segments_out_of_order)                                                                                       \
	X(segments_duplicate)                                                                                          \
	X(segments_outside_window)                                                                                     \
	X(segments_over_budget) /* dropped: the flow or the pool had no frame left for them */                         \
	X(paws_rejected)                                                                                               \
	X(challenge_acks)                                                                                              \
	X(resets_sent)                                                                                                 \
	X(rule_rejected) /* packets of no flow that a rule answers with RST or ICMP */                                 \
	X(icmp_sent)                                                                                                   \
	X(no_flow)       /* a segment that belongs to no flow: answered with RST */                                    \
	X(datagrams_in)  /* of clients, whole and checked */                                                           \
	X(datagrams_out) /* to clients */                                                                              \
	X(datagram_bytes_in)                                                                                           \
	X(datagram_bytes_out)                                                                                          \
	X(datagrams_cut) /* sent in fragments */                                                                       \
	X(echo_replies)                                                                                                \
	X(echo_limited) /* echo requests beyond what is answered in a second */                                        \
	X(no_frame)     /* nothing could be sent: pool empty */                                                        \
	X(tx_ring_full)

struct stack_counters {
#define X(name) uint64_t name;
	STACK_COUNTERS(X)
#undef X
	uint64_t dropped[DROP_REASON_COUNT];
};

/* What is in the flow table now. */
struct stack_gauges {
	uint32_t flows; /* all entries */
	uint32_t half_open;
	uint32_t established; /* ESTABLISHED .. LAST_ACK */
	uint32_t time_wait;
};

/*
 * Everything is allocated here. `pool` and `callbacks` must outlive the stack.
 * NULL: no memory (errno is set).
 */
struct stack *stack_create(const struct stack_settings *settings, struct frame_pool *pool,
			   const struct stack_callbacks *callbacks, uint64_t now_ns);
void stack_destroy(struct stack *stack);

void stack_set_limits(struct stack *stack, const struct stack_limits *limits);

/* Declares port `port` (< STACK_MAX_PORTS), or changes its MTU or MAC. */
#define STACK_MAX_PORTS 8
void stack_set_port(struct stack *stack, uint16_t port, const struct stack_port *settings);
uint16_t stack_port_mtu(const struct stack *stack, uint16_t port);

/* One received Ethernet frame, owned by FRAME_RX; the stack takes ownership of `frame` on every path. */
void stack_input(struct stack *stack, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint64_t now_ns);
/*
 * One received Ethernet frame of `packet_bytes` that lies in several: `frame` holds all headers and the first payload
 * bytes, more payload follows in the frames that are linked by `next`; `off` and `len` of each struct frame tell its
 * bytes. All are owned by FRAME_RX; the stack takes ownership of all of them on every path. To TCP each frame's payload
 * is a segment of its own, but acknowledgement and flags count once, and one ACK at most is sent at once.
 *
 * checksum_ok: the kernel vouches for the TCP checksum (the partial one of a local sender, or it was verified). Else
 * the sum over all frames must be right; a partial one (partial_checksum_ok of the port) is believed of a single frame
 * only.
 */
void stack_input_chain(struct stack *stack, uint16_t port, uint32_t frame, uint32_t packet_bytes, bool checksum_ok,
		       uint64_t now_ns);
/* After a batch of input: sends the ACKs that are due and the data that a full ring had held back. */
void stack_flush(struct stack *stack, uint64_t now_ns);
void stack_run_timers(struct stack *stack, uint64_t now_ns);
/* When stack_run_timers() is next due; UINT64_MAX: never. */
uint64_t stack_next_timer_ns(const struct stack *stack);

/*
 * A datagram of link->src to the client link->dst, its payload copied, at most 65,507 bytes (IPv6: 65,527); in
 * fragments where the port's MTU asks for them. The 8 bytes in front of the payload must be writable, and are as before
 * afterwards. false: too long, no frames, or the ring was full.
 */
bool stack_send_datagram(struct stack *stack, uint16_t port, const struct build_link *link,
			 const struct iovec *payload);
/*
 * An ICMP error from link->src to link->dst about the packet that `quote` begins. Rate-limited with all other errors.
 * `mtu`: STACK_ERROR_TOO_BIG only.
 */
void stack_send_error(struct stack *stack, uint16_t port, const struct build_link *link, const uint8_t *quote,
		      uint16_t quote_bytes, enum stack_error error, uint32_t mtu, uint64_t now_ns);
const struct reassembly_counters *stack_reassembly_counters(const struct stack *stack);

/* --- The owner's half: what the bridge does with a flow ------------------------------------------- */

/* Sends the SYN-ACK. The flow becomes established when the client answers. */
void stack_accept(struct stack *stack, struct flow *flow, uint64_t now_ns);
/* Frees the flow; flow_closed is not called. Before stack_accept() only. */
void stack_refuse(struct stack *stack, struct flow *flow, enum flow_refusal how, uint64_t now_ns);

/* The SYN of a held flow, for whoever answers it instead of the stack. */
struct stack_syn {
	struct build_link link; /* toward the client: dst is the client, src what it dialled */
	uint16_t port;
	uint32_t isn;
	uint32_t ts_value;
	uint16_t mss;    /* as given; 0: none */
	uint16_t window; /* as given */
	uint8_t wscale;  /* at most 14 (RFC 7323 2.3) */
	bool has_wscale, has_timestamp, sack_permitted;
	bool has_ip_options; /* IPv4 options or IPv6 extension headers */
	bool ecn;            /* it offers ECN: ECE and CWR (RFC 3168 6.1.1) */
};

/* Valid while the flow is held: from flow_opened to stack_accept(), without `early_accept`. */
void stack_flow_syn(const struct stack *stack, const struct flow *flow, struct stack_syn *out);
/* A held flow's answer is somebody else's business from now on: frees the flow, flow_closed is not called. */
void stack_hand_over(struct stack *stack, struct flow *flow);
/*
 * Sends one crafted segment to a client on `port`; the payload, at most what a frame holds behind FRAME_PAYLOAD_OFFSET,
 * is copied. false: no frame, or the ring was full.
 */
bool stack_transmit_segment(struct stack *stack, uint16_t port, const struct build_link *link,
			    const struct build_segment *segment, const void *payload, uint16_t payload_bytes);

/*
 * In-order payload from the client, in place. Fills up to `max` iovecs from byte `skip` of the receive queue on, none
 * after the one that makes `max_bytes` full; returns how many were filled. The memory stays valid until stack_consume()
 * passes over it or flow_closed.
 */
uint32_t stack_peek(const struct stack *stack, const struct flow *flow, uint32_t skip_bytes, struct iovec *iov,
		    uint32_t max_bytes, uint32_t max);
/* Bytes that stack_peek() can show. */
uint32_t stack_readable_bytes(const struct flow *flow);
/* True once the client's FIN is next: everything it ever sends is in the receive queue (or consumed). */
bool stack_read_finished(const struct flow *flow);
/* Frees the first `bytes` of the receive queue and opens the window (an update is sent when it is worth it). */
void stack_consume(struct stack *stack, struct flow *flow, uint32_t bytes, uint64_t now_ns);
/*
 * A flow that is closed (reset, timed out) while the kernel still reads its receive queue (a sendmsg in flight) must
 * not lose these frames: the owner takes the whole receive queue out of the flow, as a list linked by `next`, owner
 * still FRAME_FLOW, and frees each by frame_put() when the kernel is done. Legal at any time, also in flow_closed.
 */
uint32_t stack_take_receive_queue(struct stack *stack, struct flow *flow);

/* How many payload bytes the owner may queue now (0: wait for flow_writable); never just a few. */
uint32_t stack_send_room(const struct flow *flow);
/* Largest payload of one segment to this client (negotiated MSS minus the options we always send). */
uint16_t stack_send_segment_bytes(const struct flow *flow);
/*
 * Queues payload: frame bytes [off, off+len), off >= FRAME_PAYLOAD_OFFSET, owner FRAME_FLOW from now on. It is sent in
 * place when it fits one segment, or when the port has `offload`, else cut by copying; a little is copied behind what
 * waits before it. Accepts more than the room (the bridge cannot stop bytes that are already received). Sent by
 * stack_flush().
 */
void stack_send(struct stack *stack, struct flow *flow, uint32_t frame, uint16_t off, uint16_t len, uint64_t now_ns);
/* Our FIN after everything queued. Further stack_send() is a bug. */
void stack_shutdown(struct stack *stack, struct flow *flow, uint64_t now_ns);
/* RST now; flow_closed(FLOW_END_ABORTED) is called before this returns, unless it was called already. */
void stack_abort(struct stack *stack, struct flow *flow, uint64_t now_ns);

/* --- Looking at it --------------------------------------------------------------------------------- */

struct flow_info {
	struct endpoint client, destination;
	uint8_t client_mac[6];      /* as its packets come */
	const char *state;          /* RFC 9293 name, static */
	uint64_t bytes_from_client; /* payload */
	uint64_t bytes_to_client;
	uint64_t packets_from_client; /* as they arrived: one may be of 64 KB */
	uint64_t packets_to_client;
	uint64_t created_ns;
	uint32_t srtt_us;
	uint32_t cwnd_bytes;
	uint32_t receive_queue_bytes;
	uint32_t send_queue_bytes;
	uint32_t retransmitted;
};

/* Dense index of a flow, < max_flows, stable while it lives: the key of the owner's parallel table. */
uint32_t stack_flow_index(const struct stack *stack, const struct flow *flow);
/* Bumped each time the slot is used again. */
uint16_t stack_flow_generation(const struct flow *flow);
/* The live flow in this slot, or NULL. */
struct flow *stack_flow_at(struct stack *stack, uint32_t index);
void stack_flow_describe(const struct stack *stack, const struct flow *flow, struct flow_info *out);
const struct stack_counters *stack_counters(const struct stack *stack);
void stack_gauges(const struct stack *stack, struct stack_gauges *out);
/* Checks every invariant (queues against frame ownership, counts against lists); aborts with a message. For tests. */
void stack_check(const struct stack *stack);

#endif
