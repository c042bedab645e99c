/* SPDX-License-Identifier: MIT */
/*
 * The upstreams of one daemon. Each has a slot for as long as a connection or
 * an entry of the kernel's table names it, so that what lives on after a
 * reload still finds the upstream that it began with: a removed upstream keeps
 * its slot, gets nothing new, and goes when the last of these has gone.
 *
 *   upstream.c         the way to one: sockets, route, addresses, ports
 *   upstream_choice.c  health, and which one a new connection takes
 *   upkeep.c           probes, names, what becomes of failures
 *   pool.c             warm connections
 */
#ifndef SOCKSPLICE_UPSTREAMS_H
#define SOCKSPLICE_UPSTREAMS_H

#include "config.h"
#include "upstream.h"
#include "upstream_choice.h"

/* Those of the configuration, and as many that it had before. */
#define UPSTREAMS_SLOTS (2 * CONFIG_MAX_UPSTREAMS)
#define UPSTREAMS_NONE UINT32_MAX
/* For upstreams_pick(): no rule has named one. */
#define UPSTREAMS_ANY (-1)
/* One that is not in the configuration any more: nothing is picked. */
#define UPSTREAMS_GONE (-2)

struct upstreams {
	struct upstream list[UPSTREAMS_SLOTS];
	struct upstream_health health[UPSTREAMS_SLOTS];
	uint32_t used;                        /* slots below have been in use */
	uint32_t slots[CONFIG_MAX_UPSTREAMS]; /* by index in the configuration */
	uint32_t count;                       /* in the configuration */
	/* the same before the last reload */
	uint32_t slots_before[CONFIG_MAX_UPSTREAMS], count_before;
	char uplink[IFNAMSIZ];
	bool ways_changed;        /* by the last reload: some were added or removed */
	uint32_t warm, warm_peak; /* connections of all pools (pool.c) */
	uint32_t pool_limit;      /* warm connections in all */
};

/* 0 or -errno. The routes are not looked up, nor ports created, before upstreams_open(). */
void upstreams_init(struct upstreams *upstreams, const struct config *config, uint64_t now_ns);
/* Finds the ways to all and creates their ports. 0 or -errno; an upstream without a way now is no error. */
int upstreams_open(struct upstreams *upstreams);
void upstreams_release(struct upstreams *upstreams);

/*
 * The slot of the upstream for a new connection. `wanted`: index in the configuration, as a rule names it, which is
 * taken whatever its state (never another in its place), or UPSTREAMS_ANY. `tried`: bit set of slots that have failed
 * this connection already; with one set, only healthy ones are taken. UPSTREAMS_NONE: there is none, or the named one's
 * name is not resolved.
 */
uint32_t upstreams_pick(struct upstreams *upstreams, int wanted, uint64_t tried);
/* The index now of what was index `before` in the configuration before the last reload, or UPSTREAMS_GONE. */
int upstreams_renamed(const struct upstreams *upstreams, int before);
/* The slot by the id that an entry of the kernel's table carries; UPSTREAMS_NONE: it is not in the configuration. */
uint32_t upstreams_find(const struct upstreams *upstreams, uint32_t id);
/* The ports of all, those of removed ones that still live among them. */
void upstreams_ports(const struct upstreams *upstreams, struct ports_set *out);
/* Warm connections that this upstream may have: its `pool`, cut in proportion where all together exceed the limit. */
uint32_t upstreams_pool_target(const struct upstreams *upstreams, uint32_t slot);
/* Removed upstreams that nothing names any more give their memory back. */
void upstreams_sweep(struct upstreams *upstreams);

/*
 * Takes over the upstreams of another configuration, wholly or (on an error) not at all; no live connection is touched.
 *
 *   weight, backoff, pool, pool-max-age, credentials, pipeline   count from now on
 *   added                                                        used from now on
 *   removed                                                      nothing new; its connections live on
 *   another server, other ports, sources or mark                 as if removed and added under the same name
 *   uplink (of all)                                              needs a restart, and is not looked at
 *
 * Of `config` only `upstreams`, `uplink` and the pool's settings are read, and copied. On the thread that uses the set;
 * afterwards programs must be attached to new uplinks and new ports be reserved (worker_reload_upstreams() does it
 * all). Indexes that rules hold are those of the new configuration from now on. 0 or -errno with `error` for a person.
 */
int upstreams_reload(struct upstreams *upstreams, const struct config *config, uint64_t now_ns, char *error,
		     uint32_t error_bytes);

#endif
