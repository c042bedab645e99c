/* SPDX-License-Identifier: MIT */
#include "control_json.h"

#include <string.h>
#include <unistd.h>

#include "addr_text.h"
#include "honour.h"
#include "observe_json.h"

#define SET(object, key, value) json_object_set_new(object, key, json_integer((json_int_t)(value)))

json_t *control_json_endpoint(const struct endpoint *endpoint)
{
	char text[ADDR_TEXT_BYTES];

	addr_text_endpoint(endpoint, text);
	return json_string(text);
}

static json_t *control_json_interfaces(const struct worker *worker)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < worker_port_count(worker); i++) {
		const struct worker_port *port = worker_port(worker, i);

		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "name", port->name,
						"hook", port->hook == CONFIG_HOOK_TC ? "tc" : "xdp", "hook_reason",
						port->hook_reason, "xdp", port->xdp, "xsk", port->xsk, "attach",
						port->adopted ? "external" : "load", "queues", (int)port->queues, "mtu",
						(int)port->mtu, "reason", port->reason));
	}
	return list;
}

static json_t *control_json_fallbacks(const struct worker *worker, const struct worker_stats *stats)
{
	const struct honour_report *asked = honour_kept();
	json_t *list = json_array();

	for (uint32_t i = 0; i < asked->count; i++)
		json_array_append_new(list, json_string(asked->lacks[i].text));
	if (!stats->frames.huge_pages)
		json_array_append_new(list, json_string("packet memory: normal pages (no huge pages free)"));
	if (!stats->uring.defer_taskrun)
		json_array_append_new(list, json_string("io_uring: no deferred task running (kernel before 6.1)"));
	if (!stats->uring.recv_bundle)
		json_array_append_new(list,
				      json_string("io_uring: recvmsg instead of bundled receive (kernel before 6.10)"));
	for (uint32_t i = 0; i < worker_port_count(worker); i++)
		if (!strcmp(worker_port(worker, i)->xdp, "generic"))
			json_array_append_new(list, json_sprintf("%s: generic XDP", worker_port(worker, i)->name));
	return list;
}

static json_t *control_json_flow_counts(const struct worker_stats *stats)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "established", (int)stats->gauges.established,
			 "half_open", (int)stats->gauges.half_open, "time_wait", (int)stats->gauges.time_wait,
			 "dialing", (int)stats->bridge_gauges.dialing, "opening", (int)stats->bridge_gauges.opening,
			 "relaying", (int)stats->bridge_gauges.relaying, "spliced", (int)stats->splice_gauges.live,
			 "udp", (int)stats->assoc_gauges.associations);
}

json_t *control_json_status(const struct config *config, const struct worker *worker,
			    const struct observe_report *report)
{
	const struct worker_stats *stats = &report->stats;
	json_t *root = json_object();

	json_object_set_new(root, "version", json_string(SOCKSPLICE_VERSION));
	json_object_set_new(root, "ready", json_true());
	SET(root, "pid", getpid());
	SET(root, "uptime_seconds", stats->uptime_ns / 1000000000);
	json_object_set_new(root, "interfaces", control_json_interfaces(worker));
	json_object_set_new(root, "rules",
			    json_pack("{s:i, s:i}", "count", (int)config->rules.count, "prefixes",
				      (int)config->rules.prefix_count));
	json_object_set_new(root, "flows", control_json_flow_counts(stats));
	json_object_set_new(root, "simd", json_string(stats->simd));
	json_object_set_new(root, "fallbacks", control_json_fallbacks(worker, stats));
	observe_json_status(root, report);
	return root;
}

static json_t *control_json_frames(const struct worker_frames *frames)
{
	json_t *group = json_object();

	SET(group, "total", frames->total);
	SET(group, "pool", frames->pool);
	SET(group, "fill", frames->fill);
	SET(group, "rx", frames->rx);
	SET(group, "flows", frames->flows);
	SET(group, "tx", frames->tx);
	SET(group, "completion", frames->completion);
	SET(group, "flows_recv", frames->flows_recv);
	SET(group, "pool_low_water", frames->pool_low_water);
	SET(group, "pool_exhausted", frames->pool_exhausted);
	SET(group, "frame_bytes", frames->frame_bytes);
	json_object_set_new(group, "huge_pages", json_boolean(frames->huge_pages));
	SET(group, "numa_node", frames->numa_node);
	return group;
}

