/* SPDX-License-Identifier: MIT */
/* The translation of foreign configurations: an answer with a place, or a configuration that our reader accepts. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import_hev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct config config;
	struct config_error error = {.text = ""}, ours;
	char *text = NULL, *told = NULL;
	size_t bytes, told_bytes;
	FILE *out = open_memstream(&text, &bytes), *notes = open_memstream(&told, &told_bytes);
	int err = import_hev((const char *)data, len, "fuzz.yml", "eth1", out, notes, &error);

	fclose(out);
	fclose(notes);
	if (err)
		assert(!strncmp(error.text, "fuzz.yml:", 9) && !bytes);
	else
		assert(!config_parse(text, bytes, "out.yml", &config, &ours));
	free(text);
	free(told);
	return 0;
}
