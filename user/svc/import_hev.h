/* SPDX-License-Identifier: MIT */
/* A main.yml of hev-socks5-tunnel, translated into a configuration of ours. */
#ifndef SOCKSPLICE_IMPORT_HEV_H
#define SOCKSPLICE_IMPORT_HEV_H

#include <stddef.h>
#include <stdio.h>

#include "config_yaml.h"

/*
 * Writes a configuration that this build accepts to `out`; keys that our format knows and this build has not yet, and
 * all that has no counterpart, stand in it as comments. `notes` gets a line for each of the latter, and for what
 * becomes something else: NAME:LINE:COLUMN: KEY: what becomes of it. No secret is written to `notes`.
 *
 * text[0..bytes) is the file, `name` stands in messages, `interface` is where the clients are (the file does not know
 * it). 0, -ENOMEM, or -EINVAL with the first error, and then nothing was written to `out`.
 */
int import_hev(const char *text, size_t bytes, const char *name, const char *interface, FILE *out, FILE *notes,
	       struct config_error *error);

#endif
