/* SPDX-License-Identifier: MIT */
#include "lib_replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 1024
#define FRAME_BYTES 2048
#define LARGE_FRAME_BYTES 16384
#define LINK_NS (5 * REPLAY_MS)
#define LATE_NS (40 * REPLAY_MS)
#define CLIENT_RTO_NS (300 * REPLAY_MS)
#define LIMIT_NS (300000 * REPLAY_MS)
#define QUEUE 4096
#define RX_OFFSET 256
#define RX_BYTES 1600 /* more in a packet: it comes in several frames */
#define PACKET_BYTES 65536
#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

struct in_flight {
	uint64_t due_ns;
	uint32_t order;
	enum replay_direction direction;
	uint16_t len;
	uint8_t bytes[];
};

static struct in_flight *queue[QUEUE];
static uint32_t queue_count, queue_order;
static struct packet_view seen[256];
static uint8_t seen_bytes[256][128];
static uint32_t seen_head, seen_tail;
static bool by_hand; /* a script drives the client: packets are collected, not answered */

static uint8_t pattern(enum replay_direction direction, uint32_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251 + (direction == TO_STACK ? 3 : 11));
}

struct replay_settings replay_defaults(void)
{
	struct replay_settings s = {
		.sack = true,
		.timestamps = true,
		.window_scale = true,
		.down_bytes = 30000,
		.up_bytes = 30000,
		.client_iss = 1000,
		.client_mss = 1460,
		.client_window = 60000,
	};

	for (int d = 0; d < 2; d++)
		s.lose[d] = s.twice[d] = s.late[d] = REPLAY_NONE;
	return s;
}

/* --- the link --- */

static void link_enqueue(struct replay *r, enum replay_direction direction, const uint8_t *bytes, uint16_t len,
			 uint64_t delay_ns)
{
	struct in_flight *p = malloc(sizeof(*p) + len);

	assert_true(queue_count < QUEUE);
	p->due_ns = r->now_ns + delay_ns;
	p->order = queue_order++;
	p->direction = direction;
	p->len = len;
	memcpy(p->bytes, bytes, len);
	queue[queue_count++] = p;
}

static void link_send(struct replay *r, enum replay_direction direction, const uint8_t *bytes, uint16_t len)
{
	const struct replay_settings *s = &r->settings;
	uint32_t n = r->sent[direction]++;

	if (n == s->lose[direction] || (s->lose_every[direction] && n % s->lose_every[direction] == 1))
		return;
	link_enqueue(r, direction, bytes, len, n == s->late[direction] ? LATE_NS : LINK_NS);
	if (n == s->twice[direction])
		link_enqueue(r, direction, bytes, len, LINK_NS + REPLAY_MS);
}

static struct in_flight *link_next(void)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < queue_count; i++)
		if (queue[i]->due_ns < queue[best]->due_ns ||
		    (queue[i]->due_ns == queue[best]->due_ns && queue[i]->order < queue[best]->order))
			best = i;
	return queue_count ? queue[best] : NULL;
}

static void link_remove(const struct in_flight *p)
{
	for (uint32_t i = 0; i < queue_count; i++)
		if (queue[i] == p) {
			queue[i] = queue[--queue_count];
			return;
		}
}

/* --- packets of the client --- */

static uint32_t sum16(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += (uint32_t)p[i] << (i & 1 ? 0 : 8);
	return sum;
}

