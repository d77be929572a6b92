/*
 * The sending half: segments out.
 *
 * One turn sends, in this order: a SYN that is due; an acknowledgement with
 * SACK blocks, if something is missing; what was found lost; new bytes, as a
 * train of full segments under one template. If no data carried the
 * acknowledgement that is due, a bare one follows.
 *
 * A segment is written straight into the link's memory. When the link takes no
 * more, nothing has been changed for the segment that did not fit: its bytes
 * are still before snd_end, or it is still marked lost.
 *
 * Pacing: what is sent is counted at the pacing rate, and may run ahead of the
 * time by one quantum; then the gate is shut until time has caught up. So a
 * train leaves every quantum, with one deadline for all of it, and what a late
 * wake-up has missed is made up for, to a limit.
 *
 * Small segments: Nagle's algorithm is off, since the bytes come from a
 * program's own socket where that program has decided already. A segment
 * shorter than the MSS is sent only when it empties the buffer, when the peer's
 * window is that small for good (half the largest it ever offered), or when the persist
 * timer says so (RFC 9293, 3.8.6.2.1).
 */
#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "daemon/tcp/conn.h"

#define PACE_QUANTUM_NS NS_PER_MS
#define PACE_CREDIT_NS  (4 * NS_PER_MS) /* made up for after a late wake-up */

/* RFC 6528: a clock of 4 us plus a keyed hash of the four values. */
uint32_t tcp_initial_seq(const struct tcp *tcp, const struct tcp_flow_key *key, uint64_t now_ns)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key, sizeof(*key),
			 tcp->config.secret + 16);
	return (uint32_t)hash + (uint32_t)(now_ns / (4 * NS_PER_US));
}

void tcp_send_set_mss(struct tcp_conn *conn)
{
	uint32_t headers = ip_is_v4(&conn->flow.key.local) ? 40 : 60;
	uint32_t fallback = ip_is_v4(&conn->flow.key.local) ? 536 : 1220;
	uint32_t mss = MIN(conn->peer_mss ? conn->peer_mss : fallback, conn->path_mtu - headers);

	mss = MAX(mss, TCP_MSS_MIN);
	conn->mss = conn->has_timestamps ? mss - 12 : mss;
	conn->cc.mss = conn->mss;
}

/* syn: the one received, or NULL when we dial. */
void tcp_send_start(struct tcp_conn *conn, const struct tcp_segment *syn, uint64_t now_ns)
{
	conn->snd_una = conn->snd_nxt = conn->rtt_round = conn->iss;
	conn->snd_end = conn->iss + 1;
	conn->progress_ns = now_ns;
	if (syn) {
		conn->has_timestamps = syn->has_timestamp;
		conn->has_sack = syn->sack_permitted;
		conn->has_scale = syn->scale != TCP_NO_SCALE;
		conn->snd_scale = conn->has_scale ? syn->scale : 0;
		if (!conn->has_scale)
			conn->rcv_scale = 0;
		conn->peer_mss = syn->mss;
	} else {
		conn->has_timestamps = conn->has_sack = conn->has_scale = true;
		conn->syn_due = true;
		tcp_conn_want_output(conn);
	}
	tcp_send_set_mss(conn);
	tcp_cc_init(&conn->cc,
		    conn->tcp->config.congestion == TCP_RATE ? &tcp_cc_rate : &tcp_cc_cubic,
		    conn->mss);
}

/* What one turn of sending data carries along. */
struct turn {
	struct tcp_conn *conn;
	struct tcp_template template;
	uint64_t now_ns;
	unsigned sent;
};

