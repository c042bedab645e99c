/* SPDX-License-Identifier: MIT */
/*
 * What the tests of spliced flows share: one flow of each family in the maps of a loaded object, whole TCP and ICMP
 * packets from a description, and one run of a program with all that it changed.
 *
 *     client ---- target (as the client sees it)
 *     gateway ---- upstream (as the upstream sees it)
 *
 * FLOW_UP: client→target becomes gateway→upstream. FLOW_DOWN: upstream→gateway becomes target→client.
 */
#ifndef SOCKSPLICE_TEST_SPLICE_H
#define SOCKSPLICE_TEST_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "cfg_abi.h"
#include "flow_abi.h"
#include "lib_packet.h"
#include "stats_abi.h"

struct bpf_object;
struct bpf_program;
struct ring_buffer;

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define ECE 0x40
#define CWR 0x80

#define TC_PASS 0xffffffffu /* TC_ACT_UNSPEC */
#define TC_DROP 2
#define TC_REDIRECTED 7

/* Entry of `flows` and generation of the flow of each family; TEST_IFINDEX (lo) is where packets arrive. */
#define FLOW_OF(version) ((version) == 4 ? 3u : 6u)
#define TEST_GENERATION 77
#define TEST_IFINDEX 1

#define CLIENT_ISN 0x1000
#define HOLD 0x70000000u

/* The constants of a filled flow. Upward; downward they are undone. */
#define SEQ_ADD 0x10000001u
#define ACK_ADD 0x20000002u
#define TSVAL_ADD 0x01010101u
#define TSECR_ADD 0x02020202u

struct flow_ends {
	struct endpoint client, target, gateway, upstream;
};

const struct flow_ends *flow_ends(int version);

/* A TCP segment as a test describes it. Option bytes: a multiple of 4. */
struct segment {
	struct endpoint src, dst;
	uint32_t seq, ack;
	uint16_t window, payload_bytes;
	uint8_t version, flags, ttl, option_bytes;
	uint8_t options[40];
};

/* As it arrives at the gateway, or leaves it rewritten: addresses, ports, TTL 64, and a window. */
struct segment segment_arriving(int version, int direction);
struct segment segment_leaving(int version, int direction);
void segment_options(struct segment *s, const void *bytes, size_t count);
/* With right checksums and a payload that is not all zero. */
void segment_build(struct packet *p, const struct segment *s);

/* An ICMP message of `version` around the first `quoted` bytes of the IP packet that `inner` describes. */
struct icmp_message {
	struct addr src, dst;
	uint32_t rest; /* of the header, host order */
	uint8_t version, type, code, ttl;
};

void icmp_build(struct packet *p, const struct icmp_message *m, const struct packet *inner, size_t quoted);

/* Checksums of the IP header and of TCP, ICMP, ICMPv6 over the whole packet. */
void packet_set_checksums(struct packet *p);
bool packet_checksums_good(const struct packet *p);
/* The same bytes, where checksums count as equal if both are good. */
void packet_assert_equal(const char *what, const struct packet *got, const struct packet *wanted);

/* One's complement sums of the words that go and come. */
uint32_t checksum_difference(const void *old, const void *new, size_t bytes);

/* An object in the kernel and its maps. */
struct rig {
	struct bpf_object *object;
	struct ring_buffer *ring;
	struct flow_entry *flows; /* mapped */
	size_t flows_bytes;
	struct flow_report reports[8]; /* of the run that was last */
	size_t report_count;
	bool is_xdp;
};

/* What a program made of a packet. */
struct run {
	struct packet out;
	uint64_t moved[PACKET_COUNTER_COUNT];
	uint32_t verdict;
};

/* How a packet comes in, where a test wants it otherwise than usual. */
struct arrival {
	uint32_t ingress_ifindex, gso_segs, gso_size;
	bool complete_checksum; /* the kernel compares the sk_buff's sum afterwards; tc only */
};

/* A network namespace of this process's own, with lo and the veth pair of test_veth(). */
void test_namespace(void);
uint32_t test_veth(void);

/* Loads `object` with small tables. 0, or -1. */
int rig_load(struct rig *rig, struct bpf_object *object);
void rig_unload(struct rig *rig);
void rig_configure(struct rig *rig, uint32_t on_down);
void rig_set_port(struct rig *rig, uint32_t flags);
int rig_map(const struct rig *rig, const char *name);

/* Both keys and a fresh entry with the constants above. */
struct flow_entry *rig_flow(struct rig *rig, int version, enum flow_phase phase);
struct flow_entry *rig_entry(struct rig *rig, int version);
void rig_set_keys(struct rig *rig, int version, uint32_t generation);

void rig_run(struct rig *rig, const char *program, const struct packet *p, const struct arrival *arrival,
	     struct run *run);
/* Exactly these counters moved by one: `counters` ends with COUNT_END. */
#define COUNT_END PACKET_COUNTER_COUNT
void run_assert_counters(const char *what, const struct run *run, const enum packet_counter *counters);
#define ASSERT_COUNTED(what, run, ...)                                                                                 \
	run_assert_counters(what, run, (const enum packet_counter[]){__VA_ARGS__, COUNT_END})
#define ASSERT_NOT_COUNTED(what, run) run_assert_counters(what, run, (const enum packet_counter[]){COUNT_END})

#endif
