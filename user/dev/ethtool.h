/* SPDX-License-Identifier: MIT */
/* The offloads of a device that matter here, as `ethtool -k` shows them. */
#ifndef SOCKSPLICE_ETHTOOL_H
#define SOCKSPLICE_ETHTOOL_H

#include <stdbool.h>

/* name in ethtool's feature list, word of `ethtool -K` */
#define ETHTOOL_FEATURES(X)                                                                                            \
	X(GRO, "rx-gro", "gro")                                                                                        \
	X(GRO_HW, "rx-gro-hw", "rx-gro-hw")                                                                            \
	X(LRO, "rx-lro", "lro")                                                                                        \
	X(GSO, "tx-generic-segmentation", "gso")                                                                       \
	X(TSO, "tx-tcp-segmentation", "tso")                                                                           \
	X(VLAN_STRIP, "rx-vlan-hw-parse", "rxvlan")                                                                    \
	X(RX_CSUM, "rx-checksum", "rx")                                                                                \
	X(TX_CSUM, "tx-checksum-ip-generic", "tx")                                                                     \
	X(TX_CSUM_IPV4, "tx-checksum-ipv4", "tx")

enum ethtool_feature {
#define X(name, feature, word) ETHTOOL_##name,
	ETHTOOL_FEATURES(X)
#undef X
		ETHTOOL_FEATURE_COUNT
};

struct ethtool_state {
	bool known; /* the kernel has the feature by this name */
	bool on;
	bool fixed; /* the driver does not let it be changed */
};

/* The word that `ethtool -K DEVICE WORD on|off` takes. */
const char *ethtool_feature_word(enum ethtool_feature feature);
/* 0 or -errno; on error nothing is known. */
int ethtool_read_features(const char *ifname, struct ethtool_state out[ETHTOOL_FEATURE_COUNT]);

#endif
