/* SPDX-License-Identifier: MIT */
#include "lib_splice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TCP 6
#define ICMP 1
#define ICMPV6 58
#define FLOWS 8

static const char *const counter_names[] = {
#define X(name, text) [COUNT_##name] = #text,
	PACKET_VERDICTS(X) FLOW_EVENTS(X)
#undef X
#define X(name, text) [COUNT_DROP_##name] = "drop_" #text,
		DROP_REASONS(X)
#undef X
};

/* --- addresses ---------------------------------------------------------------- */

/* clang-format off */
#define V4(a, b, c, d) {.bytes = {[10] = 0xff, 0xff, a, b, c, d}}
#define V6(a, b, last) {.bytes = {a, b, 0x12, 0x34, [8] = 0xab, [15] = last}}

const struct flow_ends *flow_ends(int version)
{
	static const struct flow_ends ipv4 = {
		.client = {V4(10, 1, 0, 2), be16(40000), 0},
		.target = {V4(198, 51, 100, 7), be16(443), 0},
		.gateway = {V4(10, 2, 0, 1), be16(50001), 0},
		.upstream = {V4(203, 0, 113, 99), be16(1080), 0},
	};
	static const struct flow_ends ipv6 = {
		.client = {V6(0xfd, 1, 2), be16(40002), 0},
		.target = {V6(0x20, 1, 7), be16(8443), 0},
		.gateway = {V6(0xfd, 2, 1), be16(50003), 0},
		.upstream = {V6(0x2a, 3, 99), be16(1081), 0},
	};

	return version == 4 ? &ipv4 : &ipv6;
}
/* clang-format on */

static struct segment segment_between(int version, struct endpoint src, struct endpoint dst)
{
	return (struct segment){
		.src = src, .dst = dst, .version = (uint8_t)version, .flags = ACK, .ttl = 64, .window = 500};
}

struct segment segment_arriving(int version, int direction)
{
	const struct flow_ends *ends = flow_ends(version);

	return direction == FLOW_UP ? segment_between(version, ends->client, ends->target)
				    : segment_between(version, ends->upstream, ends->gateway);
}

struct segment segment_leaving(int version, int direction)
{
	const struct flow_ends *ends = flow_ends(version);

	return direction == FLOW_UP ? segment_between(version, ends->gateway, ends->upstream)
				    : segment_between(version, ends->target, ends->client);
}

/* --- checksums ---------------------------------------------------------------- */