/* One segment of the space [seq, seq + len); the last unit is the FIN if has_fin. */
static bool send_segment(struct turn *turn, uint32_t seq, uint32_t len, bool has_fin)
{
	struct tcp_conn *conn = turn->conn;
	struct tcp *tcp = conn->tcp;
	struct tcp_template *t = &turn->template;
	uint32_t data_len = len - has_fin;
	uint8_t *out, flags = TCP_ACK;

	if (turn->sent == 0) {
		struct tcp_options o = { 0 };

		tcp_send_timestamp(conn, &o, turn->now_ns);
		tcp_template_init(t, &conn->flow.key, &o);
	}
	out = tcp->callbacks.packet_reserve(tcp->owner, t->header_len + data_len);
	if (!out)
		return false;
	if (turn->sent++ == 0)
		tcp_template_set(t, conn->rcv_nxt, tcp_recv_advertise(conn, conn->rcv_nxt));
	if (data_len > 0)
		tcp_buffer_copy(&conn->snd_buffer, seq, out + t->header_len, data_len);
	if (has_fin)
		flags |= TCP_FIN;
	if (data_len > 0 && seq + data_len == conn->snd_end)
		flags |= TCP_PSH;
	tcp_template_write(t, out, seq, flags, data_len);
	tcp->callbacks.packet_commit(tcp->owner, t->header_len + data_len);
	tcp->stats.segments_out++;
	tcp->stats.bytes_out += data_len;
	conn->last_sent_ns = turn->now_ns;
	if (conn->recovery == TCP_RECOVERY)
		conn->prr_out += len;
	return true;
}

static void count_sent(struct turn *turn, uint32_t index, bool was_empty)
{
	struct tcp_conn *conn = turn->conn;
	struct tcp_sent *sent = tcp_board_at(&conn->board, index);

	if (conn->cc.ops->is_rate_based)
		tcp_delivery_sent(&conn->delivery, sent, was_empty, turn->now_ns);
	if (conn->paced_rate > 0 && conn->train.state != TCP_TRAIN_SENDING)
		conn->pace_due_ns = MAX(conn->pace_due_ns, turn->now_ns - PACE_CREDIT_NS) +
				    (sent->len * conn->pace_cost >> TCP_PACE_SHIFT);
}

/* As far as a window that was taken back still reaches; all of it where it does not reach at all.
 */
static uint32_t resend_len(const struct tcp_conn *conn, const struct tcp_sent *sent)
{
	uint32_t edge = conn->snd_una + conn->snd_wnd, end = sent->seq + sent->len;

	if (!seq_lt(sent->seq, edge) || !tcp_send_is_beyond(conn, end))
		return sent->len;
	return edge - sent->seq;
}

static bool resend(struct turn *turn, uint32_t index)
{
	struct tcp_conn *conn = turn->conn;
	struct tcp_sent *sent = tcp_board_at(&conn->board, index);
	bool was_empty = conn->board.pipe == 0;
	uint32_t len = resend_len(conn, sent);

	if (!send_segment(turn, sent->seq, len, len == sent->len && sent->flags & TCP_SENT_FIN))
		return false;
	tcp_board_sent_again(&conn->board, index, turn->now_ns);
	count_sent(turn, index, was_empty);
	if (conn->undo_possible && conn->undo_ts == 0)
		conn->undo_ts = tcp_timestamp(conn, turn->now_ns) | 1;
	conn->retransmitted++;
	conn->tcp->stats.retransmitted++;
	return true;
}

void tcp_send_pace(struct tcp_conn *conn)
{
	conn->paced_rate = conn->cc.pacing_rate;
	if (conn->paced_rate > 0)
		conn->pace_cost = (NS_PER_S << TCP_PACE_SHIFT) / conn->paced_rate;
	else
		conn->pace_ns = NEVER_NS;
}

static bool pacing_allows(struct tcp_conn *conn, uint64_t now_ns)
{
	if (conn->paced_rate == 0)
		return true;
	if (conn->pace_ns != NEVER_NS) {
		if (now_ns < conn->pace_ns)
			return false;
		conn->pace_ns = NEVER_NS;
	}
	if (conn->pace_due_ns <= now_ns + PACE_QUANTUM_NS)
		return true;
	conn->pace_ns = conn->pace_due_ns;
	return false;
}

