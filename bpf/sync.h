/* SPDX-License-Identifier: GPL-2.0-only */
/* Connection sync: merge another director's records into the table. See xdpdirector/sync.
 *
 * Of two records of one flow the newer one wins, by the time of the last packet. Both directors
 * round times to ticks, so records that differ by one tick count as equally new, and the later
 * state wins. So the order of merging does not matter. A record that names another backend is not
 * replaced unless the daemon says so (`wins`): it knows which of two SYNs was later. */
#ifndef XDPDIRECTOR_SYNC_H
#define XDPDIRECTOR_SYNC_H

#include "conntrack.h"
#include "eviction.h"

#define MERGES_EACH 4 /* records per run: the verifier walks through all of them */

/* Where a state comes in a connection's life: the used states come before FIN, CLOSED and
 * REOPENED. */
#define LIFE_ORDER                                                                        \
	(SAME ^ TO(CONNECTION_USED_ESTABLISHED, 6) ^ TO(CONNECTION_USED_UDP, 7) ^         \
	 TO(CONNECTION_FIN, 8) ^ TO(CONNECTION_CLOSED, 9) ^ TO(CONNECTION_REOPENED, 10) ^ \
	 TO(CONNECTION_ASSURED_REOPENED, 11))

static __always_inline u64 order_of(u64 word)
{
	return opaque(LIFE_ORDER) >> record_state(word) * STATE_WIDTH & (MAX_STATES - 1);
}

/* True if the peer's record of the connection is newer. */
static __always_inline bool is_newer(u64 theirs, u64 ours, u32 now)
{
	u64 age = record_age(theirs, now), our_age = record_age(ours, now);

	if (record_state(theirs) == record_state(ours))
		return age < our_age;
	return age + 1 < our_age || (age <= our_age + 1 && order_of(theirs) > order_of(ours));
}

/* The peer's record, without assurance if its bucket has no room for an assured flow of the
 * service. */
static __always_inline u64 allowed(const struct entry *entry, u32 service, u64 theirs, u32 now)
{
	if (mask_if_assured(theirs) && !mask_if_assured(entry->is.word) &&
	    !ct_may_assure(entry, service, now))
		return record_with_state(theirs, AS_UNASSURED);
	return theirs;
}

/* Merge with the record that the table has of the flow. */
static __always_inline u8 merge_with(struct entry *entry, const struct merged *from, u32 service,
				     u32 now)
{
	union record_word before = entry->is, after = { .word = from->word };
	bool is_same = before.record.backend == after.record.backend &&
		       before.record.generation == after.record.generation;

	if (!is_same && !from->wins)
		return MERGE_CONFLICT;
	if (is_same && !is_newer(after.word, before.word, now))
		return MERGE_KEPT;
	after.word = allowed(entry, service, after.word, now);
	if (!ct_swap(entry, after.word))
		return MERGE_KEPT; /* a packet has changed it meanwhile */
	entry->is = after;
	ct_count_load(before, -1);
	ct_count_load(after, 1);
	return MERGE_UPDATED;
}

static __always_inline bool merge_one(struct merged *from, u32 now)
{
	union record_word is = { .word = from->word }, evicted = {};
	struct packet packet = { .ipv6 = from->ipv6 != 0 };
	struct service *service = NULL;
	u32 number = is.record.front;
	struct ct_key key = {};
	struct entry entry = {};
	struct front *front;

	set_ports(&packet, &(struct ports){ from->client_port, from->port });
	if (packet.ipv6)
		__builtin_memcpy(packet.flow.v6.client, from->client, sizeof(from->client));
	else
		packet.flow.v4.client = from->client[0];
	front = fronts.lookup(&number);
	if (front)
		service = services.lookup(&front->service);
	if (!service) {
		from->outcome = MERGE_NO_SERVICE;
		return false;
	}
	if (ct_lookup(&packet, service, number, &entry)) {
		from->outcome = merge_with(&entry, from, front->service, now);
	} else {
		ct_make_key(&packet, service, number, &key);
		if (!ct_insert(&packet, &key, is.word,
			       &(struct eviction){ .if_new = HANDICAPS_KNOWN,
						   .if_old = HANDICAPS_KNOWN,
						   .now = now,
						   .is_known = true },
			       &evicted.word)) {
			from->outcome = MERGE_FULL;
			return false;
		}
		if (evicted.word)
			ct_count_load(evicted, -1);
		ct_count_load(is, 1);
		from->outcome = MERGE_INSERTED;
		if (!ct_lookup(&packet, service, number, &entry))
			return false; /* it was evicted already */
	}
	from->word = entry.is.word;
	from->bucket = entry.number;
	from->entry = entry.word / entry.words;
	return true;
}

#endif
