/*
 * One peer's path.
 *
 * The best address is trusted for a while after each pong; while it is, it alone
 * is used, and sending costs one comparison. Otherwise packets take the relay,
 * and the best address too if there is one: WireGuard's replay window removes
 * the copies. What makes an address best is a pong, nothing else. A peer without
 * relay that has just pinged us is answered where it did, until there is a pong:
 * else the answer to its handshake is lost, and the next comes 5 s later.
 *
 * Beyond what peers of other kinds do, a best address is doubted early: when a
 * ping to it stays unanswered for a few round trips, or when the peer shows up at
 * an address that is new. Doubt costs a few copies until the next pong; without
 * it, up to 6.5 s of packets would follow a peer to where it no longer is.
 *
 * Peers that speak WireGuard only have no pongs: their endpoints are taken in
 * turn, each for as long as something comes back from it.
 */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/private.h"

/* ---- the timer ---- */

static uint64_t grain(uint64_t ns)
{
	return (ns + DEADLINE_GRAIN_NS - 1) / DEADLINE_GRAIN_NS * DEADLINE_GRAIN_NS;
}

static uint64_t late_ns(const struct path_peer *peer)
{
	return peer->awaiting_ns +
	       MAX(LATE_PONG_NS, LATE_PONG_FACTOR * MIN(peer->best.latency_ns, NS_PER_S));
}

/* When the best address is doubted, and then given up. */
static uint64_t awaiting_deadline(const struct path_peer *peer)
{
	if (peer->awaiting_ns == 0)
		return NEVER_NS;
	if (peer->trust_until_ns > late_ns(peer))
		return late_ns(peer);
	return MAX(peer->awaiting_ns + PONG_WAIT_NS, peer->trust_until_ns + 1);
}

uint64_t peer_deadline(const struct path_peer *peer)
{
	uint64_t ns = MIN(peer->heartbeat_ns, awaiting_deadline(peer));

	return ns == NEVER_NS ? ns : grain(ns);
}

void peer_touch(struct paths *paths, struct path_peer *peer)
{
	uint64_t ns = peer_deadline(peer);

	if (ns == NEVER_NS)
		return;
	if (!peer->is_ticking)
		TAILQ_INSERT_TAIL(&paths->ticking, peer, tick);
	peer->is_ticking = true;
	paths->tick_ns = MIN(paths->tick_ns, ns);
}

/* ---- the best address ---- */

static void tell_direct(struct paths *paths, struct path_peer *peer, const struct endpoint *to)
{
	peer->was_told_direct = to != NULL;
	if (paths->callbacks.direct_changed)
		paths->callbacks.direct_changed(paths->owner, peer->user, to);
}

void peer_clear_best(struct paths *paths, struct path_peer *peer)
{
	peer->best = (struct measured_address){ 0 };
	peer->trust_until_ns = 0;
	peer->awaiting_ns = 0;
	peer->next_try_ns = 0;
	if (peer->was_told_direct)
		tell_direct(paths, peer, NULL);
}

static void set_best(struct paths *paths, struct path_peer *peer, const struct candidate *c)
{
	bool is_other = !endpoint_equal(&peer->best.endpoint, &c->endpoint);

	peer->best = (struct measured_address){ c->endpoint, c->latency_ns };
	if (is_other)
		tell_direct(paths, peer, &peer->best.endpoint);
}

void peer_pong_received(struct paths *paths, struct path_peer *peer, struct candidate *c,
			uint64_t latency_ns, uint64_t now_ns)
{
	struct measured_address measured = { c->endpoint, latency_ns };

	c->latency_ns = latency_ns;
	if (address_is_better(&measured, &peer->best) || !peer_is_trusted(peer, now_ns))
		set_best(paths, peer, c);
	if (!endpoint_equal(&peer->best.endpoint, &c->endpoint))
		return;
	peer->best.latency_ns = latency_ns;
	peer->trust_until_ns = now_ns + TRUST_NS;
	peer->awaiting_ns = 0;
	peer_touch(paths, peer);
}

/* ---- pinging ---- */

void peer_forget_throttles(struct path_peer *peer)
{
	for (unsigned i = 0; i < peer->candidate_count; i++)
		peer->candidates[i].pinged_ns = 0;
	peer->relay_pinged_ns = 0;
	peer->next_try_ns = 0;
}

void peer_ping(struct paths *paths, struct path_peer *peer, struct candidate *c, uint64_t now_ns)
{
	struct sent_ping *sent = &c->sent[c->next_sent];
	uint8_t plain[DISCO_PING_LEN];

	if (!peer->disco)
		return;
	c->next_sent = (c->next_sent + 1) % SENT_PINGS;
	randombytes_buf(sent->txid, sizeof(sent->txid));
	sent->at_ns = now_ns;
	c->pinged_ns = now_ns;
	if (peer->awaiting_ns == 0 && endpoint_equal(&c->endpoint, &peer->best.endpoint)) {
		peer->awaiting_ns = now_ns;
		peer_touch(paths, peer);
	}
	disco_send_udp(paths, peer->disco, &c->endpoint, plain,
		       disco_make_ping(sent->txid, paths->node_key, plain));
}

