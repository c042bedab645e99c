/* SPDX-License-Identifier: MIT */
/*
 * From the dial to the reply of UDP ASSOCIATE (RFC 1928, RFC 1929), in one
 * frame: what we send, each message at its own place, what the server says, and
 * the parser's state. Then the relay's address is made of the reply.
 */
#include "assoc_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ASSOC_HANDSHAKE_SHARE 8 /* of all frames, for handshakes that go on */

int assoc_open_control(struct assocs *assocs, struct upstream *upstream)
{
	int fd = upstream_open_socket(upstream);

	if (fd == -EMFILE || fd == -ENFILE)
		assocs->counters.no_descriptor++;
	else if (fd < 0)
		assocs->counters.dial_failed++;
	return fd;
}

static uint8_t *assoc_data(const struct assocs *assocs, const struct assoc *assoc)
{
	return frame_data(assocs->pool, assoc->frame);
}

static struct socks_handshake *assoc_handshake(const struct assocs *assocs, const struct assoc *assoc)
{
	return (struct socks_handshake *)(void *)(assoc_data(assocs, assoc) + ASSOC_HANDSHAKE_OFFSET);
}

static enum socks_offer assoc_offer(const struct assoc *assoc)
{
	return assoc->upstream->settings.username[0] ? SOCKS_OFFER_EITHER : SOCKS_OFFER_NONE;
}

void assoc_dial(struct assocs *assocs, struct assoc *assoc)
{
	assoc_arm(assocs, assoc, assocs->config->tcp.connect_timeout_ns);
	uring_connect(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_CONNECT), assoc->control_fd,
		      (const struct sockaddr *)&assoc->upstream->server, assoc->upstream->server_bytes);
}

static void assoc_send(struct assocs *assocs, struct assoc *assoc, uint32_t offset, size_t bytes)
{
	uring_send(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_HANDSHAKE_SEND), assoc->control_fd,
		   assoc_data(assocs, assoc) + offset, (uint32_t)bytes);
}

/* Not a byte more than belongs to the handshake: what follows is read as what it is. */
static void assoc_receive(struct assocs *assocs, struct assoc *assoc)
{
	uring_recv(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_HANDSHAKE_RECV), assoc->control_fd,
		   assoc_data(assocs, assoc) + ASSOC_RECV_OFFSET,
		   (uint32_t)socks_handshake_wants(assoc_handshake(assocs, assoc)));
}

void assoc_connected(struct assocs *assocs, struct assoc *assoc, int32_t res)
{
	if (assoc->state != ASSOC_DIALING)
		return;
	if (res < 0) {
		assocs->counters.dial_failed++;
		assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
		return;
	}
	/* servers that say nothing must not use up what TCP needs */
	if (assocs->state_counts[ASSOC_GREETING] + assocs->state_counts[ASSOC_AUTHENTICATING] +
		    assocs->state_counts[ASSOC_REQUESTING] <
	    assocs->pool->total / ASSOC_HANDSHAKE_SHARE)
		assoc->frame = frame_get(assocs->pool, FRAME_FLOW);
	if (assoc->frame == FRAME_NONE) {
		assocs->counters.no_frame++;
		assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
		return;
	}
	assoc_move(assocs, assoc, ASSOC_GREETING);
	assoc_arm(assocs, assoc, assocs->config->tcp.handshake_timeout_ns);
	socks_handshake_init(assoc_handshake(assocs, assoc), assoc_offer(assoc));
	assoc_send(assocs, assoc, ASSOC_SEND_OFFSET,
		   socks_build_greeting(assoc_data(assocs, assoc) + ASSOC_SEND_OFFSET, assoc_offer(assoc)));
	assoc_receive(assocs, assoc);
}

static void assoc_handshake_failed(struct assocs *assocs, struct assoc *assoc)
{
	assocs->counters.handshake_failed++;
	assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
}

void assoc_handshake_sent(struct assocs *assocs, struct assoc *assoc, int32_t res)
{
	if (res < 0 && assoc->state < ASSOC_READY)
		assoc_handshake_failed(assocs, assoc);
}

static void assoc_send_auth(struct assocs *assocs, struct assoc *assoc)
{
	const struct config_upstream *settings = &assoc->upstream->settings;

	assoc_move(assocs, assoc, ASSOC_AUTHENTICATING);
	assoc_send(assocs, assoc, ASSOC_AUTH_OFFSET,
		   socks_build_auth(assoc_data(assocs, assoc) + ASSOC_AUTH_OFFSET, settings->username,
				    settings->password));
}

static void assoc_send_request(struct assocs *assocs, struct assoc *assoc)
{
	bool ipv6 = !addr_is_ipv4(upstream_address(assoc->upstream));
	uint8_t command = assoc->stream ? SOCKS_COMMAND_UDP_IN_TCP : SOCKS_COMMAND_ASSOCIATE;

	assoc_move(assocs, assoc, ASSOC_REQUESTING);
	assoc_send(assocs, assoc, ASSOC_REQUEST_OFFSET,
		   socks_build_udp_request(assoc_data(assocs, assoc) + ASSOC_REQUEST_OFFSET, command, ipv6));
}

