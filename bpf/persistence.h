/* SPDX-License-Identifier: GPL-2.0-only */
/* Persistence: a client keeps its backend over all listeners of the service, until it has opened no
 * connection for the service's time-out. A client is an address under the service's mask. Clients
 * that have shown a single packet are newcomers, in an LRU map of their own: a flood evicts
 * newcomers only. */
#ifndef XDPDIRECTOR_PERSISTENCE_H
#define XDPDIRECTOR_PERSISTENCE_H

#include "backend.h"
#include "parse.h"

static __always_inline void persistence_key(const struct packet *packet,
					    const struct service *service, u32 service_index,
					    struct client *client)
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
static __always_inline bool select_persistent_backend(u16 backend, u16 generation,
						      const struct packet *packet,
						      const struct service *service, u32 front,
						      struct selection *selection)
{
	return select_known_backend(selection, backend, generation, front) &&
	       selection->backend->generation ==
		       generation && /* entries live for hours: compare all bits */
	       (selection->backend->flags & BACKEND_ACCEPTS ||
		service->flags & SERVICE_KEEP_DRAINING || is_accepting(packet));
}

/* The entry of a client that has confirmed a connection, with its backend selected; NULL if it is
 * expired or its backend cannot be used. */
static __always_inline struct regular *persistence_lookup_confirmed(struct client *client,
								    const struct packet *packet,
								    const struct service *service,
								    u32 front, u32 now,
								    struct selection *selection)
{
	struct regular *found = clients.lookup(client);

	if (!found || has_elapsed(found->seen, service->persistence, now) ||
	    !select_persistent_backend(found->backend, found->generation, packet, service, front,
				       selection))
		return NULL;
	return found;
}

/* Select the backend of the client's entry, and restart the entry's time-out. */
static __always_inline bool persistence_lookup(struct client *client, const struct packet *packet,
					       const struct service *service, u32 front, u32 now,
					       struct selection *selection)
{
	struct affinity *newcomer;
	struct regular *regular;

	if (!(service->flags & SERVICE_PERSISTENT))
		return false;
	regular = persistence_lookup_confirmed(client, packet, service, front, now, selection);
	if (regular) {
		if (!DRY_RUN)
			regular->seen = now;
		return true;
	}
	newcomer = newcomers.lookup(client);
	if (!newcomer || has_elapsed(newcomer->seen, service->persistence, now) ||
	    !select_persistent_backend(newcomer->backend, newcomer->generation, packet, service,
				       front, selection))
		return false;
	if (!DRY_RUN)
		newcomer->seen = now;
	return true;
}

/* Make an entry for a client that was scheduled. */
static __always_inline void persistence_update(struct client *client, const struct service *service,
					       u32 now, const struct selection *selection)
{
	struct affinity affinity = { .backend = selection->index, .seen = now };

	if (!(service->flags & SERVICE_PERSISTENT) || !selection->backend || DRY_RUN)
		return;
	affinity.generation = selection->backend->generation;
	newcomers.update(client, &affinity);
}

/* A client has confirmed a connection to the selected backend with a second packet. */
static __always_inline void persistence_confirm(const struct packet *packet,
						const struct service *service, u32 service_index,
						u32 front, u32 now,
						const struct selection *selection)
{
	struct regular regular = { .backend = selection->index, .seen = now, .since = now };
	struct client client = {};
	struct selection other = {};
	struct regular *found;
	u64 *missed;

	if (!(service->flags & SERVICE_PERSISTENT) || !selection->backend || DRY_RUN)
		return;
	persistence_key(packet, service, service_index, &client);
	found = persistence_lookup_confirmed(&client, packet, service, front, now, &other);
	if (found) {
		if (other.index != selection->index)
			return; /* the entry stays, wherever other connections run */
		if (now - found->since > PROOF)
			found->proven = 1;
		return;
	}
	regular.generation = selection->backend->generation;
	if (!clients.update(&client, &regular))
		return;
	missed = turned_away.lookup(&(u32){ 0 });
	if (missed)
		*missed += 1;
}

#endif
