/* SPDX-License-Identifier: MIT */
/* Whole IP packets, sent by the gateway where no socket of its own can speak any more: resets to upstreams. */
#ifndef SOCKSPLICE_RAWIP_H
#define SOCKSPLICE_RAWIP_H

#include <stdint.h>

#include "addr.h"

struct rawip {
	int fd4, fd6; /* -1: not available */
};

/* Either family may be missing. -errno: both are. */
int rawip_open(struct rawip *raw);
void rawip_close(struct rawip *raw);
/* One RST with this sequence number. 0 or -errno. */
int rawip_send_reset(const struct rawip *raw, const struct endpoint *src, const struct endpoint *dst, uint32_t seq,
		     uint32_t ack);

#endif
