/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * One `struct assoc` per client endpoint: a control connection to the upstream
 * (UDP ASSOCIATE) and, once that is granted, a UDP socket connected to the
 * relay that the reply named. Whatever the endpoint sends goes through it, with
 * its destination in the SOCKS5 UDP header, and whoever answers is named there
 * too: that makes the NAT full-cone.
 *
 *   DIALING ► GREETING ► (AUTHENTICATING ►) REQUESTING ► READY ► CLOSING ► FREE
 *                                     └──────────────► REFUSED ┘
 *
 * The first datagram opens it. Until it is ready datagrams wait, bounded in
 * count and bytes, and in time by the time-outs of the dial. When there will be
 * none, the client gets an ICMP error about its last datagram; the entry stays
 * REFUSED for a second, so that a busy client does not make the upstream
 * refuse every datagram anew.
 *
 * Once it is ready the kernel is given the association where it can carry it
 * (assoc_kernel.c). The socket stays open: it holds the port, and takes what
 * does not fit.
 *
 * It ends when nothing passed for `udp.idle-timeout`, when the control
 * connection ends, when the UDP socket fails, or when it has to make room
 * (core/udp.c says who goes). The table entry is free at once; the slot only
 * when no operation of the ring is in flight any more, and completions carry
 * its generation.
 */
#include "assoc_priv.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASSOC_EXTRA_SLOTS 1024 /* those that still close may outnumber the table's for a moment */
#define ASSOC_QUEUE_PKTS 32
#define ASSOC_QUEUE_BYTES (128u << 10)
#define ASSOC_QUEUE_SHARE 8 /* of all frames, for waiting datagrams */
#define ASSOC_REFUSED_NS 1000000000ull
/* A victim that turns out to be busy in the kernel is spared; so many times in a row. */
#define ASSOC_VICTIM_TRIES 64

static const char *const assoc_names[] = {
#define X(name, text, next) [ASSOC_##name] = text,
	ASSOC_STATES(X)
#undef X
};

static const uint16_t assoc_next[] = {
#define X(name, text, next) [ASSOC_##name] = next,
	ASSOC_STATES(X)
#undef X
};

/* --- all of them --- */

int assoc_create(struct assocs **out, const struct assoc_settings *settings)
{
	const struct config_udp *udp = &settings->config->udp;
	const struct udp_limits limits = {.max = udp->max_flows,
					  .per_client = udp->per_client,
					  .queue_pkts = ASSOC_QUEUE_PKTS,
					  .queue_bytes = ASSOC_QUEUE_BYTES,
					  .queue_frames = settings->pool->total / ASSOC_QUEUE_SHARE};
	struct assocs *assocs = calloc(1, sizeof(*assocs));
	int err = -ENOMEM;

	if (!assocs)
		return -ENOMEM;
	assocs->config = settings->config;
	assocs->uring = settings->uring;
	assocs->pool = settings->pool;
	assocs->calls = settings->calls;
	assocs->free_head = assocs->starved_head = ASSOC_NONE;
	assocs->count = udp->max_flows + ASSOC_EXTRA_SLOTS;
	assocs->list = calloc(assocs->count, sizeof(*assocs->list));
	assocs->owners = calloc(udp->max_flows, sizeof(*assocs->owners));
	assocs->table = udp_create(&limits, settings->secret, settings->pool);
	if (assocs->list && assocs->owners && assocs->table)
		err = udpmap_open(&assocs->map, settings->bpf);
	if (!err)
		err = assoc_relay_create(assocs);
	if (err)
		assoc_destroy(assocs);
	else
		*out = assocs;
	return err;
}

void assoc_destroy(struct assocs *assocs)
{
	if (!assocs)
		return;
	for (uint32_t i = 0; i < assocs->used; i++) {
		struct assoc *assoc = &assocs->list[i];

		if (assoc->state == ASSOC_FREE)
			continue;
		assoc_kernel_release(assocs, assoc);
		if (assoc->control_fd >= 0)
			close(assoc->control_fd);
		if (assoc->udp_fd >= 0)
			close(assoc->udp_fd);
	}
	assoc_relay_destroy(assocs);
	udpmap_close(&assocs->map);
	udp_destroy(assocs->table);
	free(assocs->owners);
	free(assocs->list);
	free(assocs);
}

