/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <stdio.h>
#include <string.h>

#include "cfg_abi.h"
#include "findings.h"
#include "hook.h"
#include "netdev.h"
#include "umem.h"

#define JUDGE_REMEDY_BYTES 160
/* Fewer than this many source ports for relayed connections: a busy gateway runs out while closed ones rest a minute.
 */
#define JUDGE_FEW_PORTS 10000

__attribute__((format(printf, 2, 3))) static const char *judge_remedy(char out[JUDGE_REMEDY_BYTES], const char *fmt,
								      ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(out, JUDGE_REMEDY_BYTES, fmt, args);
	va_end(args);
	return out;
}

/* --- XDP --- */

static const char *judge_wanted_xsk(const struct judge_interface *interface)
{
	static const char *const names[] = {[CONFIG_XSK_AUTO] = "auto",
					    [CONFIG_XSK_ZEROCOPY] = "zerocopy",
					    [CONFIG_XSK_COPY] = "copy",
					    [CONFIG_XSK_GENERIC] = "generic"};

	return names[interface->settings ? interface->settings->xsk : CONFIG_XSK_AUTO];
}

const char *judge_xsk_mode(const struct judge_interface *interface)
{
	enum config_xsk_mode wanted = interface->settings ? interface->settings->xsk : CONFIG_XSK_AUTO;

	if (wanted == CONFIG_XSK_GENERIC)
		return "generic";
	if (interface->xdp_err)
		return "unknown";
	if (!(interface->xdp_features & NETDEV_FEATURE_BASIC))
		return "generic";
	return interface->xdp_features & NETDEV_FEATURE_ZEROCOPY && wanted != CONFIG_XSK_COPY ? "zerocopy" : "copy";
}

static void judge_native_xdp(json_t *list, const struct judge_interface *interface)
{
	const struct topo_interface *topo = interface->topo;
	const char *driver = topo->driver[0] ? topo->driver : "unknown";
	bool native = interface->xdp_features & NETDEV_FEATURE_BASIC;
	bool zerocopy = interface->xdp_features & NETDEV_FEATURE_ZEROCOPY;
	char remedy[JUDGE_REMEDY_BYTES];

	if (interface->settings && interface->hook == CONFIG_HOOK_XDP &&
	    !hook_honours_xsk(interface->settings->xsk, interface->xdp_features))
		findings_add(list, FINDINGS_PREVENTS, "XDP", "xsk: auto   (takes the first mode that works)",
			     "`xsk: %s` is configured, and the driver (%s) has %s", judge_wanted_xsk(interface), driver,
			     native ? "no zero-copy AF_XDP" : "no native XDP");
	else if (native)
		findings_add(list, FINDINGS_OK, "XDP", NULL, "native, in the driver; AF_XDP %s",
			     zerocopy ? "without a copy" : "copies each packet once");
	else
		findings_add(list, interface->hook == CONFIG_HOOK_XDP ? FINDINGS_NOTE : FINDINGS_OK, "XDP",
			     interface->hook != CONFIG_HOOK_XDP ? NULL
			     : strcmp(topo->driver, "veth")
				     ? "hook: tc   (where the driver has no native XDP, tc is the faster hook)"
				     : judge_remedy(remedy, "ethtool -L %s rx N   (as many as its peer has tx queues)",
						    topo->name),
			     "generic only: the driver (%s) offers no native XDP now; it works, slowest", driver);
}

static void judge_sending(json_t *list, const struct judge_interface *interface)
{
	bool veth = !strcmp(interface->topo->driver, "veth");
	char remedy[JUDGE_REMEDY_BYTES];

	if (interface->xdp_features & NETDEV_FEATURE_XMIT) {
		findings_add(list, FINDINGS_OK, "sending by XDP", NULL, "possible");
	} else if (!veth && !interface->xdp_attached) {
		findings_add(list, FINDINGS_OK, "sending by XDP", NULL,
			     "not possible now; some drivers offer it once a program is attached");
	} else {
		judge_remedy(remedy,
			     veth ? "ethtool -K PEER gro on   (PEER: the other end of %s)"
				  : "ethtool -L %s combined N   (many drivers want a queue of their own for each CPU)",
			     interface->topo->name);
		findings_add(list, FINDINGS_NOTE, "sending by XDP", remedy,
			     "not possible now: what XDP rewrites is sent out of here by tc, more slowly");
	}
}

