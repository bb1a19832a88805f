/* SPDX-License-Identifier: GPL-2.0-only */
/* Structs of QUIC connection IDs that name backends: see quic.h. Part of types.h, and under its
 * rules. */
#ifndef XDPDIRECTOR_QUIC_TYPES_H
#define XDPDIRECTOR_QUIC_TYPES_H

#define MAX_QUIC_ID 20 /* bytes of a connection ID at most (RFC 9000, 17.2) */

/* What a service's connection IDs look like. */
enum quic_flags {
	QUIC_LB = 1,		 /* the first octet is that of QUIC-LB */
	QUIC_ENCODES_LENGTH = 2, /* its low five bits are the number of octets behind it */
};

/* A backend's ID. Bytes behind `length` are 0. */
struct quic_id {
	u16 service;
	u16 length;
	u8 id[MAX_QUIC_ID];
};

/* The backend that has the ID. */
struct quic_backend {
	u16 backend;
	u16 generation; /* of this use of the index */
};

/* Packets of a service whose connection ID was looked at. */
struct quic_counts {
	u64 named;   /* the ID led to another backend than the flow, or the flow had none yet */
	u64 unknown; /* no backend of the service has the ID */
	u64 down;    /* the backend that has it is down, or in maintenance */
};

#endif
