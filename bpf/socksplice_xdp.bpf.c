/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The XDP program, on LAN interfaces and uplinks whose `hook` is xdp. Packets
 * of spliced flows are rewritten and sent on from here; on LAN interfaces TCP
 * to anywhere else goes to the AF_XDP socket of its queue; all other goes on
 * into the kernel. Until a daemon has adopted the program (cfg.abi_version) it
 * passes everything, so that loading it by hand never cuts anyone off.
 *
 * The tc program behind it does the same and more. XDP is the short cut: what
 * it cannot finish it passes on untouched. That is a flow that is just
 * opening, a VLAN tag, a neighbour that is not known, an interface that takes
 * no XDP frames, and a partial checksum: a local sender on a virtual device
 * leaves the sum of the pseudo-header in the field, and XDP has no way to say
 * so on the other side.
 *
 * Fragments of TCP that is to be proxied are dropped and counted: TCP stacks avoid them
 * (path MTU discovery), and the user-space stack does not reassemble.
 */
#define HOOK_XDP
#include "classify.bpf.h"
#include "rules.bpf.h"
#include "splice.bpf.h"
#include "udpencap.bpf.h"

static __always_inline int on_down(const struct bpf_cfg *settings)
{
	if (settings->on_down == CFG_ON_DOWN_PASS)
		return pass(COUNT_PASS_ON_DOWN);
	return drop(DROP_NO_SOCKET);
}

/* The slot of the socket that serves the packet's queue; false: there is none now. */
static __always_inline int socket_slot(const struct xdp_md *ctx, const struct bpf_port *port, __u32 *slot)
{
	if (!port || ctx->rx_queue_index >= port->queues)
		return 0;
	*slot = port->first_slot + ctx->rx_queue_index;
	/* ask first: the fallback verdict of bpf_redirect_map could not be counted */
	return bpf_map_lookup_elem(&xsks, slot) != (void *)0;
}

static __always_inline int to_socket(struct xdp_md *ctx, const struct bpf_cfg *settings, const struct bpf_port *port)
{
	__u32 slot;

	if (!socket_slot(ctx, port, &slot))
		return on_down(settings);
	count(COUNT_TO_SOCKET);
	return (int)bpf_redirect_map(&xsks, slot, XDP_DROP);
}

/* The TCP checksum field holds just the folded sum of the pseudo-header. */
static __always_inline int checksum_is_partial(const struct packet_view *v, const struct tcphdr *th)
{
	__u64 sum = be16((__u16)(v->tcp_hdr_len + v->payload_len)) + be16(IPPROTO_TCP);

	sum += v->src.words[3];
	sum += v->dst.words[3];
	if (v->ip_version == 6) {
		sum += (__u64)v->src.words[0] + v->src.words[1] + v->src.words[2];
		sum += (__u64)v->dst.words[0] + v->dst.words[1] + v->dst.words[2];
	}
	return th->check == fold16(sum);
}

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	__u16 x[3], y[3];

	__builtin_memcpy(x, a, 6);
	__builtin_memcpy(y, b, 6);
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* May XDP send packets of this direction by itself? */
static __always_inline int xdp_can_send(const struct flow_entry *entry, __u32 direction)
{
	const struct flow_half *half = &entry->half[direction & 1];
	__u32 ifindex = half->ifindex;

	return half->mac_valid && !half->has_vlan && bpf_map_lookup_elem(&devices, &ifindex);
}

static __always_inline int xdp_splice(struct xdp_md *ctx, const struct bpf_port *port, const struct packet_view *v,
				      struct flow_match *match)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 direction = match->direction & 1, l4_diff;
	struct flow_half *half = &match->entry->half[direction], *other = &match->entry->half[direction ^ 1];
	__u32 l4_off = v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF;
	struct ethhdr *eth = data;
	struct tcphdr *th = data + l4_off;

	if ((void *)(th + 1) > end || v->has_vlan || v->has_ip_options || v->ip_ttl <= 1)
		return pass(COUNT_PASS_TO_TC);
	/* the hosts on this side have moved: their new address is for the neighbour table to tell */
	if (other->mac_valid && !mac_equal(eth->h_source, other->dmac)) {
		count(COUNT_MAC_CHANGES);
		other->mac_valid = 0;
	}
	if (!xdp_can_send(match->entry, direction))
		return pass(COUNT_PASS_TO_TC);
	if (port && (port->flags & CFG_PORT_VIRTUAL) && checksum_is_partial(v, th))
		return pass(COUNT_PASS_TO_TC);
	if (splice_rewrite(ctx, data, end, v, match->entry, direction, &l4_diff))
		return pass(COUNT_PASS_TO_TC);
	th->check = (__u16)~fold16((__u64)(__u16)~th->check + half->l3_diff + l4_diff);
	__builtin_memcpy(eth->h_dest, half->dmac, 6);
	__builtin_memcpy(eth->h_source, half->smac, 6);
	if (splice_is_done(match->entry))
		flow_report(match->entry, match->index, FLOW_REPORT_DONE, FLOW_REPORTED_DONE);
	count(COUNT_SPLICED_XDP);
	return (int)bpf_redirect_map(&devices, half->ifindex, XDP_DROP);
}

