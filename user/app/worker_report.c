/* SPDX-License-Identifier: MIT */
/*
 * Snapshots for other threads. The data-path thread answers between two
 * batches, so what it reports is consistent: frames add up exactly. It never
 * waits for the asker; a question is one pass over counters or over a bounded
 * stretch of the flow table.
 */
#include "worker_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "csum.h"

#define WORKER_ANSWER_TIMEOUT_S 2
/* Slots looked at per question: an empty table of millions must not hold up packets. */
#define WORKER_FLOW_SLOTS_PER_ANSWER 16384

int worker_mailbox_create(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;
	pthread_condattr_t attr;

	box->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->wake_fd < 0)
		return -errno;
	pthread_mutex_init(&box->callers, NULL);
	pthread_mutex_init(&box->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&box->answered, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

void worker_mailbox_destroy(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;

	if (box->wake_fd < 0)
		return;
	close(box->wake_fd);
	box->wake_fd = -1;
	pthread_cond_destroy(&box->answered);
	pthread_mutex_destroy(&box->lock);
	pthread_mutex_destroy(&box->callers);
}

static void worker_report_frames(const struct worker *worker, struct worker_frames *out)
{
	const struct frame_pool *pool = &worker->umem.pool;
	uint32_t rx = 0, completion = 0;

	for (uint32_t i = 0; i < worker->socket_count; i++) {
		uint32_t socket_rx, socket_completion;

		xsk_count_rings(&worker->sockets[i], &socket_rx, &socket_completion);
		rx += socket_rx;
		completion += socket_completion;
	}
	*out = (struct worker_frames){
		.total = pool->total,
		.pool = pool->owned[FRAME_POOL],
		.fill = pool->owned[FRAME_FILL] - rx,
		.rx = pool->owned[FRAME_RX] + rx,
		.flows = pool->owned[FRAME_FLOW] + pool->owned[FRAME_RECV],
		.flows_recv = pool->owned[FRAME_RECV],
		.tx = pool->owned[FRAME_TX] - completion,
		.completion = completion,
		.pool_low_water = pool->low_water,
		.pool_exhausted = pool->exhausted,
		.frame_bytes = pool->frame_bytes,
		.huge_pages = worker->umem.huge_pages,
		.numa_node = worker->umem.numa_node,
	};
}

static void worker_report_xsk(const struct worker *worker, struct worker_xsk *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < worker->socket_count; i++) {
		const struct xsk *xsk = &worker->sockets[i];
		struct xsk_kernel_stats kernel = {0};

		xsk_read_kernel_stats(xsk, &kernel);
		out->rx_packets += xsk->rx_packets;
		out->tx_packets += xsk->tx_packets;
		out->tx_kicks += xsk->tx_kicks;
		out->tx_ring_full += xsk->tx_ring_full;
		out->kernel_rx_dropped += kernel.rx_dropped;
		out->kernel_rx_ring_full += kernel.rx_ring_full;
		out->kernel_fill_empty += kernel.fill_empty;
	}
}

static void worker_report_tap(const struct worker *worker, struct worker_tap *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < worker->port_count; i++) {
		const struct tap *tap = &worker->taps[i];

		if (worker->ports[i].hook != CONFIG_HOOK_TC)
			continue;
		out->rx_packets += tap->rx_packets;
		out->rx_bytes += tap->rx_bytes;
		out->rx_truncated += tap->rx_truncated;
		out->rx_no_frame += tap->rx_no_frame;
		out->rx_errors += tap->rx_errors;
		out->tx_packets += tap->tx_packets;
		out->tx_writes += tap->tx_writes;
		out->tx_errors += tap->tx_errors;
	}
}

static void worker_report_dns(struct worker *worker, struct worker_stats *out)
{
	memset(&out->dns, 0, sizeof(out->dns));
	memset(&out->dns_gauges, 0, sizeof(out->dns_gauges));
	if (!worker->dns)
		return;
	out->dns = *dns_service_counters(worker->dns);
	dns_service_gauges(worker->dns, &out->dns_gauges);
}

