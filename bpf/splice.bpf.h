/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The translation of a spliced TCP connection, for both hooks: a packet that
 * one end sent to the gateway becomes one that the other end expects.
 *
 *   addresses, ports, TTL        replaced, replaced, minus one
 *   SEQ, ACK, SACK blocks        plus a constant of the direction
 *   timestamps                   plus a constant (RFC 7323 3: each end has a clock of its own)
 *   window                       shifted, where the legs agreed on different scales
 *
 * The checksums follow by differences (RFC 1624), never by reading payload: the
 * IP header's here, TCP's by the caller, since tc must tell the kernel about
 * partial and complete checksums of the sk_buff.
 *
 * What the packet tells about the connection is noted in its half: ends, the
 * newest ACK and timestamp, traffic, round-trip times.
 */
#ifndef SOCKSPLICE_SPLICE_BPF_H
#define SOCKSPLICE_SPLICE_BPF_H

#include "classify.bpf.h"
#include "options.bpf.h"

#define SPLICE_IPV4_L4_OFF (ETH_HLEN + sizeof(struct iphdr))
#define SPLICE_IPV6_L4_OFF (ETH_HLEN + sizeof(struct ipv6hdr))
/* NOP NOP TIMESTAMPS 10: how nearly every segment's options begin (RFC 7323 appendix A) */
#define SPLICE_USUAL_OPTIONS be32(0x0101080a)
#define SPLICE_PROBE_INTERVAL_MS 100

static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum;
}

static __always_inline __u16 fold16(__u64 sum)
{
	__u32 folded = fold32(sum);

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return (__u16)folded;
}

/*
 * Keeps the complete checksum of a received sk_buff right, once an IPv6 packet has new addresses and a lower hop
 * limit, and its L4 checksum has been replaced with BPF_F_PSEUDO_HDR: that flag counts on an IP header whose own
 * checksum makes up for the addresses. (BPF_F_IPV6 says so, but older kernels refuse it.)
 */
static __always_inline void splice_complete_ipv6(struct __sk_buff *skb, __u32 address_diff)
{
	bpf_csum_update(skb, fold32((__u64)address_diff + (__u16)~be16(1)));
}

/* Adds to a big-endian number at any alignment; returns the checksum difference. `odd`: it starts at an odd offset. */
static __always_inline __u64 splice_add_u32(void *p, __u32 add, int odd)
{
	__u32 old, new;
	__u64 diff;

	__builtin_memcpy(&old, p, 4);
	new = be32(be32(old) + add);
	__builtin_memcpy(p, &new, 4);
	diff = (__u64)(__u32)~old + new;
	return odd ? be16(fold16(diff)) : diff;
}

static __always_inline void splice_note_option(struct flow_half *half, struct flow_half *other, __u32 tsval,
					       __u32 tsecr, __u64 now_ns)
{
	__u32 now_ms = (__u32)(now_ns / 1000000);

	/* the answer to what this side was sent comes with its timestamp */
	if (other->probe_ns && (__s32)(tsecr - other->probe_tsval) >= 0) {
		__u32 rtt_us = (__u32)((bpf_ktime_get_ns() - other->probe_ns) / 1000);

		other->rtt_us = other->rtt_us ? other->rtt_us - other->rtt_us / 8 + rtt_us / 8 : rtt_us;
		other->probe_ns = 0;
	}
	/* only the first segment that carries a value: the echo of an earlier one would come too soon */
	if (!half->probe_ns && tsval != half->tsval && (__s32)(now_ms - half->probe_after_ms) >= 0) {
		half->probe_tsval = tsval + half->tsval_add;
		half->probe_after_ms = now_ms + SPLICE_PROBE_INTERVAL_MS;
		half->probe_ns = bpf_ktime_get_ns();
	}
	half->tsval = tsval;
	half->tsecr = tsecr;
}

/* Options in another order than the usual one; returns the checksum difference. */
static __always_inline __u64 splice_translate_options(hook_ctx *ctx, struct tcphdr *th, void *end, __u32 l4_off,
						      struct flow_half *half, struct flow_half *other, __u64 now_ns)
{
	__u32 bytes = th->doff * 4u - sizeof(*th);
	__u8 *options = (void *)(th + 1);
	struct option_scan scan;
	__u64 diff = 0;
	__u32 at, blocks;

