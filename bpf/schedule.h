/* SPDX-License-Identifier: GPL-2.0-only */
/* Which backend takes a new connection.
 *
 * mh, sh: the ring. A slot has an owner, a previous owner, and the flag that it is in flux;
 * select.h says what flux means. Others: the member with the lowest cost per weight; among
 * equals the first one. The cost is data:
 *
 *        cost                      per weight
 *   rr   served + 1                no      served: connections ever scheduled to it
 *   wrr  served + 1                yes
 *   lc   257 active + inactive     no      net/netfilter/ipvs: ip_vs_dest_conn_overhead()
 *   wlc  257 active + inactive     yes
 *   sed  active + 1                yes
 *   nq   active + 1, or 0 if idle  yes
 *   fo   1                         yes     so the highest weight
 *   ovf  1                         yes     only members with no more active than weight
 *   twos 257 active + inactive     yes     of two members that are drawn by weight
 *
 * dh: the VIP's hash names a member, whatever its cost. lblc, lblcr: see locality.h.
 *
 * With weights `served` interleaves smoothly (D'Hondt's method). The daemon keeps the members' counts
 * close to each other: see service_plan.py. */
#ifndef XDPDIRECTOR_SCHEDULE_H
#define XDPDIRECTOR_SCHEDULE_H

#include "branchless.h"
#include "backend.h"
#include "notes.h"
#include "maps.h"
#include "parse.h"
#include "ring.h"

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

static __always_inline u32 cheapest_member(const struct service *service,
					   const struct member_list *list,
					   const struct load_list *all, const struct front *front,
					   bool is_plain)
{
	struct rules rules = {
		.is_idle_first = opaque(mask_if_nonzero(service->flags & SERVICE_IDLE_FIRST)),
		.is_within_weight = opaque(mask_if_nonzero(service->flags & SERVICE_WITHIN_WEIGHT)),
	};
	struct best best = { .member = opaque(NO_BACKEND), .cost = opaque(1) };
	u32 count = service->members;

	/* If the compiler knew more about `i`, it would count down, and Linux 6.1's verifier would
	 * lose the bounds of the pointer. */
	for (u64 i = 0; i < MAX_MEMBERS && i < count; i = opaque(i + 1)) {
		const void *at = &list->of[i];
		u64 word = is_plain ? *(const u32 *)at : *(const u64 *)at;
		u64 member = (u32)word, backend = opaque(word & 0xffff), weight = member >> 16,
		    cost;
		const struct load *load;

		if (backend >= MAX_BACKENDS)
			break;
		load = &all->of[backend];
		cost = is_plain ? plain_member_cost(load, backend)
				: member_cost(service, &rules, load, backend, &weight);
		if (!is_plain)
			weight &= ~opaque(mask_if_out(front, word >> 32));
		keep_cheaper(&best, member, weight, cost);
	}
	return best.member & 0xffff;
}

/* True if a backend outside the list, the fallback, is below its threshold. */
static __always_inline bool is_below_threshold(u32 backend)
{
	const struct load *load = backend_load(backend);

	return load && load_active(load, backend) + load_inactive(load, backend) < (s64)load->bound;
}

/* dh: 256 buckets that are dealt to the members in turn (kernel net/netfilter/ipvs:
 * ip_vs_dh_reassign()). */
static __always_inline u32 destination_member(const struct service *service,
					      const struct member_list *list,
					      const struct load_list *all,
					      const struct front *front)
{
	struct rules rules = {};
	u32 folded = ntohl(front->address[0] ^ front->address[1] ^ front->address[2] ^
			   front->address[3]);
	u64 bucket = (folded * 0x61c88647U) >> 24, word, backend, weight;
	u32 count = service->members;

	if (!count)
		return NO_BACKEND;
	word = *(const u64 *)&list->of[opaque((u32)bucket % count) & (MAX_MEMBERS - 1)];
	backend = opaque(word & 0xffff);
	weight = word >> 16 & 0xffff & ~mask_if_out(front, word >> 32);
	if (backend >= MAX_BACKENDS)
		return NO_BACKEND;
	member_cost(service, &rules, &all->of[backend], backend, &weight);
	return weight ? backend : NO_BACKEND;
}

/* twos: two draws by weight, of which the one with the lower cost per weight takes the connection;
 * the first, if they cost the same. A flow always draws the same two. See schedule_other_member for
 * how one is drawn. */
