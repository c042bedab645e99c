/* SPDX-License-Identifier: MIT */
/*
 * What the files of the stack share: one flow, all of them, and which file
 * does what.
 *
 *   stack.c     the owner's calls
 *   packet_in.c a packet up to its flow
 *   flow.c      the table: lookup, birth, end, lists
 *   halfopen.c  limits on flows whose handshake is not complete
 *   tcp_in.c    a segment for a flow: acceptance, handshake, FIN, RST
 *   tcp_recv.c  payload of the client: in-order queue, out-of-order queue, SACK blocks, window
 *   tcp_ack.c   what an acknowledgement does: round-trip time, SACK scoreboard, loss (RACK), congestion window
 *   tcp_out.c   segments to the client: what may be sent now, and sending it
 *   tcp_timer.c what time does
 *   build.c     bytes of headers; icmp.c errors
 *
 * The send queue is a list of frames: first the sent ones (from send_head),
 * then the unsent ones (from send_next). One frame is one packet. It is one
 * segment, or, where the port cuts packets (offload), up to as many as the
 * frame holds. Sequence numbers are selectively acknowledged, lost and sent
 * again by whole frames; so a frame of several segments is cut in two where
 * the client's blocks begin and end, and where less may be sent than it holds.
 * What is acknowledged of it is cut off its front.
 */
#ifndef SOCKSPLICE_STACK_PRIV_H
#define SOCKSPLICE_STACK_PRIV_H

#include "build.h"
#include "parse.h"
#include "stack.h"
#include "wheel.h"

#define FLOW_NONE UINT32_MAX

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_ECE 0x40
#define TCP_CWR 0x80

/* RFC 9293 3.3.2, and HELD: a SYN whose answer waits for the upstream. name, text, states that may follow */
#define FLOW_STATES(X)                                                                                                 \
	X(CLOSED, "CLOSED", BIT(FLOW_HELD) | BIT(FLOW_SYN_RECEIVED))                                                   \
	X(HELD, "SYN-HELD", BIT(FLOW_SYN_RECEIVED) | BIT(FLOW_CLOSED))                                                 \
	X(SYN_RECEIVED, "SYN-RECEIVED", BIT(FLOW_ESTABLISHED) | BIT(FLOW_CLOSED))                                      \
	X(ESTABLISHED, "ESTABLISHED", BIT(FLOW_FIN_WAIT_1) | BIT(FLOW_CLOSE_WAIT) | BIT(FLOW_CLOSED))                  \
	X(FIN_WAIT_1, "FIN-WAIT-1", BIT(FLOW_FIN_WAIT_2) | BIT(FLOW_CLOSING) | BIT(FLOW_TIME_WAIT) | BIT(FLOW_CLOSED)) \
	X(FIN_WAIT_2, "FIN-WAIT-2", BIT(FLOW_TIME_WAIT) | BIT(FLOW_CLOSED))                                            \
	X(CLOSE_WAIT, "CLOSE-WAIT", BIT(FLOW_LAST_ACK) | BIT(FLOW_CLOSED))                                             \
	X(CLOSING, "CLOSING", BIT(FLOW_TIME_WAIT) | BIT(FLOW_CLOSED))                                                  \
	X(LAST_ACK, "LAST-ACK", BIT(FLOW_CLOSED))                                                                      \
	X(TIME_WAIT, "TIME-WAIT", BIT(FLOW_CLOSED))

enum flow_state {
#define X(name, text, next) FLOW_##name,
	FLOW_STATES(X)
#undef X
		FLOW_STATE_COUNT
};

/* Marks of a frame in the send queue (struct frame.tcp_flags). */
#define SEND_SENT 0x01
#define SEND_SACKED 0x02
#define SEND_LOST 0x04
#define SEND_RETRANSMITTED 0x08

#define TCP_SACK_BLOCKS 4
/* New data waits while less than this part of the windows is free and it would have to be cut. */
#define TCP_WAIT_SHARE 4
/* Frames that a flow may hold besides those that its buffers' bytes need, in each direction. */
#define TCP_EXTRA_FRAMES 64
/* 65535 << 8: windows up to 16 MB, 10 ms at 13 Gbit/s */
#define TCP_OUR_WSCALE 8

enum flow_timer { FLOW_TIMER_RETRANSMIT, FLOW_TIMER_ACK, FLOW_TIMER_LIFE, FLOW_TIMER_COUNT };

/* What the retransmission timer is armed for. */
enum tcp_rtx_mode { RTX_OFF, RTX_RTO, RTX_PROBE /* tail loss */, RTX_REORDER /* RACK */, RTX_PERSIST };

struct sack_block {
	uint32_t start, end; /* [start, end) */
};

