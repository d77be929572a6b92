/* The application on our endpoint: everything it reads is checked, every end is expected. */
#include "our_side.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/util.h"

static uint8_t *packet_reserve(void *owner, size_t len)
{
	struct our_side *s = owner;

	(void)len;
	if (!s->reserved)
		s->reserved = link_packet(&s->out);
	return s->reserved->data;
}

static void packet_commit(void *owner, size_t len)
{
	struct our_side *s = owner;
	struct link_packet *packet = s->reserved;

	packet->len = len;
	s->reserved = NULL;
	link_send(&s->out, packet, s->now_ns);
}

static void over(struct our_side *s, const char *wrong)
{
	if (wrong && !s->wrong)
		s->wrong = wrong;
	s->conn = NULL;
	s->is_over = true;
}

static bool may_finish(const struct our_side *s)
{
	switch (s->test->order) {
	case PEER_CLOSES:
		return tcp_recv_ended(s->conn);
	case BOTH_CLOSE:
		return s->now_ns >= s->close_ns;
	case WE_CLOSE:
		break;
	}
	return true;
}

static void we_write(struct our_side *s)
{
	const struct test_case *t = s->test;
	struct iovec space[2];

	while (s->sent < t->down && tcp_send_space(s->conn, space) > 0) {
		size_t n = MIN(space[0].iov_len, t->down - s->sent);

		content_fill(space[0].iov_base, n, s->sent, false);
		tcp_send_commit(s->conn, n);
		s->sent += n;
	}
	if (s->sent == t->down && may_finish(s)) {
		tcp_send_finish(s->conn);
		s->has_finished = true;
	}
}

static void we_read(struct our_side *s)
{
	struct iovec data[2];
	unsigned count;
	size_t len;

	while ((len = tcp_recv_data(s->conn, data, 1, &count)) > 0) {
		if (!content_is_right(data[0].iov_base, len, s->received, true)) {
			tcp_abort(s->conn, s->now_ns);
			over(s, "a wrong byte");
			return;
		}
		s->received += len;
		tcp_recv_consume(s->conn, len);
	}
	if (tcp_recv_ended(s->conn) && s->received != s->test->up)
		s->wrong = "the stream ended early";
}

/* Once the peer has acknowledged something, so that it surely knows of the connection. */
static bool reset_is_due(const struct our_side *s)
{
	struct tcp_conn_info info;

	if (!s->conn || s->test->special != WE_RESET)
		return false;
	tcp_conn_info(s->conn, &info);
	return s->sent > info.unacked + info.unsent;
}

static void decide(struct our_side *s)
{
	struct tcp_conn *conn = s->parked;

	s->parked = NULL;
	if (s->test->special == REFUSED) {
		tcp_refuse(conn, s->now_ns);
		s->is_over = true;
		return;
	}
	s->conn = conn;
	tcp_accept(conn, NULL, s->now_ns);
	s->resume_ns = s->now_ns + (s->test->special == WE_READ_LATE ? 2 * NS_PER_S : 0);
}

void our_side_go_on(struct our_side *s)
{
	struct tcp_conn_info info;

	if (s->parked && s->now_ns >= s->resume_ns)
		decide(s);
	if (reset_is_due(s)) {
		tcp_abort(s->conn, s->now_ns);
		over(s, NULL);
	}
	if (s->conn && s->now_ns >= s->resume_ns)
		we_read(s);
	if (s->conn)
		we_write(s);
	if (s->conn && s->has_finished && tcp_recv_ended(s->conn)) {
		tcp_conn_info(s->conn, &info);
		s->has_crossed = strcmp(info.state, "CLOSING") == 0;
		tcp_release(s->conn, s->now_ns);
		over(s, NULL);
	}
}

uint64_t our_side_next_ns(const struct our_side *s)
{
	uint64_t next = NEVER_NS;

	if ((s->parked || s->conn) && s->resume_ns > s->now_ns)
		next = s->resume_ns;
	if (s->conn && s->test->order == BOTH_CLOSE && s->close_ns > s->now_ns)
		next = MIN(next, s->close_ns);
	return next;
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct our_side *s = owner;

	(void)user;
	if (conn != s->conn)
		return;
	if (events & TCP_EVENT_FAILED) {
		int error = tcp_conn_error(conn);
		bool is_right = (s->test->special == REFUSED && error == ECONNREFUSED) ||
				(s->test->special == PEER_RESETS && error == ECONNRESET);

		tcp_release(conn, s->now_ns);
		over(s, is_right ? NULL : strerror(error));
		return;
	}
	our_side_go_on(s);
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct our_side *s = owner;

	(void)remote;
	if (local->port != s->local.port || s->conn || s->parked ||
	    (s->is_over && s->test->special != REFUSED)) {
		tcp_refuse(conn, s->now_ns); /* a late duplicate */
		return;
	}
	s->parked = conn;
	s->resume_ns = s->now_ns;
	if (s->test->special == WE_DECIDE_LATE)
		s->resume_ns += 1500 * NS_PER_MS;
	else
		decide(s);
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	struct our_side *s = owner;

	if (conn == s->parked)
		over(s, "cancelled while parked");
}

const struct tcp_callbacks our_side_callbacks = { packet_reserve, packet_commit, incoming, event,
						  cancelled };

bool our_side_start(struct our_side *s, const struct test_case *t)
{
	s->test = t;
	s->conn = s->parked = NULL;
	s->sent = s->received = s->resume_ns = 0;
	s->has_finished = s->has_crossed = s->is_over = false;
	s->wrong = NULL;
	return t->dials == PEER_DIALS ||
	       tcp_connect(s->tcp, &s->local, &s->remote, NULL, s->now_ns, &s->conn) == 0;
}

void our_side_describe(const struct our_side *s)
{
	struct tcp_conn_info i = { .state = "no connection" };

	if (s->conn)
		tcp_conn_info(s->conn, &i);
	printf("    %s, cwnd %u, rto %llu us, unacked %llu, unsent %llu, unread %llu, window %u, "
	       "resent %llu; %llu sent, %llu received\n",
	       i.state, i.cwnd, (unsigned long long)i.rto_us, (unsigned long long)i.unacked,
	       (unsigned long long)i.unsent, (unsigned long long)i.unread, i.peer_window,
	       (unsigned long long)i.retransmitted, (unsigned long long)s->sent,
	       (unsigned long long)s->received);
}
