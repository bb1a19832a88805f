/* SPDX-License-Identifier: GPL-2.0-only */
/* The way from one stage to the next: tail calls, and the scratch that carries the packet. */
#ifndef XDPDIRECTOR_STAGE_H
#define XDPDIRECTOR_STAGE_H

#include "maps.h"
#include "verdict.h"
#include "trace.h"

_Static_assert(STAGES <= 32, "build.py has 32 places for them in `stages`");

static __always_inline int internal_error(void)
{
	return verdict(XDP_DROP, DROP_INTERNAL);
}

/* This CPU's scratch; a dry run has one of its own. */
static __always_inline struct scratch *this_scratch(void)
{
	return asides.lookup(&(u32){ DRY_RUN });
}

/* What each stage begins with: the scratch, and if it is asked for, the service named there. False
 * after counting DROP_INTERNAL. */
static __always_inline bool start_stage(struct scratch **scratch, struct service **service)
{
	struct scratch *found = this_scratch();

	*scratch = found;
	if (!found) {
		internal_error();
		return false;
	}
	if (!service)
		return true;
	*service = services.lookup(&found->service);
	if (*service)
		return true;
	internal_error();
	return false;
}

static __always_inline int call_stage(struct xdp_md *ctx, u32 stage)
{
	tail_call(ctx, stage);
	return internal_error();
}

static __always_inline int call_next_stage(struct xdp_md *ctx, u32 stage)
{
	switch (stage) {
	case STAGE_RECALL:
		return call_stage(ctx, STAGE_RECALL);
	case STAGE_ADMIT:
		return call_stage(ctx, STAGE_ADMIT);
	default:
		return call_stage(ctx, STAGE_SCHEDULE);
	}
}

/* Drop a packet of which the scratch knows all but the reason. */
static __always_inline int drop(struct xdp_md *ctx, struct scratch *scratch, enum reason reason)
{
	scratch->reason = reason;
	return call_stage(ctx, STAGE_DROP);
}

/* Backend index to report with the verdict. */
static __always_inline u32 reported_backend(const struct selection *selection)
{
	return selection->backend ? selection->index : NO_BACKEND;
}

/* Save the packet and what is known of it for the next stage. */
static __always_inline bool save_context(const struct packet *packet, const struct scratch *found)
{
	struct scratch *scratch = this_scratch();

	if (!scratch)
		return false;
	__builtin_memcpy(&scratch->packet, packet, sizeof(*packet));
	scratch->service = found->service;
	scratch->front = found->front;
	scratch->slot = found->slot;
	scratch->now = found->now;
	scratch->backend = NO_BACKEND;
	scratch->reason = UNDECIDED;
	scratch->tried = 0;
	return true;
}

#endif
