/* SPDX-License-Identifier: MIT */
/* One visit to a SOCKS5 server: does it answer, does it know us, does it carry UDP, and how long does that take? */
#ifndef SOCKSPLICE_UPSTREAM_PROBE_H
#define SOCKSPLICE_UPSTREAM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* For all of it: an upstream that takes longer is of no use. A neighbour that is not there is told after 3 s. */
#define UPSTREAM_PROBE_TIMEOUT_MS 4000
/* Of that, for its name. */
#define UPSTREAM_PROBE_RESOLVE_MS 2000

enum upstream_probe_stage {
	UPSTREAM_PROBE_RESOLVE,  /* its name */
	UPSTREAM_PROBE_CONNECT,  /* TCP */
	UPSTREAM_PROBE_GREETING, /* methods offered; nothing right came back yet */
	UPSTREAM_PROBE_AUTH,     /* name and password are sent */
	UPSTREAM_PROBE_UDP,      /* the handshake is done, UDP ASSOCIATE is asked */
	UPSTREAM_PROBE_DONE,     /* and answered */
};

struct upstream_probe {
	enum upstream_probe_stage stage; /* how far it came */
	int err;                         /* why no further: 0 (DONE), or
					    -ETIMEDOUT said nothing, -ECONNRESET closed or reset,
					    -EPROTO what it said is not SOCKS5,
					    -EACCES offers no method that we have (GREETING), refuses the password (AUTH),
					    -ENOENT the name has no address (RESOLVE),
					    others as connect(2) says */
	uint8_t udp_reply;               /* DONE: the reply code to UDP ASSOCIATE; 0 is yes */
	struct endpoint server;          /* where it was visited; zero: its name has no address */
	double connect_ms;               /* from CONNECT on; negative: not come so far */
	double handshake_ms;             /* greeting and authentication, from UDP on; negative: not come so far */
};

/* Blocks for UPSTREAM_PROBE_TIMEOUT_MS at most. `uplink`: the interface to leave by; empty: by route. */
void upstream_probe(const struct config_upstream *settings, const char *uplink, struct upstream_probe *out);

#endif
