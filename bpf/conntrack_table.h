/* SPDX-License-Identifier: GPL-2.0-only */
/* The conntrack table: buckets of four entries. A bucket of IPv4 flows is one cache line, one of
 * IPv6 flows two.
 *
 * A flow has two possible buckets. It is inserted into the first, unless more than
 * FIRST_BUCKET_FILL entries are used there and the second is the better one. The last word of an
 * entry is its record and also its lock: a record changes only by compare and swap, and is
 * RECORD_BUSY while another flow is written to the entry. A reader that finds the flow's key before
 * and after reading the record has the flow's record, if stores become visible in their order. That
 * holds on x86-64; elsewhere a packet may take the record of a flow that is being inserted for that
 * of the evicted one.
 *
 * If both buckets are full, a new flow evicts another one, in this order:
 *
 * - flows that have shown at most two packets, or that ended some seconds ago;
 * - flows that have shown a third packet (used);
 * - never an assured flow.
 *
 * Within a class the flow that was seen first goes. A handicap makes some seem older: those with a
 * single packet, those that have ended or were closed, and, a little for each of them, those that
 * share the bucket with others of their front. So a flood evicts its own flows, however many
 * packets each of them has, and no flow that has shown more. At most MAX_ASSURED flows of a bucket
 * are assured, so that a new flow always finds an entry. If all of these belong to one service and
 * a flow of another service is to be assured, it replaces the one that was idle for longest.
 *
 * The hash is multiply-shift (Dietzfelbinger et al., 1997), twice. The multipliers are secret and
 * differ between services, so that nobody can aim flows at a bucket. */
#ifndef XDPDIRECTOR_CONNTRACK_TABLE_H
#define XDPDIRECTOR_CONNTRACK_TABLE_H

#include "branchless.h"
#include "maps.h"
#include "parse.h"

#define WORDS4		   2 /* of an entry; the last one is the record */
#define WORDS6		   4
#define KEY_WORDS	   3
#define SECOND_BUCKET_SPAN 32 /* distance of the second bucket: mostly on the same page of memory */
#define FIRST_BUCKET_FILL \
	1 /* used entries of the first bucket up to which the second is not read */
#define RECORD_BUSY 1ULL

#define MAX_ASSURED 3 /* flows of a bucket at most */

/* Tables and sets by state. AT: one entry of a table, 4 bits wide. SAME: a table that maps each
 * state to itself; `SAME ^ TO(state, next)` maps one to another. EACH_UNASSURED and EACH_ASSURED:
 * tables with one value for all states of a class. */
#define AT(state, value) ((u64)(value) << STATE_WIDTH * (state))
#define TO(state, next)	 AT(state, (state) ^ (next))
#define SAME		 0xfedcba9876543210ULL

#define EACH_UNASSURED(value)                                                                   \
	(AT(CONNECTION_SYN, value) | AT(CONNECTION_MIDSTREAM, value) |                          \
	 AT(CONNECTION_DATAGRAM, value) | AT(CONNECTION_ESTABLISHED, value) |                   \
	 AT(CONNECTION_UDP, value) | AT(CONNECTION_FIN, value) | AT(CONNECTION_CLOSED, value) | \
	 AT(CONNECTION_REOPENED, value) | AT(CONNECTION_USED_ESTABLISHED, value) |              \
	 AT(CONNECTION_USED_UDP, value))
#define EACH_ASSURED(value)                                                                   \
	(AT(CONNECTION_ASSURED_REOPENED, value) | AT(CONNECTION_ASSURED_ESTABLISHED, value) | \
	 AT(CONNECTION_ASSURED_UDP, value) | AT(CONNECTION_ASSURED_FIN, value) |              \
	 AT(CONNECTION_ASSURED_CLOSED, value))

/* Sets of states, a bit each. ASSURED_STATES: never evicted. UNASSURED: may be. USED: of these,
 * evicted only if there is no other; USED_IF_NEW: likewise while the record is new. RUNNING: the
 * flow was confirmed and has not ended. */
