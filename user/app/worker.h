/* SPDX-License-Identifier: MIT */
/*
 * The one data-path thread of this build: AF_XDP sockets, io_uring, timers, the
 * stack and the bridge. Everything below runs on that thread; other threads
 * may only use the functions declared here.
 */
#ifndef SOCKSPLICE_WORKER_H
#define SOCKSPLICE_WORKER_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "assoc.h"
#include "bpfload.h"
#include "bridge.h"
#include "config.h"
#include "frame.h"
#include "reassembly.h"
#include "stack.h"

struct worker;
struct record;

/* One LAN interface as it was set up; constant after worker_create(). */
struct worker_port {
	char name[IFNAMSIZ];
	int ifindex;
	uint32_t queues;
	uint32_t mtu;
	bool adopted;          /* attach: external */
	enum config_hook hook; /* xdp or tc */
	const char *hook_reason;
	const char *xdp;  /* "native" | "generic" | "none" */
	const char *xsk;  /* "zerocopy" | "copy" | "generic" | "none" */
	char reason[160]; /* why this mode, in plain words */
};

struct worker_frames {
	uint32_t total, pool, fill, rx, flows, tx, completion; /* pool+fill+rx+flows+tx+completion == total */
	uint32_t flows_recv;                                   /* part of `flows`: lent to io_uring for reception */
	uint32_t pool_low_water;
	uint64_t pool_exhausted;
	uint32_t frame_bytes;
	bool huge_pages;
	int numa_node; /* -1: not bound */
};

struct worker_uring {
	bool defer_taskrun, recv_bundle;
	uint64_t submits, completions, waits;
	uint32_t entries, queued, peak; /* of the submission queue */
	uint64_t full;
};

/* How many packets the ports gave at once. */
struct worker_batch {
	uint32_t limit, last, peak;
	uint64_t batches, packets; /* of those that were not empty */
	uint64_t full;             /* the limit ended the batch, more was waiting */
};

struct worker_xsk {
	uint64_t rx_packets, tx_packets, tx_kicks, tx_ring_full;
	uint64_t kernel_rx_dropped, kernel_rx_ring_full, kernel_fill_empty; /* XDP_STATISTICS */
};

/* All TAP devices together. */
struct worker_tap {
	uint64_t rx_packets, rx_bytes, rx_truncated, rx_no_frame, rx_errors, tx_packets, tx_writes, tx_errors;
};

/* The warm connections of all upstreams. */
struct worker_upstream_pool {
	uint32_t target, warm, warming, peak;
	uint64_t hits, misses, unfit, discarded, aged;
};

struct worker_stats {
	uint64_t uptime_ns;
	struct worker_frames frames;
	struct stack_counters stack;
	struct stack_gauges gauges;
	struct bridge_counters bridge;
	struct bridge_gauges bridge_gauges;
	struct worker_uring uring;
	struct worker_xsk xsk;
	struct worker_tap tap;
	struct splice_counters splice;
	struct splice_gauges splice_gauges;
	struct dns_counters dns; /* zero without mapped DNS, as the next */
	struct dns_gauges dns_gauges;
	struct assoc_counters assoc;
	struct assoc_gauges assoc_gauges;
	struct reassembly_counters reassembly;
	struct worker_upstream_pool upstream_pool;
	uint64_t bpf[PACKET_COUNTER_COUNT];
	struct worker_batch batch;
	const char *simd; /* name of the checksum routine in use */
};

/* One upstream, as `socksplice upstreams` shows it. */
struct worker_upstream {
	char name[64];
	char host[CONFIG_MAX_HOST + 1]; /* empty: given by address */
	struct endpoint server;         /* as it is dialled now; zero while the name is not resolved */
	const char *state;              /* static */
	uint64_t until_ns;              /* failed: from now to the next probe */
	uint32_t weight, mark, addresses;
	uint32_t spliced, relaying, dialing;
	uint32_t pool_target, warm, warming;
	struct upstream_counters counters;
	struct upstream_latency dial, handshake;
	uint32_t ports_total, ports_in_use;
	uint64_t ports_exhausted;
	char uplink[IFNAMSIZ]; /* where the last way led; empty: none was found yet */
	bool routed;           /* there is a way now */
	bool local;            /* on this machine */
	bool present;          /* in the configuration */
	bool resolved;         /* an address is known */
	bool unresolvable;     /* its name was asked for in vain */
	bool failed;           /* out of use until a probe succeeds */
	uint32_t failures;     /* dials and handshakes in a row */
	/* see struct upstream */
	uint64_t answered_ns, fault_ns;
	const char *fault, *refusal;
	uint32_t refusals;
};

