/* SPDX-License-Identifier: GPL-2.0-only */
/* The conntrack table: buckets of four entries. A bucket of IPv4 flows is one cache line, one of
 * IPv6 flows two.
 *
 * A flow has two possible buckets. It is inserted into the first, unless more than EASY entries are
 * used there and the second is the better one. The last word of an entry is its record and also its
 * lock: a record changes only by compare and swap, and is RECORD_BUSY while another flow is written
 * to the entry. A reader that finds the flow's key before and after reading the record has the
 * flow's record, if stores become visible in their order. That holds on x86-64; elsewhere a packet
 * may take the record of a flow that is being inserted for that of the evicted one.
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
 * packets each of them has, and no flow that has shown more. At most ASSURED flows of a bucket are
 * assured, so that a new flow always finds an entry. If all of these belong to one service and a
 * flow of another service is to be assured, it replaces the one that was idle for longest.
 *
 * The hash is multiply-shift (Dietzfelbinger et al., 1997), twice. The multipliers are secret and
 * differ between services, so that nobody can aim flows at a bucket. */
#ifndef XDPDIRECTOR_TABLE_H
#define XDPDIRECTOR_TABLE_H

#include "branchless.h"
#include "maps.h"
#include "parse.h"

#define WORDS4	    2 /* of an entry; the last one is the record */
#define WORDS6	    4
#define KEY_WORDS   3
#define NEAR	    32 /* distance of the second bucket: mostly on the same page of memory */
#define EASY	    1  /* used entries of the first bucket up to which the second is not read */
#define RECORD_BUSY 1ULL

#define ASSURED 3 /* flows of a bucket at most */

/* Tables and sets by state. AT: one entry of a table, 4 bits wide. SAME: a table that maps each state
 * to itself; `SAME ^ TO(state, next)` maps one to another. EACH_UNASSURED and EACH_ASSURED: tables
 * with one value for all states of a class. */
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
#define WORTH	   (1 << 26)	/* keeps it positive, whatever the handicap */
#define RANK_SHIFT 28		/* used flows cost so much more: more than all other costs */
#define KEPT	   (1ULL << 32) /* of a record that may not be evicted */

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
_Static_assert(!(WAYS & (WAYS - 1)) && !(NEAR & (NEAR - 1)), "masks take powers of two");
_Static_assert(BUCKETS4 >= 2 * NEAR && BUCKETS6 >= 2 * NEAR, "the second bucket is in the table");
_Static_assert(BUCKETS4 <= 1 << BUCKET_BITS && BUCKETS6 <= 1 << BUCKET_BITS,
	       "the hash reaches every bucket");
_Static_assert(WORTH + 2 * SEEN_NOW < 1ULL << RANK_SHIFT && 2ULL << RANK_SHIFT < KEPT,
	       "costs keep their order");

/* The key of a flow as an entry has it, and its hash. */
struct place {
	u64 key[KEY_WORDS];
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

static __always_inline u32 ticks(u64 jiffies)
{
	return jiffies >> TICK_SHIFT & ((1 << SEEN_BITS) - 1);
}

/* SEEN_NOW + ticks since the record was seen. Less than SEEN_NOW if another CPU saw it after `now`
 * was read. */
static __always_inline u64 age_of(u64 word, u64 now)
{
	return (now - (word >> SEEN_SHIFT) + SEEN_NOW) & (2 * SEEN_NOW - 1);
}

static __always_inline u64 state_of(u64 word)
{
	return word >> STATE_SHIFT & (MAX_STATES - 1);
}

/* The record with its state replaced as one of the tables above says. */
static __always_inline u64 with_state(u64 word, u64 states)
{
	u64 state = opaque(states) >> state_of(word) * STATE_WIDTH & (MAX_STATES - 1);

	return opaque((word & ~((MAX_STATES - 1ULL) << STATE_SHIFT)) | state << STATE_SHIFT);
}

static __always_inline u64 read_word(const u64 *at)
{
	return *(const volatile u64 *)at;
}

static __always_inline bool swap_word(u64 *at, u64 from, u64 to)
{
	if (DRY_RUN)
		return true;
	return __sync_val_compare_and_swap(at, from, to) == from;
}

static __always_inline u64 folded(u64 value)
{
	return value ^ value >> 32;
}

static __always_inline void find_place(const struct packet *packet, const struct service *service,
				       u32 front, struct place *place)
{
	const struct flow4 *v4 = &packet->flow.v4;
	const struct flow6 *v6 = &packet->flow.v6;
	const u64 *secret = service->multipliers;
	u64 hash;

	if (packet->ipv6) {
		place->buckets = BUCKETS6;
		place->key[0] = (u64)v6->client[1] << 32 | v6->client[0];
		place->key[1] = (u64)v6->client[3] << 32 | v6->client[2];
		place->key[2] = (u64)v6->port << 16 | v6->client_port;
		hash = folded(place->key[0] * secret[1]) + place->key[1];
		hash = folded(hash * secret[1]) + place->key[2];
	} else {
		place->buckets = BUCKETS4;
		place->key[0] = (u64) * (const u32 *)&v4->client_port << 32 | v4->client;
		hash = place->key[0];
	}
	place->hash = folded((hash + front) * secret[0]) * secret[1];
}

static __always_inline u32 first_bucket(const struct place *place)
{
	return place->hash >> (64 - BUCKET_BITS) & (place->buckets - 1);
}

static __always_inline u32 second_bucket(const struct place *place)
{
	return first_bucket(place) ^ (1 + (place->hash >> DISTANCE_FROM & (NEAR - 1)));
}

/* A bucket, or NULL (never). The compiler must know `packet->ipv6`, so that each call has a
 * constant map. */
static __always_inline u64 *bucket4(u32 number)
{
	return (u64 *)connections4.lookup(&number);
}

static __always_inline u64 *bucket6(u32 number)
{
	return apart(connections6.lookup(&number));
}

static __always_inline bool is_flow(const u64 *entry, const struct place *place, int words)
{
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++)
		if (i < words - 1 && read_word(entry + i) != place->key[i])
			return false;
	return true;
}

