/* SPDX-License-Identifier: GPL-2.0-only */
/* Trace: events about single packets, for people who watch. A packet of a traced service is marked
 * when its service is found, and where its path ends a stage of its own writes the event. All other
 * packets pay for one test of the mark.
 *
 * A budget per window and CPU bounds the cost. The trace ends by itself unless the daemon renews
 * it. */
#ifndef XDPDIRECTOR_TRACE_H
#define XDPDIRECTOR_TRACE_H

#include "verdict.h"

#define WINDOW_SHIFT 5 /* 32 jiffies */

_Static_assert(REASONS <= 64, "the filter's bitmap has no bit for some reason");

static __always_inline bool trace_matches(const struct trace *trace, const struct scratch *scratch)
{
	const struct packet *packet = &scratch->packet;
	u32 version = packet->ipv6 ? 2 : 1;

	if (!(trace->versions & version) || !(trace->reasons >> (scratch->reason & 63) & 1))
		return false;
	if (trace->backend != NO_BACKEND && trace->backend != scratch->backend)
		return false;
	if (!packet->ipv6)
		return (packet->flow.v4.client & trace->mask[0]) == trace->client[0];
#pragma unroll
	for (int i = 0; i < 4; i++)
		if ((packet->flow.v6.client[i] & trace->mask[i]) != trace->client[i])
			return false;
	return true;
}

static __always_inline bool trace_has_budget(struct telling *telling, const struct trace *trace,
					     u32 now)
{
	u32 window = now >> WINDOW_SHIFT;

	if (telling->window != window) {
		telling->window = window;
		telling->used = 0;
	}
	return telling->used++ < trace->most;
}

static __always_inline bool trace_write(struct xdp_md *ctx, const struct scratch *scratch,
					struct decision *decision)
{
	u64 length = bpf_xdp_get_buff_len(ctx);
	u64 captured = length < SNAPSHOT ? length : SNAPSHOT;

	__builtin_memcpy(&decision->packet, &scratch->packet, sizeof(decision->packet));
	decision->time = bpf_ktime_get_ns();
	decision->ifindex = ctx->ingress_ifindex;
	decision->length = length;
	decision->service = scratch->packet.traced - 1;
	decision->backend = scratch->backend;
	decision->action = scratch->action;
	decision->reason = scratch->reason;
	decision->captured = captured;
	asm volatile("" : "+r"(captured)); /* the verifier needs the bounds in this register */
	if (captured < sizeof(struct ethhdr))
		return false;
	/* One test at a time: Linux 6.1's verifier learns nothing of a number from a difference. */
	asm volatile("" : "+r"(captured));
	if (captured > SNAPSHOT || bpf_xdp_load_bytes(ctx, 0, decision->frame, captured))
		return false;
	return !decisions.ringbuf_output(decision, sizeof(*decision), BPF_RB_NO_WAKEUP);
}

static __always_inline void trace_emit(struct xdp_md *ctx, const struct scratch *scratch)
{
	struct decision *decision;
	struct telling *telling;
	struct trace *trace;
	u32 first = 0, now;

	trace = traces.lookup(&first);
	telling = tellings.lookup(&first);
	decision = drafts.lookup(&first);
	now = bpf_jiffies64();
	if (!trace || !telling || !decision || (s32)(trace->until - now) < 0 ||
	    !trace_matches(trace, scratch))
		return;
	if (trace->one_in > 1 && bpf_get_prandom_u32() % trace->one_in)
		return;
	if (trace_has_budget(telling, trace, now) && trace_write(ctx, scratch, decision))
		telling->told += 1;
	else
		telling->missed += 1;
}

/* The verdict on a packet of a service, with a trace event if the service is traced. */
static __always_inline int traced_verdict(struct xdp_md *ctx, const struct packet *packet,
					  u32 backend, int action, enum reason reason)
{
	u32 mine = DRY_RUN;
	struct scratch *scratch;

	if (!packet->traced || DRY_RUN)
		return verdict(action, reason);
	scratch = asides.lookup(&mine);
	if (scratch) {
		__builtin_memcpy(&scratch->packet, packet, sizeof(*packet));
		scratch->backend = backend;
		scratch->action = action;
		scratch->reason = reason;
		tail_call(ctx, STAGE_TRACE);
	}
	return verdict(action, reason);
}

#endif
