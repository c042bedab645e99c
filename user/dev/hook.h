/* SPDX-License-Identifier: MIT */
/* Where the fast path of an interface runs, and why: decided here for the daemon and for `doctor` alike. */
#ifndef SOCKSPLICE_HOOK_H
#define SOCKSPLICE_HOOK_H

#include <stdbool.h>

#include "config.h"
#include "topo.h"

/* Names of the values, as in the configuration. */
const char *hook_name(enum config_hook hook);

struct hook_choice {
	enum config_hook hook; /* xdp or tc, never auto */
	const char *reason;    /* in plain words, static */
};

/* The hook that the daemon takes for a LAN interface with these settings. */
struct hook_choice hook_choose(const struct config_interface *settings, const struct topo_interface *topo);
/* XDP needs a packet to lie in one frame; the TAP of `tc` does not. */
bool hook_fits_mtu(enum config_hook hook, uint32_t mtu);
/* The largest MTU for which hook_fits_mtu(CONFIG_HOOK_XDP, ...) holds. */
uint32_t hook_largest_xdp_mtu(void);
/*
 * Does the uplink get XDP besides tc? A network card does. A virtual device does only if every LAN interface was told
 * to use XDP: native XDP on the one would cost the segmentation offload that tc keeps on the others.
 */
bool hook_wants_xdp_uplink(const struct config *config, const struct topo_interface *uplink);
/* Can a driver with these features (netdev_xdp_features()) do what `xsk:` asks for? `auto` and `generic` always work.
 */
bool hook_honours_xsk(enum config_xsk_mode wanted, uint64_t features);

#endif
