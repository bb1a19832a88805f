/* SPDX-License-Identifier: GPL-2.0-only */
/* QUIC: connection IDs that name a backend, so that a client whose address changes stays with it.
 *
 * The server chooses the connection ID that its client sends (RFC 9000, 5.1), and writes its own ID
 * into it: either as the plaintext algorithm of QUIC-LB does (draft-ietf-quic-load-balancers), with
 * the ID behind a first octet whose upper three bits are the configuration's codepoint, or at an
 * offset of the operator's choice.
 *
 * Only packets whose connection ID a server must have chosen are looked at: those with a short
 * header, and Handshake packets. Initial and 0-RTT packets may carry an ID that the client made up
 * (RFC 9000, 7.2); random bytes would name a backend now and then. They follow their flow, and so
 * does everything else that names no backend which serves.
 *
 * Of the other schedulers a flow's record decides first. With mh and sh the ID decides before
 * records and slots: a record of another backend is replaced. A flow that goes where its slot at
 * rest says needs none; others are recorded, so that they count while a backend drains. */
#ifndef XDPDIRECTOR_QUIC_H
#define XDPDIRECTOR_QUIC_H

#include "select.h"

#define QUIC_LONG_HEADER 0x80 /* bits of the first byte (RFC 8999, RFC 9000) */
#define QUIC_FIXED_BIT	 0x40
#define QUIC_TYPE	 0x30 /* of a packet with a long header */
#define QUIC_HANDSHAKE1	 0x20 /* in version 1 (RFC 9000, 17.2) */
#define QUIC_HANDSHAKE2	 0x30 /* in version 2 (RFC 9369, 3.2) */
#define QUIC_VERSION1	 0x00000001
#define QUIC_VERSION2	 0x6b3343cf
#define QUIC_SHORT_CID	 1 /* offsets of the destination's connection ID */
#define QUIC_LONG_CID	 6
#define QUIC_LB_SHIFT	 5    /* first octet of QUIC-LB: the codepoint is above these bits */
#define QUIC_LB_LENGTH	 0x1f /* and the length below */
#define QUIC_LB_NONCE	 4    /* octets behind the ID at least */
#define QUIC_AT_MASK	 0x1f /* bounds of an offset, for the verifier */

/* True if a server has chosen the connection ID of a packet with a long header. */
static __always_inline bool quic_is_handshake(const u8 *quic)
{
	u32 version = (u32)quic[1] << 24 | quic[2] << 16 | quic[3] << 8 | quic[4];

	if (version == QUIC_VERSION1)
		return (*quic & QUIC_TYPE) == QUIC_HANDSHAKE1;
	return version == QUIC_VERSION2 && (*quic & QUIC_TYPE) == QUIC_HANDSHAKE2;
}

/* True if the first octet of a connection ID is one of the service's. `room`: bytes that the ID may
 * have; `exact`: its length, or 0 in a short header, which does not have it. */
static __always_inline bool quic_is_routable(const struct service *service, u32 first, u32 room,
					     u32 exact)
{
	u32 behind = first & QUIC_LB_LENGTH;

	if (!(service->quic_flags & QUIC_LB))
		return service->quic_at + service->quic_length <= room;
	if (first >> QUIC_LB_SHIFT != service->quic_config ||
	    service->quic_at + service->quic_length + QUIC_LB_NONCE > room)
		return false;
	if (!(service->quic_flags & QUIC_ENCODES_LENGTH))
		return true;
	return behind >= service->quic_length + QUIC_LB_NONCE && behind < MAX_QUIC_ID &&
	       behind < room && (!exact || behind + 1 == exact);
}

/* Copy the backend's ID out of the connection ID at `cid`. */
static __always_inline bool quic_copy_id(const u8 *cid, const u8 *end,
					 const struct service *service, struct quic_id *id)
{
	const u8 *at = cid + (service->quic_at & QUIC_AT_MASK);
	u64 length = service->quic_length;

	id->length = length;
#pragma unroll
	for (int i = 0; i < MAX_QUIC_ID; i++) {
		if (opaque(length) <= i)
			return true;
		if (at + i + 1 > end)
			return false;
		id->id[i] = at[i];
	}
	return true;
}

