/*
 * Congestion control by rate: a model of the path instead of a window that
 * shrinks at every loss.
 *
 * The model is the most that was delivered lately (bw) and the least round trip
 * (min_rtt). Sending at bw with about bw * min_rtt in flight fills the path and
 * leaves its queue empty. The phases are those of BBR: STARTUP doubles until the
 * path delivers no more, DOWN drains what that queued, CRUISE holds, UP asks
 * every few seconds for a quarter more, PROBE_RTT finds the least round
 * trip again. Asking ends when a queue answers, before it overflows.
 *
 * Which losses count is decided by the queue. Where ours is short, a loss is
 * the path's nature, and is repaired without slowing down; the share lost so
 * is remembered as noise. A loss that meets a long queue and exceeds the noise
 * is congestion, as is a loss of 2 % or more: the flight is then bounded by
 * CUBIC's reduction, and the bound (in ssthresh) grows by CUBIC's law.
 *
 * When the queue stays although we have drained our part, somebody else fills
 * it. Then a rate says nothing and whoever keeps the queue short starves: in
 * SHARED the bound itself is the window, so we take what CUBIC would, until
 * the next PROBE_RTT finds the queue gone.
 *
 * Rejected: BBR as it is. Bounded by loss rate alone it takes most of a shallow
 * queue from CUBIC and gives most of a deep one away; one that counts each
 * loss of a round (BBRv3) loses speed at 1 % random loss.
 *
 * A path of less than TCP_RATE_LEAST_RTT is not for this: there a round trip
 * is a matter of schedulers, and CUBIC has no trouble to fill it.
 */
#include <math.h>

#include "daemon/tcp/cc.h"
#include "shared/util.h"

#define STARTUP_GAIN 2.77 /* doubles each round trip: 4 * ln 2 */
#define UP_GAIN      1.25
#define DOWN_GAIN    0.5
#define CRUISE_GAIN  0.99
#define SHARED_GAIN  1.2
#define LEAST_WINDOW 4u              /* segments */
#define QUANTUM_NS   (2 * NS_PER_MS) /* what pacing and batches may hold back */

#define STARTUP_GROWTH 1.25
#define UP_GROWTH      1.05
#define UP_QUEUE_NS    (8 * NS_PER_MS)
#define PLATEAU_ROUNDS 3u
#define DOWN_ROUNDS    4u

#define MIN_RTT_AGE_NS (10 * NS_PER_S)
#define SHARED_NS      (10 * NS_PER_S)
#define PROBE_RTT_NS   (60 * NS_PER_MS)
#define PROBE_RTT_ROOM (40 * NS_PER_MS) /* of queue that it drains */
#define CRUISE_NS      (2 * NS_PER_S)
#define RECENT_NS      (5 * NS_PER_MS)

#define LOSS_MAX     0.02
#define LOSS_LEAST   8u  /* segments, before a share of them means anything */
#define CHANCE       3.0 /* standard deviations */
#define NOISE_LEAST  0.0003
#define NOISE_MAX    0.05
#define NOISE_MEMORY 10000u /* segments */

#define REPAIR_ROUNDS 4u
#define YOUNG_NS      (5 * NS_PER_S) /* after STARTUP, or longer: */
#define YOUNG_ROUNDS  60u

/* Where trains have told what the path holds, see train.c. */
#define KNOWN_SHARE   0.97 /* so much of that is the rate */
#define KNOWN_ROOM    0.12 /* and so much more the flight, within: */
#define KNOWN_LEAST   (4 * NS_PER_MS)
#define KNOWN_MOST    (12 * NS_PER_MS) /* of queue, when asking meets none on the way there */
#define TRAIN_GAIN    1.2
#define TRAIN_CAREFUL 1.05

static void rate_init(struct tcp_cc *cc)
{
	cc->cubic = (struct tcp_cubic){ 0 };
	cc->rate = (struct tcp_rate){ .min_rtt_ns = NEVER_NS,
				      .least_rtt_ns = NEVER_NS,
				      .recent_ns = { NEVER_NS, NEVER_NS },
				      .round_rtt_ns = NEVER_NS };
}

static uint64_t bandwidth(const struct tcp_rate *r)
{
	return MAX(r->bw[0], r->bw[1]);
}

