/* SPDX-License-Identifier: MIT */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

#define CTL_STOP_POLLS 200
#define CTL_STOP_POLL_NS 50000000
#define CTL_TRACE_POLL_NS 200000000
#define CTL_REQUEST_BYTES 64

static int ctl_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

const char *ctl_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

json_int_t ctl_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void ctl_print_keys(const char *what, const json_t *keys)
{
	const json_t *key;
	size_t i;

	if (!json_array_size(keys))
		return;
	fputs(what, stdout);
	json_array_foreach(keys, i, key) printf("%s%s", i ? ", " : "", json_string_value(key));
	putchar('\n');
}

static void ctl_print_reload(const json_t *answer)
{
	printf("%s is in force: %" JSON_INTEGER_FORMAT " rules, %" JSON_INTEGER_FORMAT
	       " prefixes; %" JSON_INTEGER_FORMAT " ms\n",
	       ctl_string(answer, "file"), ctl_int(answer, "rules"), ctl_int(answer, "prefixes"),
	       ctl_int(answer, "milliseconds"));
	ctl_print_keys("applied: ", json_object_get(answer, "applied"));
	ctl_print_keys("needs a restart, left as it was: ", json_object_get(answer, "needs_restart"));
}

/* Zero counters are left out: what remains is what happened. */
static void ctl_print_stats(json_t *stats)
{
	json_t *group, *value;
	const char *name, *key;

	json_object_foreach(stats, name, group)
	{
		if (!json_is_object(group))
			continue;
		printf("%s\n", name);
		json_object_foreach(group, key, value)
		{
			if (json_is_boolean(value))
				printf("  %-28s %s\n", key, json_is_true(value) ? "yes" : "no");
			else if (json_integer_value(value) || !strcmp(name, "frames"))
				printf("  %-28s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
		}
	}
}

/* What is worth knowing beyond the columns: the name, why it is relayed, or how fast it is. */
static void ctl_print_flow_note(const json_t *flow)
{
	json_t *why = json_object_get(flow, "not_spliced"), *name = json_object_get(flow, "name");

	if (name)
		printf("  %s", json_string_value(name));
	if (why)
		printf("  not spliced: %s", json_string_value(why));
	else if (!strcmp(ctl_string(flow, "tier"), "spliced"))
		printf("  %.1f/%.1f Mbit/s, rtt %" JSON_INTEGER_FORMAT "+%" JSON_INTEGER_FORMAT " us",
		       (double)ctl_int(flow, "rate_from_client") * 8e-6, (double)ctl_int(flow, "rate_to_client") * 8e-6,
		       ctl_int(flow, "client_rtt_us"), ctl_int(flow, "upstream_rtt_us"));
	putchar('\n');
}

static void ctl_print_flows(const json_t *flows)
{
	json_t *flow;
	size_t i;

	printf("%-28s %-28s %-10s %-7s %-12s %14s %14s %8s\n", "CLIENT", "DESTINATION", "UPSTREAM", "TIER", "STATE",
	       "FROM CLIENT", "TO CLIENT", "AGE s");
	json_array_foreach(flows, i, flow)
	{
		printf("%-28s %-28s %-10s %-7s %-12s %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
		       " %8" JSON_INTEGER_FORMAT,
		       ctl_string(flow, "client"), ctl_string(flow, "destination"), ctl_string(flow, "upstream"),
		       ctl_string(flow, "tier"), ctl_string(flow, "state"), ctl_int(flow, "bytes_from_client"),
		       ctl_int(flow, "bytes_to_client"), ctl_int(flow, "age_ms") / 1000);
		ctl_print_flow_note(flow);
	}
}

static void ctl_print_failures(const json_t *upstream)
{
	json_t *failures = json_object_get(upstream, "failures"), *value;
	const char *kind;

	json_object_foreach(failures, kind, value) if (json_integer_value(value))
		printf("    %s %" JSON_INTEGER_FORMAT "\n", kind, json_integer_value(value));
}

static void ctl_print_upstream(const json_t *upstream)
{
	const json_t *dial = json_object_get(upstream, "dial"), *handshake = json_object_get(upstream, "handshake");
	const json_t *pool = json_object_get(upstream, "pool"), *address = json_object_get(upstream, "address");

	printf("%-16s %s%s%s%s  %s", ctl_string(upstream, "name"), ctl_string(upstream, "server"), address ? " (" : "",
	       address ? json_string_value(address) : "", address ? ")" : "", ctl_string(upstream, "state"));
	if (ctl_int(upstream, "failed_for_ms"))
		printf(", next probe in %.1f s", (double)ctl_int(upstream, "failed_for_ms") / 1000.0);
	printf("\n  weight %" JSON_INTEGER_FORMAT ", uplink %s, ports %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
	       " in use\n",
	       ctl_int(upstream, "weight"), *ctl_string(upstream, "uplink") ? ctl_string(upstream, "uplink") : "none",
	       ctl_int(upstream, "ports_in_use"), ctl_int(upstream, "ports_total"));
	printf("  flows: %" JSON_INTEGER_FORMAT " spliced, %" JSON_INTEGER_FORMAT " relayed, %" JSON_INTEGER_FORMAT
	       " being dialled\n",
	       ctl_int(upstream, "spliced"), ctl_int(upstream, "relayed"), ctl_int(upstream, "dialing"));
	printf("  dials %" JSON_INTEGER_FORMAT ", CONNECTs granted %" JSON_INTEGER_FORMAT
	       ", refused %" JSON_INTEGER_FORMAT ", moved to another upstream %" JSON_INTEGER_FORMAT "\n",
	       ctl_int(upstream, "dials"), ctl_int(upstream, "connects_ok"), ctl_int(upstream, "connects_refused"),
	       ctl_int(upstream, "moved_away"));
	printf("  dial %.1f ms (mean %.1f), handshake %.1f ms (mean %.1f), probes %" JSON_INTEGER_FORMAT
	       " of which failed %" JSON_INTEGER_FORMAT "\n",
	       (double)ctl_int(dial, "last_us") / 1000.0, (double)ctl_int(dial, "mean_us") / 1000.0,
	       (double)ctl_int(handshake, "last_us") / 1000.0, (double)ctl_int(handshake, "mean_us") / 1000.0,
	       ctl_int(upstream, "probes"), ctl_int(upstream, "probes_failed"));
	if (ctl_int(pool, "target"))
		printf("  pool %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " warm, hits %" JSON_INTEGER_FORMAT
		       ", misses %" JSON_INTEGER_FORMAT ", unfit for the client %" JSON_INTEGER_FORMAT "\n",
		       ctl_int(pool, "warm"), ctl_int(pool, "target"), ctl_int(pool, "hits"), ctl_int(pool, "misses"),
		       ctl_int(pool, "unfit"));
	if (ctl_int(upstream, "times_failed"))
		printf("  failed %" JSON_INTEGER_FORMAT " time(s)\n", ctl_int(upstream, "times_failed"));
	ctl_print_failures(upstream);
}

static void ctl_print_upstreams(const json_t *upstreams)
{
	const json_t *upstream;
	size_t i;

	json_array_foreach(upstreams, i, upstream) ctl_print_upstream(upstream);
}

static void ctl_print(const char *command, json_t *answer)
{
	if (!strcmp(command, "status"))
		status_print(answer);
	else if (!strcmp(command, "stats"))
		ctl_print_stats(answer);
	else if (!strcmp(command, "upstreams"))
		ctl_print_upstreams(answer);
	else if (!strcmp(command, "reload"))
		ctl_print_reload(answer);
	else
		ctl_print_flows(answer);
}

int ctl_ask(const char *request, const char *control_path, json_t **out)
{
	int fd = ctl_connect(control_path);
	json_error_t problem;
	json_t *answer;
	FILE *stream;

	if (fd < 0) {
		fprintf(stderr,
			"socksplice: no daemon answers on %s: %s (is it running? -c FILE or --control PATH choose "
			"another)\n",
			control_path, strerror(errno));
		return CTL_EXIT_UNREACHABLE;
	}
	dprintf(fd, "%s\n", request);
	stream = fdopen(fd, "r");
	answer = stream ? json_loadf(stream, 0, &problem) : NULL;
	if (stream)
		fclose(stream);
	if (!answer) {
		fprintf(stderr, "socksplice: the daemon's answer is cut off or unreadable: %s\n", problem.text);
		return CTL_EXIT_UNREACHABLE;
	}
	if (json_is_object(answer) && json_object_get(answer, "error")) {
		const json_t *exit_code = json_object_get(answer, "exit");
		int code = exit_code ? (int)json_integer_value(exit_code) : CTL_EXIT_FAILED;

		fprintf(stderr, "socksplice: the daemon says: %s\n", ctl_string(answer, "error"));
		json_decref(answer);
		return code;
	}
	*out = answer;
	return 0;
}

int ctl_run(const char *command, const char *control_path, bool as_json)
{
	json_t *answer;
	int code = ctl_ask(command, control_path, &answer);

	if (code)
		return code;
	if (as_json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		ctl_print(command, answer);
	}
	code = !strcmp(command, "status") ? status_exit_code(answer) : 0;
	json_decref(answer);
	return code;
}

bool ctl_reachable(const char *control_path)
{
	int fd = ctl_connect(control_path);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int ctl_stop(const char *control_path, bool flush, bool as_json)
{
	const struct timespec pause = {.tv_nsec = CTL_STOP_POLL_NS};
	json_t *answer;
	int code = ctl_ask(flush ? "stop-flush" : "stop", control_path, &answer);

	if (code)
		return code;
	if (as_json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(answer);
	for (int i = 0; i < CTL_STOP_POLLS; i++) {
		if (!ctl_reachable(control_path))
			return 0;
		nanosleep(&pause, NULL);
	}
	fprintf(stderr, "socksplice: the daemon has not ended after %d s; its log may say why\n",
		(int)((long)CTL_STOP_POLLS * CTL_STOP_POLL_NS / 1000000000));
	return CTL_EXIT_FAILED;
}

/* Prints what is new; returns whether more will come. */
static bool ctl_print_trace(const json_t *answer, size_t *printed, bool as_json)
{
	const json_t *events = json_object_get(answer, "events"), *event;
	bool over = !strcmp(ctl_string(answer, "state"), "over");

	if (as_json && over)
		json_dumpf(answer, stdout, JSON_INDENT(2));
	for (; !as_json && *printed < json_array_size(events); ++*printed) {
		event = json_array_get(events, *printed);
		printf("%12.3f ms  %s\n", (double)ctl_int(event, "us") / 1000.0, ctl_string(event, "text"));
	}
	fflush(stdout);
	return !over;
}

int ctl_trace(const char *control_path, const char *client, bool as_json)
{
	const struct timespec pause = {.tv_nsec = CTL_TRACE_POLL_NS};
	char request[CTL_REQUEST_BYTES];
	size_t printed = 0;
	bool more = true;
	json_t *answer;
	int code;

	if (snprintf(request, sizeof(request), client ? "trace %s" : "trace", client) >= (int)sizeof(request)) {
		fprintf(stderr, "socksplice: \"%s\" is no address\n", client);
		return CTL_EXIT_FAILED;
	}
	code = ctl_ask(request, control_path, &answer);
	if (code)
		return code;
	json_decref(answer);
	if (!as_json)
		fprintf(stderr, "waiting for the next connection%s%s ...\n", client ? " of " : "",
			client ? client : "");
	while (more) {
		code = ctl_ask("trace-read", control_path, &answer);
		if (code)
			return code;
		more = ctl_print_trace(answer, &printed, as_json);
		json_decref(answer);
		if (more)
			nanosleep(&pause, NULL);
	}
	return 0;
}
