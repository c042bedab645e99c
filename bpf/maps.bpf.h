/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Every map, each naming its only writer. */
#ifndef SOCKSPLICE_MAPS_BPF_H
#define SOCKSPLICE_MAPS_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "cfg_abi.h"
#include "dns_abi.h"
#include "flow_abi.h"
#include "rules_abi.h"
#include "stats_abi.h"
#include "udp_abi.h"

#define REPORTS_BYTES (1u << 20)

/* AF_XDP sockets by slot (struct bpf_port). Writer: the daemon; the kernel clears a slot when its socket closes. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, CFG_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* TAP devices by slot (struct bpf_port). Writer: the daemon; the kernel clears a slot when its device goes. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, CFG_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} taps SEC(".maps");

/* Interfaces that take XDP frames, by ifindex. Writer: the daemon; the kernel clears an entry when its device goes. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, CFG_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* Run-time settings. Writer: the daemon, also through mapped memory, so that one word changes at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cfg);
} cfg SEC(".maps");

/* Whose maps these are; the programs do not read it. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_owner);
} owner SEC(".maps");

/* Interfaces and their first slot. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CFG_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct bpf_port);
} ports SEC(".maps");

/* From a TAP's ifindex to the interface that its packets leave by. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CFG_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} tap_exits SEC(".maps");

/* The gateway's own addresses, broadcast addresses of its networks among them. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CFG_MAX_LOCAL_ADDRS);
	__type(key, struct addr);
	__type(value, __u8);
} local_addrs SEC(".maps");

/* Addresses of arriving packets to entries of `flows`. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOW_DEFAULT_ENTRIES *FLOW_KEYS_PER_ENTRY);
	__type(key, struct flow_key);
	__type(value, struct flow_ref);
} flow_keys SEC(".maps");

/* Flows. Writers: the daemon what it decides, the programs what they see (flow_abi.h says which is which). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOW_DEFAULT_ENTRIES);
	__type(key, __u32);
	__type(value, struct flow_entry);
} flows SEC(".maps");

/* Addresses of arriving datagrams to entries of `udp_assocs`. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, UDP_MAX_ASSOCS * 2);
	__type(key, struct flow_key);
	__type(value, struct flow_ref);
} udp_keys SEC(".maps");

/* UDP associations. Writers: the daemon what it decides, the programs what they see. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, UDP_MAX_ASSOCS);
	__type(key, __u32);
	__type(value, struct udp_assoc);
} udp_assocs SEC(".maps");

/* The two rule sets (rules_abi.h) by slot. Writer: the daemon, that slot only which is not in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RULES_SLOTS);
	__type(key, __u32);
	__type(value, struct rules_header);
} rule_sets SEC(".maps");

/* Their ranges: slot s begins at s * RULES_MAX_RANGES. Writer: as above. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RULES_SLOTS *RULES_MAX_RANGES);
	__type(key, __u32);
	__type(value, struct rules_range);
} rule_ranges SEC(".maps");

/* Decisions made lately on this CPU (rules.bpf.h). Writer: the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RULES_CACHE_ENTRIES);
	__type(key, __u32);
	__type(value, struct rules_cached);
} rule_cache SEC(".maps");

/* Mapped DNS. Writer: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_dns);
} dns SEC(".maps");

/* Which client may go where because of a name. Writers: the daemon; the programs the time of entries in use. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DIRECT_ADDRS);
	__type(key, struct direct_key);
	__type(value, struct direct_value);
} direct_addrs SEC(".maps");

/*
 * TCP connections that were direct when they began: they go on whatever the rules become. The oldest give way. Writer:
 * the programs.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOW_DEFAULT_ENTRIES);
	__type(key, struct flow_key);
	__type(value, __u8);
} direct_flows SEC(".maps");

/* struct flow_report. Writer: the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPORTS_BYTES);
} reports SEC(".maps");

/* By enum packet_counter. Writer: the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PACKET_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

#endif
