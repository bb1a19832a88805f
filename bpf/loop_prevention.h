/* SPDX-License-Identifier: GPL-2.0-only */
/* Loop prevention: frames that another director has scheduled to this machine.
 *
 * Two directors can be each other's backends. A frame that one of them has scheduled must be served
 * where it arrives; scheduled again, it could return and circle for ever. The source MAC tells:
 *
 * - If this machine is a backend, each frame from another backend of the same service (map
 *   `senders`) goes to the host, whether or not its flow has a record. The record stays as it is.
 * - In any case no frame is forwarded to the machine that it came from (see forward.h), and no
 *   connection is recorded for it.
 *
 * A backend that also routes clients' packets can be exempted by the configuration. */
#ifndef XDPDIRECTOR_LOOP_PREVENTION_H
#define XDPDIRECTOR_LOOP_PREVENTION_H

#include "forward.h"

/* True if a backend of the service has sent the frame, and this machine is a backend too. */
static __always_inline bool is_from_other_director(struct xdp_md *ctx,
						   const struct service *service, u32 number)
{
	struct sender sender = { .service = number };
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (!(service->guard & GUARD_DIRECTED) || (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(sender.mac, eth->h_source, sizeof(sender.mac));
	return senders.lookup(&sender) != NULL;
}

/* True if the frame would go back to the machine that it came from. */
static __always_inline bool would_loop(struct xdp_md *ctx, const struct selection *selection)
{
	const u16 *from = (void *)(long)ctx->data + ETH_ALEN;
	const u16 *to;

	if (!selection->backend || (void *)(from + 3) > (void *)(long)ctx->data_end ||
	    (selection->backend->flags & (BACKEND_LOCAL | BACKEND_RESOLVED | BACKEND_ROUTER)) !=
		    BACKEND_RESOLVED)
		return false;
	to = (const u16 *)selection->backend->addresses;
	return from[0] == to[0] && from[1] == to[1] && from[2] == to[2];
}

/* Pass it to the host: it has arrived. */
static __always_inline int pass_directed(struct xdp_md *ctx, const struct packet *packet,
					 u32 backend)
{
	if (packet->fragment == FRAGMENT_FIRST)
		fragment_store_pass(packet, PASS_DIRECTED);
	return traced_verdict(ctx, packet, backend, XDP_PASS, PASS_DIRECTED);
}

/* Forward, unless the frame would go back to the machine that it came from. */
static __always_inline int forward_unless_loop(struct xdp_md *ctx, const struct packet *packet,
					       const struct selection *selection,
					       enum reason reason)
{
	if (would_loop(ctx, selection))
		return pass_directed(ctx, packet, selection->index);
	return forward(ctx, packet, selection, reason);
}

#endif