#define USED_IF_NEW  (1 << CONNECTION_FIN | 1 << CONNECTION_CLOSED)
#define USED_RUNNING (1 << CONNECTION_USED_ESTABLISHED | 1 << CONNECTION_USED_UDP)
#define USED	     (1 << CONNECTION_REOPENED | USED_RUNNING)
#define UNASSURED                                                                     \
	(1 << CONNECTION_SYN | 1 << CONNECTION_MIDSTREAM | 1 << CONNECTION_DATAGRAM | \
	 1 << CONNECTION_ESTABLISHED | 1 << CONNECTION_UDP | USED_IF_NEW | USED)
#define ASSURED_RUNNING (1 << CONNECTION_ASSURED_ESTABLISHED | 1 << CONNECTION_ASSURED_UDP)
#define ASSURED_STATES                                                                      \
	(1 << CONNECTION_ASSURED_REOPENED | ASSURED_RUNNING | 1 << CONNECTION_ASSURED_FIN | \
	 1 << CONNECTION_ASSURED_CLOSED)
#define RUNNING (1 << CONNECTION_ESTABLISHED | 1 << CONNECTION_UDP | USED_RUNNING | ASSURED_RUNNING)

/* The same state in another class. */
#define AS_USED                                                           \
	(SAME ^ TO(CONNECTION_ESTABLISHED, CONNECTION_USED_ESTABLISHED) ^ \
	 TO(CONNECTION_UDP, CONNECTION_USED_UDP))
#define AS_ASSURED                                                           \
	(SAME ^ TO(CONNECTION_ESTABLISHED, CONNECTION_ASSURED_ESTABLISHED) ^ \
	 TO(CONNECTION_UDP, CONNECTION_ASSURED_UDP) ^                        \
	 TO(CONNECTION_USED_ESTABLISHED, CONNECTION_ASSURED_ESTABLISHED) ^   \
	 TO(CONNECTION_USED_UDP, CONNECTION_ASSURED_UDP))
#define AS_UNASSURED                                                       \
	(SAME ^ TO(CONNECTION_ASSURED_REOPENED, CONNECTION_REOPENED) ^     \
	 TO(CONNECTION_ASSURED_ESTABLISHED, CONNECTION_USED_ESTABLISHED) ^ \
	 TO(CONNECTION_ASSURED_UDP, CONNECTION_USED_UDP) ^                 \
	 TO(CONNECTION_ASSURED_FIN, CONNECTION_FIN) ^                      \
	 TO(CONNECTION_ASSURED_CLOSED, CONNECTION_CLOSED))

/* By how much older a record seems, by state, in eighths of the time-out of a SYN: HANDICAPS_NEW
 * while the handshake or the end of the connection may still be going on, HANDICAPS later. Each
 * other flow of the same front in the bucket adds a sixteenth. */
#define HANDICAPS_NEW \
	(AT(CONNECTION_SYN, 2) | AT(CONNECTION_MIDSTREAM, 2) | AT(CONNECTION_DATAGRAM, 2))
#define HANDICAPS                                                                           \
	(AT(CONNECTION_SYN, 8) | AT(CONNECTION_MIDSTREAM, 8) | AT(CONNECTION_DATAGRAM, 8) | \
	 AT(CONNECTION_FIN, 8) | AT(CONNECTION_CLOSED, 15))

/* The cost of an eviction: its age, so that an older record costs less, plus this. */
#define COST_BASE	(1 << 26)    /* keeps it positive, whatever the handicap */
#define COST_USED_SHIFT 28	     /* used flows cost so much more: more than all other costs */
#define COST_NEVER	(1ULL << 32) /* of a record that may not be evicted */

/* Struct record: the widths of its fields from bit 0, and where they begin. */
#define BACKEND_WIDTH	 16
#define FRONT_WIDTH	 14
#define STATE_WIDTH	 4
#define GENERATION_WIDTH 8
#define FRONT_BITS	 (((1 << FRONT_WIDTH) - 1) << BACKEND_WIDTH)
#define STATE_SHIFT	 (BACKEND_WIDTH + FRONT_WIDTH)
#define SEEN_SHIFT	 (STATE_SHIFT + STATE_WIDTH + GENERATION_WIDTH)
#define SEEN_NOW	 (1 << (SEEN_BITS - 1))

#define BUCKET_BITS   23 /* of the hash: sizes.connections is at most 2^24 */
#define DISTANCE_FROM 20 /* first bit of the hash that the second bucket follows from */

