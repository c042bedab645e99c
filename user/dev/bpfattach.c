/* SPDX-License-Identifier: MIT */
/* Where the programs sit: XDP by netlink, tc by pinned tcx links, or clsact filters on kernels before 6.6. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpfload_priv.h"
#include "compat.h"
#include "log.h"
#include "pin.h"
#include "socksplice_tc.skel.h"

/* A place of our own among clsact filters: another priority than people use by hand. */
#define BPFLOAD_CLSACT_PRIORITY 0x5053
#define BPFLOAD_CLSACT_HANDLE 1

/* --- XDP --- */

uint32_t bpfload_attached_id(int ifindex, enum xdp_mode *mode)
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

int bpfload_program_info(uint32_t id, struct bpf_prog_info *info, uint32_t *map_ids, uint32_t max_maps)
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

enum xdp_mode bpfload_mode(int ifindex)
{
	enum xdp_mode mode;

	bpfload_attached_id(ifindex, &mode);
	return mode;
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

static struct bpfload_attachment *bpfload_note(struct bpfload *bpf, enum bpfload_kind kind, int ifindex)
{
	struct bpfload_attachment *at = &bpf->attached[bpf->attached_count++];

	memset(at, 0, sizeof(*at));
	at->kind = kind;
	at->ifindex = ifindex;
	at->link_fd = -1;
	return at;
}

int bpfload_attach(struct bpfload *bpf, int ifindex, const char *ifname, bool generic, char *error,
		   uint32_t error_bytes)
{
	uint32_t mode_flag = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, flags;
	LIBBPF_OPTS(bpf_xdp_attach_opts, options);
	enum xdp_mode mode;
	int err, leftover = bpfload_leftover(ifindex, &mode);

	if (bpf->attached_count == BPFLOAD_MAX_ATTACHED)
		return -E2BIG;
	flags = mode_flag | XDP_FLAGS_UPDATE_IF_NOEXIST;
	if (leftover >= 0 && mode == (generic ? XDP_MODE_GENERIC : XDP_MODE_NATIVE)) {
		flags = mode_flag | XDP_FLAGS_REPLACE;
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
	bpfload_note(bpf, BPFLOAD_XDP, ifindex)->flags = mode_flag;
	return 0;
}

/* --- tc --- */

static int bpfload_tc_program(const struct bpfload *bpf, enum bpfload_where where)
{
	switch (where) {
	case BPFLOAD_EGRESS:
		return bpf_program__fd(bpf->tc->progs.socksplice_egress);
	case BPFLOAD_TAP:
		return bpf_program__fd(bpf->tc->progs.socksplice_tap);
	default:
		return bpf_program__fd(bpf->tc->progs.socksplice_tc);
	}
}

/* A pinned link of an earlier daemon, if it still holds on to this very interface; -1: there is none. */
static int bpfload_pinned_link(const struct bpfload *bpf, const char *name, int ifindex)
{
	struct bpf_link_info info = {0};
	uint32_t bytes = sizeof(info);
	int fd = pin_get(bpf->pin, name);

	if (fd < 0)
		return -1;
	/* the index stands at the same place for XDP and for tcx, which Debian 12's headers do not know */
	if (!bpf_obj_get_info_by_fd(fd, &info, &bytes) && info.xdp.ifindex == (uint32_t)ifindex)
		return fd;
	close(fd);
	pin_remove(bpf->pin, name);
	return -1;
}

static int bpfload_attach_link(struct bpfload *bpf, int ifindex, const char *ifname, enum bpfload_where where)
{
	int program_fd = bpfload_tc_program(bpf, where), link_fd = -1, err;
	struct bpfload_attachment *at;
	char name[64];

	snprintf(name, sizeof(name), BPFLOAD_LINK_PREFIX "%s-%s", ifname,
		 where == BPFLOAD_EGRESS ? "egress" : "ingress");
	if (bpf->pin[0] && where != BPFLOAD_TAP)
		link_fd = bpfload_pinned_link(bpf, name, ifindex);
	if (link_fd >= 0) {
		err = bpf_link_update(link_fd, program_fd, NULL) ? -errno : 0;
	} else {
		link_fd = bpf_link_create(program_fd, ifindex,
					  (enum bpf_attach_type)(where == BPFLOAD_EGRESS ? BPF_TCX_EGRESS_ATTACH
											 : BPF_TCX_INGRESS_ATTACH),
					  NULL);
		err = link_fd < 0 ? -errno : 0;
	}
	if (err)
		return err;
	at = bpfload_note(bpf, BPFLOAD_LINK, ifindex);
	at->link_fd = link_fd;
	at->where = where;
	snprintf(at->pin_name, sizeof(at->pin_name), "%s", name);
	if (!bpf->pin[0] || where == BPFLOAD_TAP)
		return 0;
	at->pinned = true;
	return pin_put(bpf->pin, name, link_fd);
}

static void bpfload_clsact_hook(struct bpf_tc_hook *hook, int ifindex, enum bpfload_where where)
{
	*hook = (struct bpf_tc_hook){.sz = sizeof(*hook),
				     .ifindex = ifindex,
				     .attach_point = where == BPFLOAD_EGRESS ? BPF_TC_EGRESS : BPF_TC_INGRESS};
}

static int bpfload_attach_clsact(struct bpfload *bpf, int ifindex, enum bpfload_where where)
{
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = bpfload_tc_program(bpf, where), .handle = BPFLOAD_CLSACT_HANDLE,
		    .priority = BPFLOAD_CLSACT_PRIORITY, .flags = BPF_TC_F_REPLACE);
	int err;

	bpfload_clsact_hook(&hook, ifindex, where);
	err = bpf_tc_hook_create(&hook);
	if (err && err != -EEXIST)
		return err;
	err = bpf_tc_attach(&hook, &options);
	if (!err)
		bpfload_note(bpf, BPFLOAD_CLSACT, ifindex)->where = where;
	return err;
}

static void bpfload_detach_clsact(int ifindex, enum bpfload_where where)
{
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = BPFLOAD_CLSACT_HANDLE, .priority = BPFLOAD_CLSACT_PRIORITY);

