/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An entry is a name and its number. It is found by its name through a keyed
 * hash, and by its number through an array. An entry with flows (`held`) hangs
 * in no list; all others hang in one, latest use first, and the last of it
 * gives way when a new name needs an entry.
 *
 * Numbers that are free wait in a queue: the one that was free for the longest
 * time is given away first. There are several times as many numbers as
 * entries (where the ranges allow it), so an address whose name had to go leads
 * nowhere for a long time, before it leads to another name. A client that
 * still knows it is refused instead of led astray.
 *
 * What was given away shortly before a crash may not have been saved.
 * Therefore numbers go on after a start far behind the one that was saved as
 * the next, at a place that nobody knows before.
 *
 * Everything is allocated at the start; nothing takes time in proportion to
 * the number of names but loading and saving, which comes in slices.
 */
#include "dnsmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "siphash.h"

/* Numbers per entry, as far as the ranges allow it; and as few as that in any case. */
#define DNSMAP_NUMBERS_PER_ENTRY 8
#define DNSMAP_LEAST_NUMBERS 65536
/* The share of the numbers that a start skips at least; up to half of them are skipped besides. */
#define DNSMAP_SKIP_SHARE 4

struct dnsmap_entry {
	uint64_t used; /* stamp of its last use */
	uint32_t number;
	uint32_t held;      /* flows */
	uint32_t hash_next; /* of its bucket, or of the free entries */
	uint32_t newer, older;
	bool in_use;
	bool queued; /* its number is still among the free ones, to be skipped there */
	char name[DNS_TEXT_BYTES];
};

struct dnsmap {
	struct dnsmap_settings settings;
	struct dnsmap_entry *entries;
	uint32_t *buckets;
	uint32_t bucket_mask;
	uint32_t *by_number; /* 1 ... numbers */
	uint32_t numbers;
	uint32_t except; /* number; 0: none */
	/* free numbers: a ring */
	uint32_t *free_numbers;
	uint32_t free_first, free_count;
	uint32_t free_entry;
	uint32_t newest, oldest;
	uint64_t stamp, version;
	struct dnsmap_gauges gauges;
};

/* --- addresses and numbers --- */

static uint32_t dnsmap_range(const struct config_prefix *prefix)
{
	uint32_t bits = 128u - prefix->bits;

	/* neither the first nor, of IPv4, the broadcast address */
	return bits >= 32 ? UINT32_MAX - 1 : bits < 2 ? 0 : (1u << bits) - 2;
}

uint32_t dnsmap_addresses(const struct config_prefix *mapped, const struct config_prefix *mapped6)
{
	return MIN(dnsmap_range(mapped), dnsmap_range(mapped6));
}

static bool dnsmap_in_prefix(const struct config_prefix *prefix, const struct addr *addr)
{
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t bits = prefix->bits > 32 * i ? MIN(prefix->bits - 32 * i, 32u) : 0;
		uint32_t mask = bits ? ~0u << (32 - bits) : 0;

		if ((be32(addr->words[i]) ^ be32(prefix->addr.words[i])) & mask)
			return false;
	}
	return true;
}

bool dnsmap_covers(const struct dnsmap *map, const struct addr *addr)
{
	return dnsmap_in_prefix(addr_is_ipv4(addr) ? &map->settings.mapped : &map->settings.mapped6, addr);
}

/* 0: it is in neither range, or not given away. */
static uint32_t dnsmap_number(const struct dnsmap *map, const struct addr *addr)
{
	const struct addr *first = addr_is_ipv4(addr) ? &map->settings.mapped.addr : &map->settings.mapped6.addr;
	uint32_t number = be32(addr->words[3]) - be32(first->words[3]);

	if (addr->words[0] != first->words[0] || addr->words[1] != first->words[1] ||
	    addr->words[2] != first->words[2] || number > map->numbers || number == map->except)
		return 0;
	return number;
}

static struct addr dnsmap_addr(const struct addr *first, uint32_t number)
{
	struct addr addr = *first;

	addr.words[3] = be32(be32(first->words[3]) + number);
	return addr;
}

void dnsmap_addrs(const struct dnsmap *map, uint32_t entry, struct addr *ipv4, struct addr *ipv6)
{
	*ipv4 = dnsmap_addr(&map->settings.mapped.addr, map->entries[entry].number);
	*ipv6 = dnsmap_addr(&map->settings.mapped6.addr, map->entries[entry].number);
}

