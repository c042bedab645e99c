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
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config_reference.h"
#include "import_hev_priv.h"

#define IMPORT_MAX_SETTINGS 24
#define IMPORT_MAX_NOTES (HEV_KEY_COUNT + HEV_MAX_STRANGERS + 8)
/* Of names, passwords, paths. */
#define IMPORT_TEXT_BYTES 255
/* The same, each byte escaped as \u00NN, and quotes. */
#define IMPORT_VALUE_BYTES (IMPORT_TEXT_BYTES * 6 + 16)
#define IMPORT_NOTE_BYTES 600
#define IMPORT_UPSTREAM "hev"

struct import_setting {
	const char *section, *key; /* section "": of the root */
	char value[IMPORT_VALUE_BYTES];
	const char *refused; /* why it is a comment, static; NULL: it is real */
};

struct import_note {
	yaml_mark_t at;
	char text[IMPORT_NOTE_BYTES];
};

struct import {
	struct hev_file file;
	const char *interface;
	struct import_setting settings[IMPORT_MAX_SETTINGS];
	uint32_t setting_count;
	struct import_note notes[IMPORT_MAX_NOTES];
	uint32_t note_count;
};

/* In the order in which they are written. */
static const char *const import_sections[] = {"interfaces", "upstreams", "", "tcp", "udp", "dns", "log"};

/* --- collecting --- */

__attribute__((format(printf, 3, 4))) static void import_note(struct import *import, const yaml_mark_t *at,
							      const char *fmt, ...)
{
	struct import_note *note;
	va_list args;

	if (import->note_count == IMPORT_MAX_NOTES)
		return;
	note = &import->notes[import->note_count++];
	note->at = *at;
	va_start(args, fmt);
	vsnprintf(note->text, sizeof(note->text), fmt, args);
	va_end(args);
}

static const struct hev_value *import_value(const struct import *import, enum hev_key key)
{
	return import->file.values[key].text ? &import->file.values[key] : NULL;
}

static void import_note_key(struct import *import, enum hev_key key, const char *text)
{
	const struct hev_value *value = import_value(import, key);

	if (value)
		import_note(import, &value->at, "%s: %s", hev_key_path(key), text);
}

/*
 * Bytes of the character at `text` if YAML may not have it plain or takes it for the end of a line (also of a comment),
 * and its number; 0: it is an ordinary one. The text is valid UTF-8, libyaml has seen to that.
 */
