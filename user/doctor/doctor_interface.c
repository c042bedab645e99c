/* SPDX-License-Identifier: MIT */
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "attached.h"
#include "bpfload.h"
#include "doctor_priv.h"
#include "ethtool.h"
#include "findings.h"
#include "hook.h"
#include "judge.h"
#include "netdev.h"
#include "route.h"
#include "sysctl.h"

static const struct config_interface doctor_default_settings;
static const struct addr doctor_no_addr;

static json_t *doctor_features_json(const struct ethtool_state features[ETHTOOL_FEATURE_COUNT])
{
	json_t *object = json_object();

	for (int i = 0; i < ETHTOOL_FEATURE_COUNT; i++)
		if (features[i].known)
			json_object_set_new(object, ethtool_feature_word((enum ethtool_feature)i),
					    json_boolean(features[i].on));
	return object;
}

static json_t *doctor_programs_json(const struct attached_program *programs, int count)
{
	json_t *list = json_array();

	for (int i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:b}", "where",
						      attached_where_name(programs[i].where), "id", (int)programs[i].id,
						      "name", programs[i].name, "ours", (int)programs[i].ours));
	return list;
}

static void doctor_judge_rp_filter(json_t *findings, const struct judge_interface *interface)
{
	char path[64 + IFNAMSIZ];
	int64_t own, all;

	snprintf(path, sizeof(path), "net/ipv4/conf/%s/rp_filter", interface->topo->name);
	if (!sysctl_read_number(path, &own) && !sysctl_read_number("net/ipv4/conf/all/rp_filter", &all))
		judge_rp_filter(findings, interface, own, all);
}

static void doctor_judge_link(json_t *findings, const struct topo_interface *topo, bool used)
{
	char remedy[64], node[16] = "unknown";

	if (topo->numa_node >= 0)
		snprintf(node, sizeof(node), "%d", topo->numa_node);
	snprintf(remedy, sizeof(remedy), "ip link set dev %s up", topo->name);
	findings_add(findings, topo->up || !used ? FINDINGS_OK : FINDINGS_PROBLEM, "link",
		     topo->up || !used ? NULL : remedy, "%s; driver %s, NUMA node %s", topo->up ? "up" : "down",
		     topo->driver[0] ? topo->driver : "unknown", node);
}

/* Everything about one interface. `settings` NULL: it is the uplink. */
static json_t *doctor_interface(const struct topo_interface *topo, const struct config_interface *settings,
				const struct hook_choice *choice, const char *role, uint32_t queues_before)
{
	static const char *const modes[] = {"none", "native", "generic"};
	struct judge_interface interface = {
		.topo = topo, .settings = settings, .hook = choice->hook, .queues_before = queues_before};
	struct attached_program programs[ATTACHED_MAX];
	struct ethtool_state features[ETHTOOL_FEATURE_COUNT];
	json_t *findings = json_array(), *object;
	int count = attached_list(topo->ifindex, programs);

	interface.xdp_attached = bpfload_mode(topo->ifindex) == XDP_MODE_NATIVE;
	interface.xdp_err = netdev_xdp_features(topo->ifindex, &interface.xdp_features);
	doctor_judge_link(findings, topo, strcmp(role, "any") != 0);
	findings_add(findings, FINDINGS_OK, "hook", NULL, "%s, because: %s", hook_name(choice->hook), choice->reason);
	judge_xdp(findings, &interface);
	if (!ethtool_read_features(topo->name, features))
		judge_offloads(findings, &interface, features);
	judge_queues(findings, &interface);
	judge_mtu(findings, &interface);
	judge_programs(findings, &interface, programs, count);
	doctor_judge_rp_filter(findings, &interface);
	object = json_pack("{s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s}", "name", topo->name, "role",
			   role, "driver", topo->driver[0] ? topo->driver : "unknown", "up", (int)topo->up, "mtu",
			   (int)topo->mtu, "rx_queues", (int)topo->rx_queues, "tx_queues", (int)topo->tx_queues,
			   "numa_node", topo->numa_node, "hook", hook_name(choice->hook), "hook_reason", choice->reason,
			   "xsk", choice->hook == CONFIG_HOOK_XDP ? judge_xsk_mode(&interface) : "none", "xdp_attached",
			   modes[bpfload_mode(topo->ifindex)]);
	json_object_set_new(object, "offloads", doctor_features_json(features));
	json_object_set_new(object, "programs", doctor_programs_json(programs, count > 0 ? count : 0));
	json_object_set_new(object, "findings", findings);
	return object;
}

