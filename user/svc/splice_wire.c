/* SPDX-License-Identifier: MIT */
/* The few packets that the daemon itself sends for a flow of the kernel. */
#include "splice_priv.h"

#include <string.h>

#define SPLICE_TIMESTAMP_BYTES 12

int splice_client_link(struct splice *splice, uint32_t index, struct build_link *link)
{
	const struct flow_half *down = &splice_at(splice, index)->half[FLOW_DOWN];

	*link = (struct build_link){
		.src = {.addr = down->src, .port = down->sport},
		.dst = {.addr = down->dst, .port = down->dport},
		.has_vlan = down->has_vlan,
		.vlan_tci = down->vlan_tci,
	};
	memcpy(link->src_mac, down->smac, 6);
	memcpy(link->dst_mac, down->dmac, 6);
	return splice->calls.port_of(splice->calls.ctx, down->ifindex);
}

static void splice_send_client(struct splice *splice, uint32_t index, const struct build_segment *segment)
{
	struct build_link link;
	int port = splice_client_link(splice, index, &link);

	if (port >= 0)
		stack_transmit_segment(splice->stack, (uint16_t)port, &link, segment, NULL, 0);
}

/*
 * Only the number that the receiver expects next ends the connection (RFC 5961 3.2): what it has acknowledged, or, of
 * what is under way, the end. It is closed by one of them and ignores the other.
 */
static void splice_send_resets(const struct splice *splice, const struct endpoint *src, const struct endpoint *dst,
			       uint32_t seq, uint32_t end, uint32_t ack)
{
	rawip_send_reset(&splice->raw, src, dst, seq, ack);
	if ((int32_t)(end - seq) > 0)
		rawip_send_reset(&splice->raw, src, dst, end, ack);
}

void splice_reset_client(struct splice *splice, uint32_t index)
{
	const struct flow_entry *entry = splice_at(splice, index);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];
	const struct endpoint src = {.addr = down->src, .port = down->sport},
			      dst = {.addr = down->dst, .port = down->dport};
	uint32_t seq = up->seen & FLOW_SEEN_ANY ? up->ack : entry->hold;

	/* what the upstream has acknowledged, in the client's numbers */
	splice_send_resets(splice, &src, &dst, seq, down->next_seq + down->seq_add, down->ack + down->ack_add);
}

void splice_reset_upstream(struct splice *splice, uint32_t index)
{
	const struct flow_half *up = &splice_at(splice, index)->half[FLOW_UP];
	const struct flow_half *down = &splice_at(splice, index)->half[FLOW_DOWN];
	const struct endpoint src = {.addr = up->src, .port = up->sport}, dst = {.addr = up->dst, .port = up->dport};

	splice_send_resets(splice, &src, &dst, down->ack, up->next_seq + up->seq_add, up->ack + up->ack_add);
}

/* RFC 5961 4.2: whoever really has the connection ignores it; whoever has lost it answers with an exact RST. */
static void splice_challenge(struct splice *splice, uint32_t index)
{
	const struct flow_entry *entry = splice_at(splice, index);
	const struct flow_half *up = &entry->half[FLOW_UP], *down = &entry->half[FLOW_DOWN];
	struct build_segment segment = {
		.seq = up->ack,
		.ack = down->ack + down->ack_add,
		.window = down->window,
		.flags = SPLICE_TCP_ACK,
	};
	uint32_t tsval = be32(down->tsval), tsecr = be32(up->tsval);

	if (entry->agreed.flags & entry->offered.flags & FLOW_OPTION_TIMESTAMPS) {
		memcpy(segment.options, "\x01\x01\x08\x0a", 4);
		memcpy(segment.options + 4, &tsval, 4);
		memcpy(segment.options + 8, &tsecr, 4);
		segment.option_bytes = SPLICE_TIMESTAMP_BYTES;
	}
	splice->counters.challenge_acks++;
	splice_send_client(splice, index, &segment);
}

bool splice_answer_syn(struct splice *splice, const struct stack_syn *syn, uint64_t now_ns)
{
	const struct flow_key key = {.src = syn->link.dst.addr,
				     .dst = syn->link.src.addr,
				     .sport = syn->link.dst.port,
				     .dport = syn->link.src.port};
	struct flow_ref ref;

	splice->now_ns = now_ns;
	if (!flowmap_find(&splice->map, &key, &ref) || ref.direction != FLOW_UP || ref.index >= splice->used ||
	    !splice->slots[ref.index].in_use)
		return false;
	/* closed in order or reset: the client may use its port again at once */
	if (splice_is_finished(splice_at(splice, ref.index))) {
		if (splice->slots[ref.index].conn == SPLICE_NONE)
			splice_finish(splice, ref.index);
		return false;
	}
	splice_challenge(splice, ref.index);
	return true;
}
