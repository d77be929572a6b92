/*
 * Where the peers of a WireGuard file are: greetings, and end points by name.
 *
 * Names are looked up beside the loop, some at a time, since one that no name server
 * answers for takes 10 s. All are at start, and for LOOK_UP_PATIENCE_NS programs are told
 * that the mesh is not ready yet: most names are known by then, and who connects to one at
 * once finds it. Only a name that cannot exist is refused as a mistake of the file. A
 * pass every 30 s looks up again for a peer we send to in vain: the other side may have
 * moved, or the name has several addresses, which then have their turn; and for one whose
 * name failed. The next pass begins when this one has ended.
 *
 * When the file was read again a pass begins at once. A peer stays where it is until
 * its new name is found; an answer for the old one, which comes late, is dropped.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "shared/util.h"

#define LOOK_UP_INTERVAL_NS (30 * NS_PER_S)
#define LOOK_UP_PATIENCE_NS (1 * NS_PER_S)
#define GREETING_MS         250
#define MAX_GREETED         1024u /* peers at a time */
#define GREETED_IN_A_ROUND  16u   /* of them: a handshake's beginning takes 0.15 ms */
#define GREETING_PAUSE_NS   (2 * NS_PER_MS)

static const char *label(const struct config_peer *peer)
{
	return peer->name[0] ? peer->name : "a peer without a name";
}

/* ---- greetings ---- */

/*
 * A peer may still hold a session with our predecessor and would send into the
 * void until it noticed, 15 s later. Plain WireGuard lets it; a handshake now
 * spares the streams of programs that wait. Not at once but within a quarter of
 * a second: two handshakes that cross on the way spoil each other, and nodes of
 * one machine or cluster often start together.
 */
static void greet(struct mesh_peer *peer, uint64_t now_ns)
{
	struct wg_peer_stats stats;

	wg_peer_stats(peer->wg, &stats);
	if (stats.has_endpoint && !stats.has_session && stats.rx_bytes == 0)
		wg_peer_wake(peer->wg, now_ns);
}

static void greet_new(struct mesh *mesh, uint64_t now_ns)
{
	unsigned until = MIN(mesh->greeted + GREETED_IN_A_ROUND, MAX_GREETED);

	for (unsigned i = 0; i < mesh->config.peer_count; i++) {
		struct mesh_peer *peer = mesh->peers[i];

		if (!peer->is_new)
			continue;
		if (mesh->greeted == until && until < MAX_GREETED) {
			mesh->greeting_ns = now_ns + GREETING_PAUSE_NS;
			return;
		}
		peer->is_new = false;
		if (mesh->greeted < until) {
			mesh->greeted++;
			greet(peer, now_ns);
		}
	}
	mesh->greeted = 0;
}

/* ---- looking up ---- */

/* Does this peer not answer, although something was sent to it, or cannot be? */
static bool wants_look_up(struct mesh_peer *peer)
{
	struct wg_peer_stats stats;
	bool has_sent;

	if (!peer->has_host_name || peer->has_moved)
		return peer->has_host_name;
	wg_peer_stats(peer->wg, &stats);
	has_sent = stats.tx_bytes != peer->looked_up_tx_bytes;
	peer->looked_up_tx_bytes = stats.tx_bytes;
	return !stats.has_endpoint || (has_sent && !stats.has_session);
}

static struct resolver *free_resolver(struct mesh *mesh)
{
	for (unsigned i = 0; i < MESH_LOOK_UPS; i++)
		if (mesh->look_ups[i] && !resolver_is_busy(mesh->look_ups[i]))
			return mesh->look_ups[i];
	return NULL;
}

/* What was wrong with a name is told once, until it is found. */
static void tell_failure(struct mesh_peer *peer, const char *error)
{
	const struct config_peer *c = peer->config;

	if (peer->was_told)
		log_debug("mesh: %s: cannot look up %s: %s", label(c), c->endpoint_host, error);
	else
		log_warn("mesh: %s: cannot look up its endpoint %s (line %u): %s; trying again "
			 "every 30 s while it is needed",
			 label(c), c->endpoint_host, c->line, error);
	peer->was_told = true;
}

