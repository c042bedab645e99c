/* SPDX-License-Identifier: MIT */
/*
 * The flows that the kernel carries: their entries, from the SYN of a client
 * to the rest after the last packet. See splice.c for the theory of operation;
 * offload.c takes a connection through the handover.
 */
#ifndef SOCKSPLICE_SPLICE_H
#define SOCKSPLICE_SPLICE_H

#include <stdbool.h>
#include <stdint.h>

#include "bpfload.h"
#include "config.h"
#include "flow_abi.h"
#include "flow_record.h"
#include "stack.h"
#include "trace.h"
#include "upstreams.h"

#define SPLICE_NONE UINT32_MAX

/* Why a connection is relayed in user space. */
#define SPLICE_REFUSALS(X)                                                                                             \
	X(POLICY, policy)                 /* tcp.relay: userspace, accept: early, or enable_ebpf: false */             \
	X(LOCAL_UPSTREAM, local_upstream) /* the upstream is on this machine */                                        \
	X(NO_ROUTE, no_route)             /* no way to the upstream is known */                                        \
	X(FAMILY, family)                 /* IPv4 client and IPv6 upstream, or the reverse */                          \
	X(OPTIONS, options)               /* of TCP, that the upstream's leg cannot be given; IP options */            \
	X(PORTS, ports)                   /* no source port of the range is free */                                    \
	X(TABLE, table)                   /* tcp.max-flows entries are in use or resting */                            \
	X(KEY_IN_USE, key_in_use)                                                                                      \
	X(REPAIR, repair)           /* TCP_REPAIR is not permitted or failed */                                        \
	X(EARLY_BYTES, early_bytes) /* the upstream said more than SOCKS5 asks for */                                  \
	X(NO_SYNACK, no_synack)     /* the upstream's packets do not come in by an interface of ours */                \
	X(EBPF, ebpf)               /* the tables could not be written */

enum splice_refusal {
	SPLICE_ALLOWED,
#define X(id, name) SPLICE_REFUSED_##id,
	SPLICE_REFUSALS(X)
#undef X
		SPLICE_REFUSAL_COUNT
};

#define SPLICE_COUNTERS(X)                                                                                             \
	X(handovers)         /* SYN-ACK sent, client→upstream open */                                                \
	X(spliced)           /* both directions open, the socket is gone */                                            \
	X(early_data_flows)  /* flows whose upstream spoke before the client was established */                        \
	X(early_data_bytes)  /* delivered from the socket by user space */                                             \
	X(early_data_missed) /* bytes that the socket had not got in time: the upstream sends them again */            \
	X(synacks_resent)                                                                                              \
	X(client_never_acked) /* given up */                                                                           \
	X(upstream_reset)     /* before the client was established */                                                  \
	X(client_reset)       /* before it was established */                                                          \
	X(reports_found)      /* facts whose report was lost */                                                        \
	X(challenge_acks)     /* answers to a SYN for a live flow */                                                   \
	X(revived)            /* the RST that seemed to end them was none: traffic went on */                          \
	X(finished)           /* both sides closed */                                                                  \
	X(finished_reset)                                                                                              \
	X(finished_idle)                                                                                               \
	X(flushed)                                                                                                     \
	X(adopted)             /* from an earlier daemon */                                                            \
	X(adopted_unusable)    /* of an earlier daemon, in the middle of a handover: reset */                          \
	X(adopted_unreachable) /* of an earlier daemon, by an interface that is not configured any more: reset */      \
	X(bytes_up)            /* payload of finished flows */                                                         \
	X(bytes_down)                                                                                                  \
	X(packets_up)                                                                                                  \
	X(packets_down)                                                                                                \
	X(payload_up) /* of all flows under this daemon, as of the last look at each: seconds ago at most */           \
	X(payload_down)

struct splice_counters {
#define X(name) uint64_t name;
	SPLICE_COUNTERS(X)
#undef X
	uint64_t not_spliced[SPLICE_REFUSAL_COUNT];
};

struct splice_gauges {
	uint32_t entries; /* size of the table */
	uint32_t in_use;  /* entries */
	uint32_t peak;    /* most entries in use at a time */
	uint32_t live;    /* spliced flows */
	uint64_t rate_up; /* payload bytes a second of all of them, as of the last look at each */
	uint64_t rate_down;
	uint32_t ports_total; /* pairs of address and port to dial from */
	uint32_t ports_in_use;
	uint64_t ports_exhausted;
	uint32_t entry_bytes; /* of kernel memory per entry: the entry itself, and both keys with their hash elements */
	uint32_t slot_bytes;  /* of user memory per entry */
};

struct splice;
struct flowmap;

struct splice_calls {
	void *ctx;
	struct trace *trace;
	struct dnsmap *names;                 /* whose addresses flows go to; NULL: there are none */
	const struct flow_recorder *recorder; /* NULL: ends of flows are not recorded */
	/* BPF has told something about an entry whose handover is going on; `conn` as given to splice_set_conn() */
	void (*handover)(void *ctx, uint32_t conn, enum flow_report_kind kind);
	/* Index of the stack's port for an interface, or -1; and the reverse */
	int (*port_of)(void *ctx, uint32_t ifindex);
	uint32_t (*ifindex_of)(void *ctx, uint16_t port);
	/* Are programs on this interface, toward upstreams? */
	bool (*has_uplink)(void *ctx, uint32_t ifindex);
};

/* Before splice_start(); the tables of `bpf` must outlive it. 0 or -errno. */
int splice_create(struct splice **out, const struct config *config, struct bpfload *bpf, struct upstreams *upstreams,
		  const struct splice_calls *calls);