static uint16_t finish(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint8_t *put(uint8_t *p, uint64_t value, int bytes)
{
	while (bytes--)
		*p++ = (uint8_t)(value >> (8 * bytes));
	return p;
}

static uint8_t *put_sacks(const struct replay *r, uint8_t *p)
{
	uint32_t base = r->irs + 1, count = 0;
	uint8_t *start = p;

	p = put(p, 0x01010500, 4);
	for (uint32_t i = r->rcv_nxt - base; i < r->settings.down_bytes && count < 3;) {
		uint32_t from = i;

		while (i < r->settings.down_bytes && r->have[i])
			i++;
		if (i > from) {
			p = put(put(p, base + from, 4), base + i, 4);
			count++;
		} else {
			i++;
		}
	}
	start[3] = (uint8_t)(2 + 8 * count);
	return count ? p : start;
}

static uint8_t *put_options(const struct replay *r, uint8_t *p, uint8_t flags, uint32_t ts)
{
	const struct replay_settings *s = &r->settings;

	if (flags & SYN) {
		p = put(p, 0x02040000u | s->client_mss, 4);
		if (s->window_scale)
			p = put(p, 0x01030300, 4);
		if (s->sack)
			p = put(p, 0x01010402, 4);
	}
	if (s->timestamps) {
		p = put(p, 0x0101080a, 4);
		p = put(put(p, ts, 4), r->peer_ts, 4);
	}
	if (s->sack && !(flags & (SYN | RST)) && !by_hand)
		p = put_sacks(r, p);
	return p;
}

static uint16_t make_packet(const struct replay *r, uint8_t *frame, uint8_t flags, uint32_t seq, uint32_t ack,
			    uint16_t window, const uint8_t *payload, uint16_t bytes, uint32_t ts)
{
	bool v6 = r->settings.ipv6;
	uint8_t *ip = frame + 14, *tcp = ip + (v6 ? 40 : 20), *p = tcp + 20;
	uint16_t l4;

	memset(frame, 0, 14 + 40 + 60);
	put(put(frame, 0x020000000001ull, 6), 0x020000000002ull, 6);
	put(frame + 12, v6 ? 0x86dd : 0x0800, 2);
	p = put_options(r, p, flags, ts);
	put(put(put(put(put(tcp, 40000, 2), 80, 2), seq, 4), ack, 4), (uint64_t)((p - tcp) / 4) << 4, 1);
	tcp[13] = flags;
	put(tcp + 14, window, 2);
	if (bytes)
		memcpy(p, payload, bytes);
	l4 = (uint16_t)(p + bytes - tcp);
	if (v6) {
		put(put(put(ip, 0x60000000, 4), l4, 2), 0x0640, 2);
		ip[8] = ip[24] = 0xfd;
		ip[23] = 2;
		ip[39] = 9;
	} else {
		put(put(put(ip, 0x4500, 2), 20u + l4, 2), 0x00004000, 4);
		put(ip + 8, 0x4006, 2);
		put(put(ip + 12, 0x0a010002, 4), 0x0a090001, 4);
		put(ip + 10, finish(sum16(ip, 20, 0)), 2);
	}
	put(tcp + 16, finish(sum16(tcp, l4, sum16(v6 ? ip + 8 : ip + 12, v6 ? 32 : 8, 6u + l4))), 2);
	return (uint16_t)(tcp + l4 - frame);
}

static uint32_t client_ts(const struct replay *r)
{
	return (uint32_t)(r->now_ns / REPLAY_MS) + 77;
}

static uint16_t client_window(const struct replay *r)
{
	bool closed = r->settings.window_opens_ns && r->client_syn_acked &&
		      r->now_ns - r->start_ns < r->settings.window_opens_ns;

	return closed ? 0 : (uint16_t)r->settings.client_window;
}

static void client_send(struct replay *r, uint8_t flags, uint32_t offset, uint16_t bytes)
{
	static uint8_t frame[PACKET_BYTES], payload[PACKET_BYTES];
	uint32_t base = r->settings.client_iss + 1;

	for (uint16_t i = 0; i < bytes; i++)
		payload[i] = pattern(TO_STACK, offset + i);
	link_send(r, TO_STACK, frame,
		  make_packet(r, frame, flags, flags & SYN ? r->settings.client_iss : base + offset, r->rcv_nxt,
			      client_window(r), payload, bytes, client_ts(r)));
}

/* Everything from `offset` on, FIN included, as far as there is something; a window of 64 KB is never the limit here.
 */
static void client_send_from(struct replay *r, uint32_t offset, uint32_t most)
{
	const struct replay_settings *s = &r->settings;
	bool may_end = s->client_ends_first || r->client_got_fin;
	uint16_t largest = s->client_segment_bytes ? s->client_segment_bytes : 1400;

	for (; offset < s->up_bytes && most; most--) {
		uint16_t bytes = (uint16_t)(s->up_bytes - offset < largest ? s->up_bytes - offset : largest);

		if (!s->client_segment_bytes && s->client_mss < bytes)
			bytes = s->client_mss;
		client_send(r, ACK, offset, bytes);
		offset += bytes;
	}
	if (offset == s->up_bytes && may_end && most) {
		client_send(r, ACK | FIN, offset, 0);
		r->client_fin_sent = true;
		offset++;
	}
	if ((int32_t)(s->client_iss + 1 + offset - r->snd_nxt) > 0)
		r->snd_nxt = s->client_iss + 1 + offset;
	r->client_timer_ns = r->now_ns + (CLIENT_RTO_NS << (r->client_tries < 6 ? r->client_tries : 6));
}

/* --- the client's side of received packets --- */

static void client_take_payload(struct replay *r, const uint8_t *payload, const struct packet_view *v)
{
	uint32_t offset = v->seq - (r->irs + 1);

	for (uint32_t i = 0; i < v->payload_len; i++) {
		assert_true(offset + i < r->settings.down_bytes);
		assert_int_equal(payload[i], pattern(TO_CLIENT, offset + i));
		/* a closed window takes nothing */
		if (!client_window(r))
			return;
		r->have[offset + i] = true;
	}
	if (v->tcp_flags & FIN)
		r->fin_at = offset + v->payload_len;
	while (r->rcv_nxt - (r->irs + 1) < r->settings.down_bytes && r->have[r->rcv_nxt - (r->irs + 1)])
		r->rcv_nxt++;
	if (r->fin_at != REPLAY_NONE && r->rcv_nxt == r->irs + 1 + r->fin_at) {
		r->rcv_nxt++;
		r->client_got_fin = true;
	}
}

static void client_received(struct replay *r, const uint8_t *frame, const struct packet_view *v)
{
	bool had_fin = r->client_got_fin;

	if (v->tcp_flags & RST) {
		/* a packet that comes after both ends are closed is answered so (RFC 9293 3.10.7.1) */
		r->client_reset = r->client_reset || !(r->client_got_fin && r->client_fin_acked);
		return;
	}
	if (r->settings.timestamps)
		memcpy(&r->peer_ts, frame + v->l4_off + ((v->tcp_flags & SYN) && r->settings.sack ? 28 : 24), 4);
	r->peer_ts = be32(r->peer_ts);
	if (v->tcp_flags & SYN) {
		if (!r->client_syn_acked) {
			r->irs = v->seq;
			r->rcv_nxt = v->seq + 1;
			r->snd_una = r->snd_nxt = r->settings.client_iss + 1;
			r->client_syn_acked = true;
			r->client_tries = 0;
			client_send(r, ACK, 0, 0);
			client_send_from(r, 0, 1000);
		} else {
			client_send(r, ACK, r->snd_nxt - r->settings.client_iss - 1, 0);
		}
		return;
	}
	if ((int32_t)(v->ack - r->snd_una) > 0) {
		assert_true((int32_t)(v->ack - r->snd_nxt) <= 0);
		r->snd_una = v->ack;
		r->client_tries = 0;
		r->client_timer_ns = r->now_ns + CLIENT_RTO_NS;
		r->client_fin_acked =
			r->client_fin_sent && r->snd_una == r->settings.client_iss + 2 + r->settings.up_bytes;
	}
	if (v->payload_len || v->tcp_flags & FIN) {
		client_take_payload(r, frame + v->payload_off, v);
		client_send(r, ACK, r->snd_nxt - r->settings.client_iss - 1, 0);
	}
	if (r->client_got_fin && !had_fin && !r->client_fin_sent &&
	    r->snd_nxt == r->settings.client_iss + 1 + r->settings.up_bytes)
		client_send_from(r, r->settings.up_bytes, 1);
}

static void client_timer(struct replay *r)
{
	r->client_timer_ns = UINT64_MAX;
	if (r->client_reset || r->client_fin_acked)
		return;
	r->client_tries++;
	if (!r->client_syn_acked) {
		client_send(r, SYN, 0, 0);
		r->client_timer_ns = r->now_ns + CLIENT_RTO_NS * 4;
	} else if (r->snd_una != r->snd_nxt || r->client_got_fin || r->settings.client_ends_first) {
		/* varied, lest every try meets the same rhythm of losses */
		client_send_from(r, r->snd_una - r->settings.client_iss - 1, 1 + r->client_tries % 5);
	}
}

/* --- the stack's call-backs --- */

/* One packet as it is on the wire. */
static void transmitted(struct replay *r, const uint8_t *frame, uint16_t len)
{
	struct packet_view v;

	assert_int_equal(packet_parse((void *)frame, (void *)(frame + len), &v), DROP_NONE);
	if (v.l4_proto == 6) {
		const uint8_t *tcp = frame + v.l4_off;
		uint16_t l4 = (uint16_t)(len - v.l4_off);
		const uint8_t *addresses = frame + v.l3_off + (r->settings.ipv6 ? 8 : 12);

		if (r->settings.offload_bytes)
			assert_int_equal(tcp[16] | tcp[17], 0);
		else
			assert_int_equal(finish(sum16(tcp, l4, sum16(addresses, r->settings.ipv6 ? 32 : 8, 6u + l4))),
					 0);
		assert_true(v.payload_len + v.tcp_hdr_len - 20 <= r->settings.client_mss || v.tcp_flags & SYN);
	}
	if (by_hand) {
		memcpy(seen_bytes[seen_tail % 256], frame, len < 128 ? len : 128);
		seen[seen_tail++ % 256] = v;
	} else if (v.l4_proto == 6) {
		link_send(r, TO_CLIENT, frame, len);
	}
}

/* What the kernel does with a GSO packet: FIN and PSH stay with the last segment. */
static void cut(struct replay *r, uint8_t *frame, const struct packet_view *v, uint16_t segment_bytes)
{
	static uint8_t packet[LARGE_FRAME_BYTES];

	for (uint32_t at = 0; at < v->payload_len; at += segment_bytes) {
		uint16_t bytes = (uint16_t)MIN(v->payload_len - at, segment_bytes);
		uint16_t len = (uint16_t)(v->payload_off + bytes);

		memcpy(packet, frame, v->payload_off);
		memcpy(packet + v->payload_off, frame + v->payload_off + at, bytes);
		put(packet + v->l3_off + (r->settings.ipv6 ? 4 : 2),
		    (uint64_t)(len - v->l3_off) - (r->settings.ipv6 ? 40 : 0), 2);
		put(packet + v->l4_off + 4, v->seq + at, 4);
		if (at + bytes < v->payload_len)
			packet[v->l4_off + 13] &= (uint8_t) ~(FIN | 0x08);
		transmitted(r, packet, len);
	}
}

static int on_transmit(void *ctx, uint16_t port, uint32_t index, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	struct replay *r = ctx;
	uint8_t *frame = frame_data(&r->pool, index) + off;
	struct packet_view v;

	(void)port;
	assert_int_equal(packet_parse(frame, frame + len, &v), DROP_NONE);
	assert_true(!segment_bytes || (r->settings.offload_bytes && segment_bytes < v.payload_len));
	frame_tx_start(&r->pool, index);
	if (segment_bytes)
		cut(r, frame, &v, segment_bytes);
	else
		transmitted(r, frame, len);
	frame_tx_done(&r->pool, index);
	return 0;
}

static void on_opened(void *ctx, struct flow *flow)
{
	struct replay *r = ctx;

	r->flow = flow;
	if (!by_hand)
		stack_accept(r->stack, flow, r->now_ns);
}

static void owner_shut(struct replay *r)
{
	if (r->owner_shut)
		return;
	r->owner_shut = true;
	stack_shutdown(r->stack, r->flow, r->now_ns);
}

static void on_established(void *ctx, struct flow *flow)
{
	struct replay *r = ctx;

	r->established = true;
	for (uint32_t offset = 0; offset < r->settings.down_bytes && !by_hand;) {
		uint32_t index = frame_get(&r->pool, FRAME_FLOW);
		uint16_t most = r->settings.offload_bytes ? r->settings.offload_bytes : stack_send_segment_bytes(flow);
		uint16_t bytes =
			(uint16_t)(r->settings.down_bytes - offset < most ? r->settings.down_bytes - offset : most);
		uint8_t *data = frame_data(&r->pool, index) + FRAME_PAYLOAD_OFFSET;

		for (uint16_t i = 0; i < bytes; i++)
			data[i] = pattern(TO_CLIENT, offset + i);
		stack_send(r->stack, flow, index, FRAME_PAYLOAD_OFFSET, bytes, r->now_ns);
		offset += bytes;
	}
	if (!r->settings.owner_waits && !by_hand)
		owner_shut(r);
}

static void on_readable(void *ctx, struct flow *flow)
{
	struct replay *r = ctx;
	struct iovec iov[64];
	uint32_t count;

	while (!by_hand && (count = stack_peek(r->stack, flow, 0, iov, UINT32_MAX, 64))) {
		uint32_t bytes = 0;

		for (uint32_t i = 0; i < count; i++)
			for (uint32_t b = 0; b < iov[i].iov_len; b++)
				assert_int_equal(((uint8_t *)iov[i].iov_base)[b],
						 pattern(TO_STACK, r->consumed + bytes++));
		r->consumed += bytes;
		stack_consume(r->stack, flow, bytes, r->now_ns);
	}
	if (stack_read_finished(flow) && !by_hand)
		owner_shut(r);
}

static void on_writable(void *ctx, struct flow *flow)
{
	(void)ctx;
	(void)flow;
}

static void on_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	struct replay *r = ctx;
	uint32_t left = stack_take_receive_queue(r->stack, flow);

	while (left != FRAME_NONE) {
		uint32_t index = left;
		struct frame *frame = &r->pool.frames[index];

		for (uint16_t b = 0; b < frame->len && !by_hand; b++)
			assert_int_equal(frame_data(&r->pool, index)[frame->off + b], pattern(TO_STACK, r->consumed++));
		left = frame->next;
		frame_put(&r->pool, index);
	}
	r->closed = true;
	r->why = why;
	r->flow = NULL;
}

