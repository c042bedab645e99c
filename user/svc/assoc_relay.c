/* SPDX-License-Identifier: MIT */
/*
 * Datagrams by the association's UDP socket: what waited for the reply, and
 * what the kernel's part leaves: fragments, other families, names.
 *
 * Up, a datagram is sent from the frames that it came in; the SOCKS5 header is
 * written over the headers that it had. Down, all sockets share one ring of
 * large buffers, and the kernel may put a row of datagrams of one size into one
 * of them (UDP_GRO); they are copied into frames for the client, so a buffer is
 * free again at once.
 */
#include "assoc_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socks_udp.h"

#define ASSOC_RECV_ENTRIES 64
#define ASSOC_CONTROL_BYTES 64

#ifndef SOL_UDP
#define SOL_UDP 17
#endif

static size_t assoc_ring_bytes(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (ASSOC_RECV_ENTRIES * sizeof(struct io_uring_buf) + page - 1) & ~(page - 1);
}

static void assoc_give_buffer(struct assocs *assocs, uint16_t id)
{
	io_uring_buf_ring_add(assocs->ring, assocs->buffers + (size_t)id * ASSOC_BUFFER_BYTES, ASSOC_BUFFER_BYTES, id,
			      ASSOC_RECV_ENTRIES - 1, 0);
	io_uring_buf_ring_advance(assocs->ring, 1);
}

int assoc_relay_create(struct assocs *assocs)
{
	struct io_uring_buf_reg reg = {.ring_entries = ASSOC_RECV_ENTRIES, .bgid = ASSOC_RECV_GROUP};
	void *ring = mmap(NULL, assoc_ring_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (ring == MAP_FAILED)
		return -errno;
	assocs->ring = ring;
	/* untouched ones cost nothing */
	assocs->buffers = malloc((size_t)ASSOC_RECV_ENTRIES * ASSOC_BUFFER_BYTES);
	assocs->stream = malloc(ASSOC_STREAM_BYTES);
	if (!assocs->buffers || !assocs->stream)
		return -ENOMEM;
	assocs->receive_header.msg_controllen = ASSOC_CONTROL_BYTES;
	io_uring_buf_ring_init(assocs->ring);
	reg.ring_addr = (uintptr_t)ring;
	err = io_uring_register_buf_ring(&assocs->uring->ring, &reg, 0);
	if (err)
		return err;
	for (uint16_t i = 0; i < ASSOC_RECV_ENTRIES; i++)
		assoc_give_buffer(assocs, i);
	return 0;
}

void assoc_relay_destroy(struct assocs *assocs)
{
	if (assocs->ring)
		munmap(assocs->ring, assoc_ring_bytes());
	free(assocs->buffers);
	free(assocs->stream);
}

/* --- the socket --- */

static socklen_t assoc_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *out)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)out;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (addr_is_ipv4(&endpoint->addr)) {
		sin->sin_family = AF_INET;
		sin->sin_port = endpoint->port;
		sin->sin_addr.s_addr = endpoint->addr.words[3];
		return sizeof(*sin);
	}
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = endpoint->port;
	memcpy(&sin6->sin6_addr, endpoint->addr.bytes, 16);
	return sizeof(*sin6);
}

static void assoc_from_sockaddr(const struct sockaddr_storage *from, struct endpoint *out)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)from;

	memset(out, 0, sizeof(*out));
	if (from->ss_family == AF_INET) {
		out->addr = addr_from_ipv4(sin->sin_addr.s_addr);
		out->port = sin->sin_port;
		return;
	}
	memcpy(out->addr.bytes, &sin6->sin6_addr, 16);
	out->port = sin6->sin6_port;
}

/* An own address of the configuration, where there is one: as the control connection's may be. */
static int assoc_bind(const struct assoc *assoc)
{
	const struct config_upstream *settings = &assoc->upstream->settings;
	struct endpoint source = {.port = 0};
	struct sockaddr_storage address;
	socklen_t bytes;

	if (!settings->source_count)
		return 0;
	source.addr = settings->sources[0];
	bytes = assoc_sockaddr(&source, &address);
	return bind(assoc->udp_fd, (const struct sockaddr *)&address, bytes);
}

