/* SPDX-License-Identifier: GPL-2.0-only */
/* The director at the XDP hook: fast path -> parse -> conntrack -> schedule -> forward. The entry
 * point is the last function. */
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
#include "notes.h"
#include "verdict.h"
#include "trace.h"
#include "parse.h"
#include "service.h"
#include "shortcut.h"
#include "choice.h"
#include "client.h"
#include "connection.h"
#include "guard.h"
#include "opening.h"
#include "schedule.h"
#include "choose.h"
#include "related.h"
#include "reply.h"
#include "forward.h"
#include "directed.h"
#include "by_hand.h"

static __always_inline int internal_error(void)
{
	return verdict(XDP_DROP, DROP_INTERNAL);
}

/* This CPU's scratch; a dry run has one of its own. */
static __always_inline struct aside *put_aside(void)
{
	return asides.lookup(&(u32){ DRY_RUN });
}

/* What each stage begins with: the scratch, and if it is asked for, the service named there. False
 * after counting DROP_INTERNAL. */
static __always_inline bool start_stage(struct aside **aside, struct service **service)
{
	struct aside *found = put_aside();

	*aside = found;
	if (!found) {
		internal_error();
		return false;
	}
	if (!service)
		return true;
	*service = services.lookup(&found->service);
	if (*service)
		return true;
	internal_error();
	return false;
}

/* The kernel turns a tail call with a constant index into a jump. With a variable index it is an
 * indirect call, which retpolines make expensive. The mark behind each call keeps the compiler from
 * merging calls with constant indices into one with a variable index. */
static __always_inline int call_stage(struct xdp_md *ctx, u32 stage)
{
	stages.call(ctx, STAGES_AT + stage);
	asm volatile("" : : "i"(stage));
	return internal_error();
}

static __always_inline int call_one_of(struct xdp_md *ctx, u32 stage)
{
	switch (stage) {
	case STAGE_RECALL:
		return call_stage(ctx, STAGE_RECALL);
	case STAGE_ADMIT:
		return call_stage(ctx, STAGE_ADMIT);
	default:
		return call_stage(ctx, STAGE_SCHEDULE);
	}
}

/* Backend index to report with the verdict. */
static __always_inline u32 named(const struct choice *choice)
{
	return choice->backend ? choice->index : NO_BACKEND;
}

/* Save the packet and what is known of it for the next stage. */
static __always_inline bool hand_over(const struct packet *packet, const struct aside *found)
{
	struct aside *aside = put_aside();

	if (!aside)
		return false;
	__builtin_memcpy(&aside->packet, packet, sizeof(*packet));
	aside->service = found->service;
	aside->front = found->front;
	aside->slot = found->slot;
	aside->now = found->now;
	aside->backend = NO_BACKEND;
	aside->reason = UNDECIDED;
	return true;
}

/* Why the guard ends the packet's way here, or UNDECIDED. */
static __always_inline enum reason refuse(struct xdp_md *ctx, struct packet *packet,
					  const struct service *service, u32 number)
{
	if (service->guard & GUARD_TRACE)
		packet->traced = number + 1;
	if (service->guard & GUARD_PREFIXES && is_denied(packet))
		return DROP_DENIED;
	return is_directed(ctx, service, number) ? PASS_DIRECTED : UNDECIDED;
}

/* A packet of a service: forward it, or go on to the stage that can. `frame`: its Ethernet header. */
static __always_inline int serve(struct xdp_md *ctx, void *frame, struct packet *packet,
				 struct service *service, const struct listener *listener,
				 bool is_whole)
{
	struct aside aside = { .service = listener->service, .front = listener->front };
	struct choice choice = {};
	enum reason reason;

	note_service(listener->service);
	if (service->guard) {
		reason = refuse(ctx, packet, service, listener->service);
		if (reason == PASS_DIRECTED && !is_whole)
			return keep(ctx, packet, NO_BACKEND);
		if (reason != UNDECIDED)
			return conclude(ctx, packet, NO_BACKEND,
					reason == PASS_DIRECTED ? XDP_PASS : XDP_DROP, reason);
	}
	reason = choose(packet, service, &aside, &choice);
	if (reason != UNDECIDED)
		return is_whole ? forward_whole(ctx, frame, packet, &choice, reason)
				: forward(ctx, packet, &choice, reason);
	if (!service->ring_slots)
		aside.slot = no_slot();
	if (!hand_over(packet, &aside))
		return internal_error();
	return call_one_of(ctx, aside.stage);
}