void assoc_set_stack(struct assocs *assocs, struct stack *stack)
{
	assocs->stack = stack;
}

void assoc_set_time(struct assocs *assocs, uint64_t now_ns)
{
	if (!assocs->now_ns)
		wheel_init(&assocs->wheel, now_ns);
	assocs->now_ns = now_ns;
}

/* --- one of them --- */

void assoc_move(struct assocs *assocs, struct assoc *assoc, enum assoc_state to)
{
	assert(assoc_next[assoc->state] & BIT(to));
	assocs->state_counts[assoc->state]--;
	assoc->state = (uint8_t)to;
	assocs->state_counts[to]++;
}

void assoc_arm(struct assocs *assocs, struct assoc *assoc, uint64_t after_ns)
{
	wheel_arm(&assocs->wheel, &assoc->timer, assocs->now_ns + after_ns);
}

static uint16_t assoc_bit(int op)
{
	return (uint16_t)BIT(op - ASSOC_FIRST_OP);
}

union uring_word assoc_start_op(struct assocs *assocs, struct assoc *assoc, enum assoc_op op)
{
	assoc->in_flight++;
	if (op != ASSOC_OP_CANCEL)
		assoc->pending |= assoc_bit(op);
	return (union uring_word){
		.index = assoc_index(assocs, assoc), .generation = assoc->generation, .op = (uint8_t)op};
}

void assoc_put_frames(struct assocs *assocs, uint32_t frame)
{
	while (frame != FRAME_NONE) {
		uint32_t next = assocs->pool->frames[frame].next;

		frame_put(assocs->pool, frame);
		frame = next;
	}
}

static void assoc_drop_queue(struct assocs *assocs, struct assoc *assoc)
{
	uint32_t frame;

	while ((frame = udp_dequeue(assocs->table, assoc->entry)) != FRAME_NONE)
		assoc_put_frames(assocs, frame);
}

static struct assoc *assoc_get(struct assocs *assocs)
{
	struct assoc *assoc;
	uint16_t generation;

	if (assocs->free_head != ASSOC_NONE) {
		assoc = &assocs->list[assocs->free_head];
		assocs->free_head = assoc->next;
	} else if (assocs->used < assocs->count) {
		assoc = &assocs->list[assocs->used++];
		assocs->state_counts[ASSOC_FREE]++;
	} else {
		return NULL;
	}
	generation = assoc->generation;
	memset(assoc, 0, sizeof(*assoc));
	assoc->generation = (uint16_t)(generation + 1);
	assoc->control_fd = assoc->udp_fd = -1;
	assoc->frame = assoc->sending = assoc->partial = FRAME_NONE;
	assoc->entry = UDP_NONE;
	return assoc;
}

static void assoc_free(struct assocs *assocs, struct assoc *assoc)
{
	/* by RST: nothing is in it, and TIME-WAIT would take a port for each short association */
	if (assoc->control_fd >= 0)
		upstream_close_socket(assoc->control_fd, 1);
	if (assoc->udp_fd >= 0)
		close(assoc->udp_fd);
	assoc->control_fd = assoc->udp_fd = -1;
	assoc_put_frames(assocs, assoc->frame);
	assoc->frame = FRAME_NONE;
	assoc_stream_put(assocs, assoc);
	assoc->upstream->conns--;
	assoc_move(assocs, assoc, ASSOC_FREE);
	assocs->counters.closed++;
	/* one that waits for buffers goes to the free list when it is taken out there */
	if (assoc->starved)
		return;
	assoc->next = assocs->free_head;
	assocs->free_head = assoc_index(assocs, assoc);
}

/*
 * Ends what the ring does for its sockets. One by one, by user_data, for which the kernel has a hash table; all of a
 * descriptor would be looked for among all that are armed (io_uring/poll.c, io_poll_file_find()).
 */
