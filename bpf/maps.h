/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps, each pinned under its own name. Sizes come from the loader (-D). Arrays that the daemon writes can be
 * mapped into its memory, where one aligned 8-byte store is one change. */
#ifndef XDPDIRECTOR_MAPS_H
#define XDPDIRECTOR_MAPS_H

#include "decision.h"
#include "explanation.h"
#include "types.h"

#define MAX_FRONTS 16384 /* what a record has bits for */

/* The power of two that is not below a number of at most 32 bits. */
#define FILL1(n)	((n) | (n) >> 1)
#define FILL2(n)	(FILL1(n) | FILL1(n) >> 2)
#define FILL4(n)	(FILL2(n) | FILL2(n) >> 4)
#define FILL8(n)	(FILL4(n) | FILL4(n) >> 8)
#define POWER_OF_TWO(n) ((FILL8((n)-1) | FILL8((n)-1) >> 16) + 1)
#define BUCKETS4	POWER_OF_TWO(MAX_CONNECTIONS / 2)
#define BUCKETS6	POWER_OF_TWO(MAX_CONNECTIONS6 / 2)
#define OPENINGS	(1 << 16)
#define MAX_PORTS	64
#define RESET_BITS	16
#define MAX_REAPED	64
#define MAX_ADOPTED	8
#define MAX_SECONDARY	4096

