/* SPDX-License-Identifier: MIT */
/* Writes the reference of all keys: reference markdown|mdoc. scripts/reference.sh puts it where it belongs. */
#include <stdio.h>
#include <string.h>

#include "config_reference.h"

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "markdown")) {
		config_reference_markdown(stdout);
	} else if (argc == 2 && !strcmp(argv[1], "mdoc")) {
		config_reference_mdoc(stdout);
	} else {
		fputs("usage: reference markdown|mdoc\n", stderr);
		return 2;
	}
	return 0;
}
