/* SPDX-License-Identifier: MIT */
#include "config_help.h"

#include <string.h>

/* clang-format off: one entry is one line of the reference */
const struct config_help config_helps[] = {
	{"interfaces", "Where the clients are.", NULL},
	{"interfaces[].name", "The interface.", NULL},
	{"interfaces[].hook",
	 "Where the fast path runs. `xdp`: rewriting and AF_XDP in the driver; `tc`: rewriting in tc, packets for user "
	 "space by "
	 "a TAP device, so that large packets of virtual devices stay whole; `auto`: tc for virtual devices, or XDP "
	 "where `xsk` "
	 "is set or the device is a network card.",
	 NULL},
	{"interfaces[].xsk",
	 "`zerocopy`: only that; `copy`: native XDP, AF_XDP copies; `generic`: works with every driver, slowest; "
	 "`auto`: the "
	 "first of these that works.",
	 NULL},
	{"interfaces[].attach",
	 "`load`: the daemon loads and attaches the program; `external`: it was attached by `ip link`.", NULL},
	{"uplink", "The interface toward all upstreams; `auto`: by route, each its own.", NULL},
	{"bpf-pin",
	 "Directory on a bpffs that keeps spliced connections alive without the daemon; each daemon its own.", NULL},
	{"on-down", "What happens to what should be proxied while no daemon runs and the program is attached.", NULL},
	{"upstreams", "The SOCKS5 servers; how one is chosen, and what happens when it fails, is told in upstreams.md.",
	 NULL},
	{"upstreams[].name", "Its name, each another; spliced connections find their upstream by it after a restart.",
	 NULL},
	{"upstreams[].server",
	 "Its address and port; an IPv6 address in brackets: `\"[IPV6]:PORT\"`. A name is resolved again when its TTL "
	 "is up.",
	 NULL},
	{"upstreams[].username", "RFC 1929; together with `password` or `password-file`, or none of them.", NULL},
	{"upstreams[].password", "RFC 1929.", NULL},
	{"upstreams[].password-file",
	 "Instead of `password`: a file whose first line is the password; read at the start and by a reload. A warning "
	 "if others may read it.",
	 NULL},
	{"upstreams[].weight", "Its share of the connections; `0`: a standby, used while no other is healthy.", NULL},
	{"upstreams[].mark", "SO_MARK of its sockets, which also counts for its route; `0`: none.", NULL},
	{"upstreams[].backoff",
	 "How long it is left alone after it failed, before it is probed; doubled with each probe that fails, up to 16 "
	 "times.",
	 NULL},
	{"upstreams[].pool", "Warm connections: connected and authenticated, not yet used.", NULL},
	{"upstreams[].pool-max-age", "How old a warm connection may get.", NULL},
	{"upstreams[].pipeline",
	 "Greeting, authentication and request in one flight; only for servers that allow it. With a `username` the "
	 "greeting "
	 "then offers nothing but user/password, and a server that wants no password refuses it.",
	 NULL},
	{"upstreams[].ports",
	 "Own ports to dial spliced connections from, registered in `net.ipv4.ip_local_reserved_ports`.", NULL},
	{"upstreams[].sources", "Own addresses to dial spliced connections from.", "by route"},
	{"upstreams[].udp",
	 "How datagrams go there. `associate`: UDP ASSOCIATE; `tcp`: inside the control connection, which servers of "
	 "hev-socks5-core know (CMD 0x05); `off`: not at all, clients get an ICMP port unreachable.",
	 NULL},
	{"upstreams[].udp-address",
	 "Where datagrams for the relay go. `as-told`: to BND.ADDR of the reply; an address: there; `auto`: to "
	 "BND.ADDR, "
	 "or to the server's own address where that is unspecified, or private while the server's is not.",
	 "`auto`"},
	{"rules",
	 "What is proxied, direct, dropped or rejected; first match wins, no match is proxied. Up to 65,536 prefixes "
	 "and 8,192 "
	 "ports or ranges in all.",
	 NULL},
	{"rules[].src", "Source: a prefix or a list of prefixes, IPv4 and IPv6; an address alone is one host.", "any"},
	{"rules[].dst", "Destination: the same.", "any"},
	{"rules[].proto", "`tcp`, `udp` or `icmp` (ICMPv6 too).", "any"},
	{"rules[].dport", "Destination port, `FIRST-LAST`, or a list of both; with `proto: tcp` or `udp` only.", "any"},
	{"rules[].domain",
	 "A name or a list of names: `host.example` is that name, `.example` it and all names below it. A rule for "
	 "names, "
	 "with `action` and `upstream` alone; needs `dns`.",
	 "any"},
	{"rules[].action", "`proxy`, `direct`, `drop` or `reject`.", NULL},
	{"rules[].upstream", "With `proxy`: the name of the upstream.", "any"},
	{"tcp", "How connections are carried, and their limits.", NULL},
	{"tcp.relay",
	 "`auto`: the kernel carries what it can, user space the rest; `splice`: the rest is refused; `userspace`: the "
	 "kernel "
	 "carries nothing.",
	 NULL},
	{"tcp.accept", "`deferred`: SYN-ACK after the upstream said yes; `early`: at once.", NULL},
	{"tcp.connect-timeout", "For the dial, and again for the upstream's reply to CONNECT.", NULL},
	{"tcp.handshake-timeout", "For greeting and authentication, and for clients to complete their handshake.",
	 NULL},
	{"tcp.idle-timeout", "Connections without a packet for so long are reset.", NULL},
	{"tcp.linger", "How long a closed connection is remembered (TIME-WAIT).", NULL},
	{"tcp.max-flows", "Entries of the connection tables, the relay's and the kernel's.", NULL},
	{"tcp.half-open", "Connections whose handshake is not complete; beyond, the oldest gives way.", NULL},
	{"tcp.half-open-per-source", "The same per client address.", NULL},
	{"udp", "Limits of UDP associations, one of which each client endpoint has.", NULL},
	{"udp.idle-timeout", "An association without a datagram for so long is ended.", NULL},
	{"udp.max-flows", "Associations; beyond, the least recently used one gives way.", NULL},
	{"udp.per-client", "The same per client address: its own least recently used one gives way.", NULL},
	{"icmp",
	 "ICMP to destinations that are to be proxied. `reply`: echo requests are answered by the gateway, and nothing "
	 "else gets out; `pass`: all goes on into the kernel; `drop`: nothing is answered or gets out.",
	 NULL},
	{"dns", "Mapped DNS: names are resolved by the upstream; off unless listed, `dns: {}` is enough.", NULL},
	{"dns.listen",
	 "Queries to this address are answered here: one that clients reach through the gateway, or one of its own on "
	 "their side.",
	 "`198.18.0.1:53`"},
	{"dns.mapped", "Fake IPv4 addresses, used nowhere else; 8 to 28 bits.", "`198.18.0.0/15`"},
	{"dns.mapped6", "Fake IPv6 addresses, the same; 16 to 124 bits.", "`fc00:5::/96`"},
	{"dns.cache", "Names that have fake addresses at a time; beyond, the one not used for longest gives way.",
	 NULL},
	{"dns.hijack", "`true`: queries to port 53 of any address are answered, not only those to `listen`.", NULL},
	{"state", "Directory for what survives a restart: the names. Used with `dns` only.", NULL},
	{"control", "The control socket.", NULL},
	{"log", "What is written, and where to.", NULL},
	{"log.level", "The least severe level that is written.", NULL},
	{"log.file", "`stderr`, or a file, which is appended to.", NULL},
	{"log.flows", "`off`, or a file: one line of JSON per connection that has ended.", NULL},
	{"metrics", "`ADDRESS:PORT` or `\"[IPV6]:PORT\"` to serve /metrics (Prometheus) and /healthz on.", "off"},
	{"performance", "Switches and sizes of single optimisations.", NULL},
	{"performance.enable_batch_processing", "`false`: packets one by one.", NULL},
	{"performance.enable_cpu_affinity",
	 "`false`: the data path is not pinned, packet memory not bound to a NUMA node.", NULL},
	{"performance.enable_simd", "`false`: scalar checksums.", NULL},
	{"performance.enable_ebpf",
	 "`false`: the kernel carries no connections, and user space decides by the rules: TCP only, and `direct` is "
	 "refused.",
	 NULL},
	{"performance.enable_connection_pool", "`false`: every `pool` is 0.", NULL},
	{"performance.connection_pool_size", "Most warm connections of all upstreams together.", NULL},
	{"performance.enable_memory_pool", "Packets and objects come from a pool.", NULL},
	{"performance.enable_zero_copy", "Payload is not copied between packet memory and socket buffers by us.", NULL},
	{"performance.enable_io_uring", "Sockets are driven by io_uring.", NULL},
	{"performance.batch_size", "Packets taken per turn and queue.", NULL},
	{"performance.memory_pool_size",
	 "Frames of packet memory, of 2 KB (4 KB where an MTU is larger than 1774). Where all interfaces have `hook: "
	 "tc`, the "
	 "same memory is divided into fewer frames of up to 16 KB.",
	 NULL},
	{"performance.io_uring_entries", "Size of the submission queue.", NULL},
	{NULL, NULL, NULL},
};
/* clang-format on */

const struct config_help *config_help_find(const char *path)
{
	for (const struct config_help *help = config_helps; help->path; help++)
		if (!strcmp(help->path, path))
			return help;
	return NULL;
}
