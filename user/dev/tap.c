/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation.
 *
 * The device has a virtio-net header before every packet (IFF_VNET_HDR,
 * linux/virtio_net.h, native byte order) and says that its user understands
 * partial checksums and TCP segmentation. So a packet that a local sender or
 * GRO made up to 64 KB large stays one packet on its way to us, and the other
 * way round a row of our segments enters the kernel as one packet, passes its
 * hooks once, and is cut by the NIC.
 *
 * Reception: one readv() per packet scatters it over spare frames. The spares
 * are a row of frames, always as many as the largest packet needs if the pool
 * has them; those that a packet filled leave the row as a chain, and the row
 * is made up from the pool before the next read. read() on a TAP device cuts
 * a packet that does not fit and does not tell; one more byte behind the row
 * does: a packet that reaches it was too long.
 *
 * Transmission: a batch is a row of TCP packets, each of one segment or
 * several, that differ in nothing but what the kernel derives again when it
 * cuts the packet: lengths, IPv4 ID, sequence number, checksums, PSH. To find
 * out, each packet's headers are copied with these fields zeroed (the key) and
 * compared with those of the batch. The batch is one writev() of one set of
 * headers and of each frame's payload, where it lies. The headers are a copy,
 * as the first frame may be sent again by its flow, as it is. They leave the
 * TCP checksum to the kernel, also where the batch is a single segment.
 *
 * Invariants: frames of the batch are tx_busy and nothing else is; the batch
 * holds only what belongs together, everything else flushes it first, so order
 * is kept. Our IPv4 packets are atomic (DF, RFC 6864 4.1), so that the IDs
 * that the kernel counts up in the parts mean nothing.
 *
 * Limits: a batch has TAP_BATCH_FRAMES frames and 65535 bytes. A write is done
 * when it returns; there is no transmit ring that could be full.
 */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if_arp.h>
#include <linux/if_tun.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "csum.h"
#include "log.h"

#define TAP_QUEUE_PKTS 4096
/* With its Ethernet header: from 65536 on (GSO_LEGACY_MAX_SIZE) the kernel would cut the packet in software. */
#define TAP_BATCH_BYTES 65535
#define TAP_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)

#define TCP_FLAGS_OFFSET 13
#define TCP_PSH 0x08
#define TCP_ACK 0x10

_Static_assert(sizeof(struct virtio_net_hdr) == 10, "the header that every kernel knows");

/* --- the device ------------------------------------------------------------- */

/* TUNSETIFF with IFF_TUN_EXCL: a persistent device of this name is someone else's. */
static int tap_create(struct tap *tap, const char *name)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL)};
	int header_bytes = sizeof(struct virtio_net_hdr);

	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	if (ioctl(tap->fd, TUNSETIFF, &ifr) || ioctl(tap->fd, TUNSETVNETHDRSZ, &header_bytes) ||
	    ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)TAP_OFFLOADS))
		return -errno;
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	return 0;
}

/* Without it the kernel sends router solicitations into the device. Where it fails, they come and are ignored. */
static void tap_disable_ipv6(const struct tap *tap)
{
	char path[64 + IFNAMSIZ];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", tap->name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) != 1)
		log_debug("tap: cannot write %s: %s", path, strerror(errno));
	close(fd);
}

