/*
 * All peers' paths: the tables, and the ways in.
 *
 *     paths.c       peers by key, datagrams by class, deadlines
 *     peer.c        one peer's path: trust, pings, sending
 *     candidates.c  the addresses it may be at
 *     messages.c    disco in and out
 *     keys.c        disco keys of peers
 *     self.c        own endpoints, STUN (netcheck.c), home
 *
 * WireGuard knows only addresses, so what came by relay gets one: in 100::/64,
 * which the world discards, with the peer's slot and its generation, so that an
 * answer to it (a cookie) goes to that peer or, when it has gone, nowhere.
 *
 * Peers with a deadline form a list, walked when the first of them is due;
 * deadlines are rounded up so that thousands of them share few walks.
 */
#include "daemon/path/paths.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/crypto/keys.h"
#include "daemon/path/boxkeys.h"
#include "daemon/path/private.h"
#include "shared/wire.h"

#define PSEUDO_PREFIX UINT64_C(0x0100000000000000)
#define PSEUDO_PORT   1

struct paths *paths_create(const struct paths_config *config,
			   const struct paths_callbacks *callbacks, void *owner)
{
	struct paths *paths = calloc(1, sizeof(*paths));

	if (!paths)
		return NULL;
	paths->callbacks = *callbacks;
	paths->owner = owner;
	memcpy(paths->node_key, config->node_key, sizeof(paths->node_key));
	paths->udp_port = config->udp_port;
	paths->has_fixed_port = config->has_fixed_port;
	TAILQ_INIT(&paths->ticking);
	paths->tick_ns = NEVER_NS;
	paths->disco_private = secret_alloc(DISCO_KEY_LEN);
	paths->boxkeys = boxkeys_create();
	if (!paths->disco_private || !paths->boxkeys || self_start(paths) < 0) {
		paths_destroy(paths);
		return NULL;
	}
	randombytes_buf(paths->disco_private, DISCO_KEY_LEN);
	crypto_scalarmult_base(paths->disco_key, paths->disco_private);
	return paths;
}

void paths_destroy(struct paths *paths)
{
	struct path_peer *peer, *next;

	if (!paths)
		return;
	memset(paths->tickets, 0, sizeof(paths->tickets));
	HASH_ITER(hh, paths->peers, peer, next)
	{
		peer->was_told_direct = false;
		paths_remove_peer(paths, peer);
	}
	free(paths->slots);
	netcheck_destroy(paths->netcheck);
	boxkeys_destroy(paths->boxkeys);
	secret_free(paths->disco_private);
	free(paths);
}

void paths_disco_key(const struct paths *paths, uint8_t key[static PATHS_KEY_LEN])
{
	memcpy(key, paths->disco_key, PATHS_KEY_LEN);
}

/* ---- peers ---- */

