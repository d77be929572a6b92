/*
 * What Linux makes of CUBIC, and RFC 9438 and ours do not: HyStart ends slow
 * start at once, by trains of acknowledgements as long as half a round trip or
 * by a longer round trip; from there to the first loss the window grows by 5 %
 * a round trip at least; nothing is paced.
 *
 * It takes the place of a rate-based algorithm, as these set their window in
 * recovery, too.
 */
#include "kernel_cubic.h"

#include <math.h>

#include "daemon/tcp/conn.h"
#include "shared/util.h"

#define BETA        0.7
#define C           0.4
#define RENO_ALPHA  (3.0 * (1.0 - BETA) / (1.0 + BETA))
#define FIRST_SHARE 20 /* of the window, each round trip before the first loss */

#define HYSTART_LOW_WINDOW 16u
#define HYSTART_ACK_NS     (2 * NS_PER_MS)
#define HYSTART_SAMPLES    8u
#define HYSTART_MIN_NS     (4 * NS_PER_MS)
#define HYSTART_MAX_NS     (16 * NS_PER_MS)

/* In struct tcp_cc, rate has what HyStart and recovery need, cubic the epoch. */

static void kernel_init(struct tcp_cc *cc)
{
	cc->cubic = (struct tcp_cubic){ 0 };
	cc->rate = (struct tcp_rate){ .min_rtt_ns = NEVER_NS };
}

static void hystart(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	struct tcp_cubic *cubic = &cc->cubic;
	uint64_t more_ns = MIN(MAX(r->min_rtt_ns / 8, HYSTART_MIN_NS), HYSTART_MAX_NS);

	if (!cubic->has_round || seq_lt(cubic->round_end, ack->una)) {
		cubic->has_round = true;
		cubic->round_end = ack->nxt;
		cubic->round_min_ns = NEVER_NS;
		cubic->round_samples = 0;
		r->phase_ns = r->recent_until_ns = ack->now_ns;
	}
	if (ack->now_ns - r->recent_until_ns <= HYSTART_ACK_NS) {
		r->recent_until_ns = ack->now_ns;
		if (ack->now_ns - r->phase_ns > r->min_rtt_ns / 2)
			cc->ssthresh = cc->cwnd;
	}
	cubic->round_min_ns = MIN(cubic->round_min_ns, ack->rtt_ns);
	if (cubic->round_samples < HYSTART_SAMPLES)
		cubic->round_samples++;
	else if (cubic->round_min_ns > r->min_rtt_ns + more_ns)
		cc->ssthresh = cc->cwnd;
}

static void grow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double cwnd = (double)cc->cwnd / cc->mss, acked = (double)ack->acked / cc->mss;
	double t, target, step;

	if (cubic->epoch_ns == 0) {
		cubic->epoch_ns = ack->now_ns;
		cubic->w_est = cwnd;
		cubic->k_s = cubic->w_last_max > cwnd ? cbrt((cubic->w_last_max - cwnd) / C) : 0;
		cubic->w_max = MAX(cubic->w_last_max, cwnd);
	}
	t = (double)(ack->now_ns - cubic->epoch_ns + cc->rate.min_rtt_ns) / 1e9 - cubic->k_s;
	target = C * t * t * t + cubic->w_max;
	step = MAX(target - cwnd, 0.01);
	if (cubic->w_last_max == 0)
		step = MAX(step, cwnd / FIRST_SHARE);
	cubic->w_est += RENO_ALPHA * acked / cwnd;
	step = MIN(MAX(step, cubic->w_est - cwnd), cwnd / 2);
	cc->cwnd = (uint32_t)MIN((cwnd + step / cwnd * acked) * cc->mss, (double)TCP_CWND_MAX);
}

static void kernel_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;

	if (ack->rtt_ns > 0)
		r->min_rtt_ns = MIN(r->min_rtt_ns, ack->rtt_ns);
	r->round_bytes = ack->delivered;
	if (r->deaf_until > 0) {
		/* Proportional reduction, for a round trip. */
		cc->cwnd = MAX(cc->ssthresh,
			       MIN(cc->cwnd, ack->in_flight + (uint32_t)(BETA * ack->acked)));
		if (ack->prior_delivered < r->deaf_until)
			return;
		cc->cwnd = cc->ssthresh;
		r->deaf_until = 0;
	}
	if (!ack->is_limited)
		return;
	if (cc->cwnd >= cc->ssthresh) {
		grow(cc, ack);
		return;
	}
	cc->cwnd = MIN(cc->cwnd + ack->acked, MAX(cc->ssthresh, cc->cwnd));
	if (ack->rtt_ns > 0 && cc->ssthresh == TCP_CWND_MAX &&
	    cc->cwnd >= HYSTART_LOW_WINDOW * cc->mss)
		hystart(cc, ack);
}

static void reduce(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double cwnd = (double)cc->cwnd / cc->mss;

	cc->undo_cwnd = cc->cwnd;
	cc->undo_ssthresh = cc->ssthresh;
	cc->undo_cubic = *cubic;
	cubic->epoch_ns = 0;
	cubic->w_last_max = cwnd < cubic->w_last_max ? cwnd * (1 + BETA) / 2 : cwnd;
	cc->ssthresh = MAX((uint32_t)(cc->cwnd * BETA), 2 * cc->mss);
}

static void kernel_lost(struct tcp_cc *cc, uint64_t now_ns)
{
	(void)now_ns;
	reduce(cc);
	cc->rate.deaf_until = cc->rate.round_bytes + 1;
}

static void kernel_timed_out(struct tcp_cc *cc, uint64_t now_ns)
{
	(void)now_ns;
	reduce(cc);
	cc->rate.deaf_until = 0;
}

/* No trains. */
static bool kernel_is_starting(const struct tcp_cc *cc)
{
	(void)cc;
	return false;
}

static void kernel_trained(struct tcp_cc *cc, const struct tcp_cc_train *train)
{
	(void)cc;
	(void)train;
}

static const struct tcp_cc_ops kernel_ops = { .name = "kernel",
					      .is_rate_based = true,
					      .init = kernel_init,
					      .acked = kernel_acked,
					      .is_starting = kernel_is_starting,
					      .trained = kernel_trained,
					      .lost = kernel_lost,
					      .timed_out = kernel_timed_out };

void kernel_cubic_use(struct tcp_conn *conn)
{
	tcp_cc_change(&conn->cc, &kernel_ops);
	conn->cc.cwnd = TCP_INITIAL_WINDOW * conn->cc.mss;
	conn->cc.start = (struct tcp_cc_start){ 0 };
	tcp_send_pace(conn);
}