	count(COUNT_SLOW_OPTIONS);
	if (options_scan(ctx, l4_off + sizeof(*th), bytes, &scan))
		return 0;
	at = (scan.timestamps_at + 1u) & 63;
	if (scan.timestamps_at && (void *)options + at + 8 <= end) {
		splice_note_option(half, other, option_u32(&scan, at), option_u32(&scan, at + 4), now_ns);
		diff += splice_add_u32(options + at, half->tsval_add, at & 1);
		if (th->ack)
			diff += splice_add_u32(options + at + 4, half->tsecr_add, at & 1);
	}
	if (!scan.sack_at || !half->ack_add)
		return diff;
	at = (scan.sack_at + 1u) & 63;
	blocks = (scan.sack_bytes - 2u) / 4;
	for (__u32 i = 0; i < 8; i++) {
		__u8 *edge = options + at + 4 * i;

		if (i >= blocks || (void *)edge + 4 > end)
			break;
		diff += splice_add_u32(edge, half->ack_add, at & 1);
	}
	return diff;
}

/*
 * An RST ends the connection for us only where its receiver may expect it: in the window (RFC 9293 3.10.7.4), but not
 * beyond what was sent to it. So while nothing is under way only the exact number counts; any other just draws a
 * challenge ACK from the receiver (RFC 5961 3.2), after which both ends may well be silent for long.
 */
static __always_inline void splice_note_reset(struct flow_entry *entry, __u32 direction, __u32 seq, __u64 now_ns)
{
	struct flow_half *half = &entry->half[direction & 1], *other = &entry->half[(direction & 1) ^ 1];
	/* our SYN-ACK repeats the upstream's options: without a scale of its, the client's does not hold either */
	__u8 agreed = entry->agreed.flags & FLOW_OPTION_WSCALE, up = direction == FLOW_UP;
	__u8 scale = !agreed ? 0 : up ? entry->agreed.wscale : entry->offered.wscale;
	__u32 window = (__u32)other->window << (scale & 15), ahead = seq + half->seq_add - other->ack;
	__u32 sent = half->next_seq;

	/* some of it may still wait in the socket */
	if (!up && (entry->held & FLOW_HELD_DATA) && (__s32)(entry->held_end - sent) > 0)
		sent = entry->held_end;
	if (ahead && (ahead > window || (__s32)(seq - sent) > 0))
		return;
	entry->reset_ns = now_ns;
	if (!(half->seen & FLOW_SEEN_RST))
		__sync_fetch_and_or(&half->seen, FLOW_SEEN_RST);
}

static __always_inline void splice_note(hook_ctx *ctx, struct flow_entry *entry, __u32 direction,
					const struct packet_view *v, __u64 now_ns)
{
	struct flow_half *half = &entry->half[direction & 1], *other = &entry->half[(direction & 1) ^ 1];
	__u32 end = v->seq + v->payload_len;

	if (v->tcp_flags & TCP_FLAG_BYTE_FIN) {
		end++;
		half->fin_end = end + half->seq_add;
		if (!(half->seen & FLOW_SEEN_FIN))
			__sync_fetch_and_or(&half->seen, FLOW_SEEN_FIN);
	}
	if ((__s32)(end - half->next_seq) > 0 && !(v->tcp_flags & TCP_FLAG_BYTE_RST))
		half->next_seq = end;
	if (v->tcp_flags & TCP_FLAG_BYTE_ACK) {
		if ((__s32)(v->ack - half->ack) >= 0) {
			half->ack = v->ack;
			half->window = v->window;
		}
		if ((other->seen & (FLOW_SEEN_FIN | FLOW_SEEN_FIN_ACKED)) == FLOW_SEEN_FIN &&
		    (__s32)(v->ack - other->fin_end) >= 0)
			__sync_fetch_and_or(&other->seen, FLOW_SEEN_FIN_ACKED);
	}
	if (v->tcp_flags & TCP_FLAG_BYTE_RST)
		splice_note_reset(entry, direction, v->seq, now_ns);
	__sync_fetch_and_add(&half->packets, hook_segments(ctx));
	if (v->payload_len)
		__sync_fetch_and_add(&half->payload_bytes, v->payload_len);
	half->last_ns = now_ns;
}

static __always_inline int splice_is_done(const struct flow_entry *entry)
{
	__u32 up = entry->half[FLOW_UP].seen, down = entry->half[FLOW_DOWN].seen;

	return ((up | down) & FLOW_SEEN_RST) || ((up & FLOW_SEEN_FIN_ACKED) && (down & FLOW_SEEN_FIN_ACKED));
}

