/* SPDX-License-Identifier: MIT */
/*
 * The rules of the configuration, compiled into the tables of rules_abi.h, and
 * the decision from them. Pure: what the kernel gets is a copy of these tables
 * (rulemap.c), so a packet is decided alike on both sides.
 */
#ifndef SOCKSPLICE_RULES_H
#define SOCKSPLICE_RULES_H

#include <stdint.h>

#include "config.h"
#include "rules_abi.h"

/* One set; constant once it is made. */
struct rules_set {
	struct rules_header header;
	uint32_t range_count;
	uint32_t prefix_count; /* of the configuration */
	struct rules_range ranges[];
};

struct rules_verdict {
	enum rules_action action;
	int rule;         /* number in the list, RULES_NONE: no rule matches, and so proxy */
	int32_t upstream; /* that a rule names, else -1 */
};

/* 0, or -ENOMEM. The set does not refer to `rules`; it is given back by rules_free(). */
int rules_compile(struct rules_set **out, const struct config_rules *rules);
void rules_free(struct rules_set *set);
/* set NULL: there are no rules. */
struct rules_verdict rules_decide(const struct rules_set *set, const struct rules_packet *packet);

#endif
