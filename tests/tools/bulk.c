/* SPDX-License-Identifier: MIT */
/*
 * Bulk TCP over several connections at once, for benchmarks; the other end is tests/tools/target.c.
 *
 *   bulk up|down HOST PORT FLOWS SECONDS [PID]
 *
 * up sends to a sink, down reads from a source; one blocking thread per flow, 256 KB a call, nothing is copied on the
 * receiving side (MSG_TRUNC). All flows are connected first, then half a second passes that is not measured. CPU is
 * that of the whole machine (busy time of /proc/stat), and beside it that of process PID and all its threads (0: of
 * none).
 *
 * Prints one line of key=value:
 *   gbit           payload, Gbit/s, as this end's socket calls saw it
 *   bytes, seconds of the measured interval
 *   machine_cpu_s, process_cpu_s   seconds of CPU used in it
 *   stalled        flows that moved nothing in it
 *   failed         flows that ended before it was over
 * The exit code is 0 when none stalled or failed.
 */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CALL_BYTES (256 << 10)
#define MAX_FLOWS 1024
#define WARM_UP_S 0.5
#define CONNECT_PATIENCE_S 10

struct flow {
	alignas(64) _Atomic uint64_t bytes; /* a cache line each: the threads must not slow one another down */
	uint64_t bytes_at_begin;
	atomic_bool ended;
	int fd;
};

struct sample {
	double at_s, machine_cpu_s, process_cpu_s;
};

static struct flow flows[MAX_FLOWS];
static uint8_t buffer[CALL_BYTES];
static bool sending;

static void die(const char *what)
{
	fprintf(stderr, "bulk: %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_s(double seconds)
{
	struct timespec t = {.tv_sec = (time_t)seconds};

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	nanosleep(&t, NULL);
}

/* --- CPU --- */

/* Everything but idle, waiting and stolen. */
static double machine_cpu_s(void)
{
	unsigned long long user, nice, kernel, idle, waiting, irq, softirq;
	FILE *file = fopen("/proc/stat", "r");
	int got;

	if (!file)
		die("/proc/stat");
	got = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &kernel, &idle, &waiting, &irq,
		     &softirq);
	fclose(file);
	if (got != 7) {
		fprintf(stderr, "bulk: /proc/stat does not begin as expected\n");
		exit(2);
	}
	return (double)(user + nice + kernel + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
}

static double process_cpu_s(long pid)
{
	unsigned long long user, kernel;
	char path[64], line[1024], *end = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	file = pid ? fopen(path, "r") : NULL;
	if (!file)
		return 0;
	/* The name, in parentheses, may hold anything: fields are counted from its end. */
	if (fgets(line, sizeof(line), file))
		end = strrchr(line, ')');
	fclose(file);
	if (!end || sscanf(end + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu", &user, &kernel) != 2)
		return 0;
	return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static struct sample sample_take(long pid)
{
	return (struct sample){.at_s = now_s(), .machine_cpu_s = machine_cpu_s(), .process_cpu_s = process_cpu_s(pid)};
}

/* --- flows --- */

static int flow_connect(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;
	struct timeval patience = {.tv_sec = CONNECT_PATIENCE_S}, forever = {0};
	int fd, err = getaddrinfo(host, port, &hints, &list);

	if (err) {
		fprintf(stderr, "bulk: %s port %s: %s\n", host, port, gai_strerror(err));
		exit(2);
	}
	fd = socket(list->ai_family, SOCK_STREAM, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, list->ai_addr, list->ai_addrlen))
		die("connect");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
	freeaddrinfo(list);
	return fd;
}

static void *flow_run(void *arg)
{
	struct flow *f = arg;
	ssize_t n;

	while ((n = sending ? send(f->fd, buffer, sizeof(buffer), MSG_NOSIGNAL)
			    : recv(f->fd, buffer, sizeof(buffer), MSG_TRUNC)) > 0)
		atomic_fetch_add_explicit(&f->bytes, (uint64_t)n, memory_order_relaxed);
	atomic_store(&f->ended, true);
	return NULL;
}

static void flows_start(const char *host, const char *port, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		flows[i].fd = flow_connect(host, port);
	for (uint32_t i = 0; i < count; i++) {
		pthread_t thread;

		errno = pthread_create(&thread, NULL, flow_run, &flows[i]);
		if (errno)
			die("pthread_create");
	}
}

static int report(uint32_t count, const struct sample *begin, const struct sample *end)
{
	double seconds = end->at_s - begin->at_s;
	uint32_t stalled = 0, failed = 0;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t moved = atomic_load(&flows[i].bytes) - flows[i].bytes_at_begin;

		bytes += moved;
		stalled += !moved;
		failed += atomic_load(&flows[i].ended);
	}
	printf("gbit=%.3f bytes=%llu seconds=%.3f machine_cpu_s=%.3f process_cpu_s=%.3f stalled=%u failed=%u\n",
	       (double)bytes * 8e-9 / seconds, (unsigned long long)bytes, seconds,
	       end->machine_cpu_s - begin->machine_cpu_s, end->process_cpu_s - begin->process_cpu_s, stalled, failed);
	return stalled || failed;
}

int main(int argc, char **argv)
{
	uint32_t count = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
	double seconds = argc > 5 ? strtod(argv[5], NULL) : 0;
	long pid = argc > 6 ? strtol(argv[6], NULL, 10) : 0;
	struct sample begin, end;
	int code;

	if (argc < 6 || argc > 7 || (strcmp(argv[1], "up") && strcmp(argv[1], "down")) || !count || count > MAX_FLOWS ||
	    seconds <= 0) {
		fprintf(stderr, "usage: bulk up|down HOST PORT FLOWS SECONDS [PID]\n");
		return 2;
	}
	sending = !strcmp(argv[1], "up");
	flows_start(argv[2], argv[3], count);
	sleep_s(WARM_UP_S);
	for (uint32_t i = 0; i < count; i++)
		flows[i].bytes_at_begin = atomic_load(&flows[i].bytes);
	begin = sample_take(pid);
	sleep_s(seconds);
	end = sample_take(pid);
	code = report(count, &begin, &end);
	fflush(stdout);
	/* The threads are in the middle of a call: the end of the process ends them and resets what is open. */
	_exit(code);
}
