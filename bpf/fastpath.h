/* SPDX-License-Identifier: GPL-2.0-only */
/* The fast path: classify a frame and find its listener without a hash look-up. Most packets for
 * other addresses are passed before anything is stored. It handles TCP and UDP without fragments,
 * whose transport header follows the IP header at once. Lengths are checked only when a listener
 * wants the packet.
 *
 * The listener cache is direct-mapped. A listener's address (IPv6: its words folded), port and
 * protocol form a key of SHORTCUT_KEY bits. Multiplication by an odd constant is invertible, so the
 * product identifies the key: its upper bits are the index of the entry and its lower bits the
 * entry's tag (quotienting: Knuth, TAOCP 3, 6.4). For IPv6 the address is compared as well. An
 * entry also says that no other listener maps to it. If it does not, for example because it is not
 * filled yet, the exact maps are asked. xdpdirector/dataplane/listener_cache.py fills the cache. */
#ifndef XDPDIRECTOR_SHORTCUT_H
#define XDPDIRECTOR_SHORTCUT_H

#include "maps.h"
#include "parse.h"
#include "service.h"

#define SHORTCUT_FACTOR 0x9e3779b97f4a7c15ULL

_Static_assert(MAX_SERVICES <= 1 << SHORTCUT_SERVICE && MAX_FRONTS <= 1 << SHORTCUT_FRONT,
	       "an entry of the listener cache has no room for such indices");
_Static_assert(SHORTCUT_SERVICE + SHORTCUT_FRONT == SHORTCUT_ALONE &&
		       SHORTCUT_TAKEN == SHORTCUT_ALONE + 1,
	       "the fields of such an entry overlap");
_Static_assert(SHORTCUT_KEY - SHORTCUT_PLACE == 64 - (SHORTCUT_TAKEN + 1),
	       "a tag of the listener cache does not fill the rest of its entry");

/* What is known of a frame. Smaller numbers are an enum reason: the host gets the packet. */
enum sight {
	SIGHT_ELSEWHERE = 63, /* for a listener, but another machine's MAC */
	SIGHT_OTHER = 64,     /* for a VIP, but not for the fast path */
	SIGHT_PLAIN = 65,     /* not in the cache: ask the exact maps */
	SIGHT_LISTENER = 66,  /* its listener was in the cache */
};

_Static_assert(REASONS <= SIGHT_ELSEWHERE, "a reason looks like an enum sight");

/* The protocol in a key of the cache. */
enum kind {
	KIND_TCP,
	KIND_UDP,
	KIND_OTHER,
};

/* True if this is the front's address. */
static __always_inline bool is_at(u32 number, const __be32 *address)
{
	struct front *front = fronts.lookup(&number);

	return front && front->address[0] == address[0] && front->address[1] == address[1] &&
	       front->address[2] == address[2] && front->address[3] == address[3];
}

static __always_inline u64 shortcut_key(__be32 address, __be16 port, enum kind kind, u64 ipv6)
{
	_Static_assert(SHORTCUT_KEY == 32 + 16 + 2, "a key is address, port, protocol and version");
	return (u64)address << 18 | (u64)port << 2 | (u64)kind << 1 | ipv6;
}

/* Look the key of a frame up in the listener cache. `address6` is NULL for IPv4. */
static __always_inline u32 look(const struct entrance *at, const void *frame, u64 key, u64 marks,
				const __be32 *address6, struct listener *listener)
{
	u64 product = opaque(key * SHORTCUT_FACTOR), found, differs;
	u64 place = product >> (SHORTCUT_KEY - SHORTCUT_PLACE) & ((1 << SHORTCUT_PLACE) - 1);

	found = *(const volatile u64 *)&at->shortcuts[place];
	differs = found ^ product << (SHORTCUT_TAKEN + 1);
	listener->service = found & ((1 << SHORTCUT_SERVICE) - 1);
	listener->front = found >> SHORTCUT_SERVICE & ((1 << SHORTCUT_FRONT) - 1);
	if (differs >> SHORTCUT_TAKEN == 1 && (!address6 || is_at(listener->front, address6)))
		return is_for_this_machine(at, frame) ? SIGHT_LISTENER : SIGHT_ELSEWHERE;
	if (found >> SHORTCUT_ALONE & 1 && !(marks & MARK_RANGES))
		return PASS_NO_LISTENER;
	return SIGHT_PLAIN;
}