int stage_parse(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	struct cursor cursor = { .start = start, .at = start, .end = (void *)(long)ctx->data_end };
	struct aside nothing = {};
	struct packet packet;

	if (!parse(&cursor, &packet))
		return verdict(XDP_PASS, PASS_NOT_IP);
	if (!hand_over(&packet, &nothing))
		return internal_error();
	return call_stage(ctx, STAGE_SERVE);
}

/* A stage apart from the parser: the verifier would walk this once for each way through the
 * headers. */
int stage_serve(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct aside *aside = put_aside();
	struct service *service = NULL;
	struct listener listener;
	struct packet *packet;

	if (!aside || start + sizeof(struct ethhdr) > end)
		return internal_error();
	packet = &aside->packet;
	if (is_for_another_machine(start))
		return is_vip(packet) ? leave(start) : verdict(XDP_PASS, PASS_NOT_VIP);
	if (packet->error)
		return is_vip(packet) ? verdict(XDP_DROP, packet->error)
				      : verdict(XDP_PASS, PASS_NOT_VIP);
	if (packet->fragment == FRAGMENT_LATER)
		return call_stage(ctx, STAGE_FRAGMENT);
	if (find_listener(packet, &listener))
		service = services.lookup(&listener.service);
	if (service)
		return serve(ctx, start, packet, service, &listener, false);
	if (!is_vip(packet))
		return verdict(XDP_PASS, PASS_NOT_VIP);
	return is_icmp(packet) ? call_stage(ctx, STAGE_ERROR) : pass(packet, PASS_NO_LISTENER);
}

int stage_recall(struct xdp_md *ctx)
{
	struct aside *aside;
	struct choice choice = {};
	struct service *service;

	if (!start_stage(&aside, &service))
		return XDP_DROP;
	aside->reason = choose_again(ctx, &aside->packet, service, aside, &choice);
	aside->backend = named(&choice);
	switch (aside->reason) {
	case UNDECIDED:
		return call_one_of(ctx, aside->stage);
	case FORWARD_CONNECTION:
	case FORWARD_NEW:
		return forward(ctx, &aside->packet, &choice, aside->reason);
	case FORWARD_RING:
		return forward_away(ctx, &aside->packet, &choice, aside->reason);
	case FORWARD_BEFORE:
		if (would_return(ctx, &choice))
			return keep(ctx, &aside->packet, aside->backend);
		return call_stage(ctx, STAGE_REMEMBER);
	case REJECT_DOWN:
	case REJECT_UNKNOWN:
		return call_stage(ctx, STAGE_ANSWER);
	default:
		return conclude(ctx, &aside->packet, aside->backend, XDP_DROP, aside->reason);
	}
}

int stage_answer(struct xdp_md *ctx)
{
	struct aside *aside;
	enum reason reason;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	reason = reject(ctx, &aside->packet, aside->service, aside->now, aside->reason);
	return conclude(ctx, &aside->packet, aside->backend,
			reason == aside->reason ? XDP_TX : XDP_DROP, reason);
}

int stage_admit(struct xdp_md *ctx)
{
	struct aside *aside;
	enum reason reason;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	reason = admit(&aside->packet, aside->service);
	if (reason == UNDECIDED)
		return call_stage(ctx, STAGE_SCHEDULE);
	return conclude(ctx, &aside->packet, NO_BACKEND, XDP_DROP, reason);
}

/* What to do with a packet that was scheduled. */
static __always_inline int follow_schedule(struct xdp_md *ctx, struct aside *aside,
					   const struct choice *choice, enum reason reason)
{
	aside->reason = reason;
	aside->backend = named(choice);
	switch (reason) {
	case UNDECIDED:
		return call_stage(ctx, STAGE_AVOID);
	case FORWARD_RING:
	case FORWARD_UNRECORDED:
		return forward_away(ctx, &aside->packet, choice, reason);
	case FORWARD_NEW:
	case FORWARD_REOPENED:
		if (would_return(ctx, choice))
			return keep(ctx, &aside->packet, aside->backend);
		return call_stage(ctx, STAGE_REMEMBER);
	case REJECT_EMPTY:
		return call_stage(ctx, STAGE_ANSWER);
	default:
		return conclude(ctx, &aside->packet, aside->backend, XDP_DROP, reason);
	}
}

int stage_schedule(struct xdp_md *ctx)
{
	struct aside *aside;
	struct choice choice = {};
	struct service *service;

	if (!start_stage(&aside, &service))
		return XDP_DROP;
	return follow_schedule(ctx, aside, &choice,
			       schedule(&aside->packet, service, aside, &choice));
}

