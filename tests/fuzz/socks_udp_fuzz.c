/* SPDX-License-Identifier: MIT */
/* Headers of datagrams and messages of `udp: tcp`: what is accepted lies inside of what came, and builds itself again.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "socks_udp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void datagram(const uint8_t *data, size_t len)
{
	uint8_t again[SOCKS_UDP_IPV6_BYTES];
	struct endpoint remote;
	size_t header;

	if (socks_udp_parse(data, len, &remote, &header) != SOCKS_UDP_OK)
		return;
	assert(header <= len && header == socks_udp_header_bytes(&remote.addr));
	assert(socks_udp_build(again, &remote) == header);
	assert(!memcmp(again, data, header));
}

static void stream(const uint8_t *data, size_t len)
{
	uint8_t again[SOCKS_UDP_TCP_IPV6_BYTES];
	struct endpoint remote;
	size_t at, bytes;
	long used;

	while ((used = socks_udp_tcp_parse(data, len, &remote, &at, &bytes)) > 0) {
		assert((size_t)used <= len && at + bytes == (size_t)used);
		if (data[3] != 3) {
			assert(socks_udp_tcp_build(again, &remote, (uint16_t)bytes) == at);
			assert(!memcmp(again, data, at));
		}
		data += used;
		len -= (size_t)used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* a copy of exactly this length, so that ASan sees a read beyond it */
	uint8_t *copy = malloc(len ? len : 1);

	if (len)
		memcpy(copy, data, len);
	datagram(copy, len);
	stream(copy, len);
	free(copy);
	return 0;
}
