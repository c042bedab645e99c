/* SPDX-License-Identifier: MIT */
/*
 * The TAP port against a real device in a network namespace of its own. A packet socket bound to the device stands for
 * the rest of the kernel: what it sends, the port reads; what the port writes, it sees, as large as it was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addr.h"
#include "build.h"
#include "csum.h"
#include "parse.h"
#include "tap.h"

#define FRAMES 256
#define FRAME_SIZE 2048
#define MTU 1500
#define BASE_SEQ 0xfffff000u /* sequence numbers wrap in every row of segments */
#define BASE_ACK 7000
#define PAYLOAD 1000
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define URG 0x20
#define ECE 0x40
#define CWR 0x80

static const uint8_t tap_mac[6] = {2, 0, 0, 0, 0, 9}, peer_mac[6] = {2, 0, 0, 0, 0, 1};

static uint8_t area[FRAMES * FRAME_SIZE], untouched[FRAMES * FRAME_SIZE];
static struct frame frames[FRAMES];
static struct frame_pool pool;
static struct tap tap;
static int peer; /* a packet socket with virtio-net headers */

/* --- the device and its other side ------------------------------------------ */

static bool device_exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

static void interface_request(unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(ifr->ifr_name, tap.name, IFNAMSIZ);
	assert_int_equal(ioctl(fd, request, ifr), 0);
	close(fd);
}

