/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The tc programs. They see packets of local senders whole (GSO, partial
 * checksums) and can ask the neighbour table; so what XDP cannot finish ends
 * here, and with `hook: tc` everything does.
 *
 *   socksplice_tc       ingress of LAN interfaces and uplinks
 *   socksplice_egress   egress of uplinks: guards what the gateway's own sockets say
 *   socksplice_tap      ingress of the daemon's TAP: what it writes leaves by the LAN interface
 */
#define HOOK_TC
#include "classify.bpf.h"
#include "guard.bpf.h"
#include "icmp.bpf.h"
#include "rules.bpf.h"
#include "splice.bpf.h"
#include "udpencap.bpf.h"

/* Ethernet, IPv6 and TCP headers with all options. */
#define TC_HEADERS_BYTES (ETH_HLEN + 40 + 60)

static __always_inline int on_down(const struct bpf_cfg *settings)
{
	if (settings->on_down == CFG_ON_DOWN_PASS)
		return pass(COUNT_PASS_ON_DOWN);
	return drop(DROP_NO_SOCKET);
}

static __always_inline int to_tap(const struct bpf_cfg *settings, const struct bpf_port *port)
{
	const struct bpf_devmap_val *tap;
	__u32 slot = port->tap_slot;

	tap = bpf_map_lookup_elem(&taps, &slot);
	if (!tap)
		return on_down(settings);
	count(COUNT_TO_TAP);
	return (int)bpf_redirect(tap->ifindex, 0);
}

/* What XDP would have taken for a socket does not come here, unless its program is gone. */
static __always_inline int to_user(const struct __sk_buff *skb, const struct bpf_cfg *settings)
{
	__u32 ifindex = skb->ifindex;
	const struct bpf_port *port = bpf_map_lookup_elem(&ports, &ifindex);

	return port && (port->flags & CFG_PORT_TAP) ? to_tap(settings, port) : on_down(settings);
}

/* A packet of a flow that user space relays, on a LAN interface; an uplink has none of these. */
static __always_inline int tc_relayed(const struct __sk_buff *skb, const struct bpf_cfg *settings)
{
	__u32 ifindex = skb->ifindex;
	const struct bpf_port *port = bpf_map_lookup_elem(&ports, &ifindex);

	if (!port || !(port->flags & CFG_PORT_LAN) || !(port->flags & CFG_PORT_TAP))
		return HOOK_PASS;
	return to_tap(settings, port);
}

/* Out of `ifindex`; the kernel finds route and neighbour, and fills in the Ethernet header. */
static __always_inline int tc_send_by(struct __sk_buff *skb, __u32 ifindex, int has_vlan, __u16 vlan_tci)
{
	if (skb->vlan_present)
		bpf_skb_vlan_pop(skb);
	if (has_vlan)
		bpf_skb_vlan_push(skb, be16(ETH_P_8021Q), vlan_tci);
	return (int)bpf_redirect_neigh(ifindex, (void *)0, 0, 0);
}

static __always_inline int tc_send(struct __sk_buff *skb, const struct flow_half *half)
{
	return tc_send_by(skb, half->ifindex, half->has_vlan, half->vlan_tci);
}

static __always_inline int tc_splice(struct __sk_buff *skb, const struct packet_view *v, struct flow_match *match,
				     int first)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct flow_entry *entry = match->entry;
	struct flow_half *half = &entry->half[match->direction & 1];
	__u32 l4_off = v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF, l4_diff;

	if (splice_rewrite(skb, data, end, v, entry, match->direction, &l4_diff))
		return drop(DROP_TRUNCATED);
	bpf_l4_csum_replace(skb, l4_off + TCP_CHECK_OFF, 0, half->l3_diff, BPF_F_PSEUDO_HDR);
	bpf_l4_csum_replace(skb, l4_off + TCP_CHECK_OFF, 0, l4_diff, 0);
	if (v->ip_version == 6)
		splice_complete_ipv6(skb, half->l3_diff);
	if (first)
		flow_report(entry, match->index, FLOW_REPORT_FIRST, FLOW_REPORTED_FIRST);
	if (splice_is_done(entry))
		flow_report(entry, match->index, FLOW_REPORT_DONE, FLOW_REPORTED_DONE);
	/*
	 * Early data waits in the socket; its delivery will draw the ACK. This bare one would only let the upstream
	 * send more, which overtakes it.
	 */
	if (entry->phase == FLOW_PHASE_OPENING && match->direction == FLOW_UP && !v->payload_len &&
	    !(v->tcp_flags & (TCP_FLAG_BYTE_FIN | TCP_FLAG_BYTE_RST)) && (entry->held & FLOW_HELD_DATA) &&
	    (__s32)(entry->held_end - entry->hold) > 0)
		return drop(DROP_OPENING_HELD);
	count(COUNT_SPLICED_TC);
	return tc_send(skb, half);
}

