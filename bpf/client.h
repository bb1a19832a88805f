/* SPDX-License-Identifier: GPL-2.0-only */
/* Persistence: a client, known by the part of its address that the service's mask leaves, keeps its backend over
 * all listeners of the service, until it has opened no connection for the service's time. */
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

/* Point the choice at the client's backend, if it has one that may take a new connection. One that takes no others has
 * opened this one itself when the client accepts it (active FTP). */
static __always_inline bool recall_client(struct client *client, const struct packet *packet,
					  const struct service *service, u32 front, u32 now,
					  struct choice *choice)
{
	struct affinity *found;

	if (!(service->flags & SERVICE_PERSISTENT))
		return false;
	found = clients.lookup(client);
	if (!found || has_passed(found->seen, service->persistence, now))
		return false;
	return take_again(choice, found->backend, found->generation, front) &&
	       choice->backend->generation == found->generation && /* for hours: all its bits */
	       (choice->backend->flags & BACKEND_ACCEPTS ||
		service->flags & SERVICE_KEEP_DRAINING || is_accepting(packet));
}

static __always_inline void remember_client(struct client *client, const struct service *service,
					    u32 now, const struct choice *choice)
{
	struct affinity affinity = { .backend = choice->index, .seen = now };

	if (!(service->flags & SERVICE_PERSISTENT) || !choice->backend || DRY_RUN)
		return;
	affinity.generation = choice->backend->generation;
	clients.update(client, &affinity);
}

#endif
