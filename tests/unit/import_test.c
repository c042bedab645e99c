/* SPDX-License-Identifier: MIT */
/* main.yml files of hev-socks5-tunnel: what becomes of each key, what is said of it, and what is wrong with broken
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_hev.h"

struct result {
	int err;
	char *out, *notes;
	struct config_error error;
	struct config config; /* the output, read by our parser */
};

static struct result result;

static void import(const char *text, const char *interface)
{
	size_t bytes;
	struct config_error error;
	FILE *out, *notes;

	free(result.out);
	free(result.notes);
	memset(&result, 0, sizeof(result));
	out = open_memstream(&result.out, &bytes);
	notes = open_memstream(&result.notes, &bytes);
	result.err = import_hev(text, strlen(text), "main.yml", interface, out, notes, &result.error);
	fclose(out);
	fclose(notes);
	if (!result.err && config_parse(result.out, strlen(result.out), "out.yml", &result.config, &error))
		fail_msg("the output is not accepted: %s\n%s", error.text, result.out);
}

static void translate(const char *text)
{
	import(text, "eth1");
	if (result.err)
		fail_msg("refused: %s", result.error.text);
}

static void has(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" is missing in:\n%s", words, text);
}

static void has_not(const char *text, const char *words)
{
	if (strstr(text, words))
		fail_msg("\"%s\" must not be in:\n%s", words, text);
}

#define SERVER "socks5:\n  port: 1080\n  address: 10.2.0.2\n"
/* in one line, for more keys */
#define SOCKS "socks5: { port: 1080, address: 10.2.0.2"

/* The shape of the file that the program comes with: most keys are comments. */
static const char default_shape[] = "# Main configuration\n"
				    "tunnel:\n"
				    "  # Interface name\n"
				    "  name: tun0\n"
				    "  mtu: 8500\n"
				    "  multi-queue: false\n"
				    "  ipv4: 198.18.0.1\n"
				    "  ipv6: 'fc00::1'\n"
				    "# post-up-script: up.sh\n"
				    "\n"
				    "socks5:\n"
				    "  port: 1080\n"
				    "  address: 10.2.0.2\n"
				    "  udp: 'udp'\n"
				    "# username: 'username'\n"
				    "# mark: 0\n"
				    "\n"
				    "#mapdns:\n"
				    "# address: 198.18.0.2\n"
				    "\n"
				    "misc:\n"
				    "#  log-level: warn\n";

static void test_default_shape(void **state)
{
	(void)state;
	translate(default_shape);
	assert_int_equal(result.config.interface_count, 1);
	assert_string_equal(result.config.interfaces[0].name, "eth1");
	assert_int_equal(result.config.upstream_count, 1);
	assert_int_equal(result.config.upstreams[0].server.port, be16(1080));
	assert_int_equal(result.config.upstreams[0].server.addr.words[3], be32(0x0a020002));
	assert_string_equal(result.config.upstreams[0].username, "");
	assert_false(result.config.upstreams[0].pipeline);
	has(result.notes, "main.yml:4:9: tunnel.name: no counterpart");
	has(result.notes, "main.yml:5:8: tunnel.mtu: no counterpart");
	has(result.notes, "main.yml:8:9: tunnel.ipv6: no counterpart");
	/* the same in the file itself */
	has(result.out, "#   line 4: tunnel.name: no counterpart");
	has(result.out, "udp: associate");
	/* what was not set is not set here either, with the one exception of UDP */
	has_not(result.out, "mark");
	has_not(result.out, "timeout");
	has_not(result.out, "level");
}

static void test_server_by_name(void **state)
{
	(void)state;
	translate("socks5: { address: proxy.example.org, port: 1080, mark: 7 }\n");
	assert_string_equal(result.config.upstreams[0].host, "proxy.example.org");
	assert_int_equal(result.config.upstreams[0].server.port, be16(1080));
	assert_int_equal(result.config.upstreams[0].mark, 7);
}

