/* SPDX-License-Identifier: GPL-2.0-only */
/* What the map of this machine's MACs holds; part of types.h, whose rules are these, too. */
#ifndef XDPDIRECTOR_STATION_TYPES_H
#define XDPDIRECTOR_STATION_TYPES_H

#define MAX_STATIONS 15

/* The MACs of this machine's interfaces, as little-endian numbers; in places without one stands what is none. While they
 * are not `known`, any MAC is taken for one of them. */
struct stations {
	u64 known;
	u64 macs[MAX_STATIONS];
};

#endif
