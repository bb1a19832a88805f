/* SPDX-License-Identifier: GPL-2.0-only */
/* Relocation (cuckoo hashing: Pagh and Rodler, 2004), one step deep: a used flow moves from a full
 * bucket to its other one. So new flows evict no used flow while the table has room elsewhere.
 *
 * The copy is written first, then the entry is deleted. A packet in between finds either; if it has
 * changed the entry, the copy is deleted instead. */
#ifndef XDPDIRECTOR_RELOCATE_H
#define XDPDIRECTOR_RELOCATE_H

#include "conntrack.h"
#include "eviction.h"

/* The hash of the flow that an entry has, or 0. */
static __always_inline u64 hash_of_entry(const u64 *key, int words, u64 word)
{
	struct front *front = record_front(word);
	struct service *service = NULL;

	if (front)
		service = services.lookup(&front->service);
	if (!service)
		return 0;
	return ct_hash(key, words == WORDS6, (word & FRONT_BITS) >> BACKEND_WIDTH,
		       service->multipliers);
}

/* Write the flow to a free entry of the bucket, or if it may evict a flow, to that one's. Returns
 * the entry's record, or NULL. */
static __always_inline u64 *ct_copy(u64 *bucket, int words, const u64 *key, u64 word,
				    const struct eviction *eviction, bool may_evict)
{
	struct victim victim = {};
	u64 records[WAYS], free;

	bucket_read(bucket, words, records);
	free = free_entries(records);
	if (free)
		victim.number = look_up_nibble(FIRST_FREE, free);
	else if (!may_evict || find_cheapest(records, 0, eviction, &victim) >= COST_KEPT)
		return NULL;
	if (!ct_write_entry(bucket, words, &victim, key, word))
		return NULL;
	if (victim.word)
		ct_count_load((union record_word){ .word = victim.word }, -1);
	return bucket + (opaque(victim.number) & (WAYS - 1)) * words + words - 1;
}

/* Move the flow of an entry to its other bucket. False if it is not a used flow, or finds no entry
 * there. It evicts only for a new flow of its own front: another one's flood, or need, is no reason
 * to evict flows elsewhere. */
static __always_inline bool ct_move(u64 *bucket, u32 number, u64 which, int words,
				    const struct eviction *eviction, u32 front)
{
	u64 key[KEY_WORDS] = {}, word, hash, *entry, *copy, *other;
	const u64 *words_of_key;

	if (!bucket)
		return false;
	entry = bucket + (which & (WAYS - 1)) * words;
	word = read_once(entry + words - 1);
	if (!(USED >> record_state(word) & 1))
		return false;
	words_of_key = behind(entry, as_read(word));
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++)
		if (i < words - 1)
			key[i] = read_once(words_of_key + i);
	hash = hash_of_entry(key, words, word);
	if (!hash)
		return false;
	number = other_bucket(number, hash);
	other = words == WORDS6 ? bucket6(number) : bucket4(number);
	if (!other)
		return false;
	copy = ct_copy(other, words, key, word, eviction,
		       (word & FRONT_BITS) >> BACKEND_WIDTH == front);
	if (!copy)
		return false;
	if (compare_and_swap(entry + words - 1, word, 0))
		return true;
	compare_and_swap(copy, word, 0);
	return false;
}

/* Free an entry in the buckets of a flow: number `which` of both. False if its flow does not
 * move. */
static __always_inline bool ct_make_room(const struct packet *packet, const struct service *service,
					 u32 front, u32 now, u64 which)
{
	struct eviction eviction = { .if_new = HANDICAPS_NEW,
				     .if_old = HANDICAPS,
				     .now = now,
				     .syn_timeout = service->timeouts[CONNECTION_SYN],
				     .assured_after = service->assured_after };
	struct ct_key key = {};
	u64 number;

	if (DRY_RUN)
		return false;
	ct_make_key(packet, service, front, &key);
	number = select_by_mask(mask_if_nonzero(which & WAYS), second_bucket(&key),
				first_bucket(&key));
	if (packet->ipv6)
		return ct_move(bucket6(number), number, which, WORDS6, &eviction, front);
	return ct_move(bucket4(number), number, which, WORDS4, &eviction, front);
}

/* Delete the unassured flow that was seen first in two full buckets. */
static __always_inline void ct_evict_bucket(u64 *first, u64 *second, int words,
					    const struct eviction *eviction)
{
	struct victim victim = {}, other = {};
	u64 records[WAYS], others[WAYS], cheapest, cheapest_second;
	u64 *bucket = first;

	if (!first || !second)
		return;
	bucket_read(first, words, records);
	bucket_read(second, words, others);
	cheapest = find_cheapest(records, 0, eviction, &victim);
	cheapest_second = find_cheapest(others, 0, eviction, &other);
	if (opaque(cheapest_second) < cheapest) {
		victim = other;
		bucket = second;
		cheapest = cheapest_second;
	}
	if (cheapest < COST_KEPT &&
	    compare_and_swap(bucket + (opaque(victim.number) & (WAYS - 1)) * words + words - 1,
			     victim.word, 0) &&
	    victim.word)
		ct_count_load((union record_word){ .word = victim.word }, -1);
}

/* No used flow of the new flow's buckets can move: one of them goes. */
static __always_inline void ct_evict_used(const struct packet *packet,
					  const struct service *service, u32 front, u32 now)
{
	struct eviction eviction = { .if_new = HANDICAPS_LAST,
				     .if_old = HANDICAPS_LAST,
				     .now = now };
	struct ct_key key = {};
	u32 number, second;

	if (DRY_RUN)
		return;
	ct_make_key(packet, service, front, &key);
	number = first_bucket(&key);
	second = second_bucket(&key);
	if (packet->ipv6)
		ct_evict_bucket(bucket6(number), bucket6(second), WORDS6, &eviction);
	else
		ct_evict_bucket(bucket4(number), bucket4(second), WORDS4, &eviction);
}

#endif
