/* SPDX-License-Identifier: MIT */
/*
 * UDP associations by BPF_PROG_RUN, through the tc program and the XDP program: datagram in, verdict, exact packet out,
 * counters, and what the entry then holds. Both directions, both families.
 *
 *     client ---- anywhere        client→anywhere becomes gateway→relay with the header in front of the payload
 *     gateway ---- relay          relay→gateway becomes whoever the header names→client
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "csum.h"
#include "dns_abi.h"
#include "lib_splice.h"
#include "socks_udp.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"
#include "udp_abi.h"

#define INDEX 7
#define MTU 1500
#define MOST 1400

static struct socksplice_tc *tc_skeleton;
static struct socksplice_xdp *xdp_skeleton;
static struct rig tc, xdp;
static struct run run;
static int version;

static struct endpoint endpoint_of(const char *v4, const char *v6, uint16_t port)
{
	struct endpoint out = {.port = be16(port)};

	if (version == 4) {
		out.addr = addr_from_ipv4(0);
		memcpy(out.addr.bytes + 12, v4, 4);
	} else {
		memcpy(out.addr.bytes, "\xfd\x01\0\0\0\0\0\0\0\0\0\0\0\0", 14);
		memcpy(out.addr.bytes + 14, v6, 2);
	}
	return out;
}

static struct endpoint client(void)
{
	return endpoint_of("\x0a\x01\x00\x02", "\x00\x02", 5000);
}

static struct endpoint target(void)
{
	return endpoint_of("\x0a\x09\x00\x01", "\x90\x01", 53);
}

static struct endpoint gateway(void)
{
	return endpoint_of("\x0a\x02\x00\x01", "\x20\x01", 40123);
}

static struct endpoint relay(void)
{
	return endpoint_of("\x0a\x02\x00\x02", "\x20\x02", 1081);
}

static struct build_link link_of(struct endpoint src, struct endpoint dst, const char *src_mac, const char *dst_mac)
{
	struct build_link link = {.src = src, .dst = dst};

	memcpy(link.src_mac, src_mac, 6);
	memcpy(link.dst_mac, dst_mac, 6);
	return link;
}

#define CLIENT_MAC "\x02\0\0\0\0\x02"
#define LAN_MAC "\x02\0\0\0\0\x01"
#define UPLINK_MAC "\x02\0\0\0\xaa\x01"
#define RELAY_MAC "\x02\0\0\0\xaa\x02"

static void fix_ip_checksum(struct packet *p)
{
	uint16_t check;

	if (version != 4)
		return;
	memset(p->bytes + 24, 0, 2);
	check = csum_fold(csum_partial(p->bytes + 14, 20, 0));
	memcpy(p->bytes + 24, &check, 2);
}

static void set_ttl(struct packet *p, uint8_t ttl)
{
	p->bytes[version == 4 ? 22 : 21] = ttl;
	fix_ip_checksum(p);
}

static uint32_t l4_off(void)
{
	return version == 4 ? 34 : 54;
}

/* `header`: SOCKS5 bytes in front of the payload, whose byte i is i * 5 + 1. */
static void build(struct packet *p, const struct build_link *link, const void *header, size_t header_bytes,
		  size_t bytes)
{
	uint8_t buffer[2200], *payload = buffer + 128, *start;

	memcpy(payload, header, header_bytes);
	for (size_t i = 0; i < bytes; i++)
		payload[header_bytes + i] = (uint8_t)(i * 5 + 1);
	bytes += header_bytes;
	start = build_udp(build_udp_header(payload, (uint16_t)bytes, link), (uint16_t)(bytes + 8), link);
	p->len = (size_t)(payload + bytes - start);
	memcpy(p->bytes, start, p->len);
}

static size_t socks_header(uint8_t *out, struct endpoint remote)
{
	return socks_udp_build(out, &remote);
}

/* What the client sends, and what must become of it. */
static void upward(struct packet *in, struct packet *out, size_t bytes)
{
	struct build_link from = link_of(client(), target(), CLIENT_MAC, LAN_MAC);
	struct build_link to = link_of(gateway(), relay(), UPLINK_MAC, RELAY_MAC);
	uint8_t header[22];
	size_t header_bytes = socks_header(header, target());

	build(in, &from, NULL, 0, bytes);
	build(out, &to, header, header_bytes, bytes);
	set_ttl(out, 63);
}

