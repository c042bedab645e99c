/* SPDX-License-Identifier: MIT */
/*
 * The interfaces of a worker: which hook each takes, what its packets come by
 * (AF_XDP sockets or a TAP), and attaching the programs.
 *
 *   hook  what is spliced           what needs user space
 *   tc    rewritten by the tc       redirected into a TAP of ours, whole (GSO)
 *         program
 *   xdp   rewritten by XDP, what    redirected into AF_XDP sockets
 *         XDP cannot do by tc
 */
#include "worker_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"
#include "log.h"
#include "netdev.h"
#include "reserve.h"

/* Of all frames, at most this share waits in fill rings for packets of clients. */
#define WORKER_FILL_SHARE 4
#define WORKER_LARGE_FRAME_BYTES 16384
#define WORKER_LARGE_FRAMES_MIN 2048
#define WORKER_TAP_NAME "sockspl%d"

int worker_fail(char *error, uint32_t error_bytes, int err, const char *what, const char *name)
{
	snprintf(error, error_bytes, "%s%s%s: %s", what, name[0] ? " " : "", name, strerror(-err));
	return err;
}

/* --- reading and deciding --- */

int worker_read_topology(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct config *config = worker->config;

	for (uint32_t i = 0; i < config->interface_count; i++) {
		struct worker_port *port = &worker->ports[i];
		struct topo_interface *topo = &worker->topo[i];
		int err = topo_read_interface(config->interfaces[i].name, topo);
		struct hook_choice choice;

		if (err)
			return worker_fail(error, error_bytes, err, "interface", config->interfaces[i].name);
		memcpy(port->name, topo->name, sizeof(port->name));
		port->ifindex = topo->ifindex;
		port->mtu = topo->mtu;
		port->queues = topo->rx_queues ? topo->rx_queues : 1;
		port->adopted = config->interfaces[i].attach == CONFIG_ATTACH_EXTERNAL;
		port->xdp = port->xsk = "none";
		choice = hook_choose(&config->interfaces[i], topo);
		port->hook = choice.hook;
		port->hook_reason = choice.reason;
		worker->taps[i].fd = -1;
		worker->port_count++;
		if (!hook_fits_mtu(port->hook, topo->mtu)) {
			snprintf(error, error_bytes,
				 "interface %s: MTU %u is larger than a frame of 4096 bytes holds; lower it to %u, or "
				 "use `hook: tc`",
				 topo->name, topo->mtu, hook_largest_xdp_mtu());
			return -ERANGE;
		}
	}
	return 0;
}

int worker_open_programs(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct worker_port *first = &worker->ports[0];
	const struct bpfload_settings settings = {
		.max_flows = worker->config->tcp.max_flows,
		.pin = worker->config->bpf_pin,
		.external_ifindex = first->adopted ? first->ifindex : 0,
		.external_name = first->name,
	};
	int err;

	for (uint32_t i = 1; i < worker->port_count; i++) {
		if (worker->ports[i].adopted == first->adopted)
			continue;
		snprintf(error, error_bytes, "interface %s: all interfaces must have the same `attach`",
			 worker->ports[i].name);
		return -EINVAL;
	}
	err = bpfload_open(&worker->bpf, &settings, error, error_bytes);
	for (uint32_t i = 1; !err && first->adopted && i < worker->port_count; i++)
		err = bpfload_adopt_further(worker->bpf, worker->ports[i].ifindex, worker->ports[i].name, error,
					    error_bytes);
	return err;
}

static bool worker_has_xdp(const struct worker *worker)
{
	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].hook == CONFIG_HOOK_XDP)
			return true;
	return false;
}

/*
 * A TAP's packets may be of any size, and so may the frames: large ones hold several segments, which are then handled
 * as one. The memory stays that of `count` frames of `frame_bytes`; where it is little, many small frames serve more
 * connections.
 */
static void worker_enlarge_frames(uint32_t *count, uint32_t *frame_bytes)
{
	while (*frame_bytes < WORKER_LARGE_FRAME_BYTES && *count / 2 >= WORKER_LARGE_FRAMES_MIN) {
		*frame_bytes *= 2;
		*count /= 2;
	}
}

