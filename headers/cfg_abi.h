/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the daemon tells the XDP program at run time, as the one entry of the
 * `cfg` array map. A program that `ip link` loaded cannot have its read-only
 * data set, therefore a map. All zero (no daemon yet) means: pass everything.
 */
#ifndef SOCKSPLICE_CFG_ABI_H
#define SOCKSPLICE_CFG_ABI_H

#include <linux/types.h>

#define CFG_ABI_VERSION 1

/* Most AF_XDP queues that one program serves: key space of the `xsks` map. */
#define CFG_MAX_QUEUES 64
/* Most own addresses of the gateway: size of the `local_addrs` map. */
#define CFG_MAX_LOCAL_ADDRS 1024

enum cfg_on_down {
	CFG_ON_DOWN_DROP = 0,
	CFG_ON_DOWN_PASS = 1,
};

struct xdp_cfg {
	__u32 abi_version; /* CFG_ABI_VERSION once a daemon has adopted the program, else 0 */
	__u32 on_down;     /* enum cfg_on_down: TCP to elsewhere while no socket serves its queue */
};

/* Entry of the `ports` hash map, key: ifindex (u32). Queue q of the interface is slot first_slot + q of `xsks`. */
struct xdp_port {
	__u32 first_slot;
	__u32 queues;
};

/* Most interfaces that share one program: size of the `ports` map. */
#define CFG_MAX_PORTS 16

_Static_assert(sizeof(struct xdp_port) == 8, "struct xdp_port is shared with the kernel program");
_Static_assert(sizeof(struct xdp_cfg) == 8, "struct xdp_cfg is shared with the kernel program");

#endif