/* May len more bytes enter the network now? */
static bool congestion_allows(struct tcp_conn *conn, uint32_t len, uint64_t now_ns)
{
	const struct tcp_scoreboard *b = &conn->board;

	if (b->pipe == 0 || conn->train.state == TCP_TRAIN_SENDING)
		return true;
	if (!pacing_allows(conn, now_ns)) {
		conn->is_limited = true;
		conn->limited_seq = conn->snd_nxt;
		return false;
	}
	/* Many tiny segments are no less of a burden: count them, too. */
	if (b->pipe + len <= conn->cc.cwnd &&
	    (uint64_t)b->pipe_count * conn->mss < 2 * (uint64_t)conn->cc.cwnd)
		return true;
	conn->is_limited = true;
	conn->limited_seq = conn->snd_nxt;
	return false;
}

/* Bytes of new sequence space the next segment takes, or 0: none may go now. */
static uint32_t next_len(struct tcp_conn *conn, bool *has_fin)
{
	uint32_t queued = conn->snd_end - conn->snd_nxt, len;
	uint32_t edge = conn->snd_una + conn->snd_wnd;
	uint32_t window = seq_lt(conn->snd_nxt, edge) ? edge - conn->snd_nxt : 0;

	*has_fin = false;
	if (conn->fin_sent)
		return 0;
	len = MIN(queued, conn->mss);
	if (len > window) {
		bool is_enough = window > 0 && window >= conn->snd_wnd_max / 2;

		if (!is_enough && !(conn->override_due && window > 0))
			return 0;
		len = window;
	}
	if (len == queued && conn->fin_queued && len + 1 <= window) {
		*has_fin = true;
		len++;
	}
	return len;
}

static bool send_new(struct turn *turn, uint32_t len, bool has_fin)
{
	struct tcp_conn *conn = turn->conn;
	bool was_idle = tcp_board_count(&conn->board) == 0, was_empty = conn->board.pipe == 0;

	if (!send_segment(turn, conn->snd_nxt, len, has_fin))
		return false;
	if (was_idle)
		conn->progress_ns = turn->now_ns;
	tcp_board_add(&conn->board, conn->snd_nxt, (uint16_t)len, has_fin ? TCP_SENT_FIN : 0,
		      turn->now_ns);
	count_sent(turn, conn->board.tail - 1, was_empty);
	conn->snd_nxt += len;
	tcp_train_sent(conn);
	conn->fin_sent |= has_fin;
	conn->override_due = false;
	return true;
}

/* The tail probe: a new segment if there is one, the last one again if not. */
static bool send_tail_probe(struct turn *turn)
{
	struct tcp_conn *conn = turn->conn;
	bool has_fin;
	uint32_t len = next_len(conn, &has_fin);

	if (tcp_board_count(&conn->board) == 0 || conn->board.sacked_count > 0 ||
	    conn->recovery != TCP_OPEN) {
		/* An acknowledgement was quicker than the link. */
		conn->tail_probe_due = false;
		return true;
	}
	if (len > 0 && tcp_board_reserve(&conn->board, 1)) {
		if (!send_new(turn, len, has_fin))
			return false;
		conn->tlp_retransmitted = false;
	} else {
		if (!resend(turn, conn->board.tail - 1))
			return false;
		conn->tlp_retransmitted = true;
	}
	conn->tail_probe_due = false;
	conn->tlp_out = true;
	conn->tlp_end = conn->snd_nxt;
	return true;
}

static bool send_data(struct turn *turn)
{
	struct tcp_conn *conn = turn->conn;
	struct tcp_scoreboard *b = &conn->board;

	if (conn->tail_probe_due && !send_tail_probe(turn))
		return false;
	tcp_train_begin(conn, turn->now_ns);
	while (turn->sent < TCP_TURN_SEGMENTS) {
		uint32_t lost = tcp_board_next_lost(b), len;
		bool has_fin;

		if (lost != TCP_NO_RECORD) {
			if (!congestion_allows(conn, tcp_board_at(b, lost)->len, turn->now_ns))
				return true;
			if (!resend(turn, lost))
				return false;
			continue;
		}
		len = next_len(conn, &has_fin);
		if (len == 0 && conn->cc.ops->is_rate_based)
			tcp_delivery_limited(&conn->delivery, b->pipe);
		if (len == 0 || !congestion_allows(conn, len, turn->now_ns) ||
		    !tcp_board_reserve(b, 1))
			return true;
		if (!send_new(turn, len, has_fin))
			return false;
	}
	tcp_conn_want_output(conn);
	return true;
}

