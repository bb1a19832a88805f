/* SPDX-License-Identifier: GPL-2.0-only */
/* Structs of the guard's maps. Part of types.h, and under its rules. */
#ifndef XDPDIRECTOR_GUARD_TYPES_H
#define XDPDIRECTOR_GUARD_TYPES_H

/* What has to be checked for each packet of a service. */
enum guard_flags {
	GUARD_PREFIXES = 1, /* the deny list is not empty */
	GUARD_TRACE = 4,    /* somebody traces the service */
	GUARD_DIRECTED = 8, /* this machine is a backend: other directors may schedule to it */
	GUARD_QUIC = 16,    /* datagrams may have connection IDs that name backends */
};

/* What becomes of packets that open a connection. Apart from `guard`, so that the packets of
 * running ones do not pay for it. */
enum admission_flags {
	ADMIT_LIMITS = 1,  /* they are rate limited */
	ADMIT_PASSIVE = 2, /* a service with a ring: SYNs are counted by backend */
};

/* MAC of a backend of a service that also has this machine as a backend. */
struct sender {
	u8 mac[6];
	u16 service;
};

/* Time-stamps of rate limits are jiffies in fixed point, with this many fractional bits. */
enum fixed_point {
	JIFFY_SHIFT = 24,
};

/* A client's address or prefix. */
struct prefix4 {
	u32 prefix; /* length in bits, without this field */
	__be32 address;
};

struct prefix6 {
	u32 prefix;
	__be32 address[4];
};

/* Clients that share one rate limit. */
struct source {
	__be32 address[4]; /* masked; IPv4: the first word */
	u16 service;
	u16 generation; /* of the service's limit: a new one starts new buckets */
	u32 ipv6;
};

/* Rate limits of new connections, for the service and for each source. Times in jiffies <<
 * JIFFY_SHIFT. */
struct limit {
	u64 cost;      /* time between two connections; 0: no limit */
	u64 tolerance; /* burst, as time */
	u64 source_cost;
	u64 source_tolerance;
	__be32 source_mask; /* masks of the client's address, IPv4 and IPv6 */
	__be32 source_mask6[4];
	u32 generation;
};

struct refusals {
	u64 service;
	u64 source;
};

#endif
