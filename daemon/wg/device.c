/*
 * The device: tables of peers and their lives. What flows through it is in
 * send.c and receive.c, what a peer does by itself in peer.c.
 *
 * Callbacks may call the device again, except transmit, and except receiving
 * within receiving. A peer removed within a callback leaves all tables at once,
 * and its memory is freed at the end of the outermost call.
 */
#include "daemon/wg/device.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/crypto/blake2s.h"
#include "daemon/wg/state.h"

struct wg_device *wg_device_create(const uint8_t private_key[static WG_KEY_LEN], uint32_t mtu,
				   bool roaming, const struct wg_callbacks *callbacks, void *owner)
{
	struct wg_device *dev = crypto_init() ? NULL : calloc(1, sizeof(*dev));

	if (!dev)
		return NULL;
	dev->callbacks = *callbacks;
	dev->owner = owner;
	dev->mtu = mtu;
	dev->is_roaming = roaming;
	dev->jitter = (uint64_t)randombytes_random() << 32 | 1;
	wg_load_init(&dev->load, WG_LOAD_THRESHOLD);
	dev->identity = secret_alloc(sizeof(*dev->identity));
	dev->engine = blake2s_create();
	dev->cipher = aead_cipher_create();
	dev->ratelimit = wg_ratelimit_create();
	if (!dev->identity || !dev->engine || !dev->cipher || !dev->ratelimit)
		goto fail;
	memcpy(dev->identity->private.byte, private_key, KEY_LEN);
	private_key_public(&dev->identity->private, &dev->identity->public);
	if (!wg_checker_init(&dev->checker, dev->engine, &dev->identity->public))
		goto fail;
	return dev;
fail:
	wg_device_destroy(dev);
	return NULL;
}

void wg_device_set_workers(struct wg_device *dev, struct workers *workers, unsigned count)
{
	assert(!dev->peers);
	dev->workers = workers;
	aead_cipher_set_lanes(dev->cipher, count);
}

const char *wg_device_library(const struct wg_device *dev)
{
	return aead_cipher_library(dev->cipher);
}

void wg_device_destroy(struct wg_device *dev)
{
	struct wg_peer *peer, *next;

	if (!dev)
		return;
	assert(!dev->depth);
	HASH_ITER(by_key, dev->peers, peer, next)
	wg_device_remove_peer(dev, peer);
	wg_deadlines_finish(&dev->deadlines);
	wg_allowedips_finish(&dev->allowed);
	wg_index_finish(&dev->indices);
	wg_checker_finish(&dev->checker);
	wg_ratelimit_destroy(dev->ratelimit);
	aead_cipher_destroy(dev->cipher);
	blake2s_destroy(dev->engine);
	secret_free(dev->identity);
	free(dev);
}

void wg_device_public_key(const struct wg_device *dev, uint8_t public_key[static WG_KEY_LEN])
{
	memcpy(public_key, dev->identity->public.byte, KEY_LEN);
}

void wg_enter(struct wg_device *dev, uint64_t now_ns)
{
	assert(!dev->is_transmitting);
	dev->now_ns = now_ns;
	dev->depth++;
}

void wg_leave(struct wg_device *dev)
{
	struct wg_peer *peer;

	if (--dev->depth)
		return;
	while ((peer = dev->removed)) {
		dev->removed = peer->next_removed;
		wg_peer_free(peer);
	}
}

uint64_t wg_jitter(struct wg_device *dev)
{
	/* xorshift64: spreads retries of many peers, no more. */
	dev->jitter ^= dev->jitter << 13;
	dev->jitter ^= dev->jitter >> 7;
	dev->jitter ^= dev->jitter << 17;
	return dev->jitter % WG_REKEY_JITTER;
}

struct wg_peer *wg_device_find_peer(struct wg_device *dev, const struct public_key *key)
{
	struct wg_peer *peer;

	HASH_FIND(by_key, dev->peers, key->byte, KEY_LEN, peer);
	return peer;
}

static bool are_prefixes(const struct ip_prefix *p, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (p[i].len > (ip_is_v4(&p[i].addr) ? 32 : 128))
			return false;
	return true;
}

/* There is room for them. */
static void set_allowed(struct wg_peer *peer, const struct ip_prefix *p, unsigned count)
{
	struct wg_device *dev = peer->dev;

	wg_allowedips_remove_all(&dev->allowed, &peer->allowed);
	for (unsigned i = 0; i < count; i++)
		wg_allowedips_insert(&dev->allowed, &p[i].addr, p[i].len, peer, &peer->allowed);
	dev->destination.is_valid = dev->source.is_valid = false;
}

static int check_config(struct wg_device *dev, const struct wg_peer_config *config)
{
	struct public_key key;

	memcpy(key.byte, config->public_key, KEY_LEN);
	if (public_key_equal(&key, &dev->identity->public))
		return -EINVAL;
	if (!are_prefixes(config->allowed, config->allowed_count))
		return -EINVAL;
	if (wg_device_find_peer(dev, &key))
		return -EEXIST;
	return HASH_CNT(by_key, dev->peers) < WG_PEERS_MAX ? 0 : -E2BIG;
}

int wg_device_add_peer(struct wg_device *dev, const struct wg_peer_config *config,
		       struct wg_peer **out)
{
	struct wg_peer *peer;
	int err = check_config(dev, config);

