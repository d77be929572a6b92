/*
 * RACK-TLP (RFC 8985): a segment is lost when one sent sufficiently later has
 * been delivered. Time decides, not the number of duplicates, so reordering
 * within a quarter of a round trip is not taken for loss, and a lost
 * retransmission is found like any other.
 *
 * The list by sending time holds what is neither delivered nor lost, so the
 * search stops at the first segment that is too young.
 */
#include "daemon/tcp/conn.h"

#define DUP_THRESH   3u
#define REO_MULT_MAX 64u
#define REO_PERSIST  16u
#define PROBE_SLACK  (2 * NS_PER_MS)

void tcp_rack_init(struct tcp_rack *rack)
{
	*rack = (struct tcp_rack){ .min_rtt_ns = NEVER_NS, .reo_mult = 1 };
}

static bool sent_after(uint64_t a_ns, uint32_t a_end, uint64_t b_ns, uint32_t b_end)
{
	return a_ns > b_ns || (a_ns == b_ns && seq_lt(b_end, a_end));
}

void tcp_rack_delivered(struct tcp_conn *conn, const struct tcp_sent *sent, bool ts_is_older,
			uint64_t now_ns)
{
	struct tcp_rack *rack = &conn->rack;
	uint64_t rtt_ns = now_ns - sent->sent_ns;
	uint32_t end = sent->seq + sent->len;

	if (rack->xmit_ns == 0 || seq_lt(rack->fack, end))
		rack->fack = end;
	else if (seq_lt(end, rack->fack) && (ts_is_older || !(sent->flags & TCP_SENT_AGAIN)))
		rack->reordering_seen = true; /* the original came, if late */
	/* A retransmission answered too soon: the original was delivered, not this. */
	if (sent->flags & TCP_SENT_AGAIN && (ts_is_older || rtt_ns < rack->min_rtt_ns))
		return;
	if (rack->xmit_ns == 0 || sent_after(sent->sent_ns, end, rack->xmit_ns, rack->end_seq)) {
		rack->xmit_ns = sent->sent_ns;
		rack->end_seq = end;
		rack->rtt_ns = rtt_ns;
	}
}

/* Something was sent twice for nothing: wait longer, for some recoveries to come. */
void tcp_rack_dsack(struct tcp_conn *conn)
{
	struct tcp_rack *rack = &conn->rack;

	if (rack->has_dsack_round && seq_lt(conn->snd_una, rack->dsack_round))
		return;
	rack->has_dsack_round = true;
	rack->dsack_round = conn->snd_nxt;
	rack->reo_mult = (uint8_t)MIN(rack->reo_mult + 1u, REO_MULT_MAX);
	rack->reo_persist = REO_PERSIST;
}

/* A recovery begins: after some without a needless one, patience returns to normal. */
void tcp_rack_recovery(struct tcp_conn *conn)
{
	struct tcp_rack *rack = &conn->rack;

	if (rack->reo_persist > 0 && --rack->reo_persist == 0)
		rack->reo_mult = 1;
}

static uint64_t reorder_window(struct tcp_conn *conn)
{
	struct tcp_rack *rack = &conn->rack;

	if (!rack->reordering_seen &&
	    (conn->recovery != TCP_OPEN || conn->board.sacked_count >= DUP_THRESH))
		return 0;
	if (rack->min_rtt_ns == NEVER_NS)
		return 0;
	return MIN(rack->reo_mult * (rack->min_rtt_ns / 4), conn->srtt_ns);
}

uint64_t tcp_rack_detect(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_scoreboard *b = &conn->board;
	struct tcp_rack *rack = &conn->rack;
	uint64_t window_ns;
	uint32_t i = b->oldest;

	if (rack->xmit_ns == 0 || i == TCP_NO_RECORD)
		return NEVER_NS;
	window_ns = reorder_window(conn);
	while (i != TCP_NO_RECORD) {
		struct tcp_sent *sent = tcp_board_at(b, i);
		uint32_t later = sent->later;
		uint64_t due_ns = sent->sent_ns + rack->rtt_ns + window_ns;

		if (!sent_after(rack->xmit_ns, rack->end_seq, sent->sent_ns, sent->seq + sent->len))
			return NEVER_NS;
		if (due_ns > now_ns)
			return due_ns;
		tcp_board_mark_lost(b, i);
		i = later;
	}
	return NEVER_NS;
}

uint64_t tcp_rack_probe_ns(const struct tcp_conn *conn, uint64_t now_ns)
{
	uint64_t wait_ns;

	if (!conn->has_sack || conn->recovery != TCP_OPEN || conn->tlp_out ||
	    conn->board.sacked_count > 0 || conn->srtt_ns == 0 || conn->tail_probe_due)
		return NEVER_NS;
	wait_ns = 2 * conn->srtt_ns;
	/* The far side may hold back the acknowledgement of a lone segment. */
	if (conn->board.pipe_count <= 1)
		wait_ns += TCP_RTO_MIN_NS;
	else
		wait_ns += PROBE_SLACK;
	return now_ns + wait_ns;
}