static __always_inline bool search(u64 *bucket, int words, const struct place *place, u32 front,
				   struct entry *found)
{
	u64 at = 0;

	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 *entry = bucket + i * words;

		if (!is_flow(entry, place, words))
			continue;
		found->is.word = read_word(entry + words - 1);
		if (found->is.record.front == front && is_flow(entry, place, words)) {
			at = opaque(i * words + words - 1);
			break;
		}
	}
	found->bucket = bucket;
	found->word = at & (WAYS * words - 1);
	return at;
}

static __always_inline bool search4(u32 number, const struct place *place, u32 front,
				    struct entry *found)
{
	found->number = number;
	found->words = WORDS4;
	return search(bucket4(number), WORDS4, place, front, found);
}

static __always_inline bool search6(u32 number, const struct place *place, u32 front,
				    struct entry *found)
{
	found->number = number;
	found->words = WORDS6;
	return search(bucket6(number), WORDS6, place, front, found);
}

/* Find the flow's record in either bucket. */
static __always_inline bool find_entry(const struct packet *packet, const struct service *service,
				       u32 front, struct entry *found)
{
	struct place place;

	find_place(packet, service, front, &place);
	found->hash = place.hash;
	if (packet->ipv6)
		return search6(first_bucket(&place), &place, front, found) ||
		       search6(second_bucket(&place), &place, front, found);
	return search4(first_bucket(&place), &place, front, found) ||
	       search4(second_bucket(&place), &place, front, found);
}

/* Replace the record. False if it has changed since it was read. */
static __always_inline bool swap_record(const struct entry *entry, u64 to)
{
	return swap_word(entry->bucket + entry->word, entry->is.word, to);
}

/* Delete a record that is still as the daemon saw it. */
static __always_inline void reap_entry(u64 *bucket, int words, const struct reaped *reaped)
{
	u64 at = opaque((reaped->entry & (WAYS - 1)) * words + words - 1);

	if (bucket)
		swap_word(bucket + at, reaped->word, 0);
}

/* What a new flow may evict. */
struct taking {
	u32 now;
	u32 states;   /* a bit each */
	u32 patience; /* time-out of a SYN */
	u32 assured_after;
	bool is_known; /* the flow ran before, and its record may be assured */
};

/* The entry of a bucket that a new flow would get. */
struct room {
	u64 word;
	u64 worth;
	u64 number;
	u64 used;    /* entries of the bucket */
	u64 assured; /* used entries that are assured */
};

/* All ones for an assured record, else 0. */
static __always_inline u64 if_assured(u64 word)
{
	return if_negative((u64)ASSURED_STATES << (63 - state_of(word)));
}

/* The cost of evicting a record; 0 for a free entry. `like`: number of other flows of its front in
 * the bucket. `ranks`: all ones if used flows cost more. */
static __always_inline u64 worth_of(u64 word, const struct taking *taking, u64 like, u64 ranks)
{
	u64 state = state_of(word), age = age_of(word, taking->now);
	u64 is_new = opaque(age - taking->assured_after - SEEN_NOW - 1) >> 63;
	u64 handicaps = HANDICAPS - is_new * (HANDICAPS - HANDICAPS_NEW);
	u64 handicap = 2 * (handicaps >> state * STATE_WIDTH & 15) + like;
	u64 worth = WORTH + 2 * SEEN_NOW - age - (taking->patience * handicap >> 4);

	worth |= (ranks & (USED | (is_new * USED_IF_NEW)) >> state & 1) << RANK_SHIFT;
	return either(-(u64)(taking->states >> state & 1), worth, KEPT) & if_some(word);
}

/* The number of other records in the bucket that have the same front and are not assured. */
static __always_inline u64 count_like(const u64 *words, int which)
{
	u64 like = 0;

#pragma unroll
	for (int i = 0; i < WAYS; i++)
		if (i != which)
			like -= ~if_some((words[i] ^ words[which]) & FRONT_BITS) &
				~if_assured(words[i]) & if_some(words[i]);
	return like;
}

