/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of connections: buckets of four entries; one cache line holds an IPv4 flow's, two an IPv6 flow's.
 *
 * A flow has two buckets and stands in the first, unless that was rather full when it came. The last word of an entry is
 * its record, and its lock: a record changes by compare-and-swap only, and says RECORD_BUSY while another flow moves
 * in. Who finds the flow's key before and after the record has the flow's record, where stores are seen in their order
 * (x86-64; elsewhere one packet may take the record of a flow that moves in for that of the flow that moves out).
 *
 * A flow that finds no free entry takes one over: rather of a closed flow than of one that has shown a single packet,
 * rather of that than of one that ends, and of its like the one that was idle for longest. It never takes a running
 * flow's that was not idle for some time. So a flood of SYNs, or of datagrams from made-up addresses, takes its own.
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

/* What a record is worth that could make room: 4 bits by its state. Number 0 is RECORD_BUSY's. */
#define RANKS	     0xfffffff31344222fULL
#define RUNNING_RANK 4ULL
#define RANK_SHIFT   24
#define RUNNING	     (RUNNING_RANK << RANK_SHIFT)
#define STATE_SHIFT  30 /* in struct record */
#define SEEN_SHIFT   42
#define SEEN_NOW     (1 << (SEEN_BITS - 1))

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
	u64 word; /* which of the bucket's */
	union record_word is;
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

/* The flow's record, wherever it stands. */
static __always_inline bool find_entry(const struct packet *packet, const struct service *service,
				       u32 front, struct entry *found)
{
	struct place place;

	find_place(packet, service, front, &place);
	if (packet->ipv6)
		return search(bucket6(first_bucket(&place)), WORDS6, &place, front, found) ||
		       search(bucket6(second_bucket(&place)), WORDS6, &place, front, found);
	return search(bucket4(first_bucket(&place)), WORDS4, &place, front, found) ||
	       search(bucket4(second_bucket(&place)), WORDS4, &place, front, found);
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

/* The entry of a bucket that a newcomer would take. */
struct room {
	u64 word;
	u64 worth;
	u64 number;
	u64 used;    /* in the bucket */
	u64 running; /* of them, flows that a newcomer may not push out */
};

/* What is lost with a record; 0: nothing. By rank, then by time: the later it was seen, the more. */
static __always_inline u64 worth_of(u64 word, u32 now)
{
	u64 rank = RANKS >> (word >> STATE_SHIFT & 15) * 4 & 15;
	u64 seen = (word >> SEEN_SHIFT) - now + SEEN_NOW;

	return (rank << RANK_SHIFT | (seen & (2 * SEEN_NOW - 1))) & if_some(word);
}

static __always_inline void look_for_room(const u64 *bucket, int words, u32 now, struct room *room)
{
	room->worth = ~0U;
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		u64 word = read_word(bucket + i * words + words - 1);
		u64 worth = worth_of(word, now);
		u64 is_less = if_negative(worth - room->worth);

		room->used -= if_some(word);
		room->running -= if_negative(RUNNING - 1 - worth);
		room->worth = either(is_less, worth, room->worth);
		room->number = either(is_less, i, room->number);
		room->word = either(is_less, word, room->word);
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

/* Which of the two buckets. In a flood both are full of flows that have shown a single packet; if the oldest of them decided,
 * running flows would gather in some buckets, by chance, until nobody else finds room there. */
static __always_inline bool is_second_better(const struct room *first, const struct room *second)
{
	if (!first->worth && !second->worth)
		return second->used < first->used;
	if (first->worth >> RANK_SHIFT == second->worth >> RANK_SHIFT &&
	    first->running != second->running)
		return second->running < first->running;
	return second->worth < first->worth;
}

/* Into one of two buckets; see insert. */
static __always_inline bool settle(u64 *first, u64 *second, int words, const struct place *place,
				   u64 word, u32 now, u32 patience, u64 *evicted)
{
	struct room room = {}, other = {};
	u64 *bucket = first;

	if (!first || !second)
		return false;
	look_for_room(first, words, now, &room);
	if (room.used > EASY) {
		look_for_room(second, words, now, &other);
		if (opaque(is_second_better(&room, &other))) {
			room = other;
			bucket = second;
		}
	}
	if (room.worth > RUNNING + SEEN_NOW - patience)
		return false;
	*evicted = room.word;
	return move_in(bucket, words, &room, place, word);
}

/* Put a flow that has no record into the table; `evicted` is the record that made room, or 0. False when none is worth less
 * than a running flow that was idle for `patience` ticks. */
static __always_inline bool insert(const struct packet *packet, const struct place *place, u64 word,
				   u32 now, u32 patience, u64 *evicted)
{
	u32 first = first_bucket(place), second = second_bucket(place);

	if (packet->ipv6)
		return settle(bucket6(first), bucket6(second), WORDS6, place, word, now, patience,
			      evicted);
	return settle(bucket4(first), bucket4(second), WORDS4, place, word, now, patience, evicted);
}

#endif
