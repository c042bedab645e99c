/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the gateway's own socket may say to an upstream, seen as its packets
 * leave the uplink. Invariant: the socket never confirms a byte that the
 * client must receive, so that the upstream keeps the duty to send it again.
 *
 *   PENDING            the SYN is made to offer exactly the client's options; once the clamp is on,
 *                      bare ACKs beyond it are dropped and the ACK field of all other packets is lowered
 *   OPENING, SPLICED   nothing passes: the flow is the kernel's, the socket is about to go
 *   RELAYED            the window is translated, where the SYN offered another scale than the socket believes
 *   ABORTING           the socket's reset passes
 */
#ifndef SOCKSPLICE_GUARD_BPF_H
#define SOCKSPLICE_GUARD_BPF_H

#include "classify.bpf.h"
#include "options.bpf.h"
#include "splice.bpf.h"

#define TCP_FLAGS_OFF 13
#define TCP_WINDOW_OFF 14
#define TCP_CHECK_OFF 16
#define TCP_FLAGS_ECN 0xc0 /* ECE, CWR */

/* Writes `new` over the old value of a 4-byte field of the TCP header and keeps the checksum right. */
static __always_inline void guard_store(struct __sk_buff *skb, __u32 l4_off, __u32 field_off, __be32 old, __be32 new)
{
	__u64 diff = (__u64)(__u32)~old + new;

	bpf_skb_store_bytes(skb, l4_off + field_off, &new, sizeof(new), 0);
	bpf_l4_csum_replace(skb, l4_off + TCP_CHECK_OFF, 0, fold32(diff), 0);
}

struct guard_edit {
	__u8 bytes[64]; /* more than OPTIONS_MAX_BYTES, so that a masked offset never leaves it */
};

static __always_inline void guard_blank(struct guard_edit *edit, __u32 at, __u32 len)
{
	/* `at` is one more than the offset of the option's kind */
	for (__u32 i = 0; i < len; i++)
		edit->bytes[(at - 1 + i) & 63] = OPTION_NOP;
}

/*
 * The socket's SYN offers exactly what the client's SYN did: options that the
 * client has not are overwritten by NOPs, the window scale becomes the
 * client's. ECN is offered on neither leg.
 */
static __always_inline void guard_mirror_syn(struct __sk_buff *skb, struct flow_entry *entry, __u32 l4_off,
					     const struct packet_view *v)
{
	const struct flow_options offered = entry->offered;
	struct option_scan scan;
	struct guard_edit edit;
	__be32 flags;
	__s64 diff;
	__u32 len = v->tcp_hdr_len - 20u;

	entry->own_isn = v->seq;
	/* data offset, flags, window: bytes 12 to 15 */
	if (!bpf_skb_load_bytes(skb, l4_off + 12, &flags, sizeof(flags)) && (flags & be32(TCP_FLAGS_ECN << 16)))
		guard_store(skb, l4_off, 12, flags, flags & ~be32(TCP_FLAGS_ECN << 16));
	if (len < 1 || len > OPTIONS_MAX_BYTES || options_scan(skb, l4_off + 20, len, &scan))
		return;
	__builtin_memcpy(edit.bytes, scan.bytes, sizeof(edit.bytes));
	if (scan.timestamps_at)
		entry->own_tsval = option_u32(&scan, scan.timestamps_at + 1u);
	if (scan.timestamps_at && !(offered.flags & FLOW_OPTION_TIMESTAMPS))
		guard_blank(&edit, scan.timestamps_at, 10);
	if (scan.sack_permitted_at && !(offered.flags & FLOW_OPTION_SACK))
		guard_blank(&edit, scan.sack_permitted_at, 2);
	if (scan.wscale_at) {
		__u32 at = scan.wscale_at + 1u;

		entry->own_wscale = scan.bytes[at & 63];
		if (!(offered.flags & FLOW_OPTION_WSCALE)) {
			guard_blank(&edit, scan.wscale_at, 3);
		} else {
			edit.bytes[at & 63] = offered.wscale;
			entry->window_shift = (__s8)(scan.bytes[at & 63] - offered.wscale);
		}
	}
	diff = bpf_csum_diff((__be32 *)scan.bytes, OPTIONS_MAX_BYTES, (__be32 *)edit.bytes, OPTIONS_MAX_BYTES, 0);
	bpf_skb_store_bytes(skb, l4_off + 20, edit.bytes, len, 0);
	bpf_l4_csum_replace(skb, l4_off + TCP_CHECK_OFF, 0, (__u64)diff, 0);
	count(COUNT_SYNS_MIRRORED);
}

