/* SPDX-License-Identifier: MIT */
/*
 * Putting programs and maps together. The tc object is always loaded from this
 * binary; it and the XDP object share all maps. Where the maps come from:
 *
 *   bpf-pin holds a set of this version   taken over, flows and all
 *   attach: external                      those of the XDP program on the interface
 *   else                                  made anew
 *
 * and then they are pinned. XDP is attached by netlink, tc by pinned links, so
 * both stay when the daemon is killed: spliced flows go on, and what should be
 * proxied is dropped (or passed, as `on-down` says). The next start replaces
 * programs in place. bpfmaps.c reads and writes maps, bpfattach.c attaches.
 */
#include "bpfload_priv.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "pin.h"
#include "socksplice_tc.skel.h"
#include "socksplice_xdp.skel.h"

static int bpfload_print(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[512];

	(void)level;
	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = 0;
	log_debug("libbpf: %s", line);
	return 0;
}

static int bpfload_load_error(char *error, uint32_t error_bytes, const char *what, int err)
{
	snprintf(error, error_bytes, "loading the %s: %s%s", what, strerror(-err),
		 err == -EPERM ? "; root, or CAP_BPF and CAP_NET_ADMIN, is needed" : "; `log.level: debug` shows why");
	return err;
}

/* Gives an object the maps that exist already, and the others the size that is wanted. */
static int bpfload_prepare_maps(struct bpf_object *object, const int maps[MAP_COUNT], uint32_t max_flows)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, bpfload_shapes[i].name);
		int err = 0;

		if (!map)
			return -ENOENT;
		if (maps[i] >= 0)
			err = bpf_map__reuse_fd(map, maps[i]);
		else if (i == MAP_FLOWS || i == MAP_DIRECT_FLOWS)
			err = bpf_map__set_max_entries(map, max_flows);
		else if (i == MAP_FLOW_KEYS)
			err = bpf_map__set_max_entries(map, max_flows * FLOW_KEYS_PER_ENTRY);
		if (err)
			return err;
	}
	return 0;
}

static int bpfload_load_tc(struct bpfload *bpf, uint32_t max_flows, char *error, uint32_t error_bytes)
{
	int err;

	bpf->tc = socksplice_tc__open();
	if (!bpf->tc)
		return bpfload_load_error(error, error_bytes, "tc programs", -errno);
	err = bpfload_prepare_maps(bpf->tc->obj, bpf->maps, max_flows);
	if (!err)
		err = socksplice_tc__load(bpf->tc);
	if (err)
		return bpfload_load_error(error, error_bytes, "tc programs", err);
	for (int i = 0; i < MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(bpf->tc->obj, bpfload_shapes[i].name);

		if (bpf->maps[i] < 0)
			bpf->maps[i] = dup(bpf_map__fd(map));
		if (bpf->maps[i] < 0)
			return bpfload_load_error(error, error_bytes, "tc programs", -errno);
	}
	return 0;
}

static int bpfload_load_xdp(struct bpfload *bpf, uint32_t max_flows, char *error, uint32_t error_bytes)
{
	int err;

	bpf->xdp = socksplice_xdp__open();
	if (!bpf->xdp)
		return bpfload_load_error(error, error_bytes, "XDP program", -errno);
	err = bpfload_prepare_maps(bpf->xdp->obj, bpf->maps, max_flows);
	if (!err)
		err = socksplice_xdp__load(bpf->xdp);
	if (err)
		return bpfload_load_error(error, error_bytes, "XDP program", err);
	bpf->program_fd = bpf_program__fd(bpf->xdp->progs.socksplice_xdp);
	return 0;
}

static int bpfload_external_error(char *error, uint32_t error_bytes, const char *ifname, int err, const char *what)
{
	snprintf(error, error_bytes,
		 "interface %s (attach: external): %s; load it: ip link set dev %s xdp obj socksplice_xdp.o sec xdp",
		 ifname, what, ifname);
	return err;
}

