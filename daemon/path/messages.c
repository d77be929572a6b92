/*
 * Disco messages in and out, and the pings that users ask for.
 *
 * A message counts only if its sender's key is in the map and its box opens; by
 * relay, only if the relay's word for who sent it agrees with the key. A ping
 * may claim to be any node that has the key it was sealed with, and no other.
 * Nothing protects against replays: an old ping is answered (once for each
 * address), an old call-me-maybe makes us ping; neither moves a path. Only a
 * pong with a transaction id of ours does.
 */
#include <string.h>

#include <sodium.h>

#include "daemon/path/private.h"

#define RELAY_PSEUDO_V4 0x7f030328u /* 127.3.3.40: what a pong names for a ping by relay */

/* ---- out ---- */

static size_t seal(struct paths *paths, struct disco_peer *dp, const uint8_t *plain, size_t len,
		   uint8_t packet[static DISCO_PACKET_MAX])
{
	const struct disco_box_key *box = disco_peer_box(paths, dp);
	uint8_t nonce[DISCO_NONCE_LEN];

	if (!box)
		return 0;
	randombytes_buf(nonce, sizeof(nonce));
	paths->stats.disco_tx++;
	return disco_seal(box, paths->disco_key, nonce, plain, len, packet);
}

void disco_send_udp(struct paths *paths, struct disco_peer *dp, const struct endpoint *to,
		    const uint8_t *plain, size_t len)
{
	uint8_t packet[DISCO_PACKET_MAX];
	size_t packet_len = seal(paths, dp, plain, len, packet);

	if (packet_len > 0)
		paths->callbacks.send_udp(paths->owner, to, packet, packet_len, packet_len);
}

void disco_send_relay(struct paths *paths, struct path_peer *peer, int region, const uint8_t *plain,
		      size_t len)
{
	uint8_t packet[DISCO_PACKET_MAX];
	size_t packet_len;

	if (!peer->disco || region == 0)
		return;
	packet_len = seal(paths, peer->disco, plain, len, packet);
	if (packet_len > 0)
		paths->callbacks.send_relay(paths->owner, region, peer->key, packet, packet_len,
					    packet_len);
}

/* ---- pings ---- */

static bool has_key(const struct path_peer *peer, const struct disco_peer *dp)
{
	return dp && (peer->disco == dp || peer->other == dp);
}

/* Whose ping is it? NULL: nobody's who could be named. */
static struct path_peer *pinging_peer(const struct paths *paths, const struct disco_peer *dp,
				      const struct disco_message *m)
{
	struct path_peer *peer;

	if (sodium_is_zero(m->node_key, sizeof(m->node_key)))
		return dp->peer_count == 1 ? dp->peers[0] : NULL;
	peer = paths_find_peer(paths, m->node_key);
	return peer && has_key(peer, dp) ? peer : NULL;
}

static void answer_ping(struct paths *paths, struct path_peer *peer, int region,
			const struct endpoint *src, const uint8_t txid[static DISCO_TXID_LEN])
{
	uint8_t plain[DISCO_PONG_LEN];
	size_t len = disco_make_pong(txid, src, plain);

	if (region)
		disco_send_relay(paths, peer, region, plain, len);
	else
		disco_send_udp(paths, peer->disco, src, plain, len);
}

static void relayed_ping(struct paths *paths, struct path_peer *peer, int region,
			 const struct disco_message *m)
{
	struct endpoint pseudo = { ip_from_v4(RELAY_PSEUDO_V4), (uint16_t)region };

	answer_ping(paths, peer, region, &pseudo, m->txid);
}

/*
 * Is this address news? Then the peer may have moved, or just arrived behind a
 * NAT that nobody could predict: both want a look at once, not at the next beat.
 */
static void pinged_from_new_address(struct paths *paths, struct path_peer *peer,
				    const struct endpoint *from)
{
	struct candidate *c;

	if (!peer_is_active(peer, paths->now_ns))
		return;
	if (peer_is_trusted(peer, paths->now_ns))
		peer_doubt(paths, peer, paths->now_ns);
	c = candidate_find(peer, from);
	if (c && paths->now_ns - c->pinged_ns >= PING_INTERVAL_NS)
		peer_ping(paths, peer, c, paths->now_ns);
}

static void direct_ping(struct paths *paths, struct path_peer *peer, const struct endpoint *from,
			const struct disco_message *m)
{
	bool is_new = !candidate_find(peer, from);
	struct candidate *c = candidate_add(paths, peer, from, paths->now_ns);

	if (!candidate_is_usable(from))
		return;
	if (c && c->got_ping_ns && memcmp(c->got_txid, m->txid, DISCO_TXID_LEN) == 0)
		return; /* a copy by another way, or a replay */
	if (c) {
		memcpy(c->got_txid, m->txid, DISCO_TXID_LEN);
		c->got_ping_ns = paths->now_ns;
	}
	answer_ping(paths, peer, 0, from, m->txid);
	if (c && is_new)
		pinged_from_new_address(paths, peer, from);
}

static void ping_received(struct paths *paths, struct disco_peer *dp, const struct endpoint *from,
			  int region, struct path_peer *relayed_by, const struct disco_message *m)
{
	struct path_peer *peer = relayed_by ? relayed_by : pinging_peer(paths, dp, m);

	if (!peer) {
		paths->stats.disco_dropped++;
		return;
	}
	peer->last_rx_ns = paths->now_ns;
	peer_use_disco_key(peer, dp);
	if (relayed_by)
		relayed_ping(paths, peer, region, m);
	else
		direct_ping(paths, peer, from, m);
}

/* ---- pongs ---- */

