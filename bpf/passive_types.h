/* SPDX-License-Identifier: GPL-2.0-only */
/* What passive health counts: see passive.h. Part of types.h, and under its rules. */
#ifndef XDPDIRECTOR_PASSIVE_TYPES_H
#define XDPDIRECTOR_PASSIVE_TYPES_H

#define PASSIVE_TIMES 10 /* buckets of the histogram: one for each bound, and one without */

/* Upper bounds of the histogram, in nanoseconds: 2^16 (65 us), 2^18 ... 2^32 (4.3 s). */
enum passive_numbers {
	PASSIVE_FIRST = 16,
	PASSIVE_STEP = 2,
	PASSIVE_BOUNDS = 9,
};

/* Of a backend, per CPU: what its clients' packets show. Two cache lines. */
struct passive {
	u64 syns;	     /* SYNs, without retransmissions */
	u64 retransmissions; /* of these SYNs */
	u64 retransmitted;   /* SYNs that were retransmitted once or more */
	u64 handshakes;	     /* completed: the ACK behind the SYN has come */
	u64 resets;	     /* RSTs of clients, before the end of their connections */
	u64 nanoseconds;     /* from SYN to ACK: the sum, and by time */
	u64 times[PASSIVE_TIMES];
};

#endif
