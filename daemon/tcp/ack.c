/*
 * What an acknowledgement tells the sender.
 *
 * It takes acknowledged and SACKed records off the network, measures the round
 * trip, and lets rack.c find what is lost. Four modes:
 * OPEN; RECOVERY after a loss was found, where proportional rate reduction
 * (RFC 6937) meters what leaves by what arrives; LOSS after a timeout, where
 * the window grows again from one segment; SPLIT after a smaller path MTU was told,
 * which is no congestion unless a timeout follows. All but OPEN end when what was
 * outstanding at their start is acknowledged.
 *
 * Whether a reduction was uncalled for is told by timestamps (Eifel, RFC 3522):
 * the first acknowledgement that moves on and echoes a time before the first
 * retransmission was caused by the original.
 *
 * A peer without SACK gets the older rules: three duplicates mean the first
 * segment is lost, a partial acknowledgement in recovery means the next one is.
 */
#include "daemon/tcp/conn.h"
#include "daemon/tcp/cubic.h"

#define DUPACKS 3u

/* Pacing is faster than the window by that part, and where the path is just full. */
#define PACE_DIVIDE 5u
#define CALM_DIVIDE 20u
/* So much of a hole is filled in a round trip. */
#define PACE_HOLE_NS (10 * NS_PER_MS)

/* What one acknowledgement has delivered. */
struct delivery {
	uint32_t bytes;   /* acknowledged or SACKed for the first time */
	uint64_t sent_ns; /* of the segment sent last whose round trip is known; 0: none */
	struct tcp_delivery_sample rate;
	bool moved; /* snd_una did */
	bool has_dsack;
};

/*
 * RFC 6298, but rttvar falls at most once a round trip (RFC 7323, G: many samples in one), and a
 * handshake that took longer than the first data does not count: it may have waited for the tunnel.
 */
void tcp_rtt_sample(struct tcp_conn *conn, uint64_t rtt_ns)
{
	bool is_first_of_data = conn->srtt_ns > 0 && conn->rtt_round == conn->iss;
	uint64_t deviation;

	rtt_ns = MAX(rtt_ns, NS_PER_US);
	conn->rack.min_rtt_ns = MIN(conn->rack.min_rtt_ns, rtt_ns);
	if (is_first_of_data)
		conn->rtt_round = conn->snd_nxt;
	if (conn->srtt_ns == 0 || (is_first_of_data && rtt_ns < conn->srtt_ns)) {
		conn->srtt_ns = rtt_ns;
		conn->rttvar_ns = conn->rttvar_max_ns = rtt_ns / 2;
	} else {
		deviation = rtt_ns > conn->srtt_ns ? rtt_ns - conn->srtt_ns
						   : conn->srtt_ns - rtt_ns;
		conn->srtt_ns = conn->srtt_ns - conn->srtt_ns / 8 + rtt_ns / 8;
		conn->rttvar_max_ns = MAX(conn->rttvar_max_ns, deviation);
		if (conn->rttvar_max_ns > conn->rttvar_ns)
			conn->rttvar_ns += (conn->rttvar_max_ns - conn->rttvar_ns) / 4;
		if (seq_le(conn->rtt_round, conn->snd_una)) {
			if (conn->rttvar_max_ns < conn->rttvar_ns)
				conn->rttvar_ns -= (conn->rttvar_ns - conn->rttvar_max_ns) / 4;
			conn->rttvar_max_ns = 0;
			conn->rtt_round = conn->snd_nxt;
		}
	}
	conn->rto_ns =
		MIN(conn->srtt_ns + MAX(4 * conn->rttvar_ns, TCP_RTO_MIN_NS), TCP_RTO_MAX_NS);
}

/*
 * What was in flight when the window shut has met it, and the timeouts since then have backed
 * off. Its first segment is asked for again now, and answered ones bring the rest.
 */
static void window_opened(struct tcp_conn *conn)
{
	struct tcp_scoreboard *b = &conn->board;

	/* What waited for that has only now begun to wait for its acknowledgement. */
	conn->progress_ns = conn->tcp->now_ns;
	if ((conn->recovery != TCP_LOSS && conn->recovery != TCP_SPLIT) || tcp_board_count(b) == 0)
		return;
	if (!(tcp_board_at(b, b->head)->flags & (TCP_SENT_LOST | TCP_SENT_SACKED)))
		tcp_board_mark_lost(b, b->head);
	conn->retries = 0;
	tcp_send_arm(conn, conn->tcp->now_ns);
}

