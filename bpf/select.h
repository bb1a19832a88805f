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
#ifndef XDPDIRECTOR_SELECT_H
#define XDPDIRECTOR_SELECT_H

#include "persistence.h"
#include "conntrack.h"
#include "guard.h"
#include "ring.h"
#include "schedule.h"
#include "locality.h"

/* A flow with a record. UNDECIDED: its backend is lost, the record was deleted, and the packet may
 * be scheduled. */
static __always_inline enum reason follow_record(const struct packet *packet,
						 const struct service *service, u32 front,
						 const struct entry *entry,
						 struct selection *selection)
{
	if (select_known_backend(selection, entry->is.record.backend, entry->is.record.generation,
				 front))
		return FORWARD_CONNECTION;
	if (is_midstream(packet) && service->on_down == POLICY_DROP)
		return DROP_DOWN; /* the record stays: the backend may return */
	ct_delete(entry);
	if (is_midstream(packet) && service->on_down == POLICY_REJECT)
		return REJECT_DOWN;
	return packet->flags & TCP_RST ? DROP_DOWN : UNDECIDED;
}

/* A flow without a record that began before this packet: its slot decides. */
static __always_inline enum reason follow_slot(const struct packet *packet,
					       const struct service *service,
					       const struct scratch *scratch,
					       struct selection *selection)
{
	const union slot_word *slot = &scratch->slot;
	u32 owner = slot->is.flags & SLOT_FLUX ? slot->is.before : slot->is.backend;
	u8 policy = owner == NO_BACKEND ? service->on_unknown : service->on_down;

	if (select_backend(selection, owner, scratch->front))
		return slot->is.flags & SLOT_FLUX ? FORWARD_BEFORE : FORWARD_RING;
	if (!is_midstream(packet) || (policy == POLICY_SCHEDULE && !(packet->flags & TCP_RST)))
		return UNDECIDED;
	if (owner == NO_BACKEND)
		return policy == POLICY_REJECT ? REJECT_UNKNOWN : DROP_UNKNOWN;
	return policy == POLICY_REJECT ? REJECT_DOWN : DROP_DOWN;
}

/* Create the flow's record, in a pending state even if it is mid-stream: its next packet confirms
 * it. False if no entry is free and no flow may be evicted. `hash`: of the flow. */
static __always_inline bool ct_create(const struct packet *packet, const struct service *service,
				      const struct scratch *scratch,
				      const struct selection *selection, u64 *hash)
{
	union record_word is = {};
	u32 now = ct_ticks(scratch->now);
	union record_word evicted;
	struct ct_key key;

	is.record.backend = selection->index;
	is.record.front = scratch->front;
	is.record.state = ct_first_state(packet);
	is.record.generation = selection->backend ? selection->backend->generation : 0;
	is.record.seen = now;
	ct_make_key(packet, service, scratch->front, &key);
	*hash = key.hash;
	if (!ct_insert(packet, &key, is.word,
		       &(struct eviction){ .if_new = HANDICAPS_NEW,
					   .if_old = HANDICAPS,
					   .now = now,
					   .syn_timeout = service->timeouts[CONNECTION_SYN],
					   .assured_after = service->assured_after },
		       &evicted.word))
		return false;
	if (evicted.word)
		ct_count_load(evicted, -1);
	ct_count_load(is, 1);
	if (!(service->flags & SERVICE_UNBOUNDED))
		load_update_bound(selection->index);
	return true;
}

/* True if a packet without a record opens a connection: a SYN, and with persistence, which
 * remembers the client, every packet that is neither TCP nor SCTP. */
static __always_inline bool opens_connection(const struct packet *packet,
					     const struct service *service)
{
	return is_opening(packet) || (service->flags & SERVICE_PERSISTENT && !is_midstream(packet));
}

/* A connection that a server opens to its client (active FTP) shows as the client's SYN and ACK. It
 * goes to the client's backend; from anybody else it opens nothing. */
static __always_inline bool select_for_syn_ack(const struct packet *packet,
					       const struct service *service,
					       const struct scratch *scratch,
					       struct selection *selection)
{
	struct client client = {};

	if (!is_accepting(packet))
		return false;
	persistence_key(packet, service, scratch->service, &client);
	return persistence_lookup(&client, packet, service, scratch->front, scratch->now,
				  selection);
}

static __always_inline bool is_one_packet(const struct packet *packet,
					  const struct service *service)
{
	return packet->protocol == IPPROTO_UDP && service->flags & SERVICE_ONE_PACKET;
}

/* The next stage of a packet without a known connection. */
static __always_inline u8 stage_for_new(const struct packet *packet, const struct service *service)
{
	return is_rate_limited_new(packet, service) ? STAGE_ADMIT : STAGE_SCHEDULE;
}

/* The fast path of most packets: a slot at rest, or a record that does not change. UNDECIDED: go on
 * with `aside->stage`. */
