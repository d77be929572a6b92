/*
 * CUBIC (RFC 9438) with HyStart++ (RFC 9406).
 *
 * The window is a cubic function of the time since the last reduction, flat
 * around the size where that loss happened; below what Reno would reach, it
 * follows Reno. Slow start ends early, in a milder phase, when round trips get
 * longer: before the queue overflows rather than after.
 *
 * What goes beyond the RFCs is called from here: lessons that end slow start and leave room to
 * others (cubic_learn.c), and a part of the window that is borrowed (cubic_borrow.c).
 */
#include "daemon/tcp/cubic.h"

#include <math.h>

#include "daemon/tcp/segment.h"
#include "shared/util.h"

#define C          0.4
#define RENO_ALPHA (3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA))

#define HYSTART_MIN_NS     (4 * NS_PER_MS)
#define HYSTART_MAX_NS     (16 * NS_PER_MS)
#define HYSTART_SAMPLES    8u
#define HYSTART_CSS_ROUNDS 5u
#define HYSTART_CSS_DIVIDE 4u

static void cubic_init(struct tcp_cc *cc)
{
	cc->cubic = (struct tcp_cubic){ .min_rtt_ns = NEVER_NS,
					.round_min_ns = NEVER_NS,
					.last_round_min_ns = NEVER_NS,
					.css_baseline_ns = NEVER_NS,
					.recent_ns = { NEVER_NS, NEVER_NS } };
}

static void next_round(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;

	cubic->last_round_min_ns = cubic->round_min_ns;
	cubic->round_min_ns = NEVER_NS;
	cubic->round_samples = 0;
	cubic->round_end = ack->nxt;
	cubic->has_round = true;
	if (cubic->in_css && ++cubic->css_rounds >= HYSTART_CSS_ROUNDS)
		cc->ssthresh = cc->cwnd;
}

static void hystart(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	uint64_t threshold;

	if (!cubic->has_round || seq_lt(cubic->round_end, ack->una))
		next_round(cc, ack);
	if (ack->rtt_ns > 0) {
		cubic->round_min_ns = MIN(cubic->round_min_ns, ack->rtt_ns);
		if (cubic->round_samples < UINT8_MAX)
			cubic->round_samples++;
	}
	if (cubic->round_samples < HYSTART_SAMPLES || cubic->last_round_min_ns == NEVER_NS)
		return;
	if (cubic->in_css) {
		if (cubic->round_min_ns < cubic->css_baseline_ns)
			cubic->in_css = false; /* the longer round trips were chance */
		return;
	}
	threshold = MAX(HYSTART_MIN_NS, MIN(cubic->last_round_min_ns / 8, HYSTART_MAX_NS));
	if (cubic->round_min_ns >= cubic->last_round_min_ns + threshold) {
		cubic->in_css = true;
		cubic->css_rounds = 0;
		cubic->css_baseline_ns = cubic->round_min_ns;
	}
}

static void begin_epoch(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double cwnd = (double)cc->cwnd / cc->mss;

	cubic->epoch_ns = ack->now_ns;
	cubic->w_est = cwnd;
	if (cubic->w_max <= cwnd) {
		cubic->w_max = cwnd;
		cubic->k_s = 0;
	} else {
		/* Who left room waits for one who comes from nothing. */
		cubic->k_s = cbrt((cubic->w_max - (cubic->left_at > 0 ? 0 : cwnd)) / C);
	}
}

void tcp_cubic_grow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double cwnd = (double)cc->cwnd / cc->mss, acked = (double)ack->acked / cc->mss;
	double t, target, next;

	if (cubic->epoch_ns == 0)
		begin_epoch(cc, ack);
	t = (double)(ack->now_ns - cubic->epoch_ns + ack->srtt_ns) / 1e9 - cubic->k_s;
	target = C * t * t * t + cubic->w_max;
	target = MIN(MAX(target, cwnd), 1.5 * cwnd);
	cubic->w_est += (cubic->w_est < cubic->w_max ? RENO_ALPHA : 1.0) * acked / cwnd;
	next = cwnd + (target - cwnd) / cwnd * acked;
	next = MAX(next, MIN(cubic->w_est, cwnd + acked));
	cc->cwnd = (uint32_t)MIN(next * cc->mss, (double)TCP_CWND_MAX);
}

static void avoid(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	struct tcp_cc_ack own = *ack;

	if (!ack->is_limited) {
		cubic->epoch_ns = 0; /* time without use is no time to grow for */
		tcp_cubic_pay_back(cc);
		return;
	}
	if (cubic->lesson == CUBIC_PROBING) {
		tcp_cubic_probe(cc, ack->acked);
		return;
	}
	cubic->borrowed = tcp_cubic_owed(cc);
	cc->cwnd -= cubic->borrowed;
	/* What was borrowed does not make the window grow. */
	own.acked = (uint32_t)((uint64_t)ack->acked * cc->cwnd / (cc->cwnd + cubic->borrowed));
	tcp_cubic_grow(cc, &own);
	tcp_cubic_borrow(cc, ack);
	cc->cwnd += cubic->borrowed;
}

