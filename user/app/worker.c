/* SPDX-License-Identifier: MIT */
/*
 * Putting a worker together and taking it apart. The order matters: topology,
 * program (loaded or adopted, not yet attached), UMEM, sockets, ring, bridge,
 * stack, thread, and only then the program is attached, so that no packet
 * arrives before it can be served. Taking apart goes the other way.
 */
#include "worker_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "csum.h"
#include "log.h"
#include "netlink.h"

/* Of all frames, at most this share waits in fill rings for packets of clients. */
#define WORKER_FILL_SHARE 4
/* One flow may use this share of the pool's bytes in each direction. */
#define WORKER_WINDOW_SHARE 8
#define WORKER_WINDOW_MAX_BYTES (16u << 20)
#define TCP_IPV4_HEADER_BYTES 40
#define TCP_IPV6_HEADER_BYTES 60
#define TCP_TIMESTAMP_BYTES 12

static int worker_fail(char *error, uint32_t error_bytes, int err, const char *what, const char *name)
{
	snprintf(error, error_bytes, "%s%s%s: %s", what, name[0] ? " " : "", name, strerror(-err));
	return err;
}

static int worker_read_topology(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct config *config = worker->config;

	for (uint32_t i = 0; i < config->interface_count; i++) {
		struct worker_port *port = &worker->ports[i];
		struct topo_interface *topo = &worker->topo[i];
		int err = topo_read_interface(config->interfaces[i].name, topo);

		if (err)
			return worker_fail(error, error_bytes, err, "interface", config->interfaces[i].name);
		if (!umem_frame_bytes_for(topo->mtu)) {
			snprintf(error, error_bytes,
				 "interface %s: MTU %u is larger than a frame of 4096 bytes holds; lower it to 3822",
				 topo->name, topo->mtu);
			return -ERANGE;
		}
		memcpy(port->name, topo->name, sizeof(port->name));
		port->ifindex = topo->ifindex;
		port->mtu = topo->mtu;
		port->queues = topo->rx_queues ? topo->rx_queues : 1;
		port->adopted = config->interfaces[i].attach == CONFIG_ATTACH_EXTERNAL;
		worker->port_count++;
	}
	return 0;
}

static int worker_open_programs(struct worker *worker, char *error, uint32_t error_bytes)
{
	for (uint32_t i = 0; i < worker->port_count; i++) {
		struct worker_port *port = &worker->ports[i];
		int err = 0;

		if (port->adopted)
			err = bpfload_adopt(&worker->bpf, worker->bpf, port->ifindex, port->name, error, error_bytes);
		else if (!worker->bpf)
			err = bpfload_open(&worker->bpf, error, error_bytes);
		if (err)
			return err;
		if (i && port->adopted != worker->ports[0].adopted) {
			snprintf(error, error_bytes, "interface %s: all interfaces must have the same `attach`",
				 port->name);
			return -EINVAL;
		}
	}
	return 0;
}

