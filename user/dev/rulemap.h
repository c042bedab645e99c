/* SPDX-License-Identifier: MIT */
/* The kernel's rule sets (rules_abi.h), as the daemon writes them. */
#ifndef SOCKSPLICE_RULEMAP_H
#define SOCKSPLICE_RULEMAP_H

#include <stdint.h>

#include "bpfload.h"
#include "cfg_abi.h"
#include "rules.h"

struct rulemap {
	struct bpf_cfg *cfg; /* the kernel's own memory, all three */
	struct rules_header *sets;
	struct rules_range *ranges;
	uint64_t ranges_bytes;
};

/* 0 or -errno. `bpf` may be closed before. */
int rulemap_open(struct rulemap *map, const struct bpfload *bpf);
void rulemap_close(struct rulemap *map);
/*
 * Puts `set` in force, from one packet to the next; NULL: no rules. When it returns no packet is decided by the former
 * set any more. Sleeps for some milliseconds.
 */
void rulemap_load(struct rulemap *map, const struct rules_set *set);
void rulemap_set_on_down(struct rulemap *map, enum cfg_on_down on_down);

#endif
