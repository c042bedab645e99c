/* SPDX-License-Identifier: MIT */
/*
 * Looking into a kernel TCP socket, and taking its connection away from it, by
 * TCP_REPAIR (linux/net/ipv4/tcp.c; needs CAP_NET_ADMIN). A socket in repair
 * mode sends nothing and closes without a word.
 */
#ifndef SOCKSPLICE_REPAIR_H
#define SOCKSPLICE_REPAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Freezes the socket. 0 or -errno (-EPERM: not permitted); then it is as before. */
int repair_freeze(int fd);
/* TCP_ESTABLISHED and so on, as it is now. */
uint8_t repair_tcp_state(int fd);
/* Copies what has arrived in order, without taking it; bytes, or -errno (-EAGAIN: nothing). */
ssize_t repair_peek(int fd, void *data, size_t bytes);
/* The socket works again. `announce`: it sends an ACK at once, so that the peer hears what was held back. */
int repair_thaw(int fd, bool announce);
/* May this process use it? 0 or -errno. */
int repair_probe(void);

#endif