static int tap_configure(struct tap *tap, int control, uint32_t mtu, const uint8_t mac[6])
{
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
	if (ioctl(control, SIOCGIFINDEX, &ifr))
		return -errno;
	tap->ifindex = ifr.ifr_ifindex;
	ifr.ifr_mtu = (int)mtu;
	if (ioctl(control, SIOCSIFMTU, &ifr))
		return -errno;
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
	if (ioctl(control, SIOCSIFHWADDR, &ifr))
		return -errno;
	ifr.ifr_qlen = TAP_QUEUE_PKTS;
	if (ioctl(control, SIOCSIFTXQLEN, &ifr))
		return -errno;
	tap_disable_ipv6(tap);
	if (ioctl(control, SIOCGIFFLAGS, &ifr))
		return -errno;
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	return ioctl(control, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

int tap_open(struct tap *tap, struct frame_pool *pool, const char *name, uint32_t mtu, const uint8_t mac[6])
{
	int err, control;

	memset(tap, 0, sizeof(*tap));
	tap->fd = -1;
	tap->pool = pool;
	tap->rx_iov[0] = (struct iovec){&tap->rx_vnet, sizeof(tap->rx_vnet)};
	tap->tx_iov[0] = (struct iovec){&tap->tx_vnet, sizeof(tap->tx_vnet)};
	if (strlen(name) >= IFNAMSIZ || pool->frame_bytes < TAP_MIN_FRAME_BYTES)
		return -EINVAL;
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0)
		return -errno;
	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	err = tap->fd < 0 ? -errno : tap_create(tap, name);
	if (!err)
		err = tap_configure(tap, control, mtu, mac);
	close(control);
	if (err)
		tap_close(tap);
	return err;
}

static void tap_drop_batch(struct tap *tap)
{
	for (uint32_t i = 0; i < tap->batch.frame_count; i++)
		frame_tx_done(tap->pool, tap->batch.frames[i]);
	tap->batch.frame_count = 0;
}

void tap_close(struct tap *tap)
{
	if (tap->fd < 0)
		return;
	tap_drop_batch(tap);
	while (tap->spare_count)
		frame_put(tap->pool, tap->spares[--tap->spare_count]);
	close(tap->fd);
	tap->fd = -1;
}

/* --- reception -------------------------------------------------------------- */

static void tap_set_spare(struct tap *tap, uint32_t place, uint32_t frame)
{
	tap->spares[place] = frame;
	tap->rx_iov[1 + place] = (struct iovec){frame_data(tap->pool, frame), tap->pool->frame_bytes};
}

static void tap_replenish(struct tap *tap)
{
	uint32_t target = TAP_READ_FRAMES(tap->pool->frame_bytes);

	while (tap->spare_count < target && frame_pool_free(tap->pool)) {
		tap_set_spare(tap, tap->spare_count, frame_get(tap->pool, FRAME_FILL));
		tap->spare_count++;
	}
	tap->rx_iov[1 + tap->spare_count] = (struct iovec){&tap->rx_beyond, 1};
}

/* Makes a chain of the spares that hold the packet; the gaps are closed with the last spares. */
static void tap_take(struct tap *tap, struct tap_packet *packet)
{
	struct frame_pool *pool = tap->pool;

	packet->frame = FRAME_NONE;
	packet->frames = (packet->bytes + pool->frame_bytes - 1) / pool->frame_bytes;
	for (uint32_t place = packet->frames; place-- > 0;) {
		uint32_t index = tap->spares[place], before = place * pool->frame_bytes;
		struct frame *frame = &pool->frames[index];

		frame_set_owner(pool, index, FRAME_RX);
		frame->off = 0;
		frame->len = (uint16_t)MIN(packet->bytes - before, pool->frame_bytes);
		frame->next = packet->frame;
		packet->frame = index;
		/* going backwards, the last one is a spare, or the frame just taken and nothing is behind it */
		tap->spare_count--;
		tap_set_spare(tap, place, tap->spares[tap->spare_count]);
	}
}

/* One read. 1: a packet; 0: one was dropped; or -errno. */
static int tap_read(struct tap *tap, struct tap_packet *packet)
{
	uint32_t room = tap->spare_count * tap->pool->frame_bytes;
	ssize_t got = readv(tap->fd, tap->rx_iov, (int)(2 + tap->spare_count));

	if (got < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (got < (ssize_t)sizeof(tap->rx_vnet) + ETH_HLEN) {
		tap->rx_errors++;
		return got < 0 ? -errno : 0;
	}
	packet->bytes = (uint32_t)got - (uint32_t)sizeof(tap->rx_vnet);
	if (packet->bytes > room) {
		tap->rx_truncated++;
		return 0;
	}
	packet->checksum_ok = tap->rx_vnet.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID);
	tap_take(tap, packet);
	tap->rx_packets++;
	tap->rx_bytes += packet->bytes;
	return 1;
}

uint32_t tap_receive(struct tap *tap, struct tap_packet *packets, uint32_t max, uint32_t max_bytes)
{
	uint32_t count = 0, bytes = 0;

	for (uint32_t reads = 0; reads < max && bytes < max_bytes; reads++) {
		int result;

		tap_replenish(tap);
		if (!tap->spare_count) {
			tap->rx_no_frame++;
			break;
		}
		result = tap_read(tap, &packets[count]);
		if (result < 0)
			break;
		if (result)
			bytes += packets[count++].bytes;
	}
	return count;
}

uint32_t tap_spare_frames(const struct tap *tap)
{
	return tap->spare_count;
}

/* --- transmission ----------------------------------------------------------- */

static void tap_put16(uint8_t *where, uint32_t host_value)
{
	uint16_t value = be16((uint16_t)host_value);

	memcpy(where, &value, sizeof(value));
}

/* The headers, with zeroes where the segments of one packet differ. */
static void tap_make_key(const uint8_t *packet, const struct packet_view *view, uint8_t key[BUILD_MAX_HEADER_BYTES])
{
	uint8_t *ip = key + view->l3_off, *tcp = key + view->l4_off;

	memcpy(key, packet, view->payload_off);
	if (view->ip_version == 4) {
		memset(ip + offsetof(struct iphdr, tot_len), 0, 2);
		memset(ip + offsetof(struct iphdr, id), 0, 2);
		memset(ip + offsetof(struct iphdr, check), 0, 2);
	} else {
		memset(ip + offsetof(struct ipv6hdr, payload_len), 0, 2);
	}
	memset(tcp + offsetof(struct tcphdr, seq), 0, 4);
	tcp[TCP_FLAGS_OFFSET] &= (uint8_t)~TCP_PSH;
	memset(tcp + offsetof(struct tcphdr, check), 0, 2);
}

/* True for TCP as we send it; what is not exactly an IP packet long would leave a gap behind it. */
static bool tap_is_tcp(uint8_t *packet, uint16_t len, struct packet_view *view)
{
	return packet_parse(packet, packet + len, view) == DROP_NONE && view->tcp_hdr_len && !view->has_ip_options &&
	       view->l3_off + view->l3_len == len && view->payload_off <= BUILD_MAX_HEADER_BYTES;
}

/* May be part of a larger packet: other flags belong to one segment only, or, as CWR, would be spread differently. */
static bool tap_is_plain(const struct packet_view *view)
{
	return view->payload_len && (view->tcp_flags & ~TCP_PSH) == TCP_ACK;
}

static bool tap_continues(const struct tap_batch *batch, const struct packet_view *view, uint16_t gso_size,
			  const uint8_t *key)
{
	return batch->frame_count && batch->frame_count < TAP_BATCH_FRAMES && view->seq == batch->next_seq &&
	       gso_size <= batch->gso_size && (gso_size == batch->gso_size || gso_size == view->payload_len) &&
	       batch->bytes + view->payload_len <= TAP_BATCH_BYTES && view->payload_off == batch->first.payload_off &&
	       !memcmp(key, batch->key, view->payload_off);
}

static void tap_begin(struct tap *tap, uint8_t *packet, uint16_t len, bool is_tcp, const struct packet_view *view,
		      uint16_t gso_size)
{
	struct tap_batch *batch = &tap->batch;

	tap_flush(tap);
	tap->tx_iov[1] = (struct iovec){packet, len};
	batch->bytes = len;
	batch->psh = 0;
	batch->is_tcp = is_tcp;
	batch->gso_size = gso_size;
	batch->first = *view;
}

int tap_transmit(struct tap *tap, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	struct tap_batch *batch = &tap->batch;
	uint8_t *packet = frame_data(tap->pool, frame) + off, key[BUILD_MAX_HEADER_BYTES];
	struct packet_view view;
	bool is_tcp = tap_is_tcp(packet, len, &view), plain = is_tcp && tap_is_plain(&view);
	uint16_t gso_size = segment_bytes && segment_bytes < view.payload_len ? segment_bytes : view.payload_len;

	frame_tx_start(tap->pool, frame);
	tap->tx_packets++;
	if (plain)
		tap_make_key(packet, &view, key);
	if (plain && tap_continues(batch, &view, gso_size, key)) {
		batch->bytes += view.payload_len;
		batch->psh |= view.tcp_flags & TCP_PSH;
	} else {
		tap_begin(tap, packet, len, is_tcp, &view, gso_size);
		if (plain)
			memcpy(batch->key, key, view.payload_off);
	}
	/* of what is not TCP, only tx_iov[1] is used, and not the payload */
	tap->tx_iov[2 + batch->frame_count] =
		(struct iovec){packet + (is_tcp ? view.payload_off : 0), view.payload_len};
	batch->frames[batch->frame_count++] = frame;
	batch->next_seq = view.seq + view.payload_len;
	/* nothing may follow a short segment */
	if (!plain || view.payload_len % batch->gso_size)
		tap_flush(tap);
	return 0;
}

/* Headers for the whole batch, with a partial TCP checksum: the pseudo-header's sum, not complemented. */
static void tap_make_headers(struct tap *tap)
{
	struct tap_batch *batch = &tap->batch;
	const struct packet_view *first = &batch->first;
	uint8_t *ip = batch->headers + first->l3_off, *tcp = batch->headers + first->l4_off;
	uint32_t ip_bytes = batch->bytes - first->l3_off, tcp_bytes = batch->bytes - first->l4_off;
	bool ipv4 = first->ip_version == 4;
	uint16_t check;

	memcpy(batch->headers, tap->tx_iov[1].iov_base, first->payload_off);
	if (ipv4) {
		tap_put16(ip + offsetof(struct iphdr, tot_len), ip_bytes);
		memset(ip + offsetof(struct iphdr, check), 0, 2);
		check = csum_fold(csum_partial(ip, sizeof(struct iphdr), 0));
		memcpy(ip + offsetof(struct iphdr, check), &check, 2);
	} else {
		tap_put16(ip + offsetof(struct ipv6hdr, payload_len), ip_bytes - (uint32_t)sizeof(struct ipv6hdr));
	}
	tcp[TCP_FLAGS_OFFSET] |= batch->psh;
	check = csum_fold_sum(csum_pseudo(&first->src, &first->dst, IPPROTO_TCP, tcp_bytes));
	memcpy(tcp + offsetof(struct tcphdr, check), &check, 2);
	tap->tx_iov[1] = (struct iovec){batch->headers, first->payload_off};
	tap->tx_vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	tap->tx_vnet.csum_start = first->l4_off;
	tap->tx_vnet.csum_offset = offsetof(struct tcphdr, check);
	if (batch->bytes - first->payload_off <= batch->gso_size)
		return;
	tap->tx_vnet.gso_type = ipv4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	tap->tx_vnet.hdr_len = first->payload_off;
	tap->tx_vnet.gso_size = batch->gso_size;
}

void tap_flush(struct tap *tap)
{
	int vectors = 2;

	if (!tap->batch.frame_count)
		return;
	tap->tx_vnet = (struct virtio_net_hdr){0};
	/* what is not TCP goes as it is, whole in tx_iov[1] */
	if (tap->batch.is_tcp) {
		tap_make_headers(tap);
		vectors += (int)tap->batch.frame_count;
	}
	tap->tx_writes++;
	if (writev(tap->fd, tap->tx_iov, vectors) < 0)
		tap->tx_errors++;
	tap_drop_batch(tap);
}
