/* SPDX-License-Identifier: MIT */
/*
 * Joins a client's flow (stack) to its connection at the upstream SOCKS5
 * server (kernel socket, io_uring): see bridge.c for the theory of operation.
 */
#ifndef SOCKSPLICE_BRIDGE_H
#define SOCKSPLICE_BRIDGE_H

#include <stdint.h>

#define BRIDGE_COUNTERS(X)                                                                                             \
	X(dials)                                                                                                       \
	X(connects_ok) /* SOCKS CONNECT succeeded */                                                                   \
	X(dial_refused)                                                                                                \
	X(dial_unreachable)                                                                                            \
	X(dial_timed_out)                                                                                              \
	X(dial_no_descriptor)                                                                                          \
	X(handshake_timed_out)                                                                                         \
	X(handshake_closed) /* the upstream closed before it replied */                                                \
	X(handshake_malformed)                                                                                         \
	X(auth_rejected)                                                                                               \
	X(reply_general_failure)                                                                                       \
	X(reply_not_allowed)                                                                                           \
	X(reply_net_unreachable)                                                                                       \
	X(reply_host_unreachable)                                                                                      \
	X(reply_refused)                                                                                               \
	X(reply_ttl_expired)                                                                                           \
	X(reply_command_unsupported)                                                                                   \
	X(reply_address_unsupported)                                                                                   \
	X(reply_unknown)                                                                                               \
	X(upstream_resets)                                                                                             \
	X(upstream_sends)	/* sendmsg completions */                                                              \
	X(upstream_send_bytes)                                                                                         \
	X(upstream_receives)	/* recv completions */                                                                 \
	X(upstream_receive_bytes)                                                                                      \
	X(receive_pauses)	/* back-pressure from a slow client */

struct bridge_counters {
#define X(name) uint64_t name;
	BRIDGE_COUNTERS(X)
#undef X
};

struct bridge_gauges {
	uint32_t dialing;  /* connect, greeting, auth, request */
	uint32_t relaying;
	uint32_t closing;  /* waiting for completions still in flight */
};

#endif