static void worker_report_upstream_pool(const struct upstreams *upstreams, struct worker_upstream_pool *out)
{
	*out = (struct worker_upstream_pool){.warm = upstreams->warm, .peak = upstreams->warm_peak};
	for (uint32_t i = 0; i < upstreams->used; i++) {
		const struct upstream_counters *c = &upstreams->list[i].counters;

		out->target += upstreams_pool_target(upstreams, i);
		out->warming += upstreams->list[i].warming;
		out->hits += c->pool_hits;
		out->misses += c->pool_misses;
		out->unfit += c->pool_unfit;
		out->discarded += c->pool_discarded;
		out->aged += c->pool_aged;
	}
}

static void worker_report_stats(struct worker *worker, struct worker_stats *out)
{
	out->uptime_ns = worker_now_ns() - worker->started_ns;
	worker_report_frames(worker, &out->frames);
	out->stack = *stack_counters(worker->stack);
	stack_gauges(worker->stack, &out->gauges);
	out->bridge = *bridge_counters(worker->bridge);
	bridge_gauges(worker->bridge, &out->bridge_gauges);
	out->uring = (struct worker_uring){
		.defer_taskrun = worker->uring.defer_taskrun,
		.recv_bundle = worker->uring.recv_bundle,
		.submits = worker->uring.submits,
		.completions = worker->uring.completions,
		.waits = worker->uring.waits,
		.entries = worker->config->performance.io_uring_entries,
		.queued = worker->uring.queued,
		.peak = worker->uring.peak,
		.full = worker->uring.full,
	};
	worker_report_xsk(worker, &out->xsk);
	worker_report_tap(worker, &out->tap);
	out->splice = *splice_counters(bridge_splice(worker->bridge));
	splice_gauges(bridge_splice(worker->bridge), &out->splice_gauges);
	worker_report_dns(worker, out);
	out->assoc = *assoc_counters(worker->assocs);
	assoc_gauges(worker->assocs, &out->assoc_gauges);
	out->reassembly = *stack_reassembly_counters(worker->stack);
	worker_report_upstream_pool(bridge_upstreams(worker->bridge), &out->upstream_pool);
	bpfload_read_counters(worker->bpf, out->bpf);
	out->batch = worker->batch;
	out->batch.limit = worker_batch_limit(worker);
	out->simd = csum_name();
}

/* Slots to look at: those of the stack, then those of the splice, then the UDP associations. */
static uint64_t worker_flow_slots(const struct worker *worker)
{
	return (uint64_t)worker->config->tcp.max_flows + splice_entries(bridge_splice(worker->bridge)) +
	       assoc_slots(worker->assocs);
}

static void worker_describe_name(const struct worker *worker, const struct addr *destination,
				 struct worker_flow_row *row)
{
	if (worker->dns)
		dnsmap_copy_name(dns_service_names(worker->dns), destination, row->name);
}

static void worker_name_upstream(struct worker_flow_row *row, const char *name)
{
	snprintf(row->upstream, sizeof(row->upstream), "%s", name ? name : "-");
}

