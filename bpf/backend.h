/* SPDX-License-Identifier: GPL-2.0-only */
/* The selected backend of a packet, and whether it can be used. */
#ifndef XDPDIRECTOR_BACKEND_H
#define XDPDIRECTOR_BACKEND_H

#include "branchless.h"
#include "notes.h"
#include "maps.h"

struct selection {
	struct backend *backend;
	u32 index;
	bool is_new;
};

/* Upper bound, in jiffies, of how far a time-stamp of another CPU can be ahead of `now`. */
#define MAX_CLOCK_SKEW 1024

/* True if `span` jiffies have passed since `seen`. A time-stamp that is slightly ahead of `now`
 * counts as no time ago, not as almost 2^32 jiffies. Time-stamps are 32 bits wide: one of 2^31
 * jiffies ago (25 to 99 days) is not in the future. */
static __always_inline bool has_elapsed(u32 seen, u32 span, u32 now)
{
	return now - seen + MAX_CLOCK_SKEW > span + MAX_CLOCK_SKEW;
}

static __always_inline struct load *backend_load(u32 backend)
{
	struct load_list *all = loads.lookup(&(u32){ 0 });
	u64 place = opaque(backend);

	if (!all || place >= MAX_BACKENDS)
		return NULL;
	return &all->of[opaque(place)]; /* the register that was compared */
}

/* Select a backend. True if it is up for at least one VIP. */
static __always_inline bool select_backend_any_vip(struct selection *selection, u32 index)
{
	note_backend(index);
	selection->index = index;
	selection->backend = backends.lookup(&index);
	return selection->backend && selection->backend->state == BACKEND_SERVING;
}

/* All ones if the backend at `place` is down for the front's VIP. */
static __always_inline u64 mask_if_out(const struct front *front, u64 place)
{
	u64 word = opaque(place >> 6 & (PLACES / 64 - 1));

	return -(front->out[word] >> (place & 63) & 1);
}

/* Select a backend. True if it is up for the front's VIP. State and flags are read as one word, so
 * that a backend that is up for all VIPs costs one comparison. */
static __always_inline bool select_backend(struct selection *selection, u32 index, u32 number)
{
	const struct front *front;
	u16 condition;

	note_backend(index);
	selection->index = index;
	selection->backend = backends.lookup(&index);
	if (!selection->backend)
		return false;
	condition = *(const u16 *)&selection->backend->state & (BACKEND_PARTIAL << 8 | 0xff);
	if (condition == BACKEND_SERVING)
		return true;
	if (condition != (BACKEND_PARTIAL << 8 | BACKEND_SERVING))
		return false;
	front = fronts.lookup(&number);
	return front && !mask_if_out(front, selection->backend->place);
}

/* The same for a backend from a record: its index may be in use for another backend now. */
static __always_inline bool select_known_backend(struct selection *selection, u32 index,
						 u8 generation, u32 front)
{
	return select_backend(selection, index, front) &&
	       *(u8 *)&selection->backend->generation == generation;
}

#endif