void peer_send_call(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	struct endpoint own[DISCO_CALLME_MAX];
	uint8_t plain[DISCO_PLAIN_MAX];
	unsigned count;

	if (!self_stun_is_fresh(paths, now_ns)) {
		peer->is_call_pending = true;
		self_restun(paths, false, now_ns);
		return;
	}
	peer->is_call_pending = false;
	count = self_endpoints(paths, own, DISCO_CALLME_MAX);
	disco_send_relay(paths, peer, peer_relay_region(paths, peer), plain,
			 disco_make_call_me_maybe(own, count, plain));
}

/* At first the other side may not know us yet; nobody tells us when it does. */
static bool is_eager(const struct path_peer *peer, uint64_t now_ns)
{
	return now_ns - peer->active_since_ns < EAGER_NS && peer->best.endpoint.port == 0;
}

static uint64_t beat_ns(const struct path_peer *peer, uint64_t now_ns)
{
	uint64_t active_ns = now_ns - peer->active_since_ns;

	if (!is_eager(peer, now_ns))
		return HEARTBEAT_NS;
	return MIN(MAX(active_ns / 2, EAGER_FIRST_NS), EAGER_PING_NS);
}

/*
 * Where no direct way is, a pong by relay tells that the peer knows us: wanted until it is
 * heard, and each time that somebody asks.
 */
static bool wants_relay_ping(const struct paths *paths, const struct path_peer *peer,
			     uint64_t now_ns)
{
	bool is_sought = is_eager(peer, now_ns) && peer->last_rx_ns < peer->active_since_ns;
	uint64_t interval_ns = is_sought ? beat_ns(peer, now_ns) / 2 : PING_INTERVAL_NS;

	return (is_sought || tickets_has(paths, peer)) &&
	       (!peer->relay_pinged_ns || now_ns - peer->relay_pinged_ns >= interval_ns);
}

static void ping_relay(struct paths *paths, struct path_peer *peer, int region, uint64_t now_ns)
{
	struct sent_ping *sent = &peer->relay_sent[peer->next_relay_sent];
	uint8_t plain[DISCO_PING_LEN];

	peer->next_relay_sent = (peer->next_relay_sent + 1) % RELAY_PINGS;
	randombytes_buf(sent->txid, sizeof(sent->txid));
	sent->at_ns = now_ns;
	peer->relay_pinged_ns = now_ns;
	disco_send_relay(paths, peer, region, plain,
			 disco_make_ping(sent->txid, paths->node_key, plain));
}

/* Those that were not pinged of late. True: some were, or there are none. */
static bool ping_candidates(struct paths *paths, struct path_peer *peer, uint64_t interval_ns,
			    uint64_t now_ns)
{
	bool was_any = peer->candidate_count == 0;

	for (unsigned i = 0; i < peer->candidate_count; i++) {
		struct candidate *c = &peer->candidates[i];

		if (c->pinged_ns && now_ns - c->pinged_ns < interval_ns)
			continue;
		peer_ping(paths, peer, c, now_ns);
		was_any = true;
	}
	return was_any;
}

/* Candidates hold calls back where there are any; else, or where these are quick, time does. */
static void call(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	bool is_quick = is_eager(peer, now_ns);
	uint64_t interval_ns = is_quick ? EAGER_PING_NS : PING_INTERVAL_NS;

	if ((is_quick || peer->candidate_count == 0) && peer->last_call_ns &&
	    now_ns - peer->last_call_ns < interval_ns)
		return;
	peer->last_call_ns = now_ns;
	peer_send_call(paths, peer, now_ns);
}

/*
 * Every candidate, and a call, so that the peer pings us as well: pings first, they
 * open our own NAT for the answers.
 */
void peer_full_ping(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	int region = peer_relay_region(paths, peer);
	uint64_t interval_ns = is_eager(peer, now_ns) ? beat_ns(peer, now_ns) / 2
						      : PING_INTERVAL_NS;

	if (!peer->disco)
		return;
	peer->next_try_ns = now_ns + TRY_INTERVAL_NS;
	candidates_prune(peer, now_ns);
	if (ping_candidates(paths, peer, interval_ns, now_ns)) {
		peer->full_ping_ns = now_ns;
		if (region)
			call(paths, peer, now_ns);
	}
	if (region && wants_relay_ping(paths, peer, now_ns))
		ping_relay(paths, peer, region, now_ns);
}

static void ping_best(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	struct candidate *c = candidate_find(peer, &peer->best.endpoint);

	if (c)
		peer_ping(paths, peer, c, now_ns);
}

void peer_doubt(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	peer->trust_until_ns = 0;
	ping_best(paths, peer, now_ns);
	peer_full_ping(paths, peer, now_ns);
	peer_touch(paths, peer);
}

/* ---- sending ---- */

bool paths_relay_is_up(const struct paths *paths, int region)
{
	for (unsigned i = 0; i < paths->relay_count; i++) {
		if (paths->relays[i] == region)
			return true;
	}
	return false;
}