static void open_peer(void)
{
	struct sockaddr_ll bound = {
		.sll_family = AF_PACKET, .sll_protocol = be16(ETH_P_ALL), .sll_ifindex = tap.ifindex};
	int on = 1, bytes = 1 << 24;

	peer = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
	assert_true(peer >= 0);
	assert_int_equal(setsockopt(peer, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(peer, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(peer, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	assert_int_equal(bind(peer, (struct sockaddr *)&bound, sizeof(bound)), 0);
}

static int setup(void **state)
{
	(void)state;
	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	if (tap_open(&tap, &pool, "tapt%d", MTU, tap_mac))
		return -1;
	open_peer();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(peer);
	tap_close(&tap);
	return frame_pool_free(&pool) == FRAMES ? 0 : -1;
}

/* --- sending through the device: what the port reads ------------------------ */

static struct build_link link_ipv4(void)
{
	struct build_link link = {
		.src = {.addr = addr_from_ipv4(be32(0xc0000250)), .port = be16(80)},
		.dst = {.addr = addr_from_ipv4(be32(0x0a000005)), .port = be16(40000)},
	};

	memcpy(link.src_mac, tap_mac, 6);
	memcpy(link.dst_mac, peer_mac, 6);
	return link;
}

static struct build_link link_ipv6(void)
{
	static const struct addr src = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x80}};
	static const struct addr dst = {.bytes = {0xfd, [15] = 5}};
	struct build_link link = link_ipv4();

	link.src.addr = src;
	link.dst.addr = dst;
	return link;
}

/* Payload that tells its place in the stream, with a period that no power of two divides. */
static void fill_payload(uint8_t *payload, uint32_t seq, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		payload[i] = (uint8_t)((seq + i) % 251);
}

static void send_to_tap(const struct virtio_net_hdr *vnet, const uint8_t *packet, uint32_t bytes)
{
	struct iovec iov[2] = {{(void *)vnet, sizeof(*vnet)}, {(void *)packet, bytes}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	assert_int_equal(sendmsg(peer, &msg, 0), sizeof(*vnet) + bytes);
}

static void send_plain(const uint8_t *packet, uint32_t bytes)
{
	static const struct virtio_net_hdr none;

	send_to_tap(&none, packet, bytes);
}

/* An IPv4 TCP packet of `bytes`, which the kernel takes as GSO packet. */
static const uint8_t *send_gso(uint32_t bytes)
{
	static uint8_t buffer[128 + 65536];
	const struct virtio_net_hdr vnet = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
	const struct build_segment segment = {.seq = 1, .ack = 1, .window = 100, .flags = ACK};
	struct build_link link = link_ipv4();
	uint8_t *packet;

	fill_payload(buffer + 128, 0, bytes - 54);
	packet = build_tcp(buffer + 128, (uint16_t)(bytes - 54), &link, &segment);
	send_to_tap(&vnet, packet, bytes);
	return packet;
}

static uint32_t receive(struct tap_packet *packets, uint32_t max)
{
	struct pollfd readable = {.fd = tap.fd, .events = POLLIN};

	assert_int_equal(poll(&readable, 1, 2000), 1);
	return tap_receive(&tap, packets, max, UINT32_MAX);
}

/* The chain holds exactly these bytes; its frames go back. */
static void assert_chain(const struct tap_packet *packet, const uint8_t *bytes, uint32_t len)
{
	uint32_t done = 0, count = 0, next;

	assert_int_equal(packet->bytes, len);
	for (uint32_t i = packet->frame; i != FRAME_NONE; i = next, count++) {
		next = frames[i].next;
		assert_int_equal(frames[i].owner, FRAME_RX);
		assert_int_equal(frames[i].off, 0);
		assert_int_equal(frames[i].len, next == FRAME_NONE ? len - done : FRAME_SIZE);
		assert_memory_equal(frame_data(&pool, i), bytes + done, frames[i].len);
		done += frames[i].len;
		frame_put(&pool, i);
	}
	assert_int_equal(done, len);
	assert_int_equal(count, packet->frames);
}

static void assert_accounts(uint32_t rx, uint32_t flow, uint32_t tx)
{
	assert_int_equal(pool.owned[FRAME_FILL], tap_spare_frames(&tap));
	assert_int_equal(pool.owned[FRAME_RX], rx);
	assert_int_equal(pool.owned[FRAME_FLOW], flow);
	assert_int_equal(pool.owned[FRAME_TX], tx);
	assert_int_equal(frame_pool_free(&pool), FRAMES - tap_spare_frames(&tap) - rx - flow - tx);
}

/* --- writing to the device: what the peer sees ------------------------------ */

struct arrived {
	struct virtio_net_hdr vnet;
	uint8_t bytes[70000];
	uint32_t len;
	int vlan_tci; /* the kernel takes the tag out of the packet; -1: it had none */
};

/* The next packet that came out of the device; false: there is none. All is done within the write call. */
static bool next_arrived(struct arrived *a)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	} control;
	struct iovec iov[2] = {{&a->vnet, sizeof(a->vnet)}, {a->bytes, sizeof(a->bytes)}};
	struct msghdr msg = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(peer, &msg, MSG_DONTWAIT);

	if (got < 0) {
		assert_int_equal(errno, EAGAIN);
		return false;
	}
	a->len = (uint32_t)got - (uint32_t)sizeof(a->vnet);
	a->vlan_tci = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		struct tpacket_auxdata aux;

		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		if (aux.tp_status & TP_STATUS_VLAN_VALID)
			a->vlan_tci = aux.tp_vlan_tci;
	}
	return true;
}

/* The TCP checksum is left to the receiver's kernel: it is the sum of the pseudo-header over the whole length. */
static void assert_checksums(const struct arrived *a, const struct packet_view *v)
{
	uint32_t l4_bytes = a->len - v->l4_off;
	uint32_t sum = csum_pseudo(&v->src, &v->dst, IPPROTO_TCP, l4_bytes);
	uint16_t field;

	memcpy(&field, a->bytes + v->l4_off + 16, 2);
	assert_int_equal(field, csum_fold_sum(sum));
	if (v->ip_version == 4)
		assert_int_equal(csum_fold(csum_partial(a->bytes + v->l3_off, 20, 0)), 0);
}

