/* SPDX-License-Identifier: GPL-2.0-only */
/* The program as `xdpdirector replay` runs it: the same text, with the capture's clock in place of the kernel's, and with
 * notes of what it decides about each frame. No interface carries it.
 *
 * `replay` is run by hand, once for each frame: it puts the next frame into the buffer that the kernel runs it with, and
 * goes on in `director` by a tail call.
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/icmp.h>
#include <uapi/linux/icmpv6.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/in6.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

#include "types.h"
#include "maps.h"

#define REPLAYED	8192 /* frames in one go */
#define REPLAYED_LENGTH 3520 /* of a frame, at most: what the kernel's test-run takes */
#define REPLAYED_ROOM	256  /* and what it leaves before the frame: XDP_PACKET_HEADROOM */

/* A frame of a capture. */
struct replayed {
	u64 now; /* jiffies, by the capture's clock */
	u32 length;
	u32 pad;
	u8 bytes[REPLAYED_LENGTH];
};

/* What became of it. */
struct outcome {
	u8 reason; /* enum reason */
	u8 facts;  /* enum fact */
	u16 pad;
	u32 service; /* index; with FACT_SERVICE */
	u32 backend; /* the one that was looked at last, or NO_BACKEND */
};

struct replay {
	u32 turn; /* of the next frame */
	u32 pad;
	u64 now;
	u64 at; /* where the frame begins in memory */
};

SHARED_ARRAY(struct replayed, replayed, REPLAYED);
SHARED_ARRAY(struct outcome, outcomes, REPLAYED);
SHARED_ARRAY(struct replay, replays, 1);
PINNED("prog", u32, u32, replaying, 1);

static __always_inline u64 capture_jiffies(void)
{
	u32 zero = 0;
	struct replay *replay = replays.lookup(&zero);

	return replay ? replay->now : 0;
}

#define bpf_jiffies64 capture_jiffies

/* In the place of explain.h. */
#define XDPDIRECTOR_EXPLAIN_H

static __always_inline struct explanation *explained(void)
{
	return NULL;
}

static __always_inline struct outcome *noted(void)
{
	u32 zero = 0, turn;
	struct replay *replay = replays.lookup(&zero);

	if (!replay)
		return NULL;
	turn = replay->turn - 1;
	return outcomes.lookup(&turn);
}

static __always_inline void note_reason(enum reason reason)
{
	struct outcome *outcome = noted();

	if (outcome)
		outcome->reason = reason;
}

static __always_inline void note_fact(enum fact fact)
{
	struct outcome *outcome = noted();

	if (outcome)
		outcome->facts |= fact;
}

static __always_inline void note_service(u32 service)
{
	struct outcome *outcome = noted();

	if (outcome) {
		outcome->service = service;
		outcome->facts |= FACT_SERVICE;
	}
}

static __always_inline void note_slot(u32 position, struct ring_slot slot)
{
}

static __always_inline void note_backend(u32 backend)
{
	struct outcome *outcome = noted();

	if (outcome)
		outcome->backend = backend;
}

static __always_inline void note_load(u32 backend, bool is_active, s32 by)
{
}

#include "director.c"

/* The buffer begins where it did at first, and is as long as the frame. */
static __always_inline bool make_way(struct xdp_md *ctx, struct replay *replay, u32 length)
{
	int moved;

	*(volatile u64 *)&replay->at = (u64)(long)ctx->data;
	moved = REPLAYED_ROOM - (int)(*(volatile u64 *)&replay->at & 4095);
	if (moved && bpf_xdp_adjust_head(ctx, moved))
		return false;
	return !bpf_xdp_adjust_tail(ctx, (int)length - (int)(ctx->data_end - ctx->data));
}

static __always_inline bool put_frame(struct xdp_md *ctx, struct replay *replay, u32 turn)
{
	struct replayed *frame = replayed.lookup(&turn);
	u64 length;

	if (!frame)
		return false;
	length = frame->length;
	asm volatile("" : "+r"(length));
	if (length < sizeof(struct ethhdr))
		return false;
	asm volatile("" : "+r"(length));
	if (length > REPLAYED_LENGTH || !make_way(ctx, replay, length))
		return false;
	replay->now = frame->now;
	return !bpf_xdp_store_bytes(ctx, 0, frame->bytes, length);
}

int replay(struct xdp_md *ctx)
{
	u32 zero = 0, turn;
	struct replay *replay = replays.lookup(&zero);
	struct outcome *outcome;

	if (!replay)
		return XDP_ABORTED;
	turn = replay->turn;
	outcome = outcomes.lookup(&turn);
	if (!outcome || !put_frame(ctx, replay, turn))
		return XDP_ABORTED;
	*outcome = (struct outcome){ .backend = NO_BACKEND };
	replay->turn = turn + 1;
	replaying.call(ctx, 0);
	return XDP_ABORTED;
}
