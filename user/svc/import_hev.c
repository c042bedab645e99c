/* SPDX-License-Identifier: MIT */
/*
 * The translation collects settings of our format, one by one. The table of
 * keys says whether this build has the key; the parser of our configuration
 * says whether it takes the value, by being given the settings so far. What
 * is refused either way becomes a comment, so the result is always accepted.
 */
#include "import_hev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "import_hev_priv.h"

#define IMPORT_UPSTREAM "hev"

static void import_tunnel(struct import *import)
{
	static const char no_device[] =
		"no counterpart: there is no tunnel device; `interfaces` says where the clients are, "
		"and their router is this machine";
	static const char no_script[] =
		"no counterpart: no script is run; routes into a tunnel are not needed, for rules "
		"that keep traffic out of it see `rules`";
	const struct hev_value *icmp = import_value(import, HEV_TUNNEL_ICMP);

	import_note_key(import, HEV_TUNNEL_NAME, no_device);
	import_note_key(import, HEV_TUNNEL_MTU, "no counterpart: the MTU is that of the interface");
	import_note_key(import, HEV_TUNNEL_MULTI_QUEUE, "no counterpart: the queues are those of the interface");
	import_note_key(import, HEV_TUNNEL_IPV4, no_device);
	import_note_key(import, HEV_TUNNEL_IPV6, no_device);
	import_note_key(import, HEV_TUNNEL_POST_UP, no_script);
	import_note_key(import, HEV_TUNNEL_PRE_DOWN, no_script);
	if (icmp && !strcmp(icmp->text, "reply"))
		import_set(import, HEV_TUNNEL_ICMP, "", "icmp", "reply");
	else
		import_note_key(import, HEV_TUNNEL_ICMP, "only `reply` has a counterpart");
}

/* The one setting that nothing can do without: what is wrong with it is an error. */
static int import_server(struct import *import)
{
	const struct hev_file *file = &import->file;
	const struct hev_value *address = import_value(import, HEV_SOCKS_ADDRESS);
	char text[300], value[IMPORT_VALUE_BYTES];
	struct config_error error;
	uint64_t port;
	int err;

	if (!address || !import_value(import, HEV_SOCKS_PORT))
		return hev_fail(file, &file->values[HEV_SOCKS_PORT].at,
				"socks5.address and socks5.port are needed: they are "
				"the server");
	err = hev_number(file, HEV_SOCKS_PORT, 10, 1, 65535, &port);
	if (err)
		return err;
	/* with brackets and port still a text that import_quote() takes */
	if (strlen(address->text) > IMPORT_TEXT_BYTES - 8)
		return hev_fail(file, &address->at, "socks5.address: too long; at most %d bytes are allowed",
				IMPORT_TEXT_BYTES - 8);
	snprintf(text, sizeof(text), strchr(address->text, ':') ? "[%s]:%" PRIu64 : "%s:%" PRIu64, address->text, port);
	import_quote(text, value);
	import_put(import, "upstreams", "server", value);
	if (import_try(import, &error))
		return hev_fail(file, &address->at, "socks5.address: %s", import_reason(&error));
	if (!strncmp(address->text, "127.", 4) || !strcmp(address->text, "::1"))
		import_note(import, &address->at,
			    "socks5.address: a server on this machine: its connections are relayed in user space, not "
			    "spliced in the kernel");
	return 0;
}

static int import_credentials(struct import *import)
{
	const struct hev_value *user = import_value(import, HEV_SOCKS_USERNAME);
	const struct hev_value *password = import_value(import, HEV_SOCKS_PASSWORD);
	char value[IMPORT_VALUE_BYTES];
	struct config_error error;

	if (!user && !password)
		return 0;
	if (!user || !password)
		return hev_fail(&import->file, user ? &user->at : &password->at,
				"socks5: username and password go together; %s is missing",
				user ? "password" : "username");
	if (strlen(user->text) > CONFIG_MAX_CREDENTIAL || strlen(password->text) > CONFIG_MAX_CREDENTIAL)
		return hev_fail(&import->file, strlen(user->text) > CONFIG_MAX_CREDENTIAL ? &user->at : &password->at,
				"socks5: username and password have at most %d bytes each", CONFIG_MAX_CREDENTIAL);
	import_quote(user->text, value);
	import_put(import, "upstreams", "username", value);
	import_quote(password->text, value);
	import_put(import, "upstreams", "password", value);
	if (import_try(import, &error))
		return hev_fail(&import->file, &user->at, "socks5: %s", import_reason(&error));
	return 0;
}

static int import_mark(struct import *import)
{
	char value[32];
	uint64_t mark;
	int err;

	if (!import_value(import, HEV_SOCKS_MARK))
		return 0;
	err = hev_number(&import->file, HEV_SOCKS_MARK, 0, 0, UINT32_MAX, &mark);
	if (err || !mark)
		return err;
	snprintf(value, sizeof(value), "%" PRIu64, mark);
	import_set(import, HEV_SOCKS_MARK, "upstreams", "mark", value);
	return 0;
}

