/* SPDX-License-Identifier: GPL-2.0-only */
/* Which backend takes a new connection.
 *
 * mh: the ring. A slot holds its present owner, the one before, and whether it is in flux. Nothing else is looked
 * at while a slot is at rest; see choose.h for what flux means.
 * wlc: the member with the least overhead per weight, overhead = 256 x active + all, ties to the first in order
 * (kernel net/netfilter/ipvs/ip_vs_wlc.c and ip_vs_dest_conn_overhead()).
 */
#ifndef XDPDIRECTOR_SCHEDULE_H
#define XDPDIRECTOR_SCHEDULE_H

#include "maps.h"
#include "parse.h"

/* An odd constant near 2^32 / golden ratio (Knuth, TAOCP 3, 6.4), and MurmurHash3's finalizer. */
#define SPREAD 0x9e3779b1

static __always_inline u32 flow_hash(const struct packet *packet)
{
	const __be32 *client = packet->flow.v6.client;
	u32 hash;

	if (packet->ipv6) {
		hash = client[0] * SPREAD ^ client[1];
		hash = hash * SPREAD ^ client[2];
		hash = hash * SPREAD ^ client[3];
		hash = hash * SPREAD ^
		       ((u32)packet->flow.v6.client_port << 16 | packet->flow.v6.port);
	} else {
		hash = packet->flow.v4.client * SPREAD;
		hash ^= (u32)packet->flow.v4.client_port << 16 | packet->flow.v4.port;
	}
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Where the flow stands in `ring`: the hash scaled to the service's slots, without a division. */
static __always_inline u32 ring_position(const struct packet *packet, const struct service *service)
{
	return service->ring_start + ((u64)flow_hash(packet) * service->ring_slots >> 32);
}

/* Keeps the compiler from turning the code around it into branches: the loop below is verified once for each way
 * through it, in each of its rounds. */
static __always_inline u64 opaque(u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/* Counts can lag behind the truth until the next sweep, but never below zero. */
static __always_inline u64 at_least_zero(s64 count)
{
	return count & ~opaque(count >> 63);
}

static __always_inline u64 overhead(const struct load *load)
{
	return at_least_zero((s64)load->active + load->active_correction) * 257 +
	       at_least_zero((s64)load->inactive + load->inactive_correction);
}

/* NO_BACKEND when no member has a weight. */
static __always_inline u32 least_busy(const struct service *service, u32 service_index)
{
	u32 best = NO_BACKEND, best_weight = 0;
	u64 best_overhead = 1;

	for (u32 i = 0; i < MAX_MEMBERS; i++) {
		u32 place = service_index * MAX_MEMBERS + i;
		struct member *member = members.lookup(&place);
		struct load *load;
		u32 backend;
		u64 busy;

		if (i >= service->members || !member)
			break;
		backend = member->backend;
		load = loads.lookup(&backend);
		if (!load)
			break;
		busy = overhead(load);
		if (busy * best_weight < best_overhead * member->weight) {
			best = opaque(backend);
			best_weight = member->weight;
			best_overhead = busy;
		}
	}
	return best;
}

#endif