/* At start nobody is told that the mesh is ready until its names are known, if that is soon. */
static void first_look_up_ended(struct mesh *mesh, struct mesh_peer *peer)
{
	if (peer->was_looked_up)
		return;
	peer->was_looked_up = true;
	if (--mesh->first_look_ups == 0 && mesh->ready_ns != NEVER_NS)
		mesh->ready_ns = loop_now(mesh->loop);
}

/* Starts the next look-ups of this pass, as many as may run. */
static void go_on(struct mesh *mesh)
{
	struct resolver *resolver = free_resolver(mesh);

	while (resolver && mesh->look_up_at < mesh->config.peer_count) {
		unsigned i = mesh->look_up_at++;
		struct mesh_peer *peer = mesh->peers[i];
		const struct config_peer *c = peer->config;
		int err;

		if (peer->look_up || !wants_look_up(peer))
			continue;
		mesh->last_look_up = mesh->last_look_up == UINT_MAX ? 1 : mesh->last_look_up + 1;
		err = resolver_start(resolver, c->endpoint_host, c->endpoint_port,
				     mesh->last_look_up);
		peer->look_up = err ? 0 : mesh->last_look_up;
		peer->resolver = resolver;
		if (err) {
			tell_failure(peer, strerror(-err));
			first_look_up_ended(mesh, peer);
		}
		resolver = free_resolver(mesh);
	}
}

/* The address behind the one where the peer did not answer; else the first. */
static const struct endpoint *next_address(const struct mesh_peer *peer)
{
	const struct endpoint *found;
	unsigned count = resolver_found(peer->resolver, &found);
	struct wg_peer_stats stats;

	wg_peer_stats(peer->wg, &stats);
	for (unsigned i = 0; stats.has_endpoint && !stats.has_session && i + 1 < count; i++)
		if (endpoint_equal(&found[i], &stats.endpoint))
			return &found[i + 1];
	return found;
}

/* It may be another process there, with the same key, that knows nothing of our session. */
static void move(struct mesh_peer *peer, const struct endpoint *to, uint64_t now_ns)
{
	struct wg_peer_stats stats;

	wg_peer_stats(peer->wg, &stats);
	peer->has_moved = false;
	if (stats.has_endpoint && endpoint_equal(&stats.endpoint, to))
		return;
	wg_peer_set_endpoint(peer->wg, to);
	wg_peer_rekey(peer->wg, now_ns);
}

static void found(struct mesh *mesh, struct mesh_peer *peer)
{
	uint64_t now_ns = loop_now(mesh->loop);
	bool is_first = !peer->was_looked_up || peer->was_told;

	peer->was_told = false;
	if (peer->has_moved) {
		move(peer, next_address(peer), now_ns);
		return;
	}
	wg_peer_set_endpoint(peer->wg, next_address(peer));
	/* Else it is greeted with all others. */
	if (is_first && !peer->is_new)
		greet(peer, now_ns);
}

/* Nobody's: the peer has gone from the file, or has another Endpoint there now. */
static struct mesh_peer *find_look_up(const struct mesh *mesh, unsigned number)
{
	for (unsigned i = 0; i < mesh->config.peer_count; i++)
		if (mesh->peers[i]->look_up == number)
			return mesh->peers[i];
	return NULL;
}

static void looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct mesh *mesh = owner;
	struct mesh_peer *peer = find_look_up(mesh, token);

	(void)ep;
	if (peer) {
		peer->look_up = 0;
		if (error)
			tell_failure(peer, error);
		else
			found(mesh, peer);
		first_look_up_ended(mesh, peer);
	}
	go_on(mesh);
}

/* ---- what the file says ---- */

