/* SPDX-License-Identifier: GPL-2.0-only */
/* What the maps hold. These structs are the only definition of the layout: the loader writes it down as BCC
 * sees it (layout.json) and Python builds its types from there. Enums are read from this text, so each
 * constant has a plain number. Addresses, ports and protocols are in network byte order, the rest in the host's.
 */
#ifndef XDPDIRECTOR_TYPES_H
#define XDPDIRECTOR_TYPES_H

#include "entrance_types.h"
#include "guard_types.h"
#include "reason.h"
#include "record_types.h"

#define NO_BACKEND	0xffff
#define VLAN_AS_IT_CAME 0xffff
#define MAX_MEMBERS	256 /* backends of one service */
#define MAX_STATES	16

/* Programs of their own for the packets that need more than a look, reached by tail calls: the function stage_x
 * stands at STAGES_AT + STAGE_X in `stages`. */
enum stage {
	STAGE_SCHEDULE = 0, /* find a backend for a new connection */
	STAGE_ANSWER = 1,   /* turn the packet into its answer */
	STAGE_FRAGMENT = 2, /* a fragment without ports follows the one that had them */
	STAGE_ERROR = 3,    /* an ICMP error follows the connection that it speaks of */
	STAGE_ADMIT = 4,    /* has the service, or the client, had too many new connections? */
	STAGE_REMEMBER = 5, /* record a connection, and forward the packet that showed it */
	STAGE_TRACE = 6,    /* tell who watches */
	STAGE_RECALL = 7,   /* a packet changes a record, or belongs to a flow that has none */
	STAGE_PARSE = 8,    /* read packets that are not plain */
	STAGE_SERVE = 9,    /* and find their listener */
	STAGE_AVOID = 10,   /* the slot's owner is down for the VIP: find another backend */
	STAGES = 11,
};

/* How a service schedules. Without SERVICE_RING the member with the least cost per weight takes the connection. */
enum service_flags {
	SERVICE_RING = 1,	  /* by the ring (mh, sh) */
	SERVICE_HASH_ADDRESS = 2, /* the ring's hash leaves the client's port out */
	SERVICE_UNBOUNDED = 4,	  /* no member has thresholds */
	SERVICE_IDLE_FIRST = 8,	  /* a member without active connections costs nothing (nq) */
	SERVICE_WITHIN_WEIGHT =
		16, /* a member with more active connections than weight takes none (ovf) */
	SERVICE_PERSISTENT = 32,    /* a client keeps its backend for a time, over all listeners */
	SERVICE_KEEP_DRAINING = 64, /* also when that backend takes no other new connections */
	SERVICE_ONE_PACKET = 128,   /* datagrams are not remembered (UDP) */
};

/* What becomes of a packet that has no usable backend. */
enum policy {
	POLICY_REJECT = 0,
	POLICY_DROP = 1,
	POLICY_SCHEDULE = 2,
};

/* What a backend does for connections; whether it takes new ones is said by ring and members. */
enum backend_state {
	BACKEND_ABSENT = 0,	 /* no such backend, or removed */
	BACKEND_SERVING = 1,	 /* its packets are forwarded */
	BACKEND_DOWN = 2,	 /* its check failed */
	BACKEND_MAINTENANCE = 3, /* cut off by the operator */
};

enum backend_flags {
	BACKEND_LOCAL = 1,    /* the director itself */
	BACKEND_RESOLVED = 2, /* `addresses` are valid */
	BACKEND_ACCEPTS = 4,  /* takes new connections */
	BACKEND_PARTIAL = 8,  /* is down for some VIPs of its service: `out` of their fronts */
	BACKEND_ROUTER = 16,  /* clients' packets come in through it */
};

/* What a flow has shown, TCP as the client's side shows it: the replies never come this way. The first three: one packet
 * only. bpf/connection.h has the transitions. */
