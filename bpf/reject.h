/* SPDX-License-Identifier: GPL-2.0-only */
/* Reject: turn the packet into an answer to its sender, with the same VLAN tags.
 *
 * TCP gets a RST (RFC 9293, 3.10.7.1) without IP options and data, SCTP an ABORT (reject_sctp.h). A
 * datagram gets an ICMP port
 * unreachable that quotes it: its header and 8 bytes of data (RFC 792), or as much as fits into
 * 1280 bytes (RFC 4443). The rate of ICMP errors is limited (RFC 4443, 2.4 f), and so is that of
 * RSTs to one sender: a source address may be spoofed, and its owner must not be flooded. */
#ifndef XDPDIRECTOR_REJECT_H
#define XDPDIRECTOR_REJECT_H

#include "csum.h"
#include "guard.h"
#include "parse.h"
#include "icmp_error.h"

#define REPLY_TTL	64
#define QUOTED4_DATA	8 /* bytes behind the quoted IP header (RFC 792) */
#define IPV6_MIN_MTU	1280
#define QUOTED6		(IPV6_MIN_MTU - sizeof(struct ipv6hdr) - sizeof(struct icmp6hdr))
#define ANSWERS_A_JIFFY 4
#define RESETS_AT_ONCE	512 /* burst of RSTs to one sender; then one a jiffy */
#define LONGEST_LINK	(sizeof(struct ethhdr) + MAX_TAGS * sizeof(struct tag))
#define LOOPBACK	127  /* first octet of an IPv4 address */
#define MULTICAST	224  /* the same; from here on, with class E and broadcast */
#define MULTICAST6	0xff /* first octet of an IPv6 address */

_Static_assert(QUOTED6 <= MAX_SUMMED, "the checksum does not cover the quoted packet");
_Static_assert(LONGEST_LINK <= NETWORK_MASK, "a mask cuts off offsets of IP headers");

/* Type and code of an ICMP error, and the second word of its header. */
struct icmp_error {
	u8 type;
	u8 code;
	__be32 rest;
};

/* Build the RST for this segment, without checksum. False if there is none: a RST is never
 * answered. */
static __always_inline bool build_reset(struct xdp_md *ctx, const struct packet *packet,
					struct tcphdr *reset)
{
	void *end = (void *)(long)ctx->data_end;
	struct tcphdr *tcp = (void *)(long)ctx->data + (packet->transport & TRANSPORT_MASK);

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

/* The header of an answer from the VIP with so many bytes behind it. A port unreachable may be
 * fragmented (frag_off 0), as Linux's may. */
static __always_inline void write_ipv4(struct iphdr *ip, const struct packet *packet, u16 length,
				       u8 protocol, __be16 frag_off)
{
	struct iphdr header = { .version = 4,
				.ihl = sizeof(header) / 4,
				.tot_len = htons(sizeof(header) + length),
				.frag_off = frag_off,
				.ttl = REPLY_TTL,
				.protocol = protocol,
				.saddr = packet->flow.v4.vip,
				.daddr = packet->flow.v4.client };

	header.check = csum_fold(csum_add(&header, sizeof(header), 0));
	__builtin_memcpy(ip, &header, sizeof(header));
}

static __always_inline bool write_reset4(struct xdp_md *ctx, const struct packet *packet,
					 struct tcphdr *reset)
{
	struct pseudo4 pseudo = { .source = packet->flow.v4.vip,
				  .destination = packet->flow.v4.client,
				  .protocol = htons(IPPROTO_TCP),
				  .length = htons(sizeof(*reset)) };
	struct iphdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);

	if ((void *)(ip + 1) + sizeof(*reset) > (void *)(long)ctx->data_end)
		return false;
	reset->check =
		csum_fold(csum_add(reset, sizeof(*reset), csum_add(&pseudo, sizeof(pseudo), 0)));
	write_ipv4(ip, packet, sizeof(*reset), IPPROTO_TCP, htons(IP_DF));
	__builtin_memcpy(ip + 1, reset, sizeof(*reset));
	return true;
}

static __always_inline void write_ipv6(struct ipv6hdr *ip, const struct pseudo6 *pseudo, u16 length,
				       u8 protocol)
{
	*(__be32 *)ip = htonl(6 << 28);
	ip->payload_len = htons(length);
	ip->nexthdr = protocol;
	ip->hop_limit = REPLY_TTL;
	__builtin_memcpy(&ip->saddr, pseudo->source, sizeof(pseudo->source));
	__builtin_memcpy(&ip->daddr, pseudo->destination, sizeof(pseudo->destination));
}

