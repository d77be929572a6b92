/*
 * Deadlines of a connection, and how long it may live without progress.
 *
 * One retransmission deadline stands for whatever comes next: the timeout,
 * the tail probe, the end of RACK's patience, or the persist timer. life_ns
 * is for the slow ones: keepalive, FIN_WAIT_2 without an owner, parking, and the reset
 * that waits for what goes before it.
 *
 * A connection ends with ETIMEDOUT when what it has outstanding made no
 * progress for TCP_USER_TIMEOUT_NS. A shut window that is confirmed by answers
 * to our probes is no failure while an owner waits; without one it is. Time alone
 * does not end it: a machine that was suspended, or a daemon that was stopped, was
 * silent itself. So it must have asked TCP_ASKED_MIN times, too.
 */
#include <errno.h>

#include "daemon/tcp/conn.h"

uint64_t tcp_backed_off(const struct tcp_conn *conn)
{
	uint64_t rto_ns = conn->rto_ns << MIN(conn->retries, 16u);

	return MIN(rto_ns, TCP_RTO_MAX_NS);
}

static bool gives_up(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t silent_ns = now_ns - MAX(conn->progress_ns, conn->last_heard_ns);
	bool is_over = now_ns - conn->progress_ns >= TCP_USER_TIMEOUT_NS;

	/* Also one that was shut over what is in flight (RFC 9293, 3.8.6.1). */
	if ((conn->rtx == TCP_RTX_PERSIST || conn->snd_wnd == 0) && conn->is_held)
		is_over = silent_ns >= TCP_USER_TIMEOUT_NS;
	if (!conn->is_held && silent_ns >= TCP_ORPHAN_NS)
		is_over = true;
	if (!is_over || conn->retries < TCP_ASKED_MIN)
		return false;
	tcp_reply_abort(conn);
	tcp_conn_fail(conn, conn->soft_error ? conn->soft_error : ETIMEDOUT);
	return true;
}

static void syn_expired(struct tcp_conn *conn)
{
	unsigned max = conn->state == TCP_SYN_SENT ? TCP_SYN_RETRIES : TCP_SYNACK_RETRIES;

	if (conn->retries >= max) {
		tcp_conn_fail(conn, conn->soft_error ? conn->soft_error : ETIMEDOUT);
		return;
	}
	conn->retries++;
	conn->syn_due = true;
	conn->tcp->stats.retransmitted++;
	conn->tcp->stats.timeouts++;
	conn->rtx = TCP_RTX_NONE;
	conn->rtx_ns = NEVER_NS;
	tcp_conn_want_output(conn);
}

static void timed_out(struct tcp_conn *conn, uint64_t now_ns)
{
	if (gives_up(conn, now_ns))
		return;
	if (conn->tcp->is_blocked && conn->in_output) {
		/* Nothing could be sent, so silence tells nothing. */
		tcp_send_arm(conn, now_ns);
		return;
	}
	conn->tcp->stats.timeouts++;
	if (conn->retries < UINT8_MAX)
		conn->retries++;
	tcp_enter_loss(conn, now_ns);
	tcp_send_arm(conn, now_ns);
	tcp_conn_want_output(conn);
}

static void persist(struct tcp_conn *conn, uint64_t now_ns)
{
	if (gives_up(conn, now_ns))
		return;
	if (conn->retries < UINT8_MAX)
		conn->retries++;
	conn->probe_due = conn->override_due = true;
	conn->rtx_ns = now_ns + MIN(tcp_backed_off(conn), TCP_PERSIST_MAX_NS);
	tcp_conn_want_output(conn);
}

static void rtx_expired(struct tcp_conn *conn, uint64_t now_ns)
{
	if (conn->state == TCP_SYN_SENT || conn->state == TCP_SYN_RCVD) {
		syn_expired(conn);
		return;
	}
	switch (conn->rtx) {
	case TCP_RTX_NONE:
		conn->rtx_ns = NEVER_NS;
		break;
	case TCP_RTX_RTO:
		timed_out(conn, now_ns);
		break;
	case TCP_RTX_PROBE:
		conn->tail_probe_due = true;
		tcp_send_arm(conn, now_ns);
		tcp_conn_want_output(conn);
		break;
	case TCP_RTX_REORDER:
		tcp_send_arm(conn, now_ns);
		tcp_detect_loss(conn, now_ns);
		if (conn->recovery == TCP_RECOVERY && conn->prr_out == 0 &&
		    !conn->cc.ops->is_rate_based)
			conn->cc.cwnd = conn->board.pipe + conn->mss;
		break;
	case TCP_RTX_PERSIST:
		persist(conn, now_ns);
		break;
	}
}

void tcp_life_heard(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t idle_ns = conn->tcp->config.keepalive_ns;

	conn->life_ns = NEVER_NS;
	if (conn->state == TCP_FIN_WAIT_2 && !conn->is_held)
		conn->life_ns = now_ns + TCP_FIN_WAIT_2_NS;
	else if (tcp_state_is_synchronized(conn->state) && idle_ns > 0)
		conn->life_ns = now_ns + idle_ns;
	tcp_conn_arm(conn);
}

static void life_expired(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t idle_ns = conn->tcp->config.keepalive_ns;

	if (conn->state == TCP_PARKED) {
		tcp_conn_fail(conn, ETIMEDOUT);
		return;
	}
	if (conn->state == TCP_FIN_WAIT_2 && !conn->is_held) {
		tcp_conn_close(conn, TCP_CLOSED);
		return;
	}
	if (conn->ends_by_reset) {
		tcp_reply_abort(conn);
		tcp_conn_close(conn, TCP_CLOSED);
		return;
	}
	if (now_ns - conn->last_heard_ns < idle_ns) {
		conn->life_ns = conn->last_heard_ns + idle_ns;
		return;
	}
	if (conn->rtx != TCP_RTX_NONE) {
		/* What is outstanding asks the same question already. */
		conn->life_ns = now_ns + idle_ns;
		return;
	}
	if (conn->keepalives >= TCP_KEEPALIVE_COUNT) {
		tcp_reply_abort(conn);
		tcp_conn_fail(conn, conn->soft_error ? conn->soft_error : ETIMEDOUT);
		return;
	}
	conn->life_ns = now_ns + MIN(idle_ns, TCP_KEEPALIVE_NS);
	conn->keepalives++;
	conn->probe_due = true;
	tcp_conn_want_output(conn);
}

void tcp_conn_expire(struct tcp_conn *conn, uint64_t now_ns)
{
	if (conn->in_table && conn->delack_ns <= now_ns) {
		conn->delack_ns = NEVER_NS;
		conn->ack_now = true;
		tcp_conn_want_output(conn);
	}
	if (conn->in_table && conn->pace_ns <= now_ns) {
		conn->pace_ns = NEVER_NS;
		tcp_conn_want_output(conn);
	}
	if (conn->in_table && conn->rtx_ns <= now_ns)
		rtx_expired(conn, now_ns);
	if (conn->in_table && conn->life_ns <= now_ns)
		life_expired(conn, now_ns);
}
