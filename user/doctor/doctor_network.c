/* SPDX-License-Identifier: MIT */
/* Settings of the kernel's network code in this namespace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor_priv.h"
#include "findings.h"
#include "judge.h"
#include "ports.h"
#include "sysctl.h"

static void doctor_ports(json_t *list, const struct config *config)
{
	static char text[PORTS_TEXT_BYTES];
	static struct ports_set reserved;
	unsigned int first, last;
	char range[64];

	if (sysctl_read("net/ipv4/ip_local_port_range", range, sizeof(range)) ||
	    sscanf(range, "%u %u", &first, &last) != 2 || !first || first > last || last > UINT16_MAX)
		return;
	if (sysctl_read("net/ipv4/ip_local_reserved_ports", text, sizeof(text)) || ports_set_parse(text, &reserved))
		memset(&reserved, 0, sizeof(reserved));
	judge_ports(list, config, (uint16_t)first, (uint16_t)last, &reserved);
}

static bool doctor_has_direct(const struct config *config)
{
	for (uint32_t i = 0; config && i < config->rules.count; i++)
		if (config->rules.rules[i].action == CONFIG_RULE_DIRECT)
			return true;
	return false;
}

/* What is not proxied is the kernel's to route, or not. */
static void doctor_forwarding(json_t *list, const struct config *config, const char *path, const char *name,
			      const char *what)
{
	char remedy[64];
	int64_t value;

	if (sysctl_read_number(path, &value))
		return;
	snprintf(remedy, sizeof(remedy), "sysctl -w %s=1", name);
	if (value)
		findings_add(list, FINDINGS_OK, what, NULL,
			     "on: what is not proxied is routed past the proxy, unless a firewall forbids it");
	else if (doctor_has_direct(config))
		findings_add(list, FINDINGS_NOTE, what, remedy,
			     "off: what the rules send `direct` ends here, as far as it is of this family");
	else
		findings_add(list, FINDINGS_OK, what, NULL,
			     "off: what is not proxied ends here; to be turned on only for what is to go out directly");
}

/*
 * A spliced client gets the options of the upstream's connection, and that one is this kernel's: an option that is off
 * here cannot be given to clients that offer it.
 */
static void doctor_tcp_option(json_t *list, const struct config *config, const char *name)
{
	bool splice_only = config && config->tcp.relay == CONFIG_RELAY_SPLICE;
	char path[64], remedy[64];
	int64_t value;

	snprintf(path, sizeof(path), "net/ipv4/%s", name);
	snprintf(remedy, sizeof(remedy), "sysctl -w net.ipv4.%s=1", name);
	if (sysctl_read_number(path, &value))
		return;
	if (value)
		findings_add(list, FINDINGS_OK, name, NULL, "on: clients' connections can be mirrored");
	else
		findings_add(list, splice_only ? FINDINGS_PROBLEM : FINDINGS_NOTE, name, remedy,
			     "off: connections of clients that offer the option are %s (not_spliced_options)",
			     splice_only ? "refused, because of `relay: splice`" : "relayed in user space");
}

json_t *doctor_network(const struct config *config)
{
	static const char *const options[] = {"tcp_timestamps", "tcp_sack", "tcp_window_scaling"};
	json_t *list = json_array();

	if (config)
		doctor_ports(list, config);
	doctor_forwarding(list, config, "net/ipv4/ip_forward", "net.ipv4.ip_forward", "ip_forward");
	doctor_forwarding(list, config, "net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding",
			  "IPv6 forwarding");
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		doctor_tcp_option(list, config, options[i]);
	return list;
}