/* --- making it --- */

/* Queues all free numbers, `first` in front. */
static void dnsmap_queue_numbers(struct dnsmap *map, uint32_t first)
{
	map->free_first = map->free_count = 0;
	for (uint32_t i = 0; i < map->numbers; i++) {
		uint32_t number = (first - 1 + i) % map->numbers + 1;

		if (map->by_number[number] == DNSMAP_NONE && number != map->except)
			map->free_numbers[map->free_count++] = number;
	}
}

static void dnsmap_reset(struct dnsmap *map)
{
	map->free_entry = 0;
	map->newest = map->oldest = DNSMAP_NONE;
	for (uint32_t i = 0; i <= map->bucket_mask; i++)
		map->buckets[i] = DNSMAP_NONE;
	for (uint32_t i = 0; i <= map->numbers; i++)
		map->by_number[i] = DNSMAP_NONE;
	for (uint32_t i = 0; i < map->settings.entries; i++)
		map->entries[i].hash_next = i + 1 < map->settings.entries ? i + 1 : DNSMAP_NONE;
	map->except = 0;
	map->except = dnsmap_number(map, &map->settings.except);
	dnsmap_queue_numbers(map, 1);
}

int dnsmap_create(struct dnsmap **out, const struct dnsmap_settings *settings)
{
	struct dnsmap *map = calloc(1, sizeof(*map));
	uint64_t wanted = (uint64_t)settings->entries * DNSMAP_NUMBERS_PER_ENTRY;
	uint32_t buckets = 64;

	if (!map)
		return -ENOMEM;
	map->settings = *settings;
	map->gauges.entries = settings->entries;
	if (wanted < DNSMAP_LEAST_NUMBERS)
		wanted = DNSMAP_LEAST_NUMBERS;
	map->numbers = (uint32_t)MIN(wanted, (uint64_t)dnsmap_addresses(&settings->mapped, &settings->mapped6));
	while (buckets < settings->entries)
		buckets *= 2;
	map->bucket_mask = buckets - 1;
	map->entries = calloc(settings->entries, sizeof(*map->entries));
	map->buckets = calloc(buckets, sizeof(*map->buckets));
	map->by_number = calloc((size_t)map->numbers + 1, sizeof(*map->by_number));
	map->free_numbers = calloc(map->numbers, sizeof(*map->free_numbers));
	if (!map->entries || !map->buckets || !map->by_number || !map->free_numbers) {
		dnsmap_destroy(map);
		return -ENOMEM;
	}
	dnsmap_reset(map);
	*out = map;
	return 0;
}

void dnsmap_destroy(struct dnsmap *map)
{
	if (!map)
		return;
	free(map->entries);
	free(map->buckets);
	free(map->by_number);
	free(map->free_numbers);
	free(map);
}

/* --- the list of those without flows --- */

static void dnsmap_list_add(struct dnsmap *map, uint32_t index)
{
	struct dnsmap_entry *entry = &map->entries[index];

	entry->newer = DNSMAP_NONE;
	entry->older = map->newest;
	if (map->newest != DNSMAP_NONE)
		map->entries[map->newest].newer = index;
	else
		map->oldest = index;
	map->newest = index;
}

static void dnsmap_list_remove(struct dnsmap *map, uint32_t index)
{
	struct dnsmap_entry *entry = &map->entries[index];

	if (entry->newer != DNSMAP_NONE)
		map->entries[entry->newer].older = entry->older;
	else
		map->newest = entry->older;
	if (entry->older != DNSMAP_NONE)
		map->entries[entry->older].newer = entry->newer;
	else
		map->oldest = entry->newer;
}

/* --- names --- */

static uint32_t *dnsmap_bucket(const struct dnsmap *map, const char *name)
{
	uint64_t words[DNS_TEXT_BYTES / 8 + 1];
	size_t bytes = strlen(name), count = bytes / 8 + 1;

	words[count - 1] = 0;
	memcpy(words, name, bytes);
	return &map->buckets[siphash_words(map->settings.secret, words, count) & map->bucket_mask];
}

static uint32_t dnsmap_find_name(const struct dnsmap *map, const char *name)
{
	uint32_t index = *dnsmap_bucket(map, name);

	while (index != DNSMAP_NONE && strcmp(map->entries[index].name, name) != 0)
		index = map->entries[index].hash_next;
	return index;
}

