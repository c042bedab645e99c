/* SPDX-License-Identifier: MIT */
/*
 * The list `rules:` of the configuration. Its prefixes and ports, of all rules
 * together, lie in arrays that grow as they are read; a rule has a stretch of
 * each. What depends on keys that may come later in the file (upstreams,
 * enable_ebpf) is checked at the end, at the places that were noted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "config_reader.h"
#include "config_scalar.h"
#include "dns.h"

#define CONFIG_RULE_KEYS "src, dst, proto, dport, domain, action, upstream"
#define CONFIG_MAX_DOMAINS 65536

/* Room for one element more behind `count`, in steps of powers of two. */
static int rules_grow(void **array, uint32_t count, size_t element_bytes)
{
	void *grown;

	if (count & (count - 1))
		return 0;
	grown = realloc(*array, (count ? 2 * (size_t)count : 1) * element_bytes);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	return 0;
}

static int rules_out_of_memory(const struct config_reader *reader, const yaml_node_t *node)
{
	config_fail(reader, &node->start_mark, "rules: out of memory");
	return -ENOMEM;
}

/* --- single values --- */

static int rules_read_prefix(const struct config_reader *reader, const yaml_node_t *node, const char *key)
{
	struct config_rules *rules = &reader->out->rules;
	char clean[INET6_ADDRSTRLEN];
	struct config_prefix prefix = {.pad = {0}};
	struct addr masked;
	bool ipv4;

	if (!config_scalar_prefix(config_text(node), &prefix.addr, &prefix.bits))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is no prefix; ADDRESS/BITS or an address is, such as 10.0.0.0/8 or "
				   "fd00::/8",
				   key, config_text(node));
	ipv4 = !strchr(config_text(node), ':');
	if (!ipv4 && addr_is_ipv4(&prefix.addr))
		return config_fail(reader, &node->start_mark, "%s: \"%s\" is an IPv4 address; write it as one", key,
				   config_text(node));
	masked = config_scalar_mask(&prefix.addr, prefix.bits);
	if (!addr_equal(&masked, &prefix.addr)) {
		inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? (void *)&masked.words[3] : (void *)masked.bytes, clean,
			  sizeof(clean));
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" has bits set behind the prefix; %s/%u covers that, the address alone is "
				   "one host",
				   key, config_text(node), clean, prefix.bits - (ipv4 ? 96u : 0u));
	}
	if (rules->prefix_count == RULES_MAX_PREFIXES)
		return config_fail(reader, &node->start_mark, "rules: more than %d prefixes in all",
				   RULES_MAX_PREFIXES);
	if (rules_grow((void **)&rules->prefixes, rules->prefix_count, sizeof(prefix)))
		return rules_out_of_memory(reader, node);
	rules->prefixes[rules->prefix_count++] = prefix;
	return 0;
}

static int rules_read_port(const struct config_reader *reader, const yaml_node_t *node, const char *key)
{
	struct config_rules *rules = &reader->out->rules;
	struct config_ports ports;

	if (!config_scalar_port_or_ports(config_text(node), &ports.first, &ports.last))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is no port; a number from 1 to 65535 or FIRST-LAST is, such as 443 or "
				   "8000-8100",
				   key, config_text(node));
	if (rules->port_count == RULES_MAX_PORT_RANGES)
		return config_fail(reader, &node->start_mark, "rules: more than %d ports and ranges of ports in all",
				   RULES_MAX_PORT_RANGES);
	if (rules_grow((void **)&rules->ports, rules->port_count, sizeof(ports)))
		return rules_out_of_memory(reader, node);
	rules->ports[rules->port_count++] = ports;
	return 0;
}

