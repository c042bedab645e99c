/* SPDX-License-Identifier: MIT */
/*
 * AF_XDP sockets over libxdp's ring helpers: one struct xsk per interface
 * queue, all sharing one UMEM. Frames move between the rings and the pool;
 * nothing here looks into a packet.
 */
#ifndef SOCKSPLICE_XSK_H
#define SOCKSPLICE_XSK_H

#include <stdbool.h>
#include <stdint.h>
#include <xdp/xsk.h>

#include "umem.h"

/* The UMEM as registered with the kernel. The first socket uses its fill and completion ring, others have their own. */
struct xsk_pool {
	struct umem *umem;
	struct xsk_umem *handle;
	struct xsk_ring_prod fill;
	struct xsk_ring_cons completion;
	bool rings_taken;
};

enum xsk_bind_mode { XSK_BIND_ZEROCOPY, XSK_BIND_COPY };

struct xsk {
	struct xsk_pool *pool;
	struct xsk_socket *handle;
	int fd;
	struct xsk_ring_cons rx;
	struct xsk_ring_prod tx;
	struct xsk_ring_prod *fill;
	struct xsk_ring_cons *completion;
	struct xsk_ring_prod own_fill;
	struct xsk_ring_cons own_completion;
	uint32_t fill_target; /* frames to keep with the kernel for reception */
	uint32_t in_fill;     /* frames given for reception and not yet seen in the rx ring by us */
	uint32_t tx_unkicked; /* posted since the last sendto() */
	uint64_t rx_packets, tx_packets, tx_kicks, tx_ring_full;
};

struct xsk_packet {
	uint32_t frame;
	uint16_t off, len;
};

/* Kernel-side losses of one socket (XDP_STATISTICS), in packets. */
struct xsk_kernel_stats {
	uint64_t rx_dropped, rx_ring_full, fill_empty;
};

/* 0 or -errno. */
int xsk_pool_create(struct xsk_pool *pool, struct umem *umem);
void xsk_pool_destroy(struct xsk_pool *pool);

/*
 * Binds to one queue. Right after another socket on that queue was closed the kernel says EBUSY for a while; this is
 * waited for, two seconds at most. fill_target: frames kept ready for reception. 0 or -errno.
 */
int xsk_open(struct xsk *xsk, struct xsk_pool *pool, const char *ifname, uint32_t queue, enum xsk_bind_mode mode,
	     bool generic, uint32_t fill_target);
void xsk_close(struct xsk *xsk);
/* What the kernel really does: sockets that share a UMEM all have the mode of the first. */
bool xsk_is_zerocopy(const struct xsk *xsk);

/* Takes up to `max` received packets, their frames now FRAME_RX. */
uint32_t xsk_receive(struct xsk *xsk, struct xsk_packet *packets, uint32_t max);
/* Packets that wait in the receive ring. */
bool xsk_readable(struct xsk *xsk);
/* Tops the fill ring up to its target as long as the frame pool keeps `reserve` free frames. */
void xsk_refill(struct xsk *xsk, uint32_t reserve);
/* 0, or -EAGAIN when the ring is full even after completions were collected. Marks the frame by frame_tx_start(). */
int xsk_transmit(struct xsk *xsk, uint32_t frame, uint16_t off, uint16_t len);
/* Has the kernel send what was posted, and collects what is sent. */
void xsk_kick(struct xsk *xsk);
void xsk_reclaim(struct xsk *xsk);
/* Posted but not yet taken by the kernel. */
bool xsk_tx_pending(struct xsk *xsk);

/* Frames in the receive ring and the completion ring now, for exact accounting. */
void xsk_count_rings(const struct xsk *xsk, uint32_t *rx, uint32_t *completion);
int xsk_read_kernel_stats(const struct xsk *xsk, struct xsk_kernel_stats *out);

#endif
