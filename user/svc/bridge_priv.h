/* SPDX-License-Identifier: MIT */
/* What the files of the bridge share: one connection, and all of them. */
#ifndef SOCKSPLICE_BRIDGE_PRIV_H
#define SOCKSPLICE_BRIDGE_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge.h"
#include "recvring.h"
#include "relay_keys.h"
#include "resolver.h"
#include "rules.h"
#include "socks.h"
#include "splice.h"
#include "trace.h"
#include "upstreams.h"
#include "wheel.h"

#define CONN_NONE UINT32_MAX
#define BRIDGE_RECV_RINGS 2

/* name, text, states that may follow */
#define CONN_STATES(X)                                                                                                 \
	X(FREE, "free", BIT(CONN_DIALING))                                                                             \
	X(DIALING, "dialing", BIT(CONN_GREETING) | BIT(CONN_CLOSING))                                                  \
	X(GREETING, "greeting", BIT(CONN_AUTHENTICATING) | BIT(CONN_WARM) | BIT(CONN_REQUESTING) | BIT(CONN_CLOSING))  \
	X(AUTHENTICATING, "authenticating", BIT(CONN_WARM) | BIT(CONN_REQUESTING) | BIT(CONN_CLOSING))                 \
	X(WARM, "warm", BIT(CONN_REQUESTING) | BIT(CONN_CLOSING))                                                      \
	X(REQUESTING, "requesting", BIT(CONN_ACCEPTING) | BIT(CONN_OPENING) | BIT(CONN_RELAYING) | BIT(CONN_CLOSING))  \
	X(OPENING, "opening", BIT(CONN_CLOSING))                                                                       \
	X(ACCEPTING, "accepting", BIT(CONN_RELAYING) | BIT(CONN_CLOSING))                                              \
	X(RELAYING, "relaying", BIT(CONN_CLOSING))                                                                     \
	X(CLOSING, "closing", BIT(CONN_FREE))

enum conn_state {
#define X(name, text, next) CONN_##name,
	CONN_STATES(X)
#undef X
		CONN_STATE_COUNT
};

enum conn_op {
	CONN_OP_CONNECT = BRIDGE_FIRST_OP,
	CONN_OP_HANDSHAKE_SEND,
	CONN_OP_HANDSHAKE_RECV,
	CONN_OP_SEND,    /* payload to the upstream */
	CONN_OP_RECV,    /* bundled multishot receive */
	CONN_OP_POLL,    /* kernels without bundles: readable? ... */
	CONN_OP_RECVMSG, /* ... then this */
	CONN_OP_WATCH,   /* has a warm connection become readable? */
	CONN_OP_CANCEL,
};

/* What a connection is made for. A warm one becomes a client's when it is taken. */
enum conn_purpose { CONN_FOR_CLIENT, CONN_FOR_PROBE, CONN_FOR_POOL };

/* wheel_timer.kind */
enum bridge_timer { BRIDGE_TIMER_CONN, BRIDGE_TIMER_UPKEEP };

/* Lists through conn.links. */
enum conn_link { CONN_LINK_DIRTY, CONN_LINK_RECEIVE, CONN_LINK_COUNT };

struct conn {
	uint8_t state;
	uint8_t purpose;     /* enum conn_purpose */
	uint8_t upstream;    /* its slot */
	bool reset;          /* close the upstream socket by RST */
	bool shut;           /* SHUT_WR was done: the client's FIN has been passed on */
	bool upstream_ended; /* the upstream sent FIN */
	bool sending;        /* a sendmsg is in flight */
	bool receiving;      /* a receive or poll is armed */
	bool cancelling;
	bool handling;     /* a completion is being handled */
	bool client_ended; /* the flow is gone in order: what it left is still sent */
	bool traced;
	bool one_flight; /* greeting, authentication and request are sent together */
	bool from_pool;
	bool linked[CONN_LINK_COUNT];
	uint8_t ring;            /* index of the receive ring */
	uint8_t receive_buffers; /* that the last reception filled */
	uint16_t generation;
	uint16_t in_flight; /* completions that will still come */
	uint32_t next[CONN_LINK_COUNT];
	int fd;
	struct flow *flow; /* NULL once it is gone */
	uint32_t flow_index;
	uint32_t name; /* entry of the map of names that the client goes to, held; DNSMAP_NONE */
	/* frames of a gone flow that the kernel still reads, or that the upstream has not taken yet */
	uint32_t left_head;
	uint32_t recvmsg_head;         /* frames lent to a recvmsg */
	uint32_t frame;                /* messages of the handshake; FRAME_NONE outside of it */
	uint16_t early_off, early_len; /* payload that came behind the SOCKS reply, in `frame` */
	struct wheel_timer timer;
	uint8_t end;     /* enum record_end, when it is known before the flow ends */
	const char *why; /* of its record, static */
	struct socks_handshake handshake;