/* --- running --- */

void replay_start(struct replay *r, const struct replay_settings *settings)
{
	const struct stack_callbacks callbacks = {
		.ctx = r,
		.transmit = on_transmit,
		.flow_opened = on_opened,
		.flow_established = on_established,
		.flow_readable = on_readable,
		.flow_writable = on_writable,
		.flow_closed = on_closed,
	};
	const struct stack_settings stack_settings = {
		.max_flows = 16,
		.half_open = 8,
		.half_open_per_source = 4,
		.handshake_timeout_ns = 60000 * REPLAY_MS,
		.idle_timeout_ns = 3600000 * REPLAY_MS,
		.time_wait_ns = 2000 * REPLAY_MS,
		.receive_window_max_bytes = 1 << 20,
		.send_queue_max_bytes = 1 << 20,
		.secret = "replay",
	};
	const struct stack_port port = {.mtu = 1500, .offload = settings->offload_bytes};
	uint32_t frame_bytes = settings->offload_bytes ? LARGE_FRAME_BYTES : FRAME_BYTES;

	memset(r, 0, sizeof(*r));
	r->settings = *settings;
	r->now_ns = r->start_ns = 5000000 * REPLAY_MS;
	r->fin_at = REPLAY_NONE;
	r->client_timer_ns = UINT64_MAX;
	queue_count = queue_order = seen_head = seen_tail = 0;
	frame_pool_init(&r->pool, calloc(FRAMES, frame_bytes), calloc(FRAMES, sizeof(struct frame)), FRAMES,
			frame_bytes);
	r->stack = stack_create(&stack_settings, &r->pool, &callbacks, r->now_ns);
	stack_set_port(r->stack, 0, &port);
}

