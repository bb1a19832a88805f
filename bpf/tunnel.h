/* SPDX-License-Identifier: GPL-2.0-only */
/* Encapsulation for backends in other networks: IP in IP (RFC 2003, RFC 2473, RFC 4213), or in UDP
 * without a header between (GUE, variant 1: draft-ietf-intarea-gue; `fou` and `gue` of Linux take
 * it). The inner packet stays as it came, its TTL too: whoever routes it behind the tunnel
 * decrements that.
 *
 * Outer header:
 * - TOS or traffic class, with ECN: the inner one's (RFC 6040, normal mode).
 * - TTL or hop limit 64. The inner one's would end packets of clients that are far away.
 * - DF as the inner header's (RFC 2003, 3.1). Around IPv6 it is not set, since `mtu` is
 *   configured, not discovered (RFC 4213, 3.2.1).
 * - The source is the director's address, or one under a prefix whose other bits are the flow's
 *   hash. That, the UDP source port and the IPv6 flow label (RFC 6438) spread flows over the
 *   backend's receive queues and over equal routes.
 * - No UDP checksum (RFC 6935, RFC 6936): the inner packet has its own. */
#ifndef XDPDIRECTOR_TUNNEL_H
#define XDPDIRECTOR_TUNNEL_H

#include "csum.h"
#include "forward.h"
#include "reject.h"
#include "ring.h"

#define TUNNEL_TTL   64
#define GUE_PORTS    0xc000 /* first of the source ports: the dynamic ones (RFC 6335) */
#define FLOW_LABEL   0xfffff
#define IPV6_VERSION (6 << 28)
#define LAST_WORD    3 /* of a tunnel's address: all of an IPv4 one */
#define CLASS_SHIFT  20
#define CLASS_MASK   0xff

static __always_inline u32 outer_size(const struct tunnel *tunnel)
{
	return (tunnel->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
	       (tunnel->kind == TUNNEL_GUE ? sizeof(struct udphdr) : 0);
}

/* The longest packet that the tunnel takes. IPv6 has no shorter MTU than 1280 (RFC 8200, 5). */
static __always_inline u32 inner_mtu(const struct packet *packet, const struct tunnel *tunnel)
{
	u32 most = tunnel->mtu - outer_size(tunnel);

	return packet->ipv6 && most < IPV6_MIN_MTU ? IPV6_MIN_MTU : most;
}

/* The same for all packets of a flow, and for all fragments of a packet, which lack the ports. */
static __always_inline u32 tunnel_hash(const struct packet *packet)
{
	const __be32 *client = packet->flow.v6.client, *vip = packet->flow.v6.vip;
	u64 hash, ports;

	if (packet->ipv6) {
		hash = golden_hash((u64)client[0] << 32 | client[1]);
		hash = golden_hash(hash ^ ((u64)client[2] << 32 | client[3]));
		hash ^= (u64)vip[2] << 32 | vip[3];
		ports = *(const u32 *)&packet->flow.v6.client_port;
	} else {
		hash = (u64)packet->flow.v4.client << 32 | packet->flow.v4.vip;
		ports = *(const u32 *)&packet->flow.v4.client_port;
	}
	hash = golden_hash(hash);
	if (!packet->fragment)
		hash ^= ports;
	return golden_hash(hash) * GOLDEN_RATIO >> 32;
}

/* TOS or traffic class of the inner packet, and its DF. */
struct inner {
	u32 class;
	__be16 df;
};

static __always_inline bool read_inner(const void *at, const void *end, bool ipv6,
				       struct inner *inner)
{
	const struct iphdr *ip = at;

	if ((const void *)(ip + 1) > end)
		return false;
	inner->class = ipv6 ? ntohl(*(const __be32 *)at) >> CLASS_SHIFT & CLASS_MASK : ip->tos;
	inner->df = ipv6 ? 0 : ip->frag_off & htons(IP_DF);
	return true;
}

static __always_inline void write_udp(struct udphdr *udp, const struct tunnel *tunnel, u16 length,
				      u32 hash)
{
	udp->source = htons(GUE_PORTS | hash >> 16);
	udp->dest = tunnel->port;
	udp->len = htons(length);
	udp->check = 0;
}

static __always_inline __be32 outer_source(const struct tunnel *tunnel, u32 hash)
{
	return tunnel->source[LAST_WORD] | (htonl(hash) & tunnel->spread);
}

static __always_inline bool write_outer4(void *at, const void *end, const struct packet *packet,
					 const struct tunnel *tunnel, const struct inner *inner,
					 u32 hash)
{
	bool is_gue = tunnel->kind == TUNNEL_GUE;
	struct iphdr *ip = at;
	struct iphdr header = {
		.version = 4,
		.ihl = sizeof(header) / 4,
		.tos = inner->class,
		.tot_len = htons(packet->length + outer_size(tunnel)),
		.id = inner->df ? 0 : bpf_get_prandom_u32(), /* RFC 6864, 4.1 */
		.frag_off = inner->df,
		.ttl = TUNNEL_TTL,
		.protocol = is_gue	   ? IPPROTO_UDP
			    : packet->ipv6 ? IPPROTO_IPV6
					   : IPPROTO_IPIP,
		.saddr = outer_source(tunnel, hash),
		.daddr = tunnel->destination[LAST_WORD],
	};

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > end)
		return false;
	header.check = csum_fold(csum_add(&header, sizeof(header), 0));
	__builtin_memcpy(ip, &header, sizeof(header));
	if (is_gue)
		write_udp((void *)(ip + 1), tunnel, packet->length + sizeof(struct udphdr), hash);
	return true;
}

