/* SPDX-License-Identifier: MIT */
/* `socksplice status` for people: is it working? One screen of 80 columns and 24 lines. */
#ifndef SOCKSPLICE_STATUS_H
#define SOCKSPLICE_STATUS_H

#include <jansson.h>
#include <stdint.h>

#define STATUS_COLUMNS 80
#define STATUS_LINES 24

void status_print(const json_t *status);
/* 0 while connections can be made, else CTL_EXIT_NOT_WORKING. */
int status_exit_code(const json_t *status);

/* 12.3k, 4.56M, 7.89G: three digits and a unit; `out` of at least STATUS_NUMBER_BYTES. */
#define STATUS_NUMBER_BYTES 16
const char *status_number(double value, char *out);
/* 45s, 12m, 3h 4m, 2d 3h */
const char *status_age(uint64_t seconds, char *out);

#endif
