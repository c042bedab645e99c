/* SPDX-License-Identifier: MIT */
/*
 * The configuration file, into struct config. YAML is read by libyaml's
 * document loader, which keeps line and column of every node; a table of keys
 * says what each may be. (libcyaml, which sits on libyaml, accepts duplicate
 * keys and numbers like 010 and reports no columns, so its layer is left out.)
 */
#ifndef SOCKSPLICE_CONFIG_YAML_H
#define SOCKSPLICE_CONFIG_YAML_H

#include <stddef.h>

#include "config.h"

#define CONFIG_ERROR_BYTES 512

struct config_error {
	char text[CONFIG_ERROR_BYTES]; /* FILE:LINE:COLUMN: what is wrong, what is allowed */
};

/* Where the file says something: one for each key with a value, lists of addresses as a whole. */
struct config_mark {
	const char *key;       /* its name, static */
	size_t base;           /* of the mapping or list element that it stands in: offset in struct config */
	uint32_t line, column; /* of the value, from 1 */
};

/* Every key once, with room for lists; beyond, marks are left out. */
#define CONFIG_MAX_MARKS 1024

struct config_marks {
	struct config_mark marks[CONFIG_MAX_MARKS];
	uint32_t count;
};

/* NULL: the file leaves the key out. */
const struct config_mark *config_marks_find(const struct config_marks *marks, const char *key, size_t base);

/* What holds for keys that the file leaves out; of a list, for those of each element. */
extern const struct config config_defaults;

/* A whole file of a size that a configuration may have; *text is to be freed. 0, or -errno with a message. */
int config_read_file(const char *path, char **text, size_t *bytes, struct config_error *error);
/*
 * 0, or -EINVAL with the first error; -errno when the file cannot be read. What was read is to be given back by
 * config_release(); after an error nothing is.
 */
int config_load(const char *path, struct config *out, struct config_error *error);
/* The same, and where each value stands. marks NULL: not wanted. */
int config_load_marked(const char *path, struct config *out, struct config_marks *marks, struct config_error *error);
/* The same for text in memory; `name` stands in messages. */
int config_parse(const char *text, size_t bytes, const char *name, struct config *out, struct config_error *error);
int config_parse_marked(const char *text, size_t bytes, const char *name, struct config *out,
			struct config_marks *marks, struct config_error *error);
/* Frees what the settings have on the heap. Twice does no harm. */
void config_release(struct config *config);

#endif
