/* SPDX-License-Identifier: MIT */
/* Broken configurations, each with the line, the column and the words that its error must have; and good ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_diff.h"
#include "config_password.h"
#include "config_yaml.h"
#include "log.h"

#define IFACE "interfaces: [ { name: eth1 } ]\n"
#define UPSTREAM(keys) "upstreams: [ { name: m, server: 1.1.1.1:1, " keys " } ]"
#define FOUR(n)                                                                                                        \
	"{ name: a" n ", server: 1.1.1.1:1 }, { name: b" n ", server: 1.1.1.1:1 }, { name: c" n                        \
	", server: 1.1.1.1:1 }, { name: d" n ", server: 1.1.1.1:1 }"
#define SIXTEEN FOUR("1") ", " FOUR("2") ", " FOUR("3") ", " FOUR("4")
#define RULE(text) IFACE UP "rules:\n  - " text "\n"
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
	{IFACE "upstreams: [ { name: main, server: 'proxy.example' } ]\n", "2:36:", "NAME:PORT with a port"},
	{IFACE "upstreams: [ { name: main, server: 'proxy..example:1' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: '-proxy.example:1' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 'proxy example:1' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: 'proxy.1:1' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: ':1' } ]\n", "2:36:", "is no address with port"},
	{IFACE "upstreams: [ { name: main, server: [ a ] } ]\n", "2:36:", "a single value is expected"},
	{IFACE "upstreams: [ { name: a, server: 1.1.1.1:1 }, { name: a, server: 1.1.1.1:2 } ]\n",
	 "2:46:", "\"a\" is listed twice"},
	{IFACE "upstreams: [ " SIXTEEN ", { name: b, server: 1.1.1.1:1 } ]\n", "2:542:", "at most 16 are allowed"},
	{IFACE "upstreams: [ { server: 10.2.0.2:1080 } ]\n", "2:14:", "key \"name\" is missing in upstreams"},
	{IFACE UPSTREAM("weight: -1") "\n", "2:52:", "a number from 0 to 1000"},
	{IFACE UPSTREAM("weight: 1001") "\n", "2:52:", "a number from 0 to 1000"},
	{IFACE UPSTREAM("mark: 0x10") "\n", "2:50:", "a number from 0 to 4294967295"},
	{IFACE UPSTREAM("backoff: 5") "\n", "2:53:", "is no duration"},
	{IFACE UPSTREAM("backoff: 50ms") "\n", "2:53:", "out of range; 100ms to 3600s"},
	{IFACE UPSTREAM("pool: 1025") "\n", "2:50:", "a number from 0 to 1024"},
	{IFACE UPSTREAM("pool-max-age: 500ms") "\n", "2:58:", "out of range; 1000ms to 3600s"},
	{IFACE UPSTREAM("udp: maybe") "\n", "2:49:", "one of associate | tcp | off is"},
	{IFACE UPSTREAM("udp-address: 10.0.0.256") "\n", "2:57:", "auto, as-told, or an IPv4 or IPv6 address is"},
	{IFACE UP "udp: { max-flows: 65537 }\n", "3:19:", "a number from 16 to 65536"},
	{IFACE UP "udp: { per-client: 0 }\n", "3:20:", "a number from 1 to 65536"},
	{IFACE UP "udp: { idle-timeout: 500ms }\n", "3:22:", "out of range"},
	{IFACE UP "icmp: answer\n", "3:7:", "one of reply | pass | drop is"},
	{IFACE UPSTREAM("username: u") "\n", "2:14:", "\"m\": username and password (or password-file) go together"},
	{IFACE UPSTREAM("password: p") "\n", "2:14:", "username is missing"},
	{IFACE UPSTREAM("password-file: /x") "\n", "2:14:", "username is missing"},
	{IFACE UPSTREAM("username: u, password: p, password-file: /x") "\n", "2:14:", "exclude each other"},
	{IFACE "upstreams: [ { name: m, server: 1.1.1.1:1 }, { name: n, server: 1.1.1.1:2, username: u } ]\n",
	 "2:46:", "\"n\": username and password"},
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
	{IFACE UPSTREAM("sources: [ 'fd00::1' ]") "\n", "2:14:", "of the server's address family"},
	{IFACE "upstreams: [ { name: m, server: 'p.example:1', sources: [ 'fd00::1', 10.0.0.1 ] } ]\n",
	 "2:14:", "of one address family"},
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
	{IFACE UP "performance: { connection_pool_size: 0 }\n", "3:38:", "a number from 1 to 4096"},
	{IFACE UP "performance: { enable_io_uring: false }\n", "3:33:", "not in this build yet"},
	{IFACE UP "performance: { max_threads: 4 }\n", "3:16:", "max_threads: not in this build yet"},
	{IFACE UP "rules: {}\n", "3:8:", "rules: a list is expected"},
	{IFACE UP "rules: [ drop ]\n", "3:10:", "rules: keys with values are expected"},
	{RULE("{ action: drop, colour: red }"), "4:21:", "unknown key \"colour\" in a rule; known: src, dst"},
	{RULE("{ action: drop, action: drop }"), "4:21:", "duplicate key \"action\"; it is already set in line 4"},
	{RULE("{ [a]: drop }"), "4:7:", "a key must be a plain word"},
	{RULE("{ dst: 10.0.0.0/8 }"), "4:5:", "key \"action\" is missing in a rule"},
	{RULE("{ action: bypass }"), "4:15:", "\"bypass\" is not allowed; one of proxy | direct | drop | reject"},
	{RULE("{ action: [drop] }"), "4:15:", "one of proxy | direct | drop | reject"},
	{RULE("{ dst: 10.0.0.0/33, action: drop }"), "4:12:", "\"10.0.0.0/33\" is no prefix"},
	{RULE("{ dst: 10.0.0/8, action: drop }"), "4:12:", "is no prefix"},
	{RULE("{ dst: 10.0.0.0/, action: drop }"), "4:12:", "is no prefix"},
	{RULE("{ dst: 10.0.0.0/08, action: drop }"), "4:12:", "is no prefix"},
	{RULE("{ dst: 'fd00::/129', action: drop }"), "4:12:", "is no prefix"},
	{RULE("{ dst: host.example, action: drop }"), "4:12:", "is no prefix"},
	{RULE("{ src: 10.0.0.1/8, action: drop }"), "4:12:", "bits set behind the prefix; 10.0.0.0/8 covers that"},
	{RULE("{ src: [ 10.0.0.0/8, 'fd00::1/64' ], action: drop }"),
	 "4:26:", "src: \"fd00::1/64\" has bits set behind the prefix; fd00::/64 covers that"},
	{RULE("{ dst: '::ffff:10.0.0.1', action: drop }"), "4:12:", "is an IPv4 address; write it as one"},
	{RULE("{ dst: [], action: drop }"), "4:12:", "dst: must not be empty; leave the key out"},
	{RULE("{ dst: [ [ 10.0.0.1 ] ], action: drop }"), "4:14:", "a single value is expected"},
	{RULE("{ dst: { a: b }, action: drop }"), "4:12:", "one value or a list of values"},
	{RULE("{ proto: sctp, action: drop }"), "4:14:", "one of tcp | udp | icmp is"},
	{RULE("{ dport: 80, action: drop }"), "4:14:", "dport: only with proto: tcp or proto: udp"},
	{RULE("{ proto: icmp, dport: 80, action: drop }"), "4:27:", "dport: only with proto: tcp or proto: udp"},
	{RULE("{ proto: tcp, dport: 0, action: drop }"), "4:26:", "\"0\" is no port; a number from 1 to 65535"},
	{RULE("{ proto: tcp, dport: [ 80, 90-80 ], action: drop }"), "4:32:", "\"90-80\" is no port"},
	{RULE("{ proto: tcp, dport: 65536, action: drop }"), "4:26:", "is no port"},
	{RULE("{ proto: tcp, dport: [], action: drop }"), "4:26:", "dport: must not be empty"},
	{RULE("{ upstream: main, action: direct }"), "4:17:", "upstream: only with action: proxy"},
	{RULE("{ upstream: other, action: proxy }"), "4:17:", "no upstream is named \"other\""},
	{RULE("{ upstream: [main], action: proxy }"), "4:17:", "the name of one upstream"},
	{RULE("{ domain: [.example], action: direct }"), "4:15:", "domain: needs `dns`"},
	{RULE("{ domain: .example, dst: 10.0.0.0/8, action: drop }"), "4:15:", "goes with action and upstream alone"},
	{RULE("{ domain: .example, proto: tcp, dport: 80, action: drop }"), "4:15:", "goes with action and upstream"},
	{RULE("{ domain: [a.example, a..example], action: drop }"),
	 "4:27:", "\"a..example\" is no name; host.example is"},
	{RULE("{ domain: [.], action: drop }"), "4:16:", "is no name"},
	{RULE("{ domain: 'a b', action: drop }"), "4:15:", "is no name"},
	{RULE("{ domain: example., action: drop }"), "4:15:", "is no name"},
	{RULE("{ domain: [], action: drop }"), "4:15:", "domain: must not be empty"},
	{RULE("{ domain: .example, action: direct }") "dns: {}\nperformance: { enable_ebpf: false }\n",
	 "4:33:", "action: direct needs performance.enable_ebpf: true"},
	{RULE("{ dst: 10.0.0.0/8, action: direct }") "performance: { enable_ebpf: false }\n",
	 "4:32:", "action: direct needs performance.enable_ebpf: true"},
	{RULE("{ dst: 10.0.0.0/8, action: drop }") "performance: { enable_ebpf: false }\n",
	 "4:5:", "drop without performance.enable_ebpf is possible for TCP only; add proto: tcp"},
	{RULE("{ proto: udp, action: reject }") "performance: { enable_ebpf: false }\n",
	 "4:5:", "reject without performance.enable_ebpf is possible for TCP only"},
	{IFACE UP "dns: { listen: 198.18.0.1 }\n", "3:16:", "is no address with port"},
	{IFACE UP "dns: { listen: 127.0.0.1:53 }\n", "3:6:", "listen: must be an address that clients can send to"},
	{IFACE UP "dns: { listen: '[::1]:53' }\n", "3:6:", "listen: must be an address that clients can send to"},
	{IFACE UP "dns: { listen: 0.0.0.0:53 }\n", "3:6:", "listen: must be an address that clients can send to"},
	{IFACE UP "dns: { listen: '[fe80::1]:53' }\n", "3:6:", "listen: must be an address that clients can send to"},
	{IFACE UP "dns: { mapped: 198.18.0.0 }\n", "3:6:", "mapped: must be an IPv4 prefix of 8 to 28 bits"},
	{IFACE UP "dns: { mapped: 198.18.0.1/15 }\n", "3:16:", "has bits set behind the prefix"},
	{IFACE UP "dns: { mapped: 198.18.0.0/29 }\n", "3:6:", "mapped: must be an IPv4 prefix of 8 to 28 bits"},
	{IFACE UP "dns: { mapped: 0.0.0.0/7 }\n", "3:6:", "mapped: must be an IPv4 prefix of 8 to 28 bits"},
	{IFACE UP "dns: { mapped: 'fc00::/96' }\n", "3:6:", "mapped: must be an IPv4 prefix"},
	{IFACE UP "dns: { mapped6: 10.0.0.0/8 }\n", "3:6:", "mapped6: must be an IPv6 prefix of 16 to 124 bits"},
	{IFACE UP "dns: { mapped6: 'fc00::/125' }\n", "3:6:", "mapped6: must be an IPv6 prefix of 16 to 124 bits"},
	{IFACE UP "dns: { mapped6: 'ff00::/16' }\n", "3:6:", "mapped6: must be an IPv6 prefix"},
	{IFACE UP "dns: { mapped6: fast }\n", "3:17:", "is no prefix; ADDRESS/BITS is"},
	{IFACE UP "dns: { cache: 7 }\n", "3:15:", "a number from 8 to 1048576"},
	{IFACE UP "dns: { mapped: 198.18.0.0/24 }\n",
	 "3:6:", "cache: 10000 names need as many addresses; mapped and mapped6 have 253"},
	{IFACE UP "dns: { mapped: 10.2.0.0/16 }\n", "3:6:", "upstream \"main\" is among the fake addresses"},
	{IFACE UP "dns: { hijack: 1 }\n", "3:16:", "true or false is"},
	{IFACE UP "dns: [ 1 ]\n", "3:6:", "keys with values are expected"},
	{IFACE UP "state: ''\n", "3:8:", "must not be empty"},
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
	assert_false(config_dns_is_on(&config.dns));
	assert_string_equal(config.state, "/var/lib/socksplice");
	assert_int_equal(config.tcp.relay, CONFIG_RELAY_AUTO);
	assert_int_equal(config.interfaces[0].hook, CONFIG_HOOK_AUTO);
	assert_string_equal(config.bpf_pin, "/sys/fs/bpf/socksplice");
	assert_int_equal(config.upstreams[0].ports.first, 10000);
	assert_int_equal(config.upstreams[0].ports.last, 40000);
	assert_int_equal(config.upstreams[0].weight, 1);
	assert_int_equal(config.upstreams[0].mark, 0);
	assert_int_equal(config.upstreams[0].pool, 0);
	assert_true(config.upstreams[0].backoff_ns == 5000000000ull);
	assert_true(config.upstreams[0].pool_max_age_ns == 30000000000ull);
	assert_string_equal(config.upstreams[0].host, "");
	assert_true(config.performance.enable_connection_pool);
	assert_int_equal(config.performance.connection_pool_size, 128);
}

static void test_everything(void **state)
{
	static const char text[] =
		"interfaces:\n  - name: eth1\n    hook: xdp\n    xsk: copy\n    attach: load\n"
		"  - { name: eth2, hook: tc }\n"
		"uplink: eth0\non-down: pass\n"
		"upstreams:\n  - name: v6\n    server: \"[fd00::1]:9050\"\n    username: alice\n    password: 'p: #w'\n"
		"    pipeline: true\n    ports: 2000-2999\n    weight: 0\n    mark: 9\n    backoff: 2s\n    pool: 8\n  "
		"  "
		"pool-max-age: 1m\n    sources: [ 'fd00::2', 'fd00::3' ]\n"
		"  - { name: by-name, server: 'proxy-1.example:1080', username: bob, password-file: /etc/pw "
		"}\nbpf-pin: "
		"/sys/fs/bpf/x\n"
		"tcp:\n  relay: userspace\n  accept: early\n  connect-timeout: 500ms\n  handshake-timeout: 3s\n"
		"  idle-timeout: 5m\n  linger: 1s\n  max-flows: 4194304\n  half-open: 100\n  half-open-per-source: 10\n"
		"control: /tmp/c.sock\nlog: { level: debug, file: /tmp/log, flows: /tmp/flows }\n"
		"metrics: '[::1]:9105'\n"
		"performance:\n  enable_batch_processing: false\n  enable_cpu_affinity: false\n  enable_simd: false\n"
		"  enable_ebpf: false\n  enable_connection_pool: false\n  connection_pool_size: 64\n  "
		"enable_memory_pool: true\n  enable_zero_copy: true\n  enable_io_uring: true\n"
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
	assert_int_equal(config.upstreams[0].weight, 0);
	assert_int_equal(config.upstreams[0].mark, 9);
	assert_true(config.upstreams[0].backoff_ns == 2000000000ull);
	assert_int_equal(config.upstreams[0].pool, 8);
	assert_true(config.upstreams[0].pool_max_age_ns == 60000000000ull);
	assert_int_equal(config.upstream_count, 2);
	assert_string_equal(config.upstreams[1].host, "proxy-1.example");
	assert_int_equal(config.upstreams[1].server.port, be16(1080));
	assert_string_equal(config.upstreams[1].password_file, "/etc/pw");
	assert_int_equal(config.upstreams[1].weight, 1);
	assert_false(config.performance.enable_connection_pool);
	assert_int_equal(config.performance.connection_pool_size, 64);
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

static void test_dns(void **state)
{
	static const char plain[] = IFACE UP "dns: {}\n";
	static const char all[] = IFACE UP
		"dns: { listen: '[fd00::53]:5353', mapped: 100.64.0.0/10, mapped6: 'fd00:9::/64', cache: 1048576, "
		"hijack: true }\nstate: /tmp/x\nrules: [ { domain: [.A.example, b], action: proxy, upstream: main } "
		"]\n";
	struct config_error error = {""};
	struct config config;
	struct addr wanted;

	(void)state;
	assert_int_equal(config_parse(plain, strlen(plain), "t", &config, &error), 0);
	assert_true(config_dns_is_on(&config.dns));
	assert_int_equal(config.dns.listen.port, be16(53));
	wanted = addr_from_ipv4(be32(0xc6120001));
	assert_true(addr_equal(&config.dns.listen.addr, &wanted));
	wanted = addr_from_ipv4(be32(0xc6120000));
	assert_true(addr_equal(&config.dns.mapped.addr, &wanted));
	assert_int_equal(config.dns.mapped.bits, 96 + 15);
	assert_int_equal(config.dns.mapped6.bits, 96);
	assert_int_equal(config.dns.cache, 10000);
	assert_false(config.dns.hijack);
	config_release(&config);

	if (config_parse(all, strlen(all), "t", &config, &error))
		fail_msg("%s", error.text);
	assert_int_equal(config.dns.listen.port, be16(5353));
	assert_int_equal(config.dns.mapped.bits, 96 + 10);
	assert_int_equal(config.dns.mapped6.bits, 64);
	assert_int_equal(config.dns.cache, 1048576);
	assert_true(config.dns.hijack);
	assert_string_equal(config.state, "/tmp/x");
	assert_int_equal(config.rules.domain_count, 2);
	assert_int_equal(config.rules.rules[0].domain_count, 2);
	assert_int_equal(config.rules.rules[0].upstream, 0);
	assert_int_equal(config.rules.domain_text_bytes, 10);
	assert_memory_equal(config.rules.domain_texts, "a.exampleb", 10);
	assert_int_equal(config.rules.domains[0].below, 1);
	assert_int_equal(config.rules.domains[1].below, 0);
	config_release(&config);
}

static void test_missing_file(void **state)
{
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_not_equal(config_load("/nonexistent/socksplice.yml", &config, &error), 0);
	assert_non_null(strstr(error.text, "/nonexistent/socksplice.yml: No such file"));
}

/* "rules:", a rule with `count` prefixes, or ports, or so many rules. */
static char *long_list(const char *head, const char *element, const char *tail, uint32_t count, uint32_t in_each)
{
	size_t bytes = strlen(IFACE UP) + (size_t)count * 64 + 1024;
	char *text = malloc(bytes);
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(text, bytes, "%srules:\n", IFACE UP);
	for (uint32_t i = 0; i < count; i++) {
		if (i % in_each == 0)
			used += (size_t)snprintf(text + used, bytes - used, "%s", head);
		used += (size_t)snprintf(text + used, bytes - used, element, i >> 8, i & 255);
		if ((i + 1) % in_each == 0 || i + 1 == count)
			used += (size_t)snprintf(text + used, bytes - used, "%s", tail);
	}
	return text;
}

