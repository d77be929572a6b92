/*
 * A binary heap. Most moves go later (a batch of packets pushes a timer on), and
 * callers leave those until the old moment comes: see wg_peer_rearm().
 */
#include "daemon/wg/deadlines.h"

#include <errno.h>
#include <stdlib.h>

#include "shared/util.h"

static void place(struct wg_deadlines *d, struct wg_deadline *m, uint32_t slot)
{
	d->heap[slot] = m;
	m->slot = slot;
}

static void sift_up(struct wg_deadlines *d, struct wg_deadline *m)
{
	uint32_t at = m->slot;

	while (at > 0) {
		uint32_t parent = (at - 1) / 2;

		if (d->heap[parent]->at_ns <= m->at_ns)
			break;
		place(d, d->heap[parent], at);
		at = parent;
	}
	place(d, m, at);
}

static void sift_down(struct wg_deadlines *d, struct wg_deadline *m)
{
	uint32_t at = m->slot;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= d->count)
			break;
		if (child + 1 < d->count && d->heap[child + 1]->at_ns < d->heap[child]->at_ns)
			child++;
		if (d->heap[child]->at_ns >= m->at_ns)
			break;
		place(d, d->heap[child], at);
		at = child;
	}
	place(d, m, at);
}

int wg_deadlines_add(struct wg_deadlines *d, struct wg_deadline *m)
{
	if (d->count == d->capacity) {
		uint32_t capacity = d->capacity ? 2 * d->capacity : 16;
		struct wg_deadline **heap = realloc(d->heap, capacity * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		d->heap = heap;
		d->capacity = capacity;
	}
	m->at_ns = NEVER_NS;
	place(d, m, d->count++);
	return 0;
}

void wg_deadlines_remove(struct wg_deadlines *d, struct wg_deadline *m)
{
	struct wg_deadline *last = d->heap[--d->count];

	if (last == m)
		return;
	place(d, last, m->slot);
	sift_up(d, last);
	sift_down(d, last);
}

void wg_deadlines_move(struct wg_deadlines *d, struct wg_deadline *m, uint64_t at_ns)
{
	m->at_ns = at_ns;
	sift_up(d, m);
	sift_down(d, m);
}

struct wg_deadline *wg_deadlines_first(const struct wg_deadlines *d)
{
	return d->count ? d->heap[0] : NULL;
}

void wg_deadlines_finish(struct wg_deadlines *d)
{
	free(d->heap);
	*d = (struct wg_deadlines){ 0 };
}