static __always_inline bool write_reset6(struct xdp_md *ctx, const struct packet *packet,
					 struct tcphdr *reset)
{
	struct pseudo6 pseudo = { .length = htonl(sizeof(*reset)), .protocol = htonl(IPPROTO_TCP) };
	struct ipv6hdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);

	if ((void *)(ip + 1) + sizeof(*reset) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(pseudo.source, packet->flow.v6.vip, sizeof(pseudo.source));
	__builtin_memcpy(pseudo.destination, packet->flow.v6.client, sizeof(pseudo.destination));
	reset->check =
		csum_fold(csum_add(reset, sizeof(*reset), csum_add(&pseudo, sizeof(pseudo), 0)));
	write_ipv6(ip, &pseudo, sizeof(*reset), IPPROTO_TCP);
	__builtin_memcpy(ip + 1, reset, sizeof(*reset));
	return true;
}

/* True if the sender's token bucket has a RST left. A sender is an IPv4 address or an IPv6 /64.
 * Buckets are shared by hash; that does no harm, because a flood from many addresses spreads over
 * so many buckets that each sender gets little. */
static __always_inline bool reset_is_allowed(const struct packet *packet, u32 service_index,
					     u64 now)
{
	struct service *service = services.lookup(&service_index);
	u64 sender = packet->flow.v4.client, *paid_until;
	u32 place;

	if (!service)
		return false;
	if (packet->ipv6)
		sender = (u64)packet->flow.v6.client[0] << 32 | packet->flow.v6.client[1];
	place = fold64(sender * service->multipliers[0]) * service->multipliers[1] >>
		(64 - RESET_BITS);
	paid_until = resets.lookup(&place);
	return paid_until && take_tokens(paid_until, 1, RESETS_AT_ONCE - 1, now);
}

/* Turn the segment into a RST. */
static __always_inline enum reason reject_tcp(struct xdp_md *ctx, const struct packet *packet,
					      u32 service, u64 now, enum reason reason)
{
	int size = packet->network + sizeof(struct tcphdr) +
		   (packet->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct tcphdr reset = {};
	bool is_written;

	if (!build_reset(ctx, packet, &reset))
		return DROP_RESET;
	if (!reset_is_allowed(packet, service, now))
		return DROP_ANSWER;
	if (bpf_xdp_adjust_tail(ctx, size - (int)bpf_xdp_get_buff_len(ctx)))
		return DROP_INTERNAL;
	is_written = packet->ipv6 ? write_reset6(ctx, packet, &reset)
				  : write_reset4(ctx, packet, &reset);
	if (!is_written || !write_ethernet(ctx))
		return DROP_INTERNAL;
	return reason;
}

/* Move the link header of `link` bytes to the front of a frame that has grown there by `room`
 * bytes. */
static __always_inline bool move_link(struct xdp_md *ctx, u32 link, int room)
{
	void *to = (void *)(long)ctx->data, *from = to + room;

	if (from + LONGEST_LINK > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(to, from, sizeof(struct ethhdr));
	if (link > sizeof(struct ethhdr))
		__builtin_memcpy(to + sizeof(struct ethhdr), from + sizeof(struct ethhdr),
				 sizeof(struct tag));
	if (link > sizeof(struct ethhdr) + sizeof(struct tag))
		__builtin_memcpy(to + sizeof(struct ethhdr) + sizeof(struct tag),
				 from + sizeof(struct ethhdr) + sizeof(struct tag),
				 sizeof(struct tag));
	return true;
}

/* Make room for the new headers between the tags and the packet, and cut the packet to `length`
 * bytes. */
static __always_inline bool make_headroom(struct xdp_md *ctx, const struct packet *packet,
					  int headers, int length)
{
	u32 link = packet->network & NETWORK_MASK;

	if (bpf_xdp_adjust_tail(ctx, (int)link + length - (int)bpf_xdp_get_buff_len(ctx)) ||
	    bpf_xdp_adjust_head(ctx, -headers))
		return false;
	return move_link(ctx, link, headers);
}

static __always_inline bool write_icmp4(struct xdp_md *ctx, const struct packet *packet,
					const struct icmp_error *error, u32 length)
{
	struct icmphdr *icmp;
	struct iphdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);
	void *end = (void *)(long)ctx->data_end;
	__be32 rest = error->rest;
	u64 sum;

	icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) > end)
		return false;
	write_ipv4(ip, packet, sizeof(*icmp) + length, IPPROTO_ICMP, 0);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->type = error->type;
	icmp->code = error->code;
	icmp->un.gateway = rest;
	sum = csum_add(&rest, sizeof(rest), *(u16 *)icmp);
	sum = csum_add_bytes(icmp + 1, end, length, sum);
	icmp->checksum = csum_fold(sum);
	return true;
}

