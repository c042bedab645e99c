/* SPDX-License-Identifier: MIT */
/*
 * From rules to ranges. Prefixes either contain each other or have nothing in
 * common. So when they are sorted by where they begin, wider ones first, one
 * pass with a stack of those that are open yields the ranges: a range begins
 * where a prefix begins or ends, and the rules that match in it are those of
 * all prefixes open there, and those that name no prefix at all.
 *
 * IPv4 lies in the IPv6 space as ::ffff:0:0/96, but an IPv6 prefix that covers
 * it, such as ::/0, is not meant for IPv4. Therefore both families are made
 * into ranges apart, and then IPv4's take their place in IPv6's.
 */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RULES_PORTS 65536
#define RULES_LENGTHS 129 /* of prefixes: 0 to 128 bits */
/* ::ffff:0:0, and behind ::ffff:255.255.255.255 */
#define RULES_IPV4_FIRST 0xffff00000000ull
#define RULES_IPV4_BEHIND 0x1000000000000ull

typedef unsigned __int128 rules_number;

/* A prefix of one rule. */
struct rules_span {
	rules_number first, last;
	uint32_t rule;
};

struct rules_open {
	rules_number last;
	struct rules_bits rules;
};

/* Ranges in the making; `ranges` has room for all that may come. */
struct rules_ranges {
	struct rules_range *ranges;
	uint32_t count;
};

static void rules_set_bit(struct rules_bits *bits, uint32_t rule)
{
	bits->word[rule / 64] |= 1ull << rule % 64;
}

static rules_number rules_number_of(const struct addr *addr)
{
	return (rules_number)rules_be64(addr->words[0], addr->words[1]) << 64 |
	       rules_be64(addr->words[2], addr->words[3]);
}

static void rules_emit(struct rules_ranges *out, rules_number first, const struct rules_bits *rules)
{
	const struct rules_range range = {.high = (uint64_t)(first >> 64), .low = (uint64_t)first, .rules = *rules};
	struct rules_range *last = out->count ? &out->ranges[out->count - 1] : NULL;

	/* prefixes that begin or end together: the last word counts */
	if (last && last->high == range.high && last->low == range.low)
		last->rules = *rules;
	else
		out->ranges[out->count++] = range;
}

/* --- addresses --- */

static int rules_compare_spans(const void *left, const void *right)
{
	const struct rules_span *a = left, *b = right;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->last == b->last ? 0 : a->last > b->last ? -1 : 1;
}

/* Sorted spans to ranges from 0 on; at most 2 * count + 1. */
static void rules_sweep(const struct rules_span *spans, uint32_t count, const struct rules_bits *always,
			struct rules_ranges *out)
{
	struct rules_open open[RULES_LENGTHS + 1]; /* what is open at once has different lengths */
	uint32_t depth = 1;

	open[0] = (struct rules_open){.last = ~(rules_number)0, .rules = *always};
	rules_emit(out, 0, always);
	for (uint32_t i = 0; i <= count; i++) {
		while (depth > 1 && (i == count || open[depth - 1].last < spans[i].first)) {
			rules_number behind = open[--depth].last + 1;

			if (behind)
				rules_emit(out, behind, &open[depth - 1].rules);
		}
		if (i == count)
			break;
		/* not the prefix of another rule once more? */
		if (!i || spans[i].first != spans[i - 1].first || spans[i].last != spans[i - 1].last) {
			open[depth] = (struct rules_open){.last = spans[i].last, .rules = open[depth - 1].rules};
			depth++;
		}
		rules_set_bit(&open[depth - 1].rules, spans[i].rule);
		rules_emit(out, spans[i].first, &open[depth - 1].rules);
	}
}

static void rules_add_span(struct rules_span *span, const struct config_prefix *prefix, uint32_t rule)
{
	rules_number behind = prefix->bits == 128 ? 0 : ~(rules_number)0 >> prefix->bits;

	span->first = rules_number_of(&prefix->addr);
	span->last = span->first | behind;
	span->rule = rule;
}

