/* SPDX-License-Identifier: GPL-2.0-only */
/* What the guard's maps hold; part of types.h, whose rules are these, too. */
#ifndef XDPDIRECTOR_GUARD_TYPES_H
#define XDPDIRECTOR_GUARD_TYPES_H

/* What the guard looks at. */
enum guard_flags {
	GUARD_PREFIXES = 1, /* there are denied prefixes */
	GUARD_LIMITS = 2,   /* the service's new connections are limited */
	GUARD_TRACE = 4,    /* somebody watches what becomes of the service's packets */
	GUARD_DIRECTED = 8, /* this machine is a backend, so others may have scheduled to it */
};

/* A backend of a service that has this machine for a backend, too. */
struct sender {
	u8 mac[6];
	u16 service;
};

/* A limit's times are in jiffies with so many bits behind the point. */
enum fixed_point {
	JIFFY_SHIFT = 24,
};

/* A client's address, in full, or part of it. */
struct prefix4 {
	u32 prefix; /* in bits, of what follows */
	__be32 address;
};

struct prefix6 {
	u32 prefix;
	__be32 address[4];
};

/* Whose new connections are counted together. */
struct source {
	__be32 address[4]; /* masked; IPv4: the first word */
	u16 service;
	u16 generation; /* of the service's limit: another one begins anew */
	u32 ipv6;
};

/* How many connections a service may be given, and each source of them. Times in jiffies << JIFFY_SHIFT. */
struct limit {
	u64 cost;      /* of one connection; 0: no limit */
	u64 tolerance; /* how far ahead payments may run */
	u64 source_cost;
	u64 source_tolerance;
	__be32 source_mask; /* what of a client's address makes a source, IPv4 and IPv6 */
	__be32 source_mask6[4];
	u32 generation;
};

struct refusals {
	u64 service;
	u64 source;
};

#endif
