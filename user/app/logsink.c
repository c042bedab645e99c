/* SPDX-License-Identifier: MIT */
#include "logsink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND 1000000000ull

static struct {
	pthread_mutex_t lock;
	FILE *file;
	char path[sizeof(((struct config *)0)->log_file)]; /* empty: stderr */
	uint32_t allowance;
	uint64_t filled_ns;
	uint64_t left_out;
	struct logsink_problem problems[LOGSINK_KEPT];
	uint32_t problem_next, problem_count;
} logsink = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t logsink_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void logsink_keep(enum log_level level, const char *line, uint64_t now_ns)
{
	uint32_t last = (logsink.problem_next + LOGSINK_KEPT - 1) % LOGSINK_KEPT;
	struct logsink_problem *problem = &logsink.problems[last];

	if (!logsink.problem_count || strncmp(problem->text, line, sizeof(problem->text) - 1) != 0) {
		problem = &logsink.problems[logsink.problem_next];
		logsink.problem_next = (logsink.problem_next + 1) % LOGSINK_KEPT;
		if (logsink.problem_count < LOGSINK_KEPT)
			logsink.problem_count++;
		problem->times = 0;
		snprintf(problem->text, sizeof(problem->text), "%s", line);
	}
	problem->level = level;
	problem->at_ns = now_ns;
	problem->times++;
}

/* A bucket of LOGSINK_BURST lines: start-up says much at once, and whatever repeats must not fill a disk. */
static bool logsink_allowed(uint64_t now_ns)
{
	uint64_t earned = (now_ns - logsink.filled_ns) * LOGSINK_PER_SECOND / SECOND;

	if (!logsink.filled_ns || earned >= LOGSINK_BURST) {
		logsink.allowance = LOGSINK_BURST;
		logsink.filled_ns = now_ns;
	} else if (earned) {
		logsink.allowance = (uint32_t)MIN(logsink.allowance + earned, (uint64_t)LOGSINK_BURST);
		logsink.filled_ns += earned * SECOND / LOGSINK_PER_SECOND;
	}
	if (!logsink.allowance)
		return false;
	logsink.allowance--;
	return true;
}

static void logsink_print(enum log_level level, const char *line)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	struct timespec now;
	struct tm local;
	char stamp[32];

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &local);
	fprintf(logsink.file, "%s.%03ld %-5s %s\n", stamp, now.tv_nsec / 1000000, names[level], line);
}

static void logsink_line(enum log_level level, const char *line)
{
	uint64_t now_ns = logsink_now_ns();
	char note[64];

	pthread_mutex_lock(&logsink.lock);
	if (level <= LOG_LEVEL_WARN)
		logsink_keep(level, line, now_ns);
	if (logsink_allowed(now_ns)) {
		if (logsink.left_out) {
			snprintf(note, sizeof(note), "%llu lines left out: too many at once",
				 (unsigned long long)logsink.left_out);
			logsink_print(LOG_LEVEL_WARN, note);
			logsink.left_out = 0;
		}
		logsink_print(level, line);
		fflush(logsink.file);
	} else {
		logsink.left_out++;
	}
	pthread_mutex_unlock(&logsink.lock);
}

int logsink_open(const struct config *config)
{
	logsink.file = stderr;
	if (strcmp(config->log_file, "stderr")) {
		logsink.file = fopen(config->log_file, "ae");
		if (!logsink.file) {
			fprintf(stderr, "socksplice: log file %s: %s\n", config->log_file, strerror(errno));
			return -errno;
		}
		snprintf(logsink.path, sizeof(logsink.path), "%s", config->log_file);
	}
	log_set_sink(logsink_line, (enum log_level)config->log_level);
	return 0;
}

int logsink_reopen(void)
{
	FILE *file, *old;

	if (!logsink.path[0])
		return 0;
	file = fopen(logsink.path, "ae");
	if (!file)
		return -errno;
	pthread_mutex_lock(&logsink.lock);
	old = logsink.file;
	logsink.file = file;
	pthread_mutex_unlock(&logsink.lock);
	fclose(old);
	return 0;
}

uint32_t logsink_problems(struct logsink_problem out[static LOGSINK_KEPT])
{
	uint32_t count;

	pthread_mutex_lock(&logsink.lock);
	count = logsink.problem_count;
	for (uint32_t i = 0; i < count; i++)
		out[i] = logsink.problems[(logsink.problem_next + LOGSINK_KEPT - 1 - i) % LOGSINK_KEPT];
	pthread_mutex_unlock(&logsink.lock);
	return count;
}
