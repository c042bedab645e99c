/* SPDX-License-Identifier: MIT */
#include "xsk.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "compat.h"
#include "log.h"

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define XSK_RX_DESCS 4096
#define XSK_TX_DESCS 2048
#define XSK_FILL_DESCS 4096
#define XSK_COMPLETION_DESCS 2048
#define XSK_BIND_RETRIES 40
#define XSK_BIND_RETRY_NS 50000000
/* In copy mode packets on their way count against the send buffer; it must hold a whole transmit ring. */
#define XSK_SEND_BUFFER_BYTES (XSK_TX_DESCS * 4096)

int xsk_pool_create(struct xsk_pool *pool, struct umem *umem)
{
	struct xsk_umem_config config = {
		.fill_size = XSK_FILL_DESCS,
		.comp_size = XSK_COMPLETION_DESCS,
		.frame_size = umem->pool.frame_bytes,
	};

	memset(pool, 0, sizeof(*pool));
	pool->umem = umem;
	return xsk_umem__create(&pool->handle, umem->area, (uint64_t)umem->pool.total * umem->pool.frame_bytes,
				&pool->fill, &pool->completion, &config);
}

void xsk_pool_destroy(struct xsk_pool *pool)
{
	if (pool->handle)
		xsk_umem__delete(pool->handle);
	memset(pool, 0, sizeof(*pool));
}

static int xsk_bind(struct xsk *xsk, const char *ifname, uint32_t queue, const struct xsk_socket_config *config)
{
	struct xsk_pool *pool = xsk->pool;

	if (!pool->rings_taken) {
		xsk->fill = &pool->fill;
		xsk->completion = &pool->completion;
		return xsk_socket__create(&xsk->handle, ifname, queue, pool->handle, &xsk->rx, &xsk->tx, config);
	}
	xsk->fill = &xsk->own_fill;
	xsk->completion = &xsk->own_completion;
	return xsk_socket__create_shared(&xsk->handle, ifname, queue, pool->handle, &xsk->rx, &xsk->tx, xsk->fill,
					 xsk->completion, config);
}

/* A kernel without the larger budget sends 32 packets per call, and xsk_kick() repeats the call. */
static void xsk_tune(const struct xsk *xsk)
{
	int budget = XSK_TX_DESCS, bytes = XSK_SEND_BUFFER_BYTES;

	if (setsockopt(xsk->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget)))
		log_debug("xsk: this kernel has no transmit budget option: %s", strerror(errno));
	if (setsockopt(xsk->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		log_debug("xsk: cannot enlarge the send buffer: %s", strerror(errno));
}

int xsk_open(struct xsk *xsk, struct xsk_pool *pool, const char *ifname, uint32_t queue, enum xsk_bind_mode mode,
	     bool generic, uint32_t fill_target)
{
	const struct timespec pause = {.tv_nsec = XSK_BIND_RETRY_NS};
	struct xsk_socket_config config = {
		.rx_size = XSK_RX_DESCS,
		.tx_size = XSK_TX_DESCS,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.xdp_flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE,
		.bind_flags = XDP_USE_NEED_WAKEUP | (mode == XSK_BIND_ZEROCOPY ? XDP_ZEROCOPY : XDP_COPY),
	};
	int err = -EBUSY;

	memset(xsk, 0, sizeof(*xsk));
	xsk->pool = pool;
	xsk->fd = -1;
	for (int tries = 0; tries < XSK_BIND_RETRIES && err == -EBUSY; tries++) {
		if (tries)
			nanosleep(&pause, NULL);
		err = xsk_bind(xsk, ifname, queue, &config);
	}
	if (err)
		return err;
	pool->rings_taken = true;
	xsk->fd = xsk_socket__fd(xsk->handle);
	xsk->fill_target = fill_target < XSK_FILL_DESCS ? fill_target : XSK_FILL_DESCS;
	xsk_tune(xsk);
	return 0;
}

void xsk_close(struct xsk *xsk)
{
	if (xsk->handle)
		xsk_socket__delete(xsk->handle);
	xsk->handle = NULL;
	xsk->fd = -1;
}

bool xsk_is_zerocopy(const struct xsk *xsk)
{
	struct xdp_options options = {0};
	socklen_t bytes = sizeof(options);

	return !getsockopt(xsk->fd, SOL_XDP, XDP_OPTIONS, &options, &bytes) && (options.flags & XDP_OPTIONS_ZEROCOPY);
}

static struct frame_pool *xsk_frames(const struct xsk *xsk)
{
	return &xsk->pool->umem->pool;
}

uint32_t xsk_receive(struct xsk *xsk, struct xsk_packet *packets, uint32_t max)
{
	struct frame_pool *frames = xsk_frames(xsk);
	uint32_t first, count = xsk_ring_cons__peek(&xsk->rx, max, &first);

	for (uint32_t i = 0; i < count; i++) {
		const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&xsk->rx, first + i);

		packets[i].frame = (uint32_t)(desc->addr / frames->frame_bytes);
		packets[i].off = (uint16_t)(desc->addr % frames->frame_bytes);
		packets[i].len = (uint16_t)desc->len;
		frame_set_owner(frames, packets[i].frame, FRAME_RX);
	}
	if (count)
		xsk_ring_cons__release(&xsk->rx, count);
	xsk->in_fill -= count;
	xsk->rx_packets += count;
	return count;
}

