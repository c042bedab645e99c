/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Every map, each naming its only writer. */
#ifndef SOCKSPLICE_MAPS_BPF_H
#define SOCKSPLICE_MAPS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "cfg_abi.h"
#include "stats_abi.h"

/* AF_XDP sockets by slot (struct xdp_port). Writer: the daemon; the kernel clears a slot when its socket closes. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, CFG_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Run-time settings. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xdp_cfg);
} cfg SEC(".maps");

/* Interfaces and their first slot. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CFG_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct xdp_port);
} ports SEC(".maps");

/* The gateway's own addresses, broadcast addresses of its networks among them. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CFG_MAX_LOCAL_ADDRS);
	__type(key, struct addr);
	__type(value, __u8);
} local_addrs SEC(".maps");

/* Packets by enum xdp_counter. Writer: the XDP program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

#endif