static int take_slot(struct paths *paths, struct path_peer *peer)
{
	struct path_peer **more;

	for (uint32_t i = paths->first_free; i < paths->slot_count; i++) {
		if (!paths->slots[i]) {
			paths->slots[i] = peer;
			peer->slot = i;
			paths->first_free = i + 1;
			return 0;
		}
	}
	more = realloc(paths->slots, (paths->slot_count * 2u + 8) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	paths->slots = more;
	paths->first_free = paths->slot_count;
	memset(more + paths->slot_count, 0, (paths->slot_count + 8) * sizeof(*more));
	paths->slot_count = paths->slot_count * 2 + 8;
	peer->slot = paths->first_free++;
	more[peer->slot] = peer;
	return 0;
}

static void set_wireguard_only(struct paths *paths, struct path_peer *peer, bool is_wireguard_only)
{
	if (peer->is_wireguard_only == is_wireguard_only)
		return;
	peer->is_wireguard_only = is_wireguard_only;
	paths->wireguard_only_count += is_wireguard_only ? 1 : -1u;
	peer_clear_best(paths, peer);
}

static void set_endpoints(struct paths *paths, struct path_peer *peer,
			  const struct path_peer_config *config, uint64_t now_ns)
{
	unsigned count = MIN(config->endpoint_count, PATHS_MAP_ENDPOINTS_MAX);

	for (unsigned i = 0; i < peer->candidate_count; i++)
		peer->candidates[i].is_in_map = false;
	for (unsigned i = 0; i < count; i++) {
		struct candidate *c = NULL;

		if (candidate_is_acceptable(paths, &config->endpoints[i]))
			c = candidate_add(paths, peer, &config->endpoints[i], now_ns);
		if (c)
			c->is_in_map = true;
	}
	candidates_prune(peer, now_ns);
}

int paths_update_peer(struct paths *paths, struct path_peer *peer,
		      const struct path_peer_config *config, uint64_t now_ns)
{
	paths->now_ns = now_ns;
	/* The map's key counts when it changes: the tunnel may have told a newer one. */
	if (memcmp(peer->map_disco, config->disco_key, DISCO_KEY_LEN) != 0) {
		if (peer_set_disco_key(paths, peer, config->disco_key) < 0)
			return -ENOMEM;
		memcpy(peer->map_disco, config->disco_key, DISCO_KEY_LEN);
	}
	peer->user = config->user;
	peer->home_region = config->home_region > 0 ? config->home_region : 0;
	set_wireguard_only(paths, peer, config->is_wireguard_only);
	set_endpoints(paths, peer, config, now_ns);
	/* Its news may be what we wait for. */
	peer->next_try_ns = 0;
	if (peer_is_active(peer, now_ns) && !peer_is_trusted(peer, now_ns))
		peer_full_ping(paths, peer, now_ns);
	return 0;
}

int paths_add_peer(struct paths *paths, const struct path_peer_config *config,
		   struct path_peer **out)
{
	struct path_peer *peer;

	if (paths_find_peer(paths, config->node_key))
		return -EEXIST;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	memcpy(peer->key, config->node_key, sizeof(peer->key));
	peer->heartbeat_ns = NEVER_NS;
	peer->generation = paths->next_generation++;
	if (take_slot(paths, peer) < 0) {
		free(peer);
		return -ENOMEM;
	}
	HASH_ADD(hh, paths->peers, key, PATHS_KEY_LEN, peer);
	if (paths_update_peer(paths, peer, config, paths->now_ns) < 0) {
		paths_remove_peer(paths, peer);
		return -ENOMEM;
	}
	*out = peer;
	return 0;
}

void paths_remove_peer(struct paths *paths, struct path_peer *peer)
{
	tickets_cancel(paths, peer);
	peer_clear_best(paths, peer);
	peer_drop_disco_keys(paths, peer);
	set_wireguard_only(paths, peer, false);
	if (peer->is_ticking)
		TAILQ_REMOVE(&paths->ticking, peer, tick);
	paths->slots[peer->slot] = NULL;
	paths->first_free = MIN(paths->first_free, peer->slot);
	HASH_DEL(paths->peers, peer);
	free(peer->candidates);
	free(peer);
}

struct path_peer *paths_find_peer(const struct paths *paths,
				  const uint8_t key[static PATHS_KEY_LEN])
{
	struct path_peer *peer;

	HASH_FIND(hh, paths->peers, key, PATHS_KEY_LEN, peer);
	return peer;
}

void path_peer_status(const struct paths *paths, const struct path_peer *peer, uint64_t now_ns,
		      struct path_peer_status *status)
{
	*status = (struct path_peer_status){
		.is_direct = peer_is_trusted(peer, now_ns) ||
			     (peer->is_wireguard_only && peer->best.endpoint.port),
		.is_active = peer_is_active(peer, now_ns),
		.relay_region = peer_relay_region(paths, peer),
		.home_region = peer->home_region,
		.latency_ns = peer->best.latency_ns,
		.last_send_ns = peer->last_send_ns,
		.last_rx_ns = peer->last_rx_ns,
	};
	if (status->is_direct)
		status->direct_to = peer->best.endpoint;
}

int paths_peer_said_disco_key(struct paths *paths, struct path_peer *peer,
			      const uint8_t key[static PATHS_KEY_LEN], uint64_t now_ns)
{
	paths->now_ns = now_ns;
	if (sodium_is_zero(key, PATHS_KEY_LEN))
		return -EINVAL;
	/* A node that control gave no disco key may not get one by saying so. */
	if (!peer->disco)
		return -EINVAL;
	return peer_set_disco_key(paths, peer, key);
}

/* ---- pseudo addresses ---- */

static struct endpoint pseudo_address(const struct path_peer *peer)
{
	struct endpoint ep = { .port = PSEUDO_PORT };

	store_be64(ep.addr.byte, PSEUDO_PREFIX);
	store_be32(ep.addr.byte + 8, peer->generation);
	store_be32(ep.addr.byte + 12, peer->slot);
	return ep;
}

void paths_send_to(struct paths *paths, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len, uint64_t now_ns)
{
	uint32_t slot = load_be32(to->addr.byte + 12);
	struct path_peer *peer;
	int region;

	paths->now_ns = now_ns;
	if (load_be64(to->addr.byte) != PSEUDO_PREFIX) {
		paths->callbacks.send_udp(paths->owner, to, bytes, len, segment_len);
		return;
	}
	peer = slot < paths->slot_count ? paths->slots[slot] : NULL;
	if (!peer || peer->generation != load_be32(to->addr.byte + 8))
		return;
	region = peer_relay_region(paths, peer);
	if (region)
		paths->callbacks.send_relay(paths->owner, region, peer->key, bytes, len,
					    segment_len);
}

/* ---- datagrams in ---- */

/* Something came from an endpoint of a peer that has no disco to tell it. */
static void heard_wireguard_only(struct paths *paths, const struct endpoint *from)
{
	struct path_peer *peer, *next;

	HASH_ITER(hh, paths->peers, peer, next)
	{
		if (peer->is_wireguard_only && endpoint_equal(&peer->best.endpoint, from))
			peer->last_rx_ns = paths->now_ns;
	}
}

static void give_wireguard(struct paths *paths, struct udp_datagram *d, unsigned count)
{
	if (count == 0)
		return;
	if (paths->wireguard_only_count > 0)
		heard_wireguard_only(paths, &d[0].from);
	paths->callbacks.wireguard(paths->owner, d, count);
}

void paths_received_udp(struct paths *paths, struct udp_datagram *datagrams, unsigned count,
			uint64_t now_ns)
{
	unsigned start = 0; /* of a run of WireGuard's */

	paths->now_ns = now_ns;
	for (unsigned i = 0; i < count; i++) {
		struct udp_datagram *d = &datagrams[i];
		enum datagram_class class = classify_datagram(d->data, d->len);

		if (class == DATAGRAM_WIREGUARD)
			continue;
		give_wireguard(paths, datagrams + start, i - start);
		start = i + 1;
		if (class == DATAGRAM_STUN)
			self_stun_received(paths, &d->from, d->data, d->len, now_ns);
		else if (class == DATAGRAM_DISCO)
			disco_received(paths, &d->from, 0, NULL, d->data, d->len);
		else
			paths->stats.geneve_dropped++;
	}
	give_wireguard(paths, datagrams + start, count - start);
	self_tell(paths);
}

void paths_received_relay(struct paths *paths, int region, const uint8_t src[static PATHS_KEY_LEN],
			  uint8_t *data, size_t len, uint64_t now_ns)
{
	struct path_peer *peer = paths_find_peer(paths, src);
	struct udp_datagram d;

	paths->now_ns = now_ns;
	netcheck_relay_heard(paths->netcheck, region, now_ns);
	if (!peer || region <= 0 || len > UINT32_MAX) {
		paths->stats.relay_dropped++;
		return;
	}
	peer->heard_region = region;
	if (classify_relayed(data, len) == DATAGRAM_DISCO) {
		disco_received(paths, NULL, region, peer, data, len);
		return;
	}
	peer->last_rx_ns = now_ns;
	d = (struct udp_datagram){ data, (uint32_t)len, pseudo_address(peer) };
	paths->callbacks.wireguard(paths->owner, &d, 1);
}

void paths_unreachable(struct paths *paths, const struct endpoint *to, uint64_t now_ns)
{
	struct path_peer *peer;

	paths->now_ns = now_ns;
	TAILQ_FOREACH(peer, &paths->ticking, tick)
	{
		if (!peer->is_wireguard_only && endpoint_equal(&peer->best.endpoint, to))
			peer_clear_best(paths, peer);
	}
}

/* ---- relays ---- */

void paths_relay_state(struct paths *paths, int region, bool is_up, uint64_t now_ns)
{
	unsigned i = 0;

	paths->now_ns = now_ns;
	while (i < paths->relay_count && paths->relays[i] != region)
		i++;
	if (is_up && i == paths->relay_count && i < REGIONS_MAX)
		paths->relays[paths->relay_count++] = region;
	else if (!is_up && i < paths->relay_count)
		paths->relays[i] = paths->relays[--paths->relay_count];
	netcheck_relay_state(paths->netcheck, region, is_up);
	self_watch_home(paths, now_ns);
	if (is_up)
		return;
	for (struct path_peer *peer = paths->peers; peer; peer = peer->hh.next) {
		if (peer->heard_region == region)
			peer->heard_region = 0;
	}
}

void paths_peer_gone(struct paths *paths, int region, const uint8_t key[static PATHS_KEY_LEN])
{
	struct path_peer *peer = paths_find_peer(paths, key);

	if (peer && peer->heard_region == region)
		peer->heard_region = 0;
}

/* ---- time ---- */

void paths_get_stats(const struct paths *paths, struct paths_stats *stats)
{
	*stats = paths->stats;
}

uint64_t paths_deadline(const struct paths *paths)
{
	return MIN(MIN(paths->tick_ns, self_deadline(paths)), tickets_deadline(paths));
}

static void expire_peers(struct paths *paths, uint64_t now_ns)
{
	struct path_peer *peer = TAILQ_FIRST(&paths->ticking), *next;

	paths->tick_ns = NEVER_NS;
	for (; peer; peer = next) {
		uint64_t ns;

		next = TAILQ_NEXT(peer, tick);
		if (peer_deadline(peer) <= now_ns)
			peer_expire(paths, peer, now_ns);
		ns = peer_deadline(peer);
		if (ns == NEVER_NS) {
			TAILQ_REMOVE(&paths->ticking, peer, tick);
			peer->is_ticking = false;
		}
		paths->tick_ns = MIN(paths->tick_ns, ns);
	}
}

void paths_expire(struct paths *paths, uint64_t now_ns)
{
	paths->now_ns = now_ns;
	if (now_ns >= paths->tick_ns)
		expire_peers(paths, now_ns);
	if (now_ns >= self_deadline(paths))
		self_expire(paths, now_ns);
	tickets_expire(paths, now_ns);
	self_tell(paths);
}
