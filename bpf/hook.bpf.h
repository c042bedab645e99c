/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What differs between the two places where the same code runs. An entry
 * program defines HOOK_XDP or HOOK_TC before it includes anything else.
 */
#ifndef SOCKSPLICE_HOOK_BPF_H
#define SOCKSPLICE_HOOK_BPF_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#if defined(HOOK_XDP)
typedef struct xdp_md hook_ctx;
#define HOOK_PASS XDP_PASS
#define HOOK_DROP XDP_DROP
#define HOOK_IS_XDP 1
#define hook_load_bytes(ctx, off, to, len) bpf_xdp_load_bytes(ctx, off, to, len)
#define hook_segments(ctx) ((void)(ctx), 1)
#elif defined(HOOK_TC)
typedef struct __sk_buff hook_ctx;
/* on a tcx link the next program runs, on clsact the next filter; then the packet goes on */
#define HOOK_PASS TC_ACT_UNSPEC
#define HOOK_DROP TC_ACT_SHOT
#define HOOK_IS_XDP 0
#define hook_load_bytes(ctx, off, to, len) bpf_skb_load_bytes(ctx, off, to, len)
#define hook_segments(ctx) ((ctx)->gso_segs ? (ctx)->gso_segs : 1)
#else
#error "HOOK_XDP or HOOK_TC must be defined"
#endif

#endif