/*
 * A client's segment in phase OPENING. The first one whose ACK covers our SYN-ACK opens upstream→client; exactly one
 * CPU may find it. -1: not acceptable; 0: open already, or an RST that stands for itself; 1: the first.
 */
static __always_inline int opening_admit(struct flow_entry *entry, const struct packet_view *v)
{
	if (entry->half[FLOW_UP].seen & FLOW_SEEN_ANY)
		return 0;
	if (v->tcp_flags & TCP_FLAG_BYTE_RST) {
		/* it gave up before it was established; its upstream must not linger */
		if (v->seq != entry->client_isn + 1)
			return -1;
		count(COUNT_OPENING_RESETS);
		return 0;
	}
	if (!(v->tcp_flags & TCP_FLAG_BYTE_ACK) || (__s32)(v->ack - entry->hold) < 0)
		return -1;
	if (__sync_fetch_and_or(&entry->half[FLOW_UP].seen, FLOW_SEEN_ANY) & FLOW_SEEN_ANY)
		return 0;
	count(COUNT_FIRST_SEGMENTS);
	return 1;
}

/* What the socket holds when it has processed this packet. */
static __always_inline void note_held(struct flow_entry *entry, const struct packet_view *v)
{
	__u32 behind = v->seq + v->payload_len;

	if (v->tcp_flags & TCP_FLAG_BYTE_SYN)
		return;
	if (v->tcp_flags & TCP_FLAG_BYTE_RST) {
		entry->held |= FLOW_HELD_RST;
		return;
	}
	if (v->payload_len && (!(entry->held & FLOW_HELD_DATA) || (__s32)(behind - entry->held_end) > 0)) {
		entry->held_end = behind;
		entry->held |= FLOW_HELD_DATA;
	}
	if (v->tcp_flags & TCP_FLAG_BYTE_FIN) {
		if (!(entry->held & FLOW_HELD_DATA))
			entry->held_end = behind;
		entry->held |= FLOW_HELD_FIN;
	}
}

/* The upstream's packets before its flow is open to it: the socket's, noted on the way. */
static __always_inline int to_upstream_socket(struct __sk_buff *skb, struct flow_match *match,
					      const struct packet_view *v)
{
	struct flow_entry *entry = match->entry;
	struct flow_half *half = &entry->half[FLOW_DOWN];
	struct option_scan scan;

	if (entry->phase == FLOW_PHASE_RELAYED || entry->phase == FLOW_PHASE_ABORTING)
		return pass(COUNT_PASS_UPSTREAM);
	if (entry->phase == FLOW_PHASE_OPENING) {
		if (fault_hits(CFG_FAULT_EARLY_DATA))
			return drop(DROP_FAULT);
		if (v->tcp_flags & TCP_FLAG_BYTE_RST)
			flow_report(entry, match->index, FLOW_REPORT_RESET, FLOW_REPORTED_RESET);
		count(COUNT_EARLY_SEGMENTS);
	}
	if (!options_scan(skb, v->l4_off + 20u, v->tcp_hdr_len - 20u, &scan)) {
		if (scan.timestamps_at)
			half->tsval = option_u32(&scan, scan.timestamps_at + 1u);
		if ((v->tcp_flags & (TCP_FLAG_BYTE_SYN | TCP_FLAG_BYTE_ACK)) ==
		    (TCP_FLAG_BYTE_SYN | TCP_FLAG_BYTE_ACK)) {
			options_of_syn(&scan, &entry->agreed);
			entry->upstream_isn = v->seq;
			entry->has_synack = 1;
			/* without a scale from the upstream neither side has one (RFC 7323 2.2) */
			if (!(entry->agreed.flags & FLOW_OPTION_WSCALE))
				entry->window_shift = 0;
			if (entry->flags & FLOW_FLAG_CLAMP_AT_SYNACK) {
				entry->clamp = v->seq + 1;
				entry->clamp_on = 1;
			}
		}
	}
	note_held(entry, v);
	half->window = v->window;
	half->ack = v->ack;
	return pass(COUNT_PASS_UPSTREAM);
}

static __noinline int tc_flow(struct __sk_buff *skb, const struct bpf_cfg *settings, const struct packet_view *v,
			      struct flow_match *match)
{
	struct flow_entry *entry = match->entry;
	__u32 phase = entry->phase;
	int up = match->direction == FLOW_UP, first = 0;

