/*
 * File mode: peers from a WireGuard file, and the host names of their endpoints.
 *
 * The file is also told as a network map, in the form a server would send, so that
 * status, whois and names need to know one form only. What the map cannot say
 * (preshared keys, keepalives, endpoints by name) is taken from the file.
 *
 * Names are looked up beside the loop, some at a time, since one that no name server
 * answers for takes 10 s. All are at start, and for LOOK_UP_PATIENCE_NS programs are told
 * that the mesh is not ready yet: most names are known by then, and who connects to one at
 * once finds it. Only a name that cannot exist is refused as a mistake of the file. A
 * pass every 30 s looks up again for a peer we send to in vain: the other side may have
 * moved, or the name has several addresses, which then have their turn; and for one whose
 * name failed. The next pass begins when this one has ended.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "daemon/crypto/keytext.h"
#include "daemon/dns/dns.h"
#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "daemon/netmap/netmap.h"
#include "shared/util.h"

#define LOOK_UP_INTERVAL_NS (30 * NS_PER_S)
#define LOOK_UP_PATIENCE_NS (1 * NS_PER_S)
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
	int err;

	memcpy(wg.public_key, c->public_key, sizeof(wg.public_key));
	memcpy(wg.preshared_key, c->preshared_key, sizeof(wg.preshared_key));
	if (c->endpoint_port != 0) {
		peer->has_host_name = !resolve_is_numeric(c->endpoint_host);
		if (resolve_is_invalid(c->endpoint_host)) {
			snprintf(error, 256,
				 "line %u: the Endpoint's host %.100s does not exist; correct it",
				 c->line, c->endpoint_host);
			return -ENOENT;
		}
		if (!peer->has_host_name) {
			wg.has_endpoint = ip_parse(c->endpoint_host, &wg.endpoint.addr) == 0;
			wg.endpoint.port = c->endpoint_port;
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

static resolve_done looked_up;

/* As many as names at most. */
static int create_resolvers(struct mesh *mesh, char error[static 256])
{
	unsigned count = MIN(mesh->first_look_ups, MESH_LOOK_UPS);

	for (unsigned i = 0; i < count; i++) {
		mesh->look_ups[i] = resolver_create(mesh->loop, looked_up, mesh);
		if (!mesh->look_ups[i]) {
			snprintf(error, 256, "cannot look up the peers' names: out of memory");
			return -ENOMEM;
		}
	}
	/* In the first round. */
	mesh->next_look_up_ns = loop_now(mesh->loop);
	mesh->look_up_at = mesh->config.peer_count;
	mesh->ready_ns = mesh->next_look_up_ns + LOOK_UP_PATIENCE_NS;
	return 0;
}

static int create_peers(struct mesh *mesh, char error[static 256])
{
	mesh->greeting_ns = loop_now(mesh->loop) + randombytes_uniform(GREETING_MS) * NS_PER_MS;
	mesh->peers = calloc(mesh->config.peer_count + 1u, sizeof(*mesh->peers));
	if (!mesh->peers) {
		snprintf(error, 256, "out of memory for the peers");
		return -ENOMEM;
	}
	for (unsigned i = 0; i < mesh->config.peer_count; i++) {
		struct mesh_peer *peer = &mesh->peers[i];
		int err;

		peer->mesh = mesh;
		peer->config = &mesh->config.peers[i];
		err = create_peer(mesh, peer, error);
		if (err < 0)
			return err;
		mesh->first_look_ups += peer->has_host_name;
	}
	return mesh->first_look_ups ? create_resolvers(mesh, error) : 0;
}

/* ---- the file as a map ---- */

static bool is_one_address(const struct ip_prefix *p)
{
	return p->len == (ip_is_v4(&p->addr) ? 32 : 128);
}