int worker_create_umem(struct worker *worker, char *error, uint32_t error_bytes)
{
	uint32_t frame_bytes = 0, count = worker->config->performance.memory_pool_size;
	int err;

	for (uint32_t i = 0; i < worker->port_count; i++) {
		uint32_t wanted = umem_frame_bytes_for(worker->ports[i].mtu);

		/* larger packets of a TAP lie in several frames */
		wanted = wanted ? wanted : 4096;
		frame_bytes = wanted > frame_bytes ? wanted : frame_bytes;
	}
	if (!worker_has_xdp(worker))
		worker_enlarge_frames(&count, &frame_bytes);
	err = umem_create(&worker->umem, count, frame_bytes,
			  worker->config->performance.enable_cpu_affinity ? worker->topo[0].numa_node : -1);
	if (err)
		return worker_fail(error, error_bytes, err, "packet memory (performance.memory_pool_size)", "");
	if (!worker_has_xdp(worker))
		return 0;
	err = xsk_pool_create(&worker->xsk_pool, &worker->umem);
	if (err)
		return worker_fail(error, error_bytes, err, "registering packet memory with AF_XDP (UMEM)", "");
	worker->xsk_pool_created = true;
	return 0;
}

/* --- AF_XDP --- */

static int worker_open_queues(struct worker *worker, uint32_t index, enum xsk_bind_mode mode, bool generic)
{
	const struct worker_port *port = &worker->ports[index];
	uint32_t queues = 0, opened = 0;
	int err;

	for (uint32_t i = 0; i < worker->port_count; i++)
		queues += worker->ports[i].queues;
	for (; opened < port->queues; opened++) {
		struct xsk *xsk = &worker->sockets[worker->socket_count + opened];

		err = xsk_open(xsk, &worker->xsk_pool, port->name, opened, mode, generic,
			       worker->umem.pool.total / WORKER_FILL_SHARE / queues);
		if (err)
			goto close_opened;
		worker->socket_port[worker->socket_count + opened] = (uint16_t)index;
	}
	worker->first_socket[index] = worker->socket_count;
	worker->socket_count += opened;
	return 0;

close_opened:
	while (opened--)
		xsk_close(&worker->sockets[worker->socket_count + opened]);
	return err;
}

static const char *worker_driver(const struct worker *worker, uint32_t index)
{
	return worker->topo[index].driver[0] ? worker->topo[index].driver : "unknown";
}

/* Says what the kernel made of it, which on a shared UMEM is what the first interface got. */
static int worker_note_mode(struct worker *worker, uint32_t index, bool zerocopy_tried, int zerocopy_err)
{
	struct worker_port *port = &worker->ports[index];
	enum config_xsk_mode wanted = worker->config->interfaces[index].xsk;
	bool zerocopy = xsk_is_zerocopy(&worker->sockets[worker->first_socket[index]]);

	port->xsk = zerocopy ? "zerocopy" : wanted == CONFIG_XSK_GENERIC ? "generic" : "copy";
	if (zerocopy && wanted != CONFIG_XSK_COPY)
		snprintf(port->reason, sizeof(port->reason), "the driver (%s) supports zero-copy",
			 worker_driver(worker, index));
	else if (zerocopy || (zerocopy_tried && !zerocopy_err))
		snprintf(port->reason, sizeof(port->reason), "shares its packet memory with %s, and so the mode",
			 worker->ports[0].name);
	else if (zerocopy_tried)
		snprintf(port->reason, sizeof(port->reason), "zero-copy is not available from the driver (%s): %s",
			 worker_driver(worker, index), strerror(-zerocopy_err));
	else
		snprintf(port->reason, sizeof(port->reason), "as configured by xsk:");
	return wanted == CONFIG_XSK_ZEROCOPY && !zerocopy ? -EOPNOTSUPP : 0;
}

