/* SPDX-License-Identifier: GPL-2.0-only */
/* Later fragments, which lack the ports. The first fragment is forwarded by its ports. It stores
 * the packet's id with the backend for the later ones, or with the reason why the host gets the
 * packet. A fragment that overtakes the first one is dropped, and so is one that comes after the
 * reassembly time-out, when the id may belong to another packet. */
#ifndef XDPDIRECTOR_FRAGMENT_H
#define XDPDIRECTOR_FRAGMENT_H

#include "backend.h"
#include "verdict.h"

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

#endif
