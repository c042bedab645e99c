/* SPDX-License-Identifier: MIT */
/*
 * `auto` takes tc for virtual devices: their packets come from local senders
 * as 64 KB with a partial checksum, and native XDP would cost that.
 */
#include "hook.h"

#include "netdev.h"
#include "umem.h"

const char *hook_name(enum config_hook hook)
{
	static const char *const names[] = {
		[CONFIG_HOOK_AUTO] = "auto", [CONFIG_HOOK_XDP] = "xdp", [CONFIG_HOOK_TC] = "tc"};

	return names[hook];
}

struct hook_choice hook_choose(const struct config_interface *settings, const struct topo_interface *topo)
{
	if (settings->attach == CONFIG_ATTACH_EXTERNAL)
		return (struct hook_choice){CONFIG_HOOK_XDP, "attach: external"};
	if (settings->hook != CONFIG_HOOK_AUTO)
		return (struct hook_choice){settings->hook, "as configured"};
	if (settings->xsk != CONFIG_XSK_AUTO)
		return (struct hook_choice){CONFIG_HOOK_XDP, "an AF_XDP mode is configured by xsk:"};
	if (topo_prefers_tc(topo))
		return (struct hook_choice){CONFIG_HOOK_TC, "a virtual device: its large packets (GSO) stay whole"};
	return (struct hook_choice){CONFIG_HOOK_XDP, "a hardware driver"};
}

bool hook_fits_mtu(enum config_hook hook, uint32_t mtu)
{
	return hook == CONFIG_HOOK_TC || umem_frame_bytes_for(mtu);
}

uint32_t hook_largest_xdp_mtu(void)
{
	uint32_t mtu = 9000;

	while (!umem_frame_bytes_for(mtu))
		mtu--;
	return mtu;
}

bool hook_wants_xdp_uplink(const struct config *config, const struct topo_interface *uplink)
{
	if (!topo_prefers_tc(uplink))
		return true;
	for (uint32_t i = 0; i < config->interface_count; i++)
		if (config->interfaces[i].hook != CONFIG_HOOK_XDP)
			return false;
	return true;
}

bool hook_honours_xsk(enum config_xsk_mode wanted, uint64_t features)
{
	switch (wanted) {
	case CONFIG_XSK_ZEROCOPY:
		return features & NETDEV_FEATURE_ZEROCOPY;
	case CONFIG_XSK_COPY:
		return features & NETDEV_FEATURE_BASIC;
	default:
		return true;
	}
}
