/* SPDX-License-Identifier: GPL-2.0-only */
/* Persistence: a client keeps its backend over all listeners of the service, until it has opened no
 * connection for the service's time-out. A client is an address under the service's mask. Clients
 * that have shown a single packet are newcomers, in an LRU map of their own: a flood evicts
 * newcomers only. */
#ifndef XDPDIRECTOR_CLIENT_H
#define XDPDIRECTOR_CLIENT_H

#include "choice.h"
#include "parse.h"

static __always_inline void name_client(const struct packet *packet, const struct service *service,
					u32 service_index, struct client *client)
{
	client->service = service_index;
	client->ipv6 = packet->ipv6;
	if (!packet->ipv6) {
		client->address[0] = packet->flow.v4.client & service->client_mask;
		return;
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		client->address[i] = packet->flow.v6.client[i] & service->client_mask6[i];
}

/* Select the client's backend, if it may get a new connection. A backend that accepts none may
 * still get the SYN and ACK of a connection that it opened itself (active FTP). */
static __always_inline bool take_kept(u16 backend, u16 generation, const struct packet *packet,
				      const struct service *service, u32 front,
				      struct choice *choice)
{
	return take_again(choice, backend, generation, front) &&
	       choice->backend->generation ==
		       generation && /* entries live for hours: compare all bits */
	       (choice->backend->flags & BACKEND_ACCEPTS ||
		service->flags & SERVICE_KEEP_DRAINING || is_accepting(packet));
}

/* The entry of a client that has confirmed a connection, with its backend selected; NULL if it is
 * expired or its backend cannot be used. */
static __always_inline struct regular *recall_regular(struct client *client,
						      const struct packet *packet,
						      const struct service *service, u32 front,
						      u32 now, struct choice *choice)
{
	struct regular *found = clients.lookup(client);

	if (!found || has_passed(found->seen, service->persistence, now) ||
	    !take_kept(found->backend, found->generation, packet, service, front, choice))
		return NULL;
	return found;
}

/* Select the backend of the client's entry, and restart the entry's time-out. */
static __always_inline bool recall_client(struct client *client, const struct packet *packet,
					  const struct service *service, u32 front, u32 now,
					  struct choice *choice)
{
	struct affinity *newcomer;
	struct regular *regular;

	if (!(service->flags & SERVICE_PERSISTENT))
		return false;
	regular = recall_regular(client, packet, service, front, now, choice);
	if (regular) {
		if (!DRY_RUN)
			regular->seen = now;
		return true;
	}
	newcomer = newcomers.lookup(client);
	if (!newcomer || has_passed(newcomer->seen, service->persistence, now) ||
	    !take_kept(newcomer->backend, newcomer->generation, packet, service, front, choice))
		return false;
	if (!DRY_RUN)
		newcomer->seen = now;
	return true;
}

/* Make an entry for a client that was scheduled. */
static __always_inline void remember_client(struct client *client, const struct service *service,
					    u32 now, const struct choice *choice)
{
	struct affinity affinity = { .backend = choice->index, .seen = now };

	if (!(service->flags & SERVICE_PERSISTENT) || !choice->backend || DRY_RUN)
		return;
	affinity.generation = choice->backend->generation;
	newcomers.update(client, &affinity);
}

/* A client has confirmed a connection to the selected backend with a second packet. */
static __always_inline void confirm_client(const struct packet *packet,
					   const struct service *service, u32 service_index,
					   u32 front, u32 now, const struct choice *choice)
{
	struct regular regular = { .backend = choice->index, .seen = now, .since = now };
	struct client client = {};
	struct choice other = {};
	struct regular *found;
	u64 *missed;

	if (!(service->flags & SERVICE_PERSISTENT) || !choice->backend || DRY_RUN)
		return;
	name_client(packet, service, service_index, &client);
	found = recall_regular(&client, packet, service, front, now, &other);
	if (found) {
		if (other.index != choice->index)
			return; /* the entry stays, wherever other connections run */
		if (now - found->since > PROOF)
			found->proven = 1;
		return;
	}
	regular.generation = choice->backend->generation;
	if (!clients.update(&client, &regular))
		return;
	missed = turned_away.lookup(&(u32){ 0 });
	if (missed)
		*missed += 1;
}

#endif