enum connection_state {
	CONNECTION_SYN = 1,
	CONNECTION_MIDSTREAM = 2,
	CONNECTION_DATAGRAM = 3,
	CONNECTION_ESTABLISHED = 4,
	CONNECTION_UDP = 5,
	CONNECTION_FIN = 6,
	CONNECTION_CLOSED = 7,
	CONNECTION_REOPENED = 8, /* a SYN after FIN or RST */
	/* The same of flows that were seen at two moments some seconds apart. */
	CONNECTION_ASSURED_REOPENED = 9,
	CONNECTION_ASSURED_ESTABLISHED = 12,
	CONNECTION_ASSURED_UDP = 13,
	CONNECTION_ASSURED_FIN = 14,
	CONNECTION_ASSURED_CLOSED = 15,
};

enum fragment_kind {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1, /* has the ports */
	FRAGMENT_LATER = 2,
};

enum slot_flags {
	SLOT_FLUX = 1,	     /* changed owner lately: flows from before may run without a record */
	SLOT_EXCEPTIONS = 2, /* some record may disagree with the slot */
};

/* What a listener leads to: index of the service, and behind these bits the front's. */
enum listener_bits {
	LISTENER_FRONT = 16,
};

enum client_numbers {
	PROOF = 1024, /* jiffies: some seconds */
};

/* Keys. */

struct listener4 {
	__be32 address;
	__be16 port;
	u8 protocol;
	u8 pad;
};

struct listener6 {
	__be32 address[4];
	__be16 port;
	u8 protocol;
	u8 pad;
};

struct vip {
	__be32 address[4]; /* IPv4: the last word, after ::ffff */
};

struct flow4 {
	__be32 client;
	__be32 vip;
	__be16 client_port;
	__be16 port;
	u8 protocol;
	u8 pad[3];
};

struct flow6 {
	__be32 client[4];
	__be32 vip[4];
	__be16 client_port;
	__be16 port;
	u8 protocol;
	u8 pad[3];
};

/* Port ranges, any port, and protocols without ports: the longest prefix of address, protocol and port. */
struct range4 {
	u32 prefix; /* in bits, of what follows */
	__be32 address;
	u8 protocol;
	u8 pad;
	__be16 port;
};

struct range6 {
	u32 prefix;
	__be32 address[4];
	u8 protocol;
	u8 pad;
	__be16 port;
};

struct fragment {
	__be32 client[4]; /* IPv4: the first word */
	__be32 vip[4];
	u32 id;
	u8 protocol;
	u8 ipv6;
	u16 pad;
};

struct client {
	__be32 address[4]; /* masked; IPv4: the first word */
	u32 service;
	u32 ipv6;
};

/* Values. */

/* Which backend a client that has not confirmed a connection, or a fragmented packet, goes to. With NO_BACKEND: the packet is the host's, and in place of
 * the generation stands the reason. */
struct affinity {
	u16 backend;
	u16 generation;
	u32 seen; /* jiffies */
};

/* A client whose connection was confirmed, by a packet behind its first. `proven`: its connections were seen at two moments
 * PROOF apart, which a flood of two packets for each made-up address is not. */
struct regular {
	u16 backend;
	u16 generation;
	u32 seen;  /* jiffies: when one was confirmed last, or still ran */
	u32 since; /* jiffies */
	u32 proven;
};

struct service {
	u32 ring_start; /* first slot in `ring` */
	u32 ring_slots; /* 0: it has none */
	u32 members;	/* how many entries of `members`, from index service * MAX_MEMBERS */
	u8 flags;	/* enum service_flags */
	u8 on_empty;	/* enum policy, three times */
	u8 on_down;
	u8 on_unknown;
	u16 cost_active; /* what a member's connections cost: so much for each active one */
	u16 cost_inactive;
	u16 cost_served; /* for each one ever given to it */
	u16 cost_fixed;
	u16 fallback; /* the backend that takes new connections when no other does, or NO_BACKEND */
	u16 guard;    /* enum guard_flags */
	__be32 client_mask; /* persistence: what of a client's address counts, IPv4 and IPv6 */
	__be32 client_mask6[4];
	u32 persistence; /* for how long after its last new connection, in jiffies */
	u32 assured_after; /* in ticks (bpf/table.h): flows that are seen again so much later are assured */
	u32 timeouts[MAX_STATES]; /* by connection state, in ticks (bpf/table.h) */
	u32 stays
		[MAX_STATES]; /* SEEN_NOW and for how long such a record stays as it is, but for its time; 0: never */
	u64 multipliers[2]; /* secret, odd: where its flows stand in the table */
};

