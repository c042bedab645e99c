/* SPDX-License-Identifier: MIT */
#include "config_scalar.h"

#include <arpa/inet.h>
#include <string.h>

#include "config.h"

#define CONFIG_MAX_DURATION_NS (30ull * 86400 * 1000000000ull)

/* Reads digits up to the first other character; NULL: none, too many, or a leading zero. */
static const char *config_digits(const char *text, uint32_t *out)
{
	const char *p = text;
	uint64_t value = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > UINT32_MAX)
			return NULL;
	}
	if (p == text || (*text == '0' && p - text > 1))
		return NULL;
	*out = (uint32_t)value;
	return p;
}

bool config_scalar_uint(const char *text, uint32_t *out)
{
	uint32_t value;
	const char *end = config_digits(text, &value);

	if (!end || *end)
		return false;
	*out = value;
	return true;
}

bool config_scalar_bool(const char *text, bool *out)
{
	if (strcmp(text, "true") && strcmp(text, "false"))
		return false;
	*out = !strcmp(text, "true");
	return true;
}

bool config_scalar_duration(const char *text, uint64_t *out_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {{"ms", 1000000ull}, {"s", 1000000000ull}, {"m", 60000000000ull}, {"h", 3600000000000ull}};
	uint32_t value;
	const char *end = config_digits(text, &value);

	if (!end)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit))
			continue;
		if (value > CONFIG_MAX_DURATION_NS / units[i].ns)
			return false;
		*out_ns = value * units[i].ns;
		return true;
	}
	return false;
}

bool config_scalar_endpoint(const char *text, struct endpoint *out)
{
	struct endpoint endpoint = {0};
	char host[64];
	const char *colon = strrchr(text, ':');
	size_t host_bytes = colon ? (size_t)(colon - text) : 0;
	uint32_t port;
	__be32 ip;

	if (!colon || host_bytes >= sizeof(host) || !config_scalar_uint(colon + 1, &port) || !port || port > 65535)
		return false;
	memcpy(host, text, host_bytes);
	host[host_bytes] = 0;
	endpoint.port = be16((uint16_t)port);
	if (host[0] == '[' && host_bytes > 2 && host[host_bytes - 1] == ']') {
		host[host_bytes - 1] = 0;
		if (inet_pton(AF_INET6, host + 1, endpoint.addr.bytes) != 1)
			return false;
	} else {
		if (inet_pton(AF_INET, host, &ip) != 1)
			return false;
		endpoint.addr = addr_from_ipv4(ip);
	}
	*out = endpoint;
	return true;
}

/* One label of a host name up to the dot or the end; NULL: it is none. */
static const char *config_label(const char *text, bool *all_digits)
{
	const char *p = text;

	*all_digits = true;
	for (; *p && *p != '.'; p++) {
		bool digit = *p >= '0' && *p <= '9', letter = (*p | 32) >= 'a' && (*p | 32) <= 'z';

		if (!digit && !letter && *p != '-' && *p != '_')
			return NULL;
		*all_digits = *all_digits && digit;
	}
	if (p == text || p - text > 63 || *text == '-' || p[-1] == '-')
		return NULL;
	return p;
}

bool config_scalar_host(const char *text, char *host, __be16 *out)
{
	const char *colon = strrchr(text, ':'), *p;
	char name[CONFIG_MAX_HOST + 1];
	bool all_digits;
	uint32_t port;

	if (!colon || (size_t)(colon - text) > CONFIG_MAX_HOST || !config_scalar_uint(colon + 1, &port) || !port ||
	    port > 65535)
		return false;
	memcpy(name, text, (size_t)(colon - text));
	name[colon - text] = 0;
	p = config_label(name, &all_digits);
	while (p && *p == '.')
		p = config_label(p + 1, &all_digits);
	if (!p || all_digits)
		return false;
	strcpy(host, name);
	*out = be16((uint16_t)port);
	return true;
}

bool config_scalar_addr(const char *text, struct addr *out)
{
	struct addr v6;
	__be32 ip;

	if (inet_pton(AF_INET, text, &ip) == 1) {
		*out = addr_from_ipv4(ip);
		return true;
	}
	if (inet_pton(AF_INET6, text, v6.bytes) != 1)
		return false;
	*out = v6;
	return true;
}

bool config_scalar_ports(const char *text, uint16_t *first, uint16_t *last)
{
	uint32_t from, to;
	const char *end = config_digits(text, &from);

	if (!end || *end != '-' || !config_scalar_uint(end + 1, &to) || !from || to > 65535 || from > to)
		return false;
	*first = (uint16_t)from;
	*last = (uint16_t)to;
	return true;
}

bool config_scalar_port_or_ports(const char *text, uint16_t *first, uint16_t *last)
{
	uint32_t port;

	if (!config_scalar_uint(text, &port))
		return config_scalar_ports(text, first, last);
	if (!port || port > 65535)
		return false;
	*first = *last = (uint16_t)port;
	return true;
}

bool config_scalar_prefix(const char *text, struct addr *out, uint8_t *bits)
{
	const char *slash = strchr(text, '/');
	size_t address_bytes = slash ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	struct addr addr;
	uint32_t width, given;

	if (address_bytes >= sizeof(address))
		return false;
	memcpy(address, text, address_bytes);
	address[address_bytes] = 0;
	if (!config_scalar_addr(address, &addr))
		return false;
	width = strchr(address, ':') ? 128 : 32;
	given = width;
	if (slash && (!config_scalar_uint(slash + 1, &given) || given > width))
		return false;
	*out = addr;
	*bits = (uint8_t)(128 - width + given);
	return true;
}

struct addr config_scalar_mask(const struct addr *addr, uint8_t bits)
{
	struct addr masked = *addr;

	for (uint32_t i = 0; i < 16; i++) {
		uint32_t kept = bits > 8 * i ? bits - 8 * i : 0;

		if (kept < 8)
			masked.bytes[i] &= (uint8_t)(0xff00 >> kept);
	}
	return masked;
}
