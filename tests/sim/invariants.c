/*
 * Looks through everything an endpoint holds, the slow way, and compares with
 * what it keeps count of. Shared by the simulator and the state fuzzer.
 */
#include "invariants.h"

#include <stddef.h>

#include "daemon/tcp/conn.h"

#define REQUIRE(condition)                 \
	do {                               \
		if (!(condition))          \
			return #condition; \
	} while (0)

static const char *check_board(const struct tcp_conn *conn)
{
	const struct tcp_scoreboard *b = &conn->board;
	uint32_t pipe = 0, pipe_count = 0, lost = 0, sacked = 0, seq = conn->snd_una, listed = 0;
	uint32_t earlier = TCP_NO_RECORD;

	for (uint32_t i = b->head; i != b->tail; i++) {
		const struct tcp_sent *sent = tcp_board_at(b, i);

		REQUIRE(sent->seq == seq && sent->len > 0);
		REQUIRE((sent->flags & (TCP_SENT_LOST | TCP_SENT_SACKED)) !=
			(TCP_SENT_LOST | TCP_SENT_SACKED));
		seq += sent->len;
		if (sent->flags & TCP_SENT_LOST) {
			REQUIRE((int32_t)(i - b->lost_hint) >= 0);
			lost++;
		} else if (sent->flags & TCP_SENT_SACKED) {
			sacked++;
		} else {
			pipe += sent->len;
			pipe_count++;
		}
	}
	REQUIRE(tcp_board_count(b) == 0 || seq == conn->snd_nxt);
	REQUIRE(pipe == b->pipe && pipe_count == b->pipe_count);
	REQUIRE(lost == b->lost_count && sacked == b->sacked_count);
	for (uint32_t i = b->oldest; i != TCP_NO_RECORD; i = tcp_board_at(b, i)->later) {
		REQUIRE(tcp_board_at(b, i)->earlier == earlier);
		REQUIRE(earlier == TCP_NO_RECORD ||
			tcp_board_at(b, earlier)->sent_ns <= tcp_board_at(b, i)->sent_ns);
		earlier = i;
		REQUIRE(++listed <= pipe_count);
	}
	REQUIRE(earlier == b->newest && listed == pipe_count);
	return NULL;
}

static const char *check_ranges(const struct tcp_conn *conn)
{
	const struct tcp_reassembly *r = &conn->ranges;
	uint32_t last = conn->rcv_nxt;

	for (uint32_t i = 0; i < r->count; i++) {
		REQUIRE(seq_lt(last, r->ranges[i].start));
		REQUIRE(seq_lt(r->ranges[i].start, r->ranges[i].end));
		last = r->ranges[i].end;
	}
	REQUIRE(r->count == 0 || seq_le(last, conn->rcv_edge));
	return NULL;
}

static size_t held(const struct tcp_buffer *b)
{
	return (size_t)b->chunks * TCP_CHUNK + (b->small ? TCP_SMALL : 0) + b->beside;
}

/* Whatever is to happen next, something will make it happen. */
static const char *check_liveness(const struct tcp_conn *conn)
{
	uint64_t first = MIN(MIN(conn->rtx_ns, conn->pace_ns), MIN(conn->delack_ns, conn->life_ns));
	bool is_pending = conn->snd_nxt != conn->snd_end || (conn->fin_queued && !conn->fin_sent);

	REQUIRE(first == NEVER_NS ||
		(conn->timer.index != TCP_TIMER_OUT && conn->timer.key_ns <= first));
	REQUIRE((conn->rtx == TCP_RTX_NONE) == (conn->rtx_ns == NEVER_NS));
	if (conn->in_output)
		return NULL;
	REQUIRE(!conn->syn_due && !conn->ack_now && !conn->probe_due && !conn->tail_probe_due);
	REQUIRE(conn->rcv_nxt == conn->acked_seq || conn->delack_ns != NEVER_NS);
	if (conn->state == TCP_PARKED)
		return conn->life_ns == NEVER_NS ? "a parked connection waits for ever" : NULL;
	if (conn->state == TCP_SYN_SENT || conn->state == TCP_SYN_RCVD) {
		REQUIRE(conn->rtx != TCP_RTX_NONE);
		return NULL;
	}
	REQUIRE(tcp_board_count(&conn->board) == 0 ||
		(conn->rtx != TCP_RTX_NONE && conn->rtx != TCP_RTX_PERSIST));
	REQUIRE(tcp_board_count(&conn->board) > 0 || !is_pending || conn->rtx == TCP_RTX_PERSIST);
	return NULL;
}

static const char *check_conn(const struct tcp_conn *conn)
{
	const char *wrong;

	REQUIRE(tcp_recv_unread(conn) <= conn->rcv_limit + conn->rcv_limit / 8 + TCP_CHUNK);
	if (!conn->in_table) {
		REQUIRE(conn->is_held || conn->events & TCP_EVENT_CANCELLED);
		return NULL;
	}
	REQUIRE(conn->state != TCP_CLOSED && conn->state != TCP_TIME_WAIT);
	REQUIRE(seq_le(conn->snd_una, conn->snd_nxt));
	REQUIRE(seq_le(conn->snd_nxt, conn->snd_end + conn->fin_sent));
	REQUIRE(conn->mss > 0 && conn->cc.cwnd > 0);
	wrong = tcp_state_is_synchronized(conn->state) ? check_board(conn) : NULL;
	if (!wrong)
		wrong = check_ranges(conn);
	return wrong ? wrong : check_liveness(conn);
}

const char *invariants_check(const struct tcp *tcp)
{
	const struct tcp_conn *conn;
	const struct tcp_time_wait *tw;
	uint32_t live = 0, parked = 0, time_waits = 0;
	uint64_t expires_ns = 0;
	size_t memory = 0;

	REQUIRE(TAILQ_EMPTY(&tcp->dead) && TAILQ_EMPTY(&tcp->events));
	TAILQ_FOREACH(conn, &tcp->all, all_link)
	{
		const char *wrong = check_conn(conn);

		if (wrong)
			return wrong;
		live += conn->in_table;
		parked += conn->state == TCP_PARKED;
		REQUIRE(conn->rcv_buffer.beside ==
			conn->ranges.room * sizeof(*conn->ranges.ranges));
		memory += held(&conn->snd_buffer) + held(&conn->rcv_buffer);
	}
	TAILQ_FOREACH(tw, &tcp->time_wait, link)
	{
		REQUIRE(tw->expires_ns >= expires_ns);
		expires_ns = tw->expires_ns;
		time_waits++;
	}
	REQUIRE(live == tcp->conns && parked == tcp->parked && time_waits == tcp->time_waits);
	REQUIRE(live + time_waits == tcp->table.count);
	REQUIRE(memory == tcp->memory.used);
	return NULL;
}