static __always_inline u32 cheaper_of_two(const struct packet *packet,
					  const struct service *service,
					  const struct member_list *list,
					  const struct load_list *all, const struct front *front)
{
	struct best one = { .member = opaque(NO_BACKEND) }, other = one;
	u64 seed = (u64)flow_hash(packet, service) << 16, total = 0;
	struct rules rules = {};
	u32 count = service->members;

	for (u64 i = 0; i < MAX_MEMBERS && i < count; i = opaque(i + 1)) {
		u64 word = *(const u64 *)&list->of[i], backend = opaque(word & 0xffff);
		u64 weight = word >> 16 & 0xffff & ~opaque(mask_if_out(front, word >> 32)), cost;
		u64 draw = golden_hash(seed + 2 * i) * GOLDEN_RATIO >> 32;
		u64 other_draw = golden_hash(seed + 2 * i + 1) * GOLDEN_RATIO >> 32, is_drawn;

		if (backend >= MAX_BACKENDS)
			break;
		cost = member_cost(service, &rules, &all->of[backend], backend, &weight);
		cost &= ~opaque(mask_if_negative(cost));
		total += weight;
		word = weight << 16 | backend;
		is_drawn = opaque(mask_if_negative((draw * total >> 32) - weight));
		one.member = select_by_mask(is_drawn, word, one.member);
		one.cost = select_by_mask(is_drawn, cost, one.cost);
		is_drawn = opaque(mask_if_negative((other_draw * total >> 32) - weight));
		other.member = select_by_mask(is_drawn, word, other.member);
		other.cost = select_by_mask(is_drawn, cost, other.cost);
	}
	keep_cheaper(&one, other.member, other.member >> 16, other.cost);
	return one.member & 0xffff;
}

static __always_inline bool has_plain_costs(const struct service *service)
{
	return service->flags & SERVICE_UNBOUNDED && service->cost_active == PLAIN_ACTIVE &&
	       service->cost_inactive == 1 && !service->cost_served && !service->cost_fixed;
}

static __always_inline bool is_up_everywhere(const struct front *front)
{
	return !(front->out[0] | front->out[1] | front->out[2] | front->out[3]);
}

/* NO_BACKEND if no member takes a connection. */
static __always_inline u32 schedule_member(const struct packet *packet,
					   const struct service *service,
					   const struct scratch *scratch)
{
	u32 service_index = scratch->service, front_number = scratch->front;
	struct member_list *list = members.lookup(&service_index);
	struct load_list *all = loads.lookup(&(u32){ 0 });
	struct front *front = fronts.lookup(&front_number);

	if (!list || !all || !front)
		return NO_BACKEND;
	switch (service->choice) {
	case CHOICE_DESTINATION:
		return destination_member(service, list, all, front);
	case CHOICE_TWO:
		return cheaper_of_two(packet, service, list, all, front);
	default:
		break;
	}
	if (opaque(has_plain_costs(service) & is_up_everywhere(front)))
		return cheapest_member(service, list, all, front, true);
	return cheapest_member(service, list, all, front, false);
}

/* True if the selected backend cannot be used for the packet's VIP, but for others. */
static __always_inline bool is_down_for_vip(const struct selection *selection)
{
	return selection->backend && selection->backend->state == BACKEND_SERVING;
}

/* A substitute for a slot's owner that is down for this VIP: another member, at random by weight,
 * and the same one for each packet of the flow. Each member replaces the one drawn before with the
 * probability of its weight in the sum so far (weighted reservoir sampling, Chao 1982). */
static __always_inline u32 schedule_other_member(const struct packet *packet,
						 const struct service *service,
						 const struct scratch *scratch)
{
	u32 service_index = scratch->service, front_number = scratch->front;
	struct member_list *list = members.lookup(&service_index);
	struct front *front = fronts.lookup(&front_number);
	u64 seed = (u64)flow_hash(packet, service) << 16, total = 0, chosen = opaque(NO_BACKEND);
	u32 count = service->members;

	if (!list || !front)
		return NO_BACKEND;
	for (u64 i = 0; i < MAX_MEMBERS && i < count; i = opaque(i + 1)) {
		u64 member = *(const u64 *)&list->of[i];
		u64 weight = member >> 16 & 0xffff & ~opaque(mask_if_out(front, member >> 32));
		u64 draw = golden_hash(seed + i) * GOLDEN_RATIO >> 32, is_drawn;

		total += weight;
		is_drawn = opaque(mask_if_negative((draw * total >> 32) - weight));
		chosen = select_by_mask(is_drawn, member & 0xffff, chosen);
	}
	return chosen;
}

#endif