int peer_relay_region(const struct paths *paths, const struct path_peer *peer)
{
	if (peer->is_wireguard_only)
		return 0;
	if (peer->heard_region && peer->heard_region != peer->home_region &&
	    !paths_relay_is_up(paths, peer->home_region) &&
	    paths_relay_is_up(paths, peer->heard_region))
		return peer->heard_region;
	return peer->home_region ? peer->home_region : peer->heard_region;
}

void peer_note_activity(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	peer->last_send_ns = now_ns;
	if (peer->heartbeat_ns != NEVER_NS || !peer->disco)
		return;
	peer->active_since_ns = now_ns;
	peer->heartbeat_ns = now_ns + beat_ns(peer, now_ns);
	peer_touch(paths, peer);
}

/* Takes the next endpoint of a peer that has several when this one brings nothing. */
static void choose_wireguard_only(struct path_peer *peer, uint64_t now_ns)
{
	unsigned next = 0;

	if (peer->candidate_count == 0) {
		peer->best = (struct measured_address){ 0 };
		peer->trust_until_ns = 0;
		return;
	}
	for (unsigned i = 0; i < peer->candidate_count; i++) {
		if (!endpoint_equal(&peer->candidates[i].endpoint, &peer->best.endpoint))
			continue;
		next = peer->last_rx_ns && now_ns - peer->last_rx_ns < WG_ONLY_PATIENCE_NS
			       ? i
			       : (i + 1) % peer->candidate_count;
	}
	peer->best = (struct measured_address){ peer->candidates[next].endpoint, 0 };
	peer->trust_until_ns = now_ns + WG_ONLY_PATIENCE_NS;
}

static void send_relay(struct paths *paths, struct path_peer *peer, int region,
		       const uint8_t *bytes, size_t len, size_t segment_len)
{
	paths->callbacks.send_relay(paths->owner, region, peer->key, bytes, len, segment_len);
}

/* Where a peer that has no relay was when it pinged us; NULL: it did not of late. */
static const struct endpoint *seen_at(const struct path_peer *peer, uint64_t now_ns)
{
	const struct candidate *last = NULL;

	for (unsigned i = 0; i < peer->candidate_count; i++) {
		const struct candidate *c = &peer->candidates[i];

		if (c->got_ping_ns && now_ns - c->got_ping_ns <= PONG_WAIT_NS &&
		    (!last || c->got_ping_ns > last->got_ping_ns))
			last = c;
	}
	return last ? &last->endpoint : NULL;
}

/* No trusted address: the relay, and the untrusted one if there is one. */
static void send_without_trust(struct paths *paths, struct path_peer *peer, const uint8_t *bytes,
			       size_t len, size_t segment_len)
{
	uint64_t now_ns = paths->now_ns;
	int region = peer_relay_region(paths, peer);
	const struct endpoint *to = peer->best.endpoint.port != 0 ? &peer->best.endpoint : NULL;

	if (!to && !region && peer->disco)
		to = seen_at(peer, now_ns);
	if (to)
		paths->callbacks.send_udp(paths->owner, to, bytes, len, segment_len);
	if (region)
		send_relay(paths, peer, region, bytes, len, segment_len);
	paths->stats.sent_both += to && region;
	paths->stats.sent_relay += !to && region;
	paths->stats.sent_nowhere += !to && !region;
	peer_note_activity(paths, peer, now_ns);
	if (now_ns >= peer->next_try_ns)
		peer_full_ping(paths, peer, now_ns);
}

void paths_send(struct paths *paths, struct path_peer *peer, const uint8_t *bytes, size_t len,
		size_t segment_len, uint64_t now_ns)
{
	paths->now_ns = now_ns;
	if (!peer_is_trusted(peer, now_ns) && peer->is_wireguard_only)
		choose_wireguard_only(peer, now_ns);
	if (!peer_is_trusted(peer, now_ns)) {
		send_without_trust(paths, peer, bytes, len, segment_len);
		return;
	}
	peer->last_send_ns = now_ns;
	paths->stats.sent_direct++;
	paths->callbacks.send_udp(paths->owner, &peer->best.endpoint, bytes, len, segment_len);
}

/* ---- time ---- */

static void heartbeat(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	bool wants_better;

	if (!peer_is_active(peer, now_ns)) {
		peer->heartbeat_ns = NEVER_NS;
		return;
	}
	peer->heartbeat_ns = now_ns + beat_ns(peer, now_ns);
	if (peer->best.endpoint.port)
		ping_best(paths, peer, now_ns);
	wants_better = peer->best.latency_ns > GOOD_ENOUGH_NS &&
		       now_ns - peer->full_ping_ns >= UPGRADE_NS;
	if (!peer_is_trusted(peer, now_ns) || wants_better)
		peer_full_ping(paths, peer, now_ns);
}

void peer_expire(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	if (now_ns >= awaiting_deadline(peer)) {
		if (peer->trust_until_ns > late_ns(peer)) {
			self_doubt_stun(paths, now_ns);
			peer_doubt(paths, peer, now_ns);
		} else {
			peer_clear_best(paths, peer);
		}
	}
	if (now_ns >= peer->heartbeat_ns)
		heartbeat(paths, peer, now_ns);
}
