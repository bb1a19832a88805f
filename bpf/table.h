/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of connections: buckets of four entries; one cache line holds an IPv4 flow's, two an IPv6 flow's.
 *
 * A flow has two buckets and stands in the first, unless that was rather full when it came. The last word of an entry is
 * its record, and its lock: a record changes by compare-and-swap only, and says RECORD_BUSY while another flow moves
 * in. Who finds the flow's key before and after the record has the flow's record, where stores are seen in their order
 * (x86-64; elsewhere one packet may take the record of a flow that moves in for that of the flow that moves out).
 *
 * A flow that finds no free entry takes one over, of the lowest rank: first those that have shown two packets at most, or
 * ended some seconds ago; then the used ones, which have shown a third. An assured flow is never pushed out. Within a rank the one goes
 * that was seen first. A handicap makes some seem older: those that have shown a single packet, have ended or were closed,
 * and a little each that shares the bucket with others of its front. So a flood of made-up flows takes its own, however
 * many packets each of them has, and none that has shown more. At most ASSURED of a bucket's flows are assured, so that
 * newcomers find room and nobody is turned away; and when all of them are of one service, a flow of another one that is to
 * be assured takes the place of the one that was idle for longest.
 *
 * The hash is multiply-shift (Dietzfelbinger et al., 1997), twice, with multipliers that are secret and each service's own,
 * so that nobody can aim flows at a bucket.
 */
#ifndef XDPDIRECTOR_TABLE_H
#define XDPDIRECTOR_TABLE_H

#include "branchless.h"
#include "maps.h"
#include "parse.h"

#define WORDS4	    2 /* in an entry; the last is the record */
#define WORDS6	    4
#define KEY_WORDS   3
#define NEAR	    32 /* the second bucket is within so many, and so mostly in the same page of memory */
#define EASY	    1 /* so many flows in its first bucket, and a newcomer does not look at the second */
#define RECORD_BUSY 1ULL

#define ASSURED 3 /* flows of a bucket */

/* States, a bit each: whose records never make room, do, and do only where there is no other, the last ones while they are
 * new; and which have shown what opens a flow, and no end. */
#define ASSURED_STATES 0xf200
#define UNASSURED      0x0dfe
#define USED	       0x0d00
#define USED_IF_NEW    0x00c0
#define RUNNING	       0x3c30

/* The same flow with another rank, 4 bits by its state. */
#define AS_USED	     0xfedcba9876ba3210ULL
#define AS_ASSURED   0xfedcdc9876dc3210ULL
#define AS_UNASSURED 0x76baba8876543210ULL

/* How much older a record seems, 4 bits by its state, in eighths of the time that a SYN is waited with: first of those whose
 * handshake, or whose end, may go on still, and of the others. Next to that, sixteenths for each flow of the same front. */
#define HANDICAPS_NEW 0x000002220ULL
#define HANDICAPS     0x0f8008880ULL
#define FRONT_BITS    0x3fff0000
#define KEPT	      (1ULL << 32) /* worth of what makes no room */
#define RANK_SHIFT    28	   /* and of used flows so much more: of all the others together */
#define WORTH	      (1 << 26)	   /* of what was seen now, without handicap, at the least */

#define STATE_SHIFT 30 /* in struct record */
#define SEEN_SHIFT  42
#define SEEN_NOW    (1 << (SEEN_BITS - 1))

/* A flow as its entry has it, and where it may stand. */
struct place {
	u64 key[KEY_WORDS];
	u64 hash;
	u32 buckets; /* how many there are */
};

union record_word {
	struct record record;
	u64 word;
};

/* A record where it stands, and what it said. */
struct entry {
	u64 *bucket;
	u32 number; /* the bucket's */
	u32 words;  /* of an entry there */
	u64 hash;   /* of the flow */
	u64 word;   /* which of the bucket's */
	union record_word is;
	bool is_confirmed; /* by the packet that came just now, in most cases the flow's second */
};

static __always_inline u32 ticks(u64 jiffies)
{
	return jiffies >> TICK_SHIFT & ((1 << SEEN_BITS) - 1);
}

/* Since the record was seen, from SEEN_NOW on. Below that when another processor saw it after `now` was read. */
static __always_inline u64 age_of(u64 word, u64 now)
{
	return (now - (word >> SEEN_SHIFT) + SEEN_NOW) & (2 * SEEN_NOW - 1);
}