static void test_everything(void **state)
{
	static const char text[] =
		"socks5: { port: 9050, address: 'fd00::5', udp: tcp, udp-address: 10.0.0.9,\n"
		"  pipeline: true, username: alice, password: secret, mark: 0x1f }\n"
		"mapdns: { address: 198.18.0.2, port: 5353, network: 100.64.1.2, netmask: 255.192.0.0,\n"
		"  cache-size: 9999 }\n"
		"misc: { task-stack-size: 86016, tcp-buffer-size: 65536, udp-recv-buffer-size: 524288,\n"
		"  udp-copy-buffer-nums: 10, max-session-count: 5000, connect-timeout: 5500,\n"
		"  tcp-read-write-timeout: 300000, udp-read-write-timeout: 60000, log-file: /var/log/x,\n"
		"  log-level: debug, pid-file: /run/x.pid, limit-nofile: 65535 }\n"
		"tunnel: { icmp: reply, post-up-script: up.sh, pre-down-script: down.sh }\n";

	(void)state;
	translate(text);
	has(result.out, "server: \"[fd00::5]:9050\"");
	assert_int_equal(result.config.upstreams[0].server.port, be16(9050));
	assert_string_equal(result.config.upstreams[0].username, "alice");
	assert_string_equal(result.config.upstreams[0].password, "secret");
	assert_true(result.config.upstreams[0].pipeline);
	assert_true(result.config.tcp.connect_timeout_ns == 5500000000ull);
	assert_true(result.config.tcp.idle_timeout_ns == 300000000000ull);
	assert_int_equal(result.config.tcp.max_flows, 5000);
	assert_int_equal(result.config.log_level, CONFIG_LOG_DEBUG);
	assert_string_equal(result.config.log_file, "/var/log/x");
	/* real or a comment, as this build has it */
	has(result.out, "mark: 31");
	has(result.out, "udp: tcp");
	has(result.out, "udp-address: \"10.0.0.9\"");
	has(result.out, "  idle-timeout: 60s");
	has(result.out, "listen: 198.18.0.2:5353");
	has(result.out, "mapped: 100.64.0.0/10");
	has(result.out, "cache: 9999");
	has(result.out, "icmp: reply");
	has(result.notes, "misc.task-stack-size: no counterpart");
	has(result.notes, "misc.tcp-buffer-size: no counterpart");
	has(result.notes, "misc.udp-recv-buffer-size: no counterpart");
	has(result.notes, "misc.udp-copy-buffer-nums: no counterpart");
	has(result.notes, "misc.pid-file: no counterpart");
	has(result.notes, "misc.limit-nofile: no counterpart");
	has(result.notes, "tunnel.post-up-script: no counterpart");
	has(result.notes, "tunnel.pre-down-script: no counterpart");
	has_not(result.notes, "secret");
}

static void test_old_version(void **state)
{
	static const char text[] = "tunnel:\n  name: tun0\n  ipv4:\n    address: 172.16.0.2\n    gateway: 172.16.0.1\n"
				   "    prefix: 30\n" SERVER "misc:\n  read-write-timeout: 60000\n";

	(void)state;
	translate(text);
	assert_true(result.config.tcp.idle_timeout_ns == 60000000000ull);
	assert_true(result.config.udp.idle_timeout_ns == 60000000000ull);
	has(result.notes, "tunnel.ipv4: no counterpart");
	/* UDP in TCP is what that program does unless told otherwise */
	has(result.out, "udp: tcp");
	has(result.notes, "socks5.udp: not set, which there means UDP in TCP");
}

static void test_newer_timeout_wins(void **state)
{
	(void)state;
	translate(SERVER "misc: { read-write-timeout: 60000, tcp-read-write-timeout: 70000 }\n");
	assert_true(result.config.tcp.idle_timeout_ns == 70000000000ull);
	has(result.out, "idle-timeout: 60s");
}

