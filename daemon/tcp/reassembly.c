/*
 * Ranges of bytes that came out of order.
 *
 * A sorted array, found by binary search. Loss of one packet in a hundred over
 * a window of 4 MiB makes some 35 ranges, so moving the tail of an array is
 * cheaper than any tree. A hostile peer is stopped at TCP_MAX_RANGES: what
 * would need one more is dropped, as if the network had lost it.
 */
#include "daemon/tcp/reassembly.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

/* The first range that ends at or after seq: the only ones [seq, ...) may touch start there. */
static uint32_t first_touching(const struct tcp_reassembly *r, uint32_t seq)
{
	uint32_t low = 0, high = r->count;

	/* Data mostly arrives at the end. */
	if (high > 0 && seq_lt(r->ranges[high - 1].end, seq))
		return high;
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (seq_lt(r->ranges[middle].end, seq))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool tcp_reassembly_has(const struct tcp_reassembly *r, uint32_t start, uint32_t end,
			struct tcp_sack_block *found)
{
	uint32_t i = first_touching(r, end);

	if (i == r->count || seq_lt(start, r->ranges[i].start))
		return false;
	*found = r->ranges[i];
	return true;
}

bool tcp_reassembly_can_add(struct tcp_reassembly *r, uint32_t start, uint32_t end)
{
	uint32_t i = first_touching(r, start), room;
	struct tcp_sack_block *ranges;

	if (i < r->count && seq_le(r->ranges[i].start, end))
		return true;
	if (r->count == TCP_MAX_RANGES)
		return false;
	if (r->count < r->room)
		return true;
	room = r->room ? r->room * 2 : 8;
	ranges = realloc(r->ranges, room * sizeof(*ranges));
	if (!ranges)
		return false;
	r->ranges = ranges;
	r->room = room;
	return true;
}

static void remember(struct tcp_reassembly *r, uint32_t seq, const struct tcp_sack_block *range)
{
	uint32_t kept[TCP_RECENT] = { seq };
	unsigned n = 1, fresh = 1;

	for (unsigned i = 0; i < r->recent_count && n < TCP_RECENT; i++) {
		if (seq_le(range->start, r->recent[i]) && seq_lt(r->recent[i], range->end))
			continue;
		kept[n++] = r->recent[i];
		fresh += i < r->fresh_count;
	}
	memcpy(r->recent, kept, n * sizeof(*kept));
	r->recent_count = n;
	r->fresh_count = fresh;
}

void tcp_reassembly_add(struct tcp_reassembly *r, uint32_t start, uint32_t end)
{
	uint32_t i = first_touching(r, start), last = i;
	struct tcp_sack_block merged = { start, end };

	while (last < r->count && seq_le(r->ranges[last].start, end)) {
		merged.start = seq_min(merged.start, r->ranges[last].start);
		merged.end = seq_max(merged.end, r->ranges[last].end);
		last++;
	}
	if (last == i) {
		assert(r->count < r->room);
		memmove(r->ranges + i + 1, r->ranges + i, (r->count - i) * sizeof(*r->ranges));
		r->count++;
	} else {
		memmove(r->ranges + i + 1, r->ranges + last,
			(r->count - last) * sizeof(*r->ranges));
		r->count -= last - i - 1;
	}
	r->ranges[i] = merged;
	remember(r, start, &merged);
}

uint32_t tcp_reassembly_advance(struct tcp_reassembly *r, uint32_t next)
{
	uint32_t gone = 0;

	while (gone < r->count && seq_le(r->ranges[gone].start, next)) {
		next = seq_max(next, r->ranges[gone].end);
		gone++;
	}
	if (gone == r->count) {
		tcp_reassembly_clear(r);
		return next;
	}
	r->count -= gone;
	memmove(r->ranges, r->ranges + gone, r->count * sizeof(*r->ranges));
	return next;
}

void tcp_reassembly_cut(struct tcp_reassembly *r, uint32_t end)
{
	while (r->count > 0 && seq_le(end, r->ranges[r->count - 1].start))
		r->count--;
	if (r->count == 0)
		tcp_reassembly_clear(r);
	else
		r->ranges[r->count - 1].end = seq_min(end, r->ranges[r->count - 1].end);
}

unsigned tcp_reassembly_sack(const struct tcp_reassembly *r, unsigned left_out,
			     struct tcp_sack_block *out, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = left_out; i < r->recent_count && n < max; i++) {
		uint32_t seq = r->recent[i];
		struct tcp_sack_block found;
		bool is_known = false;

		if (!tcp_reassembly_has(r, seq, seq + 1, &found))
			continue;
		for (unsigned k = 0; k < n; k++)
			is_known |= out[k].start == found.start;
		if (!is_known)
			out[n++] = found;
	}
	return n;
}

void tcp_reassembly_told(struct tcp_reassembly *r)
{
	r->fresh_count = 0;
}

void tcp_reassembly_clear(struct tcp_reassembly *r)
{
	free(r->ranges);
	memset(r, 0, sizeof(*r));
}
