/* SPDX-License-Identifier: MIT */
/* `stop --flush` when no daemon runs: ends what one has left behind. */
#ifndef SOCKSPLICE_FLUSH_H
#define SOCKSPLICE_FLUSH_H

#include <stdint.h>

#include "config.h"

/*
 * Resets the spliced flows of `config`'s bpf-pin toward both ends, detaches the programs from its interfaces and from
 * the uplink, removes the pins and gives the reserved ports back. 0 (also if there was nothing; *flows tells), or
 * -errno with a message for a person.
 */
int flush_leftovers(const struct config *config, uint64_t *flows, char *error, uint32_t error_bytes);

#endif