static void restart_after_idle(struct tcp_conn *conn, uint64_t now_ns)
{
	if (tcp_board_count(&conn->board) > 0 || conn->snd_end == conn->snd_nxt)
		return;
	if (now_ns - conn->last_sent_ns > conn->rto_ns)
		tcp_cc_idle(&conn->cc, now_ns - conn->last_sent_ns, conn->rto_ns);
}

bool tcp_conn_output(struct tcp_conn *conn, uint64_t now_ns)
{
	struct turn turn = { .conn = conn, .now_ns = now_ns };
	bool is_blocked = false;

	if (conn->syn_due && !tcp_send_syn(conn, now_ns))
		return false;
	if (!tcp_state_is_synchronized(conn->state)) {
		if (conn->ack_now && conn->state == TCP_SYN_RCVD)
			return tcp_send_acks(conn, now_ns);
		return true;
	}
	if (conn->snd_una == conn->snd_end)
		tcp_buffer_clear(&conn->snd_buffer, &conn->tcp->memory);
	tcp_recv_tune(conn, now_ns);
	if ((conn->dsack.start != conn->dsack.end || conn->ranges.count > 0) &&
	    tcp_recv_ack_due(conn, now_ns) && !tcp_send_acks(conn, now_ns))
		return false;
	restart_after_idle(conn, now_ns);
	is_blocked = !send_data(&turn);
	if (turn.sent > 0) {
		tcp_recv_ack_sent(conn);
		if (conn->rtx == TCP_RTX_NONE || conn->rtx == TCP_RTX_PERSIST ||
		    conn->rtx == TCP_RTX_PROBE)
			tcp_send_arm(conn, now_ns);
	} else if (!is_blocked && conn->rtx == TCP_RTX_NONE) {
		tcp_send_arm(conn, now_ns); /* the window may be shut */
	}
	if (is_blocked)
		return false;
	if (conn->probe_due && !tcp_send_probe(conn, now_ns))
		return false;
	return !tcp_recv_ack_due(conn, now_ns) || tcp_send_acks(conn, now_ns);
}

void tcp_send_arm(struct tcp_conn *conn, uint64_t now_ns)
{
	bool was_shut = conn->rtx == TCP_RTX_PERSIST;
	uint64_t probe_ns;

	conn->rtx = TCP_RTX_NONE;
	conn->rtx_ns = NEVER_NS;
	if (tcp_board_count(&conn->board) == 0) {
		bool is_pending = conn->snd_end != conn->snd_nxt ||
				  (conn->fin_queued && !conn->fin_sent);

		if (!is_pending || conn->in_output)
			return;
		conn->rtx = TCP_RTX_PERSIST;
		if (!was_shut)
			conn->shut_ns = now_ns;
		conn->rtx_ns = tcp_within_patience(conn, now_ns + tcp_backed_off(conn), now_ns);
		return;
	}
	conn->rtx = TCP_RTX_RTO;
	conn->rtx_ns = now_ns + tcp_backed_off(conn);
	/* Shut over what is in flight: that is what asks whether the window has opened. */
	if (conn->snd_wnd == 0)
		conn->rtx_ns = MIN(conn->rtx_ns, now_ns + TCP_PERSIST_MAX_NS);
	conn->rtx_ns = tcp_within_patience(conn, conn->rtx_ns, now_ns);
	probe_ns = tcp_rack_probe_ns(conn, now_ns);
	if (probe_ns < conn->rtx_ns) {
		conn->rtx = TCP_RTX_PROBE;
		conn->rtx_ns = probe_ns;
	}
}

/*
 * Twice what can be in flight, so that the next round trip's bytes are here in
 * time, and what has arrived behind a hole, which is held without being in flight.
 */