	/* the choice of the upstream (bridge_dial.c) */
	int16_t wanted;         /* as a rule named it, or UPSTREAMS_ANY */
	uint16_t address_tries; /* of a name */
	uint64_t tried;         /* slots that have failed this client, a bit each */
	struct addr server;     /* as it was dialled */
	uint64_t dialled_ns, connected_ns;
	uint32_t warm_older, warm_newer; /* neighbours in the pool */

	/* bridge_flow_rates() */
	uint64_t sampled_ns, sampled_bytes[2], rate[2];

	/* the handover to the kernel (offload.c) */
	uint32_t entry;          /* of the splice; SPLICE_NONE: this connection is the relay's */
	uint32_t client_tsval;   /* of its SYN */
	uint16_t client_window;  /* of its SYN */
	uint8_t client_wscale;   /* of its SYN, where the connection is of the pool */
	uint8_t not_spliced;     /* enum splice_refusal */
	bool relayed_after_dial; /* the entry only serves to translate the socket's window */
	uint8_t synack_tries;
	uint32_t handshake_read, handshake_sent; /* bytes of the upstream's answers, and of ours */
	uint64_t synack_ns, synack_rto_ns;
};

/* More than the first window of a server that speaks first; what is beyond, it sends again. */
#define BRIDGE_EARLY_DATA_BYTES (1u << 20)

struct conn_list {
	uint32_t head, tail, count;
};

struct bridge {
	const struct config *config;
	struct upstreams upstreams;
	struct resolver *resolver; /* NULL until a name must be resolved */
	struct wheel_timer upkeep;
	struct uring *uring;
	struct frame_pool *pool;
	struct stack *stack;
	uint64_t now_ns;
	struct wheel wheel;
	struct recvring rings[BRIDGE_RECV_RINGS];
	struct conn *conns;
	uint32_t conn_count;
	uint32_t conn_used;
	uint32_t free_head;
	uint32_t reset_cursor;
	uint32_t reserve_frames; /* of the pool, that reception leaves alone */
	bool stopping;           /* no new connections: those there are, are being reset */
	uint32_t *flow_conns;    /* flow index -> connection, CONN_NONE */
	struct conn_list lists[CONN_LINK_COUNT];
	uint32_t state_counts[CONN_STATE_COUNT];
	struct bridge_counters counters;
	struct splice *splice;
	struct trace trace;
	uint8_t *early_data; /* BRIDGE_EARLY_DATA_BYTES */
	struct bridge_faults faults;
	struct bridge_settings settings;
	/* bridge_rules.c; NULL: no rules */
	struct rules_set *rules, *rules_before;
	uint64_t rules_overlap_until_ns;
	struct relay_keys relay_keys;
};

/* bridge_conn.c: slots */
int conn_table_create(struct bridge *bridge, uint32_t count);
void conn_table_destroy(struct bridge *bridge);
/* A slot in state DIALING with socket `fd`, tied to `flow` if that is not NULL; or NULL: all are in use. */
struct conn *conn_get(struct bridge *bridge, enum conn_purpose purpose, uint32_t upstream, int fd, struct flow *flow);
struct upstream *conn_upstream(struct bridge *bridge, const struct conn *conn);
/* Ties a connection that has none to a flow. */
void conn_attach_flow(struct bridge *bridge, struct conn *conn, struct flow *flow);
void conn_move(struct bridge *bridge, struct conn *conn, enum conn_state to);
const char *conn_state_name(enum conn_state state);
uint32_t conn_index(const struct bridge *bridge, const struct conn *conn);
/* user_data of the next operation; counts it as in flight. */
union uring_word conn_start_op(struct bridge *bridge, struct conn *conn, enum conn_op op);
/* Cancels what is in flight and frees the slot when the last completion has come. */
void conn_close(struct bridge *bridge, struct conn *conn, bool reset);
/* Around the handling of a completion: the slot is not freed in between. `more`: the operation goes on. */
void conn_begin_completion(struct conn *conn, bool more);
void conn_end_completion(struct bridge *bridge, struct conn *conn);
/* Unties flow and connection; the flow is gone for the connection afterwards. */
void conn_detach_flow(struct bridge *bridge, struct conn *conn);
void conn_list_add(struct bridge *bridge, enum conn_link link, struct conn *conn);
void conn_list_add_first(struct bridge *bridge, enum conn_link link, struct conn *conn);
struct conn *conn_list_take(struct bridge *bridge, enum conn_link link);
/* Resets the client; the connection is closing afterwards. */
void conn_abort(struct bridge *bridge, struct conn *conn);