static bool worker_describe_flow(struct worker *worker, uint32_t slot, struct worker_flow_row *row)
{
	uint32_t stack_slots = worker->config->tcp.max_flows;
	uint32_t splice_slots = splice_entries(bridge_splice(worker->bridge));
	const struct flow *flow;

	memset(row, 0, sizeof(*row));
	if (slot - stack_slots >= splice_slots && slot >= stack_slots) {
		row->udp = true;
		return assoc_describe(worker->assocs, slot - stack_slots - splice_slots, &row->assoc);
	}
	if (slot >= stack_slots) {
		row->spliced = true;
		if (!splice_describe(bridge_splice(worker->bridge), slot - stack_slots, worker_now_ns(), &row->splice))
			return false;
		worker_describe_name(worker, &row->splice.destination.addr, row);
		worker_name_upstream(row, row->splice.upstream);
		return true;
	}
	flow = stack_flow_at(worker->stack, slot);
	if (!flow)
		return false;
	stack_flow_describe(worker->stack, flow, &row->flow);
	worker_describe_name(worker, &row->flow.destination.addr, row);
	worker_name_upstream(row, bridge_flow_upstream(worker->bridge, flow));
	row->upstream_state = bridge_flow_state(worker->bridge, flow);
	row->not_spliced = bridge_flow_refusal(worker->bridge, flow);
	bridge_flow_rates(worker->bridge, flow, worker_now_ns(), row->rates);
	return true;
}

static int worker_report_flows(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;
	uint64_t end = worker_flow_slots(worker);
	uint32_t filled = 0;

	box->flow_slots = (uint32_t)end;
	if (end - box->cursor > WORKER_FLOW_SLOTS_PER_ANSWER)
		end = box->cursor + WORKER_FLOW_SLOTS_PER_ANSWER;
	for (; box->cursor < end && filled < box->rows_max; box->cursor++)
		filled += worker_describe_flow(worker, box->cursor, &box->rows[filled]);
	return (int)filled;
}

static bool worker_rate_of(struct worker *worker, uint32_t slot, uint64_t now_ns, struct worker_flow_rate *out)
{
	uint32_t stack_slots = worker->config->tcp.max_flows;
	const struct flow *flow;
	struct flow_info info;

	out->slot = slot;
	if (slot >= stack_slots)
		return splice_flow_rates(bridge_splice(worker->bridge), slot - stack_slots, &out->client, out->rates);
	flow = stack_flow_at(worker->stack, slot);
	if (!flow)
		return false;
	bridge_flow_rates(worker->bridge, flow, now_ns, out->rates);
	stack_flow_describe(worker->stack, flow, &info);
	out->client = info.client.addr;
	return out->rates[0] | out->rates[1];
}

static int worker_report_rates(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;
	uint64_t end = worker_flow_slots(worker), now_ns = worker_now_ns();
	uint32_t filled = 0;

	box->flow_slots = (uint32_t)end;
	if (end - box->cursor > WORKER_RATES_PER_READ)
		end = box->cursor + WORKER_RATES_PER_READ;
	for (; box->cursor < end && filled < box->rows_max; box->cursor++)
		filled += worker_rate_of(worker, box->cursor, now_ns, &box->rates[filled]);
	return (int)filled;
}

static void worker_report_upstream(const struct upstreams *upstreams, uint32_t slot, struct worker_upstream *out)
{
	const struct upstream *upstream = &upstreams->list[slot];
	const struct upstream_health *health = &upstreams->health[slot];
	uint64_t now_ns = worker_now_ns();

	*out = (struct worker_upstream){
		.state = upstream_health_name(health),
		.until_ns =
			health->state == UPSTREAM_FAILED && health->until_ns > now_ns ? health->until_ns - now_ns : 0,
		.weight = health->weight,
		.mark = upstream->settings.mark,
		.addresses = upstream->addr_count,
		.spliced = upstream->spliced,
		.relaying = upstream->relaying,
		.dialing = upstream->dialing,
		.pool_target = upstreams_pool_target(upstreams, slot),
		.warm = upstream->warm,
		.warming = upstream->warming,
		.counters = upstream->counters,
		.dial = upstream->dial,
		.handshake = upstream->handshake,
		.ports_total = upstream->ports.total,
		.ports_in_use = upstream->ports.in_use,
		.ports_exhausted = upstream->ports.exhausted,
		.routed = upstream->routed,
		.local = upstream->routed && upstream->route.local,
		.present = health->present,
		.resolved = health->resolved,
		.unresolvable = !health->resolved && upstream->resolve_failures,
		.failed = health->state == UPSTREAM_FAILED,
		.failures = health->failures,
		.answered_ns = upstream->answered_ns,
		.fault_ns = upstream->fault_ns,
		.fault = upstream->fault,
		.refusal = upstream->refusal,
		.refusals = upstream->refusals,
	};
	out->server.port = upstream->settings.server.port;
	if (upstream->addr_count)
		out->server.addr = *upstream_address(upstream);
	memcpy(out->name, upstream->settings.name, sizeof(out->name));
	memcpy(out->host, upstream->settings.host, sizeof(out->host));
	memcpy(out->uplink, upstream->ifname, sizeof(out->uplink));
}

