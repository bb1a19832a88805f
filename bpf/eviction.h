/* SPDX-License-Identifier: GPL-2.0-only */
/* Insertion into the conntrack table, and eviction.
 *
 * If both buckets of a new flow are full, it evicts another one: of flows that have shown at most
 * two packets, or that ended some seconds ago, the one that was seen first. A handicap makes some
 * seem older: those with a single packet, those that have ended, and, a little for each of them,
 * those that share the bucket with others of their front. So a flood evicts its own flows, and no
 * flow that has shown more.
 *
 * If both buckets are full of flows that have shown a third packet (used), one of these moves to
 * its other bucket, where it takes a free entry or evicts a flow as above. If none can, which takes
 * a table that is nearly full of such flows, the used flow that was seen first is evicted.
 *
 * An assured flow is never evicted. At most MAX_ASSURED flows of a bucket are assured, so that a
 * new flow always finds an entry. If all of these belong to one service and a flow of another
 * service is to be assured, it replaces the one that was idle for longest. */
#ifndef XDPDIRECTOR_EVICTION_H
#define XDPDIRECTOR_EVICTION_H

#include "conntrack_table.h"

#define MAX_ASSURED 3	       /* flows of a bucket at most */
#define PAIR	    (2 * WAYS) /* entries of two buckets */

/* By how much older a record seems, by state, in eighths of the time-out of a SYN. KEPT: it is not
 * evicted. HANDICAPS_NEW: while the handshake or the end of the connection may still be going on;
 * HANDICAPS: later. */
#define KEPT		 15
#define EACH_KEPT	 (AT(0, KEPT) | EACH_ASSURED(KEPT)) /* 0: another flow is being written */
#define KEPT_IF_NEW	 (AT(CONNECTION_FIN, KEPT) | AT(CONNECTION_CLOSED, KEPT))
#define KEPT_RUNNING	 (AT(CONNECTION_ESTABLISHED, KEPT) | AT(CONNECTION_UDP, KEPT) | KEPT_USED)
#define KEPT_USED	 (AT(CONNECTION_USED_ESTABLISHED, KEPT) | AT(CONNECTION_USED_UDP, KEPT))
#define KEPT_UNLESS_LAST (EACH_KEPT | KEPT_USED | AT(CONNECTION_REOPENED, KEPT))
#define HANDICAPS_NEW                                                                           \
	(KEPT_UNLESS_LAST | KEPT_IF_NEW | AT(CONNECTION_SYN, 2) | AT(CONNECTION_MIDSTREAM, 2) | \
	 AT(CONNECTION_DATAGRAM, 2))
#define HANDICAPS                                                                 \
	(KEPT_UNLESS_LAST | AT(CONNECTION_SYN, 8) | AT(CONNECTION_MIDSTREAM, 8) | \
	 AT(CONNECTION_DATAGRAM, 8) | AT(CONNECTION_FIN, 8) | AT(CONNECTION_CLOSED, 14))

/* What a flow evicts if no used flow can move: any that is not assured. And a flow that ran before,
 * at another director or in an earlier program: none that runs. */
#define HANDICAPS_LAST	EACH_KEPT
#define HANDICAPS_KNOWN (EACH_KEPT | KEPT_RUNNING)

/* The cost of an eviction: less for an older record, and COST_KEPT if it is not evicted. Below it is
 * the number of the entry. */
#define COST_BASE    (1 << 26) /* keeps it positive, whatever the handicap */
#define COST_KEPT    (1ULL << 40)
#define NUMBER_WIDTH 3

/* By the free entries of a bucket, a bit each: how many there are, and the number of the first. */
#define FREE_COUNT 0x4332322132212110ULL
#define FIRST_FREE 0x0102010301020100ULL

_Static_assert(PAIR == 1 << NUMBER_WIDTH && WAYS == 4,
	       "FREE_COUNT and FIRST_FREE are of four entries");
_Static_assert((COST_BASE + 2ULL * SEEN_NOW) << NUMBER_WIDTH < COST_KEPT, "costs keep their order");

/* What a new flow may evict: the handicaps of new records, and of older ones. */
struct eviction {
	u64 if_new;
	u64 if_old;
	u64 now;
	u64 syn_timeout;   /* time-out of a SYN */
	u64 assured_after; /* a record is new until then */
	bool is_known;	   /* the flow ran before, and its record may be assured */
};

/* The entry of one of two buckets that a new flow gets. Entries of the second bucket are numbered
 * from WAYS on. */
struct victim {
	u64 word; /* its record, or 0 */
	u64 number;
};