static bool is_answer(struct sent_ping *sent, const uint8_t txid[static DISCO_TXID_LEN],
		      uint64_t now_ns)
{
	return sent->at_ns && now_ns - sent->at_ns <= PONG_WAIT_NS &&
	       memcmp(sent->txid, txid, DISCO_TXID_LEN) == 0;
}

static struct sent_ping *find_sent(struct path_peer *peer,
				   const uint8_t txid[static DISCO_TXID_LEN], uint64_t now_ns,
				   struct candidate **found)
{
	for (unsigned i = 0; i < peer->candidate_count; i++) {
		struct candidate *c = &peer->candidates[i];

		for (unsigned k = 0; k < SENT_PINGS; k++) {
			if (is_answer(&c->sent[k], txid, now_ns)) {
				*found = c;
				return &c->sent[k];
			}
		}
	}
	return NULL;
}

/* True when the pong was this peer's. */
static bool direct_pong(struct paths *paths, struct path_peer *peer, const struct disco_message *m)
{
	struct candidate *c;
	struct sent_ping *sent = find_sent(peer, m->txid, paths->now_ns, &c);
	struct paths_pong pong;
	uint64_t sent_ns;

	if (!sent)
		return false;
	sent_ns = sent->at_ns;
	sent->at_ns = 0;
	peer->last_rx_ns = paths->now_ns;
	pong = (struct paths_pong){ MAX(paths->now_ns - sent_ns, 1), c->endpoint, 0 };
	peer_pong_received(paths, peer, c, pong.latency_ns, paths->now_ns);
	tickets_ponged(paths, peer, sent_ns, &pong);
	return true;
}

static void relayed_pong(struct paths *paths, struct path_peer *peer, int region,
			 const struct disco_message *m)
{
	struct paths_pong pong = { .region = region };

	for (unsigned i = 0; i < RELAY_PINGS; i++) {
		struct sent_ping *sent = &peer->relay_sent[i];

		if (!is_answer(sent, m->txid, paths->now_ns))
			continue;
		pong.latency_ns = MAX(paths->now_ns - sent->at_ns, 1);
		tickets_ponged(paths, peer, sent->at_ns, &pong);
		sent->at_ns = 0;
		if (paths->callbacks.relay_answered)
			paths->callbacks.relay_answered(paths->owner, peer->user);
		return;
	}
}

static void pong_received(struct paths *paths, struct disco_peer *dp, int region,
			  struct path_peer *relayed_by, const struct disco_message *m)
{
	if (relayed_by) {
		relayed_by->last_rx_ns = paths->now_ns;
		relayed_pong(paths, relayed_by, region, m);
		return;
	}
	for (unsigned i = 0; i < dp->peer_count; i++) {
		if (direct_pong(paths, dp->peers[i], m))
			return;
	}
	paths->stats.disco_dropped++;
}

/* ---- call-me-maybe ---- */

static bool may_call(struct path_peer *peer, uint64_t now_ns)
{
	if (peer->calls_ns > now_ns + (CALLS_BURST - 1) * CALL_REFILL_NS)
		return false;
	peer->calls_ns = MAX(peer->calls_ns, now_ns) + CALL_REFILL_NS;
	return true;
}

static void call_received(struct paths *paths, struct path_peer *peer,
			  const struct disco_message *m)
{
	unsigned taken = 0;
	bool has_news = false;

	peer->last_rx_ns = paths->now_ns;
	if (!may_call(peer, paths->now_ns)) {
		paths->stats.callme_limited++;
		return;
	}
	for (unsigned i = 0; i < peer->candidate_count; i++)
		peer->candidates[i].is_in_call = false;
	for (unsigned i = 0; i < m->endpoint_count && taken < DISCO_CALLME_MAX; i++) {
		struct endpoint ep;
		struct candidate *c;

		disco_endpoint(m, i, &ep);
		if (!candidate_is_acceptable(paths, &ep)) {
			paths->stats.candidates_refused++;
			continue;
		}
		taken++;
		has_news |= !candidate_find(peer, &ep);
		c = candidate_add(paths, peer, &ep, paths->now_ns);
		if (c)
			c->is_in_call = true;
	}
	candidates_prune(peer, paths->now_ns);
	peer_forget_throttles(peer);
	for (unsigned i = 0; i < peer->candidate_count; i++)
		peer_ping(paths, peer, &peer->candidates[i], paths->now_ns);
	/* It is somewhere else: the pongs to come shall decide anew. */
	if (has_news)
		peer->trust_until_ns = 0;
	peer_touch(paths, peer);
}

/* ---- in ---- */

void disco_received(struct paths *paths, const struct endpoint *from, int region,
		    struct path_peer *relayed_by, uint8_t *bytes, size_t len)
{
	struct disco_peer *dp = disco_peer_find(paths, disco_sender(bytes));
	const struct disco_box_key *box;
	struct disco_message m;
	size_t plain_len;
	uint8_t *plain;

	paths->stats.disco_rx++;
	if (!dp || (relayed_by && !has_key(relayed_by, dp)))
		goto drop;
	box = disco_peer_box(paths, dp);
	plain = box ? disco_open(box, bytes, len, &plain_len) : NULL;
	if (!plain || disco_parse(plain, plain_len, &m) < 0)
		goto drop;
	if (m.type == DISCO_PING)
		ping_received(paths, dp, from, region, relayed_by, &m);
	else if (m.type == DISCO_PONG)
		pong_received(paths, dp, region, relayed_by, &m);
	else if (m.type == DISCO_CALL_ME_MAYBE && relayed_by)
		call_received(paths, relayed_by, &m);
	else
		goto drop;
	return;
drop:
	paths->stats.disco_dropped++;
}