	bpfload_clsact_hook(&hook, ifindex, where);
	bpf_tc_detach(&hook, &options);
}

int bpfload_attach_tc(struct bpfload *bpf, int ifindex, const char *ifname, enum bpfload_where where, char *error,
		      uint32_t error_bytes)
{
	int err = -EINVAL;

	if (bpf->attached_count == BPFLOAD_MAX_ATTACHED)
		return -E2BIG;
	/* for tests of the path that kernels before 6.6 take */
	if (!getenv("SOCKSPLICE_NO_TCX"))
		err = bpfload_attach_link(bpf, ifindex, ifname, where);
	/* old kernels do not know the attach type */
	if (err == -EINVAL || err == -EOPNOTSUPP)
		err = bpfload_attach_clsact(bpf, ifindex, where);
	if (err)
		snprintf(error, error_bytes,
			 "interface %s: attaching the tc program: %s; `log.level: debug` may show more", ifname,
			 strerror(-err));
	return err;
}

const char *bpfload_tc_kind(const struct bpfload *bpf)
{
	for (uint32_t i = bpf->attached_count; i--;)
		if (bpf->attached[i].kind == BPFLOAD_LINK)
			return "tcx";
	return "clsact";
}

/* --- taking apart --- */

static void bpfload_remove_leftover(void *ctx, const char *name)
{
	struct bpfload *bpf = ctx;

	if (strncmp(name, BPFLOAD_LINK_PREFIX, sizeof(BPFLOAD_LINK_PREFIX) - 1))
		return;
	for (uint32_t i = 0; i < bpf->attached_count; i++)
		if (bpf->attached[i].kind == BPFLOAD_LINK && !strcmp(bpf->attached[i].pin_name, name))
			return;
	log_info("bpf-pin: removing %s, which this configuration does not use", name);
	pin_remove(bpf->pin, name);
}

static bool bpfload_is_attached(const struct bpfload *bpf, int ifindex)
{
	for (uint32_t i = 0; i < bpf->attached_count; i++)
		if (bpf->attached[i].ifindex == ifindex)
			return true;
	return false;
}

