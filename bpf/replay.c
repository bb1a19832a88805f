/* SPDX-License-Identifier: GPL-2.0-only */
/* The program that `xdpdirector replay` runs: the packet path, with the capture's clock in place of
 * the kernel's and with notes about each frame. It is attached to no interface.
 *
 * `replay` is run by BPF_PROG_TEST_RUN, once for each frame: it copies the next frame into the
 * buffer of the test run, and tail-calls `director`. */
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

#define REPLAYED	8192 /* frames per batch */
#define REPLAYED_LENGTH 3520 /* longest frame that a test run takes */
#define REPLAYED_ROOM	256  /* XDP_PACKET_HEADROOM of a test run */

/* A frame of the capture. */
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
	u32 backend; /* index of the backend looked up last, or NO_BACKEND */
};

struct replay {
	u32 turn; /* index of the next frame */
	u32 pad;
	u64 now;
	u64 at; /* address of the frame in memory */
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

#define NOTES_OF_ITS_OWN
#include "notes.h"

static __always_inline struct outcome *current_outcome(void)
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
	struct outcome *outcome = current_outcome();

	if (outcome)
		outcome->reason = reason;
}

static __always_inline void note_fact(enum fact fact)
{
	struct outcome *outcome = current_outcome();

	if (outcome)
		outcome->facts |= fact;
}

static __always_inline void note_service(u32 service)
{
	struct outcome *outcome = current_outcome();

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
	struct outcome *outcome = current_outcome();

	if (outcome)
		outcome->backend = backend;
}

static __always_inline void note_load(u32 backend, bool is_active, s32 by)
{
}

static __always_inline s64 noted_active(u32 backend)
{
	return 0;
}

static __always_inline s64 noted_inactive(u32 backend)
{
	return 0;
}

#include "director.c"

/* Restore the start of the buffer, and make it as long as the frame. */
static __always_inline bool restore_buffer(struct xdp_md *ctx, struct replay *replay, u32 length)
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
	if (length > REPLAYED_LENGTH || !restore_buffer(ctx, replay, length))
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
