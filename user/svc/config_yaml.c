/* SPDX-License-Identifier: MIT */
#include "config_yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "config_keys.h"
#include "config_password.h"
#include "config_reader.h"
#include "config_scalar.h"

/* As many prefixes as rules may have, in IPv6 and one to a line, need half of it. */
#define CONFIG_MAX_FILE_BYTES (8u << 20)

#define SECOND 1000000000ull

const struct config config_defaults = {
	.on_down = CONFIG_ON_DOWN_DROP,
	.tcp = {.accept = CONFIG_ACCEPT_DEFERRED,
		.connect_timeout_ns = 10 * SECOND,
		.handshake_timeout_ns = 10 * SECOND,
		.idle_timeout_ns = 7200 * SECOND,
		.linger_ns = 2 * SECOND,
		.max_flows = 65536,
		.half_open = 4096,
		.half_open_per_source = 256},
	.udp = {.idle_timeout_ns = 60 * SECOND, .max_flows = 65536, .per_client = 1024},
	.bpf_pin = "/sys/fs/bpf/socksplice",
	.upstreams = {[0 ... CONFIG_MAX_UPSTREAMS - 1] = {.ports = {10000, 40000},
							  .weight = 1,
							  .backoff_ns = 5 * SECOND,
							  .pool_max_age_ns = 30 * SECOND}},
	.dns = {.cache = 10000},
	.state = "/var/lib/socksplice",
	.control = "/run/socksplice/control.sock",
	.log_level = CONFIG_LOG_INFO,
	.log_file = "stderr",
	.performance = {.enable_batch_processing = true,
			.enable_cpu_affinity = true,
			.enable_simd = true,
			.enable_ebpf = true,
			.enable_connection_pool = true,
			.batch_size = 32,
			.memory_pool_size = 32768,
			.connection_pool_size = 128,
			.io_uring_entries = 256},
};

int config_fail(const struct config_reader *reader, const yaml_mark_t *mark, const char *fmt, ...)
{
	char *text = reader->error->text;
	int used = snprintf(text, CONFIG_ERROR_BYTES, "%s:%zu:%zu: ", reader->name, mark->line + 1, mark->column + 1);
	va_list args;

	va_start(args, fmt);
	if (used >= 0 && used < CONFIG_ERROR_BYTES)
		vsnprintf(text + used, (size_t)(CONFIG_ERROR_BYTES - used), fmt, args);
	va_end(args);
	return -EINVAL;
}

static int config_read_mapping(const struct config_reader *reader, const yaml_node_t *node,
			       const struct config_key *keys, void *target, const char *what);

/* --- scalars --- */

