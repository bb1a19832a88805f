/* SPDX-License-Identifier: GPL-2.0-only */
/* A backend that a packet may go to. */
#ifndef XDPDIRECTOR_CHOICE_H
#define XDPDIRECTOR_CHOICE_H

#include "branchless.h"
#include "explain.h"
#include "maps.h"

struct choice {
	struct backend *backend;
	u32 index;
	bool is_new;
};

/* Another processor may have seen a flow so many jiffies after this one read the time, at most. */
#define OVERTAKING 1024

/* Whether a span of jiffies is over since `seen`. What was seen after `now` was read is no time ago, and not almost 2^32;
 * what was seen 2^31 jiffies ago (25 days, or 99) is not in the future. */
static __always_inline bool has_passed(u32 seen, u32 span, u32 now)
{
	return now - seen + OVERTAKING > span + OVERTAKING;
}

static __always_inline struct load *load_of(u32 backend)
{
	struct load_list *all = loads.lookup(&(u32){ 0 });
	u64 place = opaque(backend);

	if (!all || place >= MAX_BACKENDS)
		return NULL;
	return &all->of[opaque(place)]; /* the very register that was checked */
}

/* Point the choice at a backend; true when packets of some VIP are forwarded to it. */
static __always_inline bool take_for_some(struct choice *choice, u32 index)
{
	note_backend(index);
	choice->index = index;
	choice->backend = backends.lookup(&index);
	return choice->backend && choice->backend->state == BACKEND_SERVING;
}

/* All ones when a backend is out for a front: its place, and what the front has of them. */
static __always_inline u64 if_out(const struct front *front, u64 place)
{
	u64 word = opaque(place >> 6 & (PLACES / 64 - 1));

	return -(front->out[word] >> (place & 63) & 1);
}

/* Point the choice at a backend; true when packets that go in at this front are forwarded to it. State and flags are
 * read at once, so that a backend that is up for all VIPs costs one comparison. */
static __always_inline bool take(struct choice *choice, u32 index, u32 number)
{
	const struct front *front;
	u16 condition;

	note_backend(index);
	choice->index = index;
	choice->backend = backends.lookup(&index);
	if (!choice->backend)
		return false;
	condition = *(const u16 *)&choice->backend->state & (BACKEND_PARTIAL << 8 | 0xff);
	if (condition == BACKEND_SERVING)
		return true;
	if (condition != (BACKEND_PARTIAL << 8 | BACKEND_SERVING))
		return false;
	front = fronts.lookup(&number);
	return front && !if_out(front, choice->backend->place);
}

/* The same for a backend that was remembered: its index may have gone to another one since. */
static __always_inline bool take_again(struct choice *choice, u32 index, u8 generation, u32 front)
{
	return take(choice, index, front) && *(u8 *)&choice->backend->generation == generation;
}

#endif
