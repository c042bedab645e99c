/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A slot per datagram, found by a keyed hash, and on a list oldest first,
 * which is also the order in which they time out. A slot holds its fragments
 * as a list of frames by offset (struct frame.seq). Fragments mostly arrive in
 * order, so the place of a new one is looked for from the end.
 *
 * Nothing is believed: two fragments that share a byte drop the datagram
 * (RFC 5722), unless they are the same one twice; a length that is no multiple
 * of 8 in the middle, an end behind 65535 or two different ends do so too.
 *
 * Bounds: slots, frames, frames of one datagram, and an eighth of slots and
 * frames, but two large datagrams, for one source (by a keyed class of its address: cheap, and a flood
 * can only hit the few that share its class). When slots run out, the oldest
 * goes.
 */
#include "reassembly.h"

#include <stdlib.h>
#include <string.h>

#define REASSEMBLY_NONE UINT32_MAX
#define REASSEMBLY_CLASSES 256
#define REASSEMBLY_SHARE 8
#define REASSEMBLY_MAX_PIECES 120 /* one vector each, when the datagram is sent on */
#define REASSEMBLY_SOURCE_LEAST_FRAMES 96
#define REASSEMBLY_OPEN_END UINT32_MAX

struct reassembly_slot {
	struct reassembly_key key;
	uint32_t hash_next; /* or the free list */
	uint32_t older, newer;
	uint32_t head, tail; /* frames */
	uint32_t pieces, bytes;
	uint32_t end; /* of the datagram, once its last fragment is here */
	uint16_t class;
	uint64_t expires_ns;
};

struct reassembly {
	struct frame_pool *pool;
	struct reassembly_slot *slots;
	uint32_t *buckets;
	uint32_t mask, max, used, free_head, oldest, newest;
	uint32_t max_frames, source_frames, frames;
	uint32_t class_slots[REASSEMBLY_CLASSES], class_frames[REASSEMBLY_CLASSES];
	uint64_t timeout_ns, secret;
	struct reassembly_counters counters;
};

struct reassembly *reassembly_create(uint32_t max, uint32_t max_frames, uint64_t timeout_ns, uint64_t secret,
				     struct frame_pool *pool)
{
	struct reassembly *r = calloc(1, sizeof(*r));
	uint32_t buckets = 16;

	if (!r)
		return NULL;
	while (buckets < max)
		buckets *= 2;
	r->pool = pool;
	r->max = max;
	r->max_frames = max_frames;
	r->source_frames = MAX(max_frames / REASSEMBLY_SHARE, REASSEMBLY_SOURCE_LEAST_FRAMES);
	r->timeout_ns = timeout_ns;
	r->secret = secret;
	r->mask = buckets - 1;
	r->free_head = r->oldest = r->newest = REASSEMBLY_NONE;
	r->slots = calloc(max, sizeof(*r->slots));
	r->buckets = malloc(buckets * sizeof(*r->buckets));
	if (!r->slots || !r->buckets) {
		reassembly_destroy(r);
		return NULL;
	}
	memset(r->buckets, 0xff, buckets * sizeof(*r->buckets));
	return r;
}

void reassembly_destroy(struct reassembly *r)
{
	if (!r)
		return;
	free(r->slots);
	free(r->buckets);
	free(r);
}

const struct reassembly_counters *reassembly_counters(const struct reassembly *r)
{
	return &r->counters;
}

static uint64_t reassembly_hash(const struct reassembly *r, const void *data, size_t bytes)
{
	uint64_t hash = r->secret, word;

	for (size_t at = 0; at + 8 <= bytes; at += 8) {
		__uint128_t product;

		memcpy(&word, (const uint8_t *)data + at, 8);
		product = (__uint128_t)(hash ^ word) * (r->secret | 1);
		hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ r->secret;
	}
	return hash ^ hash >> 32;
}

static struct frame *reassembly_frame(const struct reassembly *r, uint32_t index)
{
	return &r->pool->frames[index];
}

/* --- slots --- */

