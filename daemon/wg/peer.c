/*
 * A peer: what ties handshake, keypairs, timers and staging together.
 *
 * Handshake messages leave from here. An index belongs to the handshake from
 * the message that announces it until a keypair takes it over; whoever
 * overwrites a handshake releases the index it had.
 */
#include "daemon/wg/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"

int wg_peer_create(struct wg_device *dev, const struct wg_peer_config *config, struct wg_peer **out)
{
	struct wg_peer *peer = calloc(1, sizeof(*peer));
	struct symmetric_key preshared;
	int err = 0;

	if (!peer)
		return -ENOMEM;
	peer->dev = dev;
	peer->user = config->user;
	peer->has_endpoint = config->has_endpoint;
	peer->endpoint = config->endpoint;
	memcpy(peer->public.byte, config->public_key, KEY_LEN);
	memcpy(preshared.byte, config->preshared_key, KEY_LEN);
	wg_staging_init(&peer->staging);
	wg_timers_init(&peer->timers, config->keepalive_s);
	if (peer->has_endpoint)
		wg_timers_endpoint_set(&peer->timers);
	if (!wg_handshake_init(&peer->handshake, dev->identity, &peer->public, &preshared))
		err = -EINVAL;
	else if (!wg_macs_init(&peer->macs, dev->engine, &peer->public))
		err = -ENOMEM;
	secret_wipe(&preshared, sizeof(preshared));
	if (err)
		wg_peer_free(peer);
	else
		*out = peer;
	return err;
}

static void abandon_handshake(struct wg_peer *peer)
{
	wg_index_remove(&peer->dev->indices, peer->handshake.local_index);
	wg_handshake_clear(&peer->handshake);
}

static void drop_staged(struct wg_peer *peer)
{
	peer->dropped_staged += wg_staging_drop_all(&peer->staging, &peer->dev->staged);
}

void wg_peer_detach(struct wg_peer *peer)
{
	struct wg_device *dev = peer->dev;

	abandon_handshake(peer);
	wg_keypairs_clear(&peer->keypairs, &dev->indices);
	drop_staged(peer);
	wg_allowedips_remove_all(&dev->allowed, &peer->allowed);
	dev->destination.is_valid = dev->source.is_valid = false;
	wg_deadlines_remove(&dev->deadlines, &peer->deadline);
	HASH_DELETE(by_key, dev->peers, peer);
	peer->is_removed = true;
}

void wg_peer_free(struct wg_peer *peer)
{
	wg_handshake_finish(&peer->handshake);
	wg_macs_finish(&peer->macs);
	free(peer);
}

void wg_peer_rearm(struct wg_peer *peer)
{
	uint64_t at_ns = wg_timers_deadline(&peer->timers);

	/* Only ever earlier: a moment that came too early is set right when it comes. */
	if (!peer->is_removed && at_ns < peer->deadline.at_ns)
		wg_deadlines_move(&peer->dev->deadlines, &peer->deadline, at_ns);
}

bool wg_peer_can_send(const struct wg_peer *peer, uint64_t now_ns)
{
	const struct wg_keypair *k = peer->keypairs.current;

	return k && !peer->is_renewing && wg_keypair_is_alive(k, now_ns) &&
	       k->send_counter < WG_REJECT_AFTER_MESSAGES;
}

static struct wg_timestamp next_timestamp(struct wg_peer *peer)
{
	uint64_t seconds;
	uint32_t nanoseconds;

	peer->dev->callbacks.wall_clock(peer->dev->owner, &seconds, &nanoseconds);
	return wg_timestamp_next(&peer->handshake.sent, seconds, nanoseconds);
}

void wg_peer_initiate(struct wg_peer *peer, bool is_retry, uint64_t now_ns)
{
	struct wg_device *dev = peer->dev;
	uint32_t old = peer->handshake.local_index, index;
	struct private_key ephemeral;
	struct wg_timestamp timestamp;
	struct wg_initiation msg;

	if (!peer->has_endpoint)
		return;
	if (!wg_timers_may_initiate(&peer->timers, is_retry, now_ns, wg_jitter(dev))) {
		wg_peer_rearm(peer);
		return;
	}
	/* Also when it fails for want of memory: then the retry comes in 5 s. */
	wg_timers_initiation_sent(&peer->timers, now_ns, wg_jitter(dev));
	timestamp = next_timestamp(peer);
	private_key_generate(&ephemeral);
	index = wg_index_insert(&dev->indices, peer);
	if (wg_handshake_create_initiation(&peer->handshake, dev->engine, dev->identity, &ephemeral,
					   index, &timestamp, &msg)) {
		wg_index_remove(&dev->indices, old);
		wg_macs_sign(&peer->macs, dev->engine, &msg, sizeof(msg), now_ns);
		wg_transmit(dev, peer, &peer->endpoint, &msg, sizeof(msg), sizeof(msg));
	} else {
		wg_index_remove(&dev->indices, index);
	}
	secret_wipe(&ephemeral, sizeof(ephemeral));
	wg_peer_rearm(peer);
}

