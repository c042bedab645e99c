/* SPDX-License-Identifier: MIT */
#include "lib_rules.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ICMP 1
#define TCP 6
#define UDP 17
#define ICMPV6 58

/* xorshift64* */
uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((random_next(state) >> 32) % limit);
}

/* Few different bits, at both ends of the address and in its middle; the edges of both families among them. */
static struct addr random_addr(uint64_t *state, bool ipv4)
{
	static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff, 10, 0xfd};
	struct addr addr = {{.words = {0, 0, 0, 0}}};

	if (ipv4)
		addr = addr_from_ipv4(0);
	for (int i = ipv4 ? 12 : 0; i < 16; i++)
		if (i < 3 || i > 11 || !random_below(state, 8))
			addr.bytes[i] = bytes[random_below(state, sizeof(bytes))];
	/* near to where IPv4 lies in the space of IPv6 */
	if (!ipv4 && !random_below(state, 8)) {
		memset(addr.bytes, 0, 10);
		addr.bytes[10] = 0xff;
		addr.bytes[11] = random_below(state, 2) ? 0xfe : 0xff;
	}
	if (!ipv4 && addr_is_ipv4(&addr))
		addr.bytes[9] = 1;
	return addr;
}

static void mask(struct addr *addr, uint32_t bits)
{
	for (uint32_t i = bits; i < 128; i++)
		addr->bytes[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

static struct config_prefix random_prefix(uint64_t *state)
{
	bool ipv4 = random_below(state, 2);
	struct config_prefix prefix = {.addr = random_addr(state, ipv4)};

	prefix.bits = (uint8_t)(ipv4 ? 96 + random_below(state, 33) : random_below(state, 129));
	mask(&prefix.addr, prefix.bits);
	/* an IPv6 prefix whose address looks like one of IPv4 cannot be written */
	if (!ipv4 && addr_is_ipv4(&prefix.addr))
		return random_prefix(state);
	return prefix;
}

static void add_prefixes(struct config_rules *rules, uint64_t *state, uint32_t max, uint32_t *first, uint32_t *count)
{
	uint32_t room = max - rules->prefix_count, wanted = 1 + random_below(state, 8);

	*first = rules->prefix_count;
	*count = 0;
	if (!room || random_below(state, 3) == 0)
		return;
	/* now and then a long list */
	if (random_below(state, 16) == 0)
		wanted = 1 + random_below(state, max);
	for (; *count < wanted && *count < room; ++*count)
		rules->prefixes[rules->prefix_count++] = random_prefix(state);
}

static void add_ports(struct config_rules *rules, uint64_t *state, struct config_rule *rule)
{
	rule->port_first = rules->port_count;
	rule->port_count = random_below(state, 2) ? 1 + random_below(state, 4) : 0;
	for (uint32_t i = 0; i < rule->port_count; i++) {
		uint32_t first = 1 + random_below(state, random_below(state, 2) ? 100 : 65535);
		uint32_t last = first + random_below(state, random_below(state, 2) ? 1 : 30000);

		rules->ports[rules->port_count++] =
			(struct config_ports){(uint16_t)first, (uint16_t)(last > 65535 ? 65535 : last)};
	}
}

void rules_random(struct config_rules *out, uint64_t *state, uint32_t max_rules, uint32_t max_prefixes)
{
	memset(out, 0, sizeof(*out));
	out->count = random_below(state, max_rules + 1);
	out->rules = calloc(out->count + 1, sizeof(*out->rules));
	out->prefixes = calloc(max_prefixes + 1, sizeof(*out->prefixes));
	out->ports = calloc(out->count * 4 + 1, sizeof(*out->ports));
	for (uint32_t i = 0; i < out->count; i++) {
		struct config_rule *rule = &out->rules[i];

		add_prefixes(out, state, max_prefixes, &rule->src_first, &rule->src_count);
		add_prefixes(out, state, max_prefixes, &rule->dst_first, &rule->dst_count);
		rule->proto = (enum config_rule_proto)random_below(state, 4);
		rule->action = (enum config_rule_action)random_below(state, 4);
		rule->upstream = -1;
		if (rule->action == CONFIG_RULE_PROXY && random_below(state, 2))
			rule->upstream = (int32_t)random_below(state, CONFIG_MAX_UPSTREAMS);
		if (rule->proto == CONFIG_RULE_TCP || rule->proto == CONFIG_RULE_UDP)
			add_ports(out, state, rule);
	}
}

void config_rules_free(struct config_rules *rules)
{
	free(rules->rules);
	free(rules->prefixes);
	free(rules->ports);
}

void rules_of_prefixes(struct config_rules *out, uint32_t count, enum config_rule_action action)
{
	memset(out, 0, sizeof(*out));
	out->count = 1;
	out->rules = calloc(1, sizeof(*out->rules));
	out->prefixes = calloc(count, sizeof(*out->prefixes));
	out->prefix_count = count;
	out->rules[0] = (struct config_rule){.dst_count = count, .action = action, .upstream = -1};
	for (uint32_t i = 0; i < count; i++) {
		struct config_prefix *prefix = &out->prefixes[i];
		/* odd: spread over everything, and each number once */
		uint32_t spread = i * 2654435761u;

		if (i & 1) {
			prefix->addr = (struct addr){{.bytes = {0xfd, 0}}};
			memcpy(prefix->addr.bytes + 1, &spread, 4);
			prefix->bits = 40;
		} else {
			prefix->addr = addr_from_ipv4(be32(0x0b000000 + (spread >> 9 << 8)));
			prefix->bits = 96 + 24;
		}
	}
}

static bool inside(const struct addr *addr, const struct config_prefix *prefix)
{
	struct addr masked = *addr;

	if (addr_is_ipv4(addr) != addr_is_ipv4(&prefix->addr))
		return false;
	mask(&masked, prefix->bits);
	return addr_equal(&masked, &prefix->addr);
}

/* An address in one of the prefixes, or its neighbour before or behind; sometimes any. */
static struct addr addr_near(const struct config_rules *rules, uint64_t *state, bool ipv4)
{
	const struct config_prefix *prefix;
	struct addr addr;

	if (!rules->prefix_count || random_below(state, 8) == 0)
		return random_addr(state, ipv4);
	prefix = &rules->prefixes[random_below(state, rules->prefix_count)];
	if (addr_is_ipv4(&prefix->addr) != ipv4)
		return random_addr(state, ipv4);
	addr = prefix->addr;
	switch (random_below(state, 4)) {
	case 0: /* its first */
		break;
	case 1: /* its last */
		for (uint32_t i = prefix->bits; i < 128; i++)
			addr.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
		break;
	case 2: /* the one before */
		for (int i = 15; i >= (ipv4 ? 12 : 0) && addr.bytes[i]-- == 0; i--)
			;
		break;
	default: /* any of it */
		for (uint32_t i = prefix->bits; i < 128; i++)
			if (random_below(state, 2))
				addr.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	if (addr_is_ipv4(&addr) != ipv4)
		return random_addr(state, ipv4);
	return addr;
}

struct rules_packet rules_random_packet(const struct config_rules *rules, uint64_t *state)
{
	static const uint8_t protos[] = {TCP, TCP, TCP, UDP, UDP, ICMP, ICMPV6, 47};
	struct rules_packet packet = {.proto = protos[random_below(state, sizeof(protos))]};
	bool ipv4 = random_below(state, 2);
	uint32_t port = 1 + random_below(state, 65535);

	packet.src = addr_near(rules, state, ipv4);
	packet.dst = addr_near(rules, state, ipv4);
	if (rules->port_count && random_below(state, 4)) {
		const struct config_ports *ports = &rules->ports[random_below(state, rules->port_count)];

		port = random_below(state, 2) ? ports->first : ports->last;
		port += random_below(state, 3) - 1;
	}
	packet.has_port = (packet.proto == TCP || packet.proto == UDP) && random_below(state, 16);
	packet.dport = packet.has_port ? be16((uint16_t)port) : 0;
	return packet;
}

static bool any_inside(const struct config_rules *rules, uint32_t first, uint32_t count, const struct addr *addr)
{
	for (uint32_t i = first; i < first + count; i++)
		if (inside(addr, &rules->prefixes[i]))
			return true;
	return !count;
}

static bool proto_matches(const struct config_rule *rule, const struct rules_packet *packet)
{
	switch (rule->proto) {
	case CONFIG_RULE_TCP:
		return packet->proto == TCP;
	case CONFIG_RULE_UDP:
		return packet->proto == UDP;
	case CONFIG_RULE_ICMP:
		return packet->proto == (addr_is_ipv4(&packet->dst) ? ICMP : ICMPV6);
	default:
		return true;
	}
}

static bool port_matches(const struct config_rules *rules, const struct config_rule *rule,
			 const struct rules_packet *packet)
{
	uint16_t port = be16(packet->dport);

	if (!rule->port_count)
		return true;
	for (uint32_t i = rule->port_first; packet->has_port && i < rule->port_first + rule->port_count; i++)
		if (port >= rules->ports[i].first && port <= rules->ports[i].last)
			return true;
	return false;
}

int rules_match_plainly(const struct config_rules *rules, const struct rules_packet *packet)
{
	for (uint32_t i = 0; i < rules->count; i++) {
		const struct config_rule *rule = &rules->rules[i];

		if (proto_matches(rule, packet) && port_matches(rules, rule, packet) &&
		    any_inside(rules, rule->src_first, rule->src_count, &packet->src) &&
		    any_inside(rules, rule->dst_first, rule->dst_count, &packet->dst))
			return (int)i;
	}
	return RULES_NONE;
}