/* Zero-copy where the driver has it and `xsk:` allows it, else copy mode. */
static int worker_open_sockets(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
{
	struct worker_port *port = &worker->ports[index];
	enum config_xsk_mode wanted = worker->config->interfaces[index].xsk;
	bool try_zerocopy = wanted == CONFIG_XSK_AUTO || wanted == CONFIG_XSK_ZEROCOPY;
	int zerocopy_err = -EOPNOTSUPP, err;

	if (worker->socket_count + port->queues > WORKER_MAX_SOCKETS) {
		snprintf(error, error_bytes,
			 "interface %s: more than %d queues in all; reduce them: ethtool -L %s combined N", port->name,
			 WORKER_MAX_SOCKETS, port->name);
		return -E2BIG;
	}
	if (try_zerocopy)
		zerocopy_err = worker_open_queues(worker, index, XSK_BIND_ZEROCOPY, false);
	err = zerocopy_err;
	if (err && wanted != CONFIG_XSK_ZEROCOPY)
		err = worker_open_queues(worker, index, XSK_BIND_COPY, wanted == CONFIG_XSK_GENERIC);
	if (!err)
		err = worker_note_mode(worker, index, try_zerocopy, zerocopy_err);
	if (err)
		snprintf(error, error_bytes, "interface %s: AF_XDP socket (xsk: %s): %s%s", port->name,
			 wanted == CONFIG_XSK_ZEROCOPY ? "zerocopy" : "copy", strerror(-err),
			 wanted == CONFIG_XSK_ZEROCOPY ? "; use `xsk: auto` to fall back to copy mode" : "");
	return err;
}

static int worker_enter_sockets(struct worker *worker, uint32_t index)
{
	int err = 0;

	for (uint32_t q = 0; !err && q < worker->ports[index].queues; q++)
		err = bpfload_set_socket(worker->bpf, worker->first_socket[index] + q,
					 worker->sockets[worker->first_socket[index] + q].fd);
	return err;
}

/* --- TAP --- */

static int worker_open_tap(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
{
	struct worker_port *port = &worker->ports[index];
	struct tap *tap = &worker->taps[index];
	int err = tap_open(tap, &worker->umem.pool, WORKER_TAP_NAME, port->mtu, worker->topo[index].mac);

	if (err) {
		snprintf(error, error_bytes,
			 "interface %s: making a TAP device: %s; is the module tun there? `hook: xdp` needs none",
			 port->name, strerror(-err));
		return err;
	}
	snprintf(port->reason, sizeof(port->reason), "by %s", tap->name);
	err = bpfload_set_tap(worker->bpf, index, tap->ifindex, port->ifindex);
	return err ? worker_fail(error, error_bytes, err, "entering the TAP device of", port->name) : 0;
}

int worker_open_ports(struct worker *worker, char *error, uint32_t error_bytes)
{
	int lan[CONFIG_MAX_INTERFACES];

	for (uint32_t i = 0; i < worker->port_count; i++)
		lan[i] = worker->ports[i].ifindex;
	bpfload_forget_ports(worker->bpf, lan, worker->port_count);
	for (uint32_t i = 0; i < worker->port_count; i++) {
		const struct worker_port *port = &worker->ports[i];
		int err;

		if (port->hook == CONFIG_HOOK_TC) {
			err = worker_open_tap(worker, i, error, error_bytes);
		} else {
			err = worker_open_sockets(worker, i, error, error_bytes);
			if (!err && worker_enter_sockets(worker, i))
				err = worker_fail(error, error_bytes, -EIO,
						  "entering AF_XDP sockets into the XSKMAP for", port->name);
		}
		if (err)
			return err;
	}
	return 0;
}

/* --- telling the programs --- */

/* May XDP send frames out of this device? A veth takes them only while its peer has NAPI (GRO or XDP there). */
static bool worker_takes_xdp(int ifindex, const struct topo_interface *topo)
{
	uint64_t features;

	if (!netdev_xdp_features(ifindex, &features))
		return features & NETDEV_FEATURE_XMIT;
	return !topo->is_virtual;
}

static bool worker_is_uplink(const struct worker *worker, int ifindex)
{
	const struct upstreams *upstreams = bridge_upstreams(worker->bridge);

	for (uint32_t i = 0; i < upstreams->used; i++)
		if (upstreams->list[i].routed && upstreams->list[i].route.ifindex == ifindex)
			return true;
	return false;
}

int worker_tell_port(struct worker *worker, uint32_t index)
{
	const struct worker_port *port = &worker->ports[index];
	struct bpf_port out = {.queues = port->queues, .flags = CFG_PORT_LAN, .tap_slot = index};
	int err;

	if (port->hook == CONFIG_HOOK_TC)
		out.flags |= CFG_PORT_TAP;
	else
		out.first_slot = worker->first_socket[index];
	if (worker->topo[index].is_virtual)
		out.flags |= CFG_PORT_VIRTUAL;
	if (worker_is_uplink(worker, port->ifindex))
		out.flags |= CFG_PORT_UPLINK;
	err = bpfload_set_port(worker->bpf, port->ifindex, &out);
	return err ? err
		   : bpfload_set_device(worker->bpf, port->ifindex,
					worker_takes_xdp(port->ifindex, &worker->topo[index]));
}

static bool worker_is_lan(const struct worker *worker, int ifindex)
{
	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].ifindex == ifindex)
			return true;
	return false;
}

