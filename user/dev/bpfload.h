/* SPDX-License-Identifier: MIT */
/*
 * The XDP program on one or more interfaces: loaded from the object inside
 * this binary, or adopted where `ip link set dev X xdp obj ...` put it.
 */
#ifndef SOCKSPLICE_BPFLOAD_H
#define SOCKSPLICE_BPFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "cfg_abi.h"
#include "stats_abi.h"

struct bpfload; /* one program and its maps; opaque */

/* How a program sits on an interface. */
enum xdp_mode { XDP_MODE_NONE, XDP_MODE_NATIVE, XDP_MODE_GENERIC };

/*
 * Loads the program that is built into this binary. 0 or -errno, with a message in `error` for a person (what was
 * tried, what the kernel answered, what to do).
 */
int bpfload_open(struct bpfload **out, char *error, uint32_t error_bytes);
/*
 * Takes over the program that is attached to `ifindex` already: finds `xsks`, `cfg`, `local_addrs` and `counters`
 * through its map ids and checks their shapes. With `also` not NULL the program must share the maps of that one
 * (a second interface of the same daemon), and *out is not set.
 */
int bpfload_adopt(struct bpfload **out, struct bpfload *also, int ifindex, const char *ifname, char *error,
		  uint32_t error_bytes);
/* Writes the settings; with abi_version set the program stops passing everything. */
int bpfload_configure(struct bpfload *bpf, const struct xdp_cfg *cfg);
/* Replaces the set of the gateway's own addresses by `addrs`: adds first, then removes what is gone. */
int bpfload_set_local_addrs(struct bpfload *bpf, const struct addr *addrs, uint32_t count);
/* Tells which slots of the XSKMAP belong to an interface: queue q is slot first_slot + q. */
int bpfload_set_port(struct bpfload *bpf, int ifindex, uint32_t first_slot, uint32_t queues);
/* Puts an AF_XDP socket into a slot of the XSKMAP. */
int bpfload_set_socket(struct bpfload *bpf, uint32_t slot, int xsk_fd);
/*
 * Attaches to an interface (loaded programs only). With generic = false native mode is tried alone. A program of ours
 * that a killed daemon left there is replaced in one step; -EBUSY if it is somebody else's (never replaced).
 */
int bpfload_attach(struct bpfload *bpf, int ifindex, const char *ifname, bool generic, char *error,
		   uint32_t error_bytes);
/* How a program (any) is attached there now. */
enum xdp_mode bpfload_mode(int ifindex);
/* Sums of the per-CPU counters. */
int bpfload_read_counters(struct bpfload *bpf, uint64_t counters[XDP_COUNTER_COUNT]);
/*
 * Detaches what bpfload_attach() attached; an adopted program stays where it is. Its cfg entry keeps `on_down`, its
 * sockets are gone, so it fails closed (or passes, as on-down says).
 */
void bpfload_close(struct bpfload *bpf);

#endif
