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
	struct explanation *said = explained();

	if (said)
		said->reason = reason;
}

static __always_inline void note_fact(enum fact fact)
{
	struct explanation *said = explained();

	if (said)
		said->facts |= fact;
}

static __always_inline void note_service(u32 service)
{
	struct explanation *said = explained();

	if (said) {
		said->service = service;
		said->facts |= FACT_SERVICE;
	}
}

static __always_inline void note_slot(u32 position, struct ring_slot slot)
{
	struct explanation *said = explained();

	if (said) {
		said->position = position;
		said->slot = slot;
		said->facts |= FACT_SLOT;
	}
}

static __always_inline void note_backend(u32 backend)
{
	struct explanation *said = explained();

	if (said)
		said->backend = backend;
}

static __always_inline void note_load(u32 backend, bool is_active, s32 by)
{
	struct explanation *said = explained();

	if (!said)
		return;
	said->freed = backend;
	said->active += is_active ? by : 0;
	said->inactive += is_active ? 0 : by;
}

static __always_inline s64 noted_active(u32 backend)
{
	struct explanation *said = explained();

	return DRY_RUN && said ? said->active & ~if_some(said->freed ^ backend) : 0;
}

static __always_inline s64 noted_inactive(u32 backend)
{
	struct explanation *said = explained();

	return DRY_RUN && said ? said->inactive & ~if_some(said->freed ^ backend) : 0;
}

#endif