void judge_xdp(json_t *list, const struct judge_interface *interface)
{
	const struct topo_interface *topo = interface->topo;
	bool xdp = interface->hook == CONFIG_HOOK_XDP;

	if (interface->xdp_err) {
		findings_add(list, FINDINGS_OK, "XDP", NULL,
			     "what the driver can do is found out at start, this kernel does not tell (%s)",
			     strerror(-interface->xdp_err));
		return;
	}
	judge_native_xdp(list, interface);
	if (xdp && interface->xdp_features & NETDEV_FEATURE_BASIC)
		judge_sending(list, interface);
	if (xdp && interface->settings && topo_prefers_tc(topo))
		findings_add(
			list, FINDINGS_NOTE, "hook", "hook: auto   (takes tc here)",
			"XDP on a virtual device (%s) costs its peer the segmentation offload: bulk throughput falls "
			"to a fraction",
			topo->driver);
}

/* --- offloads --- */

static void judge_switch(json_t *list, const struct judge_interface *interface, enum ethtool_feature feature,
			 const struct ethtool_state *state, bool to, enum findings_verdict verdict, const char *what,
			 const char *why)
{
	char remedy[JUDGE_REMEDY_BYTES];

	judge_remedy(remedy, "ethtool -K %s %s %s", interface->topo->name, ethtool_feature_word(feature),
		     to ? "on" : "off");
	findings_add(list, verdict, what, state->fixed ? NULL : remedy, "%s: %s%s", to ? "off" : "on", why,
		     state->fixed ? " (the driver does not let it be changed)" : "");
}

/* What tc sees are packets as large as the stack below made them, and what it sends out may be large too. */
static void judge_offloads_tc(json_t *list, const struct judge_interface *interface,
			      const struct ethtool_state features[ETHTOOL_FEATURE_COUNT])
{
	const struct ethtool_state *gro = &features[ETHTOOL_GRO], *gso = &features[ETHTOOL_GSO];
	const struct ethtool_state *tso = &features[ETHTOOL_TSO];

	if (gro->known && !gro->on && !topo_prefers_tc(interface->topo))
		judge_switch(list, interface, ETHTOOL_GRO, gro, true, FINDINGS_NOTE, "GRO",
			     "packets are rewritten one by one instead of up to 64 KB at once");
	else if (gro->known)
		findings_add(list, FINDINGS_OK, "GRO", NULL,
			     gro->on ? "on: packets are merged before tc sees them"
				     : "off: not needed here, local senders' packets "
				       "come whole");
	if (gso->known && !gso->on)
		judge_switch(list, interface, ETHTOOL_GSO, gso, true, FINDINGS_NOTE, "GSO",
			     "senders on this machine must cut their packets early");
	if (tso->known && !tso->on)
		judge_switch(list, interface, ETHTOOL_TSO, tso, true, FINDINGS_NOTE, "TSO",
			     "large packets that leave here are cut by the CPU");
	if ((!gso->known || gso->on) && (!tso->known || tso->on))
		findings_add(list, FINDINGS_OK, "GSO, TSO", NULL, "on: large packets leave whole");
}

/* XDP sees what the driver delivers: offloads that change packets before it are in the way. */
static void judge_offloads_xdp(json_t *list, const struct judge_interface *interface,
			       const struct ethtool_state features[ETHTOOL_FEATURE_COUNT])
{
	const struct ethtool_state *strip = &features[ETHTOOL_VLAN_STRIP], *hw = &features[ETHTOOL_GRO_HW];

	if (hw->known && hw->on)
		judge_switch(list, interface, ETHTOOL_GRO_HW, hw, false, FINDINGS_NOTE, "GRO in hardware",
			     "merged packets are no frames that XDP can take; many drivers refuse XDP with it");
	if (strip->known && strip->on && !interface->topo->is_virtual)
		judge_switch(list, interface, ETHTOOL_VLAN_STRIP, strip, false, FINDINGS_NOTE, "VLAN stripping",
			     "the tag is gone before XDP sees the packet, so VLANs of this interface cannot be told "
			     "apart");
	findings_add(list, FINDINGS_OK, "GSO, TSO, GRO", NULL,
		     "without effect: XDP sees frames before they are merged");
}