static void expect_long(char *text, const char *words)
{
	struct config_error error = {""};
	struct config config;
	int err = config_parse(text, strlen(text), "t", &config, &error);

	free(text);
	if (words && (!err || !strstr(error.text, words)))
		fail_msg("got: %s, wanted: %s", error.text, words);
	if (!words && err)
		fail_msg("%s", error.text);
	assert_true(!err || (!config.rules.rules && !config.rules.prefixes && !config.rules.ports));
	config_release(&config);
	config_release(&config);
}

static void test_limits_of_rules(void **state)
{
	static const char net[] = "  - dst: [\n", in_net[] = "    fd00:%x:%x::/48,\n",
			  net_end[] = "]\n    action: drop\n";
	static const char ports[] = "  - { proto: tcp, action: drop, dport: [\n";

	(void)state;
	expect_long(long_list(net, in_net, net_end, 65536, 1000), NULL);
	expect_long(long_list(net, in_net, net_end, 65537, 1000), "t:65736:5: rules: more than 65536 prefixes in all");
	expect_long(long_list("  - { action: drop, src: ", "10.0.%u.%u", " }\n", 128, 1), NULL);
	expect_long(long_list("  - { action: drop, src: ", "10.0.%u.%u", " }\n", 129, 1),
		    "t:132:5: rules: at most 128 are allowed");
	expect_long(long_list(ports, "      1%u, # %u\n", "    ] }\n", 8192, 4096), NULL);
	expect_long(long_list(ports, "      1%u, # %u\n", "    ] }\n", 8193, 4096),
		    "rules: more than 8192 ports and ranges of ports in all");
}

