/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A UDP association that the kernel carries: what the daemon and the BPF
 * programs share about it. The hash map `udp_keys` leads from an arriving
 * datagram to an entry of the memory-mapped array `udp_assocs`, with struct
 * flow_ref as for TCP:
 *
 *   FLOW_UP    {src: client; dst: zero, its port: number of the upstream that a rule names, or UDP_KEY_ANY}
 *              whatever it sends to gets a SOCKS5 UDP header with its destination, and goes to the relay
 *   FLOW_DOWN  {src: relay, dst: own address and port}
 *              the header is taken off, and tells the source that the client sees
 *
 * Filled in by the daemon before its keys are, which are what lets packets
 * through; BPF writes what it has seen. A key holds the generation of the entry
 * that it was made for.
 */
#ifndef SOCKSPLICE_UDP_ABI_H
#define SOCKSPLICE_UDP_ABI_H

#include <linux/types.h>

#include "flow_abi.h"

/* Size of the table. Two keys lead to each entry. */
#define UDP_MAX_ASSOCS 65536
#define UDP_KEY_ANY 0xffff

struct udp_way {
	struct addr src, dst; /* downward the source is the header's */
	__be16 sport, dport;
	__u32 ifindex;
	__u8 dmac[6], smac[6]; /* for XDP, which cannot ask the neighbour table */
	__u8 mac_valid;
	__u8 has_vlan;
	__u16 vlan_tci;
	__u32 mtu; /* of an IP packet that leaves */

	/* what was seen */
	__u32 pad;
	__u64 packets, payload_bytes;
	__u64 last_ns; /* CLOCK_MONOTONIC, coarse */
};

struct udp_assoc {
	struct udp_way way[2]; /* FLOW_UP, FLOW_DOWN */
	__u32 generation;
	__u32 upstream_ifindex; /* where the relay's packets come in */
};

_Static_assert(sizeof(struct udp_way) == 88, "shared with the kernel programs");
_Static_assert(sizeof(struct udp_assoc) == 184, "shared with the kernel programs");

#endif
