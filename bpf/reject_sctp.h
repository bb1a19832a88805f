/* SPDX-License-Identifier: GPL-2.0-only */
/* Reject an SCTP packet: turn it into an ABORT (RFC 9260, 8.4). Its verification tag is the
 * sender's own: that of an INIT is in the chunk, that of other packets is sent back with the T bit. A
 * SHUTDOWN ACK gets the SHUTDOWN COMPLETE that its sender waits for.
 *
 * A HEARTBEAT gets no answer: a client with several addresses asks with it whether the director is
 * reached from another one, and an ABORT would end the association, which runs well by the first. */
#ifndef XDPDIRECTOR_REJECT_SCTP_H
#define XDPDIRECTOR_REJECT_SCTP_H

#include "reject.h"

#define SCTP_T_BIT 1
#define CRC32C	   0x82f63b78 /* Castagnoli's polynomial, reflected (RFC 9260, appendix A) */
#define WORD_BITS  32

struct abort {
	struct sctp_header header;
	struct sctp_chunk chunk;
};

/* Of a whole number of words; the checksum's own is 0 meanwhile. */
static __always_inline u32 crc32c(const u32 *words, u32 count)
{
	u64 crc = 0xffffffff;

	for (u32 i = 0; i < count; i++) {
		crc ^= words[i];
		for (u32 bit = 0; bit < WORD_BITS; bit++)
			crc = crc >> 1 ^ opaque(crc & 1) * CRC32C; /* no branch */
	}
	return ~crc;
}

/* Build the answer. False if there is none. */
static __always_inline bool build_abort(struct xdp_md *ctx, const struct packet *packet,
					struct abort *abort)
{
	void *end = (void *)(long)ctx->data_end;
	struct sctp_header *sctp = (void *)(long)ctx->data + (packet->transport & TRANSPORT_MASK);
	struct sctp_chunk *chunk = (void *)(sctp + 1);
	__be32 *initiate_tag = (void *)(chunk + 1);

	if ((void *)(chunk + 1) > end || packet->flags & TCP_RST || !packet->flags ||
	    chunk->type == SCTP_CHUNK_SHUTDOWN_COMPLETE || chunk->type == SCTP_CHUNK_COOKIE_ACK)
		return false;
	abort->header.source = sctp->destination;
	abort->header.destination = sctp->source;
	abort->header.tag = sctp->tag;
	abort->chunk.type = chunk->type == SCTP_CHUNK_SHUTDOWN_ACK ? SCTP_CHUNK_SHUTDOWN_COMPLETE
								   : SCTP_CHUNK_ABORT;
	abort->chunk.flags = SCTP_T_BIT;
	abort->chunk.length = htons(sizeof(abort->chunk));
	if (chunk->type == SCTP_CHUNK_INIT) {
		if ((void *)(initiate_tag + 1) > end)
			return false;
		abort->header.tag = *initiate_tag;
		abort->chunk.flags = 0;
	}
	abort->header.checksum = crc32c((const u32 *)abort, sizeof(*abort) / sizeof(u32));
	return true;
}

static __always_inline bool write_abort4(struct xdp_md *ctx, const struct packet *packet,
					 const struct abort *abort)
{
	struct iphdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);

	if ((void *)(ip + 1) + sizeof(*abort) > (void *)(long)ctx->data_end)
		return false;
	write_ipv4(ip, packet, sizeof(*abort), IPPROTO_SCTP, htons(IP_DF));
	__builtin_memcpy(ip + 1, abort, sizeof(*abort));
	return true;
}

static __always_inline bool write_abort6(struct xdp_md *ctx, const struct packet *packet,
					 const struct abort *abort)
{
	struct pseudo6 ends = {};
	struct ipv6hdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);

	if ((void *)(ip + 1) + sizeof(*abort) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(ends.source, packet->flow.v6.vip, sizeof(ends.source));
	__builtin_memcpy(ends.destination, packet->flow.v6.client, sizeof(ends.destination));
	write_ipv6(ip, &ends, sizeof(*abort), IPPROTO_SCTP);
	__builtin_memcpy(ip + 1, abort, sizeof(*abort));
	return true;
}

/* `reason` if the frame is an answer now, else why there is none. */
static __always_inline enum reason reject_sctp(struct xdp_md *ctx, const struct packet *packet,
					       u32 service, u64 now, enum reason reason)
{
	int size = packet->network + sizeof(struct abort) +
		   (packet->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct abort abort = {};
	bool is_written;

	if (!has_unicast_macs(ctx) || !has_unicast_source(packet))
		return DROP_UNANSWERABLE;
	if (!build_abort(ctx, packet, &abort))
		return DROP_RESET;
	if (!reset_is_allowed(packet, service, now))
		return DROP_ANSWER;
	if (bpf_xdp_adjust_tail(ctx, size - (int)bpf_xdp_get_buff_len(ctx)))
		return DROP_INTERNAL;
	is_written = packet->ipv6 ? write_abort6(ctx, packet, &abort)
				  : write_abort4(ctx, packet, &abort);
	if (!is_written || !write_ethernet(ctx))
		return DROP_INTERNAL;
	return reason;
}

#endif
