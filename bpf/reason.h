/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef XDPDIRECTOR_REASON_H
#define XDPDIRECTOR_REASON_H

/* Why a packet got its verdict; the name's first word is the verdict. Index of the map `verdicts`. */
enum reason {
	PASS_NOT_IP =
		0, /* ARP, LLDP and all else that is no IP packet to one host, or too short to tell */
	PASS_NOT_VIP = 1, /* for another address than a VIP */
	PASS_NO_LISTENER =
		2, /* for a VIP, but another port or protocol (ping too), well-formed or not: the host answers */
	PASS_NO_CONNECTION = 3, /* an ICMP error about no known connection: the host's */
	PASS_LOCAL = 4,		/* the chosen backend is the director itself */
	FORWARD_RING = 5,	/* by the ring alone */
	FORWARD_CONNECTION = 6, /* of a known connection */
	FORWARD_NEW = 7,	/* opens a connection that is recorded */
	FORWARD_BEFORE = 8,	/* of a flow from before its slot changed owner */
	FORWARD_REOPENED =
		9, /* mid-stream without a usable backend, scheduled as the service says */
	FORWARD_UNRECORDED = 10, /* a datagram of a service that schedules each anew */
	FORWARD_FRAGMENT = 11,	 /* follows the fragment that had the ports */
	FORWARD_ERROR = 12,	 /* an ICMP error, to the backend whose connection it speaks of */
	REJECT_EMPTY = 13,	 /* RST or port unreachable: no backend takes new connections */
	REJECT_DOWN =
		14, /* RST: the connection's backend is down, be it for this VIP, removed or in maintenance */
	REJECT_UNKNOWN = 15, /* RST: mid-stream TCP of no known connection */
	DROP_MALFORMED_IP =
		16, /* for a listener, as far as it tells: lengths in the IP header contradict the frame */
	DROP_MALFORMED_TCP = 17,     /* the same: TCP header cut short, or its offset wrong */
	DROP_MALFORMED_UDP = 18,     /* the same: UDP header cut short, or its length wrong */
	DROP_EXTENSION_HEADERS = 19, /* for a VIP: more IPv6 extension headers than are followed */
	DROP_FRAGMENT = 20, /* for a VIP: a fragment whose first one has not come, or was dropped */
	DROP_EMPTY = 21,    /* no backend takes new connections */
	DROP_DOWN = 22,	    /* the connection's backend is down, removed or in maintenance */
	DROP_UNKNOWN = 23,  /* mid-stream TCP of no known connection */
	DROP_RESET =
		24, /* a RST that would be rejected: it is never answered (RFC 9293, 3.10.7.1) */
	DROP_ANSWER = 25, /* would be answered, but so many were a moment ago (RFC 4443, 2.4 f) */
	DROP_UNRESOLVED = 26, /* the backend's MAC is not known */
	DROP_UNANSWERABLE =
		27, /* would be answered, but its sender is no single host (RFC 1122, 3.2.2) */
	DROP_DENIED = 28, /* the client is under a denied prefix */
	DROP_LIMITED_SERVICE =
		29,		  /* would open a connection, but its service had too many lately */
	DROP_LIMITED_SOURCE = 30, /* would open a connection, but its client had too many lately */
	DROP_FULL = 31, /* would open a connection, but the table has no room beside running ones */
	DROP_INTERNAL = 32, /* cannot happen */
	PASS_OTHER_HOST =
		33, /* for a VIP, but its MAC is of another machine behind the interface: the kernel's bridge, or macvlan */
	PASS_DIRECTED =
		34, /* another director of the service sent it here, as to a backend: the host's */
	DROP_ERROR = 35, /* an ICMP error about a flow of a ring, but so many came a moment ago */
	DROP_OTHER_HOST =
		36, /* for a VIP, but its MAC is no interface's of this machine: flooded here, or a new one that nobody has told */
	REASONS = 37,
};

#endif
