/* SPDX-License-Identifier: GPL-2.0-only */
/* Connection tracking: the states of a record, and its time-outs.
 *
 * A flow with one packet is pending. Its second packet (for TCP: the first without SYN) establishes
 * it, a third makes it used, and one that comes some seconds after the second makes it assured: no
 * new flow can evict it (see eviction.h). Until then the record keeps the time of its second
 * packet. Time is in jiffies: reading them is one load, and reading a clock costs thirty times as
 * much.
 *
 * SCTP has the states of TCP: parse.h gives its chunks TCP's flags.
 *
 * Replies bypass the director, so it cannot tell a client's FIN, RST or SYN from one that was
 * spoofed with the right addresses and ports. None of them ends or moves a running flow. The
 * client's next packets tell: an ACK after a RST, or data after a FIN, makes the flow established
 * again. A SYN stays with the record's backend while that serves, and opens a new connection there
 * if there is none. */
#ifndef XDPDIRECTOR_CONNTRACK_H
#define XDPDIRECTOR_CONNTRACK_H

#include "backend.h"
#include "notes.h"
#include "maps.h"
#include "parse.h"
#include "conntrack_table.h"
#include "eviction.h"

/* True unless the state is FIN or CLOSED, assured or not. */
static __always_inline bool ct_is_active(u8 state)
{
	return (state & CONNECTION_FIN) != CONNECTION_FIN;
}

/* True if the flow was confirmed and has not ended: ESTABLISHED and UDP, used or assured or not. */
static __always_inline bool ct_is_running(u64 state)
{
	return RUNNING >> state & 1;
}

/* True if the flow cannot be evicted, running or not. */
static __always_inline bool ct_is_assured(u64 state)
{
	return state >= CONNECTION_ASSURED_ESTABLISHED;
}

/* Add a connection to the counts of the record's backend (by = 1), or remove it (-1). A backend
 * that reuses the index of an earlier one never had that one's connections. */
static __always_inline void ct_count_load(union record_word is, s32 by)
{
	u32 index = is.record.backend;
	struct backend *backend = backends.lookup(&index);
	struct load *load = backend_load(index);

	if (!backend || !load || (u8)backend->generation != is.record.generation)
		return;
	if (DRY_RUN)
		note_load(index, ct_is_active(is.record.state), by);
	else
		__sync_fetch_and_add(
			ct_is_active(is.record.state) ? &load->active : &load->inactive, by);
}

/* Move a connection from inactive to active (active = 1), or back (-1). */
static __always_inline void ct_move_load(union record_word is, s32 active)
{
	u32 index = is.record.backend;
	struct backend *backend = backends.lookup(&index);
	struct load *load = backend_load(index);

	if (!backend || !load || (u8)backend->generation != is.record.generation || DRY_RUN)
		return;
	__sync_fetch_and_add(&load->active, active);
	__sync_fetch_and_add(&load->inactive, -active);
}

/* The next state, by state. OTHER: TCP without ACK, and UDP. DATA: an ACK with data. */
#define AFTER_RST (EACH_UNASSURED(CONNECTION_CLOSED) | EACH_ASSURED(CONNECTION_ASSURED_CLOSED))
#define AFTER_FIN (EACH_UNASSURED(CONNECTION_FIN) | EACH_ASSURED(CONNECTION_ASSURED_FIN))
#define AFTER_SYN                                                  \
	(SAME ^ TO(CONNECTION_FIN, CONNECTION_REOPENED) ^          \
	 TO(CONNECTION_CLOSED, CONNECTION_REOPENED) ^              \
	 TO(CONNECTION_ASSURED_FIN, CONNECTION_ASSURED_REOPENED) ^ \
	 TO(CONNECTION_ASSURED_CLOSED, CONNECTION_ASSURED_REOPENED))
#define AFTER_OTHER                                             \
	(SAME ^ TO(CONNECTION_SYN, CONNECTION_ESTABLISHED) ^    \
	 TO(CONNECTION_MIDSTREAM, CONNECTION_ESTABLISHED) ^     \
	 TO(CONNECTION_DATAGRAM, CONNECTION_UDP) ^              \
	 TO(CONNECTION_REOPENED, CONNECTION_USED_ESTABLISHED) ^ \
	 TO(CONNECTION_ASSURED_REOPENED, CONNECTION_ASSURED_ESTABLISHED))
#define AFTER_ACK                                                      \
	(AFTER_OTHER ^ TO(CONNECTION_CLOSED, CONNECTION_ESTABLISHED) ^ \
	 TO(CONNECTION_ASSURED_CLOSED, CONNECTION_ASSURED_ESTABLISHED))
#define AFTER_DATA                                                \
	(AFTER_ACK ^ TO(CONNECTION_FIN, CONNECTION_ESTABLISHED) ^ \
	 TO(CONNECTION_ASSURED_FIN, CONNECTION_ASSURED_ESTABLISHED))