int assoc_relay_open(struct assocs *assocs, struct assoc *assoc)
{
	const char *uplink = assoc->upstream->uplink;
	uint32_t mark = assoc->upstream->settings.mark;
	struct sockaddr_storage address, own;
	socklen_t bytes = assoc_sockaddr(&assoc->relay, &address), own_bytes = sizeof(own);
	int on = 1;

	(void)assocs;
	assoc->udp_fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (assoc->udp_fd < 0)
		return -errno;
	if (uplink[0] && setsockopt(assoc->udp_fd, SOL_SOCKET, SO_BINDTODEVICE, uplink, (socklen_t)strlen(uplink) + 1))
		return -errno;
	if (mark && setsockopt(assoc->udp_fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -errno;
	/* kernels without it deliver one by one */
	if (setsockopt(assoc->udp_fd, SOL_UDP, UDP_GRO, &on, sizeof(on)))
		on = 0;
	if (assoc_bind(assoc) || connect(assoc->udp_fd, (const struct sockaddr *)&address, bytes) ||
	    getsockname(assoc->udp_fd, (struct sockaddr *)&own, &own_bytes))
		return -errno;
	assoc_from_sockaddr(&own, &assoc->own);
	return 0;
}

/* --- up --- */

_Static_assert(SOCKS_UDP_TCP_IPV4_BYTES == SOCKS_UDP_IPV4_BYTES && SOCKS_UDP_TCP_IPV6_BYTES == SOCKS_UDP_IPV6_BYTES,
	       "both headers have one length");

void assoc_relay_address(struct assocs *assocs, const struct assoc *assoc, const struct stack_datagram *datagram,
			 uint32_t frame)
{
	const struct endpoint *remote = &datagram->link.src;
	struct frame *first = &assocs->pool->frames[frame];
	uint16_t header = (uint16_t)socks_udp_header_bytes(&remote->addr);
	uint8_t *at;

	first->off = (uint16_t)(first->off - header);
	first->len = (uint16_t)(first->len + header);
	at = frame_data(assocs->pool, frame) + first->off;
	if (assoc->stream)
		socks_udp_tcp_build(at, remote, (uint16_t)datagram->bytes);
	else
		socks_udp_build(at, remote);
}

void assoc_relay_send(struct assocs *assocs, struct assoc *assoc, uint32_t frame)
{
	struct uring_message *message = uring_message(assocs->uring);
	const struct frame_pool *pool = assocs->pool;
	uint32_t count = 0, bytes = 0, header;

	header =
		frame_data(pool, frame)[pool->frames[frame].off + 3] == 1 ? SOCKS_UDP_IPV4_BYTES : SOCKS_UDP_IPV6_BYTES;
	for (uint32_t i = frame; i != FRAME_NONE; i = pool->frames[i].next) {
		const struct frame *part = &pool->frames[i];

		message->iovecs[count++] = (struct iovec){frame_data(pool, i) + part->off, part->len};
		bytes += part->len;
	}
	pool->frames[frame].seq = assoc_index(assocs, assoc);
	assoc->in_flight++;
	assoc->packets_up++;
	assoc->bytes_up += bytes - header;
	assocs->counters.sent++;
	assocs->counters.sent_bytes += bytes - header;
	uring_send_datagram(assocs->uring, (union uring_word){.index = frame, .op = ASSOC_OP_SEND}, assoc->udp_fd,
			    message, count);
}

/* The slot cannot have been given to another: this operation was in flight. */
void assoc_relay_sent(struct assocs *assocs, uint32_t frame, int32_t res)
{
	struct assoc *assoc = &assocs->list[assocs->pool->frames[frame].seq];

	assoc_put_frames(assocs, frame);
	assoc->handling = true;
	assoc->in_flight--;
	if (res == -EAGAIN) {
		assocs->counters.send_blocked++;
	} else if (res < 0 && res != -ECANCELED) {
		assocs->counters.send_failed++;
		/* an ICMP error has come: nobody is behind the relay's port any more */
		if (res == -ECONNREFUSED && assoc->state == ASSOC_READY)
			assoc_close(assocs, assoc);
	}
	assoc->handling = false;
	assoc_finish(assocs, assoc);
}

/* --- down --- */

void assoc_relay_receive(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc->receiving || assoc->state != ASSOC_READY)
		return;
	if (assoc->stream) {
		assoc_stream_receive(assocs, assoc);
		return;
	}
	assoc->receiving = true;
	uring_recv_datagrams(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_RECV), assoc->udp_fd,
			     &assocs->receive_header, ASSOC_RECV_GROUP);
}

/* What no host can be reached by, and would reach more than the client if it were believed. */
static bool assoc_is_sender(const struct endpoint *remote)
{
	const struct addr *a = &remote->addr;

	if (!remote->port)
		return false;
	if (addr_is_ipv4(a))
		return a->bytes[12] != 0 && a->bytes[12] != 127 && a->bytes[12] < 224;
	return a->bytes[0] != 0xff && (a->words[0] | a->words[1] | a->words[2]) != 0;
}

