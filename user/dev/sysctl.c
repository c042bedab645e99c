/* SPDX-License-Identifier: MIT */
#include "sysctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sysctl_read(const char *path, char *out, size_t bytes)
{
	char full[256];
	size_t got;
	FILE *file;

	if (snprintf(full, sizeof(full), "/proc/sys/%s", path) >= (int)sizeof(full))
		return -ENAMETOOLONG;
	file = fopen(full, "re");
	if (!file)
		return -errno;
	got = fread(out, 1, bytes, file);
	fclose(file);
	if (got == bytes)
		return -E2BIG;
	out[got] = 0;
	out[strcspn(out, "\n")] = 0;
	return 0;
}

int sysctl_read_number(const char *path, int64_t *out)
{
	char text[64], *end;
	int err = sysctl_read(path, text, sizeof(text));

	if (err)
		return err;
	*out = strtoll(text, &end, 10);
	return end == text ? -EINVAL : 0;
}
