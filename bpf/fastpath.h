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
#ifndef XDPDIRECTOR_FASTPATH_H
#define XDPDIRECTOR_FASTPATH_H

#include "maps.h"
#include "parse.h"
#include "listener.h"

#define LISTENER_CACHE_FACTOR 0x9e3779b97f4a7c15ULL

_Static_assert(MAX_SERVICES <= 1 << SHORTCUT_SERVICE && MAX_FRONTS <= 1 << SHORTCUT_FRONT,
	       "an entry of the listener cache has no room for such indices");
_Static_assert(SHORTCUT_SERVICE + SHORTCUT_FRONT == SHORTCUT_ALONE &&
		       SHORTCUT_TAKEN == SHORTCUT_ALONE + 1,
	       "the fields of such an entry overlap");
_Static_assert(SHORTCUT_KEY - SHORTCUT_PLACE == 64 - (SHORTCUT_TAKEN + 1),
	       "a tag of the listener cache does not fill the rest of its entry");

/* What is known of a frame. Smaller numbers are an enum reason: the host gets the packet. */
enum frame_class {
	FRAME_ELSEWHERE = 63, /* for a listener, but another machine's MAC */
	FRAME_COMPLEX = 64,   /* for a VIP, but not for the fast path */
	FRAME_UNCACHED = 65,  /* not in the cache: ask the exact maps */
	FRAME_CACHED = 66,    /* its listener was in the cache */
};

_Static_assert(REASONS <= FRAME_ELSEWHERE, "a reason looks like an enum frame_class");

/* The protocol in a key of the cache. */
enum l4_kind {
	L4_TCP,
	L4_UDP,
	L4_OTHER,
};

/* True if this is the front's address. */
static __always_inline bool front_has_address(u32 number, const __be32 *address)
{
	struct front *front = fronts.lookup(&number);

	return front && front->address[0] == address[0] && front->address[1] == address[1] &&
	       front->address[2] == address[2] && front->address[3] == address[3];
}

static __always_inline u64 listener_cache_key(__be32 address, __be16 port, enum l4_kind kind,
					      u64 ipv6)
{
	_Static_assert(SHORTCUT_KEY == 32 + 16 + 2, "a key is address, port, protocol and version");
	return (u64)address << 18 | (u64)port << 2 | (u64)kind << 1 | ipv6;
}

/* Look the key of a frame up in the listener cache. `address6` is NULL for IPv4. */
static __always_inline u32 listener_cache_lookup(const struct entrance *at, const void *frame,
						 u64 key, u64 marks, const __be32 *address6,
						 struct listener *listener)
{
	u64 product = opaque(key * LISTENER_CACHE_FACTOR), found, differs;
	u64 place = product >> (SHORTCUT_KEY - SHORTCUT_PLACE) & ((1 << SHORTCUT_PLACE) - 1);

	found = *(const volatile u64 *)&at->shortcuts[place];
	differs = found ^ product << (SHORTCUT_TAKEN + 1);
	listener->service = found & ((1 << SHORTCUT_SERVICE) - 1);
	listener->front = found >> SHORTCUT_SERVICE & ((1 << SHORTCUT_FRONT) - 1);
	if (differs >> SHORTCUT_TAKEN == 1 &&
	    (!address6 || front_has_address(listener->front, address6)))
		return is_own_mac(at, frame) ? FRAME_CACHED : FRAME_ELSEWHERE;
	if (found >> SHORTCUT_ALONE & 1 && !(marks & MARK_RANGES))
		return PASS_NO_LISTENER;
	return FRAME_UNCACHED;
}

static __always_inline enum l4_kind l4_kind_of(u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return L4_TCP;
	return protocol == IPPROTO_UDP ? L4_UDP : L4_OTHER;
}

static __always_inline enum l4_kind plain_l4_kind4(const struct iphdr *ip)
{
	if (*(const u8 *)ip != PLAIN_IPV4 || ip->frag_off & htons(FRAGMENT_BITS))
		return L4_OTHER;
	return l4_kind_of(ip->protocol);
}

/* The same text for both versions, compiled once for each: `ipv6` is a constant. */
static __always_inline u32 classify_ip(const struct cursor *cursor, bool ipv6,
				       struct packet *packet, struct listener *listener)
{
	const struct iphdr *ip4 = ipv6 ? NULL : ipv4_header(cursor);
	const struct ipv6hdr *ip6 = ipv6 ? ipv6_header(cursor) : NULL;
	const __be32 *address = ipv6 ? ip6->daddr.in6_u.u6_addr32 : &ip4->daddr;
	const struct ports *ports = ipv6 ? (const void *)(ip6 + 1) : (const void *)(ip4 + 1);
	struct cursor rest = *cursor;
	struct entrance *at;
	enum l4_kind kind;
	__be32 folded;
	bool is_whole;
	u64 marks;
	u32 class;

	if (ipv6 ? !ip6 : !ip4)
		return PASS_NOT_IP;
	at = ipv6 ? not_merged(entrance.lookup(&(u32){ 0 })) : entrance.lookup(&(u32){ 0 });
	if (!at)
		return PASS_NOT_VIP;
	folded = ipv6 ? fold_address6(address) : *address;
	marks = vip_filter_marks(at, folded);
	if (!(marks & MARK_VIP))
		return PASS_NOT_VIP;
	kind = ipv6 ? l4_kind_of(ip6->nexthdr) : plain_l4_kind4(ip4);
	if (kind == L4_OTHER || (void *)(ports + 1) > cursor->end)
		return FRAME_COMPLEX;
	class = listener_cache_lookup(at, cursor->start,
				      listener_cache_key(folded, ports->destination, kind, ipv6),
				      marks, ipv6 ? address : NULL, listener);
	if (class == PASS_NO_LISTENER)
		return (ipv6 ? is_vip6(address) : is_vip4(*address)) ? PASS_NO_LISTENER
								     : PASS_NOT_VIP;
	if (class < FRAME_COMPLEX)
		return class;
	packet_init(packet);
	packet->ipv6 = ipv6;
	packet->network = cursor->at - cursor->start;
	packet->transport = packet->network + (ipv6 ? sizeof(*ip6) : sizeof(*ip4));
	is_whole =
		ipv6 ? parse_ipv6(&rest, ip6, packet) : read_ipv4(&rest, ip4, sizeof(*ip4), packet);
	if (is_whole)
		parse_header(&rest, packet);
	if (class == FRAME_UNCACHED)
		set_ports(packet, ports);
	return class;
}

/* Classify the frame: enum frame_class. Reads addresses and ports into `packet` for FRAME_UNCACHED,
 * and all of it for FRAME_CACHED. */
static __always_inline u32 classify(struct cursor *cursor, struct packet *packet,
				    struct listener *listener)
{
	__be16 type = parse_ethernet(cursor);

	if (type == htons(ETH_P_IP))
		return classify_ip(cursor, false, packet, listener);
	if (type == htons(ETH_P_IPV6))
		return classify_ip(cursor, true, packet, listener);
	return PASS_NOT_IP;
}

#endif
