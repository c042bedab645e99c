/* SPDX-License-Identifier: MIT */
/*
 * A stack and a model client on virtual time, joined by a link that can lose, repeat or delay chosen packets.
 *
 * The client is a TCP of its own, written for these tests: it keeps received bytes in a map (any order), acknowledges
 * everything at once with SACK blocks, and sends again from its oldest byte when its timer fires. The owner side
 * accepts, sends `down_bytes`, ends its direction, and consumes and checks what the client sends.
 */
#ifndef SOCKSPLICE_LIB_REPLAY_H
#define SOCKSPLICE_LIB_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "stack.h"

#define REPLAY_MAX_BYTES 65536
#define REPLAY_MS 1000000ull
#define REPLAY_NONE UINT32_MAX

enum replay_direction { TO_STACK, TO_CLIENT };

struct replay_settings {
	bool ipv6, sack, timestamps, window_scale;
	uint32_t down_bytes, up_bytes;
	uint32_t client_iss;
	uint16_t client_mss;
	uint32_t client_window;   /* what it offers */
	uint64_t window_opens_ns; /* not 0: the window is closed after the handshake until this long after the start */
	bool client_ends_first;   /* its FIN does not wait for ours */
	bool owner_waits;         /* the owner ends its direction only after the client's end */
	/* GSO: the client's packets hold up to so much (0: 1400), and what is longer than a frame comes in a chain */
	uint16_t client_segment_bytes;
	uint16_t chain_frame_bytes; /* payload in each frame of such a chain, up to 1600 */
	/* GSO the other way: not 0: frames are large, the owner queues so much in each, and the port cuts packets */
	uint16_t offload_bytes;
	/* which packet of which direction (counted from 0) the link loses, doubles or delays; REPLAY_NONE: none */
	uint32_t lose[2], twice[2], late[2];
	uint32_t lose_every[2]; /* not 0: every so many-th packet is lost */
};

struct replay {
	struct replay_settings settings;
	struct stack *stack;
	struct frame_pool pool;
	uint64_t now_ns, start_ns;
	struct flow *flow;
	bool established, closed;
	enum flow_end why;
	uint32_t sent[2]; /* packets of each direction */
	uint32_t consumed;
	bool owner_shut;
	/* client */
	uint32_t snd_una, snd_nxt, irs, rcv_nxt, peer_ts;
	bool client_syn_acked, client_fin_sent, client_fin_acked, client_got_fin, client_reset;
	uint32_t fin_at; /* offset of our FIN, REPLAY_NONE: not seen */
	uint64_t client_timer_ns;
	uint32_t client_tries;
	uint8_t received[REPLAY_MAX_BYTES];
	bool have[REPLAY_MAX_BYTES];
};

/* Settings of a plain connection: all options, 30 KB each way, nothing lost. */
struct replay_settings replay_defaults(void);
/* Runs the connection to its end, or for 300 s of virtual time; then checks bytes, flow and frames. */
void replay_run(struct replay *r, const struct replay_settings *settings);

/* For scripts of single packets: */
void replay_start(struct replay *r, const struct replay_settings *settings);
void replay_stop(struct replay *r);
/* Lets time pass; packets of the stack are collected in `replay_seen`. */
void replay_advance(struct replay *r, uint64_t ns);
/* One segment from the client, delivered at once. */
void replay_inject(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t window, const void *payload,
		   uint16_t bytes);
/* The same in a chain of frames with `frame_bytes` of payload each; its bytes are what the model client sends there. */
void replay_inject_chain(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t bytes,
			 uint16_t frame_bytes);
/* Whether the receive queue holds `bytes` of what the model client sends from its offset 0 on, and nothing else. */
bool replay_readable_is(struct replay *r, uint32_t bytes);
/* With a timestamp of its own. */
void replay_inject_ts(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t bytes, uint32_t ts);
/* What the stack has sent since the last call; oldest first. NULL: nothing (more). */
const struct packet_view *replay_seen(struct replay *r);
/* The first bytes of the packet that replay_seen() returned last: all headers. */
const uint8_t *replay_seen_bytes(void);
/* A handshake by hand up to ESTABLISHED; the client's next byte is client_iss + 1. *iss is the stack's. */
void replay_establish(struct replay *r, const struct replay_settings *settings, uint32_t *iss);
/* The state of the flow as `flows` shows it, "CLOSED" when it is gone. */
const char *replay_state(const struct replay *r);

#endif