static void test_nothing_meant(void **state)
{
	(void)state;
	translate(SERVER
		  "  mark: 0\n  username:\n  udp-address: ''\n"
		  "misc: { connect-timeout: -1, read-write-timeout: 0, log-file: stderr, max-session-count: 0 }\n");
	has_not(result.out, "mark:");
	has_not(result.out, "username");
	has_not(result.out, "udp-address");
	has_not(result.out, "timeout:");
	has_not(result.out, "  file:");
	has(result.notes, "misc.max-session-count: 0: there is always a limit");
}

/* The value arrives byte for byte, and nothing that it holds becomes YAML, not even in a comment. */
static void test_hostile_text(void **state)
{
	static const char *const names[] = {"us\\\"er",
					    "a: b # c",
					    "'",
					    "\\t\\r\\n- x",
					    "\\u2028control: /x",
					    "\\u0085control: /x",
					    "\\ufeff\\u0080\\x7f\\\\",
					    "\xc3\xa9\xf0\x9f\x98\x80"};
	static const char *const bytes[] = {"us\"er",
					    "a: b # c",
					    "'",
					    "\t\r\n- x",
					    "\xe2\x80\xa8"
					    "control: /x",
					    "\xc2\x85"
					    "control: /x",
					    "\xef\xbb\xbf\xc2\x80\x7f\\",
					    "\xc3\xa9\xf0\x9f\x98\x80"};
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text),
			 SOCKS ", username: \"%s\", password: \"%s\", udp-address: \"%s\", \"%s\": 1 }\n", names[i],
			 names[i], names[i], names[i]);
		translate(text);
		assert_string_equal(result.config.upstreams[0].username, bytes[i]);
		assert_string_equal(result.config.upstreams[0].password, bytes[i]);
		assert_string_equal(result.config.control, config_defaults.control);
	}
}

static void test_longest_credentials(void **state)
{
	char name[256], text[2048];

	(void)state;
	memset(name, '"', 255);
	name[255] = 0;
	snprintf(text, sizeof(text), SOCKS ", username: '%s', password: '%s' }\n", name, name);
	translate(text);
	assert_string_equal(result.config.upstreams[0].password, name);
}

static void test_values_that_are_not_accepted(void **state)
{
	(void)state;
	translate(SERVER "misc: { connect-timeout: 5, max-session-count: 1, log-level: loud }\n");
	assert_true(result.config.tcp.connect_timeout_ns == 10000000000ull);
	assert_int_equal(result.config.tcp.max_flows, 65536);
	has(result.notes,
	    "main.yml:4:26: misc.connect-timeout: not accepted, so the default holds: connect-timeout: 5ms is "
	    "out of range");
	has(result.notes, "misc.max-session-count: not accepted");
	has(result.notes, "misc.log-level: not accepted");
	has(result.out, "#   connect-timeout: 5ms   # not accepted, the default holds");
}

static void test_local_server(void **state)
{
	(void)state;
	translate("socks5: { port: 1080, address: 127.0.0.1 }\n");
	has(result.notes, "main.yml:1:32: socks5.address: a server on this machine");
	translate(SERVER);
	has_not(result.notes, "a server on this machine");
}

static void test_unknown_keys(void **state)
{
	(void)state;
	translate(SERVER "  tcp-fastopen: true\nchnroutes: { file: x }\n");
	has(result.notes, "main.yml:4:3: socks5.tcp-fastopen: unknown to this translation");
	has(result.notes, "main.yml:5:1: chnroutes: unknown to this translation");
}

