/* SPDX-License-Identifier: MIT */
#include "doctor.h"

#include <jansson.h>
#include <stdio.h>

#include "doctor_priv.h"
#include "findings.h"

static const char *doctor_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

static void doctor_count_each(const json_t *list, struct findings_count *count)
{
	json_t *object;
	size_t i;

	json_array_foreach(list, i, object) findings_count(json_object_get(object, "findings"), count);
}

static int doctor_exit_code(const struct findings_count *count)
{
	return count->prevents ? DOCTOR_EXIT_PREVENTS : count->problems ? DOCTOR_EXIT_PROBLEM : DOCTOR_EXIT_FINE;
}

static void doctor_print(const json_t *report, const struct findings_count *count)
{
	json_t *object;
	size_t i;

	puts("machine");
	findings_print(json_object_get(report, "machine"));
	puts("network");
	findings_print(json_object_get(report, "network"));
	json_array_foreach(json_object_get(report, "interfaces"), i, object)
	{
		printf("interface %s (%s)\n", doctor_string(object, "name"), doctor_string(object, "role"));
		findings_print(json_object_get(object, "findings"));
	}
	json_array_foreach(json_object_get(report, "upstreams"), i, object)
	{
		printf("upstream %s, %s\n", doctor_string(object, "name"), doctor_string(object, "server"));
		findings_print(json_object_get(object, "findings"));
	}
	if (count->prevents)
		printf("The gateway cannot run here: %u problem(s) keep it from starting, see above.\n",
		       count->prevents);
	else if (count->problems)
		printf("The gateway would start, but %u problem(s) should be looked at first.\n", count->problems);
	else
		printf("The gateway can run here%s.\n",
		       count->notes ? "; the notes say what would be better" : ", with nothing left to be wished for");
}

int doctor_run(const struct config *config, bool as_json)
{
	struct findings_count count = {0};
	struct doctor_needs needs = {0};
	struct addr servers[CONFIG_MAX_UPSTREAMS];
	/* first: it finds out where those are that are given by name */
	json_t *upstreams = doctor_upstreams(config, servers), *interfaces = doctor_interfaces(config, servers, &needs);
	json_t *machine = doctor_machine(config, &needs), *network = doctor_network(config), *report;
	int code;

	findings_count(machine, &count);
	findings_count(network, &count);
	/* without a configuration they are only candidates */
	if (config)
		doctor_count_each(interfaces, &count);
	doctor_count_each(upstreams, &count);
	code = doctor_exit_code(&count);
	report = json_pack("{s:b, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "can_run", !count.prevents, "exit_code", code,
			   "problems", (int)(count.problems + count.prevents), "notes", (int)count.notes, "machine",
			   machine, "network", network, "interfaces", interfaces, "upstreams", upstreams);
	if (as_json) {
		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		doctor_print(report, &count);
	}
	json_decref(report);
	return code;
}
