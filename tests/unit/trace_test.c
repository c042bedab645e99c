/* SPDX-License-Identifier: MIT */
/* One connection is recorded, the one that was waited for, and its end is never lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "trace.h"

static struct trace trace;

static void test_off(void **state)
{
	const struct addr client = addr_from_ipv4(be32(0x0a010002));

	(void)state;
	memset(&trace, 0, sizeof(trace));
	assert_false(trace_begins(&trace, &client, 5));
	trace_note(&trace, 5, "nobody asked");
	trace_end(&trace, 6, "nobody asked");
	assert_int_equal(trace.count, 0);
	assert_int_equal(trace.state, TRACE_OFF);
}

static void test_one_client(void **state)
{
	const struct addr wanted = addr_from_ipv4(be32(0x0a010002)), other = addr_from_ipv4(be32(0x0a010003));

	(void)state;
	trace_arm(&trace, &wanted);
	assert_false(trace_begins(&trace, &other, 5));
	assert_true(trace_begins(&trace, &wanted, 7));
	/* the second connection of the same client is not recorded too */
	assert_false(trace_begins(&trace, &wanted, 8));
	trace_note(&trace, 9, "step %d", 1);
	trace_end(&trace, 10, "over");
	trace_note(&trace, 11, "late");
	assert_int_equal(trace.started_ns, 7);
	assert_int_equal(trace.count, 2);
	assert_string_equal(trace.events[0].text, "step 1");
	assert_string_equal(trace.events[1].text, "over");
	assert_int_equal(trace.state, TRACE_OVER);
}

static void test_too_many_events(void **state)
{
	const struct addr client = addr_from_ipv4(be32(0x0a010002));

	(void)state;
	trace_arm(&trace, NULL);
	assert_true(trace_begins(&trace, &client, 1));
	for (int i = 0; i < TRACE_EVENTS + 3; i++)
		trace_note(&trace, 2, "%d", i);
	assert_int_equal(trace.count, TRACE_EVENTS);
	assert_int_equal(trace.lost, 3);
	trace_end(&trace, 3, "over");
	assert_int_equal(trace.count, TRACE_EVENTS);
	assert_string_equal(trace.events[TRACE_EVENTS - 1].text, "over");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_one_client),
		cmocka_unit_test(test_too_many_events),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
