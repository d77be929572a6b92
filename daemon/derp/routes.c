/*
 * A cache of sets of four, found by a keyed hash: whoever runs a relay picks the
 * keys that we see, and must be able neither to fill memory nor to make looking up slow.
 * A full set forgets the entry that was written first.
 */
#include "daemon/derp/routes.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/derp/relays.h"

#define WAYS 4
#define SETS (RELAYS_ROUTES_MAX / WAYS)

struct route {
	struct public_key peer;
	int region; /* 0: free */
	uint32_t written;
};

struct relay_routes {
	uint8_t hash_key[crypto_shorthash_KEYBYTES];
	uint32_t writes;
	struct route route[SETS][WAYS];
};

struct relay_routes *relay_routes_create(void)
{
	struct relay_routes *routes = calloc(1, sizeof(*routes));

	if (routes)
		randombytes_buf(routes->hash_key, sizeof(routes->hash_key));
	return routes;
}

void relay_routes_destroy(struct relay_routes *routes)
{
	free(routes);
}

static struct route *set_of(const struct relay_routes *routes, const struct public_key *peer)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, peer->byte, KEY_LEN, routes->hash_key);
	return (struct route *)routes->route[hash % SETS];
}

static struct route *find(const struct relay_routes *routes, const struct public_key *peer)
{
	struct route *set = set_of(routes, peer);

	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].region != 0 && memcmp(&set[i].peer, peer, sizeof(*peer)) == 0)
			return &set[i];
	return NULL;
}

void relay_routes_heard(struct relay_routes *routes, const struct public_key *peer, int region)
{
	struct route *route = find(routes, peer), *set;

	if (!route) {
		set = route = set_of(routes, peer);
		for (unsigned i = 0; i < WAYS && route->region != 0; i++)
			if (set[i].region == 0 || set[i].written < route->written)
				route = &set[i];
	} else if (route->region == region) {
		return;
	}
	*route = (struct route){ *peer, region, ++routes->writes };
}

int relay_routes_find(const struct relay_routes *routes, const struct public_key *peer)
{
	const struct route *route = find(routes, peer);

	return route ? route->region : 0;
}

void relay_routes_forget(struct relay_routes *routes, const struct public_key *peer, int region)
{
	struct route *route = find(routes, peer);

	if (route && route->region == region)
		route->region = 0;
}

void relay_routes_forget_region(struct relay_routes *routes, int region)
{
	for (unsigned i = 0; i < SETS; i++)
		for (unsigned k = 0; k < WAYS; k++)
			if (routes->route[i][k].region == region)
				routes->route[i][k].region = 0;
}
