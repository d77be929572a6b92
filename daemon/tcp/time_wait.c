/*
 * TIME_WAIT: what remains of a connection that both sides have closed.
 *
 * A small record takes the connection's place in the table at the moment the
 * state is entered, so the rules of TIME_WAIT are all here, and the connection
 * itself lives on only as long as its owner has bytes to read. All records
 * wait equally long, so the list is ordered by expiry and needs no timers.
 *
 * Resets are ignored (RFC 1337): an old one must not end the protection. But who dials
 * again with a number that we cannot tell from an old one's resets the connection he
 * hears of in answer to his SYN (RFC 9293, 3.10.7.3): that one is heeded.
 */
#include <stdlib.h>

#include "daemon/tcp/conn.h"

void tcp_time_wait_remove(struct tcp *tcp, struct tcp_time_wait *tw)
{
	tcp_table_remove(&tcp->table, &tw->flow);
	TAILQ_REMOVE(&tcp->time_wait, tw, link);
	tcp->time_waits--;
	free(tw);
}

void tcp_time_wait_enter(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp *tcp = conn->tcp;
	struct tcp_time_wait *tw;
	uint32_t window = tcp_recv_window(conn) >> conn->rcv_scale;

	if (conn->ack_now) {
		/* The FIN's acknowledgement: the connection will not send it any more. */
		struct tcp_reply reply = { .key = conn->flow.key, .flags = TCP_ACK };

		reply.seq = conn->snd_nxt;
		reply.ack = conn->rcv_nxt;
		reply.window = (uint16_t)MIN(window, UINT16_MAX);
		reply.options.has_timestamp = conn->has_timestamps;
		reply.options.ts_value = tcp_timestamp(conn, now_ns);
		reply.options.ts_echo = conn->ts_recent;
		tcp_reply_segment(tcp, &reply);
	}
	tcp_conn_close(conn, TCP_TIME_WAIT);
	if (tcp->config.max_time_wait == 0)
		return;
	if (tcp->time_waits >= tcp->config.max_time_wait)
		tcp_time_wait_remove(tcp, TAILQ_FIRST(&tcp->time_wait));
	tw = calloc(1, sizeof(*tw));
	if (!tw)
		return; /* as if the record had been the oldest of too many */
	tw->flow.key = conn->flow.key;
	tw->flow.hash = conn->flow.hash;
	tw->flow.is_time_wait = true;
	tw->expires_ns = now_ns + TCP_TIME_WAIT_NS;
	tw->snd_nxt = conn->snd_nxt;
	tw->rcv_nxt = conn->rcv_nxt;
	tw->ts_recent = conn->ts_recent;
	tw->ts_offset = conn->ts_offset;
	tw->window = MIN(window, UINT16_MAX);
	tw->has_timestamps = conn->has_timestamps;
	tcp_table_add(&tcp->table, &tw->flow);
	TAILQ_INSERT_TAIL(&tcp->time_wait, tw, link);
	tcp->time_waits++;
}

static void acknowledge(struct tcp *tcp, struct tcp_time_wait *tw, uint64_t now_ns)
{
	struct tcp_reply reply = { .key = tw->flow.key, .flags = TCP_ACK };

	reply.seq = tw->snd_nxt;
	reply.ack = tw->rcv_nxt;
	reply.window = (uint16_t)tw->window;
	reply.options.has_timestamp = tw->has_timestamps;
	reply.options.ts_value = (uint32_t)(now_ns / NS_PER_MS) + tw->ts_offset;
	reply.options.ts_echo = tw->ts_recent;
	tcp_reply_segment(tcp, &reply);
}

/* May this SYN begin the next incarnation (RFC 6191, RFC 9293 3.6.1)? */
static bool is_newer_syn(const struct tcp_time_wait *tw, const struct tcp_segment *s)
{
	if (tw->has_timestamps && s->has_timestamp) {
		if (s->ts_value != tw->ts_recent)
			return seq_lt(tw->ts_recent, s->ts_value);
	}
	return seq_lt(tw->rcv_nxt, s->seq);
}

void tcp_time_wait_input(struct tcp *tcp, struct tcp_time_wait *tw, const struct tcp_segment *s,
			 uint64_t now_ns)
{
	if (s->flags & TCP_RST) {
		if (tw->has_answered_syn && s->seq == tw->rcv_nxt)
			tcp_time_wait_remove(tcp, tw);
		return;
	}
	if ((s->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && is_newer_syn(tw, s)) {
		uint64_t hash = tw->flow.hash;
		/* Beyond everything the old incarnation may have sent. */
		uint32_t floor = tw->snd_nxt + 65536;

		tcp_time_wait_remove(tcp, tw);
		tcp_listen_input(tcp, s, hash, floor, now_ns);
		return;
	}
	if (s->flags & TCP_FIN && s->seq + s->len + 1 == tw->rcv_nxt) {
		/* Our last acknowledgement was lost: wait the whole time again. */
		TAILQ_REMOVE(&tcp->time_wait, tw, link);
		tw->expires_ns = now_ns + TCP_TIME_WAIT_NS;
		TAILQ_INSERT_TAIL(&tcp->time_wait, tw, link);
	} else if (tcp_segment_space(s) == 0 && s->seq == tw->rcv_nxt) {
		return; /* an acknowledgement needs none */
	}
	if (now_ns < tw->challenge_ns)
		return;
	tw->challenge_ns = now_ns + TCP_CHALLENGE_NS / 4;
	acknowledge(tcp, tw, now_ns);
	tw->has_answered_syn |= (s->flags & TCP_SYN) != 0;
}

void tcp_time_wait_expire(struct tcp *tcp, uint64_t now_ns)
{
	struct tcp_time_wait *tw;

	while ((tw = TAILQ_FIRST(&tcp->time_wait)) && tw->expires_ns <= now_ns)
		tcp_time_wait_remove(tcp, tw);
}
