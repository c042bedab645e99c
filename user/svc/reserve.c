/* SPDX-License-Identifier: MIT */
#include "reserve.h"

#include <string.h>

#include "log.h"
#include "pin.h"
#include "ports.h"

void reserve_take(struct bpfload *bpf, uint16_t first, uint16_t last, uint64_t daemon)
{
	struct bpf_owner owner = {0};
	struct ports_set added;
	char error[256];

	if (bpfload_read_owner(bpf, &owner))
		memset(&owner, 0, sizeof(owner));
	/* another range than an earlier daemon's: its flows keep their ports, the kernel may use the others again */
	if (owner.reserved_first && (owner.reserved_first != first || owner.reserved_last != last))
		reserve_release(bpf);
	owner.netns = pin_netns_cookie();
	owner.daemon = daemon;
	if (ports_reserve(first, last, &added, error, sizeof(error))) {
		log_warn("%s", error);
	} else if (ports_set_has_range(&added, first, last)) {
		/* part of a range that others reserved is theirs to give back */
		owner.reserved_first = first;
		owner.reserved_last = last;
	}
	bpfload_write_owner(bpf, &owner);
}

void reserve_release(struct bpfload *bpf)
{
	struct bpf_owner owner;
	struct ports_set ours = {0};
	char error[256];

	if (bpfload_read_owner(bpf, &owner) || !owner.reserved_first)
		return;
	ports_set_add(&ours, owner.reserved_first, owner.reserved_last);
	if (ports_release(&ours, error, sizeof(error)))
		log_warn("%s", error);
	owner.reserved_first = owner.reserved_last = 0;
	bpfload_write_owner(bpf, &owner);
}
