/*
 * How much of the table, and of the memory for buffers, one peer may take.
 *
 * What a peer's SYNs hold may be at most SHARE_OF_FREE times what is still free
 * (dynamic thresholds, as switches share a buffer). Alone a peer gets two thirds
 * of the table and never notices while there is room; n greedy ones get 2/(2n + 1)
 * each, and 1/(2n + 1) stays free for everybody else, whoever comes when. There is
 * no quota to choose and no list of peers to search. The same holds for what the
 * buffers of its connections take (tcp_memory_used()): a peer decides how long bytes
 * to it wait, and where those from it lie.
 *
 * A peer is whatever the caller says a batch comes from, not an address: one may
 * have a whole prefix. A keyed hash of it finds its counters. Peers with the same
 * hash have one share together; there are so many counters that this is rare, and
 * it matters only when the table is nearly full.
 *
 * What our own programs dial is nobody's share.
 */
#include <sodium.h>

#include "daemon/tcp/conn.h"

#define SHARE_OF_FREE 2u

static struct tcp_share *share_of(struct tcp *tcp, const void *source)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)&source, sizeof(source),
			 tcp->table.hash_key);
	return &tcp->shares[hash % TCP_SHARES];
}

bool tcp_share_allows(struct tcp *tcp, const struct tcp_segment *syn, uint64_t now_ns)
{
	const struct tcp_config *c = &tcp->config;
	const struct tcp_share *share = share_of(tcp, tcp->source);
	char text[IP_TEXT_MAX];

	if (tcp->parked >= c->max_parked || tcp->conns >= c->max_conns) {
		tcp->stats.syns_unanswered++;
		return false;
	}
	if (share->parked < SHARE_OF_FREE * (c->max_parked - tcp->parked) &&
	    share->conns < SHARE_OF_FREE * (c->max_conns - tcp->conns))
		return true;
	tcp->stats.syns_over_share++;
	log_limited(&tcp->share_gate, now_ns, LOG_WARN,
		    "tcp: %s: its peer has %u of %u connections (%u wait), so further ones wait",
		    ip_format(&syn->key.remote, text), share->conns, c->max_conns, share->parked);
	return false;
}

void tcp_share_enter(struct tcp_conn *conn)
{
	conn->share = share_of(conn->tcp, conn->tcp->source);
	conn->share->conns++;
	conn->snd_buffer.held = conn->rcv_buffer.held = &conn->share->memory;
}

void tcp_share_leave(struct tcp_conn *conn)
{
	if (conn->share)
		conn->share->conns--;
	conn->share = NULL;
}