static void test_rules(void **state)
{
	static const char text[] =
		IFACE UP "rules:\n"
			 "  - { dst: [10.0.0.0/8, fd00::/8], action: direct }\n"
			 "  - { proto: udp, dport: [443, 8000-8100], action: reject }\n"
			 "  - { src: 192.168.1.66, proto: icmp, action: drop }\n"
			 "  - { action: proxy, upstream: main, src: ['::/0', 0.0.0.0/0, 'fd00::1'] }\n"
			 "  - { proto: tcp, dport: 22, action: proxy }\n";
	struct config_error error = {""};
	const struct config_rule *rule;
	struct config config;

	(void)state;
	if (config_parse(text, strlen(text), "t", &config, &error))
		fail_msg("%s", error.text);
	rule = config.rules.rules;
	assert_int_equal(config.rules.count, 5);
	assert_int_equal(config.rules.prefix_count, 6);
	assert_int_equal(config.rules.port_count, 3);
	assert_int_equal(rule[0].dst_count, 2);
	assert_int_equal(rule[0].src_count, 0);
	assert_int_equal(rule[0].action, CONFIG_RULE_DIRECT);
	assert_int_equal(rule[0].upstream, -1);
	assert_int_equal(config.rules.prefixes[0].bits, 96 + 8);
	assert_int_equal(config.rules.prefixes[0].addr.words[3], be32(0x0a000000));
	assert_int_equal(config.rules.prefixes[1].bits, 8);
	assert_int_equal(rule[1].proto, CONFIG_RULE_UDP);
	assert_int_equal(rule[1].port_count, 2);
	assert_int_equal(config.rules.ports[1].first, 8000);
	assert_int_equal(config.rules.ports[1].last, 8100);
	assert_int_equal(rule[2].src_first, 2);
	assert_int_equal(config.rules.prefixes[2].bits, 128);
	assert_int_equal(rule[2].proto, CONFIG_RULE_ICMP);
	assert_int_equal(rule[3].upstream, 0);
	assert_int_equal(config.rules.prefixes[3].bits, 0);
	assert_int_equal(config.rules.prefixes[4].bits, 96);
	assert_int_equal(config.rules.prefixes[5].bits, 128);
	assert_int_equal(config.rules.ports[2].first, 22);
	assert_int_equal(config.rules.ports[2].last, 22);
	config_release(&config);
	assert_null(config.rules.rules);
	assert_int_equal(config_parse(IFACE UP "rules: []\n", strlen(IFACE UP "rules: []\n"), "t", &config, &error), 0);
	assert_int_equal(config.rules.count, 0);
}

