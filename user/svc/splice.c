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

int splice_create(struct splice **out, const struct config *config, struct bpfload *bpf, struct upstreams *upstreams,
		  const struct splice_calls *calls)
{
	struct splice *splice = calloc(1, sizeof(*splice));
	int err;

	if (!splice)
		return -ENOMEM;
	splice->config = config;
	splice->upstreams = upstreams;
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
	slot->upstream = SPLICE_NO_UPSTREAM;
	if (splice->free_tail == SPLICE_NONE)
		splice->free_head = index;
	else
		splice->slots[splice->free_tail].next_free = index;
	splice->free_tail = index;
}

/* A clean entry of a new generation, in phase PENDING before any key leads to it. */
static struct flow_entry *splice_new_entry(struct splice *splice, uint32_t index, const struct flow_options *offered)
{
	const struct upstream *upstream = splice_upstream_of(splice, index);
	struct flow_entry *entry = splice_at(splice, index);
	uint32_t generation = (entry->generation + 1) & FLOW_GENERATION_MASK;
	struct flow_half *up = &entry->half[FLOW_UP];

	memset(entry, 0, sizeof(*entry));
	entry->generation = generation;
	entry->owner = splice->owner;
	entry->created_ns = splice->now_ns;
	entry->upstream_id = upstream->id;
	entry->offered = *offered;
	up->dst = *upstream_address(upstream);
	up->dport = upstream->settings.server.port;
	up->ifindex = entry->upstream_ifindex = (uint32_t)upstream->route.ifindex;
	flowmap_move(entry, FLOW_PHASE_PENDING);
	return entry;
}