/*
 * Did it leave the peer before the segment that told the window? RFC 9293 goes by the sequence
 * number alone. But a peer that we have shut out acknowledges from the edge that it knows, below
 * what it had sent, and takes back its window there. What acknowledges more than any before it is
 * younger than they, wherever it stands; and so is what a timestamp says it of.
 */
static bool window_is_old(const struct tcp_conn *conn, const struct tcp_segment *s)
{
	if (seq_lt(conn->snd_wl1, s->seq) ||
	    (conn->snd_wl1 == s->seq && seq_le(conn->snd_wl2, s->ack)))
		return false;
	if (s->ack == conn->snd_una && conn->has_timestamps && s->has_timestamp)
		return seq_le(s->ts_value, conn->snd_wl_ts);
	return seq_le(s->ack, conn->snd_una);
}

static void take_window(struct tcp_conn *conn, const struct tcp_segment *s)
{
	uint32_t window = (uint32_t)s->window << conn->snd_scale;
	bool was_shut;

	if (window_is_old(conn, s))
		return;
	if (conn->snd_wnd < window && conn->rtx == TCP_RTX_PERSIST) {
		conn->rtx = TCP_RTX_NONE;
		conn->rtx_ns = NEVER_NS;
		conn->retries = 0;
	}
	was_shut = conn->snd_wnd == 0;
	conn->snd_wnd = window;
	conn->snd_wnd_max = MAX(conn->snd_wnd_max, window);
	conn->snd_wl1 = seq_max(conn->snd_wl1, s->seq);
	conn->snd_wl2 = s->ack;
	if (s->has_timestamp)
		conn->snd_wl_ts = s->ts_value;
	if (was_shut && window > 0)
		window_opened(conn);
}

static void delivered(struct tcp_conn *conn, const struct tcp_sent *sent,
		      const struct tcp_segment *s, struct delivery *d, uint64_t now_ns)
{
	bool has_echo = conn->has_timestamps && s->has_timestamp;
	bool is_older = has_echo && seq_lt(s->ts_echo, tcp_timestamp(conn, sent->sent_ns));

	d->bytes += sent->len;
	if (conn->cc.ops->is_rate_based)
		tcp_delivery_got(&conn->delivery, sent, &d->rate, now_ns);
	/*
	 * Karn's rule, and what timestamps add: an echo as young as the last
	 * sending. What was taken for lost says nothing: its acknowledgement may
	 * have been lost, and this one was then sent for something else.
	 */
	if (!(sent->flags & TCP_SENT_LOST) &&
	    (!(sent->flags & TCP_SENT_AGAIN) || (has_echo && !is_older)))
		d->sent_ns = MAX(d->sent_ns, sent->sent_ns);
	tcp_rack_delivered(conn, sent, is_older, now_ns);
}

static void take_acked(struct tcp_conn *conn, const struct tcp_segment *s, struct delivery *d,
		       uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;

	while (tcp_board_count(b) > 0) {
		struct tcp_sent *sent = tcp_board_at(b, b->head);

		if (seq_lt(s->ack, sent->seq + sent->len)) {
			if (seq_lt(sent->seq, s->ack)) {
				uint32_t part = sent->flags & TCP_SENT_SACKED ? 0
									      : s->ack - sent->seq;

				d->bytes += part;
				conn->delivery.bytes += part;
				tcp_board_trim(b, (uint16_t)(s->ack - sent->seq));
			}
			return;
		}
		if (!(sent->flags & TCP_SENT_SACKED))
			delivered(conn, sent, s, d, now_ns);
		tcp_board_pop(b);
	}
}

static void take_sacked(struct tcp_conn *conn, const struct tcp_segment *s,
			struct tcp_sack_block block, struct delivery *d, uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;

	for (uint32_t i = tcp_board_find(b, block.start); (i = tcp_board_unsacked(b, i)) != b->tail;
	     i++) {
		struct tcp_sent *sent = tcp_board_at(b, i);

		if (seq_lt(block.end, sent->seq + sent->len))
			return;
		if (seq_lt(sent->seq, block.start))
			continue;
		delivered(conn, sent, s, d, now_ns);
		tcp_board_mark_sacked(b, i);
	}
}