/* A packet of a known flow. */
static __noinline int xdp_flow(struct xdp_md *ctx, const struct bpf_cfg *settings, const struct bpf_port *port,
			       const struct packet_view *v, struct flow_match *match)
{
	__u32 phase = match->entry->phase;
	int up = match->direction == FLOW_UP;

	if (up && (v->tcp_flags & (TCP_FLAG_BYTE_SYN | TCP_FLAG_BYTE_ACK)) == TCP_FLAG_BYTE_SYN) {
		if (phase == FLOW_PHASE_PENDING && v->seq == match->entry->client_isn)
			return drop(DROP_DUPLICATE_SYN);
		return to_socket(ctx, settings, port);
	}
	if (phase == FLOW_PHASE_SPLICED)
		return xdp_splice(ctx, port, v, match);
	if (!up || phase == FLOW_PHASE_OPENING)
		return pass(COUNT_PASS_TO_TC);
	return to_socket(ctx, settings, port);
}

/* User space answers. A fragment tells nobody what it belonged to; and nothing passes because nobody is there. */
static __always_inline int reject(struct xdp_md *ctx, const struct bpf_port *port, const struct packet_view *v)
{
	__u32 slot;

	if (v->is_fragment || !socket_slot(ctx, port, &slot))
		return drop(DROP_RULE);
	count(COUNT_TO_SOCKET);
	return (int)bpf_redirect_map(&xsks, slot, XDP_DROP);
}

/* --- UDP --- */

/* The hosts on that side have moved: their new address is for the neighbour table to tell. */
static __always_inline void xdp_note_mac(const struct ethhdr *eth, struct udp_way *way)
{
	if (!way->mac_valid || mac_equal(eth->h_source, way->dmac))
		return;
	count(COUNT_MAC_CHANGES);
	way->mac_valid = 0;
}

static __always_inline int xdp_udp_is_partial(const struct bpf_port *port, const struct packet_view *v,
					      const struct udphdr *uh)
{
	__u64 sum = be16((__u16)(sizeof(*uh) + v->payload_len)) + be16(IPPROTO_UDP);
	int ipv4 = v->ip_version == 4;

	if (!port || !(port->flags & CFG_PORT_VIRTUAL))
		return 0;
	return uh->check == fold16(sum + udp_sum_addr(&v->src, ipv4) + udp_sum_addr(&v->dst, ipv4));
}

/* Sends the datagram on by itself, or leaves it to tc. change->src and sport are set for the way down. */
static __always_inline int xdp_udp_move(struct xdp_md *ctx, const struct bpf_port *port, const struct packet_view *v,
					struct udp_assoc *assoc, struct udp_change *change, int up)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct udp_way *way = &assoc->way[up ? FLOW_UP : FLOW_DOWN];
	__u32 l4_off = v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF, ifindex = way->ifindex;
	struct udphdr *uh = data + l4_off;
	int err;

	if ((void *)(uh + 1) > end || v->has_vlan)
		return pass(COUNT_PASS_TO_TC);
	xdp_note_mac(data, &assoc->way[up ? FLOW_DOWN : FLOW_UP]);
	if (!way->mac_valid || way->has_vlan || xdp_udp_is_partial(port, v, uh) ||
	    !bpf_map_lookup_elem(&devices, &ifindex))
		return pass(COUNT_PASS_TO_TC);
	if (v->ip_version == 4) {
		if (up)
			udp_change_up(change, v, way, 1);
		else
			udp_change_down(change, v, way, 1);
		err = up ? udp_move_headers(ctx, v, change, way, 1, 1) : udp_move_headers(ctx, v, change, way, 0, 1);
	} else {
		if (up)
			udp_change_up(change, v, way, 0);
		else
			udp_change_down(change, v, way, 0);
		err = up ? udp_move_headers(ctx, v, change, way, 1, 0) : udp_move_headers(ctx, v, change, way, 0, 0);
	}
	if (err)
		return drop(DROP_TRUNCATED);
	udp_note(way, change->l4_len - sizeof(struct udphdr) - (up ? udp_header_bytes(v) : 0));
	count(COUNT_UDP_XDP);
	return (int)bpf_redirect_map(&devices, ifindex, XDP_DROP);
}

/*
 * Of a relay; what is not for the client as it is, is for the association's socket. -1: of no association. Like the
 * next a function of its own for its stack.
 */
