/* SPDX-License-Identifier: MIT */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

static const char *ctl_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

static json_int_t ctl_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void ctl_print_status(const json_t *status)
{
	const json_t *upstream = json_object_get(status, "upstream"), *flows = json_object_get(status, "flows");
	json_t *item;
	size_t i;

	printf("socksplice %s  pid %" JSON_INTEGER_FORMAT "  up %" JSON_INTEGER_FORMAT " s  %s\n",
	       ctl_string(status, "version"), ctl_int(status, "pid"), ctl_int(status, "uptime_seconds"),
	       json_is_true(json_object_get(status, "ready")) ? "ready" : "not ready");
	json_array_foreach(json_object_get(status, "interfaces"), i, item)
	{
		printf("interface %-12s XDP %s, AF_XDP %s, %" JSON_INTEGER_FORMAT " queue(s), MTU %" JSON_INTEGER_FORMAT
		       ", attach %s\n",
		       ctl_string(item, "name"), ctl_string(item, "xdp"), ctl_string(item, "xsk"),
		       ctl_int(item, "queues"), ctl_int(item, "mtu"), ctl_string(item, "attach"));
		printf("          %-12s %s\n", "", ctl_string(item, "reason"));
	}
	printf("upstream  %-12s %s  CONNECTs granted %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT "\n",
	       ctl_string(upstream, "name"), ctl_string(upstream, "server"), ctl_int(upstream, "connects_ok"),
	       ctl_int(upstream, "dials"));
	printf("flows     %" JSON_INTEGER_FORMAT " established, %" JSON_INTEGER_FORMAT
	       " half-open, %" JSON_INTEGER_FORMAT " in TIME-WAIT\n",
	       ctl_int(flows, "established"), ctl_int(flows, "half_open"), ctl_int(flows, "time_wait"));
	printf("checksums %s\n", ctl_string(status, "simd"));
	json_array_foreach(json_object_get(status, "fallbacks"), i, item)
		printf("fallback  %s\n", json_string_value(item));
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

static void ctl_print_flows(const json_t *flows)
{
	json_t *flow;
	size_t i;

	printf("%-28s %-28s %-10s %-7s %-12s %14s %14s %8s\n", "CLIENT", "DESTINATION", "UPSTREAM", "TIER", "STATE",
	       "FROM CLIENT", "TO CLIENT", "AGE s");
	json_array_foreach(flows, i, flow)
		printf("%-28s %-28s %-10s %-7s %-12s %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
		       " %8" JSON_INTEGER_FORMAT "\n",
		       ctl_string(flow, "client"), ctl_string(flow, "destination"), ctl_string(flow, "upstream"),
		       ctl_string(flow, "tier"), ctl_string(flow, "state"), ctl_int(flow, "bytes_from_client"),
		       ctl_int(flow, "bytes_to_client"), ctl_int(flow, "age_ms") / 1000);
}

static void ctl_print(const char *command, json_t *answer)
{
	if (!strcmp(command, "status"))
		ctl_print_status(answer);
	else if (!strcmp(command, "stats"))
		ctl_print_stats(answer);
	else
		ctl_print_flows(answer);
}

int ctl_run(const char *command, const char *control_path, bool as_json)
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
	dprintf(fd, "%s\n", command);
	stream = fdopen(fd, "r");
	answer = stream ? json_loadf(stream, 0, &problem) : NULL;
	if (stream)
		fclose(stream);
	if (!answer) {
		fprintf(stderr, "socksplice: the daemon's answer is cut off or unreadable: %s\n", problem.text);
		return CTL_EXIT_UNREACHABLE;
	}
	if (json_is_object(answer) && json_object_get(answer, "error")) {
		fprintf(stderr, "socksplice: the daemon says: %s\n", ctl_string(answer, "error"));
		json_decref(answer);
		return CTL_EXIT_FAILED;
	}
	if (as_json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		ctl_print(command, answer);
	}
	json_decref(answer);
	return 0;
}
