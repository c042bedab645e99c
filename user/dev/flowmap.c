/* SPDX-License-Identifier: MIT */
#include "flowmap.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const flowmap_names[] = {
#define X(name, text, next) [FLOW_PHASE_##name] = text,
	FLOW_PHASES(X)
#undef X
};

static const uint16_t flowmap_next[] = {
#define X(name, text, next) [FLOW_PHASE_##name] = next,
	FLOW_PHASES(X)
#undef X
};

static int flowmap_on_report(void *ctx, void *data, size_t bytes)
{
	struct flowmap *map = ctx;

	if (bytes >= sizeof(struct flow_report))
		map->report(map->ctx, data);
	return 0;
}

int flowmap_open(struct flowmap *map, const struct bpfload *bpf,
		 void (*report)(void *ctx, const struct flow_report *report), void *ctx)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int flows_fd, err;
	void *memory;

	memset(map, 0, sizeof(*map));
	bpfload_flow_maps(bpf, &map->keys_fd, &flows_fd, &map->reports_fd, &map->count);
	map->report = report;
	map->ctx = ctx;
	map->mapped_bytes = ((uint64_t)map->count * sizeof(struct flow_entry) + page - 1) / page * page;
	memory = mmap(NULL, map->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, flows_fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	map->entries = memory;
	map->ring = ring_buffer__new(map->reports_fd, flowmap_on_report, map, NULL);
	if (map->ring)
		return 0;
	err = -errno;
	flowmap_close(map);
	return err;
}

void flowmap_close(struct flowmap *map)
{
	ring_buffer__free(map->ring);
	if (map->entries)
		munmap(map->entries, map->mapped_bytes);
	memset(map, 0, sizeof(*map));
}

int flowmap_fd(const struct flowmap *map)
{
	return map->reports_fd;
}

uint32_t flowmap_poll(struct flowmap *map)
{
	int count = ring_buffer__consume(map->ring);

	return count > 0 ? (uint32_t)count : 0;
}

int flowmap_add_key(struct flowmap *map, const struct flow_key *key, uint32_t index, uint32_t direction)
{
	struct flow_ref ref = {.index = index,
			       .generation = map->entries[index].generation & FLOW_GENERATION_MASK,
			       .direction = direction & 1};

	return bpf_map_update_elem(map->keys_fd, key, &ref, BPF_NOEXIST) ? -errno : 0;
}

int flowmap_add_relayed(struct flowmap *map, const struct flow_key *key, bool known)
{
	const struct flow_ref ref = {.index = FLOW_INDEX_RELAYED};

	return bpf_map_update_elem(map->keys_fd, key, &ref, known ? BPF_ANY : BPF_NOEXIST) ? -errno : 0;
}

uint32_t flowmap_forget_relayed(struct flowmap *map)
{
	struct flow_key key, next, *at = NULL;
	struct flow_ref ref;
	uint32_t removed = 0;
	bool more = !bpf_map_get_next_key(map->keys_fd, NULL, &next);

	while (more) {
		key = next;
		at = &key;
		/* before it is removed: the walk would start again */
		more = !bpf_map_get_next_key(map->keys_fd, at, &next);
		if (bpf_map_lookup_elem(map->keys_fd, &key, &ref) || ref.index != FLOW_INDEX_RELAYED)
			continue;
		bpf_map_delete_elem(map->keys_fd, &key);
		removed++;
	}
	return removed;
}

void flowmap_remove_key(struct flowmap *map, const struct flow_key *key)
{
	bpf_map_delete_elem(map->keys_fd, key);
}

bool flowmap_find(const struct flowmap *map, const struct flow_key *key, struct flow_ref *out)
{
	return !bpf_map_lookup_elem(map->keys_fd, key, out) && out->index < map->count &&
	       map->entries[out->index].generation == out->generation;
}

void flowmap_key_of(const struct flow_entry *entry, uint32_t direction, struct flow_key *out)
{
	const struct flow_half *opposite = &entry->half[(direction & 1) ^ 1];

	*out = (struct flow_key){
		.src = opposite->dst, .dst = opposite->src, .sport = opposite->dport, .dport = opposite->sport};
}

const char *flowmap_phase_name(uint32_t phase)
{
	return phase < FLOW_PHASE_COUNT ? flowmap_names[phase] : "unknown";
}

enum flow_phase flowmap_phase(const struct flow_entry *entry)
{
	return (enum flow_phase)__atomic_load_n(&entry->phase, __ATOMIC_ACQUIRE);
}

void flowmap_move(struct flow_entry *entry, enum flow_phase to)
{
	assert(flowmap_next[entry->phase] & BIT(to));
	__atomic_store_n(&entry->phase, (uint32_t)to, __ATOMIC_SEQ_CST);
}
