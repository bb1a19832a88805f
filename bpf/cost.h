/* SPDX-License-Identifier: GPL-2.0-only */
/* What a connection to a member would cost, and which of two members is the better one. The table of
 * costs is in schedule.h. */
#ifndef XDPDIRECTOR_COST_H
#define XDPDIRECTOR_COST_H

#include "branchless.h"
#include "backend.h"
#include "notes.h"
#include "maps.h"

#define PLAIN_ACTIVE 257 /* lc, wlc: cost of an active connection; an inactive one costs 1 */

/* Set the threshold in force after a connection was added (kernel net/netfilter/ipvs:
 * ip_vs_bind_dest()): a backend that has reached `upper` takes no connection until it is below
 * `lower`. */
static __always_inline void load_update_bound(u32 backend)
{
	struct load *load = backend_load(backend);
	s64 connections;
	u32 bound;

	if (!load || DRY_RUN)
		return;
	connections = (s64)(s32)(load->active + load->active_correction) +
		      (s32)(load->inactive + load->inactive_correction);
	if (connections >= load->upper)
		bound = load->lower;
	else if (connections <= load->lower)
		bound = load->upper;
	else
		return;
	if (load->bound != bound)
		load->bound = bound;
}

/* The best member so far: weight and backend as in the first four bytes of struct member, and its
 * cost. */
struct best {
	u64 member;
	u64 cost;
};

static __always_inline s64 load_active(const struct load *load, u32 backend)
{
	return (s32)(load->active + load->active_correction) + noted_active(backend);
}

static __always_inline s64 load_inactive(const struct load *load, u32 backend)
{
	return (s32)(load->inactive + load->inactive_correction) + noted_inactive(backend);
}

/* Counters may be negative between sweeps of the daemon: clamp the cost to 0. */
static __always_inline void keep_cheaper(struct best *best, u64 member, u64 weight, u64 cost)
{
	u64 is_better;

	cost &= ~opaque(mask_if_negative(cost));
	is_better = mask_if_negative(cost * (best->member >> 16) - best->cost * weight);
	best->member = select_by_mask(is_better, member, best->member);
	best->cost = select_by_mask(is_better, cost, best->cost);
}

/* Rules of single schedulers, as masks. */
struct rules {
	u64 is_idle_first;
	u64 is_within_weight;
};

/* A member's cost. `weight` becomes 0 if the member takes no connection now. */
static __always_inline u64 member_cost(const struct service *service, const struct rules *rules,
				       const struct load *load, u32 backend, u64 *weight)
{
	s64 active = load_active(load, backend), inactive = load_inactive(load, backend);
	u64 cost = active * service->cost_active + inactive * service->cost_inactive +
		   (load->served + load->served_correction) * service->cost_served +
		   service->cost_fixed;

	cost &= opaque(mask_if_nonzero(active)) | ~rules->is_idle_first;
	*weight &= opaque(mask_if_negative(active + inactive - load->bound));
	*weight &= ~(rules->is_within_weight & opaque(mask_if_negative(*weight - active)));
	return cost;
}

/* The same for most services: costs of lc and wlc, and no member has thresholds. */
static __always_inline u64 plain_member_cost(const struct load *load, u32 backend)
{
	return load_active(load, backend) * PLAIN_ACTIVE + load_inactive(load, backend);
}

static __always_inline struct rules rules_of(const struct service *service)
{
	return (struct rules){
		.is_idle_first = opaque(mask_if_nonzero(service->flags & SERVICE_IDLE_FIRST)),
		.is_within_weight = opaque(mask_if_nonzero(service->flags & SERVICE_WITHIN_WEIGHT)),
	};
}

/* Compare the member at one place of the list. False if the place is none. */
static __always_inline bool compare_member(const struct service *service, const struct rules *rules,
					   const struct member_list *list,
					   const struct load_list *all, const struct front *front,
					   u64 place, bool is_plain, struct best *best)
{
	u64 word, member, backend, weight, cost;
	const struct load *load;
	const void *at;

	if (place >= LISTED)
		return false;
	at = &list->of[place];
	word = is_plain ? *(const u32 *)at : *(const u64 *)at;
	member = (u32)word;
	backend = opaque(word & 0xffff);
	weight = member >> 16;
	if (backend >= MAX_BACKENDS)
		return false;
	load = &all->of[backend];
	cost = is_plain ? plain_member_cost(load, backend)
			: member_cost(service, rules, load, backend, &weight);
	if (!is_plain)
		weight &= ~opaque(mask_if_out(front, word >> 32));
	keep_cheaper(best, member, weight, cost);
	return true;
}

#endif