static json_t *control_json_stack(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name) SET(group, #name, stats->stack.name);
	STACK_COUNTERS(X)
#undef X
	SET(group, "flows_now", stats->gauges.flows);
	SET(group, "half_open_now", stats->gauges.half_open);
	SET(group, "established_now", stats->gauges.established);
	SET(group, "time_wait_now", stats->gauges.time_wait);
	return group;
}

static json_t *control_json_drops(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name, text)                                                                                                  \
	if (DROP_##name != DROP_NONE)                                                                                  \
		SET(group, #text, stats->stack.dropped[DROP_##name]);
	DROP_REASONS(X)
#undef X
	return group;
}

static json_t *control_json_bpf(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name, text) SET(group, #text, stats->bpf[COUNT_##name]);
	PACKET_VERDICTS(X)
#undef X
#define X(name, text)                                                                                                  \
	if (DROP_##name != DROP_NONE)                                                                                  \
		SET(group, "drop_" #text, stats->bpf[COUNT_DROP_##name]);
	DROP_REASONS(X)
#undef X
	return group;
}

static json_t *control_json_bridge(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name) SET(group, #name, stats->bridge.name);
	BRIDGE_COUNTERS(X)
#undef X
	SET(group, "dialing_now", stats->bridge_gauges.dialing);
	SET(group, "accepting_now", stats->bridge_gauges.accepting);
	SET(group, "opening_now", stats->bridge_gauges.opening);
	SET(group, "relaying_now", stats->bridge_gauges.relaying);
	SET(group, "closing_now", stats->bridge_gauges.closing);
	return group;
}

static json_t *control_json_uring(const struct worker_uring *uring)
{
	return json_pack("{s:b, s:b, s:I, s:I, s:I}", "defer_taskrun", uring->defer_taskrun, "recv_bundle",
			 uring->recv_bundle, "submits", (json_int_t)uring->submits, "completions",
			 (json_int_t)uring->completions, "waits", (json_int_t)uring->waits);
}

static json_t *control_json_xsk(const struct worker_xsk *xsk)
{
	json_t *group = json_object();

	SET(group, "rx_packets", xsk->rx_packets);
	SET(group, "tx_packets", xsk->tx_packets);
	SET(group, "tx_kicks", xsk->tx_kicks);
	SET(group, "tx_ring_full", xsk->tx_ring_full);
	SET(group, "kernel_rx_dropped", xsk->kernel_rx_dropped);
	SET(group, "kernel_rx_ring_full", xsk->kernel_rx_ring_full);
	SET(group, "kernel_fill_empty", xsk->kernel_fill_empty);
	return group;
}

static json_t *control_json_tap(const struct worker_tap *tap)
{
	json_t *group = json_object();

	SET(group, "rx_packets", tap->rx_packets);
	SET(group, "rx_bytes", tap->rx_bytes);
	SET(group, "rx_truncated", tap->rx_truncated);
	SET(group, "rx_no_frame", tap->rx_no_frame);
	SET(group, "rx_errors", tap->rx_errors);
	SET(group, "tx_packets", tap->tx_packets);
	SET(group, "tx_writes", tap->tx_writes);
	SET(group, "tx_errors", tap->tx_errors);
	return group;
}

/* What the daemon counts about flows of the kernel, and what BPF does. */
static json_t *control_json_splice(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name) SET(group, #name, stats->splice.name);
	SPLICE_COUNTERS(X)
#undef X
#define X(id, name) SET(group, "not_spliced_" #name, stats->splice.not_spliced[SPLICE_REFUSED_##id]);
	SPLICE_REFUSALS(X)
#undef X
#define X(name, text) SET(group, #text, stats->bpf[COUNT_##name]);
	FLOW_EVENTS(X)
#undef X
	SET(group, "live_now", stats->splice_gauges.live);
	SET(group, "entries_in_use", stats->splice_gauges.in_use);
	SET(group, "entries_total", stats->splice_gauges.entries);
	SET(group, "entries_peak", stats->splice_gauges.peak);
	SET(group, "rate_up", stats->splice_gauges.rate_up);
	SET(group, "rate_down", stats->splice_gauges.rate_down);
	SET(group, "ports_in_use", stats->splice_gauges.ports_in_use);
	SET(group, "ports_total", stats->splice_gauges.ports_total);
	SET(group, "ports_exhausted", stats->splice_gauges.ports_exhausted);
	SET(group, "kernel_bytes_per_entry", stats->splice_gauges.entry_bytes);
	SET(group, "user_bytes_per_entry", stats->splice_gauges.slot_bytes);
	return group;
}

static json_t *control_json_dns(const struct worker_stats *stats)
{
	const struct dns_gauges *gauges = &stats->dns_gauges;
	json_t *group = json_object();

#define X(name) SET(group, #name, stats->dns.name);
	DNS_COUNTERS(X)
#undef X
	SET(group, "names_now", gauges->map.names);
	SET(group, "names_held_now", gauges->map.held);
	SET(group, "names_total", gauges->map.entries);
	SET(group, "names_given", gauges->map.given);
	SET(group, "names_evicted", gauges->map.evicted);
	SET(group, "names_loaded", gauges->store.loaded);
	SET(group, "lines_refused", gauges->store.lines_refused);
	SET(group, "files_saved", gauges->store.saved);
	SET(group, "files_not_saved", gauges->store.errors);
	SET(group, "direct_now", gauges->direct_now);
	SET(group, "tcp_now", gauges->tcp_now);
	return group;
}

static json_t *control_json_udp(const struct worker_stats *stats)
{
	json_t *group = json_object();

#define X(name) SET(group, #name, stats->assoc.name);
	ASSOC_COUNTERS(X)
#undef X
#define X(name) SET(group, #name, stats->reassembly.name);
	REASSEMBLY_COUNTERS(X)
#undef X
	SET(group, "associations_now", stats->assoc_gauges.associations);
	SET(group, "clients_now", stats->assoc_gauges.clients);
	SET(group, "dialing_now", stats->assoc_gauges.dialing);
	SET(group, "ready_now", stats->assoc_gauges.ready);
	SET(group, "carried_now", stats->assoc_gauges.carried);
	SET(group, "refused_now", stats->assoc_gauges.refused);
	SET(group, "closing_now", stats->assoc_gauges.closing);
	return group;
}

static json_t *control_json_upstream_pool(const struct worker_upstream_pool *pool)
{
	json_t *group = json_object();

	SET(group, "target", pool->target);
	SET(group, "warm", pool->warm);
	SET(group, "warming", pool->warming);
	SET(group, "peak", pool->peak);
	SET(group, "hits", pool->hits);
	SET(group, "misses", pool->misses);
	SET(group, "unfit", pool->unfit);
	SET(group, "discarded", pool->discarded);
	SET(group, "aged", pool->aged);
	return group;
}

json_t *control_json_stats(struct worker *worker, const struct worker_stats *stats)
{
	json_t *root = json_object();

	SET(root, "uptime_seconds", stats->uptime_ns / 1000000000);
	json_object_set_new(root, "simd", json_string(stats->simd));
	json_object_set_new(root, "frames", control_json_frames(&stats->frames));
	json_object_set_new(root, "stack", control_json_stack(stats));
	json_object_set_new(root, "drops", control_json_drops(stats));
	json_object_set_new(root, "bpf", control_json_bpf(stats));
	json_object_set_new(root, "splice", control_json_splice(stats));
	json_object_set_new(root, "udp", control_json_udp(stats));
	json_object_set_new(root, "bridge", control_json_bridge(stats));
	json_object_set_new(root, "upstream_pool", control_json_upstream_pool(&stats->upstream_pool));
	json_object_set_new(root, "uring", control_json_uring(&stats->uring));
	json_object_set_new(root, "xsk", control_json_xsk(&stats->xsk));
	json_object_set_new(root, "tap", control_json_tap(&stats->tap));
	json_object_set_new(root, "dns", control_json_dns(stats));
	observe_json_groups(root, worker, stats);
	return root;
}

static json_t *control_json_spliced(const struct worker_flow_row *row, uint64_t now_ns)
{
	const struct splice_flow *splice = &row->splice;
	json_t *flow = json_object();

	json_object_set_new(flow, "client", control_json_endpoint(&splice->client));
	json_object_set_new(flow, "destination", control_json_endpoint(&splice->destination));
	if (row->name[0])
		json_object_set_new(flow, "name", json_string(row->name));
	json_object_set_new(flow, "upstream", json_string(row->upstream));
	json_object_set_new(flow, "tier", json_string("spliced"));
	json_object_set_new(flow, "state", json_string(splice->phase));
	SET(flow, "bytes_from_client", splice->bytes_up);
	SET(flow, "bytes_to_client", splice->bytes_down);
	SET(flow, "packets_from_client", splice->packets_up);
	SET(flow, "packets_to_client", splice->packets_down);
	SET(flow, "rate_from_client", splice->rate_up);
	SET(flow, "rate_to_client", splice->rate_down);
	SET(flow, "client_rtt_us", splice->client_rtt_us);
	SET(flow, "upstream_rtt_us", splice->upstream_rtt_us);
	json_object_set_new(flow, "source", control_json_endpoint(&splice->source));
	json_object_set_new(flow, "adopted", json_boolean(splice->adopted));
	SET(flow, "age_ms", (now_ns - splice->created_ns) / 1000000);
	return flow;
}

static json_t *control_json_association(const struct worker_flow_row *row, uint64_t now_ns)
{
	const struct assoc_row *assoc = &row->assoc;
	json_t *flow = json_object();

	json_object_set_new(flow, "proto", json_string("udp"));
	json_object_set_new(flow, "client", control_json_endpoint(&assoc->client));
	json_object_set_new(flow, "destination", json_string("any"));
	json_object_set_new(flow, "upstream", json_string(assoc->upstream));
	json_object_set_new(flow, "tier", json_string(assoc->carried ? "kernel" : "socket"));
	json_object_set_new(flow, "state", json_string(assoc->state));
	SET(flow, "bytes_from_client", assoc->bytes_up);
	SET(flow, "bytes_to_client", assoc->bytes_down);
	SET(flow, "packets_from_client", assoc->packets_up);
	SET(flow, "packets_to_client", assoc->packets_down);
	SET(flow, "age_ms", (now_ns - assoc->created_ns) / 1000000);
	return flow;
}

json_t *control_json_flow(const struct worker_flow_row *row, uint64_t now_ns)
{
	json_t *flow;

	if (row->udp)
		return control_json_association(row, now_ns);
	if (row->spliced)
		return control_json_spliced(row, now_ns);
	flow = json_object();
	json_object_set_new(flow, "client", control_json_endpoint(&row->flow.client));
	json_object_set_new(flow, "destination", control_json_endpoint(&row->flow.destination));
	if (row->name[0])
		json_object_set_new(flow, "name", json_string(row->name));
	json_object_set_new(flow, "upstream", json_string(row->upstream));
	json_object_set_new(flow, "tier", json_string("relay"));
	json_object_set_new(flow, "state", json_string(row->flow.state));
	json_object_set_new(flow, "upstream_state", json_string(row->upstream_state));
	if (row->not_spliced)
		json_object_set_new(flow, "not_spliced", json_string(row->not_spliced));
	SET(flow, "bytes_from_client", row->flow.bytes_from_client);
	SET(flow, "bytes_to_client", row->flow.bytes_to_client);
	SET(flow, "packets_from_client", row->flow.packets_from_client);
	SET(flow, "packets_to_client", row->flow.packets_to_client);
	SET(flow, "rate_from_client", row->rates[FLOW_UP]);
	SET(flow, "rate_to_client", row->rates[FLOW_DOWN]);
	SET(flow, "age_ms", (now_ns - row->flow.created_ns) / 1000000);
	SET(flow, "srtt_us", row->flow.srtt_us);
	SET(flow, "cwnd_bytes", row->flow.cwnd_bytes);
	SET(flow, "receive_queue_bytes", row->flow.receive_queue_bytes);
	SET(flow, "send_queue_bytes", row->flow.send_queue_bytes);
	SET(flow, "retransmitted", row->flow.retransmitted);
	return flow;
}

json_t *control_json_trace(const struct trace *trace)
{
	static const char *const states[] = {[TRACE_OFF] = "off",
					     [TRACE_WAITING] = "waiting",
					     [TRACE_RECORDING] = "recording",
					     [TRACE_OVER] = "over"};
	json_t *events = json_array();

	for (uint32_t i = 0; i < trace->count; i++)
		json_array_append_new(events, json_pack("{s:I, s:s}", "us",
							(json_int_t)(trace->events[i].at_ns - trace->started_ns) / 1000,
							"text", trace->events[i].text));
	return json_pack("{s:s, s:i, s:o}", "state", states[trace->state], "lost", (int)trace->lost, "events", events);
}