static void downward(struct packet *in, struct packet *out, size_t bytes)
{
	struct build_link from = link_of(relay(), gateway(), RELAY_MAC, UPLINK_MAC);
	struct build_link to = link_of(target(), client(), LAN_MAC, CLIENT_MAC);
	uint8_t header[22];
	size_t header_bytes = socks_header(header, target());

	build(in, &from, header, header_bytes, bytes);
	build(out, &to, NULL, 0, bytes);
	set_ttl(out, 63);
}

static void set_key(struct rig *rig, const struct flow_key *key, uint32_t generation, uint32_t direction)
{
	struct flow_ref ref = {.index = INDEX, .direction = direction & 1};

	ref.generation = generation & FLOW_GENERATION_MASK;
	assert_int_equal(bpf_map_update_elem(rig_map(rig, "udp_keys"), key, &ref, BPF_ANY), 0);
}

static struct flow_key client_key(void)
{
	return (struct flow_key){.src = client().addr, .sport = client().port, .dport = UDP_KEY_ANY};
}

static struct flow_key relay_key(void)
{
	return (struct flow_key){
		.src = relay().addr, .dst = gateway().addr, .sport = relay().port, .dport = gateway().port};
}

static void set_entry(struct rig *rig, uint32_t mtu_up, uint32_t mtu_down)
{
	struct udp_assoc entry = {.generation = TEST_GENERATION, .upstream_ifindex = TEST_IFINDEX};
	struct udp_way *up = &entry.way[FLOW_UP], *down = &entry.way[FLOW_DOWN];
	uint32_t index = INDEX;

	up->src = gateway().addr;
	up->sport = gateway().port;
	up->dst = relay().addr;
	up->dport = relay().port;
	down->dst = client().addr;
	down->dport = client().port;
	up->ifindex = down->ifindex = test_veth();
	up->mtu = mtu_up;
	down->mtu = mtu_down;
	up->mac_valid = down->mac_valid = 1;
	memcpy(up->smac, UPLINK_MAC, 6);
	memcpy(up->dmac, RELAY_MAC, 6);
	memcpy(down->smac, LAN_MAC, 6);
	memcpy(down->dmac, CLIENT_MAC, 6);
	assert_int_equal(bpf_map_update_elem(rig_map(rig, "udp_assocs"), &index, &entry, BPF_ANY), 0);
}

static struct udp_assoc get_entry(struct rig *rig)
{
	struct udp_assoc entry;
	uint32_t index = INDEX;

	assert_int_equal(bpf_map_lookup_elem(rig_map(rig, "udp_assocs"), &index, &entry), 0);
	return entry;
}

static void fresh(struct rig *rig, int family)
{
	struct flow_key up, down;

	version = family;
	up = client_key();
	down = relay_key();
	rig_configure(rig, CFG_ON_DOWN_DROP);
	rig_set_port(rig, CFG_PORT_LAN | CFG_PORT_UPLINK);
	set_entry(rig, MTU, MTU);
	set_key(rig, &up, TEST_GENERATION, FLOW_UP);
	set_key(rig, &down, TEST_GENERATION, FLOW_DOWN);
}

static const char *program_of(const struct rig *rig)
{
	return rig->is_xdp ? "socksplice_xdp" : "socksplice_tc";
}

static bool checksum_good(const struct packet *p)
{
	const uint8_t *uh = p->bytes + l4_off();
	struct addr src = {.words = {0}}, dst = {.words = {0}};
	uint32_t bytes = (uint32_t)(uh[4] << 8 | uh[5]), sum;

	if (version == 4) {
		src = addr_from_ipv4(*(const __be32 *)(const void *)(p->bytes + 26));
		dst = addr_from_ipv4(*(const __be32 *)(const void *)(p->bytes + 30));
	} else {
		memcpy(&src, p->bytes + 22, 16);
		memcpy(&dst, p->bytes + 38, 16);
	}
	sum = csum_pseudo(&src, &dst, IPPROTO_UDP, bytes);
	return csum_fold(csum_partial(uh, bytes, sum)) == 0;
}

