/* SPDX-License-Identifier: MIT */
/*
 * The data-path thread. One turn: packets from the AF_XDP rings into the
 * stack, completions into the bridge, timers, sends, transmit. It blocks in
 * one place only, the ring, where a multishot poll on each AF_XDP socket wakes
 * it; before that it spins WORKER_SPIN_NS after the last work, which is
 * cheaper than a wake-up for packets that come back to back.
 */
#include "worker_priv.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "route.h"

#define WORKER_SPIN_NS 30000
/* While the kernel has not taken all packets of a transmit ring, it is asked again this often. */
#define WORKER_TX_RETRY_NS 200000
/* Of all frames, what reception from upstreams leaves free for packets of clients and for our own segments. */
#define WORKER_RESERVE_SHARE 8
/* What a TAP brings in one turn is passed on while it is in the CPU's own cache; the rest waits in the kernel. */
#define WORKER_TAP_BYTES_PER_TURN (256u << 10)
/* Acknowledgements are short: all that wait are taken before timers run, or these would take them for lost. */
#define WORKER_PACKETS_PER_TURN 1024
#define WORKER_COMPLETIONS_PER_STRETCH 128
#define WORKER_COMPLETIONS_PER_TURN 4096
#define WORKER_STOP_LIMIT_NS 700000000ull
#define WORKER_RESETS_PER_TURN 512

uint64_t worker_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

int worker_transmit(void *ctx, uint16_t port, uint32_t frame, uint16_t off, uint16_t len, uint16_t segment_bytes)
{
	struct worker *worker = ctx;

	if (worker->ports[port].hook == CONFIG_HOOK_TC)
		return tap_transmit(&worker->taps[port], frame, off, len, segment_bytes);
	return xsk_transmit(&worker->sockets[worker->first_socket[port]], frame, off, len);
}

void worker_flush(void *ctx)
{
	struct worker *worker = ctx;

	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].hook == CONFIG_HOOK_TC)
			tap_flush(&worker->taps[i]);
	for (uint32_t i = 0; i < worker->socket_count; i++)
		if (worker->sockets[i].tx_unkicked)
			xsk_kick(&worker->sockets[i]);
}

void worker_update_topology(struct worker *worker)
{
	struct addr addrs[CFG_MAX_LOCAL_ADDRS];
	int count = topo_read_local_addrs(addrs, CFG_MAX_LOCAL_ADDRS);

	if (count < 0 || bpfload_set_local_addrs(worker->bpf, addrs, (uint32_t)count))
		log_warn("cannot refresh the gateway's own addresses; the old ones stay in force");
	for (uint32_t i = 0; i < worker->port_count; i++) {
		struct topo_interface now;
		struct stack_port port;

		if (topo_read_interface(worker->ports[i].name, &now) || now.ifindex != worker->ports[i].ifindex)
			continue;
		worker->topo[i] = now;
		/* a larger MTU than the frames were made for would not fit them; a TAP's packets may lie in several */
		if (worker->ports[i].hook != CONFIG_HOOK_TC &&
		    (!umem_frame_bytes_for(now.mtu) || umem_frame_bytes_for(now.mtu) > worker->umem.pool.frame_bytes)) {
			log_warn("%s: MTU %u is too large for the frames in use; restart to use it", now.name, now.mtu);
			now.mtu = worker->ports[i].mtu;
		}
		port = (struct stack_port){.mtu = (uint16_t)now.mtu,
					   .partial_checksum_ok = now.is_virtual,
					   .offload = worker->ports[i].hook == CONFIG_HOOK_TC};
		memcpy(port.mac, now.mac, sizeof(port.mac));
		topo_read_own_addrs(now.name, port.own);
		stack_set_port(worker->stack, (uint16_t)i, &port);
	}
}

