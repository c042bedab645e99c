/* SPDX-License-Identifier: MIT */
#include "flush.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bpfload.h"
#include "reserve.h"
#include "splice.h"

#define FLUSH_PER_TURN 4096

/* Every interface will do: resets are routed, nothing is sent by the stack. */
static int flush_port_of(void *ctx, uint32_t ifindex)
{
	(void)ctx;
	(void)ifindex;
	return 0;
}

static uint32_t flush_ifindex_of(void *ctx, uint16_t port)
{
	(void)ctx;
	(void)port;
	return 0;
}

static void flush_handover(void *ctx, uint32_t conn, enum flow_report_kind kind)
{
	(void)ctx;
	(void)conn;
	(void)kind;
}

static int flush_flows(const struct config *config, struct bpfload *bpf, struct upstream *upstream, uint64_t *flows)
{
	const struct splice_calls calls = {
		.handover = flush_handover, .port_of = flush_port_of, .ifindex_of = flush_ifindex_of};
	struct splice *splice;
	struct timespec now;
	uint64_t now_ns;
	int err = splice_create(&splice, config, bpf, upstream, &calls);

	if (err)
		return err;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	splice_start(splice, now_ns);
	while (splice_flush_some(splice, FLUSH_PER_TURN, now_ns))
		;
	*flows = splice_counters(splice)->flushed + splice_counters(splice)->adopted_unreachable;
	splice_destroy(splice);
	return 0;
}

int flush_leftovers(const struct config *config, uint64_t *flows, char *error, uint32_t error_bytes)
{
	const struct bpfload_settings settings = {.max_flows = config->tcp.max_flows, .pin = config->bpf_pin};
	struct upstream upstream;
	struct bpfload *bpf;
	int err;

	*flows = 0;
	err = bpfload_open(&bpf, &settings, error, error_bytes);
	if (err)
		return err;
	upstream_init(&upstream, config);
	upstream_find_route(&upstream);
	err = ports_pool_create(&upstream.ports, config->upstreams[0].ports.first, config->upstreams[0].ports.last,
				upstream.source_count ? upstream.source_count : 1);
	if (!err)
		err = flush_flows(config, bpf, &upstream, flows);
	if (err)
		snprintf(error, error_bytes, "resetting spliced connections: %s", strerror(-err));
	upstream_release(&upstream);
	reserve_release(bpf);
	for (uint32_t i = 0; i < config->interface_count; i++)
		bpfload_clear_interface((int)if_nametoindex(config->interfaces[i].name),
					config->interfaces[i].attach == CONFIG_ATTACH_LOAD);
	if (upstream.routed)
		bpfload_clear_interface(upstream.route.ifindex, true);
	bpfload_remove_leftovers(bpf);
	bpfload_close(bpf, err != 0);
	return err;
}
