/* SPDX-License-Identifier: GPL-2.0-only */
/* The stages of a packet whose connection is not known: rate limits, scheduling, and its record. */
#ifndef XDPDIRECTOR_STAGES_NEW_H
#define XDPDIRECTOR_STAGES_NEW_H

#include "stage.h"
#include "select.h"
#include "quic.h"
#include "relocate.h"
#include "loop_prevention.h"
#include "forward.h"
#include "passive.h"

int stage_admit(struct xdp_md *ctx)
{
	struct scratch *scratch;
	enum reason reason;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	reason = rate_limit(&scratch->packet, scratch->service);
	if (reason == UNDECIDED)
		return call_stage(ctx, STAGE_SCHEDULE);
	return drop(ctx, scratch, reason);
}

/* What to do with a packet that was scheduled. */
static __always_inline int finish_schedule(struct xdp_md *ctx, struct scratch *scratch,
					   const struct selection *selection, enum reason reason)
{
	scratch->reason = reason;
	scratch->backend = reported_backend(selection);
	switch (reason) {
	case UNDECIDED:
		return call_stage(ctx, STAGE_AVOID);
	case FORWARD_RING:
		if (passive_opens(&scratch->packet, selection) && !would_loop(ctx, selection))
			return call_stage(ctx, STAGE_OBSERVE);
		return forward_unless_loop(ctx, &scratch->packet, selection, reason);
	case FORWARD_UNRECORDED:
		return forward_unless_loop(ctx, &scratch->packet, selection, reason);
	case FORWARD_NEW:
	case FORWARD_REOPENED:
		if (would_loop(ctx, selection))
			return pass_directed(ctx, &scratch->packet, scratch->backend);
		return call_stage(ctx, STAGE_REMEMBER);
	case REJECT_EMPTY:
		return call_stage(ctx, STAGE_ANSWER);
	default:
		return call_stage(ctx, STAGE_DROP);
	}
}

static __always_inline int begin_scan(struct xdp_md *ctx, struct scratch *scratch)
{
	scratch->best = NO_BACKEND;
	scratch->best_cost = 1;
	scratch->scanned = 0;
	return call_stage(ctx, STAGE_SCAN);
}

int stage_schedule(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;
	enum reason reason;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	reason = schedule(&scratch->packet, service, scratch, &selection);
	if (reason == UNDECIDED && has_localities(service))
		return call_stage(ctx, STAGE_LOCATE);
	if (reason == UNDECIDED && !(service->flags & SERVICE_RING))
		return begin_scan(ctx, scratch);
	return finish_schedule(ctx, scratch, &selection, reason);
}

int stage_locate(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;
	u32 chosen;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	chosen = locality_member(service, scratch);
	return finish_schedule(
		ctx, scratch, &selection,
		schedule_chosen(&scratch->packet, service, scratch, chosen, &selection));
}

/* Runs until all are compared. Of a cost that is weight alone the list is in order: the first run
 * with a result has the best. */
int stage_scan(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;
	enum reason reason;
	bool is_done;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	is_done = scan_members(service, scratch);
	if (!is_done && !(is_by_weight_alone(service) && scratch->best >> 16))
		return call_stage(ctx, STAGE_SCAN);
	reason = schedule_chosen(&scratch->packet, service, scratch, scratch->best & 0xffff,
				 &selection);
	return finish_schedule(ctx, scratch, &selection, reason);
}

/* The slot's owner is down for this VIP. The slot has SLOT_EXCEPTIONS, so the flow's record will be
 * looked up. */
int stage_avoid(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;
	u32 chosen;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	note_fact(FACT_PARTIAL);
	chosen = schedule_other_member(&scratch->packet, service, scratch);
	if (chosen == NO_BACKEND && service->members > LINEAR)
		return begin_scan(ctx, scratch);
	return finish_schedule(
		ctx, scratch, &selection,
		schedule_chosen(&scratch->packet, service, scratch, chosen, &selection));
}

