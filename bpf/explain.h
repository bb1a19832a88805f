/* SPDX-License-Identifier: GPL-2.0-only */
/* The program explains itself: compiled once more with DRY_RUN, it decides about a packet that the daemon brings as it
 * would about one from the wire, changes nothing that lasts, and writes down what it found on its way. In the program
 * that carries traffic DRY_RUN is 0, and the compiler leaves nothing of this. */
#ifndef XDPDIRECTOR_EXPLAIN_H
#define XDPDIRECTOR_EXPLAIN_H

#include "maps.h"

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

/* The backend that was looked at last is the one that the reason speaks of. */
static __always_inline void note_backend(u32 backend)
{
	struct explanation *said = explained();

	if (said)
		said->backend = backend;
}

/* What would have been counted, so that the scheduler sees it: a connection that ends here makes room. */
static __always_inline void note_load(u32 backend, bool is_active, s32 by)
{
	struct explanation *said = explained();

	if (!said)
		return;
	said->freed = backend;
	said->active += is_active ? by : 0;
	said->inactive += is_active ? 0 : by;
}

#endif