static int config_read_uint(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			    void *target)
{
	bool power = key->kind == CONFIG_KIND_POWER_OF_TWO;
	uint32_t value;

	if (!config_scalar_uint(config_text(node), &value) || value < key->min || value > key->max ||
	    (power && (value & (value - 1))))
		return config_fail(
			reader, &node->start_mark,
			"%s: \"%s\" is not allowed; a %s from %llu to %llu, decimal and without leading zeros, is",
			key->name, config_text(node), power ? "power of two" : "number", (unsigned long long)key->min,
			(unsigned long long)key->max);
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_duration(const struct config_reader *reader, const yaml_node_t *node,
				const struct config_key *key, void *target)
{
	uint64_t value;

	if (!config_scalar_duration(config_text(node), &value))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is no duration; a number with ms, s, m or h is, such as 10s", key->name,
				   config_text(node));
	if (value < key->min || value > key->max)
		return config_fail(reader, &node->start_mark, "%s: %s is out of range; %llums to %llus is allowed",
				   key->name, config_text(node), (unsigned long long)(key->min / 1000000),
				   (unsigned long long)(key->max / 1000000000));
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_bool(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			    void *target)
{
	bool value;

	if (!config_scalar_bool(config_text(node), &value))
		return config_fail(reader, &node->start_mark, "%s: \"%s\" is not allowed; true or false is", key->name,
				   config_text(node));
	if (key->kind == CONFIG_KIND_BOOL)
		memcpy(target, &value, sizeof(value));
	else if (!value)
		return config_fail(reader, &node->start_mark, "%s: false: not in this build yet; true is", key->name);
	return 0;
}

static int config_read_choice(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			      void *target)
{
	char allowed[128] = "";

	for (const struct config_choice *choice = key->choices; choice->text; choice++) {
		if (!strcmp(choice->text, config_text(node))) {
			if (choice->value == CONFIG_CHOICE_NOT_YET)
				return config_fail(reader, &node->start_mark, "%s: %s: not in this build yet",
						   key->name, choice->text);
			if (key->offset != CONFIG_NO_TARGET)
				memcpy(target, &choice->value, sizeof(choice->value));
			return 0;
		}
		if (choice->value != CONFIG_CHOICE_NOT_YET) {
			strncat(allowed, allowed[0] ? " | " : "", sizeof(allowed) - strlen(allowed) - 1);
			strncat(allowed, choice->text, sizeof(allowed) - strlen(allowed) - 1);
		}
	}
	return config_fail(reader, &node->start_mark, "%s: \"%s\" is not allowed; one of %s is", key->name,
			   config_text(node), allowed);
}

static int config_read_string(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			      void *target)
{
	const char *text = config_text(node);

	if (key->empty_word && !strcmp(text, key->empty_word))
		text = "";
	else if (!*text)
		return config_fail(reader, &node->start_mark, "%s: must not be empty", key->name);
	if (strlen(text) != node->data.scalar.length && !(key->empty_word && !*text))
		return config_fail(reader, &node->start_mark, "%s: must not contain a zero byte", key->name);
	if (strlen(text) >= key->size)
		return config_fail(reader, &node->start_mark, "%s: too long; at most %zu bytes are allowed", key->name,
				   key->size - 1);
	memset(target, 0, key->size);
	memcpy(target, text, strlen(text));
	return 0;
}

static int config_read_endpoint(const struct config_reader *reader, const yaml_node_t *node,
				const struct config_key *key, void *target)
{
	struct endpoint value;

	if (!config_scalar_endpoint(config_text(node), &value))
		return config_fail(
			reader, &node->start_mark,
			"%s: \"%s\" is no address with port; ADDRESS:PORT or \"[IPV6]:PORT\" with a port from 1 to "
			"65535 is",
			key->name, config_text(node));
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_server(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			      char *base)
{
	char host[CONFIG_MAX_HOST + 1] = "";
	struct endpoint value = {0};

	if (node->type != YAML_SCALAR_NODE)
		return config_fail(reader, &node->start_mark, "%s: a single value is expected here", key->name);
	if (strlen(config_text(node)) != node->data.scalar.length ||
	    (!config_scalar_endpoint(config_text(node), &value) &&
	     !config_scalar_host(config_text(node), host, &value.port)))
		return config_fail(
			reader, &node->start_mark,
			"%s: \"%s\" is no address with port; ADDRESS:PORT, \"[IPV6]:PORT\" or NAME:PORT with a port "
			"from 1 to 65535 is",
			key->name, config_text(node));
	memcpy(base + key->offset, &value, sizeof(value));
	memcpy(base + key->count_offset, host, sizeof(host));
	return 0;
}

static int config_read_ports(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			     void *target)
{
	struct config_ports value;

	if (!config_scalar_ports(config_text(node), &value.first, &value.last))
		return config_fail(
			reader, &node->start_mark,
			"%s: \"%s\" is no range of ports; FIRST-LAST from 1 to 65535 is, such as 10000-40000",
			key->name, config_text(node));
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_prefix(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			      void *target)
{
	struct config_prefix value = {.pad = {0}};
	struct addr masked;

	if (!config_scalar_prefix(config_text(node), &value.addr, &value.bits))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is no prefix; ADDRESS/BITS is, such as 198.18.0.0/15 or \"fc00:5::/96\"",
				   key->name, config_text(node));
	masked = config_scalar_mask(&value.addr, value.bits);
	if (!addr_equal(&masked, &value.addr))
		return config_fail(reader, &node->start_mark, "%s: \"%s\" has bits set behind the prefix", key->name,
				   config_text(node));
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_udp_address(const struct config_reader *reader, const yaml_node_t *node,
				   const struct config_key *key, void *target)
{
	struct config_udp_relay value = {.mode = CONFIG_UDP_ADDRESS_FIXED};
	const char *text = config_text(node);

	if (!strcmp(text, "auto"))
		value.mode = CONFIG_UDP_ADDRESS_AUTO;
	else if (!strcmp(text, "as-told"))
		value.mode = CONFIG_UDP_ADDRESS_AS_TOLD;
	else if (!config_scalar_addr(text, &value.addr))
		return config_fail(reader, &node->start_mark,
				   "%s: \"%s\" is not allowed; auto, as-told, or an IPv4 or IPv6 address is", key->name,
				   text);
	memcpy(target, &value, sizeof(value));
	return 0;
}

static int config_read_scalar(const struct config_reader *reader, const yaml_node_t *node, const struct config_key *key,
			      void *target)
{
	if (node->type != YAML_SCALAR_NODE)
		return config_fail(reader, &node->start_mark, "%s: a single value is expected here", key->name);
	switch (key->kind) {
	case CONFIG_KIND_UINT:
	case CONFIG_KIND_POWER_OF_TWO:
		return config_read_uint(reader, node, key, target);
	case CONFIG_KIND_DURATION:
		return config_read_duration(reader, node, key, target);
	case CONFIG_KIND_BOOL:
	case CONFIG_KIND_TRUE:
		return config_read_bool(reader, node, key, target);
	case CONFIG_KIND_CHOICE:
		return config_read_choice(reader, node, key, target);
	case CONFIG_KIND_ENDPOINT:
		return config_read_endpoint(reader, node, key, target);
	case CONFIG_KIND_PREFIX:
		return config_read_prefix(reader, node, key, target);
	case CONFIG_KIND_PORTS:
		return config_read_ports(reader, node, key, target);
	case CONFIG_KIND_UDP_ADDRESS:
		return config_read_udp_address(reader, node, key, target);
	default:
		return config_read_string(reader, node, key, target);
	}
}

/* --- structure --- */

static int config_read_sequence(const struct config_reader *reader, const yaml_node_t *node,
				const struct config_key *key, char *base)
{
	uint32_t count = 0;

	if (node->type != YAML_SEQUENCE_NODE)
		return config_fail(reader, &node->start_mark, "%s: a list is expected here, such as [ { name: ... } ]",
				   key->name);
	for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
		const yaml_node_t *element = yaml_document_get_node(reader->document, *item);
		int err;

		if (count == key->max)
			return config_fail(reader, &element->start_mark, "%s: at most %llu are allowed", key->name,
					   (unsigned long long)key->max);
		err = config_read_mapping(reader, element, key->keys, base + key->offset + count * key->size,
					  key->name);
		if (err)
			return err;
		count++;
	}
	if (!count)
		return config_fail(reader, &node->start_mark, "%s: must not be empty", key->name);
	if (key->count_offset != CONFIG_NO_TARGET)
		memcpy(base + key->count_offset, &count, sizeof(count));
	return 0;
}

static int config_read_addresses(const struct config_reader *reader, const yaml_node_t *node,
				 const struct config_key *key, char *base)
{
	uint32_t count = 0;

	if (node->type != YAML_SEQUENCE_NODE)
		return config_fail(reader, &node->start_mark,
				   "%s: a list of addresses is expected here, such as [ 10.0.0.1 ]", key->name);
	for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
		const yaml_node_t *element = yaml_document_get_node(reader->document, *item);
		struct addr addr;

		if (count == key->max)
			return config_fail(reader, &element->start_mark, "%s: at most %llu are allowed", key->name,
					   (unsigned long long)key->max);
		if (element->type != YAML_SCALAR_NODE || !config_scalar_addr(config_text(element), &addr))
			return config_fail(reader, &element->start_mark, "%s: \"%s\" is no IPv4 or IPv6 address",
					   key->name, element->type == YAML_SCALAR_NODE ? config_text(element) : "...");
		memcpy(base + key->offset + count * sizeof(addr), &addr, sizeof(addr));
		count++;
	}
	memcpy(base + key->count_offset, &count, sizeof(count));
	return 0;
}

static void config_note_mark(const struct config_reader *reader, const struct config_key *key, const char *base,
			     const yaml_mark_t *at)
{
	struct config_marks *marks = reader->marks;

	if (!marks || marks->count == CONFIG_MAX_MARKS)
		return;
	marks->marks[marks->count++] = (struct config_mark){.key = key->name,
							    .base = (size_t)(base - (const char *)reader->out),
							    .line = (uint32_t)at->line + 1,
							    .column = (uint32_t)at->column + 1};
}

const struct config_mark *config_marks_find(const struct config_marks *marks, const char *key, size_t base)
{
	for (uint32_t i = 0; i < marks->count; i++)
		if (marks->marks[i].base == base && !strcmp(marks->marks[i].key, key))
			return &marks->marks[i];
	return NULL;
}

static int config_read_value(const struct config_reader *reader, const yaml_node_t *name, const yaml_node_t *value,
			     const struct config_key *key, char *base)
{
	config_note_mark(reader, key, base, &value->start_mark);
	switch (key->kind) {
	case CONFIG_KIND_NOT_YET:
		return config_fail(reader, &name->start_mark, "%s: not in this build yet", key->name);
	case CONFIG_KIND_MAPPING:
		return config_read_mapping(reader, value, key->keys, base + key->offset, key->name);
	case CONFIG_KIND_SEQUENCE:
		return config_read_sequence(reader, value, key, base);
	case CONFIG_KIND_ADDRESSES:
		return config_read_addresses(reader, value, key, base);
	case CONFIG_KIND_SERVER:
		return config_read_server(reader, value, key, base);
	case CONFIG_KIND_RULES:
		return config_rules_read(reader, value);
	default:
		return config_read_scalar(reader, value, key,
					  key->offset == CONFIG_NO_TARGET ? NULL : base + key->offset);
	}
}

static const struct config_key *config_find_key(const struct config_key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (!strcmp(keys->name, name))
			return keys;
	return NULL;
}

static int config_unknown_key(const struct config_reader *reader, const yaml_node_t *name,
			      const struct config_key *keys, const char *what)
{
	char known[256] = "";

	for (; keys->name; keys++) {
		if (keys->kind == CONFIG_KIND_NOT_YET)
			continue;
		strncat(known, known[0] ? ", " : "", sizeof(known) - strlen(known) - 1);
		strncat(known, keys->name, sizeof(known) - strlen(known) - 1);
	}
	return config_fail(reader, &name->start_mark, "unknown key \"%s\" in %s; known: %s", config_text(name), what,
			   known);
}

/* The same name earlier in this mapping? */
static const yaml_node_t *config_earlier(const struct config_reader *reader, const yaml_node_t *node,
					 const yaml_node_pair_t *pair)
{
	const char *name = config_text(yaml_document_get_node(reader->document, pair->key));

	for (yaml_node_pair_t *other = node->data.mapping.pairs.start; other < pair; other++) {
		const yaml_node_t *key = yaml_document_get_node(reader->document, other->key);

		if (key->type == YAML_SCALAR_NODE && !strcmp(config_text(key), name))
			return key;
	}
	return NULL;
}

static int config_read_pair(const struct config_reader *reader, const yaml_node_t *node, const yaml_node_pair_t *pair,
			    const struct config_key *keys, char *base, const char *what)
{
	const yaml_node_t *name = yaml_document_get_node(reader->document, pair->key), *earlier;
	const struct config_key *key;

	if (name->type != YAML_SCALAR_NODE)
		return config_fail(reader, &name->start_mark, "%s: a key must be a plain word", what);
	key = config_find_key(keys, config_text(name));
	if (!key)
		return config_unknown_key(reader, name, keys, what);
	earlier = config_earlier(reader, node, pair);
	if (earlier)
		return config_fail(reader, &name->start_mark, "duplicate key \"%s\"; it is already set in line %zu",
				   key->name, earlier->start_mark.line + 1);
	return config_read_value(reader, name, yaml_document_get_node(reader->document, pair->value), key, base);
}

static int config_check_required(const struct config_reader *reader, const yaml_node_t *node,
				 const struct config_key *keys, const char *what)
{
	for (; keys->name; keys++) {
		bool found = !keys->required;

		for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
		     !found && pair < node->data.mapping.pairs.top; pair++)
			found = !strcmp(config_text(yaml_document_get_node(reader->document, pair->key)), keys->name);
		if (!found)
			return config_fail(reader, &node->start_mark, "key \"%s\" is missing in %s", keys->name, what);
	}
	return 0;
}

