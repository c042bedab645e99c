/* SPDX-License-Identifier: MIT */
/*
 * Joins a client's flow (stack) to its connection at the upstream SOCKS5
 * server (kernel socket, io_uring): see bridge.c for the theory of operation.
 */
#ifndef SOCKSPLICE_BRIDGE_H
#define SOCKSPLICE_BRIDGE_H

#include <stdint.h>

#include "bpfload.h"
#include "cfg_abi.h"
#include "config.h"
#include "dns_service.h"
#include "flow_record.h"
#include "rules.h"
#include "splice.h"
#include "stack.h"
#include "trace.h"
#include "upstreams.h"
#include "uring.h"

/* Completions whose op is at least this belong to the bridge; smaller ones are the worker's own. */
#define BRIDGE_FIRST_OP 16

#define BRIDGE_COUNTERS(X)                                                                                             \
	X(dials)                                                                                                       \
	X(connects_ok) /* SOCKS CONNECT succeeded */                                                                   \
	X(dial_refused)                                                                                                \
	X(dial_unreachable)                                                                                            \
	X(dial_timed_out)                                                                                              \
	X(dial_failed) /* any other answer of the kernel */                                                            \
	X(dial_no_descriptor)                                                                                          \
	X(dial_no_slot)  /* connections that are still being closed hold all slots */                                  \
	X(dial_no_frame) /* the frame pool is empty */                                                                 \
	X(no_upstream)   /* none is there to choose: names that are not resolved yet */                                \
	X(dialled_again) /* another address or another upstream, the client did not notice */                          \
	X(handshake_timed_out)                                                                                         \
	X(handshake_closed) /* the upstream closed before it replied */                                                \
	X(handshake_malformed)                                                                                         \
	X(no_acceptable_method)                                                                                        \
	X(auth_rejected)                                                                                               \
	X(request_timed_out)                                                                                           \
	X(reply_general_failure)                                                                                       \
	X(reply_not_allowed)                                                                                           \
	X(reply_net_unreachable)                                                                                       \
	X(reply_host_unreachable)                                                                                      \
	X(reply_refused)                                                                                               \
	X(reply_ttl_expired)                                                                                           \
	X(reply_command_unsupported)                                                                                   \
	X(reply_address_unsupported)                                                                                   \
	X(reply_unknown)                                                                                               \
	X(upstream_resets)                                                                                             \
	X(upstream_sends) /* sendmsg completions */                                                                    \
	X(upstream_send_bytes)                                                                                         \
	X(upstream_receives) /* recv completions that brought payload */                                               \
	X(upstream_receive_bytes)                                                                                      \
	X(receive_arms)       /* receives started */                                                                   \
	X(receive_pauses)     /* back-pressure from a slow client */                                                   \
	X(receive_no_buffers) /* no frame was free for what the upstream sent; it waits in the socket */               \
	X(relay_keys_missing) /* relayed flows that could not be entered: a change of the rules may end them */        \
	X(stale_completions)

struct bridge_counters {
#define X(name) uint64_t name;
	BRIDGE_COUNTERS(X)
#undef X
};

struct bridge_gauges {
	uint32_t dialing;   /* connect, greeting, authentication, request */
	uint32_t accepting; /* the upstream said yes, the client's ACK is awaited */
	uint32_t opening;   /* handed over, the client's first segment is awaited */
	uint32_t relaying;
	uint32_t closing; /* waiting for completions still in flight */
};

struct bridge;

/* Losses that a test asks for. */
struct bridge_faults {
	uint16_t permille[CFG_FAULT_COUNT];
	uint64_t until_ns; /* 0: none */
};

struct bridge_settings {
	const struct config *config;
	struct uring *uring;
	struct frame_pool *pool;
	struct bpfload *bpf;
	struct dns_service *dns;  /* NULL: there is no mapped DNS */
	uint16_t buffer_bytes[2]; /* payload of a receive buffer: whole segments over IPv4, and over IPv6 */
	struct bridge_faults faults;
	const struct flow_recorder *recorder; /* NULL: ends of flows are not recorded */
	uint64_t now_ns;
	void *ctx;
	/* Everything that was given to the stack's transmit is on its way when this returns. */
	void (*flush_transmissions)(void *ctx);
	/* The interface of a port of the stack; the port of an interface, or -1 */
	uint32_t (*ifindex_of)(void *ctx, uint16_t port);
	int (*port_of)(void *ctx, uint32_t ifindex);
	/* Are programs on this interface, toward upstreams? */
	bool (*has_uplink)(void *ctx, uint32_t ifindex);
	/* An upstream is reached by another interface now: programs must be there before the next dial. */
	void (*uplinks_changed)(void *ctx);
};

