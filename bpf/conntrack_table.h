/* SPDX-License-Identifier: GPL-2.0-only */
/* The conntrack table: buckets of four entries. A bucket of IPv4 flows is one cache line, one of
 * IPv6 flows two.
 *
 * A flow has two possible buckets. It is inserted into the first, unless more than
 * FIRST_BUCKET_FILL entries are used there and the second is the better one. The last word of an
 * entry is its record and also its lock: a record changes only by compare and swap, and is
 * RECORD_BUSY while another flow is written to the entry. A reader that finds the flow's key before
 * and after reading the record has the flow's record: loads and stores are seen in their order, see
 * memory_order.h.
 *
 * eviction.h says which flow a new one evicts if both buckets are full.
 *
 * The hash is multiply-shift (Dietzfelbinger et al., 1997), twice. The multipliers are secret and
 * differ between services, so that nobody can aim flows at a bucket. */
#ifndef XDPDIRECTOR_CONNTRACK_TABLE_H
#define XDPDIRECTOR_CONNTRACK_TABLE_H

#include "memory_order.h"
#include "maps.h"
#include "parse.h"

#define WORDS4		   2 /* of an entry; the last one is the record */
#define WORDS6		   4
#define KEY_WORDS	   3
#define SECOND_BUCKET_SPAN 32 /* distance of the second bucket: mostly on the same page of memory */
#define FIRST_BUCKET_FILL \
	1 /* used entries of the first bucket up to which the second is not read */
#define RECORD_BUSY 1ULL

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

/* Sets of states, a bit each. RUNNING: the flow was confirmed and has not ended. USED: a third
 * packet has come. ASSURED_STATES: the flow is never evicted. */
#define USED_RUNNING	(1 << CONNECTION_USED_ESTABLISHED | 1 << CONNECTION_USED_UDP)
#define USED		(1 << CONNECTION_REOPENED | USED_RUNNING)
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

/* `words`: the key; `secret`: the service's multipliers. */
static __always_inline u64 ct_hash(const u64 *words, bool ipv6, u32 front, const u64 *secret)
{
	u64 hash = words[0];

	if (ipv6) {
		hash = fold64(hash * secret[1]) + words[1];
		hash = fold64(hash * secret[1]) + words[2];
	}
	return fold64((hash + front) * secret[0]) * secret[1];
}

static __always_inline void ct_make_key(const struct packet *packet, const struct service *service,
					u32 front, struct ct_key *key)
{
	const struct flow4 *v4 = &packet->flow.v4;
	const struct flow6 *v6 = &packet->flow.v6;

	if (packet->ipv6) {
		key->buckets = BUCKETS6;
		key->words[0] = (u64)v6->client[1] << 32 | v6->client[0];
		key->words[1] = (u64)v6->client[3] << 32 | v6->client[2];
		key->words[2] = (u64)v6->port << 16 | v6->client_port;
	} else {
		key->buckets = BUCKETS4;
		key->words[0] = (u64) * (const u32 *)&v4->client_port << 32 | v4->client;
	}
	key->hash = ct_hash(key->words, packet->ipv6, front, service->multipliers);
}

static __always_inline u32 first_bucket(const struct ct_key *key)
{
	return key->hash >> (64 - BUCKET_BITS) & (key->buckets - 1);
}

/* The other bucket of a flow that has this one. */
static __always_inline u32 other_bucket(u32 bucket, u64 hash)
{
	return bucket ^ (1 + (hash >> DISTANCE_FROM & (SECOND_BUCKET_SPAN - 1)));
}

static __always_inline u32 second_bucket(const struct ct_key *key)
{
	return other_bucket(first_bucket(key), key->hash);
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

/* `read`: gets what was read, for `behind`. */
static __always_inline bool entry_has_key(const u64 *entry, const struct ct_key *key, int words,
					  u64 *read)
{
#pragma unroll
	for (int i = 0; i < KEY_WORDS; i++) {
		u64 word;

		if (i >= words - 1)
			continue;
		word = read_once(entry + i);
		*read |= as_read(word);
		if (word != key->words[i])
			return false;
	}
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
		const u64 *entry = bucket + i * words;
		u64 read = 0;

		if (!entry_has_key(entry, key, words, &read))
			continue;
		found->is.word = read_once(behind(entry, read) + words - 1);
		entry = behind(entry, as_read(found->is.word));
		if (found->is.record.front == front && entry_has_key(entry, key, words, &read)) {
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

/* All ones for an assured record, else 0. */
static __always_inline u64 mask_if_assured(u64 word)
{
	return mask_if_negative((u64)ASSURED_STATES << (63 - record_state(word)));
}

#endif
