/* SPDX-License-Identifier: MIT */
/*
 * Messages for a person. This floor only formats; where lines go is the sink
 * that app supplies (base and core make no system call).
 */
#ifndef SOCKSPLICE_LOG_H
#define SOCKSPLICE_LOG_H

#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `line` ends without newline and is valid during the call only. */
typedef void log_sink_fn(enum log_level level, const char *line);

/* Until a sink is set, messages are discarded. */
void log_set_sink(log_sink_fn *sink, enum log_level max_level);

/* Of the sink that is set. */
void log_set_level(enum log_level max_level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
