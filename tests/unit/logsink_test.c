/* SPDX-License-Identifier: MIT */
/* The log: bounded, kept for `status`, renamed under its feet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "logsink.h"

static struct config config = {.log_level = CONFIG_LOG_INFO};
static char renamed[64];

static uint32_t count_lines(const char *name, const char *words)
{
	FILE *file = fopen(name, "re");
	uint32_t lines = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		lines += strstr(line, words) != NULL;
	if (file)
		fclose(file);
	return lines;
}

static int open_log(void **state)
{
	(void)state;
	snprintf(config.log_file, sizeof(config.log_file), "/tmp/logsink-test-%d", (int)getpid());
	snprintf(renamed, sizeof(renamed), "/tmp/logsink-test-%d.1", (int)getpid());
	return logsink_open(&config);
}

static int remove_log(void **state)
{
	(void)state;
	unlink(config.log_file);
	unlink(renamed);
	return 0;
}

static void test_problems(void **state)
{
	struct logsink_problem problems[LOGSINK_KEPT];

	(void)state;
	log_info("nothing to worry about");
	log_warn("first");
	log_warn("first");
	log_error("second");
	assert_int_equal(logsink_problems(problems), 2);
	assert_string_equal(problems[0].text, "second");
	assert_int_equal(problems[0].level, LOG_LEVEL_ERROR);
	assert_string_equal(problems[1].text, "first");
	assert_int_equal(problems[1].times, 2);
	for (int i = 0; i < LOGSINK_KEPT + 3; i++)
		log_warn("number %d", i);
	assert_int_equal(logsink_problems(problems), LOGSINK_KEPT);
	assert_string_equal(problems[0].text, "number 10");
	assert_string_equal(problems[LOGSINK_KEPT - 1].text, "number 3");
}

static void test_reopen(void **state)
{
	(void)state;
	log_info("before");
	assert_int_equal(rename(config.log_file, renamed), 0);
	assert_int_equal(logsink_reopen(), 0);
	log_info("after");
	assert_int_equal(count_lines(renamed, "before"), 1);
	assert_int_equal(count_lines(config.log_file, "before"), 0);
	assert_int_equal(count_lines(config.log_file, "after"), 1);
}

static void test_flood(void **state)
{
	uint32_t written;

	(void)state;
	log_debug("flood: below the level");
	for (int i = 0; i < 3 * LOGSINK_BURST; i++)
		log_error("flood %d", i);
	written = count_lines(config.log_file, "flood");
	assert_in_range(written, LOGSINK_BURST - 100, LOGSINK_BURST + LOGSINK_PER_SECOND);
	usleep(2 * 1000000 / LOGSINK_PER_SECOND);
	log_info("calm again");
	assert_int_equal(count_lines(config.log_file, "calm again"), 1);
	assert_int_equal(count_lines(config.log_file, "lines left out: too many at once"), 1);
	assert_int_equal(count_lines(config.log_file, "below the level"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_problems),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_flood),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, open_log, remove_log);
}