static int import_upstream(struct import *import)
{
	const struct hev_value *udp = import_value(import, HEV_SOCKS_UDP);
	const struct hev_value *address = import_value(import, HEV_SOCKS_UDP_ADDRESS);
	const struct hev_value *pipeline = import_value(import, HEV_SOCKS_PIPELINE);
	int err;

	import_put(import, "upstreams", "name", IMPORT_UPSTREAM);
	err = import_server(import);
	if (!err)
		err = import_credentials(import);
	if (!err)
		err = import_mark(import);
	if (err)
		return err;
	if (pipeline && !strcasecmp(pipeline->text, "true"))
		import_set(import, HEV_SOCKS_PIPELINE, "upstreams", "pipeline", "true");
	/* the other program takes everything but "udp" for UDP in TCP, an absent key too */
	if (udp && !strcasecmp(udp->text, "udp"))
		import_set(import, HEV_SOCKS_UDP, "upstreams", "udp", "associate");
	else
		import_set(import, HEV_SOCKS_UDP, "upstreams", "udp", "tcp");
	if (!udp)
		import_note(
			import, &import->file.values[HEV_SOCKS_UDP].at,
			"socks5.udp: not set, which there means UDP in TCP: only servers of the same author know it");
	return address && address->text[0] ? import_set_text(import, HEV_SOCKS_UDP_ADDRESS, "upstreams", "udp-address")
					   : 0;
}

/* 255.240.0.0 → 12; -1: not contiguous. */
static int import_prefix_bits(uint32_t mask)
{
	int bits = 0;

	while (bits < 32 && mask & 1u << (31 - bits))
		bits++;
	return bits < 32 && mask << bits ? -1 : bits;
}

static int import_mapped_network(struct import *import)
{
	const struct hev_value *network = import_value(import, HEV_MAPDNS_NETWORK);
	const struct hev_value *netmask = import_value(import, HEV_MAPDNS_NETMASK);
	struct in_addr base, mask;
	char value[INET_ADDRSTRLEN + 4];
	int bits;

	if (!network && !netmask)
		return 0;
	if (!network || !netmask)
		return hev_fail(&import->file, network ? &network->at : &netmask->at,
				"mapdns: network and netmask go together; %s is missing",
				network ? "netmask" : "network");
	if (inet_pton(AF_INET, network->text, &base) != 1)
		return hev_fail(&import->file, &network->at, "mapdns.network: \"%s\" is no IPv4 address",
				network->text);
	if (inet_pton(AF_INET, netmask->text, &mask) != 1)
		return hev_fail(&import->file, &netmask->at, "mapdns.netmask: \"%s\" is no netmask", netmask->text);
	bits = import_prefix_bits(ntohl(mask.s_addr));
	if (bits < 0)
		return hev_fail(&import->file, &netmask->at,
				"mapdns.netmask: \"%s\" has holes; ones, then zeros are expected", netmask->text);
	base.s_addr &= mask.s_addr;
	inet_ntop(AF_INET, &base, value, INET_ADDRSTRLEN);
	snprintf(value + strlen(value), 4, "/%d", bits);
	import_set(import, HEV_MAPDNS_NETWORK, "dns", "mapped", value);
	return 0;
}

static int import_mapdns(struct import *import)
{
	const struct hev_value *address = import_value(import, HEV_MAPDNS_ADDRESS);
	uint64_t port = 53, cache;
	char value[INET_ADDRSTRLEN + 8];
	struct in_addr ip;
	int err = 0;

	if (import_value(import, HEV_MAPDNS_PORT))
		err = hev_number(&import->file, HEV_MAPDNS_PORT, 10, 1, 65535, &port);
	if (err)
		return err;
	if (address) {
		if (inet_pton(AF_INET, address->text, &ip) != 1)
			return hev_fail(&import->file, &address->at, "mapdns.address: \"%s\" is no IPv4 address",
					address->text);
		inet_ntop(AF_INET, &ip, value, INET_ADDRSTRLEN);
		snprintf(value + strlen(value), 8, ":%" PRIu64, port);
		import_set(import, HEV_MAPDNS_ADDRESS, "dns", "listen", value);
	}
	err = import_mapped_network(import);
	if (err || !import_value(import, HEV_MAPDNS_CACHE))
		return err;
	err = hev_number(&import->file, HEV_MAPDNS_CACHE, 10, 1, UINT32_MAX, &cache);
	if (!err) {
		snprintf(value, sizeof(value), "%" PRIu64, cache);
		import_set(import, HEV_MAPDNS_CACHE, "dns", "cache", value);
	}
	return err;
}

/* Milliseconds there, a number with a unit here. -1 or 0 means "the default" there. */
static int import_timeout(struct import *import, enum hev_key from, const char *section, const char *key)
{
	const struct hev_value *source = import_value(import, from);
	char value[32];
	uint64_t ms;
	int err;

	if (!source || !strcmp(source->text, "-1"))
		return 0;
	err = hev_number(&import->file, from, 10, 0, UINT32_MAX, &ms);
	if (err || !ms)
		return err;
	snprintf(value, sizeof(value), ms % 1000 ? "%" PRIu64 "ms" : "%" PRIu64 "s", ms % 1000 ? ms : ms / 1000);
	import_set(import, from, section, key, value);
	return 0;
}