/* Of no use across the internet: private (RFC 1918, 4193), shared (6598), link-local, loopback. */
static bool assoc_is_private(const struct addr *a)
{
	const uint8_t *b = a->bytes + 12;

	if (addr_is_ipv4(a))
		return b[0] == 10 || b[0] == 127 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
		       (b[0] == 192 && b[1] == 168) || (b[0] == 169 && b[1] == 254) ||
		       (b[0] == 100 && (b[1] & 0xc0) == 64);
	return (a->bytes[0] & 0xfe) == 0xfc || (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80) ||
	       !(a->words[0] | a->words[1] | a->words[2]);
}

static bool assoc_is_unspecified(const struct addr *a)
{
	return !(a->words[0] | a->words[1] | a->words[3]) && (!a->words[2] || addr_is_ipv4(a));
}

/*
 * Where datagrams go. Servers behind NAT, or bound to a wildcard, name an address that is not theirs as we see them:
 * then the one that the control connection leads to is taken. A name (bound.addr is zero) says nothing either.
 */
static bool assoc_find_relay(struct assocs *assocs, struct assoc *assoc, const struct endpoint *bound)
{
	const struct config_upstream *settings = &assoc->upstream->settings;
	const struct addr *server = upstream_address(assoc->upstream);

	assoc->relay = *bound;
	switch (settings->udp_relay.mode) {
	case CONFIG_UDP_ADDRESS_AS_TOLD:
		break;
	case CONFIG_UDP_ADDRESS_FIXED:
		assoc->relay.addr = settings->udp_relay.addr;
		break;
	default:
		if (assoc_is_unspecified(&bound->addr) ||
		    (assoc_is_private(&bound->addr) && !assoc_is_private(server)) ||
		    (bound->addr.bytes[12] == 127 && addr_is_ipv4(&bound->addr)))
			assoc->relay.addr = *server;
	}
	if (!addr_equal(&assoc->relay.addr, &bound->addr))
		assocs->counters.relay_repaired++;
	return assoc->relay.port && !assoc_is_unspecified(&assoc->relay.addr);
}

/* The socket, or nothing more than the control connection. false: the client was told. */
static bool assoc_open_way(struct assocs *assocs, struct assoc *assoc)
{
	struct endpoint bound = assoc_handshake(assocs, assoc)->bound;

	if (assoc->stream)
		return true;
	if (!assoc_find_relay(assocs, assoc, &bound)) {
		assocs->counters.relay_unusable++;
		assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
		return false;
	}
	if (assoc_relay_open(assocs, assoc)) {
		assocs->counters.socket_failed++;
		assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
		return false;
	}
	return true;
}

static void assoc_granted(struct assocs *assocs, struct assoc *assoc)
{
	uint32_t frame;

	if (!assoc_open_way(assocs, assoc))
		return;
	assocs->counters.ready++;
	assoc_move(assocs, assoc, ASSOC_READY);
	assoc_arm(assocs, assoc, assocs->config->udp.idle_timeout_ns);
	/* all that was sent has been answered: nobody reads the frame any more */
	frame_put(assocs->pool, assoc->frame);
	assoc->frame = FRAME_NONE;
	if (assoc->stream) {
		upstream_prepare_relay(assoc->control_fd);
		assoc_stream_receive(assocs, assoc);
		assoc_stream_send(assocs, assoc);
		return;
	}
	/* nothing more is expected on the control connection but its end */
	uring_poll_once(assocs->uring, assoc_start_op(assocs, assoc, ASSOC_OP_WATCH), assoc->control_fd);
	assoc_relay_receive(assocs, assoc);
	while ((frame = udp_dequeue(assocs->table, assoc->entry)) != FRAME_NONE)
		assoc_relay_send(assocs, assoc, frame);
	assoc_kernel_take(assocs, assoc);
}

static void assoc_replied(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc_handshake(assocs, assoc)->reply == SOCKS_REPLY_SUCCEEDED) {
		assoc_granted(assocs, assoc);
		return;
	}
	assocs->counters.refused++;
	assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
}

void assoc_handshake_received(struct assocs *assocs, struct assoc *assoc, int32_t res)
{
	const uint8_t *data;
	size_t pos = 0, len = res > 0 ? (size_t)res : 0, used;

	if (assoc->state >= ASSOC_READY)
		return;
	if (!len) {
		assoc_handshake_failed(assocs, assoc);
		return;
	}
	data = assoc_data(assocs, assoc) + ASSOC_RECV_OFFSET;
	for (;;) {
		enum socks_event event =
			socks_handshake_feed(assoc_handshake(assocs, assoc), data + pos, len - pos, &used);

		pos += used;
		switch (event) {
		case SOCKS_EVENT_MORE:
			assoc_receive(assocs, assoc);
			return;
		case SOCKS_EVENT_SEND_AUTH:
			assoc_send_auth(assocs, assoc);
			break;
		case SOCKS_EVENT_SEND_REQUEST:
			assoc_send_request(assocs, assoc);
			break;
		case SOCKS_EVENT_REPLY:
			assoc_replied(assocs, assoc);
			return;
		default:
			assoc_handshake_failed(assocs, assoc);
			return;
		}
	}
}

void assoc_dial_timed_out(struct assocs *assocs, struct assoc *assoc)
{
	if (assoc->state == ASSOC_DIALING)
		assocs->counters.dial_timed_out++;
	else
		assocs->counters.handshake_timed_out++;
	assoc_refuse(assocs, assoc, STACK_ERROR_PORT_UNREACHABLE);
}
