/* SPDX-License-Identifier: GPL-2.0-only */
/* Baselines: the least that a packet can cost. `./lab bench` compares the director with
 * them. Each forwards IPv4 TCP by rewriting Ethernet addresses, in the most direct way, and does
 * only what its comment says.
 *
 * The drivers write the next flow into the frame and tail-call the program under test. So a program
 * that knows nothing of them, such as the director, runs over many flows, and all programs pay for
 * the same driver. */
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>

#define RING_SLOTS   65537
#define TARGET	     0
#define PORT_BITS    6		/* each client address has 2^6 flows, PORT_STEP apart */
#define FIRST_CLIENT 0xc6120000 /* 198.18.0.0/15: benchmarks (RFC 2544) */
#define FIRST_PORT   1024
#define PORT_STEP    1009

struct flow {
	__be32 client;
	__be32 vip;
	__be16 client_port;
	__be16 port;
	u32 protocol;
};

struct listener {
	__be32 address;
	__be16 port;
	__be16 protocol;
};

struct service {
	u32 index;
	u32 ring_start;
};

struct backend {
	u32 addresses[3]; /* destination and source MAC of the new frame */
	u32 pad;
};

struct count {
	u64 packets;
	u64 bytes;
};

/* Which flows a driver makes on this CPU: first + (a number under the mask). */
struct drive {
	u64 next;
	u32 first;
	u32 mask;
	u32 random;	  /* in random order; else each once, then again */
	u32 addresses[3]; /* used by `generate` */
	u32 services; /* mask of the bits that a flow's number changes in its destination port */
};

