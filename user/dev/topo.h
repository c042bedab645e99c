/* SPDX-License-Identifier: MIT */
/* What this machine's network looks like: interfaces, their queues and drivers, own addresses. */
#ifndef SOCKSPLICE_TOPO_H
#define SOCKSPLICE_TOPO_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct topo_interface {
	char name[IFNAMSIZ];
	int ifindex;
	uint8_t mac[6];
	uint32_t mtu;
	bool up;
	char driver[32]; /* "veth", "ixgbe", ...; empty if unknown */
	bool is_virtual; /* packets may come with CHECKSUM_PARTIAL from a local sender: veth, tap, tun, bridge, virtio
			  */
	uint32_t rx_queues; /* of the device: combined + rx */
	uint32_t tx_queues;
	int numa_node; /* -1: unknown */
};

/*
 * Does `hook: auto` take tc? On devices whose packets come from local senders, whole (GSO) and with a partial checksum:
 * native XDP would cost that. virtio_net is a network card in this respect.
 */
bool topo_prefers_tc(const struct topo_interface *topo);
/* 0, or -errno: -ENODEV no such interface. */
int topo_read_interface(const char *name, struct topo_interface *out);
/* An IPv4 and an IPv6 address of one interface, not link-local where it has another; zero: none. */
void topo_read_own_addrs(const char *name, struct addr out[2]);
/* Is it up, and has it a carrier? A device that is gone has not. */
bool topo_link_up(const char *name);
/* All unicast addresses of all interfaces of this namespace (loopback included), at most `max`; count or -errno. */
int topo_read_local_addrs(struct addr *addrs, uint32_t max);

#endif