/* .NAME: with the names below it. */
static int rules_read_domain(const struct config_reader *reader, const yaml_node_t *node, const char *key)
{
	struct config_rules *rules = &reader->out->rules;
	const char *text = config_text(node);
	struct config_domain domain = {.text = rules->domain_text_bytes, .below = *text == '.'};
	uint8_t wire[DNS_NAME_BYTES];
	char name[DNS_TEXT_BYTES];

	if (strlen(text) != node->data.scalar.length || !dns_name_from_text(text + domain.below, wire) ||
	    !dns_name_text(wire, name))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is no name; host.example is, or .example for it and all names below it",
				   key, text);
	if (rules->domain_count == CONFIG_MAX_DOMAINS)
		return config_fail(reader, &node->start_mark, "rules: more than %d domains in all", CONFIG_MAX_DOMAINS);
	domain.bytes = (uint8_t)strlen(name);
	if (rules_grow((void **)&rules->domains, rules->domain_count, sizeof(domain)))
		return rules_out_of_memory(reader, node);
	for (uint32_t i = 0; i < domain.bytes; i++) {
		if (rules_grow((void **)&rules->domain_texts, rules->domain_text_bytes, 1))
			return rules_out_of_memory(reader, node);
		rules->domain_texts[rules->domain_text_bytes++] = name[i];
	}
	rules->domains[rules->domain_count++] = domain;
	return 0;
}

typedef int rules_read_one(const struct config_reader *reader, const yaml_node_t *node, const char *key);

/* One value, or a list of them. */
static int rules_read_list(const struct config_reader *reader, const yaml_node_t *node, const char *key,
			   rules_read_one *read_one)
{
	int err = 0;

	if (node->type == YAML_SCALAR_NODE)
		return read_one(reader, node, key);
	if (node->type != YAML_SEQUENCE_NODE)
		return config_fail(reader, &node->start_mark, "%s: one value or a list of values is expected here",
				   key);
	if (node->data.sequence.items.start == node->data.sequence.items.top)
		return config_fail(reader, &node->start_mark,
				   "%s: must not be empty; leave the key out to match everything", key);
	for (yaml_node_item_t *item = node->data.sequence.items.start; !err && item < node->data.sequence.items.top;
	     item++) {
		const yaml_node_t *element = yaml_document_get_node(reader->document, *item);

		if (element->type != YAML_SCALAR_NODE)
			return config_fail(reader, &element->start_mark, "%s: a single value is expected here", key);
		err = read_one(reader, element, key);
	}
	return err;
}

/* Index of a word in a list that ends with NULL, -1 with an error. */
static int rules_read_word(const struct config_reader *reader, const yaml_node_t *node, const char *key,
			   const char *const words[], const char *allowed)
{
	if (node->type == YAML_SCALAR_NODE)
		for (int i = 0; words[i]; i++)
			if (!strcmp(words[i], config_text(node)))
				return i;
	config_fail(reader, &node->start_mark, "%s: \"%s\" is not allowed; one of %s is", key,
		    node->type == YAML_SCALAR_NODE ? config_text(node) : "...", allowed);
	return -1;
}

/* --- one rule --- */

static int rules_read_prefixes(const struct config_reader *reader, const yaml_node_t *value, const char *key,
			       uint32_t *first, uint32_t *count)
{
	int err;

	*first = reader->out->rules.prefix_count;
	err = rules_read_list(reader, value, key, rules_read_prefix);
	*count = reader->out->rules.prefix_count - *first;
	return err;
}

static int rules_read_ports(const struct config_reader *reader, const yaml_node_t *value, uint32_t number,
			    struct config_rule *rule)
{
	int err;

	reader->rules->dport[number] = value->start_mark;
	rule->port_first = reader->out->rules.port_count;
	err = rules_read_list(reader, value, "dport", rules_read_port);
	rule->port_count = reader->out->rules.port_count - rule->port_first;
	return err;
}

static int rules_read_domains(const struct config_reader *reader, const yaml_node_t *value, uint32_t number,
			      struct config_rule *rule)
{
	int err;