static int config_read_mapping(const struct config_reader *reader, const yaml_node_t *node,
			       const struct config_key *keys, void *target, const char *what)
{
	int err = 0;

	if (node->type != YAML_MAPPING_NODE)
		return config_fail(reader, &node->start_mark, "%s: keys with values are expected here", what);
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; !err && pair < node->data.mapping.pairs.top;
	     pair++)
		err = config_read_pair(reader, node, pair, keys, target, what);
	return err ? err : config_check_required(reader, node, keys, what);
}

/* --- what no single key can tell --- */

/* Where the `index`th element of a list of the root stands. */
static const yaml_mark_t *config_element_mark(const struct config_reader *reader, const yaml_node_t *root,
					      const char *name, uint32_t index)
{
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
		const yaml_node_t *value = yaml_document_get_node(reader->document, pair->value);

		if (!strcmp(config_text(key), name))
			return &yaml_document_get_node(reader->document, value->data.sequence.items.start[index])
					->start_mark;
	}
	return &root->start_mark;
}

static int config_check_credentials(const struct config_reader *reader, const yaml_mark_t *mark,
				    const struct config_upstream *upstream)
{
	if (upstream->password[0] && upstream->password_file[0])
		return config_fail(reader, mark, "upstreams: \"%s\": password and password-file exclude each other",
				   upstream->name);
	if (!upstream->username[0] && (upstream->password[0] || upstream->password_file[0]))
		return config_fail(reader, mark,
				   "upstreams: \"%s\": username and password go together; username is missing",
				   upstream->name);
	if (upstream->username[0] && !upstream->password[0] && !upstream->password_file[0])
		return config_fail(reader, mark,
				   "upstreams: \"%s\": username and password (or password-file) go together; password "
				   "is missing",
				   upstream->name);
	return 0;
}