static size_t import_special(const char *text, unsigned int *number)
{
	const unsigned char *p = (const unsigned char *)text;

	*number = p[0];
	if (p[0] < 0x80)
		return p[0] < 0x20 || p[0] == 0x7f;
	if (p[0] == 0xc2 && p[1] < 0xa0) {
		*number = p[1];
		return 2;
	}
	if (p[0] >> 4 != 0xe)
		return 0;
	*number = (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
	return *number == 0x2028 || *number == 0x2029 || *number == 0xfeff || *number >= 0xfffe ? 3 : 0;
}

/* A double-quoted YAML scalar: it means the same whatever is in it. `text` has IMPORT_TEXT_BYTES at most. */
static void import_quote(const char *text, char out[IMPORT_VALUE_BYTES])
{
	size_t used = 0, special;
	unsigned int number;

	out[used++] = '"';
	while (*text) {
		special = import_special(text, &number);
		if (special) {
			used += (size_t)snprintf(out + used, 7, "\\u%04x", number);
			text += special;
			continue;
		}
		if (*text == '"' || *text == '\\')
			out[used++] = '\\';
		out[used++] = *text++;
	}
	out[used++] = '"';
	out[used] = 0;
}

static bool import_in_build(const struct import_setting *setting)
{
	static const char *const lists[] = {"interfaces", "upstreams"};
	const struct config_key *key;
	const char *joint = ".";
	char path[CONFIG_PATH_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (!strcmp(setting->section, lists[i]))
			joint = "[].";
	snprintf(path, sizeof(path), "%s%s%s", setting->section, setting->section[0] ? joint : "", setting->key);
	key = config_reference_find(path);
	return key && key->kind != CONFIG_KIND_NOT_YET;
}

/* --- writing --- */

static bool import_has_real(const struct import *import, const char *section)
{
	for (uint32_t i = 0; i < import->setting_count; i++)
		if (!strcmp(import->settings[i].section, section) && !import->settings[i].refused)
			return true;
	return false;
}

static void import_write_section(const struct import *import, const char *section, FILE *out)
{
	bool list = !strcmp(section, "interfaces") || !strcmp(section, "upstreams");
	bool real = import_has_real(import, section), first = true;
	const char *indent = !section[0] ? "" : list ? "    " : "  ";
	bool header = !section[0];

	for (uint32_t i = 0; i < import->setting_count; i++) {
		const struct import_setting *setting = &import->settings[i];

		if (strcmp(setting->section, section))
			continue;
		if (!header)
			fprintf(out, "%s%s:\n", real ? "" : "# ", section);
		header = true;
		if (setting->refused)
			fprintf(out, "# %s%s: %s   # %s\n", indent, setting->key, setting->value, setting->refused);
		else
			fprintf(out, "%s%s: %s\n", list && first ? "  - " : indent, setting->key, setting->value);
		first = false;
	}
}

static void import_write(const struct import *import, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(import_sections); i++)
		import_write_section(import, import_sections[i], out);
}

/* Does our parser take what was collected so far? `error` tells why not. */
static int import_try(const struct import *import, struct config_error *error)
{
	static struct config config;
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	int err = -ENOMEM;

	if (!out)
		return err;
	import_write(import, out);
	if (!fclose(out))
		err = config_parse(text, bytes, "import", &config, error);
	free(text);
	return err;
}

/* The words of an error without the place, which is in no file. */
static const char *import_reason(const struct config_error *error)
{
	const char *text = error->text;

	for (int i = 0; i < 3 && strchr(text, ':'); i++)
		text = strchr(text, ':') + 1;
	return text + strspn(text, " ");
}

static struct import_setting *import_put(struct import *import, const char *section, const char *key, const char *value)
{
	struct import_setting *setting = &import->settings[import->setting_count++];

	setting->section = section;
	setting->key = key;
	setting->refused = NULL;
	snprintf(setting->value, sizeof(setting->value), "%s", value);
	if (!import_in_build(setting))
		setting->refused = "not in this build yet";
	return setting;
}

/* A setting that comes from `from`; what this build does not take becomes a comment and a note. */
static void import_set(struct import *import, enum hev_key from, const char *section, const char *key,
		       const char *value)
{
	const struct hev_value *source = &import->file.values[from];
	struct import_setting *setting = import_put(import, section, key, value);
	struct config_error error;

	if (setting->refused) {
		import_note(import, &source->at, "%s: becomes %s%s%s, which is not in this build yet: a comment",
			    hev_key_path(from), section, section[0] ? "." : "", key);
	} else if (import_try(import, &error)) {
		setting->refused = "not accepted, the default holds";
		import_note(import, &source->at, "%s: not accepted, so the default holds: %s", hev_key_path(from),
			    import_reason(&error));
	}
}

/* The same for text, which stands in quotes. 0, or -EINVAL when it is too long. */
static int import_set_text(struct import *import, enum hev_key from, const char *section, const char *key)
{
	const struct hev_value *source = &import->file.values[from];
	char value[IMPORT_VALUE_BYTES];

	if (strlen(source->text) > IMPORT_TEXT_BYTES)
		return hev_fail(&import->file, &source->at, "%s: too long; at most %d bytes are allowed",
				hev_key_path(from), IMPORT_TEXT_BYTES);
	import_quote(source->text, value);
	import_set(import, from, section, key, value);
	return 0;
}

/* --- translating --- */

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

static int import_compare_notes(const void *a, const void *b)
{
	const struct import_note *x = a, *y = b;

	return x->at.line != y->at.line ? (x->at.line < y->at.line ? -1 : 1)
					: (x->at.column > y->at.column) - (x->at.column < y->at.column);
}

/* A comment ends with its line, and a key's name may hold anything. */
static void import_write_line(FILE *out, const char *text)
{
	unsigned int number;

	while (*text) {
		size_t special = import_special(text, &number);

		fputc(special ? '?' : *text, out);
		text += special ? special : 1;
	}
	fputc('\n', out);
}

static void import_finish(struct import *import, FILE *out, FILE *notes)
{
	qsort(import->notes, import->note_count, sizeof(import->notes[0]), import_compare_notes);
	fputs("# Translated from ", out);
	import_write_line(out, import->file.name);
	if (import->note_count)
		fputs("# What has no counterpart or becomes something else:\n", out);
	for (uint32_t i = 0; i < import->note_count; i++) {
		const struct import_note *note = &import->notes[i];

		fprintf(out, "#   line %zu: ", note->at.line + 1);
		import_write_line(out, note->text);
		fprintf(notes, "%s:%zu:%zu: ", import->file.name, note->at.line + 1, note->at.column + 1);
		import_write_line(notes, note->text);
	}
	import_write(import, out);
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
