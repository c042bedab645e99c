/* SPDX-License-Identifier: MIT */
/* The client commands: asking the running daemon and printing what it says. */
#ifndef SOCKSPLICE_CTL_H
#define SOCKSPLICE_CTL_H

#include <stdbool.h>

#define CTL_EXIT_FAILED 1
#define CTL_EXIT_UNREACHABLE 4

/* `command`: status, stats or flows. Returns the exit code. */
int ctl_run(const char *command, const char *control_path, bool as_json);

#endif
