/* SPDX-License-Identifier: MIT */
/* The maps: finding those that exist already, and writing what the daemon decides. */
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpfload_priv.h"
#include "pin.h"

const struct bpfload_shape bpfload_shapes[MAP_COUNT] = {
#define X(id, name, type, key, value, entries) [MAP_##id] = {#name, type, key, value, entries},
	BPFLOAD_MAPS(X)
#undef X
};

static int bpfload_map_info(int fd, struct bpf_map_info *info)
{
	uint32_t bytes = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bpf_obj_get_info_by_fd(fd, info, &bytes) ? -errno : 0;
}

static bool bpfload_fits(const struct bpf_map_info *info, const struct bpfload_shape *shape)
{
	return info->type == shape->type && info->key_size == shape->key_bytes &&
	       info->value_size == shape->value_bytes && (!shape->entries || info->max_entries == shape->entries);
}

/* Index of the map in bpfload_shapes, MAP_COUNT: none of ours, or of another shape. */
static enum bpfload_map bpfload_recognise(const struct bpf_map_info *info)
{
	for (int i = 0; i < MAP_COUNT; i++)
		if (!strcmp(info->name, bpfload_shapes[i].name))
			return bpfload_fits(info, &bpfload_shapes[i]) ? (enum bpfload_map)i : MAP_COUNT;
	return MAP_COUNT;
}

int bpfload_find_program_maps(int maps[MAP_COUNT], const uint32_t *map_ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int fd = bpf_map_get_fd_by_id(map_ids[i]);
		struct bpf_map_info info;
		enum bpfload_map which;

		if (fd < 0)
			continue;
		which = bpfload_map_info(fd, &info) ? MAP_COUNT : bpfload_recognise(&info);
		if (which == MAP_COUNT || maps[which] >= 0)
			close(fd);
		else
			maps[which] = fd;
	}
	for (int i = 0; i < MAP_FIRST_TC_ONLY; i++)
		if (maps[i] < 0)
			return -ENOENT;
	return 0;
}

static int bpfload_other_version(const char *pin, const char *what, char *error, uint32_t error_bytes)
{
	snprintf(
		error, error_bytes,
		"bpf-pin: %s was left by another version of socksplice (%s; this one has layout %d). Its spliced "
		"connections cannot be taken over. Stop that version with `socksplice stop --flush`, or remove what it "
		"left: rm -r %s",
		pin, what, CFG_ABI_VERSION, pin);
	return -EPROTO;
}

static int bpfload_check_version(const char *pin, const int maps[MAP_COUNT], char *error, uint32_t error_bytes)
{
	struct bpf_cfg cfg;
	uint32_t zero = 0;
	char text[64];

	if (bpf_map_lookup_elem(maps[MAP_CFG], &zero, &cfg))
		return -errno;
	if (!cfg.abi_version || cfg.abi_version == CFG_ABI_VERSION)
		return 0;
	snprintf(text, sizeof(text), "layout %u", cfg.abi_version);
	return bpfload_other_version(pin, text, error, error_bytes);
}

int bpfload_find_pinned_maps(const char *pin, int maps[MAP_COUNT], char *error, uint32_t error_bytes)
{
	uint32_t found = 0;
	char text[96];

	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map_info info;

		maps[i] = pin_get(pin, bpfload_shapes[i].name);
		if (maps[i] < 0)
			continue;
		found++;
		if (!bpfload_map_info(maps[i], &info) && bpfload_fits(&info, &bpfload_shapes[i]))
			continue;
		snprintf(text, sizeof(text), "map %s has another shape", bpfload_shapes[i].name);
		bpfload_other_version(pin, text, error, error_bytes);
		bpfload_close_maps(maps);
		return -EPROTO;
	}
	/* a few maps without the others: a start that did not come to its end */
	if (found < MAP_COUNT) {
		bpfload_close_maps(maps);
		bpfload_unpin_maps(pin);
		return -ENOENT;
	}
	if (bpfload_check_version(pin, maps, error, error_bytes)) {
		bpfload_close_maps(maps);
		return -EPROTO;
	}
	return 0;
}

