/* SPDX-License-Identifier: GPL-2.0-only */
/* SYNs of flows whose slot is in flux. A SYN goes to the slot's new owner. Whoever made it up, for a flow that has run at the
 * owner before and was silent since, would move that flow: its next packet would find the record. So the SYN's sequence
 * number is kept, and what follows the SYN must count on from there. What does not belongs to the flow from before. So does
 * what is not known any more: OPENINGS later SYNs of that kind have come between SYN and ACK, as only a flood can have them.
 */
#ifndef XDPDIRECTOR_OPENING_H
#define XDPDIRECTOR_OPENING_H

#include "maps.h"
#include "parse.h"
#include "table.h"

#define WINDOW \
	65536 /* of octets that may have come with the SYN, or be on their way in front of what comes first */

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

/* Whether the packet goes on from the SYN that was noted last. */
static __always_inline bool follows_opening(struct xdp_md *ctx, const struct packet *packet,
					    u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 *number = openings.lookup(&opening);

	return number && tcp && ntohl(tcp->seq) - *number - 1 < WINDOW;
}

#endif
