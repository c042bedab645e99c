/* SPDX-License-Identifier: MIT */
/* Settings of the kernel, read from /proc/sys; those of the network are this namespace's. */
#ifndef SOCKSPLICE_SYSCTL_H
#define SOCKSPLICE_SYSCTL_H

#include <stddef.h>
#include <stdint.h>

/* `path` below /proc/sys, with slashes; one line without its end. 0, -errno, or -E2BIG when it is longer. */
int sysctl_read(const char *path, char *out, size_t bytes);
/* 0, -errno, or -EINVAL when it is no number. */
int sysctl_read_number(const char *path, int64_t *out);

#endif