struct ring_slot {
	u16 backend; /* NO_BACKEND: nobody */
	u16 before;  /* the owner before, while in flux */
	u32 flags;   /* enum slot_flags */
};

/* Owner and flags belong together: they are read at once. */
union slot_word {
	struct ring_slot is;
	u64 word;
};

/* Read at once. */
struct member {
	u16 backend;
	u16 weight; /* 0: takes no new connections; 1 where the scheduler knows no weights */
	u16 place;  /* the backend's */
	u16 pad2;
} __attribute__((aligned(8)));

struct backend {
	u8 addresses[12]; /* the new frame's first bytes: Ethernet destination and source */
	u16 generation;	  /* of this index: a record of an earlier one is void */
	u8 state;
	u8 flags;
	u32 ifindex; /* where it is reached */
	u32 port;    /* index in the devmap `ports` */
	u16 vlan;    /* its VLAN there: 0 for none, VLAN_AS_IT_CAME for that of the request */
	u16 place;   /* its number in its service, below PLACES */
	u16 pad2[2];
};

/* Connections of a backend: a cache line. XDP writes the first four; the daemon corrects them, for what was evicted or has
 * timed out, and for turns that were missed, in fields of its own, so that neither overwrites the other. A count is the sum
 * of both fields in the width of one: connections that time out leave the first ever larger, until it wraps. `served` has
 * 64 bits: it is compared per weight, which a count that wraps cannot be. */
struct load {
	s32 active;
	s32 inactive;
	u32 bound; /* so many connections are too many now: `upper`, or `lower` once that was reached */
	u32 pad;
	s64 served; /* given to it by a scheduler that asks for it */
	s32 active_correction;
	s32 inactive_correction;
	s64 served_correction;
	u32 upper; /* thresholds of all its connections; the largest number: none */
	u32 lower;
	u32 pad2[4];
};

/* Lists that a loop walks by pointer: a look-up for each element would cost more than what is done with it. */
struct member_list {
	struct member of[MAX_MEMBERS];
};

struct load_list {
	struct load of[MAX_BACKENDS];
};

/* What a frame says, as bpf/parse.h reads it. */
struct packet {
	union {
		struct flow4 v4;
		struct flow6 v6;
	} flow;
	u32 error;     /* enum reason; 0 (PASS_NOT_IP) when there is none */
	u32 id;	       /* of a fragment's packet */
	u16 length;    /* of the IP packet */
	u16 payload;   /* of it, what the transport header and its data take */
	u16 network;   /* offset of the IP header in the frame */
	u16 transport; /* and of the TCP or UDP header */
	u8 ipv6;
	u8 protocol;
	u8 flags;    /* of TCP, else 0 */
	u8 fragment; /* enum fragment_kind */
	u16 traced;  /* 1 + its service's index while somebody watches, else 0 */
	u16 pad;
};

/* A packet put aside for the next stage, on this processor. */
struct aside {
	struct packet packet;
	u32 service; /* index */
	u32 front;   /* index */
	union slot_word slot;
	u64 now;     /* jiffies */
	u32 backend; /* index: the one that was chosen */
	u32 reason;  /* enum reason, as far as it is decided */
	u32 stage;   /* enum stage: what a packet that is to be scheduled goes through first */
	u32 action;  /* the verdict, for who watches */
};

struct traffic {
	u64 packets;
	u64 bytes; /* of the IP packets */
	u64 connections;
};

/* Of what only so much goes out at a time. */
enum allowance_kind {
	ALLOWANCE_ANSWERS = 0, /* ICMP, made here */
	ALLOWANCE_ERRORS =
		1, /* ICMP errors that only a ring sends on: whether there is such a flow, it does not know */
	ALLOWANCES = 2,
};

struct allowance {
	u32 jiffy;
	u32 used;
};

/* Who an index is, for people and for a daemon that adopts these maps. */
struct label {
	char service[64];
	char backend[64]; /* empty: the label of a service */
};

#endif
