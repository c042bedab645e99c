/* SPDX-License-Identifier: MIT */
/* The client commands: asking the running daemon and printing what it says. */
#ifndef SOCKSPLICE_CTL_H
#define SOCKSPLICE_CTL_H

#include <stdbool.h>

#define CTL_EXIT_FAILED 1
#define CTL_EXIT_UNREACHABLE 4

/* `command`: status, stats or flows. Returns the exit code. */
int ctl_run(const char *command, const char *control_path, bool as_json);
bool ctl_reachable(const char *control_path);
/* Ends the daemon and waits until it is gone. flush: spliced connections are reset too, and nothing stays behind. */
int ctl_stop(const char *control_path, bool flush, bool as_json);
/* Prints the life of the next connection (of the address `client`, if not NULL) as it happens. */
int ctl_trace(const char *control_path, const char *client, bool as_json);

#endif