static __always_inline bool write_icmp6(struct xdp_md *ctx, const struct packet *packet,
					const struct icmp_error *error, u32 length)
{
	struct pseudo6 pseudo = { .protocol = htonl(IPPROTO_ICMPV6) };
	struct ipv6hdr *ip = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);
	struct icmp6hdr *icmp = (void *)(ip + 1);
	void *end = (void *)(long)ctx->data_end;
	__be32 rest = error->rest;
	u64 sum;

	if ((void *)(icmp + 1) > end)
		return false;
	pseudo.length = htonl(sizeof(*icmp) + length);
	__builtin_memcpy(pseudo.source, packet->flow.v6.vip, sizeof(pseudo.source));
	__builtin_memcpy(pseudo.destination, packet->flow.v6.client, sizeof(pseudo.destination));
	write_ipv6(ip, &pseudo, sizeof(*icmp) + length, IPPROTO_ICMPV6);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->icmp6_type = error->type;
	icmp->icmp6_code = error->code;
	icmp->icmp6_dataun.un_data32[0] = rest;
	sum = csum_add(&pseudo, sizeof(pseudo), *(u16 *)icmp);
	sum = csum_add_bytes(icmp + 1, end, length, csum_add(&rest, sizeof(rest), sum));
	icmp->icmp6_cksum = csum_fold(sum);
	return true;
}

/* Turn the packet into an ICMP error about it. */
static __always_inline enum reason answer_by_icmp(struct xdp_md *ctx, const struct packet *packet,
						  const struct icmp_error *error, u32 now,
						  enum reason reason)
{
	u32 quoted = packet->ipv6 ? QUOTED6 : packet->transport - packet->network + QUOTED4_DATA;
	u32 headers = packet->ipv6 ? sizeof(struct ipv6hdr) + sizeof(struct icmp6hdr)
				   : sizeof(struct iphdr) + sizeof(struct icmphdr);
	bool is_written;

	if (!take_allowance(ALLOWANCE_ANSWERS, ANSWERS_A_JIFFY, now))
		return DROP_ANSWER;
	if (quoted > packet->length)
		quoted = packet->length;
	quoted &= LENGTH_MASK;
	if (!make_headroom(ctx, packet, headers, quoted))
		return DROP_INTERNAL;
	is_written = packet->ipv6 ? write_icmp6(ctx, packet, error, quoted)
				  : write_icmp4(ctx, packet, error, quoted);
	if (!is_written || !write_ethernet(ctx))
		return DROP_INTERNAL;
	return reason;
}

static __always_inline enum reason reject_udp(struct xdp_md *ctx, const struct packet *packet,
					      u32 now, enum reason reason)
{
	struct icmp_error error = {
		.type = packet->ipv6 ? ICMPV6_DEST_UNREACH : ICMP_DEST_UNREACH,
		.code = packet->ipv6 ? ICMPV6_PORT_UNREACH : ICMP_PORT_UNREACH,
	};

	return answer_by_icmp(ctx, packet, &error, now, reason);
}

/* `mtu`: the longest packet that would have been forwarded (RFC 1191, 4; RFC 4443, 3.2). */
static __always_inline enum reason reject_too_big(struct xdp_md *ctx, const struct packet *packet,
						  u32 mtu, u32 now)
{
	struct icmp_error error = {
		.type = packet->ipv6 ? ICMPV6_PKT_TOOBIG : ICMP_DEST_UNREACH,
		.code = packet->ipv6 ? 0 : ICMP_FRAG_NEEDED,
		.rest = htonl(mtu),
	};

	return answer_by_icmp(ctx, packet, &error, now, REJECT_TOO_BIG);
}

static __always_inline bool has_unicast_macs(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	u8 any = 0, other = 0;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return false;
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++) {
		any |= eth->h_source[i];
		other |= eth->h_source[i] ^ eth->h_dest[i];
	}
	return any && other && !(eth->h_source[0] & 1);
}

/* True for a unicast address: not multicast, broadcast, unspecified, loopback or class E (RFC 1122,
 * 3.2.2; RFC 4443, 2.4 e). */
static __always_inline bool has_unicast_source(const struct packet *packet)
{
	const __be32 *v6 = packet->flow.v6.client;
	u8 first = ntohl(packet->ipv6 ? v6[0] : packet->flow.v4.client) >> 24;

	if (packet->ipv6)
		return first != MULTICAST6 && (v6[0] | v6[1] | v6[2] || ntohl(v6[3]) > 1);
	return first != 0 && first != LOOPBACK && first < MULTICAST;
}

/* The scratch's reason if the frame is an answer now, else why there is none. */
static __always_inline enum reason reject(struct xdp_md *ctx, const struct scratch *scratch)
{
	const struct packet *packet = &scratch->packet;
	u64 now = scratch->now;

	if (!has_unicast_macs(ctx) || !has_unicast_source(packet))
		return DROP_UNANSWERABLE;
	if (scratch->reason == REJECT_TOO_BIG)
		return reject_too_big(ctx, packet, scratch->mtu, now);
	if (packet->protocol == IPPROTO_UDP)
		return reject_udp(ctx, packet, now, scratch->reason);
	return reject_tcp(ctx, packet, scratch->service, now, scratch->reason);
}

#endif