static void assoc_cancel(struct assocs *assocs, struct assoc *assoc)
{
	union uring_word target = {.index = assoc_index(assocs, assoc), .generation = assoc->generation};

	if (assoc->cancelling)
		return;
	assoc->cancelling = true;
	for (int op = ASSOC_FIRST_OP; op < ASSOC_OP_CANCEL; op++) {
		if (!(assoc->pending & assoc_bit(op)))
			continue;
		target.op = (uint8_t)op;
		uring_cancel(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_CANCEL), target);
	}
}

void assoc_finish(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc->state == ASSOC_CLOSING && !assoc->in_flight)
		assoc_free(assocs, assoc);
}

void assoc_close(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc->state == ASSOC_CLOSING)
		return;
	assoc_kernel_release(assocs, assoc);
	wheel_cancel(&assocs->wheel, &assoc->timer);
	if (assoc->entry != UDP_NONE) {
		assoc_drop_queue(assocs, assoc);
		udp_remove(assocs->table, assoc->entry);
		assoc->entry = UDP_NONE;
	}
	assoc_move(assocs, assoc, ASSOC_CLOSING);
	if (!assoc->in_flight && !assoc->handling)
		assoc_free(assocs, assoc);
	else
		assoc_cancel(assocs, assoc);
}

void assoc_refuse(struct assocs *assocs, struct assoc *assoc, enum stack_error error)
{
	if (assoc->state == ASSOC_CLOSING || assoc->state == ASSOC_REFUSED)
		return;
	assoc_kernel_release(assocs, assoc);
	stack_send_error(assocs->stack, assoc->port, &assoc->link, assoc->quote, assoc->quote_bytes, error, 0,
			 assocs->now_ns);
	assoc_drop_queue(assocs, assoc);
	assoc_move(assocs, assoc, ASSOC_REFUSED);
	assoc_arm(assocs, assoc, ASSOC_REFUSED_NS);
	assoc_cancel(assocs, assoc);
}

/* --- datagrams of clients --- */

/* Makes room, where somebody has to go. */
static void assoc_evict(struct assocs *assocs, const struct addr *client)
{
	uint32_t victim = udp_victim(assocs->table, client);
	bool full = udp_count(assocs->table) == assocs->config->udp.max_flows;

	for (int i = 0; victim != UDP_NONE && i < ASSOC_VICTIM_TRIES; i++) {
		uint64_t before_ns = udp_last_ns(assocs->table, victim);
		uint32_t next;

		assoc_kernel_note(assocs, &assocs->list[assocs->owners[victim]]);
		if (udp_last_ns(assocs->table, victim) == before_ns)
			break;
		next = udp_victim(assocs->table, client);
		if (next == victim)
			break;
		victim = next;
	}
	if (victim == UDP_NONE)
		return;
	if (full)
		assocs->counters.evicted++;
	else
		assocs->counters.evicted_per_client++;
	assoc_close(assocs, &assocs->list[assocs->owners[victim]]);
}

static struct assoc *assoc_open(struct assocs *assocs, const struct udp_key *key, struct upstream *upstream)
{
	struct assoc *assoc;
	int fd;

	if (assocs->stopping)
		return NULL;
	assoc_evict(assocs, &key->client.addr);
	fd = assoc_open_control(assocs, upstream);
	if (fd < 0)
		return NULL;
	assoc = assoc_get(assocs);
	if (!assoc) {
		assocs->counters.no_slot++;
		close(fd);
		return NULL;
	}
	assoc->control_fd = fd;
	assoc->upstream = upstream;
	upstream->conns++;
	assoc->stream = upstream->settings.udp == CONFIG_UDP_TCP;
	assoc->created_ns = assocs->now_ns;
	assoc->entry = udp_add(assocs->table, key, assocs->now_ns);
	assert(assoc->entry != UDP_NONE);
	assocs->owners[assoc->entry] = assoc_index(assocs, assoc);
	assocs->counters.opened++;
	assoc_move(assocs, assoc, ASSOC_DIALING);
	return assoc;
}