_Static_assert(MAX_BACKENDS <= NO_BACKEND, "a record cannot name every backend");
_Static_assert(MAX_FRONTS <= 1 << FRONT_WIDTH, "a record cannot name every front");
_Static_assert(MAX_STATES == 1 << STATE_WIDTH && MAX_STATES * STATE_WIDTH == 64,
	       "a table of states is one word");
_Static_assert(SEEN_SHIFT + SEEN_BITS == 64, "the fields of a record fill a word");
_Static_assert(sizeof(struct entry4) == WORDS4 * 8 && sizeof(struct entry6) == WORDS6 * 8 &&
		       sizeof(struct entry6) <= (KEY_WORDS + 1) * 8,
	       "an entry is its key and its record");
_Static_assert(!(WAYS & (WAYS - 1)) && !(SECOND_BUCKET_SPAN & (SECOND_BUCKET_SPAN - 1)),
	       "masks take powers of two");
_Static_assert(BUCKETS4 >= 2 * SECOND_BUCKET_SPAN && BUCKETS6 >= 2 * SECOND_BUCKET_SPAN,
	       "the second bucket is in the table");
_Static_assert(BUCKETS4 <= 1 << BUCKET_BITS && BUCKETS6 <= 1 << BUCKET_BITS,
	       "the hash reaches every bucket");
_Static_assert(COST_BASE + 2 * SEEN_NOW < 1ULL << COST_USED_SHIFT &&
		       2ULL << COST_USED_SHIFT < COST_NEVER,
	       "costs keep their order");

/* The key of a flow as an entry has it, and its hash. */
struct ct_key {
	u64 words[KEY_WORDS];
	u64 hash;
	u32 buckets; /* in the table */
};

union record_word {
	struct record record;
	u64 word;
};

/* A record: where it is, and what it was when it was read. */
struct entry {
	u64 *bucket;
	u32 number; /* of the bucket */
	u32 words;  /* of an entry in this bucket */
	u64 hash;   /* of the flow */
	u64 word;   /* index of the record's word in the bucket */
	union record_word is;
	bool is_confirmed; /* this packet confirmed the flow: usually it is the second one */
};

static __always_inline u32 ct_ticks(u64 jiffies)
{
	return jiffies >> TICK_SHIFT & ((1 << SEEN_BITS) - 1);
}

/* SEEN_NOW + ticks since the record was seen. Less than SEEN_NOW if another CPU saw it after `now`
 * was read. */
static __always_inline u64 record_age(u64 word, u64 now)
{
	return (now - (word >> SEEN_SHIFT) + SEEN_NOW) & (2 * SEEN_NOW - 1);
}

static __always_inline u64 record_state(u64 word)
{
	return word >> STATE_SHIFT & (MAX_STATES - 1);
}

/* The record with its state replaced as one of the tables above says. */
static __always_inline u64 record_with_state(u64 word, u64 states)
{
	u64 state = opaque(states) >> record_state(word) * STATE_WIDTH & (MAX_STATES - 1);

	return opaque((word & ~((MAX_STATES - 1ULL) << STATE_SHIFT)) | state << STATE_SHIFT);
}

static __always_inline u64 read_once(const u64 *at)
{
	return *(const volatile u64 *)at;
}

static __always_inline bool compare_and_swap(u64 *at, u64 from, u64 to)
{
	if (DRY_RUN)
		return true;
	return __sync_val_compare_and_swap(at, from, to) == from;
}

static __always_inline u64 fold64(u64 value)
{
	return value ^ value >> 32;
}

static __always_inline void ct_make_key(const struct packet *packet, const struct service *service,
					u32 front, struct ct_key *key)
{
	const struct flow4 *v4 = &packet->flow.v4;
	const struct flow6 *v6 = &packet->flow.v6;
	const u64 *secret = service->multipliers;
	u64 hash;

	if (packet->ipv6) {
		key->buckets = BUCKETS6;
		key->words[0] = (u64)v6->client[1] << 32 | v6->client[0];
		key->words[1] = (u64)v6->client[3] << 32 | v6->client[2];
		key->words[2] = (u64)v6->port << 16 | v6->client_port;
		hash = fold64(key->words[0] * secret[1]) + key->words[1];
		hash = fold64(hash * secret[1]) + key->words[2];
	} else {
		key->buckets = BUCKETS4;
		key->words[0] = (u64) * (const u32 *)&v4->client_port << 32 | v4->client;
		hash = key->words[0];
	}
	key->hash = fold64((hash + front) * secret[0]) * secret[1];
}