static int import_timeouts(struct import *import)
{
	/* the older key, for both, gives way to the newer ones */
	enum hev_key tcp = import_value(import, HEV_MISC_TCP_TIMEOUT) ? HEV_MISC_TCP_TIMEOUT : HEV_MISC_RW_TIMEOUT;
	enum hev_key udp = import_value(import, HEV_MISC_UDP_TIMEOUT) ? HEV_MISC_UDP_TIMEOUT : HEV_MISC_RW_TIMEOUT;
	int err = import_timeout(import, HEV_MISC_CONNECT_TIMEOUT, "tcp", "connect-timeout");

	if (!err)
		err = import_timeout(import, tcp, "tcp", "idle-timeout");
	if (!err)
		err = import_timeout(import, udp, "udp", "idle-timeout");
	return err;
}

static int import_sessions(struct import *import)
{
	char value[32];
	uint64_t count;
	int err;

	if (!import_value(import, HEV_MISC_SESSIONS))
		return 0;
	err = hev_number(&import->file, HEV_MISC_SESSIONS, 10, 0, UINT32_MAX, &count);
	if (err)
		return err;
	if (!count) {
		import_note_key(import, HEV_MISC_SESSIONS,
				"0: there is always a limit here; the default of tcp.max-flows holds");
		return 0;
	}
	snprintf(value, sizeof(value), "%" PRIu64, count);
	import_set(import, HEV_MISC_SESSIONS, "tcp", "max-flows", value);
	return 0;
}

static int import_log(struct import *import)
{
	const struct hev_value *file = import_value(import, HEV_MISC_LOG_FILE);
	int err = 0;

	if (import_value(import, HEV_MISC_LOG_LEVEL))
		err = import_set_text(import, HEV_MISC_LOG_LEVEL, "log", "level");
	if (err || !file || !strcmp(file->text, "stderr"))
		return err;
	if (strcmp(file->text, "stdout") && strcmp(file->text, "null"))
		return import_set_text(import, HEV_MISC_LOG_FILE, "log", "file");
	import_note_key(import, HEV_MISC_LOG_FILE, "the log goes to stderr; `log.level: error` makes it quiet");
	return 0;
}

static int import_misc(struct import *import)
{
	static const char no_buffers[] = "no counterpart: packet memory is one pool, performance.memory_pool_size";
	int err = import_timeouts(import);

	if (!err)
		err = import_sessions(import);
	if (!err)
		err = import_log(import);
	import_note_key(import, HEV_MISC_STACK, "no counterpart: connections have no stack of their own");
	import_note_key(import, HEV_MISC_TCP_BUFFER, no_buffers);
	import_note_key(import, HEV_MISC_UDP_BUFFER, no_buffers);
	import_note_key(import, HEV_MISC_UDP_COPIES, no_buffers);
	import_note_key(import, HEV_MISC_PID_FILE, "no counterpart: `run` stays in the foreground, for systemd");
	import_note_key(import, HEV_MISC_NOFILE,
			"no counterpart: the hard limit is taken; LimitNOFILE in the unit sets it");
	return err;
}

static void import_strangers(struct import *import)
{
	for (uint32_t i = 0; i < import->file.stranger_count; i++) {
		const struct hev_stranger *stranger = &import->file.strangers[i];

		import_note(import, &stranger->at, "%s%s%s: unknown to this translation, left out",
			    stranger->section ? stranger->section : "", stranger->section ? "." : "", stranger->name);
	}
}

static int import_translate(struct import *import)
{
	char value[IMPORT_VALUE_BYTES];
	int err;

	if (!import->interface[0] || strlen(import->interface) >= IFNAMSIZ) {
		snprintf(import->file.error->text, CONFIG_ERROR_BYTES,
			 "--interface: \"%.40s\" is no name of an interface; 1 to %d bytes are", import->interface,
			 IFNAMSIZ - 1);
		return -EINVAL;
	}
	import_quote(import->interface, value);
	import_put(import, "interfaces", "name", value);
	err = import_upstream(import);
	if (err)
		return err;
	import_tunnel(import);
	err = import_mapdns(import);
	if (!err)
		err = import_misc(import);
	import_strangers(import);
	return err;
}

int import_hev(const char *text, size_t bytes, const char *name, const char *interface, FILE *out, FILE *notes,
	       struct config_error *error)
{
	struct import *import = calloc(1, sizeof(*import));
	int err;

	if (!import)
		return -ENOMEM;
	import->file.name = name;
	import->file.error = error;
	import->interface = interface;
	err = hev_open(&import->file, text, bytes);
	if (!err) {
		err = import_translate(import);
		if (!err)
			import_finish(import, out, notes);
		hev_close(&import->file);
	}
	free(import);
	return err;
}
