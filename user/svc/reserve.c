/* SPDX-License-Identifier: MIT */
#include "reserve.h"

#include <string.h>

#include "log.h"
#include "pin.h"

static void reserve_read(const struct bpf_owner *owner, struct ports_set *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < CFG_MAX_RESERVED; i++)
		if (owner->reserved[i].first)
			ports_set_add(out, owner->reserved[i].first, owner->reserved[i].last);
}

static void reserve_note(struct bpf_owner *owner, const struct ports_set *ours)
{
	uint16_t first, last = 0;
	uint32_t count = 0;

	memset(owner->reserved, 0, sizeof(owner->reserved));
	for (uint32_t from = 0; ports_set_next(ours, from, &first, &last); from = last + 1u) {
		if (count == CFG_MAX_RESERVED) {
			log_warn("source ports from %u on stay reserved when the daemon is removed: too many ranges",
				 first);
			return;
		}
		owner->reserved[count++] = (struct bpf_reserved){first, last};
	}
}

static void reserve_give_back(const struct ports_set *set)
{
	char error[256];

	if (ports_release(set, error, sizeof(error)))
		log_warn("%s", error);
}

/* Adds to `ours` what was free until now. */
static void reserve_ports(const struct ports_set *wanted, struct ports_set *ours)
{
	uint16_t first, last = 0;
	struct ports_set added;
	char error[512];

	for (uint32_t from = 0; ports_set_next(wanted, from, &first, &last); from = last + 1u) {
		if (ports_reserve(first, last, &added, error, sizeof(error)))
			log_warn("%s", error);
		/* part of a range that others reserved is theirs to give back */
		for (size_t i = 0; i < PORTS_COUNT / 64; i++)
			ours->words[i] |= added.words[i];
	}
}

/* Ranges of an earlier configuration are kept whole as long as one port of them is in use. */
static void reserve_keep(const struct bpf_owner *owner, const struct ports_set *in_use, struct ports_set *wanted)
{
	uint16_t first, last;

	for (uint32_t i = 0; i < CFG_MAX_RESERVED; i++)
		if (owner->reserved[i].first && ports_set_next(in_use, owner->reserved[i].first, &first, &last) &&
		    first <= owner->reserved[i].last)
			ports_set_add(wanted, owner->reserved[i].first, owner->reserved[i].last);
}

void reserve_take(struct bpfload *bpf, const struct ports_set *configured, const struct ports_set *in_use,
		  uint64_t daemon)
{
	struct ports_set ours, left, wanted = *configured;
	struct bpf_owner owner = {0};

	if (bpfload_read_owner(bpf, &owner))
		memset(&owner, 0, sizeof(owner));
	reserve_read(&owner, &ours);
	reserve_keep(&owner, in_use, &wanted);
	for (size_t i = 0; i < PORTS_COUNT / 64; i++) {
		left.words[i] = ours.words[i] & ~wanted.words[i];
		ours.words[i] &= wanted.words[i];
	}
	/* of an earlier configuration: its flows keep their ports, the kernel may use the others again */
	reserve_give_back(&left);
	reserve_ports(&wanted, &ours);
	reserve_note(&owner, &ours);
	owner.netns = pin_netns_cookie();
	owner.daemon = daemon;
	bpfload_write_owner(bpf, &owner);
}

void reserve_release(struct bpfload *bpf)
{
	struct bpf_owner owner;
	struct ports_set ours;

	if (bpfload_read_owner(bpf, &owner))
		return;
	reserve_read(&owner, &ours);
	reserve_give_back(&ours);
	memset(owner.reserved, 0, sizeof(owner.reserved));
	bpfload_write_owner(bpf, &owner);
}
