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
#include "listener.h"
#include "fastpath.h"
#include "backend.h"
#include "persistence.h"
#include "conntrack.h"
#include "eviction.h"
#include "relocate.h"
#include "guard.h"
#include "ring.h"
#include "schedule.h"
#include "locality.h"
#include "select.h"
#include "quic.h"
#include "fragment.h"
#include "icmp_error.h"
#include "reject.h"
#include "reject_sctp.h"
#include "passive.h"
#include "tunnel.h"
#include "forward.h"
#include "loop_prevention.h"
#include "test_run.h"
#include "stage.h"
#include "stages_new.h"
#include "stages_refused.h"
#include "stages_tunnel.h"
#include "probe.h"

/* Why the guard ends the packet's way here, or UNDECIDED. */
static __always_inline enum reason refuse(struct xdp_md *ctx, struct packet *packet,
					  const struct service *service, u32 number)
{
	if (service->guard & GUARD_TRACE)
		packet->traced = number + 1;
	if (service->guard & GUARD_PREFIXES && is_denied(packet))
		return DROP_DENIED;
	return is_from_other_director(ctx, service, number) ? PASS_DIRECTED : UNDECIDED;
}

/* A packet of a service: forward it, or go on to the stage that can. `frame`: its Ethernet
 * header. */
static __always_inline int handle_service(struct xdp_md *ctx, void *frame, struct packet *packet,
					  struct service *service, const struct listener *listener,
					  bool is_whole)
{
	struct scratch scratch = { .service = listener->service, .front = listener->front };
	struct selection selection = {};
	enum reason reason;

	note_service(listener->service);
	if (service->guard) {
		reason = refuse(ctx, packet, service, listener->service);
		if (reason == PASS_DIRECTED && !is_whole)
			return pass_directed(ctx, packet, NO_BACKEND);
		if (reason == DROP_DENIED)
			count_drop(listener->service, reason);
		if (reason != UNDECIDED)
			return traced_verdict(ctx, packet, NO_BACKEND,
					      reason == PASS_DIRECTED ? XDP_PASS : XDP_DROP,
					      reason);
		if (service->ring_slots && has_cids(packet, service))
			return save_context(packet, &scratch) ? call_stage(ctx, STAGE_QUIC)
							      : internal_error();
	}
	reason = select_fast(packet, service, &scratch, &selection);
	if (reason != UNDECIDED)
		return is_whole ? forward_unfragmented(ctx, frame, packet, &selection, reason)
				: forward(ctx, packet, &selection, reason);
	if (!save_context(packet, &scratch))
		return internal_error();
	if (has_cids(packet, service))
		return call_stage(ctx, STAGE_QUIC);
	return call_next_stage(ctx, scratch.stage);
}

int stage_parse(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	struct cursor cursor = { .start = start,
				 .at = start,
				 .end = (void *)(long)ctx->data_end,
				 .beyond = bytes_beyond(ctx) };
	struct scratch nothing = {};
	struct packet packet;

	if (!parse(&cursor, &packet))
		return verdict(XDP_PASS, PASS_NOT_IP);
	if (!save_context(&packet, &nothing))
		return internal_error();
	return call_stage(ctx, STAGE_SERVE);
}

/* A stage apart from the parser: the verifier would walk this once for each way through the
 * headers. */
int stage_serve(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct scratch *scratch = this_scratch();
	struct service *service = NULL;
	struct listener listener;
	struct packet *packet;

	if (!scratch || start + sizeof(struct ethhdr) > end)
		return internal_error();
	packet = &scratch->packet;
	if (is_foreign_mac(start))
		return is_vip(packet) ? verdict_on_foreign_mac(start)
				      : verdict(XDP_PASS, PASS_NOT_VIP);
	if (packet->error)
		return is_vip(packet) ? verdict(XDP_DROP, packet->error)
				      : verdict(XDP_PASS, PASS_NOT_VIP);
	if (packet->fragment == FRAGMENT_LATER)
		return call_stage(ctx, STAGE_FRAGMENT);
	if (listener_lookup(packet, &listener))
		service = services.lookup(&listener.service);
	if (service)
		return handle_service(ctx, start, packet, service, &listener, false);
	if (!is_vip(packet))
		return verdict(XDP_PASS, PASS_NOT_VIP);
	return is_icmp(packet) ? call_stage(ctx, STAGE_ERROR)
			       : pass_to_host(packet, PASS_NO_LISTENER);
}

