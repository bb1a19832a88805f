/* SPDX-License-Identifier: GPL-2.0-only */
/* A verdict and its counter are one statement: `return verdict(XDP_PASS, PASS_NOT_IP);`. */
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

#endif
