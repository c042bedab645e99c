/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a spliced flow. It ends when both FINs are acknowledged or
 * an RST was seen in its receiver's window. Then its entry stays for `linger`,
 * so that segments sent again still find it. An RST is believed only if
 * silence follows: one that did not hit the receiver's next sequence number
 * draws a challenge ACK (RFC 5961 3.2), and the connection may go on.
 */
#include "splice_priv.h"

#include <stddef.h>
#include <string.h>

#define SPLICE_SWEEP_NS 250000000ull
/* A whole table is looked at in about four seconds. */
#define SPLICE_SWEEP_SHARE 16
#define SPLICE_SWEEP_LEAST 256
#define SPLICE_SAMPLE_NS 1000000000ull

static bool splice_was_closed(const struct flow_entry *entry)
{
	uint32_t up = __atomic_load_n(&entry->half[FLOW_UP].seen, __ATOMIC_RELAXED);
	uint32_t down = __atomic_load_n(&entry->half[FLOW_DOWN].seen, __ATOMIC_RELAXED);

	return up & down & FLOW_SEEN_FIN_ACKED;
}

/* After both FINs a late copy of a segment may still draw an RST, which says nothing. */
bool splice_was_reset(const struct flow_entry *entry)
{
	return !splice_was_closed(entry) && (entry->half[FLOW_UP].seen | entry->half[FLOW_DOWN].seen) & FLOW_SEEN_RST;
}

bool splice_is_over(const struct flow_entry *entry)
{
	return splice_was_closed(entry) || splice_was_reset(entry);
}

static uint64_t splice_last_ns(const struct flow_entry *entry)
{
	uint64_t up = entry->half[FLOW_UP].last_ns, down = entry->half[FLOW_DOWN].last_ns;
	uint64_t last = up > down ? up : down;

	return last > entry->created_ns ? last : entry->created_ns;
}

static void splice_trace_totals(struct splice *splice, uint32_t index)
{
	const struct flow_entry *entry = splice_at(splice, index);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];

	trace_note(splice->calls.trace, splice->now_ns,
		   "%s: %llu bytes in %llu packets up, %llu bytes in %llu packets down",
		   splice_was_reset(entry) ? "reset" : "closed by both sides", (unsigned long long)up->payload_bytes,
		   (unsigned long long)up->packets, (unsigned long long)down->payload_bytes,
		   (unsigned long long)down->packets);
}

/* Of a flow that ended by itself: how. */
static enum record_end splice_end_of(const struct flow_entry *entry)
{
	if (splice_was_closed(entry))
		return RECORD_END_CLOSED;
	return entry->half[FLOW_UP].seen & FLOW_SEEN_RST ? RECORD_END_CLIENT_RESET : RECORD_END_UPSTREAM_RESET;
}

void splice_record(struct splice *splice, uint32_t index, enum record_end end)
{
	const struct flow_recorder *recorder = splice->calls.recorder;
	const struct flow_entry *entry = splice_at(splice, index);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];
	const struct upstream *upstream = splice_upstream_of(splice, index);
	struct flow_record record = {
		.client = {.addr = down->dst, .port = down->dport},
		.destination = {.addr = down->src, .port = down->sport},
		.tier = flowmap_phase(entry) == FLOW_PHASE_SPLICED ? RECORD_TIER_SPLICED : RECORD_TIER_NONE,
		.end = splice_is_over(entry) ? splice_end_of(entry) : end,
		.bytes_from_client = up->payload_bytes,
		.bytes_to_client = down->payload_bytes,
		.packets_from_client = up->packets,
		.packets_to_client = down->packets,
		.started_ns = entry->created_ns,
		/* the entry has stayed for a while after the last packet */
		.ended_ns = splice_is_over(entry) ? splice_last_ns(entry) : splice->now_ns,
	};

	if (!recorder)
		return;
	if (splice->calls.names)
		dnsmap_copy_name(splice->calls.names, &record.destination.addr, record.name);
	if (upstream)
		memcpy(record.upstream, upstream->settings.name, sizeof(record.upstream));
	recorder->put(recorder->ctx, &record);
}

void splice_end(struct splice *splice, uint32_t index)
{
	struct splice_slot *slot = &splice->slots[index];

	if (slot->ending)
		return;
	slot->ending = true;
	if (slot->traced)
		splice_trace_totals(splice, index);
	wheel_arm(&splice->wheel, &slot->timer, splice->now_ns + splice->config->tcp.linger_ns);
}

void splice_ended(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	splice->now_ns = now_ns;
	splice_end(splice, index);
}

void splice_on_report(void *ctx, const struct flow_report *report)
{
	struct splice *splice = ctx;
	struct splice_slot *slot;

	/* the entry may have been given to another flow since BPF wrote this */
	if (report->index >= splice->used || splice_at(splice, report->index)->generation != report->generation)
		return;
	slot = &splice->slots[report->index];
	if (!slot->in_use)
		return;
	if (slot->conn != SPLICE_NONE)
		splice->calls.handover(splice->calls.ctx, slot->conn, (enum flow_report_kind)report->kind);
	else if (report->kind == FLOW_REPORT_DONE)
		splice_end(splice, report->index);
}

bool splice_lives_on(const struct flow_entry *entry)
{
	return !splice_was_closed(entry) && entry->half[FLOW_UP].last_ns > entry->reset_ns &&
	       entry->half[FLOW_DOWN].last_ns > entry->reset_ns;
}

bool splice_is_finished(const struct flow_entry *entry)
{
	return splice_is_over(entry) && !splice_lives_on(entry);
}

void splice_finish(struct splice *splice, uint32_t index)
{
	if (splice_was_reset(splice_at(splice, index)))
		splice->counters.finished_reset++;
	else
		splice->counters.finished++;
	splice_record(splice, index, RECORD_END_CLOSED);
	splice_release(splice, index, splice->now_ns);
}

