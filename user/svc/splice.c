/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An entry of the kernel's table carries one connection; a slot beside it
 * holds what only the daemon knows. offload.c takes an entry when a SYN
 * arrives (PENDING), fills it in when the upstream has said yes (OPENING) and
 * lets go of it when the client is established (SPLICED). From then on no
 * thread of the daemon touches the flow: BPF rewrites its packets and notes
 * how it ends.
 *
 *   splice.c       taking, giving back, adopting, describing
 *   splice_life.c  what becomes of a flow: reports, rest after its end, idleness, flushing
 *   splice_wire.c  the few packets that the daemon itself sends for a flow
 *
 * Nothing costs time in proportion to the table: entries are taken from a
 * queue (oldest first), ends are reported by BPF. A slow sweep finds what was
 * not reported (a full ring buffer) and what is idle.
 *
 * An entry is used again only after both keys are gone and it has rested; a
 * key names the generation of the entry that it was made for.
 *
 * Entries outlive the process. The next daemon adopts those that are SPLICED;
 * those whose interface is no longer configured are reset toward both ends.
 * What was in the middle of a handover lost its socket with the process: both
 * ends of an OPENING flow are reset; of a PENDING one only the upstream, as
 * its client still waits for a SYN-ACK and will ask again.
 */
#include "splice_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "repair.h"

#define SPLICE_BIND_TRIES 16
/* tcp(7) accepts no less by TCP_MAXSEG (TCP_MIN_MSS of the kernel) */
#define SPLICE_LEAST_MSS 88

/* linux/kernel/bpf/hashtab.c: struct htab_elem is 48 bytes, key and value behind it are rounded up to 8 each; and a
 * bucket of 16 bytes for each element of the next power of two. */
#define SPLICE_HASH_ELEMENT_BYTES (48 + (sizeof(struct flow_key) + 7) / 8 * 8 + sizeof(struct flow_ref) + 16)

int splice_create(struct splice **out, const struct config *config, struct bpfload *bpf, struct upstream *upstream,
		  const struct splice_calls *calls)
{
	struct splice *splice = calloc(1, sizeof(*splice));
	int err;

	if (!splice)
		return -ENOMEM;
	splice->config = config;
	splice->upstream = upstream;
	splice->calls = *calls;
	splice->free_head = splice->free_tail = SPLICE_NONE;
	splice->raw.fd4 = splice->raw.fd6 = -1;
	splice->inherited = bpfload_inherited(bpf);
	splice->repair_works = !repair_probe();
	if (getrandom(&splice->owner, sizeof(splice->owner), 0) != sizeof(splice->owner))
		splice->owner = 1;
	err = flowmap_open(&splice->map, bpf, splice_on_report, splice);
	if (err)
		goto fail;
	splice->slots = calloc(splice->map.count, sizeof(*splice->slots));
	err = splice->slots ? rawip_open(&splice->raw) : -ENOMEM;
	if (err)
		goto fail;
	*out = splice;
	return 0;

fail:
	splice_destroy(splice);
	return err;
}

void splice_destroy(struct splice *splice)
{
	if (!splice)
		return;
	rawip_close(&splice->raw);
	flowmap_close(&splice->map);
	free(splice->slots);
	free(splice);
}

void splice_set_stack(struct splice *splice, struct stack *stack)
{
	splice->stack = stack;
}

int splice_fd(const struct splice *splice)
{
	return flowmap_fd(&splice->map);
}

struct flow_entry *splice_entry(struct splice *splice, uint32_t index)
{
	return splice_at(splice, index);
}

void splice_set_conn(struct splice *splice, uint32_t index, uint32_t conn)
{
	splice->slots[index].conn = conn;
}

void splice_set_traced(struct splice *splice, uint32_t index)
{
	splice->slots[index].traced = true;
}

/* --- slots --- */

static uint32_t splice_take_slot(struct splice *splice)
{
	uint32_t index = splice->free_head;

	if (index != SPLICE_NONE && splice->now_ns - splice->slots[index].freed_ns >= SPLICE_REST_NS) {
		splice->free_head = splice->slots[index].next_free;
		if (splice->free_head == SPLICE_NONE)
			splice->free_tail = SPLICE_NONE;
		return index;
	}
	return splice->used < splice->map.count ? splice->used++ : SPLICE_NONE;
}

