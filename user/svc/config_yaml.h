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

/*
 * 0, or -EINVAL with the first error; -errno when the file cannot be read. What was read is to be given back by
 * config_release(); after an error nothing is.
 */
int config_load(const char *path, struct config *out, struct config_error *error);
/* The same for text in memory; `name` stands in messages. */
int config_parse(const char *text, size_t bytes, const char *name, struct config *out, struct config_error *error);
/* Frees what the settings have on the heap. Twice does no harm. */
void config_release(struct config *config);

#endif
