/* SPDX-License-Identifier: MIT */
/* The kernel's tables of UDP associations (udp_abi.h), as the daemon writes and reads them. */
#ifndef SOCKSPLICE_UDPMAP_H
#define SOCKSPLICE_UDPMAP_H

#include <stdint.h>

#include "bpfload.h"
#include "udp_abi.h"

struct udpmap {
	struct udp_assoc *entries; /* the kernel's own memory, UDP_MAX_ASSOCS */
	uint64_t mapped_bytes;
	int keys_fd;
};

/* Removes what an earlier daemon left: its associations ended with it. 0 or -errno. */
int udpmap_open(struct udpmap *map, const struct bpfload *bpf);
void udpmap_close(struct udpmap *map);
/* 0; -EEXIST: these addresses are in use; -E2BIG: the table is full. The entry must be filled in. */
int udpmap_add_key(struct udpmap *map, const struct flow_key *key, uint32_t index, uint32_t direction);
void udpmap_remove_key(struct udpmap *map, const struct flow_key *key);

#endif
