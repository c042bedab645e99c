/* SPDX-License-Identifier: MIT */
/* The kernel's tables of flows (flow_abi.h), as the daemon writes and reads them. */
#ifndef SOCKSPLICE_FLOWMAP_H
#define SOCKSPLICE_FLOWMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "bpfload.h"
#include "flow_abi.h"

struct ring_buffer;

struct flowmap {
	struct flow_entry *entries; /* the kernel's own memory */
	uint32_t count;
	uint64_t mapped_bytes;
	int keys_fd, reports_fd;
	struct ring_buffer *ring;
	void (*report)(void *ctx, const struct flow_report *report);
	void *ctx;
};

/* `report` is called from flowmap_poll(). 0 or -errno. */
int flowmap_open(struct flowmap *map, const struct bpfload *bpf,
		 void (*report)(void *ctx, const struct flow_report *report), void *ctx);
void flowmap_close(struct flowmap *map);
/* Readable when reports wait. */
int flowmap_fd(const struct flowmap *map);
/* Takes the reports that wait; how many. */
uint32_t flowmap_poll(struct flowmap *map);

/* 0; -EEXIST: another flow has these addresses; -E2BIG: the table is full. */
int flowmap_add_key(struct flowmap *map, const struct flow_key *key, uint32_t index, uint32_t direction);
/*
 * The flow of this client key is relayed in user space: its packets go there whatever the rules say. `known`: the key
 * led to an entry until now, and changes at once. 0 or -errno, as above.
 */
int flowmap_add_relayed(struct flowmap *map, const struct flow_key *key, bool known);
/* Removes the keys of flows that an earlier daemon relayed: they ended with it. How many. */
uint32_t flowmap_forget_relayed(struct flowmap *map);
void flowmap_remove_key(struct flowmap *map, const struct flow_key *key);
bool flowmap_find(const struct flowmap *map, const struct flow_key *key, struct flow_ref *out);

/* How packets of one direction arrive: what the other direction sends, reversed. */
void flowmap_key_of(const struct flow_entry *entry, uint32_t direction, struct flow_key *out);
const char *flowmap_phase_name(uint32_t phase);
enum flow_phase flowmap_phase(const struct flow_entry *entry);
/* Checks the move; everything written before is seen by packets that see the new phase. */
void flowmap_move(struct flow_entry *entry, enum flow_phase to);

#endif
