/* SPDX-License-Identifier: MIT */
#include "findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FINDINGS_TEXT_BYTES 512

void findings_add(json_t *list, enum findings_verdict verdict, const char *what, const char *remedy, const char *fmt,
		  ...)
{
	static const char *const words[] = {[FINDINGS_OK] = "ok",
					    [FINDINGS_NOTE] = "note",
					    [FINDINGS_PROBLEM] = "problem",
					    [FINDINGS_PREVENTS] = "problem"};
	char text[FINDINGS_TEXT_BYTES];
	json_t *finding;
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	finding = json_pack("{s:s, s:s, s:s}", "verdict", words[verdict], "what", what, "text", text);
	if (verdict >= FINDINGS_PROBLEM)
		json_object_set_new(finding, "prevents_start", json_boolean(verdict == FINDINGS_PREVENTS));
	if (remedy)
		json_object_set_new(finding, "remedy", json_string(remedy));
	json_array_append_new(list, finding);
}

static const char *findings_text(const json_t *finding, const char *key)
{
	const char *text = json_string_value(json_object_get(finding, key));

	return text ? text : "";
}

void findings_count(const json_t *list, struct findings_count *count)
{
	json_t *finding;
	size_t i;

	json_array_foreach(list, i, finding)
	{
		const char *verdict = findings_text(finding, "verdict");

		if (!strcmp(verdict, "note"))
			count->notes++;
		else if (json_is_true(json_object_get(finding, "prevents_start")))
			count->prevents++;
		else if (!strcmp(verdict, "problem"))
			count->problems++;
	}
}

void findings_print(const json_t *list)
{
	json_t *finding;
	size_t i;

	json_array_foreach(list, i, finding)
	{
		printf("  %-8s%-26s%s\n", findings_text(finding, "verdict"), findings_text(finding, "what"),
		       findings_text(finding, "text"));
		if (json_object_get(finding, "remedy"))
			printf("  %-8s%-26s-> %s\n", "", "", findings_text(finding, "remedy"));
	}
}
