/* SPDX-License-Identifier: MIT */
/*
 * The table of keys against its documents: each key has a text, each text a key; docs/configuration.md and
 * socksplice.yml(5) hold the reference as it is generated now, and name no key that does not exist. Runs in the root of
 * the source tree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_help.h"
#include "config_reference.h"
#include "config_yaml.h"

#define MARKDOWN "docs/configuration.md"
#define MDOC "packaging/man/socksplice.yml.5"

static char *slurp(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *file = fopen(path, "re");

	if (!file || !text)
		fail_msg("cannot read %s: the test runs in the root of the source tree", path);
	text[fread(text, 1, (1 << 20) - 1, file)] = 0;
	fclose(file);
	return text;
}

static void check_help(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	const struct config_help *help = config_help_find(path);

	(void)ctx, (void)target;
	if (key->kind == CONFIG_KIND_NOT_YET) {
		if (help)
			fail_msg("config_help.c: %s has a text, but is not in this build yet", path);
		return;
	}
	if (!help)
		fail_msg("config_help.c: the key %s of config_keys.c has no entry; add one, then: make reference",
			 path);
	if (!help->text || help->text[strlen(help->text) - 1] != '.')
		fail_msg("config_help.c: the text of %s is no sentence", path);
}

static void test_every_key_has_a_text(void **state)
{
	(void)state;
	config_reference_walk(check_help, NULL);
}

static void test_every_text_has_a_key(void **state)
{
	(void)state;
	for (const struct config_help *help = config_helps; help->path; help++) {
		if (!config_reference_find(help->path))
			fail_msg("config_help.c: %s is no key of config_keys.c", help->path);
		for (const struct config_help *other = config_helps; other < help; other++)
			if (!strcmp(other->path, help->path))
				fail_msg("config_help.c: %s stands there twice", help->path);
	}
}

struct seen {
	char words[512];
	const char *path;
	bool found;
};

static void note_default(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	struct seen *seen = ctx;

	if (strcmp(path, seen->path))
		return;
	config_reference_default(path, key, target, seen->words, sizeof(seen->words));
	seen->found = true;
}

static void expect_default(const char *path, const char *words)
{
	struct seen seen = {.path = path};

	config_reference_walk(note_default, &seen);
	if (!seen.found || strcmp(seen.words, words))
		fail_msg("default of %s: \"%s\" instead of \"%s\"", path, seen.words, words);
}

/* Defaults come from the settings themselves; one of each kind. */
static void test_defaults(void **state)
{
	(void)state;
	expect_default("interfaces", "needed");
	expect_default("interfaces[].hook", "`auto`");
	expect_default("uplink", "`auto`");
	expect_default("bpf-pin", "`/sys/fs/bpf/socksplice`");
	expect_default("upstreams[].ports", "`10000-40000`");
	expect_default("upstreams[].sources", "by route");
	expect_default("upstreams[].username", "none");
	expect_default("tcp.idle-timeout", "`2h`");
	expect_default("tcp.linger", "`2s`");
	expect_default("tcp.max-flows", "`65536`");
	expect_default("performance.enable_simd", "`true`");
	expect_default("performance.enable_io_uring", "`true`");
}

static void expect_kind(const char *path, const char *words)
{
	const struct config_key *key = config_reference_find(path);
	char kind[256];

	assert_non_null(key);
	config_reference_kind(key, kind, sizeof(kind));
	assert_string_equal(kind, words);
}

static void test_kinds(void **state)
{
	(void)state;
	expect_kind("interfaces", "list of up to 8");
	expect_kind("tcp.connect-timeout", "duration, 100ms to 1h");
	expect_kind("tcp.relay", "`auto`, `splice`, `userspace`");
	expect_kind("performance.batch_size", "number, 1 to 256");
	expect_kind("performance.io_uring_entries", "power of two, 64 to 4096");
	expect_kind("control", "text, up to 107 bytes");
}

/* The text between the markers must be `wanted`; tells the first line that differs. */
static void expect_between(const char *file, const char *wanted)
{
	char *text = slurp(file), *begin = strstr(text, "reference: begin"), *end = strstr(text, "reference: end");
	size_t bytes, same = 0, line_start = 0;

	if (!begin || !end || end < begin)
		fail_msg("%s: the markers \"reference: begin\" and \"reference: end\" are missing", file);
	begin = strchr(begin, '\n') + 1;
	while (end > begin && end[-1] != '\n')
		end--;
	bytes = (size_t)(end - begin);
	while (same < bytes && begin[same] == wanted[same]) {
		same++;
		if (begin[same - 1] == '\n')
			line_start = same;
	}
	if (same != bytes || wanted[same])
		fail_msg("%s differs from the table of keys (run: make reference), from this line "
			 "on:\n%.*s\nwanted:\n%.*s",
			 file, (int)strcspn(begin + line_start, "\n"), begin + line_start,
			 (int)strcspn(wanted + line_start, "\n"), wanted + line_start);
	free(text);
}

