/* SPDX-License-Identifier: MIT */
/* The SOCKS5 reply parser: the first byte chooses the piece size and what the greeting offers. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct socks_handshake handshake;
	size_t step, used;

	if (len < 1)
		return 0;
	socks_handshake_init(&handshake, data[0] % 3);
	step = 1 + data[0] / 3;
	for (size_t pos = 1; pos < len;) {
		size_t part = len - pos < step ? len - pos : step;
		enum socks_event event = socks_handshake_feed(&handshake, data + pos, part, &used);

		assert(used <= part);
		pos += used;
		if (event == SOCKS_EVENT_MORE)
			assert(used == part);
		else if (event != SOCKS_EVENT_SEND_AUTH && event != SOCKS_EVENT_SEND_REQUEST)
			break;
	}
	return 0;
}
