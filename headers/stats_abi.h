/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Every drop reason and every counter of the XDP program, named once. The
 * per-CPU array map `counters` is indexed by enum xdp_counter; user space
 * prints the same names.
 */
#ifndef SOCKSPLICE_STATS_ABI_H
#define SOCKSPLICE_STATS_ABI_H

#include <linux/types.h>

/* Why a packet was not taken. The parser returns these; both sides count by them. */
#define DROP_REASONS(X)                                                                                                \
	X(NONE, none)                                                                                                  \
	X(TRUNCATED, truncated)                                                                                        \
	X(BAD_IP_HDR, bad_ip_hdr)                                                                                      \
	X(BAD_TCP_HDR, bad_tcp_hdr)                                                                                    \
	X(TOO_MANY_EXT_HDRS, too_many_ext_hdrs)                                                                        \
	X(FRAGMENT, fragment)                                                                                          \
	X(NO_SOCKET, no_socket)                                                                                        \
	X(IP_CHECKSUM, ip_checksum)                                                                                    \
	X(TCP_CHECKSUM, tcp_checksum)                                                                                  \
	X(BAD_ADDRESS, bad_address)

enum drop_reason {
#define X(name, text) DROP_##name,
	DROP_REASONS(X)
#undef X
		DROP_REASON_COUNT
};

/* Verdicts of the XDP program. Exactly one verdict or one drop is counted per packet. */
#define XDP_VERDICTS(X)                                                                                                \
	X(PASS_NOT_ADOPTED, pass_not_adopted) /* no daemon ever took this program over */                              \
	X(PASS_NOT_IP, pass_not_ip)           /* ARP, LLDP, ... */                                                     \
	X(PASS_LOCAL, pass_local)             /* to the gateway itself, multicast, broadcast, link-local */            \
	X(PASS_NOT_TCP, pass_not_tcp)                                                                                  \
	X(PASS_ON_DOWN, pass_on_down) /* would be proxied, no socket, `on-down: pass` */                               \
	X(TO_SOCKET, to_socket)

enum xdp_counter {
#define X(name, text) XDP_COUNT_##name,
	XDP_VERDICTS(X)
#undef X
#define X(name, text) XDP_COUNT_DROP_##name,
		DROP_REASONS(X)
#undef X
			XDP_COUNTER_COUNT
};

#endif
