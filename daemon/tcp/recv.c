/*
 * The receiving half: bytes in, acknowledgements and windows out.
 *
 * What arrives is copied once, to its place in the receive buffer, whether in
 * order or not; the owner reads it there. One decision a flush says whether to
 * acknowledge: at once when something is missing or repeated, after two full
 * segments, while the connection is young (senders that count acknowledgements
 * in slow start), when the window may open by a quarter; else 40 ms later.
 *
 * The window is a promise, and memory is used only by what is really there.
 * The promise starts at 128 KiB and follows what the owner consumes in a round
 * trip, to three times that, up to buffer_max. Its right edge never moves
 * back (RFC 9293, 3.8.6); when memory is short it just does not move on.
 *
 * All promises together are more than memory_max, so it can happen that bytes which were
 * promised a place find none. Silence about that would make the far side back off for
 * minutes, and in the end give up. So such a connection is "short": it says that its
 * window is shut until the owner has read all there is, or memory is no longer scarce.
 * rcv_edge stays: what is on its way is taken if it finds room after all. An owner who
 * keeps up is never short, since it reads before anything is said: a window that shrinks
 * over what is in flight keeps other senders (Linux) from repairing the loss at once.
 */
#include <assert.h>
#include <string.h>

#include "daemon/tcp/conn.h"

#define PRESSED_LIMIT 16384u

uint8_t tcp_recv_choose_scale(const struct tcp *tcp)
{
	uint8_t scale = 0;

	while (scale < TCP_MAX_SCALE && ((size_t)UINT16_MAX << scale) < tcp->config.buffer_max)
		scale++;
	return scale;
}

static uint32_t limit_max(const struct tcp_conn *conn)
{
	return MIN(tcp_buffer_max(conn), (uint32_t)UINT16_MAX << conn->rcv_scale);
}

static bool is_pressed(const struct tcp_conn *conn)
{
	const struct tcp_memory *m = &conn->tcp->memory;

	return tcp_memory_used(m, &conn->rcv_buffer) + MAX(m->max / 8, TCP_CHUNK) > m->max;
}

/* Bytes the window may promise from rcv_read, by what memory there is. */
static uint32_t current_limit(const struct tcp_conn *conn)
{
	return is_pressed(conn) ? MIN(conn->rcv_limit, PRESSED_LIMIT) : conn->rcv_limit;
}

void tcp_recv_start(struct tcp_conn *conn, const struct tcp_segment *syn, uint64_t now_ns)
{
	uint32_t promise;

	conn->irs = syn->seq;
	conn->rcv_nxt = conn->rcv_read = conn->acked_seq = conn->tune_seq = syn->seq + 1;
	conn->rcv_limit = MIN(limit_max(conn), TCP_RECV_INITIAL);
	/* What we dialled has promised this in its SYN. */
	promise = conn->state == TCP_SYN_SENT ? conn->rcv_limit : current_limit(conn);
	conn->rcv_edge = conn->rcv_nxt + MIN(promise, UINT16_MAX);
	conn->ts_recent = syn->ts_value;
	conn->ts_recent_ns = conn->tune_ns = conn->last_heard_ns = now_ns;
}

uint32_t tcp_recv_unread(const struct tcp_conn *conn)
{
	return conn->rcv_nxt - conn->fin_reached - conn->rcv_read;
}

uint32_t tcp_recv_window(const struct tcp_conn *conn)
{
	return seq_lt(conn->rcv_nxt, conn->rcv_edge) ? conn->rcv_edge - conn->rcv_nxt : 0;
}

/*
 * RFC 9293's test, but for the edges: a segment at rcv_nxt counts whatever the
 * window is, and an acknowledgement at the right edge does, too. That is where
 * it stands when the far side has filled the window and a segment is missing.
 */
bool tcp_recv_acceptable(const struct tcp_conn *conn, const struct tcp_segment *s)
{
	if (seq_lt(s->seq, conn->rcv_nxt))
		return seq_lt(conn->rcv_nxt, s->seq + tcp_segment_space(s));
	return s->seq == conn->rcv_nxt || seq_le(s->seq, conn->rcv_edge);
}