static uint32_t sum_words(uint32_t sum, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* In the order of memory, as the programs add. */
uint32_t checksum_difference(const void *old, const void *new, size_t bytes)
{
	uint32_t sum = 0;
	uint16_t gone, come;

	for (size_t i = 0; i < bytes; i += 2) {
		memcpy(&gone, (const uint8_t *)old + i, 2);
		memcpy(&come, (const uint8_t *)new + i, 2);
		sum += (uint32_t)(uint16_t)~gone + come;
	}
	return sum;
}

struct layers {
	size_t l4, l4_bytes, check; /* check: offset of the L4 checksum, 0: has none that is known */
	uint32_t pseudo;
	uint8_t protocol;
};

static struct layers packet_layers(const struct packet *p)
{
	const uint8_t *ip = p->bytes + 14;
	struct layers l = {0};
	bool v4 = ip[0] >> 4 == 4;

	l.l4 = 14 + (v4 ? (ip[0] & 15u) * 4u : 40u);
	l.protocol = v4 ? ip[9] : ip[6];
	l.l4_bytes = v4 ? (size_t)(ip[2] << 8 | ip[3]) - (l.l4 - 14) : (size_t)(ip[4] << 8 | ip[5]);
	if (l.protocol == TCP)
		l.check = l.l4 + 16;
	else if (l.protocol == ICMP || l.protocol == ICMPV6)
		l.check = l.l4 + 2;
	if (l.protocol != ICMP)
		l.pseudo = sum_words((uint32_t)l.l4_bytes + l.protocol, ip + (v4 ? 12 : 8), v4 ? 8 : 32);
	return l;
}

static void put_checksum(uint8_t *at, uint32_t sum)
{
	at[0] = (uint8_t)(~sum >> 8);
	at[1] = (uint8_t)~sum;
}

void packet_set_checksums(struct packet *p)
{
	struct layers l = packet_layers(p);

	if (p->bytes[14] >> 4 == 4) {
		put_checksum(p->bytes + 24, 0xffff);
		put_checksum(p->bytes + 24, sum_words(0, p->bytes + 14, l.l4 - 14));
	}
	if (!l.check)
		return;
	put_checksum(p->bytes + l.check, 0xffff);
	put_checksum(p->bytes + l.check, sum_words(l.pseudo, p->bytes + l.l4, l.l4_bytes));
}

bool packet_checksums_good(const struct packet *p)
{
	struct layers l = packet_layers(p);

	if (p->bytes[14] >> 4 == 4 && sum_words(0, p->bytes + 14, l.l4 - 14) != 0xffff)
		return false;
	return !l.check || sum_words(l.pseudo, p->bytes + l.l4, l.l4_bytes) == 0xffff;
}

void packet_assert_equal(const char *what, const struct packet *got, const struct packet *wanted)
{
	struct packet a = *got, b = *wanted;

	if (a.len != b.len)
		fail_msg("%s: %zu bytes came out, %zu were wanted", what, a.len, b.len);
	/* 0 and 0xffff are the same sum */
	if (packet_checksums_good(&a) && packet_checksums_good(&b)) {
		packet_set_checksums(&a);
		packet_set_checksums(&b);
	}
	for (size_t i = 0; i < a.len; i++)
		if (a.bytes[i] != b.bytes[i])
			fail_msg("%s: byte %zu is 0x%02x, 0x%02x was wanted", what, i, a.bytes[i], b.bytes[i]);
}

/* --- packets ------------------------------------------------------------------ */

static void put(struct packet *p, const void *bytes, size_t count)
{
	assert_true(p->len + count <= sizeof(p->bytes));
	memcpy(p->bytes + p->len, bytes, count);
	p->len += count;
}

static void put_network(struct packet *p, int version, const struct addr *src, const struct addr *dst, uint8_t protocol,
			uint8_t ttl)
{
	uint8_t ipv4[20] = {0x45, 0x08, 0, 0, 0x12, 0x34, 0x40, 0, ttl, protocol};
	uint8_t ipv6[8] = {0x60, 0x85, 0x43, 0x21, 0, 0, protocol, ttl};

	packet_ethernet(p, version == 4 ? 0x0800 : 0x86dd);
	if (version == 4) {
		memcpy(ipv4 + 12, src->bytes + 12, 4);
		memcpy(ipv4 + 16, dst->bytes + 12, 4);
		put(p, ipv4, sizeof(ipv4));
		return;
	}
	put(p, ipv6, sizeof(ipv6));
	put(p, src, 16);
	put(p, dst, 16);
}

void segment_options(struct segment *s, const void *bytes, size_t count)
{
	assert_true(count <= sizeof(s->options) && count % 4 == 0);
	memcpy(s->options, bytes, count);
	s->option_bytes = (uint8_t)count;
}

void segment_build(struct packet *p, const struct segment *s)
{
	__be32 seq = be32(s->seq), ack = be32(s->ack);
	__be16 window = be16(s->window);
	uint8_t doff_flags[2] = {(uint8_t)((5 + s->option_bytes / 4) << 4), s->flags};

	assert_true(s->option_bytes % 4 == 0);
	put_network(p, s->version, &s->src.addr, &s->dst.addr, TCP, s->ttl);
	put(p, &s->src.port, 2);
	put(p, &s->dst.port, 2);
	put(p, &seq, 4);
	put(p, &ack, 4);
	put(p, doff_flags, 2);
	put(p, &window, 2);
	put(p, "\0\0\0\0", 4);
	put(p, s->options, s->option_bytes);
	for (int i = 0; i < s->payload_bytes; i++)
		put(p, &(uint8_t){(uint8_t)(i * 37 + 11)}, 1);
	packet_finish(p);
	packet_set_checksums(p);
}

void icmp_build(struct packet *p, const struct icmp_message *m, const struct packet *inner, size_t quoted)
{
	__be32 rest = be32(m->rest);

	put_network(p, m->version, &m->src, &m->dst, m->version == 4 ? ICMP : ICMPV6, m->ttl);
	put(p, (uint8_t[]){m->type, m->code, 0, 0}, 4);
	put(p, &rest, 4);
	put(p, inner->bytes + 14, quoted);
	packet_finish(p);
	packet_set_checksums(p);
}

/* --- objects and maps ---------------------------------------------------------- */

void test_namespace(void)
{
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	/* NOLINTNEXTLINE(cert-env33-c): a test, with constant commands */
	assert_int_equal(system("ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v0 up"), 0);
	assert_int_equal(if_nametoindex("lo"), TEST_IFINDEX);
}

uint32_t test_veth(void)
{
	return if_nametoindex("v0");
}

int rig_map(const struct rig *rig, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(rig->object, name);

	assert_true(fd >= 0);
	return fd;
}

static int on_report(void *context, void *data, size_t bytes)
{
	struct rig *rig = context;

	assert_int_equal(bytes, sizeof(struct flow_report));
	assert_true(rig->report_count < ARRAY_SIZE(rig->reports));
	memcpy(&rig->reports[rig->report_count++], data, bytes);
	return 0;
}

int rig_load(struct rig *rig, struct bpf_object *object)
{
	*rig = (struct rig){.object = object, .flows_bytes = FLOWS * sizeof(struct flow_entry)};
	bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "flows"), FLOWS);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "flow_keys"), FLOWS * FLOW_KEYS_PER_ENTRY);
	if (bpf_object__load(object))
		return -1;
	rig->is_xdp = bpf_object__find_program_by_name(object, "socksplice_xdp");
	rig->flows = mmap(NULL, rig->flows_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig_map(rig, "flows"), 0);
	if (rig->flows == MAP_FAILED)
		return -1;
	rig->ring = ring_buffer__new(rig_map(rig, "reports"), on_report, rig, NULL);
	return rig->ring ? 0 : -1;
}

