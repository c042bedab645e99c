/* SPDX-License-Identifier: MIT */
/* What the files that read the configuration share: the document, and how to say what is wrong with it. */
#ifndef SOCKSPLICE_CONFIG_READER_H
#define SOCKSPLICE_CONFIG_READER_H

#include <yaml.h>

#include "config_yaml.h"
#include "rules_abi.h"

/* Where what can only be checked at the end stands, by rule. */
struct config_rule_marks {
	yaml_mark_t domain[RULES_MAX], rule[RULES_MAX], action[RULES_MAX], dport[RULES_MAX], upstream[RULES_MAX];
	const char *upstream_name[RULES_MAX]; /* of the document; NULL: none is named */
};

struct config_reader {
	const char *name;
	yaml_document_t *document;
	struct config *out;
	struct config_error *error;
	struct config_rule_marks *rules;
	struct config_marks *marks; /* NULL: not wanted */
};

/* -EINVAL, with "NAME:LINE:COLUMN: ..." as the error. */
int config_fail(const struct config_reader *reader, const yaml_mark_t *mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Of a scalar. */
static inline const char *config_text(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

/* config_rules.c: reads the list, and, when everything else is known, checks it. */
int config_rules_read(const struct config_reader *reader, const yaml_node_t *node);
int config_rules_check(const struct config_reader *reader);

/* config_dns.c: `dns` as a whole, and what it has by default when it is listed. */
int config_dns_check(const struct config_reader *reader, const yaml_node_t *root);

#endif