/* The frames, if any are left, are somebody else's. */
static void reassembly_free_slot(struct reassembly *r, uint32_t index)
{
	struct reassembly_slot *slot = &r->slots[index];
	uint32_t *at = &r->buckets[reassembly_hash(r, &slot->key, sizeof(slot->key)) & r->mask];

	while (*at != index)
		at = &r->slots[*at].hash_next;
	*at = slot->hash_next;
	if (slot->older == REASSEMBLY_NONE)
		r->oldest = slot->newer;
	else
		r->slots[slot->older].newer = slot->newer;
	if (slot->newer == REASSEMBLY_NONE)
		r->newest = slot->older;
	else
		r->slots[slot->newer].older = slot->older;
	r->frames -= slot->pieces;
	r->class_frames[slot->class] -= slot->pieces;
	r->class_slots[slot->class]--;
	slot->hash_next = r->free_head;
	r->free_head = index;
}

static void reassembly_drop(struct reassembly *r, uint32_t index)
{
	uint32_t frame = r->slots[index].head;

	while (frame != FRAME_NONE) {
		uint32_t next = reassembly_frame(r, frame)->next;

		frame_put(r->pool, frame);
		frame = next;
	}
	reassembly_free_slot(r, index);
}

static uint32_t reassembly_find(const struct reassembly *r, const struct reassembly_key *key)
{
	uint32_t at = r->buckets[reassembly_hash(r, key, sizeof(*key)) & r->mask];

	while (at != REASSEMBLY_NONE && memcmp(&r->slots[at].key, key, sizeof(*key)) != 0)
		at = r->slots[at].hash_next;
	return at;
}

static uint32_t reassembly_open(struct reassembly *r, const struct reassembly_key *key, uint64_t now_ns)
{
	uint16_t class = reassembly_hash(r, &key->src, sizeof(key->src)) % REASSEMBLY_CLASSES;
	struct reassembly_slot *slot;
	uint32_t *bucket, index;

	if (r->class_slots[class] >= r->max / REASSEMBLY_SHARE)
		return REASSEMBLY_NONE;
	if (r->free_head == REASSEMBLY_NONE && r->used == r->max) {
		r->counters.reassembly_evicted++;
		reassembly_drop(r, r->oldest);
	}
	index = r->free_head;
	if (index == REASSEMBLY_NONE)
		index = r->used++;
	else
		r->free_head = r->slots[index].hash_next;
	bucket = &r->buckets[reassembly_hash(r, key, sizeof(*key)) & r->mask];
	slot = &r->slots[index];
	*slot = (struct reassembly_slot){.key = *key,
					 .hash_next = *bucket,
					 .older = r->newest,
					 .newer = REASSEMBLY_NONE,
					 .head = FRAME_NONE,
					 .tail = FRAME_NONE,
					 .end = REASSEMBLY_OPEN_END,
					 .class = class,
					 .expires_ns = now_ns + r->timeout_ns};
	*bucket = index;
	if (r->newest == REASSEMBLY_NONE)
		r->oldest = index;
	else
		r->slots[r->newest].newer = index;
	r->newest = index;
	r->class_slots[class]++;
	return index;
}

/* --- fragments --- */

/* In order by offset. 0; 1: it is there already; -1: it shares bytes with another. */
static int reassembly_place(struct reassembly *r, struct reassembly_slot *slot, uint32_t frame, uint32_t offset)
{
	struct frame *piece = reassembly_frame(r, frame), *last;
	uint32_t end = offset + piece->len, before = FRAME_NONE, after = slot->head;

	last = slot->tail == FRAME_NONE ? NULL : reassembly_frame(r, slot->tail);
	if (last && last->seq + last->len <= offset) {
		before = slot->tail;
		after = FRAME_NONE;
	}
	while (after != FRAME_NONE && reassembly_frame(r, after)->seq < offset) {
		before = after;
		after = reassembly_frame(r, after)->next;
	}
	if (after != FRAME_NONE) {
		const struct frame *next = reassembly_frame(r, after);

		if (next->seq == offset && next->len == piece->len)
			return 1;
		if (next->seq < end)
			return -1;
	}
	if (before != FRAME_NONE && reassembly_frame(r, before)->seq + reassembly_frame(r, before)->len > offset)
		return -1;
	piece->seq = offset;
	piece->next = after;
	if (before == FRAME_NONE)
		slot->head = frame;
	else
		reassembly_frame(r, before)->next = frame;
	if (after == FRAME_NONE)
		slot->tail = frame;
	return 0;
}

