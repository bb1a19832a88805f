/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of a connection that lack its ports: later fragments, and ICMP errors.
 *
 * The first fragment is forwarded by its ports. It stores the packet's id with the backend for
 * the later ones, or with the reason why the host gets the packet. A fragment that overtakes the
 * first one is dropped, and so is one that comes after the reassembly time-out, when the id may
 * belong to another packet.
 *
 * An ICMP error (RFC 792, RFC 4443) quotes at least eight bytes of the packet that a backend
 * sent, which include the ports. It is forwarded unchanged to that backend, so path MTU
 * discovery works. */
#ifndef XDPDIRECTOR_FRAGMENT_H
#define XDPDIRECTOR_FRAGMENT_H

#include "backend.h"
#include "conntrack.h"
#include "schedule.h"
#include "verdict.h"

#define ERRORS_A_JIFFY 16

/* The key that all fragments of a packet share. In IPv6 the protocol is not part of it: the next
 * header may differ between fragments, and that of the first one may be an extension header (RFC
 * 8200, 4.5). */
static __always_inline void fragment_key(const struct packet *packet, struct fragment *fragment)
{
	fragment->id = packet->id;
	fragment->protocol = packet->ipv6 ? 0 : packet->protocol;
	fragment->ipv6 = packet->ipv6;
	if (packet->ipv6) {
		__builtin_memcpy(fragment->client, packet->flow.v6.client,
				 sizeof(fragment->client));
		__builtin_memcpy(fragment->vip, packet->flow.v6.vip, sizeof(fragment->vip));
	} else {
		fragment->client[0] = packet->flow.v4.client;
		fragment->vip[0] = packet->flow.v4.vip;
	}
}

static __always_inline void fragment_store(const struct packet *packet, struct affinity *affinity)
{
	struct fragment fragment = {};

	if (DRY_RUN)
		return;
	affinity->seen = bpf_jiffies64();
	fragment_key(packet, &fragment);
	fragments.update(&fragment, affinity);
}

/* Store the backend for the later fragments. */
static __always_inline void fragment_store_backend(const struct packet *packet,
						   const struct selection *selection)
{
	struct affinity affinity = { .backend = selection->index };

	if (!selection->backend)
		return;
	affinity.generation = selection->backend->generation;
	fragment_store(packet, &affinity);
}

/* Store that the host gets the later fragments too, and the reason. */
static __always_inline void fragment_store_pass(const struct packet *packet, enum reason reason)
{
	struct affinity affinity = { .backend = NO_BACKEND, .generation = reason };

	fragment_store(packet, &affinity);
}

static __always_inline int pass_to_host(const struct packet *packet, enum reason reason)
{
	if (packet->fragment == FRAGMENT_FIRST)
		fragment_store_pass(packet, reason);
	return verdict(XDP_PASS, reason);
}

/* What the first fragment stored, or NULL. */
static __always_inline struct affinity *fragment_lookup(const struct packet *packet)
{
	struct entrance *at = entrance.lookup(&(u32){ 0 });
	struct fragment fragment = {};
	struct affinity *first;

	fragment_key(packet, &fragment);
	first = fragments.lookup(&fragment);
	if (!first || !at ||
	    (at->reassembly && has_elapsed(first->seen, at->reassembly, bpf_jiffies64())))
		return NULL;
	return first;
}

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
	struct entry entry;
	union slot_word slot;

	if (ct_lookup(quoted, service, front, &entry))
		return select_known_backend(selection, entry.is.record.backend,
					    entry.is.record.generation, front)
			       ? FORWARD_ERROR
			       : PASS_NO_CONNECTION;
	if (!service->ring_slots)
		return PASS_NO_CONNECTION;
	slot = read_slot(ring_position(quoted, service));
	if (!select_backend(selection, slot.is.flags & SLOT_FLUX ? slot.is.before : slot.is.backend,
			    front))
		return PASS_NO_CONNECTION;
	return take_allowance(ALLOWANCE_ERRORS, ERRORS_A_JIFFY, bpf_jiffies64()) ? FORWARD_ERROR
										 : DROP_ERROR;
}

#endif
