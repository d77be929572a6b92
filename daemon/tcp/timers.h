/*
 * Deadlines of connections: a four-way heap with lazy keys.
 *
 * A key may be earlier than the connection's true deadline, never later. So
 * moving a deadline on, which every acknowledgement does, is no heap work at
 * all; the connection is looked at once too early and put back.
 */
#ifndef MESHWRAP_DAEMON_TCP_TIMERS_H
#define MESHWRAP_DAEMON_TCP_TIMERS_H

#include <stdint.h>

#define TCP_TIMER_OUT UINT32_MAX /* index of a timer that is not in the heap */

struct tcp_timer {
	uint64_t key_ns;
	uint32_t index;
};

struct tcp_timers {
	struct tcp_timer **heap;
	uint32_t count, room;
};

void tcp_timer_init(struct tcp_timer *timer);
/* Makes room for count timers, so that arming cannot fail. 0, or -ENOMEM. */
int tcp_timers_reserve(struct tcp_timers *timers, uint32_t count);
void tcp_timers_finish(struct tcp_timers *timers);

/* The timer is looked at no later than at. NEVER_NS: nothing to do. */
void tcp_timer_arm(struct tcp_timers *timers, struct tcp_timer *timer, uint64_t at_ns);
void tcp_timer_remove(struct tcp_timers *timers, struct tcp_timer *timer);
/* Takes out the first timer whose key has come, or NULL. */
struct tcp_timer *tcp_timers_pop(struct tcp_timers *timers, uint64_t now_ns);
uint64_t tcp_timers_next(const struct tcp_timers *timers);

#endif
