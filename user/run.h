/* SPDX-License-Identifier: MIT */
/* The daemon, in the foreground. */
#ifndef SOCKSPLICE_RUN_H
#define SOCKSPLICE_RUN_H

#include "config.h"

/* Runs until SIGTERM or SIGINT; returns the exit code. */
int run_daemon(struct config *config, const char *config_path);

#endif
