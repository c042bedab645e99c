/* SPDX-License-Identifier: MIT */
/* The configuration reader: whatever the text, an answer with a place, or settings that are ended strings. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config_yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct config config;
	struct config_error error;

	error.text[0] = 0;
	if (config_parse((const char *)data, len, "fuzz.yml", &config, &error)) {
		assert(!strncmp(error.text, "fuzz.yml:", 9));
		return 0;
	}
	assert(config.interface_count >= 1 && config.interface_count <= CONFIG_MAX_INTERFACES);
	assert(memchr(config.upstreams[0].name, 0, sizeof(config.upstreams[0].name)));
	assert(memchr(config.upstreams[0].password, 0, sizeof(config.upstreams[0].password)));
	assert(memchr(config.control, 0, sizeof(config.control)));
	for (uint32_t i = 0; i < config.rules.count; i++) {
		const struct config_rule *rule = &config.rules.rules[i];

		assert(rule->src_first + rule->src_count <= config.rules.prefix_count);
		assert(rule->dst_first + rule->dst_count <= config.rules.prefix_count);
		assert(rule->port_first + rule->port_count <= config.rules.port_count);
		assert(rule->upstream < (int32_t)config.upstream_count);
	}
	config_release(&config);
	return 0;
}
