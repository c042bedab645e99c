/* SPDX-License-Identifier: MIT */
/* What the doctor has to say: a list of findings, each with a verdict and, where something can be done, a remedy. */
#ifndef SOCKSPLICE_FINDINGS_H
#define SOCKSPLICE_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>

enum findings_verdict {
	FINDINGS_OK,
	FINDINGS_NOTE,     /* runs, but slower or with less than this machine could */
	FINDINGS_PROBLEM,  /* the daemon starts, but something will not work */
	FINDINGS_PREVENTS, /* a problem that keeps the daemon from starting */
};

/* Adds one. `remedy`: what to do, a command where there is one; NULL: nothing. */
__attribute__((format(printf, 5, 6))) void findings_add(json_t *list, enum findings_verdict verdict, const char *what,
							const char *remedy, const char *fmt, ...);

struct findings_count {
	unsigned int notes, problems, prevents; /* `prevents` are not counted among `problems` */
};

/* Adds the findings of a list to the count. */
void findings_count(const json_t *list, struct findings_count *count);
/* One line each, and the remedy on a line of its own. */
void findings_print(const json_t *list);

#endif
