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
#include "faults.h"
#include "record.h"
#include "reserve.h"
#include "route.h"

/* One flow may use this share of the pool's bytes in each direction. */
#define WORKER_WINDOW_SHARE 8
#define WORKER_WINDOW_MAX_BYTES (16u << 20)
#define TCP_IPV4_HEADER_BYTES 40
#define TCP_IPV6_HEADER_BYTES 60
#define TCP_TIMESTAMP_BYTES 12

/* --- the stack's call-backs: all but transmit go to the bridge, or to the DNS service --- */

static bool worker_is_dns_flow(const struct worker *worker, const struct flow *flow)
{
	return worker->dns && dns_service_has_flow(worker->dns, flow);
}

static void worker_flow_opened(void *ctx, struct flow *flow)
{
	struct worker *worker = ctx;

	if (!worker->dns || !dns_service_flow_opened(worker->dns, flow, worker->now_ns))
		bridge_flow_opened(worker->bridge, flow);
}

static void worker_flow_established(void *ctx, struct flow *flow)
{
	bridge_flow_established(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_readable(void *ctx, struct flow *flow)
{
	struct worker *worker = ctx;

	if (worker_is_dns_flow(worker, flow))
		dns_service_flow_readable(worker->dns, flow, worker->now_ns);
	else
		bridge_flow_readable(worker->bridge, flow);
}

static void worker_flow_writable(void *ctx, struct flow *flow)
{
	struct worker *worker = ctx;

	/* what was not read because answers waited is read now */
	if (worker_is_dns_flow(worker, flow))
		dns_service_flow_readable(worker->dns, flow, worker->now_ns);
	else
		bridge_flow_writable(worker->bridge, flow);
}

static void worker_flow_syn_again(void *ctx, struct flow *flow)
{
	bridge_flow_syn_again(((struct worker *)ctx)->bridge, flow);
}

static void worker_flow_closed(void *ctx, struct flow *flow, enum flow_end why)
{
	struct worker *worker = ctx;

	if (worker_is_dns_flow(worker, flow))
		dns_service_flow_closed(worker->dns, flow);
	else
		bridge_flow_closed(worker->bridge, flow, why);
}

static enum stack_judgement worker_judge(void *ctx, const struct packet_view *view, bool has_port)
{
	struct worker *worker = ctx;

	if (worker->dns && dns_service_is_query(worker->dns, view, has_port))
		return STACK_TAKE;
	return bridge_judge(worker->bridge, view, has_port);
}

static void worker_datagram(void *ctx, struct stack_datagram *datagram)
{
	struct worker *worker = ctx;
	const struct packet_view view = {.dst = datagram->link.src.addr, .dport = datagram->link.src.port};

	if (worker->dns && dns_service_is_query(worker->dns, &view, true))
		dns_service_datagram(worker->dns, datagram, worker->now_ns);
	else
		assoc_datagram(worker->assocs, datagram);
}

static void worker_flow_released(void *ctx, struct flow *flow)
{
	bridge_flow_released(((struct worker *)ctx)->bridge, flow);
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
		.flow_syn_again = worker_flow_syn_again,
		.judge = worker_judge,
		.datagram = worker_datagram,
		.flow_released = worker_flow_released,
	};
	struct stack_settings settings = {
		.max_flows = tcp->max_flows,
		.half_open = tcp->half_open,
		.half_open_per_source = tcp->half_open_per_source,
		.handshake_timeout_ns = tcp->handshake_timeout_ns,
		.idle_timeout_ns = tcp->idle_timeout_ns,
		.time_wait_ns = tcp->linger_ns,
		.echo_reply = worker->config->icmp == CONFIG_ICMP_REPLY,
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

static uint32_t worker_ifindex_of(void *ctx, uint16_t port)
{
	const struct worker *worker = ctx;

	return port < worker->port_count ? (uint32_t)worker->ports[port].ifindex : 0;
}

static int worker_port_of(void *ctx, uint32_t ifindex)
{
	const struct worker *worker = ctx;

	for (uint32_t i = 0; i < worker->port_count; i++)
		if ((uint32_t)worker->ports[i].ifindex == ifindex)
			return (int)i;
	return -1;
}

/* An own address among the fake ones could not be told from them. */
static int worker_check_mapped(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct addr *listen = &worker->config->dns.listen.addr;
	struct addr addrs[CFG_MAX_LOCAL_ADDRS];
	int count = topo_read_local_addrs(addrs, CFG_MAX_LOCAL_ADDRS);

	for (int i = 0; i < count; i++)
		if (dnsmap_covers(dns_service_names(worker->dns), &addrs[i]) && !addr_equal(&addrs[i], listen)) {
			snprintf(error, error_bytes,
				 "dns: mapped, mapped6: an address of this machine is among the fake addresses; choose "
				 "ranges that are used nowhere");
			return -EADDRINUSE;
		}
	return 0;
}

static int worker_create_dns(struct worker *worker, char *error, uint32_t error_bytes)
{
	int err;

	if (!config_dns_is_on(&worker->config->dns))
		return 0;
	error[0] = 0;
	err = dns_service_create(&worker->dns, worker->config, worker->bpf, error, error_bytes);
	if (err && !error[0])
		return worker_fail(error, error_bytes, err, "mapped DNS (dns.cache)", "");
	return err ? err : worker_check_mapped(worker, error, error_bytes);
}

static struct rules_verdict worker_decide(void *ctx, const struct rules_packet *packet)
{
	return bridge_decide_packet(((struct worker *)ctx)->bridge, packet);
}

static struct upstream *worker_choose(void *ctx, int32_t wanted)
{
	return bridge_pick_upstream(((struct worker *)ctx)->bridge, wanted);
}

static int worker_create_assocs(struct worker *worker)
{
	struct assoc_settings settings = {
		.config = worker->config,
		.uring = &worker->uring,
		.pool = &worker->umem.pool,
		.bpf = worker->bpf,
		.calls = {.ctx = worker,
			  .decide = worker_decide,
			  .choose = worker_choose,
			  .ifindex_of = worker_ifindex_of,
			  .is_uplink = worker_has_uplink},
	};

	if (getrandom(settings.secret, sizeof(settings.secret), 0) != sizeof(settings.secret))
		return -errno;
	return assoc_create(&worker->assocs, &settings);
}

/* Of a frame's room for payload, what holds whole segments; a segment that fits none is cut by the stack. */
static uint16_t worker_buffer_bytes(const struct worker *worker, uint32_t segment_bytes)
{
	uint32_t room = worker->umem.pool.frame_bytes - FRAME_PAYLOAD_OFFSET;

	return (uint16_t)(segment_bytes < room ? room - room % segment_bytes : room);
}

static int worker_create_services(struct worker *worker, char *error, uint32_t error_bytes)
{
	const struct config *config = worker->config;
	uint32_t mtu = worker->ports[0].mtu;
	struct bridge_settings settings = {
		.config = config,
		.uring = &worker->uring,
		.pool = &worker->umem.pool,
		.bpf = worker->bpf,
		.buffer_bytes = {worker_buffer_bytes(worker, mtu - TCP_IPV4_HEADER_BYTES - TCP_TIMESTAMP_BYTES),
				 worker_buffer_bytes(worker, mtu - TCP_IPV6_HEADER_BYTES - TCP_TIMESTAMP_BYTES)},
		.now_ns = worker->started_ns,
		.ctx = worker,
		.uplinks_changed = worker_follow_uplinks,
		.flush_transmissions = worker_flush,
		.port_of = worker_port_of,
		.ifindex_of = worker_ifindex_of,
		.has_uplink = worker_has_uplink,
	};
	/* for tests of the path that kernels before 6.10 take */
	bool allow_bundle = !getenv("SOCKSPLICE_NO_RECV_BUNDLE");
	int err;

	if (config->log_flows[0]) {
		err = record_create(&worker->record, config->log_flows);
		if (err)
			return worker_fail(error, error_bytes, err, "log.flows:", config->log_flows);
		worker->recorder = (struct flow_recorder){.ctx = worker->record, .put = record_put};
		settings.recorder = &worker->recorder;
	}
	err = uring_create(&worker->uring, config->performance.io_uring_entries, allow_bundle);

	if (err)
		return worker_fail(error, error_bytes, err,
				   "io_uring (is it forbidden by kernel.io_uring_disabled or seccomp?)", "");
	faults_read(&settings.faults, worker->started_ns);
	err = worker_create_dns(worker, error, error_bytes);
	if (err)
		return err;
	settings.dns = worker->dns;
	err = bridge_create(&worker->bridge, &settings);
	if (err)
		return worker_fail(error, error_bytes, err, "connection table and receive buffers", "");
	err = worker_create_assocs(worker);
	if (err)
		return worker_fail(error, error_bytes, err, "table of UDP associations (udp.max-flows)", "");
	worker_reserve_ports(worker);
	/* its thread begins here, where none is pinned to a CPU yet */
	worker->resolver_fd = bridge_resolver_fd(worker->bridge);
	err = worker_create_stack(worker);
	if (err)
		return worker_fail(error, error_bytes, err, "flow table (tcp.max-flows)", "");
	bridge_set_stack(worker->bridge, worker->stack);
	if (worker->dns)
		dns_service_set_stack(worker->dns, worker->stack, &worker->umem.pool);
	assoc_set_stack(worker->assocs, worker->stack);
	worker->netlink_fd = route_open_monitor();
	if (worker->netlink_fd < 0)
		return worker_fail(error, error_bytes, worker->netlink_fd, "watching links and addresses", "");
	return 0;
}

/* Before any packet is judged: in the kernel those of an earlier daemon are in force until now. */
static int worker_load_rules(struct worker *worker, char *error, uint32_t error_bytes)
{
	struct rules_set *rules = NULL;
	struct domains *domains = NULL;
	int err = rulemap_open(&worker->rulemap, worker->bpf);

	if (!err && worker->config->rules.count)
		err = rules_compile(&rules, &worker->config->rules);
	if (!err && worker->dns && worker->config->rules.count)
		err = domains_compile(&domains, &worker->config->rules);
	if (!err)
		err = dns_service_tell_programs(worker->config, worker->bpf);
	if (err)
		return worker_fail(error, error_bytes, err, "loading the rules", "");
	if (worker->dns)
		dns_service_set_domains(worker->dns, domains);
	bridge_set_rules(worker->bridge, rules, 0);
	rulemap_load(&worker->rulemap, worker->config->performance.enable_ebpf ? rules : NULL);
	return 0;
}

static uint16_t worker_icmp_mode(const struct config *config)
{
	switch (config->icmp) {
	case CONFIG_ICMP_PASS:
		return CFG_ICMP_PASS;
	case CONFIG_ICMP_DROP:
		return CFG_ICMP_DROP;
	default:
		return CFG_ICMP_REPLY;
	}
}

static int worker_configure_program(struct worker *worker, char *error, uint32_t error_bytes)
{
	struct bpf_cfg cfg = {
		.icmp = worker_icmp_mode(worker->config),
		.abi_version = CFG_ABI_VERSION,
		.on_down = worker->config->on_down == CONFIG_ON_DOWN_PASS ? CFG_ON_DOWN_PASS : CFG_ON_DOWN_DROP,
	};
	struct bridge_faults faults;
	int err;

	faults_read(&faults, worker->started_ns);
	memcpy(cfg.fault_permille, faults.permille, sizeof(cfg.fault_permille));
	cfg.fault_until_ns = faults.until_ns;

	/* addresses first: from the moment of adoption the gateway's own traffic must pass */
	worker_update_topology(worker);
	err = bpfload_configure(worker->bpf, &cfg);
	return err ? worker_fail(error, error_bytes, err, "writing the XDP program's settings", "") : 0;
}

int worker_create(struct worker **out, struct config *config, char *error, uint32_t error_bytes)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int err = -ENOMEM;

	if (!worker)
		return worker_fail(error, error_bytes, err, "worker", "");
	worker->config = config;
	worker->netlink_fd = worker->resolver_fd = -1;
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

int worker_start(struct worker *worker, char *error, uint32_t error_bytes)
{
	int err;

	err = worker_load_rules(worker, error, error_bytes);
	if (!err)
		err = worker_configure_program(worker, error, error_bytes);
	if (err)
		return err;
	for (uint32_t i = 0; i < worker->socket_count; i++)
		xsk_refill(&worker->sockets[i], 0);
	/* the guard of the uplink before the first packet of a client */
	err = worker_attach_uplinks(worker, error, error_bytes);
	if (err)
		return err;
	worker_attach_inherited(worker);
	err = pthread_create(&worker->thread, NULL, worker_run, worker);
	if (err)
		return worker_fail(error, error_bytes, -err, "starting the data-path thread", "");
	worker->thread_running = true;
	for (uint32_t i = 0; !err && i < worker->port_count; i++)
		err = worker_attach_port(worker, i, error, error_bytes);
	if (err)
		worker_stop(worker, false);
	else
		bpfload_remove_leftovers(worker->bpf, worker->ports[0].adopted);
	return err;
}

int worker_apply(struct worker *worker, const struct worker_change *change, char *error, uint32_t error_bytes)
{
	bool ebpf = worker->config->performance.enable_ebpf;
	int err;

	/* user space first: what the kernel still judges by the old set finds it there too (bridge_rules.c) */
	snprintf(error, error_bytes, "the data path does not answer; nothing is changed");
	err = worker_ask_apply(worker, change, error, error_bytes);
	if (err)
		return err;
	rulemap_set_on_down(&worker->rulemap,
			    change->on_down == CONFIG_ON_DOWN_PASS ? CFG_ON_DOWN_PASS : CFG_ON_DOWN_DROP);
	rulemap_load(&worker->rulemap, ebpf ? change->rules : NULL);
	return 0;
}

void worker_stop(struct worker *worker, bool flush)
{
	if (!worker->thread_running)
		return;
	worker->flushing = flush;
	atomic_store(&worker->stopping, true);
	eventfd_write(worker->mailbox.wake_fd, 1);
	pthread_join(worker->thread, NULL);
	worker->thread_running = false;
}

void worker_destroy(struct worker *worker)
{
	if (!worker)
		return;
	worker_stop(worker, false);
	/* the ring goes first: its buffers and sends point into the packet memory */
	uring_destroy(&worker->uring);
	assoc_destroy(worker->assocs);
	bridge_destroy(worker->bridge);
	dns_service_destroy(worker->dns);
	rulemap_close(&worker->rulemap);
	if (worker->bpf && worker->flushing)
		reserve_release(worker->bpf);
	if (worker->bpf)
		bpfload_close(worker->bpf, !worker->flushing);
	if (worker->stack)
		stack_destroy(worker->stack);
	for (uint32_t i = worker->socket_count; i--;)
		xsk_close(&worker->sockets[i]);
	for (uint32_t i = 0; i < worker->port_count; i++)
		tap_close(&worker->taps[i]);
	if (worker->xsk_pool_created)
		xsk_pool_destroy(&worker->xsk_pool);
	umem_destroy(&worker->umem);
	if (worker->netlink_fd >= 0)
		close(worker->netlink_fd);
	worker_mailbox_destroy(worker);
	record_destroy(worker->record);
	free(worker);
}

uint32_t worker_port_count(const struct worker *worker)
{
	return worker->port_count;
}

struct record *worker_record(const struct worker *worker)
{
	return worker->record;
}

const struct worker_port *worker_port(const struct worker *worker, uint32_t index)
{
	return &worker->ports[index];
}
