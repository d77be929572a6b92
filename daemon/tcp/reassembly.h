/*
 * Which bytes beyond the next expected one have arrived: sorted, disjoint
 * ranges of sequence space, never touching. The bytes are in the receive buffer.
 */
#ifndef MESHWRAP_DAEMON_TCP_REASSEMBLY_H
#define MESHWRAP_DAEMON_TCP_REASSEMBLY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tcp/segment.h"

#define TCP_MAX_RANGES 4096u
#define TCP_RECENT     16u

struct tcp_reassembly {
	struct tcp_sack_block *ranges; /* NULL while there are none */
	uint32_t count, room;
	uint32_t recent[TCP_RECENT]; /* a byte of each range touched last, latest first */
	unsigned recent_count;
	unsigned fresh_count; /* so many of them were touched since tcp_reassembly_told() */
};

/* Is all of [start, end) here? Then *found is the range that has it. */
bool tcp_reassembly_has(const struct tcp_reassembly *r, uint32_t start, uint32_t end,
			struct tcp_sack_block *found);
/* May [start, end) be added? False when it would be one range too many. */
bool tcp_reassembly_can_add(struct tcp_reassembly *r, uint32_t start, uint32_t end);
/* After tcp_reassembly_can_add() said so. */
void tcp_reassembly_add(struct tcp_reassembly *r, uint32_t start, uint32_t end);
/* The stream is complete up to next; returns the new end of what is in order. */
uint32_t tcp_reassembly_advance(struct tcp_reassembly *r, uint32_t next);
/* The stream ends at end: nothing behind it is kept. */
void tcp_reassembly_cut(struct tcp_reassembly *r, uint32_t end);
/*
 * Blocks for the SACK option in the order RFC 2018 wants, but for the ranges
 * touched last, of which so many are left out; returns how many.
 */
unsigned tcp_reassembly_sack(const struct tcp_reassembly *r, unsigned left_out,
			     struct tcp_sack_block *out, unsigned max);
/* The far side has been told of all ranges touched so far. */
void tcp_reassembly_told(struct tcp_reassembly *r);
void tcp_reassembly_clear(struct tcp_reassembly *r);

#endif
