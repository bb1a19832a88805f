/* SPDX-License-Identifier: GPL-2.0-only */
/* Parses a frame into struct packet. Each parser moves the cursor past its header, or sets the
 * reason of a malformed packet. Knows nothing of services or VIPs.
 *
 * Up to two VLAN tags (802.1Q, 802.1ad), IPv4 with options, IPv6 with up to MAX_EXTENSIONS
 * extension headers (RFC 8200), TCP, UDP, SCTP (RFC 9260) up to its first chunk. Lengths are checked against the frame; checksums are left to the
 * backend. */
#ifndef XDPDIRECTOR_PARSE_H
#define XDPDIRECTOR_PARSE_H

#include "types.h"

#define PLAIN_IPV4	 0x45 /* version 4, header without options */
#define MAX_TAGS	 2
#define MAX_EXTENSIONS	 6
#define FRAGMENT_BITS	 0x3fff /* more fragments, and the offset (RFC 791) */
#define FRAGMENT_OFFSET	 0x1fff
#define FRAGMENT6_BITS	 0xfff9 /* the same in IPv6 (RFC 8200, 4.5) */
#define FRAGMENT6_OFFSET 0xfff8
#define IP_DF		 0x4000 /* don't fragment */
#define NETWORK_MASK	 0x3f	/* bounds of an IP header's offset, for the verifier */
#define TRANSPORT_MASK	 0x3fff /* and of a transport header's */
#define EXTENSION_UNIT	 8	/* bytes: an extension header is a multiple of it */
#define TCP_FLAGS	 13	/* their offset in the header */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* `flags` of an SCTP packet: its first chunk (RFC 9260, 3.2) as TCP would say it, so that both have
 * the same states. HEARTBEATs have none. */
#define SCTP_DATA   0x08 /* beside TCP_ACK: user data */
#define SCTP_COOKIE 0x20 /* beside TCP_ACK: a COOKIE ECHO, which only who got an INIT ACK sends */

struct tag {
	__be16 control;
	__be16 next;
};

struct extension {
	u8 next;
	u8 length; /* in EXTENSION_UNITs, not counting the first one */
};

struct fragment_header {
	u8 next;
	u8 reserved;
	__be16 offset; /* and the flag for more fragments */
	__be32 id;
};

/* RFC 9260, 3.1 and 3.2. */
struct sctp_header {
	__be16 source;
	__be16 destination;
	__be32 tag;
	u32 checksum;
};

struct sctp_chunk {
	u8 type;
	u8 flags;
	__be16 length;
};

enum sctp_chunk_type {
	SCTP_CHUNK_DATA = 0,
	SCTP_CHUNK_INIT = 1,
	SCTP_CHUNK_INIT_ACK = 2,
	SCTP_CHUNK_HEARTBEAT = 4,
	SCTP_CHUNK_HEARTBEAT_ACK = 5,
	SCTP_CHUNK_ABORT = 6,
	SCTP_CHUNK_SHUTDOWN = 7,
	SCTP_CHUNK_SHUTDOWN_ACK = 8,
	SCTP_CHUNK_ERROR = 9,
	SCTP_CHUNK_COOKIE_ECHO = 10,
	SCTP_CHUNK_COOKIE_ACK = 11,
	SCTP_CHUNK_SHUTDOWN_COMPLETE = 14,
	SCTP_CHUNK_I_DATA = 64, /* RFC 8260 */
};

/* The first bytes of TCP, UDP and SCTP headers. */
struct ports {
	__be16 source;
	__be16 destination;
};

/* Keeps the look-ups of two branches in different maps apart. The compiler would merge them into
 * one call with a variable map, which the kernel cannot inline. */
static __always_inline void *not_merged(void *found)
{
	asm volatile("" : "+r"(found));
	return found;
}

/* Clear the packet. Without the barrier the compiler keeps each field in a variable of its own and
 * spills them to the stack wherever branches meet: a quarter more instructions for each packet. */
static __always_inline void packet_init(struct packet *packet)
{
	__builtin_memset(packet, 0, sizeof(*packet));
	asm volatile("" : : "r"(packet) : "memory");
}