/* Sent on, and exactly so. The UDP checksum counts as equal if it is right: 0 and 0xffff are the same sum. */
static void expect_sent(struct rig *rig, const char *what, const struct packet *in, struct packet *wanted,
			const struct arrival *arrival)
{
	bool has_checksum = wanted->bytes[l4_off() + 6] || wanted->bytes[l4_off() + 7];

	rig_run(rig, program_of(rig), in, arrival, &run);
	if (run.verdict != (rig->is_xdp ? (uint32_t)XDP_REDIRECT : TC_REDIRECTED))
		fail_msg("%s, IPv%d, %s: verdict %u", what, version, program_of(rig), run.verdict);
	ASSERT_COUNTED(what, &run, rig->is_xdp ? COUNT_UDP_XDP : COUNT_UDP_TC);
	/* behind tc the kernel fills in the Ethernet addresses */
	if (!rig->is_xdp)
		memcpy(wanted->bytes, run.out.bytes, 12);
	if (has_checksum && !checksum_good(&run.out))
		fail_msg("%s, IPv%d, %s: a wrong checksum", what, version, program_of(rig));
	if (has_checksum)
		memcpy(wanted->bytes + l4_off() + 6, run.out.bytes + l4_off() + 6, 2);
	if (run.out.len != wanted->len)
		fail_msg("%s, IPv%d, %s: %zu bytes, wanted %zu", what, version, program_of(rig), run.out.len,
			 wanted->len);
	for (size_t i = 0; i < wanted->len; i++)
		if (run.out.bytes[i] != wanted->bytes[i])
			fail_msg("%s, IPv%d, %s: byte %zu is 0x%02x, wanted 0x%02x", what, version, program_of(rig), i,
				 run.out.bytes[i], wanted->bytes[i]);
}

/* Not taken, as it came; `counter` alone moves. */
static void expect_left(struct rig *rig, const char *what, const struct packet *in, uint32_t xdp_verdict,
			uint32_t tc_verdict, enum packet_counter counter)
{
	rig_run(rig, program_of(rig), in, NULL, &run);
	if (run.verdict != (rig->is_xdp ? xdp_verdict : tc_verdict))
		fail_msg("%s, IPv%d, %s: verdict %u", what, version, program_of(rig), run.verdict);
	ASSERT_COUNTED(what, &run, counter);
	if (run.out.len != in->len || memcmp(run.out.bytes, in->bytes, in->len) != 0)
		fail_msg("%s, IPv%d, %s: it was changed", what, version, program_of(rig));
}

/* No socket is bound, no TAP there: what is for user space meets `on-down`. */
static void expect_user(struct rig *rig, const char *what, const struct packet *in)
{
	expect_left(rig, what, in, XDP_DROP, TC_DROP, COUNT_DROP_NO_SOCKET);
}

static void expect_upstream_socket(struct rig *rig, const char *what, const struct packet *in)
{
	expect_left(rig, what, in, XDP_PASS, TC_PASS, COUNT_PASS_UPSTREAM);
}

#define FOR_EACH_CASE(rig)                                                                                             \
	for (struct rig *rig = &tc; rig; rig = rig == &tc ? &xdp : NULL)                                               \
		for (fresh(rig, 4); version; version == 4 ? fresh(rig, 6) : (void)(version = 0))

static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 10, 11, 64, 999, 1000, MOST};

static void test_both_ways(void **state)
{
	struct packet in, out;

	(void)state;
	FOR_EACH_CASE(rig)
	{
		uint64_t bytes = 0;

		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			upward(&in, &out, sizes[i]);
			expect_sent(rig, "up", &in, &out, NULL);
			downward(&in, &out, sizes[i]);
			expect_sent(rig, "down", &in, &out, NULL);
			bytes += sizes[i];
		}
		for (int way = 0; way < 2; way++) {
			struct udp_assoc entry = get_entry(rig);

			assert_int_equal(entry.way[way].packets, ARRAY_SIZE(sizes));
			assert_int_equal(entry.way[way].payload_bytes, bytes);
			assert_true(entry.way[way].last_ns > 0);
			assert_int_equal(entry.way[way].mac_valid, 1);
		}
	}
}

/*
 * What a NIC has summed up itself: a change of length ends that (bpf_skb_change_tail()). With as much padding as the
 * header takes the length stays, and the kernel compares its sum with the packet that comes out.
 */
static void test_complete_checksum(void **state)
{
	const struct arrival arrival = {.complete_checksum = true};
	struct packet in, out;

	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		fresh(&tc, family);
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			upward(&in, &out, sizes[i]);
			for (; in.len < out.len; in.len++)
				in.bytes[in.len] = (uint8_t)(in.len * 7);
			expect_sent(&tc, "up, complete checksum", &in, &out, &arrival);
		}
	}
}