int stage_avoid(struct xdp_md *ctx)
{
	struct aside *aside;
	struct choice choice = {};
	struct service *service;

	if (!start_stage(&aside, &service))
		return XDP_DROP;
	return follow_schedule(ctx, aside, &choice,
			       schedule_around(&aside->packet, service, aside, &choice));
}

int stage_remember(struct xdp_md *ctx)
{
	struct aside *aside;
	struct choice choice = {};
	struct service *service;
	u64 hash;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	service = services.lookup(&aside->service);
	if (!service || !take_for_some(&choice, aside->backend))
		return internal_error();
	choice.is_new = aside->reason != FORWARD_BEFORE;
	if (!remember(&aside->packet, service, aside, &choice, &hash) && !service->ring_slots)
		return conclude(ctx, &aside->packet, aside->backend, XDP_DROP, DROP_FULL);
	if (aside->slot.is.flags & SLOT_FLUX && aside->slot.is.before != NO_BACKEND &&
	    is_opening(&aside->packet))
		note_opening(ctx, &aside->packet, hash, true);
	return forward(ctx, &aside->packet, &choice, aside->reason);
}

int stage_trace(struct xdp_md *ctx)
{
	struct aside *aside;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	tell(ctx, aside);
	return verdict(aside->action, aside->reason);
}

int stage_fragment(struct xdp_md *ctx)
{
	struct aside *aside;
	struct choice choice = {};
	struct affinity *first;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	first = find_fragment(&aside->packet);
	if (first && first->backend == NO_BACKEND)
		return verdict(XDP_PASS, first->generation);
	if (first && take_for_some(&choice, first->backend) &&
	    choice.backend->generation == first->generation)
		return is_denied(&aside->packet)
			       ? verdict(XDP_DROP, DROP_DENIED)
			       : forward(ctx, &aside->packet, &choice, FORWARD_FRAGMENT);
	return is_vip(&aside->packet) ? verdict(XDP_DROP, DROP_FRAGMENT)
				      : verdict(XDP_PASS, PASS_NOT_VIP);
}

int stage_error(struct xdp_md *ctx)
{
	struct aside *aside;
	struct service *service = NULL;
	struct packet quoted = {};
	struct listener listener;
	struct choice choice = {};
	enum reason reason = PASS_NO_CONNECTION;

	if (!start_stage(&aside, NULL))
		return XDP_DROP;
	if (!read_quoted(ctx, &aside->packet, &quoted))
		return pass(&aside->packet, PASS_NO_LISTENER);
	if (find_listener(&quoted, &listener))
		service = services.lookup(&listener.service);
	if (service && is_directed(ctx, service, listener.service))
		return pass(&aside->packet, PASS_DIRECTED);
	if (service)
		reason = follow_quoted(&quoted, service, listener.front, &choice);
	if (!service || reason == PASS_NO_CONNECTION)
		return pass(&aside->packet, PASS_NO_CONNECTION);
	if (service->guard & GUARD_TRACE)
		aside->packet.traced = listener.service + 1;
	if (service->guard & GUARD_PREFIXES && is_denied(&aside->packet))
		return conclude(ctx, &aside->packet, named(&choice), XDP_DROP, DROP_DENIED);
	if (reason == DROP_ERROR)
		return conclude(ctx, &aside->packet, named(&choice), XDP_DROP, DROP_ERROR);
	return forward(ctx, &aside->packet, &choice, FORWARD_ERROR);
}

int director(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	struct cursor cursor = { .start = start, .at = start, .end = (void *)(long)ctx->data_end };
	struct listener listener;
	struct service *service;
	struct packet packet;
	u32 sight = glance(&cursor, &packet, &listener);

	if (sight != SIGHT_LISTENER) {
		if (sight == SIGHT_ELSEWHERE)
			return leave(start);
		if (sight < SIGHT_OTHER)
			return verdict(XDP_PASS, sight);
		if (sight == SIGHT_OTHER)
			return call_stage(ctx, STAGE_PARSE);
		if (!find_listener(&packet, &listener))
			return verdict(XDP_PASS, is_vip(&packet) ? PASS_NO_LISTENER : PASS_NOT_VIP);
		if (is_for_another_machine(start))
			return leave(start);
	}
	if (packet.error)
		return verdict(XDP_DROP, packet.error);
	service = services.lookup(&listener.service);
	if (!service)
		return verdict(XDP_PASS, PASS_NO_LISTENER);
	return serve(ctx, start, &packet, service, &listener, true);
}
