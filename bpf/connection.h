/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections: what is remembered of a flow, and for how long.
 *
 * A flow that has shown one packet waits in `pending`; its second packet (for TCP: the first that is no SYN)
 * moves it to `connections`. So a flood of SYNs, or of datagrams from made-up addresses, evicts its own kind and
 * no running connection. Time is in jiffies: reading them costs one load, a clock thirty times that.
 */
#ifndef XDPDIRECTOR_CONNECTION_H
#define XDPDIRECTOR_CONNECTION_H

#include "choice.h"
#include "explain.h"
#include "maps.h"
#include "parse.h"

static __always_inline struct connection *find_connection(struct packet *packet)
{
	if (packet->ipv6)
		return apart(connections6.lookup(&packet->flow.v6));
	return connections4.lookup(&packet->flow.v4);
}

static __always_inline struct connection *find_pending(struct packet *packet)
{
	if (packet->ipv6)
		return apart(pending6.lookup(&packet->flow.v6));
	return pending4.lookup(&packet->flow.v4);
}

static __always_inline void store_connection(struct packet *packet, struct connection *record)
{
	if (DRY_RUN)
		return;
	if (packet->ipv6) {
		connections6.update(&packet->flow.v6, record);
		apart(NULL);
	} else {
		connections4.update(&packet->flow.v4, record);
	}
}

static __always_inline void store_pending(struct packet *packet, struct connection *record)
{
	if (DRY_RUN)
		return;
	if (packet->ipv6) {
		pending6.update(&packet->flow.v6, record);
		apart(NULL);
	} else {
		pending4.update(&packet->flow.v4, record);
	}
}

static __always_inline void delete_pending(struct packet *packet)
{
	if (DRY_RUN)
		return;
	if (packet->ipv6) {
		pending6.delete(&packet->flow.v6);
		apart(NULL);
	} else {
		pending4.delete(&packet->flow.v4);
	}
}

static __always_inline void delete_records(struct packet *packet)
{
	if (DRY_RUN)
		return;
	if (packet->ipv6) {
		connections6.delete(&packet->flow.v6);
		apart(NULL);
	} else {
		connections4.delete(&packet->flow.v4);
	}
	delete_pending(packet);
}

static __always_inline bool is_active(u8 state)
{
	return state != CONNECTION_FIN && state != CONNECTION_CLOSED;
}

/* One connection of the record's backend more (by = 1) or less (-1), active or not. A backend that has the index of an
 * earlier one was never counted that one's connections. */
static __always_inline void add_load(const struct connection *record, u8 state, s32 by)
{
	u32 index = record->backend;
	struct backend *backend = backends.lookup(&index);
	struct load *load = loads.lookup(&index);

	if (!backend || !load || backend->generation != record->generation)
		return;
	if (DRY_RUN)
		note_load(index, is_active(state), by);
	else
		__sync_fetch_and_add(is_active(state) ? &load->active : &load->inactive, by);
}

static __always_inline u8 next_state(u8 state, const struct packet *packet)
{
	if (state == CONNECTION_UDP)
		return state;
	if (packet->flags & TCP_RST)
		return CONNECTION_CLOSED;
	if (packet->flags & TCP_FIN && state != CONNECTION_CLOSED)
		return CONNECTION_FIN;
	return state == CONNECTION_SYN && !is_opening(packet) ? CONNECTION_ESTABLISHED : state;
}

static __always_inline void change_state(struct connection *record, u8 state)
{
	if (is_active(record->state) != is_active(state)) {
		add_load(record, record->state, -1);
		add_load(record, state, 1);
	}
	if (record->state != state)
		record->state = state;
}

static __always_inline bool has_expired(const struct connection *record,
					const struct service *service, u32 now)
{
	return has_passed(record->seen, service->timeouts[record->state % MAX_STATES], now);
}

/* The flow's record as it stands after this packet. False when there is none, or none that still holds: it has
 * timed out, or a SYN opens the connection anew after its end (RFC 9293, 3.6.1). */
static __always_inline bool recall(struct packet *packet, struct service *service, u32 now,
				   struct connection *record)
{
	struct connection *found = find_connection(packet);
	bool is_pending = !found;

	if (is_pending)
		found = find_pending(packet);
	if (!found) {
		found = find_connection(
			packet); /* where another processor may have moved it just now */
		is_pending = false;
	}
	if (!found)
		return false;
	if (has_expired(found, service, now) || (is_opening(packet) && !is_active(found->state))) {
		add_load(found, found->state, -1);
		delete_records(packet);
		return false;
	}
	if (!DRY_RUN) {
		change_state(found, next_state(found->state, packet));
		if (found->seen != now)
			found->seen = now;
	}
	*record = *found;
	if (is_pending && !is_opening(packet)) {
		store_connection(packet, record);
		delete_pending(packet);
	}
	return true;
}

/* Forget the flow, so that it can be scheduled anew. */
static __always_inline void forget(struct packet *packet, struct connection *record)
{
	add_load(record, record->state, -1);
	delete_records(packet);
}

#endif