/* Bytes that fill the path without a queue. */
static uint64_t pipe_size(const struct tcp_rate *r)
{
	if (r->min_rtt_ns == NEVER_NS)
		return 0;
	return (uint64_t)((double)bandwidth(r) * (double)r->min_rtt_ns / 1e9);
}

static uint64_t queue_now(const struct tcp_rate *r)
{
	uint64_t recent_ns = MIN(r->recent_ns[0], r->recent_ns[1]);

	return recent_ns == NEVER_NS || recent_ns < r->min_rtt_ns ? 0 : recent_ns - r->min_rtt_ns;
}

/* A queue of our own making, or somebody else's: more than chance. */
static uint64_t long_queue(const struct tcp_rate *r)
{
	return MAX(3 * NS_PER_MS, MIN(r->min_rtt_ns / 8, 10 * NS_PER_MS));
}

static void set_phase(struct tcp_cc *cc, enum tcp_rate_phase phase, uint64_t now_ns)
{
	struct tcp_rate *r = &cc->rate;

	r->phase = phase;
	r->phase_ns = now_ns;
	r->phase_rounds = 0;
	r->plateau_rounds = r->high_rounds = 0;
}

static uint32_t known_bound(const struct tcp_rate *r, double held)
{
	double rtt_ns = (double)r->min_rtt_ns, room = MIN(KNOWN_ROOM, KNOWN_MOST / rtt_ns);

	return (uint32_t)MIN((1 + MAX(room, KNOWN_LEAST / rtt_ns)) * held,
			     (double)TCP_CWND_MAX - 1);
}

/* STARTUP ends because trains have told what the path holds, so no loss has set a bound. */
static void use_known(struct tcp_cc *cc)
{
	struct tcp_rate *r = &cc->rate;
	double held = cc->start.held;

	r->bw[0] = MAX(r->bw[0], (uint64_t)(KNOWN_SHARE * held * 1e9 / (double)r->min_rtt_ns));
	if (cc->ssthresh < TCP_CWND_MAX)
		return;
	cc->ssthresh = MAX(known_bound(r, held), LEAST_WINDOW * cc->mss);
	cc->cubic.epoch_ns = 0;
	cc->cubic.w_max = (double)cc->ssthresh / cc->mss;
	r->is_guess = true;
}

/* Asking is over: what was measured before the last time is forgotten. */
static void go_down(struct tcp_cc *cc, uint64_t now_ns)
{
	struct tcp_rate *r = &cc->rate;
	bool has_grown = r->phase == RATE_STARTUP ||
			 (double)r->bw[0] > UP_GROWTH * (double)r->bw[1];

	/* Not all at the same time: the low bits of the time are as good as random. */
	r->wait_ns = has_grown ? 0 : CRUISE_NS + (now_ns >> 8) % 1024 * NS_PER_MS;
	if (r->phase == RATE_STARTUP && cc->start.is_full)
		use_known(cc);
	if (r->phase == RATE_UP) {
		r->bw[1] = r->bw[0];
		r->bw[0] = 0;
	} else {
		r->young_until_ns = now_ns + MAX(YOUNG_NS, YOUNG_ROUNDS * r->min_rtt_ns);
	}
	set_phase(cc, RATE_DOWN, now_ns);
}

static void update_rtt(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;

	if (ack->rtt_ns == 0)
		return;
	if (ack->rtt_ns < r->least_rtt_ns - r->least_rtt_ns / 16) {
		/* What seemed to meet no queue had met one. */
		r->noise = 0;
		r->noise_seen = 0;
	}
	r->least_rtt_ns = MIN(r->least_rtt_ns, ack->rtt_ns);
	if (ack->rtt_ns <= r->min_rtt_ns + r->min_rtt_ns / 32 || r->min_rtt_ns == NEVER_NS) {
		r->min_rtt_ns = MIN(r->min_rtt_ns, ack->rtt_ns);
		r->min_rtt_at_ns = ack->now_ns;
	}
	r->round_rtt_ns = MIN(r->round_rtt_ns, ack->rtt_ns);
	if (ack->now_ns >= r->recent_until_ns) {
		r->recent_ns[1] = r->recent_ns[0];
		r->recent_ns[0] = NEVER_NS;
		r->recent_until_ns = ack->now_ns + MAX(RECENT_NS, r->min_rtt_ns / 4);
	}
	r->recent_ns[0] = MIN(r->recent_ns[0], ack->rtt_ns);
}