static void splice_put_slot(struct splice *splice, uint32_t index, uint64_t freed_ns)
{
	struct splice_slot *slot = &splice->slots[index];

	memset(slot, 0, sizeof(*slot));
	slot->freed_ns = freed_ns;
	slot->next_free = SPLICE_NONE;
	slot->conn = SPLICE_NONE;
	if (splice->free_tail == SPLICE_NONE)
		splice->free_head = index;
	else
		splice->slots[splice->free_tail].next_free = index;
	splice->free_tail = index;
}

/* A clean entry of a new generation. */
static struct flow_entry *splice_new_entry(struct splice *splice, uint32_t index, const struct stack_syn *syn)
{
	struct flow_entry *entry = splice_at(splice, index);
	uint32_t generation = (entry->generation + 1) & FLOW_GENERATION_MASK;
	struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];

	memset(entry, 0, sizeof(*entry));
	entry->generation = generation;
	entry->client_isn = syn->isn;
	entry->owner = splice->owner;
	entry->created_ns = splice->now_ns;
	entry->upstream_id = splice->upstream->id;
	entry->offered = (struct flow_options){.mss = syn->mss, .wscale = syn->wscale};
	entry->offered.flags =
		(uint8_t)((syn->has_timestamp ? FLOW_OPTION_TIMESTAMPS : 0) |
			  (syn->sack_permitted ? FLOW_OPTION_SACK : 0) | (syn->has_wscale ? FLOW_OPTION_WSCALE : 0));
	entry->flags = splice->config->upstreams[0].pipeline ? FLOW_FLAG_CLAMP_AT_SYNACK : 0;
	up->dst = splice->config->upstreams[0].server.addr;
	up->dport = splice->config->upstreams[0].server.port;
	up->ifindex = entry->upstream_ifindex = (uint32_t)splice->upstream->route.ifindex;
	down->src = syn->link.src.addr;
	down->sport = syn->link.src.port;
	down->dst = syn->link.dst.addr;
	down->dport = syn->link.dst.port;
	down->ifindex = splice->calls.ifindex_of(splice->calls.ctx, syn->port);
	down->has_vlan = syn->link.has_vlan;
	down->vlan_tci = syn->link.vlan_tci;
	memcpy(down->dmac, syn->link.dst_mac, 6);
	memcpy(down->smac, syn->link.src_mac, 6);
	return entry;
}

/* Not to be given to another name while the flow lives; also that of a flow whose name was lost in between. */
static void splice_hold_name(struct splice *splice, uint32_t index)
{
	struct splice_slot *slot = &splice->slots[index];

	if (!splice->calls.names)
		return;
	slot->name = dnsmap_hold_addr(splice->calls.names, &splice_at(splice, index)->half[FLOW_DOWN].src);
	slot->named = slot->name != DNSMAP_NONE;
}

/* --- taking --- */

static enum splice_refusal splice_judge(const struct splice *splice, const struct stack_syn *syn)
{
	const struct upstream *upstream = splice->upstream;

	if (splice->config->tcp.relay == CONFIG_RELAY_USERSPACE || !splice->config->performance.enable_ebpf)
		return SPLICE_REFUSED_POLICY;
	if (!splice->repair_works)
		return SPLICE_REFUSED_REPAIR;
	if (!upstream->routed)
		return SPLICE_REFUSED_NO_ROUTE;
	if (upstream->route.local)
		return SPLICE_REFUSED_LOCAL_UPSTREAM;
	if (addr_is_ipv4(&syn->link.src.addr) != addr_is_ipv4(&upstream->settings->server.addr))
		return SPLICE_REFUSED_FAMILY;
	if (syn->has_ip_options || (syn->mss && syn->mss < SPLICE_LEAST_MSS))
		return SPLICE_REFUSED_OPTIONS;
	return SPLICE_ALLOWED;
}

/* A pair of address and port that nobody else on this machine uses. */
static enum splice_refusal splice_take_port(struct splice *splice, uint32_t index, int fd)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_half *up = &splice_at(splice, index)->half[FLOW_UP];

	for (int tries = 0; tries < SPLICE_BIND_TRIES; tries++) {
		int err;

		if (!ports_pool_take(&splice->upstream->ports, splice->now_ns, &slot->source, &slot->port))
			return SPLICE_REFUSED_PORTS;
		err = upstream_bind(splice->upstream, fd, slot->source, slot->port);
		if (!err) {
			slot->has_port = true;
			up->src = splice->upstream->sources[slot->source];
			up->sport = be16(slot->port);
			return SPLICE_ALLOWED;
		}
		ports_pool_put(&splice->upstream->ports, slot->source, slot->port, splice->now_ns);
		if (err != -EADDRINUSE)
			return SPLICE_REFUSED_PORTS;
	}
	return SPLICE_REFUSED_PORTS;
}

