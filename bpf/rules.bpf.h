/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the rules say about a packet of a LAN interface that belongs to no known
 * flow and is not for the gateway itself. The decision is that of rules_abi.h,
 * in the set of rules that is in force.
 *
 * The last decisions of this CPU are kept: packets of one direct connection
 * ask the same again and again. An entry names the rule set that it comes from,
 * so a reload needs not empty them.
 *
 * The daemon fills the other slot and then changes `cfg.rules`; it waits until
 * no program can be at work with the old number before that slot is written
 * again (rulemap.c).
 */
#ifndef SOCKSPLICE_RULES_BPF_H
#define SOCKSPLICE_RULES_BPF_H

#include "classify.bpf.h"
#include "rules_abi.h"

/* Odd constants of good mixing: fractions of the golden ratio, of square roots of 2 and 3. */
#define RULES_MIX_1 0x9e3779b97f4a7c15ull
#define RULES_MIX_2 0x6a09e667f3bcc909ull
#define RULES_MIX_3 0xbb67ae8584caa73bull

static __always_inline const struct rules_range *rules_range_of_slot(const void *set, __u32 index)
{
	__u32 key = (__u32)(unsigned long)set * RULES_MAX_RANGES + index;

	return bpf_map_lookup_elem(&rule_ranges, &key);
}

/* What the programs make of a packet: the action, and above it the upstream that the rule names. */
#define RULES_DECISION(action, upstream) ((__u32)(action) | (__u32)(upstream) << 8)
#define RULES_DECISION_PROXY RULES_DECISION(RULES_PROXY, RULES_ANY_UPSTREAM)

static __always_inline enum rules_action rules_action_of(__u32 decision)
{
	return (enum rules_action)(decision & 0xff);
}

/* As in the key of a UDP association. */
static __always_inline __u16 rules_upstream_of(__u32 decision)
{
	return decision >> 8 == RULES_ANY_UPSTREAM ? UDP_KEY_ANY : (__u16)(decision >> 8);
}

/*
 * For XDP a global function: the verifier goes through the searches once, and not once for every way that leads there,
 * which halves its work. The stack of the tc program has no room for the frame of another function.
 */
#if defined(HOOK_XDP)
#define RULES_LOOK_UP __attribute__((noinline))
#else
#define RULES_LOOK_UP static __always_inline
#endif

/* The decision for the packet of an entry of the cache. */
RULES_LOOK_UP int rules_look_up(__u32 cache_slot, __u32 number)
{
	const struct rules_cached *cached = bpf_map_lookup_elem(&rule_cache, &cache_slot);
	__u32 slot = number & (RULES_SLOTS - 1);
	const struct rules_header *header = bpf_map_lookup_elem(&rule_sets, &slot);
	int rule;

	if (!header || !cached)
		return (int)RULES_DECISION_PROXY;
	rule = rules_match(rules_range_of_slot, (const void *)(unsigned long)slot, header, &cached->packet);
	if (rule == RULES_NONE)
		return (int)RULES_DECISION_PROXY;
	return (int)RULES_DECISION(header->action[rule & (RULES_MAX - 1)], header->upstream[rule & (RULES_MAX - 1)]);
}

static __always_inline __u32 rules_cache_slot(const struct packet_view *v)
{
	__u64 hash = (rules_be64(v->src.words[2], v->src.words[3]) ^ v->dst.words[1]) * RULES_MIX_1;

	hash ^= (rules_be64(v->dst.words[2], v->dst.words[3]) ^ hash >> 29) * RULES_MIX_2;
	hash ^= (rules_be64(v->src.words[1], v->dport) ^ v->dst.words[0] ^ v->l4_proto) * RULES_MIX_3;
	return (__u32)(hash >> 40) & (RULES_CACHE_ENTRIES - 1);
}

static __always_inline int rules_cache_hit(const struct rules_cached *cached, const struct packet_view *v, int has_port,
					   __u32 number)
{
	const struct rules_packet *packet = &cached->packet;

	return cached->rules == number && packet->dport == v->dport && packet->proto == v->l4_proto &&
	       packet->has_port == has_port && addr_equal(&packet->src, &v->src) && addr_equal(&packet->dst, &v->dst);
}

/* `has_port`, 0 or 1: v->dport is known, as it is not in a fragment. */
static __always_inline __u32 rules_decide(__u32 number, const struct packet_view *v, int has_port)
{
	__u32 slot = rules_cache_slot(v);
	struct rules_cached *cached = bpf_map_lookup_elem(&rule_cache, &slot);

	if (!cached)
		return RULES_DECISION_PROXY;
	if (rules_cache_hit(cached, v, has_port, number))
		return cached->action;
	/* filled in place: the stack of the tc program has no room for a copy */
	cached->rules = 0;
	cached->packet.src = v->src;
	cached->packet.dst = v->dst;
	cached->packet.dport = v->dport;
	cached->packet.proto = v->l4_proto;
	cached->packet.has_port = (__u8)has_port;
	cached->action = (__u32)rules_look_up(slot, number);
	cached->rules = number;
	return cached->action;
}

static __always_inline __u32 rules_decide_number(__u32 number, const struct packet_view *v)
{
	int has_port = v->payload_off != 0;

	if (!number)
		return RULES_DECISION_PROXY;
	/* an IPv4-mapped address on an IPv6 packet would be mistaken for IPv4: user space drops it */
	if (v->ip_version == 6 && (addr_is_ipv4(&v->src) || addr_is_ipv4(&v->dst)))
		return RULES_DECISION_PROXY;
	return rules_decide(number, v, has_port);
}

/*
 * Whatever is no SYN belongs to a connection that was judged when it began. One that was direct is remembered: only its
 * other packets can then pass against the rules, which begin nothing.
 */
static __always_inline enum rules_action rules_respect_live(const struct packet_view *v, enum rules_action action)
{
	int begins = (v->tcp_flags & (TCP_FLAG_BYTE_SYN | TCP_FLAG_BYTE_ACK)) == TCP_FLAG_BYTE_SYN;
	struct flow_key key;
	__u8 present = 1;

	if (begins != (action == RULES_DIRECT))
		return action;
	key = (struct flow_key){.src = v->src, .dst = v->dst, .sport = v->sport, .dport = v->dport};
	if (begins)
		bpf_map_update_elem(&direct_flows, &key, &present, BPF_ANY);
	else if (bpf_map_lookup_elem(&direct_flows, &key))
		action = RULES_DIRECT;
	return action;
}

/* A packet that is direct for another reason than a rule: its connection goes on when that reason is gone. */
static __always_inline void rules_remember_direct(const struct packet_view *v)
{
	if (v->l4_proto == IPPROTO_TCP && !v->is_fragment)
		rules_respect_live(v, RULES_DIRECT);
}

/* TCP and UDP have been parsed by the caller; there is a port where that found one. */
static __always_inline __u32 rules_decide_packet(const struct bpf_cfg *settings, const struct packet_view *v)
{
	__u32 decision = rules_decide_number(*(const volatile __u32 *)&settings->rules, v);

	if (v->l4_proto != IPPROTO_TCP || v->is_fragment)
		return decision;
	return RULES_DECISION(rules_respect_live(v, rules_action_of(decision)), decision >> 8);
}

#endif
