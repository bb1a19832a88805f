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
 * Of many members some are drawn: see draw.h.
 *
 * With weights `served` interleaves smoothly (D'Hondt's method). The daemon keeps the members' counts
 * close to each other: see service_plan.py. */
#ifndef XDPDIRECTOR_SCHEDULE_H
#define XDPDIRECTOR_SCHEDULE_H

#include "branchless.h"
#include "backend.h"
#include "cost.h"
#include "draw.h"
#include "maps.h"
#include "parse.h"
#include "ring.h"

static __always_inline u32 cheapest_member(const struct service *service,
					   const struct member_list *list,
					   const struct load_list *all, const struct front *front,
					   bool is_plain)
{
	struct best best = { .member = opaque(NO_BACKEND), .cost = opaque(1) };
	struct rules rules = rules_of(service);
	u32 count = taking_members(service);

	/* If the compiler knew more about `i`, it would count down, and Linux 6.1's verifier would
	 * lose the bounds of the pointer. */
	for (u64 i = 0; i < EXACT && i < count; i = opaque(i + 1))
		if (!compare_member(service, &rules, list, all, front, i, is_plain, &best))
			break;
	return best.member & 0xffff;
}

/* The same of those that are drawn. */
static __always_inline u32 cheapest_drawn(const struct service *service, struct draw draw,
					  const struct member_list *list,
					  const struct load_list *all, const struct front *front,
					  bool is_plain)
{
	struct best best = { .member = opaque(NO_BACKEND), .cost = opaque(1) };
	struct rules rules = rules_of(service);

	for (u64 i = 0; i < DRAWN; i = opaque(i + 1)) {
		if (!compare_member(service, &rules, list, all, front, opaque(draw.place), is_plain,
				    &best))
			break;
		next_drawn(&draw);
	}
	return best.member & 0xffff;
}

/* Compare SCANNED more of all that may take the connection. True when all are done. */
static __always_inline bool scan_members(const struct service *service, struct scratch *scratch)
{
	u32 service_index = scratch->service, front_number = scratch->front;
	struct member_list *list = members.lookup(&service_index);
	struct load_list *all = loads.lookup(&(u32){ 0 });
	struct front *front = fronts.lookup(&front_number);
	struct best best = { .member = scratch->best, .cost = scratch->best_cost };
	u64 from = scratch->scanned, count = taking_members(service);
	struct rules rules = rules_of(service);

	if (!list || !all || !front)
		return true;
	for (u64 i = 0; i < SCANNED && from + i < count; i = opaque(i + 1))
		if (!compare_member(service, &rules, list, all, front, opaque(from + i), false,
				    &best))
			break;
	scratch->best = best.member;
	scratch->best_cost = best.cost;
	scratch->scanned = from + SCANNED;
	return scratch->scanned >= count;
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
	word = *(const u64 *)&list->of[opaque((u32)bucket % count) & (LINEAR - 1)];
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

	for (u64 i = 0; i < LINEAR && i < count; i = opaque(i + 1)) {
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
	return !front->some_out;
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
	bool is_plain;

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
	is_plain = opaque(has_plain_costs(service) & is_up_everywhere(front));
	if (has_draws(service)) {
		struct draw draw = draw_members(packet, service, scratch->now);

		if (is_plain)
			return cheapest_drawn(service, draw, list, all, front, true);
		return cheapest_drawn(service, draw, list, all, front, false);
	}
	if (is_plain)
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
 * probability of its weight in the sum so far (weighted reservoir sampling, Chao 1982). Of more than
 * LINEAR members as many are looked at, from one on that the flow draws, at a distance that is odd:
 * every second one may be down. NO_BACKEND: none of these is up. */
static __always_inline u32 schedule_other_member(const struct packet *packet,
						 const struct service *service,
						 const struct scratch *scratch)
{
	u32 service_index = scratch->service, front_number = scratch->front;
	struct member_list *list = members.lookup(&service_index);
	struct front *front = fronts.lookup(&front_number);
	u64 seed = (u64)flow_hash(packet, service) << 16, total = 0, chosen = opaque(NO_BACKEND);
	u64 count = service->members;
	struct draw places = { .stride = 1, .count = count };

	if (!list || !front)
		return NO_BACKEND;
	if (count > LINEAR) {
		places.place = (seed >> 16) * count >> 32;
		places.stride = count / LINEAR | 1;
	}
	/* Opaque: clang 19 compares `count` alone where it knows that it is less than LINEAR, which the
	 * verifier does not. */
	for (u64 i = 0; i < LINEAR; i = opaque(i + 1)) {
		u64 place = opaque(places.place), member, weight, draw, is_drawn;

		if (i >= opaque(count) || place >= LISTED)
			break;
		member = *(const u64 *)&list->of[place];
		weight = member >> 16 & 0xffff & ~opaque(mask_if_out(front, member >> 32));
		draw = golden_hash(seed + i) * GOLDEN_RATIO >> 32;
		total += weight;
		is_drawn = opaque(mask_if_negative((draw * total >> 32) - weight));
		chosen = select_by_mask(is_drawn, member & 0xffff, chosen);
		next_drawn(&places);
	}
	return chosen;
}

#endif
