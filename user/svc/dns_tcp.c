/* SPDX-License-Identifier: MIT */
/*
 * Queries by TCP (RFC 7766): several in one connection, answered in the order
 * that their answers come. A client that does not read its answers, or waits
 * for many, is not read from. A connection that is silent is closed after
 * DNS_TCP_IDLE_NS, and reset if that does not end it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dns_service_priv.h"

#define DNS_TCP_IDLE_NS 10000000000ull
#define DNS_TCP_IOVECS 16

int dns_tcp_create(struct dns_service *service)
{
	uint32_t flows = service->config->tcp.max_flows;

	service->flow_conns = malloc(flows * sizeof(*service->flow_conns));
	if (!service->flow_conns)
		return -ENOMEM;
	for (uint32_t i = 0; i < flows; i++)
		service->flow_conns[i] = DNS_NO_CONN;
	return 0;
}

static uint16_t dns_conn_index(const struct dns_service *service, const struct dns_conn *conn)
{
	return (uint16_t)(conn - service->conns);
}

static struct dns_conn *dns_conn_of(struct dns_service *service, const struct flow *flow)
{
	uint16_t index = service->flow_conns[stack_flow_index(service->stack, flow)];

	return index == DNS_NO_CONN ? NULL : &service->conns[index];
}

bool dns_service_has_flow(const struct dns_service *service, const struct flow *flow)
{
	return service->flow_conns[stack_flow_index(service->stack, flow)] != DNS_NO_CONN;
}

/* A free slot, if the client has not its share already. The table is small. */
static struct dns_conn *dns_conn_get(struct dns_service *service, const struct addr *client)
{
	struct dns_conn *free_slot = NULL;
	uint32_t own = 0;

	for (uint32_t i = 0; i < DNS_CONNS; i++) {
		struct dns_conn *conn = &service->conns[i];

		if (!conn->flow)
			free_slot = conn;
		else if (addr_equal(&conn->client, client))
			own++;
	}
	return own < DNS_CONNS_PER_CLIENT ? free_slot : NULL;
}

static void dns_conn_arm(struct dns_service *service, struct dns_conn *conn)
{
	wheel_arm(&service->wheel, &conn->timer, service->now_ns + DNS_TCP_IDLE_NS);
}

static void dns_conn_refuse(struct dns_service *service, struct flow *flow)
{
	service->counters.tcp_refused++;
	if (service->config->tcp.accept == CONFIG_ACCEPT_EARLY)
		stack_abort(service->stack, flow, service->now_ns);
	else
		stack_refuse(service->stack, flow, REFUSE_RESET, service->now_ns);
}

bool dns_service_flow_opened(struct dns_service *service, struct flow *flow, uint64_t now_ns)
{
	const struct config_dns *dns = &service->config->dns;
	struct flow_info info;
	struct dns_conn *conn;

	stack_flow_describe(service->stack, flow, &info);
	if (!(info.destination.port == dns->listen.port && addr_equal(&info.destination.addr, &dns->listen.addr)) &&
	    !(dns->hijack && info.destination.port == be16(DNS_PORT)))
		return false;
	dns_tcp_start(service, now_ns);
	service->now_ns = now_ns;
	conn = dns_conn_get(service, &info.client.addr);
	if (!conn) {
		dns_conn_refuse(service, flow);
		return true;
	}
	*conn = (struct dns_conn){
		.flow = flow, .client = info.client.addr, .generation = (uint16_t)(conn->generation + 1)};
	memcpy(conn->client_mac, info.client_mac, sizeof(conn->client_mac));
	service->flow_conns[stack_flow_index(service->stack, flow)] = dns_conn_index(service, conn);
	service->conn_count++;
	service->counters.tcp_connections++;
	dns_conn_arm(service, conn);
	stack_accept(service->stack, flow, now_ns);
	return true;
}

void dns_service_flow_closed(struct dns_service *service, struct flow *flow)
{
	struct dns_conn *conn = dns_conn_of(service, flow);

	if (!conn)
		return;
	service->flow_conns[stack_flow_index(service->stack, flow)] = DNS_NO_CONN;
	wheel_cancel(&service->wheel, &conn->timer);
	conn->flow = NULL;
	service->conn_count--;
}

static void dns_conn_abort(struct dns_service *service, struct dns_conn *conn)
{
	service->counters.tcp_aborted++;
	stack_abort(service->stack, conn->flow, service->now_ns); /* ends in dns_service_flow_closed() */
}

/* --- reading --- */

/* How many bytes the message needs as far as is known. 0: it is too long to be a query. */
static uint32_t dns_conn_wants(const struct dns_conn *conn)
{
	uint32_t length;

	if (conn->have < DNS_CONN_LENGTH_BYTES)
		return DNS_CONN_LENGTH_BYTES;
	length = (uint32_t)conn->message[0] << 8 | conn->message[1];
	return length && length <= DNS_CONN_QUERY_BYTES ? DNS_CONN_LENGTH_BYTES + length : 0;
}

/* Up to `wanted` bytes in `message`; false: they are not there yet. */
static bool dns_conn_fill(struct dns_service *service, struct dns_conn *conn, uint32_t wanted)
{
	struct iovec iov[DNS_TCP_IOVECS];
	uint32_t taken = 0, count = stack_peek(service->stack, conn->flow, 0, iov, wanted, DNS_TCP_IOVECS);

	for (uint32_t i = 0; i < count && conn->have < wanted; i++) {
		uint32_t part = MIN((uint32_t)iov[i].iov_len, wanted - conn->have);

		memcpy(conn->message + conn->have, iov[i].iov_base, part);
		conn->have = (uint16_t)(conn->have + part);
		taken += part;
	}
	if (taken)
		stack_consume(service->stack, conn->flow, taken, service->now_ns);
	return conn->have >= wanted;
}

