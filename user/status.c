/* SPDX-License-Identifier: MIT */
/*
 * Lines are cut at 80 columns, and what may be long (interfaces, upstreams,
 * fallbacks, problems) is cut to a number of lines that leaves room for all
 * the rest: what is left out is said, and --json has it.
 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"

#define STATUS_INTERFACES 3
#define STATUS_UPSTREAMS 2
#define STATUS_FALLBACKS 1
#define STATUS_PROBLEMS 2

const char *status_number(double value, char *out)
{
	static const char units[] = "kMGT";
	int unit = -1;

	while (value >= 999.5 && unit < (int)sizeof(units) - 2) {
		value /= 1000;
		unit++;
	}
	if (unit < 0)
		snprintf(out, STATUS_NUMBER_BYTES, "%.0f", value);
	else
		snprintf(out, STATUS_NUMBER_BYTES, "%.*f%c",
			 value < 9.995   ? 2
			 : value < 99.95 ? 1
					 : 0,
			 value, units[unit]);
	return out;
}

const char *status_age(uint64_t seconds, char *out)
{
	if (seconds < 60)
		snprintf(out, STATUS_NUMBER_BYTES, "%us", (unsigned int)seconds);
	else if (seconds < 3600)
		snprintf(out, STATUS_NUMBER_BYTES, "%um", (unsigned int)(seconds / 60));
	else if (seconds < 86400)
		snprintf(out, STATUS_NUMBER_BYTES, "%uh %um", (unsigned int)(seconds / 3600),
			 (unsigned int)(seconds / 60 % 60));
	else
		snprintf(out, STATUS_NUMBER_BYTES, "%ud %uh", (unsigned int)(seconds / 86400 % 10000),
			 (unsigned int)(seconds / 3600 % 24));
	return out;
}

/* One line, cut to the screen; longer text ends in "...". */
__attribute__((format(printf, 1, 2))) static void status_line(const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (strlen(line) > STATUS_COLUMNS)
		strcpy(line + STATUS_COLUMNS - 3, "...");
	puts(line);
}

static void status_left_out(size_t count, size_t shown)
{
	if (count > shown)
		status_line("%-10s and %zu more (--json)", "", count - shown);
}

/* The verdict may take two lines: why is what one came for. */
static void status_print_verdict(const json_t *status)
{
	const char *state = ctl_string(status, "state"), *reason = ctl_string(status, "reason");
	char line[512];

	snprintf(line, sizeof(line), "%s%s%s", !strcmp(state, "failed") ? "not working" : state, *reason ? ": " : "",
		 reason);
	if (strlen(line) > STATUS_COLUMNS) {
		size_t cut = STATUS_COLUMNS;

		while (cut > 40 && line[cut] != ' ')
			cut--;
		line[cut] = 0;
		puts(line);
		status_line("  %s", line + cut + 1);
	} else {
		puts(line);
	}
}

static bool status_is_up(const json_t *status, const char *name)
{
	const json_t *links = json_object_get(status, "links");

	for (size_t i = 0; i < json_array_size(links); i++) {
		const json_t *link = json_array_get(links, i);

		if (!strcmp(ctl_string(link, "name"), name))
			return json_is_true(json_object_get(link, "up"));
	}
	return false;
}

static void status_print_interfaces(const json_t *status)
{
	const json_t *list = json_object_get(status, "interfaces"), *links = json_object_get(status, "links"), *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *name = ctl_string(item, "name"), *up = status_is_up(status, name) ? "up" : "DOWN";

		if (i == STATUS_INTERFACES)
			break;
		if (!strcmp(ctl_string(item, "hook"), "tc"))
			status_line("interface  %-15s %-4s hook tc, packets for user space by TAP", name, up);
		else
			status_line("interface  %-15s %-4s hook xdp, XDP %s, AF_XDP %s, %d queue(s)", name, up,
				    ctl_string(item, "xdp"), ctl_string(item, "xsk"), (int)ctl_int(item, "queues"));
	}
	status_left_out(json_array_size(list), STATUS_INTERFACES);
	json_array_foreach(links, i, item)
	{
		const char *name = ctl_string(item, "name");

		if (json_is_true(json_object_get(item, "uplink")))
			status_line("uplink     %-15s %s", name, status_is_up(status, name) ? "up" : "DOWN");
	}
}

/* Beside "ok" and "DOWN", what it is if it is not simply healthy: a standby, one that is probed, one that was removed.
 */
static void status_print_upstream(const json_t *item)
{
	const char *state = ctl_string(item, "state");
	char age[STATUS_NUMBER_BYTES], answer[64] = "not tried yet";
	bool plain = !strcmp(state, "healthy");

	if (json_is_true(json_object_get(item, "answered")))
		snprintf(answer, sizeof(answer), "answered %s ago",
			 status_age((uint64_t)ctl_int(item, "answered_seconds_ago"), age));
	else if (json_object_get(item, "last_failure"))
		snprintf(answer, sizeof(answer), "has never answered");
	status_line("upstream   %-15s %-4s %s, %s%s%s", ctl_string(item, "name"),
		    json_is_true(json_object_get(item, "usable")) ? "ok"
		    : !strcmp(state, "removed")                   ? "-"
								  : "DOWN",
		    ctl_string(item, "server"), plain ? "" : state, plain ? "" : ", ", answer);
	if (json_object_get(item, "last_failure"))
		status_line("%-26s %-4s last failure %s ago: %s", "", "",
			    status_age((uint64_t)ctl_int(item, "failed_seconds_ago"), age),
			    ctl_string(item, "last_failure"));
}

