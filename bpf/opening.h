/* SPDX-License-Identifier: GPL-2.0-only */
/* SYNs of flows whose slot is in flux. A SYN goes to the slot's new owner. Whoever made it up, for a flow that has run at the
 * owner before and was silent since, would move that flow: its next packet would find the record. So the SYN's sequence
 * number is kept, and what follows the SYN must count on from there. What does not, or is not known any more, belongs to the flow
 * from before.
 */
#ifndef XDPDIRECTOR_OPENING_H
#define XDPDIRECTOR_OPENING_H

#include "maps.h"
#include "parse.h"
#include "table.h"

#define WINDOW \
	65536 /* of octets that may have come with the SYN, or be on their way in front of what comes first */

union opening_word {
	struct opening is;
	u64 word;
};

/* Of the flow with this hash. */
static __always_inline u64 *opening_of(u64 hash)
{
	u32 number = hash >> 46 & (OPENINGS - 1);

	return (u64 *)openings.lookup(&number);
}

static __always_inline void note_opening(struct xdp_md *ctx, const struct packet *packet, u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	union opening_word opening;
	u64 *at = opening_of(hash);

	if (!at || !tcp || DRY_RUN)
		return;
	opening.is.tag = hash;
	opening.is.number = ntohl(tcp->seq);
	*(volatile u64 *)at = opening.word;
}

/* Whether the packet goes on from the SYN that was noted last. */
static __always_inline bool follows_opening(struct xdp_md *ctx, const struct packet *packet,
					    u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	union opening_word opening;
	u64 *at = opening_of(hash);

	if (!at || !tcp)
		return false;
	opening.word = read_word(at);
	return opening.is.tag == (u32)hash && ntohl(tcp->seq) - opening.is.number - 1 < WINDOW;
}

#endif
