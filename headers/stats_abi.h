/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Every drop reason and every counter of the BPF programs, named once. The
 * per-CPU array map `counters` is indexed by enum packet_counter; user space
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
	X(UDP_CHECKSUM, udp_checksum)                                                                                  \
	X(ICMP_CHECKSUM, icmp_checksum)                                                                                \
	X(BAD_UDP_HDR, bad_udp_hdr)                                                                                    \
	X(ICMP, icmp) /* `icmp: drop` */                                                                               \
	X(BAD_ADDRESS, bad_address)                                                                                    \
	X(IP_OPTIONS, ip_options)       /* of a spliced flow: no TCP sends them in mid-connection */                   \
	X(TTL_EXPIRED, ttl_expired)     /* of a spliced flow */                                                        \
	X(DUPLICATE_SYN, duplicate_syn) /* while its upstream is being dialled */                                      \
	X(OPENING_BAD, opening_bad)     /* before the client's first valid segment */                                  \
	X(OPENING_HELD, opening_held)   /* a bare ACK of the client while early data is being delivered */             \
	X(FAULT, fault)                 /* injected by a test */                                                       \
	X(RULE, rule)                   /* a rule says drop; or reject, and nobody is there to answer */

enum drop_reason {
#define X(name, text) DROP_##name,
	DROP_REASONS(X)
#undef X
		DROP_REASON_COUNT
};

/* Verdicts of the programs. Exactly one verdict or one drop is counted per packet and program that takes it. */
#define PACKET_VERDICTS(X)                                                                                             \
	X(PASS_NOT_ADOPTED, pass_not_adopted) /* no daemon ever took this program over */                              \
	X(PASS_NOT_IP, pass_not_ip)           /* ARP, LLDP, ... */                                                     \
	X(PASS_LOCAL, pass_local)             /* to the gateway itself, multicast, broadcast, link-local */            \
	X(PASS_DIRECT, pass_direct)           /* a rule says direct */                                                 \
	X(PASS_OTHER, pass_other)                                                                                      \
	X(PASS_ON_DOWN, pass_on_down)   /* would be proxied, no socket, `on-down: pass` */                             \
	X(PASS_TO_TC, pass_to_tc)       /* XDP leaves a packet of a spliced flow to the tc program behind it */        \
	X(PASS_UPSTREAM, pass_upstream) /* of an upstream to its socket: handshake, or a relayed flow */               \
	X(TO_SOCKET, to_socket)                                                                                        \
	X(TO_TAP, to_tap)                                                                                              \
	X(SPLICED_XDP, spliced_xdp) /* rewritten and sent on */                                                        \
	X(SPLICED_TC, spliced_tc)                                                                                      \
	X(UDP_XDP, udp_xdp) /* SOCKS5 UDP header added or taken off, and sent on */                                    \
	X(UDP_TC, udp_tc)                                                                                              \
	X(ICMP_TRANSLATED, icmp_translated)

/* What happened besides; a packet may count in several. */
#define FLOW_EVENTS(X)                                                                                                 \
	X(FIRST_SEGMENTS, first_segments) /* upstream→client opened */                                               \
	X(OPENING_RESETS, opening_resets) /* the client gave up before it was established */                           \
	X(EARLY_SEGMENTS, early_segments) /* of an upstream that speaks before its client is established */            \
	X(CLAMPED_ACKS, clamped_acks) /* lowered or dropped, so that the socket confirms nothing of the client's */    \
	X(GUARDED_PACKETS, guarded_packets) /* of the socket, dropped because the flow is the kernel's */              \
	X(STALE_KEYS, stale_keys)           /* a key that leads to an entry used again */                              \
	X(LOST_REPORTS, lost_reports)       /* the ring buffer was full */                                             \
	X(SYNS_MIRRORED, syns_mirrored)     /* SYNs that were made to offer the client's options */                    \
	X(SLOW_OPTIONS, slow_options)       /* packets whose TCP options needed a walk */                              \
	X(MAC_CHANGES, mac_changes)

enum packet_counter {
#define X(name, text) COUNT_##name,
	PACKET_VERDICTS(X) FLOW_EVENTS(X)
#undef X
#define X(name, text) COUNT_DROP_##name,
		DROP_REASONS(X)
#undef X
			PACKET_COUNTER_COUNT
};

#endif
