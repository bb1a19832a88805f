/* SPDX-License-Identifier: GPL-2.0-only */
/* The two ways out of a stage: a verdict, or a tail call to another stage. A verdict and its counter are
 * one statement: `return verdict(XDP_PASS, PASS_NOT_IP);`. */
#ifndef XDPDIRECTOR_VERDICT_H
#define XDPDIRECTOR_VERDICT_H

#include "notes.h"
#include "maps.h"

#define UNDECIDED PASS_NOT_IP /* 0, which is no reason of a selection */

static __always_inline int verdict(int action, enum reason reason)
{
	u32 index = reason;
	u64 *count = verdicts.lookup(&index);

	note_reason(reason);
	if (count && !DRY_RUN)
		*count += 1;
	return action;
}

/* Continue with another stage. Returns only if that fails.
 *
 * The kernel turns a tail call with a constant index into a jump. With a variable index it is an
 * indirect call, which retpolines make expensive. The mark behind each call keeps the compiler from
 * merging calls with constant indices into one with a variable index. */
static __always_inline void tail_call(struct xdp_md *ctx, u32 stage)
{
	stages.call(ctx, STAGES_AT + stage);
	asm volatile("" : : "i"(stage));
}

/* Count a packet of a service that is dropped or rejected, besides its verdict. An index that is
 * none counts nothing. */
static __always_inline void count_drop(u32 service, enum reason reason)
{
	struct drops *count = drops.lookup(&service);
	u64 place = opaque((u64)reason - FIRST_REFUSAL);

	if (count && place < REASONS - FIRST_REFUSAL && !DRY_RUN)
		count->by_reason[place] += 1;
}

#endif
