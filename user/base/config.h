/* SPDX-License-Identifier: MIT */
/*
 * The settings of one daemon, as plain data: durations in nanoseconds, sizes
 * in what their suffix says, everything checked. config_yaml fills it; nobody
 * changes it afterwards.
 */
#ifndef SOCKSPLICE_CONFIG_H
#define SOCKSPLICE_CONFIG_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

#define CONFIG_MAX_INTERFACES 8
#define CONFIG_MAX_UPSTREAMS 16
#define CONFIG_MAX_SOURCES 64
#define CONFIG_MAX_CREDENTIAL 255 /* RFC 1929: one length byte */
#define CONFIG_MAX_HOST 253       /* RFC 1035 2.3.4, as text */

enum config_xsk_mode { CONFIG_XSK_AUTO, CONFIG_XSK_ZEROCOPY, CONFIG_XSK_COPY, CONFIG_XSK_GENERIC };
enum config_hook { CONFIG_HOOK_AUTO, CONFIG_HOOK_XDP, CONFIG_HOOK_TC };
enum config_attach { CONFIG_ATTACH_LOAD, CONFIG_ATTACH_EXTERNAL };
enum config_on_down { CONFIG_ON_DOWN_DROP, CONFIG_ON_DOWN_PASS };
enum config_relay { CONFIG_RELAY_AUTO, CONFIG_RELAY_SPLICE, CONFIG_RELAY_USERSPACE };
enum config_accept { CONFIG_ACCEPT_DEFERRED, CONFIG_ACCEPT_EARLY };
enum config_udp_mode { CONFIG_UDP_ASSOCIATE, CONFIG_UDP_TCP, CONFIG_UDP_OFF };
enum config_udp_address { CONFIG_UDP_ADDRESS_AUTO, CONFIG_UDP_ADDRESS_AS_TOLD, CONFIG_UDP_ADDRESS_FIXED };
enum config_icmp { CONFIG_ICMP_REPLY, CONFIG_ICMP_PASS, CONFIG_ICMP_DROP };
enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARN, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };

struct config_interface {
	char name[IFNAMSIZ];
	enum config_hook hook;
	enum config_xsk_mode xsk;
	enum config_attach attach;
};

struct config_ports {
	uint16_t first, last;
};

enum config_rule_action { CONFIG_RULE_PROXY, CONFIG_RULE_DIRECT, CONFIG_RULE_DROP, CONFIG_RULE_REJECT };
enum config_rule_proto { CONFIG_RULE_ANY, CONFIG_RULE_TCP, CONFIG_RULE_UDP, CONFIG_RULE_ICMP };

/* An IPv4 prefix counts its bits behind those of ::ffff:0:0/96. Bits behind `bits` are zero. */
struct config_prefix {
	struct addr addr;
	uint8_t bits;
	uint8_t pad[3]; /* zero: prefixes are compared as bytes */
};

/* In lower case, without dots at its ends: a stretch of config_rules.domain_texts. */
struct config_domain {
	uint32_t text;
	uint8_t bytes;
	uint8_t below;  /* 1: it and all names below it; 0: it alone */
	uint8_t pad[2]; /* zero: domains are compared as bytes */
};

/* Stretches of the arrays below; an empty one: whatever the packet has. With domains: a rule for names, not packets. */
struct config_rule {
	uint32_t src_first, src_count, dst_first, dst_count; /* of prefixes */
	uint32_t port_first, port_count;                     /* of ports: destination */
	uint32_t domain_first, domain_count;                 /* of domains */
	enum config_rule_proto proto;
	enum config_rule_action action;
	int32_t upstream; /* index; -1: chosen by weight */
};

/* First match wins, no match: proxy. Arrays on the heap: config_release(). */
struct config_rules {
	struct config_rule *rules;
	struct config_prefix *prefixes;
	struct config_ports *ports;
	struct config_domain *domains;
	char *domain_texts;
	uint32_t count, prefix_count, port_count, domain_count, domain_text_bytes;
};

/* Where datagrams for a relay go: what to do with BND.ADDR. */
struct config_udp_relay {
	enum config_udp_address mode;
	struct addr addr; /* CONFIG_UDP_ADDRESS_FIXED */
};

struct config_upstream {
	char name[64];
	struct endpoint server;                   /* with `host` only the port counts */
	char host[CONFIG_MAX_HOST + 1];           /* the server's name, to be resolved; empty: it is given by address */
	char username[CONFIG_MAX_CREDENTIAL + 1]; /* empty: no authentication offered */
	char password[CONFIG_MAX_CREDENTIAL + 1];
	char password_file[256]; /* empty: none; else config_load() has put its first line into `password` */
	bool pipeline;
	uint32_t weight; /* share of the connections; 0: standby */
	uint32_t mark;   /* SO_MARK of its sockets; 0: none */
	uint64_t backoff_ns;
	uint32_t pool; /* warm connections */
	uint64_t pool_max_age_ns;
	struct config_ports ports;               /* to dial spliced connections from */
	struct addr sources[CONFIG_MAX_SOURCES]; /* own addresses to dial from; none: by route */
	uint32_t source_count;
	enum config_udp_mode udp;
	struct config_udp_relay udp_relay;
};

struct config_tcp {
	enum config_relay relay;
	enum config_accept accept;
	uint64_t connect_timeout_ns;
	uint64_t handshake_timeout_ns;
	uint64_t idle_timeout_ns;
	uint64_t linger_ns;
	uint32_t max_flows;
	uint32_t half_open;
	uint32_t half_open_per_source;
};

/* Names that get fake addresses; off: no `listen`. */
struct config_dns {
	struct endpoint listen;
	struct config_prefix mapped, mapped6;
	uint32_t cache; /* names */
	bool hijack;    /* every query to port 53, whatever its destination */
};

static inline bool config_dns_is_on(const struct config_dns *dns)
{
	return dns->listen.port != 0;
}

struct config_udp {
	uint64_t idle_timeout_ns;
	uint32_t max_flows;  /* associations */
	uint32_t per_client; /* of them, by one address */
};

struct config_performance {
	bool enable_batch_processing;
	bool enable_cpu_affinity;
	bool enable_simd;
	bool enable_ebpf;            /* connections may be handed to the kernel */
	bool enable_connection_pool; /* false: every `pool` is 0 */
	uint32_t batch_size;
	uint32_t memory_pool_size;     /* UMEM frames */
	uint32_t connection_pool_size; /* warm connections of all upstreams together */
	uint32_t io_uring_entries;
};

struct config {
	struct config_interface interfaces[CONFIG_MAX_INTERFACES];
	uint32_t interface_count;
	char uplink[IFNAMSIZ]; /* empty: by route */
	enum config_on_down on_down;
	char bpf_pin[256]; /* directory on a bpffs */
	struct config_upstream upstreams[CONFIG_MAX_UPSTREAMS];
	uint32_t upstream_count;
	struct config_rules rules;
	struct config_tcp tcp;
	struct config_dns dns;
	char state[256]; /* directory for what survives a restart */
	struct config_udp udp;
	enum config_icmp icmp;
	char control[108]; /* path of the control socket: sizeof(sockaddr_un.sun_path) */
	enum config_log_level log_level;
	char log_file[4096];     /* "stderr" or a path */
	char log_flows[4096];    /* where ended connections are recorded; empty: nowhere */
	struct endpoint metrics; /* to listen on; port 0: nowhere */
	struct config_performance performance;
};

#endif
