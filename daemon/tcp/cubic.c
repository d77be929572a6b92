/*
 * CUBIC (RFC 9438) with HyStart++ (RFC 9406).
 *
 * The window is a cubic function of the time since the last reduction, flat
 * around the size where that loss happened; below what Reno would reach, it
 * follows Reno. Slow start ends early, in a milder phase, when round trips get
 * longer: before the queue overflows rather than after.
 *
 * Sharing. After a loss a CUBIC flow gives up 30 % and is back in K seconds,
 * however large the path is; one that joined a full path had its slow start cut
 * to a few per cent of it, and needs several times K for a fair part: on 200 ms
 * minutes. But trains have told us what the path holds, so whenever its queue
 * overflows we know whether all that is ours. If not, and if more than our half
 * is, we go on at a little less than that and stay there for as long as CUBIC
 * takes from nothing to a half: once, and the other's next loss is at its fair
 * part. Whoever has less than that is no danger to anybody and does what CUBIC
 * does. Where nobody takes the room, what trains told is wrong by now and is
 * forgotten; what follows is plain CUBIC. Rejected: to take the most that we
 * ever had for what the path holds, since a flow that joined late then leaves
 * room that it never took; and to leave room at each first loss without knowing of
 * others, which a lone stream would pay for.
 *
 * Idle room. What CUBIC has after a loss is less than the path, where the queue is short
 * beside the round trip: on 200 ms a fifth stays idle for seconds. But the queue that
 * overflowed has told how much of the path was ours. So while round trips show no queue
 * at all, the window is filled up to nearly that: borrowed, on top of a window that is CUBIC's
 * own and grows as it ever does. Where a queue shows up for more than a moment, what is
 * borrowed goes within a round trip or two, long before there is an overflow, which so finds each
 * with what CUBIC would have, and nobody waits longer for a share than beside CUBIC. A loss reduces
 * from CUBIC's own window. If others grow into the room while we have it, it is taken again only
 * slowly, and after the next loss, too: by steps that are a part of the queue, since it shows up a
 * round trip late. Losses without a queue (others may keep it short, or a policer) and timeouts
 * tell nothing, and there is no borrowing until the next overflow. Rejected: to borrow more than
 * was ours, since that is room that others had.
 */
#include <math.h>

#include "daemon/tcp/cc.h"
#include "daemon/tcp/segment.h"
#include "shared/util.h"

#define BETA       0.7
#define C          0.4
#define RENO_ALPHA (3.0 * (1.0 - BETA) / (1.0 + BETA))

/* Bounds of what slow start's end may teach: of BETA's share, and of the window that overflowed. */
#define LEARN_LEAST 0.25
#define LEARN_MOST  0.95
#define LEARN_MORE  1.75 /* times what was learned before, to go on probing */
/* Times that, or what trains met: others have left so much room, and need the rest. */
#define LEARN_MUCH  4.5
#define LEARN_OTHER 1.1
#define LEARN_KNOWN 0.85 /* where trains began the probing, of the window that overflowed */
/* More than the path holds, and where CUBIC returns to; within what a queue has room for. */
#define LEARN_ROOM    0.07
#define LEARN_ROOM_NS (8 * NS_PER_MS)
#define CALM_ROUNDS   8u
/* Parts of what the path holds. */
#define SHARED_ALL   0.95 /* so much and more is ours: there is nobody else */
#define SHARED_FIRST 0.93 /* the same as a single round trip tells */
#define SHARED_FAIR  0.55 /* so much and less is our part beside one other */
#define SHARED_KEEP  0.4
#define SHARED_BACK  0.5  /* where the window grows slowly */
#define ROOM_LEFT    0.95 /* of our share then is ours again: nobody took what was left */

#define BORROW_MOST    0.99 /* of what was ours when the path overflowed */
#define BORROW_BESIDE  0.97 /* the same where others are */
#define BORROW_CROWDED 0.03 /* of the window, in a round trip */
#define BORROW_MOMENT  8    /* that part of a round trip */
#define BORROW_QUEUED \
	1.25 /* a longer queue keeps the path busy: BETA's share of it is nearly the path */

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

