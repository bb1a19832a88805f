/* SPDX-License-Identifier: GPL-2.0-only */
/* What the packet path notes while it decides about a packet. explain.h takes the notes of a dry
 * run, and makes none where traffic is carried. A program that includes director.c and defines
 * NOTES_OF_ITS_OWN, as replay.c does, defines these functions itself. */
#ifndef XDPDIRECTOR_NOTES_H
#define XDPDIRECTOR_NOTES_H

#include "branchless.h"
#include "maps.h"

static __always_inline void note_reason(enum reason reason);
static __always_inline void note_fact(enum fact fact);
static __always_inline void note_service(u32 service);
static __always_inline void note_slot(u32 position, struct ring_slot slot);

/* The backend that was looked up last is the one that the reason is about. */
static __always_inline void note_backend(u32 backend);

/* A connection count that a dry run does not change: so many connections more. The scheduler must
 * see it, because a deleted record makes room for another connection. */
static __always_inline void note_load(u32 backend, bool is_active, s32 by);

/* The sum of what was noted so of a backend. */
static __always_inline s64 noted_active(u32 backend);
static __always_inline s64 noted_inactive(u32 backend);

#ifndef NOTES_OF_ITS_OWN
#include "explain.h" /* it includes nothing: the loader pastes each header in at its first mention */
#endif

#endif
