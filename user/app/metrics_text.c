/* SPDX-License-Identifier: MIT */
/*
 * Names are stable: they may be added to, never changed. Labels take their
 * values from tables of this program (reasons, verdicts, tiers) and from the
 * configuration (interfaces, upstreams), never from the wire, so the number of
 * series is bounded.
 */
#include "metrics_text.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "record.h"

static void metrics_family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP socksplice_%s %s\n# TYPE socksplice_%s %s\n", name, help, name, type);
}

static void metrics_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_family(out, name, type, help);
	fprintf(out, "socksplice_%s %llu\n", name, (unsigned long long)value);
}

/* Label values of ours need no escapes. */
static void metrics_labelled(FILE *out, const char *name, const char *label, const char *text, uint64_t value)
{
	fprintf(out, "socksplice_%s{%s=\"%s\"} %llu\n", name, label, text, (unsigned long long)value);
}

/* Names from the configuration: backslash, quote and newline are escaped. */
static void metrics_quote(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			fputc(*text, out);
	}
}

/* --- always there --- */

static void metrics_text_self(FILE *out, const struct observe_report *report)
{
	static const struct {
		enum health_state state;
		const char *text;
	} states[] = {{HEALTH_WORKING, "working"}, {HEALTH_DEGRADED, "degraded"}, {HEALTH_FAILED, "failed"}};

	metrics_family(out, "build_info", "gauge", "Version of the daemon; the value is always 1.");
	metrics_labelled(out, "build_info", "version", SOCKSPLICE_VERSION, 1);
	metrics_family(out, "health", "gauge",
		       "1 for the state that the daemon is in, as `status` and /healthz tell it.");
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		metrics_labelled(out, "health", "state", states[i].text, report->health.state == states[i].state);
}

/* --- connections --- */

static void metrics_tier(FILE *out, const char *name, const char *tier, const char *direction, uint64_t value)
{
	fprintf(out, "socksplice_%s{tier=\"%s\",direction=\"%s\"} %llu\n", name, tier, direction,
		(unsigned long long)value);
}

static void metrics_ended(FILE *out, const char *tier, const char *end, uint64_t value)
{
	fprintf(out, "socksplice_flows_ended_total{tier=\"%s\",end=\"%s\"} %llu\n", tier, end,
		(unsigned long long)value);
}

