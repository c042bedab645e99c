/* SPDX-License-Identifier: MIT */
#include "socks.h"

#include <string.h>

#define SOCKS_VERSION 5
#define SOCKS_AUTH_VERSION 1
#define SOCKS_METHOD_NONE 0x00
#define SOCKS_METHOD_PASSWORD 0x02
#define SOCKS_METHOD_REJECTED 0xff
#define SOCKS_COMMAND_CONNECT 1
#define SOCKS_ATYP_IPV4 1
#define SOCKS_ATYP_DOMAIN 3
#define SOCKS_ATYP_IPV6 4

enum socks_stage { SOCKS_STAGE_METHOD, SOCKS_STAGE_AUTH, SOCKS_STAGE_REPLY, SOCKS_STAGE_OVER };

size_t socks_build_greeting(uint8_t *out, enum socks_offer offer)
{
	size_t len = 2;

	if (offer != SOCKS_OFFER_PASSWORD)
		out[len++] = SOCKS_METHOD_NONE;
	if (offer != SOCKS_OFFER_NONE)
		out[len++] = SOCKS_METHOD_PASSWORD;
	out[0] = SOCKS_VERSION;
	out[1] = (uint8_t)(len - 2);
	return len;
}

size_t socks_build_auth(uint8_t *out, const char *username, const char *password)
{
	size_t user_bytes = strlen(username), password_bytes = strlen(password);

	out[0] = SOCKS_AUTH_VERSION;
	out[1] = (uint8_t)user_bytes;
	memcpy(out + 2, username, user_bytes);
	out[2 + user_bytes] = (uint8_t)password_bytes;
	memcpy(out + 3 + user_bytes, password, password_bytes);
	return 3 + user_bytes + password_bytes;
}

static size_t socks_build_request(uint8_t *out, uint8_t command, const struct endpoint *destination)
{
	bool ipv4 = addr_is_ipv4(&destination->addr);
	size_t addr_bytes = ipv4 ? 4 : 16;

	out[0] = SOCKS_VERSION;
	out[1] = command;
	out[2] = 0;
	out[3] = ipv4 ? SOCKS_ATYP_IPV4 : SOCKS_ATYP_IPV6;
	memcpy(out + 4, destination->addr.bytes + 16 - addr_bytes, addr_bytes);
	memcpy(out + 4 + addr_bytes, &destination->port, 2);
	return 6 + addr_bytes;
}

size_t socks_build_connect_name(uint8_t *out, const char *name, __be16 port)
{
	size_t name_bytes = strlen(name);

	out[0] = SOCKS_VERSION;
	out[1] = SOCKS_COMMAND_CONNECT;
	out[2] = 0;
	out[3] = SOCKS_ATYP_DOMAIN;
	out[4] = (uint8_t)name_bytes;
	memcpy(out + 5, name, name_bytes);
	memcpy(out + 5 + name_bytes, &port, 2);
	return 7 + name_bytes;
}

size_t socks_build_connect(uint8_t *out, const struct endpoint *destination)
{
	return socks_build_request(out, SOCKS_COMMAND_CONNECT, destination);
}

size_t socks_build_udp_request(uint8_t *out, uint8_t command, bool ipv6)
{
	struct endpoint any = {.port = 0};

	if (!ipv6)
		any.addr = addr_from_ipv4(0);
	return socks_build_request(out, command, &any);
}

size_t socks_build_associate(uint8_t *out, const struct endpoint *source)
{
	return socks_build_request(out, SOCKS_COMMAND_ASSOCIATE, source);
}

void socks_handshake_init(struct socks_handshake *handshake, enum socks_offer offer)
{
	memset(handshake, 0, sizeof(*handshake));
	handshake->stage = SOCKS_STAGE_METHOD;
	handshake->offer = (uint8_t)offer;
}

/* Length of a reply as far as its first bytes tell; 5 bytes decide it. 0: malformed. */
static size_t socks_reply_bytes(const uint8_t *message, size_t have)
{
	if (have < 5)
		return 5;
	switch (message[3]) {
	case SOCKS_ATYP_IPV4:
		return 4 + 4 + 2;
	case SOCKS_ATYP_IPV6:
		return 4 + 16 + 2;
	case SOCKS_ATYP_DOMAIN:
		return 4 + 1 + (size_t)message[4] + 2;
	default:
		return 0;
	}
}