/* Who has cut the window without asking (a timeout in a loss that is known) has it back already. */
static uint32_t owed(const struct tcp_cc *cc)
{
	return cc->cubic.borrowed < cc->cwnd ? cc->cubic.borrowed : 0;
}

static void pay_back(struct tcp_cc *cc)
{
	cc->cwnd -= owed(cc);
	cc->cubic.borrowed = 0;
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

/* Gently, until a loss; or, where others are known to be, until a half of the path is ours. */
static void probe(struct tcp_cc *cc, uint32_t acked)
{
	struct tcp_cubic *cubic = &cc->cubic;

	cc->cwnd = MIN(cc->cwnd + acked / CUBIC_PROBE_DIVIDE, TCP_CWND_MAX);
	if (cubic->probe_most > 0 && cc->cwnd >= cubic->probe_most) {
		cubic->lesson = CUBIC_NONE;
		cubic->epoch_ns = 0;
		cubic->w_max = cubic->w_last_max = (double)cc->cwnd / cc->mss;
	}
}

static uint64_t queue_least_ns(const struct tcp_cubic *cubic)
{
	return 2 * NS_PER_MS + cubic->min_rtt_ns / 64;
}

static bool has_queue(const struct tcp_cubic *cubic)
{
	return cubic->min_rtt_ns != NEVER_NS &&
	       cubic->srtt_ns > cubic->min_rtt_ns + queue_least_ns(cubic);
}

/* How much more than the path holds is in flight while its queue is as long as it was last. */
static double queued(const struct tcp_cubic *cubic)
{
	return (double)cubic->srtt_ns / (double)cubic->min_rtt_ns;
}

static void remember(struct tcp_cubic *cubic, const struct tcp_cc_ack *ack)
{
	if (ack->now_ns >= cubic->recent_until_ns) {
		cubic->recent_ns[1] = cubic->recent_ns[0];
		cubic->recent_ns[0] = NEVER_NS;
		cubic->recent_until_ns = ack->now_ns + ack->srtt_ns / BORROW_MOMENT;
	}
	cubic->recent_ns[0] = MIN(cubic->recent_ns[0], ack->rtt_ns);
}

/*
 * The round trip by the queue, times that without one; 1: there is none. A busy machine delays
 * acknowledgements, too, but not each of them.
 */
static double lasting_queue(const struct tcp_cubic *cubic)
{
	uint64_t recent_ns = MIN(cubic->recent_ns[0], cubic->recent_ns[1]);

	if (recent_ns == NEVER_NS || recent_ns <= cubic->min_rtt_ns + queue_least_ns(cubic))
		return 1;
	return (double)recent_ns / (double)cubic->min_rtt_ns;
}

/* Beside cwnd, which is CUBIC's own. */
static void borrow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double window = cc->cwnd + cubic->borrowed, borrowed = cubic->borrowed;
	double part = cubic->part * (cubic->is_crowded ? BORROW_BESIDE : BORROW_MOST);
	double most = MAX(part - cc->cwnd, 0.0), step = most - borrowed;
	double round = MIN(ack->acked / window, 1.0); /* so much of a round trip */

	if (lasting_queue(cubic) > 1) {
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

static void avoid(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_cubic *cubic = &cc->cubic;
	struct tcp_cc_ack own = *ack;

	if (!ack->is_limited) {
		cubic->epoch_ns = 0; /* time without use is no time to grow for */
		pay_back(cc);
		return;
	}
	if (cubic->lesson == CUBIC_PROBING) {
		probe(cc, ack->acked);
		return;
	}
	cubic->borrowed = owed(cc);
	cc->cwnd -= cubic->borrowed;
	/* What was borrowed does not make the window grow. */
	own.acked = (uint32_t)((uint64_t)ack->acked * cc->cwnd / (cc->cwnd + cubic->borrowed));
	tcp_cubic_grow(cc, &own);
	borrow(cc, ack);
	cc->cwnd += cubic->borrowed;
}

static void cubic_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t step = ack->acked;

	cc->cubic.srtt_ns = ack->srtt_ns;
	if (ack->rtt_ns > 0) {
		cc->cubic.min_rtt_ns = MIN(cc->cubic.min_rtt_ns, ack->rtt_ns);
		remember(&cc->cubic, ack);
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
	pay_back(cc);
	cwnd = (double)cc->cwnd / cc->mss;
	/* Fast convergence: a window that could not get back makes room for others. */
	cubic->w_max = cwnd < cubic->w_last_max ? cwnd * (1.0 + BETA) / 2.0 : cwnd;
	cubic->w_last_max = cwnd;
	cubic->epoch_ns = 0;
	cubic->in_css = false;
	cubic->lesson = CUBIC_NONE;
	cubic->left_at = cubic->probe_most = 0;
	cc->undo_cwnd = cc->cwnd;
	cc->undo_ssthresh = cc->ssthresh;
	cc->ssthresh = MAX((uint32_t)(cc->cwnd * BETA), 2 * cc->mss);
}

/* Goes on at a little less than a half, and stays there long enough for others to take the rest. */
static void make_room(struct tcp_cc *cc, double held)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double keep = MIN(held, SHARED_KEEP * cubic->told) * queued(cubic);
	double back = MIN(keep / BETA, SHARED_BACK * cubic->told * queued(cubic));

	cubic->lesson = CUBIC_NONE;
	cubic->left_at = (uint32_t)held;
	cubic->is_crowded = true;
	cc->ssthresh = MAX((uint32_t)keep, 2 * cc->mss);
	cubic->w_max = cubic->w_last_max = MAX(back, keep) / cc->mss;
}

/* Slow start was cut at less than a fair part, by others who had filled the path. */
static void take_part(struct tcp_cc *cc, double held)
{
	struct tcp_cubic *cubic = &cc->cubic;

	cubic->lesson = CUBIC_PROBING;
	cubic->probe_most = (uint32_t)MIN(SHARED_BACK * cubic->told * queued(cubic), TCP_CWND_MAX);
	cc->ssthresh = cubic->learned = MAX((uint32_t)held, 2 * cc->mss);
}

/* What was ours, borrowed or not, when a queue overflowed. */
static void overflowed(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	uint32_t borrowed = cc->undo_cubic.borrowed;
	double queue = lasting_queue(cubic);

	cubic->is_crowded = cubic->met_others || borrowed > 0;
	cubic->met_others = false;
	cubic->part = 0;
	if (queue == 1 && has_queue(cubic))
		queue = queued(cubic);
	if (queue > 1 && queue < BORROW_QUEUED)
		cubic->part = (uint32_t)((cc->undo_cwnd + borrowed) / queue);
}

/* A window's loss, known by what trains told: how much of the path was ours? */
static void share(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double left_at = cc->undo_cubic.left_at, held;

	if (cubic->told == 0 || !has_queue(cubic))
		return;
	held = cc->undo_cwnd / queued(cubic);
	if (held >= SHARED_ALL * cubic->told)
		cubic->told = MAX(cubic->told, (uint32_t)held);
	else if (left_at > 0 && held >= ROOM_LEFT * left_at)
		cubic->told = 0;
	else if (held > SHARED_FAIR * cubic->told)
		make_room(cc, held);
}

/*
 * Slow start ends with more in flight than the path and its queue hold, by up to
 * a whole window where the queue is short beside the round trip. BETA's share of
 * that overflows once more, and BETA's share of the rest takes CUBIC many seconds
 * to get back. But the path was full: what it delivers in the next round trip is
 * where to go on from (LEARNING). Beside others that is less than a fair share, so
 * the window keeps growing, gently, until the next loss (PROBING), which takes back
 * no more than what was gained since. While that is a lot, it is done again; but so
 * much more that only others can have made room for it is enough.
 */
static void cubic_lost(struct tcp_cc *cc, uint64_t now_ns)
{
	struct tcp_cubic *cubic = &cc->cubic;
	bool is_first = cc->ssthresh == TCP_CWND_MAX, is_probing = cubic->lesson == CUBIC_PROBING;

	tcp_cubic_reduce(cc);
	overflowed(cc);
	if (!is_first && !is_probing) {
		share(cc);
		return;
	}
	if (is_first) {
		cubic->learned = 0;
		cubic->told = cc->start.agreed > 0 ? cc->start.held : 0;
	} else if (cc->start.is_full)
		cubic->learned = MAX(cubic->learned, (uint32_t)(cc->cwnd * LEARN_KNOWN));
	cc->start.is_full = false;
	cubic->lesson = CUBIC_LEARNING;
	cubic->learn_ns = now_ns;
	cubic->learn_bytes = 0;
	cc->ssthresh = MAX(cc->ssthresh, MIN(cubic->learned, (uint32_t)(cc->cwnd * LEARN_MOST)));
}

void tcp_cubic_probed(struct tcp_cc *cc, uint32_t held)
{
	struct tcp_cubic *cubic = &cc->cubic;
	bool is_much = held > LEARN_MUCH * cubic->learned ||
		       (cc->start.held > 0 && held > LEARN_OTHER * cc->start.held);

	if (held < LEARN_MORE * cubic->learned || (cubic->learned > 0 && is_much)) {
		cubic->lesson = CUBIC_NONE;
		cc->ssthresh = MAX(cc->ssthresh, MIN(cubic->learned, held));
		cubic->w_max = cubic->w_last_max = (double)MAX(cc->ssthresh, held) / cc->mss;
	} else {
		cubic->lesson = CUBIC_PROBING;
		cc->ssthresh = cubic->learned = MAX(held, 2 * cc->mss);
	}
}

bool tcp_cc_learned(struct tcp_cc *cc, uint32_t acked, uint64_t min_rtt_ns, uint64_t now_ns)
{
	struct tcp_cubic *cubic = &cc->cubic;
	uint64_t elapsed_ns = now_ns - cubic->learn_ns;
	double held, room = MIN(LEARN_ROOM, LEARN_ROOM_NS / (double)min_rtt_ns);

	if (cubic->lesson != CUBIC_LEARNING || elapsed_ns == 0)
		return false;
	cubic->learn_bytes += acked;
	if (elapsed_ns < min_rtt_ns)
		return false;
	held = (double)cubic->learn_bytes * (double)min_rtt_ns / (double)elapsed_ns;
	held = MAX(held, cc->ssthresh * LEARN_LEAST);
	cubic->part = lasting_queue(cubic) < BORROW_QUEUED ? (uint32_t)held : 0;
	cubic->calm_until_ns = now_ns + CALM_ROUNDS * min_rtt_ns;
	if (has_queue(cubic) && held < SHARED_FIRST * cubic->told) {
		if (held > SHARED_KEEP * cubic->told)
			make_room(cc, held);
		else
			take_part(cc, held);
		return true;
	}
	if (cubic->told > 0)
		cubic->told = MAX(cubic->told, (uint32_t)held);
	held = MIN(held, cc->undo_cwnd * LEARN_MOST);
	tcp_cubic_probed(cc, (uint32_t)held);
	/* A busy machine delays acknowledgements, so that more than held is in flight. */
	if (cubic->lesson == CUBIC_NONE)
		cubic->w_max = MAX(cubic->w_max, (1 + room) * held / cc->mss);
	return true;
}

static bool cubic_is_starting(const struct tcp_cc *cc)
{
	return cc->ssthresh == TCP_CWND_MAX && !cc->cubic.in_css;
}

/* What the path holds is known before a loss tells: probing goes on from there. */
static void cubic_trained(struct tcp_cc *cc, const struct tcp_cc_train *train)
{
	uint32_t window;

	if (tcp_cc_trained(cc, train, &window)) {
		cc->ssthresh = window;
		cc->cubic.lesson = CUBIC_PROBING;
		cc->cubic.learned = cc->cubic.told = MAX(window, cc->start.held);
	}
	cc->cwnd = window;
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
					 .trained = cubic_trained,
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
	pay_back(cc);
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
