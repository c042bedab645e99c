/* SPDX-License-Identifier: MIT */
/* What the kernel programs know of mapped DNS (dns_abi.h), as the daemon writes it. */
#ifndef SOCKSPLICE_DIRECTMAP_H
#define SOCKSPLICE_DIRECTMAP_H

#include <stdint.h>

#include "bpfload.h"
#include "dns_abi.h"

struct directmap {
	int dns_fd, direct_fd; /* of `bpf`, which must outlive it */
};

void directmap_open(struct directmap *map, const struct bpfload *bpf);
/* In force from the next packet on. 0 or -errno. */
int directmap_configure(struct directmap *map, const struct bpf_dns *settings);
/* The client with this MAC may go to `destination` directly until then (CLOCK_MONOTONIC). 0 or -errno. */
int directmap_add(struct directmap *map, const uint8_t client_mac[6], const struct addr *destination,
		  uint64_t until_ns);

#endif
