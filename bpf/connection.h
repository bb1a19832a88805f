/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections: what is remembered of a flow, and for how long.
 *
 * A flow that has shown one packet is pending; its second packet (for TCP: the first that is no SYN) establishes it; a
 * third one makes it a used one, and one that comes some seconds after the second an assured one, which no newcomer can
 * push out: see table.h. Until then a record has the time of its second packet. Time is in jiffies: reading them costs one load, a clock thirty times that.
 *
 * The replies never come this way, so nothing tells a FIN, a RST or a SYN of the client's from one that somebody made up
 * who knows addresses and ports. None of them moves a running flow. What the client sends afterwards says how it was: an
 * ACK after a RST, or data after a FIN, that the connection is established; a SYN stays with the backend of the record,
 * while that backend serves, and opens a new connection there if there is none.
 */
#ifndef XDPDIRECTOR_CONNECTION_H
#define XDPDIRECTOR_CONNECTION_H

#include "choice.h"
#include "notes.h"
#include "maps.h"
#include "parse.h"
#include "table.h"

/* All but FIN and CLOSED, assured or not. */
static __always_inline bool is_active(u8 state)
{
	return (state & CONNECTION_FIN) != CONNECTION_FIN;
}

/* It has shown more than what opens it, and no end: ESTABLISHED and UDP, of any rank. */
static __always_inline bool is_running(u64 state)
{
	return RUNNING >> state & 1;
}

/* It runs, and cannot be pushed out. */
static __always_inline bool is_assured(u64 state)
{
	return state >= CONNECTION_ASSURED_ESTABLISHED;
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

/* The state after a packet: 4 bits by the state before. DATA is after an ACK with data, OTHER after what has no ACK, and
 * UDP's. */
#define AFTER_RST   0xffff77f777777770ULL
#define AFTER_FIN   0xeeee66e666666660ULL
#define AFTER_SYN   0x99dcba9888543210ULL
#define AFTER_ACK   0xcedcbaca46545440ULL
#define AFTER_DATA  0xccdcbaca44545440ULL
#define AFTER_OTHER 0xfedcbaca76545440ULL

static __always_inline u8 next_state(u64 state, const struct packet *packet, bool has_data)
{
	u64 after = AFTER_OTHER;

	if (packet->flags & TCP_RST)
		after = AFTER_RST;
	else if (packet->flags & TCP_FIN)
		after = AFTER_FIN;
	else if (is_opening(packet))
		after = AFTER_SYN;
	else if (packet->flags & TCP_ACK)
		after = has_data ? AFTER_DATA : AFTER_ACK;
	return opaque(after) >> state * 4 & (MAX_STATES - 1);
}

/* Of a flow's first packet. */
static __always_inline u8 first_state(const struct packet *packet)
{
	if (packet->protocol == IPPROTO_UDP)
		return CONNECTION_DATAGRAM;
	if (packet->flags & TCP_RST)
		return CONNECTION_CLOSED;
	if (packet->flags & TCP_FIN)
		return CONNECTION_FIN;
	return is_opening(packet) ? CONNECTION_SYN : CONNECTION_MIDSTREAM;
}

static __always_inline bool has_expired(union record_word is, const struct service *service,
					u64 now)
{
	return age_of(is.word, now) > service->timeouts[state_of(is.word)] + SEEN_NOW;
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
	return !(packet->flags & (TCP_FIN | TCP_SYN | TCP_RST)) &&
	       age_of(entry->is.word, now) <= service->stays[state_of(entry->is.word)];
}

/* When another processor changed the record meanwhile, it saw a packet that is as late. */
static __always_inline void refresh(const struct entry *entry, u32 now)
{
	union record_word after = entry->is;

	if (age_of(after.word, now) <= SEEN_NOW || !is_assured(state_of(after.word)))
		return;
	after.record.seen = now;
	swap_record(entry, after.word);
}

static __always_inline void change(struct entry *entry, union record_word after)
{
	union record_word before = entry->is;

	if (after.word == before.word || !swap_record(entry, after.word))
		return;
	entry->is = after;
	entry->is_confirmed = is_running(after.record.state) && !is_running(before.record.state);
	if (is_active(before.record.state) != is_active(after.record.state))
		move_load(after, 2 * opaque(is_active(after.record.state)) - 1);
}

/* The record as it is after this packet. */
static __always_inline void renew(struct entry *entry, const struct packet *packet, u32 now,
				  bool has_data)
{
	union record_word after = entry->is;

	after.record.state = next_state(state_of(after.word), packet, has_data);
	after.record.seen = now;
	change(entry, after);
}

/* The same of a running flow that goes on: it is a used one; when its second packet was long enough ago, it is assured, or
 * shows its second packet only now where its bucket has no share for it. */
static __always_inline void assure(struct entry *entry, const struct service *service,
				   u32 service_index, u32 now)
{
	union record_word after = entry->is;

	if (age_of(after.word, now) <= SEEN_NOW + service->assured_after) {
		after.word = with_state(after.word, AS_USED);
	} else {
		after.record.seen = now;
		after.word = with_state(
			after.word, find_share(entry, service_index, now) ? AS_ASSURED : AS_USED);
	}
	if (swap_record(entry, after.word))
		entry->is = after; /* it may be forgotten yet, when its backend is lost */
}

/* The flow's record as it stood before this packet. False when there is none, or it has timed out. */
static __always_inline bool recall(const struct packet *packet, const struct service *service,
				   u32 front, u32 now, struct entry *entry)
{
	if (!find_entry(packet, service, front, entry))
		return false;
	if (!has_expired(entry->is, service, now))
		return true;
	forget(entry);
	return false;
}

#endif
