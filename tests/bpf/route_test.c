/* SPDX-License-Identifier: MIT */
/*
 * Routes, neighbours, changes and reserved ports against the real kernel, in a network namespace of its own:
 *
 *     r0 10.7.0.1/24 10.7.0.5/24 fd07::1/64 fd07::5/64 ---- r1 (no addresses)
 *     s0 10.7.1.1/24 fd07:1::1/64                      ---- s1 (no addresses)
 *     10.8/16, fd08::/32 by gateways on r0, and with a higher metric on s0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ports.h"
#include "route.h"

#define RESERVED "/proc/sys/net/ipv4/ip_local_reserved_ports"

static const char *const topology[] = {
	"ip link set lo up",
	"ip link add r0 type veth peer name r1",
	"ip link add s0 type veth peer name s1",
	"for l in r0 r1 s0 s1; do ip link set $l up; done",
	"ip addr add 10.7.0.1/24 dev r0",
	"ip addr add 10.7.0.5/24 dev r0",
	"ip addr add 10.7.1.1/24 dev s0",
	"ip addr add fd07::1/64 dev r0 nodad",
	"ip addr add fd07::5/64 dev r0 nodad preferred_lft 0",
	"ip addr add fd07:1::1/64 dev s0 nodad",
	"ip route add 10.8.0.0/16 via 10.7.0.2",
	"ip route add 10.8.0.0/16 via 10.7.1.2 metric 100",
	"ip route add 10.8.5.0/24 via 10.7.0.2 src 10.7.0.5 mtu 1400",
	"ip route add 10.9.0.0/16 via inet6 fd07::2 dev r0",
	"ip route add unreachable 10.66.0.0/16",
	"ip route add prohibit 10.67.0.0/16",
	"ip route add blackhole 10.68.0.0/16",
	"ip route add fd08::/32 via fd07::2 metric 50",
	"ip route add fd08::/32 via fd07:1::2 metric 100",
	"ip route add fd08:5::/48 via fd07::2 src fd07::5 mtu 1400",
	"ip route add unreachable fd66::/32",
	"ip route add prohibit fd67::/32",
	"ip route add blackhole fd68::/32",
	"ip rule add fwmark 7 table 100",
	"ip route add 10.8.0.0/16 via 10.7.0.3 table 100",
	"ip -6 rule add fwmark 7 table 100",
	"ip route add fd08::/32 via fd07::3 table 100",
	"ip neigh add 10.7.0.2 lladdr 02:00:00:00:07:02 nud permanent dev r0",
	"ip neigh add fd07::2 lladdr 02:00:00:00:07:06 nud permanent dev r0",
	"ip neigh add 10.7.0.3 lladdr 02:00:00:00:07:03 nud stale dev r0",
	"ip neigh add 10.7.0.4 nud failed dev r0",
};

static int r0, s0;

static void run(const char *command)
{
	if (system(command)) /* NOLINT(cert-env33-c): a test, with constant commands */
		fail_msg("failed: %s", command);
}

static struct addr address(const char *text)
{
	struct addr a = {0};
	struct in_addr ip;

	if (inet_pton(AF_INET, text, &ip) == 1)
		return addr_from_ipv4(ip.s_addr);
	assert_int_equal(inet_pton(AF_INET6, text, a.bytes), 1);
	return a;
}

static void expect_addr(const char *what, const struct addr *got, const char *want)
{
	struct addr wanted = address(want);
	char name[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, got->bytes, name, sizeof(name));
	if (!addr_equal(got, &wanted))
		fail_msg("%s is %s, not %s", what, name, want);
}

static int lookup(const char *dst, const char *src, uint32_t mark, int oif, struct route *out)
{
	struct addr to = address(dst), from = address(src ? src : "::");

	memset(out, 0xff, sizeof(*out));
	return route_lookup(&to, src ? &from : NULL, mark, oif, out);
}

/* --- routes ---------------------------------------------------------------- */

