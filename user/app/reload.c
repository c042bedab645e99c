/* SPDX-License-Identifier: MIT */
/*
 * Everything that can fail comes first: reading and checking the file,
 * compiling its rules, memory for new upstreams. Then the data path takes the
 * change over in one step. Keys that take a restart are told and left
 * alone, in the settings in force too, so that the next reload tells them again.
 */
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config_diff.h"
#include "config_yaml.h"
#include "domains.h"
#include "log.h"
#include "rules.h"
#include "worker.h"

#define RELOAD_EXIT_FAILED 1
#define RELOAD_EXIT_CONFIG 3

struct reload {
	struct config *running;
	struct config wanted;
	struct config_error error;
	json_t *applied, *needs_restart;
};

static uint64_t reload_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void reload_note_key(void *ctx, const char *key, bool live)
{
	struct reload *reload = ctx;

	json_array_append_new(live ? reload->applied : reload->needs_restart, json_string(key));
}

/* What the file allows and this daemon cannot do before a restart. */
static int reload_check_rules(struct reload *reload)
{
	const struct config *running = reload->running;
	const struct config *wanted = &reload->wanted;

	for (uint32_t i = 0; i < wanted->rules.count; i++) {
		const struct config_rule *rule = &wanted->rules.rules[i];

		if (!running->performance.enable_ebpf &&
		    (rule->action == CONFIG_RULE_DIRECT ||
		     (rule->action != CONFIG_RULE_PROXY && rule->proto != CONFIG_RULE_TCP && !rule->domain_count))) {
			snprintf(reload->error.text, sizeof(reload->error.text),
				 "rules: number %u is not possible while the daemon runs without "
				 "performance.enable_ebpf; restart it",
				 i + 1);
			return -EINVAL;
		}
	}
	return 0;
}

static int reload_hand_over(struct reload *reload, struct worker *worker)
{
	struct worker_change change = {
		.tcp = reload->wanted.tcp, .on_down = reload->wanted.on_down, .config = &reload->wanted};
	struct rules_set *rules = NULL;
	struct domains *domains = NULL;
	int err = reload->wanted.rules.count ? rules_compile(&rules, &reload->wanted.rules) : 0;

	if (!err && reload->wanted.rules.count)
		err = domains_compile(&domains, &reload->wanted.rules);
	if (err) {
		rules_free(rules);
		snprintf(reload->error.text, sizeof(reload->error.text), "compiling the rules: %s", strerror(-err));
		return err;
	}
	change.rules = rules;
	change.domains = domains;
	err = worker_apply(worker, &change, reload->error.text, sizeof(reload->error.text));
	if (err) {
		rules_free(rules);
		domains_free(domains);
	}
	return err;
}

/* What the data path does not keep itself. */
static void reload_keep(struct reload *reload)
{
	struct config *running = reload->running;
	struct config_rules before = running->rules;

	running->rules = reload->wanted.rules;
	reload->wanted.rules = before;
	memcpy(running->upstreams, reload->wanted.upstreams, sizeof(running->upstreams));
	running->upstream_count = reload->wanted.upstream_count;
	running->performance.enable_connection_pool = reload->wanted.performance.enable_connection_pool;
	running->performance.connection_pool_size = reload->wanted.performance.connection_pool_size;
	running->on_down = reload->wanted.on_down;
	running->log_level = reload->wanted.log_level;
	log_set_level((enum log_level)running->log_level);
}

static void reload_log_keys(const char *what, const json_t *keys)
{
	char text[512] = "";
	const json_t *key;
	size_t i;

	json_array_foreach(keys, i, key)
	{
		strncat(text, i ? ", " : "", sizeof(text) - strlen(text) - 1);
		strncat(text, json_string_value(key), sizeof(text) - strlen(text) - 1);
	}
	if (text[0])
		log_info("reload: %s: %s", what, text);
}

static json_t *reload_answer(const struct reload *reload, const char *path, uint64_t milliseconds)
{
	const struct config_rules *rules = &reload->running->rules;

	reload_log_keys("applied", reload->applied);
	reload_log_keys("needs a restart, left as it was", reload->needs_restart);
	log_info("reload: %s is in force: %u rules, %u prefixes", path, rules->count, rules->prefix_count);
	if (reload->running->on_down == CONFIG_ON_DOWN_PASS)
		log_warn("on-down: pass: while no daemon runs, what should be proxied goes out directly");
	return json_pack("{s:s, s:i, s:i, s:I, s:O, s:O}", "file", path, "rules", (int)rules->count, "prefixes",
			 (int)rules->prefix_count, "milliseconds", (json_int_t)milliseconds, "applied", reload->applied,
			 "needs_restart", reload->needs_restart);
}

json_t *reload_apply(struct config *running, const char *path, struct worker *worker)
{
	struct reload *reload = calloc(1, sizeof(*reload));
	uint64_t started_ms = reload_now_ms();
	int exit_code = RELOAD_EXIT_CONFIG, err;
	json_t *answer;

	if (!reload)
		return NULL;
	reload->running = running;
	reload->applied = json_array();
	reload->needs_restart = json_array();
	err = config_load(path, &reload->wanted, &reload->error);
	if (!err)
		err = reload_check_rules(reload);
	if (!err) {
		config_diff(running, &reload->wanted, reload_note_key, reload);
		exit_code = RELOAD_EXIT_FAILED;
		err = reload_hand_over(reload, worker);
	}
	if (!err) {
		reload_keep(reload);
		answer = reload_answer(reload, path, reload_now_ms() - started_ms);
	} else {
		log_error("reload: nothing is changed: %s", reload->error.text);
		answer = json_pack("{s:s, s:i}", "error", reload->error.text, "exit", exit_code);
	}
	config_release(&reload->wanted);
	json_decref(reload->applied);
	json_decref(reload->needs_restart);
	free(reload);
	return answer;
}