/* Where its answers go, and what an ICMP error would quote. */
static void assoc_note_client(struct assoc *assoc, const struct stack_datagram *datagram)
{
	assoc->link = datagram->link;
	assoc->port = datagram->port;
	assoc->quote_bytes = (uint16_t)MIN((uint32_t)datagram->quote_bytes, sizeof(assoc->quote));
	memcpy(assoc->quote, datagram->quote, assoc->quote_bytes);
}

/* It came in whole, and must leave so: the same that a router would say, less the header that is put in front. */
static bool assoc_is_too_big(struct assocs *assocs, struct upstream *upstream, const struct stack_datagram *datagram)
{
	uint32_t header = addr_is_ipv4(&datagram->link.src.addr) ? 10 : 22;
	uint32_t from = addr_is_ipv4(&datagram->link.src.addr) ? 20 : 40;
	uint32_t to = addr_is_ipv4(upstream_address(upstream)) ? 20 : 40;

	if (!datagram->dont_fragment || !upstream->routed ||
	    datagram->packet_bytes - from + to + header <= upstream->mtu)
		return false;
	assocs->counters.too_big++;
	stack_send_error(assocs->stack, datagram->port, &datagram->link, datagram->quote, datagram->quote_bytes,
			 STACK_ERROR_TOO_BIG, upstream->mtu - header - to + from, assocs->now_ns);
	return true;
}

static void assoc_error(struct assocs *assocs, const struct stack_datagram *datagram, enum stack_error error)
{
	stack_send_error(assocs->stack, datagram->port, &datagram->link, datagram->quote, datagram->quote_bytes, error,
			 0, assocs->now_ns);
}

/* The datagram's frames are the association's from here on, or dropped. */
static void assoc_take(struct assocs *assocs, struct assoc *assoc, struct stack_datagram *datagram)
{
	uint32_t first = datagram->frames, frames = 0;

	datagram->frames = FRAME_NONE;
	for (uint32_t i = first; i != FRAME_NONE; i = assocs->pool->frames[i].next, frames++)
		frame_set_owner(assocs->pool, i, FRAME_FLOW);
	assoc_relay_address(assocs, assoc, datagram, first);
	if (assoc->state == ASSOC_READY && !assoc->stream) {
		assoc_relay_send(assocs, assoc, first);
		return;
	}
	if (udp_queue(assocs->table, assoc->entry, first, datagram->bytes, frames)) {
		assocs->counters.queued++;
		assoc_stream_send(assocs, assoc);
		return;
	}
	assocs->counters.queue_full++;
	assoc_put_frames(assocs, first);
}

static void assoc_carry(struct assocs *assocs, struct stack_datagram *datagram, int32_t wanted)
{
	struct upstream *upstream = assocs->calls.choose(assocs->calls.ctx, wanted);
	struct udp_key key = {.client = datagram->link.dst, .wanted = wanted < 0 ? UDP_ANY_UPSTREAM : (uint16_t)wanted};
	uint32_t entry = udp_find(assocs->table, &key);
	struct assoc *assoc = entry == UDP_NONE ? NULL : &assocs->list[assocs->owners[entry]];
	bool fresh = !assoc;

	if (!assoc && upstream && upstream->settings.udp == CONFIG_UDP_OFF) {
		assocs->counters.refused_off++;
		assoc_error(assocs, datagram, STACK_ERROR_PORT_UNREACHABLE);
		return;
	}
	if (!assoc && upstream)
		assoc = assoc_open(assocs, &key, upstream);
	if (!assoc) {
		assoc_error(assocs, datagram, STACK_ERROR_HOST_UNREACHABLE);
		return;
	}
	if (assoc->state == ASSOC_REFUSED) {
		assocs->counters.refused_again++;
		assoc_error(assocs, datagram, STACK_ERROR_PORT_UNREACHABLE);
		return;
	}
	assoc_note_client(assoc, datagram);
	udp_touch(assocs->table, assoc->entry, assocs->now_ns);
	if (assoc->stream || !assoc_is_too_big(assocs, assoc->upstream, datagram))
		assoc_take(assocs, assoc, datagram);
	/* last: what fails at once finds everything in its place */
	if (fresh)
		assoc_dial(assocs, assoc);
}

