/* SPDX-License-Identifier: MIT */
/* Reading a main.yml of hev-socks5-tunnel: which keys are set, to what text, and where. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_hev_priv.h"

static const struct {
	const char *section, *name, *path;
} hev_keys[HEV_KEY_COUNT] = {
#define X(id, group, key) [HEV_##id] = {group, key, group "." key},
	HEV_KEYS(X)
#undef X
};

const char *hev_key_path(enum hev_key key)
{
	return hev_keys[key].path;
}

int hev_fail(const struct hev_file *file, const yaml_mark_t *at, const char *fmt, ...)
{
	char *text = file->error->text;
	int used = snprintf(text, CONFIG_ERROR_BYTES, "%s:%zu:%zu: ", file->name, at->line + 1, at->column + 1);
	va_list args;

	va_start(args, fmt);
	if (used >= 0 && used < CONFIG_ERROR_BYTES)
		vsnprintf(text + used, (size_t)(CONFIG_ERROR_BYTES - used), fmt, args);
	va_end(args);
	return -EINVAL;
}

static bool hev_is_section(const char *name)
{
	for (int i = 0; i < HEV_KEY_COUNT; i++)
		if (!strcmp(hev_keys[i].section, name))
			return true;
	return false;
}

static int hev_find_key(const char *section, const char *name)
{
	for (int i = 0; i < HEV_KEY_COUNT; i++)
		if (!strcmp(hev_keys[i].section, section) && !strcmp(hev_keys[i].name, name))
			return i;
	return -1;
}

static void hev_add_stranger(struct hev_file *file, const char *section, const yaml_node_t *name)
{
	if (file->stranger_count < HEV_MAX_STRANGERS)
		file->strangers[file->stranger_count++] =
			(struct hev_stranger){section, (const char *)name->data.scalar.value, name->start_mark};
}

static int hev_read_value(struct hev_file *file, int key, const yaml_node_t *name, const yaml_node_t *value)
{
	struct hev_value *out = &file->values[key];

	if (out->text)
		return hev_fail(file, &name->start_mark, "%s is already set in line %zu",
				hev_key_path((enum hev_key)key), out->at.line + 1);
	out->at = value->start_mark;
	/* versions before 2.5 had address, gateway and prefix here; all of it is left out anyway */
	if (value->type == YAML_MAPPING_NODE && (key == HEV_TUNNEL_IPV4 || key == HEV_TUNNEL_IPV6)) {
		out->text = "{ ... }";
		return 0;
	}
	if (value->type != YAML_SCALAR_NODE)
		return hev_fail(file, &value->start_mark, "%s: a single value is expected here",
				hev_key_path((enum hev_key)key));
	if (strlen((const char *)value->data.scalar.value) != value->data.scalar.length)
		return hev_fail(file, &value->start_mark, "%s: must not contain a zero byte",
				hev_key_path((enum hev_key)key));
	/* `username:` with nothing behind it sets nothing */
	if (value->data.scalar.length || value->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		out->text = (const char *)value->data.scalar.value;
	return 0;
}

static int hev_read_section(struct hev_file *file, const char *section, const yaml_node_t *node)
{
	/* `misc:` with only comments below */
	if (node->type == YAML_SCALAR_NODE && !node->data.scalar.length)
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return hev_fail(file, &node->start_mark, "%s: keys with values are expected here", section);
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name = yaml_document_get_node(&file->document, pair->key);
		int key, err = 0;

		if (name->type != YAML_SCALAR_NODE)
			return hev_fail(file, &name->start_mark, "%s: a key must be a plain word", section);
		key = hev_find_key(section, (const char *)name->data.scalar.value);
		if (key < 0)
			hev_add_stranger(file, section, name);
		else
			err = hev_read_value(file, key, name, yaml_document_get_node(&file->document, pair->value));
		if (err)
			return err;
	}
	return 0;
}

static int hev_read_document(struct hev_file *file)
{
	const yaml_node_t *root = yaml_document_get_root_node(&file->document);
	const yaml_mark_t start = {0};

	if (!root)
		return hev_fail(file, &start, "the file is empty");
	if (root->type != YAML_MAPPING_NODE)
		return hev_fail(file, &root->start_mark,
				"the sections tunnel, socks5, mapdns and misc are expected here");
	/* where to point at when a key is missing */
	for (int i = 0; i < HEV_KEY_COUNT; i++)
		file->values[i].at = root->start_mark;
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name = yaml_document_get_node(&file->document, pair->key);
		const yaml_node_t *value = yaml_document_get_node(&file->document, pair->value);
		const char *section = (const char *)name->data.scalar.value;
		int err;

		if (name->type != YAML_SCALAR_NODE)
			return hev_fail(file, &name->start_mark, "a section's name must be a plain word");
		if (!hev_is_section(section)) {
			hev_add_stranger(file, NULL, name);
			continue;
		}
		err = hev_read_section(file, section, value);
		if (err)
			return err;
	}
	return 0;
}

int hev_open(struct hev_file *file, const char *text, size_t bytes)
{
	yaml_parser_t parser;
	int err = 0;

	memset(file->values, 0, sizeof(file->values));
	file->stranger_count = 0;
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
	if (!yaml_parser_load(&parser, &file->document)) {
		const yaml_mark_t *at = parser.problem_mark.line || parser.problem_mark.column ? &parser.problem_mark
											       : &parser.context_mark;

		err = hev_fail(file, at, "not YAML: %s", parser.problem ? parser.problem : "unreadable");
	}
	yaml_parser_delete(&parser);
	if (err)
		return err;
	err = hev_read_document(file);
	if (err)
		yaml_document_delete(&file->document);
	return err;
}

void hev_close(struct hev_file *file)
{
	yaml_document_delete(&file->document);
}

int hev_number(const struct hev_file *file, enum hev_key key, int base, uint64_t min, uint64_t max, uint64_t *out)
{
	const struct hev_value *value = &file->values[key];
	char *end;

	errno = 0;
	*out = strtoull(value->text, &end, base);
	if (errno || end == value->text || *end || value->text[0] == '-' || *out < min || *out > max)
		return hev_fail(file, &value->at, "%s: \"%s\" is not allowed; a number from %llu to %llu is",
				hev_key_path(key), value->text, (unsigned long long)min, (unsigned long long)max);
	return 0;
}