/* Where a packet goes whose connection ID does not decide. */
static __always_inline int go_on_by_flow(struct xdp_md *ctx, struct scratch *scratch,
					 const struct service *service, enum quic_result result)
{
	struct selection selection = {};
	enum reason reason;

	if (result != QUIC_NAMED)
		count_quic(scratch->service, result);
	if (!service->ring_slots)
		return call_next_stage(ctx, stage_for_new(&scratch->packet, service));
	reason = select_fast(&scratch->packet, service, scratch, &selection);
	if (reason != UNDECIDED)
		return forward(ctx, &scratch->packet, &selection, reason);
	return call_next_stage(ctx, scratch->stage);
}

/* A stage of its own: services without connection IDs pay nothing for it. */
int stage_quic(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct entry entry = {};
	struct service *service;
	union ring_place place;
	enum quic_result result;
	bool is_recorded;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	scratch->now = bpf_jiffies64();
	place = ring_of(service);
	if (place.is.slots)
		scratch->slot = flow_slot(&scratch->packet, service, place);
	result = select_by_cid(ctx, &scratch->packet, service, scratch, &selection);
	if (place.is.slots && (result != QUIC_NAMED || is_slot_owner(scratch, &selection)))
		return go_on_by_flow(ctx, scratch, service, result);
	is_recorded = ct_lookup_live(&scratch->packet, service, scratch->front,
				     ct_ticks(scratch->now), &entry);
	if (is_recorded && (!place.is.slots || is_recorded_backend(&entry, &selection)))
		return call_stage(ctx, STAGE_RECALL);
	if (result != QUIC_NAMED)
		return go_on_by_flow(ctx, scratch, service, result);
	note_fact(FACT_CID);
	scratch->backend = selection.index;
	if (would_loop(ctx, &selection))
		return pass_directed(ctx, &scratch->packet, scratch->backend);
	scratch->reason = FORWARD_CID;
	if (is_rate_limited(&scratch->packet, service)) {
		enum reason reason = rate_limit(&scratch->packet, scratch->service);

		if (reason != UNDECIDED)
			return drop(ctx, scratch, reason);
	}
	if (is_recorded)
		ct_delete(&entry);
	count_quic(scratch->service, result);
	return call_stage(ctx, STAGE_REMEMBER);
}

int stage_remember(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;
	u64 hash;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	service = services.lookup(&scratch->service);
	if (!service || !select_backend_any_vip(&selection, scratch->backend))
		return internal_error();
	selection.is_new = scratch->reason != FORWARD_BEFORE && scratch->reason != FORWARD_CID;
	if (!ct_create(&scratch->packet, service, scratch, &selection, &hash)) {
		if (!scratch->tried)
			return call_stage(ctx, STAGE_RELOCATE);
		if (!service->ring_slots && scratch->reason != FORWARD_CID && !DRY_RUN)
			return drop(ctx, scratch, DROP_FULL);
	}
	if (scratch->slot.is.flags & SLOT_FLUX && scratch->slot.is.before != NO_BACKEND &&
	    is_opening(&scratch->packet))
		flux_syn_store(ctx, &scratch->packet, hash, true);
	if (selection.is_new && passive_opens(&scratch->packet, &selection))
		return call_stage(ctx, STAGE_OBSERVE);
	return forward(ctx, &scratch->packet, &selection, scratch->reason);
}

/* Both buckets of the flow are full of flows that it may not evict yet. Each run tries to free one
 * entry: the verifier would walk a loop many times. */
int stage_relocate(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct service *service;
	u32 which;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	which = scratch->tried;
	scratch->tried = which + 1;
	if (which >= PAIR) {
		ct_evict_used(&scratch->packet, service, scratch->front, ct_ticks(scratch->now));
		return call_stage(ctx, STAGE_REMEMBER);
	}
	if (ct_make_room(&scratch->packet, service, scratch->front, ct_ticks(scratch->now), which))
		return call_stage(ctx, STAGE_REMEMBER);
	return call_stage(ctx, STAGE_RELOCATE);
}

#endif
