/* SPDX-License-Identifier: MIT */
/* The daemon, in the foreground. */
#ifndef SOCKSPLICE_RUN_H
#define SOCKSPLICE_RUN_H

#include "config.h"

struct honour_report;

/* Runs until SIGTERM or SIGINT; returns the exit code. `lacks`: explicit settings that fallbacks are taken for. */
int run_daemon(const struct config *config, const struct honour_report *lacks);

#endif
