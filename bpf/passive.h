/* SPDX-License-Identifier: GPL-2.0-only */
/* Passive health: what clients' packets show of a backend that has BACKEND_WATCHED. Replies bypass
 * the director, so a backend that does not answer shows as a client that sends its SYN again, and
 * the time from a SYN to the ACK behind it is that of backend and client together. TCP only.
 *
 * An established packet does not come here: what is counted are packets that make or change a
 * record, and SYNs of a service with a ring (ADMIT_PASSIVE). They pass STAGE_OBSERVE on their way.
 *
 * A service with a ring has no records: of its backends only SYNs and their retransmissions are
 * counted.
 *
 * A SYN is remembered in `syns`, by a hash of its flow, sequence number and backend: one word with
 * a tag, the time, and whether it was retransmitted. Nothing is freed: a later SYN takes the place.
 * A flood of SYNs so costs times and retransmissions that are not counted, of all backends alike. */
#ifndef XDPDIRECTOR_PASSIVE_H
#define XDPDIRECTOR_PASSIVE_H

#include "backend.h"
#include "conntrack.h"
#include "maps.h"
#include "parse.h"
#include "ring.h"

/* The time of a SYN is in units of 1,024 nanoseconds; its last bit is SYN_REPEATED. */
#define SYN_TIME_SHIFT 10
#define SYN_REPEATED   1U
#define SYN_TAG	       0xffffffff00000000ULL

/* States of a record whose handshake goes on. */
#define OPENING_STATES \
	(1 << CONNECTION_SYN | 1 << CONNECTION_REOPENED | 1 << CONNECTION_ASSURED_REOPENED)

static __always_inline bool is_watched(const struct packet *packet,
				       const struct selection *selection)
{
	return packet->protocol == IPPROTO_TCP && selection->backend &&
	       selection->backend->flags & BACKEND_WATCHED;
}

/* True if the packet, which has no record, opens a connection to a backend that is watched. */
static __always_inline bool passive_opens(const struct packet *packet,
					  const struct selection *selection)
{
	return is_opening(packet) && is_watched(packet, selection);
}

/* True if the packet shows something of its backend. `state`: of the flow's record before this
 * packet. */
static __always_inline bool passive_shows(const struct packet *packet,
					  const struct selection *selection, u32 state)
{
	if (!is_watched(packet, selection))
		return false;
	return packet->flags & TCP_RST ? ct_is_active(state) : OPENING_STATES >> state & 1;
}

static __always_inline u64 syn_hash(const struct packet *packet, u32 backend, u32 number)
{
	const __be32 *client = packet->flow.v6.client;
	u64 hash = golden_hash((u64)backend << 32 | number);

	if (!packet->ipv6)
		return golden_hash((hash ^ packet->flow.v4.client) +
				   ((u64) * (const u32 *)&packet->flow.v4.client_port << 32));
	hash = golden_hash(hash ^ ((u64)client[0] << 32 | client[1]));
	hash = golden_hash(hash ^ ((u64)client[2] << 32 | client[3]));
	return golden_hash(hash ^ *(const u32 *)&packet->flow.v6.client_port);
}

static __always_inline u64 *syn_place(u64 hash)
{
	u32 place = hash & (MAX_SYNS - 1);

	return syns.lookup(&place);
}

static __always_inline u32 syn_time(void)
{
	return bpf_ktime_get_ns() >> SYN_TIME_SHIFT & ~SYN_REPEATED;
}

/* `place`: of the SYN, or NULL if it is not remembered. */
static __always_inline void count_retransmission(struct passive *count, u64 *place)
{
	count->retransmissions += 1;
	if (!place || *place & SYN_REPEATED)
		return;
	*place |= SYN_REPEATED;
	count->retransmitted += 1;
}

/* A SYN without a record, or after the end of the connection before. */
static __always_inline void passive_opened(struct xdp_md *ctx, const struct packet *packet,
					   u32 backend)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct passive *count = passive.lookup(&backend);
	u64 hash, *place;

	if (!tcp || !count || DRY_RUN)
		return;
	hash = syn_hash(packet, backend, ntohl(tcp->seq));
	place = syn_place(hash);
	if (place && !((*place ^ hash) & SYN_TAG)) {
		count_retransmission(count, place);
		return;
	}
	count->syns += 1;
	if (place)
		*place = (hash & SYN_TAG) | syn_time();
}

static __always_inline void count_time(struct passive *count, u32 begun)
{
	u64 time = (u64)(u32)(syn_time() - (begun & ~SYN_REPEATED)) << SYN_TIME_SHIFT;
	u64 bucket = 0;

#pragma unroll
	for (int i = 0; i < PASSIVE_BOUNDS; i++)
		bucket -= mask_if_negative(
			(s64)((1ULL << (PASSIVE_FIRST + i * PASSIVE_STEP)) - 1 - time));
	count->nanoseconds += time;
	bucket = opaque(bucket);
	if (bucket < PASSIVE_TIMES)
		count->times[bucket] += 1;
}

/* A packet for which `passive_shows` is true. */
static __always_inline void passive_followed(struct xdp_md *ctx, const struct packet *packet,
					     u32 backend, bool has_ring)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct passive *count = passive.lookup(&backend);
	bool is_syn = is_opening(packet);
	u64 hash, *place;

	if (!tcp || !count || DRY_RUN || (has_ring && !is_syn))
		return;
	if (packet->flags & TCP_RST) {
		count->resets += 1;
		return;
	}
	if (!is_syn && (packet->flags & (TCP_FIN | TCP_SYN | TCP_ACK)) != TCP_ACK)
		return;
	hash = syn_hash(packet, backend, ntohl(tcp->seq) - !is_syn);
	place = syn_place(hash);
	if (place && (*place ^ hash) & SYN_TAG)
		place = NULL;
	if (is_syn) {
		count_retransmission(count, place);
		return;
	}
	count->handshakes += 1;
	if (place)
		count_time(count, *place);
}

#endif
