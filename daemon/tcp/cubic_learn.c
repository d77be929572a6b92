/*
 * CUBIC's lessons: what the path holds, and how much of it is ours.
 *
 * Slow start's end. It ends with more in flight than the path and its queue hold, by up to
 * a whole window where the queue is short beside the round trip. BETA's share of
 * that overflows once more, and BETA's share of the rest takes CUBIC many seconds
 * to get back. But the path was full: what it delivers in the next round trip is
 * where to go on from (LEARNING). Beside others that is less than a fair share, so
 * the window keeps growing, gently, until the next loss (PROBING), which takes back
 * no more than what was gained since. While that is a lot, it is done again; but so
 * much more that only others can have made room for it is enough.
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
 * Hiccups. While the machine, ours or the peer's, has no turn, nothing is acknowledged, and
 * maybe nothing sent. What came through meanwhile, and a flight with a hole in it, is less
 * than our part, by as much as that time carries at most. Who would be taken for alone with
 * that added is not taken for one beside others.
 */
#include "daemon/tcp/cubic.h"
#include "shared/util.h"

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
#define SILENCE_NS    (16 * NS_PER_MS) /* a shorter one may be a burst of others in the queue */
/* What overflows after a hiccup is found lost a round trip later; so long and longer it counts. */
#define SILENCE_ROUNDS 4u
/* Parts of what the path holds. */
#define SHARED_ALL   0.95 /* so much and more is ours: there is nobody else */
#define SHARED_FIRST 0.93 /* the same as a single round trip tells */
#define SHARED_FAIR  0.55 /* so much and less is our part beside one other */
#define SHARED_KEEP  0.4
#define SHARED_BACK  0.5  /* where the window grows slowly */
#define ROOM_LEFT    0.95 /* of our share then is ours again: nobody took what was left */

uint64_t tcp_cubic_heard(struct tcp_cubic *cubic, uint64_t now_ns)
{
	uint64_t silent_ns = cubic->heard_ns > 0 ? now_ns - cubic->heard_ns : 0;

	cubic->heard_ns = now_ns;
	return silent_ns >= SILENCE_NS ? silent_ns : 0;
}

void tcp_cubic_hiccup(struct tcp_cubic *cubic, const struct tcp_cc_ack *ack)
{
	uint64_t silent_ns = tcp_cubic_heard(cubic, ack->now_ns);

	if (ack->now_ns >= cubic->silent_until_ns) {
		cubic->silent_ns[1] = cubic->silent_ns[0];
		cubic->silent_ns[0] = 0;
		cubic->silent_until_ns = ack->now_ns + SILENCE_ROUNDS * ack->srtt_ns;
	}
	/* After a loss we were silent ourselves. */
	if (cubic->epoch_ns > 0 && ack->now_ns - cubic->epoch_ns > SILENCE_ROUNDS * ack->srtt_ns &&
	    ack->rtt_ns > cubic->srtt_ns + silent_ns / 2)
		cubic->silent_ns[0] += silent_ns;
}

/* Gently, until a loss; or, where others are known to be, until a half of the path is ours. */
void tcp_cubic_probe(struct tcp_cc *cc, uint32_t acked)
{
	struct tcp_cubic *cubic = &cc->cubic;

	cc->cwnd = MIN(cc->cwnd + acked / CUBIC_PROBE_DIVIDE, TCP_CWND_MAX);
	if (cubic->probe_most > 0 && cc->cwnd >= cubic->probe_most) {
		cubic->lesson = CUBIC_NONE;
		cubic->epoch_ns = 0;
		cubic->w_max = cubic->w_last_max = (double)cc->cwnd / cc->mss;
	}
}

/* Goes on at a little less than a half, and stays there long enough for others to take the rest. */
static void make_room(struct tcp_cc *cc, double held)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double keep = MIN(held, SHARED_KEEP * cubic->told) * tcp_cubic_queued(cubic);
	double back = MIN(keep / CUBIC_BETA, SHARED_BACK * cubic->told * tcp_cubic_queued(cubic));

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
	cubic->probe_most =
		(uint32_t)MIN(SHARED_BACK * cubic->told * tcp_cubic_queued(cubic), TCP_CWND_MAX);
	cc->ssthresh = cubic->learned = MAX((uint32_t)held, 2 * cc->mss);
}

/*
 * Only one train has told, of more than came through: others may have filled the path, or a shaper
 * let the train pass faster than what follows. Neither wants more of us.
 */
static bool is_enough(const struct tcp_cc *cc, double held)
{
	const struct tcp_cubic *cubic = &cc->cubic;
	double told = cc->start.held;

	return cubic->told == 0 && cubic->learned == 0 && tcp_cubic_has_queue(cubic) &&
	       held > SHARED_KEEP * told && held < SHARED_FIRST * told;
}

