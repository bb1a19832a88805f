/* SPDX-License-Identifier: GPL-2.0-only */
/* From a frame to its listener at a glance: most of what is for no service is told before anything is stored, and most
 * of what is for one costs no hash look-up. This is for plain packets: TCP or UDP, no fragment, the transport header
 * right behind that of IP. Whether they are well-formed is asked when it is known that somebody wants them.
 *
 * A listener's address (of IPv6 the words' sum), port and protocol make a number of SHORTCUT_KEY bits. It is multiplied
 * by an odd constant, which can be undone; the product's upper bits say where among the shortcuts the listener's word is,
 * and the word has the lower ones, so that nothing is lost (quotienting: Knuth, TAOCP 3, 6.4). IPv6 addresses are compared
 * besides. A word also says that no other listener has its place there; where it does not, also because nobody has filled
 * it yet, the exact maps are asked. xdpdirector/shortcuts.py fills them.
 */
#ifndef XDPDIRECTOR_SHORTCUT_H
#define XDPDIRECTOR_SHORTCUT_H

#include "maps.h"
#include "parse.h"
#include "service.h"

#define SHORTCUT_FACTOR 0x9e3779b97f4a7c15ULL

_Static_assert(MAX_SERVICES <= 1 << SHORTCUT_SERVICE && MAX_FRONTS <= 1 << SHORTCUT_FRONT,
	       "a shortcut has no room for such numbers");

/* What a glance tells. Below: the reason why the packet is for no service of this machine. */
enum sight {
	SIGHT_ELSEWHERE = 63, /* for a listener, but another machine */
	SIGHT_OTHER = 64,     /* for a VIP, but not plain */
	SIGHT_PLAIN = 65,     /* the exact maps know the listener */
	SIGHT_LISTENER = 66,  /* this one */
};

/* The protocol, as it stands in a shortcut's key. */
enum kind {
	KIND_TCP,
	KIND_UDP,
	KIND_OTHER,
};

/* Whether the front's address is this one. */
static __always_inline bool is_at(u32 number, const __be32 *address)
{
	struct front *front = fronts.lookup(&number);

	return front && front->address[0] == address[0] && front->address[1] == address[1] &&
	       front->address[2] == address[2] && front->address[3] == address[3];
}

static __always_inline u64 shortcut_key(__be32 address, __be16 port, enum kind kind, u64 ipv6)
{
	return (u64)address << 18 | (u64)port << 2 | (u64)kind << 1 | ipv6;
}

/* What the shortcuts say of a key in this frame. `address6` is NULL for IPv4. */
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

static __always_inline u32 glance4(const struct cursor *cursor, struct packet *packet,
				   struct listener *listener)
{
	const struct iphdr *ip = ipv4_header(cursor);
	struct cursor rest = *cursor;
	const struct ports *ports;
	struct entrance *at;
	u32 sight;
	enum kind kind;
	u64 marks;

	if (!ip)
		return PASS_NOT_IP;
	at = entrance.lookup(&(u32){ 0 });
	if (!at)
		return PASS_NOT_VIP;
	marks = marks_of(at, ip->daddr);
	if (!(marks & MARK_VIP))
		return PASS_NOT_VIP;
	ports = (const void *)(ip + 1);
	kind = plain4(ip);
	if (kind == KIND_OTHER || (void *)(ports + 1) > cursor->end)
		return SIGHT_OTHER;
	sight = look(at, cursor->start, shortcut_key(ip->daddr, ports->destination, kind, 0), marks,
		     NULL, listener);
	if (sight == PASS_NO_LISTENER)
		return is_vip4(ip->daddr) ? PASS_NO_LISTENER : PASS_NOT_VIP;
	if (sight < SIGHT_OTHER)
		return sight;
	begin(packet);
	packet->ipv6 = 0;
	packet->network = cursor->at - cursor->start;
	packet->transport = packet->network + sizeof(*ip);
	if (read_ipv4(&rest, ip, sizeof(*ip), packet))
		parse_header(&rest, packet);
	if (sight == SIGHT_PLAIN)
		set_ports(packet, ports);
	return sight;
}

static __always_inline u32 glance6(const struct cursor *cursor, struct packet *packet,
				   struct listener *listener)
{
	const struct ipv6hdr *ip = ipv6_header(cursor);
	const struct ports *ports;
	struct cursor rest = *cursor;
	const __be32 *address;
	struct entrance *at;
	u32 sight;
	enum kind kind;
	u64 marks;

	if (!ip)
		return PASS_NOT_IP;
	at = apart(entrance.lookup(&(u32){ 0 }));
	if (!at)
		return PASS_NOT_VIP;
	address = ip->daddr.in6_u.u6_addr32;
	marks = marks_of(at, folded6(address));
	if (!(marks & MARK_VIP))
		return PASS_NOT_VIP;
	ports = (const void *)(ip + 1);
	kind = kind_of(ip->nexthdr);
	if (kind == KIND_OTHER || (void *)(ports + 1) > cursor->end)
		return SIGHT_OTHER;
	sight = look(at, cursor->start, shortcut_key(folded6(address), ports->destination, kind, 1),
		     marks, address, listener);
	if (sight == PASS_NO_LISTENER)
		return is_vip6(address) ? PASS_NO_LISTENER : PASS_NOT_VIP;
	if (sight < SIGHT_OTHER)
		return sight;
	begin(packet);
	packet->network = cursor->at - cursor->start;
	packet->transport = packet->network + sizeof(*ip);
	if (parse_ipv6(&rest, ip, packet))
		parse_header(&rest, packet);
	if (sight == SIGHT_PLAIN)
		set_ports(packet, ports);
	return sight;
}

/* Whom the frame is for: enum sight. Of plain packets addresses and ports are read. */
static __always_inline u32 glance(struct cursor *cursor, struct packet *packet,
				  struct listener *listener)
{
	__be16 type = parse_ethernet(cursor);

	if (type == htons(ETH_P_IP))
		return glance4(cursor, packet, listener);
	if (type == htons(ETH_P_IPV6))
		return glance6(cursor, packet, listener);
	return PASS_NOT_IP;
}

#endif