/* all: every prefix; else single addresses only, and our own without their networks. */
static json_object *prefix_list(const struct ip_prefix *p, unsigned count, bool all, bool is_own)
{
	json_object *list = json_object_new_array();
	char text[IP_TEXT_MAX + 4], ip[IP_TEXT_MAX];

	for (unsigned i = 0; list && i < count; i++) {
		unsigned one = ip_is_v4(&p[i].addr) ? 32 : 128;

		if (!all && !is_own && !is_one_address(&p[i]))
			continue;
		snprintf(text, sizeof(text), "%s/%u", ip_format(&p[i].addr, ip),
			 is_own ? one : (unsigned)p[i].len);
		json_object_array_add(list, json_object_new_string(text));
	}
	return list;
}

static void add_text(json_object *to, const char *key, const char *text)
{
	json_object_object_add(to, key, json_object_new_string(text));
}

static json_object *map_node(const struct mesh *mesh, unsigned id, const char *name,
			     const uint8_t key[static WG_KEY_LEN])
{
	json_object *node = json_object_new_object(), *info = json_object_new_object();
	char text[KEYTEXT_MAX], full[CONFIG_NAME_MAX + 260] = "";

	if (name[0])
		snprintf(full, sizeof(full), "%s.%s", name, mesh->config.domain);
	json_object_object_add(node, "ID", json_object_new_int64(id));
	snprintf(text, sizeof(text), "file-%u", id);
	add_text(node, "StableID", text);
	add_text(node, "Name", full);
	add_text(node, "Key", keytext_format(KEYTEXT_NODE, key, text));
	add_text(info, "Hostname", name);
	json_object_object_add(node, "Hostinfo", info);
	json_object_object_add(node, "MachineAuthorized", json_object_new_boolean(true));
	return node;
}

static json_object *map_dns(const struct mesh *mesh)
{
	json_object *dns = json_object_new_object(), *domains = json_object_new_array(),
		    *routes = json_object_new_object();

	json_object_object_add(dns, "Proxied", json_object_new_boolean(true));
	if (mesh->config.domain[0]) {
		json_object_array_add(domains, json_object_new_string(mesh->config.domain));
		json_object_object_add(routes, mesh->config.domain, json_object_new_array());
	}
	json_object_object_add(dns, "Domains", domains);
	json_object_object_add(dns, "Routes", routes);
	return dns;
}

static json_object *map_of_file(const struct mesh *mesh)
{
	const struct config *c = &mesh->config;
	json_object *map = json_object_new_object(), *peers = json_object_new_array();
	uint8_t key[WG_KEY_LEN];
	json_object *node;

	wg_device_public_key(mesh->wg, key);
	node = map_node(mesh, 1, c->name, key);
	json_object_object_add(node, "Addresses", prefix_list(c->own, c->own_count, false, true));
	json_object_object_add(map, "Node", node);
	for (unsigned i = 0; i < c->peer_count; i++) {
		const struct config_peer *p = &c->peers[i];

		node = map_node(mesh, i + 2, p->name, p->public_key);
		json_object_object_add(node, "Addresses",
				       prefix_list(p->allowed, p->allowed_count, false, false));
		json_object_object_add(node, "AllowedIPs",
				       prefix_list(p->allowed, p->allowed_count, true, false));
		json_object_array_add(peers, node);
	}
	json_object_object_add(map, "Peers", peers);
	json_object_object_add(map, "DNSConfig", map_dns(mesh));
	json_object_object_add(map, "Domain", json_object_new_string(c->domain));
	return map;
}

static int apply_map(struct mesh *mesh)
{
	json_object *map = map_of_file(mesh);
	const char *text = json_object_to_json_string_ext(map, JSON_C_TO_STRING_PLAIN);
	struct netmap_changes changes;
	int err =
		text ? netmap_apply(mesh->netmap, text, strlen(text), (int64_t)time(NULL), &changes)
		     : -ENOMEM;

	if (text)
		netmap_changes_finish(&changes);
	json_object_put(map);
	return err;
}