void rig_unload(struct rig *rig)
{
	ring_buffer__free(rig->ring);
	munmap(rig->flows, rig->flows_bytes);
}

void rig_configure(struct rig *rig, uint32_t on_down)
{
	struct bpf_cfg cfg = {.abi_version = CFG_ABI_VERSION, .on_down = on_down, .icmp = CFG_ICMP_PASS};
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(rig_map(rig, "cfg"), &zero, &cfg, BPF_ANY), 0);
}

void rig_set_port(struct rig *rig, uint32_t flags)
{
	struct bpf_port port = {.flags = flags};
	uint32_t ifindex = TEST_IFINDEX;

	assert_int_equal(bpf_map_update_elem(rig_map(rig, "ports"), &ifindex, &port, BPF_ANY), 0);
}

struct flow_entry *rig_entry(struct rig *rig, int version)
{
	return &rig->flows[FLOW_OF(version)];
}

void rig_set_keys(struct rig *rig, int version, uint32_t generation)
{
	for (int direction = FLOW_UP; direction <= FLOW_DOWN; direction++) {
		struct segment s = segment_arriving(version, direction);
		struct flow_key key = {.src = s.src.addr, .dst = s.dst.addr, .sport = s.src.port, .dport = s.dst.port};
		struct flow_ref ref = {.index = FLOW_OF(version), .direction = (uint32_t)direction};

		ref.generation = generation & FLOW_GENERATION_MASK;
		assert_int_equal(bpf_map_update_elem(rig_map(rig, "flow_keys"), &key, &ref, BPF_ANY), 0);
	}
}

