/* SPDX-License-Identifier: GPL-2.0-only */
/* The ring of mh and sh: the slot of a flow, and SYNs of flows whose slot is in flux. A slot has an
 * owner, a previous owner, and flags; select.h says what flux means. */
#ifndef XDPDIRECTOR_RING_H
#define XDPDIRECTOR_RING_H

#include "branchless.h"
#include "maps.h"
#include "parse.h"

/* Multiplicative hashing: an odd constant near 2^64 / golden ratio (Knuth, TAOCP 3, 6.4). */
#define GOLDEN_RATIO 0x9e3779b97f4a7c15ULL

/* A bit of the product depends on all lower bits of the factor, so the upper half is the better
 * one. It is folded into the lower half. */
static __always_inline u64 golden_hash(u64 value)
{
	value *= GOLDEN_RATIO;
	return value ^ value >> 32;
}

static __always_inline u32 flow_hash(const struct packet *packet, const struct service *service)
{
	const __be32 *client = packet->flow.v6.client;
	u64 hash, ports; /* opaque: else both versions' ports would be loaded by way of pointers */

	if (packet->ipv6) {
		hash = golden_hash((u64)client[0] << 32 | client[1]);
		hash = golden_hash(hash ^ ((u64)client[2] << 32 | client[3]));
		ports = opaque((u32)packet->flow.v6.client_port << 16 | packet->flow.v6.port);
	} else {
		hash = (u64)packet->flow.v4.client << 32;
		ports = opaque((u32)packet->flow.v4.client_port << 16 | packet->flow.v4.port);
	}
	if (!(service->flags & SERVICE_HASH_ADDRESS))
		hash ^= ports;
	return golden_hash(hash) * GOLDEN_RATIO >> 32;
}

/* Where a service's ring is. The daemon stores both numbers as one word, and a packet reads them as
 * one: it sees no mixture of two rings. */
union ring_place {
	struct {
		u32 start;
		u32 slots; /* 0: no ring */
	} is;
	u64 word;
};

_Static_assert(__builtin_offsetof(struct service, ring_start) % 8 == 0 &&
		       __builtin_offsetof(struct service, ring_slots) ==
			       __builtin_offsetof(struct service, ring_start) + 4,
	       "the place of a ring is a word");

static __always_inline union ring_place ring_of(const struct service *service)
{
	return (union ring_place){ .word = *(const volatile u64 *)&service->ring_start };
}

/* The flow's slot in `ring`: the hash scaled to the service's slots, without a division. 64 bits, so
 * that nothing has to be cut off. */
static __always_inline u64 ring_position(const struct packet *packet, const struct service *service,
					 union ring_place place)
{
	return place.is.start + ((u64)flow_hash(packet, service) * place.is.slots >> 32);
}

static __always_inline struct ring_slot slot_at_rest(u32 owner)
{
	return (struct ring_slot){ .backend = owner, .before = NO_BACKEND };
}

/* The slot of a service without a ring: in flux, without owners. */
static __always_inline union slot_word no_slot(void)
{
	union slot_word slot = {
		.is = { .backend = NO_BACKEND, .before = NO_BACKEND, .flags = SLOT_FLUX }
	};

	return slot;
}

/* 1 + the index of the owner of a slot at rest, or 0: then read_slot() says what the slot is. So one
 * load decides alone, and a packet that comes between two stores of the daemon sees no mixture. */
static __always_inline u32 owner_at_rest(u64 position)
{
	u32 place = position / 4;
	const struct slot_owners *at = owners.lookup(&place);

	return at ? *(const volatile u16 *)&at->of[position % 4] : 0;
}

static __always_inline union slot_word read_slot(u32 position)
{
	union slot_word slot = no_slot();
	void *at = ring.lookup(&position);

	if (at)
		slot.word = *(volatile u64 *)at;
	return slot;
}

/* SYNs of flows whose slot is in flux. Such a SYN goes to the slot's new owner. A spoofed one, for
 * a silent flow that still runs at the old owner, would move that flow: its next packet would find
 * the SYN's record. So the SYN's sequence number is stored, and the packet behind it must continue
 * from there; otherwise the flow belongs to the old owner. The same holds if the number is not
 * stored any more: that takes OPENINGS later SYNs of the kind between SYN and ACK, which only a
 * flood brings about.
 *
 * More SYNs of the flow can come before the handshake ends: the client's own behind a spoofed one,
 * or spoofed ones behind the client's. The packet behind them tells which was the client's, so none
 * replaces another: the number of the first is stored by flow, those of later ones by flow and
 * number. What continues from a later one must begin at its very next byte. */
#define WINDOW 65536 /* bytes sent with or behind the SYN before the first packet arrives here */

static __always_inline struct opening later_syn_key(u64 hash, u32 number)
{
	return (struct opening){ .flow = golden_hash(hash + number) };
}

/* `is_first`: the SYN that makes the record. */
static __always_inline void flux_syn_store(struct xdp_md *ctx, const struct packet *packet,
					   u64 hash, bool is_first)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 number;

	if (!tcp || packet->protocol != IPPROTO_TCP || DRY_RUN)
		return;
	number = ntohl(tcp->seq);
	if (!is_first)
		opening = later_syn_key(hash, number);
	openings.update(&opening, &number);
}

/* True if the packet continues from a SYN that was stored. Of SCTP: a COOKIE ECHO, which only who
 * has got the answer to an INIT can send. */
static __always_inline bool follows_flux_syn(struct xdp_md *ctx, const struct packet *packet,
					     u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 *first = openings.lookup(&opening), *later;
	u32 before;

	if (packet->protocol == IPPROTO_SCTP)
		return packet->flags & SCTP_COOKIE;
	if (!tcp)
		return false;
	before = ntohl(tcp->seq) - 1;
	if (first && before - *first < WINDOW)
		return true;
	opening = later_syn_key(hash, before);
	later = openings.lookup(&opening);
	return later && *later == before;
}

#endif