/* --- what a reload finds changed --- */

static char changes[1024];

static void note_change(void *ctx, const char *key, bool live)
{
	(void)ctx;
	snprintf(changes + strlen(changes), sizeof(changes) - strlen(changes), "%s%s ", key, live ? "" : "!");
}

static void expect_changes(const char *after, const char *wanted)
{
	static const char before[] = IFACE UP "rules: [ { dst: 10.0.0.0/8, action: drop } ]\n";
	struct config_error error;
	struct config a, b;

	if (config_parse(before, strlen(before), "t", &a, &error) ||
	    config_parse(after, strlen(after), "t", &b, &error))
		fail_msg("%s", error.text);
	changes[0] = 0;
	config_diff(&a, &b, note_change, NULL);
	assert_string_equal(changes, wanted);
	config_release(&a);
	config_release(&b);
}

static void test_differences(void **state)
{
	(void)state;
	expect_changes("# the same\n" IFACE UP "rules: [ { action: drop, dst: [ 10.0.0.0/8 ] } ]\n", "");
	expect_changes(IFACE UP, "rules ");
	expect_changes(IFACE UP "rules: [ { dst: 10.0.0.0/9, action: drop } ]\n", "rules ");
	expect_changes(IFACE UP "rules: [ { dst: 10.0.0.0/8, action: reject } ]\n", "rules ");
	expect_changes(IFACE "upstreams: [ { name: main, server: 10.2.0.2:1080, sources: [ 10.0.0.1 ] } ]\n"
			     "rules: [ { dst: 10.0.0.0/8, action: drop } ]\ncontrol: /x\n",
		       "upstreams control! ");
	expect_changes(IFACE "upstreams: [ { name: main, server: 'proxy.example:1080' } ]\n"
			     "rules: [ { dst: 10.0.0.0/8, action: drop } ]\n"
			     "performance: { enable_connection_pool: false, connection_pool_size: 9 }\n",
		       "upstreams performance.enable_connection_pool performance.connection_pool_size ");
	expect_changes("interfaces: [ { name: eth1, hook: tc } ]\n" UP "rules: [ { dst: 10.0.0.0/8, action: drop } ]\n"
		       "on-down: pass\nuplink: eth0\nlog: { level: debug, file: /x }\n"
		       "performance: { enable_simd: false, batch_size: 4 }\n"
		       "tcp: { relay: splice, max-flows: 100, half-open: 50, half-open-per-source: 5, linger: 1s,\n"
		       "  idle-timeout: 1h, connect-timeout: 1s, handshake-timeout: 1s }\n",
		       "interfaces! uplink! on-down tcp.relay! tcp.connect-timeout tcp.handshake-timeout "
		       "tcp.idle-timeout tcp.linger tcp.max-flows! tcp.half-open tcp.half-open-per-source log.level "
		       "log.file! performance.enable_simd! performance.batch_size! ");
	expect_changes(IFACE UP "dns: {}\nstate: /x\nrules: [ { domain: a, action: drop } ]\n",
		       "rules dns.listen! dns.mapped! dns.mapped6! state! ");
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

static char warned[1024];

static void note_warning(enum log_level level, const char *line)
{
	assert_int_equal(level, LOG_LEVEL_WARN);
	snprintf(warned, sizeof(warned), "%s", line);
}

/* Loads a configuration whose password is in a file with these contents and permissions. */
static int load_password(const char *contents, size_t bytes, mode_t mode, struct config *config,
			 struct config_error *error)
{
	char folder[] = "/tmp/config_test-XXXXXX", secret[64], file[64];
	FILE *out;
	int err;

	assert_non_null(mkdtemp(folder));
	snprintf(secret, sizeof(secret), "%s/secret", folder);
	snprintf(file, sizeof(file), "%s/yml", folder);
	out = fopen(secret, "w");
	fwrite(contents, 1, bytes, out);
	fclose(out);
	chmod(secret, mode);
	out = fopen(file, "w");
	fprintf(out, IFACE "upstreams: [ { name: m, server: 1.1.1.1:1, username: u, password-file: %s } ]\n", secret);
	fclose(out);
	warned[0] = 0;
	log_set_sink(note_warning, LOG_LEVEL_WARN);
	err = config_load(file, config, error);
	log_set_sink(NULL, LOG_LEVEL_WARN);
	unlink(secret);
	unlink(file);
	rmdir(folder);
	return err;
}

static void test_password_file(void **state)
{
	struct config_error error;
	struct config config;
	char longest[258];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[255] = '\n';
	assert_int_equal(load_password("hunter 2\nnot this\n", 18, 0600, &config, &error), 0);
	assert_string_equal(config.upstreams[0].password, "hunter 2");
	assert_string_equal(warned, "");
	assert_int_equal(load_password("hunter2\r\n", 9, 0640, &config, &error), 0);
	assert_string_equal(config.upstreams[0].password, "hunter2");
	assert_non_null(strstr(warned, "may be read by others; chmod 600"));
	assert_int_equal(load_password("hunter2", 7, 0604, &config, &error), 0);
	assert_non_null(strstr(warned, "may be read by others"));
	assert_int_equal(load_password(longest, 256, 0600, &config, &error), 0);
	assert_int_equal(strlen(config.upstreams[0].password), 255);
	longest[255] = 'x';
	assert_int_not_equal(load_password(longest, 258, 0600, &config, &error), 0);
	assert_non_null(strstr(error.text, "too long; at most 255 bytes"));
	assert_int_not_equal(load_password("", 0, 0600, &config, &error), 0);
	assert_non_null(strstr(error.text, "\"m\": password-file /tmp/"));
	assert_non_null(strstr(error.text, "its first line is empty"));
	assert_int_not_equal(load_password("hun\0ter2", 8, 0600, &config, &error), 0);
	assert_non_null(strstr(error.text, "zero byte"));
	assert_null(strstr(error.text, "hun"));
}

static void test_password_file_is_missing(void **state)
{
	static const char text[] = IFACE UPSTREAM("username: u, password-file: /nonexistent/pw") "\n";
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), "t", &config, &error), 0);
	assert_int_not_equal(config_read_passwords("t", &config, &error), 0);
	assert_string_equal(error.text,
			    "t: upstreams: \"m\": password-file /nonexistent/pw: No such file or directory");
	strcpy(config.upstreams[0].password_file, "/");
	assert_int_not_equal(config_read_passwords("t", &config, &error), 0);
	assert_non_null(strstr(error.text, "it is no plain file"));
}