static void test_lookup(void **state)
{
	const struct {
		const char *dst, *src;
		uint32_t mark;
		int oif, ifindex;
		const char *gateway, *source;
		uint32_t mtu;
	} cases[] = {
		{"10.7.0.9", NULL, 0, 0, r0, NULL, "10.7.0.1", 0},
		{"fd07::9", NULL, 0, 0, r0, NULL, "fd07::1", 0},
		{"10.8.0.9", NULL, 0, 0, r0, "10.7.0.2", "10.7.0.1", 0},
		{"fd08::9", NULL, 0, 0, r0, "fd07::2", "fd07::1", 0},
		{"10.8.5.9", NULL, 0, 0, r0, "10.7.0.2", "10.7.0.5", 1400},
		{"fd08:5::9", NULL, 0, 0, r0, "fd07::2", "fd07::5", 1400},
		{"10.8.0.9", "10.7.0.5", 0, 0, r0, "10.7.0.2", "10.7.0.5", 0},
		{"fd08::9", "fd07::5", 0, 0, r0, "fd07::2", "fd07::5", 0},
		{"10.8.0.9", NULL, 0, s0, s0, "10.7.1.2", "10.7.1.1", 0},
		{"fd08::9", NULL, 0, s0, s0, "fd07:1::2", "fd07:1::1", 0},
		{"10.8.0.9", NULL, 7, 0, r0, "10.7.0.3", "10.7.0.1", 0},
		{"fd08::9", NULL, 7, 0, r0, "fd07::3", "fd07::1", 0},
		{"10.9.0.9", NULL, 0, 0, r0, "fd07::2", "10.7.0.1", 0},
		/* no route: IPv4 trusts the interface it is given */
		{"10.99.0.9", NULL, 0, s0, s0, NULL, "10.7.1.1", 0},
	};
	struct route got;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# %s from %s\n", cases[i].dst, cases[i].src ? cases[i].src : "any");
		assert_int_equal(lookup(cases[i].dst, cases[i].src, cases[i].mark, cases[i].oif, &got), 0);
		assert_int_equal(got.ifindex, cases[i].ifindex);
		assert_int_equal(got.has_gateway, cases[i].gateway != NULL);
		if (cases[i].gateway)
			expect_addr("gateway", &got.gateway, cases[i].gateway);
		expect_addr("source", &got.source, cases[i].source);
		assert_int_equal(got.mtu, cases[i].mtu);
		assert_false(got.local);
	}
}

static void test_lookup_of_this_machine(void **state)
{
	static const char *const own[] = {"127.0.0.1", "127.9.9.9", "10.7.0.1", "10.7.1.1",
					  "::1",       "fd07::1",   "fd07:1::1"};
	struct route got;

	(void)state;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		assert_int_equal(lookup(own[i], NULL, 0, 0, &got), 0);
		assert_true(got.local);
	}
}

static void test_lookup_fails(void **state)
{
	static const struct {
		const char *dst, *src;
		int err;
	} cases[] = {
		{"10.99.0.1", NULL, -ENETUNREACH}, {"fd99::1", NULL, -ENETUNREACH},  {"10.66.0.1", NULL, -EHOSTUNREACH},
		{"fd66::1", NULL, -EHOSTUNREACH},  {"10.67.0.1", NULL, -EACCES},     {"fd67::1", NULL, -EACCES},
		{"10.68.0.1", NULL, -EINVAL},      {"fd68::1", NULL, -EINVAL},       {"10.7.0.255", NULL, -EACCES},
		{"10.7.0.2", "fd07::1", -EINVAL},  {"fd07::2", "10.7.0.1", -EINVAL},
	};
	struct route got;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# %s\n", cases[i].dst);
		assert_int_equal(lookup(cases[i].dst, cases[i].src, 0, 0, &got), cases[i].err);
	}
	/* a source that is not ours: which error it is depends on the kernel */
	assert_true(lookup("10.7.0.2", "192.0.2.1", 0, 0, &got) < 0);
}

/* --- neighbours ------------------------------------------------------------ */

