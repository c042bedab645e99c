/* SPDX-License-Identifier: MIT */
/*
 * Two slots, one in force. A new set is copied into the other one through
 * mapped memory, then one word changes hands. Programs that began with the old
 * number may still read the old slot; before it is written again, by the next
 * load, an RCU grace period has passed, which no program outlives.
 *
 * No system call per prefix, no memory but what the maps have from the start.
 */
#include "rulemap.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Where the kernel does not wait for us (nohz_full, seccomp): thousands of times what a program takes. */
#define RULEMAP_REST_NS 100000000

static uint64_t rulemap_pages(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

static void *rulemap_map(int fd, uint64_t bytes)
{
	void *memory = mmap(NULL, rulemap_pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int rulemap_open(struct rulemap *map, const struct bpfload *bpf)
{
	int cfg_fd, sets_fd, ranges_fd, err;

	bpfload_rule_maps(bpf, &cfg_fd, &sets_fd, &ranges_fd);
	*map = (struct rulemap){.ranges_bytes = sizeof(struct rules_range) * RULES_SLOTS * (uint64_t)RULES_MAX_RANGES};
	map->cfg = rulemap_map(cfg_fd, sizeof(*map->cfg));
	map->sets = rulemap_map(sets_fd, RULES_SLOTS * sizeof(*map->sets));
	map->ranges = rulemap_map(ranges_fd, map->ranges_bytes);
	if (map->cfg && map->sets && map->ranges)
		return 0;
	err = -errno;
	rulemap_close(map);
	return err;
}

void rulemap_close(struct rulemap *map)
{
	if (map->cfg)
		munmap(map->cfg, rulemap_pages(sizeof(*map->cfg)));
	if (map->sets)
		munmap(map->sets, rulemap_pages(RULES_SLOTS * sizeof(*map->sets)));
	if (map->ranges)
		munmap(map->ranges, rulemap_pages(map->ranges_bytes));
	*map = (struct rulemap){0};
}

/* When this returns, no program is at work that began before. */
static void rulemap_wait(void)
{
	const struct timespec rest = {.tv_nsec = RULEMAP_REST_NS};

	/* the kernel answers it by synchronize_rcu() (kernel/sched/membarrier.c) */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		nanosleep(&rest, NULL);
}

void rulemap_load(struct rulemap *map, const struct rules_set *set)
{
	uint32_t number = map->cfg->rules_last + 1, slot = number & (RULES_SLOTS - 1);

	if (set) {
		map->cfg->rules_last = number;
		memcpy(map->ranges + slot * (size_t)RULES_MAX_RANGES, set->ranges,
		       set->range_count * sizeof(set->ranges[0]));
		map->sets[slot] = set->header;
	}
	__atomic_store_n(&map->cfg->rules, set ? number : 0, __ATOMIC_SEQ_CST);
	rulemap_wait();
}

void rulemap_set_on_down(struct rulemap *map, enum cfg_on_down on_down)
{
	__atomic_store_n(&map->cfg->on_down, (uint32_t)on_down, __ATOMIC_RELAXED);
}