/* Those of the configuration in its order, then removed ones that still carry something. */
static int worker_report_upstreams(const struct upstreams *upstreams, struct worker_upstream *rows)
{
	int count = 0;

	for (uint32_t i = 0; i < upstreams->count; i++)
		worker_report_upstream(upstreams, upstreams->slots[i], &rows[count++]);
	for (uint32_t i = 0; i < upstreams->used; i++)
		if (!upstreams->health[i].present && (upstreams->list[i].conns || upstreams->list[i].entries))
			worker_report_upstream(upstreams, i, &rows[count++]);
	return count;
}

static int worker_take_change(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;
	const struct worker_change *change = box->change;
	struct config_tcp *tcp = &worker->config->tcp;
	/* the only part that may say no */
	int err = bridge_reload_upstreams(worker->bridge, change->config, box->error, box->error_bytes);

	if (err)
		return err;
	assoc_upstreams_changed(worker->assocs);
	/* packets wait meanwhile: only where it is needed */
	if (bridge_upstreams(worker->bridge)->ways_changed) {
		worker_follow_uplinks(worker);
		worker_reserve_ports(worker);
		worker_watch_resolver(worker);
	}

	tcp->half_open = change->tcp.half_open;
	tcp->half_open_per_source = change->tcp.half_open_per_source;
	tcp->connect_timeout_ns = change->tcp.connect_timeout_ns;
	tcp->handshake_timeout_ns = change->tcp.handshake_timeout_ns;
	tcp->idle_timeout_ns = change->tcp.idle_timeout_ns;
	tcp->linger_ns = change->tcp.linger_ns;
	stack_set_limits(worker->stack, &(struct stack_limits){
						.half_open = tcp->half_open,
						.half_open_per_source = tcp->half_open_per_source,
						.handshake_timeout_ns = tcp->handshake_timeout_ns,
						.idle_timeout_ns = tcp->idle_timeout_ns,
						.time_wait_ns = tcp->linger_ns,
					});
	if (worker->dns)
		dns_service_set_domains(worker->dns, change->domains);
	else
		domains_free(change->domains);
	bridge_set_rules(worker->bridge, change->rules, worker_now_ns());
	return 0;
}

void worker_answer(struct worker *worker)
{
	struct worker_mailbox *box = &worker->mailbox;
	eventfd_t count;

	eventfd_read(box->wake_fd, &count);
	pthread_mutex_lock(&box->lock);
	if (box->question == WORKER_ASK_STATS) {
		worker_report_stats(worker, box->stats);
		box->result = 0;
	} else if (box->question == WORKER_ASK_FLOWS) {
		box->result = worker_report_flows(worker);
	} else if (box->question == WORKER_ASK_RATES) {
		box->result = worker_report_rates(worker);
	} else if (box->question == WORKER_ASK_TRACE_ARM) {
		trace_arm(bridge_trace(worker->bridge), box->trace_client);
		box->result = 0;
	} else if (box->question == WORKER_ASK_APPLY) {
		box->result = worker_take_change(worker);
	} else if (box->question == WORKER_ASK_TRACE_READ) {
		*box->trace = *bridge_trace(worker->bridge);
		box->result = 0;
	} else if (box->question == WORKER_ASK_UPSTREAMS) {
		box->result = worker_report_upstreams(bridge_upstreams(worker->bridge), box->upstreams);
	}
	if (box->question != WORKER_ASK_NOTHING) {
		box->question = WORKER_ASK_NOTHING;
		pthread_cond_signal(&box->answered);
	}
	pthread_mutex_unlock(&box->lock);
}

