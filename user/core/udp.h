/* SPDX-License-Identifier: MIT */
/*
 * The table of UDP associations: one per client endpoint (and upstream that a
 * rule names), whatever it sends to, which is what makes the NAT full-cone.
 * Pure. See udp.c for who has to go when there is no room.
 */
#ifndef SOCKSPLICE_UDP_H
#define SOCKSPLICE_UDP_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "frame.h"

#define UDP_NONE UINT32_MAX
/* udp_key.wanted: no rule names an upstream */
#define UDP_ANY_UPSTREAM 0xffff

struct udp_key {
	struct endpoint client;
	uint16_t wanted; /* index of the upstream that a rule names */
	uint16_t pad;    /* zero: hashed and compared as bytes */
};

struct udp_limits {
	uint32_t max;        /* associations */
	uint32_t per_client; /* by one address */
	/* datagrams that wait for their association */
	uint32_t queue_pkts, queue_bytes; /* of one */
	uint32_t queue_frames;            /* of all */
};

struct udp_table;

/* `pool` is where queued datagrams lie. NULL: no memory. */
struct udp_table *udp_create(const struct udp_limits *limits, const uint8_t secret[16], struct frame_pool *pool);
void udp_destroy(struct udp_table *table);

/* Index of the association, < limits.max, or UDP_NONE. */
uint32_t udp_find(const struct udp_table *table, const struct udp_key *key);
/*
 * Who has to go before this client can have another association; UDP_NONE: nobody, udp_add() will succeed. The owner
 * may know of later traffic of the victim, tell it by udp_touch(), and ask again.
 */
uint32_t udp_victim(const struct udp_table *table, const struct addr *client);
/* A new one; UDP_NONE: udp_victim() has to go first. Indexes rest as long as possible before they are used again. */
uint32_t udp_add(struct udp_table *table, const struct udp_key *key, uint64_t now_ns);
/* Its queue must be empty. */
void udp_remove(struct udp_table *table, uint32_t index);
/* There was traffic at that time. */
void udp_touch(struct udp_table *table, uint32_t index, uint64_t at_ns);
uint64_t udp_last_ns(const struct udp_table *table, uint32_t index);
const struct udp_key *udp_key_of(const struct udp_table *table, uint32_t index);
uint32_t udp_count(const struct udp_table *table);
uint32_t udp_clients(const struct udp_table *table);

/*
 * Keeps a datagram: a chain of frames (FRAME_FLOW) with just payload, whose struct frame.seq is the table's until it is
 * taken out again. false: a limit; the frames stay the caller's.
 */
bool udp_queue(struct udp_table *table, uint32_t index, uint32_t frame, uint32_t bytes, uint32_t frames);
/* Frames of the oldest; 0: none waits. */
uint32_t udp_queued_frames(const struct udp_table *table, uint32_t index);
/* The oldest, or FRAME_NONE. */
uint32_t udp_dequeue(struct udp_table *table, uint32_t index);

#endif