static __always_inline enum reason select_fast(const struct packet *packet,
					       const struct service *service,
					       struct scratch *scratch, struct selection *selection)
{
	union ring_place place = ring_of(service);
	struct entry entry = {};

	if (place.is.slots) {
		u64 position = ring_position(packet, service, place);
		u32 owner = owner_at_rest(position);
		bool is_up = owner && select_backend(selection, owner - 1, scratch->front);

		if (is_up) {
			selection->is_new = is_opening(packet);
			if (!is_rate_limited(packet, service)) {
				note_slot(position, slot_at_rest(owner - 1));
				return FORWARD_RING;
			}
		}
		scratch->slot = read_slot(position);
		note_slot(position, scratch->slot.is);
		if (is_up) {
			scratch->now = bpf_jiffies64();
			scratch->stage = STAGE_ADMIT;
			return UNDECIDED;
		}
	} else {
		scratch->slot = no_slot();
	}
	scratch->now = bpf_jiffies64();
	if (is_one_packet(packet, service)) {
		scratch->stage = stage_for_new(packet, service);
		return UNDECIDED;
	}
	scratch->stage = STAGE_RECALL;
	if (ct_lookup(packet, service, scratch->front, &entry)) {
		if (ct_is_steady(&entry, packet, service, ct_ticks(scratch->now)) &&
		    select_known_backend(selection, entry.is.record.backend,
					 entry.is.record.generation, scratch->front)) {
			note_fact(FACT_RECORD);
			ct_touch(&entry, ct_ticks(scratch->now));
			return FORWARD_CONNECTION;
		}
	} else if (opens_connection(packet, service)) {
		scratch->stage = stage_for_new(packet, service);
	}
	return UNDECIDED;
}

/* A packet of a flow without a record. */
static __always_inline enum reason select_unrecorded(const struct packet *packet,
						     const struct service *service,
						     struct scratch *scratch,
						     struct selection *selection)
{
	scratch->stage = stage_for_new(packet, service);
	if (opens_connection(packet, service) ||
	    select_for_syn_ack(packet, service, scratch, selection))
		return UNDECIDED;
	return follow_slot(packet, service, scratch, selection);
}

/* A SYN after FIN or RST. It is rate limited, and changes nothing if it is over the limit.
 * UNDECIDED: its backend is lost, and the record was deleted. */
static __always_inline enum reason ct_reopen(const struct packet *packet,
					     const struct service *service,
					     const struct scratch *scratch, struct entry *entry,
					     struct selection *selection)
{
	enum reason reason = UNDECIDED;

	if (!select_known_backend(selection, entry->is.record.backend, entry->is.record.generation,
				  scratch->front)) {
		ct_delete(entry);
		return UNDECIDED;
	}
	note_fact(FACT_RECORD);
	if (is_rate_limited(packet, service))
		reason = rate_limit(packet, scratch->service);
	if (reason != UNDECIDED)
		return reason;
	ct_update(entry, packet, ct_ticks(scratch->now), false);
	selection->is_new = true;
	return FORWARD_NEW;
}

/* True if the slot is in flux, and the flow may still run at the previous owner instead of the
 * record's backend. */
static __always_inline bool may_belong_to_old_owner(const struct entry *entry,
						    const struct scratch *scratch,
						    struct selection *selection)
{
	const union slot_word *slot = &scratch->slot;

	return entry->is.record.state == CONNECTION_SYN && slot->is.flags & SLOT_FLUX &&
	       slot->is.before != entry->is.record.backend &&
	       select_backend(selection, slot->is.before, scratch->front);
}

/* The flow has run at the previous owner all the time: the SYN was spoofed. */
static __always_inline void ct_return_to_old_owner(const struct packet *packet,
						   const struct scratch *scratch,
						   struct entry *entry,
						   const struct selection *selection)
{
	union record_word before = entry->is, after = before;

	after.record.backend = selection->index;
	after.record.generation = selection->backend->generation;
	after.record.state = ct_first_state(packet);
	after.record.seen = ct_ticks(scratch->now);
	if (!ct_swap(entry, after.word))
		return;
	ct_count_load(before, -1);
	ct_count_load(after, 1);
}

/* The slow path: packets that change a record, and flows without one. */
static __always_inline enum reason select_slow(struct xdp_md *ctx, const struct packet *packet,
					       const struct service *service,
					       struct scratch *scratch, struct selection *selection)
{
	struct entry entry = {};
	enum reason reason;