/* Before uring_enable(). All that `settings` points to must outlive the bridge. 0 or -errno. */
int bridge_create(struct bridge **out, const struct bridge_settings *settings);
void bridge_destroy(struct bridge *bridge);
/* The call-backs that the stack must be created with (all but `transmit` and its own ctx use). */
void bridge_flow_opened(struct bridge *bridge, struct flow *flow);
void bridge_flow_established(struct bridge *bridge, struct flow *flow);
void bridge_flow_readable(struct bridge *bridge, struct flow *flow);
void bridge_flow_writable(struct bridge *bridge, struct flow *flow);
void bridge_flow_closed(struct bridge *bridge, struct flow *flow, enum flow_end why);
void bridge_flow_syn_again(struct bridge *bridge, struct flow *flow);
enum stack_judgement bridge_judge(struct bridge *bridge, const struct packet_view *view, bool has_port);
void bridge_flow_released(struct bridge *bridge, struct flow *flow);
/* What the rules say, and the upstream of a new association as they want it. */
struct rules_verdict bridge_decide_packet(struct bridge *bridge, const struct rules_packet *packet);
struct upstream *bridge_pick_upstream(struct bridge *bridge, int32_t wanted);
/* New packets are judged by `rules` from now on (NULL: no rules); the bridge owns the set. */
void bridge_set_rules(struct bridge *bridge, struct rules_set *rules, uint64_t now_ns);
void bridge_set_stack(struct bridge *bridge, struct stack *stack);

/* The time that all call-backs and completions up to the next call happen at. */
void bridge_set_time(struct bridge *bridge, uint64_t now_ns);
/* One completion with op >= BRIDGE_FIRST_OP. */
void bridge_complete(struct bridge *bridge, union uring_word word, int32_t res, uint32_t flags);
/* Once per loop, after input: starts the sends that became possible, refills receive buffers, runs timers. */
void bridge_flush(struct bridge *bridge, uint32_t reserve_frames);
/* Something is left to do that no completion and no timer will tell of: call again without sleeping. */
bool bridge_has_work(const struct bridge *bridge);
uint64_t bridge_next_timer_ns(const struct bridge *bridge);
/* Resets up to `max` flows toward client and upstream; returns how many were left to do before. */
uint32_t bridge_reset_some(struct bridge *bridge, uint32_t max);
/* The same for flows of the kernel. */
uint32_t bridge_flush_spliced(struct bridge *bridge, uint32_t max);
/* The ways to upstreams may have changed; true: one leaves by another interface now (bridge_upstreams()). */
bool bridge_update_routes(struct bridge *bridge);
/* True: what was known of the next hop does not hold any more. */
bool bridge_update_next_hop(struct bridge *bridge);
struct trace *bridge_trace(struct bridge *bridge);
const struct upstreams *bridge_upstreams(const struct bridge *bridge);
/* See upstreams_reload(); on the bridge's thread. */
int bridge_reload_upstreams(struct bridge *bridge, const struct config *config, char *error, uint32_t error_bytes);
/* Descriptor that is readable when names have been resolved, then bridge_resolved(); -1: no upstream has one. */
int bridge_resolver_fd(struct bridge *bridge);
void bridge_resolved(struct bridge *bridge);
struct splice *bridge_splice(struct bridge *bridge);
/* Connections that still wait for completions or are live. */
uint32_t bridge_connections(const struct bridge *bridge);

const struct bridge_counters *bridge_counters(const struct bridge *bridge);
void bridge_gauges(const struct bridge *bridge, struct bridge_gauges *out);
/*
 * Payload bytes a second of a relayed flow, by direction (FLOW_UP, FLOW_DOWN): since somebody asked before, if that was
 * a second or more ago, else as told then; at first its average.
 */
void bridge_flow_rates(struct bridge *bridge, const struct flow *flow, uint64_t now_ns, uint64_t rates[2]);
/* Why this flow is not the kernel's, static; NULL: it is on its way there. */
const char *bridge_flow_refusal(const struct bridge *bridge, const struct flow *flow);
/* Name of the upstream of this flow's connection; NULL: it has none. */
const char *bridge_flow_upstream(const struct bridge *bridge, const struct flow *flow);
/* Name of the state of this flow's connection, static. */
const char *bridge_flow_state(const struct bridge *bridge, const struct flow *flow);

#endif
