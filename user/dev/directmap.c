/* SPDX-License-Identifier: MIT */
#include "directmap.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

void directmap_open(struct directmap *map, const struct bpfload *bpf)
{
	bpfload_dns_maps(bpf, &map->dns_fd, &map->direct_fd);
}

int directmap_configure(struct directmap *map, const struct bpf_dns *settings)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(map->dns_fd, &zero, settings, BPF_ANY) ? -errno : 0;
}

int directmap_add(struct directmap *map, const uint8_t client_mac[6], const struct addr *destination, uint64_t until_ns)
{
	struct direct_key key = {.destination = *destination};
	struct direct_value value = {.until_ns = until_ns}, before;

	memcpy(key.client_mac, client_mac, sizeof(key.client_mac));
	/* one in use may last longer already */
	if (!bpf_map_lookup_elem(map->direct_fd, &key, &before) && before.until_ns > until_ns)
		return 0;
	return bpf_map_update_elem(map->direct_fd, &key, &value, BPF_ANY) ? -errno : 0;
}
