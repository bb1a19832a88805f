/* SPDX-License-Identifier: GPL-2.0-only */
/* The stage of packets for backends in other networks. A stage of its own: other packets pay
 * nothing for it. */
#ifndef XDPDIRECTOR_STAGES_TUNNEL_H
#define XDPDIRECTOR_STAGES_TUNNEL_H

#include "stage.h"
#include "tunnel.h"

/* Tell the sender of a packet that is too long for the tunnel. XDP cannot fragment it, so this goes
 * for packets without DF, too. No ICMP error is about another, or about a later fragment (RFC 1122,
 * 3.2.2). */
static __always_inline int refuse_too_big(struct xdp_md *ctx, struct scratch *scratch,
					  const struct tunnel *tunnel)
{
	if (is_icmp(&scratch->packet) || scratch->packet.fragment == FRAGMENT_LATER)
		return drop(ctx, scratch, DROP_UNANSWERABLE);
	scratch->reason = REJECT_TOO_BIG;
	scratch->mtu = inner_mtu(&scratch->packet, tunnel);
	scratch->now = bpf_jiffies64();
	return call_stage(ctx, STAGE_ANSWER);
}

int stage_tunnel(struct xdp_md *ctx)
{
	struct selection selection = {};
	struct scratch *scratch;
	struct backend *backend;
	struct tunnel *tunnel;
	u32 index;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	index = scratch->backend;
	backend = backends.lookup(&index);
	tunnel = tunnels.lookup(&index);
	if (!backend || !tunnel)
		return internal_error();
	scratch->service = backend->service - 1;
	if (scratch->packet.length + outer_size(tunnel) > tunnel->mtu)
		return refuse_too_big(ctx, scratch, tunnel);
	if (!encapsulate(ctx, &scratch->packet, backend, tunnel))
		return internal_error();
	selection.index = index;
	selection.is_new = scratch->is_new;
	count_traffic(&scratch->packet, &selection);
	return traced_verdict(ctx, &scratch->packet, index,
			      backend->ifindex == ctx->ingress_ifindex
				      ? XDP_TX
				      : ports.redirect_map(backend->port, XDP_DROP),
			      scratch->reason);
}

#endif
