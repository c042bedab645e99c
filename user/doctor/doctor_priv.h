/* SPDX-License-Identifier: MIT */
/* What the files of the doctor share. `config` may be NULL everywhere: then the defaults hold. */
#ifndef SOCKSPLICE_DOCTOR_PRIV_H
#define SOCKSPLICE_DOCTOR_PRIV_H

#include <jansson.h>
#include <stdint.h>

#include "config.h"

/* What of the machine the interfaces need. */
struct doctor_needs {
	bool af_xdp;         /* an interface has hook xdp */
	bool tap;            /* an interface has hook tc */
	uint32_t xdp_queues; /* of interfaces with hook xdp */
};

/* Array of objects: facts, and "findings". `servers`: as doctor_upstreams() has found them. */
json_t *doctor_interfaces(const struct config *config, const struct addr *servers, struct doctor_needs *needs);
/* Array of findings. */
json_t *doctor_machine(const struct config *config, const struct doctor_needs *needs);
/* The same: settings of the kernel's network code. */
json_t *doctor_network(const struct config *config);
/*
 * Array of objects: facts, and "findings". Takes up to UPSTREAM_PROBE_TIMEOUT_MS, however many there are. `servers`
 * gets the address of each, zero where its name has none.
 */
json_t *doctor_upstreams(const struct config *config, struct addr servers[CONFIG_MAX_UPSTREAMS]);

#endif