static void test_neighbour(void **state)
{
	const struct {
		const char *addr;
		int ifindex, err;
		bool valid;
		uint8_t last; /* of the MAC */
	} cases[] = {
		{"10.7.0.2", r0, 0, true, 2},          {"fd07::2", r0, 0, true, 6},
		{"10.7.0.3", r0, 0, true, 3},          {"10.7.0.4", r0, 0, false, 0},
		{"10.7.0.77", r0, -ENOENT, false, 0},  {"fd07::77", r0, -ENOENT, false, 0},
		{"10.7.0.2", s0, -ENOENT, false, 0},   {"fd07::2", s0, -ENOENT, false, 0},
		{"10.7.0.2", 9999, -ENODEV, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const uint8_t mac[6] = {2, 0, 0, 0, 7, cases[i].last};
		struct addr addr = address(cases[i].addr);
		struct neighbour got;

		memset(&got, 0xff, sizeof(got));
		print_message("# %s on %d\n", cases[i].addr, cases[i].ifindex);
		assert_int_equal(route_neighbour(cases[i].ifindex, &addr, &got), cases[i].err);
		assert_int_equal(got.valid, cases[i].valid);
		if (got.valid)
			assert_memory_equal(got.mac, mac, sizeof(mac));
	}
}

/* --- changes --------------------------------------------------------------- */

static void test_monitor_sees_changes(void **state)
{
	static const struct {
		const char *command;
		size_t flag;
	} cases[] = {
		{"ip link set s0 mtu 1300", offsetof(struct route_changes, links)},
		{"ip link add m0 type veth peer name m1", offsetof(struct route_changes, links)},
		{"ip link del m0", offsetof(struct route_changes, links)},
		{"ip addr add 10.7.1.3/24 dev s0", offsetof(struct route_changes, addresses)},
		{"ip addr del 10.7.1.3/24 dev s0", offsetof(struct route_changes, addresses)},
		{"ip addr add fd07:1::3/64 dev s0 nodad", offsetof(struct route_changes, addresses)},
		{"ip addr del fd07:1::3/64 dev s0", offsetof(struct route_changes, addresses)},
		{"ip route add 10.10.0.0/16 via 10.7.1.2", offsetof(struct route_changes, routes)},
		{"ip route del 10.10.0.0/16", offsetof(struct route_changes, routes)},
		{"ip route add fd0a::/32 via fd07:1::2", offsetof(struct route_changes, routes)},
		{"ip route del fd0a::/32", offsetof(struct route_changes, routes)},
		{"ip neigh add 10.7.1.2 lladdr 02:00:00:00:00:09 dev s0", offsetof(struct route_changes, neighbours)},
		{"ip neigh change 10.7.1.2 lladdr 02:00:00:00:00:0a dev s0",
		 offsetof(struct route_changes, neighbours)},
		{"ip neigh del 10.7.1.2 dev s0", offsetof(struct route_changes, neighbours)},
		{"ip neigh add fd07:1::2 lladdr 02:00:00:00:00:09 dev s0", offsetof(struct route_changes, neighbours)},
		{"ip neigh del fd07:1::2 dev s0", offsetof(struct route_changes, neighbours)},
	};
	struct route_changes got;
	int fd;

	(void)state;
	fd = route_open_monitor();
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		route_drain_monitor(fd, &got);
		run(cases[i].command);
		route_drain_monitor(fd, &got);
		if (!((const bool *)&got)[cases[i].flag])
			fail_msg("not seen: %s", cases[i].command);
	}
	close(fd);
}

static void test_monitor_lost_messages(void **state)
{
	struct route_changes got;
	int fd, tiny = 1;

	(void)state;
	fd = route_open_monitor();
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)), 0);
	run("for i in 1 2 3 4 5 6 7 8; do ip link set s1 mtu 140$i || exit 1; done");
	route_drain_monitor(fd, &got);
	assert_true(got.links && got.addresses && got.routes && got.neighbours);
	close(fd);
}

struct message {
	struct nlmsghdr header;
	union {
		struct ndmsg neighbour;
		struct rtmsg route;
		char room[64];
	};
};

