/* SPDX-License-Identifier: MIT */
/* By the table of keys: a key that is added there is compared here. */
#include "config_diff.h"

#include <stdio.h>
#include <string.h>

#include "config_keys.h"

#define CONFIG_DIFF_NAME_BYTES 128

struct config_diff_walk {
	void (*each)(void *ctx, const char *key, bool live);
	void *ctx;
};

static bool config_same_array(const void *a, const void *b, uint32_t count_a, uint32_t count_b, size_t element_bytes)
{
	return count_a == count_b && (!count_a || !memcmp(a, b, count_a * element_bytes));
}

/* The arrays are in the order of the file, so what is the same text has the same bytes. */
static bool config_same_rules(const struct config_rules *a, const struct config_rules *b)
{
	return config_same_array(a->rules, b->rules, a->count, b->count, sizeof(*a->rules)) &&
	       config_same_array(a->prefixes, b->prefixes, a->prefix_count, b->prefix_count, sizeof(*a->prefixes)) &&
	       config_same_array(a->ports, b->ports, a->port_count, b->port_count, sizeof(*a->ports)) &&
	       config_same_array(a->domains, b->domains, a->domain_count, b->domain_count, sizeof(*a->domains)) &&
	       config_same_array(a->domain_texts, b->domain_texts, a->domain_text_bytes, b->domain_text_bytes, 1);
}

static bool config_same_mapping(const char *a, const char *b, const struct config_key *keys);

static bool config_same_list(const char *a, const char *b, const struct config_key *key)
{
	uint32_t count_a, count_b;

	memcpy(&count_a, a + key->count_offset, sizeof(count_a));
	memcpy(&count_b, b + key->count_offset, sizeof(count_b));
	if (count_a != count_b)
		return false;
	if (key->kind == CONFIG_KIND_ADDRESSES)
		return !memcmp(a + key->offset, b + key->offset, count_a * sizeof(struct addr));
	for (uint32_t i = 0; i < count_a; i++)
		if (!config_same_mapping(a + key->offset + i * key->size, b + key->offset + i * key->size, key->keys))
			return false;
	return true;
}

static bool config_same(const char *a, const char *b, const struct config_key *key)
{
	switch (key->kind) {
	case CONFIG_KIND_NOT_YET:
	case CONFIG_KIND_TRUE:
		return true;
	case CONFIG_KIND_MAPPING:
		return config_same_mapping(a + key->offset, b + key->offset, key->keys);
	case CONFIG_KIND_SEQUENCE:
	case CONFIG_KIND_ADDRESSES:
		return config_same_list(a, b, key);
	case CONFIG_KIND_RULES:
		return config_same_rules((const struct config_rules *)(a + key->offset),
					 (const struct config_rules *)(b + key->offset));
	case CONFIG_KIND_SERVER:
		return !memcmp(a + key->offset, b + key->offset, key->size) &&
		       !strcmp(a + key->count_offset, b + key->count_offset);
	default:
		return key->offset == CONFIG_NO_TARGET || !memcmp(a + key->offset, b + key->offset, key->size);
	}
}

static bool config_same_mapping(const char *a, const char *b, const struct config_key *keys)
{
	for (; keys->name; keys++)
		if (!config_same(a, b, keys))
			return false;
	return true;
}

static void config_diff_mapping(const struct config_diff_walk *walk, const char *a, const char *b,
				const struct config_key *keys, const char *prefix)
{
	char name[CONFIG_DIFF_NAME_BYTES];

	for (; keys->name; keys++) {
		snprintf(name, sizeof(name), "%s%s", prefix, keys->name);
		if (keys->kind == CONFIG_KIND_MAPPING) {
			strncat(name, ".", sizeof(name) - strlen(name) - 1);
			config_diff_mapping(walk, a + keys->offset, b + keys->offset, keys->keys, name);
		} else if (!config_same(a, b, keys)) {
			walk->each(walk->ctx, name, keys->live);
		}
	}
}

void config_diff(const struct config *before, const struct config *after,
		 void (*each)(void *ctx, const char *key, bool live), void *ctx)
{
	const struct config_diff_walk walk = {each, ctx};

	config_diff_mapping(&walk, (const char *)before, (const char *)after, config_root_keys, "");
}
