/* SPDX-License-Identifier: MIT */
/* The client commands: asking the running daemon and printing what it says. */
#ifndef SOCKSPLICE_CTL_H
#define SOCKSPLICE_CTL_H

#include <jansson.h>
#include <stdbool.h>

#define CTL_EXIT_FAILED 1
#define CTL_EXIT_UNREACHABLE 4
#define CTL_EXIT_NOT_WORKING 5

/* Puts one request; *out is the answer, to be released. 0, or the exit code with a message printed. */
int ctl_ask(const char *request, const char *control_path, json_t **out);
/* Of an answer: the text or "?", the number or 0. */
const char *ctl_string(const json_t *object, const char *key);
json_int_t ctl_int(const json_t *object, const char *key);

/* `command`: status, stats or flows. Returns the exit code. */
int ctl_run(const char *command, const char *control_path, bool as_json);
bool ctl_reachable(const char *control_path);
/* Ends the daemon and waits until it is gone. flush: spliced connections are reset too, and nothing stays behind. */
int ctl_stop(const char *control_path, bool flush, bool as_json);
/* Prints the life of the next connection (of the address `client`, if not NULL) as it happens. */
int ctl_trace(const char *control_path, const char *client, bool as_json);

#endif
