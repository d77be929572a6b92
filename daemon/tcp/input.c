/*
 * A segment meets a state: RFC 9293, 3.10.7, with PAWS (RFC 7323) and the
 * checks against blind attacks (RFC 5961).
 *
 * Differences on purpose: there is no LISTEN, every SYN is parked until the
 * owner decides; data on a SYN is not kept (the far side sends it again);
 * urgent data is delivered in line.
 */
#include <assert.h>
#include <errno.h>

#include "daemon/tcp/conn.h"

void tcp_listen_input(struct tcp *tcp, const struct tcp_segment *s, uint64_t hash,
		      uint32_t iss_floor, uint64_t now_ns)
{
	struct tcp_conn *conn;

	if (s->flags & TCP_ACK)
		tcp_reply_reset(tcp, s);
	if ((s->flags & (TCP_ACK | TCP_RST | TCP_FIN | TCP_SYN)) != TCP_SYN)
		return;
	if (!tcp_share_allows(tcp, s, now_ns))
		return; /* it will be repeated */
	conn = tcp_conn_create(tcp, &s->key, hash);
	if (!conn)
		return;
	tcp_share_enter(conn);
	conn->ts_offset = (uint32_t)(hash >> 32);
	conn->rcv_scale = tcp_recv_choose_scale(tcp);
	conn->iss = tcp_initial_seq(tcp, &s->key, now_ns);
	if (iss_floor && seq_lt(conn->iss, iss_floor))
		conn->iss = iss_floor;
	tcp_recv_start(conn, s, now_ns);
	tcp_send_start(conn, s, now_ns);
	tcp_conn_set_state(conn, TCP_PARKED);
	conn->life_ns = now_ns + TCP_PARKED_NS;
	tcp_conn_arm(conn);
	tcp_conn_event(conn, TCP_EVENT_INCOMING);
}

static void parked_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	struct tcp *tcp = conn->tcp;
	uint64_t hash = conn->flow.hash;

	if (s->flags & TCP_RST) {
		if (s->seq == conn->rcv_nxt)
			tcp_conn_fail(conn, ECONNRESET);
		return;
	}
	if ((s->flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return;
	if (s->seq != conn->irs) {
		/* The far side has given up that attempt and begun another. */
		tcp_conn_fail(conn, ECONNRESET);
		tcp_listen_input(tcp, s, hash, 0, now_ns);
		return;
	}
	if (s->has_timestamp)
		conn->ts_recent = s->ts_value;
	conn->life_ns = now_ns + TCP_PARKED_NS;
}

/*
 * The SYN or its answer was lost, so the path may be full: RFC 5681, 3.1. Which of
 * them was acknowledged only timestamps tell; an echo of the first was merely late.
 */
static void begin_carefully(struct tcp_conn *conn, const struct tcp_segment *s)
{
	bool has_echo = conn->has_timestamps && s->has_timestamp;

	if (has_echo && seq_lt(s->ts_echo, tcp_timestamp(conn, conn->last_sent_ns)))
		return;
	conn->cc.cwnd = conn->mss;
	if (!has_echo)
		conn->rto_ns = TCP_RTO_CAREFUL_NS; /* RFC 6298, 5.7 */
}

/* Our SYN was acknowledged. */
static void established(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	if (conn->retries == 0)
		tcp_rtt_sample(conn, now_ns - conn->last_sent_ns);
	else if (conn->has_timestamps && s->has_timestamp)
		tcp_rtt_sample(conn, NS_PER_MS * (tcp_timestamp(conn, now_ns) - s->ts_echo));
	if (conn->retries > 0)
		begin_carefully(conn, s);
	else
		tcp_train_opened(conn);
	conn->retries = 0;
	conn->syn_due = false;
	conn->snd_una = s->ack;
	conn->snd_wl1 = s->seq;
	conn->snd_wl2 = s->ack;
	conn->snd_wl_ts = s->ts_value;
	conn->snd_wnd = (uint32_t)s->window << (s->flags & TCP_SYN ? 0 : conn->snd_scale);
	conn->snd_wnd_max = conn->snd_wnd;
	conn->rtx = TCP_RTX_NONE;
	conn->rtx_ns = NEVER_NS;
	conn->progress_ns = now_ns;
	tcp_conn_set_state(conn, TCP_ESTABLISHED);
	if (conn->fin_queued)
		tcp_conn_set_state(conn, TCP_FIN_WAIT_1);
	tcp_life_heard(conn, now_ns);
	tcp_conn_event(conn, TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE);
	tcp_conn_want_output(conn);
}

static void syn_sent_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	if (s->flags & TCP_ACK && s->ack != conn->iss + 1) {
		tcp_reply_reset(conn->tcp, s);
		return;
	}
	if (s->flags & TCP_RST) {
		if (s->flags & TCP_ACK)
			tcp_conn_fail(conn, ECONNREFUSED);
		return;
	}
	if (!(s->flags & TCP_SYN) || conn->snd_nxt == conn->iss)
		return;
	tcp_recv_start(conn, s, now_ns);
	conn->has_timestamps = s->has_timestamp;
	conn->has_sack = s->sack_permitted;
	conn->has_scale = s->scale != TCP_NO_SCALE;
	conn->snd_scale = conn->has_scale ? s->scale : 0;
	if (!conn->has_scale)
		conn->rcv_scale = 0;
	conn->peer_mss = s->mss;
	tcp_send_set_mss(conn);
	tcp_cc_init(&conn->cc, conn->cc.ops, conn->mss);
	if (s->flags & TCP_ACK) {
		established(conn, s, now_ns);
		conn->ack_now = true;
		return;
	}
	/* Simultaneous open: both SYNs are answered. */
	tcp_conn_set_state(conn, TCP_SYN_RCVD);
	conn->syn_due = true;
	tcp_conn_want_output(conn);
}

