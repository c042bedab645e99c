/* SPDX-License-Identifier: MIT */
/*
 * From the dial to the reply of CONNECT (RFC 1928, RFC 1929). All messages of
 * one handshake live in one frame: what we send at its payload offset, each
 * message at its own place so that none is overwritten while the kernel reads
 * it; what the server says at SOCKS_RECV_OFFSET. Bytes behind the reply are
 * the first payload for the client and are sent from where they lie.
 *
 * What the client is told follows what the network would have said: see
 * socks_client_refusal[].
 */
#include "bridge_priv.h"

#include <errno.h>

#define SOCKS_AUTH_OFFSET (FRAME_PAYLOAD_OFFSET + SOCKS_GREETING_MAX_BYTES)
#define SOCKS_CONNECT_OFFSET (SOCKS_AUTH_OFFSET + SOCKS_AUTH_MAX_BYTES)
#define SOCKS_RECV_OFFSET 1040
#define SOCKS_RECV_BYTES 1008

_Static_assert(SOCKS_CONNECT_OFFSET + SOCKS_CONNECT_MAX_BYTES <= SOCKS_RECV_OFFSET, "messages overlap");
_Static_assert(SOCKS_RECV_OFFSET + SOCKS_RECV_BYTES <= 2048, "beyond the smallest frame");

/* What a reply code becomes for the client, and its counter. Unassigned codes are treated like a general failure. */
static const struct {
	enum flow_refusal refusal;
	size_t counter;
	enum upstream_refusal kind;
} socks_client_refusals[] = {
#define REFUSAL(code, how, name) [code] = {how, offsetof(struct bridge_counters, name), UPSTREAM_REFUSAL_##name}
	REFUSAL(SOCKS_REPLY_GENERAL_FAILURE, REFUSE_RESET, reply_general_failure),
	REFUSAL(SOCKS_REPLY_NOT_ALLOWED, REFUSE_ADMIN_PROHIBITED, reply_not_allowed),
	REFUSAL(SOCKS_REPLY_NET_UNREACHABLE, REFUSE_NET_UNREACHABLE, reply_net_unreachable),
	REFUSAL(SOCKS_REPLY_HOST_UNREACHABLE, REFUSE_HOST_UNREACHABLE, reply_host_unreachable),
	REFUSAL(SOCKS_REPLY_REFUSED, REFUSE_RESET, reply_refused),
	REFUSAL(SOCKS_REPLY_TTL_EXPIRED, REFUSE_TTL_EXPIRED, reply_ttl_expired),
	REFUSAL(SOCKS_REPLY_COMMAND_UNSUPPORTED, REFUSE_RESET, reply_command_unsupported),
	REFUSAL(SOCKS_REPLY_ADDRESS_UNSUPPORTED, REFUSE_NET_UNREACHABLE, reply_address_unsupported),
#undef REFUSAL
};

static const struct config_upstream *socks_client_settings(struct bridge *bridge, const struct conn *conn)
{
	return &conn_upstream(bridge, conn)->settings;
}

static enum socks_offer socks_client_offer(struct bridge *bridge, const struct conn *conn)
{
	if (!socks_client_settings(bridge, conn)->username[0])
		return SOCKS_OFFER_NONE;
	/* a password that is sent ahead must be asked for: the server would read it as the request otherwise */
	return conn->one_flight ? SOCKS_OFFER_PASSWORD : SOCKS_OFFER_EITHER;
}

/* A counter by its offset. */
static void socks_client_count(struct bridge *bridge, size_t counter)
{
	++*(uint64_t *)((char *)&bridge->counters + counter);
}

static void socks_client_arm(struct bridge *bridge, struct conn *conn, uint64_t timeout_ns)
{
	wheel_arm(&bridge->wheel, &conn->timer, bridge->now_ns + timeout_ns);
}

void socks_client_dial(struct bridge *bridge, struct conn *conn)
{
	struct upstream *upstream = conn_upstream(bridge, conn);

	if (conn->purpose == CONN_FOR_CLIENT)
		bridge->counters.dials++;
	upstream->counters.dials++;
	conn->dialled_ns = bridge->now_ns;
	conn->server = *upstream_address(upstream);
	socks_handshake_init(&conn->handshake, socks_client_offer(bridge, conn));
	socks_client_arm(bridge, conn, bridge->config->tcp.connect_timeout_ns);
	uring_connect(bridge->uring, conn_start_op(bridge, conn, CONN_OP_CONNECT), conn->fd,
		      (const struct sockaddr *)&upstream->server, upstream->server_bytes);
}