/* RFC 768: none stays none. */
static void test_no_checksum(void **state)
{
	struct packet in, out;

	(void)state;
	for (struct rig *rig = &tc; rig; rig = rig == &tc ? &xdp : NULL) {
		fresh(rig, 4);
		upward(&in, &out, 33);
		memset(in.bytes + l4_off() + 6, 0, 2);
		memset(out.bytes + l4_off() + 6, 0, 2);
		expect_sent(rig, "up without a checksum", &in, &out, NULL);
		downward(&in, &out, 33);
		memset(in.bytes + l4_off() + 6, 0, 2);
		memset(out.bytes + l4_off() + 6, 0, 2);
		expect_sent(rig, "down without a checksum", &in, &out, NULL);
	}
}

/* Short frames are padded on the wire: that is no payload. */
static void test_padding(void **state)
{
	struct packet in, out;

	(void)state;
	FOR_EACH_CASE(rig)
	{
		size_t len;

		upward(&in, &out, 3);
		len = in.len;
		memset(in.bytes + len, 0, 40);
		in.len = len + 25;
		rig_run(rig, program_of(rig), &in, NULL, &run);
		/* XDP leaves what is behind the packet where it is */
		assert_true(run.out.len == out.len + (rig->is_xdp ? 25 : 0));
		assert_memory_equal(run.out.bytes + 12, out.bytes + 12, l4_off() - 12 + 6);
		assert_memory_equal(run.out.bytes + l4_off() + 8, out.bytes + l4_off() + 8, out.len - l4_off() - 8);
		assert_true(checksum_good(&run.out));
	}
}

static void test_any_sender(void **state)
{
	(void)state;
	FOR_EACH_CASE(rig)
	{
		struct endpoint other = endpoint_of("\xcb\x00\x71\x09", "\x77\x09", 999);
		struct build_link from = link_of(relay(), gateway(), RELAY_MAC, UPLINK_MAC);
		struct build_link to = link_of(other, client(), LAN_MAC, CLIENT_MAC);
		struct packet in, out;
		uint8_t header[22];

		build(&in, &from, header, socks_header(header, other), 20);
		build(&out, &to, NULL, 0, 20);
		set_ttl(&out, 63);
		expect_sent(rig, "from an address never contacted", &in, &out, NULL);
	}
}

static void test_mtu(void **state)
{
	struct packet in, out;

	(void)state;
	FOR_EACH_CASE(rig)
	{
		upward(&in, &out, 500);
		set_entry(rig, (uint32_t)out.len - 14, MTU);
		expect_sent(rig, "up, as large as the MTU", &in, &out, NULL);
		upward(&in, &out, 501);
		expect_user(rig, "up, larger than the MTU", &in);
		downward(&in, &out, 500);
		set_entry(rig, MTU, (uint32_t)out.len - 14);
		expect_sent(rig, "down, as large as the MTU", &in, &out, NULL);
		downward(&in, &out, 501);
		expect_upstream_socket(rig, "down, larger than the MTU", &in);
	}
}

/* What the SOCKS5 header may say that is not for the kernel. */
static void test_odd_headers(void **state)
{
	(void)state;
	FOR_EACH_CASE(rig)
	{
		struct build_link from = link_of(relay(), gateway(), RELAY_MAC, UPLINK_MAC);
		uint8_t header[22];
		size_t bytes = socks_header(header, target());
		struct packet in;

		header[2] = 1;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "FRAG 1", &in);
		header[2] = 0;
		header[0] = 1;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "RSV not 0", &in);
		header[0] = 0;
		header[3] = 3;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "a name", &in);
		header[3] = version == 4 ? 4 : 1;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "the other family", &in);
		bytes = socks_header(header, target());
		build(&in, &from, header, bytes - 1, 0);
		expect_upstream_socket(rig, "cut off", &in);
		memset(header + bytes - 2, 0, 2);
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "port 0", &in);
		bytes = socks_header(header, target());
		header[4] = version == 4 ? 224 : 0xff;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "from multicast", &in);
		header[4] = version == 4 ? 127 : 0xfe;
		header[5] = 0x80;
		build(&in, &from, header, bytes, 40);
		expect_upstream_socket(rig, "from loopback, or link-local", &in);
	}
}

