/* SPDX-License-Identifier: MIT */
#include "observe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "topo.h"

#define SECOND 1000000000ull

/* Sums since the start, to be compared with older ones. */
struct observe_sample {
	uint64_t at_ns;
	uint64_t spliced_packets, relayed_packets, relayed_bytes_up, relayed_bytes_down;
	uint64_t opened, refused, drops, frames_missed;
};

struct observe {
	struct worker *worker;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t wake;
	bool stopping;
	struct observe_sample samples[OBSERVE_SAMPLES + 1]; /* a ring */
	uint32_t sample_next, sample_count;
	struct observe_report report; /* the thread's own */
};

static uint64_t observe_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void observe_sum(const struct worker_stats *stats, uint64_t now_ns, struct observe_sample *out)
{
	const struct bridge_counters *bridge = &stats->bridge;

	*out = (struct observe_sample){
		.at_ns = now_ns,
		.spliced_packets = stats->bpf[COUNT_SPLICED_XDP] + stats->bpf[COUNT_SPLICED_TC],
		.relayed_packets = stats->stack.packets_in + stats->stack.packets_out,
		.relayed_bytes_up = stats->stack.bytes_from_clients,
		.relayed_bytes_down = stats->stack.bytes_to_clients,
		.opened = bridge->connects_ok,
		.refused = stats->stack.flows_refused,
		.frames_missed = stats->frames.pool_exhausted,
	};
	for (int i = DROP_NONE + 1; i < DROP_REASON_COUNT; i++)
		out->drops += stats->stack.dropped[i] + stats->bpf[COUNT_DROP_NONE + i];
}

/* --- facts --- */

void observe_upstream(const struct worker_upstream *row, uint64_t now_ns, struct health_upstream *out)
{
	*out = (struct health_upstream){
		/* a name that is being asked for, as after the start, is no news yet, nor is the way to it */
		.routed = row->routed || !row->resolved,
		.unresolved = row->unresolvable,
		.failed = row->failed,
		.standby = !row->weight,
		.answered = row->answered_ns,
		.failures = row->failures,
		.failed_age = now_ns > row->fault_ns ? now_ns - row->fault_ns : 0,
		.failure = row->fault,
		.refusals = row->refusals,
		.answered_age = now_ns > row->answered_ns ? now_ns - row->answered_ns : 0,
		.refusal = row->refusal,
	};
	memcpy(out->name, row->name, sizeof(out->name));
}

static void observe_add_link(struct health_facts *facts, const char *name, bool uplink)
{
	struct health_link *link = &facts->links[facts->link_count++];

	snprintf(link->name, sizeof(link->name), "%s", name);
	link->up = topo_link_up(name);
	link->uplink = uplink;
}

/* Each once: several upstreams may share one. */
static void observe_add_uplink(struct health_facts *facts, const struct worker_upstream *row)
{
	if (!row->uplink[0] || row->local)
		return;
	for (uint32_t i = 0; i < facts->link_count; i++)
		if (facts->links[i].uplink && !strcmp(facts->links[i].name, row->uplink))
			return;
	observe_add_link(facts, row->uplink, true);
}

static void observe_gather(const struct observe *observe, struct observe_report *report)
{
	const struct worker_stats *stats = &report->stats;
	struct health_facts *facts = &report->facts;

	for (uint32_t i = 0; i < worker_port_count(observe->worker); i++)
		observe_add_link(facts, worker_port(observe->worker, i)->name, false);
	for (uint32_t i = 0; i < report->upstream_count && facts->upstream_count < CONFIG_MAX_UPSTREAMS; i++) {
		if (!report->upstreams[i].present)
			continue;
		observe_add_uplink(facts, &report->upstreams[i]);
		observe_upstream(&report->upstreams[i], report->now_ns, &facts->upstreams[facts->upstream_count++]);
	}
	facts->frames_free = stats->frames.pool;
	facts->frames_total = stats->frames.total;
	facts->entries_in_use = stats->splice_gauges.in_use;
	facts->entries_total = stats->splice_gauges.entries;
	facts->ports_in_use = stats->splice_gauges.ports_in_use;
	facts->ports_total = stats->splice_gauges.ports_total;
}

/* --- rates --- */

static uint64_t observe_rate(uint64_t now, uint64_t then, uint64_t past_ns)
{
	return (uint64_t)((double)(now - then) * (double)SECOND / (double)past_ns);
}

/* The lock is held. */
static void observe_compare(const struct observe *observe, const struct observe_sample *now,
			    struct observe_report *report)
{
	uint32_t slots = OBSERVE_SAMPLES + 1;
	const struct observe_sample *then =
		&observe->samples[(observe->sample_next + slots - observe->sample_count) % slots];
	const struct splice_gauges *splice = &report->stats.splice_gauges;
	uint64_t past_ns;

