/* SPDX-License-Identifier: MIT */
#include "health.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HEALTH_SECOND 1000000000ull
/* Of the table or of the ports: from here on it is said before connections fail. */
#define HEALTH_NEARLY_FULL_PERCENT 95

const char *health_state_name(enum health_state state)
{
	static const char *const names[] = {
		[HEALTH_WORKING] = "working", [HEALTH_DEGRADED] = "degraded", [HEALTH_FAILED] = "not working"};

	return names[state];
}

const char *health_failure_text(const char *counter)
{
	static const struct {
		const char *counter, *text;
	} texts[] = {
		{"dial_refused", "connection refused"},
		{"dial_unreachable", "unreachable"},
		{"dial_timed_out", "no answer to the dial"},
		{"dial_failed", "the dial failed"},
		{"handshake_timed_out", "no answer to the SOCKS greeting"},
		{"handshake_closed", "it closes during the SOCKS handshake"},
		{"handshake_malformed", "what it says is not SOCKS5"},
		{"no_acceptable_method", "it wants another way to authenticate"},
		{"auth_rejected", "it rejects username and password"},
	};

	for (size_t i = 0; counter && i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!strcmp(texts[i].counter, counter))
			return texts[i].text;
	return counter ? counter : "unknown";
}

/* The worse verdict stays, of two equal ones the first. */
__attribute__((format(printf, 4, 5))) static void health_say(struct health_verdict *out, enum health_state state,
							     enum health_cause cause, const char *fmt, ...)
{
	va_list args;

	if (state <= out->state)
		return;
	out->state = state;
	out->cause = cause;
	va_start(args, fmt);
	vsnprintf(out->text, sizeof(out->text), fmt, args);
	va_end(args);
}

/* With several uplinks, as with several interfaces of clients, one that is down leaves the others. */
static void health_judge_links(const struct health_facts *facts, bool uplink, struct health_verdict *out)
{
	uint32_t all = 0, down = 0;

	for (uint32_t i = 0; i < facts->link_count; i++) {
		all += facts->links[i].uplink == uplink;
		down += facts->links[i].uplink == uplink && !facts->links[i].up;
	}
	for (uint32_t i = 0; i < facts->link_count; i++)
		if (facts->links[i].uplink == uplink && !facts->links[i].up)
			health_say(out, down == all ? HEALTH_FAILED : HEALTH_DEGRADED, HEALTH_CAUSE_LINK,
				   "%s %s is down%s", uplink ? "uplink" : "interface", facts->links[i].name,
				   down > 1 ? ", and others" : "");
}

static bool health_lately(uint64_t age)
{
	return age < HEALTH_WINDOW_NS;
}

bool health_upstream_down(const struct health_upstream *upstream)
{
	if (!upstream->routed || upstream->unresolved || upstream->failed)
		return true;
	return upstream->failures && health_lately(upstream->failed_age) &&
	       (upstream->failures >= HEALTH_FAILURES || !upstream->answered);
}

static void health_judge_upstream(const struct health_upstream *upstream, enum health_state state,
				  struct health_verdict *out)
{
	unsigned long long seconds = upstream->failed_age / HEALTH_SECOND;

	if (upstream->unresolved)
		health_say(out, state, HEALTH_CAUSE_UPSTREAM, "the name of upstream %s is not resolved",
			   upstream->name);
	else if (!upstream->routed)
		health_say(out, state, HEALTH_CAUSE_ROUTE, "there is no route to upstream %s", upstream->name);
	else if (health_upstream_down(upstream))
		health_say(out, state, HEALTH_CAUSE_UPSTREAM,
			   "upstream %s fails: %s (%u in a row, the last %llu s ago)", upstream->name,
			   health_failure_text(upstream->failure), upstream->failures, seconds);
	else if (upstream->failures && health_lately(upstream->failed_age))
		health_say(out, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "upstream %s failed %llu s ago: %s",
			   upstream->name, seconds, health_failure_text(upstream->failure));
}

static void health_judge_upstreams(const struct health_facts *facts, struct health_verdict *out)
{
	uint32_t down = 0;

	for (uint32_t i = 0; i < facts->upstream_count; i++)
		down += health_upstream_down(&facts->upstreams[i]);
	for (uint32_t i = 0; i < facts->upstream_count; i++) {
		const struct health_upstream *upstream = &facts->upstreams[i];
		bool all_down = down == facts->upstream_count;

		/* a standby is missed only when it is all that could be left */
		if (!upstream->standby || all_down)
			health_judge_upstream(upstream, all_down ? HEALTH_FAILED : HEALTH_DEGRADED, out);
		if (upstream->refusals >= HEALTH_REFUSALS && health_lately(upstream->answered_age))
			health_say(out, HEALTH_DEGRADED, HEALTH_CAUSE_REFUSALS,
				   "upstream %s answers, but has refused the last %u connections (%s)", upstream->name,
				   upstream->refusals, upstream->refusal);
	}
}

static void health_judge_room(const struct health_facts *facts, struct health_verdict *out)
{
	uint64_t entries = (uint64_t)facts->entries_total * HEALTH_NEARLY_FULL_PERCENT / 100;
	uint64_t ports = (uint64_t)facts->ports_total * HEALTH_NEARLY_FULL_PERCENT / 100;

	if (!facts->frames_free)
		health_say(out, HEALTH_FAILED, HEALTH_CAUSE_FRAMES,
			   "packet memory is exhausted: all %u frames are in use (performance.memory_pool_size)",
			   facts->frames_total);
	if (facts->frames_missed)
		health_say(out, HEALTH_DEGRADED, HEALTH_CAUSE_FRAMES,
			   "packet memory ran out %llu times in the last seconds (performance.memory_pool_size)",
			   (unsigned long long)facts->frames_missed);
	if (entries && facts->entries_in_use >= entries)
		health_say(out, HEALTH_DEGRADED, HEALTH_CAUSE_TABLE,
			   "the kernel's table is full: %u of %u connections (tcp.max-flows)", facts->entries_in_use,
			   facts->entries_total);
	if (ports && facts->ports_in_use >= ports)
		health_say(out, HEALTH_DEGRADED, HEALTH_CAUSE_PORTS,
			   "source ports are used up: %u of %u (upstreams[].ports and sources)", facts->ports_in_use,
			   facts->ports_total);
}

void health_judge(const struct health_facts *facts, struct health_verdict *out)
{
	*out = (struct health_verdict){.state = HEALTH_WORKING};
	if (!facts->answers) {
		health_say(out, HEALTH_FAILED, HEALTH_CAUSE_DATA_PATH, "the data path does not answer");
		return;
	}
	health_judge_links(facts, true, out);
	health_judge_links(facts, false, out);
	health_judge_upstreams(facts, out);
	health_judge_room(facts, out);
}
