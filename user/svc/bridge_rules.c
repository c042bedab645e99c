/* SPDX-License-Identifier: MIT */
/*
 * The rules, where the bridge needs them: before a flow is opened, and for the
 * choice of its upstream. The programs in the kernel have judged what comes up
 * already; user space asks again because only it can answer (reject), and
 * because with `enable_ebpf: false` nobody else asks.
 *
 * When the rules change, packets that the kernel judged by the old set are
 * still on their way up. For BRIDGE_RULES_OVERLAP_NS a packet that the new set
 * would not have sent up is therefore judged by the old one. It would be lost
 * else, and a client tries again only after a second.
 */
#include "bridge_priv.h"

#include "parse.h"
#include "rules.h"

#define BRIDGE_RULES_OVERLAP_NS 1000000000ull

static bool rules_send_up(enum rules_action action)
{
	return action == RULES_PROXY || action == RULES_REJECT;
}

/* As the programs do: nothing goes directly to a fake address, as there is no such host. */
static struct rules_verdict bridge_decide_by(const struct bridge *bridge, const struct rules_set *rules,
					     const struct rules_packet *packet)
{
	struct rules_verdict verdict = rules_decide(rules, packet);

	if (verdict.action == RULES_DIRECT && bridge_is_fake(bridge, &packet->dst))
		return (struct rules_verdict){.action = RULES_PROXY, .rule = RULES_NONE, .upstream = -1};
	return verdict;
}

static struct rules_verdict bridge_decide(const struct bridge *bridge, const struct rules_packet *packet)
{
	struct rules_verdict verdict = bridge_decide_by(bridge, bridge->rules, packet);

	if (rules_send_up(verdict.action) || bridge->now_ns >= bridge->rules_overlap_until_ns)
		return verdict;
	verdict = bridge_decide_by(bridge, bridge->rules_before, packet);
	/* the upstreams may have changed with the rules */
	if (verdict.upstream >= 0)
		verdict.upstream = upstreams_renamed(&bridge->upstreams, verdict.upstream);
	return verdict;
}

struct rules_verdict bridge_decide_packet(struct bridge *bridge, const struct rules_packet *packet)
{
	return bridge_decide(bridge, packet);
}

struct upstream *bridge_pick_upstream(struct bridge *bridge, int32_t wanted)
{
	uint32_t slot = upstreams_pick(&bridge->upstreams, wanted, 0);

	return slot == UPSTREAMS_NONE ? NULL : &bridge->upstreams.list[slot];
}

void bridge_set_rules(struct bridge *bridge, struct rules_set *rules, uint64_t now_ns)
{
	rules_free(bridge->rules_before);
	bridge->rules_before = bridge->rules;
	bridge->rules = rules;
	/* without the kernel's judgement there is nothing on its way */
	if (bridge->config->performance.enable_ebpf)
		bridge->rules_overlap_until_ns = now_ns + BRIDGE_RULES_OVERLAP_NS;
}

enum stack_judgement bridge_judge(struct bridge *bridge, const struct packet_view *view, bool has_port)
{
	const struct rules_packet packet = {
		.src = view->src,
		.dst = view->dst,
		.dport = view->dport,
		.proto = view->l4_proto,
		.has_port = has_port,
	};

	switch (bridge_decide(bridge, &packet).action) {
	case RULES_PROXY:
		/* a name has TCP alone: of an answer by UDP nobody could tell which name it is from. At once. */
		return packet.proto != RULES_IPPROTO_TCP && bridge_is_fake(bridge, &packet.dst) ? STACK_REJECT
												: STACK_TAKE;
	case RULES_REJECT:
		return STACK_REJECT;
	default:
		return STACK_IGNORE;
	}
}

struct rules_verdict bridge_decide_flow(const struct bridge *bridge, const struct flow *flow)
{
	struct rules_packet packet = {.proto = RULES_IPPROTO_TCP, .has_port = 1};
	struct flow_info info;

	stack_flow_describe(bridge->stack, flow, &info);
	packet.src = info.client.addr;
	packet.dst = info.destination.addr;
	packet.dport = info.destination.port;
	return bridge_decide(bridge, &packet);
}
