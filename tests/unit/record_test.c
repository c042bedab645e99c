/* SPDX-License-Identifier: MIT */
/* Flow records: the line, the queue that never blocks, the file that is renamed or cannot be written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

static struct flow_record sample(void)
{
	struct flow_record flow = {
		.client = {.addr = addr_from_ipv4(be32(0x0a010002)), .port = be16(4000)},
		.destination = {.addr = addr_from_ipv4(be32(0x0a090001)), .port = be16(80)},
		.upstream = "main",
		.tier = RECORD_TIER_SPLICED,
		.end = RECORD_END_CLOSED,
		.bytes_from_client = 100,
		.bytes_to_client = 5000000000ull,
		.packets_from_client = 7,
		.packets_to_client = 9,
		.started_ns = 1000000000ull,
		.ended_ns = 3500000000ull,
	};

	return flow;
}

static void test_line(void **state)
{
	struct flow_record flow = sample();
	char line[RECORD_LINE_BYTES];
	size_t bytes;

	(void)state;
	bytes = record_format(&flow, 1700000000123ull, line);
	assert_int_equal(bytes, strlen(line));
	assert_string_equal(line, "{\"time\":\"2023-11-14T22:13:20.123Z\",\"client\":\"10.1.0.2:4000\","
				  "\"destination\":\"10.9.0.1:80\",\"upstream\":\"main\",\"tier\":\"spliced\","
				  "\"bytes_from_client\":100,\"bytes_to_client\":5000000000,\"packets_from_client\":7,"
				  "\"packets_to_client\":9,\"duration_ms\":2500,\"end\":\"closed\"}\n");
	flow.end = RECORD_END_REFUSED;
	flow.tier = RECORD_TIER_NONE;
	flow.why = "dial_refused";
	flow.not_spliced = "family";
	record_format(&flow, 0, line);
	assert_non_null(strstr(line, "\"tier\":\"none\""));
	assert_non_null(strstr(line, "\"end\":\"refused\",\"why\":\"dial_refused\",\"not_spliced\":\"family\"}\n"));
}

/* The longest there is, and a name made of what JSON must escape. */
static void test_longest_line(void **state)
{
	struct flow_record flow = sample();
	char line[RECORD_LINE_BYTES];
	json_t *parsed;

	(void)state;
	memset(&flow.client.addr, 0xee, 16);
	memset(&flow.destination.addr, 0xee, 16);
	flow.client.port = flow.destination.port = 0xffff;
	memset(flow.upstream, 1, sizeof(flow.upstream) - 1);
	flow.upstream[0] = '"';
	flow.upstream[1] = '\\';
	flow.bytes_from_client = flow.bytes_to_client = UINT64_MAX / 2;
	flow.packets_from_client = flow.packets_to_client = UINT64_MAX / 2;
	flow.started_ns = 0;
	flow.ended_ns = UINT64_MAX;
	flow.tier = RECORD_TIER_RELAY;
	flow.end = RECORD_END_REFUSED;
	flow.why = "reply_command_unsupported";
	flow.not_spliced = "local_upstream";
	assert_true(record_format(&flow, 1700000000123ull, line) < RECORD_LINE_BYTES);
	parsed = json_loads(line, 0, NULL);
	assert_non_null(parsed);
	assert_string_equal(json_string_value(json_object_get(parsed, "upstream")), flow.upstream);
	json_decref(parsed);
}

static char directory[] = "/tmp/record-test-XXXXXX";
static char path[64], renamed[64];

static int make_directory(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/flows", directory);
	snprintf(renamed, sizeof(renamed), "%s/flows.1", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(path);
	unlink(renamed);
	return rmdir(directory);
}

static uint64_t count_lines(const char *name)
{
	FILE *file = fopen(name, "re");
	uint64_t lines = 0;
	int c;

	if (!file)
		return 0;
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

static void test_every_record_is_written_or_counted(void **state)
{
	const uint64_t total = 3 * RECORD_QUEUE;
	struct flow_record flow = sample();
	struct record_counters counters;
	struct record *record;

	(void)state;
	assert_int_equal(record_create(&record, path), 0);
	for (uint64_t i = 0; i < total; i++)
		record_put(record, &flow);
	do {
		usleep(1000);
		record_read_counters(record, &counters);
	} while (counters.written + counters.lost < total);
	/* three queues at once are more than a writer keeps up with */
	assert_true(counters.lost > 0);
	assert_int_equal(counters.waiting, 0);
	assert_int_equal(counters.peak, RECORD_QUEUE);
	record_destroy(record);
	assert_int_equal(count_lines(path), counters.written);
	unlink(path);
}

static void test_end_writes_what_waits(void **state)
{
	struct flow_record flow = sample();
	struct record *record;
	struct stat info;

	(void)state;
	assert_int_equal(record_create(&record, path), 0);
	for (int i = 0; i < 1000; i++)
		record_put(record, &flow);
	record_destroy(record);
	assert_int_equal(count_lines(path), 1000);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	unlink(path);
}

static void wait_written(struct record *record, uint64_t lines)
{
	struct record_counters counters;

	for (int i = 0; i < 3000; i++) {
		record_read_counters(record, &counters);
		if (counters.written >= lines)
			return;
		usleep(1000);
	}
	fail_msg("%llu lines were not written", (unsigned long long)lines);
}

static void test_reopen(void **state)
{
	struct flow_record flow = sample();
	struct record *record;

	(void)state;
	assert_int_equal(record_create(&record, path), 0);
	record_put(record, &flow);
	wait_written(record, 1);
	assert_int_equal(rename(path, renamed), 0);
	record_put(record, &flow);
	wait_written(record, 2);
	record_reopen(record);
	for (int i = 0; i < 3000 && access(path, F_OK); i++)
		usleep(1000);
	record_put(record, &flow);
	record_destroy(record);
	assert_int_equal(count_lines(renamed), 2);
	assert_int_equal(count_lines(path), 1);
	unlink(path);
	unlink(renamed);
}

static void test_full_disk(void **state)
{
	struct flow_record flow = sample();
	struct record_counters counters = {0};
	struct record *record;

	(void)state;
	assert_int_equal(record_create(&record, "/dev/full"), 0);
	record_put(record, &flow);
	for (int i = 0; i < 3000 && !counters.lost; i++) {
		usleep(1000);
		record_read_counters(record, &counters);
	}
	assert_int_equal(counters.lost, 1);
	assert_int_equal(counters.written, 0);
	record_destroy(record);
}

static void test_no_such_directory(void **state)
{
	struct record *record;

	(void)state;
	assert_int_not_equal(record_create(&record, "/nosuch/flows"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_longest_line),
		cmocka_unit_test(test_every_record_is_written_or_counted),
		cmocka_unit_test(test_end_writes_what_waits),
		cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_no_such_directory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
