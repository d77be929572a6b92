/*
 * Echo requests under way: which answer belongs to whom.
 */
#ifndef MESHWRAP_DAEMON_PINGS_H
#define MESHWRAP_DAEMON_PINGS_H

#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/util.h"

#define PINGS_MAX        64
#define PINGS_TIMEOUT_NS (5 * NS_PER_S)

struct ping {
	struct ip_addr to;
	uint32_t ticket;
	uint16_t id, seq;
	uint64_t sent_ns; /* 0: free */
};

/* Zero-initialised: none. */
struct pings {
	unsigned count;
	uint16_t next;
	struct ping ping[PINGS_MAX];
};

/* The new one, or NULL when there are too many. Its id and seq go into the request. */
const struct ping *pings_add(struct pings *p, const struct ip_addr *to, uint32_t ticket,
			     uint64_t now_ns);
/* An answer has come. 0 and what is asked for, or -ENOENT. */
int pings_take(struct pings *p, const struct ip_addr *from, uint16_t id, uint16_t seq,
	       struct ping *found);
/* The same for an answer that knows only the ticket. */
int pings_take_ticket(struct pings *p, uint32_t ticket, struct ping *found);
uint64_t pings_deadline(const struct pings *p);
/* One that waits no more: 0, or -ENOENT when all others still may. */
int pings_expire(struct pings *p, uint64_t now_ns, struct ping *found);

#endif
