/* SPDX-License-Identifier: GPL-2.0-only */
/* Connection sync: merges another director's records into the table. See xdpdirector/sync.
 *
 * The newer record of a flow wins, by the time of the last packet. Both directors round that to ticks, so records that are
 * one tick apart count as equally new, and the later state wins; whoever merges in whatever order ends with the same
 * record. A record that names another backend is not replaced, unless the daemon says so (`wins`): which of two SYNs was
 * later is known there.
 */
#ifndef XDPDIRECTOR_SYNC_H
#define XDPDIRECTOR_SYNC_H

#include "connection.h"
#include "table.h"

#define MERGES_EACH 4 /* records in a run: the verifier walks through all of them */

/* Which state comes later in a connection's life, 4 bits by state: as they are numbered, but for the used ones. */
#define ORDER 0xfedc76ba98543210ULL

static __always_inline u64 order_of(u64 word)
{
	return opaque(ORDER) >> state_of(word) * 4 & (MAX_STATES - 1);
}

/* Whether the peer's record of the same connection is newer. */
static __always_inline bool is_newer(u64 theirs, u64 ours, u32 now)
{
	u64 age = age_of(theirs, now), our_age = age_of(ours, now);

	if (state_of(theirs) == state_of(ours))
		return age < our_age;
	return age + 1 < our_age || (age <= our_age + 1 && order_of(theirs) > order_of(ours));
}

/* The peer's record as it may stand here: assured only where its bucket has a share left for its service. */
static __always_inline u64 allowed(const struct entry *entry, u32 service, u64 theirs, u32 now)
{
	if (if_assured(theirs) && !if_assured(entry->is.word) && !find_share(entry, service, now))
		return with_state(theirs, AS_UNASSURED);
	return theirs;
}

/* The table has a record of the flow. */
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
	if (!swap_record(entry, after.word))
		return MERGE_KEPT; /* a packet was faster */
	entry->is = after;
	add_load(before, -1);
	add_load(after, 1);
	return MERGE_UPDATED;
}

static __always_inline bool merge_one(struct merged *from, u32 now)
{
	union record_word is = { .word = from->word }, evicted = {};
	struct packet packet = { .ipv6 = from->ipv6 != 0 };
	struct service *service = NULL;
	u32 number = is.record.front;
	struct place place = {};
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
	if (find_entry(&packet, service, number, &entry)) {
		from->outcome = merge_with(&entry, from, front->service, now);
	} else {
		find_place(&packet, service, number, &place);
		if (!insert(&packet, &place, is.word,
			    &(struct taking){
				    .now = now, .states = UNASSURED & ~RUNNING, .is_known = true },
			    &evicted.word)) {
			from->outcome = MERGE_FULL;
			return false;
		}
		if (evicted.word)
			add_load(evicted, -1);
		add_load(is, 1);
		from->outcome = MERGE_INSERTED;
		if (!find_entry(&packet, service, number, &entry))
			return false; /* it is gone again */
	}
	from->word = entry.is.word;
	from->bucket = entry.number;
	from->entry = entry.word / entry.words;
	return true;
}

#endif
