/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void trace_arm(struct trace *trace, const struct addr *client)
{
	memset(trace, 0, sizeof(*trace));
	trace->state = TRACE_WAITING;
	trace->any_client = !client;
	if (client)
		trace->client = *client;
}

bool trace_begins(struct trace *trace, const struct addr *client, uint64_t now_ns)
{
	if (trace->state != TRACE_WAITING || (!trace->any_client && !addr_equal(&trace->client, client)))
		return false;
	trace->state = TRACE_RECORDING;
	trace->started_ns = now_ns;
	return true;
}

void trace_note(struct trace *trace, uint64_t now_ns, const char *fmt, ...)
{
	struct trace_event *event = &trace->events[trace->count];
	va_list args;

	if (trace->state != TRACE_RECORDING)
		return;
	if (trace->count == TRACE_EVENTS) {
		trace->lost++;
		return;
	}
	event->at_ns = now_ns;
	va_start(args, fmt);
	vsnprintf(event->text, sizeof(event->text), fmt, args);
	va_end(args);
	trace->count++;
}

void trace_end(struct trace *trace, uint64_t now_ns, const char *why)
{
	/* the end is worth more than the event before it */
	if (trace->count == TRACE_EVENTS)
		trace->count--;
	trace_note(trace, now_ns, "%s", why);
	if (trace->state == TRACE_RECORDING)
		trace->state = TRACE_OVER;
}