	reader->rules->domain[number] = value->start_mark;
	rule->domain_first = reader->out->rules.domain_count;
	err = rules_read_list(reader, value, "domain", rules_read_domain);
	rule->domain_count = reader->out->rules.domain_count - rule->domain_first;
	return err;
}

static int rules_read_proto(const struct config_reader *reader, const yaml_node_t *value, struct config_rule *rule)
{
	static const char *const words[] = {"tcp", "udp", "icmp", NULL};
	int which = rules_read_word(reader, value, "proto", words, "tcp | udp | icmp");

	rule->proto = (enum config_rule_proto)(CONFIG_RULE_TCP + which);
	return which < 0 ? -EINVAL : 0;
}

static int rules_read_action(const struct config_reader *reader, const yaml_node_t *value, uint32_t number,
			     struct config_rule *rule)
{
	static const char *const words[] = {"proxy", "direct", "drop", "reject", NULL};
	int which = rules_read_word(reader, value, "action", words, "proxy | direct | drop | reject");

	reader->rules->action[number] = value->start_mark;
	rule->action = (enum config_rule_action)which;
	return which < 0 ? -EINVAL : 0;
}

static int rules_read_upstream(const struct config_reader *reader, const yaml_node_t *value, uint32_t number)
{
	if (value->type != YAML_SCALAR_NODE)
		return config_fail(reader, &value->start_mark, "upstream: the name of one upstream is expected here");
	reader->rules->upstream[number] = value->start_mark;
	reader->rules->upstream_name[number] = config_text(value);
	return 0;
}

static int rules_read_key(const struct config_reader *reader, const yaml_node_t *name, const yaml_node_t *value,
			  uint32_t number, struct config_rule *rule)
{
	const char *key = config_text(name);

	if (!strcmp(key, "src"))
		return rules_read_prefixes(reader, value, key, &rule->src_first, &rule->src_count);
	if (!strcmp(key, "dst"))
		return rules_read_prefixes(reader, value, key, &rule->dst_first, &rule->dst_count);
	if (!strcmp(key, "proto"))
		return rules_read_proto(reader, value, rule);
	if (!strcmp(key, "dport"))
		return rules_read_ports(reader, value, number, rule);
	if (!strcmp(key, "action"))
		return rules_read_action(reader, value, number, rule);
	if (!strcmp(key, "upstream"))
		return rules_read_upstream(reader, value, number);
	if (!strcmp(key, "domain"))
		return rules_read_domains(reader, value, number, rule);
	return config_fail(reader, &name->start_mark, "unknown key \"%s\" in a rule; known: %s", key, CONFIG_RULE_KEYS);
}

static int rules_check_duplicate(const struct config_reader *reader, const yaml_node_t *node,
				 const yaml_node_pair_t *pair)
{
	const yaml_node_t *name = yaml_document_get_node(reader->document, pair->key);

	for (yaml_node_pair_t *other = node->data.mapping.pairs.start; other < pair; other++) {
		const yaml_node_t *earlier = yaml_document_get_node(reader->document, other->key);

		if (!strcmp(config_text(earlier), config_text(name)))
			return config_fail(reader, &name->start_mark,
					   "duplicate key \"%s\"; it is already set in line %zu", config_text(name),
					   earlier->start_mark.line + 1);
	}
	return 0;
}

static int rules_read_rule(const struct config_reader *reader, const yaml_node_t *node, uint32_t number,
			   struct config_rule *rule)
{
	if (node->type != YAML_MAPPING_NODE)
		return config_fail(reader, &node->start_mark,
				   "rules: keys with values are expected here, such as "
				   "{ dst: 10.0.0.0/8, action: direct }");
	*rule = (struct config_rule){.action = (enum config_rule_action) - 1, .upstream = -1};
	reader->rules->rule[number] = node->start_mark;
	reader->rules->upstream_name[number] = NULL;
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name = yaml_document_get_node(reader->document, pair->key);
		int err;