	if (!observe->sample_count || now->at_ns - then->at_ns < SECOND / 10)
		return;
	past_ns = now->at_ns - then->at_ns;
	report->facts.frames_missed = now->frames_missed - then->frames_missed;
	report->rates = (struct observe_rates){
		.over_ms = (uint32_t)(past_ns / 1000000),
		.spliced_packets = observe_rate(now->spliced_packets, then->spliced_packets, past_ns),
		.relayed_packets = observe_rate(now->relayed_packets, then->relayed_packets, past_ns),
		.spliced_bytes_up = splice->rate_up,
		.spliced_bytes_down = splice->rate_down,
		.relayed_bytes_up = observe_rate(now->relayed_bytes_up, then->relayed_bytes_up, past_ns),
		.relayed_bytes_down = observe_rate(now->relayed_bytes_down, then->relayed_bytes_down, past_ns),
		.connections_opened = observe_rate(now->opened, then->opened, past_ns),
		.connections_refused = observe_rate(now->refused, then->refused, past_ns),
		.drops = observe_rate(now->drops, then->drops, past_ns),
	};
}

static void observe_fill(struct observe *observe, struct observe_report *out, bool keep)
{
	struct observe_sample sample;
	int upstreams;

	memset(out, 0, sizeof(*out));
	out->facts.answers = !worker_read_stats(observe->worker, &out->stats);
	upstreams = out->facts.answers ? worker_read_upstreams(observe->worker, out->upstreams) : 0;
	out->facts.answers = out->facts.answers && upstreams >= 0;
	out->upstream_count = upstreams > 0 ? (uint32_t)upstreams : 0;
	out->now_ns = observe_now_ns();
	if (out->facts.answers) {
		observe_gather(observe, out);
		observe_sum(&out->stats, out->now_ns, &sample);
		pthread_mutex_lock(&observe->lock);
		observe_compare(observe, &sample, out);
		if (keep) {
			observe->samples[observe->sample_next] = sample;
			observe->sample_next = (observe->sample_next + 1) % (OBSERVE_SAMPLES + 1);
			if (observe->sample_count < OBSERVE_SAMPLES)
				observe->sample_count++;
		}
		pthread_mutex_unlock(&observe->lock);
	}
	health_judge(&out->facts, &out->health);
}

void observe_read(struct observe *observe, struct observe_report *out)
{
	observe_fill(observe, out, false);
}

/* --- the thread --- */

/* A change is told once; what stays as it is, is not. */
static void observe_tell(const struct health_verdict *before, const struct health_verdict *now)
{
	if (before->state == now->state && before->cause == now->cause)
		return;
	if (now->state == HEALTH_WORKING)
		log_info("working again");
	else if (now->state == HEALTH_DEGRADED)
		log_warn("degraded: %s", now->text);
	else
		log_error("not working: %s", now->text);
}

static void *observe_run(void *arg)
{
	struct health_verdict before = {.state = HEALTH_WORKING};
	struct observe *observe = arg;
	struct timespec until;
	bool stopping = false;

	pthread_setname_np(pthread_self(), "socksplice-obs");
	clock_gettime(CLOCK_MONOTONIC, &until);
	while (!stopping) {
		observe_fill(observe, &observe->report, true);
		observe_tell(&before, &observe->report.health);
		before = observe->report.health;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_mutex_lock(&observe->lock);
		while (!observe->stopping && !pthread_cond_timedwait(&observe->wake, &observe->lock, &until))
			;
		stopping = observe->stopping;
		pthread_mutex_unlock(&observe->lock);
	}
	return NULL;
}

int observe_create(struct observe **out, struct worker *worker)
{
	struct observe *observe = calloc(1, sizeof(*observe));
	pthread_condattr_t attr;
	int err;

	if (!observe)
		return -ENOMEM;
	observe->worker = worker;
	pthread_mutex_init(&observe->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&observe->wake, &attr);
	pthread_condattr_destroy(&attr);
	err = -pthread_create(&observe->thread, NULL, observe_run, observe);
	if (err) {
		free(observe);
		return err;
	}
	*out = observe;
	return 0;
}

void observe_destroy(struct observe *observe)
{
	if (!observe)
		return;
	pthread_mutex_lock(&observe->lock);
	observe->stopping = true;
	pthread_cond_signal(&observe->wake);
	pthread_mutex_unlock(&observe->lock);
	pthread_join(observe->thread, NULL);
	pthread_cond_destroy(&observe->wake);
	pthread_mutex_destroy(&observe->lock);
	free(observe);
}