int stage_recall(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	scratch->reason = select_slow(ctx, &scratch->packet, service, scratch, &selection);
	scratch->backend = reported_backend(&selection);
	switch (scratch->reason) {
	case UNDECIDED:
		return call_next_stage(ctx, scratch->stage);
	case FORWARD_CONNECTION:
		if (passive_shows(&scratch->packet, &selection, scratch->state))
			return call_stage(ctx, STAGE_OBSERVE);
		return forward(ctx, &scratch->packet, &selection, scratch->reason);
	case FORWARD_NEW:
		if (passive_opens(&scratch->packet, &selection))
			return call_stage(ctx, STAGE_OBSERVE);
		return forward(ctx, &scratch->packet, &selection, scratch->reason);
	case FORWARD_RING:
		return forward_unless_loop(ctx, &scratch->packet, &selection, scratch->reason);
	case FORWARD_BEFORE:
		if (would_loop(ctx, &selection))
			return pass_directed(ctx, &scratch->packet, scratch->backend);
		return call_stage(ctx, STAGE_REMEMBER);
	case REJECT_DOWN:
	case REJECT_UNKNOWN:
		return call_stage(ctx, STAGE_ANSWER);
	default:
		return call_stage(ctx, STAGE_DROP);
	}
}

/* A stage of its own: backends that are not watched pay nothing for it. */
int stage_observe(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct service *service;

	if (!start_stage(&scratch, &service))
		return XDP_DROP;
	if (!select_backend_any_vip(&selection, scratch->backend))
		return internal_error();
	selection.is_new = scratch->reason != FORWARD_CONNECTION;
	if (selection.is_new)
		passive_opened(ctx, &scratch->packet, selection.index);
	else
		passive_followed(ctx, &scratch->packet, selection.index, service->ring_slots);
	return forward(ctx, &scratch->packet, &selection, scratch->reason);
}

int stage_fragment(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct selection selection = {};
	struct affinity *first;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	first = fragment_lookup(&scratch->packet);
	if (first && first->backend == NO_BACKEND)
		return verdict(XDP_PASS, first->generation);
	if (first && select_backend_any_vip(&selection, first->backend) &&
	    selection.backend->generation == first->generation) {
		if (!is_denied(&scratch->packet))
			return forward(ctx, &scratch->packet, &selection, FORWARD_FRAGMENT);
		count_drop(selection.backend->service - 1, DROP_DENIED);
		return verdict(XDP_DROP, DROP_DENIED);
	}
	return is_vip(&scratch->packet) ? verdict(XDP_DROP, DROP_FRAGMENT)
					: verdict(XDP_PASS, PASS_NOT_VIP);
}

int stage_error(struct xdp_md *ctx)
{
	struct scratch *scratch;
	struct service *service = NULL;
	struct packet quoted = {};
	struct listener listener;
	struct selection selection = {};
	enum reason reason = PASS_NO_CONNECTION;

	if (!start_stage(&scratch, NULL))
		return XDP_DROP;
	if (!parse_quoted(ctx, &scratch->packet, &quoted))
		return pass_to_host(&scratch->packet, PASS_NO_LISTENER);
	if (listener_lookup(&quoted, &listener))
		service = services.lookup(&listener.service);
	if (service && is_from_other_director(ctx, service, listener.service))
		return pass_to_host(&scratch->packet, PASS_DIRECTED);
	if (service)
		reason = select_for_quoted(&quoted, service, listener.front, &selection);
	if (!service || reason == PASS_NO_CONNECTION)
		return pass_to_host(&scratch->packet, PASS_NO_CONNECTION);
	if (service->guard & GUARD_TRACE)
		scratch->packet.traced = listener.service + 1;
	scratch->service = listener.service;
	scratch->backend = reported_backend(&selection);
	if (service->guard & GUARD_PREFIXES && is_denied(&scratch->packet))
		return drop(ctx, scratch, DROP_DENIED);
	if (reason == DROP_ERROR)
		return drop(ctx, scratch, DROP_ERROR);
	return forward(ctx, &scratch->packet, &selection, FORWARD_ERROR);
}

int director(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	struct cursor cursor = { .start = start, .at = start, .end = (void *)(long)ctx->data_end };
	struct listener listener;
	struct service *service;
	struct packet packet;
	u32 class = classify(&cursor, &packet, &listener);

	if (class != FRAME_CACHED) {
		if (class == FRAME_ELSEWHERE)
			return verdict_on_foreign_mac(start);
		if (class < FRAME_COMPLEX)
			return verdict(XDP_PASS, class);
		if (class == FRAME_COMPLEX)
			return call_stage(ctx, STAGE_PARSE);
		if (!listener_lookup(&packet, &listener))
			return verdict(XDP_PASS, is_vip(&packet) ? PASS_NO_LISTENER : PASS_NOT_VIP);
		if (is_foreign_mac(start))
			return verdict_on_foreign_mac(start);
	}
	if (packet.error) {
		if (packet.error == DROP_MALFORMED_IP && bytes_beyond(ctx))
			return call_stage(ctx, STAGE_PARSE);
		count_drop(listener.service, packet.error);
		return verdict(XDP_DROP, packet.error);
	}
	service = services.lookup(&listener.service);
	if (!service)
		return verdict(XDP_PASS, PASS_NO_LISTENER);
	return handle_service(ctx, start, &packet, service, &listener, true);
}