/* Where the file says something, and that it does not say the rest. */
static void test_marks(void **state)
{
	static const char text[] = "interfaces: [ { name: a }, { name: b,\n  xsk:   copy } ]\n" UP
				   "performance: { enable_io_uring: true }\nlog: { level: info }\n";
	static struct config_marks marks;
	static struct config config;
	const struct config_mark *mark;
	struct config_error error;

	(void)state;
	assert_int_equal(config_parse_marked(text, strlen(text), "t", &config, &marks, &error), 0);
	assert_null(config_marks_find(&marks, "xsk", offsetof(struct config, interfaces[0])));
	mark = config_marks_find(&marks, "xsk", offsetof(struct config, interfaces[1]));
	assert_non_null(mark);
	assert_int_equal(mark->line, 2);
	assert_int_equal(mark->column, 10);
	mark = config_marks_find(&marks, "enable_io_uring", offsetof(struct config, performance));
	assert_non_null(mark);
	assert_int_equal(mark->line, 4);
	assert_null(config_marks_find(&marks, "enable_ebpf", offsetof(struct config, performance)));
	/* marks of an earlier file are forgotten */
	assert_int_equal(config_parse_marked(IFACE UP, strlen(IFACE UP), "t", &config, &marks, &error), 0);
	assert_null(config_marks_find(&marks, "xsk", offsetof(struct config, interfaces[1])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken),        cmocka_unit_test(test_marks),
		cmocka_unit_test(test_smallest),      cmocka_unit_test(test_everything),
		cmocka_unit_test(test_rules),         cmocka_unit_test(test_limits_of_rules),
		cmocka_unit_test(test_differences),   cmocka_unit_test(test_dns),
		cmocka_unit_test(test_missing_file),  cmocka_unit_test(test_password_is_not_shown),
		cmocka_unit_test(test_password_file), cmocka_unit_test(test_password_file_is_missing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
