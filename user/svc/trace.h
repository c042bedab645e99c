/* SPDX-License-Identifier: MIT */
/* The life of one connection, event by event, for `socksplice trace`. One is recorded at a time. */
#ifndef SOCKSPLICE_TRACE_H
#define SOCKSPLICE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

#define TRACE_EVENTS 64
#define TRACE_TEXT_BYTES 120

enum trace_state { TRACE_OFF, TRACE_WAITING, TRACE_RECORDING, TRACE_OVER };

struct trace_event {
	uint64_t at_ns;
	char text[TRACE_TEXT_BYTES];
};

struct trace {
	enum trace_state state;
	bool any_client;
	struct addr client; /* unless any_client */
	uint64_t started_ns;
	uint32_t count;
	uint32_t lost; /* events behind the last that fits */
	struct trace_event events[TRACE_EVENTS];
};

/* The next new connection (of `client`, if not NULL) is recorded; what was recorded before is gone. */
void trace_arm(struct trace *trace, const struct addr *client);
/* Is this new connection the one that is waited for? From then on it is. */
bool trace_begins(struct trace *trace, const struct addr *client, uint64_t now_ns);
__attribute__((format(printf, 3, 4))) void trace_note(struct trace *trace, uint64_t now_ns, const char *fmt, ...);
void trace_end(struct trace *trace, uint64_t now_ns, const char *why);

#endif