static enum splice_refusal splice_add_key(struct splice *splice, uint32_t index, uint32_t direction)
{
	struct splice_slot *slot = &splice->slots[index];
	bool *has = direction == FLOW_UP ? &slot->client_key : &slot->upstream_key;
	struct flow_key key;
	int err;

	flowmap_key_of(splice_at(splice, index), direction, &key);
	err = flowmap_add_key(&splice->map, &key, index, direction);
	*has = !err;
	if (!err)
		return SPLICE_ALLOWED;
	return err == -EEXIST ? SPLICE_REFUSED_KEY_IN_USE : err == -E2BIG ? SPLICE_REFUSED_TABLE : SPLICE_REFUSED_EBPF;
}

enum splice_refusal splice_take(struct splice *splice, const struct stack_syn *syn, int fd, uint64_t now_ns,
				uint32_t *out)
{
	enum splice_refusal refusal = splice_judge(splice, syn);
	uint32_t index;

	splice->now_ns = now_ns;
	if (refusal)
		return refusal;
	index = splice_take_slot(splice);
	if (index == SPLICE_NONE)
		return SPLICE_REFUSED_TABLE;
	splice->slots[index] = (struct splice_slot){.in_use = true, .conn = SPLICE_NONE};
	splice->in_use++;
	splice->peak = MAX(splice->peak, splice->in_use);
	splice_new_entry(splice, index, syn);
	splice_hold_name(splice, index);
	/* before the keys: who finds the entry must find it in a phase */
	flowmap_move(splice_at(splice, index), FLOW_PHASE_PENDING);
	/* before the port: if it is in use, the socket can be tried once more */
	refusal = splice_add_key(splice, index, FLOW_UP);
	if (!refusal)
		refusal = splice_take_port(splice, index, fd);
	if (!refusal)
		refusal = splice_add_key(splice, index, FLOW_DOWN);
	if (refusal) {
		splice_release(splice, index, now_ns);
		return refusal;
	}
	*out = index;
	return SPLICE_ALLOWED;
}

/* --- giving back --- */

void splice_remove_keys(struct splice *splice, uint32_t index)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_key key;

	if (slot->client_key) {
		flowmap_key_of(splice_at(splice, index), FLOW_UP, &key);
		flowmap_remove_key(&splice->map, &key);
	}
	if (slot->upstream_key) {
		flowmap_key_of(splice_at(splice, index), FLOW_DOWN, &key);
		flowmap_remove_key(&splice->map, &key);
	}
	slot->client_key = slot->upstream_key = false;
}

void splice_release(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_entry *entry = splice_at(splice, index);

	if (!slot->in_use)
		return;
	if (slot->traced)
		trace_end(splice->calls.trace, now_ns, "the kernel's entry is removed");
	wheel_cancel(&splice->wheel, &slot->timer);
	splice_remove_keys(splice, index);
	if (slot->named)
		dnsmap_release(splice->calls.names, slot->name);
	if (slot->has_port)
		ports_pool_put(&splice->upstream->ports, slot->source, slot->port, now_ns);
	if (entry->phase == FLOW_PHASE_SPLICED) {
		splice_count_payload(splice, index);
		splice_set_rate(splice, index, FLOW_UP, 0);
		splice_set_rate(splice, index, FLOW_DOWN, 0);
		splice->counters.bytes_up += entry->half[FLOW_UP].payload_bytes;
		splice->counters.bytes_down += entry->half[FLOW_DOWN].payload_bytes;
		splice->counters.packets_up += entry->half[FLOW_UP].packets;
		splice->counters.packets_down += entry->half[FLOW_DOWN].packets;
	}
	if (entry->phase != FLOW_PHASE_FREE)
		flowmap_move(entry, FLOW_PHASE_FREE);
	splice_put_slot(splice, index, now_ns);
	splice->in_use--;
}

void splice_demote(struct splice *splice, uint32_t index, bool keep_client_key)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_entry *entry = splice_at(splice, index);
	struct flow_key key;

	flowmap_move(entry, FLOW_PHASE_RELAYED);
	if (slot->client_key && !keep_client_key) {
		flowmap_key_of(entry, FLOW_UP, &key);
		flowmap_remove_key(&splice->map, &key);
	}
	slot->client_key = false;
	if (slot->upstream_key && !entry->window_shift) {
		flowmap_key_of(entry, FLOW_DOWN, &key);
		flowmap_remove_key(&splice->map, &key);
		slot->upstream_key = false;
	}
}

