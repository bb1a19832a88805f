/* SPDX-License-Identifier: GPL-2.0-only */
/* Decisions for people to watch: what is traced, and what is told of it. See trace.h. */
#ifndef XDPDIRECTOR_DECISION_H
#define XDPDIRECTOR_DECISION_H

#include "types.h"

#define SNAPSHOT       128 /* bytes of a frame */
#define DECISIONS_SIZE (1 << 19)

/* Which decisions are told, of the services that have GUARD_TRACE. */
struct trace {
	u64 reasons;  /* a bit for each enum reason */
	u32 until;    /* jiffies: nobody listens any more */
	u32 one_in;   /* of those that match, at random; 0 and 1: all */
	u32 most;     /* in a window, on each processor */
	u32 backend;  /* its index, or NO_BACKEND for any */
	u32 versions; /* 1: IPv4, 2: IPv6, 3: both */
	__be32 mask[4];
	__be32 client[4]; /* masked; IPv4: the first word */
	u32 pad;
};

/* How many were told in the present window of jiffies, and what became of all that matched. */
struct telling {
	u32 window;
	u32 used;
	u64 told;
	u64 missed; /* too many, or no room */
};

struct decision {
	struct packet packet;
	u64 time; /* CLOCK_MONOTONIC, ns */
	u32 ifindex;
	u32 length;  /* of the frame, as it leaves; it comes with its first bytes */
	u16 service; /* index */
	u16 backend; /* the one that was looked at last, or NO_BACKEND */
	u8 action;
	u8 reason;
	u16 captured;
	u8 frame[SNAPSHOT];
};

#endif
