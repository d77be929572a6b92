/* Deadlines of the edge: an intrusive heap, so that setting one cannot fail. */
#ifndef MESHWRAP_DAEMON_EDGE_TIMER_H
#define MESHWRAP_DAEMON_EDGE_TIMER_H

#include <stdint.h>

struct edge_timer {
	uint64_t at_ns;
	void (*fired)(struct edge_timer *timer, uint64_t now_ns);
	struct edge_timer *child, *next, *prev; /* prev: left sibling or parent; NULL: not set */
};

struct edge_timers {
	struct edge_timer root; /* its only child is the earliest timer */
};

/* Sets or moves a timer; fired must have been filled in. */
void edge_timer_set(struct edge_timers *timers, struct edge_timer *timer, uint64_t at_ns);
void edge_timer_cancel(struct edge_timers *timers, struct edge_timer *timer);
/* NEVER_NS when none is set. */
uint64_t edge_timers_deadline(const struct edge_timers *timers);
/* Fires what is due; a timer may set or cancel any timer, itself (for later) too. */
void edge_timers_expire(struct edge_timers *timers, uint64_t now_ns);

#endif