static int config_check_upstream(const struct config_reader *reader, const yaml_node_t *root, uint32_t index)
{
	const struct config_upstream *upstream = &reader->out->upstreams[index];
	const yaml_mark_t *mark = config_element_mark(reader, root, "upstreams", index);

	for (uint32_t i = 0; i < index; i++)
		if (!strcmp(reader->out->upstreams[i].name, upstream->name))
			return config_fail(reader, mark, "upstreams: \"%s\" is listed twice; each name must be another",
					   upstream->name);
	for (uint32_t i = 0; i < upstream->source_count; i++)
		if (!upstream->host[0] && addr_is_ipv4(&upstream->sources[i]) != addr_is_ipv4(&upstream->server.addr))
			return config_fail(reader, mark,
					   "upstreams: \"%s\": sources must be of the server's address family",
					   upstream->name);
	for (uint32_t i = 1; i < upstream->source_count; i++)
		if (addr_is_ipv4(&upstream->sources[i]) != addr_is_ipv4(&upstream->sources[0]))
			return config_fail(reader, mark, "upstreams: \"%s\": sources must be of one address family",
					   upstream->name);
	return config_check_credentials(reader, mark, upstream);
}

static int config_check_whole(const struct config_reader *reader, const yaml_node_t *root)
{
	const struct config *config = reader->out;

	for (uint32_t i = 0; i < config->upstream_count; i++)
		if (config_check_upstream(reader, root, i))
			return -EINVAL;
	if (config->tcp.half_open_per_source > config->tcp.half_open)
		return config_fail(reader, &root->start_mark,
				   "tcp: half-open-per-source (%u) must not exceed half-open (%u)",
				   config->tcp.half_open_per_source, config->tcp.half_open);
	for (uint32_t i = 0; i < config->interface_count; i++) {
		const struct config_interface *interface = &config->interfaces[i];

		if (interface->attach == CONFIG_ATTACH_EXTERNAL && interface->hook == CONFIG_HOOK_TC)
			return config_fail(reader, &root->start_mark,
					   "interfaces: \"%s\": attach: external means hook: xdp", interface->name);
	}
	for (uint32_t i = 0; i < config->interface_count; i++)
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(config->interfaces[i].name, config->interfaces[j].name))
				return config_fail(reader, &root->start_mark, "interfaces: \"%s\" is listed twice",
						   config->interfaces[i].name);
	return 0;
}