	if (up && (v->tcp_flags & (TCP_FLAG_BYTE_SYN | TCP_FLAG_BYTE_ACK)) == TCP_FLAG_BYTE_SYN) {
		if (phase == FLOW_PHASE_PENDING && v->seq == entry->client_isn)
			return drop(DROP_DUPLICATE_SYN);
		return to_user(skb, settings);
	}
	if (phase != FLOW_PHASE_OPENING && phase != FLOW_PHASE_SPLICED)
		return up ? to_user(skb, settings) : to_upstream_socket(skb, match, v);
	if (!up && phase == FLOW_PHASE_OPENING && !(entry->half[FLOW_UP].seen & FLOW_SEEN_ANY))
		return to_upstream_socket(skb, match, v);
	if (v->has_ip_options)
		return drop(DROP_IP_OPTIONS);
	if (v->ip_ttl <= 1)
		return drop(DROP_TTL_EXPIRED);
	if (up && phase == FLOW_PHASE_OPENING) {
		if (!(entry->half[FLOW_UP].seen & FLOW_SEEN_ANY) && fault_hits(CFG_FAULT_FIRST_ACK))
			return drop(DROP_FAULT);
		first = opening_admit(entry, v);
		if (first < 0)
			return drop(DROP_OPENING_BAD);
	}
	return tc_splice(skb, v, match, first);
}

/* An error about a packet of a spliced flow, translated and sent on; 0: it is none. A function of its own for its
 * stack. */
static __noinline int tc_icmp(struct __sk_buff *skb, const struct packet_view *v, int *verdict)
{
	struct flow_match match = {};
	__u8 type;

	if (v->has_ip_options || v->is_fragment ||
	    bpf_skb_load_bytes(skb, v->ip_version == 4 ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF, &type, 1))
		return 0;
	if (v->ip_version == 4 && v->l4_proto == IPPROTO_ICMP) {
		if (!icmp4_is_error(type) || !icmp4_translate(skb, &match))
			return 0;
	} else if (v->ip_version == 6 && v->l4_proto == IPPROTO_ICMPV6) {
		if (!icmp6_is_error(type) || !icmp6_translate(skb, &match))
			return 0;
	} else {
		return 0;
	}
	count(COUNT_ICMP_TRANSLATED);
	*verdict = tc_send(skb, &match.entry->half[match.direction & 1]);
	return 1;
}

/* Do Ethernet, IP and TCP headers with all options lie in the linear part? What is not TCP needs the first two. */
static __always_inline int tc_headers_linear(const struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 l4_off = skb->protocol == be16(ETH_P_IP) ? SPLICE_IPV4_L4_OFF : SPLICE_IPV6_L4_OFF;
	struct tcphdr *th = data + l4_off;

	return (void *)(th + 1) <= end && (void *)th + th->doff * 4u <= end;
}

/*
 * All headers into the linear part, where a local sender has them anyway: pulling more would copy payload of every
 * large packet. Less than these are there only in a packet that is short.
 */
static __always_inline void tc_pull(struct __sk_buff *skb)
{
	__u32 want = TC_HEADERS_BYTES;

	if (tc_headers_linear(skb))
		return;
	if (skb->len < want)
		want = skb->len;
	bpf_skb_pull_data(skb, want);
}

static __always_inline enum drop_reason tc_parse(struct __sk_buff *skb, struct packet_view *v)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct cursor c = {.start = data, .pos = data, .end = end, .packet_bytes = skb->len};
	enum drop_reason reason = packet_parse_network(&c, v);

	if (reason || v->is_fragment || !v->ip_version)
		return reason;
	if (v->l4_proto == IPPROTO_UDP)
		packet_parse_udp(&c, v);
	return v->l4_proto == IPPROTO_TCP ? packet_parse_tcp(&c, v) : DROP_NONE;
}

/* User space answers. A fragment tells nobody what it belonged to; and nothing passes because nobody is there. */
static __always_inline int reject(const struct bpf_port *port, const struct packet_view *v)
{
	const struct bpf_devmap_val *tap;
	__u32 slot = port->tap_slot;

	tap = bpf_map_lookup_elem(&taps, &slot);
	if (v->is_fragment || !tap)
		return drop(DROP_RULE);
	count(COUNT_TO_TAP);
	return (int)bpf_redirect(tap->ifindex, 0);
}

/* --- UDP --- */

/* Sends the datagram on. change->src and sport are set for the way down. A function of its own for its stack. */
static __noinline int tc_udp_move(struct __sk_buff *skb, const struct packet_view *v, struct udp_assoc *assoc,
				  struct udp_change *change, int up)
{
	struct udp_way *way = &assoc->way[up ? FLOW_UP : FLOW_DOWN];
	int err;

