/* SPDX-License-Identifier: MIT */
#include "udpmap.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int udpmap_open(struct udpmap *map, const struct bpfload *bpf)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct flow_key key;
	void *memory;
	int assocs_fd;

	memset(map, 0, sizeof(*map));
	bpfload_udp_maps(bpf, &map->keys_fd, &assocs_fd);
	while (!bpf_map_get_next_key(map->keys_fd, NULL, &key))
		if (bpf_map_delete_elem(map->keys_fd, &key))
			return -errno;
	map->mapped_bytes = ((uint64_t)UDP_MAX_ASSOCS * sizeof(struct udp_assoc) + page - 1) / page * page;
	memory = mmap(NULL, map->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, assocs_fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	map->entries = memory;
	return 0;
}

void udpmap_close(struct udpmap *map)
{
	if (map->entries)
		munmap(map->entries, map->mapped_bytes);
	memset(map, 0, sizeof(*map));
}

int udpmap_add_key(struct udpmap *map, const struct flow_key *key, uint32_t index, uint32_t direction)
{
	struct flow_ref ref = {.index = index,
			       .generation = map->entries[index].generation & FLOW_GENERATION_MASK,
			       .direction = direction & 1};

	return bpf_map_update_elem(map->keys_fd, key, &ref, BPF_NOEXIST) ? -errno : 0;
}

void udpmap_remove_key(struct udpmap *map, const struct flow_key *key)
{
	bpf_map_delete_elem(map->keys_fd, key);
}