/* The bound may be far from a fair share: it grows gently, and the next loss takes back only that.
 */
static void probe_bound(struct tcp_cc *cc, uint32_t learned)
{
	cc->cubic.learned = cc->ssthresh = MAX(learned, LEAST_WINDOW * cc->mss);
	cc->cubic.lesson = CUBIC_PROBING;
}

/* The flight is bounded as CUBIC would bound it. */
static void congested(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	uint32_t cwnd = cc->cwnd, flight = MIN(cc->ssthresh, MAX(r->round_pipe, r->last_pipe));
	bool is_probing = cc->cubic.lesson == CUBIC_PROBING;
	bool is_first = cc->ssthresh >= TCP_CWND_MAX;

	cc->cwnd = flight;
	tcp_cubic_reduce(cc);
	cc->undo_cwnd = cwnd;
	cc->cwnd = cwnd;
	cc->ssthresh = MAX(cc->ssthresh, LEAST_WINDOW * cc->mss);
	if (is_probing)
		tcp_cubic_probed(cc, (uint32_t)(flight * (double)r->min_rtt_ns /
						MAX(ack->srtt_ns, r->min_rtt_ns)));
	r->deaf_until = ack->delivered;
	r->is_guess = false;
	r->repair_rounds = REPAIR_ROUNDS;
	r->low_bytes = r->low_lost = r->high_bytes = r->high_lost = 0;
	/* How much of that was overshoot, only the next round trips tell. */
	r->is_learning |= is_first && (r->phase == RATE_STARTUP || ack->now_ns < r->young_until_ns);
	if (r->phase == RATE_STARTUP || r->phase == RATE_UP)
		go_down(cc, ack->now_ns);
}

/* More than this many of count segments is no chance where share of them are lost on average. */
static double by_chance(double share, double count)
{
	return share * count + CHANCE * sqrt(share * count) + 1;
}

/* Without noise, the first loss that meets a long queue tells. STARTUP, if it overflows, does so by
 * far. */
static bool is_overflow(const struct tcp_cc *cc)
{
	const struct tcp_rate *r = &cc->rate;
	uint32_t least = r->phase == RATE_STARTUP ? LOSS_LEAST * cc->mss : 1;

	return r->high_lost >= least && r->noise < NOISE_LEAST;
}

/* Was more lost in this round than the path is known to lose? */
static bool is_congestion(const struct tcp_cc *cc)
{
	const struct tcp_rate *r = &cc->rate;
	double lost = ((double)r->low_lost + r->high_lost) / cc->mss;
	double high = (double)r->high_bytes + r->high_lost;
	double all = (double)r->low_bytes + r->low_lost + high;
	double share = high > all / 4 ? 0 : LOSS_MAX;

	/* What is found lost just after a reduction was mostly sent before it. */
	if (r->repair_rounds >= REPAIR_ROUNDS - 1)
		return false;
	/* What was sent in one round is found lost in the next, which may be a smaller one. */
	all = MAX(all, r->last_bytes);
	return lost >= LOSS_LEAST && lost > by_chance(MAX(share, 1.5 * r->noise), all / cc->mss);
}

static void count_losses(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	bool is_high = queue_now(r) > 2 * NS_PER_MS + r->min_rtt_ns / 64;
	uint32_t lost = (uint32_t)(ack->lost - r->lost_seen);

	r->lost_seen = ack->lost;
	if (r->timed_out) {
		r->timed_out = false;
		return;
	}
	if (ack->prior_delivered < r->deaf_until)
		return;
	if (is_high) {
		r->high_bytes += ack->acked;
		r->high_lost += lost;
	} else {
		r->low_bytes += ack->acked;
		r->low_lost += lost;
	}
	if (lost > 0 && is_overflow(cc))
		congested(cc, ack);
}

