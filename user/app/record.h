/* SPDX-License-Identifier: MIT */
/*
 * `log.flows`: one line of JSON per ended connection, written by a thread of
 * its own. The data path only copies a record into a queue.
 */
#ifndef SOCKSPLICE_RECORD_H
#define SOCKSPLICE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "flow_record.h"

/* Records that wait for the writer; beyond, they are counted as lost. A power of two. */
#define RECORD_QUEUE 65536
/* Room for the longest line: two addresses, a name with every byte escaped, eight numbers. */
#define RECORD_LINE_BYTES 1344

struct record;

struct record_counters {
	uint64_t written; /* lines handed to the system */
	uint64_t lost;    /* the queue was full, or the file could not be written */
	uint32_t waiting, peak;
};

/* Opens `path` for appending (mode 0600: it tells who talked to whom) and starts the writer. 0, or -errno. */
int record_create(struct record **out, const char *path);
/* Writes what waits, then ends the writer. */
void record_destroy(struct record *record);
/* struct flow_recorder.put; ctx is the struct record. One thread at a time may call it. */
void record_put(void *ctx, const struct flow_record *flow);
/* The file was renamed: the next line goes to a new one. From any thread. */
void record_reopen(struct record *record);
void record_read_counters(struct record *record, struct record_counters *out);

/* The line, ended by a newline, of a flow that ended at `ended_ms` since 1970. Returns its length. */
size_t record_format(const struct flow_record *flow, uint64_t ended_ms, char line[static RECORD_LINE_BYTES]);

#endif