static __always_inline u32 first_bucket(const struct ct_key *key)
{
	return key->hash >> (64 - BUCKET_BITS) & (key->buckets - 1);
}

static __always_inline u32 second_bucket(const struct ct_key *key)
{
	return first_bucket(key) ^ (1 + (key->hash >> DISTANCE_FROM & (SECOND_BUCKET_SPAN - 1)));
}

/* A bucket, or NULL (never). The compiler must know `packet->ipv6`, so that each call has a
 * constant map. */
static __always_inline u64 *bucket4(u32 number)
{
	return (u64 *)connections4.lookup(&number);
}

static __always_inline u64 *bucket6(u32 number)
{
	return not_merged(connections6.lookup(&number));
}

static __always_inline bool entry_has_key(const u64 *entry, const struct ct_key *key, int words)
{
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++)
		if (i < words - 1 && read_once(entry + i) != key->words[i])
			return false;
	return true;
}

static __always_inline bool bucket_search(u64 *bucket, int words, const struct ct_key *key,
					  u32 front, struct entry *found)
{
	u64 at = 0;

	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 *entry = bucket + i * words;

		if (!entry_has_key(entry, key, words))
			continue;
		found->is.word = read_once(entry + words - 1);
		if (found->is.record.front == front && entry_has_key(entry, key, words)) {
			at = opaque(i * words + words - 1);
			break;
		}
	}
	found->bucket = bucket;
	found->word = at & (WAYS * words - 1);
	return at;
}

static __always_inline bool bucket_search4(u32 number, const struct ct_key *key, u32 front,
					   struct entry *found)
{
	found->number = number;
	found->words = WORDS4;
	return bucket_search(bucket4(number), WORDS4, key, front, found);
}

static __always_inline bool bucket_search6(u32 number, const struct ct_key *key, u32 front,
					   struct entry *found)
{
	found->number = number;
	found->words = WORDS6;
	return bucket_search(bucket6(number), WORDS6, key, front, found);
}

/* Find the flow's record in either bucket. */
static __always_inline bool ct_lookup(const struct packet *packet, const struct service *service,
				      u32 front, struct entry *found)
{
	struct ct_key key;

	ct_make_key(packet, service, front, &key);
	found->hash = key.hash;
	if (packet->ipv6)
		return bucket_search6(first_bucket(&key), &key, front, found) ||
		       bucket_search6(second_bucket(&key), &key, front, found);
	return bucket_search4(first_bucket(&key), &key, front, found) ||
	       bucket_search4(second_bucket(&key), &key, front, found);
}

/* Replace the record. False if it has changed since it was read. */
static __always_inline bool ct_swap(const struct entry *entry, u64 to)
{
	return compare_and_swap(entry->bucket + entry->word, entry->is.word, to);
}

/* Delete a record that is still as the daemon saw it. */
static __always_inline void ct_reap(u64 *bucket, int words, const struct reaped *reaped)
{
	u64 at = opaque((reaped->entry & (WAYS - 1)) * words + words - 1);

	if (bucket)
		compare_and_swap(bucket + at, reaped->word, 0);
}

/* What a new flow may evict. */
struct eviction {
	u32 now;
	u32 states;	 /* a bit each */
	u32 syn_timeout; /* time-out of a SYN */
	u32 assured_after;
	bool is_known; /* the flow ran before, and its record may be assured */
};

/* The entry of a bucket that a new flow would get. */
struct victim {
	u64 word;
	u64 cost;
	u64 number;
	u64 used;    /* entries of the bucket */
	u64 assured; /* used entries that are assured */
};

/* All ones for an assured record, else 0. */
static __always_inline u64 mask_if_assured(u64 word)
{
	return mask_if_negative((u64)ASSURED_STATES << (63 - record_state(word)));
}

/* The cost of evicting a record; 0 for a free entry. `like`: number of other flows of its front in
 * the bucket. */