/* `at` is between `start` and `end`, the bytes that can be read. `beyond`: how many more the frame has in
 * further buffers (bpf_xdp_get_buff_len()). */
struct cursor {
	void *start;
	void *at;
	void *end;
	u32 beyond;
};

/* The EtherType behind the tags; 0 for a frame that is too short or has a group address. */
static __always_inline __be16 parse_ethernet(struct cursor *cursor)
{
	struct ethhdr *eth = cursor->at;
	struct tag *tag;
	__be16 type;

	if ((void *)(eth + 1) > cursor->end || eth->h_dest[0] & 1)
		return 0;
	type = ((__be16 *)eth)[6]; /* the compiler reads a packed struct byte by byte */
	cursor->at = eth + 1;
	if (type == htons(ETH_P_IP))
		return type;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (type != htons(ETH_P_8021Q) && type != htons(ETH_P_8021AD))
			break;
		tag = cursor->at;
		if ((void *)(tag + 1) > cursor->end)
			return 0;
		type = tag->next;
		cursor->at = tag + 1;
	}
	return type;
}

/* Bytes of a frame that are not in its first buffer: those of a jumbo frame, or of merged segments. */
static __always_inline u32 bytes_beyond(struct xdp_md *ctx)
{
	return bpf_xdp_get_buff_len(ctx) - opaque(ctx->data_end - ctx->data);
}

static __always_inline void set_fragment(struct packet *packet, __be16 offset, u32 id)
{
	packet->fragment = offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
	packet->id = id;
}

/* True if the frame has so many bytes left. Sizes are compared instead of pointers: Linux 6.1's
 * verifier knows no bounds of a byte-swapped number, and refuses to add it to a pointer. */
static __always_inline bool has_bytes(const struct cursor *cursor, u16 bytes)
{
	if (bytes <= cursor->end - cursor->at)
		return true;
	return cursor->beyond && bytes <= (s64)opaque(cursor->end - cursor->at) + cursor->beyond;
}

/* The fixed part of the header; NULL if the frame is too short, or the version is another. */
static __always_inline const struct iphdr *ipv4_header(const struct cursor *cursor)
{
	const struct iphdr *ip = cursor->at;

	return (void *)(ip + 1) <= cursor->end &&
			       (*(const u8 *)ip == PLAIN_IPV4 || ip->version == 4)
		       ? ip
		       : NULL;
}

static __always_inline const struct ipv6hdr *ipv6_header(const struct cursor *cursor)
{
	const struct ipv6hdr *ip = cursor->at;

	return (void *)(ip + 1) <= cursor->end && ip->version == 6 ? ip : NULL;
}

/* Read a header of `header` bytes, but not its fragment fields. False, with `error` set, if it
 * contradicts itself or the frame. */
static __always_inline bool read_ipv4(struct cursor *cursor, const struct iphdr *ip, u32 header,
				      struct packet *packet)
{
	bool is_whole;

	packet->flow.v4.client = ip->saddr;
	packet->flow.v4.vip = ip->daddr;
	packet->protocol = ip->protocol;
	packet->length = ntohs(ip->tot_len);
	packet->payload = packet->length - header;
	is_whole = header >= sizeof(*ip) && packet->length >= header &&
		   has_bytes(cursor, packet->length);
	if (!is_whole)
		packet->error = DROP_MALFORMED_IP;
	cursor->at += header;
	return is_whole;
}

static __always_inline void parse_ipv4(struct cursor *cursor, const struct iphdr *ip,
				       struct packet *packet)
{
	if (read_ipv4(cursor, ip, ip->ihl * 4, packet) && ip->frag_off & htons(FRAGMENT_BITS))
		set_fragment(packet, ip->frag_off & htons(FRAGMENT_OFFSET), ip->id);
}

