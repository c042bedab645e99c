/* SPDX-License-Identifier: MIT */
/* Facts and the verdict that follows from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "health.h"

#define SECOND 1000000000ull

/* Two LAN interfaces, an uplink, two upstreams that answer: all is well. */
static struct health_facts healthy(void)
{
	struct health_facts facts = {
		.answers = true,
		.links = {{"l0", true, false}, {"l1", true, false}, {"u0", true, true}},
		.link_count = 3,
		.upstreams = {{.name = "a", .routed = true, .answered = true},
			      {.name = "b", .routed = true, .answered = true}},
		.upstream_count = 2,
		.frames_free = 100,
		.frames_total = 200,
		.entries_total = 1000,
		.ports_total = 1000,
	};

	return facts;
}

static void expect(const struct health_facts *facts, enum health_state state, enum health_cause cause,
		   const char *words)
{
	struct health_verdict verdict;

	health_judge(facts, &verdict);
	assert_string_equal(health_state_name(verdict.state), health_state_name(state));
	assert_int_equal(verdict.cause, cause);
	if (!strstr(verdict.text, words))
		fail_msg("\"%s\" is not in \"%s\"", words, verdict.text);
	if (state == HEALTH_WORKING)
		assert_string_equal(verdict.text, "");
}

static void fail_upstream(struct health_upstream *upstream, uint32_t times, uint64_t seconds_ago)
{
	upstream->failures = times;
	upstream->failed_age = seconds_ago * SECOND;
	upstream->failure = "dial_refused";
}

static void test_working(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
	/* nobody has tried it yet */
	facts.upstreams[0].answered = facts.upstreams[1].answered = false;
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
}

static void test_data_path(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.answers = false;
	facts.links[2].up = false;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_DATA_PATH, "the data path does not answer");
}

static void test_links(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.links[1].up = false;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_LINK, "interface l1 is down");
	facts.links[0].up = false;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_LINK, "interface l0 is down, and others");
	facts = healthy();
	facts.links[2].up = false;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_LINK, "uplink u0 is down");
}

static void test_upstreams(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	fail_upstream(&facts.upstreams[0], 1, 2);
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "upstream a failed 2 s ago: connection refused");
	fail_upstream(&facts.upstreams[0], HEALTH_FAILURES, 2);
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "upstream a fails: connection refused (3 in a row");
	fail_upstream(&facts.upstreams[1], HEALTH_FAILURES, 1);
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_UPSTREAM, "upstream a fails");
	/* long ago: nobody knows */
	fail_upstream(&facts.upstreams[0], HEALTH_FAILURES, 31);
	fail_upstream(&facts.upstreams[1], HEALTH_FAILURES, 31);
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
}

/* Out of use until a probe succeeds, however long ago the last failure is. */
static void test_failed_upstreams(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	fail_upstream(&facts.upstreams[1], HEALTH_FAILURES, 100);
	facts.upstreams[1].failed = true;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "upstream b fails: connection refused (3 in a row");
	facts.upstreams[0].failed = true;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_UPSTREAM, "upstream a fails");
}

/* A standby is missed only when nothing else is left; one that serves for a failed one does not make all well. */
static void test_standby(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.upstreams[1].standby = true;
	facts.upstreams[1].failed = true;
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
	facts.upstreams[0].failed = true;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_UPSTREAM, "upstream a fails");
	facts.upstreams[1].failed = false;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "upstream a fails");
}

static void test_names(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.upstreams[0].unresolved = true;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_UPSTREAM, "the name of upstream a is not resolved");
	facts.upstream_count = 1;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_UPSTREAM, "the name of upstream a is not resolved");
}

static void test_two_uplinks(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.links[facts.link_count++] = (struct health_link){"u1", true, true};
	facts.links[2].up = false;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_LINK, "uplink u0 is down");
	facts.links[3].up = false;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_LINK, "uplink u0 is down, and others");
}

static void test_upstream_that_never_answered(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.upstream_count = 1;
	facts.upstreams[0].answered = false;
	fail_upstream(&facts.upstreams[0], 1, 0);
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_UPSTREAM, "1 in a row");
}

static void test_routes(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.upstreams[1].routed = false;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_ROUTE, "there is no route to upstream b");
	facts.upstreams[0].routed = false;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_ROUTE, "there is no route to upstream a");
}

static void test_refusals(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.upstreams[0].refusals = HEALTH_REFUSALS - 1;
	facts.upstreams[0].refusal = "reply_not_allowed";
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
	facts.upstreams[0].refusals = HEALTH_REFUSALS;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_REFUSALS, "refused the last 20 connections (reply_not_allowed)");
	facts.upstreams[0].answered_age = HEALTH_WINDOW_NS;
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
}

static void test_room(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.frames_missed = 5;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_FRAMES, "ran out 5 times");
	facts.frames_free = 0;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_FRAMES, "all 200 frames are in use");
	facts = healthy();
	facts.entries_in_use = 949;
	expect(&facts, HEALTH_WORKING, HEALTH_CAUSE_NONE, "");
	facts.entries_in_use = 950;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_TABLE, "950 of 1000 connections");
	facts = healthy();
	facts.ports_in_use = 1000;
	expect(&facts, HEALTH_DEGRADED, HEALTH_CAUSE_PORTS, "1000 of 1000");
}

static void test_worst_wins(void **state)
{
	struct health_facts facts = healthy();

	(void)state;
	facts.links[1].up = false;
	facts.frames_free = 0;
	expect(&facts, HEALTH_FAILED, HEALTH_CAUSE_FRAMES, "packet memory");
}

static void test_texts(void **state)
{
	(void)state;
	assert_string_equal(health_failure_text("auth_rejected"), "it rejects username and password");
	assert_string_equal(health_failure_text("something_else"), "something_else");
	assert_string_equal(health_failure_text(NULL), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_working),
		cmocka_unit_test(test_data_path),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_failed_upstreams),
		cmocka_unit_test(test_standby),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_two_uplinks),
		cmocka_unit_test(test_upstream_that_never_answered),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_worst_wins),
		cmocka_unit_test(test_texts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
