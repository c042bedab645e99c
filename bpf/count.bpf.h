/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Counting: every packet ends in exactly one of these. */
#ifndef SOCKSPLICE_COUNT_BPF_H
#define SOCKSPLICE_COUNT_BPF_H

#include "maps.bpf.h"

static __always_inline void count(enum xdp_counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		(*value)++;
}

static __always_inline int pass(enum xdp_counter verdict)
{
	count(verdict);
	return XDP_PASS;
}

static __always_inline int drop(enum drop_reason reason)
{
	/* the verifier wants the bound, whatever the parser can return */
	if (reason < DROP_REASON_COUNT)
		count(XDP_COUNT_DROP_NONE + reason);
	return XDP_DROP;
}

#endif