/* Of a short connection. With nothing unread a few bytes always find room. */
static bool has_room_again(const struct tcp_conn *conn)
{
	return !is_pressed(conn) || tcp_recv_unread(conn) == 0;
}

/* How far the edge could move now; 0 if not worth telling (RFC 9293, 3.8.6.2.2). */
static uint32_t edge_growth(const struct tcp_conn *conn)
{
	uint32_t edge = conn->rcv_read + current_limit(conn);

	if (seq_le(edge, conn->rcv_edge) || conn->has_fin)
		return 0;
	return edge - conn->rcv_edge;
}

static bool window_update_due(const struct tcp_conn *conn)
{
	uint32_t growth = edge_growth(conn);

	if (conn->is_short)
		return has_room_again(conn);
	return growth > 0 && growth >= current_limit(conn) / 4;
}

uint16_t tcp_recv_advertise(struct tcp_conn *conn, uint32_t ack)
{
	uint32_t growth = edge_growth(conn), window, field, rounded;

	if (growth > 0 && growth >= MIN(conn->rcv_mss, current_limit(conn) / 4))
		conn->rcv_edge += growth;
	conn->is_short = conn->is_short && !has_room_again(conn);
	if (conn->is_short)
		return 0;
	window = seq_lt(ack, conn->rcv_edge) ? conn->rcv_edge - ack : 0;
	field = window >> conn->rcv_scale;
	rounded = (window + (1u << conn->rcv_scale) - 1) >> conn->rcv_scale;
	/*
	 * Rounding down would move the edge back by less than a unit. So it is
	 * rounded up, as long as that does not add up to much more than the limit.
	 */
	if (ack + (rounded << conn->rcv_scale) - conn->rcv_read <=
	    conn->rcv_limit + conn->rcv_limit / 16)
		field = rounded;
	field = MIN(field, UINT16_MAX);
	conn->rcv_edge = seq_max(conn->rcv_edge, ack + (field << conn->rcv_scale));
	return (uint16_t)field;
}

bool tcp_recv_ack_due(struct tcp_conn *conn, uint64_t now_ns)
{
	uint32_t unacked = conn->rcv_nxt - conn->acked_seq;

	if (conn->ack_now || window_update_due(conn))
		return true;
	if (unacked == 0)
		return false;
	if (unacked >= 2 * conn->rcv_mss)
		return true;
	if (conn->delack_ns == NEVER_NS)
		conn->delack_ns = now_ns + TCP_DELACK_NS;
	return false;
}

void tcp_recv_ack_sent(struct tcp_conn *conn)
{
	conn->ack_now = false;
	conn->acked_seq = conn->rcv_nxt;
	conn->delack_ns = NEVER_NS;
	tcp_reassembly_told(&conn->ranges);
}

/* Once a round trip: was the promise too small for an owner who reads this fast? */
void tcp_recv_tune(struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t rtt_ns = conn->rcv_rtt_ns ? conn->rcv_rtt_ns : conn->srtt_ns;
	const struct tcp_memory *m = &conn->tcp->memory;
	uint64_t consumed = conn->rcv_read - conn->tune_seq, wanted;
	bool is_long = rtt_ns >= TCP_TRAIN_LEAST_RTT;

	if (now_ns - conn->tune_ns >= MAX(rtt_ns, NS_PER_MS)) {
		conn->tune_ns = now_ns;
		conn->tune_seq = conn->rcv_read;
	} else if (!is_long) {
		return;
	}
	/* On a long path the far side may send sixteen times as much in the next round trip. */
	wanted = MIN((is_long ? 32 : 4) * consumed + 16 * conn->rcv_mss, limit_max(conn));
	if (wanted > conn->rcv_limit && tcp_memory_used(m, &conn->rcv_buffer) < m->max - m->max / 4)
		conn->rcv_limit = (uint32_t)wanted;
}