static void splice_fill_client(struct splice *splice, uint32_t index, const struct stack_syn *syn)
{
	struct flow_entry *entry = splice_at(splice, index);
	struct flow_half *down = &entry->half[FLOW_DOWN];

	entry->client_isn = syn->isn;
	entry->created_ns = splice->now_ns;
	down->src = syn->link.src.addr;
	down->sport = syn->link.src.port;
	down->dst = syn->link.dst.addr;
	down->dport = syn->link.dst.port;
	down->ifindex = splice->calls.ifindex_of(splice->calls.ctx, syn->port);
	down->has_vlan = syn->link.has_vlan;
	down->vlan_tci = syn->link.vlan_tci;
	memcpy(down->dmac, syn->link.dst_mac, 6);
	memcpy(down->smac, syn->link.src_mac, 6);
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

/* What has nothing to do with the client. */
static enum splice_refusal splice_judge_upstream(const struct splice *splice, const struct upstream *upstream)
{
	if (splice->config->tcp.relay == CONFIG_RELAY_USERSPACE || !splice->config->performance.enable_ebpf)
		return SPLICE_REFUSED_POLICY;
	if (!splice->repair_works)
		return SPLICE_REFUSED_REPAIR;
	if (!upstream->routed)
		return SPLICE_REFUSED_NO_ROUTE;
	if (upstream->route.local)
		return SPLICE_REFUSED_LOCAL_UPSTREAM;
	return SPLICE_ALLOWED;
}

enum splice_refusal splice_judge(const struct splice *splice, uint32_t slot, const struct stack_syn *syn)
{
	const struct upstream *upstream = &splice->upstreams->list[slot];
	enum splice_refusal refusal = splice_judge_upstream(splice, upstream);

	if (refusal)
		return refusal;
	if (addr_is_ipv4(&syn->link.src.addr) != addr_is_ipv4(upstream_address(upstream)))
		return SPLICE_REFUSED_FAMILY;
	if (syn->has_ip_options || (syn->mss && syn->mss < SPLICE_LEAST_MSS))
		return SPLICE_REFUSED_OPTIONS;
	return SPLICE_ALLOWED;
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

static void splice_remove_key(struct splice *splice, uint32_t index, uint32_t direction)
{
	struct splice_slot *slot = &splice->slots[index];
	bool *has = direction == FLOW_UP ? &slot->client_key : &slot->upstream_key;
	struct flow_key key;

	if (!*has)
		return;
	flowmap_key_of(splice_at(splice, index), direction, &key);
	flowmap_remove_key(&splice->map, &key);
	*has = false;
}

/* One try: a pair, the key of the upstream's packets to it, and the socket bound to it. *again: another may do. */
static enum splice_refusal splice_try_port(struct splice *splice, uint32_t index, int fd, bool *again)
{
	struct splice_slot *slot = &splice->slots[index];
	struct upstream *upstream = splice_upstream_of(splice, index);
	struct flow_half *up = &splice_at(splice, index)->half[FLOW_UP];
	enum splice_refusal refusal;
	int err;

	*again = false;
	if (!ports_pool_take(&upstream->ports, splice->now_ns, &slot->source, &slot->port))
		return SPLICE_REFUSED_PORTS;
	up->src = upstream->sources[slot->source];
	up->sport = be16(slot->port);
	refusal = splice_add_key(splice, index, FLOW_DOWN);
	if (!refusal) {
		err = upstream_bind(upstream, fd, slot->source, slot->port);
		if (!err) {
			slot->has_port = true;
			return SPLICE_ALLOWED;
		}
		splice_remove_key(splice, index, FLOW_DOWN);
		*again = err == -EADDRINUSE;
		refusal = SPLICE_REFUSED_PORTS;
	} else if (refusal == SPLICE_REFUSED_KEY_IN_USE) {
		/* a flow to the same server by another name, or one that was adopted, dials from there */
		*again = true;
		refusal = SPLICE_REFUSED_PORTS;
	}
	ports_pool_put(&upstream->ports, slot->source, slot->port, splice->now_ns);
	return refusal;
}

/* A pair of address and port that nobody else on this machine uses. */
static enum splice_refusal splice_take_port(struct splice *splice, uint32_t index, int fd)
{
	enum splice_refusal refusal = SPLICE_REFUSED_PORTS;
	bool again = true;

	for (int tries = 0; again && tries < SPLICE_BIND_TRIES; tries++)
		refusal = splice_try_port(splice, index, fd, &again);
	return refusal;
}

static uint32_t splice_open_slot(struct splice *splice, uint32_t upstream)
{
	uint32_t index = splice_take_slot(splice);

	if (index == SPLICE_NONE)
		return index;
	splice->slots[index] = (struct splice_slot){.in_use = true, .conn = SPLICE_NONE, .upstream = (uint8_t)upstream};
	splice->in_use++;
	splice->peak = MAX(splice->peak, splice->in_use);
	splice->upstreams->list[upstream].entries++;
	return index;
}

enum splice_refusal splice_take(struct splice *splice, uint32_t upstream, const struct stack_syn *syn, int fd,
				uint64_t now_ns, uint32_t *out)
{
	struct flow_options offered = {.mss = syn->mss, .wscale = syn->wscale};
	enum splice_refusal refusal = splice_judge(splice, upstream, syn);
	uint32_t index;

	splice->now_ns = now_ns;
	if (refusal)
		return refusal;
	index = splice_open_slot(splice, upstream);
	if (index == SPLICE_NONE)
		return SPLICE_REFUSED_TABLE;
	offered.flags =
		(uint8_t)((syn->has_timestamp ? FLOW_OPTION_TIMESTAMPS : 0) |
			  (syn->sack_permitted ? FLOW_OPTION_SACK : 0) | (syn->has_wscale ? FLOW_OPTION_WSCALE : 0));
	splice_new_entry(splice, index, &offered);
	splice_fill_client(splice, index, syn);
	splice_hold_name(splice, index);
	if (splice->upstreams->list[upstream].settings.pipeline)
		splice_at(splice, index)->flags = FLOW_FLAG_CLAMP_AT_SYNACK;
	/* before the port: if it is in use, the socket can be tried once more */
	refusal = splice_add_key(splice, index, FLOW_UP);
	if (!refusal)
		refusal = splice_take_port(splice, index, fd);
	if (refusal) {
		splice_release(splice, index, now_ns);
		return refusal;
	}
	*out = index;
	return SPLICE_ALLOWED;
}

enum splice_refusal splice_take_warm(struct splice *splice, uint32_t upstream, const struct flow_options *offered,
				     int fd, uint64_t now_ns, uint32_t *out)
{
	enum splice_refusal refusal = splice_judge_upstream(splice, &splice->upstreams->list[upstream]);
	uint32_t index;

	splice->now_ns = now_ns;
	if (refusal)
		return refusal;
	index = splice_open_slot(splice, upstream);
	if (index == SPLICE_NONE)
		return SPLICE_REFUSED_TABLE;
	splice_new_entry(splice, index, offered);
	refusal = splice_take_port(splice, index, fd);
	if (refusal) {
		splice_release(splice, index, now_ns);
		return refusal;
	}
	*out = index;
	return SPLICE_ALLOWED;
}

enum splice_refusal splice_give_client(struct splice *splice, uint32_t index, const struct stack_syn *syn,
				       uint64_t now_ns)
{
	enum splice_refusal refusal;

	splice->now_ns = now_ns;
	splice_fill_client(splice, index, syn);
	refusal = splice_add_key(splice, index, FLOW_UP);
	if (!refusal)
		splice_hold_name(splice, index);
	return refusal;
}

/* --- giving back --- */

void splice_remove_keys(struct splice *splice, uint32_t index)
{
	splice_remove_key(splice, index, FLOW_UP);
	splice_remove_key(splice, index, FLOW_DOWN);
}

static void splice_count_flow(struct splice *splice, uint32_t index)
{
	struct upstream *upstream = splice_upstream_of(splice, index);

	if (!upstream)
		return;
	splice->slots[index].counted = true;
	upstream->spliced++;
}

void splice_let_go(struct splice *splice, uint32_t index)
{
	splice->slots[index].conn = SPLICE_NONE;
	splice->counters.spliced++;
	splice_count_flow(splice, index);
}

void splice_release(struct splice *splice, uint32_t index, uint64_t now_ns)
{
	struct splice_slot *slot = &splice->slots[index];
	struct upstream *upstream = splice_upstream_of(splice, index);
	struct flow_entry *entry = splice_at(splice, index);

	if (!slot->in_use)
		return;
	if (slot->traced)
		trace_end(splice->calls.trace, now_ns, "the kernel's entry is removed");
	wheel_cancel(&splice->wheel, &slot->timer);
	splice_remove_keys(splice, index);
	if (slot->named)
		dnsmap_release(splice->calls.names, slot->name);
	if (upstream && slot->has_port)
		ports_pool_put(&upstream->ports, slot->source, slot->port, now_ns);
	if (upstream) {
		upstream->entries--;
		upstream->spliced -= slot->counted;
	}
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

bool splice_demote(struct splice *splice, uint32_t index, bool keep_client_key)
{
	bool kept = keep_client_key && splice->slots[index].client_key;
	struct flow_entry *entry = splice_at(splice, index);

	flowmap_move(entry, FLOW_PHASE_RELAYED);
	if (keep_client_key)
		splice->slots[index].client_key = false;
	splice_remove_key(splice, index, FLOW_UP);
	if (!entry->window_shift)
		splice_remove_key(splice, index, FLOW_DOWN);
	return kept;
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
	struct upstream *upstream = splice_upstream_of(splice, index);
	const struct flow_half *up = &splice_at(splice, index)->half[FLOW_UP];
	uint16_t port = be16(up->sport);

	for (uint32_t i = 0; upstream && i < upstream->source_count; i++) {
		if (!addr_equal(&upstream->sources[i], &up->src))
			continue;
		slot->source = i;
		slot->port = port;
		slot->has_port = ports_pool_claim(&upstream->ports, i, port);
		return;
	}
}

/*
 * Its packets come by interfaces that have programs. An interface of clients that has left the configuration has lost
 * its own, and an uplink may be gone: what went by it would hang until `idle-timeout`.
 */
static bool splice_is_reachable(const struct splice *splice, const struct flow_entry *entry)
{
	return splice->calls.port_of(splice->calls.ctx, entry->half[FLOW_DOWN].ifindex) >= 0 &&
	       splice->calls.has_uplink(splice->calls.ctx, entry->upstream_ifindex);
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

	uint32_t upstream = upstreams_find(splice->upstreams, entry->upstream_id);

	*slot = (struct splice_slot){.in_use = true, .conn = SPLICE_NONE, .adopted = true};
	slot->client_key = slot->upstream_key = true;
	slot->upstream = upstream == UPSTREAMS_NONE ? SPLICE_NO_UPSTREAM : (uint8_t)upstream;
	for (int i = 0; i < 2; i++)
		slot->sampled_bytes[i] = entry->half[i].payload_bytes;
	splice->in_use++;
	splice_hold_name(splice, index);
	if (upstream != UPSTREAMS_NONE)
		splice->upstreams->list[upstream].entries++;
	splice->peak = MAX(splice->peak, splice->in_use);
	splice_claim_port(splice, index);
	switch (entry->phase) {
	case FLOW_PHASE_SPLICED:
		if (!splice_is_reachable(splice, entry)) {
			splice_reject(splice, index);
			return;
		}
		splice->counters.adopted++;
		splice_count_flow(splice, index);
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

uint32_t splice_inherited_uplinks(const struct splice *splice, uint32_t *ifindexes, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; splice->inherited && i < splice->map.count; i++) {
		const struct flow_entry *entry = splice_at(splice, i);
		bool known = entry->phase != FLOW_PHASE_SPLICED || !entry->upstream_ifindex;

		for (uint32_t j = 0; !known && j < count; j++)
			known = ifindexes[j] == entry->upstream_ifindex;
		if (!known && count < max)
			ifindexes[count++] = entry->upstream_ifindex;
	}
	return count;
}

void splice_foreign_ports(const struct splice *splice, struct ports_set *out)
{
	bool started = splice->now_ns;

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; splice->inherited && i < (started ? splice->used : splice->map.count); i++) {
		const struct flow_entry *entry = splice_at(splice, i);
		uint16_t port = be16(entry->half[FLOW_UP].sport);

		if (started && (!splice->slots[i].in_use || !splice->slots[i].adopted || splice->slots[i].has_port))
			continue;
		if (entry->phase == FLOW_PHASE_SPLICED)
			ports_set_add(out, port, port);
	}
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
	const struct upstream *upstream = splice_upstream_of(splice, index);

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
		.upstream = upstream ? upstream->settings.name : NULL,
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
		.entry_bytes = (uint32_t)(sizeof(struct flow_entry) + FLOW_KEYS_PER_ENTRY * SPLICE_HASH_ELEMENT_BYTES),
		.slot_bytes = sizeof(struct splice_slot),
	};
	for (uint32_t i = 0; i < splice->upstreams->used; i++) {
		const struct ports_pool *ports = &splice->upstreams->list[i].ports;

		out->ports_total += ports->total;
		out->ports_in_use += ports->in_use;
		out->ports_exhausted += ports->exhausted;
	}
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
