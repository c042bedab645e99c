/* SPDX-License-Identifier: MIT */
/* The source ports of spliced connections, registered with the kernel so that it gives them to nobody else. */
#ifndef SOCKSPLICE_RESERVE_H
#define SOCKSPLICE_RESERVE_H

#include <stdint.h>

#include "bpfload.h"

/*
 * Registers the range and notes it beside the maps, which outlive the daemon like the flows that use the ports. A
 * failure is no reason not to start: it is logged.
 */
void reserve_take(struct bpfload *bpf, uint16_t first, uint16_t last, uint64_t daemon);
/* Gives back what is noted, if it was ours to take. */
void reserve_release(struct bpfload *bpf);

#endif