void replay_stop(struct replay *r)
{
	stack_check(r->stack);
	stack_destroy(r->stack);
	free(r->pool.area);
	free(r->pool.frames);
	while (queue_count)
		free(queue[--queue_count]);
}

static uint32_t received_frame(struct replay *r, const uint8_t *bytes, uint16_t len)
{
	uint32_t index = frame_get(&r->pool, FRAME_RX);

	assert_int_not_equal(index, FRAME_NONE);
	assert_in_range(len, 1, FRAME_BYTES - RX_OFFSET);
	memcpy(frame_data(&r->pool, index) + RX_OFFSET, bytes, len);
	r->pool.frames[index].off = RX_OFFSET;
	r->pool.frames[index].len = len;
	r->pool.frames[index].next = FRAME_NONE;
	return index;
}

/* The headers lie in the first frame, with `frame_bytes` of payload as in every other. */
static void deliver_chain(struct replay *r, const uint8_t *bytes, uint16_t len, uint16_t frame_bytes)
{
	struct packet_view v;
	uint32_t first, last;
	uint16_t at;

	assert_int_equal(packet_parse((void *)bytes, (void *)(bytes + len), &v), DROP_NONE);
	at = (uint16_t)(v.payload_off + frame_bytes);
	first = last = received_frame(r, bytes, at < len ? at : len);
	for (; at < len; at = (uint16_t)(at + frame_bytes)) {
		uint16_t part = len - at < frame_bytes ? (uint16_t)(len - at) : frame_bytes;
		uint32_t index = received_frame(r, bytes + at, part);

		r->pool.frames[last].next = index;
		last = index;
	}
	stack_input_chain(r->stack, 0, first, len, false, r->now_ns);
}

