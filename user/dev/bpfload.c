/* SPDX-License-Identifier: MIT */
/*
 * A program that this daemon loads is attached by netlink, not by a link: so
 * it stays when the daemon is killed, and goes on to drop (or pass, as
 * `on-down` says) what would have been proxied. The next start finds it by
 * its name and replaces it in one step. Detaching is what an orderly stop does.
 */
#include "bpfload.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "socksplice_xdp.skel.h"

#define BPFLOAD_PROGRAM "socksplice_xdp"
#define BPFLOAD_MAX_ATTACHED 16

enum bpfload_map { MAP_XSKS, MAP_CFG, MAP_PORTS, MAP_LOCAL_ADDRS, MAP_COUNTERS, MAP_COUNT };

static const struct {
	const char *name;
	uint32_t type, key_bytes, value_bytes, entries;
} bpfload_shapes[MAP_COUNT] = {
	[MAP_XSKS] = {"xsks", BPF_MAP_TYPE_XSKMAP, 4, 4, CFG_MAX_QUEUES},
	[MAP_CFG] = {"cfg", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct xdp_cfg), 1},
	[MAP_PORTS] = {"ports", BPF_MAP_TYPE_HASH, 4, sizeof(struct xdp_port), CFG_MAX_PORTS},
	[MAP_LOCAL_ADDRS] = {"local_addrs", BPF_MAP_TYPE_HASH, sizeof(struct addr), 1, CFG_MAX_LOCAL_ADDRS},
	[MAP_COUNTERS] = {"counters", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, XDP_COUNTER_COUNT},
};

struct bpfload {
	struct socksplice_xdp *skeleton; /* NULL: adopted */
	int program_fd;
	int maps[MAP_COUNT];
	struct {
		int ifindex;
		uint32_t flags;
	} attached[BPFLOAD_MAX_ATTACHED];
	uint32_t attached_count;
};

static int bpfload_print(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[512];

	(void)level;
	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = 0;
	log_debug("libbpf: %s", line);
	return 0;
}

int bpfload_open(struct bpfload **out, char *error, uint32_t error_bytes)
{
	struct bpfload *bpf = calloc(1, sizeof(*bpf));
	int err;

	if (!bpf)
		return -ENOMEM;
	libbpf_set_print(bpfload_print);
	bpf->skeleton = socksplice_xdp__open_and_load();
	if (!bpf->skeleton) {
		err = -errno;
		snprintf(error, error_bytes, "loading the XDP program: %s%s", strerror(-err),
			 err == -EPERM ? "; root, or CAP_BPF and CAP_NET_ADMIN, is needed"
				       : "; `log.level: debug` shows why");
		free(bpf);
		return err;
	}
	bpf->program_fd = bpf_program__fd(bpf->skeleton->progs.socksplice_xdp);
	bpf->maps[MAP_XSKS] = bpf_map__fd(bpf->skeleton->maps.xsks);
	bpf->maps[MAP_CFG] = bpf_map__fd(bpf->skeleton->maps.cfg);
	bpf->maps[MAP_PORTS] = bpf_map__fd(bpf->skeleton->maps.ports);
	bpf->maps[MAP_LOCAL_ADDRS] = bpf_map__fd(bpf->skeleton->maps.local_addrs);
	bpf->maps[MAP_COUNTERS] = bpf_map__fd(bpf->skeleton->maps.counters);
	*out = bpf;
	return 0;
}

/* Id of the program on an interface and how it sits there; 0: none. */
static uint32_t bpfload_attached_id(int ifindex, enum xdp_mode *mode)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);

	*mode = XDP_MODE_NONE;
	if (bpf_xdp_query(ifindex, 0, &query))
		return 0;
	if (query.drv_prog_id || query.hw_prog_id)
		*mode = XDP_MODE_NATIVE;
	else if (query.skb_prog_id)
		*mode = XDP_MODE_GENERIC;
	return query.prog_id ? query.prog_id : query.drv_prog_id ? query.drv_prog_id : query.skb_prog_id;
}

static int bpfload_program_info(uint32_t id, struct bpf_prog_info *info, uint32_t *map_ids, uint32_t max_maps)
{
	uint32_t bytes = sizeof(*info);
	int fd = bpf_prog_get_fd_by_id(id), err;

	if (fd < 0)
		return -errno;
	memset(info, 0, sizeof(*info));
	info->map_ids = (uintptr_t)map_ids;
	info->nr_map_ids = max_maps;
	err = bpf_obj_get_info_by_fd(fd, info, &bytes) ? -errno : 0;
	if (err)
		close(fd);
	return err ? err : fd;
}