uint32_t tcp_send_limit(const struct tcp_conn *conn)
{
	uint64_t limit = MAX(2 * (uint64_t)conn->cc.cwnd, TCP_SEND_MIN) + conn->board.sacked_bytes;
	const struct tcp_memory *m = &conn->tcp->memory;

	if (tcp_memory_used(m, &conn->snd_buffer) > m->max - m->max / 4)
		limit = TCP_CHUNK;
	return (uint32_t)MIN(limit, tcp_buffer_max(conn));
}

/* The oldest byte still held. Not by comparing with iss, which 2 GiB later lies in the future. */
static uint32_t first_held(const struct tcp_conn *conn)
{
	return conn->state <= TCP_SYN_RCVD ? conn->iss + 1 : conn->snd_una;
}

static uint32_t space(const struct tcp_conn *conn)
{
	uint32_t held = conn->snd_end - first_held(conn);
	uint32_t limit = tcp_send_limit(conn);

	return held < limit ? limit - held : 0;
}

size_t tcp_send_space(struct tcp_conn *conn, struct iovec pieces[static 2])
{
	uint32_t left, first = first_held(conn), at = conn->snd_end;
	size_t sum = 0;

	memset(pieces, 0, 2 * sizeof(*pieces));
	if (!conn->in_table || conn->fin_queued || conn->state == TCP_PARKED)
		return 0;
	left = space(conn);
	for (unsigned i = 0; i < 2 && left > 0; i++) {
		size_t room;

		pieces[i].iov_base =
			tcp_buffer_room(&conn->snd_buffer, &conn->tcp->memory, first, at, &room);
		if (!pieces[i].iov_base)
			break;
		pieces[i].iov_len = MIN(room, left);
		sum += pieces[i].iov_len;
		at += (uint32_t)pieces[i].iov_len;
		left -= (uint32_t)pieces[i].iov_len;
		if (conn->snd_buffer.chunks == 0)
			break; /* perhaps the small block is all it needs */
	}
	if (sum == 0 || left < TCP_CHUNK)
		conn->space_short = true;
	/* What is not written to is given back at the next flush. */
	tcp_conn_want_output(conn);
	return sum;
}

void tcp_send_commit(struct tcp_conn *conn, size_t len)
{
	if (!conn->in_table || len == 0)
		return;
	assert(!conn->fin_queued);
	conn->snd_end += (uint32_t)len;
	if (space(conn) < TCP_CHUNK)
		conn->space_short = true;
	tcp_conn_want_output(conn);
}

void tcp_send_finish(struct tcp_conn *conn)
{
	if (!conn->in_table || conn->fin_queued || conn->state == TCP_PARKED)
		return;
	conn->fin_queued = true;
	if (conn->state == TCP_ESTABLISHED)
		tcp_conn_set_state(conn, TCP_FIN_WAIT_1);
	else if (conn->state == TCP_CLOSE_WAIT)
		tcp_conn_set_state(conn, TCP_LAST_ACK);
	tcp_conn_want_output(conn);
}

bool tcp_send_is_done(const struct tcp_conn *conn)
{
	return !conn->in_table ||
	       (conn->snd_una == conn->snd_nxt && seq_le(conn->snd_end, conn->snd_una) &&
		(!conn->fin_queued || conn->fin_sent));
}

void tcp_send_acked(struct tcp_conn *conn, uint32_t from)
{
	struct tcp_memory *m = &conn->tcp->memory;
	uint32_t to = seq_min(conn->snd_una, conn->snd_end);

	if (to == conn->snd_end)
		tcp_buffer_clear(&conn->snd_buffer, m);
	else
		tcp_buffer_drop(&conn->snd_buffer, m, from, to);
	if (conn->space_short && !conn->fin_queued &&
	    (to == conn->snd_end || space(conn) >= TCP_CHUNK / 2)) {
		conn->space_short = false;
		tcp_conn_event(conn, TCP_EVENT_WRITABLE);
	}
	if (tcp_send_is_done(conn))
		tcp_conn_event(conn, TCP_EVENT_SENT);
}