static void splice_linger_over(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct splice *splice = ctx;
	struct splice_slot *slot = (struct splice_slot *)((char *)timer - offsetof(struct splice_slot, timer));
	uint32_t index = (uint32_t)(slot - splice->slots);
	struct flow_entry *entry = splice_at(splice, index);

	(void)now_ns; /* splice->now_ns: the wheel runs from splice_run() */
	slot->ending = false;
	if (splice_was_reset(entry) && splice_lives_on(entry)) {
		__atomic_fetch_and(&entry->half[FLOW_UP].seen, ~(uint32_t)FLOW_SEEN_RST, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&entry->half[FLOW_DOWN].seen, ~(uint32_t)FLOW_SEEN_RST, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&entry->reported, ~(uint32_t)FLOW_REPORTED_DONE, __ATOMIC_SEQ_CST);
		splice->counters.revived++;
		return;
	}
	splice_finish(splice, index);
}

void splice_forget_next_hop(struct splice *splice, uint32_t slot)
{
	for (uint32_t i = 0; i < splice->used; i++)
		if (splice->slots[i].upstream == slot)
			__atomic_store_n(&splice_at(splice, i)->half[FLOW_UP].mac_valid, 0, __ATOMIC_RELAXED);
}

void splice_count_payload(struct splice *splice, uint32_t index)
{
	uint64_t *totals[2] = {[FLOW_UP] = &splice->counters.payload_up, [FLOW_DOWN] = &splice->counters.payload_down};
	struct splice_slot *slot = &splice->slots[index];

	for (int i = 0; i < 2; i++) {
		uint64_t bytes = splice_at(splice, index)->half[i].payload_bytes;

		*totals[i] += bytes - slot->sampled_bytes[i];
		slot->sampled_bytes[i] = bytes;
	}
}

void splice_set_rate(struct splice *splice, uint32_t index, uint32_t direction, uint64_t bytes_per_second)
{
	uint64_t *rate = &splice->slots[index].rate[direction];

	splice->rate[direction] += bytes_per_second - *rate;
	*rate = bytes_per_second;
}

static void splice_sample(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	struct splice_slot *slot = &splice->slots[index];
	uint64_t past_ns = now_ns - slot->sampled_ns;

	if (past_ns < SPLICE_SAMPLE_NS)
		return;
	for (uint32_t i = 0; slot->sampled_ns && i < 2; i++) {
		uint64_t bytes = splice_at(splice, index)->half[i].payload_bytes - slot->sampled_bytes[i];

		splice_set_rate(splice, index, i, bytes * 1000 / (past_ns / 1000000));
	}
	splice_count_payload(splice, index);
	slot->sampled_ns = now_ns;
}

void splice_kill(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	splice_remove_keys(splice, index);
	splice_reset_client(splice, index);
	splice_reset_upstream(splice, index);
	splice_release(splice, index, now_ns);
}

static void splice_look_after(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_entry *entry = splice_at(splice, index);

	if (!slot->in_use || slot->conn != SPLICE_NONE || flowmap_phase(entry) != FLOW_PHASE_SPLICED)
		return;
	splice_sample(splice, index, now_ns);
	if (slot->ending)
		return;
	if (splice_is_over(entry)) {
		splice->counters.reports_found++;
		splice_end(splice, index);
	} else if (now_ns - splice_last_ns(entry) > splice->config->tcp.idle_timeout_ns &&
		   now_ns > splice_last_ns(entry)) {
		splice->counters.finished_idle++;
		splice_record(splice, index, RECORD_END_IDLE);
		splice_kill(splice, index, now_ns);
	}
}

static void splice_sweep(struct splice *splice, uint64_t now_ns)
{
	uint32_t chunk = splice->used / SPLICE_SWEEP_SHARE + SPLICE_SWEEP_LEAST;

	for (uint32_t i = 0; i < chunk && i < splice->used; i++) {
		if (splice->sweep_cursor >= splice->used)
			splice->sweep_cursor = 0;
		splice_look_after(splice, splice->sweep_cursor++, now_ns);
	}
	splice->next_sweep_ns = now_ns + SPLICE_SWEEP_NS;
}

void splice_run(struct splice *splice, uint64_t now_ns)
{
	splice->now_ns = now_ns;
	flowmap_poll(&splice->map);
	wheel_expire(&splice->wheel, now_ns, splice_linger_over, splice);
	if (now_ns >= splice->next_sweep_ns)
		splice_sweep(splice, now_ns);
}

uint64_t splice_next_timer_ns(const struct splice *splice)
{
	uint64_t next = wheel_next_ns(&splice->wheel);

	if (splice->in_use && splice->next_sweep_ns < next)
		next = splice->next_sweep_ns;
	return next;
}

uint32_t splice_flush_some(struct splice *splice, uint32_t max, uint64_t now_ns)
{
	uint32_t left = splice->used - splice->flush_cursor;

	splice->now_ns = now_ns;
	for (uint32_t i = 0; i < max && splice->flush_cursor < splice->used; i++) {
		uint32_t index = splice->flush_cursor++;

		if (!splice->slots[index].in_use || splice->slots[index].conn != SPLICE_NONE ||
		    flowmap_phase(splice_at(splice, index)) != FLOW_PHASE_SPLICED)
			continue;
		/* it only waits for `linger`: there is nobody to reset */
		if (splice_is_finished(splice_at(splice, index))) {
			splice_finish(splice, index);
			continue;
		}
		splice->counters.flushed++;
		splice_record(splice, index, RECORD_END_FLUSHED);
		splice_kill(splice, index, now_ns);
	}
	return left;
}