static __always_inline int fault_hits(enum cfg_fault which)
{
	__u32 zero = 0;
	const struct bpf_cfg *settings = bpf_map_lookup_elem(&cfg, &zero);

	if (!settings || !settings->fault_until_ns || bpf_ktime_get_coarse_ns() > settings->fault_until_ns)
		return 0;
	return bpf_get_prandom_u32() % 1000 < settings->fault_permille[which];
}

/* Tells user space once; the flag in the entry stands for a report that was lost. */
static __always_inline void flow_report(struct flow_entry *entry, __u32 index, enum flow_report_kind kind, __u32 flag)
{
	struct flow_report *report;

	if (__sync_fetch_and_or(&entry->reported, flag) & flag)
		return;
	report = fault_hits(CFG_FAULT_REPORT) ? (void *)0 : bpf_ringbuf_reserve(&reports, sizeof(*report), 0);
	if (!report) {
		count(COUNT_LOST_REPORTS);
		return;
	}
	report->index = index;
	report->generation = entry->generation;
	report->kind = kind;
	report->pad = 0;
	bpf_ringbuf_submit(report, 0);
}

static __always_inline void splice_rewrite_ipv4(struct iphdr *ip, const struct flow_half *half)
{
	__u64 sum = (__u16)~ip->check;
	__u16 ttl_and_protocol;

	sum += half->l3_diff;
	__builtin_memcpy(&ttl_and_protocol, &ip->ttl, 2);
	sum += (__u16)~ttl_and_protocol;
	ip->ttl--;
	__builtin_memcpy(&ttl_and_protocol, &ip->ttl, 2);
	sum += ttl_and_protocol;
	ip->check = (__u16)~fold16(sum);
	ip->saddr = half->src.words[3];
	ip->daddr = half->dst.words[3];
}

static __always_inline void splice_rewrite_ipv6(struct ipv6hdr *ip, const struct flow_half *half)
{
	ip->hop_limit--;
	__builtin_memcpy(&ip->saddr, &half->src, 16);
	__builtin_memcpy(&ip->daddr, &half->dst, 16);
}

/*
 * Rewrites the packet, TCP checksum and link layer apart, and notes what it
 * tells. *l4_diff: what its TCP checksum changes by, addresses (half->l3_diff)
 * apart. 0, or < 0: headers are out of reach and nothing was changed.
 */
static __always_inline int splice_rewrite(hook_ctx *ctx, void *data, void *end, const struct packet_view *v,
					  struct flow_entry *entry, __u32 direction, __u32 *l4_diff)
{
	struct flow_half *half = &entry->half[direction & 1], *other = &entry->half[(direction & 1) ^ 1];
	__u32 l4_off = v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF;
	__u64 now_ns = bpf_ktime_get_coarse_ns(), diff = half->l4_diff;
	struct tcphdr *th = data + l4_off;
	__u32 *options = (void *)(th + 1);

	if ((void *)(th + 1) > end)
		return -1;
	splice_note(ctx, entry, direction, v, now_ns);
	diff += splice_add_u32(&th->seq, half->seq_add, 0);
	if (th->ack)
		diff += splice_add_u32(&th->ack_seq, half->ack_add, 0);
	if (half->window_shift && !th->syn) {
		__u32 window = v->window;

		window = half->window_shift > 0 ? window << (half->window_shift & 15)
						: window >> (-half->window_shift & 15);
		window = window > 0xffff ? 0xffff : window;
		diff += (__u16)~th->window;
		th->window = be16((__u16)window);
		diff += th->window;
	}
	if (th->doff == 8 && (void *)(options + 3) <= end && options[0] == SPLICE_USUAL_OPTIONS) {
		splice_note_option(half, other, be32(options[1]), be32(options[2]), now_ns);
		if (half->tsval_add)
			diff += splice_add_u32(&options[1], half->tsval_add, 0);
		if (half->tsecr_add && th->ack)
			diff += splice_add_u32(&options[2], half->tsecr_add, 0);
	} else if (th->doff > 5) {
		diff += splice_translate_options(ctx, th, end, l4_off, half, other, now_ns);
	}
	th->source = half->sport;
	th->dest = half->dport;
	if (v->ip_version == 4)
		splice_rewrite_ipv4(data + ETH_HLEN, half);
	else
		splice_rewrite_ipv6(data + ETH_HLEN, half);
	*l4_diff = fold32(diff);
	return 0;
}

#endif
