/* SPDX-License-Identifier: GPL-2.0-only */
/* What the program writes down when it is asked about a packet: see explain.h. */
#ifndef XDPDIRECTOR_EXPLANATION_H
#define XDPDIRECTOR_EXPLANATION_H

#include "types.h"

/* What the program found on its way to a decision. */
enum fact {
	FACT_SERVICE = 1,    /* a service has the packet's listener */
	FACT_SLOT = 2,	     /* the service has a ring, and this is the flow's slot */
	FACT_RECORD = 4,     /* the flow has a record */
	FACT_CLIENT = 8,     /* goes where its client goes */
	FACT_SCHEDULED = 16, /* by the scheduler */
	FACT_FALLBACK = 32,  /* nobody else takes it */
	FACT_PARTIAL = 64,   /* the slot's owner is down for this VIP */
};

/* What the program says of a packet that it was asked about. */
struct explanation {
	u32 reason;  /* enum reason */
	u32 facts;   /* enum fact */
	u32 service; /* index; with FACT_SERVICE */
	u32 backend; /* the one that was looked at last, or NO_BACKEND */
	struct ring_slot slot;
	u32 position; /* of the slot, in `ring` */
	u32 freed;    /* the backend that would have so many connections more by now */
	s32 active;
	s32 inactive;
};

#endif
