/*
 * Disco keys and who has them.
 *
 * A key is looked up for every disco packet, known or not, so the table holds
 * nothing but keys of the map. One key may belong to several nodes: a hostile
 * node can register another's public key, which gains it nothing (it cannot
 * seal with it) as long as nobody takes "the node with this key" for granted.
 *
 * A peer may have two: the map's, and a newer one it told inside the tunnel.
 * The one it spoke with last is the one we speak with.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/boxkeys.h"
#include "daemon/path/private.h"

struct disco_peer *disco_peer_find(const struct paths *paths,
				   const uint8_t key[static DISCO_KEY_LEN])
{
	struct disco_peer *dp;

	HASH_FIND(hh, paths->disco_peers, key, DISCO_KEY_LEN, dp);
	return dp;
}

static void destroy_key(struct paths *paths, struct disco_peer *dp)
{
	HASH_DEL(paths->disco_peers, dp);
	boxkeys_give(paths->boxkeys, dp->box);
	free(dp->peers);
	free(dp);
}

static int link_peer(struct disco_peer *dp, struct path_peer *peer)
{
	struct path_peer **more = realloc(dp->peers, (dp->peer_count + 1u) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	dp->peers = more;
	dp->peers[dp->peer_count++] = peer;
	return 0;
}

static void unlink_peer(struct paths *paths, struct disco_peer *dp, struct path_peer *peer)
{
	if (!dp)
		return;
	for (unsigned i = 0; i < dp->peer_count; i++) {
		if (dp->peers[i] == peer)
			dp->peers[i--] = dp->peers[--dp->peer_count];
	}
	if (dp->peer_count == 0)
		destroy_key(paths, dp);
}

static struct disco_peer *get_key(struct paths *paths, const uint8_t key[static DISCO_KEY_LEN])
{
	struct disco_peer *dp = disco_peer_find(paths, key);

	if (dp)
		return dp;
	dp = calloc(1, sizeof(*dp));
	if (!dp)
		return NULL;
	memcpy(dp->key, key, DISCO_KEY_LEN);
	HASH_ADD(hh, paths->disco_peers, key, DISCO_KEY_LEN, dp);
	return dp;
}

/* The pongs to come would be sealed for another life of the peer. */
static void forget_paths(struct paths *paths, struct path_peer *peer)
{
	peer_clear_best(paths, peer);
	peer_forget_throttles(peer);
	for (unsigned i = 0; i < peer->candidate_count; i++)
		memset(peer->candidates[i].sent, 0, sizeof(peer->candidates[i].sent));
}

int peer_set_disco_key(struct paths *paths, struct path_peer *peer,
		       const uint8_t key[static DISCO_KEY_LEN])
{
	struct disco_peer *dp;

	if (sodium_is_zero(key, DISCO_KEY_LEN)) {
		peer_drop_disco_keys(paths, peer);
		return 0;
	}
	if (peer->disco && memcmp(peer->disco->key, key, DISCO_KEY_LEN) == 0)
		return 0;
	if (peer->other && memcmp(peer->other->key, key, DISCO_KEY_LEN) == 0) {
		peer_use_disco_key(peer, peer->other);
		forget_paths(paths, peer);
		return 0;
	}
	dp = get_key(paths, key);
	if (!dp || link_peer(dp, peer) < 0) {
		if (dp && dp->peer_count == 0)
			destroy_key(paths, dp);
		return -ENOMEM;
	}
	unlink_peer(paths, peer->other, peer);
	peer->other = peer->disco;
	peer->disco = dp;
	forget_paths(paths, peer);
	return 0;
}

void peer_drop_disco_keys(struct paths *paths, struct path_peer *peer)
{
	if (peer->disco)
		forget_paths(paths, peer);
	unlink_peer(paths, peer->disco, peer);
	unlink_peer(paths, peer->other, peer);
	peer->disco = peer->other = NULL;
}

void peer_use_disco_key(struct path_peer *peer, struct disco_peer *dp)
{
	if (peer->other != dp)
		return;
	peer->other = peer->disco;
	peer->disco = dp;
}

const struct disco_box_key *disco_peer_box(struct paths *paths, struct disco_peer *dp)
{
	if (dp->box || dp->is_bad)
		return dp->box;
	dp->box = boxkeys_take(paths->boxkeys);
	if (!dp->box)
		return NULL;
	if (!disco_box_key(paths->disco_private, dp->key, dp->box)) {
		dp->is_bad = true;
		boxkeys_give(paths->boxkeys, dp->box);
		dp->box = NULL;
	}
	return dp->box;
}
