/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Two hash tables, keyed by a secret: associations by client endpoint, and
 * clients by address, so that what one client has is known at once. Lists,
 * least recently used first: of all associations, and of each client's.
 *
 * When there is no room, somebody goes:
 *
 *   the client has `per_client`           its own least recently used one
 *   the table is full, and the client     its own least recently used one
 *   has more than an equal share
 *   the table is full                     the least recently used one of all
 *
 * So a flood of source ports costs its sender only, whatever its speed.
 *
 * Traffic in the kernel is not seen here. The owner corrects a victim that is
 * not idle (udp_touch()), so the lists are in order as far as it matters.
 */
#include "udp.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct udp_link {
	uint32_t prev, next;
};

struct udp_list {
	uint32_t head, tail;
};

struct udp_entry {
	struct udp_key key;
	uint32_t hash_next; /* or the free list */
	uint32_t client;
	struct udp_link all, own;
	uint64_t last_ns;
	uint32_t queue_head, queue_tail, queue_pkts, queue_bytes;
	bool in_use;
};

struct udp_client {
	struct addr addr;
	uint32_t hash_next; /* or the free list */
	uint32_t count;
	struct udp_list own;
};

struct udp_table {
	struct udp_limits limits;
	struct frame_pool *pool;
	uint64_t secret[2];
	uint32_t mask;
	uint32_t *buckets, *client_buckets;
	struct udp_entry *entries;
	struct udp_client *clients;
	struct udp_list all;
	uint32_t used, free_head, free_tail, count; /* entries; free: oldest first */
	uint32_t clients_used, clients_free, client_count;
	uint32_t queued_frames;
};

/* Two rounds of multiplication and folding over 8-byte words: cheap, and not to be guessed without the secret. */
static uint32_t udp_hash(const struct udp_table *table, const void *data, size_t bytes)
{
	uint64_t hash = table->secret[0];

	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t word = 0;
		__uint128_t product;

		memcpy(&word, (const uint8_t *)data + at, bytes - at < 8 ? bytes - at : 8);
		product = (__uint128_t)(hash ^ word) * (table->secret[1] | 1);
		hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ table->secret[0];
	}
	return (uint32_t)(hash ^ (hash >> 32)) & table->mask;
}

struct udp_table *udp_create(const struct udp_limits *limits, const uint8_t secret[16], struct frame_pool *pool)
{
	struct udp_table *table = calloc(1, sizeof(*table));
	uint32_t buckets = 16;

	if (!table)
		return NULL;
	while (buckets < limits->max)
		buckets *= 2;
	table->limits = *limits;
	table->pool = pool;
	memcpy(table->secret, secret, sizeof(table->secret));
	table->mask = buckets - 1;
	table->buckets = malloc(buckets * sizeof(*table->buckets));
	table->client_buckets = malloc(buckets * sizeof(*table->client_buckets));
	table->entries = calloc(limits->max, sizeof(*table->entries));
	table->clients = calloc(limits->max, sizeof(*table->clients));
	if (!table->buckets || !table->client_buckets || !table->entries || !table->clients) {
		udp_destroy(table);
		return NULL;
	}
	memset(table->buckets, 0xff, buckets * sizeof(*table->buckets));
	memset(table->client_buckets, 0xff, buckets * sizeof(*table->client_buckets));
	table->all = (struct udp_list){UDP_NONE, UDP_NONE};
	table->free_head = table->free_tail = table->clients_free = UDP_NONE;
	return table;
}

void udp_destroy(struct udp_table *table)
{
	if (!table)
		return;
	free(table->buckets);
	free(table->client_buckets);
	free(table->entries);
	free(table->clients);
	free(table);
}

/* --- lists --- */

static struct udp_link *udp_link(struct udp_table *table, uint32_t index, bool own)
{
	return own ? &table->entries[index].own : &table->entries[index].all;
}