static int config_read_document(struct config_reader *reader)
{
	const yaml_node_t *root = yaml_document_get_root_node(reader->document);
	const yaml_mark_t start = {0};
	int err;

	if (!root)
		return config_fail(reader, &start, "the file is empty; interfaces and upstreams are needed");
	err = config_read_mapping(reader, root, config_root_keys, reader->out, "the configuration");
	if (!err)
		err = config_check_whole(reader, root);
	if (!err)
		err = config_dns_check(reader, root);
	return err ? err : config_rules_check(reader);
}

int config_parse(const char *text, size_t bytes, const char *name, struct config *out, struct config_error *error)
{
	return config_parse_marked(text, bytes, name, out, NULL, error);
}

int config_parse_marked(const char *text, size_t bytes, const char *name, struct config *out,
			struct config_marks *marks, struct config_error *error)
{
	yaml_parser_t parser;
	yaml_document_t document;
	struct config_rule_marks rule_marks;
	struct config_reader reader = {
		.name = name, .document = &document, .out = out, .error = error, .rules = &rule_marks, .marks = marks};
	int err;

	*out = config_defaults;
	if (marks)
		marks->count = 0;
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
	if (!yaml_parser_load(&parser, &document)) {
		const yaml_mark_t *mark = parser.problem_mark.line || parser.problem_mark.column ? &parser.problem_mark
												 : &parser.context_mark;

		err = config_fail(&reader, mark, "not YAML: %s", parser.problem ? parser.problem : "unreadable");
		yaml_parser_delete(&parser);
		return err;
	}
	err = config_read_document(&reader);
	yaml_document_delete(&document);
	/* a second document would be ignored silently */
	if (!err && yaml_parser_load(&parser, &document)) {
		const yaml_node_t *more = yaml_document_get_root_node(&document);

		if (more)
			err = config_fail(&reader, &more->start_mark, "only one YAML document is allowed in the file");
		yaml_document_delete(&document);
	}
	yaml_parser_delete(&parser);
	if (err)
		config_release(out);
	return err;
}

