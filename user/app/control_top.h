/* SPDX-License-Identifier: MIT */
/* The busiest flows and clients, for `socksplice top`. */
#ifndef SOCKSPLICE_CONTROL_TOP_H
#define SOCKSPLICE_CONTROL_TOP_H

#include <jansson.h>
#include <stdint.h>

#define CONTROL_TOP_DEFAULT 10
#define CONTROL_TOP_MAX 100
/* Clients that are told apart; the traffic of further ones is counted together. */
#define CONTROL_TOP_CLIENTS 16384

struct worker;

/* The `count` busiest of each. 0 and a new reference, or -ETIMEDOUT or -ENOMEM. */
int control_top(struct worker *worker, uint32_t count, json_t **out);

#endif