static void deliver(struct replay *r, const uint8_t *bytes, uint16_t len)
{
	if (len > RX_BYTES)
		deliver_chain(r, bytes, len, r->settings.chain_frame_bytes);
	else
		stack_input(r->stack, 0, received_frame(r, bytes, len), RX_OFFSET, len, r->now_ns);
}

/* One event: the earliest of a packet, the client's timer, the stack's. false: nothing will happen before `until`. */
static bool replay_step(struct replay *r, uint64_t until_ns)
{
	struct in_flight *p = link_next();
	uint64_t next = stack_next_timer_ns(r->stack);
	struct packet_view v;

	if (p && p->due_ns < next)
		next = p->due_ns;
	if (r->client_timer_ns < next)
		next = r->client_timer_ns;
	if (next > until_ns)
		return false;
	if (next > r->now_ns)
		r->now_ns = next;
	if (p && p->due_ns <= r->now_ns) {
		link_remove(p);
		if (p->direction == TO_STACK)
			deliver(r, p->bytes, p->len);
		else if (!packet_parse(p->bytes, p->bytes + p->len, &v))
			client_received(r, p->bytes, &v);
		free(p);
	} else if (r->client_timer_ns <= r->now_ns) {
		client_timer(r);
	}
	stack_run_timers(r->stack, r->now_ns);
	stack_flush(r->stack, r->now_ns);
	return true;
}

