/*
 * A kernel's strictness (Linux 6.18) in front of an endpoint of ours: what begins or reaches beyond
 * the window as it was told last, or ends before what was acknowledged last, is answered and
 * dropped, with the acknowledgement and the window in it. Ours is more generous than what it tells,
 * so this goes by what it sends. It takes its window back where it is short of memory.
 *
 * What is dropped becomes a probe that says nothing new, since an answer is all it may cause.
 */
#include "strict.h"

#include <string.h>

#include "daemon/tcp/conn.h"

static struct tcp_conn *conn_of(struct tcp *tcp, const struct tcp_flow_key *key)
{
	struct tcp_conn *conn;

	TAILQ_FOREACH(conn, &tcp->all, all_link)
	if (memcmp(&conn->flow.key, key, sizeof(*key)) == 0)
		return tcp_state_is_synchronized(conn->state) ? conn : NULL;
	return NULL;
}

/* By its ports; of two at one place the later one is watched. */
static struct strict_said *said_of(struct strict *strict, const struct tcp_flow_key *key)
{
	struct strict_said *said =
		&strict->said[(key->local_port * 31u + key->remote_port) % STRICT_CONNS];

	if (said->local_port != key->local_port || said->remote_port != key->remote_port)
		*said = (struct strict_said){ .local_port = key->local_port,
					      .remote_port = key->remote_port };
	return said;
}

void strict_sent(struct strict *strict, struct tcp *tcp, const uint8_t *packet, size_t len)
{
	struct tcp_flow_key key;
	struct strict_said *said;
	struct tcp_segment s;
	struct tcp_conn *conn;

	if (tcp_segment_parse(packet, len, false, &s) != 0)
		return;
	key = (struct tcp_flow_key){ s.key.local, s.key.remote, s.key.local_port, s.key.remote_port,
				     0 };
	said = said_of(strict, &key);
	conn = conn_of(tcp, &key);
	said->is_known = conn && (s.flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK;
	if (!said->is_known)
		return;
	said->ack = s.ack;
	said->edge = s.ack + ((uint32_t)s.window << conn->rcv_scale);
}

static bool takes(const struct strict_said *said, const struct tcp_conn *conn,
		  const struct tcp_segment *s)
{
	uint32_t end = s->seq + tcp_segment_space(s), edge = seq_max(said->edge, conn->rcv_nxt);

	if (seq_lt(end, said->ack) || seq_lt(edge, s->seq))
		return false;
	return seq_le(end, edge) || tcp_recv_unread(conn) == 0;
}

size_t strict_filter(struct strict *strict, struct tcp *tcp, uint8_t *packet, size_t len)
{
	struct tcp_options o = { 0 };
	const struct strict_said *said;
	struct tcp_template template;
	struct tcp_flow_key key;
	struct tcp_segment s;
	struct tcp_conn *conn;

	if (tcp_segment_parse(packet, len, true, &s) != 0 || s.flags & (TCP_SYN | TCP_RST))
		return len;
	conn = conn_of(tcp, &s.key);
	said = said_of(strict, &s.key);
	if (!conn || !said->is_known || takes(said, conn, &s))
		return len;
	strict->drops++;
	key = (struct tcp_flow_key){ s.key.local, s.key.remote, s.key.local_port, s.key.remote_port,
				     0 };
	o.has_timestamp = conn->has_timestamps;
	o.ts_value = conn->ts_recent;
	tcp_template_init(&template, &key, &o);
	tcp_template_set(&template, conn->snd_una, (uint16_t)(conn->snd_wnd >> conn->snd_scale));
	tcp_template_write(&template, packet, conn->rcv_nxt - 1, TCP_ACK, 0);
	return template.header_len;
}