void assoc_relay_deliver(struct assocs *assocs, struct assoc *assoc, const struct endpoint *remote, uint8_t *data,
			 size_t bytes)
{
	const struct iovec payload = {data, bytes};
	struct build_link link = assoc->link;

	/* another family than the client's cannot be told to it */
	if (!assoc_is_sender(remote) || addr_is_ipv4(&remote->addr) != addr_is_ipv4(&link.dst.addr)) {
		assocs->counters.received_malformed++;
		return;
	}
	link.src = *remote;
	assocs->counters.received++;
	assocs->counters.received_bytes += bytes;
	assoc->packets_down++;
	assoc->bytes_down += bytes;
	stack_send_datagram(assocs->stack, assoc->port, &link, &payload);
}

/* One datagram as the relay sent it. */
static void assoc_strip(struct assocs *assocs, struct assoc *assoc, uint8_t *data, size_t len)
{
	struct endpoint remote;
	size_t header;

	switch (socks_udp_parse(data, len, &remote, &header)) {
	case SOCKS_UDP_OK:
		assoc_relay_deliver(assocs, assoc, &remote, data + header, len - header);
		break;
	case SOCKS_UDP_FRAGMENT:
		assocs->counters.received_fragment++;
		break;
	case SOCKS_UDP_NAME:
		assocs->counters.received_name++;
		break;
	default:
		assocs->counters.received_malformed++;
	}
}

/* Bytes of each datagram but the last, by UDP_GRO; 0: it is one. */
static size_t assoc_segment_bytes(struct io_uring_recvmsg_out *out, struct msghdr *header)
{
	for (struct cmsghdr *c = io_uring_recvmsg_cmsg_firsthdr(out, header); c;
	     c = io_uring_recvmsg_cmsg_nexthdr(out, header, c)) {
		int size;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&size, CMSG_DATA(c), sizeof(size));
		return size > 0 ? (size_t)size : 0;
	}
	return 0;
}

static void assoc_take_buffer(struct assocs *assocs, struct assoc *assoc, uint16_t id, int32_t res)
{
	uint8_t *buffer = assocs->buffers + (size_t)id * ASSOC_BUFFER_BYTES, *data;
	struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, res, &assocs->receive_header);
	size_t left, segment;

	if (!out)
		return;
	data = io_uring_recvmsg_payload(out, &assocs->receive_header);
	left = io_uring_recvmsg_payload_length(out, res, &assocs->receive_header);
	segment = assoc_segment_bytes(out, &assocs->receive_header);
	assocs->counters.received_batches++;
	udp_touch(assocs->table, assoc->entry, assocs->now_ns);
	do {
		size_t bytes = segment && segment < left ? segment : left;

		assoc_strip(assocs, assoc, data, bytes);
		data += bytes;
		left -= bytes;
	} while (left);
}

void assoc_relay_starve(struct assocs *assocs, struct assoc *assoc)
{
	assocs->counters.received_no_buffer++;
	if (assoc->starved)
		return;
	assoc->starved = true;
	assoc->next = assocs->starved_head;
	assocs->starved_head = assoc_index(assocs, assoc);
}

void assoc_relay_received(struct assocs *assocs, struct assoc *assoc, int32_t res, uint32_t flags)
{
	if (!(flags & IORING_CQE_F_MORE))
		assoc->receiving = false;
	if (flags & IORING_CQE_F_BUFFER) {
		uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);

		if (res > 0 && assoc->state == ASSOC_READY && assoc->stream)
			assoc_stream_take(assocs, assoc, assocs->buffers + (size_t)id * ASSOC_BUFFER_BYTES,
					  (size_t)res);
		else if (res > 0 && assoc->state == ASSOC_READY)
			assoc_take_buffer(assocs, assoc, id, res);
		assoc_give_buffer(assocs, id);
	}
	if (assoc->state != ASSOC_READY || assoc->receiving)
		return;
	if (res == -ENOBUFS) {
		assoc_relay_starve(assocs, assoc);
	} else if (assoc->stream && res <= 0) {
		assocs->counters.control_ended++;
		assoc_close(assocs, assoc);
	} else if (res == -ECONNREFUSED) {
		/* an ICMP error has come: nobody is behind the relay's port any more */
		assoc_close(assocs, assoc);
	} else if (res < 0 && res != -EINTR && res != -EAGAIN && res != -EHOSTUNREACH && res != -ENETUNREACH &&
		   res != -EMSGSIZE) {
		assocs->counters.socket_failed++;
		assoc_close(assocs, assoc);
	} else {
		assoc_relay_receive(assocs, assoc);
	}
}

/* Buffers were given back since. */
void assoc_relay_feed_starved(struct assocs *assocs)
{
	while (assocs->starved_head != ASSOC_NONE) {
		struct assoc *assoc = &assocs->list[assocs->starved_head];

		assocs->starved_head = assoc->next;
		assoc->starved = false;
		if (assoc->state != ASSOC_FREE) {
			assoc_relay_receive(assocs, assoc);
			continue;
		}
		assoc->next = assocs->free_head;
		assocs->free_head = assoc_index(assocs, assoc);
	}
}
