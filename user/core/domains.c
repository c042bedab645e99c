/* SPDX-License-Identifier: MIT */
/*
 * One hash table of all domains, with the first rule that lists each. A name is
 * hashed from its end to its front; at each dot, and at the front, the hash so
 * far is that of a domain which may be listed. So a look-up costs the length of
 * the name, whatever the number of domains.
 */
#include "domains.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DOMAINS_NO_RULE UINT16_MAX

struct domains_entry {
	uint32_t hash;
	uint32_t text; /* in `texts` */
	uint16_t bytes;
	uint16_t exact, below; /* first rule that lists the domain itself; with the names below it */
};

struct domains {
	struct domains_entry *entries;
	char *texts;
	uint32_t mask;
	uint16_t fallback; /* first rule that says nothing but an action */
	uint16_t count;
	uint8_t action[RULES_MAX];
	int32_t upstream[RULES_MAX];
};

/* FNV-1a: the domains are the administrator's, so nobody else can make them collide. */
#define DOMAINS_HASH_START 2166136261u

static uint32_t domains_hash_step(uint32_t hash, char c)
{
	return (hash ^ (uint8_t)c) * 16777619u;
}

static uint32_t domains_hash(const char *text, uint32_t bytes)
{
	uint32_t hash = DOMAINS_HASH_START;

	while (bytes--)
		hash = domains_hash_step(hash, text[bytes]);
	return hash;
}

/* The entry of this domain, or the free one where it belongs. */
static struct domains_entry *domains_slot(const struct domains *domains, uint32_t hash, const char *text,
					  uint32_t bytes)
{
	uint32_t at = hash & domains->mask;

	for (;; at = (at + 1) & domains->mask) {
		struct domains_entry *entry = &domains->entries[at];

		if (!entry->bytes || (entry->hash == hash && entry->bytes == bytes &&
				      !memcmp(domains->texts + entry->text, text, bytes)))
			return entry;
	}
}

static void domains_add(struct domains *domains, const struct config_domain *domain, uint16_t rule)
{
	const char *text = domains->texts + domain->text;
	uint32_t hash = domains_hash(text, domain->bytes);
	struct domains_entry *entry = domains_slot(domains, hash, text, domain->bytes);
	uint16_t *first = domain->below ? &entry->below : &entry->exact;

	if (!entry->bytes)
		*entry = (struct domains_entry){.hash = hash,
						.text = domain->text,
						.bytes = domain->bytes,
						.exact = DOMAINS_NO_RULE,
						.below = DOMAINS_NO_RULE};
	if (rule < *first)
		*first = rule;
}

static bool domains_is_for_all(const struct config_rule *rule)
{
	return rule->proto == CONFIG_RULE_ANY && !rule->src_count && !rule->dst_count && !rule->port_count &&
	       !rule->domain_count;
}

int domains_compile(struct domains **out, const struct config_rules *rules)
{
	static const enum rules_action actions[] = {
		[CONFIG_RULE_PROXY] = RULES_PROXY,
		[CONFIG_RULE_DIRECT] = RULES_DIRECT,
		[CONFIG_RULE_DROP] = RULES_DROP,
		[CONFIG_RULE_REJECT] = RULES_REJECT,
	};
	struct domains *domains = calloc(1, sizeof(*domains));
	uint32_t slots = 2;

	if (!domains)
		return -ENOMEM;
	/* at most half full */
	while (slots < 2 * rules->domain_count)
		slots *= 2;
	domains->mask = slots - 1;
	domains->entries = calloc(slots, sizeof(*domains->entries));
	domains->texts = malloc(rules->domain_text_bytes + 1);
	if (!domains->entries || !domains->texts) {
		domains_free(domains);
		return -ENOMEM;
	}
	if (rules->domain_text_bytes)
		memcpy(domains->texts, rules->domain_texts, rules->domain_text_bytes);
	domains->fallback = DOMAINS_NO_RULE;
	for (uint32_t r = 0; r < rules->count; r++) {
		const struct config_rule *rule = &rules->rules[r];

		domains->action[r] = (uint8_t)actions[rule->action];
		domains->upstream[r] = rule->upstream;
		if (domains->fallback == DOMAINS_NO_RULE && domains_is_for_all(rule))
			domains->fallback = (uint16_t)r;
		for (uint32_t i = 0; i < rule->domain_count; i++)
			domains_add(domains, &rules->domains[rule->domain_first + i], (uint16_t)r);
	}
	*out = domains;
	return 0;
}

void domains_free(struct domains *domains)
{
	if (!domains)
		return;
	free(domains->entries);
	free(domains->texts);
	free(domains);
}

struct rules_verdict domains_decide(const struct domains *domains, const char *name)
{
	struct rules_verdict verdict = {.action = RULES_PROXY, .rule = RULES_NONE, .upstream = -1};
	uint32_t hash = DOMAINS_HASH_START, bytes = (uint32_t)strlen(name), at = bytes;
	uint16_t first;

	if (!domains)
		return verdict;
	first = domains->fallback;
	while (at) {
		const struct domains_entry *entry;

		hash = domains_hash_step(hash, name[--at]);
		if (at && name[at - 1] != '.')
			continue;
		entry = domains_slot(domains, hash, name + at, bytes - at);
		if (!entry->bytes)
			continue;
		first = MIN(first, entry->below);
		if (!at)
			first = MIN(first, entry->exact);
	}
	if (first == DOMAINS_NO_RULE)
		return verdict;
	verdict.rule = first;
	verdict.action = (enum rules_action)domains->action[first];
	verdict.upstream = domains->upstream[first];
	return verdict;
}
