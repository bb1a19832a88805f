/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs that the daemon runs by BPF_PROG_TEST_RUN, for what it cannot do from user space. */
#ifndef XDPDIRECTOR_TEST_RUN_H
#define XDPDIRECTOR_TEST_RUN_H

#include "sync.h"
#include "eviction.h"

/* The time of the packet path: write its jiffies over the start of the frame. */
int clock(struct xdp_md *ctx)
{
	u64 *start = (void *)(long)ctx->data;

	if ((void *)(start + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	*start = bpf_jiffies64();
	return XDP_PASS;
}

/* Delete the records listed in `reaping`, by compare and swap, for the daemon's sweep. */
int reap(struct xdp_md *ctx)
{
	for (u32 i = 0; i < MAX_REAPED; i++) {
		u32 place = i;
		struct reaped *reaped = reaping.lookup(&place);

		if (!reaped || !reaped->word)
			break;
		if (reaped->ipv6)
			ct_reap(bucket6(reaped->bucket), WORDS6, reaped);
		else
			ct_reap(bucket4(reaped->bucket), WORDS4, reaped);
	}
	return XDP_PASS;
}

/* Insert a flow from the table of an earlier program with another layout: see dataplane/migration/.
 * False if there is no such service, or the table has no room. */
static __always_inline bool ct_adopt(const struct adopted *adopted, u32 now)
{
	union record_word is = { .word = adopted->word };
	struct packet packet = { .ipv6 = adopted->ipv6 != 0 };
	struct service *service = NULL;
	u32 number = is.record.front;
	struct front *front;
	struct ct_key key = {};
	struct entry entry;
	u64 evicted;

	set_ports(&packet, &(struct ports){ adopted->client_port, adopted->port });
	if (packet.ipv6)
		__builtin_memcpy(packet.flow.v6.client, adopted->client, sizeof(adopted->client));
	else
		packet.flow.v4.client = adopted->client[0];
	front = fronts.lookup(&number);
	if (front)
		service = services.lookup(&front->service);
	if (!service)
		return false;
	if (ct_lookup(&packet, service, number, &entry))
		return true; /* it has sent a packet to this program already */
	ct_make_key(&packet, service, number, &key);
	return ct_insert(&packet, &key, is.word,
			 &(struct eviction){ .if_new = HANDICAPS_KNOWN,
					     .if_old = HANDICAPS_KNOWN,
					     .now = now,
					     .is_known = true },
			 &evicted);
}

/* Insert the flows listed in `adopting` into the table, for an upgrade. */
int adopt(struct xdp_md *ctx)
{
	for (u32 i = 0; i < MAX_ADOPTED; i++) {
		u32 place = i;
		struct adopted *adopted = adopting.lookup(&place);

		if (!adopted || !adopted->word)
			break;
		if (ct_adopt(adopted, ct_ticks(bpf_jiffies64())))
			adopted->word = 0;
	}
	return XDP_PASS;
}

/* Merge the records listed in `merging` into the table, MERGES_EACH per run. */
int merge(struct xdp_md *ctx)
{
	struct merge_progress *at = merge_at.lookup(&(u32){ 0 });
	u32 now = ct_ticks(bpf_jiffies64());

	if (!at)
		return XDP_DROP;
	for (u32 i = 0; i < MERGES_EACH; i++) {
		u32 place = at->next;
		struct merged *merged = merging.lookup(&place);

		if (place >= at->count || !merged)
			break;
		at->next = place + 1;
		if (!merge_one(merged, now))
			merged->word = 0;
	}
	return XDP_PASS;
}

#endif