int bpfload_pin_maps(struct bpfload *bpf)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		int err = pin_put(bpf->pin, bpfload_shapes[i].name, bpf->maps[i]);

		if (err)
			return err;
	}
	return 0;
}

void bpfload_unpin_maps(const char *pin)
{
	for (int i = 0; i < MAP_COUNT; i++)
		pin_remove(pin, bpfload_shapes[i].name);
}

void bpfload_close_maps(int maps[MAP_COUNT])
{
	for (int i = 0; i < MAP_COUNT; i++) {
		if (maps[i] >= 0)
			close(maps[i]);
		maps[i] = -1;
	}
}

uint32_t bpfload_map_id(int fd)
{
	struct bpf_map_info info;

	return bpfload_map_info(fd, &info) ? 0 : info.id;
}

uint32_t bpfload_map_entries(int fd)
{
	struct bpf_map_info info;

	return bpfload_map_info(fd, &info) ? 0 : info.max_entries;
}

static int bpfload_write(int fd, const void *key, const void *value)
{
	return bpf_map_update_elem(fd, key, value, BPF_ANY) ? -errno : 0;
}

int bpfload_configure(struct bpfload *bpf, const struct bpf_cfg *cfg)
{
	struct bpf_cfg before, after = *cfg;
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(bpf->maps[MAP_CFG], &zero, &before))
		return -errno;
	after.rules = before.rules;
	after.rules_last = before.rules_last;
	return bpfload_write(bpf->maps[MAP_CFG], &zero, &after);
}

int bpfload_read_owner(const struct bpfload *bpf, struct bpf_owner *out)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(bpf->maps[MAP_OWNER], &zero, out) ? -errno : 0;
}

int bpfload_write_owner(struct bpfload *bpf, const struct bpf_owner *owner)
{
	uint32_t zero = 0;

	return bpfload_write(bpf->maps[MAP_OWNER], &zero, owner);
}

static bool bpfload_listed(const struct addr *addrs, uint32_t count, const struct addr *addr)
{
	for (uint32_t i = 0; i < count; i++)
		if (addr_equal(&addrs[i], addr))
			return true;
	return false;
}

int bpfload_set_local_addrs(struct bpfload *bpf, const struct addr *addrs, uint32_t count)
{
	int fd = bpf->maps[MAP_LOCAL_ADDRS];
	struct addr key, next, *at = NULL;
	uint8_t present = 1;

	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_update_elem(fd, &addrs[i], &present, BPF_ANY))
			return -errno;
	/* deleting the key just read makes the walk start again: bounded by one restart per deletion */
	while (!bpf_map_get_next_key(fd, at, &next)) {
		key = next;
		at = &key;
		if (bpfload_listed(addrs, count, &key))
			continue;
		bpf_map_delete_elem(fd, &key);
		at = NULL;
	}
	return 0;
}

int bpfload_set_port(struct bpfload *bpf, int ifindex, const struct bpf_port *port)
{
	uint32_t key = (uint32_t)ifindex;

	return bpfload_write(bpf->maps[MAP_PORTS], &key, port);
}

uint32_t bpfload_uplinks(const struct bpfload *bpf, int *ifindexes, uint32_t max)
{
	int fd = bpf->maps[MAP_PORTS];
	uint32_t key, next, count = 0;
	const uint32_t *at = NULL;
	struct bpf_port port;

	while (count < max && !bpf_map_get_next_key(fd, at, &next)) {
		key = next;
		at = &key;
		if (!bpf_map_lookup_elem(fd, &key, &port) && port.flags & CFG_PORT_UPLINK)
			ifindexes[count++] = (int)key;
	}
	return count;
}

static void bpfload_empty(int fd)
{
	uint32_t key;

	while (!bpf_map_get_next_key(fd, NULL, &key))
		if (bpf_map_delete_elem(fd, &key))
			return;
}

