/* SPDX-License-Identifier: MIT */
#include "config_reference.h"

#include <inttypes.h>
#include <string.h>

#include "config_help.h"
#include "config_yaml.h"
#include "rules_abi.h"

#define REFERENCE_TEXT_BYTES 512

/* --- walking --- */

static void reference_walk(const struct config_key *keys, const char *prefix, const char *base,
			   config_reference_fn *each, void *ctx)
{
	for (; keys->name; keys++) {
		const char *target = keys->offset == CONFIG_NO_TARGET ? NULL : base + keys->offset;
		char path[CONFIG_PATH_BYTES], below[CONFIG_PATH_BYTES + 4];

		snprintf(path, sizeof(path), "%s%s", prefix, keys->name);
		each(ctx, path, keys, target);
		if (!keys->keys)
			continue;
		snprintf(below, sizeof(below), "%s%s", path,
			 keys->kind == CONFIG_KIND_SEQUENCE || keys->kind == CONFIG_KIND_RULES ? "[]." : ".");
		/* the defaults of a list's elements are those of its first */
		reference_walk(keys->keys, below, target, each, ctx);
	}
}

void config_reference_walk(config_reference_fn *each, void *ctx)
{
	reference_walk(config_root_keys, "", (const char *)&config_defaults, each, ctx);
}

struct reference_search {
	const char *path;
	const struct config_key *found;
};

static void reference_compare(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	struct reference_search *search = ctx;

	(void)target;
	if (!strcmp(path, search->path))
		search->found = key;
}

const struct config_key *config_reference_find(const char *path)
{
	struct reference_search search = {.path = path};

	config_reference_walk(reference_compare, &search);
	return search.found;
}

/* --- words --- */

/* In the largest unit that the configuration knows and that divides it. */
static void reference_duration(uint64_t ns, char *out, size_t bytes)
{
	static const struct {
		uint64_t ns;
		const char *unit;
	} units[] = {{3600000000000ull, "h"}, {60000000000ull, "m"}, {1000000000ull, "s"}, {1000000ull, "ms"}};
	size_t i = 0;

	while (i < 3 && (!ns || ns % units[i].ns))
		i++;
	snprintf(out, bytes, "%" PRIu64 "%s", ns / units[i].ns, units[i].unit);
}

static void reference_choices(const struct config_key *key, char *out, size_t bytes)
{
	size_t used = 0;

	out[0] = 0;
	for (const struct config_choice *choice = key->choices; choice->text; choice++)
		if (choice->value != CONFIG_CHOICE_NOT_YET && used < bytes)
			used += (size_t)snprintf(out + used, bytes - used, "%s`%s`", used ? ", " : "", choice->text);
}

