/* SPDX-License-Identifier: GPL-2.0-only */
/* ICMP errors about packets that a backend sent (RFC 792, RFC 4443). They quote at least eight
 * bytes of the packet, which include the ports. They are forwarded unchanged to that backend, so
 * path MTU discovery works. */
#ifndef XDPDIRECTOR_ICMP_ERROR_H
#define XDPDIRECTOR_ICMP_ERROR_H

#include "backend.h"
#include "conntrack.h"
#include "ring.h"

#define ERRORS_A_JIFFY 16

/* Take one from the per-CPU budget of this jiffy. */
static __always_inline bool take_allowance(u32 kind, u32 most, u32 now)
{
	struct allowance *allowance = allowances.lookup(&kind);

	if (!allowance)
		return false;
	if (DRY_RUN)
		return allowance->jiffy != now || allowance->used < most;
	if (allowance->jiffy != now) {
		allowance->jiffy = now;
		allowance->used = 0;
	}
	return allowance->used++ < most;
}

static __always_inline bool is_icmp_error(const struct packet *packet, u8 type)
{
	if (packet->ipv6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* Only a first fragment has ports. */
static __always_inline bool lacks_ports(const struct packet *quoted, bool is_later)
{
	return is_later && has_ports(quoted->protocol);
}

/* The quoted packet went from the VIP to the client, so source and destination are swapped. False
 * if it is not from this VIP, or has no ports. */
static __always_inline bool parse_quoted4(struct cursor *cursor, const struct packet *error,
					  struct packet *quoted)
{
	struct iphdr *ip = cursor->at;

	if ((void *)(ip + 1) > cursor->end || ip->version != 4 || ip->ihl < 5 ||
	    ip->saddr != error->flow.v4.vip)
		return false;
	quoted->protocol = ip->protocol;
	quoted->flow.v4.client = ip->daddr;
	quoted->flow.v4.vip = ip->saddr;
	cursor->at += ip->ihl * 4;
	return !lacks_ports(quoted, ip->frag_off & htons(FRAGMENT_OFFSET));
}

static __always_inline bool parse_quoted6(struct cursor *cursor, const struct packet *error,
					  struct packet *quoted)
{
	struct ipv6hdr *ip = cursor->at;

	if ((void *)(ip + 1) > cursor->end || ip->version != 6)
		return false;
	quoted->ipv6 = 1;
	quoted->protocol = ip->nexthdr;
	quoted->payload = ntohs(ip->payload_len);
	__builtin_memcpy(quoted->flow.v6.client, &ip->daddr, sizeof(quoted->flow.v6.client));
	__builtin_memcpy(quoted->flow.v6.vip, &ip->saddr, sizeof(quoted->flow.v6.vip));
	for (int i = 0; i < 4; i++)
		if (quoted->flow.v6.vip[i] != error->flow.v6.vip[i])
			return false;
	cursor->at = ip + 1;
	parse_extensions(cursor, quoted);
	return !quoted->error && !lacks_ports(quoted, quoted->fragment == FRAGMENT_LATER);
}

/* Parse the packet that an ICMP error quotes, in the direction of a request. False if it is no ICMP
 * error, or does not quote the headers and ports. */
static __always_inline bool parse_quoted(struct xdp_md *ctx, const struct packet *error,
					 struct packet *quoted)
{
	struct cursor cursor = { .end = (void *)(long)ctx->data_end };
	struct icmphdr *icmp = (void *)(long)ctx->data + (error->transport & TRANSPORT_MASK);
	struct ports *ports;

	cursor.at = icmp + 1;
	if (cursor.at > cursor.end || !is_icmp_error(error, icmp->type))
		return false;
	if (error->ipv6 ? !parse_quoted6(&cursor, error, quoted)
			: !parse_quoted4(&cursor, error, quoted))
		return false;
	if (!has_ports(quoted->protocol)) {
		set_ports(quoted, &(u32){ 0 });
		return cursor.at <= cursor.end && cursor.at - (void *)icmp <= error->payload;
	}
	ports = cursor.at;
	if ((void *)(ports + 1) > cursor.end ||
	    (void *)(ports + 1) - (void *)icmp >
		    error->payload) /* padding of the frame does not count */
		return false;
	set_ports(quoted, &(struct ports){ ports->destination, ports->source });
	return true;
}

/* Select the backend of the quoted flow. Records stay as they are. A ring selects a backend for any
 * flow, so that anybody could send errors about flows that do not exist: these are rate limited. */
static __always_inline enum reason select_for_quoted(const struct packet *quoted,
						     const struct service *service, u32 front,
						     struct selection *selection)
{
	union ring_place place = ring_of(service);
	struct entry entry;
	union slot_word slot;

	if (ct_lookup(quoted, service, front, &entry))
		return select_known_backend(selection, entry.is.record.backend,
					    entry.is.record.generation, front)
			       ? FORWARD_ERROR
			       : PASS_NO_CONNECTION;
	if (!place.is.slots)
		return PASS_NO_CONNECTION;
	slot = read_slot(ring_position(quoted, service, place));
	if (!select_backend(selection, slot.is.flags & SLOT_FLUX ? slot.is.before : slot.is.backend,
			    front))
		return PASS_NO_CONNECTION;
	return take_allowance(ALLOWANCE_ERRORS, ERRORS_A_JIFFY, bpf_jiffies64()) ? FORWARD_ERROR
										 : DROP_ERROR;
}

#endif