void judge_offloads(json_t *list, const struct judge_interface *interface,
		    const struct ethtool_state features[ETHTOOL_FEATURE_COUNT])
{
	const struct ethtool_state *lro = &features[ETHTOOL_LRO], *rx = &features[ETHTOOL_RX_CSUM];
	const struct ethtool_state *tx =
		features[ETHTOOL_TX_CSUM].known ? &features[ETHTOOL_TX_CSUM] : &features[ETHTOOL_TX_CSUM_IPV4];

	if (lro->known && lro->on)
		judge_switch(
			list, interface, ETHTOOL_LRO, lro, false, FINDINGS_PROBLEM, "LRO",
			interface->hook == CONFIG_HOOK_XDP
				? "most drivers refuse XDP with it"
				: "merged packets cannot be cut again as they were, so they must not be forwarded");
	if (interface->hook == CONFIG_HOOK_TC)
		judge_offloads_tc(list, interface, features);
	else
		judge_offloads_xdp(list, interface, features);
	if (rx->known && !rx->on)
		judge_switch(list, interface, ETHTOOL_RX_CSUM, rx, true, FINDINGS_NOTE, "receive checksum",
			     "the CPU verifies what relayed connections receive");
	if (tx->known && !tx->on && interface->hook == CONFIG_HOOK_TC)
		judge_switch(list, interface, ETHTOOL_TX_CSUM, tx, true, FINDINGS_NOTE, "transmit checksum",
			     "the CPU sums up every packet that leaves, and large packets are cut before");
}

/* --- queues, MTU, programs, reverse path --- */

void judge_queues(json_t *list, const struct judge_interface *interface)
{
	const struct topo_interface *topo = interface->topo;
	uint32_t all = interface->queues_before + topo->rx_queues;
	char remedy[JUDGE_REMEDY_BYTES];

	/* only of clients' interfaces are packets taken to user space by AF_XDP */
	if (interface->hook != CONFIG_HOOK_XDP || !interface->settings)
		findings_add(list, FINDINGS_OK, "queues", NULL,
			     "%u for reception, %u for transmission; any number will do", topo->rx_queues,
			     topo->tx_queues);
	else if (all <= CFG_MAX_QUEUES)
		findings_add(list, FINDINGS_OK, "queues", NULL,
			     "%u for reception, each with an AF_XDP socket; %u for transmission", topo->rx_queues,
			     topo->tx_queues);
	else
		findings_add(list, FINDINGS_PREVENTS, "queues",
			     judge_remedy(remedy, "ethtool -L %s combined N", topo->name),
			     "%u for reception make %u with those of other interfaces; the daemon serves %d by AF_XDP",
			     topo->rx_queues, all, CFG_MAX_QUEUES);
}

void judge_mtu(json_t *list, const struct judge_interface *interface)
{
	const struct topo_interface *topo = interface->topo;
	char remedy[JUDGE_REMEDY_BYTES];

	if (interface->hook == CONFIG_HOOK_TC)
		findings_add(list, FINDINGS_OK, "MTU", NULL, "%u; any will do with tc", topo->mtu);
	else if (hook_fits_mtu(interface->hook, topo->mtu))
		findings_add(list, FINDINGS_OK, "MTU", NULL, "%u: a packet lies in one frame of %u bytes", topo->mtu,
			     umem_frame_bytes_for(topo->mtu));
	else
		/* of the uplink XDP is not needed */
		findings_add(list, interface->settings ? FINDINGS_PREVENTS : FINDINGS_NOTE, "MTU",
			     judge_remedy(remedy, "ip link set dev %s mtu %u   (or `hook: tc`)", topo->name,
					  hook_largest_xdp_mtu()),
			     "%u is more than XDP can take in one frame (%u)", topo->mtu, hook_largest_xdp_mtu());
}

static void judge_xdp_program(json_t *list, const struct judge_interface *interface,
			      const struct attached_program *program)
{
	bool external = interface->settings && interface->settings->attach == CONFIG_ATTACH_EXTERNAL;
	bool in_the_way = interface->settings && interface->hook == CONFIG_HOOK_XDP;
	char remedy[JUDGE_REMEDY_BYTES];

	judge_remedy(remedy, "ip link set dev %s xdp off%s", interface->topo->name,
		     external ? "; ip link set dev ... xdp obj socksplice_xdp.o sec xdp" : "   (if it is not wanted)");
	findings_add(list, in_the_way ? FINDINGS_PREVENTS : FINDINGS_NOTE, "other XDP program", remedy,
		     "\"%s\" (id %u) is attached%s", program->name, program->id,
		     in_the_way ? ", and an interface has room for one" : "; it sees packets before tc does");
}

static void judge_tc_program(json_t *list, const struct judge_interface *interface,
			     const struct attached_program *program)
{
	bool clsact = program->where == ATTACHED_CLSACT_INGRESS || program->where == ATTACHED_CLSACT_EGRESS;
	bool egress = program->where == ATTACHED_TCX_EGRESS || program->where == ATTACHED_CLSACT_EGRESS;
	char remedy[JUDGE_REMEDY_BYTES];

	if (clsact)
		judge_remedy(remedy, "tc filter del dev %s %s pref %u   (if it is not wanted)", interface->topo->name,
			     egress ? "egress" : "ingress", program->priority);
	else
		judge_remedy(remedy, "bpftool net detach tcx_%s dev %s   (if it is not wanted)",
			     egress ? "egress" : "ingress", interface->topo->name);
	findings_add(list, FINDINGS_NOTE, "other tc program", remedy,
		     "\"%s\" (id %u) is attached, %s; it may drop or redirect packets that ours should see",
		     program->name, program->id, attached_where_name(program->where));
}