void assoc_datagram(struct assocs *assocs, struct stack_datagram *datagram)
{
	const struct rules_packet packet = {
		.src = datagram->link.dst.addr,
		.dst = datagram->link.src.addr,
		.dport = datagram->link.src.port,
		.proto = RULES_IPPROTO_UDP,
		.has_port = 1,
	};
	struct rules_verdict verdict = assocs->calls.decide(assocs->calls.ctx, &packet);

	/* it has been judged; asked again for the upstream alone */
	assoc_carry(assocs, datagram, verdict.upstream);
}

/* --- the ring and the clock --- */

void assoc_complete(struct assocs *assocs, union uring_word word, int32_t res, uint32_t flags)
{
	struct assoc *assoc;

	if (word.op == ASSOC_OP_SEND) {
		assoc_relay_sent(assocs, word.index, res);
		return;
	}
	if (word.index >= assocs->used || assocs->list[word.index].generation != word.generation ||
	    assocs->list[word.index].state == ASSOC_FREE) {
		assocs->counters.stale_completions++;
		return;
	}
	assoc = &assocs->list[word.index];
	assoc->handling = true;
	if (!(flags & IORING_CQE_F_MORE)) {
		assoc->in_flight--;
		if (word.op != ASSOC_OP_CANCEL)
			assoc->pending &= (uint16_t)~assoc_bit(word.op);
	}
	switch (word.op) {
	case ASSOC_OP_CONNECT:
		assoc_connected(assocs, assoc, res);
		break;
	case ASSOC_OP_HANDSHAKE_SEND:
		assoc_handshake_sent(assocs, assoc, res);
		break;
	case ASSOC_OP_HANDSHAKE_RECV:
		assoc_handshake_received(assocs, assoc, res);
		break;
	case ASSOC_OP_WATCH:
		if (assoc->state == ASSOC_READY) {
			assocs->counters.control_ended++;
			assoc_close(assocs, assoc);
		}
		break;
	case ASSOC_OP_STREAM_SEND:
		assoc_stream_sent(assocs, assoc, res);
		break;
	case ASSOC_OP_RECV:
		assoc_relay_received(assocs, assoc, res, flags);
		break;
	default: /* ASSOC_OP_CANCEL: only counted */
		break;
	}
	assoc->handling = false;
	assoc_finish(assocs, assoc);
}

static void assoc_check_idle(struct assocs *assocs, struct assoc *assoc)
{
	uint64_t idle_ns = assocs->config->udp.idle_timeout_ns, last_ns;

	assoc_kernel_note(assocs, assoc);
	last_ns = udp_last_ns(assocs->table, assoc->entry);
	if (last_ns + idle_ns > assocs->now_ns) {
		assoc_arm(assocs, assoc, last_ns + idle_ns - assocs->now_ns);
		return;
	}
	assocs->counters.idle++;
	assoc_close(assocs, assoc);
}

static void assoc_timer(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct assocs *assocs = ctx;
	struct assoc *assoc = (struct assoc *)((char *)timer - offsetof(struct assoc, timer));

	(void)now_ns;
	if (assoc->state == ASSOC_READY)
		assoc_check_idle(assocs, assoc);
	else if (assoc->state == ASSOC_REFUSED)
		assoc_close(assocs, assoc);
	else if (assoc->state != ASSOC_CLOSING)
		assoc_dial_timed_out(assocs, assoc);
}

void assoc_flush(struct assocs *assocs)
{
	assoc_relay_feed_starved(assocs);
	wheel_expire(&assocs->wheel, assocs->now_ns, assoc_timer, assocs);
}