/* `name` may be empty: then it is not entered in the hash. */
static void dnsmap_enter(struct dnsmap *map, uint32_t index, const char *name, uint32_t number)
{
	struct dnsmap_entry *entry = &map->entries[index];
	uint32_t *bucket = dnsmap_bucket(map, name);

	*entry = (struct dnsmap_entry){.number = number, .in_use = true, .used = ++map->stamp};
	memcpy(entry->name, name, strlen(name) + 1);
	map->by_number[number] = index;
	if (*name) {
		entry->hash_next = *bucket;
		*bucket = index;
	}
	map->gauges.names++;
	map->version++;
}

/* It is in no list any more. Its number is free from now on, and so is the entry. */
static void dnsmap_leave(struct dnsmap *map, uint32_t index)
{
	struct dnsmap_entry *entry = &map->entries[index];
	uint32_t *link = dnsmap_bucket(map, entry->name);

	while (entry->name[0] && *link != index)
		link = &map->entries[*link].hash_next;
	if (entry->name[0])
		*link = entry->hash_next;
	map->by_number[entry->number] = DNSMAP_NONE;
	if (!entry->queued)
		map->free_numbers[(map->free_first + map->free_count++) % map->numbers] = entry->number;
	entry->in_use = false;
	entry->hash_next = map->free_entry;
	map->free_entry = index;
	map->gauges.names--;
	map->version++;
}

static uint32_t dnsmap_take_entry(struct dnsmap *map)
{
	uint32_t index;

	if (map->free_entry == DNSMAP_NONE && map->oldest != DNSMAP_NONE) {
		index = map->oldest;
		dnsmap_list_remove(map, index);
		dnsmap_leave(map, index);
		map->gauges.evicted++;
	}
	index = map->free_entry;
	if (index != DNSMAP_NONE)
		map->free_entry = map->entries[index].hash_next;
	return index;
}

/* The one that was free for the longest time; there are at least as many as entries. */
static uint32_t dnsmap_take_number(struct dnsmap *map)
{
	for (;;) {
		uint32_t number = map->free_numbers[map->free_first], user = map->by_number[number];

		map->free_first = (map->free_first + 1) % map->numbers;
		map->free_count--;
		if (user == DNSMAP_NONE)
			return number;
		map->entries[user].queued = false;
	}
}

uint32_t dnsmap_give(struct dnsmap *map, const char *name)
{
	uint32_t index = dnsmap_find_name(map, name);

	if (index != DNSMAP_NONE) {
		struct dnsmap_entry *entry = &map->entries[index];

		entry->used = ++map->stamp;
		if (!entry->held) {
			dnsmap_list_remove(map, index);
			dnsmap_list_add(map, index);
		}
		return index;
	}
	index = dnsmap_take_entry(map);
	if (index == DNSMAP_NONE)
		return DNSMAP_NONE;
	dnsmap_enter(map, index, name, dnsmap_take_number(map));
	dnsmap_list_add(map, index);
	map->gauges.given++;
	return index;
}

uint32_t dnsmap_find(const struct dnsmap *map, const struct addr *addr)
{
	return map->by_number[dnsmap_number(map, addr)];
}

const char *dnsmap_name(const struct dnsmap *map, uint32_t entry)
{
	return map->entries[entry].name;
}

void dnsmap_copy_name(const struct dnsmap *map, const struct addr *addr, char name[DNS_TEXT_BYTES])
{
	uint32_t index = dnsmap_find(map, addr);

	name[0] = 0;
	if (index != DNSMAP_NONE)
		memcpy(name, map->entries[index].name, DNS_TEXT_BYTES);
}

/* --- flows --- */

void dnsmap_hold(struct dnsmap *map, uint32_t index)
{
	struct dnsmap_entry *entry = &map->entries[index];

	entry->used = ++map->stamp;
	if (entry->held++)
		return;
	map->gauges.held++;
	dnsmap_list_remove(map, index);
}

void dnsmap_release(struct dnsmap *map, uint32_t index)
{
	struct dnsmap_entry *entry = &map->entries[index];

	entry->used = ++map->stamp;
	if (--entry->held)
		return;
	map->gauges.held--;
	if (entry->name[0])
		dnsmap_list_add(map, index);
	else
		dnsmap_leave(map, index);
}

