/*
 * A pairing heap. Setting is constant time, taking out is logarithmic on
 * average, and all links live in the timers themselves: nothing is allocated,
 * so a flow that exists can always have its deadline. Rejected: an array heap
 * (growing it can fail where nobody can handle that) and libevent's timers
 * (time is a parameter here, and the loop has one timer for everybody).
 */
#include "daemon/edge/timer.h"

#include <stddef.h>

#include "shared/util.h"

static struct edge_timer *meld(struct edge_timer *a, struct edge_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->at_ns < a->at_ns) {
		struct edge_timer *t = a;

		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	a->child = b;
	return a;
}

/* The two passes: meld neighbours left to right, then the results right to left. */
static struct edge_timer *meld_siblings(struct edge_timer *first)
{
	struct edge_timer *pairs = NULL, *all = NULL;

	while (first) {
		struct edge_timer *a = first, *b = a->next;

		first = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct edge_timer *rest = pairs->next;

		pairs->next = NULL;
		all = meld(all, pairs);
		pairs = rest;
	}
	return all;
}

static void insert_below(struct edge_timer *root, struct edge_timer *heap)
{
	struct edge_timer *all = meld(root->child, heap);

	root->child = all;
	if (all) {
		all->prev = root;
		all->next = NULL;
	}
}

void edge_timer_cancel(struct edge_timers *timers, struct edge_timer *timer)
{
	if (!timer->prev)
		return;
	if (timer->prev->child == timer)
		timer->prev->child = timer->next;
	else
		timer->prev->next = timer->next;
	if (timer->next)
		timer->next->prev = timer->prev;
	insert_below(&timers->root, meld_siblings(timer->child));
	timer->child = timer->next = timer->prev = NULL;
}

void edge_timer_set(struct edge_timers *timers, struct edge_timer *timer, uint64_t at_ns)
{
	edge_timer_cancel(timers, timer);
	timer->at_ns = at_ns;
	insert_below(&timers->root, timer);
}

uint64_t edge_timers_deadline(const struct edge_timers *timers)
{
	return timers->root.child ? timers->root.child->at_ns : NEVER_NS;
}

void edge_timers_expire(struct edge_timers *timers, uint64_t now_ns)
{
	struct edge_timer *timer;

	while ((timer = timers->root.child) && timer->at_ns <= now_ns) {
		edge_timer_cancel(timers, timer);
		timer->fired(timer, now_ns);
	}
}
