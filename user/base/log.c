/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <stdio.h>

#define LOG_LINE_BYTES 1024

static log_sink_fn *log_sink;
static enum log_level log_max_level;

void log_set_sink(log_sink_fn *sink, enum log_level max_level)
{
	log_sink = sink;
	log_max_level = max_level;
}

void log_set_level(enum log_level max_level)
{
	log_max_level = max_level;
}

static void log_format(enum log_level level, const char *fmt, va_list args)
{
	char line[LOG_LINE_BYTES];

	if (!log_sink || level > log_max_level)
		return;
	vsnprintf(line, sizeof(line), fmt, args);
	log_sink(level, line);
}

#define LOG_FUNCTION(name, level)                                                                                      \
	void log_##name(const char *fmt, ...)                                                                          \
	{                                                                                                              \
		va_list args;                                                                                          \
                                                                                                                       \
		va_start(args, fmt);                                                                                   \
		log_format(level, fmt, args);                                                                          \
		va_end(args);                                                                                          \
	}

LOG_FUNCTION(error, LOG_LEVEL_ERROR)
LOG_FUNCTION(warn, LOG_LEVEL_WARN)
LOG_FUNCTION(info, LOG_LEVEL_INFO)
LOG_FUNCTION(debug, LOG_LEVEL_DEBUG)
