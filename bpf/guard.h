/* SPDX-License-Identifier: GPL-2.0-only */
/* The guard: deny list, and rate limits of new connections.
 *
 * A denied prefix drops every packet of its clients, also those of running connections. The longest
 * matching prefix counts the packet.
 *
 * A rate limit applies to packets that open a connection, and to packets without a known connection
 * that are to be scheduled; packets of known connections are never limited. A limit is a cost,
 * which is the time between two connections, and a tolerance, which is the burst expressed as time
 * (generic cell rate algorithm, ITU-T I.371). A bucket's state is one time-stamp: until when it is
 * paid. */
#ifndef XDPDIRECTOR_GUARD_H
#define XDPDIRECTOR_GUARD_H

#include "maps.h"
#include "parse.h"

static __always_inline u32 *find_denied(const struct packet *packet)
{
	struct prefix4 v4 = { .prefix = 8 * sizeof(v4.address) };
	struct prefix6 v6 = { .prefix = 8 * sizeof(v6.address) };

	if (packet->ipv6) {
		__builtin_memcpy(v6.address, packet->flow.v6.client, sizeof(v6.address));
		return not_merged(denied6.lookup(&v6));
	}
	v4.address = packet->flow.v4.client;
	return denied4.lookup(&v4);
}

/* Counts the packet for its prefix. */
static __always_inline bool is_denied(const struct packet *packet)
{
	u32 *rule = find_denied(packet);
	u64 *count;

	if (!rule)
		return false;
	count = denials.lookup(rule);
	if (count && !DRY_RUN)
		*count += 1;
	return true;
}

/* True if the packet opens a connection, as far as it shows. A ring without persistence makes no
 * records, and a datagram does not show whether it is the first of its flow. ADMIT_PASSIVE: a limit
 * that admits everything, so that SYNs leave the fast path. */
static __always_inline bool is_rate_limited(const struct packet *packet,
					    const struct service *service)
{
	if (!service->admission)
		return false;
	if (has_connections(packet))
		return is_opening(packet);
	if (!(service->admission & ADMIT_LIMITS))
		return false;
	return !(service->flags & SERVICE_RING) || service->flags & SERVICE_PERSISTENT ||
	       (packet->protocol == IPPROTO_UDP && service->flags & SERVICE_ONE_PACKET);
}

/* The same for a packet without a known connection that is to be scheduled. Here mid-stream TCP and
 * SCTP count too, because scheduling it makes a connection. */
static __always_inline bool is_rate_limited_new(const struct packet *packet,
						const struct service *service)
{
	return has_connections(packet) ? service->admission & ADMIT_LIMITS
				       : is_rate_limited(packet, service);
}

/* Take the tokens for one connection. There is no lock: CPUs that look at the same moment may each
 * let one connection in where the burst had room for one. Their costs add up, so that later
 * connections wait longer. */
static __always_inline bool take_tokens(u64 *paid_until, u64 cost, u64 tolerance, u64 now)
{
	s64 ahead = *(volatile u64 *)paid_until - now;

	if (ahead > (s64)tolerance)
		return false;
	if (DRY_RUN)
		return true;
	if (ahead < 0)
		*(volatile u64 *)paid_until = now + cost; /* tokens beyond the burst are lost */
	else
		__sync_fetch_and_add(paid_until, cost);
	return true;
}

static __always_inline bool take_source_tokens(const struct packet *packet,
					       const struct limit *limit, u32 service, u64 now)
{
	struct source source = { .service = service, .generation = limit->generation };
	u64 first = now + limit->source_cost, *paid_until;

	if (packet->ipv6) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			source.address[i] = packet->flow.v6.client[i] & limit->source_mask6[i];
		source.ipv6 = 1;
	} else {
		source.address[0] = packet->flow.v4.client & limit->source_mask;
	}
	paid_until = sources.lookup(&source);
	if (paid_until)
		return take_tokens(paid_until, limit->source_cost, limit->source_tolerance, now);
	if (!DRY_RUN)
		sources.update(&source, &first);
	return true;
}

static __always_inline void count_refusal(u32 service, bool is_source)
{
	struct refusals *count = refusals.lookup(&service);

	if (!count || DRY_RUN)
		return;
	count->service += !is_source;
	count->source += is_source;
}

/* UNDECIDED: the packet may be scheduled. The source's bucket comes first, so that a source over
 * its limit takes no tokens of the service. */
static __always_inline enum reason rate_limit(const struct packet *packet, u32 service)
{
	u64 now = bpf_jiffies64() << JIFFY_SHIFT, *paid_until;
	struct limit *limit = limits.lookup(&service);

	if (!limit)
		return DROP_INTERNAL;
	if (limit->source_cost && !take_source_tokens(packet, limit, service, now)) {
		count_refusal(service, true);
		return DROP_LIMITED_SOURCE;
	}
	if (!limit->cost)
		return UNDECIDED;
	paid_until = paid.lookup(&service);
	if (paid_until && take_tokens(paid_until, limit->cost, limit->tolerance, now))
		return UNDECIDED;
	count_refusal(service, false);
	return DROP_LIMITED_SERVICE;
}

#endif
