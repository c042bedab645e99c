/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Counting: every packet that a program takes ends in exactly one verdict or drop. */
#ifndef SOCKSPLICE_COUNT_BPF_H
#define SOCKSPLICE_COUNT_BPF_H

#include "hook.bpf.h"
#include "maps.bpf.h"

static __always_inline void count(enum packet_counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		(*value)++;
}

static __always_inline int pass(enum packet_counter verdict)
{
	count(verdict);
	return HOOK_PASS;
}

static __always_inline int drop(enum drop_reason reason)
{
	/* the verifier wants the bound, whatever the parser can return */
	if (reason < DROP_REASON_COUNT)
		count(COUNT_DROP_NONE + reason);
	return HOOK_DROP;
}

#endif
