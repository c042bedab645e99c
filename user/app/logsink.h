/* SPDX-License-Identifier: MIT */
/*
 * Where log lines go: stderr or a file, from any thread, a bounded number a
 * second; and the last errors and warnings, for `status`.
 */
#ifndef SOCKSPLICE_LOGSINK_H
#define SOCKSPLICE_LOGSINK_H

#include <stdint.h>

#include "config.h"
#include "log.h"

/* So many lines may come at once; then so many a second. */
#define LOGSINK_BURST 2000
#define LOGSINK_PER_SECOND 20
#define LOGSINK_KEPT 8
#define LOGSINK_TEXT_BYTES 256

struct logsink_problem {
	enum log_level level; /* LOG_LEVEL_ERROR, LOG_LEVEL_WARN */
	uint64_t at_ns;       /* CLOCK_MONOTONIC, of the last time */
	uint32_t times;       /* the same text in a row */
	char text[LOGSINK_TEXT_BYTES];
};

/* Opens log.file and takes all log lines from now on. 0 or -errno, with a message on stderr. */
int logsink_open(const struct config *config);
/* The file was renamed: the next line goes to a new one. 0 or -errno: the old one stays in use. */
int logsink_reopen(void);
/* The newest first; returns how many. */
uint32_t logsink_problems(struct logsink_problem out[static LOGSINK_KEPT]);

#endif