static void cubic_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t step = ack->acked;

	tcp_cubic_hiccup(&cc->cubic, ack);
	cc->cubic.srtt_ns = ack->srtt_ns;
	if (ack->rtt_ns > 0) {
		cc->cubic.min_rtt_ns = MIN(cc->cubic.min_rtt_ns, ack->rtt_ns);
		tcp_cubic_remember(&cc->cubic, ack);
	}
	if (cc->cwnd >= cc->ssthresh) {
		avoid(cc, ack);
		return;
	}
	hystart(cc, ack);
	if (!ack->is_limited || cc->start.is_out)
		return;
	if (cc->cubic.in_css)
		step /= HYSTART_CSS_DIVIDE;
	cc->cwnd = MIN(MIN(cc->cwnd + step, MAX(cc->ssthresh, cc->cwnd)), TCP_CWND_MAX);
}

void tcp_cubic_reduce(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double cwnd;

	cc->undo_cubic = *cubic;
	tcp_cubic_pay_back(cc);
	cwnd = (double)cc->cwnd / cc->mss;
	/* Fast convergence: a window that could not get back makes room for others. */
	cubic->w_max = cwnd < cubic->w_last_max ? cwnd * (1.0 + CUBIC_BETA) / 2.0 : cwnd;
	cubic->w_last_max = cwnd;
	cubic->epoch_ns = 0;
	cubic->in_css = false;
	cubic->lesson = CUBIC_NONE;
	cubic->left_at = cubic->probe_most = 0;
	cc->undo_cwnd = cc->cwnd;
	cc->undo_ssthresh = cc->ssthresh;
	cc->ssthresh = MAX((uint32_t)(cc->cwnd * CUBIC_BETA), 2 * cc->mss);
}

/* The end of slow start or of probing teaches; another loss tells how much of the path was ours. */
static void cubic_lost(struct tcp_cc *cc, uint64_t now_ns)
{
	bool is_first = cc->ssthresh == TCP_CWND_MAX;
	bool is_lesson = is_first || cc->cubic.lesson == CUBIC_PROBING;

	tcp_cubic_reduce(cc);
	tcp_cubic_overflowed(cc);
	if (is_lesson)
		tcp_cubic_learn(cc, is_first, now_ns);
	else
		tcp_cubic_share(cc);
}

static bool cubic_is_starting(const struct tcp_cc *cc)
{
	return cc->ssthresh == TCP_CWND_MAX && !cc->cubic.in_css;
}

static void cubic_timed_out(struct tcp_cc *cc, uint64_t now_ns)
{
	(void)now_ns;
	tcp_cubic_reduce(cc);
	cc->cubic.part = 0;
}

const struct tcp_cc_ops tcp_cc_cubic = { .name = "cubic",
					 .init = cubic_init,
					 .acked = cubic_acked,
					 .is_starting = cubic_is_starting,
					 .trained = tcp_cubic_trained,
					 .lost = cubic_lost,
					 .timed_out = cubic_timed_out };

void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss)
{
	cc->ops = ops;
	cc->mss = mss;
	cc->cwnd = TCP_INITIAL_WINDOW * mss;
	cc->ssthresh = TCP_CWND_MAX;
	cc->undo_cwnd = cc->undo_ssthresh = 0;
	cc->pacing_rate = 0;
	cc->start = (struct tcp_cc_start){ 0 };
	ops->init(cc);
}

void tcp_cc_change(struct tcp_cc *cc, const struct tcp_cc_ops *ops)
{
	cc->ops = ops;
	cc->pacing_rate = 0;
	ops->init(cc);
}

void tcp_cc_idle(struct tcp_cc *cc, uint64_t idle_ns, uint64_t rto_ns)
{
	uint32_t least = MIN(TCP_INITIAL_WINDOW * cc->mss, cc->cwnd);

	if (cc->ops->is_rate_based)
		return; /* pacing is its restart */
	tcp_cubic_pay_back(cc);
	/* What was learned stays: slow start may return to three quarters at once. */
	cc->ssthresh = MAX(cc->ssthresh, cc->cwnd / 4 * 3);
	for (; idle_ns > rto_ns && cc->cwnd > least; idle_ns -= rto_ns)
		cc->cwnd = MAX(cc->cwnd / 2, least);
	cc->cubic.epoch_ns = 0;
}

void tcp_cc_undo(struct tcp_cc *cc)
{
	cc->cwnd = MAX(cc->cwnd, cc->undo_cwnd + cc->undo_cubic.borrowed);
	cc->ssthresh = MAX(cc->ssthresh, cc->undo_ssthresh);
	/* The epoch goes on, too: one that begins anew each time never gets anywhere. */
	cc->cubic = cc->undo_cubic;
}
