/* SPDX-License-Identifier: MIT */
/*
 * The XDP program by BPF_PROG_RUN: packet in, verdict out, and exactly one counter moved by one. The packet itself must
 * leave as it came. That a packet reaches a socket is for the network tests: here no socket is bound, so what would go
 * to one meets `on-down`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib_packet.h"
#include "socksplice_xdp.skel.h"
#include "addr.h"
#include "cfg_abi.h"
#include "stats_abi.h"

#define TCP 6
#define UDP 17
#define ICMP 1
#define ICMPV6 58
#define ELSEWHERE4 "10.9.0.1"
#define ELSEWHERE6 "fd09::1"
#define OWN4 "10.1.0.1"
#define OWN6 "fd01::1"

static struct socksplice_xdp *skeleton;

static const char *const counter_names[] = {
#define X(name, text) [COUNT_##name] = #text,
	PACKET_VERDICTS(X) FLOW_EVENTS(X)
#undef X
#define X(name, text) [COUNT_DROP_##name] = "drop_" #text,
		DROP_REASONS(X)
#undef X
};

static void read_counters(uint64_t out[PACKET_COUNTER_COUNT])
{
	uint64_t values[256];
	int cpus = libbpf_num_possible_cpus();

	for (uint32_t i = 0; i < PACKET_COUNTER_COUNT; i++) {
		out[i] = 0;
		assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.counters), &i, values), 0);
		for (int cpu = 0; cpu < cpus; cpu++)
			out[i] += values[cpu];
	}
}

static void configure(uint32_t version, uint32_t on_down)
{
	struct bpf_cfg cfg = {.abi_version = version, .on_down = on_down};
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.cfg), &zero, &cfg, BPF_ANY), 0);
}

/* Runs the packet once: `verdict` must come out and `counter` alone must move. */
static void expect(const char *what, const struct packet *p, uint32_t verdict, enum packet_counter counter)
{
	static uint8_t out[4096];
	uint64_t before[PACKET_COUNTER_COUNT], after[PACKET_COUNTER_COUNT];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p->bytes, .data_size_in = (uint32_t)p->len, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = 1);

	read_counters(before);
	if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.socksplice_xdp), &options))
		fail_msg("%s: BPF_PROG_RUN failed", what);
	read_counters(after);
	if (options.retval != verdict)
		fail_msg("%s: verdict %u, wanted %u", what, options.retval, verdict);
	for (uint32_t i = 0; i < PACKET_COUNTER_COUNT; i++)
		if (after[i] - before[i] != (i == counter))
			fail_msg("%s: counter %s moved by %llu; %s by one was wanted", what, counter_names[i],
				 (unsigned long long)(after[i] - before[i]), counter_names[counter]);
	if (options.data_size_out != p->len || memcmp(out, p->bytes, p->len))
		fail_msg("%s: the packet was changed", what);
}

static void good_tcp4(struct packet *p, const char *dst)
{
	packet_ethernet(p, 0x0800);
	packet_ipv4(p, dst, TCP, 0, 0);
	packet_tcp(p, 5);
	packet_finish(p);
}

static void good_tcp6(struct packet *p, const char *dst)
{
	packet_ethernet(p, 0x86dd);
	packet_ipv6(p, dst, TCP);
	packet_tcp(p, 5);
	packet_finish(p);
}

static void test_not_adopted(void **state)
{
	struct packet p;

	(void)state;
	configure(0, CFG_ON_DOWN_DROP);
	good_tcp4(&p, ELSEWHERE4);
	expect("TCP to elsewhere", &p, XDP_PASS, COUNT_PASS_NOT_ADOPTED);
	p.len = 20;
	expect("a truncated packet", &p, XDP_PASS, COUNT_PASS_NOT_ADOPTED);
	configure(CFG_ABI_VERSION + 1, CFG_ON_DOWN_DROP);
	good_tcp6(&p, ELSEWHERE6);
	expect("settings of another version", &p, XDP_PASS, COUNT_PASS_NOT_ADOPTED);
}

