/* SPDX-License-Identifier: GPL-2.0-only */
/* SYNs of flows whose slot is in flux. Such a SYN goes to the slot's new owner. A spoofed one, for
 * a silent flow that still runs at the old owner, would move that flow: its next packet would find
 * the SYN's record. So the SYN's sequence number is stored, and the packet behind it must continue
 * from there; otherwise the flow belongs to the old owner. The same holds if the number is not
 * stored any more: that takes OPENINGS later SYNs of the kind between SYN and ACK, which only a
 * flood brings about.
 *
 * More SYNs of the flow can come before the handshake ends: the client's own behind a spoofed one,
 * or spoofed ones behind the client's. The packet behind them tells which was the client's, so none
 * replaces another: the number of the first is stored by flow, those of later ones by flow and
 * number. What continues from a later one must begin at its very next byte. */
#ifndef XDPDIRECTOR_RING_H
#define XDPDIRECTOR_RING_H

#include "maps.h"
#include "parse.h"
#include "schedule.h"
#include "conntrack_table.h"

#define WINDOW \
	65536 /* bytes that may be sent with the SYN or behind it before the first packet arrives here */

static __always_inline struct opening later_syn_key(u64 hash, u32 number)
{
	return (struct opening){ .flow = golden_hash(hash + number) };
}

/* `is_first`: the SYN that makes the record. */
static __always_inline void flux_syn_store(struct xdp_md *ctx, const struct packet *packet,
					   u64 hash, bool is_first)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 number;

	if (!tcp || DRY_RUN)
		return;
	number = ntohl(tcp->seq);
	if (!is_first)
		opening = later_syn_key(hash, number);
	openings.update(&opening, &number);
}

/* True if the packet continues from a SYN that was stored. */
static __always_inline bool follows_flux_syn(struct xdp_md *ctx, const struct packet *packet,
					     u64 hash)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);
	struct opening opening = { .flow = hash };
	u32 *first = openings.lookup(&opening), *later;
	u32 before;

	if (!tcp)
		return false;
	before = ntohl(tcp->seq) - 1;
	if (first && before - *first < WINDOW)
		return true;
	opening = later_syn_key(hash, before);
	later = openings.lookup(&opening);
	return later && *later == before;
}

#endif
