/*
 * CUBIC's idle room.
 *
 * What CUBIC has after a loss is less than the path, where the queue is short
 * beside the round trip: on 200 ms a fifth stays idle for seconds. But the queue that
 * overflowed has told how much of the path was ours. So while round trips show no queue
 * at all, the window is filled up to nearly that: borrowed, on top of a window that is CUBIC's
 * own and grows as it ever does. Where a queue shows up for more than a moment, what is
 * borrowed goes within a round trip or two, long before there is an overflow, which so finds each
 * with what CUBIC would have, and nobody waits longer for a share than beside CUBIC. A loss reduces
 * from CUBIC's own window. If others grow into the room while we have it, it is taken again only
 * slowly, and after the next loss, too: by steps that are a part of the queue, since it shows up a
 * round trip late. Losses without a queue (others may keep it short, or a policer) and timeouts
 * tell nothing, and there is no borrowing until the next overflow. But one such loss between two
 * overflows may be chance: what is borrowed is then taken again as slowly as beside others, so that
 * whoever caused it would answer by another one. Rejected: to borrow more than was ours, since that
 * is room that others had.
 */
#include "daemon/tcp/cubic.h"
#include "shared/util.h"

#define BORROW_MOST    0.99 /* of what was ours when the path overflowed */
#define BORROW_BESIDE  0.97 /* the same where others are */
#define BORROW_CROWDED 0.03 /* of the window, in a round trip */
#define BORROW_MOMENT  8    /* that part of a round trip */
#define BORROW_QUEUED \
	1.25 /* a longer queue keeps the path busy: BETA's share of it is nearly the path */

void tcp_cubic_remember(struct tcp_cubic *cubic, const struct tcp_cc_ack *ack)
{
	if (ack->now_ns >= cubic->recent_until_ns) {
		cubic->recent_ns[1] = cubic->recent_ns[0];
		cubic->recent_ns[0] = NEVER_NS;
		cubic->recent_until_ns = ack->now_ns + ack->srtt_ns / BORROW_MOMENT;
	}
	cubic->recent_ns[0] = MIN(cubic->recent_ns[0], ack->rtt_ns);
}

double tcp_cubic_lasting_queue(const struct tcp_cubic *cubic)
{
	uint64_t recent_ns = MIN(cubic->recent_ns[0], cubic->recent_ns[1]);

	if (recent_ns == NEVER_NS ||
	    recent_ns <= cubic->min_rtt_ns + tcp_cubic_queue_least_ns(cubic))
		return 1;
	return (double)recent_ns / (double)cubic->min_rtt_ns;
}

/* Who has cut the window without asking has it back already. */
uint32_t tcp_cubic_owed(const struct tcp_cc *cc)
{
	return cc->cubic.borrowed < cc->cwnd ? cc->cubic.borrowed : 0;
}

void tcp_cubic_pay_back(struct tcp_cc *cc)
{
	cc->cwnd -= tcp_cubic_owed(cc);
	cc->cubic.borrowed = 0;
}

void tcp_cubic_borrow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double window = cc->cwnd + cubic->borrowed, borrowed = cubic->borrowed;
	double part = cubic->part * (cubic->is_crowded ? BORROW_BESIDE : BORROW_MOST);
	double most = MAX(part - cc->cwnd, 0.0), step = most - borrowed;
	double round = MIN(ack->acked / window, 1.0); /* so much of a round trip */

	if (tcp_cubic_lasting_queue(cubic) > 1) {
		cubic->queued_ns = ack->now_ns;
		if (cubic->borrowed > 0)
			cubic->is_crowded = cubic->met_others = true;
		borrowed -= borrowed * round;
	} else if (step > 0 && ack->now_ns - cubic->queued_ns >= cubic->srtt_ns) {
		if (cubic->is_crowded)
			step = MIN(step, window * BORROW_CROWDED);
		borrowed += step * round;
	}
	cubic->borrowed = (uint32_t)MIN(borrowed, most);
	/* At a fifth more than the path's rate, what is filled would overflow a short queue. */
	if (cubic->borrowed > 0 && !cubic->is_crowded)
		cubic->calm_until_ns = ack->now_ns + cubic->srtt_ns;
}

void tcp_cubic_overflowed(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	uint32_t borrowed = cc->undo_cubic.borrowed;
	double queue = tcp_cubic_lasting_queue(cubic);

	cubic->is_crowded = cubic->met_others || borrowed > 0;
	cubic->met_others = false;
	if (queue == 1 && tcp_cubic_has_queue(cubic))
		queue = tcp_cubic_queued(cubic);
	if (queue == 1 && !cubic->had_chance) {
		cubic->had_chance = true;
		cubic->is_crowded |= cubic->part > 0;
		return;
	}
	cubic->had_chance = queue == 1;
	/* Late by a hiccup: that tells nothing. */
	if (queue >= BORROW_QUEUED && tcp_cubic_silent_ns(cubic) > 0)
		return;
	cubic->part = 0;
	if (queue > 1 && queue < BORROW_QUEUED)
		cubic->part = (uint32_t)((cc->undo_cwnd + borrowed) / queue);
}

void tcp_cubic_held(struct tcp_cubic *cubic, double held)
{
	cubic->part = tcp_cubic_lasting_queue(cubic) < BORROW_QUEUED ? (uint32_t)held : 0;
}
