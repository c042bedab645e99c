/* SPDX-License-Identifier: MIT */
/* The packet parser: whatever it accepts lies inside the frame. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* a copy of exactly this length, so that ASan sees a read beyond it */
	uint8_t *frame = malloc(len ? len : 1);
	struct packet_view view;

	if (len > 9000) {
		free(frame);
		return 0;
	}
	if (len)
		memcpy(frame, data, len);
	if (!packet_parse(frame, frame + len, &view) && view.ip_version) {
		assert(view.l3_off + (size_t)view.l3_len <= len);
		assert(view.l4_off >= view.l3_off + (view.ip_version == 4 ? 20 : 40));
		if (view.l4_proto == IPPROTO_TCP && !view.is_fragment) {
			assert(view.tcp_hdr_len >= 20 && view.tcp_hdr_len <= 60);
			assert(view.payload_off == view.l4_off + view.tcp_hdr_len);
			assert(view.payload_off + (size_t)view.payload_len == view.l3_off + (size_t)view.l3_len);
		}
	}
	free(frame);
	return 0;
}