/* Slots looked at per question about rates. */
#define WORKER_RATES_PER_READ 2048

struct worker_flow_row {
	bool spliced, udp;
	struct assoc_row assoc;     /* udp: this */
	struct splice_flow splice;  /* spliced: this ... */
	struct flow_info flow;      /* ... else this */
	const char *upstream_state; /* bridge state name, static */
	const char *not_spliced;    /* why it is relayed, static; NULL: it is on its way to the kernel */
	uint64_t rates[2];          /* of relayed ones: bytes a second by direction */
	char upstream[64];
	char name[DNS_TEXT_BYTES]; /* that the client asked for; empty: it went to an address */
};

/* A flow that has carried something lately. */
struct worker_flow_rate {
	uint32_t slot;
	struct addr client;
	uint64_t rates[2]; /* payload bytes a second by direction: FLOW_UP, FLOW_DOWN */
};

/*
 * Reads config, topology; loads BPF, UMEM, sockets; nothing is attached yet. 0 or -errno with `error` for a person.
 * `config` must outlive the worker; its keys of `tcp` are the worker's to change from now on (worker_apply()).
 */
int worker_create(struct worker **out, struct config *config, char *error, uint32_t error_bytes);
/* Starts the thread, then attaches; returns when packets are being served. */
int worker_start(struct worker *worker, char *error, uint32_t error_bytes);
/*
 * Resets every flow that needs this process toward its client and its upstream, ends the thread (under one second).
 * flush: spliced flows too, and worker_destroy() removes programs and pins; else these live on.
 */
void worker_stop(struct worker *worker, bool flush);
void worker_destroy(struct worker *worker);

uint32_t worker_port_count(const struct worker *worker);
const struct worker_port *worker_port(const struct worker *worker, uint32_t index);
/* Where ends of flows are recorded; NULL: nowhere. */
struct record *worker_record(const struct worker *worker);

/* Asks the thread for a consistent snapshot. 0, or -ETIMEDOUT when it does not answer within 2 s. */
int worker_read_stats(struct worker *worker, struct worker_stats *out);
/*
 * Up to `max` flows from slot *cursor on (start with 0); advances *cursor; returns rows filled, 0 at the end,
 * or -ETIMEDOUT. Between calls flows come and go; one call is consistent.
 */
int worker_read_flows(struct worker *worker, uint32_t *cursor, struct worker_flow_row *rows, uint32_t max);

/* All upstreams, at most UPSTREAMS_SLOTS rows; how many, or -ETIMEDOUT. */
int worker_read_upstreams(struct worker *worker, struct worker_upstream *rows);

/*
 * The same for rates, which is much less work: flows without traffic are left out. `max` is at least
 * WORKER_RATES_PER_READ.
 */
int worker_read_rates(struct worker *worker, uint32_t *cursor, struct worker_flow_rate *rates, uint32_t max);
/* The flow in this slot, if it is still the one of that client. 1, 0, or -ETIMEDOUT. */
int worker_read_flow(struct worker *worker, const struct worker_flow_rate *flow, struct worker_flow_row *row);

/* What a reload changes while packets are served. */
struct worker_change {
	struct config_tcp tcp; /* of it those keys that need no restart */
	enum config_on_down on_down;
	struct rules_set *rules; /* the worker's own once it is applied, as are `domains`; NULL: no rules */
	struct domains *domains;
	/* its upstreams and the settings of their pools, see upstreams_reload(); not needed afterwards */
	const struct config *config;
};

/*
 * All of `change` is in force when this returns 0, in user space and in the kernel, and no packet is judged by the old
 * rules any more. -errno with `error` for a person, and nothing is changed; -ETIMEDOUT: the thread does not answer. One
 * caller at a time.
 */
int worker_apply(struct worker *worker, const struct worker_change *change, char *error, uint32_t error_bytes);

/* The next new connection (of `client`, if not NULL) is recorded; then what is there so far. 0 or -ETIMEDOUT. */
int worker_trace_arm(struct worker *worker, const struct addr *client);
int worker_trace_read(struct worker *worker, struct trace *out);

#endif