/* Does the program work on these maps, or on those that an earlier daemon had under the same pin? */
static bool bpfload_uses_maps(const struct bpfload *bpf, uint32_t program_id)
{
	uint32_t map_ids[64], ours = bpfload_map_id(bpf->maps[MAP_CFG]);
	struct bpf_prog_info info;
	int fd = bpfload_program_info(program_id, &info, map_ids, 64);

	if (fd < 0)
		return false;
	close(fd);
	for (uint32_t i = 0; i < info.nr_map_ids && i < 64; i++)
		if (map_ids[i] == ours || (bpf->replaced_cfg_id && map_ids[i] == bpf->replaced_cfg_id))
			return true;
	return false;
}

static void bpfload_clear_foreign_clsact(const struct bpfload *bpf, int ifindex, enum bpfload_where where)
{
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = BPFLOAD_CLSACT_HANDLE, .priority = BPFLOAD_CLSACT_PRIORITY);
	struct bpf_tc_hook hook;

	bpfload_clsact_hook(&hook, ifindex, where);
	if (!bpf_tc_query(&hook, &options) && bpfload_uses_maps(bpf, options.prog_id))
		bpfload_detach_clsact(ifindex, where);
}

/* XDP and clsact have no pins to find them by: every interface that this daemon has not attached to is asked. */
static void bpfload_clear_others(const struct bpfload *bpf, bool xdp_by_hand)
{
	struct if_nameindex *all = if_nameindex();

	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		int ifindex = (int)i->if_index;
		enum xdp_mode mode;
		uint32_t id;

		if (bpfload_is_attached(bpf, ifindex))
			continue;
		bpfload_clear_foreign_clsact(bpf, ifindex, BPFLOAD_INGRESS);
		bpfload_clear_foreign_clsact(bpf, ifindex, BPFLOAD_EGRESS);
		id = bpfload_attached_id(ifindex, &mode);
		/* what was loaded by hand is taken away by hand */
		if (!id || xdp_by_hand || !bpfload_uses_maps(bpf, id))
			continue;
		log_info("interface %s: removing the XDP program of an earlier daemon, this one does not use it",
			 i->if_name);
		bpfload_clear_xdp(ifindex);
	}
	if_freenameindex(all);
}

void bpfload_remove_leftovers(struct bpfload *bpf, bool xdp_by_hand)
{
	if (!bpf->pin[0])
		return;
	pin_list(bpf->pin, bpfload_remove_leftover, bpf);
	bpfload_clear_others(bpf, xdp_by_hand);
}

void bpfload_clear_xdp(int ifindex)
{
	enum xdp_mode mode;
	int leftover = bpfload_leftover(ifindex, &mode);

	if (leftover < 0)
		return;
	bpf_xdp_detach(ifindex, mode == XDP_MODE_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, NULL);
	close(leftover);
}

void bpfload_clear_interface(int ifindex, bool xdp)
{
	if (!ifindex)
		return;
	bpfload_detach_clsact(ifindex, BPFLOAD_INGRESS);
	bpfload_detach_clsact(ifindex, BPFLOAD_EGRESS);
	if (xdp)
		bpfload_clear_xdp(ifindex);
}

static void bpfload_detach(const struct bpfload *bpf, struct bpfload_attachment *at, bool keep)
{
	bool stays = keep && at->where != BPFLOAD_TAP;

	switch (at->kind) {
	case BPFLOAD_XDP:
		if (!stays)
			bpf_xdp_detach(at->ifindex, at->flags, NULL);
		break;
	case BPFLOAD_CLSACT:
		if (!stays)
			bpfload_detach_clsact(at->ifindex, at->where);
		break;
	case BPFLOAD_LINK:
		if (!stays && at->pinned)
			pin_remove(bpf->pin, at->pin_name);
		close(at->link_fd);
		break;
	}
}

void bpfload_detach_all(struct bpfload *bpf, bool keep)
{
	for (uint32_t i = 0; i < bpf->attached_count; i++)
		bpfload_detach(bpf, &bpf->attached[i], keep);
	bpf->attached_count = 0;
}
