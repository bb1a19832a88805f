/* SPDX-License-Identifier: GPL-2.0-only */
/* Types of the trace: filter, budget and event. See trace.h. */
#ifndef XDPDIRECTOR_TRACE_TYPES_H
#define XDPDIRECTOR_TRACE_TYPES_H

#include "types.h"

#define SNAPSHOT       128 /* bytes of a frame in an event */
#define DECISIONS_SIZE (1 << 19)

/* Which decisions about packets of services with GUARD_TRACE become events. */
struct trace {
	u64 reasons;  /* bitmap of enum reason */
	u32 until;    /* jiffies: the trace ends unless the daemon renews it */
	u32 one_in;   /* sampling: one in so many; 0 and 1: all */
	u32 most;     /* events per window and CPU */
	u32 backend;  /* index, or NO_BACKEND for any */
	u32 versions; /* 1: IPv4, 2: IPv6, 3: both */
	__be32 mask[4];
	__be32 client[4]; /* masked; IPv4: the first word */
	u32 pad;
};

/* Per-CPU budget of a window of jiffies, and what became of all that matched. */
struct telling {
	u32 window;
	u32 used;
	u64 told;
	u64 missed; /* over budget, or the ring buffer was full */
};

struct decision {
	struct packet packet;
	u64 time; /* CLOCK_MONOTONIC, ns */
	u32 ifindex;
	u32 length;  /* of the frame as it leaves; `frame` holds its first bytes */
	u16 service; /* index */
	u16 backend; /* index of the backend looked up last, or NO_BACKEND */
	u8 action;
	u8 reason;
	u16 captured;
	u8 frame[SNAPSHOT];
};

#endif