static void udp_list_add(struct udp_table *table, struct udp_list *list, uint32_t index, bool own)
{
	*udp_link(table, index, own) = (struct udp_link){list->tail, UDP_NONE};
	if (list->tail == UDP_NONE)
		list->head = index;
	else
		udp_link(table, list->tail, own)->next = index;
	list->tail = index;
}

static void udp_list_remove(struct udp_table *table, struct udp_list *list, uint32_t index, bool own)
{
	struct udp_link link = *udp_link(table, index, own);

	if (link.prev == UDP_NONE)
		list->head = link.next;
	else
		udp_link(table, link.prev, own)->next = link.next;
	if (link.next == UDP_NONE)
		list->tail = link.prev;
	else
		udp_link(table, link.next, own)->prev = link.prev;
}

/* --- clients --- */

static uint32_t udp_find_client(const struct udp_table *table, const struct addr *addr)
{
	uint32_t at = table->client_buckets[udp_hash(table, addr, sizeof(*addr))];

	while (at != UDP_NONE && !addr_equal(&table->clients[at].addr, addr))
		at = table->clients[at].hash_next;
	return at;
}

static uint32_t udp_add_client(struct udp_table *table, const struct addr *addr)
{
	uint32_t *bucket = &table->client_buckets[udp_hash(table, addr, sizeof(*addr))], at = table->clients_free;

	/* never more than associations, so there is one */
	if (at != UDP_NONE)
		table->clients_free = table->clients[at].hash_next;
	else
		at = table->clients_used++;
	table->clients[at] =
		(struct udp_client){.addr = *addr, .hash_next = *bucket, .own = {.head = UDP_NONE, .tail = UDP_NONE}};
	*bucket = at;
	table->client_count++;
	return at;
}

static void udp_remove_client(struct udp_table *table, uint32_t index)
{
	struct udp_client *client = &table->clients[index];
	uint32_t *at = &table->client_buckets[udp_hash(table, &client->addr, sizeof(client->addr))];

	while (*at != index)
		at = &table->clients[*at].hash_next;
	*at = client->hash_next;
	client->hash_next = table->clients_free;
	table->clients_free = index;
	table->client_count--;
}

/* --- associations --- */

uint32_t udp_find(const struct udp_table *table, const struct udp_key *key)
{
	uint32_t at = table->buckets[udp_hash(table, key, sizeof(*key))];

	while (at != UDP_NONE && memcmp(&table->entries[at].key, key, sizeof(*key)) != 0)
		at = table->entries[at].hash_next;
	return at;
}

uint32_t udp_victim(const struct udp_table *table, const struct addr *client)
{
	uint32_t at = udp_find_client(table, client), count = at == UDP_NONE ? 0 : table->clients[at].count;

	if (count >= table->limits.per_client)
		return table->clients[at].own.head;
	if (table->count < table->limits.max)
		return UDP_NONE;
	if (count > table->limits.max / (table->client_count + !count))
		return table->clients[at].own.head;
	return table->all.head;
}

static uint32_t udp_take_slot(struct udp_table *table)
{
	uint32_t index = table->free_head;

	/* untouched ones first: they cost no memory until now, and freed ones rest */
	if (table->used < table->limits.max)
		return table->used++;
	table->free_head = table->entries[index].hash_next;
	if (table->free_head == UDP_NONE)
		table->free_tail = UDP_NONE;
	return index;
}

uint32_t udp_add(struct udp_table *table, const struct udp_key *key, uint64_t now_ns)
{
	uint32_t *bucket = &table->buckets[udp_hash(table, key, sizeof(*key))], index, client;
	struct udp_entry *entry;

	if (udp_victim(table, &key->client.addr) != UDP_NONE)
		return UDP_NONE;
	client = udp_find_client(table, &key->client.addr);
	if (client == UDP_NONE)
		client = udp_add_client(table, &key->client.addr);
	index = udp_take_slot(table);
	entry = &table->entries[index];
	*entry = (struct udp_entry){.key = *key,
				    .hash_next = *bucket,
				    .client = client,
				    .last_ns = now_ns,
				    .queue_head = FRAME_NONE,
				    .queue_tail = FRAME_NONE,
				    .in_use = true};
	*bucket = index;
	table->clients[client].count++;
	table->count++;
	udp_list_add(table, &table->all, index, false);
	udp_list_add(table, &table->clients[client].own, index, true);
	return index;
}

