/* SPDX-License-Identifier: GPL-2.0-only */
/* Layout of the conntrack table (see conntrack_table.h). */
#ifndef XDPDIRECTOR_CONNTRACK_TYPES_H
#define XDPDIRECTOR_CONNTRACK_TYPES_H

#define WAYS 4 /* entries of a bucket */

/* The power of two that is not below a number of at most 32 bits. */
#define FILL1(n)	((n) | (n) >> 1)
#define FILL2(n)	(FILL1(n) | FILL1(n) >> 2)
#define FILL4(n)	(FILL2(n) | FILL2(n) >> 4)
#define FILL8(n)	(FILL4(n) | FILL4(n) >> 8)
#define POWER_OF_TWO(n) ((FILL8((n)-1) | FILL8((n)-1) >> 16) + 1)

/* Backends of a service that can have a bit in `out`: a power of two. */
#define PLACES (MAX_MEMBERS > 256 ? POWER_OF_TWO(MAX_MEMBERS) : 256)
/* Bits of a VIP's set of lblc and lblcr: as many members as these have. */
#define LOCALITIES 256

/* Records count time in ticks of 64 jiffies, modulo 2^SEEN_BITS. */
enum tick_numbers {
	TICK_SHIFT = 6,
	SEEN_BITS = 22,
};

enum front_use {
	FRONT_FREE = 0,
	FRONT_SERVING = 1,
	FRONT_RESTING = 2, /* its listeners are gone, but records may refer to it */
};

/* A service at one VIP and protocol: the conntrack zone of its flows. Number 0 is never used. `out`
 * has a bit for each backend with BACKEND_PARTIAL that is down for this VIP, at the backend's
 * `place`. lblc, lblcr: `locality` has those that take the VIP's new connections; the packet path
 * writes it, and when it did last (jiffies). */
struct front {
	__be32 address[4]; /* IPv4: the first word */
	u32 service;
	u8 protocol;
	u8 ipv6;
	u8 use;	     /* enum front_use */
	u8 some_out; /* 0: no bit of `out` is set */
	u64 out[PLACES / 64];
	u64 locality[LOCALITIES / 64];
	u64 locality_changed;
};

/* A flow and its record from the table of an earlier program. IPv4: the address is the first
 * word. */
struct adopted {
	__be32 client[4];
	__be16 client_port;
	__be16 port;
	u32 ipv6;
	u64 word; /* struct record; 0 once it is in the table */
};

/* Key of a SYN of a flow whose slot is in flux: see ring.h. */
struct opening {
	u64 flow; /* hash of the flow in the conntrack table; of later SYNs mixed with their numbers */
};

/* What became of a peer's record: see sync.h. */
enum merge_outcome {
	MERGE_NO_SERVICE = 0, /* there is no such service */
	MERGE_INSERTED = 1,   /* the table had no record of the flow */
	MERGE_UPDATED = 2,    /* the table had an older record */
	MERGE_KEPT = 3,	      /* the table has a newer record, or the same */
	MERGE_CONFLICT = 4,   /* the table's record names another backend */
	MERGE_FULL = 5,	      /* both buckets hold connections that may not be evicted */
};

/* A record of another director, to be merged into the table. IPv4: the address is the first word.
 * After the merge `word` is the record in the table, or 0, and `bucket` and `entry` are its place. */
struct merged {
	__be32 client[4];
	__be16 client_port;
	__be16 port;
	u32 ipv6;
	u64 word;
	u32 bucket;
	u16 entry;
	u8 outcome; /* enum merge_outcome */
	u8 wins;    /* replaces a record that names another backend */
};

/* Progress of the program `merge` through `merging`. */
struct merge_progress {
	u32 next;
	u32 count;
};

/* A record to delete, if its word is still the same. */
struct reaped {
	u64 word;
	u32 bucket;
	u16 entry;
	u16 ipv6;
};

/* A flow's record. It is one word, so that it is read and swapped at once. All 0: free entry. */
struct record {
	u64 backend : 16;
	u64 front : 14;
	u64 state : 4;	    /* enum connection_state */
	u64 generation : 8; /* low bits of the backend's, when this was recorded */
	u64 seen : 22;	    /* time of its last packet, in ticks (bpf/conntrack_table.h) */
};

/* A flow and its record, 16 or 32 bytes. Client address and port are as in the packet; VIP and
 * protocol are those of the front. */
struct entry4 {
	__be32 client;
	__be16 client_port;
	__be16 port;
	struct record record;
};

struct entry6 {
	__be32 client[4];
	__be16 client_port;
	__be16 port;
	u32 pad;
	struct record record;
};

struct bucket4 {
	struct entry4 entries[WAYS];
};

struct bucket6 {
	struct entry6 entries[WAYS];
};

#endif