struct flowmap *splice_map(struct splice *splice)
{
	return &splice->map;
}

/* --- adopting --- */

/* The pair that the flow dials from is one of ours, whatever the configuration says now about others. */
static void splice_claim_port(struct splice *splice, uint32_t index)
{
	struct splice_slot *slot = &splice->slots[index];
	const struct flow_half *up = &splice_at(splice, index)->half[FLOW_UP];
	uint16_t port = be16(up->sport);

	for (uint32_t i = 0; i < splice->upstream->source_count; i++) {
		if (!addr_equal(&splice->upstream->sources[i], &up->src))
			continue;
		slot->source = i;
		slot->port = port;
		slot->has_port = ports_pool_claim(&splice->upstream->ports, i, port);
		return;
	}
}

/*
 * Its packets come by interfaces that have programs. An interface that has left the configuration has lost its own:
 * what went by it would hang until `idle-timeout`.
 */
static bool splice_is_reachable(const struct splice *splice, const struct flow_entry *entry)
{
	const struct upstream *upstream = splice->upstream;

	return splice->calls.port_of(splice->calls.ctx, entry->half[FLOW_DOWN].ifindex) >= 0 &&
	       (!upstream->routed || entry->upstream_ifindex == (uint32_t)upstream->route.ifindex);
}

/* SPLICED, but there is no way to it: both ends are told, unless they have ended it themselves. */
static void splice_reject(struct splice *splice, uint32_t index)
{
	if (splice_is_finished(splice_at(splice, index))) {
		splice_release(splice, index, splice->now_ns);
		return;
	}
	splice->counters.adopted_unreachable++;
	splice_kill(splice, index, splice->now_ns);
}

/*
 * The socket went with its process. The kernel closed it, unless it was just frozen: then without a word, and only this
 * RST tells the upstream. Its client has no SYN-ACK yet and asks again.
 */
static void splice_abandon_pending(struct splice *splice, uint32_t index)
{
	struct flow_entry *entry = splice_at(splice, index);

	if (!entry->has_synack)
		return;
	/* what is filled in after the reply: the socket's own numbers, of which all were acknowledged */
	entry->half[FLOW_UP].ack = entry->clamp;
	entry->half[FLOW_UP].next_seq = entry->half[FLOW_DOWN].ack;
	splice_remove_keys(splice, index);
	splice_reset_upstream(splice, index);
}

static void splice_adopt(struct splice *splice, uint32_t index)
{
	struct splice_slot *slot = &splice->slots[index];
	struct flow_entry *entry = splice_at(splice, index);

	*slot = (struct splice_slot){.in_use = true, .conn = SPLICE_NONE, .adopted = true};
	slot->client_key = slot->upstream_key = true;
	for (int i = 0; i < 2; i++)
		slot->sampled_bytes[i] = entry->half[i].payload_bytes;
	splice->in_use++;
	splice_hold_name(splice, index);
	splice->peak = MAX(splice->peak, splice->in_use);
	splice_claim_port(splice, index);
	switch (entry->phase) {
	case FLOW_PHASE_SPLICED:
		if (splice_is_reachable(splice, entry))
			splice->counters.adopted++;
		else
			splice_reject(splice, index);
		return;
	case FLOW_PHASE_OPENING:
		splice_record(splice, index, RECORD_END_STOPPED);
		splice_reset_client(splice, index);
		/* the key goes first: the guard lets nothing of an opening flow pass */
		splice_remove_keys(splice, index);
		splice_reset_upstream(splice, index);
		break;
	case FLOW_PHASE_PENDING:
		splice_abandon_pending(splice, index);
		break;
	default: /* the kernel ended the socket with its process */
		break;
	}
	splice->counters.adopted_unusable++;
	splice_release(splice, index, splice->now_ns);
}

