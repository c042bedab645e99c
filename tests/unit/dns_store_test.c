/* SPDX-License-Identifier: MIT */
/* The file of names: what is saved comes back; files that are broken, foreign, cut off or cannot be written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_scalar.h"
#include "dns_store.h"

#define NAMES 3000

static struct config config;
static char names_path[600];
static int wake_fd;

static int set_up(void **state)
{
	(void)state;
	strcpy(config.state, "/tmp/socksplice-store-XXXXXX");
	wake_fd = eventfd(0, EFD_NONBLOCK);
	if (!mkdtemp(config.state) || wake_fd < 0)
		return -1;
	snprintf(names_path, sizeof(names_path), "%s/names", config.state);
	config_scalar_prefix("198.18.0.0/15", &config.dns.mapped.addr, &config.dns.mapped.bits);
	config_scalar_prefix("fc00:5::/96", &config.dns.mapped6.addr, &config.dns.mapped6.bits);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(names_path);
	close(wake_fd);
	return rmdir(config.state);
}

static struct dnsmap *make_map(void)
{
	const struct dnsmap_settings settings = {
		.mapped = config.dns.mapped, .mapped6 = config.dns.mapped6, .entries = NAMES};
	struct dnsmap *map;

	assert_int_equal(dnsmap_create(&map, &settings), 0);
	return map;
}

static struct dns_store *make_store(void)
{
	struct dns_store *store = NULL;
	char error[512] = "";

	if (dns_store_create(&store, &config, wake_fd, error, sizeof(error)))
		fail_msg("%s", error);
	return store;
}

static uint32_t names_in(struct dnsmap *map)
{
	struct dnsmap_gauges gauges;

	dnsmap_gauges(map, &gauges);
	return gauges.names;
}

static void fill(struct dnsmap *map)
{
	char name[64];

	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "h%d.example", i);
		dnsmap_give(map, name);
	}
}

/* All of it is back, under the same addresses. */
static void check_loaded(struct dnsmap *before)
{
	struct dns_store *store = make_store();
	struct dnsmap *map = make_map();
	struct addr ipv4, ipv6, again4, again6;
	char name[64];

	dns_store_load(store, map);
	assert_int_equal(names_in(map), NAMES);
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "h%d.example", i);
		dnsmap_addrs(before, dnsmap_give(before, name), &ipv4, &ipv6);
		dnsmap_addrs(map, dnsmap_give(map, name), &again4, &again6);
		assert_true(addr_equal(&ipv4, &again4) && addr_equal(&ipv6, &again6));
	}
	dnsmap_destroy(map);
	dns_store_destroy(store);
}

static void test_at_once(void **state)
{
	struct dns_store *store = make_store();
	struct dnsmap *map = make_map();
	struct stat file;

	(void)state;
	fill(map);
	assert_int_equal(dns_store_save_all(store, map), 0);
	/* again, over what is there */
	assert_int_equal(dns_store_save_all(store, map), 0);
	dns_store_destroy(store);
	assert_int_equal(stat(names_path, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0600);
	check_loaded(map);
	dnsmap_destroy(map);
}

/* As the data path does it: a slice at a time, never waiting. */
static void test_background(void **state)
{
	struct dns_store *store = make_store();
	struct dnsmap *map = make_map();
	struct dns_store_counters counters;
	int slices = 0;

	(void)state;
	fill(map);
	dns_store_save_some(store, map, true);
	do {
		struct pollfd fd = {.fd = wake_fd, .events = POLLIN};
		eventfd_t count;

		assert_int_equal(poll(&fd, 1, 10000), 1);
		eventfd_read(wake_fd, &count);
		dns_store_save_some(store, map, false);
		dns_store_counters(store, &counters);
		slices++;
	} while (!counters.saved && slices < 100);
	assert_true(counters.saved == 1);
	assert_true(slices > NAMES / 512);
	assert_false(dns_store_is_saving(store));
	dns_store_destroy(store);
	check_loaded(map);
	dnsmap_destroy(map);
}

static void write_file(const char *text, size_t bytes)
{
	FILE *file = fopen(names_path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, bytes, file), bytes);
	fclose(file);
}