uint64_t assoc_next_timer_ns(const struct assocs *assocs)
{
	return wheel_next_ns(&assocs->wheel);
}

/* --- what the network does --- */

void assoc_routes_changed(struct assocs *assocs)
{
	for (uint32_t i = 0; i < assocs->used; i++) {
		struct assoc *assoc = &assocs->list[i];

		if (assoc->state == ASSOC_READY && assoc->carried)
			assoc_close(assocs, assoc);
	}
}

void assoc_upstreams_changed(struct assocs *assocs)
{
	for (uint32_t i = 0; i < assocs->used; i++) {
		struct assoc *assoc = &assocs->list[i];

		if (assoc->entry != UDP_NONE && udp_key_of(assocs->table, assoc->entry)->wanted != UDP_ANY_UPSTREAM)
			assoc_close(assocs, assoc);
	}
}

void assoc_forget_next_hops(struct assocs *assocs)
{
	for (uint32_t i = 0; i < assocs->used; i++)
		if (assocs->list[i].carried)
			__atomic_store_n(&assocs->map.entries[assocs->list[i].entry].way[FLOW_UP].mac_valid, 0,
					 __ATOMIC_RELAXED);
}

uint32_t assoc_close_some(struct assocs *assocs, uint32_t max)
{
	uint32_t left = assocs->used - assocs->close_cursor;

	assocs->stopping = true;
	for (uint32_t i = 0; i < max && assocs->close_cursor < assocs->used; i++) {
		struct assoc *assoc = &assocs->list[assocs->close_cursor++];

		if (assoc->state != ASSOC_FREE && assoc->state != ASSOC_CLOSING)
			assoc_close(assocs, assoc);
	}
	return left;
}

uint32_t assoc_busy(const struct assocs *assocs)
{
	return assocs->used - assocs->state_counts[ASSOC_FREE];
}

/* --- looking at it --- */

uint32_t assoc_slots(const struct assocs *assocs)
{
	return assocs->count;
}

bool assoc_describe(const struct assocs *assocs, uint32_t slot, struct assoc_row *out)
{
	const struct assoc *assoc;

	if (slot >= assocs->used)
		return false;
	assoc = &assocs->list[slot];
	if (assoc->entry == UDP_NONE || assoc->state == ASSOC_FREE || assoc->state == ASSOC_CLOSING)
		return false;
	*out = (struct assoc_row){
		.client = udp_key_of(assocs->table, assoc->entry)->client,
		.state = assoc_names[assoc->state],
		.upstream = assoc->upstream->settings.name,
		.carried = assoc->carried,
		.packets_up = assoc->packets_up,
		.packets_down = assoc->packets_down,
		.bytes_up = assoc->bytes_up,
		.bytes_down = assoc->bytes_down,
		.created_ns = assoc->created_ns,
		.last_ns = udp_last_ns(assocs->table, assoc->entry),
	};
	if (assoc->carried) {
		const struct udp_assoc *entry = &assocs->map.entries[assoc->entry];

		out->packets_up += entry->way[FLOW_UP].packets;
		out->packets_down += entry->way[FLOW_DOWN].packets;
		out->bytes_up += entry->way[FLOW_UP].payload_bytes;
		out->bytes_down += entry->way[FLOW_DOWN].payload_bytes;
	}
	return true;
}

const struct assoc_counters *assoc_counters(const struct assocs *assocs)
{
	return &assocs->counters;
}

void assoc_gauges(const struct assocs *assocs, struct assoc_gauges *out)
{
	const uint32_t *counts = assocs->state_counts;

	*out = (struct assoc_gauges){
		.associations = udp_count(assocs->table),
		.clients = udp_clients(assocs->table),
		.dialing = counts[ASSOC_DIALING] + counts[ASSOC_GREETING] + counts[ASSOC_AUTHENTICATING] +
			   counts[ASSOC_REQUESTING],
		.ready = counts[ASSOC_READY],
		.carried = assocs->carried,
		.refused = counts[ASSOC_REFUSED],
		.closing = counts[ASSOC_CLOSING],
	};
}