bool xsk_readable(struct xsk *xsk)
{
	return xsk_cons_nb_avail(&xsk->rx, 1) > 0;
}

void xsk_refill(struct xsk *xsk, uint32_t reserve)
{
	struct frame_pool *frames = xsk_frames(xsk);
	uint32_t want = xsk->fill_target - xsk->in_fill, spare = frame_pool_free(frames), room, first;

	spare = spare > reserve ? spare - reserve : 0;
	want = want < spare ? want : spare;
	room = xsk_prod_nb_free(xsk->fill, want);
	want = want < room ? want : room;
	if (!want || !xsk_ring_prod__reserve(xsk->fill, want, &first))
		return;
	for (uint32_t i = 0; i < want; i++) {
		uint32_t frame = frame_get(frames, FRAME_FILL);

		*xsk_ring_prod__fill_addr(xsk->fill, first + i) = (uint64_t)frame * frames->frame_bytes;
	}
	xsk_ring_prod__submit(xsk->fill, want);
	xsk->in_fill += want;
	/* a zero-copy driver that ran dry sleeps until told that there are frames again */
	if (xsk_ring_prod__needs_wakeup(xsk->fill))
		recvfrom(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

int xsk_transmit(struct xsk *xsk, uint32_t frame, uint16_t off, uint16_t len)
{
	struct frame_pool *frames = xsk_frames(xsk);
	struct xdp_desc *desc;
	uint32_t index;

	if (!xsk_ring_prod__reserve(&xsk->tx, 1, &index)) {
		xsk_kick(xsk);
		if (!xsk_ring_prod__reserve(&xsk->tx, 1, &index)) {
			xsk->tx_ring_full++;
			return -EAGAIN;
		}
	}
	desc = xsk_ring_prod__tx_desc(&xsk->tx, index);
	desc->addr = (uint64_t)frame * frames->frame_bytes + off;
	desc->len = len;
	desc->options = 0;
	xsk_ring_prod__submit(&xsk->tx, 1);
	frame_tx_start(frames, frame);
	xsk->tx_unkicked++;
	xsk->tx_packets++;
	return 0;
}

bool xsk_tx_pending(struct xsk *xsk)
{
	return __atomic_load_n(xsk->tx.consumer, __ATOMIC_ACQUIRE) != *xsk->tx.producer;
}

void xsk_kick(struct xsk *xsk)
{
	uint32_t before, after;

	xsk->tx_unkicked = 0;
	/* one call sends a bounded number; repeat only while the kernel makes progress */
	do {
		before = __atomic_load_n(xsk->tx.consumer, __ATOMIC_ACQUIRE);
		xsk_reclaim(xsk);
		if (before == *xsk->tx.producer)
			return;
		sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
		xsk->tx_kicks++;
		after = __atomic_load_n(xsk->tx.consumer, __ATOMIC_ACQUIRE);
	} while (after != before);
	xsk_reclaim(xsk);
}

void xsk_reclaim(struct xsk *xsk)
{
	struct frame_pool *frames = xsk_frames(xsk);
	uint32_t first, count = xsk_ring_cons__peek(xsk->completion, XSK_COMPLETION_DESCS, &first);

	for (uint32_t i = 0; i < count; i++)
		frame_tx_done(frames,
			      (uint32_t)(*xsk_ring_cons__comp_addr(xsk->completion, first + i) / frames->frame_bytes));
	if (count)
		xsk_ring_cons__release(xsk->completion, count);
}

void xsk_count_rings(const struct xsk *xsk, uint32_t *rx, uint32_t *completion)
{
	*rx = __atomic_load_n(xsk->rx.producer, __ATOMIC_ACQUIRE) - *xsk->rx.consumer;
	*completion = __atomic_load_n(xsk->completion->producer, __ATOMIC_ACQUIRE) - *xsk->completion->consumer;
}

int xsk_read_kernel_stats(const struct xsk *xsk, struct xsk_kernel_stats *out)
{
	struct xdp_statistics kernel;
	socklen_t bytes = sizeof(kernel);

	if (getsockopt(xsk->fd, SOL_XDP, XDP_STATISTICS, &kernel, &bytes))
		return -errno;
	out->rx_dropped = kernel.rx_dropped;
	out->rx_ring_full = kernel.rx_ring_full;
	out->fill_empty = kernel.rx_fill_ring_empty_descs;
	return 0;
}