/* Index of the map in bpfload_shapes, MAP_COUNT: none of ours, or of another shape. */
static enum bpfload_map bpfload_recognise(const struct bpf_map_info *info)
{
	for (int i = 0; i < MAP_COUNT; i++)
		if (!strcmp(info->name, bpfload_shapes[i].name))
			return info->type == bpfload_shapes[i].type && info->key_size == bpfload_shapes[i].key_bytes &&
					       info->value_size == bpfload_shapes[i].value_bytes &&
					       info->max_entries == bpfload_shapes[i].entries
				       ? (enum bpfload_map)i
				       : MAP_COUNT;
	return MAP_COUNT;
}

static int bpfload_find_maps(int maps[MAP_COUNT], const uint32_t *map_ids, uint32_t count)
{
	for (int i = 0; i < MAP_COUNT; i++)
		maps[i] = -1;
	for (uint32_t i = 0; i < count; i++) {
		struct bpf_map_info info = {0};
		uint32_t bytes = sizeof(info);
		int fd = bpf_map_get_fd_by_id(map_ids[i]);
		enum bpfload_map which;

		if (fd < 0)
			continue;
		which = bpf_obj_get_info_by_fd(fd, &info, &bytes) ? MAP_COUNT : bpfload_recognise(&info);
		if (which == MAP_COUNT || maps[which] >= 0)
			close(fd);
		else
			maps[which] = fd;
	}
	for (int i = 0; i < MAP_COUNT; i++)
		if (maps[i] < 0)
			return -ENOENT;
	return 0;
}

static void bpfload_close_maps(int maps[MAP_COUNT])
{
	for (int i = 0; i < MAP_COUNT; i++)
		if (maps[i] >= 0)
			close(maps[i]);
}

static uint32_t bpfload_map_id(int fd)
{
	struct bpf_map_info info = {0};
	uint32_t bytes = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &bytes) ? 0 : info.id;
}

static int bpfload_adopt_error(char *error, uint32_t error_bytes, const char *ifname, int err, const char *what)
{
	snprintf(error, error_bytes,
		 "interface %s (attach: external): %s; load it: ip link set dev %s xdp obj socksplice_xdp.o sec xdp",
		 ifname, what, ifname);
	return err;
}

/* A further interface: its program must use the maps that are adopted already. */
static int bpfload_adopt_further(struct bpfload *also, int maps[MAP_COUNT], int program_fd, const char *ifname,
				 char *error, uint32_t error_bytes)
{
	int err = 0;

	if (bpfload_map_id(also->maps[MAP_XSKS]) != bpfload_map_id(maps[MAP_XSKS])) {
		snprintf(error, error_bytes,
			 "interface %s (attach: external): its program has maps of its own; attach the same program to "
			 "both: "
			 "bpftool net attach xdp id ID dev %s (ID: bpftool net list)",
			 ifname, ifname);
		err = -EXDEV;
	}
	bpfload_close_maps(maps);
	close(program_fd);
	return err;
}

int bpfload_adopt(struct bpfload **out, struct bpfload *also, int ifindex, const char *ifname, char *error,
		  uint32_t error_bytes)
{
	uint32_t map_ids[32];
	struct bpf_prog_info info;
	struct bpfload *bpf;
	int maps[MAP_COUNT], program_fd, err;
	enum xdp_mode mode;
	uint32_t id = bpfload_attached_id(ifindex, &mode);

	libbpf_set_print(bpfload_print);
	if (!id)
		return bpfload_adopt_error(error, error_bytes, ifname, -ENOENT, "no XDP program is attached");
	program_fd = bpfload_program_info(id, &info, map_ids, 32);
	if (program_fd < 0)
		return bpfload_adopt_error(error, error_bytes, ifname, program_fd, "its XDP program cannot be read");
	err = bpfload_find_maps(maps, map_ids, info.nr_map_ids < 32 ? info.nr_map_ids : 32);
	if (err) {
		bpfload_close_maps(maps);
		close(program_fd);
		return bpfload_adopt_error(error, error_bytes, ifname, err,
					   "the attached XDP program is not socksplice's, or of another version");
	}
	if (also)
		return bpfload_adopt_further(also, maps, program_fd, ifname, error, error_bytes);
	bpf = calloc(1, sizeof(*bpf));
	if (!bpf) {
		bpfload_close_maps(maps);
		close(program_fd);
		return -ENOMEM;
	}
	memcpy(bpf->maps, maps, sizeof(maps));
	bpf->program_fd = program_fd;
	*out = bpf;
	return 0;
}