	scratch->state = 0;
	if (!ct_lookup_live(packet, service, scratch->front, ct_ticks(scratch->now), &entry))
		return select_unrecorded(packet, service, scratch, selection);
	scratch->state = entry.is.record.state;
	if (is_opening(packet) && !ct_is_active(entry.is.record.state)) {
		scratch->stage = stage_for_new(packet, service);
		return ct_reopen(packet, service, scratch, &entry, selection);
	}
	note_fact(FACT_RECORD);
	scratch->stage = STAGE_SCHEDULE;
	if (may_belong_to_old_owner(&entry, scratch, selection)) {
		if (is_opening(packet)) {
			flux_syn_store(ctx, packet, entry.hash, false);
		} else if (!follows_flux_syn(ctx, packet, entry.hash)) {
			ct_return_to_old_owner(packet, scratch, &entry, selection);
			return FORWARD_CONNECTION;
		}
	}
	if (!ct_is_running(entry.is.record.state) || ct_is_assured(entry.is.record.state) ||
	    packet->flags & (TCP_FIN | TCP_RST))
		ct_update(&entry, packet, ct_ticks(scratch->now), has_data(ctx, packet));
	else if (!is_opening(packet))
		ct_assure(&entry, service, scratch->service, ct_ticks(scratch->now));
	reason = follow_record(packet, service, scratch->front, &entry, selection);
	if (entry.is_confirmed && reason == FORWARD_CONNECTION)
		persistence_confirm(packet, service, scratch->service, scratch->front, scratch->now,
				    selection);
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
	load = backend_load(backend);
	if (load)
		__sync_fetch_and_add(&load->served, 1);
}

static __always_inline enum reason reason_without_backend(const struct packet *packet,
							  const struct service *service)
{
	bool answers = has_ports(packet->protocol);

	return answers && service->on_empty == POLICY_REJECT ? REJECT_EMPTY : DROP_EMPTY;
}

/* The reason of a scheduled packet that does not follow a ring. FORWARD_NEW, FORWARD_REOPENED: it
 * is to be recorded. `is_kept`: persistence selected the backend. */
static __always_inline enum reason reason_of_new(const struct packet *packet,
						 const struct service *service, bool is_kept)
{
	if (is_one_packet(packet, service))
		return FORWARD_UNRECORDED;
	if (is_midstream(packet) && !(is_kept && is_accepting(packet)))
		return FORWARD_REOPENED;
	return FORWARD_NEW;
}

/* Select the service's fallback, if it is below its threshold. */
static __always_inline bool select_fallback(const struct service *service, u32 front,
					    struct selection *selection)
{
	return is_below_threshold(service->fallback) &&
	       select_backend(selection, service->fallback, front);
}

/* A new connection: the client's backend, the scheduler's, or the fallback. UNDECIDED: go on with
 * STAGE_LOCATE if the service schedules by locality, with STAGE_AVOID if it has a ring, else with
 * STAGE_SCAN. */
static __always_inline enum reason schedule(const struct packet *packet,
					    const struct service *service,
					    const struct scratch *scratch,
					    struct selection *selection)
{
	bool is_ring = service->flags & SERVICE_RING, is_flux = scratch->slot.is.flags & SLOT_FLUX;
	struct client client = {};
	bool is_kept;

	selection->is_new = true;
	if (service->flags & SERVICE_PERSISTENT)
		persistence_key(packet, service, scratch->service, &client);
	is_kept = persistence_lookup(&client, packet, service, scratch->front, scratch->now,
				     selection);
	if (is_kept) {
		note_fact(FACT_CLIENT);
	} else if (has_localities(service)) {
		return UNDECIDED;
	} else if (select_backend(selection,
				  is_ring ? scratch->slot.is.backend
					  : schedule_member(packet, service, scratch),
				  scratch->front)) {
		if (!is_ring && has_draws(service) && !is_by_weight_alone(service))
			note_fact(FACT_DRAWN);
		count_served(service, selection->index);
	} else if (is_ring ? is_down_for_vip(selection) : has_draws(service)) {
		return UNDECIDED;
	} else if (select_fallback(service, scratch->front, selection)) {
		note_fact(FACT_FALLBACK);
	} else {
		return reason_without_backend(packet, service);
	}
	if (!is_kept)
		persistence_update(&client, service, scratch->now, selection);
	return is_ring && !is_flux ? FORWARD_RING : reason_of_new(packet, service, is_kept);
}

/* The same for a client that persistence does not keep, with the member that a later stage has
 * chosen, or NO_BACKEND. */
static __always_inline enum reason schedule_chosen(const struct packet *packet,
						   const struct service *service,
						   const struct scratch *scratch, u32 chosen,
						   struct selection *selection)
{
	struct client client = {};

	selection->is_new = true;
	if (select_backend(selection, chosen, scratch->front))
		count_served(service, selection->index);
	else if (select_fallback(service, scratch->front, selection))
		note_fact(FACT_FALLBACK);
	else
		return reason_without_backend(packet, service);
	if (service->flags & SERVICE_PERSISTENT)
		persistence_key(packet, service, scratch->service, &client);
	persistence_update(&client, service, scratch->now, selection);
	return reason_of_new(packet, service, false);
}

#endif
