/* SPDX-License-Identifier: MIT */
/* The result of a translation: settings of our format and what is to be said of it, collected and written. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config_reference.h"
#include "import_hev_priv.h"

/* In the order in which they are written. */
static const char *const import_sections[] = {"interfaces", "upstreams", "", "tcp", "udp", "dns", "log"};

/* --- collecting --- */

void import_note(struct import *import, const yaml_mark_t *at, const char *fmt, ...)
{
	struct import_note *note;
	va_list args;

	if (import->note_count == IMPORT_MAX_NOTES)
		return;
	note = &import->notes[import->note_count++];
	note->at = *at;
	va_start(args, fmt);
	vsnprintf(note->text, sizeof(note->text), fmt, args);
	va_end(args);
}

const struct hev_value *import_value(const struct import *import, enum hev_key key)
{
	return import->file.values[key].text ? &import->file.values[key] : NULL;
}

void import_note_key(struct import *import, enum hev_key key, const char *text)
{
	const struct hev_value *value = import_value(import, key);

	if (value)
		import_note(import, &value->at, "%s: %s", hev_key_path(key), text);
}

/*
 * Bytes of the character at `text` if YAML may not have it plain or takes it for the end of a line (also of a comment),
 * and its number; 0: it is an ordinary one. The text is valid UTF-8, libyaml has seen to that.
 */
static size_t import_special(const char *text, unsigned int *number)
{
	const unsigned char *p = (const unsigned char *)text;

	*number = p[0];
	if (p[0] < 0x80)
		return p[0] < 0x20 || p[0] == 0x7f;
	if (p[0] == 0xc2 && p[1] < 0xa0) {
		*number = p[1];
		return 2;
	}
	if (p[0] >> 4 != 0xe)
		return 0;
	*number = (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
	return *number == 0x2028 || *number == 0x2029 || *number == 0xfeff || *number >= 0xfffe ? 3 : 0;
}

void import_quote(const char *text, char out[IMPORT_VALUE_BYTES])
{
	size_t used = 0, special;
	unsigned int number;

	out[used++] = '"';
	while (*text) {
		special = import_special(text, &number);
		if (special) {
			used += (size_t)snprintf(out + used, 7, "\\u%04x", number);
			text += special;
			continue;
		}
		if (*text == '"' || *text == '\\')
			out[used++] = '\\';
		out[used++] = *text++;
	}
	out[used++] = '"';
	out[used] = 0;
}

static bool import_in_build(const struct import_setting *setting)
{
	static const char *const lists[] = {"interfaces", "upstreams"};
	const struct config_key *key;
	const char *joint = ".";
	char path[CONFIG_PATH_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (!strcmp(setting->section, lists[i]))
			joint = "[].";
	snprintf(path, sizeof(path), "%s%s%s", setting->section, setting->section[0] ? joint : "", setting->key);
	key = config_reference_find(path);
	return key && key->kind != CONFIG_KIND_NOT_YET;
}

/* --- writing --- */

static bool import_has_real(const struct import *import, const char *section)
{
	for (uint32_t i = 0; i < import->setting_count; i++)
		if (!strcmp(import->settings[i].section, section) && !import->settings[i].refused)
			return true;
	return false;
}

static void import_write_section(const struct import *import, const char *section, FILE *out)
{
	bool list = !strcmp(section, "interfaces") || !strcmp(section, "upstreams");
	bool real = import_has_real(import, section), first = true;
	const char *indent = !section[0] ? "" : list ? "    " : "  ";
	bool header = !section[0];

	for (uint32_t i = 0; i < import->setting_count; i++) {
		const struct import_setting *setting = &import->settings[i];

		if (strcmp(setting->section, section))
			continue;
		if (!header)
			fprintf(out, "%s%s:\n", real ? "" : "# ", section);
		header = true;
		if (setting->refused)
			fprintf(out, "# %s%s: %s   # %s\n", indent, setting->key, setting->value, setting->refused);
		else
			fprintf(out, "%s%s: %s\n", list && first ? "  - " : indent, setting->key, setting->value);
		first = false;
	}
}

static void import_write(const struct import *import, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(import_sections); i++)
		import_write_section(import, import_sections[i], out);
}

int import_try(const struct import *import, struct config_error *error)
{
	static struct config config;
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	int err = -ENOMEM;

	if (!out)
		return err;
	import_write(import, out);
	if (!fclose(out))
		err = config_parse(text, bytes, "import", &config, error);
	config_release(&config);
	free(text);
	return err;
}

const char *import_reason(const struct config_error *error)
{
	const char *text = error->text;

	for (int i = 0; i < 3 && strchr(text, ':'); i++)
		text = strchr(text, ':') + 1;
	return text + strspn(text, " ");
}

struct import_setting *import_put(struct import *import, const char *section, const char *key, const char *value)
{
	struct import_setting *setting = &import->settings[import->setting_count++];

	setting->section = section;
	setting->key = key;
	setting->refused = NULL;
	snprintf(setting->value, sizeof(setting->value), "%s", value);
	if (!import_in_build(setting))
		setting->refused = "not in this build yet";
	return setting;
}

void import_set(struct import *import, enum hev_key from, const char *section, const char *key, const char *value)
{
	const struct hev_value *source = &import->file.values[from];
	struct import_setting *setting = import_put(import, section, key, value);
	struct config_error error;

	if (setting->refused) {
		import_note(import, &source->at, "%s: becomes %s%s%s, which is not in this build yet: a comment",
			    hev_key_path(from), section, section[0] ? "." : "", key);
	} else if (import_try(import, &error)) {
		setting->refused = "not accepted, the default holds";
		import_note(import, &source->at, "%s: not accepted, so the default holds: %s", hev_key_path(from),
			    import_reason(&error));
	}
}

int import_set_text(struct import *import, enum hev_key from, const char *section, const char *key)
{
	const struct hev_value *source = &import->file.values[from];
	char value[IMPORT_VALUE_BYTES];

	if (strlen(source->text) > IMPORT_TEXT_BYTES)
		return hev_fail(&import->file, &source->at, "%s: too long; at most %d bytes are allowed",
				hev_key_path(from), IMPORT_TEXT_BYTES);
	import_quote(source->text, value);
	import_set(import, from, section, key, value);
	return 0;
}

static int import_compare_notes(const void *a, const void *b)
{
	const struct import_note *x = a, *y = b;

	return x->at.line != y->at.line ? (x->at.line < y->at.line ? -1 : 1)
					: (x->at.column > y->at.column) - (x->at.column < y->at.column);
}

/* A comment ends with its line, and a key's name may hold anything. */
static void import_write_line(FILE *out, const char *text)
{
	unsigned int number;

	while (*text) {
		size_t special = import_special(text, &number);

		fputc(special ? '?' : *text, out);
		text += special ? special : 1;
	}
	fputc('\n', out);
}

void import_finish(struct import *import, FILE *out, FILE *notes)
{
	qsort(import->notes, import->note_count, sizeof(import->notes[0]), import_compare_notes);
	fputs("# Translated from ", out);
	import_write_line(out, import->file.name);
	if (import->note_count)
		fputs("# What has no counterpart or becomes something else:\n", out);
	for (uint32_t i = 0; i < import->note_count; i++) {
		const struct import_note *note = &import->notes[i];

		fprintf(out, "#   line %zu: ", note->at.line + 1);
		import_write_line(out, note->text);
		fprintf(notes, "%s:%zu:%zu: ", import->file.name, note->at.line + 1, note->at.column + 1);
		import_write_line(notes, note->text);
	}
	import_write(import, out);
}
