/* SPDX-License-Identifier: MIT */
/*
 * Mapped DNS: answers clients' queries, and knows the names that their flows
 * go to. See dns_service.c for the theory of operation. Everything but
 * creation and destruction runs on the data-path thread.
 */
#ifndef SOCKSPLICE_DNS_SERVICE_H
#define SOCKSPLICE_DNS_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "bpfload.h"
#include "config.h"
#include "dns_store.h"
#include "dnsmap.h"
#include "domains.h"
#include "stack.h"

struct packet_view;

#define DNS_COUNTERS(X)                                                                                                \
	X(queries_udp)                                                                                                 \
	X(queries_tcp)                                                                                                 \
	X(answers_mapped)  /* a fake address */                                                                        \
	X(answers_empty)   /* another type of a name that is proxied */                                                \
	X(answers_reverse) /* PTR of a fake address */                                                                 \
	X(answers_local)   /* localhost */                                                                             \
	X(answers_nothing) /* no name of a host, or a fake address without a name */                                   \
	X(answers_rejected)                                                                                            \
	X(answers_refused)         /* other classes, zone transfers */                                                 \
	X(answers_malformed)       /* FORMERR */                                                                       \
	X(answers_not_implemented) /* other operations than queries; unknown EDNS versions */                          \
	X(answers_truncated)                                                                                           \
	X(dropped_by_rule)                                                                                             \
	X(ignored) /* too short, or answers themselves */                                                              \
	X(direct_asked)                                                                                                \
	X(direct_answered)                                                                                             \
	X(direct_failed)  /* the host's resolver could not tell */                                                     \
	X(direct_limited) /* too many are being asked, in all or by this client */                                     \
	X(direct_addrs)   /* addresses that clients may go to directly */                                              \
	X(map_full)       /* every name has live flows */                                                              \
	X(not_sent)       /* no frame, or a full ring */                                                               \
	X(tcp_connections)                                                                                             \
	X(tcp_refused)                                                                                                 \
	X(tcp_timed_out)                                                                                               \
	X(tcp_aborted)                                                                                                 \
	X(flows_named)     /* connections that went upstream by name */                                                \
	X(flows_unknown)   /* to a fake address whose name is gone */                                                  \
	X(flows_forbidden) /* to a name that by now goes direct, is rejected or dropped */

struct dns_counters {
#define X(name) uint64_t name;
	DNS_COUNTERS(X)
#undef X
};

struct dns_gauges {
	struct dnsmap_gauges map;
	struct dns_store_counters store;
	uint32_t direct_now, tcp_now;
};

struct dns_service;

/*
 * For a configuration that has `dns`. Loads the names of earlier daemons, starts the threads for the host's resolver
 * and for saving. 0, or -errno with a message if there is something to say.
 */
int dns_service_create(struct dns_service **out, const struct config *config, const struct bpfload *bpf, char *error,
		       uint32_t error_bytes);
/* Also right for NULL. Saves the names. */
void dns_service_destroy(struct dns_service *service);
void dns_service_set_stack(struct dns_service *service, struct stack *stack, struct frame_pool *pool);
/* Names are judged by `domains` from now on (NULL: no rules); the service owns it. */
void dns_service_set_domains(struct dns_service *service, struct domains *domains);
/* What the programs in the kernel have to know; service NULL: that there is no mapped DNS. 0 or -errno. */
int dns_service_tell_programs(const struct config *config, const struct bpfload *bpf);

/* Readable when a thread has something to tell: then dns_service_wake(). */
int dns_service_fd(const struct dns_service *service);
void dns_service_wake(struct dns_service *service, uint64_t now_ns);
/* Once per loop: time-outs, and saving when it is due. */
void dns_service_run(struct dns_service *service, uint64_t now_ns);
uint64_t dns_service_next_timer_ns(const struct dns_service *service);

/* Is this packet a query, or of a connection for queries? `has_port`: view->dport is known. */
bool dns_service_is_query(const struct dns_service *service, const struct packet_view *view, bool has_port);
/* A datagram for which dns_service_is_query() was true. */
void dns_service_datagram(struct dns_service *service, const struct stack_datagram *datagram, uint64_t now_ns);
/* true: this flow is the service's from now on, and the four calls below are to be made for it. */
bool dns_service_flow_opened(struct dns_service *service, struct flow *flow, uint64_t now_ns);
/* Is it one of the service's? */
bool dns_service_has_flow(const struct dns_service *service, const struct flow *flow);
void dns_service_flow_readable(struct dns_service *service, struct flow *flow, uint64_t now_ns);
void dns_service_flow_closed(struct dns_service *service, struct flow *flow);
/* Resets all its connections. */
void dns_service_reset_flows(struct dns_service *service, uint64_t now_ns);

/* The names; flows to them hold them. */
struct dnsmap *dns_service_names(struct dns_service *service);
/* What the rules say about an entry of the map. */
struct rules_verdict dns_service_decide(const struct dns_service *service, uint32_t entry);

struct dns_counters *dns_service_counters(struct dns_service *service);
void dns_service_gauges(struct dns_service *service, struct dns_gauges *out);

#endif
