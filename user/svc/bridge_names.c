/* SPDX-License-Identifier: MIT */
/* Connections to names: what a fake address stands for, and whether the rules let it be proxied. */
#include "bridge_priv.h"

#include "dns_service.h"

static struct dnsmap *bridge_names(const struct bridge *bridge)
{
	return bridge->settings.dns ? dns_service_names(bridge->settings.dns) : NULL;
}

bool bridge_is_fake(const struct bridge *bridge, const struct addr *addr)
{
	const struct dnsmap *names = bridge_names(bridge);

	return names && dnsmap_covers(names, addr);
}

static void bridge_refuse_name(struct bridge *bridge, struct flow *flow, enum flow_refusal how, const char *why)
{
	bridge_record_turned_away(bridge, flow, why);
	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY)
		stack_abort(bridge->stack, flow, bridge->now_ns);
	else
		stack_refuse(bridge->stack, flow, how, bridge->now_ns);
}

/* What a name is answered by the rules after a change, for who still has its fake address. */
static enum flow_refusal bridge_name_refusal(enum rules_action action)
{
	switch (action) {
	case RULES_DROP:
		return REFUSE_SILENTLY;
	case RULES_REJECT:
		return REFUSE_RESET;
	default: /* direct: the client finds the real address when it asks again */
		return REFUSE_HOST_UNREACHABLE;
	}
}

bool bridge_find_name(struct bridge *bridge, struct flow *flow, struct rules_verdict *verdict, uint32_t *name)
{
	struct dnsmap *names = bridge_names(bridge);
	struct rules_verdict by_name;
	struct flow_info info;

	*name = DNSMAP_NONE;
	if (!names)
		return true;
	stack_flow_describe(bridge->stack, flow, &info);
	if (!dnsmap_covers(names, &info.destination.addr))
		return true;
	*name = dnsmap_find(names, &info.destination.addr);
	if (*name == DNSMAP_NONE || !dnsmap_name(names, *name)[0]) {
		dns_service_counters(bridge->settings.dns)->flows_unknown++;
		bridge_refuse_name(bridge, flow, REFUSE_HOST_UNREACHABLE, "name_unknown");
		return false;
	}
	by_name = dns_service_decide(bridge->settings.dns, *name);
	if (by_name.action != RULES_PROXY) {
		dns_service_counters(bridge->settings.dns)->flows_forbidden++;
		bridge_refuse_name(bridge, flow, bridge_name_refusal(by_name.action), "name_forbidden");
		return false;
	}
	if (by_name.upstream >= 0)
		*verdict = by_name;
	dns_service_counters(bridge->settings.dns)->flows_named++;
	return true;
}

void bridge_hold_name(struct bridge *bridge, struct conn *conn, uint32_t name)
{
	if (name == DNSMAP_NONE)
		return;
	conn->name = name;
	dnsmap_hold(bridge_names(bridge), name);
}

void bridge_release_name(struct bridge *bridge, struct conn *conn)
{
	if (conn->name == DNSMAP_NONE)
		return;
	dnsmap_release(bridge_names(bridge), conn->name);
	conn->name = DNSMAP_NONE;
}

const char *bridge_name(const struct bridge *bridge, const struct conn *conn)
{
	return dnsmap_name(bridge_names(bridge), conn->name);
}

void bridge_record_name(const struct bridge *bridge, const struct addr *addr, char name[DNS_TEXT_BYTES])
{
	const struct dnsmap *names = bridge_names(bridge);

	name[0] = 0;
	if (names)
		dnsmap_copy_name(names, addr, name);
}