/* Addresses, links, routes or neighbours have changed. */
static void worker_follow_network(struct worker *worker)
{
	struct route_changes changes;

	route_drain_monitor(worker->netlink_fd, &changes);
	if (changes.links || changes.addresses)
		worker_update_topology(worker);
	if ((changes.links || changes.addresses || changes.routes) && bridge_update_routes(worker->bridge)) {
		assoc_routes_changed(worker->assocs);
		worker_follow_uplinks(worker);
	}
	if (changes.links) {
		for (uint32_t i = 0; i < worker->port_count; i++)
			worker_tell_port(worker, i);
		worker_tell_uplinks(worker);
	}
	if (changes.neighbours && bridge_update_next_hop(worker->bridge))
		assoc_forget_next_hops(worker->assocs);
}

static void worker_watch(struct worker *worker, enum worker_op op, uint32_t index, int fd)
{
	uring_poll_multishot(&worker->uring, (union uring_word){.index = index, .op = (uint8_t)op}, fd);
}

static void worker_watch_all(struct worker *worker)
{
	for (uint32_t i = 0; i < worker->socket_count; i++)
		worker_watch(worker, WORKER_OP_XSK, i, worker->sockets[i].fd);
	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].hook == CONFIG_HOOK_TC)
			worker_watch(worker, WORKER_OP_TAP, i, worker->taps[i].fd);
	worker_watch(worker, WORKER_OP_REPORTS, 0, splice_fd(bridge_splice(worker->bridge)));
	worker_watch(worker, WORKER_OP_WAKE, 0, worker->mailbox.wake_fd);
	worker_watch(worker, WORKER_OP_NETLINK, 0, worker->netlink_fd);
	if (worker->dns)
		worker_watch(worker, WORKER_OP_DNS, 0, dns_service_fd(worker->dns));
	if (worker->resolver_fd >= 0)
		worker_watch(worker, WORKER_OP_RESOLVER, 0, worker->resolver_fd);
}

void worker_watch_resolver(struct worker *worker)
{
	int fd = bridge_resolver_fd(worker->bridge);

	if (fd < 0 || worker->resolver_fd >= 0)
		return;
	worker->resolver_fd = fd;
	worker_watch(worker, WORKER_OP_RESOLVER, 0, fd);
}

uint32_t worker_batch_limit(const struct worker *worker)
{
	return worker->config->performance.enable_batch_processing ? worker->config->performance.batch_size : 1;
}

static void worker_count_batch(struct worker_batch *batch, uint32_t count, uint32_t limit)
{
	if (!count)
		return;
	batch->last = count;
	batch->peak = MAX(batch->peak, count);
	batch->batches++;
	batch->packets += count;
	batch->full += count == limit;
}

static uint32_t worker_receive_tap(struct worker *worker, uint32_t index, uint32_t batch, uint64_t now_ns)
{
	struct tap_packet packets[WORKER_MAX_BATCH];
	uint32_t total = 0, bytes = 0, count;

	do {
		count = tap_receive(&worker->taps[index], packets, batch, WORKER_TAP_BYTES_PER_TURN - bytes);
		for (uint32_t j = 0; j < count; j++) {
			bytes += packets[j].bytes;
			stack_input_chain(worker->stack, (uint16_t)index, packets[j].frame, packets[j].bytes,
					  packets[j].checksum_ok, now_ns);
		}
		worker_count_batch(&worker->batch, count, batch);
		total += count;
	} while (count == batch && bytes < WORKER_TAP_BYTES_PER_TURN && total < WORKER_PACKETS_PER_TURN);
	worker->tap_more[index] = count == batch || bytes >= WORKER_TAP_BYTES_PER_TURN;
	return total;
}

static uint32_t worker_receive_xsk(struct worker *worker, uint32_t index, uint32_t batch, uint64_t now_ns)
{
	struct xsk_packet packets[WORKER_MAX_BATCH];
	uint32_t total = 0, count;

	do {
		count = xsk_receive(&worker->sockets[index], packets, batch);
		for (uint32_t j = 0; j < count; j++)
			stack_input(worker->stack, worker->socket_port[index], packets[j].frame, packets[j].off,
				    packets[j].len, now_ns);
		worker_count_batch(&worker->batch, count, batch);
		total += count;
	} while (count == batch && total < WORKER_PACKETS_PER_TURN);
	return total;
}

