/* SPDX-License-Identifier: MIT */
/* Addresses as people write them: 10.1.0.2, fd01::2, 10.1.0.2:80, [fd01::2]:80. */
#ifndef SOCKSPLICE_ADDR_TEXT_H
#define SOCKSPLICE_ADDR_TEXT_H

#include <netinet/in.h>

#include "addr.h"

/* An IPv6 address in brackets, a colon and a port; INET6_ADDRSTRLEN counts the final zero. */
#define ADDR_TEXT_BYTES (INET6_ADDRSTRLEN + 8)

void addr_text(const struct addr *addr, char out[static ADDR_TEXT_BYTES]);
void addr_text_endpoint(const struct endpoint *endpoint, char out[static ADDR_TEXT_BYTES]);

#endif
