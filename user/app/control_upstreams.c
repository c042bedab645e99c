/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "control_json.h"

#define SET(object, key, value) json_object_set_new(object, key, json_integer((json_int_t)(value)))

static void control_json_latency(json_t *upstream, const char *key, const struct upstream_latency *latency)
{
	json_t *group = json_object();

	SET(group, "last_us", latency->last_ns / 1000);
	SET(group, "mean_us", latency->count ? latency->sum_ns / latency->count / 1000 : 0);
	SET(group, "count", latency->count);
	json_object_set_new(upstream, key, group);
}

json_t *control_json_server(const struct worker_upstream *row)
{
	if (row->host[0])
		return json_sprintf("%s:%u", row->host, be16(row->server.port));
	return control_json_endpoint(&row->server);
}

static json_t *control_json_pool(const struct worker_upstream *row)
{
	json_t *group = json_object();

	SET(group, "target", row->pool_target);
	SET(group, "warm", row->warm);
	SET(group, "warming", row->warming);
	SET(group, "hits", row->counters.pool_hits);
	SET(group, "misses", row->counters.pool_misses);
	SET(group, "unfit", row->counters.pool_unfit);
	SET(group, "discarded", row->counters.pool_discarded);
	SET(group, "aged", row->counters.pool_aged);
	return group;
}

static json_t *control_json_failures(const struct upstream_counters *counters)
{
	json_t *group = json_object();

	for (int kind = 0; kind < UPSTREAM_FAILURE_COUNT; kind++)
		SET(group, upstream_failure_name((enum upstream_failure)kind), counters->failed[kind]);
	return group;
}

static json_t *control_json_upstream(const struct worker_upstream *row)
{
	json_t *upstream = json_object();

	json_object_set_new(upstream, "name", json_string(row->name));
	json_object_set_new(upstream, "server", control_json_server(row));
	if (row->host[0] && row->addresses)
		json_object_set_new(upstream, "address", control_json_endpoint(&row->server));
	SET(upstream, "addresses", row->addresses);
	json_object_set_new(upstream, "state", json_string(row->state));
	SET(upstream, "failed_for_ms", row->until_ns / 1000000);
	SET(upstream, "weight", row->weight);
	SET(upstream, "mark", row->mark);
	SET(upstream, "spliced", row->spliced);
	SET(upstream, "relayed", row->relaying);
	SET(upstream, "dialing", row->dialing);
	SET(upstream, "dials", row->counters.dials);
	SET(upstream, "connects_ok", row->counters.connects_ok);
	SET(upstream, "connects_refused", row->counters.connects_refused);
	SET(upstream, "moved_away", row->counters.moved_away);
	SET(upstream, "times_failed", row->counters.times_failed);
	SET(upstream, "probes", row->counters.probes);
	SET(upstream, "probes_failed", row->counters.probes_failed);
	json_object_set_new(upstream, "failures", control_json_failures(&row->counters));
	control_json_latency(upstream, "dial", &row->dial);
	control_json_latency(upstream, "handshake", &row->handshake);
	json_object_set_new(upstream, "pool", control_json_pool(row));
	SET(upstream, "ports_total", row->ports_total);
	SET(upstream, "ports_in_use", row->ports_in_use);
	SET(upstream, "ports_exhausted", row->ports_exhausted);
	json_object_set_new(upstream, "uplink", json_string(row->local ? "local" : row->routed ? row->uplink : ""));
	return upstream;
}

json_t *control_json_upstreams(const struct worker_upstream *rows, uint32_t count)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(list, control_json_upstream(&rows[i]));
	return list;
}
