/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames that another director has sent here, as to a backend.
 *
 * Two directors may be each other's backends. A frame that one of them has scheduled is served where it arrives: if it were
 * scheduled again, it could go back, and circle for ever. Which frames these are is told by the MAC that they come from:
 *
 * - Where this machine is a backend itself, each frame from another backend of the same service is the host's, whatever is
 *   known of its flow; its record is not touched. `senders` has the MACs.
 * - Elsewhere no frame is scheduled to the machine that it came from.
 *
 * A backend that routes clients' packets as well is exempt, when the configuration says so.
 */
#ifndef XDPDIRECTOR_DIRECTED_H
#define XDPDIRECTOR_DIRECTED_H

#include "forward.h"

/* Whether a backend of the service has sent it, to this machine as to another one. */
static __always_inline bool is_directed(struct xdp_md *ctx, const struct service *service,
					u32 number)
{
	struct sender sender = { .service = number };
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (!(service->guard & GUARD_DIRECTED) || (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(sender.mac, eth->h_source, sizeof(sender.mac));
	return senders.lookup(&sender) != NULL;
}

/* Whether the frame would go back to the machine that it came from. */
static __always_inline bool would_return(struct xdp_md *ctx, const struct choice *choice)
{
	const u16 *from = (void *)(long)ctx->data + ETH_ALEN;
	const u16 *to;

	if (!choice->backend || (void *)(from + 3) > (void *)(long)ctx->data_end ||
	    (choice->backend->flags & (BACKEND_LOCAL | BACKEND_RESOLVED | BACKEND_ROUTER)) !=
		    BACKEND_RESOLVED)
		return false;
	to = (const u16 *)choice->backend->addresses;
	return from[0] == to[0] && from[1] == to[1] && from[2] == to[2];
}

/* It has come to its end: the host's. */
static __always_inline int keep(struct xdp_md *ctx, const struct packet *packet, u32 backend)
{
	if (packet->fragment == FRAGMENT_FIRST)
		remember_passing(packet, PASS_DIRECTED);
	return conclude(ctx, packet, backend, XDP_PASS, PASS_DIRECTED);
}

/* To another machine than that which it came from. */
static __always_inline int forward_away(struct xdp_md *ctx, const struct packet *packet,
					const struct choice *choice, enum reason reason)
{
	if (would_return(ctx, choice))
		return keep(ctx, packet, choice->index);
	return forward(ctx, packet, choice, reason);
}

#endif
