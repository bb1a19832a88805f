/* SPDX-License-Identifier: GPL-2.0-only */
/* What the dry run notes about a packet: see explain.h. */
#ifndef XDPDIRECTOR_EXPLAIN_TYPES_H
#define XDPDIRECTOR_EXPLAIN_TYPES_H

#include "types.h"

/* What the program found on its way to a decision. */
enum fact {
	FACT_SERVICE = 1,    /* a service has the packet's listener */
	FACT_SLOT = 2,	     /* the service has a ring; `slot` is the flow's */
	FACT_RECORD = 4,     /* the flow has a record */
	FACT_CLIENT = 8,     /* persistence selected the backend */
	FACT_SCHEDULED = 16, /* the scheduler selected the backend */
	FACT_FALLBACK = 32,  /* the fallback was selected */
	FACT_PARTIAL = 64,   /* the slot's owner is down for this VIP */
	FACT_CID = 128,	     /* the QUIC connection ID names a backend that serves */
	FACT_DRAWN = 256,    /* the scheduler compared members that the flow draws, not all */
};

/* The finding about one packet. */
struct explanation {
	u32 reason;  /* enum reason */
	u32 facts;   /* enum fact */
	u32 service; /* index; with FACT_SERVICE */
	u32 backend; /* index of the backend looked up last, or NO_BACKEND */
	struct ring_slot slot;
	u32 position; /* the slot's index in `ring` */
	u32 freed;    /* backend whose counts would have changed by `active` and `inactive` */
	s32 active;
	s32 inactive;
};

#endif