void replay_advance(struct replay *r, uint64_t ns)
{
	uint64_t until = r->now_ns + ns;

	stack_flush(r->stack, r->now_ns);
	while (replay_step(r, until))
		;
	r->now_ns = until;
	stack_run_timers(r->stack, r->now_ns);
	stack_flush(r->stack, r->now_ns);
}

void replay_run(struct replay *r, const struct replay_settings *settings)
{
	uint64_t limit;

	by_hand = false;
	replay_start(r, settings);
	limit = r->now_ns + LIMIT_NS;
	client_send(r, SYN, 0, 0);
	r->client_timer_ns = r->now_ns + CLIENT_RTO_NS * 4;
	if (settings->window_opens_ns) {
		/* when it opens, the client says so once */
		while (replay_step(r, r->start_ns + settings->window_opens_ns))
			;
		r->now_ns = r->start_ns + settings->window_opens_ns;
		client_send(r, ACK, r->snd_nxt - settings->client_iss - 1, 0);
	}
	while (replay_step(r, limit))
		;
	assert_false(r->client_reset);
	assert_true(r->client_got_fin);
	assert_true(r->client_fin_acked);
	assert_int_equal(r->rcv_nxt, r->irs + 2 + settings->down_bytes);
	assert_int_equal(r->consumed, settings->up_bytes);
	assert_true(r->closed);
	assert_int_equal(r->why, FLOW_END_CLOSED);
	assert_int_equal(r->pool.owned[FRAME_POOL], FRAMES);
	replay_stop(r);
}

