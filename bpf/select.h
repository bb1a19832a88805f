/* SPDX-License-Identifier: GPL-2.0-only */
/* Select the backend of a packet, and the reason.
 *
 * mh, sh: a slot at rest decides alone. No record is read or made, so a flood stores nothing, and
 * the cost does not grow with the number of flows. When a slot changes its owner it is in flux: a
 * SYN goes to the new owner and is recorded; a packet that opens nothing and has no record belongs
 * to an older flow, goes to the previous owner, and is recorded. After the time-out every flow that
 * is still alive has a record, and the flux ends. The slot keeps SLOT_EXCEPTIONS while some record
 * names another backend. A datagram does not show whether it opens a flow: in flux it counts as an
 * older flow's, while the previous owner serves.
 *
 * The other schedulers record every flow, as if it had a slot that is always in flux and never had
 * an owner.
 *
 * A backend can be down for some VIPs of its service only. It then counts as down for flows to
 * these VIPs, and as up for others. With mh and sh it keeps its slots, marked with SLOT_EXCEPTIONS:
 * a SYN for a VIP that it lacks goes to another member and is recorded, so that the flow stays
 * there when the VIP returns. */
#ifndef XDPDIRECTOR_CHOOSE_H
#define XDPDIRECTOR_CHOOSE_H

#include "client.h"
#include "connection.h"
#include "guard.h"
#include "opening.h"
#include "schedule.h"

/* A flow with a record. UNDECIDED: its backend is lost, the record was deleted, and the packet may
 * be scheduled. */
static __always_inline enum reason follow_record(const struct packet *packet,
						 const struct service *service, u32 front,
						 const struct entry *entry, struct choice *choice)
{
	if (take_again(choice, entry->is.record.backend, entry->is.record.generation, front))
		return FORWARD_CONNECTION;
	if (is_midstream(packet) && service->on_down == POLICY_DROP)
		return DROP_DOWN; /* the record stays: the backend may return */
	forget(entry);
	if (is_midstream(packet) && service->on_down == POLICY_REJECT)
		return REJECT_DOWN;
	return packet->flags & TCP_RST ? DROP_DOWN : UNDECIDED;
}

/* A flow without a record that began before this packet: its slot decides. */
static __always_inline enum reason follow_slot(const struct packet *packet,
					       const struct service *service,
					       const struct aside *aside, struct choice *choice)
{
	const union slot_word *slot = &aside->slot;
	u32 owner = slot->is.flags & SLOT_FLUX ? slot->is.before : slot->is.backend;
	u8 policy = owner == NO_BACKEND ? service->on_unknown : service->on_down;

	if (take(choice, owner, aside->front))
		return slot->is.flags & SLOT_FLUX ? FORWARD_BEFORE : FORWARD_RING;
	if (!is_midstream(packet) || (policy == POLICY_SCHEDULE && !(packet->flags & TCP_RST)))
		return UNDECIDED;
	if (owner == NO_BACKEND)
		return policy == POLICY_REJECT ? REJECT_UNKNOWN : DROP_UNKNOWN;
	return policy == POLICY_REJECT ? REJECT_DOWN : DROP_DOWN;
}

/* Create the flow's record, in a pending state even if it is mid-stream: its next packet confirms
 * it. False if the table has no room. `hash`: of the flow. */
static __always_inline bool remember(const struct packet *packet, const struct service *service,
				     const struct aside *aside, const struct choice *choice,
				     u64 *hash)
{
	union record_word is = {};
	u32 now = ticks(aside->now);
	union record_word evicted;
	struct place place;

	is.record.backend = choice->index;
	is.record.front = aside->front;
	is.record.state = first_state(packet);
	is.record.generation = choice->backend ? choice->backend->generation : 0;
	is.record.seen = now;
	find_place(packet, service, aside->front, &place);
	*hash = place.hash;
	if (!insert(packet, &place, is.word,
		    &(struct taking){ .now = now,
				      .states = UNASSURED,
				      .patience = service->timeouts[CONNECTION_SYN],
				      .assured_after = service->assured_after },
		    &evicted.word))
		return false;
	if (evicted.word)
		add_load(evicted, -1);
	add_load(is, 1);
	if (!(service->flags & SERVICE_UNBOUNDED))
		note_thresholds(choice->index);
	return true;
}

/* True if a packet without a record opens a connection: a SYN, and with persistence, which
 * remembers the client, every packet that is not TCP. */
static __always_inline bool opens(const struct packet *packet, const struct service *service)
{
	return is_opening(packet) || (service->flags & SERVICE_PERSISTENT && !is_midstream(packet));
}

/* A connection that a server opens to its client (active FTP) shows as the client's SYN and ACK. It
 * goes to the client's backend; from anybody else it opens nothing. */
