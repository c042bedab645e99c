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

static bool flush_has_uplink(void *ctx, uint32_t ifindex)
{
	(void)ctx;
	(void)ifindex;
	return true;
}

static void flush_handover(void *ctx, uint32_t conn, enum flow_report_kind kind)
{
	(void)ctx;
	(void)conn;
	(void)kind;
}

static int flush_flows(const struct config *config, struct bpfload *bpf, struct upstreams *upstreams, uint64_t *flows)
{
	const struct splice_calls calls = {.handover = flush_handover,
					   .port_of = flush_port_of,
					   .ifindex_of = flush_ifindex_of,
					   .has_uplink = flush_has_uplink};
	struct splice *splice;
	struct timespec now;
	uint64_t now_ns;
	int err = splice_create(&splice, config, bpf, upstreams, &calls);

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
	static struct upstreams upstreams;
	int uplinks[CFG_MAX_PORTS];
	uint32_t uplink_count;
	struct bpfload *bpf;
	int err;

	*flows = 0;
	err = bpfload_open(&bpf, &settings, error, error_bytes);
	if (err)
		return err;
	uplink_count = bpfload_uplinks(bpf, uplinks, CFG_MAX_PORTS);
	upstreams_init(&upstreams, config, 0);
	err = upstreams_open(&upstreams);
	if (!err)
		err = flush_flows(config, bpf, &upstreams, flows);
	if (err)
		snprintf(error, error_bytes, "resetting spliced connections: %s", strerror(-err));
	upstreams_release(&upstreams);
	reserve_release(bpf);
	for (uint32_t i = 0; i < config->interface_count; i++)
		bpfload_clear_interface((int)if_nametoindex(config->interfaces[i].name),
					config->interfaces[i].attach == CONFIG_ATTACH_LOAD);
	for (uint32_t i = 0; i < uplink_count; i++)
		bpfload_clear_interface(uplinks[i], true);
	bpfload_remove_leftovers(bpf, config->interfaces[0].attach == CONFIG_ATTACH_EXTERNAL);
	bpfload_close(bpf, err != 0);
	return err;
}