static uint32_t worker_receive(struct worker *worker, uint64_t now_ns)
{
	uint32_t batch = worker_batch_limit(worker), total = 0;

	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].hook == CONFIG_HOOK_TC)
			total += worker_receive_tap(worker, i, batch, now_ns);
	for (uint32_t i = 0; i < worker->socket_count; i++)
		total += worker_receive_xsk(worker, i, batch, now_ns);
	return total;
}

static void worker_own_completion(struct worker *worker, union uring_word word, uint32_t flags)
{
	int fd = -1;

	switch (word.op) {
	case WORKER_OP_XSK: /* only wakes: the rings are looked at in every turn */
		fd = worker->sockets[word.index].fd;
		break;
	case WORKER_OP_TAP:
		worker->tap_more[word.index] = true;
		fd = worker->taps[word.index].fd;
		break;
	case WORKER_OP_REPORTS: /* only wakes: the ring buffer is looked at in every turn */
		fd = splice_fd(bridge_splice(worker->bridge));
		break;
	case WORKER_OP_WAKE:
		worker_answer(worker);
		fd = worker->mailbox.wake_fd;
		break;
	case WORKER_OP_NETLINK:
		worker_follow_network(worker);
		fd = worker->netlink_fd;
		break;
	case WORKER_OP_DNS:
		dns_service_wake(worker->dns, worker->now_ns);
		fd = dns_service_fd(worker->dns);
		break;
	case WORKER_OP_RESOLVER:
		bridge_resolved(worker->bridge);
		fd = worker->resolver_fd;
		break;
	default:
		return;
	}
	if (!(flags & IORING_CQE_F_MORE))
		worker_watch(worker, (enum worker_op)word.op, word.index, fd);
}

/* One stretch of the completion queue; returns how many there were. */
static uint32_t worker_complete_some(struct worker *worker)
{
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	io_uring_for_each_cqe(&worker->uring.ring, head, cqe) {
		union uring_word word = {.u64 = cqe->user_data};

		count++;
		if (word.op >= ASSOC_FIRST_OP)
			assoc_complete(worker->assocs, word, cqe->res, cqe->flags);
		else if (word.op >= BRIDGE_FIRST_OP)
			bridge_complete(worker->bridge, word, cqe->res, cqe->flags);
		else
			worker_own_completion(worker, word, cqe->flags);
		if (count == WORKER_COMPLETIONS_PER_STRETCH)
			break;
	}
	io_uring_cq_advance(&worker->uring.ring, count);
	worker->uring.completions += count;
	return count;
}

/*
 * What completes makes new submissions, and these make room for themselves by submitting: so the queue is given back in
 * short stretches, or it could overflow while it is being read. Bounded, since packets wait meanwhile.
 */
static uint32_t worker_complete(struct worker *worker)
{
	uint32_t total = 0, count;

	do {
		count = worker_complete_some(worker);
		total += count;
	} while (count == WORKER_COMPLETIONS_PER_STRETCH && total < WORKER_COMPLETIONS_PER_TURN);
	return total;
}

/* Sends what was posted; true while the kernel still has to take some of it. */
static bool worker_send(struct worker *worker)
{
	bool pending = false;

	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->ports[i].hook == CONFIG_HOOK_TC)
			tap_flush(&worker->taps[i]);
	for (uint32_t i = 0; i < worker->socket_count; i++) {
		struct xsk *xsk = &worker->sockets[i];

		if (xsk->tx_unkicked || xsk_tx_pending(xsk))
			xsk_kick(xsk);
		else
			xsk_reclaim(xsk);
		pending = pending || xsk_tx_pending(xsk);
		xsk_refill(xsk, 0);
	}
	return pending;
}

static bool worker_has_input(struct worker *worker)
{
	for (uint32_t i = 0; i < worker->port_count; i++)
		if (worker->tap_more[i])
			return true;
	for (uint32_t i = 0; i < worker->socket_count; i++)
		if (xsk_readable(&worker->sockets[i]))
			return true;
	return false;
}