/* Turns the finished handshake into a keypair under the handshake's index. False: no memory. */
static bool begin_session(struct wg_peer *peer, uint64_t now_ns)
{
	struct wg_device *dev = peer->dev;
	uint32_t local = peer->handshake.local_index, remote = peer->handshake.remote_index;
	struct symmetric_key sending, receiving;
	struct wg_keypair *k = NULL;
	bool is_initiator;

	if (wg_handshake_derive(&peer->handshake, dev->engine, &sending, &receiving, &is_initiator))
		k = wg_keypair_create(dev->cipher, &sending, &receiving, is_initiator, now_ns);
	secret_wipe(&sending, sizeof(sending));
	secret_wipe(&receiving, sizeof(receiving));
	if (!k) {
		wg_index_remove(&dev->indices, local);
		return false;
	}
	k->local_index = local;
	k->remote_index = remote;
	wg_index_set_keypair(&dev->indices, local, k);
	wg_keypairs_install(&peer->keypairs, k, &dev->indices);
	wg_timers_keys_derived(&peer->timers, now_ns);
	return true;
}

void wg_peer_respond(struct wg_peer *peer, const struct endpoint *from, uint64_t now_ns)
{
	struct wg_device *dev = peer->dev;
	uint32_t index = wg_index_insert(&dev->indices, peer);
	struct private_key ephemeral;
	struct wg_response msg;

	private_key_generate(&ephemeral);
	if (!wg_handshake_create_response(&peer->handshake, dev->engine, &ephemeral, index, &msg)) {
		wg_index_remove(&dev->indices, index);
	} else if (begin_session(peer, now_ns)) {
		wg_timers_response_sent(&peer->timers, now_ns);
		wg_macs_sign(&peer->macs, dev->engine, &msg, sizeof(msg), now_ns);
		wg_transmit(dev, peer, peer->has_endpoint ? &peer->endpoint : from, &msg,
			    sizeof(msg), sizeof(msg));
	}
	secret_wipe(&ephemeral, sizeof(ephemeral));
	wg_peer_rearm(peer);
}

static void completed(struct wg_peer *peer, uint64_t now_ns)
{
	struct wg_device *dev = peer->dev;
	uint32_t nanoseconds;

	peer->is_renewing = false;
	wg_timers_handshake_complete(&peer->timers);
	dev->callbacks.wall_clock(dev->owner, &peer->handshake_wall_s, &nanoseconds);
	peer->handshake_ns = now_ns;
	log_debug("wg: peer %02x%02x%02x%02x: session as %s, packets flow", peer->public.byte[0],
		  peer->public.byte[1], peer->public.byte[2], peer->public.byte[3],
		  peer->keypairs.current->is_initiator ? "initiator" : "responder");
}

static void announce(struct wg_peer *peer)
{
	struct wg_device *dev = peer->dev;

	if (dev->callbacks.established)
		dev->callbacks.established(dev->owner, peer);
}

void wg_peer_session_initiated(struct wg_peer *peer, uint64_t now_ns)
{
	if (!begin_session(peer, now_ns))
		return;
	completed(peer, now_ns);
	/* The responder waits for a packet under the new keys: what is staged, or an empty one. */
	wg_peer_keepalive(peer, now_ns);
	announce(peer);
}

void wg_peer_session_confirmed(struct wg_peer *peer, uint64_t now_ns)
{
	completed(peer, now_ns);
	wg_peer_send_staged(peer, now_ns);
	announce(peer);
}

void wg_peer_keepalive(struct wg_peer *peer, uint64_t now_ns)
{
	static const struct packet empty = { 0 };

	if (!peer->has_endpoint)
		return;
	if (wg_staging_is_empty(&peer->staging))
		wg_staging_add(&peer->staging, &peer->dev->staged, &empty);
	wg_peer_send_staged(peer, now_ns);
}

void wg_peer_expire(struct wg_peer *peer, uint64_t now_ns)
{
	unsigned due = wg_timers_expire(&peer->timers, now_ns);

	if (due & WG_DUE_GIVE_UP) {
		log_debug(
			"wg: peer %02x%02x%02x%02x: no answer in %u attempts, staged packets are dropped",
			peer->public.byte[0], peer->public.byte[1], peer->public.byte[2],
			peer->public.byte[3], WG_RETRIES_MAX + 2);
		drop_staged(peer);
	}
	if (due & WG_DUE_ZERO_KEYS) {
		abandon_handshake(peer);
		wg_keypairs_clear(&peer->keypairs, &peer->dev->indices);
	}
	if (due & WG_DUE_RETRY)
		wg_peer_initiate(peer, true, now_ns);
	if (due & WG_DUE_INITIATE)
		wg_peer_initiate(peer, false, now_ns);
	if (due & WG_DUE_KEEPALIVE)
		wg_peer_keepalive(peer, now_ns);
	if (due & WG_DUE_KEEPALIVE_AGAIN)
		wg_timers_keepalive_again(&peer->timers, now_ns);
	wg_deadlines_move(&peer->dev->deadlines, &peer->deadline,
			  wg_timers_deadline(&peer->timers));
}
