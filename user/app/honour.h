/* SPDX-License-Identifier: MIT */
/*
 * What the file asks for explicitly and this machine cannot do. A default is a wish: where it cannot be, the fallback
 * is taken and `status` says so. What somebody wrote down is more: the daemon warns once, and `check --strict` fails.
 */
#ifndef SOCKSPLICE_HONOUR_H
#define SOCKSPLICE_HONOUR_H

#include <stdbool.h>
#include <stdint.h>

#include "config_yaml.h"

#define HONOUR_MAX 32
#define HONOUR_TEXT_BYTES 256

struct honour_lack {
	uint32_t line, column;        /* of the value, from 1 */
	bool prevents;                /* the daemon does not start */
	char text[HONOUR_TEXT_BYTES]; /* KEY: VALUE: what is missing, what happens instead */
};

struct honour_report {
	struct honour_lack lacks[HONOUR_MAX];
	uint32_t count;
};

/*
 * Looks for the explicit settings of `marks` only. prevents: also what the daemon itself would refuse at its start,
 * which takes longer to find out. At most HONOUR_MAX are found.
 */
void honour_check(const struct config *config, const struct config_marks *marks, bool prevents,
		  struct honour_report *out);

/*
 * The report of the daemon that this process becomes, kept by it as log keeps its sink: honour_warn() writes each to
 * the log, `status` shows honour_kept(). Set before there are threads.
 */
void honour_keep(const struct honour_report *report);
const struct honour_report *honour_kept(void);
void honour_warn(void);

#endif