/* No `default`: a new kind must say here what it is. */
void config_reference_kind(const struct config_key *key, char *out, size_t bytes)
{
	char min[32], max[32];

	switch (key->kind) {
	case CONFIG_KIND_MAPPING:
		snprintf(out, bytes, "keys");
		return;
	case CONFIG_KIND_SEQUENCE:
		snprintf(out, bytes, "list of up to %" PRIu64, key->max);
		return;
	case CONFIG_KIND_UINT:
		snprintf(out, bytes, "number, %" PRIu64 " to %" PRIu64, key->min, key->max);
		return;
	case CONFIG_KIND_POWER_OF_TWO:
		snprintf(out, bytes, "power of two, %" PRIu64 " to %" PRIu64, key->min, key->max);
		return;
	case CONFIG_KIND_DURATION:
		reference_duration(key->min, min, sizeof(min));
		reference_duration(key->max, max, sizeof(max));
		snprintf(out, bytes, "duration, %s to %s", min, max);
		return;
	case CONFIG_KIND_BOOL:
		snprintf(out, bytes, "`true`, `false`");
		return;
	case CONFIG_KIND_TRUE:
		snprintf(out, bytes, "`true`; `false` is not in this build yet");
		return;
	case CONFIG_KIND_CHOICE:
		reference_choices(key, out, bytes);
		return;
	case CONFIG_KIND_STRING:
		snprintf(out, bytes, "text, up to %zu bytes", key->size - 1);
		return;
	case CONFIG_KIND_SERVER:
		snprintf(out, bytes, "`ADDRESS:PORT` or `NAME:PORT`");
		return;
	case CONFIG_KIND_ENDPOINT:
		snprintf(out, bytes, "`ADDRESS:PORT`");
		return;
	case CONFIG_KIND_PREFIX:
		snprintf(out, bytes, "`ADDRESS/BITS`");
		return;
	case CONFIG_KIND_PORTS:
		snprintf(out, bytes, "`FIRST-LAST`");
		return;
	case CONFIG_KIND_UDP_ADDRESS:
		snprintf(out, bytes, "`auto`, `as-told` or an address");
		return;
	case CONFIG_KIND_ADDRESSES:
		snprintf(out, bytes, "list of up to %" PRIu64 " addresses", key->max);
		return;
	case CONFIG_KIND_RULES:
		snprintf(out, bytes, "list of up to %d", RULES_MAX);
		return;
	case CONFIG_KIND_RULE:
		snprintf(out, bytes, "as the meaning says");
		return;
	case CONFIG_KIND_NOT_YET:
		snprintf(out, bytes, "not in this build yet");
		return;
	}
}

static void reference_value(const struct config_key *key, const void *target, char *out, size_t bytes)
{
	const struct config_ports *ports = target;
	const char *text = target;
	uint64_t ns;
	uint32_t number;
	int choice;

	switch (key->kind) {
	case CONFIG_KIND_UINT:
	case CONFIG_KIND_POWER_OF_TWO:
		memcpy(&number, target, sizeof(number));
		snprintf(out, bytes, "`%u`", number);
		return;
	case CONFIG_KIND_DURATION:
		memcpy(&ns, target, sizeof(ns));
		out[0] = '`';
		reference_duration(ns, out + 1, bytes - 2);
		strncat(out, "`", bytes - strlen(out) - 1);
		return;
	case CONFIG_KIND_BOOL:
		snprintf(out, bytes, "`%s`", *text ? "true" : "false");
		return;
	case CONFIG_KIND_CHOICE:
		memcpy(&choice, target, sizeof(choice));
		for (const struct config_choice *c = key->choices; c->text; c++)
			if (c->value == choice)
				snprintf(out, bytes, "`%s`", c->text);
		return;
	case CONFIG_KIND_STRING:
		if (*text)
			snprintf(out, bytes, "`%s`", text);
		else if (key->empty_word)
			snprintf(out, bytes, "`%s`", key->empty_word);
		return;
	case CONFIG_KIND_PORTS:
		snprintf(out, bytes, "`%u-%u`", ports->first, ports->last);
		return;
	default:
		return;
	}
}

void config_reference_default(const char *path, const struct config_key *key, const void *target, char *out,
			      size_t bytes)
{
	const struct config_help *help = config_help_find(path);

	snprintf(out, bytes, "none");
	if (key->required)
		snprintf(out, bytes, "needed");
	else if (help && help->fallback)
		snprintf(out, bytes, "%s", help->fallback);
	else if (key->kind == CONFIG_KIND_TRUE)
		snprintf(out, bytes, "`true`");
	else if (target)
		reference_value(key, target, out, bytes);
}

/* --- writing --- */

struct reference_writer {
	FILE *out;
	unsigned int not_yet;
};

static const char *reference_help(const char *path)
{
	const struct config_help *help = config_help_find(path);

	return help ? help->text : "";
}

static void reference_row(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	char kind[REFERENCE_TEXT_BYTES], fallback[REFERENCE_TEXT_BYTES];
	struct reference_writer *writer = ctx;

	if (key->kind == CONFIG_KIND_NOT_YET || key->kind == CONFIG_KIND_MAPPING)
		return;
	config_reference_kind(key, kind, sizeof(kind));
	config_reference_default(path, key, target, fallback, sizeof(fallback));
	fprintf(writer->out, "| `%s` | %s | %s | %s |\n", path, kind, fallback, reference_help(path));
}