/* The mean share of what is lost without a queue. */
static void learn_noise(struct tcp_cc *cc)
{
	struct tcp_rate *r = &cc->rate;
	double all = (double)r->low_bytes + r->low_lost;
	double segments = all / cc->mss;

	/* What a congestion leaves behind is none of it. */
	if (r->repair_rounds > 0) {
		r->repair_rounds--;
		return;
	}
	/* Beside others it is hard to tell what met no queue. */
	if (segments < 1 || r->phase == RATE_SHARED || r->phase == RATE_PROBE_RTT)
		return;
	r->noise_seen = (uint32_t)MIN(r->noise_seen + segments, (double)NOISE_MEMORY);
	r->noise += (r->low_lost / all - r->noise) * MIN(segments / MAX(r->noise_seen, 1u), 1.0);
	r->noise = MIN(r->noise, NOISE_MAX);
}

static bool has_plateau(struct tcp_rate *r, double growth, unsigned rounds)
{
	if ((double)bandwidth(r) >= growth * (double)r->plateau) {
		r->plateau = bandwidth(r);
		r->plateau_rounds = 0;
		return false;
	}
	return ++r->plateau_rounds >= rounds;
}

static void enter_shared(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	uint64_t flight = MAX((uint64_t)MAX(r->round_pipe, r->last_pipe), pipe_size(r));

	cc->ssthresh = MAX((uint32_t)MIN(flight, cc->ssthresh), LEAST_WINDOW * cc->mss);
	cc->cubic.epoch_ns = 0;
	cc->cubic.w_max = (double)cc->ssthresh / cc->mss;
	/* Not by a loss, and so not taken back when one was none: there may have been no bound
	 * before. */
	cc->undo_ssthresh = cc->ssthresh;
	cc->undo_cubic = cc->cubic;
	set_phase(cc, RATE_SHARED, ack->now_ns);
	/* Whoever comes late finds others at rest, and has but what slow start could take. */
	if (ack->now_ns < r->young_until_ns && cc->cubic.lesson == CUBIC_NONE)
		probe_bound(cc, cc->ssthresh);
}

static void end_round(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	bool is_high = r->round_rtt_ns != NEVER_NS &&
		       r->round_rtt_ns > r->min_rtt_ns + long_queue(r);

	r->phase_rounds++;
	if (r->is_learning && r->repair_rounds <= REPAIR_ROUNDS - 2) {
		probe_bound(cc, MAX(cc->ssthresh, (uint32_t)MIN(pipe_size(r), TCP_CWND_MAX)));
		r->is_learning = false;
	}
	if (ack->now_ns >= r->young_until_ns)
		cc->cubic.lesson = CUBIC_NONE;
	if (is_congestion(cc))
		congested(cc, ack);
	else
		learn_noise(cc);
	switch (r->phase) {
	case RATE_STARTUP:
		if (!ack->is_rate_limited && has_plateau(r, STARTUP_GROWTH, PLATEAU_ROUNDS))
			go_down(cc, ack->now_ns);
		break;
	case RATE_UP:
		if (has_plateau(r, UP_GROWTH, PLATEAU_ROUNDS))
			go_down(cc, ack->now_ns);
		break;
	case RATE_CRUISE:
		/* Our part of the queue is gone by the second, and does not come back soon. */
		if (r->phase_rounds < 2)
			break;
		r->high_rounds = is_high ? r->high_rounds + 1 : 0;
		if (r->high_rounds >= (r->phase_rounds <= 4 ? 2 : 4))
			enter_shared(cc, ack);
		break;
	default:
		break;
	}
	r->round_bytes = ack->delivered;
	r->round_rtt_ns = NEVER_NS;
	r->last_pipe = r->round_pipe;
	r->round_pipe = ack->in_flight;
	r->last_bytes = r->low_bytes + r->low_lost + r->high_bytes + r->high_lost;
	r->low_bytes = r->low_lost = r->high_bytes = r->high_lost = 0;
}

static void probe_rtt_if_due(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	bool is_due = r->phase == RATE_SHARED ? ack->now_ns - r->phase_ns > SHARED_NS
					      : ack->now_ns - r->min_rtt_at_ns > MIN_RTT_AGE_NS;

	/* Whoever joins a queue has not yet seen the path without it. */
	is_due |= !r->is_sure && r->phase == RATE_CRUISE && r->wait_ns > 0;

	if (!is_due || r->phase == RATE_PROBE_RTT || r->phase == RATE_STARTUP)
		return;
	if (r->phase == RATE_SHARED) {
		r->bw[1] = r->bw[0];
		r->bw[0] = 0;
	}
	r->is_sure = true;
	set_phase(cc, RATE_PROBE_RTT, ack->now_ns);
	r->min_rtt_at_ns = ack->now_ns;
	r->recent_ns[0] = r->recent_ns[1] = NEVER_NS;
}