void config_release(struct config *config)
{
	free(config->rules.rules);
	free(config->rules.prefixes);
	free(config->rules.ports);
	free(config->rules.domains);
	free(config->rules.domain_texts);
	config->rules = (struct config_rules){0};
}

int config_load(const char *path, struct config *out, struct config_error *error)
{
	return config_load_marked(path, out, NULL, error);
}

int config_read_file(const char *path, char **text, size_t *bytes, struct config_error *error)
{
	FILE *file = fopen(path, "re");
	int err;

	if (!file) {
		err = -errno;
		snprintf(error->text, sizeof(error->text), "%s: %s", path, strerror(-err));
		return err;
	}
	*text = malloc(CONFIG_MAX_FILE_BYTES + 1);
	if (!*text) {
		fclose(file);
		return -ENOMEM;
	}
	*bytes = fread(*text, 1, CONFIG_MAX_FILE_BYTES + 1, file);
	err = ferror(file) ? -EIO : *bytes > CONFIG_MAX_FILE_BYTES ? -EFBIG : 0;
	fclose(file);
	if (err) {
		snprintf(error->text, sizeof(error->text), "%s: %s", path, strerror(-err));
		free(*text);
	}
	return err;
}

int config_load_marked(const char *path, struct config *out, struct config_marks *marks, struct config_error *error)
{
	char *text;
	size_t bytes;
	int err = config_read_file(path, &text, &bytes, error);

	*out = config_defaults;
	if (err)
		return err;
	err = config_parse_marked(text, bytes, path, out, marks, error);
	free(text);
	if (!err) {
		err = config_read_passwords(path, out, error);
		if (err)
			config_release(out);
	}
	return err;
}
