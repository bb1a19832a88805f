/* SPDX-License-Identifier: GPL-2.0-only */
/* Insert flows from the table of an earlier program with another layout: see
 * xdpdirector/dataplane/migrate.py. */
#ifndef XDPDIRECTOR_ADOPT_H
#define XDPDIRECTOR_ADOPT_H

#include "conntrack_table.h"

/* False if there is no such service, or the table has no room. */
static __always_inline bool ct_adopt(const struct adopted *adopted, u32 now)
{
	union record_word is = { .word = adopted->word };
	struct packet packet = { .ipv6 = adopted->ipv6 != 0 };
	struct service *service = NULL;
	u32 number = is.record.front;
	struct front *front;
	struct ct_key key = {};
	struct entry entry;
	u64 evicted;

	set_ports(&packet, &(struct ports){ adopted->client_port, adopted->port });
	if (packet.ipv6)
		__builtin_memcpy(packet.flow.v6.client, adopted->client, sizeof(adopted->client));
	else
		packet.flow.v4.client = adopted->client[0];
	front = fronts.lookup(&number);
	if (front)
		service = services.lookup(&front->service);
	if (!service)
		return false;
	if (ct_lookup(&packet, service, number, &entry))
		return true; /* it has sent a packet to this program already */
	ct_make_key(&packet, service, number, &key);
	return ct_insert(
		&packet, &key, is.word,
		&(struct eviction){ .now = now, .states = UNASSURED & ~RUNNING, .is_known = true },
		&evicted);
}

#endif