/* What the monitor makes of one message; `mac_bytes` of a link-layer address follow. */
static struct route_changes drain_one(uint16_t type, uint8_t family, uint16_t mac_bytes)
{
	struct message m = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ndmsg)), .nlmsg_type = type}};
	struct route_changes got;
	int pair[2];

	m.neighbour.ndm_family = family;
	if (mac_bytes) {
		struct rtattr *attr = (struct rtattr *)((char *)&m + m.header.nlmsg_len);

		attr->rta_type = NDA_LLADDR;
		attr->rta_len = (uint16_t)RTA_LENGTH(mac_bytes);
		m.header.nlmsg_len += RTA_SPACE(mac_bytes);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(send(pair[0], &m, m.header.nlmsg_len, 0), m.header.nlmsg_len);
	route_drain_monitor(pair[1], &got);
	close(pair[0]);
	close(pair[1]);
	return got;
}

static void test_monitor_by_message(void **state)
{
	static const struct {
		uint16_t type;
		uint8_t family;
		uint16_t mac_bytes;
		struct route_changes want;
	} cases[] = {
		{RTM_NEWLINK, 0, 0, {.links = true}},
		{RTM_DELLINK, 0, 0, {.links = true}},
		{RTM_NEWADDR, AF_INET, 0, {.addresses = true}},
		{RTM_DELADDR, AF_INET6, 0, {.addresses = true}},
		{RTM_NEWROUTE, AF_INET, 0, {.routes = true}},
		{RTM_DELROUTE, AF_INET6, 0, {.routes = true}},
		{RTM_NEWNEIGH, AF_INET, 6, {.neighbours = true}},
		{RTM_NEWNEIGH, AF_INET6, 6, {.neighbours = true}},
		{RTM_NEWNEIGH, AF_INET, 0, {0}}, /* being resolved, or failed */
		{RTM_NEWNEIGH, AF_INET, 4, {0}}, /* a tunnel's */
		{RTM_NEWNEIGH, AF_BRIDGE, 6, {0}},
		{RTM_DELNEIGH, AF_INET, 0, {.neighbours = true}},
		{RTM_DELNEIGH, AF_BRIDGE, 6, {0}},
		{RTM_NEWRULE, AF_INET, 0, {0}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct route_changes got = drain_one(cases[i].type, cases[i].family, cases[i].mac_bytes);

		print_message("# message %u of family %u\n", cases[i].type, cases[i].family);
		assert_memory_equal(&got, &cases[i].want, sizeof(got));
	}
}

static void test_monitor_too_long_message(void **state)
{
	static char bytes[40000];
	struct nlmsghdr *header = (struct nlmsghdr *)bytes;
	struct route_changes got;
	int pair[2];

	(void)state;
	header->nlmsg_len = sizeof(bytes);
	header->nlmsg_type = RTM_NEWLINK;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(send(pair[0], bytes, sizeof(bytes), 0), sizeof(bytes));
	route_drain_monitor(pair[1], &got);
	assert_true(got.links && got.addresses && got.routes && got.neighbours);
	route_drain_monitor(pair[1], &got);
	assert_false(got.links || got.addresses || got.routes || got.neighbours);
	close(pair[0]);
	close(pair[1]);
}

/* --- reserved ports -------------------------------------------------------- */

static char reserved[PORTS_TEXT_BYTES];

static void write_reserved(const char *list)
{
	int fd = open(RESERVED, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, list, strlen(list)), strlen(list));
	close(fd);
}

