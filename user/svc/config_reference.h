/* SPDX-License-Identifier: MIT */
/* The reference of all keys, made from the table of keys, the defaults, and config_help.c. */
#ifndef SOCKSPLICE_CONFIG_REFERENCE_H
#define SOCKSPLICE_CONFIG_REFERENCE_H

#include <stdbool.h>
#include <stdio.h>

#include "config_keys.h"

#define CONFIG_PATH_BYTES 128

/*
 * One key: its path from the root ("upstreams[].name": of each element of a list), and where its default stands (NULL:
 * checked only).
 */
typedef void config_reference_fn(void *ctx, const char *path, const struct config_key *key, const void *target);

/* Calls `each` for every key, depth first, in the order of the tables; mappings and lists before what they hold. */
void config_reference_walk(config_reference_fn *each, void *ctx);
/* The key of such a path, or NULL. */
const struct config_key *config_reference_find(const char *path);

/* What may stand there, in words; literals in backticks. */
void config_reference_kind(const struct config_key *key, char *out, size_t bytes);
/* What holds when the key is left out, in words; literals in backticks. */
void config_reference_default(const char *path, const struct config_key *key, const void *target, char *out,
			      size_t bytes);

/* The tables between the markers of docs/configuration.md and packaging/man/socksplice.yml.5. */
void config_reference_markdown(FILE *out);
void config_reference_mdoc(FILE *out);

#endif