int bpfload_configure(struct bpfload *bpf, const struct xdp_cfg *cfg)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(bpf->maps[MAP_CFG], &zero, cfg, BPF_ANY) ? -errno : 0;
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

int bpfload_set_port(struct bpfload *bpf, int ifindex, uint32_t first_slot, uint32_t queues)
{
	const struct xdp_port port = {.first_slot = first_slot, .queues = queues};
	uint32_t key = (uint32_t)ifindex;

	return bpf_map_update_elem(bpf->maps[MAP_PORTS], &key, &port, BPF_ANY) ? -errno : 0;
}

int bpfload_set_socket(struct bpfload *bpf, uint32_t slot, int xsk_fd)
{
	return bpf_map_update_elem(bpf->maps[MAP_XSKS], &slot, &xsk_fd, BPF_ANY) ? -errno : 0;
}

/* What to do about the errors that have a known cause. */
static const char *bpfload_attach_hint(int err)
{
	switch (err) {
	case -EBUSY:
		return "another XDP program is attached; detach it (ip link set dev X xdp off), or, if it is ours, use "
		       "`attach: external`";
	case -ENOSPC:
		return "the device has fewer receive queues than its peer has transmit queues; give it as many "
		       "(ethtool -L X rx N)";
	case -ERANGE:
	case -EINVAL:
		return "the MTU may be too large for XDP (about 3500), or an offload such as LRO is on";
	case -EOPNOTSUPP:
		return "the driver has no native XDP; `xsk: generic` works everywhere";
	default:
		return "`log.level: debug` may show more";
	}
}

/* The program of a killed daemon: ours by name, and to be replaced. fd, or -1. */
static int bpfload_leftover(int ifindex, enum xdp_mode *mode)
{
	struct bpf_prog_info info;
	uint32_t id = bpfload_attached_id(ifindex, mode);
	int fd;

	if (!id)
		return -1;
	fd = bpfload_program_info(id, &info, NULL, 0);
	if (fd < 0)
		return -1;
	if (!strcmp(info.name, BPFLOAD_PROGRAM))
		return fd;
	close(fd);
	return -1;
}

int bpfload_attach(struct bpfload *bpf, int ifindex, const char *ifname, bool generic, char *error,
		   uint32_t error_bytes)
{
	uint32_t flags = (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE) | XDP_FLAGS_UPDATE_IF_NOEXIST;
	LIBBPF_OPTS(bpf_xdp_attach_opts, options);
	enum xdp_mode mode;
	int err, leftover = bpfload_leftover(ifindex, &mode);

	if (bpf->attached_count == BPFLOAD_MAX_ATTACHED)
		return -E2BIG;
	if (leftover >= 0 && mode == (generic ? XDP_MODE_GENERIC : XDP_MODE_NATIVE)) {
		flags = (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE) | XDP_FLAGS_REPLACE;
		options.old_prog_fd = leftover;
		log_info("interface %s: replacing the XDP program that an earlier run left", ifname);
	} else if (leftover >= 0) {
		/* the other mode cannot be replaced in place; for a moment nothing is attached */
		bpf_xdp_detach(ifindex, mode == XDP_MODE_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, NULL);
	}
	err = bpf_xdp_attach(ifindex, bpf->program_fd, flags, &options);
	if (leftover >= 0)
		close(leftover);
	if (err) {
		snprintf(error, error_bytes, "interface %s: attaching the XDP program (%s): %s; %s", ifname,
			 generic ? "generic" : "native", strerror(-err), bpfload_attach_hint(err));
		return err;
	}
	bpf->attached[bpf->attached_count].ifindex = ifindex;
	bpf->attached[bpf->attached_count++].flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	return 0;
}

enum xdp_mode bpfload_mode(int ifindex)
{
	enum xdp_mode mode;

	bpfload_attached_id(ifindex, &mode);
	return mode;
}

int bpfload_read_counters(struct bpfload *bpf, uint64_t counters[XDP_COUNTER_COUNT])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;

	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < XDP_COUNTER_COUNT; i++) {
		counters[i] = 0;
		if (bpf_map_lookup_elem(bpf->maps[MAP_COUNTERS], &i, values))
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			counters[i] += values[cpu];
	}
	free(values);
	return 0;
}

void bpfload_close(struct bpfload *bpf)
{
	for (uint32_t i = 0; i < bpf->attached_count; i++)
		bpf_xdp_detach(bpf->attached[i].ifindex, bpf->attached[i].flags, NULL);
	if (bpf->skeleton) {
		socksplice_xdp__destroy(bpf->skeleton);
	} else {
		bpfload_close_maps(bpf->maps);
		close(bpf->program_fd);
	}
	free(bpf);
}
