/* SPDX-License-Identifier: MIT */
#include "config_keys.h"

#include "config.h"

#define MS 1000000ull
#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)

#define TARGET(type, member) .offset = offsetof(struct type, member), .size = sizeof(((struct type *)0)->member)
#define END                                                                                                            \
	{                                                                                                              \
		.name = NULL                                                                                           \
	}
#define NOT_YET(key)                                                                                                   \
	{                                                                                                              \
		.name = key, .kind = CONFIG_KIND_NOT_YET                                                               \
	}

static const struct config_choice hook_choices[] = {
	{"auto", CONFIG_HOOK_AUTO}, {"xdp", CONFIG_HOOK_XDP}, {"tc", CONFIG_HOOK_TC}, {NULL, 0}};
static const struct config_choice xsk_choices[] = {{"auto", CONFIG_XSK_AUTO},
						   {"zerocopy", CONFIG_XSK_ZEROCOPY},
						   {"copy", CONFIG_XSK_COPY},
						   {"generic", CONFIG_XSK_GENERIC},
						   {NULL, 0}};
static const struct config_choice attach_choices[] = {
	{"load", CONFIG_ATTACH_LOAD}, {"external", CONFIG_ATTACH_EXTERNAL}, {NULL, 0}};
static const struct config_choice on_down_choices[] = {
	{"drop", CONFIG_ON_DOWN_DROP}, {"pass", CONFIG_ON_DOWN_PASS}, {NULL, 0}};
static const struct config_choice relay_choices[] = {
	{"auto", CONFIG_RELAY_AUTO}, {"splice", CONFIG_RELAY_SPLICE}, {"userspace", CONFIG_RELAY_USERSPACE}, {NULL, 0}};
static const struct config_choice accept_choices[] = {
	{"deferred", CONFIG_ACCEPT_DEFERRED}, {"early", CONFIG_ACCEPT_EARLY}, {NULL, 0}};
static const struct config_choice udp_choices[] = {
	{"associate", CONFIG_UDP_ASSOCIATE}, {"tcp", CONFIG_UDP_TCP}, {"off", CONFIG_UDP_OFF}, {NULL, 0}};
static const struct config_choice icmp_choices[] = {
	{"reply", CONFIG_ICMP_REPLY}, {"pass", CONFIG_ICMP_PASS}, {"drop", CONFIG_ICMP_DROP}, {NULL, 0}};
static const struct config_choice level_choices[] = {{"error", CONFIG_LOG_ERROR},
						     {"warn", CONFIG_LOG_WARN},
						     {"info", CONFIG_LOG_INFO},
						     {"debug", CONFIG_LOG_DEBUG},
						     {NULL, 0}};

static const struct config_key interface_keys[] = {
	{.name = "name", .kind = CONFIG_KIND_STRING, TARGET(config_interface, name), .required = 1},
	{.name = "hook", .kind = CONFIG_KIND_CHOICE, TARGET(config_interface, hook), .choices = hook_choices},
	{.name = "xsk", .kind = CONFIG_KIND_CHOICE, TARGET(config_interface, xsk), .choices = xsk_choices},
	{.name = "attach", .kind = CONFIG_KIND_CHOICE, TARGET(config_interface, attach), .choices = attach_choices},
	END,
};

static const struct config_key upstream_keys[] = {
	{.name = "name", .kind = CONFIG_KIND_STRING, TARGET(config_upstream, name), .required = 1},
	{.name = "server",
	 .kind = CONFIG_KIND_SERVER,
	 TARGET(config_upstream, server),
	 .count_offset = offsetof(struct config_upstream, host),
	 .required = 1},
	{.name = "username", .kind = CONFIG_KIND_STRING, TARGET(config_upstream, username)},
	{.name = "password", .kind = CONFIG_KIND_STRING, TARGET(config_upstream, password)},
	{.name = "pipeline", .kind = CONFIG_KIND_BOOL, TARGET(config_upstream, pipeline)},
	{.name = "password-file", .kind = CONFIG_KIND_STRING, TARGET(config_upstream, password_file)},
	{.name = "weight", .kind = CONFIG_KIND_UINT, TARGET(config_upstream, weight), .min = 0, .max = 1000},
	{.name = "mark", .kind = CONFIG_KIND_UINT, TARGET(config_upstream, mark), .min = 0, .max = UINT32_MAX},
	{.name = "sources",
	 .kind = CONFIG_KIND_ADDRESSES,
	 TARGET(config_upstream, sources),
	 .max = CONFIG_MAX_SOURCES,
	 .count_offset = offsetof(struct config_upstream, source_count)},
	{.name = "ports", .kind = CONFIG_KIND_PORTS, TARGET(config_upstream, ports)},
	{.name = "backoff",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_upstream, backoff_ns),
	 .min = 100 * MS,
	 .max = HOUR},
	{.name = "pool", .kind = CONFIG_KIND_UINT, TARGET(config_upstream, pool), .min = 0, .max = 1024},
	{.name = "pool-max-age",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_upstream, pool_max_age_ns),
	 .min = SECOND,
	 .max = HOUR},
	{.name = "udp", .kind = CONFIG_KIND_CHOICE, TARGET(config_upstream, udp), .choices = udp_choices},
	{.name = "udp-address", .kind = CONFIG_KIND_UDP_ADDRESS, TARGET(config_upstream, udp_relay)},
	END,
};