/* The newest clock value that the upstream has from the socket: what the client's packets carry must not be older. */
static __always_inline void guard_note_timestamp(struct __sk_buff *skb, struct flow_entry *entry, __u32 l4_off,
						 const struct packet_view *v)
{
	__be32 options[2];

	if (v->tcp_hdr_len >= 32 && !bpf_skb_load_bytes(skb, l4_off + 20, options, sizeof(options)) &&
	    options[0] == SPLICE_USUAL_OPTIONS)
		entry->own_tsval = be32(options[1]);
}

/* The socket counts its window in its own scale, the upstream reads it in the client's. */
static __always_inline void guard_translate_window(struct __sk_buff *skb, const struct flow_entry *entry, __u32 l4_off,
						   const struct packet_view *v)
{
	__s8 shift = entry->window_shift;
	__u32 window = v->window;
	__be32 old;

	if (!shift || bpf_skb_load_bytes(skb, l4_off + 12, &old, sizeof(old)))
		return;
	window = shift > 0 ? window << (shift & 15) : window >> (-shift & 15);
	window = window > 0xffff ? 0xffff : window;
	guard_store(skb, l4_off, 12, old, (old & be32(0xffff0000)) | be32(window));
}

static __always_inline int guard_clamp(struct __sk_buff *skb, const struct flow_entry *entry, __u32 l4_off,
				       const struct packet_view *v)
{
	int beyond = (__s32)(v->ack - entry->clamp) > 0;
	int bare = !v->payload_len && !(v->tcp_flags & (TCP_FLAG_BYTE_FIN | TCP_FLAG_BYTE_RST));
	__u32 usual_len = entry->agreed.flags & FLOW_OPTION_TIMESTAMPS ? 32 : 20;

	if (!(v->tcp_flags & TCP_FLAG_BYTE_ACK))
		return HOOK_PASS;
	/* more than timestamps on a bare ACK are SACK blocks, which would confirm as well */
	if (bare && (beyond || v->tcp_hdr_len > usual_len)) {
		count(COUNT_CLAMPED_ACKS);
		return HOOK_DROP;
	}
	if (beyond) {
		count(COUNT_CLAMPED_ACKS);
		guard_store(skb, l4_off, 8, be32(v->ack), be32(entry->clamp));
	}
	return HOOK_PASS;
}

static __always_inline int guard_packet(struct __sk_buff *skb, struct flow_entry *entry, const struct packet_view *v)
{
	__u32 l4_off = v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF;

	switch (entry->phase) {
	case FLOW_PHASE_PENDING:
		if (v->tcp_flags & TCP_FLAG_BYTE_SYN) {
			guard_mirror_syn(skb, entry, l4_off, v);
			return HOOK_PASS;
		}
		guard_note_timestamp(skb, entry, l4_off, v);
		guard_translate_window(skb, entry, l4_off, v);
		return entry->clamp_on ? guard_clamp(skb, entry, l4_off, v) : HOOK_PASS;
	case FLOW_PHASE_RELAYED:
		guard_translate_window(skb, entry, l4_off, v);
		return HOOK_PASS;
	case FLOW_PHASE_OPENING:
	case FLOW_PHASE_SPLICED:
		count(COUNT_GUARDED_PACKETS);
		return HOOK_DROP;
	default:
		return HOOK_PASS;
	}
}

#endif
