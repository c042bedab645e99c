/* SPDX-License-Identifier: MIT */
/*
 * A TAP device as a port: packets that the kernel sends out of the device are
 * read whole, up to 64 KB each, into frames of the pool; frames written to it
 * arrive in the kernel as if received on the device, consecutive segments of
 * a flow as one GSO packet. See tap.c for how.
 */
#ifndef SOCKSPLICE_TAP_H
#define SOCKSPLICE_TAP_H

#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "build.h"
#include "frame.h"
#include "parse.h"

/* Frames for the largest packet: 64 KB of IP, an Ethernet header, and VLAN tags with some room. */
#define TAP_READ_FRAMES(frame_bytes) ((65536 + 14 + 18 + (frame_bytes)-1) / (frame_bytes))
#define TAP_MIN_FRAME_BYTES 2048
#define TAP_MAX_READ_FRAMES TAP_READ_FRAMES(TAP_MIN_FRAME_BYTES)
#define TAP_BATCH_FRAMES 64

/*
 * One received packet. Its bytes are those of a chain of frames linked by pool->frames[i].next, FRAME_NONE at the end;
 * of each, pool->frames[i].off and .len tell which. All but the last are full, and off is 0. The owner of all is
 * FRAME_RX: who took the packet has to hand them on or frame_put() them.
 */
struct tap_packet {
	uint32_t frame;   /* first of the chain */
	uint32_t frames;  /* in the chain */
	uint32_t bytes;   /* sum over the chain */
	bool checksum_ok; /* from a local sender (its checksum field is then partial), or verified: nothing to check */
};

/* Packets that wait to be written as one; private to tap.c. */
struct tap_batch {
	uint32_t frame_count;
	uint32_t bytes;                          /* of the packet they make, Ethernet header included */
	uint32_t next_seq;                       /* the segment that continues it */
	uint16_t gso_size;                       /* payload of each segment but the last */
	bool is_tcp;                             /* else written as it is */
	uint8_t psh;                             /* PSH of those behind the first */
	struct packet_view first;                /* the first packet, whose headers all share */
	uint8_t key[BUILD_MAX_HEADER_BYTES];     /* its headers, zero where segments of one packet may differ */
	uint8_t headers[BUILD_MAX_HEADER_BYTES]; /* those that are written for all of them */
	uint32_t frames[TAP_BATCH_FRAMES];
};

/* Must not be moved after tap_open(): its vectors point into it. */
struct tap {
	int fd; /* level-triggered readable while packets wait; -1: closed */
	int ifindex;
	char name[IFNAMSIZ];
	struct frame_pool *pool;

	/* private */
	uint32_t spare_count;
	uint32_t spares[TAP_MAX_READ_FRAMES]; /* FRAME_FILL: what the next packet is read into, in this order */
	struct virtio_net_hdr rx_vnet, tx_vnet;
	uint8_t rx_beyond; /* a packet that reaches this byte did not fit */
	struct iovec rx_iov[1 + TAP_MAX_READ_FRAMES + 1];
	struct iovec tx_iov[2 + TAP_BATCH_FRAMES];
	struct tap_batch batch;

	uint64_t rx_packets, rx_bytes; /* handed out */
	uint64_t rx_truncated;         /* packets dropped as the pool had too few frames for them */
	uint64_t rx_no_frame;          /* receptions given up as the pool had no frame at all; no packet is lost */
	uint64_t rx_errors;            /* failed reads, and packets shorter than an Ethernet header */
	uint64_t tx_packets;           /* frames posted */
	uint64_t tx_writes, tx_errors; /* write calls, and those that failed: their packets are lost */
};

/*
 * Creates the device `name` in the current network namespace and brings it up. `name` may hold %d, which the kernel
 * replaces by a free number; what it chose is in tap->name. A device that exists already is not taken over: -EBUSY.
 * `pool` is borrowed until tap_close(), its frames have TAP_MIN_FRAME_BYTES or more; `mtu` in bytes, as for an
 * interface. Needs CAP_NET_ADMIN. 0 or -errno: then nothing is left behind, and tap_close() does nothing.
 */
int tap_open(struct tap *tap, struct frame_pool *pool, const char *name, uint32_t mtu, const uint8_t mac[6]);
/* The device vanishes. Spare frames go back to the pool, a batch that was not flushed is dropped. */
void tap_close(struct tap *tap);

/*
 * Reads at most `max` packets, none after the one that makes `max_bytes` full, and returns how many were put into
 * `packets`. Fewer than that does not mean that none waits any more, as dropped ones count against it and as the pool
 * may be empty: ask poll().
 */
uint32_t tap_receive(struct tap *tap, struct tap_packet *packets, uint32_t max, uint32_t max_bytes);
/* Frames kept for the next read (FRAME_FILL), for exact accounting. */
uint32_t tap_spare_frames(const struct tap *tap);

/*
 * Posts one Ethernet frame, bytes [off, off + len) of `frame`. Its checksums are complete, but for the one of TCP,
 * which may be anything: the kernel makes it. segment_bytes: the kernel cuts its payload into segments of so much; 0:
 * into none. Always 0, as by the contract of xsk_transmit(): frame_tx_start() was called on it, and frame_tx_done()
 * will be, at the latest before tap_flush() returns. Order is kept. Until then the bytes must not change; they are not
 * changed here either.
 */
int tap_transmit(struct tap *tap, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes);
/* Writes what is pending. What the kernel does not take is counted and lost, as on a wire. */
void tap_flush(struct tap *tap);

#endif
