/* SPDX-License-Identifier: MIT */
/* `socksplice top`: what the running daemon does, live. */
#ifndef SOCKSPLICE_TOP_H
#define SOCKSPLICE_TOP_H

#include <stdbool.h>
#include <stdint.h>

#define TOP_MAX_COUNT 100

struct top_options {
	uint32_t interval_ms;
	uint32_t count; /* rows of each list, at most */
	bool as_json;   /* the busiest connections and clients, once */
	bool once;      /* one screen, without control codes; so it is when the output is no terminal */
};

/* Seconds with up to three decimals, 0.1 to 60. */
bool top_parse_interval(const char *text, uint32_t *out_ms);
/* Until q, Ctrl-C or the end of the daemon. Returns the exit code. */
int top_run(const char *control_path, const struct top_options *options);

#endif
