/* SPDX-License-Identifier: GPL-2.0-only */
/* The structs that the maps hold. They are the only definition of the layout: the loader writes it
 * down as BCC sees it (layout.json), and Python builds its types from that file. Python reads the
 * enums from this text, so each constant is a plain number. Addresses, ports and protocols are in
 * network byte order, all else in the host's. */
#ifndef XDPDIRECTOR_TYPES_H
#define XDPDIRECTOR_TYPES_H

#include "prefilter_types.h"
#include "guard_types.h"
#include "reason.h"
#include "quic_types.h"
#include "passive_types.h"
#include "conntrack_types.h"

#define NO_BACKEND	0xffff
#define VLAN_AS_IT_CAME 0xffff
#define MAX_STATES	16

#define LISTED (MAX_MEMBERS + MAX_MEMBERS / 4) /* entries of one service's list of members */

/* Programs that are reached by tail calls, for packets that the fast path does not finish. The
 * function stage_x is at STAGES_AT + STAGE_X in `stages`. */
enum stage {
	STAGE_SCHEDULE = 0,  /* schedule a new connection */
	STAGE_ANSWER = 1,    /* reject: turn the packet into a RST or an ICMP error */
	STAGE_FRAGMENT = 2,  /* later fragment: follow the first one */
	STAGE_ERROR = 3,     /* ICMP error: follow the connection that it quotes */
	STAGE_ADMIT = 4,     /* rate limits of new connections */
	STAGE_REMEMBER = 5,  /* create a conntrack record, then forward */
	STAGE_TRACE = 6,     /* write the decision to the trace ring buffer */
	STAGE_RECALL = 7,    /* conntrack: the record changes, or there is none */
	STAGE_PARSE = 8,     /* parse what the fast path does not */
	STAGE_SERVE = 9,     /* look up the listener of such a packet */
	STAGE_AVOID = 10,    /* reschedule: the slot's owner is down for this VIP */
	STAGE_RELOCATE = 11, /* move a used flow to its other bucket, then STAGE_REMEMBER */
	STAGE_DROP = 12,     /* count the drop for its service */
	STAGE_ABORT = 13,    /* reject SCTP: turn the packet into an ABORT */
	STAGE_LOCATE = 14,   /* lblc, lblcr: schedule a new connection */
	STAGE_QUIC = 15,     /* QUIC: the backend that the connection ID names */
	STAGE_OBSERVE = 16,  /* passive health: count what the packet shows of its backend */
	STAGE_TUNNEL = 17,   /* encapsulate for a backend in another network */
	STAGE_SCAN = 18,     /* compare all members: none of those drawn takes the connection */
	STAGES = 19,
};

/* How a service schedules. Without SERVICE_RING the member with the lowest cost per weight takes
 * the connection. */
enum service_flags {
	SERVICE_RING = 1,	    /* ring hashing (mh, sh) */
	SERVICE_HASH_ADDRESS = 2,   /* the ring's hash ignores the client's port */
	SERVICE_UNBOUNDED = 4,	    /* no member has connection thresholds */
	SERVICE_IDLE_FIRST = 8,	    /* nq: a member without active connections costs nothing */
	SERVICE_WITHIN_WEIGHT = 16, /* ovf: more active connections than weight: takes none */
	SERVICE_PERSISTENT = 32, /* a client keeps its backend over all listeners of the service */
	SERVICE_KEEP_DRAINING = 64, /* persistence also keeps a backend that drains */
	SERVICE_ONE_PACKET = 128,   /* UDP: no conntrack records */
};

/* Which of its members a service without a ring considers. */
enum service_choice {
	CHOICE_ALL = 0,
	CHOICE_DESTINATION = 1, /* dh: the one that the VIP's hash names */
	CHOICE_TWO = 2,		/* twos: two, drawn by weight */
	CHOICE_LOCALITY = 3,	/* lblc: the one that serves the VIP, if it is not overloaded */
	CHOICE_LOCALITIES = 4,	/* lblcr: those that serve the VIP, if one is not overloaded */
};

