/*
 * A small table: a slot's place is its id, a counter the sequence number, so an
 * answer that comes too late finds nothing.
 */
#include "daemon/pings.h"

#include <errno.h>
#include <stddef.h>

const struct ping *pings_add(struct pings *p, const struct ip_addr *to, uint32_t ticket,
			     uint64_t now_ns)
{
	for (unsigned i = 0; i < PINGS_MAX; i++) {
		if (p->ping[i].sent_ns != 0)
			continue;
		p->ping[i] = (struct ping){ *to, ticket, (uint16_t)i, p->next++, now_ns };
		p->count++;
		return &p->ping[i];
	}
	return NULL;
}

static void release(struct pings *p, struct ping *ping, struct ping *found)
{
	*found = *ping;
	ping->sent_ns = 0;
	p->count--;
}

int pings_take(struct pings *p, const struct ip_addr *from, uint16_t id, uint16_t seq,
	       struct ping *found)
{
	struct ping *ping = id < PINGS_MAX ? &p->ping[id] : NULL;

	if (!ping || ping->sent_ns == 0 || ping->seq != seq || !ip_equal(&ping->to, from))
		return -ENOENT;
	release(p, ping, found);
	return 0;
}

int pings_take_ticket(struct pings *p, uint32_t ticket, struct ping *found)
{
	for (unsigned i = 0; i < PINGS_MAX; i++) {
		if (p->ping[i].sent_ns == 0 || p->ping[i].ticket != ticket)
			continue;
		release(p, &p->ping[i], found);
		return 0;
	}
	return -ENOENT;
}

uint64_t pings_deadline(const struct pings *p)
{
	uint64_t first_ns = NEVER_NS;

	for (unsigned i = 0; p->count > 0 && i < PINGS_MAX; i++) {
		if (p->ping[i].sent_ns != 0)
			first_ns = MIN(first_ns, p->ping[i].sent_ns + PINGS_TIMEOUT_NS);
	}
	return first_ns;
}

int pings_expire(struct pings *p, uint64_t now_ns, struct ping *found)
{
	for (unsigned i = 0; p->count > 0 && i < PINGS_MAX; i++) {
		struct ping *ping = &p->ping[i];

		if (ping->sent_ns == 0 || ping->sent_ns + PINGS_TIMEOUT_NS > now_ns)
			continue;
		release(p, ping, found);
		return 0;
	}
	return -ENOENT;
}
