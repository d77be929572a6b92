/*
 * ICMP errors about segments we sent (RFC 5927).
 *
 * Anyone on the path can forge one, so it must quote a segment that is in
 * flight, and it ends only a connection that is not open yet. For an open one
 * it is remembered as the reason in case the connection dies of silence. A
 * refusal that quotes no sequence number (the far side's packet filter, which
 * speaks inside the tunnel) is believed only by a connection not open yet.
 */
#include <errno.h>
#include <string.h>

#include "daemon/tcp/conn.h"

#define MTU_MIN_V6 1280u /* RFC 8200, 5 */

static void path_mtu_fell(struct tcp_conn *conn, uint32_t mtu, uint64_t now_ns)
{
	uint32_t mss = conn->mss;

	mtu = MAX(mtu, ip_is_v4(&conn->flow.key.local) ? TCP_MTU_MIN : MTU_MIN_V6);
	if (mtu >= conn->path_mtu)
		return;
	conn->path_mtu = mtu;
	tcp_send_set_mss(conn);
	if (conn->mss >= mss || tcp_board_count(&conn->board) == 0)
		return;
	if (!tcp_board_split(&conn->board, conn->mss))
		return;
	/*
	 * What was too long is sent anew in smaller pieces. That is no sign of congestion, though
	 * pieces which wait for their turn count as lost: until all of it is acknowledged no
	 * recovery begins.
	 */
	if (conn->recovery != TCP_LOSS)
		conn->recovery = TCP_SPLIT;
	conn->recover = conn->snd_nxt;
	conn->undo_possible = false;
	conn->dupacks = 0;
	conn->tlp_out = conn->tail_probe_due = false;
	tcp_send_arm(conn, now_ns);
	tcp_conn_arm(conn);
	tcp_conn_want_output(conn);
}

void tcp_icmp_error(struct tcp *tcp, const uint8_t *quoted, size_t len, int error, uint32_t mtu,
		    uint64_t now_ns)
{
	struct tcp_flow_key key;
	struct tcp_flow *flow;
	struct tcp_conn *conn;
	uint64_t hash;
	uint32_t seq;

	tcp->now_ns = now_ns;
	if (tcp_segment_parse_quoted(quoted, len, &key, &seq) < 0) {
		tcp->stats.bad_segments++;
		return;
	}
	flow = tcp_table_find(&tcp->table, &key, &hash);
	if (!flow || flow->is_time_wait)
		return;
	conn = (struct tcp_conn *)flow;
	if (seq_lt(seq, conn->snd_una) || !seq_lt(seq, conn->snd_nxt))
		return;
	if (error == EMSGSIZE)
		path_mtu_fell(conn, mtu, now_ns);
	else if (conn->state == TCP_SYN_SENT)
		tcp_conn_fail(conn, error);
	else
		conn->soft_error = error;
}

void tcp_refused(struct tcp *tcp, const struct endpoint *local, const struct endpoint *remote,
		 int error, uint64_t now_ns)
{
	struct tcp_flow_key key = tcp_flow_key(local, remote);
	uint64_t hash;
	struct tcp_flow *flow = tcp_table_find(&tcp->table, &key, &hash);

	tcp->now_ns = now_ns;
	if (flow && !flow->is_time_wait && ((struct tcp_conn *)flow)->state == TCP_SYN_SENT)
		tcp_conn_fail((struct tcp_conn *)flow, error);
}
