/* SPDX-License-Identifier: MIT */
/* Rules for tests: random lists, random packets that meet them often, and the plainest decision there can be. */
#ifndef SOCKSPLICE_TEST_RULES_H
#define SOCKSPLICE_TEST_RULES_H

#include <stdint.h>

#include "config.h"
#include "rules.h"

/* A generator of its own, so that a failure can be repeated. */
uint64_t random_next(uint64_t *state);

/* A list that shares few addresses and ports, so that its rules overlap; config_rules_free() gives it back. */
void rules_random(struct config_rules *out, uint64_t *state, uint32_t max_rules, uint32_t max_prefixes);
void config_rules_free(struct config_rules *rules);
/* `count` different /24 and /48 of a rule with this action, behind 10.0.0.0/8 and fd00::/8. */
void rules_of_prefixes(struct config_rules *out, uint32_t count, enum config_rule_action action);
/* Mostly near to what the rules name. */
struct rules_packet rules_random_packet(const struct config_rules *rules, uint64_t *state);
/* Rule by rule, prefix by prefix, port by port: number of the first that matches, or RULES_NONE. */
int rules_match_plainly(const struct config_rules *rules, const struct rules_packet *packet);

#endif