void socks_client_refuse(struct bridge *bridge, struct conn *conn, enum flow_refusal how)
{
	struct flow *flow = conn->flow;

	/* with `accept: early` the client believes that it is connected: only a reset can tell it otherwise */
	if (flow && bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY) {
		stack_abort(bridge->stack, flow, bridge->now_ns);
		return;
	}
	if (flow) {
		/* silently: it was a SYN for another flow */
		if (how != REFUSE_SILENTLY)
			bridge_record(bridge, conn, RECORD_END_REFUSED);
		conn_detach_flow(bridge, conn);
		stack_refuse(bridge->stack, flow, how, bridge->now_ns);
	}
	conn_close(bridge, conn, true);
}

static void socks_client_send(struct bridge *bridge, struct conn *conn, uint32_t offset, size_t len)
{
	conn->handshake_sent += (uint32_t)len;
	uring_send(bridge->uring, conn_start_op(bridge, conn, CONN_OP_HANDSHAKE_SEND), conn->fd,
		   frame_data(bridge->pool, conn->frame) + offset, (uint32_t)len);
}

static void socks_client_receive(struct bridge *bridge, struct conn *conn)
{
	/* what follows the reply must stay in the socket of a connection that will be the kernel's */
	size_t bytes = offload_is_pending(conn) ? socks_handshake_wants(&conn->handshake) : SOCKS_RECV_BYTES;

	uring_recv(bridge->uring, conn_start_op(bridge, conn, CONN_OP_HANDSHAKE_RECV), conn->fd,
		   frame_data(bridge->pool, conn->frame) + SOCKS_RECV_OFFSET, (uint32_t)bytes);
}

static size_t socks_client_build_request(struct bridge *bridge, struct conn *conn, uint8_t *out)
{
	struct flow_info info;

	stack_flow_describe(bridge->stack, conn->flow, &info);
	if (conn->name != DNSMAP_NONE)
		return socks_build_connect_name(out, bridge_name(bridge, conn), info.destination.port);
	return socks_build_connect(out, &info.destination);
}

static size_t socks_client_build_auth(struct bridge *bridge, const struct conn *conn, uint8_t *out)
{
	const struct config_upstream *settings = socks_client_settings(bridge, conn);

	return socks_build_auth(out, settings->username, settings->password);
}

/* Everything in one flight; the server's answers are still checked one by one. */
static void socks_client_send_pipelined(struct bridge *bridge, struct conn *conn)
{
	uint8_t *start = frame_data(bridge->pool, conn->frame) + FRAME_PAYLOAD_OFFSET;
	enum socks_offer offer = socks_client_offer(bridge, conn);
	size_t len = socks_build_greeting(start, offer);

	if (offer != SOCKS_OFFER_NONE)
		len += socks_client_build_auth(bridge, conn, start + len);
	len += socks_client_build_request(bridge, conn, start + len);
	socks_client_send(bridge, conn, FRAME_PAYLOAD_OFFSET, len);
}

/*
 * The upstream is why this connection came to nothing. Its client is served by another connection where that can be,
 * else refused.
 */
static void socks_client_upstream_failed(struct bridge *bridge, struct conn *conn, enum upstream_failure kind)
{
	static const size_t counters[] = {
#define X(name) [UPSTREAM_FAILURE_##name] = offsetof(struct bridge_counters, name),
		UPSTREAM_FAILURE_KINDS(X)
#undef X
	};

	if (conn->purpose == CONN_FOR_CLIENT)
		socks_client_count(bridge, counters[kind]);
	conn->why = upstream_failure_name(kind);
	upkeep_failed(bridge, conn, kind);
	if (conn->purpose != CONN_FOR_CLIENT)
		conn_close(bridge, conn, true);
	else if (!dial_again(bridge, conn, kind))
		socks_client_refuse(bridge, conn,
				    kind == UPSTREAM_FAILURE_dial_timed_out ? REFUSE_HOST_UNREACHABLE : REFUSE_RESET);
}

/* Why the server closed or was silent behind CONNECT is not known: it may be the destination. */
static void socks_client_closed(struct bridge *bridge, struct conn *conn)
{
	if (conn->state != CONN_REQUESTING) {
		socks_client_upstream_failed(bridge, conn, UPSTREAM_FAILURE_handshake_closed);
		return;
	}
	/* a connection of the pool had come to its end before CONNECT reached the server */
	if (conn->from_pool && !conn->handshake.have && dial_instead(bridge, conn))
		return;
	CONN_FAILED(bridge, conn, handshake_closed);
	socks_client_refuse(bridge, conn, REFUSE_RESET);
}