static const struct {
	const char *text, *where, *words;
} broken[] = {
	{"", "1:1:", "the file is empty"},
	{"- a\n", "1:1:", "the sections tunnel, socks5, mapdns and misc are expected"},
	{"socks5: [1\n", "2:1:", "not YAML"},
	{"tunnel:\n  name: tun0\n", "1:1:", "socks5.address and socks5.port are needed"},
	{"socks5:\n  port: 1080\n", "2:9:", "socks5.address and socks5.port are needed"},
	{"socks5: 7\n", "1:9:", "socks5: keys with values are expected"},
	{"socks5: { port: 1080x, address: 1.1.1.1 }\n", "1:17:", "socks5.port: \"1080x\" is not allowed"},
	{"socks5: { port: 0, address: 1.1.1.1 }\n", "1:17:", "a number from 1 to 65535"},
	{"socks5: { port: 65536, address: 1.1.1.1 }\n", "1:17:", "a number from 1 to 65535"},
	{"socks5: { port: -1, address: 1.1.1.1 }\n", "1:17:", "a number from 1 to 65535"},
	{"socks5: { port: [1], address: 1.1.1.1 }\n", "1:17:", "socks5.port: a single value is expected"},
	{"socks5: { port: 1, port: 2, address: 1.1.1.1 }\n", "1:20:", "socks5.port is already set in line 1"},
	{"socks5: { port: 1, address: 'not an address' }\n", "1:29:", "socks5.address: "},
	{SOCKS ", username: alice }\n", "1:52:", "password is missing"},
	{SOCKS ", password: secret }\n", "1:52:", "username is missing"},
	{SOCKS ", mark: 0x100000000 }\n", "1:48:", "socks5.mark: \"0x100000000\" is not allowed"},
	{SOCKS ", mark: red }\n", "1:48:", "socks5.mark: \"red\" is not allowed"},
	{SERVER "mapdns: { address: fd00::1 }\n", "4:20:", "mapdns.address: \"fd00::1\" is no IPv4 address"},
	{SERVER "mapdns: { network: 10.0.0.0 }\n", "4:20:", "netmask is missing"},
	{SERVER "mapdns: { network: 10.0.0.0, netmask: 255.0.255.0 }\n", "4:39:", "has holes"},
	{SERVER "mapdns: { network: ten, netmask: 255.0.0.0 }\n", "4:20:", "\"ten\" is no IPv4 address"},
	{SERVER "mapdns: { address: 198.18.0.2, port: 99999 }\n", "4:38:", "mapdns.port: \"99999\" is not allowed"},
	{SERVER "misc: { connect-timeout: soon }\n", "4:26:", "misc.connect-timeout: \"soon\" is not allowed"},
	{SERVER "misc: { log-level: \"a\\0b\" }\n", "4:20:", "must not contain a zero byte"},
	{SERVER "? [a]\n: b\n", "4:3:", "a section's name must be a plain word"},
};

static void test_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		char where[64];

		import(broken[i].text, "eth1");
		if (!result.err)
			fail_msg("accepted:\n%s", broken[i].text);
		snprintf(where, sizeof(where), "main.yml:%s", broken[i].where);
		if (strncmp(result.error.text, where, strlen(where)) || !strstr(result.error.text, broken[i].words))
			fail_msg("for:\n%sgot:    %s\nwanted: %s ... %s", broken[i].text, result.error.text, where,
				 broken[i].words);
		assert_string_equal(result.out, "");
		has_not(result.error.text, "secret");
	}
}

static void test_interface_name(void **state)
{
	(void)state;
	import(SERVER, "averylonginterfacename");
	assert_int_equal(result.err, -EINVAL);
	has(result.error.text, "--interface: \"averylonginterfacename\"");
	import(SERVER, "");
	assert_int_equal(result.err, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_shape),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_server_by_name),
		cmocka_unit_test(test_old_version),
		cmocka_unit_test(test_newer_timeout_wins),
		cmocka_unit_test(test_nothing_meant),
		cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_longest_credentials),
		cmocka_unit_test(test_values_that_are_not_accepted),
		cmocka_unit_test(test_local_server),
		cmocka_unit_test(test_unknown_keys),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_interface_name),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
