/* SPDX-License-Identifier: MIT */
/* Tells when links or addresses change, so that what was read by topo can be read again. */
#ifndef SOCKSPLICE_NETLINK_H
#define SOCKSPLICE_NETLINK_H

#include <stdbool.h>

/* A non-blocking rtnetlink socket subscribed to link and address changes; fd or -errno. */
int netlink_open_monitor(void);
/* Reads and discards what waits; true when something changed (also when messages were lost). */
bool netlink_drain(int fd);

#endif
