/*
 * Trains at the start of a stream.
 *
 * Doubling from a few segments takes a long path seconds to fill, and ends with
 * up to a whole window too much in flight. But a train of segments sent back to
 * back is spread by the bottleneck at once: bytes / spread is its rate. What
 * delays an acknowledgement (a busy machine, other streams) only makes the
 * spread longer, so bytes / (spread + slack) is carried surely. The slack is for the
 * least round trip, which is too long by what has delayed all that was timed so far:
 * at first the handshake and one batch, a round trip later segments of all of it.
 *
 * So each round trip begins with a train, and its verdict sets the window: at
 * least double, up to sixteen times while the train proves so much, paced over the
 * round trip. The next train is as long as what is proven carries in
 * TRAIN_LENGTH_NS: no clump that a queue of 20 ms does not hold. When more than
 * the path holds would follow, the window stops short of that; and when several
 * trains agree on it, slow start is over, mostly without a loss. Since only delays make
 * them differ, the most that they told counts.
 *
 * A train goes on top of the window, which stands still until the verdict. A
 * lost segment, a longer round trip or a program with too little to send end
 * it all: then doubling goes on as ever.
 */
#include "daemon/tcp/conn.h"

#define SLACK_FIRST_NS  (2 * NS_PER_MS)
#define SLACK_NS        NS_PER_MS
#define TRAIN_LENGTH_NS (12 * NS_PER_MS)
#define TRAIN_SHARE     0.75 /* of what is carried surely */
#define TRAIN_GROWTH    16.0
/* A shorter spread or fewer segments say how fast the path is at least, but not at most. */
#define SPREAD_LEAST_NS (3 * NS_PER_MS)
#define BYTES_LEAST     8u   /* segments */
#define HELD_SHARE      0.9  /* of what the path holds */
#define AGREE           1.25 /* times the one before or less */
#define AGREE_LESS      1.5  /* that times this one or less */
#define AGREE_COUNT     2u

bool tcp_cc_trained(struct tcp_cc *cc, const struct tcp_cc_train *train, uint32_t *window)
{
	struct tcp_cc_start *start = &cc->start;
	double bytes = train->bytes, spread_ns = (double)train->spread_ns;
	double slack_ns = start->has_told ? SLACK_NS : SLACK_FIRST_NS;
	double surely = bytes / (spread_ns + slack_ns); /* bytes a ns */
	double wanted = TRAIN_SHARE * surely * (double)train->min_rtt_ns;
	double cwnd = cc->cwnd, last = start->held, held = 0, most;
	bool is_over;

	wanted = MIN(MAX(wanted, 2 * cwnd), TRAIN_GROWTH * cwnd);
	if (train->spread_ns >= SPREAD_LEAST_NS && train->bytes >= BYTES_LEAST * cc->mss)
		held = MIN(bytes / spread_ns * (double)train->min_rtt_ns, (double)TCP_CWND_MAX);
	if (held == 0 || held > last * AGREE || last > held * AGREE_LESS) {
		start->agreed = 0;
	} else {
		held = MAX(held, last);
		start->agreed = (uint8_t)MIN(start->agreed + 1u, AGREE_COUNT);
	}
	most = MAX(held, last) * HELD_SHARE;
	start->is_full = held > 0 && wanted > most;
	if (start->is_full)
		wanted = MAX(cwnd, most);
	is_over = start->is_full && start->agreed >= AGREE_COUNT;
	start->held = (uint32_t)held;
	start->has_told = true;
	*window = (uint32_t)MIN(wanted, (double)TCP_CWND_MAX);
	start->train = (uint32_t)MIN(surely * TRAIN_LENGTH_NS, *window / 2.0);
	start->train = is_over ? 0 : MAX(start->train, TCP_INITIAL_WINDOW * cc->mss);
	return is_over;
}

void tcp_train_opened(struct tcp_conn *conn)
{
	struct tcp_cc *cc = &conn->cc;

	if (conn->rack.min_rtt_ns == NEVER_NS || conn->rack.min_rtt_ns < TCP_TRAIN_LEAST_RTT)
		return;
	cc->cwnd = TCP_TRAIN_WINDOW * conn->mss;
	cc->start.train = TCP_INITIAL_WINDOW * conn->mss;
	cc->pacing_rate = cc->cwnd * NS_PER_S / conn->srtt_ns;
	tcp_send_pace(conn);
}

void tcp_train_begin(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_cc *cc = &conn->cc;
	uint32_t bytes = cc->start.train, edge = conn->snd_una + conn->snd_wnd;

	if (bytes == 0 || conn->train.state != TCP_TRAIN_NONE)
		return;
	if (!cc->ops->is_starting(cc) || conn->recovery != TCP_OPEN || conn->paced_rate == 0 ||
	    conn->rack.min_rtt_ns < TCP_TRAIN_LEAST_RTT) {
		cc->start.train = 0;
		return;
	}
	/* All of it, or it would be the program or the peer that spreads it. */
	if (conn->snd_end - conn->snd_nxt < bytes || seq_lt(edge, conn->snd_nxt + bytes))
		return;
	conn->train = (struct tcp_train){ .state = TCP_TRAIN_SENDING,
					  .begin = conn->snd_nxt,
					  .end = conn->snd_nxt + bytes,
					  .began_ns = now_ns };
	cc->start.is_out = true;
}

void tcp_train_sent(struct tcp_conn *conn)
{
	if (conn->train.state == TCP_TRAIN_SENDING && seq_le(conn->train.end, conn->snd_nxt))
		conn->train.state = TCP_TRAIN_OUT;
}

static void forget(struct tcp_conn *conn)
{
	conn->train.state = TCP_TRAIN_NONE;
	conn->cc.start.is_out = false;
}

void tcp_train_acked(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t took_ns = now_ns - conn->train.began_ns, min_rtt_ns = conn->rack.min_rtt_ns;
	struct tcp_cc_train train = { .now_ns = now_ns, .min_rtt_ns = min_rtt_ns };

	/* The acknowledgement of an odd last segment may be held back. */
	if (conn->train.state != TCP_TRAIN_OUT ||
	    seq_lt(conn->snd_una, conn->train.end - conn->mss))
		return;
	train.bytes = conn->snd_una - conn->train.begin;
	train.spread_ns = took_ns > min_rtt_ns ? took_ns - min_rtt_ns : 0;
	forget(conn);
	if (conn->recovery == TCP_OPEN && conn->is_limited && conn->cc.ops->is_starting(&conn->cc))
		conn->cc.ops->trained(&conn->cc, &train);
}

void tcp_train_lost(struct tcp_conn *conn)
{
	struct tcp_cc_start *start = &conn->cc.start;

	forget(conn);
	if (start->train > 0)
		start->is_full = false;
	start->train = 0;
}