/* socks_client.c: dial and handshake */
void socks_client_dial(struct bridge *bridge, struct conn *conn);
void socks_client_connected(struct bridge *bridge, struct conn *conn, int32_t res);
void socks_client_sent(struct bridge *bridge, struct conn *conn, int32_t res);
void socks_client_received(struct bridge *bridge, struct conn *conn, int32_t res);
void socks_client_timed_out(struct bridge *bridge, struct conn *conn);
/* A connection of the pool is a client's now: sends CONNECT. */
void socks_client_request(struct bridge *bridge, struct conn *conn);
/* Tells the client that there will be no connection, and closes. */
void socks_client_refuse(struct bridge *bridge, struct conn *conn, enum flow_refusal how);

/* bridge_record.c: how connections end */
/* Counts why a connection will not be, for its record too. */
#define CONN_FAILED(bridge, conn, name)                                                                                \
	do {                                                                                                           \
		(bridge)->counters.name++;                                                                             \
		(conn)->why = #name;                                                                                   \
	} while (0)
/* CONNECT was answered. */
void bridge_granted(struct bridge *bridge, struct conn *conn);
void bridge_refused(struct bridge *bridge, struct conn *conn, enum upstream_refusal refusal);
/* A flow that never got a connection. */
void bridge_record_turned_away(struct bridge *bridge, const struct flow *flow, const char *why);
/* The flow of this connection ends; `end` unless something else is known already. Before it is detached. */
void bridge_record(struct bridge *bridge, const struct conn *conn, enum record_end end);
void bridge_record_closed(struct bridge *bridge, const struct conn *conn, enum flow_end why);
/* The connection ends in the middle of its handover. */
void bridge_record_handover(struct bridge *bridge, const struct conn *conn, enum record_end end);

/* offload.c: handover to the kernel */
/* Before the dial. false: the client's SYN was answered, the flow is to be dropped without a word. */
bool offload_prepare(struct bridge *bridge, struct conn *conn);
/* The same for a connection that is made for the pool: of any client, so nobody is refused. */
void offload_prepare_warm(struct bridge *bridge, struct conn *conn);
/* Could the kernel carry the client of this SYN by a warm connection that is prepared for it? */
bool offload_warm_fits(struct bridge *bridge, const struct conn *conn, const struct stack_syn *syn);
/*
 * A warm connection has got its flow: it becomes the kernel's, if `spliceable`, else the relay's. false: as
 * offload_prepare() says.
 */
bool offload_give_client(struct bridge *bridge, struct conn *conn, bool spliceable);
/* The connection is the relay's. */
void offload_count_refusal(struct bridge *bridge, struct conn *conn, enum splice_refusal why);
/* The entry is given back at once: another connection will be made for the client. */
void offload_forget(struct bridge *bridge, struct conn *conn);
/* Before CONNECT is sent. */
void offload_clamp(struct bridge *bridge, struct conn *conn);
/* CONNECT succeeded: hands over (the connection is OPENING or closing then), or demotes (offload_is_pending()). */
void offload_replied(struct bridge *bridge, struct conn *conn);
/* The connection stays with the relay after all. */
void offload_relay(struct bridge *bridge, struct conn *conn, enum splice_refusal why);
void offload_report(struct bridge *bridge, struct conn *conn, enum flow_report_kind kind);
void offload_timer(struct bridge *bridge, struct conn *conn);
/* The stack gave the flow up (a half-open limit, the end of the daemon). */
void offload_flow_closed(struct bridge *bridge, struct conn *conn);
/* The client sent its SYN again. */
void offload_syn_again(struct bridge *bridge, struct conn *conn);
/* Around the closing of the socket. */
void offload_before_close(struct bridge *bridge, struct conn *conn);
void offload_after_close(struct bridge *bridge, struct conn *conn);
/* Is the connection on its way to the kernel? */
bool offload_is_pending(const struct conn *conn);

