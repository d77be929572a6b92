/*
 * Segments that no connection sends: resets for what nobody takes, resets of
 * connections that are gone by the time of the flush, acknowledgements from
 * TIME_WAIT, challenge acknowledgements (RFC 5961).
 *
 * They wait in a bounded ring, since nothing is sent from tcp_input(). One too
 * many is dropped: the far side repeats its segment and asks again.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"

static bool grow(struct tcp *tcp)
{
	uint32_t room = tcp->reply_room ? tcp->reply_room * 2 : 16;
	struct tcp_reply *replies;

	if (room > TCP_MAX_REPLIES)
		return false;
	replies = malloc(room * sizeof(*replies));
	if (!replies)
		return false;
	for (uint32_t i = 0; i < tcp->reply_count; i++)
		replies[i] = tcp->replies[(tcp->reply_head + i) & (tcp->reply_room - 1)];
	free(tcp->replies);
	tcp->replies = replies;
	tcp->reply_room = room;
	tcp->reply_head = 0;
	return true;
}

void tcp_reply_segment(struct tcp *tcp, const struct tcp_reply *reply)
{
	if (tcp->reply_count == tcp->reply_room && !grow(tcp))
		return;
	tcp->replies[(tcp->reply_head + tcp->reply_count++) & (tcp->reply_room - 1)] = *reply;
}

void tcp_reply_reset(struct tcp *tcp, const struct tcp_segment *s)
{
	struct tcp_reply reply = { .key = s->key, .flags = TCP_RST };

	if (s->flags & TCP_RST)
		return;
	if (s->flags & TCP_ACK) {
		reply.seq = s->ack;
	} else {
		reply.flags |= TCP_ACK;
		reply.ack = s->seq + tcp_segment_space(s);
	}
	tcp_reply_segment(tcp, &reply);
}

void tcp_reply_abort(struct tcp_conn *conn)
{
	struct tcp_reply reply = { .key = conn->flow.key, .flags = TCP_RST | TCP_ACK };

	reply.seq = tcp_send_bare_seq(conn);
	reply.ack = conn->rcv_nxt;
	tcp_reply_segment(conn->tcp, &reply);
}

void tcp_reply_challenge(struct tcp_conn *conn, uint64_t now_ns)
{
	if (now_ns < conn->challenge_ns)
		return;
	conn->challenge_ns = now_ns + TCP_CHALLENGE_NS;
	conn->tcp->stats.challenge_acks++;
	conn->ack_now = true;
	tcp_conn_want_output(conn);
}

bool tcp_reply_flush(struct tcp *tcp)
{
	while (tcp->reply_count > 0) {
		const struct tcp_reply *reply = &tcp->replies[tcp->reply_head];
		struct tcp_template template;
		uint8_t *out;

		tcp_template_init(&template, &reply->key, &reply->options);
		out = tcp->callbacks.packet_reserve(tcp->owner, template.header_len);
		if (!out)
			return false;
		tcp_template_set(&template, reply->ack, reply->window);
		tcp_template_write(&template, out, reply->seq, reply->flags, 0);
		tcp->callbacks.packet_commit(tcp->owner, template.header_len);
		tcp->stats.segments_out++;
		tcp->reply_head = (tcp->reply_head + 1) & (tcp->reply_room - 1);
		tcp->reply_count--;
	}
	return true;
}