static __always_inline bool is_extension(u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

/* The size of an extension header of which the frame has the first 8 bytes. */
static __always_inline u32 read_extension(const struct extension *extension, struct packet *packet)
{
	const struct fragment_header *fragment = (void *)extension;

	if (packet->protocol != IPPROTO_FRAGMENT)
		return (extension->length + 1) * EXTENSION_UNIT;
	if (fragment->offset & htons(FRAGMENT6_BITS))
		set_fragment(packet, fragment->offset & htons(FRAGMENT6_OFFSET), fragment->id);
	return sizeof(*fragment);
}

static __always_inline void parse_extensions(struct cursor *cursor, struct packet *packet)
{
	struct extension *extension;
	u32 size;

#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (!is_extension(packet->protocol) || packet->fragment == FRAGMENT_LATER)
			break;
		extension = cursor->at;
		if ((void *)extension + sizeof(struct fragment_header) > cursor->end) {
			packet->error = DROP_MALFORMED_IP;
			return;
		}
		size = read_extension(extension, packet);
		if (size > packet->payload) {
			packet->error = DROP_MALFORMED_IP;
			return;
		}
		packet->protocol = extension->next;
		packet->payload -= size;
		cursor->at += size;
	}
	if (is_extension(packet->protocol) && packet->fragment != FRAGMENT_LATER)
		packet->error = DROP_EXTENSION_HEADERS;
}

static __always_inline bool parse_ipv6(struct cursor *cursor, const struct ipv6hdr *ip,
				       struct packet *packet)
{
	packet->ipv6 = 1;
	__builtin_memcpy(packet->flow.v6.client, &ip->saddr, sizeof(packet->flow.v6.client));
	__builtin_memcpy(packet->flow.v6.vip, &ip->daddr, sizeof(packet->flow.v6.vip));
	packet->protocol = ip->nexthdr;
	packet->payload = ntohs(ip->payload_len);
	packet->length = packet->payload + sizeof(*ip);
	cursor->at += sizeof(*ip);
	if (has_bytes(cursor, packet->payload))
		return true;
	packet->error = DROP_MALFORMED_IP;
	return false;
}

