/* What the status page shows of a connection. */
#include <string.h>

#include "daemon/tcp/conn.h"

/* As ss(8) writes them. */
static const char *const state_names[] = {
	[TCP_CLOSED] = "CLOSED",           [TCP_PARKED] = "SYN-PARKED",
	[TCP_SYN_SENT] = "SYN-SENT",       [TCP_SYN_RCVD] = "SYN-RECV",
	[TCP_ESTABLISHED] = "ESTABLISHED", [TCP_FIN_WAIT_1] = "FIN-WAIT-1",
	[TCP_FIN_WAIT_2] = "FIN-WAIT-2",   [TCP_CLOSE_WAIT] = "CLOSE-WAIT",
	[TCP_CLOSING] = "CLOSING",         [TCP_LAST_ACK] = "LAST-ACK",
	[TCP_TIME_WAIT] = "TIME-WAIT",
};

void tcp_conn_info(const struct tcp_conn *conn, struct tcp_conn_info *info)
{
	const struct tcp_flow_key *key = &conn->flow.key;

	memset(info, 0, sizeof(*info));
	info->local = (struct endpoint){ key->local, key->local_port };
	info->remote = (struct endpoint){ key->remote, key->remote_port };
	info->state = state_names[conn->state];
	info->srtt_us = conn->srtt_ns / NS_PER_US;
	info->rto_us = tcp_backed_off(conn) / NS_PER_US;
	info->cwnd = conn->cc.cwnd;
	info->ssthresh = conn->cc.ssthresh;
	info->mss = conn->mss;
	info->congestion = conn->cc.ops->name;
	info->pacing_rate = conn->cc.pacing_rate;
	info->peer_window = conn->snd_wnd;
	info->unacked = conn->snd_nxt - conn->snd_una;
	info->unsent = conn->in_table && seq_lt(conn->snd_nxt, conn->snd_end)
			       ? conn->snd_end - conn->snd_nxt
			       : 0;
	info->unread = tcp_recv_unread(conn);
	info->retransmitted = conn->retransmitted;
}
