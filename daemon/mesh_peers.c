/*
 * Peers from the file, and the host names of their endpoints.
 *
 * At start every name is looked up once, waiting: a name that does not exist is
 * a mistake of the file and told as one, a name server that does not answer is
 * not. Later a name is looked up again only for a peer we send to in vain: the
 * other side may have moved. One look-up runs at a time, a pass every 30 s.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "shared/util.h"

#define LOOK_UP_INTERVAL_NS (30 * NS_PER_S)
#define GREETING_MS         250
#define MAX_GREETED         1024u /* peers, at start */

static const char *label(const struct config_peer *peer)
{
	return peer->name[0] ? peer->name : "a peer without a name";
}

static int create_peer(struct mesh *mesh, struct mesh_peer *peer, char error[static 256])
{
	const struct config_peer *c = peer->config;
	struct wg_peer_config wg = { .allowed = c->allowed,
				     .allowed_count = c->allowed_count,
				     .keepalive_s = c->keepalive_s,
				     .user = peer };
	bool is_final = false;
	int err;

	memcpy(wg.public_key, c->public_key, sizeof(wg.public_key));
	memcpy(wg.preshared_key, c->preshared_key, sizeof(wg.preshared_key));
	if (c->endpoint_port != 0) {
		const char *failure =
			resolve_wait(c->endpoint_host, c->endpoint_port, &wg.endpoint, &is_final);

		wg.has_endpoint = !failure;
		peer->has_host_name = !resolve_is_numeric(c->endpoint_host);
		if (is_final) {
			snprintf(error, 256,
				 "line %u: the Endpoint's host %.100s does not exist (%s); "
				 "correct it",
				 c->line, c->endpoint_host, failure);
			return -ENOENT;
		}
	}
	err = wg_device_add_peer(mesh->wg, &wg, &peer->wg);
	if (err == -EINVAL)
		snprintf(error, 256,
			 "line %u: this peer's PublicKey is this node's own, or no key that can "
			 "be used; ask its owner for the right one",
			 c->line);
	else if (err < 0)
		snprintf(error, 256, "line %u: the peer cannot be added: %s", c->line,
			 strerror(-err));
	return err;
}

int mesh_peers_create(struct mesh *mesh, char error[static 256])
{
	mesh->next_look_up_ns = NEVER_NS;
	mesh->greeting_ns = loop_now(mesh->loop) + randombytes_uniform(GREETING_MS) * NS_PER_MS;
	mesh->peers = calloc(mesh->config.peer_count + 1u, sizeof(*mesh->peers));
	if (!mesh->peers) {
		snprintf(error, 256, "out of memory for the peers");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < mesh->config.peer_count; i++) {
		struct mesh_peer *peer = &mesh->peers[i];
		int err;

		peer->config = &mesh->config.peers[i];
		err = create_peer(mesh, peer, error);
		if (err < 0)
			return err;
		if (peer->has_host_name)
			mesh->next_look_up_ns = loop_now(mesh->loop) + LOOK_UP_INTERVAL_NS;
	}
	return 0;
}

void mesh_peers_log_unresolved(struct mesh *mesh)
{
	for (unsigned i = 0; i < mesh->config.peer_count; i++) {
		struct wg_peer_stats stats;

		wg_peer_stats(mesh->peers[i].wg, &stats);
		if (mesh->peers[i].has_host_name && !stats.has_endpoint)
			log_warn(
				"mesh: %s: cannot look up its endpoint %s now, trying again every 30 s",
				label(mesh->peers[i].config), mesh->peers[i].config->endpoint_host);
	}
}

/*
 * A peer may still hold a session with our predecessor and would send into the
 * void until it noticed, 15 s later. Plain WireGuard lets it; a handshake now
 * spares the streams of programs that wait. Not at once but within a quarter of
 * a second: two handshakes that cross on the way spoil each other, and nodes of
 * one machine or cluster often start together.
 */
static void greet(struct mesh *mesh, uint64_t now_ns)
{
	unsigned count = MIN(mesh->config.peer_count, MAX_GREETED);

	for (unsigned i = 0; i < count; i++) {
		struct wg_peer_stats stats;

		wg_peer_stats(mesh->peers[i].wg, &stats);
		if (stats.has_endpoint && !stats.has_session && stats.rx_bytes == 0)
			wg_peer_wake(mesh->peers[i].wg, now_ns);
	}
}

/* Does this peer not answer, although something was sent to it, or cannot be? */
static bool wants_look_up(struct mesh_peer *peer)
{
	struct wg_peer_stats stats;
	bool has_sent;

	if (!peer->has_host_name)
		return false;
	wg_peer_stats(peer->wg, &stats);
	has_sent = stats.tx_bytes != peer->looked_up_tx_bytes;
	peer->looked_up_tx_bytes = stats.tx_bytes;
	return !stats.has_endpoint || (has_sent && !stats.has_session);
}

/* Starts the next look-up of this pass, if any. */
static void go_on(struct mesh *mesh)
{
	while (mesh->look_up_at < mesh->config.peer_count) {
		unsigned i = mesh->look_up_at++;
		const struct config_peer *c = mesh->peers[i].config;
		int err;

		if (!wants_look_up(&mesh->peers[i]))
			continue;
		err = resolver_start(mesh->resolver, c->endpoint_host, c->endpoint_port, i);
		if (err == 0)
			return;
		log_limited(&mesh->look_up_gate, loop_now(mesh->loop), LOG_WARN,
			    "mesh: %s: cannot start looking up %s: %s", label(c), c->endpoint_host,
			    strerror(-err));
	}
}

void mesh_peers_looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct mesh *mesh = owner;
	struct mesh_peer *peer = &mesh->peers[token];

	if (error)
		log_limited(&mesh->look_up_gate, loop_now(mesh->loop), LOG_WARN,
			    "mesh: %s: cannot look up its endpoint %s: %s", label(peer->config),
			    peer->config->endpoint_host, error);
	else
		wg_peer_set_endpoint(peer->wg, ep);
	go_on(mesh);
}

uint64_t mesh_peers_deadline(const struct mesh *mesh)
{
	return MIN(mesh->next_look_up_ns, mesh->greeting_ns);
}

void mesh_peers_expire(struct mesh *mesh, uint64_t now_ns)
{
	if (now_ns >= mesh->greeting_ns) {
		mesh->greeting_ns = NEVER_NS;
		greet(mesh, now_ns);
	}
	if (now_ns < mesh->next_look_up_ns)
		return;
	mesh->next_look_up_ns = now_ns + LOOK_UP_INTERVAL_NS;
	mesh->look_up_at = 0;
	go_on(mesh);
}