	assert(!dev->is_transmitting);
	if (!err)
		err = wg_index_reserve(&dev->indices, HASH_CNT(by_key, dev->peers) + 1);
	if (!err)
		err = wg_allowedips_reserve(&dev->allowed, config->allowed_count, NULL);
	if (!err)
		err = wg_peer_create(dev, config, &peer);
	if (err)
		return err;
	HASH_ADD(by_key, dev->peers, public, KEY_LEN, peer);
	if (!wg_device_find_peer(dev, &peer->public))
		goto no_table;
	if (wg_deadlines_add(&dev->deadlines, &peer->deadline))
		goto no_deadline;
	set_allowed(peer, config->allowed, config->allowed_count);
	wg_peer_rearm(peer);
	*out = peer;
	return 0;
no_deadline:
	HASH_DELETE(by_key, dev->peers, peer);
no_table:
	wg_peer_free(peer);
	return -ENOMEM;
}

void wg_device_remove_peer(struct wg_device *dev, struct wg_peer *peer)
{
	assert(!dev->is_transmitting && !peer->is_removed);
	wg_enter(dev, dev->now_ns);
	wg_peer_detach(peer);
	peer->next_removed = dev->removed;
	dev->removed = peer;
	wg_leave(dev);
}

uint64_t wg_device_deadline(const struct wg_device *dev)
{
	const struct wg_deadline *first = wg_deadlines_first(&dev->deadlines);

	return first ? first->at_ns : NEVER_NS;
}

void wg_device_expire(struct wg_device *dev, uint64_t now_ns)
{
	wg_enter(dev, now_ns);
	while (wg_device_deadline(dev) <= now_ns)
		wg_peer_expire(
			CONTAINER_OF(wg_deadlines_first(&dev->deadlines), struct wg_peer, deadline),
			now_ns);
	wg_leave(dev);
}

void *wg_peer_user(const struct wg_peer *peer)
{
	return peer->user;
}

void wg_peer_stats(const struct wg_peer *peer, struct wg_peer_stats *stats)
{
	*stats = (struct wg_peer_stats){
		.rx_bytes = peer->rx_bytes,
		.tx_bytes = peer->tx_bytes,
		.handshake_wall_s = peer->handshake_wall_s,
		.handshake_ns = peer->handshake_ns,
		.has_session = wg_peer_can_send(peer, peer->dev->now_ns),
		.has_endpoint = peer->has_endpoint,
		.endpoint = peer->endpoint,
		.dropped_staged = peer->dropped_staged,
		.dropped_invalid = peer->dropped_invalid,
		.dropped_source = peer->dropped_source,
	};
}

void wg_peer_set_endpoint(struct wg_peer *peer, const struct endpoint *endpoint)
{
	peer->endpoint = *endpoint;
	peer->has_endpoint = true;
	wg_timers_endpoint_set(&peer->timers);
	wg_peer_rearm(peer);
}

int wg_peer_set_allowed(struct wg_peer *peer, const struct ip_prefix *allowed, unsigned count)
{
	int err;

	assert(!peer->dev->is_transmitting);
	if (!are_prefixes(allowed, count))
		return -EINVAL;
	err = wg_allowedips_reserve(&peer->dev->allowed, count, &peer->allowed);
	if (!err)
		set_allowed(peer, allowed, count);
	return err;
}

int wg_device_reserve(struct wg_device *dev, unsigned prefixes)
{
	return wg_allowedips_reserve(&dev->allowed, prefixes, NULL);
}

void wg_peer_set_preshared_key(struct wg_peer *peer, const uint8_t preshared_key[static WG_KEY_LEN])
{
	memcpy(peer->handshake.preshared.byte, preshared_key, KEY_LEN);
}

void wg_peer_set_keepalive(struct wg_peer *peer, uint16_t keepalive_s)
{
	wg_timers_set_persistent(&peer->timers, keepalive_s);
	if (peer->has_endpoint)
		wg_timers_endpoint_set(&peer->timers);
	wg_peer_rearm(peer);
}

void wg_peer_renew(struct wg_peer *peer)
{
	peer->is_renewing = peer->keypairs.current != NULL;
}

void wg_peer_rekey(struct wg_peer *peer, uint64_t now_ns)
{
	wg_enter(peer->dev, now_ns);
	wg_peer_initiate(peer, false, now_ns);
	wg_leave(peer->dev);
}

void wg_peer_wake(struct wg_peer *peer, uint64_t now_ns)
{
	wg_enter(peer->dev, now_ns);
	if (!wg_peer_can_send(peer, now_ns))
		wg_peer_initiate(peer, false, now_ns);
	wg_leave(peer->dev);
}

void wg_peer_path_found(struct wg_peer *peer, uint64_t now_ns)
{
	if (peer->handshake.state != WG_HANDSHAKE_INITIATION_SENT || wg_peer_can_send(peer, now_ns))
		return;
	wg_enter(peer->dev, now_ns);
	if (wg_timers_handshake_lost(&peer->timers, now_ns))
		wg_peer_initiate(peer, true, now_ns);
	else
		wg_peer_rearm(peer);
	wg_leave(peer->dev);
}
