/*
 * Segments without data: SYNs, acknowledgements, probes of a shut window.
 */
#include "daemon/tcp/conn.h"

void tcp_send_timestamp(const struct tcp_conn *conn, struct tcp_options *o, uint64_t now_ns)
{
	if (!conn->has_timestamps)
		return;
	o->has_timestamp = true;
	o->ts_value = tcp_timestamp(conn, now_ns);
	o->ts_echo = conn->ts_recent;
}

static bool send_bare(struct tcp_conn *conn, const struct tcp_options *options, uint8_t flags,
		      uint32_t seq, uint32_t ack, uint16_t window)
{
	struct tcp *tcp = conn->tcp;
	struct tcp_template t;
	uint8_t *out;

	tcp_template_init(&t, &conn->flow.key, options);
	out = tcp->callbacks.packet_reserve(tcp->owner, t.header_len);
	if (!out)
		return false;
	tcp_template_set(&t, ack, window);
	tcp_template_write(&t, out, seq, flags, 0);
	tcp->callbacks.packet_commit(tcp->owner, t.header_len);
	tcp->stats.segments_out++;
	return true;
}

bool tcp_send_syn(struct tcp_conn *conn, uint64_t now_ns)
{
	bool is_answer = conn->state == TCP_SYN_RCVD;
	uint32_t window = is_answer ? conn->rcv_edge - conn->rcv_nxt
				    : MIN(TCP_RECV_INITIAL, UINT16_MAX);
	struct tcp_options o = { 0 };

	o.mss = (uint16_t)(conn->tcp->config.mtu - (ip_is_v4(&conn->flow.key.local) ? 40 : 60));
	o.has_scale = conn->has_scale;
	o.scale = conn->rcv_scale;
	o.sack_permitted = conn->has_sack;
	tcp_send_timestamp(conn, &o, now_ns);
	if (!is_answer)
		o.ts_echo = 0;
	if (!send_bare(conn, &o, TCP_SYN | (is_answer ? TCP_ACK : 0), conn->iss,
		       is_answer ? conn->rcv_nxt : 0, (uint16_t)MIN(window, UINT16_MAX)))
		return false;
	conn->syn_due = conn->ack_now = false;
	conn->snd_nxt = conn->iss + 1;
	conn->last_sent_ns = now_ns;
	conn->rtx = TCP_RTX_RTO;
	conn->rtx_ns = now_ns + tcp_backed_off(conn);
	return true;
}

static unsigned sack_blocks(const struct tcp_conn *conn)
{
	return conn->has_timestamps ? 3 : 4;
}

bool tcp_send_is_beyond(const struct tcp_conn *conn, uint32_t end)
{
	uint32_t edge = conn->snd_una + conn->snd_wnd;

	return seq_lt(edge, end) && (end - edge >= 1u << conn->snd_scale || conn->retries > 0);
}

/*
 * The peer may take back a window it had given, when it has no memory. Then it drops a segment that
 * begins beyond what is left, with the acknowledgement in it (RFC 9293, 3.10.7.4): two sides that
 * wait for each other's would wait for ever. So what has no data lies at the edge.
 */
uint32_t tcp_send_bare_seq(const struct tcp_conn *conn)
{
	if (tcp_state_is_synchronized(conn->state) && tcp_send_is_beyond(conn, conn->snd_nxt))
		return conn->snd_una + conn->snd_wnd;
	return conn->snd_nxt;
}

/* left_out: so many of the ranges touched last are not told of. */
static bool send_ack(struct tcp_conn *conn, uint32_t ack, unsigned left_out, uint64_t now_ns)
{
	struct tcp_options o = { 0 };
	unsigned max = sack_blocks(conn);

	tcp_send_timestamp(conn, &o, now_ns);
	if (conn->has_sack && conn->dsack.start != conn->dsack.end)
		o.sack[o.sack_count++] = conn->dsack;
	if (conn->has_sack && conn->ranges.count > 0)
		o.sack_count += tcp_reassembly_sack(&conn->ranges, left_out, o.sack + o.sack_count,
						    max - o.sack_count);
	if (!send_bare(conn, &o, TCP_ACK, tcp_send_bare_seq(conn), ack,
		       tcp_recv_advertise(conn, ack)))
		return false;
	conn->dsack.start = conn->dsack.end = 0;
	return true;
}

/*
 * While a connection is young, one acknowledgement for each two segments even
 * when a batch brought many: peers may count them in slow start.
 */
bool tcp_send_acks(struct tcp_conn *conn, uint64_t now_ns)
{
	unsigned max = sack_blocks(conn) - 1; /* one may be a D-SACK */
	uint32_t step = 2 * conn->rcv_mss;

	if (conn->young_segments < TCP_YOUNG_SEGMENTS && conn->ranges.count == 0 && step > 0 &&
	    !conn->fin_reached)
		while (conn->rcv_nxt - conn->acked_seq > step) {
			if (!send_ack(conn, conn->acked_seq + step, 0, now_ns))
				return false;
			conn->acked_seq += step;
		}
	/* What one option has no room for would be taken for lost: the older ranges first. */
	for (unsigned more = conn->has_sack ? conn->ranges.fresh_count : 0; more > max;) {
		more -= max;
		if (!send_ack(conn, conn->rcv_nxt, more, now_ns))
			return false;
	}
	if (!send_ack(conn, conn->rcv_nxt, 0, now_ns))
		return false;
	tcp_recv_ack_sent(conn);
	return true;
}

/* A segment that is outside of the peer's window on purpose: it must be answered. */
bool tcp_send_probe(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_options o = { 0 };

	tcp_send_timestamp(conn, &o, now_ns);
	if (!send_bare(conn, &o, TCP_ACK, conn->snd_una - 1, conn->rcv_nxt,
		       tcp_recv_advertise(conn, conn->rcv_nxt)))
		return false;
	conn->probe_due = false;
	tcp_recv_ack_sent(conn);
	return true;
}
