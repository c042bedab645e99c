/* SPDX-License-Identifier: MIT */
/*
 * The rules for names. They are those of the one list that say `domain`, and
 * those that say nothing but an action; the first in its order counts. What
 * says anything about packets (src, dst, proto, dport) is no rule for a name.
 */
#ifndef SOCKSPLICE_DOMAINS_H
#define SOCKSPLICE_DOMAINS_H

#include "config.h"
#include "rules.h"

struct domains;

/* 0 or -ENOMEM. The set does not refer to `rules`; it is given back by domains_free(). */
int domains_compile(struct domains **out, const struct config_rules *rules);
void domains_free(struct domains *domains);
/* Of a name as dns_name_text() makes it. domains NULL: there are no rules. */
struct rules_verdict domains_decide(const struct domains *domains, const char *name);

#endif