/* Of a block, only what the last acknowledgement did not have: blocks grow at their ends. */
static void take_new_part(struct tcp_conn *conn, const struct tcp_segment *s,
			  struct tcp_sack_block block, struct delivery *d, uint64_t now_ns)
{
	for (unsigned i = 0; i < conn->sack_seen_count; i++) {
		struct tcp_sack_block seen = conn->sack_seen[i];

		if (seq_lt(seen.start, block.start) || seq_lt(block.end, seen.end))
			continue;
		if (seen.start != block.start)
			take_sacked(conn, s, (struct tcp_sack_block){ block.start, seen.start }, d,
				    now_ns);
		if (seen.end != block.end)
			take_sacked(conn, s, (struct tcp_sack_block){ seen.end, block.end }, d,
				    now_ns);
		return;
	}
	take_sacked(conn, s, block, d, now_ns);
}

/* Does the first block tell of bytes that arrived twice (RFC 2883, 4)? */
static bool is_dsack(const struct tcp_segment *s)
{
	const struct tcp_sack_block *first = &s->sack[0], *second = &s->sack[1];

	if (seq_le(first->end, s->ack))
		return true;
	return s->sack_count > 1 && seq_le(second->start, first->start) &&
	       seq_le(first->end, second->end);
}

static void take_sacks(struct tcp_conn *conn, const struct tcp_segment *s, struct delivery *d,
		       uint64_t now_ns)
{
	unsigned first = 0, kept = 0;

	d->has_dsack = is_dsack(s);
	if (d->has_dsack) {
		tcp_rack_dsack(conn);
		first = 1;
	}
	for (unsigned i = first; i < s->sack_count; i++) {
		const struct tcp_sack_block *block = &s->sack[i];

		if (!seq_lt(block->start, block->end) || seq_lt(block->start, conn->snd_una) ||
		    seq_lt(conn->snd_nxt, block->end))
			continue;
		take_new_part(conn, s, *block, d, now_ns);
	}
	for (unsigned i = first; i < s->sack_count; i++)
		conn->sack_seen[kept++] = s->sack[i];
	conn->sack_seen_count = (uint8_t)kept;
}

void tcp_enter_recovery(struct tcp_conn *conn, uint64_t now_ns)
{
	conn->recovery = TCP_RECOVERY;
	tcp_train_lost(conn);
	conn->recover = conn->snd_nxt;
	conn->prr_delivered = conn->prr_out = 0;
	conn->prr_flight = conn->snd_nxt - conn->snd_una;
	conn->cc.ops->lost(&conn->cc, now_ns);
	conn->undo_possible = conn->has_timestamps;
	conn->undo_ts = 0;
	tcp_rack_recovery(conn);
	conn->tcp->stats.fast_recoveries++;
}

void tcp_enter_loss(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;
	bool is_first = conn->recovery != TCP_LOSS;

	if (tcp_board_at(b, b->head)->flags & TCP_SENT_SACKED) {
		tcp_board_forget_sacks(b);
		conn->sack_seen_count = 0;
	}
	for (uint32_t i = b->head; i != b->tail; i++)
		if (!(tcp_board_at(b, i)->flags & (TCP_SENT_SACKED | TCP_SENT_LOST)))
			tcp_board_mark_lost(b, i);
	if (is_first) {
		conn->cc.ops->timed_out(&conn->cc, now_ns);
		conn->undo_possible = conn->has_timestamps;
		conn->undo_ts = 0;
	}
	conn->recovery = TCP_LOSS;
	tcp_train_lost(conn);
	conn->recover = conn->snd_nxt;
	conn->cc.cwnd = conn->mss;
	conn->dupacks = 0;
	conn->tlp_out = conn->tail_probe_due = false;
}

static void undo(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;

	/* What was only late is in the network still: time it anew. */
	while (tcp_board_next_lost(b) != TCP_NO_RECORD)
		tcp_board_sent_again(b, tcp_board_next_lost(b), now_ns);
	conn->recovery = TCP_OPEN;
	conn->undo_possible = false;
	tcp_cc_undo(&conn->cc);
}

static void leave_recovery(struct tcp_conn *conn)
{
	if (conn->recovery == TCP_RECOVERY && !conn->cc.ops->is_rate_based)
		conn->cc.cwnd = MAX(conn->cc.ssthresh, conn->mss);
	conn->recovery = TCP_OPEN;
	conn->undo_possible = false;
	conn->dupacks = 0;
}