/* The ranges of IPv4 in place of what IPv6 says there. */
static void rules_join(const struct rules_ranges *ipv6, const struct rules_ranges *ipv4, struct rules_ranges *out)
{
	const struct rules_bits *behind = &ipv6->ranges[0].rules;
	uint32_t i = 0;

	for (; i < ipv6->count && !ipv6->ranges[i].high && ipv6->ranges[i].low < RULES_IPV4_BEHIND; i++) {
		behind = &ipv6->ranges[i].rules;
		if (ipv6->ranges[i].low < RULES_IPV4_FIRST)
			out->ranges[out->count++] = ipv6->ranges[i];
	}
	/* IPv4's begin at 0 with what matches always, as they were made without IPv6 */
	for (uint32_t j = 0; j < ipv4->count; j++) {
		if (j + 1 < ipv4->count && ipv4->ranges[j + 1].low <= RULES_IPV4_FIRST)
			continue;
		out->ranges[out->count] = ipv4->ranges[j];
		if (out->ranges[out->count].low < RULES_IPV4_FIRST)
			out->ranges[out->count].low = RULES_IPV4_FIRST;
		if (ipv4->ranges[j].low < RULES_IPV4_BEHIND)
			out->count++;
	}
	rules_emit(out, RULES_IPV4_BEHIND, behind);
	for (; i < ipv6->count; i++)
		rules_emit(out, (rules_number)ipv6->ranges[i].high << 64 | ipv6->ranges[i].low, &ipv6->ranges[i].rules);
}

struct rules_work {
	struct rules_span *spans[2]; /* IPv6, IPv4 */
	struct rules_ranges ranges[2];
};

static void rules_work_free(struct rules_work *work)
{
	for (int i = 0; i < 2; i++) {
		free(work->spans[i]);
		free(work->ranges[i].ranges);
	}
}

static int rules_work_create(struct rules_work *work, uint32_t prefixes)
{
	memset(work, 0, sizeof(*work));
	for (int i = 0; i < 2; i++) {
		work->spans[i] = calloc((size_t)prefixes + 1, sizeof(*work->spans[i]));
		work->ranges[i].ranges = calloc(2 * (size_t)prefixes + 2, sizeof(*work->ranges[i].ranges));
		if (work->spans[i] && work->ranges[i].ranges)
			continue;
		rules_work_free(work);
		return -ENOMEM;
	}
	return 0;
}

/* The table of one end of packets. */
static int rules_compile_addresses(const struct config_rules *rules, bool source, struct rules_ranges *out,
				   struct rules_table *table)
{
	uint32_t count[2] = {0, 0}, first_range = out->count;
	struct rules_ranges part = {.ranges = out->ranges + out->count};
	struct rules_bits always = {{0, 0}};
	struct rules_work work;
	int err = rules_work_create(&work, rules->prefix_count);

	if (err)
		return err;
	for (uint32_t r = 0; r < rules->count; r++) {
		const struct config_rule *rule = &rules->rules[r];
		uint32_t first = source ? rule->src_first : rule->dst_first;
		uint32_t prefixes = source ? rule->src_count : rule->dst_count;

		if (!prefixes)
			rules_set_bit(&always, r);
		for (uint32_t i = first; i < first + prefixes; i++) {
			int ipv4 = addr_is_ipv4(&rules->prefixes[i].addr);

			rules_add_span(&work.spans[ipv4][count[ipv4]++], &rules->prefixes[i], r);
		}
	}
	for (int i = 0; i < 2; i++) {
		qsort(work.spans[i], count[i], sizeof(*work.spans[i]), rules_compare_spans);
		rules_sweep(work.spans[i], count[i], &always, &work.ranges[i]);
	}
	if (count[0] || count[1])
		rules_join(&work.ranges[0], &work.ranges[1], &part);
	else
		rules_emit(&part, 0, &always);
	rules_work_free(&work);
	*table = (struct rules_table){.first = first_range, .count = part.count};
	out->count += part.count;
	return 0;
}

/* --- ports --- */

static void rules_cover_ports(const struct config_rules *rules, uint32_t number, int32_t *changes,
			      struct rules_bits *by_port)
{
	const struct config_rule *rule = &rules->rules[number];
	int32_t covered = rule->port_count == 0;

	memset(changes, 0, (RULES_PORTS + 1) * sizeof(*changes));
	for (uint32_t i = rule->port_first; i < rule->port_first + rule->port_count; i++) {
		changes[rules->ports[i].first]++;
		changes[rules->ports[i].last + 1]--;
	}
	for (uint32_t port = 0; port < RULES_PORTS; port++) {
		covered += changes[port];
		if (covered)
			rules_set_bit(&by_port[port], number);
	}
}