struct flow {
	uint32_t hash_next;
	uint32_t half_prev, half_next;     /* all half-open flows, or all TIME_WAIT flows, oldest first */
	uint32_t source_prev, source_next; /* half-open flows of one source */
	uint32_t source;                   /* entry of the source table */
	uint32_t work_prev, work_next;     /* flows with something to send */
	uint16_t generation;
	uint8_t state;
	bool linked_work;
	bool owner_knows; /* flow_opened was called, flow_closed not yet */
	bool half_open;

	struct build_link link; /* addresses, ports, MACs: toward the client */
	uint16_t port;

	/* what the handshake agreed on */
	uint16_t mss; /* largest payload that we send without options */
	uint8_t snd_wscale;
	bool use_wscale, use_timestamps, use_sack;
	/* of the SYN, besides: what stack_flow_syn() tells */
	uint16_t syn_mss;
	bool syn_has_ip_options, syn_ecn;

	/* send sequence space (RFC 9293 3.3.1) */
	uint32_t iss, snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2;
	uint32_t snd_wnd_max;
	uint32_t snd_queued; /* sequence number behind the last byte in the send queue */
	uint32_t send_head, send_tail, send_next;
	uint32_t send_queue_bytes, send_limit_bytes;
	uint32_t send_frames, send_limit_frames; /* in the send queue */
	bool fin_queued, fin_sent, fin_acked;
	bool send_blocked; /* stack_send_room() was 0: flow_writable is owed */

	/* loss and congestion */
	uint32_t pipe_bytes; /* sent, not acknowledged, not believed lost */
	uint32_t lost_frames, sacked_frames;
	uint32_t cwnd_bytes, ssthresh_bytes, cwnd_acked_bytes;
	uint32_t recover; /* snd_nxt when recovery began */
	uint8_t dup_acks;
	bool in_recovery, after_timeout, reordering_seen, probe_outstanding;
	bool retransmit_now; /* recovery has begun: one lost frame goes out whatever the window says */
	uint8_t rtx_mode, rtx_count;
	uint32_t sack_high;        /* highest byte that was selectively acknowledged */
	uint32_t sack_high_before; /* the same before the segment that is being processed */
	uint64_t rack_sent_ns, rack_rtt_ns, min_rtt_ns;
	uint32_t rack_end_seq;
	uint64_t srtt_ns, rttvar_ns, rto_ns;
	uint64_t synack_sent_ns;

	/* receive sequence space */
	uint32_t irs, rcv_nxt, rcv_adv; /* rcv_adv: right edge that was advertised; never moves left */
	uint32_t rcv_limit_bytes;       /* receive buffer as it stands */
	uint32_t receive_head, receive_tail, receive_bytes;
	uint32_t ooo_head, ooo_tail;
	uint32_t held_frames; /* in both receive queues */
	uint32_t fin_seq;
	bool fin_seen, fin_received;
	uint8_t sack_count;
	struct sack_block sacks[TCP_SACK_BLOCKS]; /* newest first (RFC 2018 section 4) */
	uint32_t ts_recent, ts_offset, last_ack_sent;
	uint64_t ts_recent_ns;
	uint32_t window_period_bytes;
	bool window_ran_dry; /* in this period all that had come was taken: the owner waited for the client */
	uint64_t window_period_ns;

	/* acknowledgements due */
	uint8_t segments_unacked;
	uint8_t quick_acks; /* so many more are sent without delay */
	bool ack_now;

	uint64_t created_ns, active_ns, challenge_ns;
	uint8_t challenges;
	uint64_t bytes_from_client, bytes_to_client;
	uint64_t packets_from_client, packets_to_client;
	uint32_t retransmitted;
	struct wheel_timer timers[FLOW_TIMER_COUNT];
};

struct flow_list {
	uint32_t head, tail, count;
};

/* A source address with half-open flows. */
struct half_source {
	struct addr addr;
	uint32_t hash_next; /* or the free list */
	uint32_t head, tail, count;
};

struct stack {
	struct stack_settings settings;
	struct stack_callbacks callbacks;
	struct frame_pool *pool;
	struct stack_port ports[STACK_MAX_PORTS];
	struct flow *flows;
	uint32_t *buckets;
	uint32_t bucket_mask;
	uint32_t flow_used, flow_free, flow_count;
	struct flow_list half_open, time_wait;
	struct half_source *sources;
	uint32_t *source_buckets;
	uint32_t source_mask, source_used, source_free;
	struct flow_list work; /* linked by work_next */
	struct wheel wheel;
	struct stack_counters counters;
	struct reassembly *reassembly;
	uint32_t fragment_id; /* of the next datagram that is cut */
	uint64_t icmp_second;
	uint64_t echo_second;
	uint32_t icmp_in_second, resets_in_second, echoes_in_second;
	uint64_t reset_second;
};

