/* SPDX-License-Identifier: GPL-2.0-only */
/* The dry run: the program compiled once more with DRY_RUN. It decides about a packet that the
 * daemon makes as it would about one from the wire, changes no lasting state, and notes what it
 * found. In the program that carries traffic DRY_RUN is 0, and the compiler removes all of this. */
#ifndef XDPDIRECTOR_EXPLAIN_H
#define XDPDIRECTOR_EXPLAIN_H

static __always_inline struct explanation *explained(void)
{
	u32 zero = 0;

	return DRY_RUN ? explanations.lookup(&zero) : NULL;
}

static __always_inline void note_reason(enum reason reason)
{
	struct explanation *explanation = explained();

	if (explanation)
		explanation->reason = reason;
}

static __always_inline void note_fact(enum fact fact)
{
	struct explanation *explanation = explained();

	if (explanation)
		explanation->facts |= fact;
}

static __always_inline void note_service(u32 service)
{
	struct explanation *explanation = explained();

	if (explanation) {
		explanation->service = service;
		explanation->facts |= FACT_SERVICE;
	}
}

static __always_inline void note_slot(u32 position, struct ring_slot slot)
{
	struct explanation *explanation = explained();

	if (explanation) {
		explanation->position = position;
		explanation->slot = slot;
		explanation->facts |= FACT_SLOT;
	}
}

static __always_inline void note_backend(u32 backend)
{
	struct explanation *explanation = explained();

	if (explanation)
		explanation->backend = backend;
}

static __always_inline void note_load(u32 backend, bool is_active, s32 by)
{
	struct explanation *explanation = explained();

	if (!explanation)
		return;
	explanation->freed = backend;
	explanation->active += is_active ? by : 0;
	explanation->inactive += is_active ? 0 : by;
}

static __always_inline s64 noted_active(u32 backend)
{
	struct explanation *explanation = explained();

	return DRY_RUN && explanation
		       ? explanation->active & ~mask_if_nonzero(explanation->freed ^ backend)
		       : 0;
}

static __always_inline s64 noted_inactive(u32 backend)
{
	struct explanation *explanation = explained();

	return DRY_RUN && explanation
		       ? explanation->inactive & ~mask_if_nonzero(explanation->freed ^ backend)
		       : 0;
}

#endif