void udp_remove(struct udp_table *table, uint32_t index)
{
	struct udp_entry *entry = &table->entries[index];
	struct udp_client *client = &table->clients[entry->client];
	uint32_t *at = &table->buckets[udp_hash(table, &entry->key, sizeof(entry->key))];

	assert(entry->in_use && !entry->queue_pkts);
	while (*at != index)
		at = &table->entries[*at].hash_next;
	*at = entry->hash_next;
	udp_list_remove(table, &table->all, index, false);
	udp_list_remove(table, &client->own, index, true);
	if (!--client->count)
		udp_remove_client(table, entry->client);
	table->count--;
	entry->in_use = false;
	entry->hash_next = UDP_NONE;
	if (table->free_tail == UDP_NONE)
		table->free_head = index;
	else
		table->entries[table->free_tail].hash_next = index;
	table->free_tail = index;
}

void udp_touch(struct udp_table *table, uint32_t index, uint64_t at_ns)
{
	struct udp_entry *entry = &table->entries[index];
	struct udp_list *own = &table->clients[entry->client].own;

	if (at_ns > entry->last_ns)
		entry->last_ns = at_ns;
	udp_list_remove(table, &table->all, index, false);
	udp_list_add(table, &table->all, index, false);
	udp_list_remove(table, own, index, true);
	udp_list_add(table, own, index, true);
}

uint64_t udp_last_ns(const struct udp_table *table, uint32_t index)
{
	return table->entries[index].last_ns;
}

const struct udp_key *udp_key_of(const struct udp_table *table, uint32_t index)
{
	return &table->entries[index].key;
}

uint32_t udp_count(const struct udp_table *table)
{
	return table->count;
}

uint32_t udp_clients(const struct udp_table *table)
{
	return table->client_count;
}

/* --- waiting datagrams: linked by the first frame's seq; sent_ns keeps the bytes and frames --- */

bool udp_queue(struct udp_table *table, uint32_t index, uint32_t frame, uint32_t bytes, uint32_t frames)
{
	struct udp_entry *entry = &table->entries[index];
	struct frame *head = &table->pool->frames[frame];

	if (entry->queue_pkts == table->limits.queue_pkts || entry->queue_bytes + bytes > table->limits.queue_bytes ||
	    table->queued_frames + frames > table->limits.queue_frames)
		return false;
	head->seq = FRAME_NONE;
	head->sent_ns = (uint64_t)frames << 32 | bytes;
	if (entry->queue_tail == FRAME_NONE)
		entry->queue_head = frame;
	else
		table->pool->frames[entry->queue_tail].seq = frame;
	entry->queue_tail = frame;
	entry->queue_pkts++;
	entry->queue_bytes += bytes;
	table->queued_frames += frames;
	return true;
}

uint32_t udp_queued_frames(const struct udp_table *table, uint32_t index)
{
	uint32_t frame = table->entries[index].queue_head;

	return frame == FRAME_NONE ? 0 : (uint32_t)(table->pool->frames[frame].sent_ns >> 32);
}

uint32_t udp_dequeue(struct udp_table *table, uint32_t index)
{
	struct udp_entry *entry = &table->entries[index];
	uint32_t frame = entry->queue_head;
	const struct frame *head;

	if (frame == FRAME_NONE)
		return FRAME_NONE;
	head = &table->pool->frames[frame];
	entry->queue_head = head->seq;
	if (entry->queue_head == FRAME_NONE)
		entry->queue_tail = FRAME_NONE;
	entry->queue_pkts--;
	entry->queue_bytes -= (uint32_t)head->sent_ns;
	table->queued_frames -= (uint32_t)(head->sent_ns >> 32);
	return frame;
}