/* The options of a segment (RFC 9293 3.1, 7323, 2018). */
struct tcp_options {
	uint32_t ts_value, ts_echo;
	struct sack_block sacks[TCP_SACK_BLOCKS];
	uint16_t mss; /* 0: not given */
	uint8_t sack_count;
	uint8_t wscale;
	bool has_timestamp, has_wscale, sack_permitted;
};

/*
 * A client's packet, parsed once. Its frames are linked by `next`, `off` and `len` of each tell its part of the
 * payload; the headers lie in the first one. Who keeps a frame takes it out of the list; what is left there in the end
 * is freed.
 */
struct tcp_segment {
	struct packet_view view; /* payload_len: of all frames */
	struct tcp_options options;
	const uint8_t *eth; /* the Ethernet header; gone with the first frame */
	uint32_t frames;
	uint16_t port;
	uint16_t start; /* of the Ethernet header in the first frame */
};

/* Serial number arithmetic (RFC 9293 3.4). */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_leq(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline struct frame *stack_frame(const struct stack *stack, uint32_t index)
{
	return &stack->pool->frames[index];
}

/* flow.c */
int flow_table_create(struct stack *stack);
void flow_table_destroy(struct stack *stack);
uint64_t flow_keyed_hash(const struct stack *stack, const struct build_link *link, uint64_t salt);
struct flow *flow_lookup(struct stack *stack, const struct packet_view *view);
/* A new flow for a SYN; NULL when the table is full of flows in use. */
struct flow *flow_create(struct stack *stack, const struct tcp_segment *syn, uint64_t now_ns);
void flow_move(struct stack *stack, struct flow *flow, enum flow_state to);
const char *flow_state_name(enum flow_state state);
/* Frees the flow without telling anyone. */
void flow_release(struct stack *stack, struct flow *flow);
/* Tells the owner (once), then frees the flow. */
void flow_end(struct stack *stack, struct flow *flow, enum flow_end why);
/* The same, but the entry stays for TIME_WAIT. */
void flow_enter_time_wait(struct stack *stack, struct flow *flow, uint64_t now_ns);
void flow_list_add(struct stack *stack, struct flow_list *list, struct flow *flow);
void flow_list_remove(struct stack *stack, struct flow_list *list, struct flow *flow);
void flow_add_work(struct stack *stack, struct flow *flow);
void flow_remove_work(struct stack *stack, struct flow *flow);
void flow_put_list(struct stack *stack, uint32_t *head);
uint32_t flow_index(const struct stack *stack, const struct flow *flow);

/* halfopen.c */
int halfopen_create(struct stack *stack);
void halfopen_destroy(struct stack *stack);
/* Makes room by evicting the oldest, then enters the flow. */
void halfopen_enter(struct stack *stack, struct flow *flow);
void halfopen_leave(struct stack *stack, struct flow *flow);
/* The flow becomes the youngest. */
void halfopen_progress(struct stack *stack, struct flow *flow);

/* tcp_in.c */
/* Takes the frames that it keeps, and perhaps others, out of the segment. */
void tcp_input(struct stack *stack, struct flow *flow, struct tcp_segment *segment, uint64_t now_ns);
void tcp_open(struct stack *stack, const struct tcp_segment *syn, uint64_t now_ns);

/* tcp_recv.c */
/* Queues the payload that off, len and seq of the frame tell; true: it was kept. *delivered: bytes became readable. */
bool tcp_receive_payload(struct stack *stack, struct flow *flow, uint32_t frame, bool *delivered);
/* The pool has fewer free frames than this part of all. */
bool tcp_pool_below(const struct stack *stack, uint32_t share);
/* What is copied rather than keeping a frame for it. */
uint32_t tcp_merge_bytes(const struct stack *stack);
/* Behind the client's FIN: nothing is kept that pretends to follow it. */
void tcp_receive_end(struct stack *stack, struct flow *flow);
uint32_t tcp_receive_window(const struct stack *stack, struct flow *flow);
void tcp_receive_consume(struct stack *stack, struct flow *flow, uint32_t bytes, uint64_t now_ns);

/* tcp_ack.c */
/* false: a length that lies. */
bool tcp_options_parse(const uint8_t *options, uint32_t bytes, struct tcp_options *out);
/* An acceptable ACK for a synchronised flow. */
void tcp_acknowledged(struct stack *stack, struct flow *flow, const struct packet_view *view,
		      const struct tcp_options *options, uint64_t now_ns);
void tcp_rtt_sample(struct flow *flow, uint64_t rtt_ns);
/* Marks what is lost by time (RFC 8985 6.2); arms the reordering timer. */
void tcp_detect_loss(struct stack *stack, struct flow *flow, uint64_t now_ns);
void tcp_enter_recovery(struct stack *stack, struct flow *flow);
void tcp_timeout_loss(struct stack *stack, struct flow *flow);
void tcp_cwnd_start(struct stack *stack, struct flow *flow);
/* Before new data is queued: a window that was not used for long tells nothing (RFC 5681 4.1). */
void tcp_restart_after_idle(struct stack *stack, struct flow *flow, uint64_t now_ns);

/* tcp_out.c */
void tcp_send_synack(struct stack *stack, struct flow *flow, uint64_t now_ns);
void tcp_send_ack(struct stack *stack, struct flow *flow, uint64_t now_ns);
void tcp_send_reset(struct stack *stack, struct flow *flow);
/* The answer to a segment that belongs to nothing (RFC 9293 3.10.7.1); rate-limited. */
void tcp_send_reset_to(struct stack *stack, uint16_t port, const struct packet_view *view, const uint8_t *eth,
		       uint64_t now_ns);
/* A challenge ACK (RFC 5961 7), rate-limited per flow. */
void tcp_send_challenge(struct stack *stack, struct flow *flow, uint64_t now_ns);
/* Sends what windows allow: lost frames first, then new ones, then FIN. */
void tcp_output(struct stack *stack, struct flow *flow, uint64_t now_ns);
/* One frame of the send queue, now; false: the ring is full or the frame is still on its way. */
bool tcp_send_frame(struct stack *stack, struct flow *flow, uint32_t index, uint64_t now_ns);
bool tcp_send_fin(struct stack *stack, struct flow *flow, uint64_t now_ns);
/* Cuts a frame of the send queue, sent or not, behind `bytes` of payload; false: no frame free. */
bool tcp_split_frame(struct stack *stack, struct flow *flow, uint32_t index, uint32_t bytes);
/* Leaves one segment in the frame, if there are frames for the rest. */
void tcp_cut_to_segment(struct stack *stack, struct flow *flow, uint32_t index);
/* Cuts a frame at this sequence number, if it is within, for good bookkeeping: not when frames are scarce. */
void tcp_cut_at(struct stack *stack, struct flow *flow, uint32_t index, uint32_t seq);
uint16_t tcp_segment_bytes(const struct flow *flow);
/* Most payload of one frame to this client: one segment, or what fits where the port cuts. */
uint32_t tcp_packet_bytes(const struct stack *stack, const struct flow *flow);
/* The MSS that we announce (RFC 9293 3.7.1, RFC 6691). */
uint16_t tcp_own_mss(const struct stack *stack, const struct flow *flow);

/* tcp_timer.c */
void tcp_timer_expired(void *stack, struct wheel_timer *timer, uint64_t now_ns);
/* Arms the retransmission timer for what is outstanding; a running one goes on unless `restart` (RFC 6298 5). */
void tcp_timer_update(struct stack *stack, struct flow *flow, bool restart, uint64_t now_ns);
void tcp_timer_arm(struct stack *stack, struct flow *flow, enum flow_timer which, uint64_t when_ns);
void tcp_timer_cancel(struct stack *stack, struct flow *flow, enum flow_timer which);

/* icmp.c */
/* "Administratively prohibited", about a packet that is not TCP; nothing where ICMP forbids an answer. */
void icmp_send_prohibited(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns);
/* An error about a packet that came in, from the address `from`. */
void icmp_send_about(struct stack *stack, const struct tcp_segment *segment, enum stack_error error,
		     const struct addr *from, uint64_t now_ns);
/* The way back of a packet that came in. */
struct build_link icmp_link(const struct tcp_segment *segment);
bool icmp_is_echo_request(const struct tcp_segment *segment, uint32_t frame_bytes);
enum drop_reason icmp_answer_echo(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns);

/* udp_in.c: what is not TCP; the frames that are kept are taken out of the segment */
enum drop_reason packet_input_other(struct stack *stack, struct tcp_segment *segment, struct cursor *whole,
				    bool checksum_ok, uint64_t now_ns);
/* traceroute: this is a hop (RFC 1812 5.3.1). True: it ends here, and its sender was told. */
bool packet_expired(struct stack *stack, const struct tcp_segment *segment, uint64_t now_ns);
bool packet_ipv4_checksum_ok(const struct tcp_segment *segment);
/* Neither multicast nor broadcast, loopback, unspecified. */
bool packet_address_ok(const struct addr *a);
/* Leaves payload_len bytes from payload_off on in the frames; false: bytes are missing. */
bool packet_cut(struct stack *stack, struct tcp_segment *segment);

void icmp_send_refusal(struct stack *stack, const struct flow *flow, enum flow_refusal how, uint64_t now_ns);

#endif