/*
 * True: the segment is an old one of an earlier incarnation or a wrapped window.
 * One that reordering has made late is neither: beside a retransmission its
 * timestamp looks old, but not by much.
 */
static bool paws_rejects(const struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	return conn->has_timestamps && s->has_timestamp &&
	       seq_lt(s->ts_value, conn->ts_recent - TCP_PAWS_LATE) &&
	       now_ns - conn->ts_recent_ns < TCP_PAWS_NS;
}

static void update_timestamp(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	bool is_known = now_ns - conn->ts_recent_ns < TCP_PAWS_NS;

	if (!conn->has_timestamps || !s->has_timestamp || seq_lt(conn->acked_seq, s->seq) ||
	    (is_known && seq_lt(s->ts_value, conn->ts_recent)))
		return;
	conn->ts_recent = s->ts_value;
	conn->ts_recent_ns = now_ns;
}

static void heard(struct tcp_conn *conn, uint64_t now_ns)
{
	conn->last_heard_ns = now_ns;
	if (conn->owner_waits)
		tcp_conn_event(conn, TCP_EVENT_HEARD);
}

static void unacceptable(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	if (s->flags & TCP_RST)
		return;
	if (tcp_segment_space(s) == 0 || s->flags & TCP_SYN) {
		/* A keepalive or window probe: whoever sends one lives. */
		if (s->flags == TCP_ACK && s->seq == conn->rcv_nxt - 1)
			heard(conn, now_ns);
		tcp_reply_challenge(conn, now_ns);
		return;
	}
	/* A repeated segment: its acknowledgement was lost, or it need not have come (D-SACK). */
	if (conn->has_sack && s->len > 0 && seq_le(s->seq + s->len, conn->rcv_nxt)) {
		conn->dsack.start = s->seq;
		conn->dsack.end = s->seq + s->len;
	}
	conn->ack_now = true;
	tcp_conn_want_output(conn);
}

/* RFC 5961, 3: only the exact sequence number resets. */
static void reset_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	if (s->seq == conn->rcv_nxt)
		tcp_conn_fail(conn, ECONNRESET);
	else
		tcp_reply_challenge(conn, now_ns);
}