static enum socks_event socks_finish_method(struct socks_handshake *handshake)
{
	const uint8_t *message = handshake->message;

	if (message[0] != SOCKS_VERSION)
		return SOCKS_EVENT_MALFORMED;
	if (message[1] == SOCKS_METHOD_REJECTED)
		return SOCKS_EVENT_NO_METHOD;
	if (message[1] == SOCKS_METHOD_NONE && handshake->offer != SOCKS_OFFER_PASSWORD) {
		handshake->stage = SOCKS_STAGE_REPLY;
		return SOCKS_EVENT_SEND_REQUEST;
	}
	if (message[1] == SOCKS_METHOD_PASSWORD && handshake->offer != SOCKS_OFFER_NONE) {
		handshake->stage = SOCKS_STAGE_AUTH;
		return SOCKS_EVENT_SEND_AUTH;
	}
	/* a method that we did not offer must not be followed */
	return SOCKS_EVENT_MALFORMED;
}

static enum socks_event socks_finish_auth(struct socks_handshake *handshake)
{
	/* RFC 1929 says VER is 1 here; some servers answer with 5, and the status is what counts */
	if (handshake->message[1] != 0)
		return SOCKS_EVENT_AUTH_REJECTED;
	handshake->stage = SOCKS_STAGE_REPLY;
	return SOCKS_EVENT_SEND_REQUEST;
}

static enum socks_event socks_finish_reply(struct socks_handshake *handshake)
{
	const uint8_t *message = handshake->message;
	__be32 ip;

	handshake->stage = SOCKS_STAGE_OVER;
	handshake->reply = message[1];
	if (message[3] == SOCKS_ATYP_IPV4) {
		memcpy(&ip, message + 4, sizeof(ip));
		handshake->bound.addr = addr_from_ipv4(ip);
		memcpy(&handshake->bound.port, message + 8, 2);
	} else if (message[3] == SOCKS_ATYP_IPV6) {
		memcpy(handshake->bound.addr.bytes, message + 4, 16);
		memcpy(&handshake->bound.port, message + 20, 2);
	}
	return SOCKS_EVENT_REPLY;
}

/* Message length of the current stage, given what is there. 0: malformed. */
static size_t socks_need_bytes(const struct socks_handshake *handshake)
{
	if (handshake->stage != SOCKS_STAGE_REPLY)
		return 2;
	if (handshake->have >= 1 && handshake->message[0] != SOCKS_VERSION)
		return 0;
	return socks_reply_bytes(handshake->message, handshake->have);
}

size_t socks_handshake_wants(const struct socks_handshake *handshake)
{
	size_t need = socks_need_bytes(handshake);

	/* a shorter reply than with an IPv4 address is not seen: one with a name of one or two letters */
	if (handshake->stage == SOCKS_STAGE_REPLY && handshake->have < 5)
		need = 4 + 4 + 2;
	return need > handshake->have ? need - handshake->have : 1;
}

enum socks_event socks_handshake_feed(struct socks_handshake *handshake, const uint8_t *data, size_t len, size_t *used)
{
	size_t need, part;

	*used = 0;
	if (handshake->stage == SOCKS_STAGE_OVER)
		return SOCKS_EVENT_MALFORMED;
	/* twice at most per reply: the fifth byte may raise what is needed */
	while ((need = socks_need_bytes(handshake)) > handshake->have) {
		part = need - handshake->have;
		if (part > len - *used)
			part = len - *used;
		if (!part)
			return SOCKS_EVENT_MORE;
		memcpy(handshake->message + handshake->have, data + *used, part);
		handshake->have += (uint16_t)part;
		*used += part;
	}
	if (!need)
		return SOCKS_EVENT_MALFORMED;
	handshake->have = 0;
	switch (handshake->stage) {
	case SOCKS_STAGE_METHOD:
		return socks_finish_method(handshake);
	case SOCKS_STAGE_AUTH:
		return socks_finish_auth(handshake);
	default:
		return socks_finish_reply(handshake);
	}
}