static void metrics_text_flows(FILE *out, const struct worker_stats *stats)
{
	const struct splice_counters *splice = &stats->splice;
	const struct stack_counters *stack = &stats->stack;

	metrics_one(out, "uptime_seconds", "gauge", "Since the daemon started.", stats->uptime_ns / 1000000000);
	metrics_family(out, "flows", "gauge", "Connections now, by who carries their payload.");
	metrics_labelled(out, "flows", "tier", "spliced", stats->splice_gauges.live);
	metrics_labelled(out, "flows", "tier", "relay", stats->gauges.established);
	metrics_family(out, "flows_pending", "gauge", "Connections that are not established yet, by what is awaited.");
	metrics_labelled(out, "flows_pending", "stage", "upstream", stats->bridge_gauges.dialing);
	metrics_labelled(out, "flows_pending", "stage", "client",
			 stats->bridge_gauges.opening + stats->bridge_gauges.accepting);
	metrics_family(out, "flows_started_total", "counter", "Connections established, by who carries their payload.");
	metrics_labelled(out, "flows_started_total", "tier", "spliced", splice->spliced);
	metrics_labelled(out, "flows_started_total", "tier", "relay", stack->flows_established);
	metrics_family(out, "flows_ended_total", "counter", "Connections ended, by how; tier none: never established.");
	metrics_ended(out, "spliced", "closed", splice->finished);
	metrics_ended(out, "spliced", "reset", splice->finished_reset);
	metrics_ended(out, "spliced", "idle", splice->finished_idle);
	metrics_ended(out, "spliced", "flushed", splice->flushed);
	metrics_ended(out, "relay", "closed", stack->flows_closed);
	metrics_ended(out, "relay", "client_reset", stack->flows_client_reset);
	metrics_ended(out, "relay", "aborted", stack->flows_aborted);
	metrics_ended(out, "relay", "timed_out", stack->flows_timed_out);
	metrics_ended(out, "relay", "idle", stack->flows_idle);
	metrics_ended(out, "none", "refused", stack->flows_refused);
	metrics_ended(out, "none", "evicted", stack->flows_evicted_total + stack->flows_evicted_per_source);
	metrics_family(out, "flow_bytes_total", "counter",
		       "Payload, by who carried it. Of spliced flows as of seconds ago.");
	metrics_tier(out, "flow_bytes_total", "spliced", "from_client", splice->payload_up);
	metrics_tier(out, "flow_bytes_total", "spliced", "to_client", splice->payload_down);
	metrics_tier(out, "flow_bytes_total", "relay", "from_client", stack->bytes_from_clients);
	metrics_tier(out, "flow_bytes_total", "relay", "to_client", stack->bytes_to_clients);
	metrics_family(out, "not_spliced_total", "counter", "Connections that the kernel could not carry, by reason.");
#define X(id, name)                                                                                                    \
	metrics_labelled(out, "not_spliced_total", "reason", #name, splice->not_spliced[SPLICE_REFUSED_##id]);
	SPLICE_REFUSALS(X)
#undef X
}

/* --- upstreams --- */

static void metrics_upstream(FILE *out, const char *name, const char *upstream, uint64_t value)
{
	fprintf(out, "socksplice_%s{upstream=\"", name);
	metrics_quote(out, upstream);
	fprintf(out, "\"} %llu\n", (unsigned long long)value);
}

static void metrics_upstream_failure(FILE *out, const char *upstream, const char *reason, uint64_t value)
{
	fputs("socksplice_upstream_failures_total{upstream=\"", out);
	metrics_quote(out, upstream);
	fprintf(out, "\",reason=\"%s\"} %llu\n", reason, (unsigned long long)value);
}

static void metrics_upstream_flows(FILE *out, const struct worker_upstream *row, const char *tier, uint64_t value)
{
	fputs("socksplice_upstream_flows{upstream=\"", out);
	metrics_quote(out, row->name);
	fprintf(out, "\",tier=\"%s\"} %llu\n", tier, (unsigned long long)value);
}

static void metrics_upstream_failures(FILE *out, const struct worker_upstream *row)
{
	for (uint32_t i = 0; i < UPSTREAM_FAILURE_COUNT; i++)
		metrics_upstream_failure(out, row->name, upstream_failure_name((enum upstream_failure)i),
					 row->counters.failed[i]);
	for (uint32_t i = 0; i < UPSTREAM_REFUSAL_COUNT; i++)
		metrics_upstream_failure(out, row->name, upstream_refusal_name((enum upstream_refusal)i),
					 row->counters.refused[i]);
}

static void metrics_text_upstreams(FILE *out, const struct observe_report *report)
{
	static const struct {
		const char *name, *help;
		size_t offset;
	} counters[] = {
#define COUNTER(name, help, field) {"upstream_" name, help, offsetof(struct upstream_counters, field)}
		COUNTER("dials_total", "Connections dialled, those of probes and of the pool among them.", dials),
		COUNTER("granted_total", "CONNECTs that the upstream granted.", connects_ok),
		COUNTER("moved_away_total", "Connections that another upstream served after a failure.", moved_away),
		COUNTER("outages_total", "Times that it was taken out of use.", times_failed),
		COUNTER("pool_hits_total", "Connections served by a warm one.", pool_hits),
		COUNTER("pool_misses_total", "Connections that a warm one could have served, had there been one.",
			pool_misses),
#undef COUNTER
	};

	const struct worker_upstream *rows = report->upstreams;
	/* those of the configuration only: a removed one may have the name of another */
	uint32_t count = report->facts.upstream_count;

	metrics_family(out, "upstream_usable", "gauge",
		       "1 unless the upstream has failed, has no route, or its name no address.");
	for (uint32_t i = 0; i < count; i++)
		metrics_upstream(out, "upstream_usable", rows[i].name,
				 !health_upstream_down(&report->facts.upstreams[i]));
	metrics_family(out, "upstream_flows", "gauge",
		       "Connections now, by upstream and by who carries their payload.");
	for (uint32_t i = 0; i < count; i++) {
		metrics_upstream_flows(out, &rows[i], "spliced", rows[i].spliced);
		metrics_upstream_flows(out, &rows[i], "relay", rows[i].relaying);
	}
	metrics_family(out, "upstream_warm", "gauge", "Warm connections: made and not yet used.");
	for (uint32_t i = 0; i < count; i++)
		metrics_upstream(out, "upstream_warm", rows[i].name, rows[i].warm);
	for (size_t c = 0; c < ARRAY_SIZE(counters); c++) {
		metrics_family(out, counters[c].name, "counter", counters[c].help);
		for (uint32_t i = 0; i < count; i++)
			metrics_upstream(out, counters[c].name, rows[i].name,
					 *(const uint64_t *)((const char *)&rows[i].counters + counters[c].offset));
	}
	metrics_family(out, "upstream_failures_total", "counter",
		       "Dials, handshakes and CONNECTs that failed, by reason.");
	for (uint32_t i = 0; i < count; i++)
		metrics_upstream_failures(out, &rows[i]);
}

/* Failures that no upstream is named with. */
static void metrics_text_dials(FILE *out, const struct bridge_counters *bridge)
{
	metrics_family(out, "not_dialled_total", "counter",
		       "Connections that failed for want of something here, by reason.");
	metrics_labelled(out, "not_dialled_total", "reason", "dial_no_descriptor", bridge->dial_no_descriptor);
	metrics_labelled(out, "not_dialled_total", "reason", "dial_no_slot", bridge->dial_no_slot);
	metrics_labelled(out, "not_dialled_total", "reason", "dial_no_frame", bridge->dial_no_frame);
	metrics_labelled(out, "not_dialled_total", "reason", "no_upstream", bridge->no_upstream);
	metrics_one(out, "dialled_again_total", "counter",
		    "Connections that another address or upstream served after a failure.", bridge->dialled_again);
	metrics_one(out, "upstream_resets_total", "counter", "Relayed connections that an upstream reset.",
		    bridge->upstream_resets);
}

/* --- packets --- */

static void metrics_drop(FILE *out, const char *where, const char *reason, uint64_t value)
{
	fprintf(out, "socksplice_drops_total{where=\"%s\",reason=\"%s\"} %llu\n", where, reason,
		(unsigned long long)value);
}

static void metrics_text_packets(FILE *out, const struct worker_stats *stats)
{
	metrics_family(out, "packets_total", "counter",
		       "Packets that the BPF programs judged, by verdict; a large one is one.");
#define X(name, text) metrics_labelled(out, "packets_total", "verdict", #text, stats->bpf[COUNT_##name]);
	PACKET_VERDICTS(X)
#undef X
	metrics_family(out, "drops_total", "counter", "Packets dropped, by who and why.");
#define X(name, text)                                                                                                  \
	if (DROP_##name != DROP_NONE) {                                                                                \
		metrics_drop(out, "bpf", #text, stats->bpf[COUNT_DROP_##name]);                                        \
		metrics_drop(out, "stack", #text, stats->stack.dropped[DROP_##name]);                                  \
	}
	DROP_REASONS(X)
#undef X
	metrics_family(out, "bpf_events_total", "counter", "What the BPF programs did besides.");
#define X(name, text) metrics_labelled(out, "bpf_events_total", "event", #text, stats->bpf[COUNT_##name]);
	FLOW_EVENTS(X)
#undef X
	metrics_family(out, "splice_events_total", "counter", "What the daemon did for flows of the kernel.");
#define X(name)                                                                                                        \
	if (!strstr(#name, "bytes") && !strstr(#name, "packets") && !strstr(#name, "payload"))                         \
		metrics_labelled(out, "splice_events_total", "event", #name, stats->splice.name);
	SPLICE_COUNTERS(X)
#undef X
	metrics_family(out, "stack_events_total", "counter", "What the TCP stack toward the clients did.");
#define X(name)                                                                                                        \
	if (!strstr(#name, "bytes"))                                                                                   \
		metrics_labelled(out, "stack_events_total", "event", #name, stats->stack.name);
	STACK_COUNTERS(X)
#undef X
	metrics_family(out, "port_packets_total", "counter", "Packets between interfaces and the daemon.");
	fprintf(out,
		"socksplice_port_packets_total{port=\"xsk\",direction=\"received\"} %llu\n"
		"socksplice_port_packets_total{port=\"xsk\",direction=\"sent\"} %llu\n"
		"socksplice_port_packets_total{port=\"tap\",direction=\"received\"} %llu\n"
		"socksplice_port_packets_total{port=\"tap\",direction=\"sent\"} %llu\n",
		(unsigned long long)stats->xsk.rx_packets, (unsigned long long)stats->xsk.tx_packets,
		(unsigned long long)stats->tap.rx_packets, (unsigned long long)stats->tap.tx_packets);
	metrics_family(out, "port_losses_total", "counter",
		       "Packets lost between interfaces and the daemon, by reason.");
	metrics_labelled(out, "port_losses_total", "reason", "xsk_dropped", stats->xsk.kernel_rx_dropped);
	metrics_labelled(out, "port_losses_total", "reason", "xsk_ring_full", stats->xsk.kernel_rx_ring_full);
	metrics_labelled(out, "port_losses_total", "reason", "xsk_no_frame", stats->xsk.kernel_fill_empty);
	metrics_labelled(out, "port_losses_total", "reason", "tap_truncated", stats->tap.rx_truncated);
	metrics_labelled(out, "port_losses_total", "reason", "tap_no_frame", stats->tap.rx_no_frame);
	metrics_labelled(out, "port_losses_total", "reason", "tap_error", stats->tap.rx_errors + stats->tap.tx_errors);
}

/* --- what is bounded --- */

static void metrics_text_limits(FILE *out, const struct worker_stats *stats, struct record *record)
{
	const struct splice_gauges *splice = &stats->splice_gauges;
	struct record_counters records = {0};

	metrics_one(out, "frames", "gauge", "Frames of packet memory in use.",
		    stats->frames.total - stats->frames.pool);
	metrics_one(out, "frames_limit", "gauge", "Frames of packet memory.", stats->frames.total);
	metrics_one(out, "frame_size_bytes", "gauge", "Size of a frame.", stats->frames.frame_bytes);
	metrics_one(out, "frames_exhausted_total", "counter", "Times that no frame was free.",
		    stats->frames.pool_exhausted);
	metrics_one(out, "table_entries", "gauge", "Entries of the kernel's connection table in use.", splice->in_use);
	metrics_one(out, "table_entries_limit", "gauge", "Entries of the kernel's connection table.", splice->entries);
	metrics_one(out, "source_ports", "gauge", "Source ports for spliced connections in use.", splice->ports_in_use);
	metrics_one(out, "source_ports_limit", "gauge", "Source ports for spliced connections.", splice->ports_total);
	metrics_one(out, "source_ports_exhausted_total", "counter", "Times that no source port was free.",
		    splice->ports_exhausted);
	metrics_one(out, "uring_submissions_total", "counter", "io_uring: submissions.", stats->uring.submits);
	metrics_one(out, "uring_completions_total", "counter", "io_uring: completions.", stats->uring.completions);
	metrics_one(out, "uring_queue_full_total", "counter", "io_uring: submissions made to get room in the queue.",
		    stats->uring.full);
	if (record)
		record_read_counters(record, &records);
	metrics_one(out, "records_written_total", "counter", "Lines written to log.flows.", records.written);
	metrics_one(out, "records_lost_total", "counter", "Ended connections that log.flows has no line of.",
		    records.lost);
}

static void metrics_text_dns(FILE *out, const struct worker_stats *stats)
{
	metrics_family(out, "dns_events_total", "counter",
		       "Mapped DNS: queries, answers by kind, and what happened besides.");
#define X(name) metrics_labelled(out, "dns_events_total", "event", #name, stats->dns.name);
	DNS_COUNTERS(X)
#undef X
	metrics_one(out, "dns_names", "gauge", "Names that have fake addresses.", stats->dns_gauges.map.names);
	metrics_one(out, "dns_names_held", "gauge", "Of these with live connections.", stats->dns_gauges.map.held);
	metrics_one(out, "dns_names_limit", "gauge", "Names that can have fake addresses (dns.cache).",
		    stats->dns_gauges.map.entries);
	metrics_one(out, "dns_names_evicted_total", "counter", "Names that gave way to others.",
		    stats->dns_gauges.map.evicted);
}

static void metrics_text_interfaces(FILE *out, struct worker *worker, const struct health_facts *facts)
{
	metrics_family(out, "interface_up", "gauge", "1 while the interface is up and has a carrier.");
	for (uint32_t i = 0; i < facts->link_count; i++) {
		fputs("socksplice_interface_up{interface=\"", out);
		metrics_quote(out, facts->links[i].name);
		fprintf(out, "\",role=\"%s\"} %d\n", facts->links[i].uplink ? "uplink" : "lan", facts->links[i].up);
	}
	metrics_family(out, "interface_info", "gauge", "How an interface is served; the value is always 1.");
	for (uint32_t i = 0; i < worker_port_count(worker); i++) {
		const struct worker_port *port = worker_port(worker, i);

		fputs("socksplice_interface_info{interface=\"", out);
		metrics_quote(out, port->name);
		fprintf(out, "\",hook=\"%s\",xdp=\"%s\",xsk=\"%s\"} 1\n", port->hook == CONFIG_HOOK_TC ? "tc" : "xdp",
			port->xdp, port->xsk);
	}
}

void metrics_text(FILE *out, struct worker *worker, const struct observe_report *report)
{
	metrics_text_self(out, report);
	if (!report->facts.answers)
		return;
	metrics_text_flows(out, &report->stats);
	metrics_text_upstreams(out, report);
	metrics_text_dials(out, &report->stats.bridge);
	metrics_text_packets(out, &report->stats);
	metrics_text_limits(out, &report->stats, worker_record(worker));
	metrics_text_dns(out, &report->stats);
	metrics_text_interfaces(out, worker, &report->facts);
}
