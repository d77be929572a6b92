/*
 * Questions of a user or of the server whether a peer answers, each with a ticket.
 *
 * A peer that has just joined may be known here before it knows us, before the map
 * says where it is, and before either relay connection is up; and a datagram may be
 * lost. So an open ticket is no single ping: the ways there are then are pinged
 * again each second, and new ones as soon as they are known.
 */
#include <errno.h>

#include <sodium.h>

#include "daemon/path/private.h"

static void close_ticket(struct paths *paths, struct ping_ticket *t, const struct paths_pong *pong)
{
	t->peer = NULL;
	paths->callbacks.pong(paths->owner, t->ticket, pong);
}

void tickets_ponged(struct paths *paths, const struct path_peer *peer, uint64_t sent_ns,
		    const struct paths_pong *pong)
{
	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		if (paths->tickets[i].peer == peer && paths->tickets[i].at_ns <= sent_ns)
			close_ticket(paths, &paths->tickets[i], pong);
	}
}

void tickets_cancel(struct paths *paths, const struct path_peer *peer)
{
	const struct paths_pong none = { .latency_ns = NEVER_NS };

	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		if (paths->tickets[i].peer == peer)
			close_ticket(paths, &paths->tickets[i], &none);
	}
}

uint64_t tickets_deadline(const struct paths *paths)
{
	uint64_t ns = NEVER_NS;

	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		const struct ping_ticket *t = &paths->tickets[i];

		if (t->peer)
			ns = MIN(ns, MIN(t->at_ns + PONG_WAIT_NS, t->next_ns));
	}
	return ns;
}

bool tickets_has(const struct paths *paths, const struct path_peer *peer)
{
	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		if (paths->tickets[i].peer == peer)
			return true;
	}
	return false;
}

static void ping_every_way(struct paths *paths, struct path_peer *peer, uint64_t now_ns)
{
	struct candidate *best = candidate_find(peer, &peer->best.endpoint);

	peer_note_activity(paths, peer, now_ns);
	if (best && peer_is_trusted(peer, now_ns)) {
		peer_ping(paths, peer, best, now_ns);
		return;
	}
	peer_forget_throttles(peer);
	peer_full_ping(paths, peer, now_ns);
}

void tickets_expire(struct paths *paths, uint64_t now_ns)
{
	const struct paths_pong none = { .latency_ns = NEVER_NS };

	for (unsigned i = 0; i < TICKETS_MAX; i++) {
		struct ping_ticket *t = &paths->tickets[i];

		if (!t->peer)
			continue;
		if (now_ns >= t->at_ns + PONG_WAIT_NS) {
			close_ticket(paths, t, &none);
		} else if (now_ns >= t->next_ns) {
			t->next_ns = now_ns + TICKET_PING_NS;
			ping_every_way(paths, t->peer, now_ns);
		}
	}
}

int paths_ping(struct paths *paths, struct path_peer *peer, uint32_t ticket, uint64_t now_ns)
{
	struct ping_ticket *t = NULL;

	paths->now_ns = now_ns;
	if (peer->is_wireguard_only)
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < TICKETS_MAX && !t; i++) {
		if (!paths->tickets[i].peer)
			t = &paths->tickets[i];
	}
	if (!t)
		return -EAGAIN;
	*t = (struct ping_ticket){ peer, ticket, now_ns, now_ns + TICKET_PING_NS };
	ping_every_way(paths, peer, now_ns);
	return 0;
}
