/*
 * File mode: the peers of a WireGuard file.
 *
 * The file is also told as a network map, in the form a server would send, so that
 * status, whois and names need to know one form only. What the map cannot say
 * (preshared keys, keepalives, endpoints by name) is taken from the file.
 * Where they are is mesh_endpoints.c's business.
 *
 * What is done here is done again when the file is read again (mesh_reload.c). A peer is its key:
 * as long as that is in the file it keeps its id, its session and what is counted of it.
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

#define SELF_ID       1 /* peers' are above */
#define FULL_NAME_MAX (CONFIG_NAME_MAX + 260)

static int connect_peer(struct mesh *mesh, struct mesh_peer *peer, char error[static 256])
{
	const struct config_peer *c = peer->config;
	struct wg_peer_config wg = { .keepalive_s = c->keepalive_s, .user = peer };
	int err = mesh_endpoint_check(c, error);

	if (err)
		return err;
	memcpy(wg.public_key, c->public_key, sizeof(wg.public_key));
	memcpy(wg.preshared_key, c->preshared_key, sizeof(wg.preshared_key));
	wg.has_endpoint = mesh_endpoint_is_address(c, &wg.endpoint);
	err = wg_device_add_peer(mesh->wg, &wg, &peer->wg);
	sodium_memzero(wg.preshared_key, sizeof(wg.preshared_key));
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

int mesh_file_add_peer(struct mesh *mesh, const struct config_peer *config, struct mesh_peer **out,
		       char error[static 256])
{
	struct mesh_peer *peer = calloc(1, sizeof(*peer));
	int err = -ENOMEM;

	if (!peer)
		goto no_memory;
	peer->mesh = mesh;
	peer->config = config;
	peer->id = MAX(mesh->last_id, SELF_ID) + 1;
	HASH_ADD(by_id, mesh->by_id, id, sizeof(peer->id), peer);
	if (!peer->by_id.tbl)
		goto no_memory;
	err = connect_peer(mesh, peer, error);
	if (err) {
		HASH_DELETE(by_id, mesh->by_id, peer);
		free(peer);
		return err;
	}
	mesh->last_id = peer->id;
	mesh_endpoint_added(mesh, peer);
	*out = peer;
	return 0;
no_memory:
	free(peer);
	snprintf(error, 256, "out of memory for the peers");
	return err;
}

void mesh_file_remove_peer(struct mesh *mesh, struct mesh_peer *peer)
{
	mesh_endpoint_removed(mesh, peer);
	HASH_DELETE(by_id, mesh->by_id, peer);
	wg_device_remove_peer(mesh->wg, peer->wg);
	free(peer);
}

static int create_peers(struct mesh *mesh, char error[static 256])
{
	const struct config *c = &mesh->config;
	int err = 0;

	mesh->peers = calloc(c->peer_count + 1u, sizeof(struct mesh_peer *));
	if (!mesh->peers) {
		snprintf(error, 256, "out of memory for the peers");
		return -ENOMEM;
	}
	for (unsigned i = 0; err == 0 && i < c->peer_count; i++) {
		const struct config_peer *p = &c->peers[i];

		err = mesh_file_add_peer(mesh, p, &mesh->peers[i], error);
		if (err)
			return err;
		err = wg_peer_set_allowed(mesh->peers[i]->wg, p->allowed, p->allowed_count);
		if (err)
			snprintf(error, 256, "line %u: the peer cannot be added: %s", p->line,
				 strerror(-err));
	}
	return err;
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

/* "" for none. */
static const char *full_name(const struct config *c, const char *name,
			     char full[static FULL_NAME_MAX])
{
	full[0] = '\0';
	if (name[0])
		snprintf(full, FULL_NAME_MAX, "%s.%s", name, c->domain);
	return full;
}

static json_object *map_node(const struct config *c, int64_t id, const char *name,
			     const uint8_t key[static WG_KEY_LEN])
{
	json_object *node = json_object_new_object(), *info = json_object_new_object();
	char text[KEYTEXT_MAX], full[FULL_NAME_MAX], dotted[FULL_NAME_MAX + 1];

	full_name(c, name, full);
	snprintf(dotted, sizeof(dotted), "%s%s", full, full[0] ? "." : "");
	json_object_object_add(node, "ID", json_object_new_int64(id));
	snprintf(text, sizeof(text), "file-%lld", (long long)id);
	add_text(node, "StableID", text);
	add_text(node, "Name", dotted);
	add_text(node, "Key", keytext_format(KEYTEXT_NODE, key, text));
	add_text(info, "Hostname", name);
	json_object_object_add(node, "Hostinfo", info);
	json_object_object_add(node, "MachineAuthorized", json_object_new_boolean(true));
	return node;
}

static json_object *map_dns(const struct config *c)
{
	json_object *dns = json_object_new_object(), *domains = json_object_new_array(),
		    *routes = json_object_new_object();

	json_object_object_add(dns, "Proxied", json_object_new_boolean(true));
	if (c->domain[0]) {
		json_object_array_add(domains, json_object_new_string(c->domain));
		json_object_object_add(routes, c->domain, json_object_new_array());
	}
	json_object_object_add(dns, "Domains", domains);
	json_object_object_add(dns, "Routes", routes);
	return dns;
}

static json_object *map_peer(const struct config *c, int64_t id, const struct config_peer *p)
{
	json_object *node = map_node(c, id, p->name, p->public_key);

	json_object_object_add(node, "Addresses",
			       prefix_list(p->allowed, p->allowed_count, false, false));
	json_object_object_add(node, "AllowedIPs",
			       prefix_list(p->allowed, p->allowed_count, true, false));
	return node;
}

static bool is_in_map(const struct netmap *nm, const struct config *c, int64_t id,
		      const struct config_peer *p)
{
	const struct netmap_node *node = netmap_peer_by_id(nm, id);
	char full[FULL_NAME_MAX];

	if (!node || strcmp(node->name, full_name(c, p->name, full)) != 0 ||
	    node->allowed_count != p->allowed_count)
		return false;
	for (unsigned i = 0; i < p->allowed_count; i++)
		if (node->allowed[i].len != p->allowed[i].len ||
		    !ip_equal(&node->allowed[i].addr, &p->allowed[i].addr))
			return false;
	return true;
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Those of the map that are none of these any more. NULL: no memory. */
static json_object *map_removed(const struct netmap *nm, struct mesh_peer *const *peers,
				unsigned count)
{
	int64_t *ids = calloc(count + 1u, sizeof(*ids));
	json_object *list = ids ? json_object_new_array() : NULL;

	for (unsigned i = 0; ids && i < count; i++)
		ids[i] = peers[i]->id;
	if (ids)
		qsort(ids, count, sizeof(*ids), compare_ids);
	for (unsigned i = 0; list && i < netmap_peer_count(nm); i++) {
		int64_t id = netmap_peer_at(nm, i)->id;

		if (!bsearch(&id, ids, count, sizeof(*ids), compare_ids))
			json_object_array_add(list, json_object_new_int64(id));
	}
	free(ids);
	return list;
}

/* A message as a server would send it: of peers only what is another in the map. NULL: no memory.
 */
static json_object *map_message(const struct mesh *mesh, const struct config *c,
				struct mesh_peer *const *peers)
{
	json_object *map = json_object_new_object(), *list = json_object_new_array();
	json_object *removed = map_removed(mesh->netmap, peers, c->peer_count), *node;
	uint8_t key[WG_KEY_LEN];

	wg_device_public_key(mesh->wg, key);
	node = map_node(c, SELF_ID, c->name, key);
	json_object_object_add(node, "Addresses", prefix_list(c->own, c->own_count, false, true));
	json_object_object_add(map, "Node", node);
	for (unsigned i = 0; i < c->peer_count; i++)
		if (!is_in_map(mesh->netmap, c, peers[i]->id, &c->peers[i]))
			json_object_array_add(list, map_peer(c, peers[i]->id, &c->peers[i]));
	json_object_object_add(map, "PeersChanged", list);
	json_object_object_add(map, "PeersRemoved", removed);
	json_object_object_add(map, "DNSConfig", map_dns(c));
	json_object_object_add(map, "Domain", json_object_new_string(c->domain));
	if (removed)
		return map;
	json_object_put(map);
	return NULL;
}

static int apply_map(struct mesh *mesh, const struct config *c, struct mesh_peer *const *peers)
{
	json_object *map = map_message(mesh, c, peers);
	const char *text = map ? json_object_to_json_string_ext(map, JSON_C_TO_STRING_PLAIN) : NULL;
	struct netmap_changes changes;
	int err = -ENOMEM;

	if (text) {
		err = netmap_apply(mesh->netmap, text, strlen(text), (int64_t)time(NULL), &changes);
		netmap_changes_finish(&changes);
	}
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

static int tell_nodes(struct mesh *mesh, const struct config *c, char error[static 256])
{
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

int mesh_file_show(struct mesh *mesh, const struct config *file, struct mesh_peer *const *peers,
		   char error[static 256])
{
	int err;

	error[0] = '\0';
	/* What can be refused first. */
	err = tell_nodes(mesh, file, error);
	if (!err)
		err = apply_map(mesh, file, peers);
	if (!err)
		err = set_names(mesh);
	if (err && !error[0])
		snprintf(error, 256, "out of memory for the nodes");
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
	if (!err)
		err = mesh_endpoints_prepare(mesh, mesh->first_look_ups, error);
	if (err)
		return err;
	mesh_endpoints_begin(mesh, mesh->first_look_ups);
	if (mesh->first_look_ups)
		mesh_endpoints_wait(mesh);
	err = mesh_file_show(mesh, &mesh->config, mesh->peers, error);
	if (!err && mesh->first_look_ups == 0)
		edge_set_ready(mesh->edge, true);
	return err;
}

void mesh_file_destroy(struct mesh *mesh)
{
	struct mesh_peer *peer, *next;

	mesh_endpoints_finish(mesh);
	/* The device is gone, and with it its part of them. */
	HASH_ITER(by_id, mesh->by_id, peer, next)
	{
		HASH_DELETE(by_id, mesh->by_id, peer);
		free(peer);
	}
	free(mesh->peers);
}
