/* SPDX-License-Identifier: GPL-2.0-only */
/* Health checks through tunnels. The program `probe` is attached to the director's end of the veth
 * pair that checks go out by (xdpdirector/health/veth.py), in generic mode. A frame to a MAC of
 * PROBE_MAC names its tunnel by the last two bytes. It is encapsulated as a client's would be, and
 * goes on to the interface. Other frames pass as they are. */
#ifndef XDPDIRECTOR_PROBE_H
#define XDPDIRECTOR_PROBE_H

#include "listener.h"
#include "parse.h"
#include "tunnel.h"

/* The tunnel of a frame, or NULL. */
static __always_inline struct probe *probe_lookup(u64 mac)
{
	u32 number = (mac >> 32 & 0xff) << 8 | (mac >> 40 & 0xff);

	return probes.lookup(&number);
}

int probe(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	struct cursor cursor = { .start = start,
				 .at = start,
				 .end = (void *)(long)ctx->data_end,
				 .beyond = bytes_beyond(ctx) };
	struct backend hop = { .vlan = VLAN_AS_IT_CAME };
	struct packet packet;
	struct probe *found;
	u64 mac;

	if (start + sizeof(struct ethhdr) > cursor.end)
		return XDP_PASS;
	mac = destination_mac(start);
	if ((u32)mac != PROBE_MAC)
		return XDP_PASS;
	found = probe_lookup(mac);
	if (!found || !parse(&cursor, &packet) || packet.error ||
	    packet.length + outer_size(&found->tunnel) > found->tunnel.mtu)
		return XDP_DROP;
	__builtin_memcpy(hop.addresses, found->addresses, sizeof(hop.addresses));
	return encapsulate(ctx, &packet, &hop, &found->tunnel) ? XDP_PASS : XDP_DROP;
}

#endif
