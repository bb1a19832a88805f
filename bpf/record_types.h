/* SPDX-License-Identifier: GPL-2.0-only */
/* What is remembered of connections, and where: see table.h. */
#ifndef XDPDIRECTOR_RECORD_TYPES_H
#define XDPDIRECTOR_RECORD_TYPES_H

#define WAYS   4   /* flows in a bucket of the table */
#define PLACES 256 /* numbers of a service's backends */

/* Time in records is kept in ticks of 64 jiffies, in so many bits. */
enum tick_numbers {
	TICK_SHIFT = 6,
	SEEN_BITS = 22,
};

enum front_use {
	FRONT_FREE = 0,
	FRONT_SERVING = 1,
	FRONT_RESTING = 2, /* has no listener any more, but records may speak of it */
};

/* A service at one of its VIPs and protocols: what a record says of where its flow goes in. Number 0 is nobody's. `out`: a
 * bit for each place of a backend with BACKEND_PARTIAL that is down for this VIP. */
struct front {
	__be32 address[4]; /* IPv4: the first word */
	u32 service;
	u8 protocol;
	u8 ipv6;
	u8 use; /* enum front_use */
	u8 pad;
	u64 out[PLACES / 64];
};

/* A flow and its record, brought from the table of an earlier program. IPv4: the address is the first word. */
struct adopted {
	__be32 client[4];
	__be16 client_port;
	__be16 port;
	u32 ipv6;
	u64 word; /* struct record; 0 once it stands in the table */
};

/* The SYN that opened a flow while its slot was in flux: see opening.h. */
struct opening {
	u64 flow; /* its hash, as the table of connections has it */
};

/* A record that is to be forgotten, if it is still as it was. */
struct reaped {
	u64 word;
	u32 bucket;
	u16 entry;
	u16 ipv6;
};

/* What is remembered of a flow, in one word, so that it is read and changed at once. All 0: nothing. */
struct record {
	u64 backend : 16;
	u64 front : 14;
	u64 state : 4;	    /* enum connection_state */
	u64 generation : 8; /* of the backend's index when this was recorded: the low bits */
	u64 seen : 22;	    /* when its last packet came, in ticks (bpf/table.h) */
};

/* A flow and its record: 16 and 32 bytes. The client as it stands in the packet; VIP and protocol are the front's. */
struct entry4 {
	__be32 client;
	__be16 client_port;
	__be16 port;
	struct record record;
};

struct entry6 {
	__be32 client[4];
	__be16 client_port;
	__be16 port;
	u32 pad;
	struct record record;
};

struct bucket4 {
	struct entry4 entries[WAYS];
};

struct bucket6 {
	struct entry6 entries[WAYS];
};

#endif
