/* SPDX-License-Identifier: MIT */
#include "faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define FAULTS_DEFAULT_SECONDS 86400u

static const char *const faults_names[CFG_FAULT_COUNT] = {
	[CFG_FAULT_FIRST_ACK] = "first_ack", [CFG_FAULT_REPORT] = "report",   [CFG_FAULT_EARLY_DATA] = "early_data",
	[CFG_FAULT_SYNACK] = "synack",       [CFG_FAULT_CRAFTED] = "crafted",
};

static void faults_read_word(struct bridge_faults *faults, const char *word, uint32_t *seconds)
{
	unsigned int value;
	char name[32];

	if (sscanf(word, "%31[a-z_]=%u", name, &value) == 2) {
		if (!strcmp(name, "seconds")) {
			*seconds = value;
			return;
		}
		for (int i = 0; i < CFG_FAULT_COUNT; i++) {
			if (strcmp(name, faults_names[i]))
				continue;
			faults->permille[i] = (uint16_t)(value > 1000 ? 1000 : value);
			return;
		}
	}
	log_warn("SOCKSPLICE_FAULTS: \"%s\" is not known", word);
}

void faults_read(struct bridge_faults *faults, uint64_t now_ns)
{
	const char *text = getenv("SOCKSPLICE_FAULTS");
	uint32_t seconds = FAULTS_DEFAULT_SECONDS;
	char copy[256], *word, *rest;

	memset(faults, 0, sizeof(*faults));
	if (!text)
		return;
	snprintf(copy, sizeof(copy), "%s", text);
	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
		faults_read_word(faults, word, &seconds);
	faults->until_ns = now_ns + seconds * 1000000000ull;
}