		if (name->type != YAML_SCALAR_NODE)
			return config_fail(reader, &name->start_mark, "rules: a key must be a plain word");
		err = rules_check_duplicate(reader, node, pair);
		if (!err)
			err = rules_read_key(reader, name, yaml_document_get_node(reader->document, pair->value),
					     number, rule);
		if (err)
			return err;
	}
	if (rule->action == (enum config_rule_action) - 1)
		return config_fail(reader, &node->start_mark,
				   "key \"action\" is missing in a rule; proxy, direct, drop or reject");
	if (rule->port_count && rule->proto != CONFIG_RULE_TCP && rule->proto != CONFIG_RULE_UDP)
		return config_fail(reader, &reader->rules->dport[number], "dport: only with proto: tcp or proto: udp");
	if (rule->domain_count && (rule->src_count || rule->dst_count || rule->proto != CONFIG_RULE_ANY))
		return config_fail(reader, &reader->rules->domain[number],
				   "domain: goes with action and upstream alone; what src, dst, proto and dport say is "
				   "about packets, which have no name");
	if (reader->rules->upstream_name[number] && rule->action != CONFIG_RULE_PROXY)
		return config_fail(reader, &reader->rules->upstream[number], "upstream: only with action: proxy");
	return 0;
}

int config_rules_read(const struct config_reader *reader, const yaml_node_t *node)
{
	struct config_rules *rules = &reader->out->rules;

	if (node->type != YAML_SEQUENCE_NODE)
		return config_fail(reader, &node->start_mark,
				   "rules: a list is expected here, such as [ { dst: 10.0.0.0/8, action: direct } ]");
	for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
		const yaml_node_t *element = yaml_document_get_node(reader->document, *item);
		int err;

		if (rules->count == RULES_MAX)
			return config_fail(reader, &element->start_mark, "rules: at most %d are allowed", RULES_MAX);
		if (rules_grow((void **)&rules->rules, rules->count, sizeof(*rules->rules)))
			return rules_out_of_memory(reader, node);
		err = rules_read_rule(reader, element, rules->count, &rules->rules[rules->count]);
		if (err)
			return err;
		rules->count++;
	}
	return 0;
}

/* --- what depends on other keys --- */

static int rules_find_upstream(const struct config_reader *reader, uint32_t number, struct config_rule *rule)
{
	const char *name = reader->rules->upstream_name[number];

	if (!name)
		return 0;
	for (uint32_t i = 0; i < reader->out->upstream_count; i++)
		if (!strcmp(reader->out->upstreams[i].name, name)) {
			rule->upstream = (int32_t)i;
			return 0;
		}
	return config_fail(reader, &reader->rules->upstream[number], "upstream: no upstream is named \"%s\"", name);
}

int config_rules_check(const struct config_reader *reader)
{
	struct config_rules *rules = &reader->out->rules;

	for (uint32_t i = 0; i < rules->count; i++) {
		struct config_rule *rule = &rules->rules[i];
		int err = rules_find_upstream(reader, i, rule);

		if (err)
			return err;
		if (rule->domain_count && !config_dns_is_on(&reader->out->dns))
			return config_fail(reader, &reader->rules->domain[i],
					   "domain: needs `dns`: without it no packet has a name");
		if (reader->out->performance.enable_ebpf || rule->action == CONFIG_RULE_PROXY)
			continue;
		/* user space sees TCP only, and cannot give a packet back to the kernel */
		if (rule->action == CONFIG_RULE_DIRECT)
			return config_fail(reader, &reader->rules->action[i],
					   "action: direct needs performance.enable_ebpf: true");
		if (rule->proto != CONFIG_RULE_TCP && !rule->domain_count)
			return config_fail(reader, &reader->rules->rule[i],
					   "action: %s without performance.enable_ebpf is possible for TCP only; add "
					   "proto: tcp",
					   rule->action == CONFIG_RULE_DROP ? "drop" : "reject");
	}
	return 0;
}