static void expect_reserved(const char *want)
{
	int fd = open(RESERVED, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	len = read(fd, reserved, sizeof(reserved) - 1);
	assert_true(len > 0 && reserved[len - 1] == '\n');
	reserved[len - 1] = 0;
	close(fd);
	assert_string_equal(reserved, want);
}

static void test_reserve_and_release(void **state)
{
	static const struct {
		const char *before, *during, *added;
	} cases[] = {
		{"\n", "40000-40099", "40000-40099"},
		{"8080,9000-9100", "8080,9000-9100,40000-40099", "40000-40099"},
		{"40010-40019,50000", "40000-40099,50000", "40000-40009,40020-40099"},
		{"39990-40049", "39990-40099", "40050-40099"},
		{"40000-40099", "40000-40099", ""},
		{"1-65535", "1-65535", ""},
	};
	struct ports_set added;
	char error[256] = "", list[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_reserved(cases[i].before);
		assert_int_equal(ports_reserve(40000, 40099, &added, error, sizeof(error)), 0);
		expect_reserved(cases[i].during);
		assert_int_equal(ports_set_format(&added, list, sizeof(list)), 0);
		assert_string_equal(list, cases[i].added);
		assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
		expect_reserved(cases[i].before[0] == '\n' ? "" : cases[i].before);
	}
	assert_string_equal(error, "");
	write_reserved("\n");
}

/* What others reserve in the meantime stays, and what they took out is no error. */
static void test_release_keeps_later_ones(void **state)
{
	struct ports_set added;
	char error[256];

	(void)state;
	write_reserved("\n");
	assert_int_equal(ports_reserve(40000, 40099, &added, error, sizeof(error)), 0);
	write_reserved("7000,40000-40010,45000-45001");
	assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
	expect_reserved("7000,45000-45001");
	assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
	expect_reserved("7000,45000-45001");
	write_reserved("\n");
}

/* Longer than the page that the kernel takes with one write. */
static void test_long_foreign_list(void **state)
{
	static char foreign[PORTS_TEXT_BYTES];
	struct ports_set added, set = {0};
	char error[256];

	(void)state;
	write_reserved("\n");
	for (uint32_t port = 10000; port < 30000; port += 3)
		ports_set_add(&set, (uint16_t)port, (uint16_t)(port + 1));
	/* by our own way: released ports leave a list of many pages behind */
	assert_int_equal(ports_reserve(10000, 65000, &added, error, sizeof(error)), 0);
	for (size_t i = 0; i < PORTS_COUNT / 64; i++)
		added.words[i] = ~set.words[i];
	assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
	assert_int_equal(ports_set_format(&set, foreign, sizeof(foreign)), 0);
	assert_true(strlen(foreign) > 60000);
	expect_reserved(foreign);
	assert_int_equal(ports_reserve(40000, 40099, &added, error, sizeof(error)), 0);
	assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
	expect_reserved(foreign);
	write_reserved("\n");
}

static void test_reserve_refuses(void **state)
{
	struct ports_set added;
	char error[256] = "";

	(void)state;
	assert_int_equal(ports_reserve(0, 10, &added, error, sizeof(error)), -EINVAL);
	assert_int_equal(ports_reserve(11, 10, &added, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "11-10"));
}

/* The kernel's side of the bargain: who asks for any port does not get a reserved one. */
static void test_kernel_keeps_off(void **state)
{
	struct ports_set added;
	char error[256];

	(void)state;
	run("echo 40000 40011 > /proc/sys/net/ipv4/ip_local_port_range");
	assert_int_equal(ports_reserve(40000, 40009, &added, error, sizeof(error)), 0);
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in6 any = {.sin6_family = AF_INET6};
		socklen_t len = sizeof(any);
		int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_true(fd >= 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
		assert_in_range(ntohs(any.sin6_port), 40010, 40011);
		close(fd);
	}
	assert_int_equal(ports_release(&added, error, sizeof(error)), 0);
}

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(topology) / sizeof(topology[0]); i++) {
		if (system(topology[i])) { /* NOLINT(cert-env33-c) */
			print_error("failed: %s\n", topology[i]);
			return -1;
		}
	}
	r0 = (int)if_nametoindex("r0");
	s0 = (int)if_nametoindex("s0");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_lookup_of_this_machine),
		cmocka_unit_test(test_lookup_fails),
		cmocka_unit_test(test_neighbour),
		cmocka_unit_test(test_monitor_sees_changes),
		cmocka_unit_test(test_monitor_lost_messages),
		cmocka_unit_test(test_monitor_by_message),
		cmocka_unit_test(test_monitor_too_long_message),
		cmocka_unit_test(test_reserve_and_release),
		cmocka_unit_test(test_release_keeps_later_ones),
		cmocka_unit_test(test_long_foreign_list),
		cmocka_unit_test(test_reserve_refuses),
		cmocka_unit_test(test_kernel_keeps_off),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (unshare(CLONE_NEWNET)) {
		printf("1..1\nok 1 - route # SKIP no network namespace of its own: %s\n", strerror(errno));
		return 0;
	}
	return cmocka_run_group_tests_name("route", tests, setup, NULL);
}