static __always_inline bool accepts_from_server(const struct packet *packet,
						const struct service *service,
						const struct aside *aside, struct choice *choice)
{
	struct client client = {};

	if (!is_accepting(packet))
		return false;
	name_client(packet, service, aside->service, &client);
	return recall_client(&client, packet, service, aside->front, aside->now, choice);
}

static __always_inline bool is_unrecorded(const struct packet *packet,
					  const struct service *service)
{
	return packet->protocol == IPPROTO_UDP && service->flags & SERVICE_ONE_PACKET;
}

/* The next stage of a packet without a known connection. */
static __always_inline u8 stage_of_new(const struct packet *packet, const struct service *service)
{
	return is_limited_anew(packet, service) ? STAGE_ADMIT : STAGE_SCHEDULE;
}

/* The fast path of most packets: a slot at rest, or a record that does not change. UNDECIDED: go on
 * with `aside->stage`. */
static __always_inline enum reason choose(const struct packet *packet,
					  const struct service *service, struct aside *aside,
					  struct choice *choice)
{
	struct entry entry = {};

	if (service->ring_slots) {
		u32 position = ring_position(packet, service);

		aside->slot = read_slot(position);
		note_slot(position, aside->slot.is);
		if (!aside->slot.is.flags && take(choice, aside->slot.is.backend, aside->front)) {
			choice->is_new = is_opening(packet);
			if (!is_limited(packet, service))
				return FORWARD_RING;
			aside->now = bpf_jiffies64();
			aside->stage = STAGE_ADMIT;
			return UNDECIDED;
		}
	}
	aside->now = bpf_jiffies64();
	if (is_unrecorded(packet, service)) {
		aside->stage = stage_of_new(packet, service);
		return UNDECIDED;
	}
	aside->stage = STAGE_RECALL;
	if (find_entry(packet, service, aside->front, &entry)) {
		if (stays(&entry, packet, service, ticks(aside->now)) &&
		    take_again(choice, entry.is.record.backend, entry.is.record.generation,
			       aside->front)) {
			note_fact(FACT_RECORD);
			refresh(&entry, ticks(aside->now));
			return FORWARD_CONNECTION;
		}
	} else if (opens(packet, service)) {
		aside->stage = stage_of_new(packet, service);
	}
	return UNDECIDED;
}

/* A packet of a flow without a record. */
static __always_inline enum reason choose_unknown(const struct packet *packet,
						  const struct service *service,
						  struct aside *aside, struct choice *choice)
{
	aside->stage = stage_of_new(packet, service);
	if (opens(packet, service) || accepts_from_server(packet, service, aside, choice))
		return UNDECIDED;
	return follow_slot(packet, service, aside, choice);
}

/* A SYN after FIN or RST. It is rate limited, and changes nothing if it is over the limit.
 * UNDECIDED: its backend is lost, and the record was deleted. */
static __always_inline enum reason reopen(const struct packet *packet,
					  const struct service *service, const struct aside *aside,
					  struct entry *entry, struct choice *choice)
{
	enum reason reason = UNDECIDED;

	if (!take_again(choice, entry->is.record.backend, entry->is.record.generation,
			aside->front)) {
		forget(entry);
		return UNDECIDED;
	}
	note_fact(FACT_RECORD);
	if (is_limited(packet, service))
		reason = admit(packet, aside->service);
	if (reason != UNDECIDED)
		return reason;
	renew(entry, packet, ticks(aside->now), false);
	choice->is_new = true;
	return FORWARD_NEW;
}

/* True if the slot is in flux, and the flow may still run at the previous owner instead of the
 * record's backend. */
static __always_inline bool is_contested(const struct entry *entry, const struct aside *aside,
					 struct choice *choice)
{
	const union slot_word *slot = &aside->slot;

	return entry->is.record.state == CONNECTION_SYN && slot->is.flags & SLOT_FLUX &&
	       slot->is.before != entry->is.record.backend &&
	       take(choice, slot->is.before, aside->front);
}

/* The flow has run at the previous owner all the time: the SYN was spoofed. */
static __always_inline void give_back(const struct packet *packet, const struct aside *aside,
				      struct entry *entry, const struct choice *choice)
{
	union record_word before = entry->is, after = before;

	after.record.backend = choice->index;
	after.record.generation = choice->backend->generation;
	after.record.state = first_state(packet);
	after.record.seen = ticks(aside->now);
	if (!swap_record(entry, after.word))
		return;
	add_load(before, -1);
	add_load(after, 1);
}

/* The slow path: packets that change a record, and flows without one. */
static __always_inline enum reason choose_again(struct xdp_md *ctx, const struct packet *packet,
						const struct service *service, struct aside *aside,
						struct choice *choice)
{
	struct entry entry = {};
	enum reason reason;

