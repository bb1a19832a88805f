/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of many members are compared for a new connection.
 *
 * A service with more than EXACT members that take connections compares DRAWN of them, so that the
 * cost does not grow with their number. Which ones is drawn by the flow's hash: the first by one half
 * of it, and the distance to the next by another (double hashing: Mitzenmacher, "Balanced allocations
 * and double hashing", 2014). docs/scheduling.md says how even the loads are. A member with a weight far
 * above the mean stands in the list several times (member_order.py). If none of those drawn can
 * take the connection, STAGE_SCAN compares all. fo and ovf have the highest weights first in the list,
 * and look at these. */
#ifndef XDPDIRECTOR_DRAW_H
#define XDPDIRECTOR_DRAW_H

#include "branchless.h"
#include "maps.h"
#include "ring.h"

/* Number of entries of the service's list that may take a connection. */
static __always_inline u32 taking_members(const struct service *service)
{
	return service->members - service->resting;
}

/* True if DRAWN of the service's members are compared, not all. */
static __always_inline bool has_draws(const struct service *service)
{
	return service->choice == CHOICE_ALL && taking_members(service) > EXACT;
}

/* True if the highest weight decides. */
static __always_inline bool is_by_weight_alone(const struct service *service)
{
	return !(service->cost_active | service->cost_inactive | service->cost_served);
}

/* Places in the list of those that are compared: from `place` on, `stride` apart, of `count`. */
struct draw {
	u64 place;
	u64 stride;
	u64 count;
};

/* DRAWN places, all different. The packets of one flow of a service without records differ in what
 * they draw. */
static __always_inline struct draw draw_members(const struct packet *packet,
						const struct service *service, u64 now)
{
	u64 count = taking_members(service), hash;

	if (is_by_weight_alone(service))
		return (struct draw){ .stride = 1, .count = count };
	hash = flow_hash(packet, service);
	if (service->flags & SERVICE_ONE_PACKET)
		hash = golden_hash(hash ^ now << 32) >> 32;
	return (struct draw){
		.place = hash * count >> 32,
		.stride = 1 + ((golden_hash(hash) * GOLDEN_RATIO >> 32) * (count / DRAWN) >> 32),
		.count = count,
	};
}

static __always_inline void next_drawn(struct draw *draw)
{
	draw->place += draw->stride;
	draw->place -= draw->count & ~opaque(mask_if_negative(draw->place - draw->count));
}

#endif