static char *generated(void (*write_reference)(FILE *))
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	write_reference(out);
	fclose(out);
	return text;
}

static void test_markdown(void **state)
{
	char *text = generated(config_reference_markdown);

	(void)state;
	expect_between(MARKDOWN, text);
	free(text);
}

static void test_mdoc(void **state)
{
	char *text = generated(config_reference_mdoc);

	(void)state;
	expect_between(MDOC, text);
	free(text);
}

struct documented {
	const char *file, *text, *before;
};

/* Independent of the generator: path, and with it the words of its default, stand in the document. */
static void check_documented(void *ctx, const char *path, const struct config_key *key, const void *target)
{
	const struct documented *document = ctx;
	char entry[CONFIG_PATH_BYTES + 16];

	(void)target;
	if (key->kind == CONFIG_KIND_MAPPING)
		return;
	snprintf(entry, sizeof(entry), "%s%s", key->kind == CONFIG_KIND_NOT_YET ? "" : document->before, path);
	if (!strstr(document->text, entry))
		fail_msg("%s does not name the key %s (run: make reference)", document->file, path);
}

static void test_every_key_is_documented(void **state)
{
	char *markdown = slurp(MARKDOWN), *mdoc = slurp(MDOC);
	struct documented in_markdown = {MARKDOWN, markdown, "| `"}, in_mdoc = {MDOC, mdoc, ".It Ic "};

	(void)state;
	config_reference_walk(check_documented, &in_markdown);
	config_reference_walk(check_documented, &in_mdoc);
	free(markdown);
	free(mdoc);
}

/* "tcp.relay", "upstreams[].name": a word of the root, then dots; net.ipv4.x and /run/control.sock are none */
static bool looks_like_path(const char *word)
{
	size_t root = strcspn(word, "[.");
	char name[CONFIG_PATH_BYTES];

	if (!word[root] || root >= sizeof(name) || !strcmp(word + root, ".md"))
		return false;
	snprintf(name, sizeof(name), "%.*s", (int)root, word);
	return config_reference_find(name);
}

static void check_words(const char *file, const char *allowed)
{
	char *text = slurp(file), word[CONFIG_PATH_BYTES];
	const char *p = text;

	while (*p) {
		size_t bytes = 0;

		while (p[bytes] && (isalnum((unsigned char)p[bytes]) || strchr(allowed, p[bytes])))
			bytes++;
		snprintf(word, sizeof(word), "%.*s", (int)bytes, p);
		while (bytes && strlen(word) && strchr(".", word[strlen(word) - 1]))
			word[strlen(word) - 1] = 0;
		if (looks_like_path(word) && !config_reference_find(word))
			fail_msg("%s names the key %s, which does not exist", file, word);
		p += bytes ? bytes : 1;
	}
	free(text);
}

static void test_no_other_key_is_named(void **state)
{
	static const char *const files[] = {
		MARKDOWN, MDOC, "README.md", "docs/cli.md", "docs/splice.md", "packaging/man/socksplice.8"};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		check_words(files[i], "._-[]/");
}

/* They are listed for the reference alone; config_rules.c has its own list, which its error names. */
static void test_keys_of_rules(void **state)
{
	static const char text[] = "rules: [ { frob: 1 } ]\n";
	static struct config config;
	struct config_error error;
	char known[128] = "";

	(void)state;
	for (const struct config_key *key = config_reference_find("rules")->keys; key->name; key++)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
			 known[0] ? ", " : "known: ", key->name);
	assert_int_not_equal(config_parse(text, strlen(text), "t", &config, &error), 0);
	if (!strstr(error.text, known))
		fail_msg("\"%s\" lacks \"%s\"", error.text, known);
}

static void test_packaged_configuration(void **state)
{
	static struct config config;
	struct config_error error;

	(void)state;
	if (config_load("packaging/socksplice.yml", &config, &error))
		fail_msg("%s", error.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_key_has_a_text),
		cmocka_unit_test(test_every_text_has_a_key),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_markdown),
		cmocka_unit_test(test_mdoc),
		cmocka_unit_test(test_every_key_is_documented),
		cmocka_unit_test(test_no_other_key_is_named),
		cmocka_unit_test(test_keys_of_rules),
		cmocka_unit_test(test_packaged_configuration),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