/* bridge.c */
void bridge_flush_transmissions(struct bridge *bridge);
/* No connection could be made for this flow: it is refused. `why` is the counter, which the caller counts. */
void bridge_turn_away(struct bridge *bridge, struct flow *flow, const char *why);

/* bridge_dial.c: which upstream, and the dial */
/* `name`: entry of the map of names that the flow goes to, or DNSMAP_NONE; held by each connection that carries it. */
void dial_flow(struct bridge *bridge, struct flow *flow, int wanted, uint32_t name);
/*
 * The upstream has failed this client's connection before anything was answered: dials again for the same client, by
 * another address or another upstream. True: it did, `conn` is closing and the flow is another connection's.
 */
bool dial_again(struct bridge *bridge, struct conn *conn, enum upstream_failure kind);
/* A connection of the pool was dead when it was used: dials the same upstream. True: as above. */
bool dial_instead(struct bridge *bridge, struct conn *conn);
void dial_probe(struct bridge *bridge, uint32_t slot);
/* For the pool. False: there is no socket, slot or way. */
bool dial_warm(struct bridge *bridge, uint32_t slot);

/* pool.c */
/* A warm connection for the flow, taken out of the pool; NULL: there is none, or none that fits. */
struct conn *pool_take(struct bridge *bridge, uint32_t slot, struct flow *flow, bool *spliceable);
void pool_enter(struct bridge *bridge, struct conn *conn);
/* The connection leaves the state WARM, for whatever reason. */
void pool_leave(struct bridge *bridge, struct conn *conn);
void pool_watched(struct bridge *bridge, struct conn *conn);
void pool_aged(struct bridge *bridge, struct conn *conn);
/* Fills up, or empties what is too much. */
void pool_tend(struct bridge *bridge, uint32_t slot);
void pool_discard_all(struct bridge *bridge, uint32_t slot);

/* upkeep.c */
/* Looks after probes, names and pools at that time, or earlier. */
void upkeep_at(struct bridge *bridge, uint64_t at_ns);
void upkeep_run(struct bridge *bridge);
/* What a connection tells about its upstream. */
void upkeep_connected(struct bridge *bridge, struct conn *conn);
void upkeep_answered(struct bridge *bridge, struct conn *conn);
void upkeep_failed(struct bridge *bridge, const struct conn *conn, enum upstream_failure kind);
/* Another address of the server is current: looks for the way there. */
void upkeep_moved(struct bridge *bridge, uint32_t slot);

/* This flow is relayed: its client's packets come up from now on, whatever the rules say. */
void bridge_keep_flow(struct bridge *bridge, const struct flow *flow, bool known_key);

/* bridge_rules.c */
struct rules_verdict bridge_decide_flow(const struct bridge *bridge, const struct flow *flow);

/* bridge_names.c */
/*
 * The entry of the map that a flow goes to, DNSMAP_NONE when its destination is no fake address; `verdict` becomes that
 * of the name. false: the flow was refused.
 */
bool bridge_find_name(struct bridge *bridge, struct flow *flow, struct rules_verdict *verdict, uint32_t *name);
/* It stays with its address as long as the connection lives. */
void bridge_hold_name(struct bridge *bridge, struct conn *conn, uint32_t name);
void bridge_release_name(struct bridge *bridge, struct conn *conn);
const char *bridge_name(const struct bridge *bridge, const struct conn *conn);
/* The name of this fake address; empty: it is none, or nobody knows any more. */
void bridge_record_name(const struct bridge *bridge, const struct addr *addr, char name[DNS_TEXT_BYTES]);
bool bridge_is_fake(const struct bridge *bridge, const struct addr *addr);

/* bridge_relay.c: payload */
void relay_begin(struct bridge *bridge, struct conn *conn);
void relay_send_start(struct bridge *bridge, struct conn *conn);
void relay_sent(struct bridge *bridge, struct conn *conn, int32_t res);
void relay_receive_start(struct bridge *bridge, struct conn *conn);
void relay_received(struct bridge *bridge, struct conn *conn, int32_t res, uint32_t flags);
/* Somebody waits to receive and there are buffers. */
bool relay_may_receive(const struct bridge *bridge);
/* Starts the reception of those that wait for it, in order, as far as the buffers go. */
void relay_receive_waiting(struct bridge *bridge);
void relay_polled(struct bridge *bridge, struct conn *conn, int32_t res);
void relay_received_message(struct bridge *bridge, struct conn *conn, int32_t res);
/* The client's flow ended in order while bytes of it wait for the upstream. */
void relay_drain(struct bridge *bridge, struct conn *conn);

#endif
