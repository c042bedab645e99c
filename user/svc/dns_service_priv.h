/* SPDX-License-Identifier: MIT */
/* What the files of the DNS service share. */
#ifndef SOCKSPLICE_DNS_SERVICE_PRIV_H
#define SOCKSPLICE_DNS_SERVICE_PRIV_H

#include "directmap.h"
#include "dns_direct.h"
#include "dns_service.h"
#include "wheel.h"

#define DNS_NO_CONN UINT16_MAX
#define DNS_CONNS 256
#define DNS_CONNS_PER_CLIENT 16
/* Longer than any query that makes sense; a message of a connection begins with its length (RFC 1035 4.2.2). */
#define DNS_CONN_QUERY_BYTES 2048
#define DNS_CONN_LENGTH_BYTES 2
/* Questions of one connection that are being asked elsewhere; no more is read from it meanwhile. */
#define DNS_CONN_PENDING 16

/* A connection of a client, for queries. */
struct dns_conn {
	struct flow *flow; /* NULL: the slot is free */
	struct addr client;
	uint8_t client_mac[6];
	struct wheel_timer timer;
	uint16_t generation;
	uint16_t pending; /* queries that are being asked elsewhere */
	uint16_t have;    /* bytes in `message` */
	bool ended;       /* our FIN is out */
	uint8_t message[DNS_CONN_LENGTH_BYTES + DNS_CONN_QUERY_BYTES];
};

/* Who asked, and how the answer gets there. */
struct dns_asker {
	struct addr client;
	uint8_t client_mac[6];
	bool tcp;
	uint16_t conn, conn_generation; /* TCP */
	uint16_t port;                  /* UDP, as the next */
	struct build_link link;
};

/* A query whose answer is asked elsewhere. */
struct dns_pending {
	bool in_use;
	uint16_t generation;
	uint32_t next_free;
	struct dns_asker asker;
	struct dns_query query;
};

/* Pending queries are counted by a hash of who asked: nobody gets more than a share. */
#define DNS_SHARES 256
#define DNS_SHARE 128

#define DNS_ANSWER_OFFSET 8

struct dns_service {
	const struct config *config;
	struct stack *stack;
	struct frame_pool *pool;
	struct dnsmap *map;
	struct domains *domains; /* NULL: no rules */
	struct dns_store *store;
	struct dns_direct *direct;
	struct directmap directmap;
	int wake_fd;
	uint64_t now_ns;

	struct dns_pending pending[DNS_DIRECT_PENDING];
	uint32_t pending_free, pending_count;
	uint16_t share[DNS_SHARES];
	uint8_t share_secret[16];

	struct wheel wheel;
	bool wheel_started;
	struct dns_conn conns[DNS_CONNS];
	uint16_t *flow_conns; /* flow index -> connection, DNS_NO_CONN */
	uint32_t conn_count;

	uint64_t saved_version; /* of the map */
	uint64_t next_save_ns, last_save_ns;

	struct dns_counters counters;
	/* in front of the message its length for TCP, or a UDP header for a moment (stack_send_datagram()) */
	uint8_t answer[DNS_ANSWER_OFFSET + DNS_TCP_BYTES];
};

/* A query, from whom; it is answered now, later, or never. */
void dns_service_query(struct dns_service *service, const struct dns_asker *asker, const uint8_t *message,
		       size_t bytes);

/* dns_tcp.c */
int dns_tcp_create(struct dns_service *service);
void dns_tcp_start(struct dns_service *service, uint64_t now_ns);
/* The message in `answer`, to the connection that asked if it still lives. */
void dns_tcp_answer(struct dns_service *service, const struct dns_asker *asker, size_t bytes);
/* A pending query of this connection is over, answered or not. */
void dns_tcp_settled(struct dns_service *service, const struct dns_asker *asker);
void dns_tcp_pending(struct dns_service *service, const struct dns_asker *asker);

#endif
