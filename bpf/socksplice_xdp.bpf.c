/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The XDP program on a LAN interface. What is for the gateway itself, and what
 * is not TCP, goes on into the kernel; TCP to anywhere else goes to the AF_XDP
 * socket of its queue. Until a daemon has adopted the program (cfg.abi_version)
 * it passes everything, so that loading it by hand never cuts anyone off.
 *
 * Fragments of TCP to elsewhere are dropped and counted: TCP stacks avoid them
 * (path MTU discovery), and the user-space stack does not reassemble.
 */
#include "classify.bpf.h"
#include "count.bpf.h"

static __always_inline int on_down(const struct xdp_cfg *settings)
{
	if (settings->on_down == CFG_ON_DOWN_PASS)
		return pass(XDP_COUNT_PASS_ON_DOWN);
	return drop(DROP_NO_SOCKET);
}

static __always_inline int to_socket(struct xdp_md *ctx, const struct xdp_cfg *settings)
{
	__u32 ifindex = ctx->ingress_ifindex;
	const struct xdp_port *port = bpf_map_lookup_elem(&ports, &ifindex);
	__u32 slot;

	if (!port || ctx->rx_queue_index >= port->queues)
		return on_down(settings);
	slot = port->first_slot + ctx->rx_queue_index;
	/* ask first: the fallback verdict of bpf_redirect_map could not be counted */
	if (!bpf_map_lookup_elem(&xsks, &slot))
		return on_down(settings);
	count(XDP_COUNT_TO_SOCKET);
	return (int)bpf_redirect_map(&xsks, slot, XDP_DROP);
}

SEC("xdp")
int socksplice_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor c = {.start = data, .pos = data, .end = end};
	const struct xdp_cfg *settings;
	struct packet_view v = {};
	enum drop_reason reason;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&cfg, &zero);
	if (!settings || settings->abi_version != CFG_ABI_VERSION)
		return pass(XDP_COUNT_PASS_NOT_ADOPTED);
	reason = packet_parse_network(&c, &v);
	if (reason)
		return drop(reason);
	if (!v.ip_version)
		return pass(XDP_COUNT_PASS_NOT_IP);
	if (dst_is_local(&v))
		return pass(XDP_COUNT_PASS_LOCAL);
	if (v.l4_proto != IPPROTO_TCP)
		return pass(XDP_COUNT_PASS_NOT_TCP);
	if (v.is_fragment)
		return drop(DROP_FRAGMENT);
	reason = packet_parse_tcp(&c, &v);
	if (reason)
		return drop(reason);
	return to_socket(ctx, settings);
}

char _license[] SEC("license") = "Dual MIT/GPL";
