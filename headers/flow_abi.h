/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A flow that the kernel carries: what the daemon and the BPF programs share
 * about it. The hash map `flow_keys` leads from the addresses of an arriving
 * packet to an entry of the memory-mapped array `flows`, and says which
 * direction the packet takes.
 *
 * Each direction ("half") holds how its packets are rewritten, filled in by
 * the daemon before `phase` lets packets through, and what BPF has seen of
 * them. Sequence and acknowledgement numbers are in host order.
 *
 *   half[FLOW_UP]    packets of the client, rewritten to the upstream
 *   half[FLOW_DOWN]  packets of the upstream, rewritten to the client
 *
 * An entry is used again only after both keys are gone and a rest; a key holds
 * the generation of the entry that it was made for.
 */
#ifndef SOCKSPLICE_FLOW_ABI_H
#define SOCKSPLICE_FLOW_ABI_H

#include <linux/types.h>

#include "addr.h"
#include "base.h"

#define FLOW_UP 0
#define FLOW_DOWN 1

/*
 * Default size of the tables, and the one of an object loaded by `ip link`. Two keys lead to each entry; and as many
 * flows as there are entries may be relayed in user space, each with a key that leads to no entry.
 */
#define FLOW_DEFAULT_ENTRIES 65536
#define FLOW_KEYS_PER_ENTRY 3
/* flow_ref.index of a client key whose flow is relayed in user space: its packets go there whatever the rules say. */
#define FLOW_INDEX_RELAYED 0xffffffffu

/*
 * name, text, phases that may follow.
 *   PENDING   the upstream socket is being dialled and talks SOCKS5; its ACKs are clamped once `clamp_on` is set
 *   OPENING   client→upstream is open; upstream→client opens at the client's first valid segment
 *   SPLICED   both directions are rewritten; the socket is gone
 *   RELAYED   user space carries the payload; the socket's window may need translation for the life of the flow
 *   ABORTING  the socket is being reset: its packets pass
 */
#define FLOW_PHASES(X)                                                                                                 \
	X(FREE, "free", BIT(FLOW_PHASE_PENDING))                                                                       \
	X(PENDING, "pending", BIT(FLOW_PHASE_OPENING) | BIT(FLOW_PHASE_RELAYED) | BIT(FLOW_PHASE_FREE))                \
	X(OPENING, "opening", BIT(FLOW_PHASE_SPLICED) | BIT(FLOW_PHASE_ABORTING) | BIT(FLOW_PHASE_FREE))               \
	X(SPLICED, "spliced", BIT(FLOW_PHASE_FREE))                                                                    \
	X(RELAYED, "relayed", BIT(FLOW_PHASE_FREE))                                                                    \
	X(ABORTING, "aborting", BIT(FLOW_PHASE_FREE))

enum flow_phase {
#define X(name, text, next) FLOW_PHASE_##name,
	FLOW_PHASES(X)
#undef X
		FLOW_PHASE_COUNT
};

/* As the arriving packet carries them. */
struct flow_key {
	struct addr src, dst;
	__be16 sport, dport;
};

struct flow_ref {
	__u32 index;
	__u32 generation : 31;
	__u32 direction : 1; /* FLOW_UP, FLOW_DOWN */
};

#define FLOW_GENERATION_MASK 0x7fffffffu

/* flow_half.seen */
#define FLOW_SEEN_ANY 0x01
#define FLOW_SEEN_FIN 0x02
#define FLOW_SEEN_FIN_ACKED 0x04 /* the other side has acknowledged this side's FIN */
#define FLOW_SEEN_RST 0x08       /* in the receiver's window */

struct flow_half {
	/* how a packet leaves */
	struct addr src, dst;
	__be16 sport, dport;
	__u32 ifindex;
	__u32 seq_add, ack_add;     /* ack_add: for the ACK field and SACK blocks */
	__u32 tsval_add, tsecr_add; /* 0: timestamps stay as they are */
	__u32 l3_diff, l4_diff;     /* one's complement differences: addresses; ports */
	__u8 dmac[6], smac[6];      /* for XDP, which cannot ask the neighbour table */
	__u8 mac_valid;             /* cleared by BPF when the hosts behind it have moved: tc resolves then */
	__s8 window_shift;          /* > 0: to the left */
	__u16 vlan_tci;
	__u8 has_vlan;
	__u8 pad0[3];