static int worker_tell_uplink(struct worker *worker, int ifindex)
{
	struct bpf_port out = {.flags = CFG_PORT_UPLINK};
	struct topo_interface topo;
	char name[IFNAMSIZ];
	int err;

	if (worker_is_lan(worker, ifindex))
		return 0;
	if (!if_indextoname((unsigned int)ifindex, name))
		return -ENODEV;
	err = topo_read_interface(name, &topo);
	if (err)
		return err;
	if (topo.is_virtual)
		out.flags |= CFG_PORT_VIRTUAL;
	err = bpfload_set_port(worker->bpf, topo.ifindex, &out);
	return err ? err : bpfload_set_device(worker->bpf, topo.ifindex, worker_takes_xdp(topo.ifindex, &topo));
}

void worker_tell_uplinks(struct worker *worker)
{
	for (uint32_t i = 0; i < worker->uplink_count; i++)
		worker_tell_uplink(worker, worker->uplinks[i]);
}

/* --- attaching --- */

static int worker_attach_xdp(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
{
	struct worker_port *port = &worker->ports[index];
	enum config_xsk_mode wanted = worker->config->interfaces[index].xsk;
	int err = 0;

	if (!port->adopted) {
		err = bpfload_attach(worker->bpf, port->ifindex, port->name, wanted == CONFIG_XSK_GENERIC, error,
				     error_bytes);
		/* the mode that every device has; slower, since packets become sk_buffs first */
		if (err == -EOPNOTSUPP && wanted == CONFIG_XSK_AUTO) {
			snprintf(port->reason, sizeof(port->reason), "the driver (%s) has no native XDP",
				 worker_driver(worker, index));
			port->xsk = "generic";
			err = bpfload_attach(worker->bpf, port->ifindex, port->name, true, error, error_bytes);
		}
	}
	port->xdp = bpfload_mode(port->ifindex) == XDP_MODE_GENERIC ? "generic" : "native";
	return err;
}

int worker_attach_port(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
{
	const struct worker_port *port = &worker->ports[index];
	int err;

	if (port->hook == CONFIG_HOOK_TC)
		err = bpfload_attach_tc(worker->bpf, worker->taps[index].ifindex, worker->taps[index].name, BPFLOAD_TAP,
					error, error_bytes);
	else
		err = worker_attach_xdp(worker, index, error, error_bytes);
	/* behind XDP it takes what XDP leaves */
	if (!err)
		err = bpfload_attach_tc(worker->bpf, port->ifindex, port->name, BPFLOAD_INGRESS, error, error_bytes);
	if (!err)
		err = worker_tell_port(worker, index);
	/* an earlier daemon with `hook: xdp` has left its program; only now, so that nothing passes in between */
	if (!err && port->hook == CONFIG_HOOK_TC)
		bpfload_clear_xdp(port->ifindex);
	return err;
}

bool worker_has_uplink(void *ctx, uint32_t ifindex)
{
	const struct worker *worker = ctx;

	for (uint32_t i = 0; i < worker->uplink_count; i++)
		if ((uint32_t)worker->uplinks[i] == ifindex)
			return true;
	return false;
}

/* What an uplink has that clients do not come by: the ingress program, and XDP if it takes that. */
static int worker_attach_ingress(struct worker *worker, int ifindex, const char *name, char *error,
				 uint32_t error_bytes)
{
	struct topo_interface topo;
	char why[256];
	int err = bpfload_attach_tc(worker->bpf, ifindex, name, BPFLOAD_INGRESS, error, error_bytes);

	if (err || topo_read_interface(name, &topo))
		return err;
	if (!hook_wants_xdp_uplink(worker->config, &topo))
		bpfload_clear_xdp(ifindex);
	/* not needed: tc does the same, more slowly */
	else if (bpfload_attach(worker->bpf, ifindex, name, false, why, sizeof(why)))
		log_info("uplink %s: no XDP there, tc does its work: %s", name, why);
	return 0;
}

static int worker_attach_uplink(struct worker *worker, int ifindex, char *error, uint32_t error_bytes)
{
	char name[IFNAMSIZ];
	int err;

	/* one that is gone has nothing to attach to */
	if (worker_has_uplink(worker, (uint32_t)ifindex) || !if_indextoname((unsigned int)ifindex, name))
		return 0;
	if (worker->uplink_count == WORKER_MAX_UPLINKS) {
		snprintf(error, error_bytes, "uplink %s: more than %d uplinks in the life of one daemon; restart it",
			 name, WORKER_MAX_UPLINKS);
		return -E2BIG;
	}
	err = bpfload_attach_tc(worker->bpf, ifindex, name, BPFLOAD_EGRESS, error, error_bytes);
	if (!err && !worker_is_lan(worker, ifindex))
		err = worker_attach_ingress(worker, ifindex, name, error, error_bytes);
	if (err)
		return err;
	err = worker_tell_uplink(worker, ifindex);
	if (err)
		return worker_fail(error, error_bytes, err, "telling the programs of uplink", name);
	worker->uplinks[worker->uplink_count++] = ifindex;
	log_info("uplink %s: programs by %s", name, bpfload_tc_kind(worker->bpf));
	return 0;
}

int worker_attach_uplinks(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct upstreams *upstreams = bridge_upstreams(worker->bridge);
	char later[256] = "";
	int err = 0;

	for (uint32_t i = 0; i < upstreams->used; i++) {
		const struct upstream *upstream = &upstreams->list[i];
		int one;

		if (!upstream->routed || upstream->route.local)
			continue;
		one = worker_attach_uplink(worker, upstream->route.ifindex, err ? later : error,
					   err ? sizeof(later) : error_bytes);
		err = err ? err : one;
	}
	return err;
}

void worker_attach_inherited(struct worker *worker)
{
	uint32_t ifindexes[WORKER_MAX_UPLINKS];
	uint32_t count = splice_inherited_uplinks(bridge_splice(worker->bridge), ifindexes, WORKER_MAX_UPLINKS);
	char error[256];

	for (uint32_t i = 0; i < count; i++)
		if (worker_attach_uplink(worker, (int)ifindexes[i], error, sizeof(error)))
			log_warn("%s; connections of an earlier daemon by it will end", error);
}

void worker_follow_uplinks(void *ctx)
{
	struct worker *worker = ctx;
	char error[256];

	if (worker_attach_uplinks(worker, error, sizeof(error)))
		log_warn("%s", error);
	/* an interface of clients may have become an uplink too */
	for (uint32_t i = 0; i < worker->port_count; i++)
		worker_tell_port(worker, i);
}

void worker_reserve_ports(struct worker *worker)
{
	struct ports_set ports, foreign;

	upstreams_ports(bridge_upstreams(worker->bridge), &ports);
	splice_foreign_ports(bridge_splice(worker->bridge), &foreign);
	reserve_take(worker->bpf, &ports, &foreign, worker->started_ns);
}
