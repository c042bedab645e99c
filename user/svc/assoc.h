/* SPDX-License-Identifier: MIT */
/*
 * UDP of clients through SOCKS5 associations (RFC 1928 section 7): see assoc.c
 * for the theory of operation.
 */
#ifndef SOCKSPLICE_ASSOC_H
#define SOCKSPLICE_ASSOC_H

#include <stdbool.h>
#include <stdint.h>

#include "bpfload.h"
#include "config.h"
#include "rules.h"
#include "stack.h"
#include "upstream.h"
#include "uring.h"

/* Completions whose op is at least this belong here; smaller ones are the bridge's and the worker's. */
#define ASSOC_FIRST_OP 64

#define ASSOC_COUNTERS(X)                                                                                              \
	X(opened)                                                                                                      \
	X(ready)   /* the upstream granted the association */                                                          \
	X(carried) /* taken over by the kernel */                                                                      \
	X(closed)                                                                                                      \
	X(idle)                                                                                                        \
	X(evicted)            /* least recently used, at max-flows */                                                  \
	X(evicted_per_client) /* of a client at its share */                                                           \
	X(refused)            /* by the upstream */                                                                    \
	X(refused_off)        /* datagrams for an upstream with `udp: off` */                                          \
	X(refused_again)      /* datagrams of an endpoint whose association was refused a moment ago */                \
	X(dial_failed)                                                                                                 \
	X(dial_timed_out)                                                                                              \
	X(handshake_failed)                                                                                            \
	X(handshake_timed_out)                                                                                         \
	X(no_descriptor)                                                                                               \
	X(no_slot)                                                                                                     \
	X(no_frame)                                                                                                    \
	X(control_ended)  /* the control connection ended, and so the association */                                   \
	X(relay_repaired) /* BND.ADDR was not what datagrams can be sent to */                                         \
	X(relay_unusable) /* no address could be made of BND.ADDR and BND.PORT */                                      \
	X(socket_failed)  /* the UDP socket could not be made or does not work any more */                             \
	X(queued)         /* datagrams that waited for their association */                                            \
	X(queue_full)     /* ... and those for which there was no room */                                              \
	X(sent)           /* datagrams to the upstream by user space */                                                \
	X(sent_bytes)     /* payload */                                                                                \
	X(send_blocked)   /* the socket buffer was full: dropped */                                                    \
	X(send_failed)                                                                                                 \
	X(received) /* datagrams of the upstream by user space */                                                      \
	X(received_bytes)                                                                                              \
	X(received_batches)   /* receptions; one may hold several datagrams (UDP_GRO) */                               \
	X(received_fragment)  /* FRAG is not 0: dropped */                                                             \
	X(received_name)      /* from a domain name, which is no address for a client: dropped */                      \
	X(received_malformed) /* no SOCKS5 UDP header, or from an address that nobody has */                           \
	X(received_no_buffer)                                                                                          \
	X(too_big) /* larger than the way to the upstream, and not to be cut */                                        \
	X(not_carried_family)                                                                                          \
	X(not_carried_route)                                                                                           \
	X(not_carried_policy) /* enable_ebpf: false */                                                                 \
	X(not_carried_table)                                                                                           \
	X(stale_completions)                                                                                           \
	X(kernel_packets_up) /* of associations that have ended */                                                     \
	X(kernel_packets_down)                                                                                         \
	X(kernel_bytes_up)                                                                                             \
	X(kernel_bytes_down)

struct assoc_counters {
#define X(name) uint64_t name;
	ASSOC_COUNTERS(X)
#undef X
};

struct assoc_gauges {
	uint32_t associations, clients;
	uint32_t dialing, ready, carried, refused, closing;
};

struct assocs;

struct assoc_calls {
	void *ctx;
	/* What the rules say about a datagram. */
	struct rules_verdict (*decide)(void *ctx, const struct rules_packet *packet);
	/* The upstream of a new association; `wanted` as in struct rules_verdict. NULL: none. */
	struct upstream *(*choose)(void *ctx, int32_t wanted);
	/* The interface of a port of the stack */
	uint32_t (*ifindex_of)(void *ctx, uint16_t port);
	/* Are the programs at work on the interface that leads to this upstream? */
	bool (*is_uplink)(void *ctx, uint32_t ifindex);
};

struct assoc_settings {
	const struct config *config;
	struct uring *uring;
	struct frame_pool *pool;
	struct bpfload *bpf;
	struct assoc_calls calls;
	uint8_t secret[16];
};

/* Before uring_enable(). All that `settings` points to must outlive it. 0 or -errno. */
int assoc_create(struct assocs **out, const struct assoc_settings *settings);
void assoc_destroy(struct assocs *assocs);
void assoc_set_stack(struct assocs *assocs, struct stack *stack);
/* The time that everything up to the next call happens at. */
void assoc_set_time(struct assocs *assocs, uint64_t now_ns);
/* The stack's call-back. */
void assoc_datagram(struct assocs *assocs, struct stack_datagram *datagram);
/* One completion with op >= ASSOC_FIRST_OP. */
void assoc_complete(struct assocs *assocs, union uring_word word, int32_t res, uint32_t flags);
/* Once per loop, after input. */
void assoc_flush(struct assocs *assocs);
uint64_t assoc_next_timer_ns(const struct assocs *assocs);
/* The way to an upstream has changed: associations of the kernel that used it end, and are made anew by traffic. */
void assoc_routes_changed(struct assocs *assocs);
/* Upstreams have other numbers now: what rules had named one for is made anew by traffic. */
void assoc_upstreams_changed(struct assocs *assocs);
/* XDP must not use the next hops that it knows. */
void assoc_forget_next_hops(struct assocs *assocs);
/* No new ones; closes up to `max`; returns how many were left before. */
uint32_t assoc_close_some(struct assocs *assocs, uint32_t max);
/* Associations that are live or wait for completions. */
uint32_t assoc_busy(const struct assocs *assocs);

struct assoc_row {
	struct endpoint client;
	const char *state;
	const char *upstream;                                    /* name; lives as long as the configuration */
	bool carried;                                            /* by the kernel */
	uint64_t packets_up, packets_down, bytes_up, bytes_down; /* payload */
	uint64_t created_ns, last_ns;
};

/* Slots to walk; false: none is live there. */
uint32_t assoc_slots(const struct assocs *assocs);
bool assoc_describe(const struct assocs *assocs, uint32_t slot, struct assoc_row *out);
const struct assoc_counters *assoc_counters(const struct assocs *assocs);
void assoc_gauges(const struct assocs *assocs, struct assoc_gauges *out);

#endif