static void assert_vnet(const struct arrived *a, const struct packet_view *v, uint16_t gso_size)
{
	uint8_t type = v->ip_version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;

	assert_int_equal(a->vnet.gso_type, gso_size ? type : VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(a->vnet.gso_size, gso_size);
	assert_int_equal(a->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(a->vnet.csum_start, v->l4_off);
	assert_int_equal(a->vnet.csum_offset, 16);
}

struct want {
	uint32_t seq; /* from BASE_SEQ */
	uint32_t bytes;
	uint16_t gso_size; /* 0: an ordinary packet */
	uint8_t flags;
};

static void expect_arrived(const struct build_link *link, const struct want *want)
{
	static struct arrived a;
	static uint8_t payload[65536];
	struct packet_view v;

	assert_true(next_arrived(&a));
	assert_int_equal(a.vlan_tci, link->has_vlan ? link->vlan_tci : -1);
	assert_int_equal(packet_parse(a.bytes, a.bytes + a.len, &v), DROP_NONE);
	assert_memory_equal(a.bytes, link->dst_mac, 6);
	assert_memory_equal(a.bytes + 6, link->src_mac, 6);
	assert_int_equal(v.l3_off + v.l3_len, a.len);
	assert_int_equal(v.seq, BASE_SEQ + want->seq);
	assert_int_equal(v.payload_len, want->bytes);
	assert_int_equal(v.tcp_flags, want->flags);
	fill_payload(payload, BASE_SEQ + want->seq, want->bytes);
	assert_memory_equal(a.bytes + v.payload_off, payload, want->bytes);
	assert_vnet(&a, &v, want->gso_size);
	assert_checksums(&a, &v);
}

static void expect_nothing(void)
{
	static struct arrived a;

	assert_false(next_arrived(&a));
}

struct step {
	uint32_t seq; /* from BASE_SEQ */
	uint16_t bytes;
	uint8_t flags;
	uint16_t ack, window, port; /* from those of the flow */
	uint8_t option;
	uint16_t cut; /* into segments of so much; 0: not */
};

/* Posts one segment as a flow does, in a frame that stays the flow's. Returns the frame. */
static uint32_t post(const struct build_link *link, const struct step *step)
{
	uint32_t index = frame_get(&pool, FRAME_FLOW);
	uint8_t *payload = frame_data(&pool, index) + FRAME_PAYLOAD_OFFSET, *packet;
	struct build_link of_step = *link;
	struct build_segment segment = {
		.seq = BASE_SEQ + step->seq,
		.ack = BASE_ACK + step->ack,
		.window = (uint16_t)(500 + step->window),
		.flags = step->flags,
		.option_bytes = 12,
		.options = {1, 1, 8, 10, 0, 0, 0, step->option},
		.no_checksum = true,
	};
	uint16_t len;

	of_step.src.port = (uint16_t)(of_step.src.port + be16(step->port));
	fill_payload(payload, segment.seq, step->bytes);
	packet = build_tcp(payload, step->bytes, &of_step, &segment);
	len = (uint16_t)(payload - packet + step->bytes);
	memcpy(untouched + index * FRAME_SIZE, frame_data(&pool, index), FRAME_SIZE);
	assert_int_equal(tap_transmit(&tap, index, (uint16_t)(packet - frame_data(&pool, index)), len, step->cut), 0);
	return index;
}

/* After a flush nothing is being transmitted, no frame's bytes have changed, and the flow has all of them. */
static void take_back(const uint32_t *posted, uint32_t count)
{
	assert_accounts(0, count, 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_false(frames[posted[i]].tx_busy);
		assert_memory_equal(frame_data(&pool, posted[i]), untouched + posted[i] * FRAME_SIZE, FRAME_SIZE);
		frame_put(&pool, posted[i]);
	}
	assert_int_equal(tap.tx_errors, 0);
}

/* A row of equal segments from BASE_SEQ on, flushed. */
static void post_row(const struct build_link *link, uint32_t count, uint16_t bytes)
{
	uint32_t posted[FRAMES];

	for (uint32_t i = 0; i < count; i++) {
		const struct step step = {.seq = i * bytes, .bytes = bytes, .flags = ACK};

		posted[i] = post(link, &step);
	}
	tap_flush(&tap);
	take_back(posted, count);
}

/* --- tests ------------------------------------------------------------------ */

static void test_open_and_close(void **state)
{
	struct ifreq ifr = {0};
	char path[64 + IFNAMSIZ], name[IFNAMSIZ], off = '1';
	int fd;

	(void)state;
	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	assert_int_equal(tap_open(&tap, &pool, "tapo%d", 9000, tap_mac), 0);
	assert_string_equal(tap.name, "tapo0");
	assert_int_equal(tap.ifindex, if_nametoindex("tapo0"));
	assert_int_equal(fcntl(tap.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	interface_request(SIOCGIFMTU, &ifr);
	assert_int_equal(ifr.ifr_mtu, 9000);
	interface_request(SIOCGIFHWADDR, &ifr);
	assert_memory_equal(ifr.ifr_hwaddr.sa_data, tap_mac, 6);
	interface_request(SIOCGIFTXQLEN, &ifr);
	assert_int_equal(ifr.ifr_qlen, 4096);
	interface_request(SIOCGIFFLAGS, &ifr);
	assert_true(ifr.ifr_flags & IFF_UP);
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", tap.name);
	fd = open(path, O_RDONLY);
	if (fd >= 0) {
		assert_int_equal(read(fd, &off, 1), 1);
		close(fd);
	}
	assert_int_equal(off, '1');
	assert_int_equal(tap_receive(&tap, &(struct tap_packet){0}, 1, UINT32_MAX), 0);
	assert_int_equal(tap_spare_frames(&tap), TAP_READ_FRAMES(FRAME_SIZE));
	memcpy(name, tap.name, sizeof(name));
	tap_close(&tap);
	assert_false(device_exists(name));
	assert_int_equal(frame_pool_free(&pool), FRAMES);
	tap_close(&tap);
}

static void test_open_fails(void **state)
{
	struct tap other;
	int lowest = dup(0);

	(void)state;
	close(lowest);
	frame_pool_init(&pool, area, frames, FRAMES, FRAME_SIZE);
	assert_int_equal(tap_open(&tap, &pool, "a-name-of-16-chr", MTU, tap_mac), -EINVAL);
	/* below the least MTU: fails when the device is there already */
	assert_int_equal(tap_open(&tap, &pool, "tape", 10, tap_mac), -EINVAL);
	assert_false(device_exists("tape"));
	tap_close(&tap);
	assert_int_equal(tap_open(&tap, &pool, "tape", MTU, tap_mac), 0);
	assert_int_equal(tap_open(&other, &pool, "tape", MTU, tap_mac), -EBUSY);
	/* nor one that nobody has open but somebody wants to keep */
	assert_int_equal(ioctl(tap.fd, TUNSETPERSIST, 1), 0);
	tap_close(&tap);
	assert_int_equal(tap_open(&tap, &pool, "tape", MTU, tap_mac), -EBUSY);
	assert_true(device_exists("tape"));
	frame_pool_init(&pool, area, frames, FRAMES, TAP_MIN_FRAME_BYTES / 2);
	assert_int_equal(tap_open(&tap, &pool, "tapf", MTU, tap_mac), -EINVAL);
	/* and no file is left open */
	assert_int_equal(dup(0), lowest);
	close(lowest);
}

static void test_receive_plain(void **state)
{
	static const uint32_t sizes[] = {60, 1514};
	uint8_t packet[1514];
	struct tap_packet got[4];

	(void)state;
	fill_payload(packet, 3, sizeof(packet));
	for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_plain(packet, sizes[i]);
		assert_int_equal(receive(got, 4), 1);
		assert_int_equal(got[0].frames, 1);
		assert_false(got[0].checksum_ok);
		assert_accounts(1, 0, 0);
		assert_chain(&got[0], packet, sizes[i]);
		assert_accounts(0, 0, 0);
	}
	assert_int_equal(tap.rx_packets, 2);
	assert_int_equal(tap.rx_bytes, 60 + 1514);
}

static void test_receive_gso(void **state)
{
	/* the largest that the kernel does not cut by default; one that ends with a full frame; one byte more */
	static const uint32_t sizes[] = {60000, 65535, 3 * FRAME_SIZE, 3 * FRAME_SIZE + 1};
	struct tap_packet got[4];

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const uint8_t *packet = send_gso(sizes[i]);

		assert_int_equal(receive(got, 4), 1);
		assert_true(got[0].checksum_ok);
		assert_int_equal(got[0].frames, (sizes[i] + FRAME_SIZE - 1) / FRAME_SIZE);
		assert_accounts(got[0].frames, 0, 0);
		assert_chain(&got[0], packet, sizes[i]);
	}
}

/* No more than asked for; the rest waits, in order. */
static void test_receive_bounded(void **state)
{
	uint8_t packets[5][100];
	struct tap_packet got[8];

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		fill_payload(packets[i], i, 100);
		send_plain(packets[i], 100);
	}
	assert_int_equal(receive(got, 3), 3);
	assert_int_equal(receive(got + 3, 5), 2);
	for (uint32_t i = 0; i < 5; i++)
		assert_chain(&got[i], packets[i], 100);
	assert_int_equal(tap_receive(&tap, got, 8, UINT32_MAX), 0);
}

/* Takes frames out of the pool until `left` are free. Returns them as a chain. */
static uint32_t hold_frames(uint32_t left)
{
	uint32_t held = FRAME_NONE;

	while (frame_pool_free(&pool) > left) {
		uint32_t index = frame_get(&pool, FRAME_FLOW);

		frames[index].next = held;
		held = index;
	}
	return held;
}

static void release_frames(uint32_t held)
{
	while (held != FRAME_NONE) {
		uint32_t next = frames[held].next;

		frame_put(&pool, held);
		held = next;
	}
}

static void test_empty_pool(void **state)
{
	uint32_t held = hold_frames(0);
	struct tap_packet got[4];
	uint8_t packet[200];

	(void)state;
	fill_payload(packet, 0, sizeof(packet));
	send_plain(packet, sizeof(packet));
	assert_int_equal(receive(got, 4), 0);
	assert_int_equal(tap.rx_no_frame, 1);
	assert_int_equal(tap_spare_frames(&tap), 0);
	release_frames(held);
	assert_int_equal(receive(got, 4), 1);
	assert_chain(&got[0], packet, sizeof(packet));
	assert_int_equal(tap.rx_no_frame, 1);
	assert_int_equal(tap.rx_truncated, 0);
	assert_accounts(0, 0, 0);
}

/* With four frames: what just fits is taken, then, with none left, nothing is; one byte more is dropped. */
static void test_scarce_frames(void **state)
{
	uint32_t held = hold_frames(4);
	struct tap_packet got[4];
	const uint8_t *packet = send_gso(4 * FRAME_SIZE);

	(void)state;
	assert_int_equal(receive(got, 4), 1);
	assert_int_equal(tap.rx_no_frame, 1);
	assert_int_equal(got[0].frames, 4);
	assert_chain(&got[0], packet, 4 * FRAME_SIZE);
	send_gso(4 * FRAME_SIZE + 1);
	packet = send_gso(2 * FRAME_SIZE);
	assert_int_equal(receive(got, 4), 1);
	assert_int_equal(tap.rx_truncated, 1);
	assert_chain(&got[0], packet, 2 * FRAME_SIZE);
	assert_int_equal(tap.rx_packets, 2);
	release_frames(held);
	assert_accounts(0, 0, 0);
}

/* The links that every test of transmission is done with. */
static uint32_t all_links(struct build_link links[4])
{
	links[0] = link_ipv4();
	links[1] = link_ipv6();
	for (uint32_t i = 2; i < 4; i++) {
		links[i] = links[i - 2];
		links[i].has_vlan = true;
		links[i].vlan_tci = 0x6007; /* VLAN 7, priority 3 */
	}
	return 4;
}

static void test_ten_segments(void **state)
{
	const struct want want = {.bytes = 14480, .gso_size = 1448, .flags = ACK};
	struct build_link links[4];

	(void)state;
	for (uint32_t i = 0, count = all_links(links); i < count; i++) {
		post_row(&links[i], 10, 1448);
		expect_arrived(&links[i], &want);
		expect_nothing();
		assert_int_equal(tap.tx_writes, i + 1);
		assert_int_equal(tap.tx_packets, 10 * (i + 1));
	}
}

/* Entries of the tables: a segment or what arrives of it alone, one of the usual kind, and several in one. */
#define P(at, count, set) .seq = (at), .bytes = (count), .flags = (set)
#define S(at, ...) .seq = (at), .bytes = PAYLOAD, .flags = ACK, ##__VA_ARGS__
#define JOINED(at, count) .seq = (at), .bytes = (count)*PAYLOAD, .gso_size = PAYLOAD, .flags = ACK
/* Segments with another flag, the last two of four: the two before them are one packet, they go alone. */
#define BY_FLAG(flag)                                                                                                  \
	{{S(0)}, {S(1000)}, {P(2000, PAYLOAD, ACK | (flag))}, {P(3000, PAYLOAD, ACK | (flag))}},                       \
	{                                                                                                              \
		{JOINED(0, 2)}, {P(2000, PAYLOAD, ACK | (flag))},                                                      \
		{                                                                                                      \
			P(3000, PAYLOAD, ACK | (flag))                                                                 \
		}                                                                                                      \
	}

/* Both lists end with an entry without flags. */
static const struct batch_case {
	const char *name;
	struct step steps[8];
	struct want wants[8];
} batch_cases[] = {
	{"in order", {{S(0)}, {S(1000)}, {S(2000)}}, {{JOINED(0, 3)}}},
	{"one", {{S(0)}}, {{S(0)}}},
	{"another ack", {{S(0)}, {S(1000, .ack = 1)}, {S(2000, .ack = 1)}}, {{S(0)}, {JOINED(1000, 2)}}},
	{"another window", {{S(0)}, {S(1000)}, {S(2000, .window = 1)}}, {{JOINED(0, 2)}, {S(2000)}}},
	{"another option", {{S(0)}, {S(1000, .option = 1)}, {S(2000, .option = 1)}}, {{S(0)}, {JOINED(1000, 2)}}},
	{"a gap", {{S(0)}, {S(1000)}, {S(3000)}, {S(4000)}}, {{JOINED(0, 2)}, {JOINED(3000, 2)}}},
	{"sent again", {{S(0)}, {S(1000)}, {S(0)}, {S(2000)}}, {{JOINED(0, 2)}, {S(0)}, {S(2000)}}},
	{"another flow",
	 {{S(0)}, {S(1000)}, {S(2000, .port = 1)}, {S(3000, .port = 1)}, {S(2000)}},
	 {{JOINED(0, 2)}, {JOINED(2000, 2)}, {S(2000)}}},
	{"shorter in the middle",
	 {{S(0)}, {P(1000, 500, ACK)}, {S(1500)}, {S(2500)}},
	 {{0, 1500, PAYLOAD, ACK}, {JOINED(1500, 2)}}},
	{"longer", {{P(0, 500, ACK)}, {S(500)}, {S(1500)}}, {{0, 500, 0, ACK}, {JOINED(500, 2)}}},
	{"PSH at the end", {{S(0)}, {P(1000, PAYLOAD, ACK | PSH)}}, {{0, 2000, PAYLOAD, ACK | PSH}}},
	{"PSH before the end", {{S(0)}, {P(1000, PAYLOAD, ACK | PSH)}, {S(2000)}}, {{0, 3000, PAYLOAD, ACK | PSH}}},
	{"PSH at the start", {{P(0, PAYLOAD, ACK | PSH)}, {S(1000)}}, {{0, 2000, PAYLOAD, ACK | PSH}}},
	{"no PSH left over",
	 {{S(0)}, {P(1000, 500, ACK | PSH)}, {S(1500)}, {S(2500)}},
	 {{0, 1500, PAYLOAD, ACK | PSH}, {JOINED(1500, 2)}}},
	{"SYN", {{S(0)}, {S(1000)}, {P(2000, 0, SYN)}, {S(2000)}}, {{JOINED(0, 2)}, {2000, 0, 0, SYN}, {S(2000)}}},
	{"no payload", {{S(0)}, {P(1000, 0, ACK)}, {S(1000)}}, {{S(0)}, {1000, 0, 0, ACK}, {S(1000)}}},
	{"no ACK",
	 {{S(0)}, {P(1000, PAYLOAD, PSH)}, {P(2000, PAYLOAD, PSH)}},
	 {{S(0)}, {1000, PAYLOAD, 0, PSH}, {2000, PAYLOAD, 0, PSH}}},
	{"cut", {{P(0, 1500, ACK), .cut = 500}}, {{0, 1500, 500, ACK}}},
	{"cut, joined",
	 {{P(0, 1500, ACK), .cut = 500}, {P(1500, 1000, ACK), .cut = 500}, {P(2500, 500, ACK)}, {P(3000, 200, ACK)}},
	 {{0, 3200, 500, ACK}}},
	{"cut, the last segment short",
	 {{P(0, 1500, ACK), .cut = 500}, {P(1500, 1200, ACK), .cut = 500}, {P(2700, 500, ACK)}},
	 {{0, 2700, 500, ACK}, {2700, 500, 0, ACK}}},
	{"cut differently",
	 {{P(0, 1500, ACK), .cut = 500}, {P(1500, 1500, ACK), .cut = 300}, {P(3000, 1000, ACK)}},
	 {{0, 1500, 500, ACK}, {1500, 1500, 300, ACK}, {3000, 1000, 0, ACK}}},
	{"cut, with FIN", {{S(0)}, {P(1000, 1500, ACK | FIN), .cut = 1000}}, {{S(0)}, {1000, 1500, 1000, ACK | FIN}}},
	{"no need to cut", {{P(0, 500, ACK), .cut = 500}, {P(500, 300, ACK), .cut = 500}}, {{0, 800, 500, ACK}}},
	{"FIN", BY_FLAG(FIN)},
	{"RST", BY_FLAG(RST)},
	{"URG", BY_FLAG(URG)},
	{"ECE", BY_FLAG(ECE)},
	{"CWR", BY_FLAG(CWR)},
};

static void test_batches(void **state)
{
	struct build_link links[4];
	uint32_t link_count = all_links(links), posted[8];

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(batch_cases) * link_count; i++) {
		const struct batch_case *test = &batch_cases[i / link_count];
		const struct build_link *link = &links[i % link_count];
		uint64_t writes = tap.tx_writes;
		uint32_t steps = 0, wants = 0;

		print_message("# %s\n", test->name);
		for (; test->steps[steps].flags; steps++)
			posted[steps] = post(link, &test->steps[steps]);
		tap_flush(&tap);
		take_back(posted, steps);
		for (; test->wants[wants].flags; wants++)
			expect_arrived(link, &test->wants[wants]);
		expect_nothing();
		assert_int_equal(tap.tx_writes - writes, wants);
	}
}