static void test_not_ours(void **state)
{
	struct packet in, out;

	(void)state;
	FOR_EACH_CASE(rig)
	{
		struct flow_key key = client_key();

		upward(&in, &out, 20);
		set_ttl(&in, 1);
		expect_user(rig, "up, TTL 1", &in);
		downward(&in, &out, 20);
		set_ttl(&in, 1);
		expect_upstream_socket(rig, "down, TTL 1", &in);
		/* another port of the client has no association */
		upward(&in, &out, 20);
		in.bytes[l4_off() + 1] ^= 1;
		expect_user(rig, "another source port", &in);
		/* one that another rule's upstream has is not this one */
		assert_int_equal(bpf_map_delete_elem(rig_map(rig, "udp_keys"), &key), 0);
		key.dport = 2;
		set_key(rig, &key, TEST_GENERATION, FLOW_UP);
		upward(&in, &out, 20);
		expect_user(rig, "an association by another upstream", &in);
		assert_int_equal(bpf_map_delete_elem(rig_map(rig, "udp_keys"), &key), 0);
		key.dport = UDP_KEY_ANY;
		set_key(rig, &key, TEST_GENERATION, FLOW_UP);
		/* the relay's datagram by another interface */
		downward(&in, &out, 20);
		rig_set_port(rig, CFG_PORT_LAN);
		expect_user(rig, "a relay's datagram from the LAN", &in);
		rig_set_port(rig, CFG_PORT_LAN | CFG_PORT_UPLINK);
	}
}

static void test_stale(void **state)
{
	struct packet in, out;

	(void)state;
	FOR_EACH_CASE(rig)
	{
		struct flow_key key = client_key();

		set_key(rig, &key, TEST_GENERATION - 1, FLOW_UP);
		upward(&in, &out, 20);
		rig_run(rig, program_of(rig), &in, NULL, &run);
		ASSERT_COUNTED("a stale key", &run, COUNT_STALE_KEYS, COUNT_DROP_NO_SOCKET);
		set_key(rig, &key, TEST_GENERATION, FLOW_UP);
	}
}

static void test_gso(void **state)
{
	const struct arrival arrival = {.gso_segs = 2, .gso_size = 100};
	struct packet in, out;

	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		fresh(&tc, family);
		upward(&in, &out, 200);
		rig_run(&tc, "socksplice_tc", &in, &arrival, &run);
		ASSERT_COUNTED("a row of datagrams, up", &run, COUNT_DROP_NO_SOCKET);
		downward(&in, &out, 200);
		rig_run(&tc, "socksplice_tc", &in, &arrival, &run);
		ASSERT_COUNTED("a row of datagrams, down", &run, COUNT_PASS_UPSTREAM);
	}
}

/* What XDP cannot do itself, tc does. */
static void test_xdp_leaves_to_tc(void **state)
{
	struct packet in, out, tagged;

	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		uint32_t index = INDEX;
		struct udp_assoc entry;

		fresh(&xdp, family);
		upward(&in, &out, 50);
		tagged.len = in.len + 4;
		memcpy(tagged.bytes, in.bytes, 12);
		memcpy(tagged.bytes + 12, "\x81\x00\x00\x05", 4);
		memcpy(tagged.bytes + 16, in.bytes + 12, in.len - 12);
		expect_left(&xdp, "a VLAN tag", &tagged, XDP_PASS, 0, COUNT_PASS_TO_TC);
		entry = get_entry(&xdp);
		entry.way[FLOW_UP].mac_valid = 0;
		assert_int_equal(bpf_map_update_elem(rig_map(&xdp, "udp_assocs"), &index, &entry, BPF_ANY), 0);
		expect_left(&xdp, "no next hop", &in, XDP_PASS, 0, COUNT_PASS_TO_TC);
		set_entry(&xdp, MTU, MTU);
		/* the client's host has another address: answers must not go to the old one */
		in.bytes[11] ^= 1;
		rig_run(&xdp, "socksplice_xdp", &in, NULL, &run);
		ASSERT_COUNTED("the client has moved", &run, COUNT_UDP_XDP, COUNT_MAC_CHANGES);
		downward(&in, &out, 50);
		expect_left(&xdp, "no way to the client", &in, XDP_PASS, 0, COUNT_PASS_TO_TC);
		/* a local sender's partial checksum */
		set_entry(&xdp, MTU, MTU);
		rig_set_port(&xdp, CFG_PORT_LAN | CFG_PORT_UPLINK | CFG_PORT_VIRTUAL);
		upward(&in, &out, 50);
		{
			struct endpoint src = client(), dst = target();
			uint16_t partial = csum_fold_sum(csum_pseudo(&src.addr, &dst.addr, IPPROTO_UDP, 58));

			memcpy(in.bytes + l4_off() + 6, &partial, 2);
		}
		expect_left(&xdp, "a partial checksum", &in, XDP_PASS, 0, COUNT_PASS_TO_TC);
	}
}