	if (v->ip_version == 4) {
		if (up)
			udp_change_up(change, v, way, 1);
		else
			udp_change_down(change, v, way, 1);
		err = up ? udp_move_payload(skb, v, change, 1, 1) : udp_move_payload(skb, v, change, 0, 1);
	} else {
		if (up)
			udp_change_up(change, v, way, 0);
		else
			udp_change_down(change, v, way, 0);
		err = up ? udp_move_payload(skb, v, change, 1, 0) : udp_move_payload(skb, v, change, 0, 0);
	}
	if (err)
		return drop(DROP_TRUNCATED);
	udp_note(way, change->l4_len - sizeof(struct udphdr) - (up ? udp_header_bytes(v) : 0));
	count(COUNT_UDP_TC);
	return tc_send_by(skb, way->ifindex, way->has_vlan, way->vlan_tci);
}

/* A row of datagrams in one packet (GSO) cannot have a header each. */
static __always_inline int tc_udp_is_one(const struct __sk_buff *skb, const struct packet_view *v)
{
	return !skb->gso_size && !v->has_vlan && v->payload_len <= UDPENCAP_MAX_PAYLOAD;
}

#define TC_UDP_NONE (-2) /* no verdict; TC_ACT_UNSPEC is one */
/* A datagram of a client, to be proxied; in the lower half the upstream that the rules name. */
#define TC_UDP_PROXY 0x10000

/* Of a relay; what is not for the client as it is, is for the association's socket. */
static __always_inline int tc_udp_down(struct __sk_buff *skb, const struct packet_view *v)
{
	struct udp_change change;
	struct udp_match match;

	udp_find_relay(v, skb->ifindex, &match);
	if (!match.assoc)
		return TC_UDP_NONE;
	if (!tc_udp_is_one(skb, v) || !udp_fits_down(skb, v, match.assoc, &change.src, &change.sport))
		return pass(COUNT_PASS_UPSTREAM);
	return tc_udp_move(skb, v, match.assoc, &change, 0);
}

/* Only an uplink has datagrams of relays. */
static __noinline int tc_udp_arrives(struct __sk_buff *skb, const struct packet_view *v)
{
	__u32 ifindex = skb->ifindex;
	const struct bpf_port *port = bpf_map_lookup_elem(&ports, &ifindex);

	return port && (port->flags & CFG_PORT_UPLINK) ? tc_udp_down(skb, v) : TC_UDP_NONE;
}

/* Of a client, to be proxied. */
static __noinline int tc_udp_up(struct __sk_buff *skb, const struct bpf_cfg *settings, const struct packet_view *v,
				__u16 upstream)
{
	struct udp_change change;
	struct udp_match match;

	udp_find_client(v, upstream, &match);
	if (!match.assoc || !v->sport || !tc_udp_is_one(skb, v) || !udp_fits_up(v, match.assoc))
		return to_user(skb, settings);
	return tc_udp_move(skb, v, match.assoc, &change, 1);
}

static __always_inline int tc_other(struct __sk_buff *skb, const struct bpf_cfg *settings, const struct bpf_port *port,
				    const struct packet_view *v)
{
	switch (icmp_decide(skb, settings, v)) {
	case ICMP_TO_USER:
		return to_tap(settings, port);
	case ICMP_DROPPED:
		return drop(DROP_ICMP);
	default:
		return pass(COUNT_PASS_OTHER);
	}
}

/* From a LAN interface to elsewhere. */
static __always_inline int tc_judge(struct __sk_buff *skb, const struct bpf_cfg *settings, const struct bpf_port *port,
				    const struct packet_view *v)
{
	__u32 decision = rules_decide_packet(settings, v);

	switch (rules_action_of(decision)) {
	case RULES_DIRECT:
		return pass(COUNT_PASS_DIRECT);
	case RULES_DROP:
		return drop(DROP_RULE);
	case RULES_REJECT:
		return reject(port, v);
	default:
		break;
	}
	if (v->l4_proto == IPPROTO_UDP)
		return TC_UDP_PROXY | rules_upstream_of(decision);
	if (v->l4_proto != IPPROTO_TCP)
		return tc_other(skb, settings, port, v);
	if (v->is_fragment)
		return drop(DROP_FRAGMENT);
	return to_tap(settings, port);
}

/*
 * With XDP in front, which took or judged everything but two: what it left of UDP that is to be proxied is the kernel's
 * to forward for nobody, whatever has become of its association; and an ICMP error that turned out to be about no flow.
 */
