/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps. Each is pinned under its own name; sizes come from the loader (-D). Arrays that the
 * daemon writes can be mapped into its memory: one aligned store of 8 bytes is one atomic
 * change. */
#ifndef XDPDIRECTOR_MAPS_H
#define XDPDIRECTOR_MAPS_H

#include "trace_types.h"
#include "explain_types.h"
#include "types.h"

#define MAX_FRONTS 16384 /* bits of a record's `front` */

#define BUCKETS4      POWER_OF_TWO(MAX_CONNECTIONS / 2)
#define BUCKETS6      POWER_OF_TWO(MAX_CONNECTIONS6 / 2)
#define OPENINGS      (1 << 16)
#define MAX_SYNS      (1 << 16)
#define MAX_PORTS     64
#define RESET_BITS    16
#define MAX_REAPED    64
#define MAX_ADOPTED   8
#define MAX_SECONDARY 4096
#define MAX_MERGED    4096

/* BPF_TABLE_PINNED() of BCC, and one field more. Of each map whose second field is its value, BCC makes
 * functions that read and print the value as text (bcc_rw_engine.cc), with statements for each
 * element of an array: 65,000 struct load took 80 s to compile. It finds key and leaf by name. */
#define PINNED_MAP(type, key_type, value, name, entries, map_flags)                             \
	struct name##_table_t {                                                                 \
		key_type key;                                                                   \
		u32 not_as_text;                                                                \
		value leaf;                                                                     \
		value *(*lookup)(key_type *);                                                   \
		int (*update)(key_type *, value *);                                             \
		int (*delete)(key_type *);                                                      \
		void (*call)(void *, int index);                                                \
		u32 max_entries;                                                                \
		int flags;                                                                      \
	};                                                                                      \
	__attribute__((section("maps/" type ":" PIN_DIR #name))) struct name##_table_t name = { \
		.max_entries = (entries), .flags = (map_flags)                                  \
	};                                                                                      \
	BPF_ANNOTATE_KV_PAIR(name, key_type, value)

#define PINNED(type, key, value, name, entries) PINNED_MAP(type, key, value, name, entries, 0)
#define SHARED_ARRAY(value, name, entries) \
	PINNED_MAP("array", u32, value, name, entries, BPF_F_MMAPABLE)
#define PINNED_TRIE(key, name, entries) \
	PINNED_MAP("lpm_trie", key, u32, name, entries, BPF_F_NO_PREALLOC)

/* VIP filter, own MACs, listener cache. */
SHARED_ARRAY(struct entrance, entrance, 1);
/* All VIPs. Looked up only for packets without a listener. */
PINNED("hash", struct vip, u32, vips, MAX_LISTENERS);

/* Listeners: the value has the indices in `services` and `fronts` (enum listener_bits). */
PINNED("hash", struct listener4, u32, listeners4, MAX_LISTENERS);
PINNED("hash", struct listener6, u32, listeners6, MAX_LISTENERS);
PINNED_TRIE(struct range4, ranges4, MAX_LISTENERS);
PINNED_TRIE(struct range6, ranges6, MAX_LISTENERS);
SHARED_ARRAY(struct service, services, MAX_SERVICES);

/* Rings of the mh and sh services, one after another, and members of all services. `owners` repeats
 * what most packets need of `ring`, in a quarter of its cache lines. */
SHARED_ARRAY(struct ring_slot, ring, MAX_RING_SLOTS);
SHARED_ARRAY(struct slot_owners, owners, MAX_RING_SLOTS / 4 + 1);
SHARED_ARRAY(struct member_list, members, MAX_SERVICES);

SHARED_ARRAY(struct backend, backends, MAX_BACKENDS);
SHARED_ARRAY(struct load_list, loads, 1);
/* Of backends with BACKEND_TUNNEL, by the backend's index. */
SHARED_ARRAY(struct tunnel, tunnels, MAX_BACKENDS);
/* Of health checks, by the number in their frames' MAC. */
PINNED("hash", u32, struct probe, probes, MAX_BACKENDS);

/* The conntrack table, by bucket (see conntrack_table.h, eviction.h). There are as many buckets as connections,
 * so a quarter of the entries is used, and no flow finds both of its buckets full: with random
 * flows the first one does at 40 % (simulated with 2^18 buckets). A mapped array starts at a page,
 * so each bucket is made of whole cache lines. */
SHARED_ARRAY(struct bucket4, connections4, BUCKETS4);
SHARED_ARRAY(struct bucket6, connections6, BUCKETS6);
SHARED_ARRAY(struct front, fronts, MAX_FRONTS);
/* SYNs of flows whose slot is in flux: the sequence number. */
PINNED("lru_hash", struct opening, u32, openings, OPENINGS);
/* Argument of the program `reap`: records to delete. A word of 0 ends the list. */
SHARED_ARRAY(struct reaped, reaping, MAX_REAPED);
/* Argument of the program `adopt`: records to insert. */
SHARED_ARRAY(struct adopted, adopting, MAX_ADOPTED);
/* Arguments of the program `merge`: records of another director to insert, and how far it is. */
SHARED_ARRAY(struct merged, merging, MAX_MERGED);
SHARED_ARRAY(struct merge_progress, merge_at, 1);

/* Passive health: SYNs and when they came, by hash; counts by backend (see passive.h). */
SHARED_ARRAY(u64, syns, MAX_SYNS);
PINNED("percpu_array", u32, struct passive, passive, MAX_BACKENDS);

/* QUIC: the backends by the IDs that their connection IDs have, and packets counted by service. */
PINNED("hash", struct quic_id, struct quic_backend, quic_ids, 2 * MAX_BACKENDS);
PINNED("percpu_array", u32, struct quic_counts, quic_counts, MAX_SERVICES);

/* Persistence: client to backend. `newcomers` has clients that showed a single packet: a flood of
 * them evicts its own kind. `clients` has those that confirmed a connection; they stay until the
 * daemon deletes them. `turned_away` counts clients that found `clients` full. */
PINNED("lru_hash", struct client, struct affinity, newcomers, MAX_CLIENTS);
PINNED("hash", struct client, struct regular, clients, MAX_CLIENTS);
PINNED("percpu_array", u32, u64, turned_away, 1);
/* Fragmented packets: the first fragment's backend, for the later ones. */
PINNED("lru_hash", struct fragment, struct affinity, fragments, MAX_FRAGMENTS);

/* MACs besides its own for which an interface accepts frames (containers on macvlans), as
 * little-endian numbers. */
PINNED("hash", u64, u32, secondary_macs, MAX_SECONDARY);

/* Source MACs of frames that another director has scheduled (see loop_prevention.h). A backend may
 * have two for a moment: the old MAC and the new one. */
PINNED("hash", struct sender, u32, senders, 2 * MAX_BACKENDS);

/* The guard. Denied prefixes, with the index of their counter in `denials`. Rate limits by service;
 * the time-stamps of their token buckets, by service and by source; connections refused. */
PINNED_TRIE(struct prefix4, denied4, MAX_DENIED);
PINNED_TRIE(struct prefix6, denied6, MAX_DENIED);
PINNED("percpu_array", u32, u64, denials, MAX_DENIED);
PINNED("array", u32, struct limit, limits, MAX_SERVICES);
PINNED("array", u32, u64, paid, MAX_SERVICES);
PINNED("lru_hash", struct source, u64, sources, MAX_SOURCES);
PINNED("percpu_array", u32, struct refusals, refusals, MAX_SERVICES);

/* Counters: packets by reason, drops by service and reason, traffic by backend. */
PINNED("percpu_array", u32, u64, verdicts, REASONS);
PINNED("percpu_array", u32, struct drops, drops, MAX_SERVICES);
PINNED("percpu_array", u32, struct traffic, traffic, MAX_BACKENDS);
/* Totals that the daemon keeps: of removed services, then of the removed backends of each
 * service. */
SHARED_ARRAY(struct traffic, departed, MAX_SERVICES + 1);

/* The stages of the running program, and of the one that it replaces. Per-CPU scratch between
 * stages. */
PINNED("prog", u32, u32, stages, 16384);
PINNED("percpu_array", u32, struct scratch, asides, 2); /* the second is for dry runs */

/* Written by the dry run for the daemon, which explains one packet at a time. */
PINNED("array", u32, struct explanation, explanations, 1);

/* Trace: filter, per-CPU budget, scratch event; the ring buffer is `decisions`. */
PINNED("array", u32, struct trace, traces, 1);
PINNED("percpu_array", u32, struct telling, tellings, 1);
PINNED("percpu_array", u32, struct decision, drafts, 1);

/* BCC's macro for ring buffers cannot pin. */
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

/* Rate limits: packets in this jiffy by kind; time-stamps of the token buckets of RSTs by
 * sender. */
PINNED("percpu_array", u32, struct allowance, allowances, ALLOWANCES);
SHARED_ARRAY(u64, resets, 1 << RESET_BITS);

/* Egress interfaces. BCC's macro for devmaps cannot pin. */
struct ports_table_t {
	u32 key;
	int leaf;
	u64 (*redirect_map)(int, int);
	u32 max_entries;
};
__attribute__((section("maps/devmap:" PIN_DIR
		       "ports"))) struct ports_table_t ports = { .max_entries = MAX_PORTS };

/* Names of services and backends by index, for people and for a daemon that adopts these maps. */
SHARED_ARRAY(struct label, service_labels, MAX_SERVICES);
SHARED_ARRAY(struct label, backend_labels, MAX_BACKENDS);

#endif