/* How many members are compared for a new connection. */
enum comparison {
	EXACT = 32, /* all, if no more take connections */
	DRAWN = 16, /* of more, so many that are drawn: see draw.h */
	LINEAR =
		256, /* the most that dh, twos, lblc and lblcr have; who may stand in for a ring's */
	SCANNED = 512, /* in one run of STAGE_SCAN */
};

/* What to do with a packet that has no usable backend. */
enum policy {
	POLICY_REJECT = 0,
	POLICY_DROP = 1,
	POLICY_SCHEDULE = 2,
};

/* Whether connections are forwarded to a backend. Ring and members say whether it takes new
 * ones. */
enum backend_state {
	BACKEND_ABSENT = 0,	 /* no such backend, or it was removed */
	BACKEND_SERVING = 1,	 /* forward its packets */
	BACKEND_DOWN = 2,	 /* its health check failed */
	BACKEND_MAINTENANCE = 3, /* administratively down */
};

enum backend_flags {
	BACKEND_LOCAL = 1,    /* the director is this backend */
	BACKEND_RESOLVED = 2, /* `addresses` are valid */
	BACKEND_ACCEPTS = 4,  /* takes new connections */
	BACKEND_PARTIAL = 8,  /* down for the VIPs whose front has its bit in `out` */
	BACKEND_ROUTER = 16,  /* it also routes clients' packets to the director */
	BACKEND_WATCHED = 32, /* passive health: see passive.h */
	BACKEND_TUNNEL = 64,  /* encapsulate its packets; excludes BACKEND_RESOLVED */
};

/* What a flow has shown so far. For TCP this is the client's half: replies bypass the director. The
 * first three states are those of flows with a single packet. The transitions are in
 * bpf/conntrack.h. */
enum connection_state {
	CONNECTION_SYN = 1,
	CONNECTION_MIDSTREAM = 2,
	CONNECTION_DATAGRAM = 3,
	CONNECTION_ESTABLISHED = 4,
	CONNECTION_UDP = 5,
	CONNECTION_FIN = 6,
	CONNECTION_CLOSED = 7,
	CONNECTION_REOPENED = 8, /* a SYN after FIN or RST */
	/* Used: a third packet has come. */
	CONNECTION_USED_ESTABLISHED = 10,
	CONNECTION_USED_UDP = 11,
	/* Assured: the same states of flows that were seen again some seconds after their second
	 * packet. */
	CONNECTION_ASSURED_REOPENED = 9,
	CONNECTION_ASSURED_ESTABLISHED = 12,
	CONNECTION_ASSURED_UDP = 13,
	CONNECTION_ASSURED_FIN = 14,
	CONNECTION_ASSURED_CLOSED = 15,
};

enum fragment_kind {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1, /* it has the ports */
	FRAGMENT_LATER = 2,
};

enum slot_flags {
	SLOT_FLUX = 1,	     /* its owner changed lately: older flows may have no record */
	SLOT_EXCEPTIONS = 2, /* some record may name another backend than the slot */
};

/* A listener's value: the index of its service, and above these bits that of its front. */
enum listener_bits {
	LISTENER_FRONT = 16,
};

