/* SPDX-License-Identifier: MIT */
/*
 * The file that keeps the map of names over a restart. It is written by a
 * thread of its own, slice by slice as the data path copies them out, under
 * another name, and takes its place by rename() when it is whole and on disk.
 */
#ifndef SOCKSPLICE_DNS_STORE_H
#define SOCKSPLICE_DNS_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "dnsmap.h"

struct dns_store;

/* Makes `config->state` if it is not there. `wake_fd`: an eventfd, written to when a slice is done. 0 or -errno. */
int dns_store_create(struct dns_store **out, const struct config *config, int wake_fd, char *error,
		     uint32_t error_bytes);
/* Also right for NULL. Waits for the slice that is being written. */
void dns_store_destroy(struct dns_store *store);

/* Fills the fresh map. What is wrong with the file is logged, and the map is as good as its good lines. */
void dns_store_load(struct dns_store *store, struct dnsmap *map);
/*
 * Goes on with saving: call it whenever wake_fd told, and when there is something to save. `start`: begin a new file if
 * none is being written. Never waits.
 */
void dns_store_save_some(struct dns_store *store, const struct dnsmap *map, bool start);
bool dns_store_is_saving(const struct dns_store *store);
/* All of it, now. 0 or -errno. */
int dns_store_save_all(struct dns_store *store, const struct dnsmap *map);

struct dns_store_counters {
	uint64_t loaded, lines_refused, saved, errors;
};

void dns_store_counters(struct dns_store *store, struct dns_store_counters *out);

#endif
