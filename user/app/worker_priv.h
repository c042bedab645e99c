/* SPDX-License-Identifier: MIT */
/* What the files of the worker share. */
#ifndef SOCKSPLICE_WORKER_PRIV_H
#define SOCKSPLICE_WORKER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "assoc.h"
#include "rulemap.h"
#include "tap.h"
#include "topo.h"
#include "uring.h"
#include "worker.h"
#include "xsk.h"

#define WORKER_MAX_SOCKETS CFG_MAX_QUEUES
#define WORKER_MAX_BATCH 256
/* Beside the interfaces of clients, as many as the map of interfaces has room for. */
#define WORKER_MAX_UPLINKS (CFG_MAX_PORTS - CONFIG_MAX_INTERFACES)

_Static_assert(CONFIG_MAX_INTERFACES <= STACK_MAX_PORTS, "every interface is a port of the stack");

/* The worker's own completions; those of the bridge start at BRIDGE_FIRST_OP. */
enum worker_op {
	WORKER_OP_XSK,
	WORKER_OP_TAP,
	WORKER_OP_REPORTS,
	WORKER_OP_WAKE,
	WORKER_OP_NETLINK,
	WORKER_OP_RESOLVER,
	WORKER_OP_DNS
};

enum worker_question {
	WORKER_ASK_NOTHING,
	WORKER_ASK_STATS,
	WORKER_ASK_FLOWS,
	WORKER_ASK_RATES,
	WORKER_ASK_TRACE_ARM,
	WORKER_ASK_TRACE_READ,
	WORKER_ASK_UPSTREAMS,
	WORKER_ASK_APPLY
};

/* One question of another thread at a time; asked and answered under `lock`. */
struct worker_mailbox {
	pthread_mutex_t callers; /* one caller at a time */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	int wake_fd; /* eventfd: wakes the ring */
	enum worker_question question;
	struct worker_stats *stats;
	const struct addr *trace_client;
	struct trace *trace;
	const struct worker_change *change;
	struct worker_flow_row *rows;
	struct worker_flow_rate *rates;
	uint32_t rows_max, cursor;
	uint32_t flow_slots; /* end of the table that `cursor` walks */
	struct worker_upstream *upstreams;
	char *error;
	uint32_t error_bytes;
	int result;
};

struct worker {
	struct config *config; /* `tcp` changes on the thread, by WORKER_ASK_APPLY; its readers are there */
	struct worker_port ports[CONFIG_MAX_INTERFACES];
	struct topo_interface topo[CONFIG_MAX_INTERFACES];
	uint32_t port_count;
	uint32_t first_socket[CONFIG_MAX_INTERFACES]; /* of each port; its queues follow */
	struct xsk sockets[WORKER_MAX_SOCKETS];
	uint16_t socket_port[WORKER_MAX_SOCKETS];
	uint32_t socket_count;
	struct tap taps[CONFIG_MAX_INTERFACES]; /* of ports with `hook: tc` */
	bool tap_more[CONFIG_MAX_INTERFACES];   /* the last reception stopped at its limit */
	int uplinks[WORKER_MAX_UPLINKS];        /* where the programs are */
	uint32_t uplink_count;
	int resolver_fd; /* -1: no name is resolved */
	struct bpfload *bpf;
	struct rulemap rulemap;
	struct umem umem;
	struct xsk_pool xsk_pool;
	bool xsk_pool_created;
	struct uring uring;
	struct stack *stack;
	struct bridge *bridge;
	struct dns_service *dns; /* NULL: there is no mapped DNS */
	struct assocs *assocs;
	struct worker_batch batch;
	struct record *record; /* NULL: `log.flows: off` */
	struct flow_recorder recorder;
	int netlink_fd;
	uint64_t started_ns;
	uint64_t now_ns; /* of this turn, on the thread */

	pthread_t thread;
	bool thread_running;
	atomic_bool stopping;
	bool flushing;     /* spliced flows are reset too, and nothing stays behind */
	int enable_result; /* of uring_enable() on the thread */
	struct worker_mailbox mailbox;
};

uint64_t worker_now_ns(void);

int worker_fail(char *error, uint32_t error_bytes, int err, const char *what, const char *name);

/* worker_ports.c: interfaces; in the order of the start */
int worker_read_topology(struct worker *worker, char *error, uint32_t error_bytes);
int worker_open_programs(struct worker *worker, char *error, uint32_t error_bytes);
int worker_create_umem(struct worker *worker, char *error, uint32_t error_bytes);
int worker_open_ports(struct worker *worker, char *error, uint32_t error_bytes);
/* Those of all upstreams that have none yet. 0, or the first error; the others are attached all the same. */
int worker_attach_uplinks(struct worker *worker, char *error, uint32_t error_bytes);
int worker_attach_port(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes);
/* What the programs should know of an interface, again when it has changed. */
int worker_tell_port(struct worker *worker, uint32_t index);
void worker_tell_uplinks(struct worker *worker);
/* Those of flows that an earlier daemon left. */
void worker_attach_inherited(struct worker *worker);
/* Call-backs of the bridge. */
void worker_follow_uplinks(void *worker);
bool worker_has_uplink(void *worker, uint32_t ifindex);
/* The ports of all upstreams are the kernel's to give out no more. */
void worker_reserve_ports(struct worker *worker);

/* worker_loop.c: the thread */
/* Most packets that are taken from one queue at once. */
uint32_t worker_batch_limit(const struct worker *worker);
void *worker_run(void *worker);
void worker_flush(void *worker);
int worker_transmit(void *worker, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes);
/* Reads own addresses, MTUs and MACs again and tells program and stack. */
void worker_update_topology(struct worker *worker);

/* The thread listens to the resolver, once there is one. */
void worker_watch_resolver(struct worker *worker);

/* worker_report.c: snapshots; worker_answer() runs on the thread */
int worker_mailbox_create(struct worker *worker);
void worker_mailbox_destroy(struct worker *worker);
void worker_answer(struct worker *worker);
/* The thread's part of worker_apply(). */
int worker_ask_apply(struct worker *worker, const struct worker_change *change, char *error, uint32_t error_bytes);

#endif
