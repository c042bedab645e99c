/* SPDX-License-Identifier: MIT */
/* Broken configurations, each with the line, the column and the words that its error must have; and good ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "config_yaml.h"

#define IFACE "interfaces: [ { name: eth1 } ]\n"
#define UPSTREAM(keys) "upstreams: [ { name: m, server: 1.1.1.1:1, " keys " } ]"
#define UP "upstreams: [ { name: main, server: 10.2.0.2:1080 } ]\n"

static const struct {
	const char *text, *where, *words;
} broken[] = {
	{"", "1:1:", "empty"},
	{"[1, 2]\n", "1:1:", "keys with values are expected"},
	{"just text\n", "1:1:", "keys with values are expected"},
	{IFACE, "1:1:", "key \"upstreams\" is missing"},
	{UP, "1:1:", "key \"interfaces\" is missing"},
	{IFACE UP "frobnicate: 1\n", "3:1:", "unknown key \"frobnicate\" in the configuration; known: interfaces"},
	{IFACE UP "control: /a\ncontrol: /b\n", "4:1:", "duplicate key \"control\"; it is already set in line 3"},
	{IFACE UP IFACE, "3:1:", "duplicate key \"interfaces\""},
	{"interfaces: []\n" UP, "1:13:", "must not be empty"},
	{"interfaces: eth1\n" UP, "1:13:", "a list is expected"},
	{"interfaces: [ eth1 ]\n" UP, "1:15:", "keys with values are expected"},
	{"interfaces: [ { hook: auto } ]\n" UP, "1:15:", "key \"name\" is missing in interfaces"},
	{"interfaces: [ { name: averylonginterfacename } ]\n" UP, "1:23:", "too long; at most 15 bytes"},
	{"interfaces: [ { name: '' } ]\n" UP, "1:23:", "must not be empty"},
	{"interfaces: [ { name: a, hook: fast } ]\n" UP, "1:32:", "one of auto | xdp | tc is"},
	{"interfaces: [ { name: a, hook: tc, attach: external } ]\n" UP, "1:1:", "attach: external means hook: xdp"},
	{"interfaces: [ { name: a, xsk: fast } ]\n" UP, "1:31:", "one of auto | zerocopy | copy | generic is"},
	{"interfaces: [ { name: a, attach: link } ]\n" UP, "1:34:", "one of load | external is"},
	{"interfaces: [ { name: a }, { name: a } ]\n" UP, "1:1:", "\"a\" is listed twice"},
	{"interfaces: [ { name: a, colour: red } ]\n" UP,
	 "1:26:", "unknown key \"colour\" in interfaces; known: name, hook"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.2:1080x } ]\n", "2:36:", "\"10.2.0.2:1080x\" is no address"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.2:0 } ]\n", "2:36:", "a port from 1 to 65535"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.2:65536 } ]\n", "2:36:", "a port from 1 to 65535"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.2:01080 } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.2 } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 10.2.0.256:1080 } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 'fd00::1:1080' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 'proxy.example:1080' } ]\n",
	 "2:36:", "host names: not in this build yet"},
	{IFACE "upstreams: [ { name: a, server: 1.1.1.1:1 }, { name: b, server: 1.1.1.1:1 } ]\n",
	 "2:46:", "more than 1: not in this build yet"},
	{IFACE "upstreams: [ { server: 10.2.0.2:1080 } ]\n", "2:14:", "key \"name\" is missing in upstreams"},
	{IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, weight: 1 } ]\n", "2:44:", "weight: not in this build yet"},
	{IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, username: u } ]\n", "1:1:", "password is missing"},
	{IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, password: p } ]\n", "1:1:", "username is missing"},
	{IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, pipeline: yes } ]\n", "2:54:", "true or false is"},
	{IFACE UP "tcp: { connect-timeout: 10 }\n", "3:25:", "a number with ms, s, m or h"},
	{IFACE UP "tcp: { connect-timeout: 010s }\n", "3:25:", "is no duration"},
	{IFACE UP "tcp: { connect-timeout: 10sec }\n", "3:25:", "is no duration"},
	{IFACE UP "tcp: { connect-timeout: -1s }\n", "3:25:", "is no duration"},
	{IFACE UP "tcp: { connect-timeout: 1ms }\n", "3:25:", "out of range; 100ms to 3600s"},
	{IFACE UP "tcp: { max-flows: 010 }\n", "3:19:", "without leading zeros"},
	{IFACE UP "tcp: { max-flows: 1e6 }\n", "3:19:", "a number from 16 to 4194304"},
	{IFACE UP "tcp: { max-flows: 99999999999999999999 }\n", "3:19:", "a number from 16 to 4194304"},
	{IFACE UP "tcp: { max-flows: 4194305 }\n", "3:19:", "a number from 16 to 4194304"},
	{IFACE UP "tcp: { max-flows: 0x10 }\n", "3:19:", "is not allowed"},
	{IFACE UP "tcp: { half-open: 10, half-open-per-source: 11 }\n", "1:1:", "must not exceed half-open (10)"},
	{IFACE UP "tcp: { relay: kernel }\n", "3:15:", "one of auto | splice | userspace is"},
	{IFACE UP "bpf-pin: ''\n", "3:10:", "must not be empty"},
	{IFACE UPSTREAM("ports: 10000") "\n", "2:51:", "is no range of ports"},
	{IFACE UPSTREAM("ports: 10000-9999") "\n", "2:51:", "is no range of ports"},
	{IFACE UPSTREAM("ports: 1-65536") "\n", "2:51:", "is no range of ports"},
	{IFACE UPSTREAM("ports: 0-10") "\n", "2:51:", "is no range of ports"},
	{IFACE UPSTREAM("sources: 10.0.0.1") "\n", "2:53:", "a list of addresses is expected"},
	{IFACE UPSTREAM("sources: [ 10.0.0.256 ]") "\n", "2:55:", "is no IPv4 or IPv6 address"},
	{IFACE UPSTREAM("sources: [ 'fd00::1' ]") "\n", "1:1:", "of the server's address family"},
	{IFACE UP "tcp: { accept: maybe }\n", "3:16:", "one of deferred | early is"},
	{IFACE UP "tcp: fast\n", "3:6:", "keys with values are expected"},
	{IFACE UP "tcp: { max-flows: [1] }\n", "3:19:", "a single value is expected"},
	{IFACE UP "on-down: explode\n", "3:10:", "one of drop | pass is"},
	{IFACE UP "metrics: 9105\n", "3:10:", "is no address with port"},
	{IFACE UP "metrics: on\n", "3:10:", "is no address with port"},
	{IFACE UP "log: { flows: '' }\n", "3:15:", "flows: must not be empty"},
	{IFACE UP "log: { level: loud }\n", "3:15:", "one of error | warn | info | debug is"},
	{IFACE UP "performance: { batch_size: 0 }\n", "3:28:", "a number from 1 to 256"},
	{IFACE UP "performance: { io_uring_entries: 100 }\n", "3:34:", "a power of two from 64 to 4096"},
	{IFACE UP "performance: { enable_io_uring: false }\n", "3:33:", "not in this build yet"},
	{IFACE UP "performance: { max_threads: 4 }\n", "3:16:", "max_threads: not in this build yet"},
	{IFACE UP "rules: []\n", "3:1:", "rules: not in this build yet"},
	{IFACE UP "dns: { listen: 198.18.0.1:53 }\n", "3:1:", "dns: not in this build yet"},
	{IFACE UP "socks: []\n", "3:1:", "socks: not in this build yet"},
	{IFACE UP "tcp: { max-flows: 100\n", "4:1:", "not YAML"},
	{IFACE UP "\ttcp: 1\n", "3:1:", "not YAML"},
	{IFACE UP "? [a]\n: b\n", "3:3:", "a key must be a plain word"},
	{IFACE UP "---\n" IFACE, "4:1:", "only one YAML document"},
	{IFACE UP "tcp: *nowhere\n", "3:6:", "not YAML"},
};

static void test_broken(void **state)
{
	struct config_error error;
	struct config config;

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		char where[64];

		error.text[0] = 0;
		snprintf(where, sizeof(where), "test.yml:%s", broken[i].where);
		if (!config_parse(broken[i].text, strlen(broken[i].text), "test.yml", &config, &error))
			fail_msg("accepted:\n%s", broken[i].text);
		if (strncmp(error.text, where, strlen(where)) || !strstr(error.text, broken[i].words))
			fail_msg("for:\n%sgot:    %s\nwanted: %s ... %s", broken[i].text, error.text, where,
				 broken[i].words);
	}
}

static void test_smallest(void **state)
{
	static const char text[] = IFACE UP;
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), "t", &config, &error), 0);
	assert_int_equal(config.interface_count, 1);
	assert_string_equal(config.interfaces[0].name, "eth1");
	assert_string_equal(config.upstreams[0].name, "main");
	assert_int_equal(config.upstreams[0].server.port, be16(1080));
	assert_int_equal(config.tcp.max_flows, 65536);
	assert_true(config.tcp.idle_timeout_ns == 7200000000000ull);
	assert_string_equal(config.control, "/run/socksplice/control.sock");
	assert_true(config.performance.enable_simd);
	assert_true(config.performance.enable_ebpf);
	assert_int_equal(config.tcp.relay, CONFIG_RELAY_AUTO);
	assert_int_equal(config.interfaces[0].hook, CONFIG_HOOK_AUTO);
	assert_string_equal(config.bpf_pin, "/sys/fs/bpf/socksplice");
	assert_int_equal(config.upstreams[0].ports.first, 10000);
	assert_int_equal(config.upstreams[0].ports.last, 40000);
}

static void test_everything(void **state)
{
	static const char text[] =
		"interfaces:\n  - name: eth1\n    hook: xdp\n    xsk: copy\n    attach: load\n"
		"  - { name: eth2, hook: tc }\n"
		"uplink: eth0\non-down: pass\n"
		"upstreams:\n  - name: v6\n    server: \"[fd00::1]:9050\"\n    username: alice\n    password: 'p: #w'\n"
		"    pipeline: true\n    ports: 2000-2999\n    sources: [ 'fd00::2', 'fd00::3' ]\nbpf-pin: "
		"/sys/fs/bpf/x\n"
		"tcp:\n  relay: userspace\n  accept: early\n  connect-timeout: 500ms\n  handshake-timeout: 3s\n"
		"  idle-timeout: 5m\n  linger: 1s\n  max-flows: 4194304\n  half-open: 100\n  half-open-per-source: 10\n"
		"control: /tmp/c.sock\nlog: { level: debug, file: /tmp/log, flows: /tmp/flows }\n"
		"metrics: '[::1]:9105'\n"
		"performance:\n  enable_batch_processing: false\n  enable_cpu_affinity: false\n  enable_simd: false\n"
		"  enable_ebpf: false\n  enable_memory_pool: true\n  enable_zero_copy: true\n  enable_io_uring: true\n"
		"  batch_size: 64\n  memory_pool_size: 8192\n  io_uring_entries: 512\n";
	struct config_error error = {""};
	struct config config;

	(void)state;
	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(config.interface_count, 2);
	assert_int_equal(config.interfaces[0].xsk, CONFIG_XSK_COPY);
	assert_string_equal(config.uplink, "eth0");
	assert_int_equal(config.on_down, CONFIG_ON_DOWN_PASS);
	assert_int_equal(config.upstreams[0].server.addr.bytes[0], 0xfd);
	assert_string_equal(config.upstreams[0].password, "p: #w");
	assert_true(config.upstreams[0].pipeline);
	assert_int_equal(config.upstreams[0].ports.first, 2000);
	assert_int_equal(config.upstreams[0].ports.last, 2999);
	assert_int_equal(config.upstreams[0].source_count, 2);
	assert_int_equal(config.upstreams[0].sources[1].bytes[15], 3);
	assert_string_equal(config.bpf_pin, "/sys/fs/bpf/x");
	assert_int_equal(config.tcp.relay, CONFIG_RELAY_USERSPACE);
	assert_int_equal(config.interfaces[0].hook, CONFIG_HOOK_XDP);
	assert_int_equal(config.interfaces[1].hook, CONFIG_HOOK_TC);
	assert_false(config.performance.enable_ebpf);
	assert_int_equal(config.tcp.accept, CONFIG_ACCEPT_EARLY);
	assert_true(config.tcp.connect_timeout_ns == 500000000ull);
	assert_true(config.tcp.idle_timeout_ns == 300000000000ull);
	assert_int_equal(config.tcp.max_flows, 4194304);
	assert_int_equal(config.log_level, CONFIG_LOG_DEBUG);
	assert_string_equal(config.log_file, "/tmp/log");
	assert_string_equal(config.log_flows, "/tmp/flows");
	assert_int_equal(config.metrics.port, be16(9105));
	assert_int_equal(config.metrics.addr.bytes[15], 1);
	assert_false(config.performance.enable_simd);
	assert_int_equal(config.performance.batch_size, 64);
	assert_int_equal(config.performance.io_uring_entries, 512);
}

static void test_missing_file(void **state)
{
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_not_equal(config_load("/nonexistent/socksplice.yml", &config, &error), 0);
	assert_non_null(strstr(error.text, "/nonexistent/socksplice.yml: No such file"));
}

/* A password must not stand in any message. */
static void test_password_is_not_shown(void **state)
{
	static const char text[] = IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, password: [ hunter2 ] } ]\n";
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_not_equal(config_parse(text, strlen(text), "t", &config, &error), 0);
	assert_null(strstr(error.text, "hunter2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_smallest),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_password_is_not_shown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
