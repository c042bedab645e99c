/* SPDX-License-Identifier: MIT */
/* What the files of the import share: the settings of hev-socks5-tunnel as its main.yml gives them, and the result. */
#ifndef SOCKSPLICE_IMPORT_HEV_PRIV_H
#define SOCKSPLICE_IMPORT_HEV_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <yaml.h>

#include "config_yaml.h"

/* Every key of its versions up to 2.14, section by section. */
#define HEV_KEYS(X)                                                                                                    \
	X(TUNNEL_NAME, "tunnel", "name")                                                                               \
	X(TUNNEL_MTU, "tunnel", "mtu")                                                                                 \
	X(TUNNEL_MULTI_QUEUE, "tunnel", "multi-queue")                                                                 \
	X(TUNNEL_IPV4, "tunnel", "ipv4")                                                                               \
	X(TUNNEL_IPV6, "tunnel", "ipv6")                                                                               \
	X(TUNNEL_POST_UP, "tunnel", "post-up-script")                                                                  \
	X(TUNNEL_PRE_DOWN, "tunnel", "pre-down-script")                                                                \
	X(TUNNEL_ICMP, "tunnel", "icmp")                                                                               \
	X(SOCKS_PORT, "socks5", "port")                                                                                \
	X(SOCKS_ADDRESS, "socks5", "address")                                                                          \
	X(SOCKS_UDP, "socks5", "udp")                                                                                  \
	X(SOCKS_UDP_ADDRESS, "socks5", "udp-address")                                                                  \
	X(SOCKS_PIPELINE, "socks5", "pipeline")                                                                        \
	X(SOCKS_USERNAME, "socks5", "username")                                                                        \
	X(SOCKS_PASSWORD, "socks5", "password")                                                                        \
	X(SOCKS_MARK, "socks5", "mark")                                                                                \
	X(MAPDNS_ADDRESS, "mapdns", "address")                                                                         \
	X(MAPDNS_PORT, "mapdns", "port")                                                                               \
	X(MAPDNS_NETWORK, "mapdns", "network")                                                                         \
	X(MAPDNS_NETMASK, "mapdns", "netmask")                                                                         \
	X(MAPDNS_CACHE, "mapdns", "cache-size")                                                                        \
	X(MISC_STACK, "misc", "task-stack-size")                                                                       \
	X(MISC_TCP_BUFFER, "misc", "tcp-buffer-size")                                                                  \
	X(MISC_UDP_BUFFER, "misc", "udp-recv-buffer-size")                                                             \
	X(MISC_UDP_COPIES, "misc", "udp-copy-buffer-nums")                                                             \
	X(MISC_SESSIONS, "misc", "max-session-count")                                                                  \
	X(MISC_CONNECT_TIMEOUT, "misc", "connect-timeout")                                                             \
	X(MISC_RW_TIMEOUT, "misc", "read-write-timeout")                                                               \
	X(MISC_TCP_TIMEOUT, "misc", "tcp-read-write-timeout")                                                          \
	X(MISC_UDP_TIMEOUT, "misc", "udp-read-write-timeout")                                                          \
	X(MISC_LOG_FILE, "misc", "log-file")                                                                           \
	X(MISC_LOG_LEVEL, "misc", "log-level")                                                                         \
	X(MISC_PID_FILE, "misc", "pid-file")                                                                           \
	X(MISC_NOFILE, "misc", "limit-nofile")

enum hev_key {
#define X(id, section, name) HEV_##id,
	HEV_KEYS(X)
#undef X
		HEV_KEY_COUNT
};

struct hev_value {
	const char *text; /* of the document; NULL: not set */
	yaml_mark_t at;   /* of the value; for a section that is missing, where it was looked for */
};

/* A key that no version has. */
struct hev_stranger {
	const char *section, *name;
	yaml_mark_t at;
};

#define HEV_MAX_STRANGERS 64

struct hev_file {
	const char *name; /* for messages */
	yaml_document_t document;
	struct hev_value values[HEV_KEY_COUNT];
	struct hev_stranger strangers[HEV_MAX_STRANGERS];
	uint32_t stranger_count;
	struct config_error *error;
};

/* "socks5.port" and so on. */
const char *hev_key_path(enum hev_key key);
/* Writes FILE:LINE:COLUMN: and the message into the error. Returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int hev_fail(const struct hev_file *file, const yaml_mark_t *at, const char *fmt,
						   ...);
/* 0 (hev_close() is due), or -EINVAL or -ENOMEM with the first error. name and error are set by the caller. */
int hev_open(struct hev_file *file, const char *text, size_t bytes);
void hev_close(struct hev_file *file);

/* The value as a number from min to max; base 0 takes 0x10 as well. 0 or -EINVAL with an error. */
int hev_number(const struct hev_file *file, enum hev_key key, int base, uint64_t min, uint64_t max, uint64_t *out);

/* --- import_hev_out.c: the result --- */

#define IMPORT_MAX_SETTINGS 24
#define IMPORT_MAX_NOTES (HEV_KEY_COUNT + HEV_MAX_STRANGERS + 8)
/* Of names, passwords, paths. */
#define IMPORT_TEXT_BYTES 255
/* The same, each byte escaped as \u00NN, and quotes. */
#define IMPORT_VALUE_BYTES (IMPORT_TEXT_BYTES * 6 + 16)
#define IMPORT_NOTE_BYTES 600

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

/* To be told, about that place of the file. */
__attribute__((format(printf, 3, 4))) void import_note(struct import *import, const yaml_mark_t *at, const char *fmt,
						       ...);
/* The same about a key, if it is set. */
void import_note_key(struct import *import, enum hev_key key, const char *text);
/* NULL: it is not set. */
const struct hev_value *import_value(const struct import *import, enum hev_key key);

/* A double-quoted YAML scalar: it means the same whatever is in it. `text` has IMPORT_TEXT_BYTES at most. */
void import_quote(const char *text, char out[IMPORT_VALUE_BYTES]);
/* Adds a setting; one that this build has not is a comment. The value is YAML. */
struct import_setting *import_put(struct import *import, const char *section, const char *key, const char *value);
/* The same with a setting that comes from `from`; what our parser does not take becomes a comment and a note. */
void import_set(struct import *import, enum hev_key from, const char *section, const char *key, const char *value);
/* The same for text, which is quoted. 0, or -EINVAL when it is too long. */
int import_set_text(struct import *import, enum hev_key from, const char *section, const char *key);
/* Does our parser take what was collected so far? 0, or -errno and `error` tells why not. */
int import_try(const struct import *import, struct config_error *error);
/* The words of such an error without the place, which is in no file. */
const char *import_reason(const struct config_error *error);
/* Writes the settings to `out` with the notes on top, and the notes to `notes`. */
void import_finish(struct import *import, FILE *out, FILE *notes);

#endif