void splice_start(struct splice *splice, uint64_t now_ns)
{
	uint32_t last = 0;

	splice->now_ns = now_ns;
	splice->next_sweep_ns = now_ns;
	wheel_init(&splice->wheel, now_ns);
	for (uint32_t i = 0; splice->inherited && i < splice->map.count; i++)
		if (splice_at(splice, i)->phase != FLOW_PHASE_FREE)
			last = i + 1;
	splice->used = last;
	if (splice->inherited)
		flowmap_forget_relayed(&splice->map);
	for (uint32_t i = 0; i < last; i++) {
		if (splice_at(splice, i)->phase == FLOW_PHASE_FREE || splice_at(splice, i)->phase >= FLOW_PHASE_COUNT)
			splice_put_slot(splice, i, now_ns);
		else
			splice_adopt(splice, i);
	}
	if (splice->counters.adopted || splice->counters.adopted_unusable)
		log_info("took over %llu spliced flows of an earlier daemon; %llu that were still opening are reset",
			 (unsigned long long)splice->counters.adopted,
			 (unsigned long long)splice->counters.adopted_unusable);
	if (splice->counters.adopted_unreachable)
		log_warn(
			"%llu spliced flows of an earlier daemon are reset: their interface is not configured any more",
			(unsigned long long)splice->counters.adopted_unreachable);
}

/* --- looking at it --- */

bool splice_describe(struct splice *splice, uint32_t index, uint64_t now_ns, struct splice_flow *out)
{
	const struct splice_slot *slot = &splice->slots[index];
	const struct flow_entry *entry = splice_at(splice, index);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];

	(void)now_ns;
	if (index >= splice->used || !slot->in_use || flowmap_phase(entry) != FLOW_PHASE_SPLICED)
		return false;
	*out = (struct splice_flow){
		.client = {.addr = down->dst, .port = down->dport},
		.destination = {.addr = down->src, .port = down->sport},
		.phase = slot->ending ? "closing" : flowmap_phase_name(entry->phase),
		.bytes_up = up->payload_bytes,
		.bytes_down = down->payload_bytes,
		.packets_up = up->packets,
		.packets_down = down->packets,
		.created_ns = entry->created_ns,
		.rate_up = slot->rate[FLOW_UP],
		.rate_down = slot->rate[FLOW_DOWN],
		.client_rtt_us = down->rtt_us,
		.upstream_rtt_us = up->rtt_us,
		.source = {.addr = up->src, .port = up->sport},
		.adopted = slot->adopted,
	};
	return true;
}

bool splice_flow_rates(const struct splice *splice, uint32_t index, struct addr *client, uint64_t rates[2])
{
	const struct splice_slot *slot = &splice->slots[index];

	if (index >= splice->used || !slot->in_use || !(slot->rate[FLOW_UP] | slot->rate[FLOW_DOWN]))
		return false;
	*client = splice_at(splice, index)->half[FLOW_DOWN].dst;
	rates[FLOW_UP] = slot->rate[FLOW_UP];
	rates[FLOW_DOWN] = slot->rate[FLOW_DOWN];
	return true;
}

uint32_t splice_entries(const struct splice *splice)
{
	return splice->used;
}

struct splice_counters *splice_counters(struct splice *splice)
{
	return &splice->counters;
}

void splice_gauges(const struct splice *splice, struct splice_gauges *out)
{
	const struct splice_counters *c = &splice->counters;

	*out = (struct splice_gauges){
		.entries = splice->map.count,
		.in_use = splice->in_use,
		.peak = splice->peak,
		.rate_up = splice->rate[FLOW_UP],
		.rate_down = splice->rate[FLOW_DOWN],
		.ports_total = splice->upstream->ports.total,
		.ports_in_use = splice->upstream->ports.in_use,
		.ports_exhausted = splice->upstream->ports.exhausted,
		.entry_bytes = (uint32_t)(sizeof(struct flow_entry) + FLOW_KEYS_PER_ENTRY * SPLICE_HASH_ELEMENT_BYTES),
		.slot_bytes = sizeof(struct splice_slot),
	};
	out->live =
		(uint32_t)(c->spliced + c->adopted - c->finished - c->finished_reset - c->finished_idle - c->flushed);
}

const char *splice_refusal_name(enum splice_refusal refusal)
{
	static const char *const names[] = {[SPLICE_ALLOWED] = "none",
#define X(id, name) [SPLICE_REFUSED_##id] = #name,
					    SPLICE_REFUSALS(X)
#undef X
	};

	return refusal < SPLICE_REFUSAL_COUNT ? names[refusal] : "unknown";
}

bool splice_has_flows(const struct splice *splice)
{
	struct splice_gauges gauges;

	splice_gauges(splice, &gauges);
	return gauges.live > 0;
}