void splice_destroy(struct splice *splice);
void splice_set_stack(struct splice *splice, struct stack *stack);
/*
 * Interfaces by which flows of an earlier daemon reach their upstreams, whether these are in the configuration or not:
 * programs must stay there. At most `max`; how many.
 */
uint32_t splice_inherited_uplinks(const struct splice *splice, uint32_t *ifindexes, uint32_t max);
/*
 * Ports that flows of an earlier daemon are dialled from and that no upstream of the configuration knows of; before
 * splice_start(), those of all flows that it left.
 */
void splice_foreign_ports(const struct splice *splice, struct ports_set *out);
/* Takes over what an earlier daemon left. Once, before any flow. */
void splice_start(struct splice *splice, uint64_t now_ns);
/* Descriptor that is readable when BPF has something to tell. */
int splice_fd(const struct splice *splice);

/* Reads reports, runs timers and a part of the sweep. */
void splice_run(struct splice *splice, uint64_t now_ns);
uint64_t splice_next_timer_ns(const struct splice *splice);

/* Can the kernel carry this client's connection by the upstream in `slot` at all? Costs nothing. */
enum splice_refusal splice_judge(const struct splice *splice, uint32_t slot, const struct stack_syn *syn);
/*
 * An entry for a client's SYN, phase PENDING, both keys in place, and the socket bound to its port: from now on the
 * dial must follow. SPLICE_ALLOWED and *index, or why not.
 */
enum splice_refusal splice_take(struct splice *splice, uint32_t slot, const struct stack_syn *syn, int fd,
				uint64_t now_ns, uint32_t *index);
/*
 * The same for a connection whose client is not known yet: the SYN will offer `offered`, only the upstream's key is in
 * place. The client comes by splice_give_client().
 */
enum splice_refusal splice_take_warm(struct splice *splice, uint32_t slot, const struct flow_options *offered, int fd,
				     uint64_t now_ns, uint32_t *index);
/* SPLICE_ALLOWED; or why not, and the entry is as before. */
enum splice_refusal splice_give_client(struct splice *splice, uint32_t index, const struct stack_syn *syn,
				       uint64_t now_ns);
/* What a SYN that found a live flow under its addresses gets: true when it was answered here. */
bool splice_answer_syn(struct splice *splice, const struct stack_syn *syn, uint64_t now_ns);
struct flow_entry *splice_entry(struct splice *splice, uint32_t index);
/* The connection whose handover the entry is in; UINT32_MAX: none. */
void splice_set_conn(struct splice *splice, uint32_t index, uint32_t conn);
/* What becomes of this flow is noted by the trace. */
void splice_set_traced(struct splice *splice, uint32_t index);
/* The flow is the kernel's from now on: no connection belongs to it any more. */
void splice_let_go(struct splice *splice, uint32_t index);
/* Gives everything back: keys, port, entry. Nothing is told to either end. */
void splice_release(struct splice *splice, uint32_t index, uint64_t now_ns);
/*
 * The flow is relayed: its client key goes, or with `keep_client_key` is left in its place for who makes it that of a
 * relayed flow (relay_keys.c), which is true then; the upstream's stays while its window needs translation.
 */
bool splice_demote(struct splice *splice, uint32_t index, bool keep_client_key);
/* The kernel's tables; they live as long as the splice. */
struct flowmap *splice_map(struct splice *splice);

/* RST to one end, by what the entry knows of its sequence numbers. */
void splice_reset_client(struct splice *splice, uint32_t index);
void splice_reset_upstream(struct splice *splice, uint32_t index);
/* Resets and removes up to `max` flows of all; returns how many there still were before. */
uint32_t splice_flush_some(struct splice *splice, uint32_t max, uint64_t now_ns);
/* How a packet from the destination to the client is addressed. -1: its interface is none of ours. */
int splice_client_link(struct splice *splice, uint32_t index, struct build_link *link);

struct splice_flow {
	struct endpoint client, destination;
	const char *phase;
	uint64_t bytes_up, bytes_down; /* payload */
	uint64_t packets_up, packets_down;
	uint64_t created_ns;
	uint64_t rate_up, rate_down;             /* bytes a second, over the last seconds */
	uint32_t client_rtt_us, upstream_rtt_us; /* 0: unknown */
	struct endpoint source;                  /* what the upstream is dialled from */
	bool adopted;
	const char *upstream; /* NULL: one that is not in the configuration any more */
};

/* false: no spliced flow has this index. */
bool splice_describe(struct splice *splice, uint32_t index, uint64_t now_ns, struct splice_flow *out);
/* Its client, and payload bytes a second by direction. false: no spliced flow with traffic has this index. */
bool splice_flow_rates(const struct splice *splice, uint32_t index, struct addr *client, uint64_t rates[2]);
uint32_t splice_entries(const struct splice *splice);
struct splice_counters *splice_counters(struct splice *splice);
void splice_gauges(const struct splice *splice, struct splice_gauges *out);
const char *splice_refusal_name(enum splice_refusal refusal);
/* Both sides have closed, or one reset. */
bool splice_is_over(const struct flow_entry *entry);
/* Such a flow's entry goes after `linger`; for flows that ended during their handover. */
void splice_ended(struct splice *splice, uint32_t index, uint64_t now_ns);
/* The next hop of the upstream in `slot` has moved: XDP must not use what it knows. */
void splice_forget_next_hop(struct splice *splice, uint32_t slot);
/* Any flow that lives on without a daemon? */
bool splice_has_flows(const struct splice *splice);

#endif