void judge_programs(json_t *list, const struct judge_interface *interface, const struct attached_program *programs,
		    int count)
{
	bool external = interface->settings && interface->settings->attach == CONFIG_ATTACH_EXTERNAL;
	bool own_xdp = false, others = false;

	for (int i = 0; i < count; i++) {
		bool xdp = programs[i].where == ATTACHED_XDP;

		own_xdp |= xdp && programs[i].ours;
		others |= !programs[i].ours;
		if (!programs[i].ours && xdp)
			judge_xdp_program(list, interface, &programs[i]);
		else if (!programs[i].ours)
			judge_tc_program(list, interface, &programs[i]);
	}
	if (external && !own_xdp)
		findings_add(list, FINDINGS_PREVENTS, "attach: external",
			     "ip link set dev ... xdp obj socksplice_xdp.o sec xdp",
			     "our XDP program is not attached, and with `attach: external` the daemon does not do it");
	else if (!others)
		findings_add(list, FINDINGS_OK, "other programs", NULL, "none, of XDP or tc");
}

void judge_rp_filter(json_t *list, const struct judge_interface *interface, int64_t own, int64_t all)
{
	int64_t effective = own > all ? own : all;
	char remedy[JUDGE_REMEDY_BYTES];

	if (effective != 1) {
		findings_add(list, FINDINGS_OK, "rp_filter", NULL, effective ? "loose" : "off");
		return;
	}
	judge_remedy(remedy, "sysctl -w net.ipv4.conf.%s.rp_filter=2", interface->topo->name);
	findings_add(list, FINDINGS_NOTE, "rp_filter", remedy,
		     interface->settings
			     ? "strict: what is not proxied is dropped if its source is not routed back by this "
			       "interface; proxied packets never meet this filter"
			     : "strict: replies of an upstream are dropped if the route to it leads elsewhere, as with "
			       "`uplink`, marks or several providers it may");
}

/* --- ports --- */

static uint32_t judge_count_ports(const struct ports_set *set, uint16_t first, uint16_t last)
{
	uint32_t count = 0;

	for (uint32_t port = first; port <= last; port++)
		count += ports_set_has_range(set, (uint16_t)port, (uint16_t)port);
	return count;
}

static void judge_upstream_ports(json_t *list, const struct config_upstream *upstream, const struct ports_set *reserved)
{
	uint32_t all = (uint32_t)upstream->ports.last - upstream->ports.first + 1;
	uint32_t sources = upstream->source_count ? upstream->source_count : 1;
	uint32_t known = judge_count_ports(reserved, upstream->ports.first, upstream->ports.last);

	findings_add(list, FINDINGS_OK, "spliced connections", NULL,
		     "upstream %s: up to %u at once, from ports %u-%u and %u address(es)%s", upstream->name,
		     all * sources, upstream->ports.first, upstream->ports.last, sources,
		     known == all ? "; reserved already" : "; the daemon reserves them");
}

void judge_ports(json_t *list, const struct config *config, uint16_t local_first, uint16_t local_last,
		 const struct ports_set *reserved)
{
	static struct ports_set taken;
	uint32_t left, all = (uint32_t)local_last - local_first + 1;

	taken = *reserved;
	for (uint32_t i = 0; i < config->upstream_count; i++) {
		judge_upstream_ports(list, &config->upstreams[i], reserved);
		ports_set_add(&taken, config->upstreams[i].ports.first, config->upstreams[i].ports.last);
	}
	left = all - judge_count_ports(&taken, local_first, local_last);
	if (left >= JUDGE_FEW_PORTS)
		findings_add(list, FINDINGS_OK, "local ports", NULL,
			     "%u of ip_local_port_range %u-%u are left for relayed connections", left, local_first,
			     local_last);
	else
		findings_add(
			list, left ? FINDINGS_NOTE : FINDINGS_PROBLEM, "local ports",
			"sysctl -w net.ipv4.ip_local_port_range=\"1100 65000\"   (or a smaller upstreams[].ports)",
			"%u of ip_local_port_range %u-%u are left for relayed connections: `ports` of the upstreams "
			"and ip_local_reserved_ports take the others",
			left, local_first, local_last);
}