/* Maps of the XDP program that sits on an interface; its descriptor, or -errno. */
static int bpfload_read_external(int ifindex, const char *ifname, int maps[MAP_COUNT], char *error,
				 uint32_t error_bytes)
{
	uint32_t map_ids[64], id;
	struct bpf_prog_info info;
	enum xdp_mode mode;
	int program_fd, err;

	for (int i = 0; i < MAP_COUNT; i++)
		maps[i] = -1;
	id = bpfload_attached_id(ifindex, &mode);
	if (!id)
		return bpfload_external_error(error, error_bytes, ifname, -ENOENT, "no XDP program is attached");
	program_fd = bpfload_program_info(id, &info, map_ids, 64);
	if (program_fd < 0)
		return bpfload_external_error(error, error_bytes, ifname, program_fd, "its XDP program cannot be read");
	err = bpfload_find_program_maps(maps, map_ids, info.nr_map_ids < 64 ? info.nr_map_ids : 64);
	if (err) {
		bpfload_close_maps(maps);
		close(program_fd);
		return bpfload_external_error(error, error_bytes, ifname, err,
					      "the attached XDP program is not socksplice's, or of another version");
	}
	return program_fd;
}

static int bpfload_adopt(struct bpfload *bpf, const struct bpfload_settings *settings, char *error,
			 uint32_t error_bytes)
{
	uint32_t entries;

	bpf->program_fd = bpfload_read_external(settings->external_ifindex, settings->external_name, bpf->maps, error,
						error_bytes);
	if (bpf->program_fd < 0)
		return bpf->program_fd;
	bpf->external = true;
	entries = bpfload_map_entries(bpf->maps[MAP_FLOWS]);
	if (settings->max_flows > entries) {
		snprintf(error, error_bytes,
			 "interface %s (attach: external): tcp.max-flows is %u, the loaded object has room for %u; "
			 "lower "
			 "it, or use `attach: load`",
			 settings->external_name, settings->max_flows, entries);
		return -E2BIG;
	}
	return 0;
}

int bpfload_adopt_further(struct bpfload *bpf, int ifindex, const char *ifname, char *error, uint32_t error_bytes)
{
	int maps[MAP_COUNT], err = 0, program_fd;

	program_fd = bpfload_read_external(ifindex, ifname, maps, error, error_bytes);
	if (program_fd < 0)
		return program_fd;
	if (bpfload_map_id(bpf->maps[MAP_XSKS]) != bpfload_map_id(maps[MAP_XSKS])) {
		snprintf(error, error_bytes,
			 "interface %s (attach: external): its program has maps of its own; attach the same program to "
			 "both: bpftool net attach xdp id ID dev %s (ID: bpftool net list)",
			 ifname, ifname);
		err = -EXDEV;
	}
	bpfload_close_maps(maps);
	close(program_fd);
	return err;
}

/* Spliced ones: what was relayed ended with its daemon, whatever keys it left. */
static bool bpfload_has_flows(const int maps[MAP_COUNT])
{
	struct flow_key key, next;
	struct flow_ref ref;

	if (bpf_map_get_next_key(maps[MAP_FLOW_KEYS], NULL, &next))
		return false;
	do {
		key = next;
		if (!bpf_map_lookup_elem(maps[MAP_FLOW_KEYS], &key, &ref) && ref.index != FLOW_INDEX_RELAYED)
			return true;
	} while (!bpf_map_get_next_key(maps[MAP_FLOW_KEYS], &key, &next));
	return false;
}

/* Pinned maps belong to the namespace whose interfaces and sockets their flows use. */
static int bpfload_check_owner(struct bpfload *bpf, char *error, uint32_t error_bytes)
{
	struct bpf_owner owner;

	if (bpfload_read_owner(bpf, &owner) || !owner.netns || owner.netns == pin_netns_cookie() ||
	    !bpfload_has_flows(bpf->maps))
		return 0;
	snprintf(error, error_bytes,
		 "bpf-pin: %s holds live connections of another network namespace; give each its own bpf-pin, or end "
		 "them there by `socksplice stop --flush`",
		 bpf->pin);
	return -EXDEV;
}

