/* SPDX-License-Identifier: MIT */
#include "addr_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void addr_text(const struct addr *addr, char out[static ADDR_TEXT_BYTES])
{
	if (addr_is_ipv4(addr))
		inet_ntop(AF_INET, &addr->words[3], out, ADDR_TEXT_BYTES);
	else
		inet_ntop(AF_INET6, addr->bytes, out, ADDR_TEXT_BYTES);
}

void addr_text_endpoint(const struct endpoint *endpoint, char out[static ADDR_TEXT_BYTES])
{
	char text[ADDR_TEXT_BYTES];

	addr_text(&endpoint->addr, text);
	snprintf(out, ADDR_TEXT_BYTES, addr_is_ipv4(&endpoint->addr) ? "%.46s:%u" : "[%.46s]:%u", text,
		 be16(endpoint->port));
}