static __always_inline enum kind kind_of(u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return KIND_TCP;
	return protocol == IPPROTO_UDP ? KIND_UDP : KIND_OTHER;
}

static __always_inline enum kind plain4(const struct iphdr *ip)
{
	if (*(const u8 *)ip != PLAIN_IPV4 || ip->frag_off & htons(FRAGMENT_BITS))
		return KIND_OTHER;
	return kind_of(ip->protocol);
}

/* The same text for both versions, compiled once for each: `ipv6` is a constant. */
static __always_inline u32 glance_ip(const struct cursor *cursor, bool ipv6, struct packet *packet,
				     struct listener *listener)
{
	const struct iphdr *ip4 = ipv6 ? NULL : ipv4_header(cursor);
	const struct ipv6hdr *ip6 = ipv6 ? ipv6_header(cursor) : NULL;
	const __be32 *address = ipv6 ? ip6->daddr.in6_u.u6_addr32 : &ip4->daddr;
	const struct ports *ports = ipv6 ? (const void *)(ip6 + 1) : (const void *)(ip4 + 1);
	struct cursor rest = *cursor;
	struct entrance *at;
	enum kind kind;
	__be32 folded;
	bool is_whole;
	u64 marks;
	u32 sight;

	if (ipv6 ? !ip6 : !ip4)
		return PASS_NOT_IP;
	at = ipv6 ? apart(entrance.lookup(&(u32){ 0 })) : entrance.lookup(&(u32){ 0 });
	if (!at)
		return PASS_NOT_VIP;
	folded = ipv6 ? folded6(address) : *address;
	marks = marks_of(at, folded);
	if (!(marks & MARK_VIP))
		return PASS_NOT_VIP;
	kind = ipv6 ? kind_of(ip6->nexthdr) : plain4(ip4);
	if (kind == KIND_OTHER || (void *)(ports + 1) > cursor->end)
		return SIGHT_OTHER;
	sight = look(at, cursor->start, shortcut_key(folded, ports->destination, kind, ipv6), marks,
		     ipv6 ? address : NULL, listener);
	if (sight == PASS_NO_LISTENER)
		return (ipv6 ? is_vip6(address) : is_vip4(*address)) ? PASS_NO_LISTENER
								     : PASS_NOT_VIP;
	if (sight < SIGHT_OTHER)
		return sight;
	begin(packet);
	packet->ipv6 = ipv6;
	packet->network = cursor->at - cursor->start;
	packet->transport = packet->network + (ipv6 ? sizeof(*ip6) : sizeof(*ip4));
	is_whole =
		ipv6 ? parse_ipv6(&rest, ip6, packet) : read_ipv4(&rest, ip4, sizeof(*ip4), packet);
	if (is_whole)
		parse_header(&rest, packet);
	if (sight == SIGHT_PLAIN)
		set_ports(packet, ports);
	return sight;
}

/* Classify the frame: enum sight. Reads addresses and ports into `packet` for SIGHT_PLAIN, and all
 * of it for SIGHT_LISTENER. */
static __always_inline u32 glance(struct cursor *cursor, struct packet *packet,
				  struct listener *listener)
{
	__be16 type = parse_ethernet(cursor);

	if (type == htons(ETH_P_IP))
		return glance_ip(cursor, false, packet, listener);
	if (type == htons(ETH_P_IPV6))
		return glance_ip(cursor, true, packet, listener);
	return PASS_NOT_IP;
}

#endif
