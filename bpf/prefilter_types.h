/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fast path looks up first (see fastpath.h). Part of types.h, and under its rules. */
#ifndef XDPDIRECTOR_PREFILTER_TYPES_H
#define XDPDIRECTOR_PREFILTER_TYPES_H

#define MAX_STATIONS 15

/* The MACs of this machine's interfaces as little-endian numbers. Unused elements hold a number
 * that is no MAC. While `known` is 0, any MAC is taken for one of them. */
struct stations {
	u64 known;
	u64 macs[MAX_STATIONS];
};

/* What the VIP filter says of an address. */
enum mark {
	MARK_VIP = 1,
	MARK_RANGES = 2, /* it has listeners with port ranges or any port */
};

/* The bits of a listener cache entry, and those of its key: see fastpath.h. */
enum shortcut_bits {
	SHORTCUT_KEY = 50,
	SHORTCUT_PLACE = 14,
	SHORTCUT_SERVICE = 12, /* from bit 0 */
	SHORTCUT_FRONT = 14,
	SHORTCUT_ALONE = 26, /* bit number: no other listener's key maps to this entry */
	SHORTCUT_TAKEN = 27, /* bit number: the entry is used; above it: tag of its key */
};

#define FILTER_WORDS 2048
#define FILTER_BITS  2			/* of enum mark */
#define FILTER_MARKS (64 / FILTER_BITS) /* in a word */

/* The VIP filter and the listener cache follow from the listeners; MACs and time-out do not. */
struct entrance {
	struct stations own;
	u64 filter[FILTER_WORDS];	    /* FILTER_BITS per hashed address: enum mark */
	u64 shortcuts[1 << SHORTCUT_PLACE]; /* direct-mapped listener cache */
	u64 reassembly;			    /* time-out of fragments in jiffies; 0: not set yet */
};

#endif