static __always_inline bool write_outer6(void *at, const void *end, const struct packet *packet,
					 const struct tunnel *tunnel, const struct inner *inner,
					 u32 hash)
{
	bool is_gue = tunnel->kind == TUNNEL_GUE;
	struct ipv6hdr *ip = at;
	__be32 *source;

	if ((const void *)(ip + 1) + sizeof(struct udphdr) > end)
		return false;
	*(__be32 *)ip = htonl(IPV6_VERSION | inner->class << CLASS_SHIFT | (hash & FLOW_LABEL));
	ip->payload_len = htons(packet->length + outer_size(tunnel) - sizeof(*ip));
	ip->nexthdr = is_gue ? IPPROTO_UDP : packet->ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->hop_limit = TUNNEL_TTL;
	source = ip->saddr.in6_u.u6_addr32;
	__builtin_memcpy(source, tunnel->source, sizeof(tunnel->source));
	source[LAST_WORD] = outer_source(tunnel, hash);
	__builtin_memcpy(&ip->daddr, tunnel->destination, sizeof(tunnel->destination));
	if (is_gue)
		write_udp((void *)(ip + 1), tunnel, packet->length + sizeof(struct udphdr), hash);
	return true;
}

/* Make room between link header and packet, and write the new link header: with the tag of the
 * backend's VLAN, or the tags as they came. Returns its length, or 0. */
static __always_inline u32 write_link(struct xdp_md *ctx, const struct packet *packet,
				      const struct backend *backend, const struct tunnel *tunnel)
{
	u32 link = packet->network & NETWORK_MASK, size = sizeof(struct ethhdr);
	__be16 type = tunnel->ipv6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	struct ethhdr *eth;
	__be16 *link_type;
	struct tag *tag;

	if (backend->vlan == VLAN_AS_IT_CAME) {
		if (bpf_xdp_adjust_head(ctx, -(int)outer_size(tunnel)) ||
		    !move_link(ctx, link, outer_size(tunnel)))
			return 0;
		size = link;
	} else {
		size += backend->vlan ? sizeof(struct tag) : 0;
		if (bpf_xdp_adjust_head(ctx, (int)link - (int)size - (int)outer_size(tunnel)))
			return 0;
	}
	eth = (void *)(long)ctx->data;
	tag = (void *)(eth + 1);
	if ((void *)(tag + 1) > (void *)(long)ctx->data_end)
		return 0;
	__builtin_memcpy(eth, backend->addresses, sizeof(backend->addresses));
	if (backend->vlan != VLAN_AS_IT_CAME && backend->vlan) {
		eth->h_proto = htons(ETH_P_8021Q);
		tag->control = htons(backend->vlan);
	}
	link_type = (void *)eth + ((size - sizeof(type)) & NETWORK_MASK);
	if ((void *)(link_type + 1) > (void *)(long)ctx->data_end)
		return 0;
	*link_type = type;
	return size;
}

/* False if the frame has no room for the headers. */
static __always_inline bool encapsulate(struct xdp_md *ctx, const struct packet *packet,
					const struct backend *backend, const struct tunnel *tunnel)
{
	void *at = (void *)(long)ctx->data + (packet->network & NETWORK_MASK);
	u32 hash = tunnel_hash(packet), size;
	struct inner inner;
	void *end;

	if (!read_inner(at, (void *)(long)ctx->data_end, packet->ipv6, &inner))
		return false;
	size = write_link(ctx, packet, backend, tunnel);
	if (!size)
		return false;
	at = (void *)(long)ctx->data + (size & NETWORK_MASK);
	end = (void *)(long)ctx->data_end;
	return tunnel->ipv6 ? write_outer6(at, end, packet, tunnel, &inner, hash)
			    : write_outer4(at, end, packet, tunnel, &inner, hash);
}

#endif