static const struct config_key tcp_keys[] = {
	{.name = "relay", .kind = CONFIG_KIND_CHOICE, TARGET(config_tcp, relay), .choices = relay_choices},
	{.name = "accept", .kind = CONFIG_KIND_CHOICE, TARGET(config_tcp, accept), .choices = accept_choices},
	{.name = "connect-timeout",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_tcp, connect_timeout_ns),
	 .live = 1,
	 .min = 100 * MS,
	 .max = HOUR},
	{.name = "handshake-timeout",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_tcp, handshake_timeout_ns),
	 .live = 1,
	 .min = 100 * MS,
	 .max = HOUR},
	{.name = "idle-timeout",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_tcp, idle_timeout_ns),
	 .live = 1,
	 .min = SECOND,
	 .max = 24 * 30 * HOUR},
	{.name = "linger",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_tcp, linger_ns),
	 .live = 1,
	 .min = 100 * MS,
	 .max = 4 * 60 * SECOND},
	{.name = "max-flows", .kind = CONFIG_KIND_UINT, TARGET(config_tcp, max_flows), .min = 16, .max = 4194304},
	{.name = "half-open",
	 .kind = CONFIG_KIND_UINT,
	 TARGET(config_tcp, half_open),
	 .live = 1,
	 .min = 1,
	 .max = 4194304},
	{.name = "half-open-per-source",
	 .kind = CONFIG_KIND_UINT,
	 TARGET(config_tcp, half_open_per_source),
	 .live = 1,
	 .min = 1,
	 .max = 4194304},
	END,
};

static const struct config_key dns_keys[] = {
	{.name = "listen", .kind = CONFIG_KIND_ENDPOINT, TARGET(config_dns, listen)},
	{.name = "mapped", .kind = CONFIG_KIND_PREFIX, TARGET(config_dns, mapped)},
	{.name = "mapped6", .kind = CONFIG_KIND_PREFIX, TARGET(config_dns, mapped6)},
	{.name = "cache", .kind = CONFIG_KIND_UINT, TARGET(config_dns, cache), .min = 8, .max = 1048576},
	{.name = "hijack", .kind = CONFIG_KIND_BOOL, TARGET(config_dns, hijack)},
	END,
};

static const struct config_key udp_keys[] = {
	{.name = "idle-timeout",
	 .kind = CONFIG_KIND_DURATION,
	 TARGET(config_udp, idle_timeout_ns),
	 .min = SECOND,
	 .max = 24 * HOUR},
	{.name = "max-flows", .kind = CONFIG_KIND_UINT, TARGET(config_udp, max_flows), .min = 16, .max = 65536},
	{.name = "per-client", .kind = CONFIG_KIND_UINT, TARGET(config_udp, per_client), .min = 1, .max = 65536},
	END,
};

static const struct config_key log_keys[] = {
	{.name = "level", .kind = CONFIG_KIND_CHOICE, TARGET(config, log_level), .choices = level_choices, .live = 1},
	{.name = "file", .kind = CONFIG_KIND_STRING, TARGET(config, log_file)},
	{.name = "flows", .kind = CONFIG_KIND_STRING, TARGET(config, log_flows), .empty_word = "off"},
	END,
};