/* Read the ID of the backend that a datagram names. False if it names none. */
static __always_inline bool quic_read_id(struct xdp_md *ctx, const struct packet *packet,
					 const struct service *service, struct quic_id *id)
{
	const u8 *end = (void *)(long)ctx->data_end;
	const struct udphdr *udp = (void *)(long)ctx->data + (packet->transport & TRANSPORT_MASK);
	const u8 *quic = (void *)(udp + 1);
	u32 room, exact = 0;

	if (quic + QUIC_LONG_CID + 1 > end || !(*quic & QUIC_FIXED_BIT))
		return false;
	room = ntohs(udp->len);
	if (room > packet->payload)
		room = packet->payload;
	if (room < sizeof(*udp) + QUIC_LONG_CID + 1)
		return false;
	room -= sizeof(*udp);
	if (*quic & QUIC_LONG_HEADER) {
		exact = quic[QUIC_LONG_CID - 1];
		if (!exact || exact > MAX_QUIC_ID || exact > room - QUIC_LONG_CID ||
		    !quic_is_handshake(quic))
			return false;
		return quic_is_routable(service, quic[QUIC_LONG_CID], exact, exact) &&
		       quic_copy_id(quic + QUIC_LONG_CID, end, service, id);
	}
	return quic_is_routable(service, quic[QUIC_SHORT_CID], room - QUIC_SHORT_CID, 0) &&
	       quic_copy_id(quic + QUIC_SHORT_CID, end, service, id);
}

/* What became of a packet's connection ID. */
enum quic_result {
	QUIC_NONE,    /* it names nobody */
	QUIC_NAMED,   /* a backend that serves */
	QUIC_UNKNOWN, /* no backend of the service has the ID */
	QUIC_DOWN,    /* the backend that has it does not serve here */
};

static __always_inline void count_quic(u32 service, enum quic_result result)
{
	struct quic_counts *count = quic_counts.lookup(&service);

	if (!count || DRY_RUN)
		return;
	count->named += result == QUIC_NAMED;
	count->unknown += result == QUIC_UNKNOWN;
	count->down += result == QUIC_DOWN;
}

/* Select the backend that the packet's connection ID names. */
static __always_inline enum quic_result
select_by_cid(struct xdp_md *ctx, const struct packet *packet, const struct service *service,
	      const struct scratch *scratch, struct selection *selection)
{
	struct quic_id id = { .service = scratch->service };
	struct quic_backend *named;

	if (!quic_read_id(ctx, packet, service, &id))
		return QUIC_NONE;
	named = quic_ids.lookup(&id);
	if (!named)
		return QUIC_UNKNOWN;
	if (select_backend(selection, named->backend, scratch->front) &&
	    selection->backend->generation == named->generation)
		return QUIC_NAMED;
	return QUIC_DOWN;
}

static __always_inline union slot_word
flow_slot(const struct packet *packet, const struct service *service, union ring_place place)
{
	u32 position = ring_position(packet, service, place);
	union slot_word slot = read_slot(position);

	note_slot(position, slot.is);
	return slot;
}

/* True if the flow's slot is at rest, and leads to the selected backend by itself. */
static __always_inline bool is_slot_owner(const struct scratch *scratch,
					  const struct selection *selection)
{
	return !scratch->slot.is.flags && scratch->slot.is.backend == selection->index;
}

static __always_inline bool is_recorded_backend(const struct entry *entry,
						const struct selection *selection)
{
	return entry->is.record.backend == selection->index && selection->backend &&
	       entry->is.record.generation == (u8)selection->backend->generation;
}

/* True if the stage that looks at connection IDs must see the packet. */
static __always_inline bool has_cids(const struct packet *packet, const struct service *service)
{
	return service->guard & GUARD_QUIC && packet->protocol == IPPROTO_UDP;
}

#endif
