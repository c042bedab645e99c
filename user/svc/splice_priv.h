/* SPDX-License-Identifier: MIT */
/* What the files of the splice share. */
#ifndef SOCKSPLICE_SPLICE_PRIV_H
#define SOCKSPLICE_SPLICE_PRIV_H

#include "dnsmap.h"
#include "flowmap.h"
#include "rawip.h"
#include "splice.h"
#include "wheel.h"

/* How long an entry rests before it is used again: packets that looked it up before must have gone. */
#define SPLICE_REST_NS 1000000000ull
#define SPLICE_NO_UPSTREAM 0xff

_Static_assert(UPSTREAMS_SLOTS <= SPLICE_NO_UPSTREAM, "a slot is one byte");

#define SPLICE_TCP_FIN 0x01
#define SPLICE_TCP_SYN 0x02
#define SPLICE_TCP_RST 0x04
#define SPLICE_TCP_ACK 0x10

/* What only the daemon knows about an entry. */
struct splice_slot {
	uint64_t freed_ns;
	uint64_t sampled_ns;
	uint64_t sampled_bytes[2];
	uint64_t rate[2];         /* bytes a second */
	struct wheel_timer timer; /* until the entry of an ended flow goes */
	uint32_t next_free;
	uint32_t conn; /* whose handover this is */
	uint32_t source;
	uint32_t name; /* the flow's destination: held while it lives, if `named` */
	uint16_t port;
	uint8_t upstream; /* its slot; SPLICE_NO_UPSTREAM: of an earlier configuration */
	bool named;
	bool in_use;
	bool has_port; /* `source` and `port` are ours to give back */
	bool client_key, upstream_key;
	bool adopted;
	bool ending; /* `timer` runs */
	bool traced;
	bool counted; /* in its upstream's `spliced` */
};

struct splice {
	const struct config *config;
	struct upstreams *upstreams;
	struct stack *stack;
	struct splice_calls calls;
	struct flowmap map;
	struct rawip raw;
	struct splice_slot *slots;
	uint32_t used;                 /* slots below have been in use */
	uint32_t free_head, free_tail; /* oldest first */
	uint32_t in_use, peak;
	uint64_t rate[2]; /* sums of the slots' */
	uint64_t owner;   /* id of this process in the entries */
	bool inherited;
	bool repair_works;
	struct wheel wheel;
	uint64_t now_ns, next_sweep_ns;
	uint32_t sweep_cursor, flush_cursor;
	struct splice_counters counters;
};

static inline struct flow_entry *splice_at(const struct splice *splice, uint32_t index)
{
	return &splice->map.entries[index];
}

/* NULL: it is not in the configuration any more. */
static inline struct upstream *splice_upstream_of(const struct splice *splice, uint32_t index)
{
	uint8_t slot = splice->slots[index].upstream;

	return slot == SPLICE_NO_UPSTREAM ? NULL : &splice->upstreams->list[slot];
}

/* splice.c */
/* Packets of the flow find it no more. */
void splice_remove_keys(struct splice *splice, uint32_t index);

/* splice_life.c */
void splice_on_report(void *splice, const struct flow_report *report);
bool splice_was_reset(const struct flow_entry *entry);
/* The flow is over: its entry goes after `linger`, unless traffic shows that it lives. */
void splice_end(struct splice *splice, uint32_t index);
/* Counts what the flow has carried since the last look at it. */
void splice_count_payload(struct splice *splice, uint32_t index);
void splice_set_rate(struct splice *splice, uint32_t index, uint32_t direction, uint64_t bytes_per_second);
/* The flow of this entry ends now. */
void splice_record(struct splice *splice, uint32_t index, enum record_end end);
/* Both ends have spoken after the RST that was thought to end the flow. */
bool splice_lives_on(const struct flow_entry *entry);
/* Over, and nothing says that it lives on: its entry only waits for `linger`. */
bool splice_is_finished(const struct flow_entry *entry);
/* Counts a finished flow by how it ended, and gives its entry back. */
void splice_finish(struct splice *splice, uint32_t index);
/*
 * Ends both sides and gives the entry back. The keys go first: then nothing is under way any more that the resets would
 * not know of, and nothing of the flow is guarded.
 */
void splice_kill(struct splice *splice, uint32_t index, uint64_t now_ns);

#endif