/* The far side echoes our timestamp: a round trip seen by the receiver. */
static void measure_rtt(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	uint64_t rtt_ns;

	if (!conn->has_timestamps || !s->has_timestamp)
		return;
	rtt_ns = NS_PER_MS * MAX(tcp_timestamp(conn, now_ns) - s->ts_echo, 1u);
	if (rtt_ns > 10 * NS_PER_S)
		return; /* an echo of long ago */
	if (conn->rcv_rtt_ns == 0 || rtt_ns < conn->rcv_rtt_ns)
		conn->rcv_rtt_ns = rtt_ns;
	else
		conn->rcv_rtt_ns += (rtt_ns - conn->rcv_rtt_ns) / 8;
}

/* Copies what fits; returns how many bytes that were. */
static uint32_t store(struct tcp_conn *conn, uint32_t seq, const uint8_t *data, uint32_t len)
{
	uint32_t stored = 0;

	while (stored < len) {
		size_t room;
		uint8_t *to = tcp_buffer_room(&conn->rcv_buffer, &conn->tcp->memory, conn->rcv_read,
					      seq + stored, &room);
		uint32_t n;

		if (!to)
			break;
		n = (uint32_t)MIN(room, len - stored);
		memcpy(to, data + stored, n);
		stored += n;
	}
	return stored;
}

static void store_in_order(struct tcp_conn *conn, const uint8_t *data, uint32_t len)
{
	uint32_t stored = store(conn, conn->rcv_nxt, data, len);

	if (stored == 0 && conn->ranges.count > 0 && tcp_recv_unread(conn) == 0) {
		/*
		 * No memory for the next byte while later ones hold some: give
		 * those up (RFC 2018 allows it), so that the stream can go on.
		 */
		tcp_reassembly_clear(&conn->ranges);
		tcp_buffer_clear(&conn->rcv_buffer, &conn->tcp->memory);
		stored = store(conn, conn->rcv_nxt, data, len);
	}
	conn->rcv_nxt += stored;
	if (stored < len) {
		conn->is_short = true;
		/* Also tells the far side that we live. */
		conn->ack_now = true;
	}
	if (stored == 0)
		return;
	conn->tcp->stats.bytes_in += stored;
	if (conn->ranges.count > 0) {
		conn->rcv_nxt = tcp_reassembly_advance(&conn->ranges, conn->rcv_nxt);
		conn->ack_now = true;
	}
	if (conn->young_segments < TCP_YOUNG_SEGMENTS)
		conn->young_segments++;
	if (conn->young_segments <= TCP_QUICK_SEGMENTS)
		conn->ack_now = true;
	tcp_conn_event(conn, TCP_EVENT_READABLE);
}

/* The list of ranges doubles when it is full: is there memory for that? */
static bool ranges_may_grow(const struct tcp_conn *conn)
{
	const struct tcp_reassembly *r = &conn->ranges;
	const struct tcp_memory *m = &conn->tcp->memory;

	return r->count < r->room || r->room == 0 ||
	       tcp_memory_used(m, &conn->rcv_buffer) + r->room * sizeof(*r->ranges) <= m->max;
}

static void store_later(struct tcp_conn *conn, uint32_t seq, const uint8_t *data, uint32_t len)
{
	struct tcp_sack_block known;
	uint32_t stored;

	conn->ack_now = true;
	if (tcp_reassembly_has(&conn->ranges, seq, seq + len, &known)) {
		conn->dsack.start = seq;
		conn->dsack.end = seq + len;
		return;
	}
	if (!ranges_may_grow(conn) || !tcp_reassembly_can_add(&conn->ranges, seq, seq + len))
		return;
	stored = store(conn, seq, data, len);
	/* Cut short for want of memory it need not touch what the whole would have touched. */
	if (stored == 0 ||
	    (stored < len && !tcp_reassembly_can_add(&conn->ranges, seq, seq + stored)))
		return;
	conn->tcp->stats.bytes_in += stored;
	tcp_reassembly_add(&conn->ranges, seq, seq + stored);
}

void tcp_recv_count(struct tcp_conn *conn)
{
	size_t len = conn->ranges.room * sizeof(*conn->ranges.ranges);

	if (len != conn->rcv_buffer.beside)
		tcp_buffer_count(&conn->rcv_buffer, &conn->tcp->memory, len);
}