static __always_inline u64 evict_cost(u64 word, const struct eviction *eviction, u64 like)
{
	u64 state = record_state(word), age = record_age(word, eviction->now);
	u64 is_new = opaque(age - eviction->assured_after - SEEN_NOW - 1) >> 63;
	u64 handicaps = HANDICAPS - is_new * (HANDICAPS - HANDICAPS_NEW);
	u64 handicap = 2 * (handicaps >> state * STATE_WIDTH & 15) + like;
	u64 cost = COST_BASE + 2 * SEEN_NOW - age - (eviction->syn_timeout * handicap >> 4);

	cost |= (u64)((USED | is_new * USED_IF_NEW) >> state & 1) << COST_USED_SHIFT;
	return select_by_mask(-(u64)(eviction->states >> state & 1), cost, COST_NEVER) &
	       mask_if_nonzero(word);
}

/* The number of other records in the bucket that have the same front and are not assured. */
static __always_inline u64 count_same_front(const u64 *words, int which)
{
	u64 like = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		if (i != which)
			like -= ~mask_if_nonzero((words[i] ^ words[which]) & FRONT_BITS) &
				~mask_if_assured(words[i]) & mask_if_nonzero(words[i]);
	return like;
}

/* 0 if all records of the bucket have one front, and the new `word` another; else all ones. A front
 * that fills a bucket must not keep others out: its used flows cost no more than another bucket's
 * flows. Within the bucket its other flows go first. */
static __always_inline u64 mask_if_ranked(const u64 *words, u64 word)
{
	u64 differ = 0;

#pragma unroll
	for (int i = 1; i < WAYS; i++)
		differ |= words[i] ^ words[0];
	return mask_if_nonzero(differ & FRONT_BITS) |
	       ~mask_if_nonzero((word ^ words[0]) & FRONT_BITS);
}

static __always_inline void find_victim(const u64 *bucket, int words,
					const struct eviction *eviction, u64 word,
					struct victim *victim)
{
	u64 all[WAYS];

	victim->cost = 2 * COST_NEVER;
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		all[i] = read_once(bucket + i * words + words - 1);
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 cost = evict_cost(all[i], eviction, count_same_front(all, i));
		u64 is_less = mask_if_negative(cost - victim->cost);

		victim->used -= mask_if_nonzero(all[i]);
		victim->assured -= mask_if_assured(all[i]);
		victim->cost = select_by_mask(is_less, cost, victim->cost);
		victim->number = select_by_mask(is_less, i, victim->number);
		victim->word = select_by_mask(is_less, all[i], victim->word);
	}
	victim->cost &= ~(1ULL << COST_USED_SHIFT) | mask_if_ranked(all, word);
}

/* Write a flow to the entry: the key first, then the record, which makes it visible. */
static __always_inline bool ct_write_entry(u64 *bucket, int words, const struct victim *victim,
					   const struct ct_key *key, u64 word)
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
			*(volatile u64 *)(entry + i) = key->words[i];
	*(volatile u64 *)(entry + words - 1) = word; /* nobody else writes to a busy entry */
	return true;
}

static __always_inline bool is_second_cheaper(const struct victim *first,
					      const struct victim *second)
{
	if (!first->cost && !second->cost)
		return second->used < first->used;
	return second->cost < first->cost;
}

/* Insert into one of two buckets; see `ct_insert`. */
static __always_inline bool ct_insert_bucket(u64 *first, u64 *second, int words,
					     const struct ct_key *key, u64 word,
					     const struct eviction *eviction, u64 *evicted)
{
	struct victim victim = {}, other = {};
	u64 *bucket = first;

	if (!first || !second)
		return false;
	find_victim(first, words, eviction, word, &victim);
	if (victim.used > FIRST_BUCKET_FILL) {
		find_victim(second, words, eviction, word, &other);
		if (opaque(is_second_cheaper(&victim, &other))) {
			victim = other;
			bucket = second;
		}
	}
	if (victim.cost >= COST_NEVER)
		return false;
	*evicted = victim.word;
	if (eviction->is_known)
		word = select_by_mask(mask_if_negative(MAX_ASSURED - 1 - victim.assured),
				      record_with_state(word, AS_UNASSURED), word);
	return ct_write_entry(bucket, words, &victim, key, word);
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
