/* SPDX-License-Identifier: MIT */
/* The BPF programs that sit on an interface, whoever put them there. */
#ifndef SOCKSPLICE_ATTACHED_H
#define SOCKSPLICE_ATTACHED_H

#include <stdbool.h>
#include <stdint.h>

#define ATTACHED_MAX 32

enum attached_where {
	ATTACHED_XDP,
	ATTACHED_TCX_INGRESS,
	ATTACHED_TCX_EGRESS,
	ATTACHED_CLSACT_INGRESS,
	ATTACHED_CLSACT_EGRESS,
};

struct attached_program {
	enum attached_where where;
	uint32_t id;
	uint16_t priority; /* of a clsact filter */
	bool ours;         /* by its name */
	char name[16];     /* as the kernel cuts it; "?" when it may not be asked */
};

/* "XDP", "tcx ingress", ... */
const char *attached_where_name(enum attached_where where);
/* Up to ATTACHED_MAX programs, in the order in which they see a packet: XDP, tcx, clsact. Their count or -errno. */
int attached_list(int ifindex, struct attached_program out[ATTACHED_MAX]);

#endif