static void test_to_elsewhere(void **state)
{
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	good_tcp4(&p, ELSEWHERE4);
	expect("IPv4", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	packet_bytes(&p, 30);
	expect("IPv4 with Ethernet padding", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	good_tcp6(&p, ELSEWHERE6);
	expect("IPv6", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	for (uint8_t options = 4; options <= 40; options += 4) {
		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, TCP, options, 0);
		packet_tcp(&p, 15);
		packet_finish(&p);
		expect("IPv4 options", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
	for (int tag = 0; tag < 2; tag++) {
		packet_vlan(&p, tag ? 0x88a8 : 0x8100, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, TCP, 0, 0);
		packet_tcp(&p, 5);
		packet_finish(&p);
		expect("VLAN, IPv4", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
		packet_vlan(&p, tag ? 0x88a8 : 0x8100, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, TCP);
		packet_tcp(&p, 5);
		packet_finish(&p);
		expect("VLAN, IPv6", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_PASS);
	good_tcp4(&p, ELSEWHERE4);
	expect("IPv4, on-down: pass", &p, XDP_PASS, COUNT_PASS_ON_DOWN);
	good_tcp6(&p, ELSEWHERE6);
	expect("IPv6, on-down: pass", &p, XDP_PASS, COUNT_PASS_ON_DOWN);
}

/* Of the interface by which packets come here; NULL: it is none of the daemon's. */
static void set_port(const struct bpf_port *port)
{
	int fd = bpf_map__fd(skeleton->maps.ports);

	for (uint32_t ifindex = 0; ifindex < 2; ifindex++) {
		if (port)
			assert_int_equal(bpf_map_update_elem(fd, &ifindex, port, BPF_ANY), 0);
		else
			bpf_map_delete_elem(fd, &ifindex);
	}
}

/* The port is known, and still there is no socket: its queue is not served, or the slot is empty. */
static void test_port_without_socket(void **state)
{
	struct bpf_port port = {.first_slot = 5, .queues = 1, .flags = CFG_PORT_LAN};
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	good_tcp4(&p, ELSEWHERE4);
	for (int queues = 1; queues >= 0; queues--) {
		port.queues = (uint32_t)queues;
		set_port(&port);
		expect(queues ? "an empty slot" : "a queue beyond the port's", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
	set_port(NULL);
}

/* Upstreams are here, no clients: the kernel judges what is of no flow. */
static void test_uplink(void **state)
{
	struct bpf_port port = {.queues = 1, .flags = CFG_PORT_UPLINK};
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	set_port(&port);
	good_tcp4(&p, ELSEWHERE4);
	expect("IPv4 to elsewhere", &p, XDP_PASS, COUNT_PASS_LOCAL);
	p.len--;
	expect("cut off", &p, XDP_PASS, COUNT_PASS_LOCAL);
	good_tcp6(&p, ELSEWHERE6);
	expect("IPv6 to elsewhere", &p, XDP_PASS, COUNT_PASS_LOCAL);
	p.bytes[14 + 40 + 12] = 4 << 4;
	expect("TCP, data offset below 5", &p, XDP_PASS, COUNT_PASS_LOCAL);
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, ELSEWHERE4, TCP, 0, 0x2000);
	packet_bytes(&p, 40);
	packet_finish(&p);
	expect("IPv4 fragment of TCP", &p, XDP_PASS, COUNT_PASS_LOCAL);
	packet_ethernet(&p, 0x0806);
	packet_bytes(&p, 46);
	expect("ARP", &p, XDP_PASS, COUNT_PASS_NOT_IP);
	port.flags |= CFG_PORT_LAN;
	set_port(&port);
	good_tcp4(&p, ELSEWHERE4);
	expect("clients are here too", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	set_port(NULL);
}

static void test_passed_to_the_kernel(void **state)
{
	static const char *const local4[] = {OWN4, "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "239.1.2.3"};
	static const char *const local6[] = {OWN6, "ff02::1", "fe80::1", "febf::1", "::", "::1"};
	static const uint8_t others[] = {47, 132, 50};
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	packet_ethernet(&p, 0x0806);
	packet_bytes(&p, 46);
	expect("ARP", &p, XDP_PASS, COUNT_PASS_NOT_IP);
	packet_vlan(&p, 0x8100, 0x0806);
	packet_bytes(&p, 46);
	expect("ARP in a VLAN", &p, XDP_PASS, COUNT_PASS_NOT_IP);
	packet_vlan(&p, 0x8100, 0x8100);
	packet_bytes(&p, 46);
	expect("two VLAN tags", &p, XDP_PASS, COUNT_PASS_NOT_IP);
	for (size_t i = 0; i < ARRAY_SIZE(local4); i++) {
		good_tcp4(&p, local4[i]);
		expect(local4[i], &p, XDP_PASS, COUNT_PASS_LOCAL);
		good_tcp6(&p, local6[i]);
		expect(local6[i], &p, XDP_PASS, COUNT_PASS_LOCAL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, others[i], 0, 0);
		packet_bytes(&p, 8);
		packet_finish(&p);
		expect("another protocol over IPv4", &p, XDP_PASS, COUNT_PASS_OTHER);
		packet_ethernet(&p, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, others[i]);
		packet_bytes(&p, 8);
		packet_finish(&p);
		expect("another protocol over IPv6", &p, XDP_PASS, COUNT_PASS_OTHER);
	}
}

static void expect_icmp(const char *what, int version, uint8_t type, uint32_t verdict, enum packet_counter counter)
{
	struct packet p;

	packet_ethernet(&p, version == 4 ? 0x0800 : 0x86dd);
	if (version == 4)
		packet_ipv4(&p, ELSEWHERE4, ICMP, 0, 0);
	else
		packet_ipv6(&p, ELSEWHERE6, ICMPV6);
	packet_bytes(&p, 8);
	p.bytes[p.len - 8] = type;
	packet_finish(&p);
	expect(what, &p, verdict, counter);
}

static void configure_icmp(uint16_t mode)
{
	struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION, .icmp = mode};
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.cfg), &zero, &cfg, BPF_ANY), 0);
}

/* Echo requests are for user space; nothing else of a client leaves the gateway unproxied, unless it shall. */
static void test_icmp(void **state)
{
	struct packet p;

	(void)state;
	configure_icmp(CFG_ICMP_REPLY);
	expect_icmp("an echo request", 4, 8, XDP_DROP, COUNT_DROP_NO_SOCKET);
	expect_icmp("an IPv6 echo request", 6, 128, XDP_DROP, COUNT_DROP_NO_SOCKET);
	/* errors may be about a spliced flow: tc's to judge */
	expect_icmp("port unreachable", 4, 3, XDP_PASS, COUNT_PASS_TO_TC);
	expect_icmp("IPv6 unreachable", 6, 1, XDP_PASS, COUNT_PASS_TO_TC);
	expect_icmp("a timestamp request", 4, 13, XDP_DROP, COUNT_DROP_ICMP);
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, ELSEWHERE4, ICMP, 0, 0x2000);
	packet_bytes(&p, 16);
	p.bytes[34] = 8;
	packet_finish(&p);
	expect("a fragment of an echo request", &p, XDP_DROP, COUNT_DROP_ICMP);
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, ELSEWHERE4, ICMPV6, 0, 0);
	packet_bytes(&p, 8);
	packet_finish(&p);
	expect("ICMPv6 over IPv4 is just a protocol", &p, XDP_PASS, COUNT_PASS_OTHER);
	configure_icmp(CFG_ICMP_DROP);
	expect_icmp("an echo request, dropped", 4, 8, XDP_DROP, COUNT_DROP_ICMP);
	expect_icmp("a router solicitation elsewhere, dropped", 6, 133, XDP_DROP, COUNT_DROP_ICMP);
	configure_icmp(CFG_ICMP_PASS);
	expect_icmp("an echo request, passed", 4, 8, XDP_PASS, COUNT_PASS_OTHER);
	expect_icmp("IPv6 echo, passed", 6, 128, XDP_PASS, COUNT_PASS_OTHER);
	configure_icmp(CFG_ICMP_REPLY);
}

static void test_udp(void **state)
{
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	for (int whole = 0; whole < 2; whole++) {
		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, UDP, 0, 0);
		packet_bytes(&p, whole ? 8 : 4);
		packet_finish(&p);
		expect("UDP over IPv4", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
		packet_ethernet(&p, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, UDP);
		packet_bytes(&p, whole ? 8 : 4);
		packet_finish(&p);
		expect("UDP over IPv6", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, OWN4, UDP, 0, 0);
	packet_bytes(&p, 8);
	packet_finish(&p);
	expect("UDP to the gateway", &p, XDP_PASS, COUNT_PASS_LOCAL);
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_PASS);
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, ELSEWHERE4, UDP, 0, 0);
	packet_bytes(&p, 8);
	packet_finish(&p);
	expect("UDP with on-down: pass", &p, XDP_PASS, COUNT_PASS_ON_DOWN);
}

static void test_fragments(void **state)
{
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	for (int later = 0; later < 2; later++) {
		uint16_t bits4 = later ? 0x0010 : 0x2000, bits6 = later ? 0x0080 : 0x0001;

		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, TCP, 0, bits4);
		packet_bytes(&p, 40);
		packet_finish(&p);
		expect("IPv4 fragment of TCP", &p, XDP_DROP, COUNT_DROP_FRAGMENT);
		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, UDP, 0, bits4);
		packet_bytes(&p, 40);
		packet_finish(&p);
		expect("IPv4 fragment of UDP", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
		packet_ethernet(&p, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, 44);
		packet_ext(&p, 44, TCP, bits6);
		packet_bytes(&p, 40);
		packet_finish(&p);
		expect("IPv6 fragment of TCP", &p, XDP_DROP, COUNT_DROP_FRAGMENT);
	}
	packet_ethernet(&p, 0x0800);
	packet_ipv4(&p, ELSEWHERE4, TCP, 0, 0x4000);
	packet_tcp(&p, 5);
	packet_finish(&p);
	expect("don't-fragment is no fragment", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	packet_ethernet(&p, 0x86dd);
	packet_ipv6(&p, ELSEWHERE6, 44);
	packet_ext(&p, 44, TCP, 0);
	packet_tcp(&p, 5);
	packet_finish(&p);
	expect("an atomic fragment (RFC 6946)", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
}

static void test_ipv6_extension_headers(void **state)
{
	static const uint8_t kinds[] = {0, 43, 60, 51};
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		packet_ethernet(&p, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, kinds[i]);
		packet_ext(&p, kinds[i], TCP, 0);
		packet_tcp(&p, 5);
		packet_finish(&p);
		expect("one extension header", &p, XDP_DROP, COUNT_DROP_NO_SOCKET);
	}
	for (int count = 6; count <= 8; count++) {
		packet_ethernet(&p, 0x86dd);
		packet_ipv6(&p, ELSEWHERE6, 60);
		for (int i = 0; i < count; i++)
			packet_ext(&p, 60, i + 1 < count ? 60 : TCP, 0);
		packet_tcp(&p, 5);
		packet_finish(&p);
		expect(count > 6 ? "too many extension headers" : "six extension headers", &p, XDP_DROP,
		       count > 6 ? COUNT_DROP_TOO_MANY_EXT_HDRS : COUNT_DROP_NO_SOCKET);
	}
	packet_ethernet(&p, 0x86dd);
	packet_ipv6(&p, ELSEWHERE6, 60);
	packet_ext(&p, 60, TCP, 0);
	packet_finish(&p);
	p.bytes[14 + 40 + 1] = 20;
	expect("an extension header that runs past the end", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
	p.bytes[14 + 40] = 60;
	p.bytes[14 + 40 + 1] = 200;
	packet_bytes(&p, 500);
	packet_finish(&p);
	expect("an extension header that goes too far", &p, XDP_DROP, COUNT_DROP_TOO_MANY_EXT_HDRS);
}

static void test_truncated_at_each_length(void **state)
{
	struct packet good, p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	good_tcp4(&good, ELSEWHERE4);
	for (p = good, p.len = 14; p.len < good.len; p.len++)
		expect("IPv4, cut off", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
	good_tcp6(&good, ELSEWHERE6);
	for (p = good, p.len = 14; p.len < good.len; p.len++)
		expect("IPv6, cut off", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
	packet_vlan(&p, 0x8100, 0x0800);
	for (p.len = 14; p.len < 18; p.len++)
		expect("VLAN tag, cut off", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
}

static void test_bad_headers(void **state)
{
	struct packet p;

	(void)state;
	configure(CFG_ABI_VERSION, CFG_ON_DOWN_DROP);
	good_tcp4(&p, ELSEWHERE4);
	p.bytes[14] = 0x65;
	expect("IPv4, version 6", &p, XDP_DROP, COUNT_DROP_BAD_IP_HDR);
	good_tcp4(&p, ELSEWHERE4);
	p.bytes[14] = 0x44;
	expect("IPv4, header of 16 bytes", &p, XDP_DROP, COUNT_DROP_BAD_IP_HDR);
	good_tcp4(&p, ELSEWHERE4);
	p.bytes[17] = 19;
	expect("IPv4, total length below the header's", &p, XDP_DROP, COUNT_DROP_BAD_IP_HDR);
	good_tcp4(&p, ELSEWHERE4);
	p.bytes[17]++;
	expect("IPv4, total length beyond the frame", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
	good_tcp4(&p, ELSEWHERE4);
	p.bytes[17] = 39;
	expect("IPv4, too short for TCP", &p, XDP_DROP, COUNT_DROP_BAD_TCP_HDR);
	good_tcp6(&p, ELSEWHERE6);
	p.bytes[14] = 0x40;
	expect("IPv6, version 4", &p, XDP_DROP, COUNT_DROP_BAD_IP_HDR);
	good_tcp6(&p, ELSEWHERE6);
	p.bytes[19]++;
	expect("IPv6, payload beyond the frame", &p, XDP_DROP, COUNT_DROP_TRUNCATED);
	good_tcp6(&p, ELSEWHERE6);
	p.bytes[19] = 19;
	expect("IPv6, too short for TCP", &p, XDP_DROP, COUNT_DROP_BAD_TCP_HDR);
	for (uint8_t doff = 0; doff < 5; doff++) {
		packet_ethernet(&p, 0x0800);
		packet_ipv4(&p, ELSEWHERE4, TCP, 0, 0);
		packet_tcp(&p, doff);
		packet_finish(&p);
		expect("TCP, data offset below 5", &p, XDP_DROP, COUNT_DROP_BAD_TCP_HDR);
	}
	good_tcp6(&p, ELSEWHERE6);
	p.bytes[14 + 40 + 12] = 6 << 4;
	expect("TCP, data offset beyond the packet", &p, XDP_DROP, COUNT_DROP_BAD_TCP_HDR);
}

static int setup(void **state)
{
	struct addr own6 = {{.bytes = {0xfd, 1, [15] = 1}}}, own4 = addr_from_ipv4(be32(0x0a010001));
	uint8_t present = 1;

	(void)state;
	skeleton = socksplice_xdp__open_and_load();
	if (!skeleton)
		return -1;
	bpf_map_update_elem(bpf_map__fd(skeleton->maps.local_addrs), &own4, &present, BPF_ANY);
	bpf_map_update_elem(bpf_map__fd(skeleton->maps.local_addrs), &own6, &present, BPF_ANY);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	socksplice_xdp__destroy(skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_adopted),
		cmocka_unit_test(test_to_elsewhere),
		cmocka_unit_test(test_port_without_socket),
		cmocka_unit_test(test_uplink),
		cmocka_unit_test(test_passed_to_the_kernel),
		cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_udp),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_ipv6_extension_headers),
		cmocka_unit_test(test_truncated_at_each_length),
		cmocka_unit_test(test_bad_headers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("xdp", tests, setup, teardown);
}