static __noinline int xdp_udp_down(struct xdp_md *ctx, const struct bpf_port *port, const struct packet_view *v)
{
	__u32 zero = 0;
	struct udp_change *change = bpf_map_lookup_elem(&udp_changes, &zero);
	struct udp_match match;

	udp_find_relay(v, ctx->ingress_ifindex, &match);
	if (!match.assoc || !change)
		return -1;
	if (!udp_fits_down(ctx, v, match.assoc, &change->src, &change->sport))
		return pass(COUNT_PASS_UPSTREAM);
	return xdp_udp_move(ctx, port, v, match.assoc, change, 0);
}

/* Of a client, to be proxied. */
static __noinline int xdp_udp_up(struct xdp_md *ctx, const struct bpf_cfg *settings, const struct bpf_port *port,
				 const struct packet_view *v, __u16 upstream)
{
	__u32 zero = 0;
	struct udp_change *change = bpf_map_lookup_elem(&udp_changes, &zero);
	struct udp_match match;

	udp_find_client(v, upstream, &match);
	if (!match.assoc || !change || !udp_fits_up(v, match.assoc))
		return to_socket(ctx, settings, port);
	return xdp_udp_move(ctx, port, v, match.assoc, change, 1);
}

/* Neither TCP nor UDP, to be proxied: user space answers echo requests. */
static __always_inline int xdp_other(struct xdp_md *ctx, const struct bpf_cfg *settings, const struct bpf_port *port,
				     const struct packet_view *v)
{
	switch (icmp_decide(ctx, settings, v)) {
	case ICMP_TO_USER:
		return to_socket(ctx, settings, port);
	case ICMP_DROPPED:
		return drop(DROP_ICMP);
	default:
		return pass(COUNT_PASS_OTHER);
	}
}

/* From a LAN interface to elsewhere, and of no known flow. */
static __always_inline int xdp_stray(struct xdp_md *ctx, const struct bpf_cfg *settings, const struct bpf_port *port,
				     const struct packet_view *v)
{
	__u32 decision = rules_decide_packet(settings, v);

	switch (rules_action_of(decision)) {
	case RULES_DIRECT:
		return pass(COUNT_PASS_DIRECT);
	case RULES_DROP:
		return drop(DROP_RULE);
	case RULES_REJECT:
		return reject(ctx, port, v);
	default:
		break;
	}
	if (v->l4_proto == IPPROTO_UDP)
		return v->sport ? xdp_udp_up(ctx, settings, port, v, rules_upstream_of(decision))
				: to_socket(ctx, settings, port);
	if (v->l4_proto != IPPROTO_TCP)
		return xdp_other(ctx, settings, port, v);
	if (v->is_fragment)
		return drop(DROP_FRAGMENT);
	return to_socket(ctx, settings, port);
}

SEC("xdp")
int socksplice_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor c = {.start = data, .pos = data, .end = end, .packet_bytes = (__u32)(end - data)};
	__u32 zero = 0, ifindex = ctx->ingress_ifindex;
	const struct bpf_cfg *settings = bpf_map_lookup_elem(&cfg, &zero);
	const struct bpf_port *port = bpf_map_lookup_elem(&ports, &ifindex);
	struct flow_match match;
	struct packet_view v = {};
	enum drop_reason reason;
	int is_lan = !port || (port->flags & CFG_PORT_LAN);

	if (!settings || settings->abi_version != CFG_ABI_VERSION)
		return pass(COUNT_PASS_NOT_ADOPTED);
	reason = packet_parse_network(&c, &v);
	/* on an uplink the kernel judges what is not ours */
	if (reason)
		return is_lan ? drop(reason) : pass(COUNT_PASS_LOCAL);
	if (!v.ip_version)
		return pass(COUNT_PASS_NOT_IP);
	if (v.l4_proto == IPPROTO_TCP && !v.is_fragment) {
		reason = packet_parse_tcp(&c, &v);
		if (reason)
			return is_lan && !dst_is_local(&v) ? drop(reason) : pass(COUNT_PASS_LOCAL);
		flow_find_arriving(&v, &match);
		if (match.entry && flow_comes_by(match.entry, match.direction, ifindex))
			return xdp_flow(ctx, settings, port, &v, &match);
		/* live flows of user space: whatever the rules have become since they were opened */
		if (match.relayed && is_lan)
			return to_socket(ctx, settings, port);
	} else if (v.l4_proto == IPPROTO_UDP && !v.is_fragment && packet_parse_udp(&c, &v) && port &&
		   (port->flags & CFG_PORT_UPLINK)) {
		int verdict = xdp_udp_down(ctx, port, &v);

		if (verdict >= 0)
			return verdict;
	}
	if (!is_lan || dst_is_local(&v))
		return pass(COUNT_PASS_LOCAL);
	/* perhaps about a packet of a spliced flow, which tc finds out; it judges those that are not */
	if (icmp_is_error(ctx, &v))
		return pass(COUNT_PASS_TO_TC);
	return xdp_stray(ctx, settings, port, &v);
}

char _license[] SEC("license") = "Dual MIT/GPL";
