/* SPDX-License-Identifier: GPL-2.0-only */
/* Sends many flows through the program under test in one repeated test-run, and writes down where each of them went.
 *
 * The frame of a repeated test-run stays as the program left it. So each run first reads the destination that the one
 * before wrote, then makes the next flow's frame and goes on in the program under test, by a tail call. A frame that
 * was not forwarded still has the destination that was put there: the director's. Whoever changes more of a frame than
 * its Ethernet addresses (an answer, another VLAN) spoils the runs after it.
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>

#define TARGET	  0
#define MAX_TURNS (1 << 19)

struct flow {
	u32 client; /* IPv6: the last word */
	u16 client_port;
	u16 pad;
};

struct drive {
	u32 turn;
	u32 turns;
	u8 destination[8]; /* the director's MAC */
};

#define SHARED_ARRAY(value, name, entries) \
	BPF_TABLE_PINNED("array", u32, value, name, entries, PIN_DIR #name, BPF_F_MMAPABLE)

/* Which flow has which turn, and the destination that its frame left with (little-endian, 0 above it). */
SHARED_ARRAY(struct flow, flows, MAX_TURNS);
SHARED_ARRAY(u64, destinations, MAX_TURNS);
BPF_TABLE_PINNED("array", u32, struct drive, drives, 1, PIN_DIR "drives");
BPF_TABLE_PINNED("prog", u32, u32, targets, 1, PIN_DIR "targets");

static __always_inline bool write_down(const struct ethhdr *eth, u32 turn)
{
	u64 *destination = destinations.lookup(&turn);

	if (!destination)
		return false;
	*destination = 0;
	__builtin_memcpy(destination, eth->h_dest, ETH_ALEN);
	return true;
}

static __always_inline bool write_flow4(struct iphdr *ip, void *end, const struct flow *flow)
{
	__be16 *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > end)
		return false;
	ip->saddr = htonl(flow->client);
	ports[0] = htons(flow->client_port);
	return true;
}

static __always_inline bool write_flow6(struct ipv6hdr *ip, void *end, const struct flow *flow)
{
	__be16 *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > end)
		return false;
	ip->saddr.in6_u.u6_addr32[3] = htonl(flow->client);
	ports[0] = htons(flow->client_port);
	return true;
}

static __always_inline bool write_flow(struct ethhdr *eth, void *end, const struct flow *flow)
{
	if (eth->h_proto == htons(ETH_P_IP))
		return write_flow4((void *)(eth + 1), end, flow);
	return write_flow6((void *)(eth + 1), end, flow);
}

/* The loader wants this name. */
int director(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	u32 zero = 0, turn;
	struct drive *drive = drives.lookup(&zero);
	struct flow *flow;

	if (!drive || (void *)(eth + 1) > end)
		return XDP_ABORTED;
	turn = drive->turn;
	if (turn && !write_down(eth, turn - 1))
		return XDP_ABORTED;
	if (turn == drive->turns)
		return XDP_PASS;
	flow = flows.lookup(&turn);
	if (!flow || !write_flow(eth, end, flow))
		return XDP_ABORTED;
	__builtin_memcpy(eth->h_dest, drive->destination, ETH_ALEN);
	drive->turn = turn + 1;
	targets.call(ctx, TARGET);
	return XDP_ABORTED;
}