int mesh_endpoint_check(const struct config_peer *c, char error[static 256])
{
	if (c->endpoint_port == 0 || !resolve_is_invalid(c->endpoint_host))
		return 0;
	snprintf(error, 256, "line %u: the Endpoint's host %.100s does not exist; correct it",
		 c->line, c->endpoint_host);
	return -ENOENT;
}

bool mesh_endpoint_is_name(const struct config_peer *c)
{
	return c->endpoint_port != 0 && !resolve_is_numeric(c->endpoint_host);
}

bool mesh_endpoint_is_address(const struct config_peer *c, struct endpoint *at)
{
	at->port = c->endpoint_port;
	return c->endpoint_port != 0 && ip_parse(c->endpoint_host, &at->addr) == 0;
}

int mesh_endpoints_prepare(struct mesh *mesh, unsigned names, char error[static 256])
{
	unsigned ready = 0;

	for (unsigned i = 0; i < MESH_LOOK_UPS && ready < names; i++) {
		if (!mesh->look_ups[i])
			mesh->look_ups[i] = resolver_create(mesh->loop, looked_up, mesh);
		if (!mesh->look_ups[i]) {
			snprintf(error, 256, "cannot look up the peers' names: out of memory");
			return -ENOMEM;
		}
		/* One may still be busy with a name of before. */
		ready += !resolver_is_busy(mesh->look_ups[i]);
	}
	return 0;
}

void mesh_endpoints_finish(struct mesh *mesh)
{
	for (unsigned i = 0; i < MESH_LOOK_UPS; i++)
		resolver_destroy(mesh->look_ups[i]);
}

void mesh_endpoints_begin(struct mesh *mesh, unsigned names)
{
	uint64_t now_ns = loop_now(mesh->loop);

	mesh->greeting_ns = now_ns + randombytes_uniform(GREETING_MS) * NS_PER_MS;
	/* In the next round. */
	mesh->look_up_at = 0;
	mesh->next_look_up_ns = names ? now_ns : NEVER_NS;
}

void mesh_endpoints_wait(struct mesh *mesh)
{
	mesh->ready_ns = loop_now(mesh->loop) + LOOK_UP_PATIENCE_NS;
}

void mesh_endpoint_added(struct mesh *mesh, struct mesh_peer *peer)
{
	peer->is_new = true;
	peer->has_host_name = mesh_endpoint_is_name(peer->config);
	peer->was_looked_up = !peer->has_host_name;
	mesh->first_look_ups += peer->has_host_name;
}

void mesh_endpoint_removed(struct mesh *mesh, struct mesh_peer *peer)
{
	first_look_up_ended(mesh, peer);
}

/* Without an Endpoint it stays where it is. */
void mesh_endpoint_moved(struct mesh *mesh, struct mesh_peer *peer)
{
	struct endpoint at;

	first_look_up_ended(mesh, peer);
	peer->look_up = 0; /* of what it was */
	peer->was_told = false;
	peer->has_moved = peer->has_host_name = mesh_endpoint_is_name(peer->config);
	if (mesh_endpoint_is_address(peer->config, &at))
		move(peer, &at, loop_now(mesh->loop));
}

/* ---- time ---- */

uint64_t mesh_peers_deadline(const struct mesh *mesh)
{
	return MIN(mesh->next_look_up_ns, MIN(mesh->greeting_ns, mesh->ready_ns));
}

void mesh_peers_expire(struct mesh *mesh, uint64_t now_ns)
{
	if (now_ns >= mesh->greeting_ns) {
		mesh->greeting_ns = NEVER_NS;
		greet_new(mesh, now_ns);
	}
	if (now_ns >= mesh->ready_ns) {
		mesh->ready_ns = NEVER_NS;
		edge_set_ready(mesh->edge, true);
	}
	if (now_ns < mesh->next_look_up_ns)
		return;
	mesh->next_look_up_ns = now_ns + LOOK_UP_INTERVAL_NS;
	/* Else the pass before is not through, and goes on by itself. */
	if (mesh->look_up_at == mesh->config.peer_count)
		mesh->look_up_at = 0;
	go_on(mesh);
}