static json_t *doctor_missing(const char *name, const char *role, enum findings_verdict verdict, int err)
{
	json_t *findings = json_array();

	findings_add(findings, verdict, "link", "ip link show   (names the interfaces that are there)", "%s",
		     strerror(-err));
	return json_pack("{s:s, s:s, s:o}", "name", name, "role", role, "findings", findings);
}

static void doctor_add_lan(json_t *list, const char *name, const struct config_interface *settings, const char *role,
			   struct doctor_needs *needs)
{
	struct topo_interface topo;
	struct hook_choice choice;
	int err = topo_read_interface(name, &topo);

	if (err) {
		json_array_append_new(list, doctor_missing(name, role, FINDINGS_PREVENTS, err));
		return;
	}
	choice = hook_choose(settings, &topo);
	needs->af_xdp |= choice.hook == CONFIG_HOOK_XDP;
	needs->tap |= choice.hook == CONFIG_HOOK_TC;
	json_array_append_new(list, doctor_interface(&topo, settings, &choice, role, needs->xdp_queues));
	/* without a configuration they are not meant to be used together */
	if (choice.hook == CONFIG_HOOK_XDP && settings != &doctor_default_settings)
		needs->xdp_queues += topo.rx_queues;
}

static bool doctor_listed(const json_t *list, const char *name)
{
	json_t *object;
	size_t i;

	json_array_foreach(list, i, object)
	{
		if (!strcmp(json_string_value(json_object_get(object, "name")), name))
			return true;
	}
	return false;
}

/* The interface toward one upstream, unless it is listed already. No route is told with the upstream. */
static void doctor_add_uplink(json_t *list, const struct config *config, const struct config_upstream *upstream,
			      const struct addr *server)
{
	struct hook_choice choice = {CONFIG_HOOK_TC, "tc rewrites what comes from and goes to the upstreams"};
	char name[IFNAMSIZ];
	struct topo_interface topo;
	struct route route;
	int err;

	if (config->uplink[0]) {
		memcpy(name, config->uplink, sizeof(name));
	} else if (!memcmp(server, &doctor_no_addr, sizeof(*server)) ||
		   route_lookup(server, upstream->source_count ? &upstream->sources[0] : NULL, upstream->mark, 0,
				&route) ||
		   route.local || !if_indextoname((unsigned int)route.ifindex, name)) {
		return;
	}
	if (doctor_listed(list, name))
		return;
	err = topo_read_interface(name, &topo);
	if (err) {
		json_array_append_new(list, doctor_missing(name, "uplink", FINDINGS_PROBLEM, err));
		return;
	}
	if (hook_wants_xdp_uplink(config, &topo))
		choice = (struct hook_choice){
			CONFIG_HOOK_XDP, topo_prefers_tc(&topo)
						 ? "every interface of `interfaces` has it; tc does what XDP leaves"
						 : "a hardware driver; tc does what XDP leaves"};
	json_array_append_new(list, doctor_interface(&topo, NULL, &choice, "uplink", 0));
}

json_t *doctor_interfaces(const struct config *config, const struct addr *servers, struct doctor_needs *needs)
{
	struct if_nameindex *all, *entry;
	json_t *list = json_array();

	if (config) {
		for (uint32_t i = 0; i < config->interface_count; i++)
			doctor_add_lan(list, config->interfaces[i].name, &config->interfaces[i], "clients", needs);
		for (uint32_t i = 0; i < config->upstream_count; i++)
			doctor_add_uplink(list, config, &config->upstreams[i], &servers[i]);
		return list;
	}
	all = if_nameindex();
	for (entry = all; entry && entry->if_index; entry++)
		if (strcmp(entry->if_name, "lo"))
			doctor_add_lan(list, entry->if_name, &doctor_default_settings, "any", needs);
	if_freenameindex(all);
	return list;
}