static __always_inline u64 state_of(u64 word)
{
	return word >> STATE_SHIFT & (MAX_STATES - 1);
}

/* The word with the state that one of the tables above has for its own. */
static __always_inline u64 with_state(u64 word, u64 states)
{
	u64 state = opaque(states) >> state_of(word) * 4 & (MAX_STATES - 1);

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
	return place->hash >> 42 & (place->buckets - 1);
}

static __always_inline u32 second_bucket(const struct place *place)
{
	return first_bucket(place) ^ (1 + (place->hash >> 20 & (NEAR - 1)));
}

/* A bucket, or NULL (never). Which map it is of is known where the compiler knows `packet->ipv6`. */
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

/* The flow's record, wherever it stands. */
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

/* False when it is not as it was read any more. */
static __always_inline bool swap_record(const struct entry *entry, u64 to)
{
	return swap_word(entry->bucket + entry->word, entry->is.word, to);
}

/* Forget a record, when it still is as the daemon saw it. */
static __always_inline void reap_entry(u64 *bucket, int words, const struct reaped *reaped)
{
	u64 at = opaque((reaped->entry & (WAYS - 1)) * words + words - 1);

	if (bucket)
		swap_word(bucket + at, reaped->word, 0);
}

/* What a newcomer may take. */
struct taking {
	u32 now;
	u32 states;   /* a bit each */
	u32 patience; /* the time that a SYN is waited with */
	u32 assured_after;
	bool is_known; /* it has run before, and may be assured */
};

/* The entry of a bucket that a newcomer would take. */
struct room {
	u64 word;
	u64 worth;
	u64 number;
	u64 used;    /* in the bucket */
	u64 assured; /* of them */
};

/* All ones for an assured flow's record, else 0. */
static __always_inline u64 if_assured(u64 word)
{
	return if_negative((u64)ASSURED_STATES << (63 - state_of(word)));
}

/* What is lost with a record; 0: nothing. `like`: how many in the bucket are of its front, besides; `ranks`: all ones where
 * used ones are worth more. */
static __always_inline u64 worth_of(u64 word, const struct taking *taking, u64 like, u64 ranks)
{
	u64 state = state_of(word), age = age_of(word, taking->now);
	u64 is_new = opaque(age - taking->assured_after - SEEN_NOW - 1) >> 63;
	u64 handicaps = HANDICAPS - is_new * (HANDICAPS - HANDICAPS_NEW);
	u64 handicap = 2 * (handicaps >> state * 4 & 15) + like;
	u64 worth = WORTH + 2 * SEEN_NOW - age - (taking->patience * handicap >> 4);

	worth |= (ranks & (USED | (is_new * USED_IF_NEW)) >> state & 1) << RANK_SHIFT;
	return either(-(u64)(taking->states >> state & 1), worth, KEPT) & if_some(word);
}

/* How many of the others' words are of unassured flows of this one's front. */
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

/* All ones, unless all are of one front, and the newcomer, whose record is `word`, of another. */
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

/* Let the flow in: its key first, then the record, which shows it. */
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
	*(volatile u64 *)(entry + words - 1) = word; /* nobody else writes where it says busy */
	return true;
}

static __always_inline bool is_second_better(const struct room *first, const struct room *second)
{
	if (!first->worth && !second->worth)
		return second->used < first->used;
	return second->worth < first->worth;
}

/* Into one of two buckets; see insert. */
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

/* Put a flow that has no record into the table; `evicted` is the record that made room, or 0. False when none may be taken. */
static __always_inline bool insert(const struct packet *packet, const struct place *place, u64 word,
				   const struct taking *taking, u64 *evicted)
{
	u32 first = first_bucket(place), second = second_bucket(place);

	if (packet->ipv6)
		return settle(bucket6(first), bucket6(second), WORDS6, place, word, taking,
			      evicted);
	return settle(bucket4(first), bucket4(second), WORDS4, place, word, taking, evicted);
}

/* Assured flows of a bucket. */
struct share {
	u64 assured;
	u64 service; /* of one of them */
	u64 others;  /* not 0: they are of several services */
	u64 word;    /* the one that was idle for longest, and where it stands */
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

/* Whether a flow of the service may be assured where it stands. */
static __always_inline bool find_share(const struct entry *entry, u32 service, u32 now)
{
	if (entry->words == WORDS6)
		return find_share_in(bucket6(entry->number), WORDS6, service, now);
	return find_share_in(bucket4(entry->number), WORDS4, service, now);
}

#endif