/* What says something about this machine, and nothing about the upstream. */
static bool socks_client_is_own_fault(int error)
{
	return error == EADDRNOTAVAIL || error == EADDRINUSE || error == ENOBUFS || error == ENOMEM ||
	       error == EACCES || error == EPERM;
}

static void socks_client_dial_failed(struct bridge *bridge, struct conn *conn, int error)
{
	enum upstream_failure kind = UPSTREAM_FAILURE_dial_failed;

	if (error == ECONNREFUSED)
		kind = UPSTREAM_FAILURE_dial_refused;
	else if (error == ENETUNREACH || error == EHOSTUNREACH)
		kind = UPSTREAM_FAILURE_dial_unreachable;
	else if (error == ETIMEDOUT)
		kind = UPSTREAM_FAILURE_dial_timed_out;
	if (!socks_client_is_own_fault(error)) {
		socks_client_upstream_failed(bridge, conn, kind);
		return;
	}
	CONN_FAILED(bridge, conn, dial_failed);
	if (conn->purpose == CONN_FOR_CLIENT)
		socks_client_refuse(bridge, conn, REFUSE_RESET);
	else
		conn_close(bridge, conn, true);
}

/* The messages of the handshake have a frame of their own. False: there was none, and the connection is over. */
static bool socks_client_take_frame(struct bridge *bridge, struct conn *conn)
{
	conn->frame = frame_get(bridge->pool, FRAME_FLOW);
	if (conn->frame != FRAME_NONE)
		return true;
	CONN_FAILED(bridge, conn, dial_no_frame);
	if (conn->purpose == CONN_FOR_CLIENT)
		socks_client_refuse(bridge, conn, REFUSE_RESET);
	else
		conn_close(bridge, conn, true);
	return false;
}

void socks_client_connected(struct bridge *bridge, struct conn *conn, int32_t res)
{
	uint8_t *start;

	if (conn->state != CONN_DIALING)
		return;
	if (res < 0) {
		socks_client_dial_failed(bridge, conn, -res);
		return;
	}
	upkeep_connected(bridge, conn);
	if (!socks_client_take_frame(bridge, conn))
		return;
	conn_move(bridge, conn, CONN_GREETING);
	socks_client_arm(bridge, conn, bridge->config->tcp.handshake_timeout_ns);
	start = frame_data(bridge->pool, conn->frame) + FRAME_PAYLOAD_OFFSET;
	if (conn->one_flight)
		socks_client_send_pipelined(bridge, conn);
	else
		socks_client_send(bridge, conn, FRAME_PAYLOAD_OFFSET,
				  socks_build_greeting(start, socks_client_offer(bridge, conn)));
	socks_client_receive(bridge, conn);
}

void socks_client_sent(struct bridge *bridge, struct conn *conn, int32_t res)
{
	if (conn->state >= CONN_ACCEPTING || res >= 0)
		return;
	socks_client_closed(bridge, conn);
}

static void socks_client_send_auth(struct bridge *bridge, struct conn *conn)
{
	conn_move(bridge, conn, CONN_AUTHENTICATING);
	if (!conn->one_flight)
		socks_client_send(bridge, conn, SOCKS_AUTH_OFFSET,
				  socks_client_build_auth(bridge, conn,
							  frame_data(bridge->pool, conn->frame) + SOCKS_AUTH_OFFSET));
}

static void socks_client_send_request(struct bridge *bridge, struct conn *conn)
{
	if (conn->state != CONN_REQUESTING)
		conn_move(bridge, conn, CONN_REQUESTING);
	offload_clamp(bridge, conn);
	/* from here on the server dials the target, which may take as long as any connect */
	socks_client_arm(bridge, conn, bridge->config->tcp.connect_timeout_ns);
	if (!conn->one_flight)
		socks_client_send(bridge, conn, SOCKS_CONNECT_OFFSET,
				  socks_client_build_request(
					  bridge, conn, frame_data(bridge->pool, conn->frame) + SOCKS_CONNECT_OFFSET));
}