#define PINNED(type, key, value, name, entries) \
	BPF_TABLE_PINNED(type, key, value, name, entries, PIN_DIR #name)

PINNED("lru_hash", struct flow, u32, flows, MAX_CONNECTIONS);
PINNED("hash", struct listener, struct service, listeners, MAX_LISTENERS);
PINNED("array", u32, u32, ring, RING_SLOTS);
PINNED("array", u32, struct backend, backends, MAX_BACKENDS);
PINNED("percpu_array", u32, struct count, service_counts, MAX_SERVICES);
PINNED("percpu_array", u32, struct count, backend_counts, MAX_BACKENDS);

PINNED("percpu_array", u32, struct drive, drives, 1);
PINNED("prog", u32, u32, targets, 1);
PINNED("percpu_array", u32, u64, received, 1);

struct segment {
	struct flow flow;
	u16 length;
};

/* MurmurHash3's finalizer. */
static __always_inline u32 mix(u32 hash)
{
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* The upper half of a product with 2^64 / golden ratio (Knuth, TAOCP 3, 6.4). Address and ports
 * must not be combined by xor: the bits that vary overlap. */
static __always_inline u32 spread(const struct flow *flow)
{
	u32 ports = (u32)flow->client_port << 16 | flow->port;

	return ((u64)flow->client << 32 | ports) * 0x9e3779b97f4a7c15 >> 32;
}

static __always_inline bool parse(struct xdp_md *ctx, struct segment *segment)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return false;
	if (eth->h_proto != htons(ETH_P_IP) || ip->ihl != 5 || ip->protocol != IPPROTO_TCP ||
	    ip->frag_off & htons(0x3fff))
		return false;
	segment->flow.client = ip->saddr;
	segment->flow.vip = ip->daddr;
	segment->flow.client_port = tcp->source;
	segment->flow.port = tcp->dest;
	segment->flow.protocol = IPPROTO_TCP;
	segment->length = ntohs(ip->tot_len);
	return true;
}

static __always_inline struct service *find_service(const struct segment *segment)
{
	struct listener listener = { .address = segment->flow.vip,
				     .port = segment->flow.port,
				     .protocol = htons(IPPROTO_TCP) };

	return listeners.lookup(&listener);
}

static __always_inline int rewrite(struct xdp_md *ctx, u32 index)
{
	struct backend *backend = backends.lookup(&index);
	u32 *start = (void *)(long)ctx->data;

	if (!backend || (void *)(start + 3) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	start[0] = backend->addresses[0];
	start[1] = backend->addresses[1];
	start[2] = backend->addresses[2];
	return XDP_TX;
}

static __always_inline void add(struct count *count, u16 bytes)
{
	if (count) {
		count->packets += 1;
		count->bytes += bytes;
	}
}

int bare(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* One array look-up and the rewrite: no parsing, no decision. */
int rewrite_only(struct xdp_md *ctx)
{
	return rewrite(ctx, 1);
}

/* A: parse, a hit in the flow table, backend, rewrite. */
int baseline_a(struct xdp_md *ctx)
{
	struct segment segment = {};
	u32 *index;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	index = flows.lookup(&segment.flow);
	return index ? rewrite(ctx, *index) : XDP_DROP;
}

/* A for a new flow: a miss and an insertion, which evicts when the table is full. */
int baseline_a_insert(struct xdp_md *ctx)
{
	struct segment segment = {};
	u32 *index, chosen;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	index = flows.lookup(&segment.flow);
	if (index)
		return rewrite(ctx, *index);
	chosen = spread(&segment.flow) >> 28;
	flows.update(&segment.flow, &chosen);
	return rewrite(ctx, chosen);
}

/* B: parse, service, a hit in the flow table, two counters, backend, rewrite. The loader requires
 * this name. */
int director(struct xdp_md *ctx)
{
	struct segment segment = {};
	struct service *service;
	u32 *index;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	service = find_service(&segment);
	if (!service)
		return XDP_PASS;
	index = flows.lookup(&segment.flow);
	if (!index)
		return XDP_DROP;
	add(service_counts.lookup(&service->index), segment.length);
	add(backend_counts.lookup(index), segment.length);
	return rewrite(ctx, *index);
}

/* C: parse, service, a ring slot, two counters, backend, rewrite. No flow table. */
int baseline_c(struct xdp_md *ctx)
{
	struct segment segment = {};
	struct service *service;
	u32 *index, slot;

	if (!parse(ctx, &segment))
		return XDP_PASS;
	service = find_service(&segment);
	if (!service)
		return XDP_PASS;
	slot = mix(segment.flow.client ^ ((u32)segment.flow.client_port << 16 | segment.flow.port));
	slot = service->ring_start + ((u64)slot * RING_SLOTS >> 32);
	index = ring.lookup(&slot);
	if (!index)
		return XDP_DROP;
	add(service_counts.lookup(&service->index), segment.length);
	add(backend_counts.lookup(index), segment.length);
	return rewrite(ctx, *index);
}

/* The number of the next flow. An odd factor visits each number once, far from the one before. */
static __always_inline u32 advance(struct drive *drive)
{
	u32 number = drive->next;

	drive->next += 1;
	number = drive->random ? mix(number) : number * 0x9e3779b1;
	return drive->first + (number & drive->mask);
}

/* Two adjacent 32-bit fields of a frame as one number. What a program loads at once must come from
 * one store of the driver, or the CPU stalls until the stores have reached the cache; frames from a
 * NIC never cause that. */
static __always_inline u64 pair(u32 first, u32 second)
{
	return htonl(1) == 1 ? (u64)first << 32 | second : (u64)second << 32 | first;
}

static __always_inline u32 ports(const struct drive *drive, u32 number, __be16 port)
{
	u16 client_port = FIRST_PORT + (number & ((1 << PORT_BITS) - 1)) * PORT_STEP;
	u32 service_port = (ntohs(port) & ~drive->services) | (number & drive->services);

	return htonl((u32)client_port << 16 | service_port);
}

static __always_inline bool vary4(struct xdp_md *ctx, struct drive *drive)
{
	struct iphdr *ip = (void *)(long)ctx->data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	volatile u64 *addresses = (void *)&ip->saddr;
	u32 number = advance(drive);

	if ((void *)&tcp->seq > (void *)(long)ctx->data_end)
		return false;
	*addresses = pair(htonl(FIRST_CLIENT + (number >> PORT_BITS)), ip->daddr);
	*(volatile u32 *)tcp = ports(drive, number, tcp->dest);
	return true;
}

static __always_inline bool vary6(struct xdp_md *ctx, struct drive *drive)
{
	struct ipv6hdr *ip = (void *)(long)ctx->data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	u32 *client = ip->saddr.in6_u.u6_addr32;
	u32 number = advance(drive);

	if ((void *)&tcp->seq > (void *)(long)ctx->data_end)
		return false;
	*(volatile u64 *)&client[2] = pair(client[2], htonl(number >> PORT_BITS));
	*(volatile u32 *)tcp = ports(drive, number, tcp->dest);
	return true;
}

int drive4(struct xdp_md *ctx)
{
	struct drive *drive = drives.lookup(&(u32){ 0 });

	if (!drive || !vary4(ctx, drive))
		return XDP_ABORTED;
	targets.call(ctx, TARGET);
	return XDP_ABORTED;
}

int drive6(struct xdp_md *ctx)
{
	struct drive *drive = drives.lookup(&(u32){ 0 });

	if (!drive || !vary6(ctx, drive))
		return XDP_ABORTED;
	targets.call(ctx, TARGET);
	return XDP_ABORTED;
}

/* The far end of a cable: sends frames of many flows, as live frames of a test run. */
static __always_inline int send(struct xdp_md *ctx, struct drive *drive)
{
	u32 *start = (void *)(long)ctx->data;

	if (!drive || !vary4(ctx, drive) || (void *)(start + 3) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	start[0] = drive->addresses[0];
	start[1] = drive->addresses[1];
	start[2] = drive->addresses[2];
	return XDP_TX;
}

int generate(struct xdp_md *ctx)
{
	return send(ctx, drives.lookup(&(u32){ 0 }));
}

/* The same with the IP header checksum, which Linux checks. */
int generate_summed(struct xdp_md *ctx)
{
	int sent = send(ctx, drives.lookup(&(u32){ 0 }));
	struct iphdr *ip = (void *)(long)ctx->data + ETH_HLEN;
	u16 *half = (void *)ip;
	u32 sum = 0;

	if (sent != XDP_TX || (void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	ip->check = 0;
#pragma unroll
	for (int i = 0; i < sizeof(*ip) / sizeof(*half); i++)
		sum += half[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	return XDP_TX;
}

/* Counts the frames that come back. */
int sink(struct xdp_md *ctx)
{
	u64 *count = received.lookup(&(u32){ 0 });

	if (count)
		*count += 1;
	return XDP_DROP;
}
