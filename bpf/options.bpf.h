/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* TCP options (RFC 9293 3.1) where their order is not the usual one, and those of SYNs. */
#ifndef SOCKSPLICE_OPTIONS_BPF_H
#define SOCKSPLICE_OPTIONS_BPF_H

#include "hook.bpf.h"
#include "flow_abi.h"

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define OPTION_WSCALE 3
#define OPTION_SACK_PERMITTED 4
#define OPTION_SACK 5
#define OPTION_TIMESTAMPS 8

#define OPTIONS_MAX_BYTES 40
/* RFC 7323 2.3 */
#define OPTION_MAX_WSCALE 14

/* Where options stand, counted from the first byte behind the fixed header; 0: not there (an offset of 0 is kept as
 * it is, + 1, so that 0 stays free). */
struct option_scan {
	__u8 bytes[64]; /* more than OPTIONS_MAX_BYTES, so that a masked offset never leaves it */
	__u32 pos, end;
	__u8 mss_at, wscale_at, sack_permitted_at, sack_at, timestamps_at;
	__u8 sack_bytes;
	__u8 pad[2];
};

static long option_step(__u32 i, struct option_scan *scan)
{
	__u32 pos = scan->pos & 63;
	__u8 kind = scan->bytes[pos], len = scan->bytes[(pos + 1) & 63];

	(void)i;
	if (pos >= scan->end || kind == OPTION_END)
		return 1;
	if (kind == OPTION_NOP) {
		scan->pos = pos + 1;
		return 0;
	}
	if (len < 2 || pos + len > scan->end)
		return 1;
	if (kind == OPTION_MSS && len == 4)
		scan->mss_at = (__u8)(pos + 1);
	else if (kind == OPTION_WSCALE && len == 3)
		scan->wscale_at = (__u8)(pos + 1);
	else if (kind == OPTION_SACK_PERMITTED && len == 2)
		scan->sack_permitted_at = (__u8)(pos + 1);
	else if (kind == OPTION_TIMESTAMPS && len == 10)
		scan->timestamps_at = (__u8)(pos + 1);
	else if (kind == OPTION_SACK && len >= 10 && (len - 2) % 8 == 0) {
		scan->sack_at = (__u8)(pos + 1);
		scan->sack_bytes = len;
	}
	scan->pos = pos + len;
	return 0;
}

/* Reads `len` bytes of options that start at `off` of the packet. 0, or < 0: they cannot be read. */
static __always_inline int options_scan(hook_ctx *ctx, __u32 off, __u32 len, struct option_scan *scan)
{
	__builtin_memset(scan, 0, sizeof(*scan));
	if (len < 1 || len > OPTIONS_MAX_BYTES)
		return len ? -1 : 0;
	if (hook_load_bytes(ctx, off, scan->bytes, len))
		return -1;
	scan->end = len;
	/* a loop in line would exceed the verifier's patience (kernel 6.1) */
	bpf_loop(OPTIONS_MAX_BYTES, option_step, scan, 0);
	return 0;
}

static __always_inline __u32 option_u32(const struct option_scan *scan, __u32 at)
{
	return (__u32)scan->bytes[at & 63] << 24 | (__u32)scan->bytes[(at + 1) & 63] << 16 |
	       (__u32)scan->bytes[(at + 2) & 63] << 8 | scan->bytes[(at + 3) & 63];
}

static __always_inline void options_of_syn(const struct option_scan *scan, struct flow_options *out)
{
	struct flow_options o = {};

	if (scan->mss_at)
		o.mss = (__u16)(option_u32(scan, scan->mss_at + 1u) >> 16);
	if (scan->wscale_at) {
		__u8 wscale = scan->bytes[(scan->wscale_at + 1) & 63];

		o.wscale = wscale > OPTION_MAX_WSCALE ? OPTION_MAX_WSCALE : wscale;
		o.flags |= FLOW_OPTION_WSCALE;
	}
	if (scan->sack_permitted_at)
		o.flags |= FLOW_OPTION_SACK;
	if (scan->timestamps_at)
		o.flags |= FLOW_OPTION_TIMESTAMPS;
	*out = o;
}

#endif