static void check_file(const char *text, size_t bytes, uint32_t wanted, uint32_t refused)
{
	struct dns_store *store = make_store();
	struct dnsmap *map = make_map();
	struct dns_store_counters counters;

	write_file(text, bytes);
	dns_store_load(store, map);
	dns_store_counters(store, &counters);
	if (names_in(map) != wanted || counters.lines_refused != refused)
		fail_msg("%u names, %u lines refused; wanted %u and %u of:\n%s", names_in(map),
			 (unsigned int)counters.lines_refused, wanted, refused, text);
	/* whatever it was: names can be given, and be saved over it */
	assert_int_not_equal(dnsmap_give(map, "new.example"), DNSMAP_NONE);
	assert_int_equal(dns_store_save_all(store, map), 0);
	dns_store_destroy(store);
	dnsmap_destroy(map);
}
#define CHECK_FILE(text, wanted, refused) check_file(text, sizeof(text) - 1, wanted, refused)
#define HEADER "socksplice-names 1 198.18.0.0/15 fc00:5::/96 "

static void test_broken(void **state)
{
	static char longer[5000];

	(void)state;
	CHECK_FILE("", 0, 0);
	CHECK_FILE("\n", 0, 0);
	CHECK_FILE("something else\n5 1 a.example\n", 0, 0);
	CHECK_FILE("socksplice-names 2 198.18.0.0/15 fc00:5::/96 5\n5 1 a.example\n", 0, 0);
	/* other ranges */
	CHECK_FILE("socksplice-names 1 198.18.0.0/16 fc00:5::/96 5\n5 1 a.example\n", 0, 0);
	CHECK_FILE(HEADER "\n5 1 a.example\n", 0, 0);
	CHECK_FILE(HEADER "5x\n5 1 a.example\n", 0, 0);
	CHECK_FILE(HEADER "99999999999\n5 1 a.example\n", 0, 0);
	CHECK_FILE(HEADER "5\n", 0, 0);
	CHECK_FILE(HEADER "5\n5 1 a.example\n6 2 b.example\n", 2, 0);
	/* a line that was cut off, bytes of zero, lines that contradict others: the rest counts */
	CHECK_FILE(HEADER "5\n5 1 a.example\n6 2 b.exam", 1, 1);
	CHECK_FILE(HEADER "5\n5 1 a.example\n\0\0\0\n6 2 b.example\n", 2, 1);
	CHECK_FILE(HEADER "5\n5 1 a.example\n5 2 b.example\n6 2 a.example\n7 2 c.example\n", 2, 2);
	memset(longer, 'a', sizeof(longer));
	memcpy(longer, HEADER "5\n5 1 ", sizeof(HEADER "5\n5 1 ") - 1);
	memcpy(longer + sizeof(longer) - 15, "\n6 1 b.example\n", 15);
	check_file(longer, sizeof(longer), 1, 1);
}

static void test_directory(void **state)
{
	struct config other = config;
	struct dns_store *store;
	char error[512] = "";
	struct stat made;

	(void)state;
	/* made if it is not there */
	strcat(other.state, "/deeper");
	assert_int_equal(dns_store_create(&store, &other, wake_fd, error, sizeof(error)), 0);
	dns_store_destroy(store);
	assert_int_equal(stat(other.state, &made), 0);
	assert_int_equal(made.st_mode & 0777, 0700);
	assert_int_equal(rmdir(other.state), 0);
	/* but not its parents; and a file is none */
	strcat(other.state, "/and/deeper");
	assert_int_not_equal(dns_store_create(&store, &other, wake_fd, error, sizeof(error)), 0);
	assert_non_null(strstr(error, "state: /tmp/socksplice-store-"));
	assert_non_null(strstr(error, "No such file or directory"));
	write_file("x", 1);
	strcpy(other.state, names_path);
	assert_int_not_equal(dns_store_create(&store, &other, wake_fd, error, sizeof(error)), 0);
}

/* The old file stays when the new one cannot be written. */
static void test_unwritable(void **state)
{
	struct dns_store *store = make_store();
	struct dnsmap *map = make_map();
	struct dns_store_counters counters;
	char temporary[700];
	struct stat file;

	(void)state;
	write_file(HEADER "5\n5 1 a.example\n", sizeof(HEADER "5\n5 1 a.example\n") - 1);
	snprintf(temporary, sizeof(temporary), "%s.new", names_path);
	assert_int_equal(mkdir(temporary, 0700), 0);
	fill(map);
	assert_int_not_equal(dns_store_save_all(store, map), 0);
	dns_store_counters(store, &counters);
	assert_true(counters.errors == 1 && !counters.saved);
	assert_int_equal(stat(names_path, &file), 0);
	assert_int_equal(file.st_size, sizeof(HEADER "5\n5 1 a.example\n") - 1);
	/* and it works again when it can be */
	assert_int_equal(rmdir(temporary), 0);
	assert_int_equal(dns_store_save_all(store, map), 0);
	dns_store_destroy(store);
	check_loaded(map);
	dnsmap_destroy(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_background, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_broken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unwritable, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
