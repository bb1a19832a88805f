/* SPDX-License-Identifier: GPL-2.0-only */
/* The stages of a packet that is not forwarded: answered, dropped, or told to who traces. */
#ifndef XDPDIRECTOR_STAGES_REFUSED_H
#define XDPDIRECTOR_STAGES_REFUSED_H

#include "stage.h"
#include "guard.h"
#include "reject.h"
#include "reject_sctp.h"

int stage_answer(struct xdp_md *ctx)
{
	struct scratch *scratch;
	enum reason reason;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	if (scratch->packet.protocol == IPPROTO_SCTP && scratch->reason != REJECT_TOO_BIG)
		return call_stage(ctx, STAGE_ABORT);
	reason = reject(ctx, scratch);
	count_drop(scratch->service, reason);
	return traced_verdict(ctx, &scratch->packet, scratch->backend,
			      reason == scratch->reason ? XDP_TX : XDP_DROP, reason);
}

/* A stage of its own for the verifier's sake. */
int stage_abort(struct xdp_md *ctx)
{
	struct scratch *scratch;
	enum reason reason;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	reason =
		reject_sctp(ctx, &scratch->packet, scratch->service, scratch->now, scratch->reason);
	count_drop(scratch->service, reason);
	return traced_verdict(ctx, &scratch->packet, scratch->backend,
			      reason == scratch->reason ? XDP_TX : XDP_DROP, reason);
}

int stage_drop(struct xdp_md *ctx)
{
	struct scratch *scratch;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	count_drop(scratch->service, scratch->reason);
	return traced_verdict(ctx, &scratch->packet, scratch->backend, XDP_DROP, scratch->reason);
}

int stage_trace(struct xdp_md *ctx)
{
	struct scratch *scratch;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	trace_emit(ctx, scratch);
	return verdict(scratch->action, scratch->reason);
}

#endif
