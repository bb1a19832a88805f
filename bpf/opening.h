/* SPDX-License-Identifier: GPL-2.0-only */
/* SYNs of flows whose slot is in flux. Such a SYN goes to the slot's new owner. A spoofed one, for
 * a silent flow that still runs at the old owner, would move that flow: its next packet would find
 * the SYN's record. So the SYN's sequence number is stored, and the packet behind it must continue
 * from there; otherwise the flow belongs to the old owner. The same holds if the number is not
 * stored any more: that takes OPENINGS later SYNs of the kind between SYN and ACK, which only a
 * flood brings about. */
#ifndef XDPDIRECTOR_OPENING_H
#define XDPDIRECTOR_OPENING_H

#include "maps.h"
#include "parse.h"
#include "table.h"

#define WINDOW \
	65536 /* bytes that may be sent with the SYN or behind it before the first packet arrives here */

static __always_inline void note_opening(struct xdp_md *ctx, const struct packet *packet, u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 number;

	if (!tcp || DRY_RUN)
		return;
	number = ntohl(tcp->seq);
	openings.update(&opening, &number);
}

/* True if the packet continues from the SYN that was stored last. */
static __always_inline bool follows_opening(struct xdp_md *ctx, const struct packet *packet,
					    u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 *number = openings.lookup(&opening);

	return number && tcp && ntohl(tcp->seq) - *number - 1 < WINDOW;
}

#endif
