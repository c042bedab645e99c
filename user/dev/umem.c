/* SPDX-License-Identifier: MIT */
#include "umem.h"

#include <errno.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "log.h"

#define UMEM_HUGE_PAGE_BYTES (2ull << 20)
/* The kernel leaves this much in front of a received packet (XDP_PACKET_HEADROOM). */
#define UMEM_RX_HEADROOM_BYTES 256
#define UMEM_L2_BYTES 18 /* Ethernet with one VLAN tag */

uint32_t umem_frame_bytes_for(uint32_t mtu)
{
	for (uint32_t bytes = 2048; bytes <= 4096; bytes *= 2)
		if (mtu + UMEM_L2_BYTES + UMEM_RX_HEADROOM_BYTES <= bytes)
			return bytes;
	return 0;
}

static uint8_t *umem_map(uint64_t bytes, int extra_flags)
{
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);

	return area == MAP_FAILED ? NULL : area;
}

static void umem_bind(struct umem *umem, int numa_node)
{
	umem->numa_node = -1;
	if (numa_node < 0 || numa_available() < 0 || numa_node > numa_max_node())
		return;
	numa_tonode_memory(umem->area, umem->area_bytes, numa_node);
	umem->numa_node = numa_node;
}

int umem_create(struct umem *umem, uint32_t frame_count, uint32_t frame_bytes, int numa_node)
{
	uint64_t bytes = (uint64_t)frame_count * frame_bytes;

	memset(umem, 0, sizeof(*umem));
	umem->area_bytes = (bytes + UMEM_HUGE_PAGE_BYTES - 1) & ~(UMEM_HUGE_PAGE_BYTES - 1);
	umem->area = umem_map(umem->area_bytes, MAP_HUGETLB);
	umem->huge_pages = umem->area;
	if (!umem->area) {
		log_info("umem: no %llu huge pages of 2 MB free (vm.nr_hugepages); using normal pages",
			 (unsigned long long)(umem->area_bytes / UMEM_HUGE_PAGE_BYTES));
		umem->area = umem_map(umem->area_bytes, 0);
		if (!umem->area)
			return -ENOMEM;
		/* only advice: transparent huge pages may still come */
		madvise(umem->area, umem->area_bytes, MADV_HUGEPAGE);
	}
	/* the policy must stand before the first touch allocates the pages */
	umem_bind(umem, numa_node);
	/* frames hold clients' payload: not in core dumps */
	madvise(umem->area, umem->area_bytes, MADV_DONTDUMP);
	memset(umem->area, 0, umem->area_bytes);
	umem->frames = calloc(frame_count, sizeof(*umem->frames));
	if (!umem->frames) {
		umem_destroy(umem);
		return -ENOMEM;
	}
	frame_pool_init(&umem->pool, umem->area, umem->frames, frame_count, frame_bytes);
	return 0;
}

void umem_destroy(struct umem *umem)
{
	if (umem->area)
		munmap(umem->area, umem->area_bytes);
	free(umem->frames);
	memset(umem, 0, sizeof(*umem));
}
