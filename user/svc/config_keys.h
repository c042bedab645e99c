/* SPDX-License-Identifier: MIT */
/*
 * The table of keys: what a mapping may contain, and where each value goes. A new key needs a sentence in config_help.c
 * and then `make reference`, which writes it into the documents; a new kind, its words in config_reference_kind().
 * Tests tell.
 */
#ifndef SOCKSPLICE_CONFIG_KEYS_H
#define SOCKSPLICE_CONFIG_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum config_kind {
	CONFIG_KIND_MAPPING,  /* `keys` says of what */
	CONFIG_KIND_SEQUENCE, /* of mappings of `keys`, at most `max`; target: array of elements of `size`, count at
				 `count_offset` */
	CONFIG_KIND_UINT,     /* min..max */
	CONFIG_KIND_POWER_OF_TWO,
	CONFIG_KIND_DURATION,
	CONFIG_KIND_BOOL,
	CONFIG_KIND_TRUE, /* a switch whose other position is not built yet */
	CONFIG_KIND_CHOICE,
	CONFIG_KIND_STRING, /* up to size - 1 bytes */
	CONFIG_KIND_ENDPOINT,
	CONFIG_KIND_SERVER, /* ADDRESS:PORT or NAME:PORT; target: struct endpoint, name (CONFIG_MAX_HOST + 1 bytes) at
			       `count_offset` */
	CONFIG_KIND_PREFIX, /* ADDRESS/BITS: struct config_prefix */
	CONFIG_KIND_PORTS,  /* FIRST-LAST: struct config_ports */
	CONFIG_KIND_ADDRESSES,   /* list of addresses, at most `max`; target: array of struct addr, count at
				    `count_offset` */
	CONFIG_KIND_UDP_ADDRESS, /* auto, as-told or an address: struct config_udp_relay */
	CONFIG_KIND_RULES,       /* config_rules.c; target: struct config_rules */
	CONFIG_KIND_RULE,        /* a key of a rule, named for the reference: config_rules.c reads it */
	CONFIG_KIND_NOT_YET,     /* of a later build */
};

struct config_choice {
	const char *text;
	int value; /* CONFIG_CHOICE_NOT_YET: of a later build */
};

#define CONFIG_CHOICE_NOT_YET (-1)
#define CONFIG_NO_TARGET ((size_t)-1)

struct config_key {
	const char *name;
	enum config_kind kind;
	size_t offset; /* in the struct of its mapping; CONFIG_NO_TARGET: checked only */
	size_t size;   /* of the target */
	uint64_t min, max;
	const struct config_key *keys;       /* ended by name NULL */
	const struct config_choice *choices; /* ended by text NULL */
	size_t count_offset;
	const char *empty_word; /* STRING: this word means the empty string */
	unsigned char required;
	unsigned char live; /* a reload applies a new value */
};

extern const struct config_key config_root_keys[];

#endif