	if (!recall(packet, service, aside->front, ticks(aside->now), &entry))
		return choose_unknown(packet, service, aside, choice);
	if (is_opening(packet) && !is_active(entry.is.record.state)) {
		aside->stage = stage_of_new(packet, service);
		return reopen(packet, service, aside, &entry, choice);
	}
	note_fact(FACT_RECORD);
	aside->stage = STAGE_SCHEDULE;
	if (is_contested(&entry, aside, choice)) {
		if (is_opening(packet)) {
			note_opening(ctx, packet, entry.hash, false);
		} else if (!follows_opening(ctx, packet, entry.hash)) {
			give_back(packet, aside, &entry, choice);
			return FORWARD_CONNECTION;
		}
	}
	if (!is_running(entry.is.record.state) || is_assured(entry.is.record.state) ||
	    packet->flags & (TCP_FIN | TCP_RST))
		renew(&entry, packet, ticks(aside->now), has_data(ctx, packet));
	else if (!is_opening(packet))
		assure(&entry, service, aside->service, ticks(aside->now));
	reason = follow_record(packet, service, aside->front, &entry, choice);
	if (entry.is_confirmed && reason == FORWARD_CONNECTION)
		confirm_client(packet, service, aside->service, aside->front, aside->now, choice);
	return reason;
}

/* Only for schedulers that need it: an atomic addition costs as much as some dozens of plain
 * ones. */
static __always_inline void count_served(const struct service *service, u32 backend)
{
	struct load *load;

	note_fact(FACT_SCHEDULED);
	if (!service->cost_served || DRY_RUN)
		return;
	load = load_of(backend);
	if (load)
		__sync_fetch_and_add(&load->served, 1);
}

static __always_inline enum reason nobody(const struct packet *packet,
					  const struct service *service)
{
	bool answers = packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP;

	return answers && service->on_empty == POLICY_REJECT ? REJECT_EMPTY : DROP_EMPTY;
}

/* The reason of a scheduled packet that does not follow a ring. FORWARD_NEW, FORWARD_REOPENED: it
 * is to be recorded. `is_kept`: persistence selected the backend. */
static __always_inline enum reason opened(const struct packet *packet,
					  const struct service *service, bool is_kept)
{
	if (is_unrecorded(packet, service))
		return FORWARD_UNRECORDED;
	if (is_midstream(packet) && !(is_kept && is_accepting(packet)))
		return FORWARD_REOPENED;
	return FORWARD_NEW;
}

/* Select the service's fallback, if it is below its threshold. */
static __always_inline bool take_fallback(const struct service *service, u32 front,
					  struct choice *choice)
{
	return has_room_for_one(service->fallback) && take(choice, service->fallback, front);
}

/* A new connection: the client's backend, the scheduler's, or the fallback. UNDECIDED: go on with
 * STAGE_AVOID. */
static __always_inline enum reason schedule(const struct packet *packet,
					    const struct service *service,
					    const struct aside *aside, struct choice *choice)
{
	bool is_ring = service->flags & SERVICE_RING, is_flux = aside->slot.is.flags & SLOT_FLUX;
	struct client client = {};
	bool is_kept;

	choice->is_new = true;
	if (service->flags & SERVICE_PERSISTENT)
		name_client(packet, service, aside->service, &client);
	is_kept = recall_client(&client, packet, service, aside->front, aside->now, choice);
	if (is_kept) {
		note_fact(FACT_CLIENT);
	} else if (take(choice, is_ring ? aside->slot.is.backend : least_costly(service, aside),
			aside->front)) {
		count_served(service, choice->index);
	} else if (is_ring && is_partial(choice)) {
		return UNDECIDED;
	} else if (take_fallback(service, aside->front, choice)) {
		note_fact(FACT_FALLBACK);
	} else {
		return nobody(packet, service);
	}
	if (!is_kept)
		remember_client(&client, service, aside->now, choice);
	return is_ring && !is_flux ? FORWARD_RING : opened(packet, service, is_kept);
}

/* The same if the slot's owner is down for this VIP. The slot has SLOT_EXCEPTIONS, so the flow's
 * record will be looked up. */
static __always_inline enum reason schedule_around(const struct packet *packet,
						   const struct service *service,
						   const struct aside *aside, struct choice *choice)
{
	struct client client = {};

	choice->is_new = true;
	note_fact(FACT_PARTIAL);
	if (take(choice, any_other(packet, service, aside), aside->front))
		count_served(service, choice->index);
	else if (take_fallback(service, aside->front, choice))
		note_fact(FACT_FALLBACK);
	else
		return nobody(packet, service);
	if (service->flags & SERVICE_PERSISTENT)
		name_client(packet, service, aside->service, &client);
	remember_client(&client, service, aside->now, choice);
	return opened(packet, service, false);
}

#endif
