/* SPDX-License-Identifier: MIT */
/*
 * What the kernel does for an association: an entry, and the two keys that
 * lead packets to it (udp_abi.h). The entry has the index of the association
 * in the table; it is used again oldest first, and a key names the generation
 * that it was made for.
 */
#include "assoc_priv.h"

#include <string.h>

/* Both legs are of one family, and the way to the relay is by the interface where the programs are. */
static bool assoc_kernel_can(struct assocs *assocs, const struct assoc *assoc)
{
	struct upstream *upstream = assoc->upstream;

	if (!assocs->config->performance.enable_ebpf) {
		assocs->counters.not_carried_policy++;
		return false;
	}
	if (addr_is_ipv4(&assoc->relay.addr) != addr_is_ipv4(&assoc->link.dst.addr)) {
		assocs->counters.not_carried_family++;
		return false;
	}
	if (!upstream->routed || upstream->route.local ||
	    !assocs->calls.is_uplink(assocs->calls.ctx, (uint32_t)upstream->route.ifindex) ||
	    !addr_equal(&assoc->relay.addr, upstream_address(upstream))) {
		assocs->counters.not_carried_route++;
		return false;
	}
	return true;
}

static void assoc_kernel_fill(struct assocs *assocs, const struct assoc *assoc, struct udp_assoc *entry)
{
	struct upstream *upstream = assoc->upstream;
	struct udp_way *up = &entry->way[FLOW_UP], *down = &entry->way[FLOW_DOWN];
	uint32_t generation = entry->generation;

	memset(entry, 0, sizeof(*entry));
	entry->upstream_ifindex = (uint32_t)upstream->route.ifindex;
	up->src = assoc->own.addr;
	up->sport = assoc->own.port;
	up->dst = assoc->relay.addr;
	up->dport = assoc->relay.port;
	up->ifindex = (uint32_t)upstream->route.ifindex;
	up->mtu = upstream->mtu;
	memcpy(up->smac, upstream->mac, 6);
	memcpy(up->dmac, upstream->next_hop.mac, 6);
	up->mac_valid = upstream->next_hop.valid;
	down->dst = assoc->link.dst.addr;
	down->dport = assoc->link.dst.port;
	down->ifindex = assocs->calls.ifindex_of(assocs->calls.ctx, assoc->port);
	down->mtu = stack_port_mtu(assocs->stack, assoc->port);
	memcpy(down->smac, assoc->link.src_mac, 6);
	memcpy(down->dmac, assoc->link.dst_mac, 6);
	down->mac_valid = 1;
	down->has_vlan = assoc->link.has_vlan;
	down->vlan_tci = assoc->link.vlan_tci;
	up->last_ns = down->last_ns = assocs->now_ns;
	__atomic_store_n(&entry->generation, (generation + 1) & FLOW_GENERATION_MASK, __ATOMIC_RELEASE);
}

static struct flow_key assoc_kernel_client_key(const struct assocs *assocs, const struct assoc *assoc)
{
	const struct udp_key *key = udp_key_of(assocs->table, assoc->entry);

	_Static_assert(UDP_ANY_UPSTREAM == UDP_KEY_ANY, "the same word for both");
	return (struct flow_key){.src = key->client.addr, .sport = key->client.port, .dport = key->wanted};
}

static struct flow_key assoc_kernel_relay_key(const struct assoc *assoc)
{
	return (struct flow_key){
		.src = assoc->relay.addr, .dst = assoc->own.addr, .sport = assoc->relay.port, .dport = assoc->own.port};
}

void assoc_kernel_take(struct assocs *assocs, struct assoc *assoc)
{
	struct flow_key client, relay;

	if (!assoc_kernel_can(assocs, assoc))
		return;
	assoc_kernel_fill(assocs, assoc, &assocs->map.entries[assoc->entry]);
	client = assoc_kernel_client_key(assocs, assoc);
	relay = assoc_kernel_relay_key(assoc);
	if (udpmap_add_key(&assocs->map, &relay, assoc->entry, FLOW_DOWN)) {
		assocs->counters.not_carried_table++;
		return;
	}
	if (udpmap_add_key(&assocs->map, &client, assoc->entry, FLOW_UP)) {
		udpmap_remove_key(&assocs->map, &relay);
		assocs->counters.not_carried_table++;
		return;
	}
	assoc->carried = true;
	assocs->carried++;
	assocs->counters.carried++;
}

void assoc_kernel_release(struct assocs *assocs, struct assoc *assoc)
{
	const struct udp_assoc *entry;
	struct flow_key client, relay;

	if (!assoc->carried)
		return;
	entry = &assocs->map.entries[assoc->entry];
	client = assoc_kernel_client_key(assocs, assoc);
	relay = assoc_kernel_relay_key(assoc);
	udpmap_remove_key(&assocs->map, &client);
	udpmap_remove_key(&assocs->map, &relay);
	assoc->carried = false;
	assocs->carried--;
	assocs->counters.kernel_packets_up += entry->way[FLOW_UP].packets;
	assocs->counters.kernel_packets_down += entry->way[FLOW_DOWN].packets;
	assocs->counters.kernel_bytes_up += entry->way[FLOW_UP].payload_bytes;
	assocs->counters.kernel_bytes_down += entry->way[FLOW_DOWN].payload_bytes;
}

void assoc_kernel_note(struct assocs *assocs, struct assoc *assoc)
{
	const struct udp_assoc *entry;
	uint64_t last_ns;

	if (!assoc->carried)
		return;
	entry = &assocs->map.entries[assoc->entry];
	last_ns = MAX(entry->way[FLOW_UP].last_ns, entry->way[FLOW_DOWN].last_ns);
	if (last_ns > udp_last_ns(assocs->table, assoc->entry))
		udp_touch(assocs->table, assoc->entry, last_ns);
}