/* Those that are down first: with more than fit, they are what one came for. */
static void status_print_upstreams(const json_t *status)
{
	const json_t *list = json_object_get(status, "upstreams"), *item;
	long long granted = 0, dialled = 0;
	size_t i, shown = 0;

	for (int usable = 0; usable < 2; usable++)
		json_array_foreach(list, i, item)
		{
			if (json_is_true(json_object_get(item, "usable")) == usable && shown < STATUS_UPSTREAMS) {
				status_print_upstream(item);
				shown++;
			}
		}
	status_left_out(json_array_size(list), shown);
	json_array_foreach(list, i, item)
	{
		granted += ctl_int(item, "connects_ok");
		dialled += ctl_int(item, "dials");
	}
	status_line("CONNECT    %lld granted of %lld dialled", granted, dialled);
}

static void status_print_rates(const json_t *status)
{
	const json_t *rates = json_object_get(status, "rates");
	char up[STATUS_NUMBER_BYTES], down[STATUS_NUMBER_BYTES], packets[STATUS_NUMBER_BYTES];

	if (!ctl_int(rates, "over_ms"))
		return;
	status_line("last %llds    spliced %s bit/s up, %s bit/s down, %s packets/s",
		    (long long)(ctl_int(rates, "over_ms") + 500) / 1000,
		    status_number((double)ctl_int(rates, "spliced_bytes_from_clients") * 8, up),
		    status_number((double)ctl_int(rates, "spliced_bytes_to_clients") * 8, down),
		    status_number((double)ctl_int(rates, "spliced_packets"), packets));
	status_line("%-10s relayed %s bit/s up, %s bit/s down, %s packets/s", "",
		    status_number((double)ctl_int(rates, "relayed_bytes_from_clients") * 8, up),
		    status_number((double)ctl_int(rates, "relayed_bytes_to_clients") * 8, down),
		    status_number((double)ctl_int(rates, "relayed_packets"), packets));
	status_line("%-10s connections: %lld/s granted, %lld/s refused; packets dropped: %lld/s", "",
		    (long long)ctl_int(rates, "connections_opened"), (long long)ctl_int(rates, "connections_refused"),
		    (long long)ctl_int(rates, "drops"));
}

static void status_print_problems(const json_t *status)
{
	const json_t *list = json_object_get(status, "problems"), *item;
	char age[STATUS_NUMBER_BYTES], times[32];
	size_t i;

	json_array_foreach(list, i, item)
	{
		if (i == STATUS_PROBLEMS)
			break;
		times[0] = 0;
		if (ctl_int(item, "times") > 1)
			snprintf(times, sizeof(times), " (%d times)", (int)ctl_int(item, "times"));
		status_line("%-10s %s ago%s: %s", ctl_string(item, "level"),
			    status_age((uint64_t)ctl_int(item, "seconds_ago"), age), times, ctl_string(item, "text"));
	}
	status_left_out(json_array_size(list), STATUS_PROBLEMS);
}

void status_print(const json_t *status)
{
	const json_t *rules = json_object_get(status, "rules");
	const json_t *flows = json_object_get(status, "flows"), *fallbacks = json_object_get(status, "fallbacks"),
		     *item;
	char age[STATUS_NUMBER_BYTES];
	size_t i;

	status_print_verdict(status);
	status_line("socksplice %s, pid %d, up %s, checksums %s", ctl_string(status, "version"),
		    (int)ctl_int(status, "pid"), status_age((uint64_t)ctl_int(status, "uptime_seconds"), age),
		    ctl_string(status, "simd"));
	status_print_interfaces(status);
	status_print_upstreams(status);
	status_line("rules      %lld, with %lld prefixes", (long long)ctl_int(rules, "count"),
		    (long long)ctl_int(rules, "prefixes"));
	status_line("flows      %lld spliced, %lld relayed, %lld half-open, %lld in TIME-WAIT",
		    (long long)ctl_int(flows, "spliced"), (long long)ctl_int(flows, "established"),
		    (long long)ctl_int(flows, "half_open"), (long long)ctl_int(flows, "time_wait"));
	status_print_rates(status);
	json_array_foreach(fallbacks, i, item)
	{
		if (i == STATUS_FALLBACKS)
			break;
		status_line("fallback   %s", json_string_value(item));
	}
	status_left_out(json_array_size(fallbacks), STATUS_FALLBACKS);
	status_print_problems(status);
}

int status_exit_code(const json_t *status)
{
	return strcmp(ctl_string(status, "state"), "failed") ? 0 : CTL_EXIT_NOT_WORKING;
}
