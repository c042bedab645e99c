/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the daemon tells the BPF programs at run time, as the one entry of the
 * `cfg` array map. A program that `ip link` loaded cannot have its read-only
 * data set, therefore a map. All zero (no daemon yet) means: pass everything.
 */
#ifndef SOCKSPLICE_CFG_ABI_H
#define SOCKSPLICE_CFG_ABI_H

#include <linux/types.h>

/* Of all maps together: a daemon adopts pinned maps of its own version only. */
#define CFG_ABI_VERSION 5

/* Most AF_XDP queues that one program serves: key space of the `xsks` map. */
#define CFG_MAX_QUEUES 64
/* Most own addresses of the gateway: size of the `local_addrs` map. */
#define CFG_MAX_LOCAL_ADDRS 1024

enum cfg_on_down {
	CFG_ON_DOWN_DROP = 0,
	CFG_ON_DOWN_PASS = 1,
};

/* ICMP of clients to elsewhere that rules want proxied, errors apart. */
enum cfg_icmp {
	CFG_ICMP_REPLY = 0, /* to user space, which answers echo requests */
	CFG_ICMP_PASS = 1,
	CFG_ICMP_DROP = 2,
};

/* Losses that a test asks for; each has its own probability. */
enum cfg_fault {
	CFG_FAULT_FIRST_ACK,  /* the client's first segment */
	CFG_FAULT_REPORT,     /* reports to user space */
	CFG_FAULT_EARLY_DATA, /* upstream segments in phase OPENING */
	CFG_FAULT_SYNACK,     /* in user space: SYN-ACKs to the client */
	CFG_FAULT_CRAFTED,    /* in user space: early data to the client */
	CFG_FAULT_COUNT,
};

struct bpf_cfg {
	__u32 abi_version; /* CFG_ABI_VERSION once a daemon has adopted the program, else 0 */
	__u32 on_down;     /* enum cfg_on_down: TCP to elsewhere while no socket serves its queue */
	__u16 fault_permille[CFG_FAULT_COUNT];
	__u16 icmp;           /* enum cfg_icmp */
	__u32 rules;          /* number of the rule set in force (rules_abi.h); 0: none, all is proxied */
	__u64 fault_until_ns; /* CLOCK_MONOTONIC; 0: no faults */
	__u32 rules_last;     /* the highest number that was ever given: none is given twice */
	__u32 pad2;
};

#define CFG_PORT_LAN 0x01     /* clients are here */
#define CFG_PORT_UPLINK 0x02  /* upstreams are here */
#define CFG_PORT_VIRTUAL 0x04 /* packets may carry a partial checksum of a local sender */
#define CFG_PORT_TAP 0x08     /* what needs user space goes to the TAP of `tap_slot`, else to AF_XDP */

/* Entry of the `ports` hash map, key: ifindex (u32). Queue q of the interface is slot first_slot + q of `xsks`. */
struct bpf_port {
	__u32 first_slot;
	__u32 queues;
	__u32 flags;    /* CFG_PORT_* */
	__u32 tap_slot; /* of `taps` */
};

/* Most interfaces that share one program, those of clients and uplinks: size of the `ports` map. */
#define CFG_MAX_PORTS 32

/* Most ranges of source ports that are noted. */
#define CFG_MAX_RESERVED 32

struct bpf_reserved {
	__u16 first, last; /* 0: none */
};

/* Entry of the `owner` array: who made and last used the pinned maps. */
struct bpf_owner {
	__u64 netns;                                    /* cookie of the network namespace */
	__u64 daemon;                                   /* id of the process that serves now or did last */
	struct bpf_reserved reserved[CFG_MAX_RESERVED]; /* source ports that were registered as reserved */
};

_Static_assert(sizeof(struct bpf_port) == 16, "shared with the kernel programs");
_Static_assert(sizeof(struct bpf_cfg) == 40, "shared with the kernel programs");
_Static_assert(sizeof(struct bpf_owner) == 144, "shared with the kernel programs");

#endif
