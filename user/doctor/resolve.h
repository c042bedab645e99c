/* SPDX-License-Identifier: MIT */
/* The address of an upstream that is given by name, as the host's resolver has it. */
#ifndef SOCKSPLICE_RESOLVE_H
#define SOCKSPLICE_RESOLVE_H

#include <stdint.h>

#include "config.h"

/*
 * Where this upstream is: its address, or the first one of its name that is of the family of its `sources`. 0, or
 *   -ENOENT     the name has no such address
 *   -ETIMEDOUT  the resolver did not answer in time; it is left to itself then, on a thread that ends when it does
 *   -EAGAIN     no thread, or the resolver failed
 */
int resolve_within(const struct config_upstream *settings, uint32_t timeout_ms, struct endpoint *out);

#endif