static int set_names(struct mesh *mesh)
{
	unsigned count = netmap_peer_count(mesh->netmap);
	const struct netmap_node **peers = calloc(count + 1u, sizeof(*peers));
	struct dns_source source = { .self = netmap_self(mesh->netmap),
				     .peers = peers,
				     .peer_count = count,
				     .config = netmap_dns(mesh->netmap),
				     .all_families = true };
	int err;

	if (!peers)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		peers[i] = netmap_peer_at(mesh->netmap, i);
	err = dns_set(mesh->dns, &source);
	free(peers);
	return err;
}

static int tell_nodes(struct mesh *mesh, char error[static 256])
{
	const struct config *c = &mesh->config;
	struct edge_node *nodes = calloc(c->peer_count + 1u, sizeof(*nodes));
	int err = -ENOMEM;

	if (nodes) {
		nodes[0] = (struct edge_node){ c->name, c->own, c->own_count, true };
		for (unsigned i = 0; i < c->peer_count; i++)
			nodes[i + 1] = (struct edge_node){ c->peers[i].name, c->peers[i].allowed,
							   c->peers[i].allowed_count, false };
		err = edge_set_nodes(mesh->edge, nodes, c->peer_count + 1, error);
		free(nodes);
	}
	return err;
}

int mesh_file_create(struct mesh *mesh, char error[static 256])
{
	int err = mesh_create_wg(mesh, mesh->config.private_key, true, error);

	if (err)
		return err;
	/* The device has its own copy, in locked memory. */
	sodium_memzero(mesh->config.private_key, sizeof(mesh->config.private_key));
	err = create_peers(mesh, error);
	if (err)
		return err;
	err = apply_map(mesh);
	if (!err)
		err = tell_nodes(mesh, error);
	if (!err)
		err = set_names(mesh);
	if (err && !error[0])
		snprintf(error, 256, "out of memory for the nodes");
	if (!err && mesh->first_look_ups == 0)
		edge_set_ready(mesh->edge, true);
	return err;
}

void mesh_file_destroy(struct mesh *mesh)
{
	for (unsigned i = 0; i < MESH_LOOK_UPS; i++)
		resolver_destroy(mesh->look_ups[i]);
	free(mesh->peers);
}

/* ---- end points by name ---- */

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

static void greet_all(struct mesh *mesh, uint64_t now_ns)
{
	unsigned count = MIN(mesh->config.peer_count, MAX_GREETED);

	for (unsigned i = 0; i < count; i++)
		greet(&mesh->peers[i], now_ns);
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
		struct mesh_peer *peer = &mesh->peers[i];
		const struct config_peer *c = peer->config;
		int err;

		if (peer->is_looked_up || !wants_look_up(peer))
			continue;
		err = resolver_start(resolver, c->endpoint_host, c->endpoint_port, i);
		peer->is_looked_up = err == 0;
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

static void looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct mesh *mesh = owner;
	struct mesh_peer *peer = &mesh->peers[token];
	bool is_first = !peer->was_looked_up || peer->was_told;

	(void)ep;
	peer->is_looked_up = false;
	if (error) {
		tell_failure(peer, error);
	} else {
		peer->was_told = false;
		wg_peer_set_endpoint(peer->wg, next_address(peer));
		/* Else it is greeted with all others. */
		if (is_first && mesh->greeting_ns == NEVER_NS)
			greet(peer, loop_now(mesh->loop));
	}
	first_look_up_ended(mesh, peer);
	go_on(mesh);
}

uint64_t mesh_peers_deadline(const struct mesh *mesh)
{
	return MIN(mesh->next_look_up_ns, MIN(mesh->greeting_ns, mesh->ready_ns));
}

void mesh_peers_expire(struct mesh *mesh, uint64_t now_ns)
{
	if (now_ns >= mesh->greeting_ns) {
		mesh->greeting_ns = NEVER_NS;
		greet_all(mesh, now_ns);
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