static void test_random(void **state)
{
	struct packet in, out;

	(void)state;
	srandom(20260101);
	FOR_EACH_CASE(rig)
	{
		for (int i = 0; i < 500; i++) {
			size_t bytes = (size_t)random() % (MOST + 1);

			if (random() & 1)
				upward(&in, &out, bytes);
			else
				downward(&in, &out, bytes);
			expect_sent(rig, "random", &in, &out, NULL);
		}
	}
}

static void set_dns(struct rig *rig, const struct bpf_dns *settings)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(rig_map(rig, "dns"), &zero, settings, BPF_ANY), 0);
}

/* Where the target's address is a fake one, or the target is asked for names, the kernel must not tell a relay of it.
 */
static void expect_names_not_carried(struct rig *rig)
{
	const struct bpf_dns off = {.flags = 0};
	struct bpf_dns settings = {.flags = DNS_FLAG_ON | DNS_FLAG_HIJACK};
	struct direct_key key = {.destination = target().addr, .client_mac = CLIENT_MAC};
	struct direct_value forever = {.until_ns = UINT64_MAX / 2};
	struct packet in, out;

	upward(&in, &out, 100);
	set_dns(rig, &settings);
	expect_user(rig, "a query", &in);
	settings.flags = DNS_FLAG_ON;
	settings.listen = target();
	set_dns(rig, &settings);
	expect_user(rig, "a query to `listen`", &in);
	settings = (struct bpf_dns){.flags = DNS_FLAG_ON,
				    .fake4 = target().addr.words[3],
				    .fake4_mask = ~0u,
				    .fake6 = target().addr,
				    .fake6_mask = {.words = {~0u, ~0u, ~0u, ~0u}}};
	set_dns(rig, &settings);
	expect_user(rig, "a fake address", &in);
	settings.fake4 ^= be32(1);
	settings.fake6.words[3] ^= be32(1);
	set_dns(rig, &settings);
	assert_int_equal(bpf_map_update_elem(rig_map(rig, "direct_addrs"), &key, &forever, BPF_ANY), 0);
	rig_run(rig, program_of(rig), &in, NULL, &run);
	if (run.verdict != (rig->is_xdp ? (uint32_t)XDP_PASS : TC_PASS))
		fail_msg("direct, IPv%d, %s: verdict %u", version, program_of(rig), run.verdict);
	assert_int_equal(bpf_map_delete_elem(rig_map(rig, "direct_addrs"), &key), 0);
	expect_sent(rig, "neither", &in, &out, NULL);
	set_dns(rig, &off);
}

static void test_names(void **state)
{
	(void)state;
	FOR_EACH_CASE(rig)
	{
		/* behind XDP, and alone */
		expect_names_not_carried(rig);
		rig_set_port(rig, CFG_PORT_LAN | CFG_PORT_TAP);
		expect_names_not_carried(rig);
	}
}

static int setup(void **state)
{
	uint32_t ifindex;

	(void)state;
	test_namespace();
	tc_skeleton = socksplice_tc__open();
	xdp_skeleton = socksplice_xdp__open();
	if (!tc_skeleton || !xdp_skeleton || rig_load(&tc, tc_skeleton->obj) || rig_load(&xdp, xdp_skeleton->obj))
		return -1;
	ifindex = test_veth();
	return bpf_map_update_elem(rig_map(&xdp, "devices"), &ifindex, &ifindex, BPF_ANY);
}

static int teardown(void **state)
{
	(void)state;
	rig_unload(&tc);
	rig_unload(&xdp);
	socksplice_tc__destroy(tc_skeleton);
	socksplice_xdp__destroy(xdp_skeleton);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_complete_checksum),
		cmocka_unit_test(test_no_checksum),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_any_sender),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_odd_headers),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_gso),
		cmocka_unit_test(test_xdp_leaves_to_tc),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("udpencap", tests, setup, teardown);
}
