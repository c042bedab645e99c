/* SPDX-License-Identifier: MIT */
#include "observe_json.h"

#include <string.h>

#include "control_json.h"
#include "logsink.h"
#include "record.h"

#define SECOND 1000000000ull
#define SET(object, key, value) json_object_set_new(object, key, json_integer((json_int_t)(value)))

/* --- status --- */

static const char *observe_json_state(enum health_state state)
{
	static const char *const names[] = {
		[HEALTH_WORKING] = "working", [HEALTH_DEGRADED] = "degraded", [HEALTH_FAILED] = "failed"};

	return names[state];
}

static json_t *observe_json_upstream(const struct worker_upstream *row, uint64_t now_ns)
{
	struct health_upstream health;
	json_t *object = json_object();

	observe_upstream(row, now_ns, &health);
	json_object_set_new(object, "name", json_string(row->name));
	json_object_set_new(object, "server", control_json_server(row));
	json_object_set_new(object, "state", json_string(row->state));
	json_object_set_new(object, "usable", json_boolean(row->present && !health_upstream_down(&health)));
	json_object_set_new(object, "answered", json_boolean(health.answered));
	SET(object, "weight", row->weight);
	SET(object, "flows", row->spliced + row->relaying);
	SET(object, "dials", row->counters.dials);
	SET(object, "connects_ok", row->counters.connects_ok);
	SET(object, "failures", health.failures);
	SET(object, "refusals", health.refusals);
	if (health.answered)
		SET(object, "answered_seconds_ago", health.answered_age / SECOND);
	if (health.failure) {
		json_object_set_new(object, "last_failure", json_string(health_failure_text(health.failure)));
		SET(object, "failed_seconds_ago", health.failed_age / SECOND);
	}
	return object;
}

static json_t *observe_json_rates(const struct observe_rates *rates)
{
	json_t *group = json_object();

	SET(group, "over_ms", rates->over_ms);
	SET(group, "spliced_packets", rates->spliced_packets);
	SET(group, "spliced_bytes_from_clients", rates->spliced_bytes_up);
	SET(group, "spliced_bytes_to_clients", rates->spliced_bytes_down);
	SET(group, "relayed_packets", rates->relayed_packets);
	SET(group, "relayed_bytes_from_clients", rates->relayed_bytes_up);
	SET(group, "relayed_bytes_to_clients", rates->relayed_bytes_down);
	SET(group, "connections_opened", rates->connections_opened);
	SET(group, "connections_refused", rates->connections_refused);
	SET(group, "drops", rates->drops);
	return group;
}

static json_t *observe_json_problems(uint64_t now_ns)
{
	struct logsink_problem problems[LOGSINK_KEPT];
	uint32_t count = logsink_problems(problems);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++) {
		uint64_t age_ns = now_ns > problems[i].at_ns ? now_ns - problems[i].at_ns : 0;

		json_array_append_new(list, json_pack("{s:s, s:I, s:i, s:s}", "level",
						      problems[i].level == LOG_LEVEL_ERROR ? "error" : "warn",
						      "seconds_ago", (json_int_t)(age_ns / SECOND), "times",
						      (int)problems[i].times, "text", problems[i].text));
	}
	return list;
}

void observe_json_status(json_t *root, const struct observe_report *report)
{
	json_t *upstreams = json_array(), *links = json_array();

	for (uint32_t i = 0; i < report->upstream_count; i++)
		json_array_append_new(upstreams, observe_json_upstream(&report->upstreams[i], report->now_ns));
	for (uint32_t i = 0; i < report->facts.link_count; i++) {
		const struct health_link *link = &report->facts.links[i];

		json_array_append_new(links, json_pack("{s:s, s:b, s:b}", "name", link->name, "up", link->up, "uplink",
						       link->uplink));
	}
	json_object_set_new(root, "state", json_string(observe_json_state(report->health.state)));
	json_object_set_new(root, "reason", json_string(report->health.text));
	json_object_set_new(root, "links", links);
	json_object_set_new(root, "upstreams", upstreams);
	json_object_set_new(root, "rates", observe_json_rates(&report->rates));
	json_object_set_new(root, "problems", observe_json_problems(report->now_ns));
}

/* --- stats --- */

static json_t *observe_json_group(uint64_t current, uint64_t peak, uint64_t total)
{
	return json_pack("{s:I, s:I, s:I}", "current", (json_int_t)current, "peak", (json_int_t)peak, "total",
			 (json_int_t)total);
}

static json_t *observe_json_zero_copy(struct worker *worker)
{
	uint32_t zero_copy = 0, af_xdp = 0;
	json_t *group;

	for (uint32_t i = 0; i < worker_port_count(worker); i++) {
		const struct worker_port *port = worker_port(worker, i);

		af_xdp += strcmp(port->xsk, "none") != 0 ? port->queues : 0;
		zero_copy += strcmp(port->xsk, "zerocopy") == 0 ? port->queues : 0;
	}
	group = observe_json_group(zero_copy, zero_copy, af_xdp);
	SET(group, "copying", af_xdp - zero_copy);
	return group;
}

static json_t *observe_json_records(struct record *record)
{
	struct record_counters counters = {0};
	json_t *group;

	if (record)
		record_read_counters(record, &counters);
	group = observe_json_group(counters.waiting, counters.peak, record ? RECORD_QUEUE : 0);
	SET(group, "written", counters.written);
	SET(group, "lost", counters.lost);
	return group;
}

static void observe_json_add(json_t *root, const char *name, json_t *group, const char *key, uint64_t value)
{
	SET(group, key, value);
	json_object_set_new(root, name, group);
}

void observe_json_groups(json_t *root, struct worker *worker, const struct worker_stats *stats)
{
	const struct worker_frames *frames = &stats->frames;
	const struct splice_gauges *splice = &stats->splice_gauges;
	const struct worker_batch *batch = &stats->batch;
	json_t *group;

	group = observe_json_group(frames->total - frames->pool, frames->total - frames->pool_low_water, frames->total);
	observe_json_add(root, "pool", group, "exhausted", frames->pool_exhausted);

	group = observe_json_group(batch->last, batch->peak, batch->limit);
	SET(group, "batches", batch->batches);
	SET(group, "packets", batch->packets);
	observe_json_add(root, "batch", group, "full", batch->full);

	group = observe_json_group(splice->in_use, splice->peak, splice->entries);
	observe_json_add(root, "ebpf", group, "exhausted", stats->splice.not_spliced[SPLICE_REFUSED_TABLE]);

	json_object_set_new(root, "zero_copy", observe_json_zero_copy(worker));
	/* one thread carries the data path */
	json_object_set_new(root, "threads", observe_json_group(1, 1, 1));
	json_object_set_new(root, "records", observe_json_records(worker_record(worker)));

	group = json_object_get(root, "uring");
	SET(group, "current", stats->uring.queued);
	SET(group, "peak", stats->uring.peak);
	SET(group, "total", stats->uring.entries);
	SET(group, "full", stats->uring.full);
}
