/* SPDX-License-Identifier: MIT */
/*
 * The BPF programs and their maps: loaded from the objects inside this binary,
 * or, of XDP, adopted where `ip link set dev X xdp obj ...` put it. Maps and
 * links are pinned, so that flows of the kernel outlive the daemon and the
 * next one takes them over.
 */
#ifndef SOCKSPLICE_BPFLOAD_H
#define SOCKSPLICE_BPFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "cfg_abi.h"
#include "flow_abi.h"
#include "stats_abi.h"

#define PIN_MAX_BYTES 256

struct bpfload; /* programs and maps; opaque */

/* How a program sits on an interface. */
enum xdp_mode { XDP_MODE_NONE, XDP_MODE_NATIVE, XDP_MODE_GENERIC };

/* Where a tc program goes. */
enum bpfload_where { BPFLOAD_INGRESS, BPFLOAD_EGRESS, BPFLOAD_TAP };

struct bpfload_settings {
	uint32_t max_flows;
	const char *pin;      /* directory on a bpffs; NULL or empty: nothing is pinned */
	int external_ifindex; /* adopt the XDP program there; 0: load it */
	const char *external_name;
};

/*
 * Loads (or adopts) the programs. Pinned maps of an earlier daemon of this network namespace and version are taken
 * over. 0 or -errno, with a message in `error` for a person (what was tried, what the kernel answered, what to do).
 */
int bpfload_open(struct bpfload **out, const struct bpfload_settings *settings, char *error, uint32_t error_bytes);
/* Do flows of an earlier daemon stand in the maps? */
bool bpfload_inherited(const struct bpfload *bpf);
/* Checks that a further interface with `attach: external` has the same program maps. */
int bpfload_adopt_further(struct bpfload *bpf, int ifindex, const char *ifname, char *error, uint32_t error_bytes);

/*
 * Writes the settings; with abi_version set the programs stop passing everything. What they say about rules is
 * rulemap.c's: it stays as it is.
 */
int bpfload_configure(struct bpfload *bpf, const struct bpf_cfg *cfg);
int bpfload_read_owner(const struct bpfload *bpf, struct bpf_owner *out);
int bpfload_write_owner(struct bpfload *bpf, const struct bpf_owner *owner);
/* Replaces the set of the gateway's own addresses by `addrs`: adds first, then removes what is gone. */
int bpfload_set_local_addrs(struct bpfload *bpf, const struct addr *addrs, uint32_t count);
/* What an interface is for. Queue q of it is slot port->first_slot + q of the XSKMAP. */
int bpfload_set_port(struct bpfload *bpf, int ifindex, const struct bpf_port *port);
/*
 * Forgets what an earlier daemon said of interfaces that are gone, or have no clients any more. What it said of those
 * in `lan` (interface indices) stays true until they are told anew: their programs go on dropping what nobody can take.
 */
void bpfload_forget_ports(struct bpfload *bpf, const int *lan, uint32_t lan_count);
/* Interfaces that an earlier daemon had as uplinks, at most `max`; how many. */
uint32_t bpfload_uplinks(const struct bpfload *bpf, int *ifindexes, uint32_t max);
/* Puts an AF_XDP socket into a slot of the XSKMAP. */
int bpfload_set_socket(struct bpfload *bpf, uint32_t slot, int xsk_fd);
/* What is for user space goes to the TAP `tap_ifindex` by `slot`; what the TAP sends leaves by `exit_ifindex`. */
int bpfload_set_tap(struct bpfload *bpf, uint32_t slot, int tap_ifindex, int exit_ifindex);
/* XDP may (or may not) send frames out of this interface. */
int bpfload_set_device(struct bpfload *bpf, int ifindex, bool takes_xdp);
/* Sums of the per-CPU counters. */
int bpfload_read_counters(struct bpfload *bpf, uint64_t counters[PACKET_COUNTER_COUNT]);
/* Descriptors of the tables of flows, owned by `bpf`; *entries: their size. */
void bpfload_flow_maps(const struct bpfload *bpf, int *keys_fd, int *flows_fd, int *reports_fd, uint32_t *entries);
/* The same for UDP associations; their size is UDP_MAX_ASSOCS. */
void bpfload_udp_maps(const struct bpfload *bpf, int *keys_fd, int *assocs_fd);
/* The same for the settings and the tables of rules. */
void bpfload_rule_maps(const struct bpfload *bpf, int *cfg_fd, int *sets_fd, int *ranges_fd);
/* The same for mapped DNS. */
void bpfload_dns_maps(const struct bpfload *bpf, int *dns_fd, int *direct_fd);

/*
 * Attaches XDP to an interface (loaded programs only). With generic = false native mode is tried alone. A program of
 * ours that a killed daemon left there is replaced in one step; -EBUSY if it is somebody else's (never replaced).
 */
int bpfload_attach(struct bpfload *bpf, int ifindex, const char *ifname, bool generic, char *error,
		   uint32_t error_bytes);
/* Attaches a tc program: by a tcx link, which is pinned and updated in place; on older kernels by clsact. */
int bpfload_attach_tc(struct bpfload *bpf, int ifindex, const char *ifname, enum bpfload_where where, char *error,
		      uint32_t error_bytes);
/* "tcx" or "clsact": how the last one was attached. */
const char *bpfload_tc_kind(const struct bpfload *bpf);
/*
 * Takes away what an earlier daemon with these pins has left on interfaces that this one did not attach to: pinned
 * links, clsact filters, XDP programs. xdp_by_hand: these were loaded by `ip link`, and stay.
 */
void bpfload_remove_leftovers(struct bpfload *bpf, bool xdp_by_hand);
/* Takes what a daemon that is gone has left on an interface: its clsact filters, and with `xdp` its XDP program. */
void bpfload_clear_interface(int ifindex, bool xdp);
void bpfload_clear_xdp(int ifindex);
/* How a program (any) is attached there now. */
enum xdp_mode bpfload_mode(int ifindex);
/*
 * keep: programs and flows live on by their pins; what would need the daemon meets `on-down`. Else everything is
 * detached and unpinned; an adopted XDP program stays where it is and passes everything.
 */
void bpfload_close(struct bpfload *bpf, bool keep);

#endif
