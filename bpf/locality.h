/* SPDX-License-Identifier: GPL-2.0-only */
/* lblc and lblcr: locality-based least-connection scheduling, without and with replication.
 *
 * Each VIP has a set of members that take its new connections, at most one with lblc. The least
 * loaded of them takes a connection, if it is not overloaded (kernel net/netfilter/ipvs:
 * is_overloaded()): with more active connections than its weight, while some member has fewer than
 * half of its own. Otherwise wlc's choice among all members takes it, and replaces the set (lblc) or
 * joins it (lblcr). A set of several that has not changed for `locality_lasts` loses the one with
 * the highest load.
 *
 * The set stands in the VIP's front, by the backends' places; those of a service that had more members
 * before may share a bit, and are then in the set together. Two CPUs may change it at once; then a
 * set of lblc has two members until the next change. */
#ifndef XDPDIRECTOR_LOCALITY_H
#define XDPDIRECTOR_LOCALITY_H

#include "branchless.h"
#include "backend.h"
#include "maps.h"
#include "schedule.h"

static __always_inline bool has_localities(const struct service *service)
{
	return service->choice >= CHOICE_LOCALITY;
}

/* All ones if the backend at `place` is in the VIP's set. */
static __always_inline u64 mask_if_near(const struct front *front, u64 place)
{
	u64 word = opaque(place >> 6 & (LOCALITIES / 64 - 1));

	return -(front->locality[word] >> (place & 63) & 1);
}

/* True if the set has more than one backend. */
static __always_inline bool is_replicated(const struct front *front)
{
	u64 any = 0, more = 0;

	for (u32 i = 0; i < LOCALITIES / 64; i++) {
		u64 word = front->locality[i];

		more |= (word & (word - 1)) | (word ? any : 0);
		any |= word;
	}
	return more;
}

static __always_inline void locality_leave(struct front *front, u32 backend, u64 now)
{
	const struct backend *leaving = backends.lookup(&backend);
	u64 place;

	if (!leaving || DRY_RUN)
		return;
	place = leaving->place;
	front->locality[place >> 6 & (LOCALITIES / 64 - 1)] &= ~(1ULL << (place & 63));
	front->locality_changed = now;
}

/* Nothing is written if the backend is in the set already. */
static __always_inline void locality_join(struct front *front, u32 backend, bool is_alone, u64 now)
{
	const struct backend *joining = backends.lookup(&backend);
	u64 place, bit;

	if (!joining || DRY_RUN)
		return;
	place = joining->place;
	bit = 1ULL << (place & 63);
	for (u64 i = 0; i < LOCALITIES / 64; i++) {
		u64 before = front->locality[i];
		u64 after = (is_alone ? 0 : before) |
			    (i == (place >> 6 & (LOCALITIES / 64 - 1)) ? bit : 0);

		if (after == before)
			continue;
		front->locality[i] = after;
		front->locality_changed = now;
	}
}

/* The member with the highest cost per weight so far; the first one among equals. */
static __always_inline void keep_dearer(struct best *best, u64 member, u64 weight, u64 cost)
{
	u64 is_worse;

	cost &= ~opaque(mask_if_negative(cost));
	is_worse = mask_if_negative(best->cost * weight - cost * (best->member >> 16)) &
		   opaque(mask_if_nonzero(weight));
	best->member = select_by_mask(is_worse, member, best->member);
	best->cost = select_by_mask(is_worse, cost, best->cost);
}

/* The member that takes the connection, or NO_BACKEND. The VIP's set changes as said above. */
static __always_inline u32 locality_member(const struct service *service,
					   const struct scratch *scratch)
{
	u32 service_index = scratch->service, front_number = scratch->front;
	struct member_list *list = members.lookup(&service_index);
	struct load_list *all = loads.lookup(&(u32){ 0 });
	struct front *front = fronts.lookup(&front_number);
	struct best best = { .member = opaque(NO_BACKEND), .cost = opaque(1) }, near = best;
	struct best dearest = { .member = opaque(1 << 16 | NO_BACKEND), .cost = opaque(-1) };
	u32 count = service->members;
	struct rules rules = {};
	u64 has_idle = 0, chosen;

	if (!list || !all || !front)
		return NO_BACKEND;
	for (u64 i = 0; i < LINEAR && i < count; i = opaque(i + 1)) {
		u64 word = *(const u64 *)&list->of[i], backend = opaque(word & 0xffff);
		u64 member = (u32)word, weight = member >> 16, cost, is_near;
		const struct load *load;

		if (backend >= MAX_BACKENDS)
			break;
		load = &all->of[backend];
		weight &= ~opaque(mask_if_out(front, word >> 32));
		is_near = opaque(mask_if_near(front, word >> 32));
		has_idle |= mask_if_negative(2 * load_active(load, backend) - weight) &
			    opaque(mask_if_nonzero(weight));
		keep_dearer(&dearest, member, weight & is_near, plain_member_cost(load, backend));
		cost = member_cost(service, &rules, load, backend, &weight);
		keep_cheaper(&best, member, weight, cost);
		keep_cheaper(&near, member, weight & is_near, cost);
	}
	if (service->locality_lasts && is_replicated(front) &&
	    scratch->now - front->locality_changed > service->locality_lasts)
		locality_leave(front, dearest.member & 0xffff, scratch->now);
	chosen = opaque(near.member & 0xffff);
	if (chosen < MAX_BACKENDS &&
	    !(has_idle && load_active(&all->of[opaque(chosen)], chosen) > (s64)(near.member >> 16)))
		return chosen; /* opaque(): the register that was compared is the index */
	chosen = best.member & 0xffff;
	if (chosen != NO_BACKEND)
		locality_join(front, chosen, service->choice == CHOICE_LOCALITY, scratch->now);
	return chosen;
}

#endif
