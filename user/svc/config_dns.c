/* SPDX-License-Identifier: MIT */
/* The mapping `dns:` as a whole: defaults that only count when it is listed, and what its keys demand of each other. */
#include <string.h>

#include "config.h"
#include "config_reader.h"
#include "config_scalar.h"
#include "dnsmap.h"

#define CONFIG_DNS_LISTEN "198.18.0.1:53"
#define CONFIG_DNS_MAPPED "198.18.0.0/15"
#define CONFIG_DNS_MAPPED6 "fc00:5::/96"
/* As IPv4 counts its bits behind those of ::ffff:0:0/96. */
#define CONFIG_DNS_IPV4_BITS 96

static const yaml_node_t *config_dns_node(const struct config_reader *reader, const yaml_node_t *root)
{
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++)
		if (!strcmp(config_text(yaml_document_get_node(reader->document, pair->key)), "dns"))
			return yaml_document_get_node(reader->document, pair->value);
	return NULL;
}

static void config_dns_defaults(struct config_dns *dns)
{
	if (!dns->listen.port)
		config_scalar_endpoint(CONFIG_DNS_LISTEN, &dns->listen);
	if (!dns->mapped.bits)
		config_scalar_prefix(CONFIG_DNS_MAPPED, &dns->mapped.addr, &dns->mapped.bits);
	if (!dns->mapped6.bits)
		config_scalar_prefix(CONFIG_DNS_MAPPED6, &dns->mapped6.addr, &dns->mapped6.bits);
}

/* One that clients send to: not a loopback, a multicast, or no address. */
static bool config_dns_can_be_asked(const struct addr *addr)
{
	static const struct addr zero, loopback = {.bytes = {[15] = 1}};

	if (addr_is_ipv4(addr))
		return addr->bytes[12] && addr->bytes[12] != 127 && addr->bytes[12] < 224;
	return addr->bytes[0] != 0xff && !addr_equal(addr, &zero) && !addr_equal(addr, &loopback) &&
	       !(addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80);
}

int config_dns_check(const struct config_reader *reader, const yaml_node_t *root)
{
	const yaml_node_t *node = config_dns_node(reader, root);
	struct config_dns *dns = &reader->out->dns;
	uint32_t room;

	if (!node)
		return 0;
	config_dns_defaults(dns);
	if (!config_dns_can_be_asked(&dns->listen.addr))
		return config_fail(reader, &node->start_mark,
				   "dns: listen: must be an address that clients can send to; one of the gateway on "
				   "their side, or one that they reach through it, such as %s",
				   CONFIG_DNS_LISTEN);
	if (!addr_is_ipv4(&dns->mapped.addr) || dns->mapped.bits < CONFIG_DNS_IPV4_BITS + 8 ||
	    dns->mapped.bits > CONFIG_DNS_IPV4_BITS + 28)
		return config_fail(reader, &node->start_mark,
				   "dns: mapped: must be an IPv4 prefix of 8 to 28 bits, such as %s",
				   CONFIG_DNS_MAPPED);
	if (addr_is_ipv4(&dns->mapped6.addr) || dns->mapped6.bits < 16 || dns->mapped6.bits > 124 ||
	    !config_dns_can_be_asked(&dns->mapped6.addr))
		return config_fail(reader, &node->start_mark,
				   "dns: mapped6: must be an IPv6 prefix of 16 to 124 bits, such as \"%s\"",
				   CONFIG_DNS_MAPPED6);
	for (uint32_t i = 0; i < reader->out->upstream_count; i++) {
		const struct addr *server = &reader->out->upstreams[i].server.addr;
		struct addr net4 = config_scalar_mask(server, dns->mapped.bits);
		struct addr net6 = config_scalar_mask(server, dns->mapped6.bits);

		if (addr_equal(&net4, &dns->mapped.addr) || addr_equal(&net6, &dns->mapped6.addr))
			return config_fail(reader, &node->start_mark,
					   "dns: mapped, mapped6: upstream \"%s\" is among the fake addresses; choose "
					   "ranges that are used nowhere",
					   reader->out->upstreams[i].name);
	}
	/* one may be `listen` */
	room = dnsmap_addresses(&dns->mapped, &dns->mapped6) - 1;
	if (dns->cache > room)
		return config_fail(reader, &node->start_mark,
				   "dns: cache: %u names need as many addresses; mapped and mapped6 have %u",
				   dns->cache, room);
	return 0;
}