static void settle(struct tcp_cc *cc, double held)
{
	struct tcp_cubic *cubic = &cc->cubic;

	cubic->lesson = CUBIC_NONE;
	cubic->is_crowded = true;
	cc->ssthresh = MAX((uint32_t)held, 2 * cc->mss);
	cubic->w_max = cubic->w_last_max = held / cc->mss;
}

/* A window's loss, known by what trains told: how much of the path was ours? */
void tcp_cubic_share(struct tcp_cc *cc)
{
	struct tcp_cubic *cubic = &cc->cubic;
	double left_at = cc->undo_cubic.left_at, held, hole;

	/* What a clump overflows for less than a moment tells nothing about others. */
	if (cubic->told == 0 || !tcp_cubic_has_queue(cubic) || tcp_cubic_lasting_queue(cubic) == 1)
		return;
	held = cc->undo_cwnd / tcp_cubic_queued(cubic);
	hole = held * (double)tcp_cubic_silent_ns(cubic) / (double)cubic->min_rtt_ns;
	if (held >= SHARED_ALL * cubic->told)
		cubic->told = MAX(cubic->told, (uint32_t)held);
	else if (held + hole >= SHARED_ALL * cubic->told)
		return;
	else if (left_at > 0 && held >= ROOM_LEFT * left_at)
		cubic->told = 0;
	else if (held > SHARED_FAIR * cubic->told)
		make_room(cc, held);
}

void tcp_cubic_learn(struct tcp_cc *cc, bool is_first, uint64_t now_ns)
{
	struct tcp_cubic *cubic = &cc->cubic;

	if (is_first) {
		cubic->learned = 0;
		cubic->told = cc->start.agreed > 0 ? cc->start.held : 0;
	} else if (cc->start.is_full) {
		cubic->learned = MAX(cubic->learned, (uint32_t)(cc->cwnd * LEARN_KNOWN));
	}
	cc->start.is_full = false;
	cubic->lesson = CUBIC_LEARNING;
	cubic->learn_ns = now_ns;
	cubic->learn_bytes = cubic->learn_silent_ns = 0;
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

/* By what came through since the loss; where a hiccup may be all that is missing, by trains. */
static double delivered(const struct tcp_cc *cc, uint64_t elapsed_ns, uint64_t min_rtt_ns)
{
	const struct tcp_cubic *cubic = &cc->cubic;
	double bytes = (double)cubic->learn_bytes * (double)min_rtt_ns, told = cubic->told;
	uint64_t silent_ns = MIN(cubic->learn_silent_ns, elapsed_ns - 1);
	double held = MAX(bytes / (double)elapsed_ns, cc->ssthresh * LEARN_LEAST);

	if (silent_ns > 0 && bytes / (double)(elapsed_ns - silent_ns) >= SHARED_FIRST * told)
		return MAX(held, told);
	return held;
}

bool tcp_cc_learned(struct tcp_cc *cc, uint32_t acked, uint64_t min_rtt_ns, uint64_t now_ns)
{
	struct tcp_cubic *cubic = &cc->cubic;
	uint64_t elapsed_ns = now_ns - cubic->learn_ns;
	uint64_t silent_ns = tcp_cubic_heard(cubic, now_ns);
	double held, room = MIN(LEARN_ROOM, LEARN_ROOM_NS / (double)min_rtt_ns);

	if (cubic->lesson != CUBIC_LEARNING || elapsed_ns == 0)
		return false;
	cubic->learn_bytes += acked;
	cubic->learn_silent_ns += silent_ns;
	if (elapsed_ns < min_rtt_ns)
		return false;
	held = delivered(cc, elapsed_ns, min_rtt_ns);
	tcp_cubic_held(cubic, held);
	cubic->calm_until_ns = now_ns + CALM_ROUNDS * min_rtt_ns;
	if (tcp_cubic_has_queue(cubic) && held < SHARED_FIRST * cubic->told) {
		if (held > SHARED_KEEP * cubic->told)
			make_room(cc, held);
		else
			take_part(cc, held);
		return true;
	}
	if (is_enough(cc, held)) {
		settle(cc, held);
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

/* What the path holds is known before a loss tells: probing goes on from there. */
void tcp_cubic_trained(struct tcp_cc *cc, const struct tcp_cc_train *train)
{
	uint32_t window;

	if (tcp_cc_trained(cc, train, &window)) {
		cc->ssthresh = window;
		cc->cubic.lesson = CUBIC_PROBING;
		cc->cubic.learned = cc->cubic.told = MAX(window, cc->start.held);
	}
	cc->cwnd = window;
}
