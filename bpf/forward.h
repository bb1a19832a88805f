/* SPDX-License-Identifier: GPL-2.0-only */
/* Send the frame to the chosen backend: nothing but its Ethernet addresses changes. */
#ifndef XDPDIRECTOR_FORWARD_H
#define XDPDIRECTOR_FORWARD_H

#include "choose.h"
#include "verdict.h"

static __always_inline void count_traffic(const struct packet *packet, const struct choice *choice)
{
	u32 index = choice->index;
	struct traffic *count = traffic.lookup(&index);

	if (!count)
		return;
	count->packets += 1;
	count->bytes += packet->length;
	count->connections += choice->is_new;
}

static __always_inline int forward(struct xdp_md *ctx, const struct packet *packet,
				   const struct choice *choice, enum reason reason)
{
	struct backend *backend = choice->backend;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (!backend || (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return verdict(XDP_DROP, DROP_INTERNAL);
	if (backend->flags & BACKEND_LOCAL) {
		count_traffic(packet, choice);
		return verdict(XDP_PASS, PASS_LOCAL);
	}
	if (!(backend->flags & BACKEND_RESOLVED))
		return verdict(XDP_DROP, DROP_UNRESOLVED);
	__builtin_memcpy(eth, backend->addresses, sizeof(backend->addresses));
	count_traffic(packet, choice);
	if (backend->ifindex == ctx->ingress_ifindex)
		return verdict(XDP_TX, reason);
	return verdict(ports.redirect_map(backend->port, XDP_DROP), reason);
}

#endif