static bool bpfload_port_is_over(const struct bpfload *bpf, uint32_t ifindex, const int *lan, uint32_t lan_count)
{
	struct bpf_port port;
	char name[IFNAMSIZ];

	for (uint32_t i = 0; i < lan_count; i++)
		if ((uint32_t)lan[i] == ifindex)
			return false;
	return !if_indextoname(ifindex, name) || bpf_map_lookup_elem(bpf->maps[MAP_PORTS], &ifindex, &port) ||
	       port.flags & CFG_PORT_LAN;
}

void bpfload_forget_ports(struct bpfload *bpf, const int *lan, uint32_t lan_count)
{
	uint32_t key, next;
	const uint32_t *at = NULL;

	while (!bpf_map_get_next_key(bpf->maps[MAP_PORTS], at, &next)) {
		key = next;
		at = &key;
		if (!bpfload_port_is_over(bpf, key, lan, lan_count))
			continue;
		/* the walk starts again: bounded by one restart per deletion */
		bpf_map_delete_elem(bpf->maps[MAP_PORTS], &key);
		at = NULL;
	}
	bpfload_empty(bpf->maps[MAP_DEVICES]);
	bpfload_empty(bpf->maps[MAP_TAP_EXITS]);
}

int bpfload_set_socket(struct bpfload *bpf, uint32_t slot, int xsk_fd)
{
	return bpfload_write(bpf->maps[MAP_XSKS], &slot, &xsk_fd);
}

int bpfload_set_tap(struct bpfload *bpf, uint32_t slot, int tap_ifindex, int exit_ifindex)
{
	uint32_t tap = (uint32_t)tap_ifindex, leave = (uint32_t)exit_ifindex;
	int err = bpfload_write(bpf->maps[MAP_TAP_EXITS], &tap, &leave);

	return err ? err : bpfload_write(bpf->maps[MAP_TAPS], &slot, &tap);
}

int bpfload_set_device(struct bpfload *bpf, int ifindex, bool takes_xdp)
{
	uint32_t key = (uint32_t)ifindex;

	if (takes_xdp)
		return bpfload_write(bpf->maps[MAP_DEVICES], &key, &key);
	bpf_map_delete_elem(bpf->maps[MAP_DEVICES], &key);
	return 0;
}

int bpfload_read_counters(struct bpfload *bpf, uint64_t counters[PACKET_COUNTER_COUNT])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;

	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < PACKET_COUNTER_COUNT; i++) {
		counters[i] = 0;
		if (bpf_map_lookup_elem(bpf->maps[MAP_COUNTERS], &i, values))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			counters[i] += values[cpu];
	}
	free(values);
	return 0;
}

void bpfload_flow_maps(const struct bpfload *bpf, int *keys_fd, int *flows_fd, int *reports_fd, uint32_t *entries)
{
	*keys_fd = bpf->maps[MAP_FLOW_KEYS];
	*flows_fd = bpf->maps[MAP_FLOWS];
	*reports_fd = bpf->maps[MAP_REPORTS];
	*entries = bpfload_map_entries(bpf->maps[MAP_FLOWS]);
}

void bpfload_udp_maps(const struct bpfload *bpf, int *keys_fd, int *assocs_fd)
{
	*keys_fd = bpf->maps[MAP_UDP_KEYS];
	*assocs_fd = bpf->maps[MAP_UDP_ASSOCS];
}

void bpfload_rule_maps(const struct bpfload *bpf, int *cfg_fd, int *sets_fd, int *ranges_fd)
{
	*cfg_fd = bpf->maps[MAP_CFG];
	*sets_fd = bpf->maps[MAP_RULE_SETS];
	*ranges_fd = bpf->maps[MAP_RULE_RANGES];
}

void bpfload_dns_maps(const struct bpfload *bpf, int *dns_fd, int *direct_fd)
{
	*dns_fd = bpf->maps[MAP_DNS];
	*direct_fd = bpf->maps[MAP_DIRECT_ADDRS];
}
