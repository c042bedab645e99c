/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The rules as tables, and the one decision that is made from them: by the BPF
 * programs in the kernel's memory, and by the daemon in its own.
 *
 * A rule set has three tables of ranges: by source address, by destination
 * address, by destination port. The ranges of a table cover everything from 0
 * on without a gap, in order; each says which rules match there, as 128 bits.
 * So a look-up is a binary search for the last range that begins at or before
 * the value, and a prefix inside another costs nothing more. The bits of the
 * three ranges and of the protocol are ANDed; the lowest bit that is left is
 * the first rule that matches.
 *
 * There are two slots for sets. Number `cfg.rules` of the newest set says which
 * one is in force: slot `rules & 1`. 0: there are no rules.
 */
#ifndef SOCKSPLICE_RULES_ABI_H
#define SOCKSPLICE_RULES_ABI_H

#include <linux/types.h>

#include "addr.h"
#include "base.h"

#define RULES_MAX 128
#define RULES_MAX_PREFIXES 65536
#define RULES_MAX_PORT_RANGES 8192
/*
 * A prefix begins one range and ends another; each table begins with one more, and the range of IPv4 inside the IPv6
 * space with two.
 */
#define RULES_MAX_RANGES (2 * RULES_MAX_PREFIXES + 2 * RULES_MAX_PORT_RANGES + 16)
/* A table has fewer than 2^18 ranges. */
#define RULES_MAX_STEPS 18
#define RULES_SLOTS 2
#define RULES_ANY_UPSTREAM 0xff
/* <linux/in.h> has most of them, but does not go together with every libc header. */
#define RULES_IPPROTO_ICMP 1
#define RULES_IPPROTO_TCP 6
#define RULES_IPPROTO_UDP 17
#define RULES_IPPROTO_ICMPV6 58

enum rules_action {
	RULES_PROXY,
	RULES_DIRECT,
	RULES_DROP,
	RULES_REJECT,
	RULES_ACTION_COUNT,
};

enum rules_proto { RULES_PROTO_TCP, RULES_PROTO_UDP, RULES_PROTO_ICMP, RULES_PROTO_OTHER, RULES_PROTO_COUNT };

/* A set of rules: bit i of both words together is rule i. */
struct rules_bits {
	__u64 word[2];
};

/* From `high`:`low` (an address in host order, or a port in `low`) to where the next range of the table begins. */
struct rules_range {
	__u64 high, low;
	struct rules_bits rules;
};

/* Ranges first ... first + count - 1 of the set's array; count is at least 1. */
struct rules_table {
	__u32 first, count;
};

struct rules_header {
	struct rules_table src, dst, port;
	__u32 rule_count;
	__u32 pad;
	struct rules_bits proto[RULES_PROTO_COUNT];
	struct rules_bits portless; /* rules that say nothing about ports: all that match where no port is known */
	__u8 action[RULES_MAX];     /* enum rules_action */
	__u8 upstream[RULES_MAX];   /* of the configuration, or RULES_ANY_UPSTREAM; for the daemon */
};

/* What a decision depends on. */
struct rules_packet {
	struct addr src, dst;
	__be16 dport;
	__u8 proto; /* IPPROTO_* as in the packet */
	__u8 has_port;
};

/* A decision as the programs keep it: valid for this packet under this number of a rule set. */
struct rules_cached {
	struct rules_packet packet;
	__u32 rules;  /* cfg.rules; 0: not valid */
	__u32 action; /* and the upstream, as rules.bpf.h packs them */
};

/* By a hash of the addresses. */
#define RULES_CACHE_ENTRIES 512

#define RULES_NONE (-1)

/* Range `index` of a set, or NULL: this is where kernel and daemon differ. */
typedef const struct rules_range *(*rules_range_at)(const void *set, __u32 index);

static __always_inline __u64 rules_be64(__be32 high, __be32 low)
{
	return (__u64)be32(high) << 32 | be32(low);
}

static __always_inline struct rules_bits rules_find(rules_range_at at, const void *set, const struct rules_table *table,
						    __u64 high, __u64 low)
{
	__u32 base = table->first, count = table->count;
	const struct rules_range *range;

	for (int step = 0; step < RULES_MAX_STEPS && count > 1; step++) {
		__u32 half = count / 2;

		range = at(set, base + half);
		if (!range)
			break;
		if (range->high < high || (range->high == high && range->low <= low))
			base += half;
		count -= half;
	}
	range = at(set, base);
	return range ? range->rules : (struct rules_bits){};
}

static __always_inline enum rules_proto rules_proto_of(const struct rules_packet *packet)
{
	switch (packet->proto) {
	case RULES_IPPROTO_TCP:
		return RULES_PROTO_TCP;
	case RULES_IPPROTO_UDP:
		return RULES_PROTO_UDP;
	case RULES_IPPROTO_ICMP:
		return addr_is_ipv4(&packet->dst) ? RULES_PROTO_ICMP : RULES_PROTO_OTHER;
	case RULES_IPPROTO_ICMPV6:
		return addr_is_ipv4(&packet->dst) ? RULES_PROTO_OTHER : RULES_PROTO_ICMP;
	default:
		return RULES_PROTO_OTHER;
	}
}

static __always_inline void rules_and(struct rules_bits *bits, const struct rules_bits *other)
{
	bits->word[0] &= other->word[0];
	bits->word[1] &= other->word[1];
}

/* Number of the lowest bit of a word that is not zero. BPF has no instruction for it. */
static __always_inline __u32 rules_lowest(__u64 word)
{
	__u32 bit = 0;

	for (__u32 width = 32; width; width /= 2) {
		if (word & ((1ull << width) - 1))
			continue;
		word >>= width;
		bit += width;
	}
	return bit;
}

/* The first rule that matches, or RULES_NONE. */
static __always_inline int rules_match(rules_range_at at, const void *set, const struct rules_header *header,
				       const struct rules_packet *packet)
{
	const struct addr *src = &packet->src, *dst = &packet->dst;
	struct rules_bits bits = header->proto[rules_proto_of(packet)], found;

	found = rules_find(at, set, &header->dst, rules_be64(dst->words[0], dst->words[1]),
			   rules_be64(dst->words[2], dst->words[3]));
	rules_and(&bits, &found);
	if (bits.word[0] | bits.word[1]) {
		found = rules_find(at, set, &header->src, rules_be64(src->words[0], src->words[1]),
				   rules_be64(src->words[2], src->words[3]));
		rules_and(&bits, &found);
	}
	found = header->portless;
	if (packet->has_port && (bits.word[0] | bits.word[1]))
		found = rules_find(at, set, &header->port, 0, be16(packet->dport));
	rules_and(&bits, &found);
	if (bits.word[0])
		return (int)rules_lowest(bits.word[0]);
	if (bits.word[1])
		return 64 + (int)rules_lowest(bits.word[1]);
	return RULES_NONE;
}

_Static_assert(sizeof(struct rules_range) == 32, "shared with the kernel programs");
_Static_assert(sizeof(struct rules_cached) == 44, "shared with the kernel programs");
_Static_assert(sizeof(struct rules_header) == 32 + 5 * 16 + 2 * RULES_MAX, "shared with the kernel programs");

#endif