static __always_inline void bucket_read(const u64 *bucket, int words, u64 *records)
{
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		records[i] = read_once(bucket + i * words + words - 1);
}

/* The free entries of a bucket, a bit each. */
static __always_inline u64 free_entries(const u64 *records)
{
	u64 entries = 0;

#pragma unroll
	for (int i = WAYS - 1; i >= 0; i--)
		entries = entries << 1 | (opaque(records[i] - 1) & ~records[i]) >> 63;
	return entries;
}

static __always_inline u64 look_up_nibble(u64 table, u64 index)
{
	return opaque(table) >> index * 4 & 15;
}

/* For each record the number of others in its bucket that have the same front, a byte each. */
static __always_inline u64 count_same_front(const u64 *records)
{
	u64 counts = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
#pragma unroll
		for (int j = i + 1; j < WAYS; j++)
			counts +=
				(1ULL << 8 * i | 1ULL << 8 * j) *
				opaque(opaque(((records[i] ^ records[j]) & FRONT_BITS) - 1) >> 63);
	return counts;
}

/* The cost of evicting a record. `like`: number of other flows of its front in the bucket. */
static __always_inline u64 evict_cost(u64 word, const struct eviction *eviction, u64 like)
{
	u64 age = record_age(word, eviction->now);
	u64 is_new = opaque(mask_if_negative(age - eviction->assured_after - SEEN_NOW - 1));
	u64 handicap = look_up_nibble(select_by_mask(is_new, eviction->if_new, eviction->if_old),
				      record_state(word));
	u64 is_kept = (handicap + 1) >> 4;

	return COST_BASE + 2 * SEEN_NOW - age -
	       (eviction->syn_timeout * (2 * handicap + like) >> 4) +
	       is_kept * (COST_KEPT >> NUMBER_WIDTH);
}

/* Find the cheapest entry of a bucket, and return its cost. `first`: number of the bucket's first
 * entry. */
static __always_inline u64 find_cheapest(const u64 *records, u64 first,
					 const struct eviction *eviction, struct victim *victim)
{
	u64 counts = count_same_front(records), best = 2 * COST_KEPT;

#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 cost = evict_cost(records[i], eviction, counts >> 8 * i & (WAYS - 1))
				   << NUMBER_WIDTH |
			   (first + i);
		u64 is_less = opaque(mask_if_negative(cost - best));

		best = select_by_mask(is_less, cost, best);
		victim->word = select_by_mask(is_less, records[i], victim->word);
	}
	victim->number = best & (PAIR - 1);
	return best;
}

/* All ones if all flows of the bucket have one front, the new `word` another, and none may be
 * evicted, else 0. */
static __always_inline u64 mask_if_crowded(const u64 *records, u64 word, u64 cheapest)
{
	u64 differ = 0;

#pragma unroll
	for (int i = 1; i < WAYS; i++)
		differ |= records[i] ^ records[0];
	return ~mask_if_nonzero(differ & FRONT_BITS) &
	       mask_if_nonzero((word ^ records[0]) & FRONT_BITS) &
	       mask_if_negative(COST_KEPT - 1 - cheapest);
}

/* Find the entry that the new flow `word` gets: a free one in the bucket that has more of them, or
 * the cheapest of both. The second bucket is another cache line: it is not read while the first one
 * is nearly empty. False if no flow may be evicted, or only in one bucket, and the other one is
 * crowded: a front that fills a bucket must not confine others to the rest. */
static __always_inline bool find_victim(const u64 *first, const u64 *second, int words,
					const struct eviction *eviction, u64 word,
					struct victim *victim)
{
	u64 records[WAYS], others[WAYS], free, free_second, cheapest, cheapest_second, is_second,
		is_crowded;
	struct victim other = {};

	bucket_read(first, words, records);
	free = free_entries(records);
	victim->number = look_up_nibble(FIRST_FREE, free);
	if (look_up_nibble(FREE_COUNT, free) >= WAYS - FIRST_BUCKET_FILL)
		return true;
	bucket_read(second, words, others);
	free_second = free_entries(others);
	if (free | free_second) {
		is_second = opaque(mask_if_negative(look_up_nibble(FREE_COUNT, free) -
						    look_up_nibble(FREE_COUNT, free_second)));
		victim->number = select_by_mask(
			is_second, WAYS + look_up_nibble(FIRST_FREE, free_second), victim->number);
		return true;
	}
	cheapest = find_cheapest(records, 0, eviction, victim);
	cheapest_second = find_cheapest(others, WAYS, eviction, &other);
	is_second = opaque(mask_if_negative(cheapest_second - cheapest));
	victim->word = select_by_mask(is_second, other.word, victim->word);
	victim->number = select_by_mask(is_second, other.number, victim->number);
	is_crowded = mask_if_crowded(records, word, cheapest) |
		     mask_if_crowded(others, word, cheapest_second);
	cheapest = select_by_mask(is_second, cheapest_second, cheapest) | (is_crowded & COST_KEPT);
	return opaque(cheapest) < COST_KEPT;
}