static int worker_create_umem(struct worker *worker, char *error, uint32_t error_bytes)
{
	uint32_t mtu = 0;
	int err;

	for (uint32_t i = 0; i < worker->port_count; i++)
		mtu = worker->ports[i].mtu > mtu ? worker->ports[i].mtu : mtu;
	err = umem_create(&worker->umem, worker->config->performance.memory_pool_size, umem_frame_bytes_for(mtu),
			  worker->config->performance.enable_cpu_affinity ? worker->topo[0].numa_node : -1);
	if (err)
		return worker_fail(error, error_bytes, err, "packet memory (performance.memory_pool_size)", "");
	err = xsk_pool_create(&worker->xsk_pool, &worker->umem);
	if (err)
		return worker_fail(error, error_bytes, err, "registering packet memory with AF_XDP (UMEM)", "");
	return 0;
}

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
static int worker_open_port(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
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

static int worker_open_ports(struct worker *worker, char *error, uint32_t error_bytes)
{
	for (uint32_t i = 0; i < worker->port_count; i++) {
		const struct worker_port *port = &worker->ports[i];
		int err = worker_open_port(worker, i, error, error_bytes);

		if (err)
			return err;
		err = bpfload_set_port(worker->bpf, port->ifindex, worker->first_socket[i], port->queues);
		for (uint32_t q = 0; !err && q < port->queues; q++)
			err = bpfload_set_socket(worker->bpf, worker->first_socket[i] + q,
						 worker->sockets[worker->first_socket[i] + q].fd);
		if (err)
			return worker_fail(error, error_bytes, err, "entering AF_XDP sockets into the XSKMAP for",
					   port->name);
	}
	return 0;
}

/* --- the stack's call-backs: all but transmit go to the bridge --- */

static void worker_flow_opened(void *ctx, struct flow *flow)
{
	bridge_flow_opened(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_established(void *ctx, struct flow *flow)
{
	bridge_flow_established(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_readable(void *ctx, struct flow *flow)
{
	bridge_flow_readable(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_writable(void *ctx, struct flow *flow)
{
	bridge_flow_writable(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	bridge_flow_closed(((struct worker *)ctx)->bridge, flow, why);
}

static int worker_create_stack(struct worker *worker)
{
	const struct config_tcp *tcp = &worker->config->tcp;
	uint64_t window = (uint64_t)worker->umem.pool.total * worker->umem.pool.frame_bytes / WORKER_WINDOW_SHARE;
	const struct stack_callbacks callbacks = {
		.ctx = worker,
		.transmit = worker_transmit,
		.flow_opened = worker_flow_opened,
		.flow_established = worker_flow_established,
		.flow_readable = worker_flow_readable,
		.flow_writable = worker_flow_writable,
		.flow_closed = worker_flow_closed,
	};
	struct stack_settings settings = {
		.max_flows = tcp->max_flows,
		.half_open = tcp->half_open,
		.half_open_per_source = tcp->half_open_per_source,
		.handshake_timeout_ns = tcp->handshake_timeout_ns,
		.idle_timeout_ns = tcp->idle_timeout_ns,
		.time_wait_ns = tcp->linger_ns,
		.early_accept = tcp->accept == CONFIG_ACCEPT_EARLY,
		.receive_window_max_bytes =
			(uint32_t)(window < WORKER_WINDOW_MAX_BYTES ? window : WORKER_WINDOW_MAX_BYTES),
		.send_queue_max_bytes = (uint32_t)(window < WORKER_WINDOW_MAX_BYTES ? window : WORKER_WINDOW_MAX_BYTES),
	};

	if (getrandom(settings.secret, sizeof(settings.secret), 0) != sizeof(settings.secret))
		return -errno;
	worker->stack = stack_create(&settings, &worker->umem.pool, &callbacks, worker->started_ns);
	return worker->stack ? 0 : -ENOMEM;
}

static int worker_create_services(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct config *config = worker->config;
	uint16_t mtu = (uint16_t)worker->ports[0].mtu;
	const uint16_t segment_bytes[2] = {(uint16_t)(mtu - TCP_IPV4_HEADER_BYTES - TCP_TIMESTAMP_BYTES),
					   (uint16_t)(mtu - TCP_IPV6_HEADER_BYTES - TCP_TIMESTAMP_BYTES)};
	/* for tests of the path that kernels before 6.10 take */
	bool allow_bundle = !getenv("SOCKSPLICE_NO_RECV_BUNDLE");
	int err = uring_create(&worker->uring, config->performance.io_uring_entries, allow_bundle);

	if (err)
		return worker_fail(error, error_bytes, err,
				   "io_uring (is it forbidden by kernel.io_uring_disabled or seccomp?)", "");
	err = bridge_create(&worker->bridge, config, &worker->uring, &worker->umem.pool, segment_bytes);
	if (err)
		return worker_fail(error, error_bytes, err, "connection table and receive buffers", "");
	err = worker_create_stack(worker);
	if (err)
		return worker_fail(error, error_bytes, err, "flow table (tcp.max-flows)", "");
	bridge_set_stack(worker->bridge, worker->stack);
	worker->netlink_fd = netlink_open_monitor();
	if (worker->netlink_fd < 0)
		return worker_fail(error, error_bytes, worker->netlink_fd, "watching links and addresses", "");
	return 0;
}

static int worker_configure_program(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct xdp_cfg cfg = {
		.abi_version = CFG_ABI_VERSION,
		.on_down = worker->config->on_down == CONFIG_ON_DOWN_PASS ? CFG_ON_DOWN_PASS : CFG_ON_DOWN_DROP,
	};
	int err;

	/* addresses first: from the moment of adoption the gateway's own traffic must pass */
	worker_update_topology(worker);
	err = bpfload_configure(worker->bpf, &cfg);
	return err ? worker_fail(error, error_bytes, err, "writing the XDP program's settings", "") : 0;
}

int worker_create(struct worker **out, const struct config *config, char *error, uint32_t error_bytes)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int err = -ENOMEM;

	if (!worker)
		return worker_fail(error, error_bytes, err, "worker", "");
	worker->config = config;
	worker->netlink_fd = -1;
	worker->mailbox.wake_fd = -1;
	worker->started_ns = worker_now_ns();
	csum_select(config->performance.enable_simd);
	err = worker_mailbox_create(worker);
	if (err)
		worker_fail(error, error_bytes, err, "eventfd", "");
	if (!err)
		err = worker_read_topology(worker, error, error_bytes);
	if (!err)
		err = worker_open_programs(worker, error, error_bytes);
	if (!err)
		err = worker_create_umem(worker, error, error_bytes);
	if (!err)
		err = worker_open_ports(worker, error, error_bytes);
	if (!err)
		err = worker_create_services(worker, error, error_bytes);
	if (err) {
		worker_destroy(worker);
		return err;
	}
	*out = worker;
	return 0;
}

static int worker_attach_port(struct worker *worker, uint32_t index, char *error, uint32_t error_bytes)
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

int worker_start(struct worker *worker, char *error, uint32_t error_bytes)
{
	int err;

	err = worker_configure_program(worker, error, error_bytes);
	if (err)
		return err;
	for (uint32_t i = 0; i < worker->socket_count; i++)
		xsk_refill(&worker->sockets[i], 0);
	err = pthread_create(&worker->thread, NULL, worker_run, worker);
	if (err)
		return worker_fail(error, error_bytes, -err, "starting the data-path thread", "");
	worker->thread_running = true;
	for (uint32_t i = 0; !err && i < worker->port_count; i++)
		err = worker_attach_port(worker, i, error, error_bytes);
	if (err)
		worker_stop(worker);
	return err;
}

void worker_stop(struct worker *worker)
{
	if (!worker->thread_running)
		return;
	atomic_store(&worker->stopping, true);
	eventfd_write(worker->mailbox.wake_fd, 1);
	pthread_join(worker->thread, NULL);
	worker->thread_running = false;
}

void worker_destroy(struct worker *worker)
{
	if (!worker)
		return;
	worker_stop(worker);
	if (worker->bpf)
		bpfload_close(worker->bpf);
	/* the ring goes first: its buffers and sends point into the packet memory */
	uring_destroy(&worker->uring);
	bridge_destroy(worker->bridge);
	if (worker->stack)
		stack_destroy(worker->stack);
	for (uint32_t i = worker->socket_count; i--;)
		xsk_close(&worker->sockets[i]);
	xsk_pool_destroy(&worker->xsk_pool);
	umem_destroy(&worker->umem);
	if (worker->netlink_fd >= 0)
		close(worker->netlink_fd);
	worker_mailbox_destroy(worker);
	free(worker);
}

uint32_t worker_port_count(const struct worker *worker)
{
	return worker->port_count;
}

const struct worker_port *worker_port(const struct worker *worker, uint32_t index)
{
	return &worker->ports[index];
}