static void end_probe_rtt(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;

	/* What the last moments of the probe saw is the truth, even if it is more than before. */
	r->min_rtt_ns = MIN(r->round_rtt_ns, MIN(r->recent_ns[0], r->recent_ns[1]));
	r->min_rtt_at_ns = ack->now_ns;
	set_phase(cc, RATE_CRUISE, ack->now_ns);
}

static void step(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	bool is_long = queue_now(r) >= long_queue(r);

	switch (r->phase) {
	case RATE_STARTUP:
		if (bandwidth(r) > 0 && r->phase_rounds >= 2 && is_long)
			go_down(cc, ack->now_ns);
		break;
	case RATE_DOWN:
		if (ack->in_flight <= pipe_size(r) || r->phase_rounds >= DOWN_ROUNDS)
			set_phase(cc, RATE_CRUISE, ack->now_ns);
		break;
	case RATE_CRUISE:
		if (ack->now_ns - r->phase_ns < r->wait_ns || r->phase_rounds < 2)
			break;
		r->plateau = bandwidth(r);
		r->was_long = queue_now(r) >= UP_QUEUE_NS / 2;
		set_phase(cc, RATE_UP, ack->now_ns);
		break;
	case RATE_UP:
		if (queue_now(r) >= MIN(long_queue(r), UP_QUEUE_NS / 2) &&
		    (!r->was_long || r->phase_rounds >= 1))
			go_down(cc, ack->now_ns);
		break;
	case RATE_SHARED:
		break;
	case RATE_PROBE_RTT:
		if (r->phase_rounds >= 2 && ack->now_ns - r->phase_ns >= PROBE_RTT_NS)
			end_probe_rtt(cc, ack);
		break;
	}
	probe_rtt_if_due(cc, ack);
}

/* The bound grows by CUBIC's law while it is what holds us back. */
static void grow_bound(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t cwnd = cc->cwnd;

	if (cc->ssthresh >= TCP_CWND_MAX)
		return;
	/* More than was guessed, and no queue says otherwise. */
	if (cc->rate.is_guess && queue_now(&cc->rate) < long_queue(&cc->rate))
		cc->ssthresh =
			MAX(cc->ssthresh, known_bound(&cc->rate, (double)pipe_size(&cc->rate)));
	if (!ack->is_limited || cwnd < cc->ssthresh) {
		cc->cubic.epoch_ns = 0;
		return;
	}
	if (cc->cubic.lesson == CUBIC_PROBING) {
		cc->ssthresh = MIN(cc->ssthresh + ack->acked / CUBIC_PROBE_DIVIDE, TCP_CWND_MAX);
		return;
	}
	cc->cwnd = cc->ssthresh;
	tcp_cubic_grow(cc, ack);
	cc->ssthresh = cc->cwnd;
	cc->cwnd = cwnd;
}

static uint64_t wanted_window(const struct tcp_cc *cc)
{
	const struct tcp_rate *r = &cc->rate;
	uint64_t bdp = pipe_size(r);

	switch (r->phase) {
	case RATE_SHARED:
		return cc->ssthresh;
	case RATE_PROBE_RTT:
		/* A long path need not be half empty to show a queue. */
		return bdp - MIN(bdp / 2, bandwidth(r) * PROBE_RTT_ROOM / NS_PER_S);
	case RATE_STARTUP:
		return (uint64_t)(STARTUP_GAIN * (double)bdp) + LEAST_WINDOW * cc->mss;
	default:
		return 2 * bdp + bandwidth(r) * QUANTUM_NS / NS_PER_S + LEAST_WINDOW * cc->mss;
	}
}

static void set_window(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;
	uint64_t wanted = wanted_window(cc), cwnd = (uint64_t)cc->cwnd + ack->acked;

	/* What a train tells is waited for. */
	if (r->phase == RATE_STARTUP && cc->start.is_out)
		cwnd = cc->cwnd;
	/* STARTUP knows too little to take anything back. */
	if (bandwidth(r) > 0)
		cwnd = MIN(cwnd, r->phase == RATE_STARTUP ? MAX(wanted, cc->cwnd) : wanted);
	cwnd = MIN(cwnd, cc->ssthresh);
	cc->cwnd = (uint32_t)MIN(MAX(cwnd, LEAST_WINDOW * cc->mss), TCP_CWND_MAX);
}