/* 0 if all records of the bucket have one front, and the new `word` another; else all ones. A front
 * that fills a bucket must not keep others out. */
static __always_inline u64 if_ranked(const u64 *words, u64 word)
{
	u64 differ = 0;

#pragma unroll
	for (int i = 1; i < WAYS; i++)
		differ |= words[i] ^ words[0];
	return if_some(differ & FRONT_BITS) | ~if_some((word ^ words[0]) & FRONT_BITS);
}

static __always_inline void look_for_room(const u64 *bucket, int words, const struct taking *taking,
					  u64 word, struct room *room)
{
	u64 ranks;
	u64 all[WAYS];

	room->worth = 2 * KEPT;
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		all[i] = read_word(bucket + i * words + words - 1);
	ranks = if_ranked(all, word);
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 worth = worth_of(all[i], taking, count_like(all, i), ranks);
		u64 is_less = if_negative(worth - room->worth);

		room->used -= if_some(all[i]);
		room->assured -= if_assured(all[i]);
		room->worth = either(is_less, worth, room->worth);
		room->number = either(is_less, i, room->number);
		room->word = either(is_less, all[i], room->word);
	}
}

/* Write a flow to the entry: the key first, then the record, which makes it visible. */
static __always_inline bool move_in(u64 *bucket, int words, const struct room *room,
				    const struct place *place, u64 word)
{
	u64 *entry = bucket;

	if (DRY_RUN)
		return true;
	entry += (room->number & (WAYS - 1)) * words;
	if (!swap_word(entry + words - 1, room->word, RECORD_BUSY))
		return false;
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++)
		if (i < words - 1)
			*(volatile u64 *)(entry + i) = place->key[i];
	*(volatile u64 *)(entry + words - 1) = word; /* nobody else writes to a busy entry */
	return true;
}

static __always_inline bool is_second_better(const struct room *first, const struct room *second)
{
	if (!first->worth && !second->worth)
		return second->used < first->used;
	return second->worth < first->worth;
}

/* Insert into one of two buckets; see `insert`. */
static __always_inline bool settle(u64 *first, u64 *second, int words, const struct place *place,
				   u64 word, const struct taking *taking, u64 *evicted)
{
	struct room room = {}, other = {};
	u64 *bucket = first;

	if (!first || !second)
		return false;
	look_for_room(first, words, taking, word, &room);
	if (room.used > EASY) {
		look_for_room(second, words, taking, word, &other);
		if (opaque(is_second_better(&room, &other))) {
			room = other;
			bucket = second;
		}
	}
	if (room.worth >= KEPT)
		return false;
	*evicted = room.word;
	if (taking->is_known)
		word = either(if_negative(ASSURED - 1 - room.assured),
			      with_state(word, AS_UNASSURED), word);
	return move_in(bucket, words, &room, place, word);
}

/* Insert a flow that has no record. `evicted`: the record that was there, or 0. False if no entry
 * may be evicted. */
static __always_inline bool insert(const struct packet *packet, const struct place *place, u64 word,
				   const struct taking *taking, u64 *evicted)
{
	u32 first = first_bucket(place), second = second_bucket(place);

	if (packet->ipv6)
		return settle(bucket6(first), bucket6(second), WORDS6, place, word, taking,
			      evicted);
	return settle(bucket4(first), bucket4(second), WORDS4, place, word, taking, evicted);
}

/* The assured flows of a bucket. */
struct share {
	u64 assured;
	u64 service; /* of one of them */
	u64 others;  /* not 0: they belong to several services */
	u64 word;    /* the one that was idle for longest, and its place */
	u64 at;
	u64 age;
};

static __always_inline struct front *front_of(u64 word)
{
	u32 number = (word & FRONT_BITS) >> 16;

	return fronts.lookup(&number);
}

static __always_inline bool find_share_in(u64 *bucket, int words, u32 service, u32 now)
{
	struct share share = {};

	if (!bucket)
		return false;
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 word = read_word(bucket + i * words + words - 1), is_one = if_assured(word);
		u64 age = age_of(word, now) & is_one, owner, is_older;
		struct front *front = front_of(word);

		if (!front)
			return false;
		owner = front->service;
		is_older = if_negative(share.age - age);
		share.others |= (share.service ^ owner) & is_one & if_some(share.assured);
		share.service = either(is_one, owner, share.service);
		share.assured -= is_one;
		share.age = either(is_older, age, share.age);
		share.word = either(is_older, word, share.word);
		share.at = either(is_older, i * words + words - 1, share.at);
	}
	if (opaque(share.assured) < ASSURED)
		return true;
	if (opaque(share.others) || share.service == service)
		return false;
	return swap_word(bucket + (opaque(share.at) & (WAYS * words - 1)), share.word,
			 with_state(share.word, AS_UNASSURED));
}

/* True if the flow may be assured in its bucket. */
static __always_inline bool find_share(const struct entry *entry, u32 service, u32 now)
{
	if (entry->words == WORDS6)
		return find_share_in(bucket6(entry->number), WORDS6, service, now);
	return find_share_in(bucket4(entry->number), WORDS4, service, now);
}

#endif