#define PINNED(type, key, value, name, entries) \
	BPF_TABLE_PINNED(type, key, value, name, entries, PIN_DIR #name)
#define SHARED_ARRAY(value, name, entries) \
	BPF_TABLE_PINNED("array", u32, value, name, entries, PIN_DIR #name, BPF_F_MMAPABLE)

#define PINNED_TRIE(key, name, entries) \
	BPF_TABLE_PINNED("lpm_trie", key, u32, name, entries, PIN_DIR #name, BPF_F_NO_PREALLOC)

/* What most packets are told apart by. */
SHARED_ARRAY(struct entrance, entrance, 1);
/* The VIPs, exactly: consulted for packets only that no listener is found for. */
PINNED("hash", struct vip, u32, vips, MAX_LISTENERS);

/* Listener -> index in `services`, and in `fronts`: see enum listener_bits. */
PINNED("hash", struct listener4, u32, listeners4, MAX_LISTENERS);
PINNED("hash", struct listener6, u32, listeners6, MAX_LISTENERS);
PINNED_TRIE(struct range4, ranges4, MAX_LISTENERS);
PINNED_TRIE(struct range6, ranges6, MAX_LISTENERS);
SHARED_ARRAY(struct service, services, MAX_SERVICES);

/* The rings of all `mh` services, one after another; the members of the others. */
SHARED_ARRAY(struct ring_slot, ring, MAX_RING_SLOTS);
SHARED_ARRAY(struct member_list, members, MAX_SERVICES);

SHARED_ARRAY(struct backend, backends, MAX_BACKENDS);
SHARED_ARRAY(struct load_list, loads, 1);

/* Connections, by bucket: see table.h. With as many buckets as connections a quarter of the entries is used, and none finds
 * its two buckets full: of random flows the first one does at 40 % (simulated with 2^18 buckets). Mapped arrays begin at a page, so that a bucket is whole cache lines. */
SHARED_ARRAY(struct bucket4, connections4, BUCKETS4);
SHARED_ARRAY(struct bucket6, connections6, BUCKETS6);
SHARED_ARRAY(struct front, fronts, MAX_FRONTS);
/* SYNs of flows whose slot is in flux -> sequence number. */
PINNED("lru_hash", struct opening, u32, openings, OPENINGS);
/* Which records the program `reap` shall forget; the first that is 0 ends the list. */
SHARED_ARRAY(struct reaped, reaping, MAX_REAPED);
/* And which the program `adopt` shall put into the table. */
SHARED_ARRAY(struct adopted, adopting, MAX_ADOPTED);

/* Persistence: client -> backend. Who has only shown a packet is a newcomer, and a flood of those drives out its own; who
 * has confirmed a connection stays until the daemon's sweep finds that its time is over. Clients that `clients` had no
 * room for. */
PINNED("lru_hash", struct client, struct affinity, newcomers, MAX_CLIENTS);
PINNED("hash", struct client, struct regular, clients, MAX_CLIENTS);
PINNED("percpu_array", u32, u64, turned_away, 1);
/* Fragmented packets on their way: from the first fragment to the others. */
PINNED("lru_hash", struct fragment, struct affinity, fragments, MAX_FRAGMENTS);

/* MACs besides its own that an interface takes frames for, as little-endian numbers: of containers, on macvlans. */
PINNED("hash", u64, u32, secondary_macs, MAX_SECONDARY);

/* Whose frames are not scheduled, as they have been: see directed.h. For a moment a backend has its old MAC and its new. */
PINNED("hash", struct sender, u32, senders, 2 * MAX_BACKENDS);

/* The guard. Denied prefix -> index in `denials`, which counts the packets. Limits by service, and until when there has
 * been paid for its connections; the same by source. Connections refused, by service. */
PINNED_TRIE(struct prefix4, denied4, MAX_DENIED);
PINNED_TRIE(struct prefix6, denied6, MAX_DENIED);
PINNED("percpu_array", u32, u64, denials, MAX_DENIED);
PINNED("array", u32, struct limit, limits, MAX_SERVICES);
PINNED("array", u32, u64, paid, MAX_SERVICES);
PINNED("lru_hash", struct source, u64, sources, MAX_SOURCES);
PINNED("percpu_array", u32, struct refusals, refusals, MAX_SERVICES);

/* Counters: packets by reason, traffic by backend. */
PINNED("percpu_array", u32, u64, verdicts, REASONS);
PINNED("percpu_array", u32, struct traffic, traffic, MAX_BACKENDS);
/* What is not counted there any more, for the daemon: first of services that are gone, then of the backends that each service
 * had. */
SHARED_ARRAY(struct traffic, departed, MAX_SERVICES + 1);

/* The stages of the program that runs, and of the one it replaces; and what one hands to the next. */
PINNED("prog", u32, u32, stages, 8192);
PINNED("percpu_array", u32, struct aside, asides, 2); /* the second is for explanations */

/* Written by the program that explains, for the daemon, which asks one thing at a time. */
PINNED("array", u32, struct explanation, explanations, 1);

/* What is to be told of decisions, to whom watches; the telling; what is told, and where it is put together. */
PINNED("array", u32, struct trace, traces, 1);
PINNED("percpu_array", u32, struct telling, tellings, 1);
PINNED("percpu_array", u32, struct decision, drafts, 1);

/* BCC's own macro for a ring buffer has no pin. */
struct decisions_table_t {
	int key;
	u32 leaf;
	int (*ringbuf_output)(void *, u64, u64);
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_discard)(void *, u64);
	void (*ringbuf_submit)(void *, u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PIN_DIR "decisions"))) struct decisions_table_t decisions = {
	.max_entries = DECISIONS_SIZE
};

/* How much went out in the present jiffy, by kind. Until when there has been paid for RSTs to a sender. */
PINNED("percpu_array", u32, struct allowance, allowances, ALLOWANCES);
SHARED_ARRAY(u64, resets, 1 << RESET_BITS);

/* Interfaces to redirect to. BCC's own macro for this type of map has no pin. */
struct ports_table_t {
	u32 key;
	int leaf;
	u64 (*redirect_map)(int, int);
	u32 max_entries;
};
__attribute__((section("maps/devmap:" PIN_DIR
		       "ports"))) struct ports_table_t ports = { .max_entries = MAX_PORTS };

/* Names of services and backends by index; for people and for a daemon that adopts these maps. */
SHARED_ARRAY(struct label, service_labels, MAX_SERVICES);
SHARED_ARRAY(struct label, backend_labels, MAX_BACKENDS);

#endif
