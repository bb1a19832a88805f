/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers made here. A TCP RST (RFC 9293, 3.10.7.1) turns the frame round: same tags, no IP options, no data. */
#ifndef XDPDIRECTOR_REPLY_H
#define XDPDIRECTOR_REPLY_H

#include "parse.h"
#include "verdict.h"

#define REPLY_TTL  64
#define MAX_OFFSET 0x3fff /* of a transport header: what parse.h follows ends well below */

struct pseudo4 {
	__be32 source;
	__be32 destination;
	__be16 protocol;
	__be16 length;
};

struct pseudo6 {
	__be32 source[4];
	__be32 destination[4];
	__be32 length;
	__be32 protocol;
};

static __always_inline __be16 fold(s64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The RST for this segment, without checksum. False when there is none: a RST is never answered. */
static __always_inline bool make_reset(struct xdp_md *ctx, const struct packet *packet,
				       struct tcphdr *reset)
{
	void *end = (void *)(long)ctx->data_end;
	struct tcphdr *tcp = (void *)(long)ctx->data + (packet->transport & MAX_OFFSET);

	if (packet->flags & TCP_RST || (void *)(tcp + 1) > end)
		return false;
	reset->source = tcp->dest;
	reset->dest = tcp->source;
	reset->doff = sizeof(*reset) / 4;
	reset->rst = 1;
	if (tcp->ack) {
		reset->seq = tcp->ack_seq;
	} else {
		reset->ack = 1;
		reset->ack_seq = htonl(ntohl(tcp->seq) + packet->payload - tcp->doff * 4 +
				       tcp->syn + tcp->fin);
	}
	return true;
}

static __always_inline bool write_ethernet(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	u8 client[ETH_ALEN];

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, client, ETH_ALEN);
	return true;
}

static __always_inline bool write_reset4(struct xdp_md *ctx, const struct packet *packet,
					 struct tcphdr *reset)
{
	struct pseudo4 pseudo = { .source = packet->flow.v4.vip,
				  .destination = packet->flow.v4.client,
				  .protocol = htons(IPPROTO_TCP),
				  .length = htons(sizeof(*reset)) };
	struct iphdr header = { .version = 4,
				.ihl = sizeof(header) / 4,
				.tot_len = htons(sizeof(header) + sizeof(*reset)),
				.frag_off = htons(0x4000), /* don't fragment */
				.ttl = REPLY_TTL,
				.protocol = IPPROTO_TCP,
				.saddr = packet->flow.v4.vip,
				.daddr = packet->flow.v4.client };
	struct iphdr *ip = (void *)(long)ctx->data + (packet->network & 0x3f);

	if ((void *)(ip + 1) + sizeof(*reset) > (void *)(long)ctx->data_end)
		return false;
	header.check = fold(bpf_csum_diff(0, 0, (void *)&header, sizeof(header), 0));
	reset->check = fold(bpf_csum_diff(0, 0, (void *)reset, sizeof(*reset),
					  bpf_csum_diff(0, 0, (void *)&pseudo, sizeof(pseudo), 0)));
	__builtin_memcpy(ip, &header, sizeof(header));
	__builtin_memcpy(ip + 1, reset, sizeof(*reset));
	return true;
}

static __always_inline bool write_reset6(struct xdp_md *ctx, const struct packet *packet,
					 struct tcphdr *reset)
{
	struct pseudo6 pseudo = { .length = htonl(sizeof(*reset)), .protocol = htonl(IPPROTO_TCP) };
	struct ipv6hdr *ip = (void *)(long)ctx->data + (packet->network & 0x3f);

	if ((void *)(ip + 1) + sizeof(*reset) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(pseudo.source, packet->flow.v6.vip, sizeof(pseudo.source));
	__builtin_memcpy(pseudo.destination, packet->flow.v6.client, sizeof(pseudo.destination));
	reset->check = fold(bpf_csum_diff(0, 0, (void *)reset, sizeof(*reset),
					  bpf_csum_diff(0, 0, (void *)&pseudo, sizeof(pseudo), 0)));
	*(__be32 *)ip = htonl(6 << 28);
	ip->payload_len = htons(sizeof(*reset));
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = REPLY_TTL;
	__builtin_memcpy(&ip->saddr, pseudo.source, sizeof(pseudo.source));
	__builtin_memcpy(&ip->daddr, pseudo.destination, sizeof(pseudo.destination));
	__builtin_memcpy(ip + 1, reset, sizeof(*reset));
	return true;
}

/* Answer the segment with a RST. */
static __always_inline int reject(struct xdp_md *ctx, const struct packet *packet,
				  enum reason reason)
{
	int size = packet->network + sizeof(struct tcphdr) +
		   (packet->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct tcphdr reset = {};
	bool is_written;

	if (!make_reset(ctx, packet, &reset))
		return verdict(XDP_DROP, DROP_RESET);
	if (bpf_xdp_adjust_tail(ctx, size - (int)(ctx->data_end - ctx->data)))
		return verdict(XDP_DROP, DROP_INTERNAL);
	is_written = packet->ipv6 ? write_reset6(ctx, packet, &reset)
				  : write_reset4(ctx, packet, &reset);
	if (!is_written || !write_ethernet(ctx))
		return verdict(XDP_DROP, DROP_INTERNAL);
	return verdict(XDP_TX, reason);
}

#endif