static void test_batch_limits(void **state)
{
	/* 38 * 1700 and the headers are below 64 KB, 39 * 1700 are not */
	const struct want many[] = {{0, 6400, 100, ACK}, {6400, 100, 0, ACK}};
	const struct want large[] = {{0, 38 * 1700, 1700, ACK}, {38 * 1700, 2 * 1700, 1700, ACK}};
	struct build_link links[4];

	(void)state;
	for (uint32_t i = 0, count = all_links(links); i < count; i++) {
		post_row(&links[i], TAP_BATCH_FRAMES + 1, 100);
		expect_arrived(&links[i], &many[0]);
		expect_arrived(&links[i], &many[1]);
		post_row(&links[i], 40, 1700);
		expect_arrived(&links[i], &large[0]);
		expect_arrived(&links[i], &large[1]);
		expect_nothing();
	}
}

/* What is not TCP goes out unchanged, in its place. */
static void test_not_tcp(void **state)
{
	static struct arrived a;
	const struct step before = {S(0)}, behind = {S(PAYLOAD)};
	const struct want first = {0, PAYLOAD, 0, ACK}, last = {PAYLOAD, PAYLOAD, 0, ACK};
	struct build_link link = link_ipv4();
	uint8_t arp[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06};
	uint32_t posted[2], index = frame_get(&pool, FRAME_TX);

	(void)state;
	memcpy(frame_data(&pool, index) + 32, arp, sizeof(arp));
	posted[0] = post(&link, &before);
	assert_accounts(0, 0, 2);
	assert_int_equal(tap_transmit(&tap, index, 32, sizeof(arp), 0), 0);
	posted[1] = post(&link, &behind);
	tap_flush(&tap);
	take_back(posted, 2);
	expect_arrived(&link, &first);
	assert_true(next_arrived(&a));
	assert_int_equal(a.len, sizeof(arp));
	assert_memory_equal(a.bytes, arp, sizeof(arp));
	expect_arrived(&link, &last);
	expect_nothing();
}