	/* what was seen */
	__u32 seen;
	__u32 next_seq; /* behind the highest byte, in this side's numbers as they arrive */
	__u32 fin_end;  /* behind the FIN, in the receiver's numbers */
	__u32 ack;      /* newest ACK field, in this side's numbers as they arrive */
	__u32 tsval;    /* newest, as it arrived */
	__u32 tsecr;
	__u16 window; /* newest, unscaled, as it arrived */
	__u16 pad1;
	__u32 rtt_us; /* smoothed, from here to the receiver of this direction and back; 0: unknown */
	__u32 probe_tsval;
	__u32 probe_after_ms; /* no new probe before */
	__u64 probe_ns;       /* 0: no probe is out */
	__u64 packets, payload_bytes;
	__u64 last_ns; /* CLOCK_MONOTONIC, coarse */
};

/* Options that a SYN or SYN-ACK carried. */
struct flow_options {
	__u16 mss; /* 0: not given */
	__u8 wscale;
	__u8 flags; /* FLOW_OPTION_* */
};

#define FLOW_OPTION_TIMESTAMPS 0x01
#define FLOW_OPTION_SACK 0x02
#define FLOW_OPTION_WSCALE 0x04

/* flow_entry.held */
#define FLOW_HELD_DATA 0x01
#define FLOW_HELD_FIN 0x02 /* right behind held_end, if nothing came after it */
#define FLOW_HELD_RST 0x04

/* flow_entry.flags */
#define FLOW_FLAG_CLAMP_AT_SYNACK 0x01 /* `pipeline`: the clamp is armed by BPF at the upstream's IRS + 1 */

struct flow_entry {
	struct flow_half half[2];

	__u32 phase; /* enum flow_phase; written last, by the daemon alone */
	__u32 generation;
	__u32 flags;
	__u32 client_isn;
	__u32 clamp_on, clamp; /* highest ACK that the upstream socket may send */
	__u32 hold;            /* first sequence number of the upstream that belongs to the client */
	/* what passed between the socket and the upstream, as BPF saw it: so nobody has to ask the socket */
	__u32 upstream_isn, own_isn;
	__u32 own_tsval;             /* newest that the socket has sent */
	__u32 held_end;              /* behind the highest byte of the upstream that was passed up to the socket */
	__u32 held;                  /* FLOW_HELD_* */
	__u32 reported;              /* FLOW_REPORTED_* */
	struct flow_options offered; /* by the client: what the upstream's SYN must offer too */
	struct flow_options agreed;  /* by the upstream's SYN-ACK */
	__u8 has_synack;
	__u8 own_wscale;   /* what the socket itself wanted to offer, seen in its SYN */
	__s8 window_shift; /* of the socket's own packets at egress, while the daemon relays or still talks SOCKS5 */
	__u8 pad0;
	__u32 upstream_ifindex; /* where the upstream's packets come in: nobody elsewhere may speak for it. 0: anywhere
				 */
	__u32 upstream_id;      /* which upstream of the configuration: hash of its name */
	__u64 created_ns;       /* CLOCK_MONOTONIC */
	__u64 owner;            /* id of the daemon process that made the entry */
	__u64 reset_ns;         /* when an RST in the window was seen last */
};

/* flow_entry.reported: each fact is told once, and stands here in case the report is lost. */
#define FLOW_REPORTED_FIRST 0x01
#define FLOW_REPORTED_DONE 0x02
#define FLOW_REPORTED_RESET 0x04

enum flow_report_kind {
	FLOW_REPORT_FIRST = 1, /* the client's first valid segment: it is ESTABLISHED */
	FLOW_REPORT_DONE = 2,  /* both FINs acknowledged, or an RST in the window */
	FLOW_REPORT_RESET = 3, /* the upstream sent an RST before the client was established */
};

/* An element of the ring buffer `reports`. */
struct flow_report {
	__u32 index;
	__u32 generation;
	__u32 kind;
	__u32 pad;
};

_Static_assert(sizeof(struct flow_key) == 36, "a hash key without padding");
_Static_assert(sizeof(struct flow_ref) == 8, "shared with the kernel programs");
_Static_assert(sizeof(struct flow_half) == 160, "shared with the kernel programs");
_Static_assert(sizeof(struct flow_entry) == 416, "shared with the kernel programs");

#endif
