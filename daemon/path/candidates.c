/*
 * Addresses at which a peer may be, from three sources: the network map, its
 * last call-me-maybe, and where its pings came from. Hard NATs make the third
 * one necessary: nobody can predict the port they choose.
 *
 * A peer can fill its own table and no other. When it is full, a new address
 * takes the place of the one that pinged longest ago; what the map lists stays.
 * Loopback addresses are for hosts that have nothing else: a peer may not make
 * us knock at our own host's doors.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/path/private.h"

struct candidate *candidate_find(struct path_peer *peer, const struct endpoint *ep)
{
	for (unsigned i = 0; i < peer->candidate_count; i++) {
		if (endpoint_equal(&peer->candidates[i].endpoint, ep))
			return &peer->candidates[i];
	}
	return NULL;
}

bool candidate_is_acceptable(const struct paths *paths, const struct endpoint *ep)
{
	bool is_v6_link_local = !ip_is_v4(&ep->addr) && ep->addr.byte[0] == 0xfe &&
				(ep->addr.byte[1] & 0xc0) == 0x80;

	/* Link-local ones lack the zone that would make them an address. */
	if (!candidate_is_usable(ep) || is_v6_link_local)
		return false;
	return paths->has_loopback || !ip_is_loopback(&ep->addr);
}

static bool is_replaceable(const struct path_peer *peer, const struct candidate *c)
{
	return !c->is_in_map && !endpoint_equal(&c->endpoint, &peer->best.endpoint);
}

static struct candidate *oldest_replaceable(struct path_peer *peer)
{
	struct candidate *oldest = NULL;

	for (unsigned i = 0; i < peer->candidate_count; i++) {
		struct candidate *c = &peer->candidates[i];

		if (is_replaceable(peer, c) && (!oldest || c->got_ping_ns < oldest->got_ping_ns))
			oldest = c;
	}
	return oldest;
}

static struct candidate *new_place(struct path_peer *peer)
{
	unsigned room = peer->candidate_room ? peer->candidate_room * 2 : 4;
	struct candidate *more;

	if (peer->candidate_count == CANDIDATES_MAX)
		return oldest_replaceable(peer);
	if (peer->candidate_count < peer->candidate_room)
		return &peer->candidates[peer->candidate_count++];
	room = MIN(room, CANDIDATES_MAX);
	more = realloc(peer->candidates, room * sizeof(*more));
	if (!more)
		return NULL;
	peer->candidates = more;
	peer->candidate_room = room;
	return &peer->candidates[peer->candidate_count++];
}

struct candidate *candidate_add(struct paths *paths, struct path_peer *peer,
				const struct endpoint *ep, uint64_t now_ns)
{
	struct candidate *c = candidate_find(peer, ep);

	if (c)
		return c;
	if (peer->candidate_count == CANDIDATES_MAX)
		candidates_prune(peer, now_ns);
	c = candidate_is_usable(ep) ? new_place(peer) : NULL;
	if (!c) {
		paths->stats.candidates_refused++;
		return NULL;
	}
	memset(c, 0, sizeof(*c));
	c->endpoint = *ep;
	return c;
}

static bool is_wanted(const struct path_peer *peer, const struct candidate *c, uint64_t now_ns)
{
	return c->is_in_map || c->is_in_call ||
	       endpoint_equal(&c->endpoint, &peer->best.endpoint) ||
	       (c->got_ping_ns && now_ns - c->got_ping_ns < ACTIVE_NS);
}

void candidates_prune(struct path_peer *peer, uint64_t now_ns)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < peer->candidate_count; i++) {
		if (is_wanted(peer, &peer->candidates[i], now_ns))
			peer->candidates[kept++] = peer->candidates[i];
	}
	peer->candidate_count = kept;
}
