/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the path looks first: see shortcut.h; part of types.h, whose rules are these, too. */
#ifndef XDPDIRECTOR_ENTRANCE_TYPES_H
#define XDPDIRECTOR_ENTRANCE_TYPES_H

#include "station_types.h"

/* What the filter says of an address. */
enum mark {
	MARK_VIP = 1,
	MARK_RANGES = 2, /* has listeners in the tries */
};

/* How the bits of a shortcut are used, and of what it is found by: see shortcut.h. */
enum shortcut_bits {
	SHORTCUT_KEY = 50,
	SHORTCUT_PLACE = 14,
	SHORTCUT_SERVICE = 12, /* from the lowest */
	SHORTCUT_FRONT = 14,
	SHORTCUT_ALONE = 26, /* which bit: no other listener's place is here */
	SHORTCUT_TAKEN = 27, /* and: one is; the rest is of its key */
};

#define FILTER_WORDS 2048

/* Where to look first. But for the MACs and the time it follows from the listeners. */
struct entrance {
	struct stations own;
	u64 filter[FILTER_WORDS];	    /* two bits per hashed address: enum mark */
	u64 shortcuts[1 << SHORTCUT_PLACE]; /* most listeners: see shortcut.h */
	u64 reassembly; /* jiffies for which a packet's fragments belong together; 0: nobody has said it yet */
};

#endif