/* Write a flow to the entry: the key first, then the record, which makes it visible. */
static __always_inline bool ct_write_entry(u64 *bucket, int words, const struct victim *victim,
					   const u64 *key, u64 word)
{
	u64 *entry = bucket;

	if (DRY_RUN)
		return true;
	entry += (victim->number & (WAYS - 1)) * words;
	if (!compare_and_swap(entry + words - 1, victim->word, RECORD_BUSY))
		return false;
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++)
		if (i < words - 1)
			*(volatile u64 *)(entry + i) = key[i];
	/* nobody else writes to a busy entry */
	store_release(entry + words - 1, RECORD_BUSY, word);
	return true;
}

/* A record of a flow that ran before, as it may stand in the bucket. */
static __always_inline u64 record_if_known(const u64 *bucket, int words, u64 word)
{
	u64 records[WAYS], assured = 0;

	bucket_read(bucket, words, records);
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		assured -= mask_if_assured(records[i]);
	return select_by_mask(mask_if_negative(MAX_ASSURED - 1 - assured),
			      record_with_state(word, AS_UNASSURED), word);
}

/* Insert into one of two buckets; see `ct_insert`. */
static __always_inline bool ct_insert_bucket(u64 *first, u64 *second, int words,
					     const struct ct_key *key, u64 word,
					     const struct eviction *eviction, u64 *evicted)
{
	struct victim victim = {};
	u64 *bucket = first;

	if (!first || !second)
		return false;
	if (!find_victim(first, second, words, eviction, word, &victim))
		return false;
	if (opaque(victim.number) & WAYS)
		bucket = second;
	*evicted = victim.word;
	if (eviction->is_known)
		word = record_if_known(bucket, words, word);
	return ct_write_entry(bucket, words, &victim, key->words, word);
}

/* Insert a flow that has no record. `evicted`: the record that was there, or 0. False if no entry
 * may be evicted. */
static __always_inline bool ct_insert(const struct packet *packet, const struct ct_key *key,
				      u64 word, const struct eviction *eviction, u64 *evicted)
{
	u32 first = first_bucket(key), second = second_bucket(key);

	if (packet->ipv6)
		return ct_insert_bucket(bucket6(first), bucket6(second), WORDS6, key, word,
					eviction, evicted);
	return ct_insert_bucket(bucket4(first), bucket4(second), WORDS4, key, word, eviction,
				evicted);
}

/* The assured flows of a bucket. */
struct assured_share {
	u64 assured;
	u64 service; /* of one of them */
	u64 others;  /* not 0: they belong to several services */
	u64 word;    /* the one that was idle for longest, and its place */
	u64 at;
	u64 age;
};

static __always_inline struct front *record_front(u64 word)
{
	u32 number = (word & FRONT_BITS) >> 16;

	return fronts.lookup(&number);
}

static __always_inline bool bucket_may_assure(u64 *bucket, int words, u32 service, u32 now)
{
	struct assured_share share = {};

	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 word = read_once(bucket + i * words + words - 1),
		    is_one = mask_if_assured(word);
		u64 age = record_age(word, now) & is_one, owner, is_older;
		struct front *front = record_front(word);

		if (!front)
			return false;
		owner = front->service;
		is_older = mask_if_negative(share.age - age);
		share.others |= (share.service ^ owner) & is_one & mask_if_nonzero(share.assured);
		share.service = select_by_mask(is_one, owner, share.service);
		share.assured -= is_one;
		share.age = select_by_mask(is_older, age, share.age);
		share.word = select_by_mask(is_older, word, share.word);
		share.at = select_by_mask(is_older, i * words + words - 1, share.at);
	}
	if (opaque(share.assured) < MAX_ASSURED)
		return true;
	if (opaque(share.others) || share.service == service)
		return false;
	return compare_and_swap(bucket + (opaque(share.at) & (WAYS * words - 1)), share.word,
				record_with_state(share.word, AS_UNASSURED));
}

/* True if the flow may be assured in its bucket. */
static __always_inline bool ct_may_assure(const struct entry *entry, u32 service, u32 now)
{
	if (entry->words == WORDS6)
		return bucket_may_assure(bucket6(entry->number), WORDS6, service, now);
	return bucket_may_assure(bucket4(entry->number), WORDS4, service, now);
}

#endif