static __always_inline bool has_ports(u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* `ports`: struct ports. Stored as one word because it is loaded as one: a load that spans several
 * stores stalls until they have reached the cache. */
static __always_inline void set_ports(struct packet *packet, const void *ports)
{
	u32 word = *(const u32 *)ports;

	if (packet->ipv6) {
		*(u32 *)&packet->flow.v6.client_port = word;
		packet->flow.v6.protocol = packet->protocol;
	} else {
		*(u32 *)&packet->flow.v4.client_port = word;
		packet->flow.v4.protocol = packet->protocol;
	}
}

static __always_inline void parse_tcp(const struct cursor *cursor, struct packet *packet)
{
	const struct tcphdr *tcp = cursor->at;
	u32 header;

	if (packet->payload < sizeof(*tcp) || (void *)(tcp + 1) > cursor->end) {
		packet->error = DROP_MALFORMED_TCP;
		return;
	}
	header = tcp->doff * 4;
	if (header < sizeof(*tcp) || header > packet->payload)
		packet->error = DROP_MALFORMED_TCP;
	packet->flags = ((u8 *)tcp)[TCP_FLAGS];
	set_ports(packet, tcp);
}

static __always_inline void parse_udp(const struct cursor *cursor, struct packet *packet)
{
	const struct udphdr *udp = cursor->at;
	u16 length;

	if (packet->payload < sizeof(*udp) || (void *)(udp + 1) > cursor->end) {
		packet->error = DROP_MALFORMED_UDP;
		return;
	}
	length = ntohs(udp->len);
	if (length < sizeof(*udp) || (length > packet->payload && !packet->fragment))
		packet->error = DROP_MALFORMED_UDP;
	set_ports(packet, udp);
}

static __always_inline u8 sctp_flags(u8 type)
{
	switch (type) {
	case SCTP_CHUNK_INIT:
		return TCP_SYN;
	case SCTP_CHUNK_INIT_ACK:
		return TCP_SYN | TCP_ACK;
	case SCTP_CHUNK_HEARTBEAT:
	case SCTP_CHUNK_HEARTBEAT_ACK:
		return 0;
	case SCTP_CHUNK_ABORT:
		return TCP_RST;
	case SCTP_CHUNK_SHUTDOWN:
	case SCTP_CHUNK_SHUTDOWN_ACK:
	case SCTP_CHUNK_SHUTDOWN_COMPLETE:
		return TCP_FIN | TCP_ACK;
	case SCTP_CHUNK_COOKIE_ECHO:
		return TCP_ACK | SCTP_COOKIE;
	case SCTP_CHUNK_DATA:
	case SCTP_CHUNK_I_DATA:
		return TCP_ACK | SCTP_DATA;
	default:
		return TCP_ACK;
	}
}

static __always_inline void parse_sctp(const struct cursor *cursor, struct packet *packet)
{
	const struct sctp_header *sctp = cursor->at;
	const struct sctp_chunk *chunk = (const void *)(sctp + 1);
	u16 length;

	if (packet->payload < sizeof(*sctp) + sizeof(*chunk) || (void *)(chunk + 1) > cursor->end) {
		packet->error = DROP_MALFORMED_SCTP;
		return;
	}
	length = ntohs(chunk->length);
	if (length < sizeof(*chunk) ||
	    (length > packet->payload - sizeof(*sctp) && !packet->fragment))
		packet->error = DROP_MALFORMED_SCTP;
	packet->flags = sctp_flags(chunk->type);
	set_ports(packet, sctp);
}

static __always_inline void parse_header(const struct cursor *cursor, struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		parse_tcp(cursor, packet);
	else
		parse_udp(cursor, packet);
}

/* Ports and flags. Protocols without ports have port 0; later fragments have no ports. */
static __always_inline void parse_transport(struct cursor *cursor, struct packet *packet)
{
	if (packet->ipv6 && !packet->error)
		parse_extensions(cursor, packet);
	if (packet->error)
		return;
	packet->transport = cursor->at - cursor->start;
	if (packet->fragment == FRAGMENT_LATER)
		return;
	if (packet->protocol == IPPROTO_SCTP)
		parse_sctp(cursor, packet);
	else if (has_ports(packet->protocol))
		parse_header(cursor, packet);
	else
		set_ports(packet, &(u32){ 0 });
}

/* False if it is no IP packet to a single host. */
static __always_inline bool parse(struct cursor *cursor, struct packet *packet)
{
	__be16 type = parse_ethernet(cursor);
	u16 network = cursor->at - cursor->start;
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;

	packet_init(packet);
	packet->network = network;
	if (type == htons(ETH_P_IP)) {
		ip = ipv4_header(cursor);
		if (!ip)
			return false;
		parse_ipv4(cursor, ip, packet);
	} else if (type == htons(ETH_P_IPV6)) {
		ip6 = ipv6_header(cursor);
		if (!ip6)
			return false;
		parse_ipv6(cursor, ip6, packet);
	} else {
		return false;
	}
	parse_transport(cursor, packet);
	return true;
}

/* The TCP header of a parsed packet; NULL (never) if the frame does not have it. */
static __always_inline const struct tcphdr *tcp_header(struct xdp_md *ctx,
						       const struct packet *packet)
{
	const struct tcphdr *tcp = (void *)(long)ctx->data + (packet->transport & TRANSPORT_MASK);

	return (void *)(tcp + 1) <= (void *)(long)ctx->data_end ? tcp : NULL;
}

static __always_inline bool has_data(struct xdp_md *ctx, const struct packet *packet)
{
	const struct tcphdr *tcp = tcp_header(ctx, packet);

	if (packet->protocol == IPPROTO_SCTP)
		return packet->flags & (SCTP_DATA | SCTP_COOKIE);
	return packet->protocol == IPPROTO_TCP && tcp && packet->payload > tcp->doff * 4;
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/* True for TCP and SCTP, whose packets show what they are to a connection. */
static __always_inline bool has_connections(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_SCTP;
}

/* True for a packet that opens a TCP connection (RFC 9293, 3.5), or an SCTP association. */
static __always_inline bool is_opening(const struct packet *packet)
{
	return (packet->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* True for a SYN and ACK, or an INIT ACK. */
static __always_inline bool is_accepting(const struct packet *packet)
{
	return (packet->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK);
}

static __always_inline bool is_midstream(const struct packet *packet)
{
	return has_connections(packet) && !is_opening(packet);
}

#endif