static void reference_not_yet(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	struct reference_writer *writer = ctx;

	(void)target;
	if (key->kind == CONFIG_KIND_NOT_YET)
		fprintf(writer->out, "%s`%s`", writer->not_yet++ ? ",\n" : "", path);
}

void config_reference_markdown(FILE *out)
{
	struct reference_writer writer = {.out = out};

	fputs("| key | value | default | meaning |\n|---|---|---|---|\n", out);
	config_reference_walk(reference_row, &writer);
	fputs("\nKnown, and refused with \"not in this build yet\":\n", out);
	config_reference_walk(reference_not_yet, &writer);
	fputs(writer.not_yet ? ".\n" : "none.\n", out);
}

/* Text that roff would take for something else is escaped; a sentence begins on a line of its own. */
static void reference_escape(FILE *out, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (text[i] == '\\')
			fputs("\\e", out);
		else if (text[i] == '"')
			fputs("\\(dq", out);
		else
			fputc(i && text[i] == ' ' && text[i - 1] == '.' ? '\n' : text[i], out);
}

/*
 * Sentences with literals in backticks, as lines of mdoc: each literal is a macro on a line of its own, which takes the
 * punctuation beside it along.
 */
static void reference_mdoc_text(FILE *out, const char *text)
{
	while (*text) {
		size_t plain = strcspn(text, "`");
		const char *literal = text + plain;
		size_t opens = plain && literal[0] && text[plain - 1] == '(' ? 1 : 0;
		size_t bytes, after;

		while (plain && *text == ' ')
			text++, plain--;
		if (plain > opens) {
			size_t shown = plain - opens;

			while (shown && text[shown - 1] == ' ')
				shown--;
			reference_escape(out, text, shown);
			fputc('\n', out);
		}
		if (!literal[0])
			return;
		literal++;
		bytes = strcspn(literal, "`");
		fputs(opens ? ".Ql ( \"" : ".Ql \"", out);
		reference_escape(out, literal, bytes);
		fputc('"', out);
		text = literal + bytes + (literal[bytes] == '`');
		after = strspn(text, ".,:;)");
		for (size_t i = 0; i < after; i++)
			fprintf(out, " %c", text[i]);
		fputc('\n', out);
		text += after;
	}
}

static void reference_item(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	char kind[REFERENCE_TEXT_BYTES], fallback[REFERENCE_TEXT_BYTES], line[REFERENCE_TEXT_BYTES * 3];
	struct reference_writer *writer = ctx;

	if (key->kind == CONFIG_KIND_NOT_YET || key->kind == CONFIG_KIND_MAPPING)
		return;
	config_reference_kind(key, kind, sizeof(kind));
	config_reference_default(path, key, target, fallback, sizeof(fallback));
	fprintf(writer->out, ".It Ic %s\n", path);
	reference_mdoc_text(writer->out, reference_help(path));
	snprintf(line, sizeof(line), "Value: %s.", kind);
	reference_mdoc_text(writer->out, line);
	snprintf(line, sizeof(line), "Default: %s.", fallback);
	reference_mdoc_text(writer->out, line);
}

static void reference_not_yet_item(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	struct reference_writer *writer = ctx;

	(void)target;
	if (key->kind == CONFIG_KIND_NOT_YET)
		fprintf(writer->out, "%s.Ic %s", writer->not_yet++ ? " ,\n" : "", path);
}

void config_reference_mdoc(FILE *out)
{
	struct reference_writer writer = {.out = out};

	fputs(".Bl -tag -width Ds\n", out);
	config_reference_walk(reference_item, &writer);
	fputs(".El\n.Pp\nKnown, and refused with\n.Dq not in this build yet :\n", out);
	config_reference_walk(reference_not_yet_item, &writer);
	fputs(writer.not_yet ? " .\n" : "none.\n", out);
}