/* `rest` bytes at `offset` of the frame came behind the reply. */
static void socks_client_replied(struct bridge *bridge, struct conn *conn, uint16_t offset, uint16_t rest)
{
	uint8_t reply = conn->handshake.reply;

	if (reply != SOCKS_REPLY_SUCCEEDED) {
		bool known = reply < ARRAY_SIZE(socks_client_refusals);

		socks_client_count(bridge, known ? socks_client_refusals[reply].counter
						 : offsetof(struct bridge_counters, reply_unknown));
		bridge_refused(bridge, conn,
			       known ? socks_client_refusals[reply].kind : UPSTREAM_REFUSAL_reply_unknown);
		socks_client_refuse(bridge, conn, known ? socks_client_refusals[reply].refusal : REFUSE_RESET);
		return;
	}
	bridge->counters.connects_ok++;
	bridge_granted(bridge, conn);
	wheel_cancel(&bridge->wheel, &conn->timer);
	conn->early_off = offset;
	conn->early_len = rest;
	if (bridge->config->tcp.accept == CONFIG_ACCEPT_EARLY) {
		relay_begin(bridge, conn);
		return;
	}
	if (offload_is_pending(conn) && rest)
		offload_relay(bridge, conn, SPLICE_REFUSED_EARLY_BYTES);
	if (offload_is_pending(conn)) {
		offload_replied(bridge, conn);
		if (conn->state == CONN_OPENING || conn->state == CONN_CLOSING)
			return;
	}
	conn_move(bridge, conn, CONN_ACCEPTING);
	stack_accept(bridge->stack, conn->flow, bridge->now_ns);
}

static void socks_client_fail(struct bridge *bridge, struct conn *conn, enum socks_event event)
{
	enum upstream_failure kind = UPSTREAM_FAILURE_handshake_malformed;

	if (event == SOCKS_EVENT_NO_METHOD)
		kind = UPSTREAM_FAILURE_no_acceptable_method;
	else if (event == SOCKS_EVENT_AUTH_REJECTED)
		kind = UPSTREAM_FAILURE_auth_rejected;
	socks_client_upstream_failed(bridge, conn, kind);
}

/* `rest`: bytes that nobody has asked for. */
static void socks_client_ready(struct bridge *bridge, struct conn *conn, size_t rest)
{
	if (rest) {
		socks_client_upstream_failed(bridge, conn, UPSTREAM_FAILURE_handshake_malformed);
	} else if (conn->purpose == CONN_FOR_PROBE || !upstreams_pool_target(&bridge->upstreams, conn->upstream)) {
		conn_close(bridge, conn, false);
	} else {
		frame_put(bridge->pool, conn->frame);
		conn->frame = FRAME_NONE;
		pool_enter(bridge, conn);
	}
}

void socks_client_request(struct bridge *bridge, struct conn *conn)
{
	if (!socks_client_take_frame(bridge, conn))
		return;
	socks_client_send_request(bridge, conn);
	socks_client_receive(bridge, conn);
}

void socks_client_received(struct bridge *bridge, struct conn *conn, int32_t res)
{
	const uint8_t *data = frame_data(bridge->pool, conn->frame) + SOCKS_RECV_OFFSET;
	size_t pos = 0, len = res > 0 ? (size_t)res : 0, used;

	if (conn->state == CONN_CLOSING)
		return;
	conn->handshake_read += (uint32_t)len;
	if (!len) {
		socks_client_closed(bridge, conn);
		return;
	}
	for (;;) {
		enum socks_event event = socks_handshake_feed(&conn->handshake, data + pos, len - pos, &used);

		pos += used;
		switch (event) {
		case SOCKS_EVENT_MORE:
			socks_client_receive(bridge, conn);
			return;
		case SOCKS_EVENT_SEND_AUTH:
			socks_client_send_auth(bridge, conn);
			break;
		case SOCKS_EVENT_SEND_REQUEST:
			upkeep_answered(bridge, conn);
			if (conn->purpose != CONN_FOR_CLIENT) {
				socks_client_ready(bridge, conn, len - pos);
				return;
			}
			socks_client_send_request(bridge, conn);
			break;
		case SOCKS_EVENT_REPLY:
			socks_client_replied(bridge, conn, (uint16_t)(SOCKS_RECV_OFFSET + pos), (uint16_t)(len - pos));
			return;
		default:
			socks_client_fail(bridge, conn, event);
			return;
		}
	}
}

void socks_client_timed_out(struct bridge *bridge, struct conn *conn)
{
	switch (conn->state) {
	case CONN_DIALING:
		socks_client_upstream_failed(bridge, conn, UPSTREAM_FAILURE_dial_timed_out);
		break;
	case CONN_REQUESTING:
		CONN_FAILED(bridge, conn, request_timed_out);
		conn_upstream(bridge, conn)->counters.refused[UPSTREAM_REFUSAL_request_timed_out]++;
		socks_client_refuse(bridge, conn, REFUSE_HOST_UNREACHABLE);
		break;
	default:
		socks_client_upstream_failed(bridge, conn, UPSTREAM_FAILURE_handshake_timed_out);
	}
}
