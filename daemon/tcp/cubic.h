/*
 * What CUBIC's files share: cubic.c has the window, cubic_learn.c what it is taught about the path
 * and about others there, cubic_borrow.c the room that would stay idle.
 */
#ifndef MESHWRAP_DAEMON_TCP_CUBIC_H
#define MESHWRAP_DAEMON_TCP_CUBIC_H

#include "daemon/tcp/cc.h"
#include "shared/util.h"

#define CUBIC_BETA 0.7

static inline uint64_t tcp_cubic_queue_least_ns(const struct tcp_cubic *cubic)
{
	return 2 * NS_PER_MS + cubic->min_rtt_ns / 64;
}

static inline bool tcp_cubic_has_queue(const struct tcp_cubic *cubic)
{
	return cubic->min_rtt_ns != NEVER_NS &&
	       cubic->srtt_ns > cubic->min_rtt_ns + tcp_cubic_queue_least_ns(cubic);
}

/* How much more than the path holds is in flight while its queue is as long as it was last. */
static inline double tcp_cubic_queued(const struct tcp_cubic *cubic)
{
	return (double)cubic->srtt_ns / (double)cubic->min_rtt_ns;
}

/* Of the last round trips, by hiccups. */
static inline uint64_t tcp_cubic_silent_ns(const struct tcp_cubic *cubic)
{
	return cubic->silent_ns[0] + cubic->silent_ns[1];
}

/* cubic_learn.c */
/* An acknowledgement, in recovery, too. So long there was none, if for longer than is usual. */
uint64_t tcp_cubic_heard(struct tcp_cubic *cubic, uint64_t now_ns);
/* The same outside of recovery, where it is a hiccup if what ends it is late by that. */
void tcp_cubic_hiccup(struct tcp_cubic *cubic, const struct tcp_cc_ack *ack);
/* An acknowledgement while the lesson is CUBIC_PROBING. */
void tcp_cubic_probe(struct tcp_cc *cc, uint32_t acked);
/* After tcp_cubic_reduce(): slow start or probing has ended with a loss, */
void tcp_cubic_learn(struct tcp_cc *cc, bool is_first, uint64_t now_ns);
/* or neither. */
void tcp_cubic_share(struct tcp_cc *cc);
void tcp_cubic_trained(struct tcp_cc *cc, const struct tcp_cc_train *train);

/* cubic_borrow.c */
/* What an acknowledgement tells of the queue; it must have timed something. */
void tcp_cubic_remember(struct tcp_cubic *cubic, const struct tcp_cc_ack *ack);
/*
 * The round trip by the queue, times that without one; 1: there is none that lasts for a moment. A
 * busy machine delays acknowledgements, too, but not each of them.
 */
double tcp_cubic_lasting_queue(const struct tcp_cubic *cubic);
/* Sets what is borrowed beside cwnd, which is CUBIC's own. */
void tcp_cubic_borrow(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
/* The part of cwnd that is borrowed. */
uint32_t tcp_cubic_owed(const struct tcp_cc *cc);
void tcp_cubic_pay_back(struct tcp_cc *cc);
/* After tcp_cubic_reduce(): what was ours, borrowed or not, when a queue overflowed, if one did. */
void tcp_cubic_overflowed(struct tcp_cc *cc);
/* After an overflow the path has delivered so many bytes in a round trip. */
void tcp_cubic_held(struct tcp_cubic *cubic, double held);

#endif
