/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPDIRECTOR_REASON_H
#define XDPDIRECTOR_REASON_H

/* Why a packet got its verdict. The first word of the name is the verdict. Index of the map
 * `verdicts`. */
enum reason {
	PASS_NOT_IP = 0,	 /* no IP packet to a single host (ARP, LLDP), or cut short */
	PASS_NOT_VIP = 1,	 /* the destination is no VIP */
	PASS_NO_LISTENER = 2,	 /* for a VIP, but no listener (ping too): the host answers */
	PASS_NO_CONNECTION = 3,	 /* an ICMP error that quotes no known connection: the host's */
	PASS_LOCAL = 4,		 /* the selected backend is the director itself */
	FORWARD_RING = 5,	 /* selected by the ring, without a record */
	FORWARD_CONNECTION = 6,	 /* the connection has a record */
	FORWARD_NEW = 7,	 /* a new connection, recorded */
	FORWARD_BEFORE = 8,	 /* a flow from before its slot changed owner */
	FORWARD_REOPENED = 9,	 /* mid-stream, scheduled by on_down or on_unknown */
	FORWARD_UNRECORDED = 10, /* a datagram of a service with one_packet */
	FORWARD_FRAGMENT = 11,	 /* follows the fragment that had the ports */
	FORWARD_ERROR = 12,  /* an ICMP error: to the backend of the connection that it quotes */
	REJECT_EMPTY = 13,   /* RST, ABORT or port unreachable: no backend takes new connections */
	REJECT_DOWN = 14,    /* RST or ABORT: its backend is down, removed or in maintenance */
	REJECT_UNKNOWN = 15, /* RST or ABORT: mid-stream TCP or SCTP without a known connection */
	DROP_MALFORMED_IP = 16,	 /* for a listener: IP lengths contradict the frame */
	DROP_MALFORMED_TCP = 17, /* for a listener: TCP header cut short, or a wrong data offset */
	DROP_MALFORMED_UDP = 18, /* for a listener: UDP header cut short, or a wrong length */
	DROP_EXTENSION_HEADERS = 19, /* for a VIP: too many IPv6 extension headers */
	DROP_FRAGMENT = 20, /* for a VIP: its first fragment has not come, or was dropped */
	DROP_EMPTY = 21,    /* no backend takes new connections */
	DROP_DOWN = 22,	    /* the connection's backend is down, removed or in maintenance */
	DROP_UNKNOWN = 23,  /* mid-stream TCP or SCTP without a known connection */
	DROP_RESET = 24,    /* reject of what is never answered: RST (RFC 9293, 3.10.7.1), ABORT */
	DROP_ANSWER = 25,   /* reject, but the rate limit of answers is reached (RFC 4443, 2.4 f) */
	DROP_UNRESOLVED = 26,	   /* the backend's MAC address is not known */
	DROP_UNANSWERABLE = 27,	   /* reject, but nobody may be answered (RFC 1122, 3.2.2) */
	DROP_DENIED = 28,	   /* the client is in a denied prefix */
	DROP_LIMITED_SERVICE = 29, /* new connection: the service's rate limit is reached */
	DROP_LIMITED_SOURCE = 30,  /* new connection: the client's rate limit is reached */
	DROP_FULL = 31,		   /* new connection: the conntrack table has no entry to evict */
	DROP_INTERNAL = 32,	   /* cannot happen */
	PASS_OTHER_HOST = 33,	   /* for a VIP, to the MAC of a container behind the interface */
	PASS_DIRECTED = 34, /* another director of the service has scheduled it to this machine */
	DROP_ERROR = 35,    /* an ICMP error for a ring: the rate limit of such errors is reached */
	DROP_OTHER_HOST = 36,	  /* for a VIP, to a MAC that is none of this machine's */
	DROP_MALFORMED_SCTP = 37, /* for a VIP: SCTP header or first chunk cut short */
	FORWARD_CID = 38,	  /* the QUIC connection ID names the backend */
	REJECT_TOO_BIG =
		39, /* too long for the tunnel: ICMP fragmentation needed, packet too big */
	REASONS = 40,
};

#define FIRST_REFUSAL 13 /* REJECT_EMPTY: no reason before it drops or rejects a packet */

#endif