/* A SYN in SYN_RCVD. True: *s is now the acknowledgement it also was. */
static bool syn_received_syn(struct tcp_conn *conn, struct tcp_segment *s, uint64_t now_ns)
{
	if (s->seq != conn->irs) {
		tcp_reply_challenge(conn, now_ns);
		return false;
	}
	if (s->flags & TCP_ACK && s->ack == conn->iss + 1) {
		s->flags = (uint8_t)(s->flags & ~TCP_SYN);
		s->seq++;
		s->len = 0;
		/* Beside a SYN it was not scaled, and as an acknowledgement's it will be. */
		s->window = (uint16_t)(s->window >> conn->snd_scale);
		conn->ack_now = true;
		return true;
	}
	if (now_ns >= conn->challenge_ns) {
		conn->challenge_ns = now_ns + TCP_CHALLENGE_NS;
		conn->syn_due = true;
		tcp_conn_want_output(conn);
	}
	return false;
}

/* Our FIN was acknowledged. False: the connection is closed. */
static bool fin_acked(struct tcp_conn *conn, uint64_t now_ns)
{
	switch (conn->state) {
	case TCP_FIN_WAIT_1:
		tcp_conn_set_state(conn, TCP_FIN_WAIT_2);
		tcp_life_heard(conn, now_ns);
		return true;
	case TCP_CLOSING:
		tcp_time_wait_enter(conn, now_ns);
		return false;
	case TCP_LAST_ACK:
		tcp_conn_close(conn, TCP_CLOSED);
		return false;
	default:
		return true;
	}
}

/*
 * What it acknowledges counts all the same. So stand those of a peer whose window we took back, and
 * who has not heard how far we have come since (tcp_send_bare_seq()). That is not further than the
 * widest window we have promised; of all numbers below ours every second one would do for a guess.
 */
static bool is_old_ack(const struct tcp_conn *conn, const struct tcp_segment *s)
{
	return tcp_state_is_synchronized(conn->state) && seq_lt(s->seq, conn->rcv_nxt) &&
	       conn->rcv_nxt - s->seq <= conn->rcv_limit + conn->rcv_limit / 8 &&
	       tcp_segment_space(s) == 0 && !(s->flags & (TCP_RST | TCP_SYN));
}

static bool ack_is_sane(const struct tcp_conn *conn, uint32_t ack)
{
	return seq_le(ack, conn->snd_nxt) && seq_le(conn->snd_una - conn->snd_wnd_max, ack);
}

void tcp_conn_input(struct tcp_conn *conn, const struct tcp_segment *received, uint64_t now_ns)
{
	struct tcp_segment copy;
	const struct tcp_segment *s = received;

	if (conn->state == TCP_PARKED) {
		parked_input(conn, s, now_ns);
		return;
	}
	if (conn->state == TCP_SYN_SENT) {
		syn_sent_input(conn, s, now_ns);
		return;
	}
	if (conn->state == TCP_SYN_RCVD && (s->flags & (TCP_SYN | TCP_RST)) == TCP_SYN) {
		copy = *s;
		if (!syn_received_syn(conn, &copy, now_ns))
			return;
		s = &copy;
	}
	if (!(s->flags & TCP_RST) && paws_rejects(conn, s, now_ns)) {
		unacceptable(conn, s, now_ns);
		return;
	}
	if (!tcp_recv_acceptable(conn, s)) {
		unacceptable(conn, s, now_ns);
		if (!is_old_ack(conn, s))
			return;
	}
	if (s->flags & TCP_RST) {
		reset_input(conn, s, now_ns);
		return;
	}
	if (s->flags & TCP_SYN) {
		tcp_reply_challenge(conn, now_ns);
		return;
	}
	if (!(s->flags & TCP_ACK))
		return;
	if (conn->state == TCP_SYN_RCVD) {
		if (s->ack != conn->iss + 1 || conn->snd_nxt == conn->iss) {
			tcp_reply_reset(conn->tcp, s);
			return;
		}
		established(conn, s, now_ns);
	}
	if (!ack_is_sane(conn, s->ack)) {
		tcp_reply_challenge(conn, now_ns);
		return;
	}
	update_timestamp(conn, s, now_ns);
	heard(conn, now_ns);
	conn->keepalives = 0;
	tcp_ack_input(conn, s, now_ns);
	if (conn->ends_by_reset) {
		tcp_reset_when_done(conn);
		return;
	}
	if (conn->fin_sent && conn->snd_una == conn->snd_nxt && !fin_acked(conn, now_ns))
		return;
	if (tcp_segment_space(s) > 0)
		tcp_recv_segment(conn, s, now_ns);
}