static int rules_compile_ports(const struct config_rules *rules, struct rules_ranges *out, struct rules_header *header)
{
	struct rules_bits *by_port = calloc(RULES_PORTS, sizeof(*by_port));
	int32_t *changes = malloc((RULES_PORTS + 1) * sizeof(*changes));
	struct rules_ranges part = {.ranges = out->ranges + out->count};

	if (!by_port || !changes) {
		free(by_port);
		free(changes);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < rules->count; i++) {
		rules_cover_ports(rules, i, changes, by_port);
		if (!rules->rules[i].port_count)
			rules_set_bit(&header->portless, i);
	}
	for (uint32_t port = 0; port < RULES_PORTS; port++)
		if (!port || memcmp(&by_port[port], &by_port[port - 1], sizeof(*by_port)) != 0)
			rules_emit(&part, port, &by_port[port]);
	header->port = (struct rules_table){.first = out->count, .count = part.count};
	out->count += part.count;
	free(by_port);
	free(changes);
	return 0;
}

/* --- all of it --- */

static void rules_compile_header(const struct config_rules *rules, struct rules_header *header)
{
	static const enum rules_action actions[] = {
		[CONFIG_RULE_PROXY] = RULES_PROXY,
		[CONFIG_RULE_DIRECT] = RULES_DIRECT,
		[CONFIG_RULE_DROP] = RULES_DROP,
		[CONFIG_RULE_REJECT] = RULES_REJECT,
	};
	static const enum rules_proto protos[] = {
		[CONFIG_RULE_TCP] = RULES_PROTO_TCP,
		[CONFIG_RULE_UDP] = RULES_PROTO_UDP,
		[CONFIG_RULE_ICMP] = RULES_PROTO_ICMP,
	};

	header->rule_count = rules->count;
	for (uint32_t i = 0; i < rules->count; i++) {
		const struct config_rule *rule = &rules->rules[i];

		header->action[i] = (uint8_t)actions[rule->action];
		header->upstream[i] = rule->upstream < 0 ? RULES_ANY_UPSTREAM : (uint8_t)rule->upstream;
		/* a rule for names matches no packet */
		for (int proto = 0; !rule->domain_count && proto < RULES_PROTO_COUNT; proto++)
			if (rule->proto == CONFIG_RULE_ANY || protos[rule->proto] == (enum rules_proto)proto)
				rules_set_bit(&header->proto[proto], i);
	}
}

int rules_compile(struct rules_set **out, const struct config_rules *rules)
{
	/* as RULES_MAX_RANGES, for what is really there */
	size_t room = 2 * (size_t)rules->prefix_count + 2 * (size_t)rules->port_count + 16;
	struct rules_set *set = calloc(1, sizeof(*set) + room * sizeof(set->ranges[0]));
	struct rules_ranges ranges;
	int err;

	if (!set)
		return -ENOMEM;
	ranges = (struct rules_ranges){.ranges = set->ranges};
	rules_compile_header(rules, &set->header);
	err = rules_compile_addresses(rules, true, &ranges, &set->header.src);
	if (!err)
		err = rules_compile_addresses(rules, false, &ranges, &set->header.dst);
	if (!err)
		err = rules_compile_ports(rules, &ranges, &set->header);
	if (err) {
		free(set);
		return err;
	}
	set->range_count = ranges.count;
	set->prefix_count = rules->prefix_count;
	*out = set;
	return 0;
}

void rules_free(struct rules_set *set)
{
	free(set);
}

static const struct rules_range *rules_range_of_set(const void *set, __u32 index)
{
	return &((const struct rules_set *)set)->ranges[index];
}

struct rules_verdict rules_decide(const struct rules_set *set, const struct rules_packet *packet)
{
	struct rules_verdict verdict = {.action = RULES_PROXY, .rule = RULES_NONE, .upstream = -1};

	if (!set)
		return verdict;
	verdict.rule = rules_match(rules_range_of_set, set, &set->header, packet);
	if (verdict.rule == RULES_NONE)
		return verdict;
	verdict.action = (enum rules_action)set->header.action[verdict.rule];
	if (set->header.upstream[verdict.rule] != RULES_ANY_UPSTREAM)
		verdict.upstream = set->header.upstream[verdict.rule];
	return verdict;
}
