/* SPDX-License-Identifier: GPL-2.0-only */
/* Listener look-up, VIP filter, and this machine's MACs. */
#ifndef XDPDIRECTOR_LISTENER_H
#define XDPDIRECTOR_LISTENER_H

#include "branchless.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"

/* The words of an address folded into one, for the VIP filter and the listener cache. */
static __always_inline __be32 fold_address6(const __be32 *address)
{
	return address[0] ^ address[1] ^ address[2] ^ address[3];
}

/* What the VIP filter says of an address (IPv6: of its `fold_address6`): enum mark, in the
 * lowest two bits. The filter may report a VIP or ranges that do not exist, but misses none. 11
 * bits of the hash select the word, 5 the position in it. dataplane/maps.py writes it with the
 * same hash. */
static __always_inline u64 vip_filter_marks(const struct entrance *entrance, __be32 address)
{
	_Static_assert(FILTER_WORDS * FILTER_MARKS == 1 << 16, "not every place has a word");
	u64 hash = opaque(address), place = (hash ^ hash >> 16) & 0xffff;

	return entrance->filter[place / FILTER_MARKS] >> place % FILTER_MARKS * FILTER_BITS;
}

static __always_inline bool may_have_ranges(const struct packet *packet)
{
	struct entrance *at = entrance.lookup(&(u32){ 0 });

	return at && vip_filter_marks(at, packet->ipv6 ? fold_address6(packet->flow.v6.vip)
						       : packet->flow.v4.vip) &
			     MARK_RANGES;
}

static __always_inline u64 destination_mac(const void *start)
{
	return *(const u32 *)start | (u64) * (const u16 *)(start + 4) << 32;
}

/* False for frames that a switch flooded or a promiscuous interface received. A director that
 * forwarded them would duplicate them, or send them in a circle with another director. */
static __always_inline bool is_own_mac(const struct entrance *at, const void *start)
{
	u64 mac = destination_mac(start);

	if (at->own.macs[0] == mac || !at->own.known)
		return true;
	for (u32 i = 1; i < MAX_STATIONS; i++)
		if (at->own.macs[i] == mac)
			return true;
	return false;
}

static __always_inline bool is_foreign_mac(const void *start)
{
	struct entrance *at = entrance.lookup(&(u32){ 0 });

	return at && !is_own_mac(at, start);
}

/* A frame for a VIP, but for another machine's MAC. Pass it if the MAC is that of a container
 * behind the interface. Otherwise nobody here may answer it; the kernel would, with a RST, if the
 * interface got that MAC while no daemon ran. */
static __always_inline int verdict_on_foreign_mac(const void *start)
{
	u64 mac = destination_mac(start);

	return secondary_macs.lookup(&mac) ? verdict(XDP_PASS, PASS_OTHER_HOST)
					   : verdict(XDP_DROP, DROP_OTHER_HOST);
}

/* Exact, for packets without a listener: the VIP filter has false positives. */
static __always_inline bool is_vip4(__be32 address)
{
	struct vip vip = { .address = { 0, 0, htonl(0xffff), address } };

	return vips.lookup(&vip) != NULL;
}

static __always_inline bool is_vip6(const __be32 *address)
{
	struct vip vip;

	__builtin_memcpy(vip.address, address, sizeof(vip.address));
	return vips.lookup(&vip) != NULL;
}

static __always_inline bool is_vip(const struct packet *packet)
{
	return packet->ipv6 ? is_vip6(packet->flow.v6.vip) : is_vip4(packet->flow.v4.vip);
}

/* Port ranges, any port, other protocols; used if there is no exact listener. */
static __always_inline u32 *listener_lookup_range(const struct packet *packet)
{
	struct range4 v4 = { .prefix = 8 * (sizeof(v4) - sizeof(v4.prefix)) };
	struct range6 v6 = { .prefix = 8 * (sizeof(v6) - sizeof(v6.prefix)) };

	if (packet->ipv6) {
		__builtin_memcpy(v6.address, packet->flow.v6.vip, sizeof(v6.address));
		v6.port = packet->flow.v6.port;
		v6.protocol = packet->protocol;
		return not_merged(ranges6.lookup(&v6));
	}
	v4.address = packet->flow.v4.vip;
	v4.port = packet->flow.v4.port;
	v4.protocol = packet->protocol;
	return ranges4.lookup(&v4);
}

/* Keys that are stored as words: a load that spans several stores stalls the CPU. */
union listener4_word {
	struct listener4 listener;
	u64 word;
};

union listener6_words {
	struct listener6 listener;
	u32 words[5];
};

static __always_inline u32 *listener_lookup_exact(const struct packet *packet)
{
	union listener4_word v4;
	union listener6_words v6;

	if (packet->ipv6) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			v6.words[i] = packet->flow.v6.vip[i];
		v6.words[4] = (u32)packet->protocol << 16 | packet->flow.v6.port;
		return not_merged(listeners6.lookup(&v6.listener));
	}
	/* little-endian, like all that Python reads from the maps */
	v4.word =
		(u64)packet->protocol << 48 | (u64)packet->flow.v4.port << 32 | packet->flow.v4.vip;
	return listeners4.lookup(&v4.listener);
}

/* Indices of a service and one of its fronts. */
struct listener {
	u32 service;
	u32 front;
};

static __always_inline bool listener_lookup(const struct packet *packet, struct listener *listener)
{
	u32 *found = listener_lookup_exact(packet), place;

	if (!found && may_have_ranges(packet))
		found = listener_lookup_range(packet);
	if (!found)
		return false;
	place = *(volatile u32 *)found;
	listener->service = place & ((1 << LISTENER_FRONT) - 1);
	listener->front = place >> LISTENER_FRONT;
	return true;
}

#endif