static void fin_reached(struct tcp_conn *conn, uint64_t now_ns)
{
	conn->fin_reached = true;
	conn->rcv_nxt++;
	conn->ack_now = true;
	tcp_conn_event(conn, TCP_EVENT_READABLE);
	switch (conn->state) {
	case TCP_ESTABLISHED:
		tcp_conn_set_state(conn, TCP_CLOSE_WAIT);
		break;
	case TCP_FIN_WAIT_1:
		tcp_conn_set_state(conn, TCP_CLOSING);
		break;
	case TCP_FIN_WAIT_2:
		tcp_time_wait_enter(conn, now_ns);
		break;
	default:
		assert(!"a FIN is reached once, before the states that follow it");
	}
}

void tcp_recv_segment(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns)
{
	uint32_t start = seq_max(s->seq, conn->rcv_nxt), end = s->seq + s->len;
	bool is_whole;

	if (conn->fin_reached) {
		unsigned has_fin = !!(s->flags & TCP_FIN);

		/* Nothing can follow a FIN; a repeated one wants its acknowledgement again. */
		conn->ack_now |= has_fin || s->len > 0;
		tcp_conn_want_output(conn);
		return;
	}
	tcp_conn_want_output(conn);
	if (seq_lt(s->seq, conn->rcv_nxt) && s->len > 0) {
		conn->dsack.start = s->seq;
		conn->dsack.end = seq_min(end, conn->rcv_nxt);
		conn->ack_now = true;
	}
	if (!conn->is_held && seq_lt(conn->rcv_nxt, end)) {
		/* Nobody will ever read this (RFC 9293, 3.6.1: close with data to come). */
		tcp_reply_abort(conn);
		tcp_conn_close(conn, TCP_CLOSED);
		return;
	}
	conn->rcv_mss = MAX(conn->rcv_mss, s->len);
	is_whole = seq_le(end, conn->rcv_edge);
	end = seq_min(end, conn->rcv_edge);
	if (conn->has_fin)
		end = seq_min(end, conn->fin_seq);
	if (!is_whole)
		conn->ack_now = true;
	if (seq_lt(start, end)) {
		measure_rtt(conn, s, now_ns);
		if (start == conn->rcv_nxt)
			store_in_order(conn, s->data + (start - s->seq), end - start);
		else
			store_later(conn, start, s->data + (start - s->seq), end - start);
	}
	if (s->flags & TCP_FIN && is_whole && !conn->has_fin && seq_le(conn->rcv_nxt, end)) {
		conn->has_fin = true;
		conn->fin_seq = end;
		conn->ack_now = true;
		tcp_reassembly_cut(&conn->ranges, end);
	}
	tcp_recv_count(conn);
	if (conn->has_fin && conn->rcv_nxt == conn->fin_seq)
		fin_reached(conn, now_ns);
}

size_t tcp_recv_data(struct tcp_conn *conn, struct iovec *data, unsigned max, unsigned *count)
{
	uint32_t seq = conn->rcv_read, end = seq + tcp_recv_unread(conn);
	size_t sum = 0;

	for (*count = 0; *count < max && seq != end; (*count)++) {
		size_t contiguous, n;

		data[*count].iov_base = tcp_buffer_at(&conn->rcv_buffer, seq, &contiguous);
		n = MIN(contiguous, (size_t)(end - seq));
		data[*count].iov_len = n;
		seq += (uint32_t)n;
		sum += n;
	}
	return sum;
}

void tcp_recv_consume(struct tcp_conn *conn, size_t len)
{
	uint32_t from = conn->rcv_read;

	assert(len <= tcp_recv_unread(conn));
	conn->rcv_read += (uint32_t)len;
	tcp_buffer_drop(&conn->rcv_buffer, &conn->tcp->memory, from, conn->rcv_read);
	if (tcp_recv_unread(conn) == 0 && conn->ranges.count == 0)
		tcp_buffer_clear(&conn->rcv_buffer, &conn->tcp->memory);
	if (conn->in_table && tcp_state_is_synchronized(conn->state) && window_update_due(conn))
		tcp_conn_want_output(conn);
}

bool tcp_recv_ended(const struct tcp_conn *conn)
{
	return conn->fin_reached && tcp_recv_unread(conn) == 0;
}