/* Takes over what is pinned, if it fits. */
static int bpfload_inherit(struct bpfload *bpf, const struct bpfload_settings *settings, char *error,
			   uint32_t error_bytes)
{
	uint32_t entries;
	int err = bpfload_find_pinned_maps(bpf->pin, bpf->maps, error, error_bytes);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = bpfload_check_owner(bpf, error, error_bytes);
	if (err)
		return err;
	entries = bpfload_map_entries(bpf->maps[MAP_FLOWS]);
	if (entries == settings->max_flows) {
		bpf->inherited = true;
	} else if (bpfload_has_flows(bpf->maps)) {
		log_warn("tcp.max-flows: %u stays in force instead of %u until the flows of the earlier daemon have "
			 "ended and this one is started again",
			 entries, settings->max_flows);
		bpf->inherited = true;
	} else {
		bpf->replaced_cfg_id = bpfload_map_id(bpf->maps[MAP_CFG]);
		bpfload_close_maps(bpf->maps);
		bpfload_unpin_maps(bpf->pin);
	}
	return 0;
}

static int bpfload_open_pin(struct bpfload *bpf, const struct bpfload_settings *settings, char *error,
			    uint32_t error_bytes)
{
	if (!settings->pin || !settings->pin[0])
		return 0;
	bpf->pin_fd = pin_open(settings->pin, error, error_bytes);
	if (bpf->pin_fd < 0)
		return bpf->pin_fd;
	snprintf(bpf->pin, sizeof(bpf->pin), "%s", settings->pin);
	return 0;
}

static int bpfload_find_maps(struct bpfload *bpf, const struct bpfload_settings *settings, char *error,
			     uint32_t error_bytes)
{
	if (settings->external_ifindex)
		return bpfload_adopt(bpf, settings, error, error_bytes);
	return bpf->pin[0] ? bpfload_inherit(bpf, settings, error, error_bytes) : 0;
}

int bpfload_open(struct bpfload **out, const struct bpfload_settings *settings, char *error, uint32_t error_bytes)
{
	struct bpfload *bpf = calloc(1, sizeof(*bpf));
	int err;

	if (!bpf)
		return -ENOMEM;
	libbpf_set_print(bpfload_print);
	bpf->program_fd = bpf->pin_fd = -1;
	for (int i = 0; i < MAP_COUNT; i++)
		bpf->maps[i] = -1;
	err = bpfload_open_pin(bpf, settings, error, error_bytes);
	if (!err)
		err = bpfload_find_maps(bpf, settings, error, error_bytes);
	if (!err)
		err = bpfload_load_tc(bpf, settings->max_flows, error, error_bytes);
	if (!err && !bpf->external)
		err = bpfload_load_xdp(bpf, settings->max_flows, error, error_bytes);
	if (!err && bpf->pin[0]) {
		err = bpfload_pin_maps(bpf);
		if (err)
			snprintf(error, error_bytes, "bpf-pin: pinning maps in %s: %s", bpf->pin, strerror(-err));
	}
	if (err) {
		/* what an earlier daemon left must not suffer from a start that failed */
		bpfload_close(bpf, true);
		return err;
	}
	*out = bpf;
	return 0;
}

bool bpfload_inherited(const struct bpfload *bpf)
{
	return bpf->inherited || bpf->external;
}

void bpfload_close(struct bpfload *bpf, bool keep)
{
	const struct bpf_cfg none = {0};

	bpfload_detach_all(bpf, keep && bpf->pin[0]);
	/* a program that was attached by hand stays, and has to pass everything from now on */
	if (!keep && bpf->maps[MAP_CFG] >= 0)
		bpfload_configure(bpf, &none);
	if (!keep && bpf->pin[0])
		bpfload_unpin_maps(bpf->pin);
	if (bpf->external && bpf->program_fd >= 0)
		close(bpf->program_fd);
	socksplice_xdp__destroy(bpf->xdp);
	socksplice_tc__destroy(bpf->tc);
	bpfload_close_maps(bpf->maps);
	if (bpf->pin_fd >= 0) {
		if (!keep)
			pin_remove_directory(bpf->pin);
		close(bpf->pin_fd);
	}
	free(bpf);
}