/*
 * Asking must not overflow a queue that is short beside the round trip, after
 * which the answer comes: at first so much more that it queues UP_QUEUE_NS,
 * and UP_GAIN when three round trips brought no queue, unless trains have told
 * what the path holds.
 */
static double up_gain(const struct tcp_cc *cc)
{
	const struct tcp_rate *r = &cc->rate;
	bool is_known = r->is_guess && (double)pipe_size(r) <= UP_GROWTH * cc->start.held;
	double gentle = 1 + (double)UP_QUEUE_NS / (double)MAX(r->min_rtt_ns, 1u);

	return r->phase_rounds <= 3 || is_known ? MIN(gentle, UP_GAIN) : UP_GAIN;
}

static void set_pacing(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	static const double gains[] = {
		[RATE_STARTUP] = STARTUP_GAIN,  [RATE_DOWN] = DOWN_GAIN,
		[RATE_CRUISE] = CRUISE_GAIN,    [RATE_SHARED] = SHARED_GAIN,
		[RATE_PROBE_RTT] = CRUISE_GAIN,
	};
	struct tcp_rate *r = &cc->rate;
	double gain = r->phase == RATE_UP ? up_gain(cc) : gains[r->phase],
	       bw = (double)bandwidth(r);
	uint64_t rate;

	if ((bw == 0 || r->phase == RATE_SHARED) && ack->srtt_ns > 0)
		bw = (double)cc->cwnd * 1e9 / (double)ack->srtt_ns;
	rate = (uint64_t)(gain * bw);
	if (r->phase == RATE_STARTUP && ack->srtt_ns > 0) {
		/* A sample is a round trip old, and the first ones are of a few segments. */
		bw = (double)cc->cwnd * 1e9 / (double)ack->srtt_ns;
		if (cc->start.train > 0)
			rate = (uint64_t)((cc->start.is_full ? TRAIN_CAREFUL : TRAIN_GAIN) * bw);
		else
			rate = MAX(MAX(rate, (uint64_t)(STARTUP_GAIN / 2 * bw)), cc->pacing_rate);
	}
	cc->pacing_rate = MAX(rate, 2 * (uint64_t)cc->mss);
}

static void rate_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_rate *r = &cc->rate;

	update_rtt(cc, ack);
	r->round_pipe = MAX(r->round_pipe, ack->in_flight + ack->acked);
	if (ack->rate > 0 && (!ack->is_rate_limited || ack->rate > bandwidth(r)))
		r->bw[0] = MAX(r->bw[0], ack->rate);
	count_losses(cc, ack);
	if (ack->prior_delivered >= r->round_bytes)
		end_round(cc, ack);
	step(cc, ack);
	grow_bound(cc, ack);
	set_window(cc, ack);
	set_pacing(cc, ack);
}

static void rate_lost(struct tcp_cc *cc, uint64_t now_ns)
{
	(void)now_ns;
	/* Judged with the acknowledgement that told of it; so there is nothing to undo. */
	cc->undo_cwnd = cc->cwnd;
	cc->undo_ssthresh = cc->ssthresh;
	cc->undo_cubic = cc->cubic;
}

static bool rate_is_starting(const struct tcp_cc *cc)
{
	return cc->rate.phase == RATE_STARTUP;
}

static void rate_trained(struct tcp_cc *cc, const struct tcp_cc_train *train)
{
	uint32_t window;

	if (tcp_cc_trained(cc, train, &window))
		go_down(cc, train->now_ns);
	cc->cwnd = window;
}

static void rate_timed_out(struct tcp_cc *cc, uint64_t now_ns)
{
	struct tcp_cc_ack ack = { .now_ns = now_ns, .delivered = cc->rate.round_bytes };

	congested(cc, &ack);
	cc->rate.timed_out = true;
}

const struct tcp_cc_ops tcp_cc_rate = { .name = "rate",
					.is_rate_based = true,
					.init = rate_init,
					.acked = rate_acked,
					.is_starting = rate_is_starting,
					.trained = rate_trained,
					.lost = rate_lost,
					.timed_out = rate_timed_out };