static const struct config_key performance_keys[] = {
	{.name = "enable_batch_processing",
	 .kind = CONFIG_KIND_BOOL,
	 TARGET(config_performance, enable_batch_processing)},
	{.name = "enable_cpu_affinity", .kind = CONFIG_KIND_BOOL, TARGET(config_performance, enable_cpu_affinity)},
	{.name = "enable_simd", .kind = CONFIG_KIND_BOOL, TARGET(config_performance, enable_simd)},
	{.name = "enable_ebpf", .kind = CONFIG_KIND_BOOL, TARGET(config_performance, enable_ebpf)},
	{.name = "enable_connection_pool",
	 .kind = CONFIG_KIND_BOOL,
	 TARGET(config_performance, enable_connection_pool),
	 .live = 1},
	{.name = "enable_memory_pool", .kind = CONFIG_KIND_TRUE},
	{.name = "enable_zero_copy", .kind = CONFIG_KIND_TRUE},
	{.name = "enable_io_uring", .kind = CONFIG_KIND_TRUE},
	{.name = "batch_size", .kind = CONFIG_KIND_UINT, TARGET(config_performance, batch_size), .min = 1, .max = 256},
	{.name = "memory_pool_size",
	 .kind = CONFIG_KIND_UINT,
	 TARGET(config_performance, memory_pool_size),
	 .min = 2048,
	 .max = 1048576},
	{.name = "connection_pool_size",
	 .kind = CONFIG_KIND_UINT,
	 TARGET(config_performance, connection_pool_size),
	 .min = 1,
	 .max = 4096,
	 .live = 1},
	{.name = "io_uring_entries",
	 .kind = CONFIG_KIND_POWER_OF_TWO,
	 TARGET(config_performance, io_uring_entries),
	 .min = 64,
	 .max = 4096},
	NOT_YET("enable_ring_buffer"),
	NOT_YET("min_threads"),
	NOT_YET("max_threads"),
	NOT_YET("adaptive_scaling"),
	END,
};

#define RULE_KEY(key, needed)                                                                                          \
	{                                                                                                              \
		.name = key, .kind = CONFIG_KIND_RULE, .offset = CONFIG_NO_TARGET, .required = needed                  \
	}

static const struct config_key rule_keys[] = {
	RULE_KEY("src", 0),    RULE_KEY("dst", 0),    RULE_KEY("proto", 0),    RULE_KEY("dport", 0),
	RULE_KEY("domain", 0), RULE_KEY("action", 1), RULE_KEY("upstream", 0), END,
};

const struct config_key config_root_keys[] = {
	{.name = "interfaces",
	 .kind = CONFIG_KIND_SEQUENCE,
	 .offset = offsetof(struct config, interfaces),
	 .size = sizeof(struct config_interface),
	 .max = CONFIG_MAX_INTERFACES,
	 .keys = interface_keys,
	 .count_offset = offsetof(struct config, interface_count),
	 .required = 1},
	{.name = "uplink", .kind = CONFIG_KIND_STRING, TARGET(config, uplink), .empty_word = "auto"},
	{.name = "bpf-pin", .kind = CONFIG_KIND_STRING, TARGET(config, bpf_pin)},
	{.name = "on-down", .kind = CONFIG_KIND_CHOICE, TARGET(config, on_down), .choices = on_down_choices, .live = 1},
	{.name = "upstreams",
	 .kind = CONFIG_KIND_SEQUENCE,
	 .offset = offsetof(struct config, upstreams),
	 .size = sizeof(struct config_upstream),
	 .max = CONFIG_MAX_UPSTREAMS,
	 .keys = upstream_keys,
	 .count_offset = offsetof(struct config, upstream_count),
	 .required = 1,
	 .live = 1},
	{.name = "rules", .kind = CONFIG_KIND_RULES, TARGET(config, rules), .keys = rule_keys, .live = 1},
	{.name = "tcp", .kind = CONFIG_KIND_MAPPING, .offset = offsetof(struct config, tcp), .keys = tcp_keys},
	{.name = "udp", .kind = CONFIG_KIND_MAPPING, .offset = offsetof(struct config, udp), .keys = udp_keys},
	{.name = "icmp", .kind = CONFIG_KIND_CHOICE, TARGET(config, icmp), .choices = icmp_choices},
	{.name = "dns", .kind = CONFIG_KIND_MAPPING, .offset = offsetof(struct config, dns), .keys = dns_keys},
	{.name = "state", .kind = CONFIG_KIND_STRING, TARGET(config, state)},
	{.name = "control", .kind = CONFIG_KIND_STRING, TARGET(config, control)},
	{.name = "log", .kind = CONFIG_KIND_MAPPING, .offset = 0, .keys = log_keys},
	{.name = "metrics", .kind = CONFIG_KIND_ENDPOINT, TARGET(config, metrics)},
	{.name = "performance",
	 .kind = CONFIG_KIND_MAPPING,
	 .offset = offsetof(struct config, performance),
	 .keys = performance_keys},
	NOT_YET("socks"),
	END,
};