/* RFC 6937: cwnd becomes what is in the network plus what may follow now. */
static void reduce_rate(struct tcp_conn *conn, const struct delivery *d, bool has_new_loss,
			uint64_t now_ns)
{
	uint32_t pipe = conn->board.pipe, ssthresh;
	int64_t count;

	/* What was sent before that was known belongs to the same overshoot. */
	if (tcp_cc_learned(&conn->cc, d->bytes, conn->rack.min_rtt_ns, now_ns))
		conn->recover = conn->snd_nxt;
	ssthresh = conn->cc.ssthresh;
	conn->prr_delivered += d->bytes;
	if (pipe > ssthresh) {
		count = (int64_t)(((uint64_t)conn->prr_delivered * ssthresh + conn->prr_flight -
				   1) /
				  MAX(conn->prr_flight, 1u));
		count -= conn->prr_out;
	} else {
		count = MAX((int64_t)conn->prr_delivered - conn->prr_out, (int64_t)d->bytes);
		if (d->moved && !has_new_loss)
			count += conn->mss;
		count = MIN(count, (int64_t)ssthresh - pipe);
	}
	if (conn->prr_out == 0)
		count = MAX(count, (int64_t)conn->mss);
	conn->cc.cwnd = MAX(pipe + (uint32_t)MAX(count, 0), conn->mss);
}

static void lose_first(struct tcp_conn *conn)
{
	struct tcp_scoreboard *b = &conn->board;

	if (tcp_board_count(b) > 0 &&
	    !(tcp_board_at(b, b->head)->flags & (TCP_SENT_LOST | TCP_SENT_SACKED)))
		tcp_board_mark_lost(b, b->head);
}

static void count_duplicates(struct tcp_conn *conn, const struct tcp_segment *s, struct delivery *d)
{
	if (d->moved) {
		conn->dupacks = 0;
		if (conn->recovery == TCP_RECOVERY && seq_lt(conn->snd_una, conn->recover))
			lose_first(conn);
		return;
	}
	/* One below what we have received is a probe, which was sent for another reason. */
	if (s->len > 0 || s->ack != conn->snd_una || seq_lt(s->seq, conn->rcv_nxt) ||
	    tcp_board_count(&conn->board) == 0)
		return;
	d->bytes += conn->mss;
	if (++conn->dupacks == DUPACKS && conn->recovery == TCP_OPEN)
		lose_first(conn);
}

/* RFC 8985, 7.4.2: did the tail probe repair a loss that must count as one? */
static void end_tail_probe(struct tcp_conn *conn, const struct tcp_segment *s,
			   const struct delivery *d, uint64_t now_ns)
{
	if (!conn->tlp_out || seq_lt(s->ack, conn->tlp_end))
		return;
	conn->tlp_out = false;
	if (!conn->tlp_retransmitted || d->has_dsack || !d->moved)
		return;
	if (conn->recovery == TCP_OPEN && !conn->cc.ops->is_rate_based) {
		conn->cc.ops->lost(&conn->cc, now_ns);
		conn->cc.cwnd = conn->cc.ssthresh;
	}
}

void tcp_detect_loss(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t again_ns = NEVER_NS;

	if (conn->has_sack)
		again_ns = tcp_rack_detect(conn, now_ns);
	if (conn->board.lost_count > 0 && conn->recovery == TCP_OPEN)
		tcp_enter_recovery(conn, now_ns);
	if (again_ns < conn->rtx_ns) {
		conn->rtx = TCP_RTX_REORDER;
		conn->rtx_ns = again_ns;
	}
	if (conn->board.lost_count > 0)
		tcp_conn_want_output(conn);
}

static void grow_window(struct tcp_conn *conn, const struct delivery *d, uint64_t rtt_ns,
			uint64_t now_ns)
{
	struct tcp_cc_ack ack = { .now_ns = now_ns,
				  .rtt_ns = rtt_ns,
				  .srtt_ns = conn->srtt_ns,
				  .acked = d->bytes,
				  .una = conn->snd_una,
				  .nxt = conn->snd_nxt,
				  .is_limited = conn->is_limited };

	if (conn->cc.ops->is_rate_based) {
		ack.in_flight = conn->board.pipe;
		ack.rate = tcp_delivery_rate(&conn->delivery, &d->rate, conn->cc.rate.min_rtt_ns);
		ack.is_rate_limited = d->rate.is_limited;
		ack.delivered = conn->delivery.bytes;
		ack.prior_delivered = d->rate.prior_bytes;
		ack.lost = conn->board.lost_bytes;
	}
	conn->cc.ops->acked(&conn->cc, &ack);
	if (conn->is_limited && seq_lt(conn->limited_seq, conn->snd_una))
		conn->is_limited = false;
	if (conn->cc.ops->is_rate_based && conn->rack.min_rtt_ns < TCP_RATE_LEAST_RTT)
		tcp_cc_change(&conn->cc, &tcp_cc_cubic);
}