uint32_t dnsmap_hold_addr(struct dnsmap *map, const struct addr *addr)
{
	uint32_t number = dnsmap_number(map, addr), index = map->by_number[number];

	if (!number)
		return DNSMAP_NONE;
	if (index == DNSMAP_NONE) {
		index = dnsmap_take_entry(map);
		if (index == DNSMAP_NONE)
			return DNSMAP_NONE;
		dnsmap_enter(map, index, "", number);
		map->entries[index].queued = true;
		dnsmap_list_add(map, index);
	}
	dnsmap_hold(map, index);
	return index;
}

/* --- saving and loading --- */

uint64_t dnsmap_version(const struct dnsmap *map)
{
	return map->version;
}

uint32_t dnsmap_next_number(const struct dnsmap *map)
{
	return map->free_count ? map->free_numbers[map->free_first] : 1;
}

size_t dnsmap_save(const struct dnsmap *map, uint32_t *cursor, uint32_t most, char *out, size_t room, bool *more)
{
	size_t bytes = 0;

	for (; *cursor < map->settings.entries && most && room - bytes >= DNSMAP_LINE_BYTES; ++*cursor, most--) {
		const struct dnsmap_entry *entry = &map->entries[*cursor];

		if (!entry->in_use || !entry->name[0])
			continue;
		bytes += (size_t)snprintf(out + bytes, room - bytes, "%u %llu %s\n", entry->number,
					  (unsigned long long)entry->used, entry->name);
	}
	*more = *cursor < map->settings.entries;
	return bytes;
}

/* A decimal number of up to 19 digits and the blank behind it. */
static bool dnsmap_read_number(const char **line, uint64_t *out)
{
	size_t digits = strspn(*line, "0123456789");

	if (!digits || digits > 19 || (*line)[digits] != ' ')
		return false;
	*out = strtoull(*line, NULL, 10);
	*line += digits + 1;
	return true;
}

/* Exactly as dns_name_text() makes it. */
static bool dnsmap_is_name(const char *text)
{
	uint8_t wire[DNS_NAME_BYTES];
	char again[DNS_TEXT_BYTES];

	return strlen(text) < DNS_TEXT_BYTES && dns_name_from_text(text, wire) && dns_name_text(wire, again) &&
	       !strcmp(text, again);
}

bool dnsmap_load(struct dnsmap *map, const char *line)
{
	uint64_t number, used;
	uint32_t index = map->free_entry;

	if (!dnsmap_read_number(&line, &number) || !dnsmap_read_number(&line, &used) || !dnsmap_is_name(line))
		return false;
	if (!number || number > map->numbers || number == map->except || map->by_number[number] != DNSMAP_NONE ||
	    dnsmap_find_name(map, line) != DNSMAP_NONE || index == DNSMAP_NONE)
		return false;
	map->free_entry = map->entries[index].hash_next;
	dnsmap_enter(map, index, line, (uint32_t)number);
	map->entries[index].used = used;
	return true;
}

struct dnsmap_use {
	uint64_t used;
	uint32_t index;
};

static int dnsmap_compare_use(const void *left, const void *right)
{
	const struct dnsmap_use *a = left, *b = right;

	return a->used < b->used ? -1 : a->used > b->used;
}

void dnsmap_load_end(struct dnsmap *map, uint32_t next_number)
{
	struct dnsmap_use *uses = calloc((size_t)map->gauges.names + 1, sizeof(*uses));
	uint64_t word = next_number;
	uint32_t count = 0, skip = map->numbers / DNSMAP_SKIP_SHARE;

	for (uint32_t i = 0; i < map->settings.entries; i++) {
		if (!map->entries[i].in_use)
			continue;
		/* without memory the order of their use is lost, no more */
		if (uses)
			uses[count++] = (struct dnsmap_use){.used = map->entries[i].used, .index = i};
		else
			dnsmap_list_add(map, i);
	}
	if (uses)
		qsort(uses, count, sizeof(*uses), dnsmap_compare_use);
	for (uint32_t i = 0; i < count; i++) {
		map->entries[uses[i].index].used = ++map->stamp;
		dnsmap_list_add(map, uses[i].index);
	}
	free(uses);
	/* never twice the same way: the file may be read again after another crash */
	skip += (uint32_t)(siphash_words(map->settings.secret, &word, 1) % (map->numbers / 2 + 1));
	dnsmap_queue_numbers(map, (uint32_t)(((uint64_t)next_number + skip) % map->numbers) + 1);
}

void dnsmap_gauges(const struct dnsmap *map, struct dnsmap_gauges *out)
{
	*out = map->gauges;
}