static __always_inline u8 ct_next_state(u64 state, const struct packet *packet, bool has_data)
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
	return opaque(after) >> state * STATE_WIDTH & (MAX_STATES - 1);
}

/* The state after the first packet of a flow, by its FIN, SYN and RST, and ACK as the fourth bit. */
#define FIRST_FIN                                                               \
	AT(1, CONNECTION_FIN) | AT(3, CONNECTION_FIN) | AT(9, CONNECTION_FIN) | \
		AT(11, CONNECTION_FIN)
#define FIRST_RST                                                                                  \
	AT(4, CONNECTION_CLOSED) | AT(5, CONNECTION_CLOSED) | AT(6, CONNECTION_CLOSED) |           \
		AT(7, CONNECTION_CLOSED) | AT(12, CONNECTION_CLOSED) | AT(13, CONNECTION_CLOSED) | \
		AT(14, CONNECTION_CLOSED) | AT(15, CONNECTION_CLOSED)
#define FIRST_STATES                                                                         \
	(AT(0, CONNECTION_MIDSTREAM) | AT(2, CONNECTION_SYN) | AT(8, CONNECTION_MIDSTREAM) | \
	 AT(10, CONNECTION_MIDSTREAM) | FIRST_FIN | FIRST_RST)

static __always_inline u8 ct_first_state(const struct packet *packet)
{
	u64 flags = packet->flags;
	u64 index = (flags & (TCP_FIN | TCP_SYN | TCP_RST)) | (flags & TCP_ACK) >> 1;
	u64 is_other = opaque(mask_if_nonzero(packet->protocol ^ IPPROTO_UDP));

	return select_by_mask(is_other, opaque(FIRST_STATES) >> index * STATE_WIDTH,
			      CONNECTION_DATAGRAM) &
	       (MAX_STATES - 1);
}

static __always_inline bool ct_has_expired(union record_word is, const struct service *service,
					   u64 now)
{
	return record_age(is.word, now) > service->timeouts[record_state(is.word)] + SEEN_NOW;
}

/* Delete the record, so that the flow can be scheduled again. */
static __always_inline void ct_delete(const struct entry *entry)
{
	if (ct_swap(entry, 0))
		ct_count_load(entry->is, -1);
}

/* True if the packet changes nothing in the record but the time. */
static __always_inline bool ct_is_steady(const struct entry *entry, const struct packet *packet,
					 const struct service *service, u32 now)
{
	return !(packet->flags & (TCP_FIN | TCP_SYN | TCP_RST)) &&
	       record_age(entry->is.word, now) <= service->stays[record_state(entry->is.word)];
}

/* If the swap fails, another CPU has written as late a time. */
static __always_inline void ct_touch(const struct entry *entry, u32 now)
{
	union record_word after = entry->is;

	if (record_age(after.word, now) <= SEEN_NOW || !ct_is_assured(record_state(after.word)))
		return;
	after.record.seen = now;
	ct_swap(entry, after.word);
}

static __always_inline void ct_replace(struct entry *entry, union record_word after)
{
	union record_word before = entry->is;

	if (after.word == before.word || !ct_swap(entry, after.word))
		return;
	entry->is = after;
	entry->is_confirmed =
		ct_is_running(after.record.state) && !ct_is_running(before.record.state);
	if (ct_is_active(before.record.state) != ct_is_active(after.record.state))
		ct_move_load(after, 2 * opaque(ct_is_active(after.record.state)) - 1);
}

/* Change the record's state after this packet. */
static __always_inline void ct_update(struct entry *entry, const struct packet *packet, u32 now,
				      bool has_data)
{
	union record_word after = entry->is;

	after.record.state = ct_next_state(record_state(after.word), packet, has_data);
	after.record.seen = now;
	ct_replace(entry, after);
}

/* A running flow goes on: it becomes used, and assured if its second packet was long enough ago. If
 * its bucket has too many assured flows, this packet counts as its second one. */
static __always_inline void ct_assure(struct entry *entry, const struct service *service,
				      u32 service_index, u32 now)
{
	union record_word after = entry->is;

	if (record_age(after.word, now) <= SEEN_NOW + service->assured_after) {
		after.word = record_with_state(after.word, AS_USED);
	} else {
		after.record.seen = now;
		after.word = record_with_state(after.word, ct_may_assure(entry, service_index, now)
								   ? AS_ASSURED
								   : AS_USED);
	}
	if (ct_swap(entry, after.word))
		entry->is =
			after; /* for the caller, which deletes the record if its backend is lost */
}

/* Find the flow's record as it was before this packet. False if there is none or it has expired. */
static __always_inline bool ct_lookup_live(const struct packet *packet,
					   const struct service *service, u32 front, u32 now,
					   struct entry *entry)
{
	if (!ct_lookup(packet, service, front, entry))
		return false;
	if (!ct_has_expired(entry->is, service, now))
		return true;
	ct_delete(entry);
	return false;
}

#endif