/* A frame that the flow gave up while it was pending is free after the flush; so is one of owner FRAME_TX. */
static void test_frames_given_up(void **state)
{
	const struct step step = {S(0)};
	struct build_link link = link_ipv4();
	uint32_t index = post(&link, &step);

	(void)state;
	assert_true(frames[index].tx_busy);
	frame_put(&pool, index);
	assert_accounts(0, 0, 1);
	tap_flush(&tap);
	assert_accounts(0, 0, 0);
	tap_flush(&tap);
	assert_int_equal(tap.tx_writes, 1);
	assert_int_equal(tap.tx_errors, 0);
}

/* A device that is down takes nothing: lost, counted, and the frames are done all the same. */
static void test_write_fails(void **state)
{
	const struct step steps[] = {{S(0)}, {S(1000)}, {S(5000)}};
	struct build_link link = link_ipv4();
	struct ifreq ifr = {0};
	uint32_t posted[3];

	(void)state;
	interface_request(SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags = (short)(ifr.ifr_flags & ~IFF_UP);
	interface_request(SIOCSIFFLAGS, &ifr);
	for (uint32_t i = 0; i < 3; i++)
		posted[i] = post(&link, &steps[i]);
	tap_flush(&tap);
	assert_int_equal(tap.tx_writes, 2);
	assert_int_equal(tap.tx_errors, 2);
	tap.tx_errors = 0;
	take_back(posted, 3);
}

/* Closing gives back what is pending and what is spare; nothing of the batch is written. */
static void test_close_with_batch(void **state)
{
	const struct step steps[] = {{S(0)}, {S(1000)}};
	struct build_link link = link_ipv4();
	uint32_t posted[2];

	(void)state;
	for (uint32_t i = 0; i < 2; i++)
		posted[i] = post(&link, &steps[i]);
	tap_receive(&tap, &(struct tap_packet){0}, 1, UINT32_MAX);
	tap_close(&tap);
	assert_int_equal(tap.tx_writes, 0);
	take_back(posted, 2);
}

/* Why the device cannot be used here, or NULL. */
static const char *probe(void)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		return "no network namespace";
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return "/dev/net/tun cannot be opened";
	close(fd);
	return NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_and_close),
		cmocka_unit_test(test_open_fails),
		cmocka_unit_test_setup_teardown(test_receive_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receive_gso, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receive_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scarce_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ten_segments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batch_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_with_batch, setup, teardown),
	};
	const char *reason = probe();

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (reason) {
		printf("1..1\nok 1 - tap # SKIP %s\n", reason);
		return 0;
	}
	return cmocka_run_group_tests_name("tap", tests, NULL, NULL);
}
