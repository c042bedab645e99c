/* SPDX-License-Identifier: MIT */
/*
 * A ring of records between the data path and the writer. Head and tail only
 * grow; each is written by one side. The writer sleeps on an eventfd while the
 * ring is empty, and the data path pays for a wake-up only then: after each
 * round the writer rests for a moment, so that a busy gateway wakes it twenty
 * times a second at most.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "addr_text.h"
#include "log.h"

#define RECORD_REST_NS 50000000
#define RECORD_OUT_BYTES (64u << 10)
#define RECORD_COMPLAIN_NS 60000000000ull

struct record {
	char path[4096];
	int fd;
	int wake_fd;
	pthread_t thread;
	struct flow_record *ring;
	_Atomic uint64_t head, tail; /* records ever put, ever taken */
	_Atomic uint64_t written, lost;
	_Atomic uint32_t peak;
	atomic_bool asleep, stopping, reopen;
	uint64_t complained_ns;
	char out[RECORD_OUT_BYTES];
	size_t out_bytes;
	uint32_t out_lines;
};

static uint64_t record_now(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* --- the line --- */

/* A name from the configuration; all else in a line is ours. Returns the bytes written, without the quotes. */
static size_t record_escape(const char *text, char *out)
{
	char *p = out;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			*p++ = '\\';
			*p++ = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			p += sprintf(p, "\\u%04x", c);
		} else {
			*p++ = (char)c;
		}
	}
	*p = 0;
	return (size_t)(p - out);
}

size_t record_format(const struct flow_record *flow, uint64_t ended_ms, char line[static RECORD_LINE_BYTES])
{
	static const char *const tiers[] = {
#define X(id, text) [RECORD_TIER_##id] = text,
		RECORD_TIERS(X)
#undef X
	};
	static const char *const ends[] = {
#define X(id, text) [RECORD_END_##id] = text,
		RECORD_ENDS(X)
#undef X
	};
	char client[ADDR_TEXT_BYTES], destination[ADDR_TEXT_BYTES], stamp[32], upstream[6 * sizeof(flow->upstream) + 1];
	uint64_t lasted_ns = flow->ended_ns > flow->started_ns ? flow->ended_ns - flow->started_ns : 0;
	time_t seconds = (time_t)(ended_ms / 1000);
	struct tm utc;
	int used;

	gmtime_r(&seconds, &utc);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
	addr_text_endpoint(&flow->client, client);
	addr_text_endpoint(&flow->destination, destination);
	record_escape(flow->upstream[0] ? flow->upstream : "-", upstream);
	used = snprintf(line, RECORD_LINE_BYTES,
			"{\"time\":\"%s.%03uZ\",\"client\":\"%s\",\"destination\":\"%s\",\"upstream\":\"%s\","
			"\"tier\":\"%s\",\"bytes_from_client\":%llu,\"bytes_to_client\":%llu,"
			"\"packets_from_client\":%llu,\"packets_to_client\":%llu,\"duration_ms\":%llu,\"end\":\"%s\"",
			stamp, (unsigned int)(ended_ms % 1000), client, destination, upstream, tiers[flow->tier],
			(unsigned long long)flow->bytes_from_client, (unsigned long long)flow->bytes_to_client,
			(unsigned long long)flow->packets_from_client, (unsigned long long)flow->packets_to_client,
			(unsigned long long)(lasted_ns / 1000000), ends[flow->end]);
	/* letters, digits, '-', '_' and dots */
	if (flow->name[0])
		used += snprintf(line + used, RECORD_LINE_BYTES - (size_t)used, ",\"name\":\"%s\"", flow->name);
	if (flow->why && flow->end == RECORD_END_REFUSED)
		used += snprintf(line + used, RECORD_LINE_BYTES - (size_t)used, ",\"why\":\"%s\"", flow->why);
	if (flow->not_spliced && flow->tier != RECORD_TIER_SPLICED)
		used += snprintf(line + used, RECORD_LINE_BYTES - (size_t)used, ",\"not_spliced\":\"%s\"",
				 flow->not_spliced);
	memcpy(line + used, "}\n", 3);
	return (size_t)used + 2;
}

/* --- the data path's side --- */

void record_put(void *ctx, const struct flow_record *flow)
{
	struct record *record = ctx;
	uint64_t head = atomic_load_explicit(&record->head, memory_order_relaxed);
	uint64_t waiting = head - atomic_load_explicit(&record->tail, memory_order_acquire);

	if (waiting == RECORD_QUEUE) {
		atomic_fetch_add_explicit(&record->lost, 1, memory_order_relaxed);
		return;
	}
	record->ring[head % RECORD_QUEUE] = *flow;
	/* sequentially consistent, as is the writer's look after it has said that it sleeps: one of them sees the other
	 */
	atomic_store(&record->head, head + 1);
	if (waiting + 1 > atomic_load_explicit(&record->peak, memory_order_relaxed))
		atomic_store_explicit(&record->peak, (uint32_t)waiting + 1, memory_order_relaxed);
	if (atomic_load(&record->asleep) && atomic_exchange(&record->asleep, false))
		eventfd_write(record->wake_fd, 1);
}

