/* SPDX-License-Identifier: GPL-2.0-only */
/* Forward the frame to the selected backend. Only its Ethernet addresses change, and its VLAN tags
 * if the backend is in another VLAN. A backend in another network gets it through a tunnel: see
 * tunnel.h. */
#ifndef XDPDIRECTOR_FORWARD_H
#define XDPDIRECTOR_FORWARD_H

#include "backend.h"
#include "fragment.h"
#include "trace.h"

static __always_inline void count_traffic(const struct packet *packet,
					  const struct selection *selection)
{
	u32 index = selection->index;
	struct traffic *count = traffic.lookup(&index);

	if (!count || DRY_RUN)
		return;
	count->packets += 1;
	count->bytes += packet->length;
	if (selection->is_new)
		count->connections += 1;
}

/* Write new addresses, and replace all tags by the backend's, if it has one. */
static __always_inline bool write_tagged(struct xdp_md *ctx, const struct packet *packet,
					 const struct backend *backend)
{
	__be16 type = packet->ipv6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	int size =
		backend->vlan ? sizeof(struct ethhdr) + sizeof(struct tag) : sizeof(struct ethhdr);
	struct ethhdr *eth;
	struct tag *tag;

	if (bpf_xdp_adjust_head(ctx, (int)packet->network - size))
		return false;
	eth = (void *)(long)ctx->data;
	tag = (void *)(eth + 1);
	if ((void *)(tag + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(eth, backend->addresses, sizeof(backend->addresses));
	eth->h_proto = type;
	if (backend->vlan) {
		eth->h_proto = htons(ETH_P_8021Q);
		tag->control = htons(backend->vlan);
		tag->next = type;
	}
	return true;
}

/* By words: the compiler would copy bytes one by one. */
static __always_inline void copy_addresses(void *to, const struct backend *backend)
{
	const void *from = backend->addresses;

	*(u64 *)to = *(const u64 *)from;
	*(u32 *)(to + 8) = *(const u32 *)(from + 8);
}

/* True if the frame would go back to the machine that it came from: see loop_prevention.h. The last
 * two bytes are compared first: they tell nearly all MACs apart. */
static __always_inline bool would_loop_to(const void *frame, const struct backend *backend)
{
	const u16 *from = frame + ETH_ALEN, *to = (const void *)backend->addresses;

	return from[2] == to[2] && from[1] == to[1] && from[0] == to[0] &&
	       !(backend->flags & BACKEND_ROUTER);
}

/* Continue with STAGE_TUNNEL. Returns only if that fails. */
static __always_inline void call_tunnel(struct xdp_md *ctx, const struct packet *packet,
					const struct selection *selection, enum reason reason)
{
	struct scratch *scratch = asides.lookup(&(u32){ DRY_RUN });

	if (!scratch)
		return;
	__builtin_memcpy(&scratch->packet, packet, sizeof(*packet));
	scratch->backend = selection->index;
	scratch->is_new = selection->is_new;
	scratch->reason = reason;
	tail_call(ctx, STAGE_TUNNEL);
}

/* The final reason: `reason` if the frame can leave. `action` is the verdict, `frame` the Ethernet
 * header. */
static __always_inline enum reason send_to_backend(struct xdp_md *ctx, void *frame,
						   const struct packet *packet,
						   const struct selection *selection,
						   enum reason reason, int *action)
{
	struct backend *backend = selection->backend;

	*action = XDP_DROP;
	if (!backend)
		return DROP_INTERNAL;
	if ((backend->flags & (BACKEND_LOCAL | BACKEND_RESOLVED)) != BACKEND_RESOLVED) {
		if (!(backend->flags & (BACKEND_LOCAL | BACKEND_TUNNEL))) {
			count_drop(backend->service - 1, DROP_UNRESOLVED);
			return DROP_UNRESOLVED;
		}
		if (!(backend->flags & BACKEND_LOCAL)) {
			call_tunnel(ctx, packet, selection, reason);
			return DROP_INTERNAL;
		}
		count_traffic(packet, selection);
		*action = XDP_PASS;
		return PASS_LOCAL;
	}
	if (would_loop_to(frame, backend)) {
		*action = XDP_PASS;
		return PASS_DIRECTED;
	}
	if (backend->vlan == VLAN_AS_IT_CAME)
		copy_addresses(frame, backend);
	else if (!write_tagged(ctx, packet, backend))
		return DROP_INTERNAL;
	count_traffic(packet, selection);
	*action = XDP_TX;
	if (backend->ifindex != ctx->ingress_ifindex)
		*action = ports.redirect_map(backend->port, XDP_DROP);
	return reason;
}

/* A packet that is no fragment. */
static __always_inline int forward_unfragmented(struct xdp_md *ctx, void *frame,
						const struct packet *packet,
						const struct selection *selection,
						enum reason reason)
{
	int action;

	reason = send_to_backend(ctx, frame, packet, selection, reason, &action);
	return traced_verdict(ctx, packet, selection->index, action, reason);
}

static __always_inline int forward(struct xdp_md *ctx, const struct packet *packet,
				   const struct selection *selection, enum reason reason)
{
	struct ethhdr *frame = (void *)(long)ctx->data;

	if (packet->fragment == FRAGMENT_FIRST)
		fragment_store_backend(packet, selection);
	if ((void *)(frame + 1) > (void *)(long)ctx->data_end)
		return verdict(XDP_DROP, DROP_INTERNAL);
	return forward_unfragmented(ctx, frame, packet, selection, reason);
}

#endif