/* Puts a question and waits. box->lock is held; a question that times out is withdrawn. */
static int worker_ask(struct worker_mailbox *box, enum worker_question question)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WORKER_ANSWER_TIMEOUT_S;
	box->question = question;
	eventfd_write(box->wake_fd, 1);
	while (box->question != WORKER_ASK_NOTHING)
		/* the answer may have come in the moment that time was over */
		if (pthread_cond_timedwait(&box->answered, &box->lock, &until) && box->question != WORKER_ASK_NOTHING) {
			box->question = WORKER_ASK_NOTHING;
			return -ETIMEDOUT;
		}
	return box->result;
}

int worker_read_stats(struct worker *worker, struct worker_stats *out)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->stats = out;
	result = worker_ask(box, WORKER_ASK_STATS);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

int worker_read_upstreams(struct worker *worker, struct worker_upstream *rows)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->upstreams = rows;
	result = worker_ask(box, WORKER_ASK_UPSTREAMS);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

int worker_ask_apply(struct worker *worker, const struct worker_change *change, char *error, uint32_t error_bytes)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->change = change;
	box->error = error;
	box->error_bytes = error_bytes;
	result = worker_ask(box, WORKER_ASK_APPLY);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

static int worker_ask_trace(struct worker *worker, enum worker_question question, const struct addr *client,
			    struct trace *out)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->trace_client = client;
	box->trace = out;
	result = worker_ask(box, question);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

int worker_trace_arm(struct worker *worker, const struct addr *client)
{
	return worker_ask_trace(worker, WORKER_ASK_TRACE_ARM, client, NULL);
}

int worker_trace_read(struct worker *worker, struct trace *out)
{
	return worker_ask_trace(worker, WORKER_ASK_TRACE_READ, NULL, out);
}

/* Asks about stretch after stretch of the flow table until one has something to tell. */
static int worker_ask_stretches(struct worker *worker, enum worker_question question, uint32_t *cursor)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result = 0;

	box->flow_slots = UINT32_MAX; /* the answer tells */
	/* an answer may find nothing in its stretch of the table: 0 is the end only at the table's end */
	while (!result && *cursor < box->flow_slots) {
		box->cursor = *cursor;
		result = worker_ask(box, question);
		if (result >= 0)
			*cursor = box->cursor;
	}
	return result;
}

int worker_read_flows(struct worker *worker, uint32_t *cursor, struct worker_flow_row *rows, uint32_t max)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->rows = rows;
	box->rows_max = max;
	result = worker_ask_stretches(worker, WORKER_ASK_FLOWS, cursor);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

int worker_read_rates(struct worker *worker, uint32_t *cursor, struct worker_flow_rate *rates, uint32_t max)
{
	struct worker_mailbox *box = &worker->mailbox;
	int result;

	pthread_mutex_lock(&box->callers);
	pthread_mutex_lock(&box->lock);
	box->rates = rates;
	box->rows_max = max;
	result = worker_ask_stretches(worker, WORKER_ASK_RATES, cursor);
	pthread_mutex_unlock(&box->lock);
	pthread_mutex_unlock(&box->callers);
	return result;
}

int worker_read_flow(struct worker *worker, const struct worker_flow_rate *flow, struct worker_flow_row *row)
{
	uint32_t cursor = flow->slot;
	int found = worker_read_flows(worker, &cursor, row, 1);

	if (found <= 0)
		return found;
	/* the slot may be somebody else's by now, or empty, and then this is a later one */
	return cursor == flow->slot + 1 &&
	       addr_equal(row->spliced ? &row->splice.client.addr : &row->flow.client.addr, &flow->client);
}
