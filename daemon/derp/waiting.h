/* Datagrams that wait until a relay lets us in. Bounded: the oldest goes first. Pure. */
#ifndef MESHWRAP_DAEMON_DERP_WAITING_H
#define MESHWRAP_DAEMON_DERP_WAITING_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

#define WAITING_PACKETS 32
#define WAITING_BYTES   (128u * 1024)

struct waiting_packet {
	struct waiting_packet *next;
	struct public_key to;
	size_t len;
	uint8_t bytes[];
};

/* Zero: empty. */
struct waiting {
	struct waiting_packet *first, *last;
	unsigned count;
	size_t bytes;
};

/* Returns how many were dropped, this one included where memory is short. */
unsigned waiting_put(struct waiting *w, const struct public_key *to, const uint8_t *bytes,
		     size_t len);
/* Removes the first; there is one. */
void waiting_pop(struct waiting *w);
/* Removes all, and returns how many. */
unsigned waiting_clear(struct waiting *w);

#endif