/* --- by hand --- */

void replay_inject(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t window, const void *payload,
		   uint16_t bytes)
{
	uint8_t frame[1600];

	deliver(r, frame, make_packet(r, frame, flags, seq, ack, window, payload, bytes, client_ts(r)));
	stack_flush(r->stack, r->now_ns);
}

void replay_inject_chain(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t bytes,
			 uint16_t frame_bytes)
{
	static uint8_t frame[PACKET_BYTES], payload[PACKET_BYTES];
	uint16_t len;

	for (uint16_t i = 0; i < bytes; i++)
		payload[i] = pattern(TO_STACK, seq - (r->settings.client_iss + 1) + i);
	len = make_packet(r, frame, flags, seq, ack, (uint16_t)r->settings.client_window, payload, bytes, client_ts(r));
	deliver_chain(r, frame, len, frame_bytes);
	stack_flush(r->stack, r->now_ns);
}

bool replay_readable_is(struct replay *r, uint32_t bytes)
{
	uint32_t at = 0;
	struct iovec iov;

	while (stack_peek(r->stack, r->flow, at, &iov, UINT32_MAX, 1))
		for (size_t i = 0; i < iov.iov_len; i++, at++)
			if (((uint8_t *)iov.iov_base)[i] != pattern(TO_STACK, at))
				return false;
	return at == bytes && stack_readable_bytes(r->flow) == bytes;
}

void replay_inject_ts(struct replay *r, uint8_t flags, uint32_t seq, uint32_t ack, uint16_t bytes, uint32_t ts)
{
	static const uint8_t zeros[1460];
	uint8_t frame[1600];

	deliver(r, frame,
		make_packet(r, frame, flags, seq, ack, (uint16_t)r->settings.client_window, zeros, bytes, ts));
	stack_flush(r->stack, r->now_ns);
}

const struct packet_view *replay_seen(struct replay *r)
{
	(void)r;
	return seen_head == seen_tail ? NULL : &seen[seen_head++ % 256];
}

const uint8_t *replay_seen_bytes(void)
{
	return seen_bytes[(seen_head - 1) % 256];
}

void replay_establish(struct replay *r, const struct replay_settings *settings, uint32_t *iss)
{
	const struct packet_view *v;

	by_hand = true;
	replay_start(r, settings);
	replay_inject(r, SYN, settings->client_iss, 0, 60000, NULL, 0);
	assert_non_null(r->flow);
	assert_null(replay_seen(r));
	stack_accept(r->stack, r->flow, r->now_ns);
	v = replay_seen(r);
	assert_non_null(v);
	assert_int_equal(v->tcp_flags, SYN | ACK);
	assert_int_equal(v->ack, settings->client_iss + 1);
	*iss = v->seq;
	r->now_ns += REPLAY_MS;
	replay_inject(r, ACK, settings->client_iss + 1, *iss + 1, (uint16_t)settings->client_window, NULL, 0);
	assert_true(r->established);
	assert_null(replay_seen(r));
}

const char *replay_state(const struct replay *r)
{
	struct flow_info info;
	struct flow *flow = stack_flow_at(r->stack, 0);

	if (!flow)
		return "CLOSED";
	stack_flow_describe(r->stack, flow, &info);
	return info.state;
}
