/* SPDX-License-Identifier: MIT */
/* The request line of the control socket: only the exact words are requests. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum control_request request = control_parse((const char *)data, len);

	assert(request <= CONTROL_INVALID);
	assert((request == CONTROL_STATUS) == (len == 6 && !memcmp(data, "status", 6)));
	assert((request == CONTROL_STATS) == (len == 5 && !memcmp(data, "stats", 5)));
	assert((request == CONTROL_STOP) == (len == 4 && !memcmp(data, "stop", 4)));
	assert((request == CONTROL_STOP_FLUSH) == (len == 10 && !memcmp(data, "stop-flush", 10)));
	assert((request == CONTROL_FLOWS) == (len == 5 && !memcmp(data, "flows", 5)));
	assert((request == CONTROL_RELOAD) == (len == 6 && !memcmp(data, "reload", 6)));
	return 0;
}