static __always_inline int tc_behind_xdp(struct __sk_buff *skb, const struct bpf_cfg *settings,
					 const struct packet_view *v)
{
	__u32 decision;

	if (icmp_is_error(skb, v) && !dst_is_local(v)) {
		decision = rules_action_of(rules_decide_packet(settings, v));
		if (decision == RULES_PROXY)
			return settings->icmp == CFG_ICMP_PASS ? pass(COUNT_PASS_OTHER) : drop(DROP_ICMP);
		return decision == RULES_DIRECT ? pass(COUNT_PASS_DIRECT) : drop(DROP_RULE);
	}

	if (v->l4_proto != IPPROTO_UDP || !v->sport || dst_is_local(v))
		return HOOK_PASS;
	decision = rules_decide_packet(settings, v);
	return rules_action_of(decision) == RULES_PROXY ? TC_UDP_PROXY | rules_upstream_of(decision) : HOOK_PASS;
}

/* What belongs to no flow. */
static __noinline int tc_stray(struct __sk_buff *skb, const struct bpf_cfg *settings, struct packet_view *v,
			       enum drop_reason reason)
{
	__u32 ifindex = skb->ifindex;
	const struct bpf_port *port = bpf_map_lookup_elem(&ports, &ifindex);

	/* with XDP in front, what it passed as the gateway's own was counted and judged there */
	if (!port || !(port->flags & CFG_PORT_LAN))
		return HOOK_PASS;
	if (!(port->flags & CFG_PORT_TAP))
		return reason ? HOOK_PASS : tc_behind_xdp(skb, settings, v);
	if (reason)
		return dst_is_local(v) ? HOOK_PASS : drop(reason);
	if (dst_is_local(v))
		return pass(COUNT_PASS_LOCAL);
	return tc_judge(skb, settings, port, v);
}

SEC("tc")
int socksplice_tc(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct bpf_cfg *settings = bpf_map_lookup_elem(&cfg, &zero);
	struct flow_match match;
	struct packet_view v = {};
	enum drop_reason reason;
	int verdict;

	if (!settings || settings->abi_version != CFG_ABI_VERSION)
		return HOOK_PASS;
	if (skb->protocol != be16(ETH_P_IP) && skb->protocol != be16(ETH_P_IPV6))
		return HOOK_PASS;
	tc_pull(skb);
	reason = tc_parse(skb, &v);
	if (reason)
		return tc_stray(skb, settings, &v, reason);
	if (v.l4_proto == IPPROTO_TCP && !v.is_fragment) {
		flow_find_arriving(&v, &match);
		if (match.entry && flow_comes_by(match.entry, match.direction, skb->ifindex))
			return tc_flow(skb, settings, &v, &match);
		/* live flows of user space: whatever the rules have become since they were opened */
		if (match.relayed)
			return tc_relayed(skb, settings);
	} else if (v.l4_proto == IPPROTO_UDP && v.sport) {
		verdict = tc_udp_arrives(skb, &v);
		if (verdict != TC_UDP_NONE)
			return verdict;
	} else if (v.l4_proto == IPPROTO_ICMP || v.l4_proto == IPPROTO_ICMPV6) {
		if (tc_icmp(skb, &v, &verdict))
			return verdict;
	}
	verdict = tc_stray(skb, settings, &v, DROP_NONE);
	/* from here, not from there: the stacks of functions that call each other add up */
	return verdict >= TC_UDP_PROXY ? tc_udp_up(skb, settings, &v, (__u16)verdict) : verdict;
}

SEC("tc")
int socksplice_egress(struct __sk_buff *skb)
{
	struct flow_match match;
	struct packet_view v = {};
	struct flow_key key;

	/* only what a socket of the gateway sends: redirected packets have come in somewhere */
	if (skb->ingress_ifindex || (skb->protocol != be16(ETH_P_IP) && skb->protocol != be16(ETH_P_IPV6)))
		return HOOK_PASS;
	tc_pull(skb);
	if (tc_parse(skb, &v) || v.l4_proto != IPPROTO_TCP || v.is_fragment || v.has_ip_options)
		return HOOK_PASS;
	key = (struct flow_key){.src = v.dst, .dst = v.src, .sport = v.dport, .dport = v.sport};
	flow_find(&key, &match);
	if (!match.entry || match.direction != FLOW_DOWN)
		return HOOK_PASS;
	return guard_packet(skb, match.entry, &v);
}

SEC("tc")
int socksplice_tap(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	const __u32 *exit = bpf_map_lookup_elem(&tap_exits, &ifindex);

	return exit ? (int)bpf_redirect(*exit, 0) : HOOK_DROP;
}

char _license[] SEC("license") = "Dual MIT/GPL";
