/* SPDX-License-Identifier: MIT */
/*
 * What each key of config_keys.c is for, in one or two sentences: the source of the tables in docs/configuration.md and
 * socksplice.yml(5). Kind, range and default are not said here: they follow from the table of keys and the defaults.
 */
#ifndef SOCKSPLICE_CONFIG_HELP_H
#define SOCKSPLICE_CONFIG_HELP_H

struct config_help {
	const char *path; /* as config_reference_walk() gives it: "tcp.relay", "upstreams[].name" */
	const char *text; /* literals in backticks; no other markup */
	const char
		*fallback; /* shown as the default where the value does not tell ("by route"); NULL: the value does */
};

/* Ended by path NULL. Keys that are not in this build yet have none. */
extern const struct config_help config_helps[];

/* NULL: there is none. */
const struct config_help *config_help_find(const char *path);

#endif
