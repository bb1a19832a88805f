/* SPDX-License-Identifier: GPL-2.0-only */
/* Takes off the outer headers of IP in IP, and of GUE to its usual port. Stands in for tunl0, sit0, ip6tnl0 and
 * `ip fou` where the kernel has no such devices; tests/vm has the real ones. */
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/in6.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/udp.h>

int director(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data, copy;
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp;
	u32 size;
	u8 inner, *first;

	if ((void *)(ip6 + 1) + sizeof(*udp) + 1 > end)
		return XDP_PASS;
	if (eth->h_proto == htons(ETH_P_IP) && ip->ihl == 5) {
		size = sizeof(*ip);
		inner = ip->protocol;
	} else if (eth->h_proto == htons(ETH_P_IPV6)) {
		size = sizeof(*ip6);
		inner = ip6->nexthdr;
	} else {
		return XDP_PASS;
	}
	if (inner == IPPROTO_UDP) {
		udp = (void *)(eth + 1) + size;
		if (udp->dest != htons(6080))
			return XDP_PASS;
		size += sizeof(*udp);
		first = (void *)(eth + 1) + size;
		if ((void *)(first + 1) > end)
			return XDP_PASS;
		inner = *first >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	}
	if (inner != IPPROTO_IPIP && inner != IPPROTO_IPV6)
		return XDP_PASS;
	__builtin_memcpy(&copy, eth, sizeof(copy));
	copy.h_proto = inner == IPPROTO_IPIP ? htons(ETH_P_IP) : htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(ctx, size))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(eth, &copy, sizeof(copy));
	return XDP_PASS;
}