/*
 * A hiccup of the machine leaves a hole in what is in flight, and the window lets us send faster
 * until it is filled: beyond the bottleneck's rate that is a queue as long as the hole was, on a
 * long path one that overflows. So it is filled by a little each round trip.
 */
static uint64_t faster(const struct tcp_conn *conn, uint64_t window, uint64_t now_ns)
{
	uint64_t min_rtt_ns = conn->rack.min_rtt_ns;

	if (now_ns < conn->cc.cubic.calm_until_ns)
		return window / CALM_DIVIDE;
	if (conn->cc.ssthresh == TCP_CWND_MAX || min_rtt_ns <= PACE_DIVIDE * PACE_HOLE_NS ||
	    tcp_cubic_silent_ns(&conn->cc.cubic) == 0)
		return window / PACE_DIVIDE;
	return window * PACE_HOLE_NS / MIN(min_rtt_ns, CALM_DIVIDE * PACE_HOLE_NS);
}

/*
 * CUBIC has no rate of its own: a little more than cwnd a round trip. In slow start just enough to
 * double (2 ln 2 = 1.39): more makes it send in clumps, which overflow a queue long before the path
 * is full. Where trains tell how to grow, the window stands still for a round trip. What is not
 * known, as when all that was acknowledged had been sent twice, cannot pace.
 */
static void pace_by_window(struct tcp_conn *conn, uint64_t now_ns)
{
	const struct tcp_cc *cc = &conn->cc;
	uint64_t window = conn->recovery == TCP_RECOVERY ? MAX(cc->cwnd, cc->ssthresh) : cc->cwnd;

	/* One slow round trip, as of the handshake, does not make a path long. */
	if (conn->srtt_ns == 0 || conn->rack.min_rtt_ns < TCP_PACE_LEAST_RTT) {
		conn->cc.pacing_rate = 0;
		return;
	}
	if (cc->start.train > 0)
		window += window / (cc->start.is_full ? CALM_DIVIDE : PACE_DIVIDE);
	else if (cc->cwnd < cc->ssthresh / 2)
		window = window * 3 / 2;
	else
		window += faster(conn, window, now_ns);
	conn->cc.pacing_rate = window * NS_PER_S / conn->srtt_ns;
}

void tcp_ack_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;
	struct delivery d = { 0 };
	uint32_t from = conn->snd_una, lost_before = b->lost_count;
	uint64_t rtt_ns = 0;

	take_window(conn, s);
	/* The window may have opened, or an acknowledged SYN let data go. */
	tcp_conn_want_output(conn);
	if (seq_lt(s->ack, conn->snd_una) || tcp_board_count(b) == 0)
		return;
	d.moved = s->ack != conn->snd_una;
	if (d.moved) {
		take_acked(conn, s, &d, now_ns);
		conn->snd_una = s->ack;
		conn->progress_ns = now_ns;
		conn->retries = 0;
		conn->soft_error = 0;
		tcp_send_acked(conn, from);
	}
	if (conn->has_sack && s->sack_count > 0)
		take_sacks(conn, s, &d, now_ns);
	else
		conn->sack_seen_count = 0;
	/* An acknowledgement of something that came twice times nothing else. */
	if (d.sent_ns > 0 && !d.has_dsack)
		rtt_ns = MAX(now_ns - d.sent_ns, 1u);
	if (rtt_ns > 0)
		tcp_rtt_sample(conn, rtt_ns);
	if (!conn->has_sack)
		count_duplicates(conn, s, &d);
	if (conn->undo_possible && d.moved && conn->undo_ts != 0) {
		if (s->has_timestamp && seq_lt(s->ts_echo, conn->undo_ts & ~1u))
			undo(conn, now_ns);
		conn->undo_possible = false;
	}
	end_tail_probe(conn, s, &d, now_ns);
	if (conn->recovery != TCP_OPEN && seq_le(conn->recover, conn->snd_una))
		leave_recovery(conn);
	if (d.moved || d.bytes > 0)
		tcp_send_arm(conn, now_ns);
	tcp_detect_loss(conn, now_ns);
	if (d.moved)
		tcp_train_acked(conn, now_ns);
	if (conn->recovery == TCP_RECOVERY && !conn->cc.ops->is_rate_based)
		reduce_rate(conn, &d, b->lost_count > lost_before, now_ns);
	else if (d.bytes > 0)
		grow_window(conn, &d, rtt_ns, now_ns);
	if (!conn->cc.ops->is_rate_based)
		pace_by_window(conn, now_ns);
	if (conn->cc.pacing_rate != conn->paced_rate)
		tcp_send_pace(conn);
}