enum client_numbers {
	PROOF = 1024, /* jiffies between two sightings that prove a client */
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
	__be32 address[4]; /* IPv4: mapped, ::ffff:a.b.c.d */
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

/* Longest-prefix keys for port ranges, any port, and protocols without ports: address, protocol,
 * port. */
struct range4 {
	u32 prefix; /* length in bits, without this field */
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

/* The backend of a client without a confirmed connection, or of a fragmented packet. NO_BACKEND:
 * the host gets the packet, and `generation` holds the reason. */
struct affinity {
	u16 backend;
	u16 generation;
	u32 seen; /* jiffies */
};

/* The backend of a client that confirmed a connection with a second packet. `proven`: its
 * connections were seen at two moments that are PROOF apart. A flood with two packets from each
 * spoofed address does not prove a client. */
struct regular {
	u16 backend;
	u16 generation;
	u32 seen;  /* jiffies: a connection was confirmed or still ran */
	u32 since; /* jiffies */
	u32 proven;
};

struct service {
	u32 ring_start; /* first slot in `ring` */
	u32 ring_slots; /* 0: no ring */
	u16 members;	/* number of entries in `members` */
	u16 resting; /* the last ones of these, which take no new connections and are not drawn */
	u8 flags;    /* enum service_flags */
	u8 on_empty; /* enum policy, as are the next two */
	u8 on_down;
	u8 on_unknown;
	u16 cost_active; /* cost of each active connection of a member */
	u16 cost_inactive;
	u16 cost_served; /* cost of each connection ever scheduled to it */
	u16 cost_fixed;
	u16 fallback;	    /* takes new connections when no member can, or NO_BACKEND */
	u16 guard;	    /* enum guard_flags */
	__be32 client_mask; /* persistence: masks of the client's address */
	__be32 client_mask6[4];
	u32 persistence; /* jiffies after the client's last new connection */
	u32 assured_after; /* ticks (bpf/conntrack_table.h) after its second packet that make a flow assured */
	u32 choice;	    /* enum service_choice */
	u32 locality_lasts; /* lblcr: jiffies without a change after which the set of a VIP loses one */
	u8 quic_flags;	    /* enum quic_flags; see quic.h */
	u8 quic_at;	    /* offset of the backend's ID in a connection ID */
	u8 quic_length;	    /* bytes of the backend's ID */
	u8 quic_config;	    /* codepoint of QUIC-LB */
	u32 admission;	    /* enum admission_flags */
	u32 timeouts[MAX_STATES]; /* by connection state, in ticks (bpf/conntrack_table.h) */
	u32 stays
		[MAX_STATES]; /* SEEN_NOW + ticks in which data does not change the record; 0: never */
	u64 multipliers[2]; /* secret and odd: hash multipliers of the conntrack table */
};

struct ring_slot {
	u16 backend; /* or NO_BACKEND */
	u16 before;  /* previous owner, while in flux */
	u32 flags;   /* enum slot_flags */
};

/* Owner and flags are read and written as one word. */
union slot_word {
	struct ring_slot is;
	u64 word;
};

/* The owners of four slots in a row, each as 1 + its index, if the slot has no flags. 0: the slot is
 * to be looked up in `ring`. */
struct slot_owners {
	u16 of[4];
};

/* Read as one word. */
struct member {
	u16 backend;
	u16 weight; /* 0: no new connections; 1 with schedulers without weights */
	u16 place;  /* that of the backend */
	u16 pad2;
} __attribute__((aligned(8)));

struct backend {
	u8 addresses[12]; /* destination and source MAC of the new frame */
	u16 generation;	  /* counts uses of this index: records of an earlier use are void */
	u8 state;
	u8 flags;
	u32 ifindex; /* egress interface */
	u32 port;    /* index in the devmap `ports` */
	u16 vlan;    /* VLAN there; 0: untagged, VLAN_AS_IT_CAME: keep the request's tags */
	u16 place;   /* its bit in struct front's `out` */
	u16 service; /* 1 + index of its service; 0: not known */
	u16 pad2;
};

enum tunnel_kind {
	TUNNEL_IPIP = 0, /* IP in IP (RFC 2003, 2473, 4213) */
	TUNNEL_GUE = 1,	 /* in UDP, without a header of its own (GUE, variant 1) */
};

/* The tunnel to a backend with BACKEND_TUNNEL. An IPv4 address is the last word. */
struct tunnel {
	__be32 source[4];
	__be32 destination[4];
	__be32 spread; /* bits of the source's last word that the flow's hash fills */
	u32 mtu;       /* of the way to the backend: the longest outer packet */
	u8 ipv6;       /* version of the outer header */
	u8 kind;       /* enum tunnel_kind */
	__be16 port;   /* GUE: UDP destination port */
	u32 pad;
};

enum probe_mac {
	PROBE_MAC = 0x70647802, /* 02:78:64:70, read as a little-endian number; see probe.h */
};

/* The tunnel of a health check's frames, and their Ethernet addresses. */
struct probe {
	struct tunnel tunnel;
	u8 addresses[12];
	u32 pad;
};

/* Connection counts of a backend, one cache line. XDP writes the first four fields. The daemon
 * corrects them in fields of its own, for records that were evicted or timed out and for turns that
 * were missed, so that neither writer overwrites the other. A count is the sum of both fields
 * modulo 2^32: time-outs let the first field grow until it wraps. `served` has 64 bits because it
 * is compared per weight, which needs the true value. */
struct load {
	s32 active;
	s32 inactive;
	u32 bound; /* the threshold in force: `upper`, or `lower` after `upper` was reached */
	u32 pad;
	s64 served; /* connections ever scheduled to it, where the scheduler needs that */
	s32 active_correction;
	s32 inactive_correction;
	s64 served_correction;
	u32 upper; /* connection thresholds; the largest number: none */
	u32 lower;
	u32 unanswered; /* records that timed out with nothing but SYNs; counted by the daemon */
	u32 idle;	/* records of running TCP connections that timed out; the same */
	u32 pad2[2];
};

/* Lists that the scheduler walks by pointer: a map look-up for each element would cost more than
 * the rest of the loop. */
struct member_list {
	struct member of[LISTED];
};

struct load_list {
	struct load of[MAX_BACKENDS];
};

/* What bpf/parse.h read from a frame. */
struct packet {
	union {
		struct flow4 v4;
		struct flow6 v6;
	} flow;
	u32 error;     /* enum reason of a malformed packet, else 0 (PASS_NOT_IP) */
	u32 id;	       /* IP identification of a fragment */
	u16 length;    /* of the IP packet */
	u16 payload;   /* length of the transport header and its data */
	u16 network;   /* offset of the IP header in the frame */
	u16 transport; /* and of the transport header */
	u8 ipv6;
	u8 protocol;
	u8 flags;    /* TCP flags, else 0 */
	u8 fragment; /* enum fragment_kind */
	u16 traced;  /* 1 + index of a service that is traced, else 0 */
	u16 pad;
};

/* Per-CPU scratch: what one stage hands to the next. */
struct scratch {
	struct packet packet;
	u32 service; /* index */
	u32 front;   /* index */
	union slot_word slot;
	u64 now;       /* jiffies */
	u32 backend;   /* index of the selected backend */
	u32 reason;    /* enum reason, or UNDECIDED */
	u16 stage;     /* enum stage: the next one for a packet without a record */
	u16 tried;     /* entries that were tried to be freed for its record */
	u32 action;    /* XDP verdict, for the trace */
	u64 best_cost; /* STAGE_SCAN: of the best member so far */
	u32 best;      /* weight and backend as in struct member */
	u32 scanned;   /* entries of the list */
	u32 state;     /* enum connection_state of the flow's record before this packet; 0: none */
	u32 mtu;       /* of REJECT_TOO_BIG: the longest packet that the tunnel takes */
	u32 is_new;    /* the packet opens a connection, for the tunnel's counter */
	u32 pad;
};

struct traffic {
	u64 packets;
	u64 bytes; /* of the IP packets */
	u64 connections;
};

_Static_assert(FIRST_REFUSAL == REJECT_EMPTY, "struct drops begins with another reason");

/* Packets of a service that were dropped or rejected, by reason from FIRST_REFUSAL on. */
struct drops {
	u64 by_reason[REASONS - FIRST_REFUSAL];
};

/* Rate limits per CPU of packets that are no client's. */
enum allowance_kind {
	ALLOWANCE_ANSWERS = 0, /* ICMP errors made here */
	ALLOWANCE_ERRORS = 1,  /* ICMP errors of flows without a record */
	ALLOWANCES = 2,
};

struct allowance {
	u32 jiffy;
	u32 used;
};

/* Names of an index, for people and for a daemon that adopts these maps. */
struct label {
	char service[64];
	char backend[64]; /* empty: the label of a service */
};

#endif
