/* SPDX-License-Identifier: MIT */
/* What a device's driver can do with XDP, as the kernel tells by the generic netlink family "netdev" (6.3). */
#ifndef SOCKSPLICE_NETDEV_H
#define SOCKSPLICE_NETDEV_H

#include <stdint.h>

#define NETDEV_FEATURE_BASIC 0x01
#define NETDEV_FEATURE_REDIRECT 0x02
#define NETDEV_FEATURE_XMIT 0x04     /* takes frames that XDP redirects to it */
#define NETDEV_FEATURE_ZEROCOPY 0x08 /* AF_XDP without a copy */

/* 0, or -errno: -ENOENT the kernel has no such family. */
int netdev_xdp_features(int ifindex, uint64_t *features);

#endif
