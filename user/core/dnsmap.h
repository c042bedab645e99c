/* SPDX-License-Identifier: MIT */
/*
 * Names that clients asked for, and the fake addresses that they got instead:
 * one number per name, counted from the start of `dns.mapped` and, for IPv6,
 * of `dns.mapped6`. See dnsmap.c.
 */
#ifndef SOCKSPLICE_DNSMAP_H
#define SOCKSPLICE_DNSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "config.h"
#include "dns.h"

#define DNSMAP_NONE UINT32_MAX
/* One line of dnsmap_save(): two numbers, a name, and what parts them. */
#define DNSMAP_LINE_BYTES (10 + 1 + 20 + 1 + DNS_TEXT_BYTES + 1)

struct dnsmap;

struct dnsmap_settings {
	struct config_prefix mapped, mapped6; /* IPv4 and IPv6 */
	struct addr except;                   /* an address that is never given away */
	uint32_t entries;                     /* names at a time; at most dnsmap_addresses() */
	uint8_t secret[16];                   /* key of the hash */
};

/* How many names two ranges have addresses for. */
uint32_t dnsmap_addresses(const struct config_prefix *mapped, const struct config_prefix *mapped6);

/* 0 or -ENOMEM. All memory is taken here. */
int dnsmap_create(struct dnsmap **out, const struct dnsmap_settings *settings);
void dnsmap_destroy(struct dnsmap *map);

/*
 * The entry of a name (lower case, no last dot; dns_name_text()), a new one if need be: then the name that was not used
 * for the longest time loses its place. DNSMAP_NONE: every name has live flows.
 */
uint32_t dnsmap_give(struct dnsmap *map, const char *name);
void dnsmap_addrs(const struct dnsmap *map, uint32_t entry, struct addr *ipv4, struct addr *ipv6);
/* Is it of one of the ranges? */
bool dnsmap_covers(const struct dnsmap *map, const struct addr *addr);
/* The entry that has this fake address, or DNSMAP_NONE. */
uint32_t dnsmap_find(const struct dnsmap *map, const struct addr *addr);
/* Empty: the address has live flows, but nobody knows any more what it stood for. */
const char *dnsmap_name(const struct dnsmap *map, uint32_t entry);

/* The name of a fake address; empty: there is none, or nobody knows it. */
void dnsmap_copy_name(const struct dnsmap *map, const struct addr *addr, char name[DNS_TEXT_BYTES]);

/* A flow to this address begins: it stays with its name until as many are released as were held. */
void dnsmap_hold(struct dnsmap *map, uint32_t entry);
void dnsmap_release(struct dnsmap *map, uint32_t entry);
/*
 * A flow of an earlier daemon lives on: its address is held, also one whose name is lost. DNSMAP_NONE: it is of neither
 * range, or there is no room.
 */
uint32_t dnsmap_hold_addr(struct dnsmap *map, const struct addr *addr);

/* Changes with every name that comes or goes. */
uint64_t dnsmap_version(const struct dnsmap *map);
/* The number that is given away next: dnsmap_load_end() wants it back. */
uint32_t dnsmap_next_number(const struct dnsmap *map);
/*
 * Lines of entries from *cursor (start with 0) on, at most `most` entries and as many as fit; returns bytes, advances
 * *cursor. False in *more: that was the last of them.
 */
size_t dnsmap_save(const struct dnsmap *map, uint32_t *cursor, uint32_t most, char *out, size_t room, bool *more);
/* One such line, without its end, before any other use of the map. false: it is none, or contradicts an earlier one. */
bool dnsmap_load(struct dnsmap *map, const char *line);
/* After the last line. */
void dnsmap_load_end(struct dnsmap *map, uint32_t next_number);

struct dnsmap_gauges {
	uint32_t entries, names, held; /* room; in use; of these with live flows */
	uint64_t given, evicted;
};

void dnsmap_gauges(const struct dnsmap *map, struct dnsmap_gauges *out);

#endif