/* What the fragment says about the datagram's length must not contradict the others. */
static bool reassembly_length_ok(const struct reassembly *r, struct reassembly_slot *slot,
				 const struct reassembly_fragment *fragment)
{
	uint32_t end = fragment->offset + (uint32_t)reassembly_frame(r, fragment->frame)->len;
	const struct frame *last = slot->tail == FRAME_NONE ? NULL : reassembly_frame(r, slot->tail);

	if (fragment->more)
		return slot->end == REASSEMBLY_OPEN_END || end <= slot->end;
	if (slot->end != REASSEMBLY_OPEN_END)
		return slot->end == end;
	if (last && last->seq + last->len > end)
		return false;
	slot->end = end;
	return true;
}

static bool reassembly_form_ok(const struct reassembly *r, const struct reassembly_fragment *fragment)
{
	uint32_t len = reassembly_frame(r, fragment->frame)->len;

	return len && fragment->offset + len <= REASSEMBLY_MAX_BYTES && (!fragment->more || len % 8 == 0);
}

uint32_t reassembly_add(struct reassembly *r, const struct reassembly_key *key,
			const struct reassembly_fragment *fragment, uint64_t now_ns, uint32_t *bytes)
{
	uint32_t index = reassembly_find(r, key), head;
	struct reassembly_slot *slot;
	int placed;

	r->counters.fragments++;
	if (!reassembly_form_ok(r, fragment)) {
		r->counters.fragments_malformed++;
		frame_put(r->pool, fragment->frame);
		if (index != REASSEMBLY_NONE)
			reassembly_drop(r, index);
		return FRAME_NONE;
	}
	if (index == REASSEMBLY_NONE)
		index = reassembly_open(r, key, now_ns);
	slot = index == REASSEMBLY_NONE ? NULL : &r->slots[index];
	if (!slot || r->frames >= r->max_frames || slot->pieces >= REASSEMBLY_MAX_PIECES ||
	    r->class_frames[slot->class] >= r->source_frames) {
		r->counters.fragments_over_limit++;
		frame_put(r->pool, fragment->frame);
		/* what cannot become whole any more only takes room */
		if (slot)
			reassembly_drop(r, index);
		return FRAME_NONE;
	}
	placed = reassembly_length_ok(r, slot, fragment) ? reassembly_place(r, slot, fragment->frame, fragment->offset)
							 : -1;
	if (placed > 0) {
		r->counters.fragments_duplicate++;
		frame_put(r->pool, fragment->frame);
		return FRAME_NONE;
	}
	if (placed < 0) {
		r->counters.fragments_overlapping++;
		frame_put(r->pool, fragment->frame);
		reassembly_drop(r, index);
		return FRAME_NONE;
	}
	slot->pieces++;
	slot->bytes += reassembly_frame(r, fragment->frame)->len;
	r->frames++;
	r->class_frames[slot->class]++;
	/* nothing overlaps, so as many bytes as the datagram has are all of them */
	if (slot->bytes != slot->end)
		return FRAME_NONE;
	head = slot->head;
	*bytes = slot->bytes;
	r->counters.reassembled++;
	reassembly_free_slot(r, index);
	return head;
}

void reassembly_expire(struct reassembly *r, uint64_t now_ns)
{
	while (r->oldest != REASSEMBLY_NONE && r->slots[r->oldest].expires_ns <= now_ns) {
		r->counters.reassembly_timed_out++;
		reassembly_drop(r, r->oldest);
	}
}

uint64_t reassembly_next_ns(const struct reassembly *r)
{
	return r->oldest == REASSEMBLY_NONE ? UINT64_MAX : r->slots[r->oldest].expires_ns;
}
