/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections: what is remembered of a flow, and for how long.
 *
 * A flow that has shown one packet is pending; its second packet (for TCP: the first that is no SYN) makes it a running
 * one, which no newcomer can push out. Time is in jiffies: reading them costs one load, a clock thirty times that.
 */
#ifndef XDPDIRECTOR_CONNECTION_H
#define XDPDIRECTOR_CONNECTION_H

#include "choice.h"
#include "explain.h"
#include "maps.h"
#include "parse.h"
#include "table.h"

static __always_inline bool is_active(u8 state)
{
	return state != CONNECTION_FIN && state != CONNECTION_CLOSED;
}

/* One connection of the record's backend more (by = 1) or less (-1), active or not. A backend that has the index of an
 * earlier one was never counted that one's connections. */
static __always_inline void add_load(union record_word is, s32 by)
{
	u32 index = is.record.backend;
	struct backend *backend = backends.lookup(&index);
	struct load *load = load_of(index);

	if (!backend || !load || (u8)backend->generation != is.record.generation)
		return;
	if (DRY_RUN)
		note_load(index, is_active(is.record.state), by);
	else
		__sync_fetch_and_add(is_active(is.record.state) ? &load->active : &load->inactive,
				     by);
}

/* One of its connections ended, or is active again. */
static __always_inline void move_load(union record_word is, s32 active)
{
	u32 index = is.record.backend;
	struct backend *backend = backends.lookup(&index);
	struct load *load = load_of(index);

	if (!backend || !load || (u8)backend->generation != is.record.generation || DRY_RUN)
		return;
	__sync_fetch_and_add(&load->active, active);
	__sync_fetch_and_add(&load->inactive, -active);
}

static __always_inline u8 next_state(u8 state, const struct packet *packet)
{
	if (state == CONNECTION_UDP)
		return state;
	if (packet->flags & TCP_RST)
		return CONNECTION_CLOSED;
	if (packet->flags & TCP_FIN && state != CONNECTION_CLOSED)
		return CONNECTION_FIN;
	return state == CONNECTION_SYN && !is_opening(packet) ? CONNECTION_ESTABLISHED : state;
}

static __always_inline bool has_expired(union record_word is, const struct service *service,
					u64 now)
{
	return idle_ticks(is, now) > (s64)service->timeouts[is.record.state % MAX_STATES];
}

/* Forget the flow, so that it can be scheduled anew. */
static __always_inline void forget(const struct entry *entry)
{
	if (swap_record(entry, 0))
		add_load(entry->is, -1);
}

/* Whether a packet changes nothing of the flow's record but when it was seen. */
static __always_inline bool stays(const struct entry *entry, const struct packet *packet,
				  const struct service *service, u32 now)
{
	return !(packet->flags & (TCP_FIN | TCP_SYN | TCP_RST)) && !entry->is.record.pending &&
	       !has_expired(entry->is, service, now);
}

/* When another processor changed the record meanwhile, it saw a packet that is as late. */
static __always_inline void refresh(const struct entry *entry, u32 now)
{
	union record_word after = entry->is;

	if (idle_ticks(after, now) <= 0)
		return;
	after.record.seen = now;
	swap_record(entry, after.word);
}

/* The record as it is after this packet. */
static __always_inline void renew(struct entry *entry, const struct packet *packet, u32 now)
{
	union record_word before = entry->is, after = before;

	after.record.state = opaque(next_state(before.record.state, packet));
	after.record.pending &= opaque(is_opening(packet));
	after.record.seen = now;
	if (after.word == before.word || !swap_record(entry, after.word))
		return;
	entry->is = after;
	if (is_active(before.record.state) != is_active(after.record.state))
		move_load(after, 2 * opaque(is_active(after.record.state)) - 1);
}

/* The flow's record as it stands after this packet. False when there is none, or none that still holds: it has
 * timed out, or a SYN opens the connection anew after its end (RFC 9293, 3.6.1). */
static __always_inline bool recall(const struct packet *packet, const struct service *service,
				   u32 front, u32 now, struct entry *entry)
{
	if (!find_entry(packet, service, front, entry))
		return false;
	if (has_expired(entry->is, service, now) ||
	    (is_opening(packet) && !is_active(entry->is.record.state))) {
		forget(entry);
		return false;
	}
	renew(entry, packet, now);
	return true;
}

#endif