static void dns_conn_query(struct dns_service *service, struct dns_conn *conn)
{
	struct dns_asker asker = {.client = conn->client,
				  .tcp = true,
				  .conn = dns_conn_index(service, conn),
				  .conn_generation = conn->generation};
	size_t bytes = conn->have - DNS_CONN_LENGTH_BYTES;

	memcpy(asker.client_mac, conn->client_mac, sizeof(asker.client_mac));

	conn->have = 0;
	service->counters.queries_tcp++;
	dns_service_query(service, &asker, conn->message + DNS_CONN_LENGTH_BYTES, bytes);
}

/* The client has nothing more to ask, and everything is answered. */
static void dns_conn_end(struct dns_service *service, struct dns_conn *conn)
{
	if (conn->ended)
		return;
	conn->ended = true;
	stack_shutdown(service->stack, conn->flow, service->now_ns);
}

static void dns_conn_read(struct dns_service *service, struct dns_conn *conn)
{
	const struct flow *flow = conn->flow;

	while (conn->flow == flow && !conn->ended && conn->pending < DNS_CONN_PENDING && stack_send_room(conn->flow)) {
		uint32_t wanted = dns_conn_wants(conn), before = conn->have;

		if (!wanted) {
			dns_conn_abort(service, conn);
			return;
		}
		if (!dns_conn_fill(service, conn, wanted)) {
			/* a frame may hold one byte: what is left behind the iovecs is for another turn */
			if (conn->have != before)
				continue;
			break;
		}
		dns_conn_arm(service, conn);
		if (wanted > DNS_CONN_LENGTH_BYTES)
			dns_conn_query(service, conn);
	}
	if (conn->flow == flow && !conn->pending && stack_read_finished(conn->flow) &&
	    !stack_readable_bytes(conn->flow))
		dns_conn_end(service, conn);
}

void dns_service_flow_readable(struct dns_service *service, struct flow *flow, uint64_t now_ns)
{
	struct dns_conn *conn = dns_conn_of(service, flow);

	service->now_ns = now_ns;
	if (conn)
		dns_conn_read(service, conn);
}

/* --- answering --- */

static struct dns_conn *dns_conn_that_asked(struct dns_service *service, const struct dns_asker *asker)
{
	struct dns_conn *conn = &service->conns[asker->conn];

	return conn->flow && conn->generation == asker->conn_generation ? conn : NULL;
}

void dns_tcp_pending(struct dns_service *service, const struct dns_asker *asker)
{
	service->conns[asker->conn].pending++;
}

void dns_tcp_settled(struct dns_service *service, const struct dns_asker *asker)
{
	struct dns_conn *conn = dns_conn_that_asked(service, asker);

	if (!conn)
		return;
	conn->pending--;
	dns_conn_read(service, conn);
}

void dns_tcp_answer(struct dns_service *service, const struct dns_asker *asker, size_t bytes)
{
	uint8_t *message = service->answer + DNS_ANSWER_OFFSET - DNS_CONN_LENGTH_BYTES;
	struct dns_conn *conn = dns_conn_that_asked(service, asker);
	struct frame_pool *pool = service->pool;
	size_t most = pool->frame_bytes - FRAME_PAYLOAD_OFFSET, total = bytes + DNS_CONN_LENGTH_BYTES;

	if (!conn || conn->ended)
		return;
	message[0] = (uint8_t)(bytes >> 8);
	message[1] = (uint8_t)bytes;
	for (size_t at = 0; at < total && conn->flow;) {
		size_t part = MIN(total - at, most);
		uint32_t frame = frame_get(pool, FRAME_FLOW);

		/* half an answer would take the next for its rest */
		if (frame == FRAME_NONE) {
			service->counters.not_sent++;
			dns_conn_abort(service, conn);
			return;
		}
		memcpy(frame_data(pool, frame) + FRAME_PAYLOAD_OFFSET, message + at, part);
		stack_send(service->stack, conn->flow, frame, FRAME_PAYLOAD_OFFSET, (uint16_t)part, service->now_ns);
		at += part;
	}
}

/* --- time --- */

static void dns_tcp_timer(void *ctx, struct wheel_timer *timer, uint64_t now_ns)
{
	struct dns_service *service = ctx;
	struct dns_conn *conn = (struct dns_conn *)((char *)timer - offsetof(struct dns_conn, timer));

	(void)now_ns;
	service->counters.tcp_timed_out++;
	if (conn->ended) {
		dns_conn_abort(service, conn);
		return;
	}
	dns_conn_end(service, conn);
	if (conn->flow)
		dns_conn_arm(service, conn);
}

void dns_tcp_start(struct dns_service *service, uint64_t now_ns)
{
	if (!service->wheel_started) {
		wheel_init(&service->wheel, now_ns);
		service->wheel_started = true;
	}
	wheel_expire(&service->wheel, now_ns, dns_tcp_timer, service);
}

void dns_service_reset_flows(struct dns_service *service, uint64_t now_ns)
{
	service->now_ns = now_ns;
	for (uint32_t i = 0; i < DNS_CONNS; i++)
		if (service->conns[i].flow)
			dns_conn_abort(service, &service->conns[i]);
}
