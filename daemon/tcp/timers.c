/*
 * A four-way heap of deadlines, see timers.h for why its keys are lazy.
 *
 * A timer wheel was the alternative. It is O(1) to arm, but with lazy keys the
 * heap is touched about twice a round trip and connection, idle connections
 * are not in it, and it knows the exact next deadline without scanning slots.
 */
#include "daemon/tcp/timers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "shared/util.h"

#define WAYS 4u

static void place(struct tcp_timers *t, struct tcp_timer *timer, uint32_t at)
{
	t->heap[at] = timer;
	timer->index = at;
}

static void sift_up(struct tcp_timers *t, struct tcp_timer *timer, uint32_t at)
{
	while (at > 0) {
		uint32_t parent = (at - 1) / WAYS;

		if (t->heap[parent]->key_ns <= timer->key_ns)
			break;
		place(t, t->heap[parent], at);
		at = parent;
	}
	place(t, timer, at);
}

static void sift_down(struct tcp_timers *t, struct tcp_timer *timer, uint32_t at)
{
	for (;;) {
		uint32_t first = at * WAYS + 1, best = first;

		if (first >= t->count)
			break;
		for (uint32_t i = first + 1; i < first + WAYS && i < t->count; i++)
			if (t->heap[i]->key_ns < t->heap[best]->key_ns)
				best = i;
		if (t->heap[best]->key_ns >= timer->key_ns)
			break;
		place(t, t->heap[best], at);
		at = best;
	}
	place(t, timer, at);
}

void tcp_timer_init(struct tcp_timer *timer)
{
	timer->key_ns = NEVER_NS;
	timer->index = TCP_TIMER_OUT;
}

int tcp_timers_reserve(struct tcp_timers *timers, uint32_t count)
{
	struct tcp_timer **heap;
	uint32_t room = timers->room ? timers->room : 64;

	if (count <= timers->room)
		return 0;
	while (room < count)
		room *= 2;
	heap = realloc(timers->heap, room * sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	timers->heap = heap;
	timers->room = room;
	return 0;
}

void tcp_timers_finish(struct tcp_timers *timers)
{
	free(timers->heap);
	timers->heap = NULL;
	timers->count = timers->room = 0;
}

void tcp_timer_arm(struct tcp_timers *timers, struct tcp_timer *timer, uint64_t at_ns)
{
	if (at_ns >= timer->key_ns)
		return;
	timer->key_ns = at_ns;
	if (timer->index == TCP_TIMER_OUT) {
		assert(timers->count < timers->room);
		timer->index = timers->count++;
	}
	sift_up(timers, timer, timer->index);
}

void tcp_timer_remove(struct tcp_timers *timers, struct tcp_timer *timer)
{
	uint32_t at = timer->index;
	struct tcp_timer *last;

	if (at == TCP_TIMER_OUT)
		return;
	last = timers->heap[--timers->count];
	if (last != timer) {
		sift_up(timers, last, at);
		sift_down(timers, last, last->index);
	}
	tcp_timer_init(timer);
}

struct tcp_timer *tcp_timers_pop(struct tcp_timers *timers, uint64_t now_ns)
{
	struct tcp_timer *first;

	if (timers->count == 0 || timers->heap[0]->key_ns > now_ns)
		return NULL;
	first = timers->heap[0];
	tcp_timer_remove(timers, first);
	return first;
}

uint64_t tcp_timers_next(const struct tcp_timers *timers)
{
	return timers->count ? timers->heap[0]->key_ns : NEVER_NS;
}