static void fill_half(struct flow_half *half, int version, int direction)
{
	struct segment arriving = segment_arriving(version, direction), leaving = segment_leaving(version, direction);
	bool up = direction == FLOW_UP;

	half->src = leaving.src.addr;
	half->dst = leaving.dst.addr;
	half->sport = leaving.src.port;
	half->dport = leaving.dst.port;
	half->ifindex = test_veth();
	half->seq_add = up ? SEQ_ADD : -ACK_ADD;
	half->ack_add = up ? ACK_ADD : -SEQ_ADD;
	half->tsval_add = up ? TSVAL_ADD : -TSECR_ADD;
	half->tsecr_add = up ? TSECR_ADD : -TSVAL_ADD;
	half->l3_diff = checksum_difference(&arriving.src.addr, &leaving.src.addr, 16) +
			checksum_difference(&arriving.dst.addr, &leaving.dst.addr, 16);
	half->l4_diff = checksum_difference(&arriving.src.port, &leaving.src.port, 2) +
			checksum_difference(&arriving.dst.port, &leaving.dst.port, 2);
	memcpy(half->dmac, up ? "\x02\0\0\0\xaa\x02" : "\x02\0\0\0\0\x02", 6);
	memcpy(half->smac, up ? "\x02\0\0\0\xaa\x01" : "\x02\0\0\0\0\x01", 6);
}

struct flow_entry *rig_flow(struct rig *rig, int version, enum flow_phase phase)
{
	struct flow_entry *entry = rig_entry(rig, version);

	memset(entry, 0, sizeof(*entry));
	fill_half(&entry->half[FLOW_UP], version, FLOW_UP);
	fill_half(&entry->half[FLOW_DOWN], version, FLOW_DOWN);
	entry->generation = TEST_GENERATION;
	entry->client_isn = CLIENT_ISN;
	entry->hold = HOLD;
	entry->phase = phase;
	rig_set_keys(rig, version, TEST_GENERATION);
	return entry;
}

/* --- running ------------------------------------------------------------------- */

static void read_counters(const struct rig *rig, uint64_t out[PACKET_COUNTER_COUNT])
{
	uint64_t values[256];
	int fd = rig_map(rig, "counters"), cpus = libbpf_num_possible_cpus();

	assert_true(cpus > 0 && cpus <= 256);
	for (uint32_t i = 0; i < PACKET_COUNTER_COUNT; i++) {
		out[i] = 0;
		assert_int_equal(bpf_map_lookup_elem(fd, &i, values), 0);
		for (int cpu = 0; cpu < cpus; cpu++)
			out[i] += values[cpu];
	}
}

void rig_run(struct rig *rig, const char *program, const struct packet *p, const struct arrival *arrival,
	     struct run *run)
{
	static const struct arrival usual;
	const struct arrival *how = arrival ? arrival : &usual;
	struct __sk_buff skb = {.ifindex = TEST_IFINDEX, .ingress_ifindex = how->ingress_ifindex};
	struct xdp_md xdp = {.data_end = (uint32_t)p->len, .ingress_ifindex = TEST_IFINDEX};
	uint64_t before[PACKET_COUNTER_COUNT];
	int err;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = p->bytes, .data_size_in = (uint32_t)p->len,
		    .data_out = run->out.bytes, .data_size_out = sizeof(run->out.bytes), .repeat = 1);

	skb.gso_segs = how->gso_segs;
	skb.gso_size = how->gso_size;
	options.ctx_in = rig->is_xdp ? (void *)&xdp : &skb;
	options.ctx_size_in = rig->is_xdp ? sizeof(xdp) : sizeof(skb);
	options.flags = how->complete_checksum ? BPF_F_TEST_SKB_CHECKSUM_COMPLETE : 0;
	read_counters(rig, before);
	rig->report_count = 0;
	err = bpf_prog_test_run_opts(bpf_program__fd(bpf_object__find_program_by_name(rig->object, program)), &options);
	if (err)
		fail_msg("%s: BPF_PROG_RUN: %s", program, strerror(-err));
	ring_buffer__consume(rig->ring);
	run->out.len = options.data_size_out;
	run->verdict = options.retval;
	read_counters(rig, run->moved);
	for (int i = 0; i < PACKET_COUNTER_COUNT; i++)
		run->moved[i] -= before[i];
}

void run_assert_counters(const char *what, const struct run *run, const enum packet_counter *counters)
{
	for (int i = 0; i < PACKET_COUNTER_COUNT; i++) {
		uint64_t wanted = 0;

		for (const enum packet_counter *c = counters; *c != COUNT_END; c++)
			wanted += (int)*c == i;
		if (run->moved[i] != wanted)
			fail_msg("%s: counter %s moved by %llu, wanted %llu", what, counter_names[i],
				 (unsigned long long)run->moved[i], (unsigned long long)wanted);
	}
}
