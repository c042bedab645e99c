/* SPDX-License-Identifier: MIT */
/* The source ports of spliced connections, registered with the kernel so that it gives them to nobody else. */
#ifndef SOCKSPLICE_RESERVE_H
#define SOCKSPLICE_RESERVE_H

#include <stdint.h>

#include "bpfload.h"
#include "ports.h"

/*
 * Registers the ports and notes those that were not reserved before beside the maps, which outlive the daemon like the
 * flows that use the ports. What is noted and not wanted any more is given back, but a range with a port that is
 * `in_use` stays. A failure is no reason not to start: it is logged.
 */
void reserve_take(struct bpfload *bpf, const struct ports_set *configured, const struct ports_set *in_use,
		  uint64_t daemon);
/* Gives back what is noted. */
void reserve_release(struct bpfload *bpf);

#endif