void record_reopen(struct record *record)
{
	atomic_store(&record->reopen, true);
	eventfd_write(record->wake_fd, 1);
}

void record_read_counters(struct record *record, struct record_counters *out)
{
	*out = (struct record_counters){
		.written = atomic_load(&record->written),
		.lost = atomic_load(&record->lost),
		.peak = atomic_load(&record->peak),
	};
	out->waiting = (uint32_t)(atomic_load(&record->head) - atomic_load(&record->tail));
}

/* --- the writer --- */

static int record_open(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void record_complain(struct record *record, const char *what)
{
	uint64_t now_ns = record_now(CLOCK_MONOTONIC);
	int err = errno;

	if (record->complained_ns && now_ns - record->complained_ns < RECORD_COMPLAIN_NS)
		return;
	record->complained_ns = now_ns;
	log_warn("log.flows: %s %s: %s; records are lost until that is mended (counted in `stats`, group records)",
		 what, record->path, strerror(err));
}

static void record_open_again(struct record *record)
{
	int fd = record_open(record->path);

	if (fd < 0) {
		record_complain(record, "cannot open");
		return;
	}
	close(record->fd);
	record->fd = fd;
}

static void record_write_out(struct record *record)
{
	size_t done = 0;

	while (done < record->out_bytes) {
		ssize_t wrote = write(record->fd, record->out + done, record->out_bytes - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0) {
			record_complain(record, "cannot write");
			break;
		}
		done += (size_t)wrote;
	}
	atomic_fetch_add(done == record->out_bytes ? &record->written : &record->lost, record->out_lines);
	record->out_bytes = record->out_lines = 0;
}

static void record_drain(struct record *record)
{
	uint64_t tail = atomic_load_explicit(&record->tail, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&record->head, memory_order_acquire);
	/* records carry the monotonic time; this is added for the wall's */
	uint64_t offset_ns = record_now(CLOCK_REALTIME) - record_now(CLOCK_MONOTONIC);

	for (; tail != head; tail++) {
		const struct flow_record *flow = &record->ring[tail % RECORD_QUEUE];

		if (record->out_bytes + RECORD_LINE_BYTES > sizeof(record->out))
			record_write_out(record);
		record->out_bytes +=
			record_format(flow, (flow->ended_ns + offset_ns) / 1000000, record->out + record->out_bytes);
		record->out_lines++;
		atomic_store_explicit(&record->tail, tail + 1, memory_order_release);
	}
	if (record->out_bytes)
		record_write_out(record);
}

static void record_sleep(struct record *record)
{
	struct pollfd wake = {.fd = record->wake_fd, .events = POLLIN};
	eventfd_t count;

	atomic_store(&record->asleep, true);
	if (atomic_load(&record->head) == atomic_load(&record->tail) && !atomic_load(&record->stopping) &&
	    !atomic_load(&record->reopen))
		poll(&wake, 1, -1);
	atomic_store(&record->asleep, false);
	eventfd_read(record->wake_fd, &count);
}

static void *record_run(void *arg)
{
	const struct timespec rest = {.tv_nsec = RECORD_REST_NS};
	struct record *record = arg;

	pthread_setname_np(pthread_self(), "socksplice-rec");
	while (!atomic_load(&record->stopping)) {
		record_sleep(record);
		/* what was put before the request belongs to the old file */
		record_drain(record);
		if (atomic_exchange(&record->reopen, false))
			record_open_again(record);
		if (!atomic_load(&record->stopping))
			nanosleep(&rest, NULL);
	}
	record_drain(record);
	return NULL;
}

int record_create(struct record **out, const char *path)
{
	struct record *record = calloc(1, sizeof(*record));
	int err;

	if (!record)
		return -ENOMEM;
	snprintf(record->path, sizeof(record->path), "%s", path);
	record->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	record->ring = calloc(RECORD_QUEUE, sizeof(*record->ring));
	record->fd = record_open(path);
	err = record->fd < 0 || record->wake_fd < 0 ? -errno : record->ring ? 0 : -ENOMEM;
	if (!err)
		err = -pthread_create(&record->thread, NULL, record_run, record);
	if (!err) {
		*out = record;
		return 0;
	}
	if (record->fd >= 0)
		close(record->fd);
	if (record->wake_fd >= 0)
		close(record->wake_fd);
	free(record->ring);
	free(record);
	return err;
}

void record_destroy(struct record *record)
{
	if (!record)
		return;
	atomic_store(&record->stopping, true);
	eventfd_write(record->wake_fd, 1);
	pthread_join(record->thread, NULL);
	close(record->fd);
	close(record->wake_fd);
	free(record->ring);
	free(record);
}
