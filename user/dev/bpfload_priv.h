/* SPDX-License-Identifier: MIT */
/* What the files of bpfload share: the loaded programs, their maps, and where they are attached. */
#ifndef SOCKSPLICE_BPFLOAD_PRIV_H
#define SOCKSPLICE_BPFLOAD_PRIV_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "bpfload.h"
#include "dns_abi.h"
#include "rules_abi.h"
#include "udp_abi.h"

#define BPFLOAD_PROGRAM "socksplice_xdp"
#define BPFLOAD_MAX_ATTACHED 64
#define BPFLOAD_LINK_PREFIX "link-"

/* name in the objects, key and value size, entries (0: any number) */
#define BPFLOAD_MAPS(X)                                                                                                \
	X(XSKS, xsks, BPF_MAP_TYPE_XSKMAP, 4, 4, CFG_MAX_QUEUES)                                                       \
	X(DEVICES, devices, BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, CFG_MAX_PORTS)                                             \
	X(CFG, cfg, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct bpf_cfg), 1)                                                  \
	X(PORTS, ports, BPF_MAP_TYPE_HASH, 4, sizeof(struct bpf_port), CFG_MAX_PORTS)                                  \
	X(LOCAL_ADDRS, local_addrs, BPF_MAP_TYPE_HASH, sizeof(struct addr), 1, CFG_MAX_LOCAL_ADDRS)                    \
	X(FLOW_KEYS, flow_keys, BPF_MAP_TYPE_HASH, sizeof(struct flow_key), sizeof(struct flow_ref), 0)                \
	X(FLOWS, flows, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct flow_entry), 0)                                           \
	X(REPORTS, reports, BPF_MAP_TYPE_RINGBUF, 0, 0, 0)                                                             \
	X(COUNTERS, counters, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, PACKET_COUNTER_COUNT)                                   \
	X(RULE_SETS, rule_sets, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct rules_header), RULES_SLOTS)                       \
	X(RULE_RANGES, rule_ranges, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct rules_range), RULES_SLOTS *RULES_MAX_RANGES)  \
	X(RULE_CACHE, rule_cache, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct rules_cached), RULES_CACHE_ENTRIES)      \
	X(DNS, dns, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct bpf_dns), 1)                                                  \
	X(DIRECT_ADDRS, direct_addrs, BPF_MAP_TYPE_LRU_HASH, sizeof(struct direct_key), sizeof(struct direct_value),   \
	  DIRECT_ADDRS)                                                                                                \
	X(UDP_KEYS, udp_keys, BPF_MAP_TYPE_HASH, sizeof(struct flow_key), sizeof(struct flow_ref), UDP_MAX_ASSOCS * 2) \
	X(UDP_ASSOCS, udp_assocs, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct udp_assoc), UDP_MAX_ASSOCS)                     \
	X(DIRECT_FLOWS, direct_flows, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), 1, 0)                            \
	X(TAPS, taps, BPF_MAP_TYPE_DEVMAP, 4, 4, CFG_MAX_PORTS)                                                        \
	X(OWNER, owner, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct bpf_owner), 1)                                            \
	X(TAP_EXITS, tap_exits, BPF_MAP_TYPE_HASH, 4, 4, CFG_MAX_PORTS)

enum bpfload_map {
#define X(id, name, type, key, value, entries) MAP_##id,
	BPFLOAD_MAPS(X)
#undef X
		MAP_COUNT
};

/* The first of those that the XDP program does not use, so that they do not hang on it. */
#define MAP_FIRST_TC_ONLY MAP_TAPS

struct bpfload_shape {
	const char *name;
	uint32_t type, key_bytes, value_bytes, entries;
};

extern const struct bpfload_shape bpfload_shapes[MAP_COUNT];

enum bpfload_kind { BPFLOAD_XDP, BPFLOAD_LINK, BPFLOAD_CLSACT };

struct bpfload_attachment {
	enum bpfload_kind kind;
	int ifindex;
	uint32_t flags; /* XDP: of the attachment */
	int link_fd;
	bool pinned;
	enum bpfload_where where;
	char pin_name[64];
};

struct bpfload {
	struct socksplice_xdp *xdp; /* NULL: adopted */
	struct socksplice_tc *tc;
	int program_fd;      /* XDP */
	int maps[MAP_COUNT]; /* own descriptors */
	bool external;
	bool inherited;           /* the maps were pinned by an earlier daemon */
	uint32_t replaced_cfg_id; /* of the maps of another size that were pinned here; 0: there were none */
	char pin[PIN_MAX_BYTES];  /* empty: nothing is pinned */
	int pin_fd;
	struct bpfload_attachment attached[BPFLOAD_MAX_ATTACHED];
	uint32_t attached_count;
};

/* bpfmaps.c */
int bpfload_find_program_maps(int maps[MAP_COUNT], const uint32_t *map_ids, uint32_t count);
/* 0: all are there and fit; -ENOENT: nothing is pinned; -EPROTO with a message: of another version. */
int bpfload_find_pinned_maps(const char *pin, int maps[MAP_COUNT], char *error, uint32_t error_bytes);
int bpfload_pin_maps(struct bpfload *bpf);
void bpfload_unpin_maps(const char *pin);
void bpfload_close_maps(int maps[MAP_COUNT]);
uint32_t bpfload_map_id(int fd);
uint32_t bpfload_map_entries(int fd);

/* bpfattach.c */
uint32_t bpfload_attached_id(int ifindex, enum xdp_mode *mode);
/* Descriptor and description of a program; -errno. */
int bpfload_program_info(uint32_t id, struct bpf_prog_info *info, uint32_t *map_ids, uint32_t max_maps);
/* Detaches everything, or lets it live on by its pins. */
void bpfload_detach_all(struct bpfload *bpf, bool keep);

#endif
