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
 *
 * A program may have its own patience, as Linux means it. TCP_USER_TIMEOUT stands in place of the
 * time above, also for a shut window, whatever answers come; once asked is enough, and it
 * ends what keepalive waits for instead of the count. Keepalive asks only when nothing is
 * outstanding.
 */
#include <errno.h>

#include "daemon/tcp/conn.h"

uint64_t tcp_backed_off(const struct tcp_conn *conn)
{
	uint64_t rto_ns = conn->rto_ns << MIN(conn->retries, 16u);

	return MIN(rto_ns, TCP_RTO_MAX_NS);
}

static uint64_t waits_since(const struct tcp_conn *conn)
{
	return conn->rtx == TCP_RTX_PERSIST ? conn->shut_ns : conn->progress_ns;
}

uint64_t tcp_within_patience(const struct tcp_conn *conn, uint64_t at_ns, uint64_t now_ns)
{
	uint64_t timeout_ns = conn->patience.user_timeout_ns;

	if (timeout_ns == 0 || conn->retries == 0)
		return at_ns;
	/* What was asked after a long sleep may still be answered. */
	return MIN(at_ns, MAX(waits_since(conn) + timeout_ns, now_ns + conn->rto_ns));
}

static bool is_too_long(const struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t timeout_ns = conn->patience.user_timeout_ns;

	return timeout_ns > 0 && conn->retries > 0 && now_ns - waits_since(conn) >= timeout_ns;
}

static void fail_by_silence(struct tcp_conn *conn)
{
	conn->fell_silent = true;
	tcp_reply_abort(conn);
	tcp_conn_fail(conn, conn->soft_error ? conn->soft_error : ETIMEDOUT);
}

static bool gives_up(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t silent_ns = now_ns - MAX(conn->progress_ns, conn->last_heard_ns);
	bool is_own = conn->patience.user_timeout_ns > 0;
	bool is_over = !is_own && now_ns - conn->progress_ns >= TCP_USER_TIMEOUT_NS;

	/* Also one that was shut over what is in flight (RFC 9293, 3.8.6.1). */
	if ((conn->rtx == TCP_RTX_PERSIST || conn->snd_wnd == 0) && conn->is_held && !is_own)
		is_over = silent_ns >= TCP_USER_TIMEOUT_NS;
	if (!conn->is_held && silent_ns >= TCP_ORPHAN_NS)
		is_over = true;
	is_over = is_over && conn->retries >= TCP_ASKED_MIN;
	if (!is_over && !is_too_long(conn, now_ns))
		return false;
	fail_by_silence(conn);
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
	conn->rtx_ns = tcp_within_patience(conn, conn->rtx_ns, now_ns);
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

/* How long nothing is heard before the far side is asked; 0: it is not. */
static uint64_t keepalive_idle(const struct tcp_conn *conn)
{
	return conn->patience.idle_ns ? conn->patience.idle_ns : conn->tcp->config.keepalive_ns;
}

static uint64_t keepalive_interval(const struct tcp_conn *conn)
{
	return conn->patience.idle_ns ? conn->patience.interval_ns
				      : MIN(conn->tcp->config.keepalive_ns, TCP_KEEPALIVE_NS);
}

/* Has the far side been asked in vain for long enough? */
static bool is_dead(const struct tcp_conn *conn, uint64_t now_ns)
{
	const struct tcp_patience *p = &conn->patience;

	if (p->idle_ns == 0)
		return conn->keepalives >= TCP_KEEPALIVE_COUNT;
	if (p->user_timeout_ns > 0)
		return conn->keepalives > 0 && now_ns - conn->last_heard_ns >= p->user_timeout_ns;
	return conn->keepalives >= p->count;
}

void tcp_life_heard(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t idle_ns = keepalive_idle(conn);

	conn->life_ns = NEVER_NS;
	if (conn->state == TCP_FIN_WAIT_2 && !conn->is_held)
		conn->life_ns = now_ns + TCP_FIN_WAIT_2_NS;
	else if (tcp_state_is_synchronized(conn->state) && idle_ns > 0)
		conn->life_ns = now_ns + idle_ns;
	tcp_conn_arm(conn);
}

static void life_expired(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t idle_ns = keepalive_idle(conn);

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
	if (conn->rtx != TCP_RTX_NONE || conn->owner_waits) {
		/* What is outstanding asks the same question already, or the owner does. */
		conn->life_ns = now_ns + idle_ns;
		return;
	}
	if (is_dead(conn, now_ns)) {
		fail_by_silence(conn);
		return;
	}
	conn->life_ns = now_ns + keepalive_interval(conn);
	if (conn->keepalives < UINT8_MAX)
		conn->keepalives++;
	conn->probe_due = true;
	tcp_conn_want_output(conn);
}

void tcp_set_patience(struct tcp_conn *conn, const struct tcp_patience *patience, uint64_t now_ns)
{
	uint64_t was_ns = keepalive_idle(conn), idle_ns;

	conn->patience = *patience;
	idle_ns = keepalive_idle(conn);
	if (!conn->in_table || !tcp_state_is_synchronized(conn->state))
		return; /* it counts from when it is */
	if (idle_ns != was_ns)
		conn->life_ns = idle_ns > 0 ? MAX(conn->last_heard_ns + idle_ns, now_ns) : NEVER_NS;
	if (conn->rtx == TCP_RTX_RTO || conn->rtx == TCP_RTX_PERSIST)
		conn->rtx_ns = tcp_within_patience(conn, conn->rtx_ns, now_ns);
	tcp_conn_arm(conn);
}

uint64_t tcp_heard_ns(const struct tcp_conn *conn)
{
	return conn->last_heard_ns;
}

bool tcp_ask(struct tcp_conn *conn)
{
	if (!conn->in_table || !tcp_state_is_synchronized(conn->state) || conn->rtx != TCP_RTX_NONE)
		return false;
	conn->probe_due = true;
	tcp_conn_want_output(conn);
	return true;
}

void tcp_owner_waits(struct tcp_conn *conn, bool waits)
{
	conn->owner_waits = waits;
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