static void worker_sleep(struct worker *worker, uint64_t now_ns, bool tx_pending)
{
	uint64_t until = stack_next_timer_ns(worker->stack), bridge_timer = bridge_next_timer_ns(worker->bridge);

	if (bridge_timer < until)
		until = bridge_timer;
	if (worker->dns && dns_service_next_timer_ns(worker->dns) < until)
		until = dns_service_next_timer_ns(worker->dns);
	if (assoc_next_timer_ns(worker->assocs) < until)
		until = assoc_next_timer_ns(worker->assocs);
	if (tx_pending && until > now_ns + WORKER_TX_RETRY_NS)
		until = now_ns + WORKER_TX_RETRY_NS;
	if (until <= now_ns || worker_has_input(worker) || bridge_has_work(worker->bridge))
		uring_submit(&worker->uring);
	else
		uring_wait(&worker->uring, until == UINT64_MAX ? UINT64_MAX : until - now_ns);
}

/* One turn; returns how much came in. *tx_pending: see worker_send(). */
static uint32_t worker_turn(struct worker *worker, uint64_t now_ns, bool *tx_pending)
{
	uint32_t work;

	worker->now_ns = now_ns;
	bridge_set_time(worker->bridge, now_ns);
	assoc_set_time(worker->assocs, now_ns);
	work = worker_receive(worker, now_ns);
	work += worker_complete(worker);
	stack_run_timers(worker->stack, now_ns);
	if (worker->dns)
		dns_service_run(worker->dns, now_ns);
	bridge_flush(worker->bridge, worker->umem.pool.total / WORKER_RESERVE_SHARE);
	assoc_flush(worker->assocs);
	stack_flush(worker->stack, now_ns);
	*tx_pending = worker_send(worker);
	return work;
}

static void worker_drain(struct worker *worker)
{
	uint64_t now_ns = worker_now_ns(), limit_ns = now_ns + WORKER_STOP_LIMIT_NS;
	uint32_t left = 1;
	bool tx_pending = true;

	worker->now_ns = now_ns;
	if (worker->dns)
		dns_service_reset_flows(worker->dns, now_ns);
	while (worker->flushing && bridge_flush_spliced(worker->bridge, WORKER_RESETS_PER_TURN))
		worker_flush(worker);
	while ((left || bridge_connections(worker->bridge) || assoc_busy(worker->assocs) || tx_pending) &&
	       now_ns < limit_ns) {
		bridge_set_time(worker->bridge, now_ns);
		assoc_set_time(worker->assocs, now_ns);
		left = bridge_reset_some(worker->bridge, WORKER_RESETS_PER_TURN);
		left += assoc_close_some(worker->assocs, WORKER_RESETS_PER_TURN);
		worker_turn(worker, now_ns, &tx_pending);
		uring_submit(&worker->uring);
		now_ns = worker_now_ns();
	}
	if (bridge_connections(worker->bridge))
		log_warn("%u connections were still closing when the time to stop was over",
			 bridge_connections(worker->bridge));
}

/* The last CPU that this process may use, so that CPU 0 keeps the interrupts it usually has. */
static void worker_pin(void)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (pthread_setaffinity_np(pthread_self(), sizeof(one), &one))
			log_warn("cannot pin the data path to CPU %d: %s", cpu, strerror(errno));
		return;
	}
}

void *worker_run(void *arg)
{
	struct worker *worker = arg;
	uint64_t now_ns = worker_now_ns(), last_work_ns = now_ns;
	bool tx_pending;

	pthread_setname_np(pthread_self(), "socksplice-data");
	if (worker->config->performance.enable_cpu_affinity)
		worker_pin();
	worker->enable_result = uring_enable(&worker->uring);
	if (worker->enable_result) {
		log_error("io_uring: cannot enable the ring: %s", strerror(-worker->enable_result));
		return NULL;
	}
	worker_watch_all(worker);
	while (!atomic_load_explicit(&worker->stopping, memory_order_relaxed)) {
		if (worker_turn(worker, now_ns, &tx_pending))
			last_work_ns = now_ns;
		if (now_ns - last_work_ns < WORKER_SPIN_NS)
			uring_submit(&worker->uring);
		else
			worker_sleep(worker, now_ns, tx_pending);
		now_ns = worker_now_ns();
	}
	worker_drain(worker);
	return NULL;
}
