/* SPDX-License-Identifier: MIT */
/* From facts to findings, without asking the system: what is good, what is not, and what to do about it. */
#ifndef SOCKSPLICE_JUDGE_H
#define SOCKSPLICE_JUDGE_H

#include <jansson.h>

#include "attached.h"
#include "config.h"
#include "ethtool.h"
#include "ports.h"
#include "topo.h"

/* One interface, as far as it matters for the path that packets take through it. */
struct judge_interface {
	const struct topo_interface *topo;
	const struct config_interface *settings; /* NULL: the uplink */
	enum config_hook hook;                   /* what runs there; for the uplink xdp means "besides tc" */
	int xdp_err;                             /* of netdev_xdp_features() */
	uint64_t xdp_features;
	uint32_t queues_before; /* of AF_XDP, of the interfaces before this one */
	bool xdp_attached;      /* some drivers can send by XDP only while a program is attached */
};

/* "zero-copy", "copy", "generic" or "unknown": what AF_XDP is expected to be there; `hook: tc` needs none. */
const char *judge_xsk_mode(const struct judge_interface *interface);
/* Native or generic XDP, AF_XDP modes, sending by XDP, against what the configuration asks for. */
void judge_xdp(json_t *list, const struct judge_interface *interface);
void judge_offloads(json_t *list, const struct judge_interface *interface,
		    const struct ethtool_state features[ETHTOOL_FEATURE_COUNT]);
/* Queues of AF_XDP, of which all interfaces together have CFG_MAX_QUEUES. */
void judge_queues(json_t *list, const struct judge_interface *interface);
void judge_mtu(json_t *list, const struct judge_interface *interface);
/* Programs that are not ours. */
void judge_programs(json_t *list, const struct judge_interface *interface, const struct attached_program *programs,
		    int count);
/* What holds for an interface is the larger of its own rp_filter and that of "all"
 * (Documentation/networking/ip-sysctl). */
void judge_rp_filter(json_t *list, const struct judge_interface *interface, int64_t own, int64_t all);

/*
 * Source ports: those of the upstreams (config) are taken out of the kernel's range local_first..local_last, as are
 * those that stand in `reserved`; relayed connections need some of what is left.
 */
void judge_ports(json_t *list, const struct config *config, uint16_t local_first, uint16_t local_last,
		 const struct ports_set *reserved);

#endif
