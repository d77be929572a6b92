/*
 * From the network map to what carries packets: peers of WireGuard with their
 * paths, the packet filter, the relays, names and mirrors.
 *
 * A message of the server names what it changed, and only that is touched: the
 * session and the flows of every other peer go on. Names and mirrors are written
 * together a moment later, since changes come in bursts, and only if one of them may be another:
 * with thousands of peers that takes a while, and somebody comes online all the time.
 *
 * What programs have with a node that left, or with an address that another node has now, ends
 * some seconds later. A node that is in the map again by then was never away: a server that starts
 * anew or is given a wrong policy for a moment cuts nothing off. So that one change cannot bring
 * forward what another has begun, a node is missed at one look and parted from at the next.
 *
 * A peer that may not be talked to (expired, without a key) is no peer of
 * WireGuard at all, so nothing of it is ever answered. The same holds for
 * everybody while we ourselves are expired or not yet approved.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/derp/relays.h"
#include "daemon/dns/dns.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"
#include "daemon/path/paths.h"
#include "daemon/state.h"
#include "shared/util.h"

#define NAMES_WAIT_NS      (20 * NS_PER_MS) /* for the rest of a burst */
#define NAMES_AGAIN_NS     (10 * NS_PER_S)  /* after they could not be written; then twice that */
#define NAMES_AGAIN_MAX_NS (640 * NS_PER_S)
#define EXPIRY_MAX_S       3600 /* the wall clock may be set: look again */
#define PART_WAIT_NS       (5 * NS_PER_S)

uint64_t tailnet_timestamp_s(void)
{
	return (uint64_t)time(NULL);
}

static int64_t wall_s(void)
{
	return (int64_t)tailnet_timestamp_s();
}

/* ---- peers ---- */

/*
 * A node is the same one as long as its id is, whatever becomes of its key, and so of its peer of
 * WireGuard. What is behind a subnet's router is nobody's own: routers may take turns.
 */
const void *tailnet_holder(void *owner, const struct ip_addr *addr)
{
	static const char of_a_subnet;
	const struct mesh *mesh = owner;
	const struct netmap_node *node = netmap_node_by_addr(mesh->netmap, addr);

	return node ? (const void *)(uintptr_t)node->id : &of_a_subnet;
}

static bool peer_has_cap(void *owner, const char *cap)
{
	const struct mesh_peer *peer = owner;
	const struct netmap_node *node = netmap_peer_by_id(peer->mesh->netmap, peer->id);

	return node && netmap_node_has_cap(node, cap);
}

static struct mesh_peer *find_peer(struct tailnet *t, int64_t id)
{
	struct mesh_peer *peer;

	HASH_FIND(by_id, t->peers, &id, sizeof(id), peer);
	return peer;
}

static void remove_peer(struct tailnet *t, struct mesh_peer *peer)
{
	HASH_DELETE(by_id, t->peers, peer);
	if (peer->wg)
		wg_device_remove_peer(t->mesh->wg, peer->wg);
	if (peer->path)
		paths_remove_peer(t->paths, peer->path);
	free(peer);
}

void tailnet_drop_peers(struct tailnet *t)
{
	struct mesh_peer *peer, *next;

	HASH_ITER(by_id, t->peers, peer, next)
	remove_peer(t, peer);
}

static struct path_peer_config path_config(const struct netmap_node *node, struct mesh_peer *peer)
{
	struct path_peer_config c = { .endpoints = node->endpoints,
				      .endpoint_count = node->endpoint_count,
				      .home_region = node->home_derp,
				      .is_wireguard_only = node->is_wireguard_only,
				      .user = peer };

	memcpy(c.node_key, node->key, sizeof(c.node_key));
	memcpy(c.disco_key, node->disco_key, sizeof(c.disco_key));
	return c;
}

/* Into WireGuard and paths. 0 or -errno; what was made stays in peer. */
static int connect_peer(struct tailnet *t, struct mesh_peer *peer, const struct netmap_node *node,
			const struct ip_prefix *allowed, unsigned count)
{
	struct path_peer_config path = path_config(node, peer);
	struct wg_peer_config wg = { .allowed = allowed,
				     .allowed_count = count,
				     .has_endpoint = true, /* paths know where */
				     .user = peer };
	int err = paths_add_peer(t->paths, &path, &peer->path);

	if (err)
		return err;
	memcpy(wg.public_key, node->key, sizeof(wg.public_key));
	return wg_device_add_peer(t->mesh->wg, &wg, &peer->wg);
}

static int add_peer(struct tailnet *t, const struct netmap_node *node,
		    const struct ip_prefix *allowed, unsigned count)
{
	struct mesh_peer *peer = calloc(1, sizeof(*peer));
	int err;

	if (!peer)
		return -ENOMEM;
	peer->mesh = t->mesh;
	peer->id = node->id;
	memcpy(peer->key, node->key, sizeof(peer->key));
	memcpy(peer->disco_key, node->disco_key, sizeof(peer->disco_key));
	peer->source = (struct filter_source){ node->is_jailed, peer_has_cap, peer };
	HASH_ADD(by_id, t->peers, id, sizeof(peer->id), peer);
	if (!find_peer(t, node->id)) {
		free(peer);
		return -ENOMEM;
	}
	err = connect_peer(t, peer, node, allowed, count);
	if (err)
		remove_peer(t, peer);
	return err;
}

static int change_peer(struct tailnet *t, struct mesh_peer *peer, const struct netmap_node *node,
		       const struct ip_prefix *allowed, unsigned count)
{
	static const uint8_t none[NETMAP_KEY_LEN];
	struct path_peer_config path = path_config(node, peer);
	bool has_restarted = memcmp(peer->disco_key, node->disco_key, sizeof(none)) != 0;
	bool had_disco = memcmp(peer->disco_key, none, sizeof(none)) != 0;
	uint64_t now_ns = loop_now(t->mesh->loop);
	struct path_peer_status before, after;
	int err = wg_peer_set_allowed(peer->wg, allowed, count);

	path_peer_status(t->paths, peer->path, now_ns, &before);
	if (!err)
		err = paths_update_peer(t->paths, peer->path, &path, now_ns);
	if (err)
		return err;
	/* What was sent while its home was unknown has gone nowhere. */
	path_peer_status(t->paths, peer->path, now_ns, &after);
	if (after.relay_region && after.relay_region != before.relay_region)
		wg_peer_path_found(peer->wg, now_ns);
	memcpy(peer->disco_key, node->disco_key, sizeof(peer->disco_key));
	peer->source.is_jailed = node->is_jailed;
	if (has_restarted && had_disco)
		wg_peer_renew(peer->wg);
	return 0;
}

/* The peer as the map has it now: made, changed, or taken away. */
static int sync_peer(struct tailnet *t, int64_t id)
{
	const struct netmap *nm = t->mesh->netmap;
	const struct netmap_node *node = netmap_peer_by_id(nm, id);
	struct mesh_peer *peer = find_peer(t, id);
	struct ip_prefix *allowed = NULL;
	unsigned count = 0;
	int err = 0;

	if (node && t->is_carrying && !netmap_node_is_expired(nm, node, wall_s())) {
		allowed = calloc(node->allowed_count + 1u, sizeof(*allowed));
		if (!allowed)
			return -ENOMEM;
		count = netmap_node_accepted(nm, node, t->login->accept_routes, allowed);
	}
	if (peer && (count == 0 || memcmp(peer->key, node->key, sizeof(peer->key)) != 0)) {
		remove_peer(t, peer);
		peer = NULL;
	}
	if (count > 0)
		err = peer ? change_peer(t, peer, node, allowed, count)
			   : add_peer(t, node, allowed, count);
	free(allowed);
	return err;
}

static void sync_one(struct tailnet *t, int64_t id)
{
	int err = sync_peer(t, id);

	if (err)
		log_limited(&t->paths_gate, loop_now(t->mesh->loop), LOG_WARN,
			    "mesh: peer %lld of the map cannot be taken: %s", (long long)id,
			    strerror(-err));
}

/* A key that is another's now leaves WireGuard and paths before that one gets it. */
static void drop_stale(struct tailnet *t, struct mesh_peer *peer)
{
	const struct netmap *nm = t->mesh->netmap;
	const struct netmap_node *node = netmap_peer_by_id(nm, peer->id);

	if (!node || netmap_node_by_key(nm, peer->key) != node)
		remove_peer(t, peer);
}

static void sync_listed(struct tailnet *t, const struct netmap_ids *ids)
{
	for (unsigned i = 0; i < ids->count; i++) {
		struct mesh_peer *peer = find_peer(t, ids->id[i]);

		if (peer)
			drop_stale(t, peer);
	}
	for (unsigned i = 0; i < ids->count; i++)
		sync_one(t, ids->id[i]);
}

static void sync_all_peers(struct tailnet *t)
{
	const struct netmap *nm = t->mesh->netmap;
	struct mesh_peer *peer, *next;

	HASH_ITER(by_id, t->peers, peer, next)
	drop_stale(t, peer);
	for (unsigned i = 0; i < netmap_peer_count(nm); i++)
		sync_one(t, netmap_peer_at(nm, i)->id);
}

/* ---- ourselves ---- */

/*
 * Registered anew, we were gone from the peers' maps in between, and with that our
 * sessions from their memory.
 */
static void sync_identity(struct tailnet *t)
{
	int64_t id = netmap_self(t->mesh->netmap)->id;
	struct mesh_peer *peer, *next;

	if (t->self_id != 0 && t->self_id != id) {
		HASH_ITER(by_id, t->peers, peer, next)
		wg_peer_renew(peer->wg);
	}
	t->self_id = id;
}

static unsigned own_addresses(const struct netmap_node *self, struct ip_addr *own, unsigned max)
{
	unsigned count = 0;

	for (unsigned i = 0; i < self->address_count && count < max; i++)
		own[count++] = self->addresses[i].addr;
	return count;
}

static void sync_filter(struct tailnet *t)
{
	const struct netmap_node *self = netmap_self(t->mesh->netmap);
	unsigned count = 0;
	const struct netmap_rule *rules = netmap_filter(t->mesh->netmap, &count);

	if (filter_set(t->filter, rules, count, self->addresses, self->address_count) < 0)
		log_err("mesh: out of memory for the packet filter, the old rules stand");
}

/* True when we have other addresses than before. */
static bool sync_self(struct tailnet *t)
{
	struct ip_addr own[CONFIG_MAX_OWN] = { 0 };
	unsigned count = own_addresses(netmap_self(t->mesh->netmap), own, ARRAY_LEN(own));

	if (count == t->own_count && memcmp(own, t->own, sizeof(own)) == 0)
		return false;
	memcpy(t->own, own, sizeof(own));
	t->own_count = count;
	netstack_set_own(t->mesh->netstack, own, count);
	return true;
}

static void sync_relays(struct tailnet *t)
{
	const struct derp_map *map = netmap_derp(t->mesh->netmap);
	uint64_t now_ns = loop_now(t->mesh->loop);

	if (!t->paths)
		return;
	if (relays_set_map(t->relays, map) < 0 || paths_set_derp_map(t->paths, map, now_ns) < 0)
		log_err("mesh: out of memory for the map of relays, the old one stands");
}

static void schedule_expiry(struct tailnet *t)
{
	int64_t now_s = wall_s(), at_s = netmap_next_expiry_s(t->mesh->netmap, now_s);
	int64_t wait_s = at_s > now_s + EXPIRY_MAX_S ? EXPIRY_MAX_S : at_s - now_s;

	t->expiry_at_ns = loop_now(t->mesh->loop) + (uint64_t)(wait_s > 0 ? wait_s : 1) * NS_PER_S;
}

static bool may_carry(const struct tailnet *t)
{
	const struct netmap *nm = t->mesh->netmap;
	const struct netmap_node *self = netmap_self(nm);

	return t->wants_running && t->mesh->wg && self && self->is_authorized &&
	       self->address_count > 0 && !netmap_node_is_expired(nm, self, wall_s());
}

void tailnet_sync(struct tailnet *t, const struct netmap_changes *changes)
{
	bool carries = may_carry(t), is_turned = carries != t->is_carrying;
	const struct netmap_changes *c = is_turned ? NULL : changes;

	t->is_carrying = carries;
	if (!netmap_self(t->mesh->netmap))
		return;
	if (!c || c->self)
		sync_identity(t);
	/* What peers may have depends on what is ours. */
	if ((!c || c->self) && sync_self(t))
		c = NULL;
	if (!c || c->self || c->filter)
		sync_filter(t);
	if (!c || c->derp)
		sync_relays(t);
	if (c) {
		sync_listed(t, &c->removed);
		sync_listed(t, &c->changed);
		sync_listed(t, &c->added);
	} else {
		sync_all_peers(t);
	}
	if (!c || c->faces)
		t->part_at_ns = MIN(t->part_at_ns, loop_now(t->mesh->loop) + PART_WAIT_NS);
	schedule_expiry(t);
	calm_expect(&t->mesh->calm, loop_now(t->mesh->loop)); /* reading a map takes memory */
	if (is_turned)
		tailnet_publish_names(t);
	else if (!c || c->self || c->dns || c->faces)
		t->names_at_ns = MIN(t->names_at_ns, loop_now(t->mesh->loop) + NAMES_WAIT_NS);
}

void tailnet_forget_map(struct tailnet *t)
{
	struct netmap *empty = netmap_create();

	if (!empty) {
		log_err("mesh: out of memory, status shows what was before the logout");
		return;
	}
	netmap_destroy(t->mesh->netmap);
	t->mesh->netmap = empty;
	t->has_map = false;
	t->expiry_at_ns = t->part_at_ns = NEVER_NS;
	tailnet_publish_names(t);
}

void tailnet_part(struct tailnet *t)
{
	t->part_at_ns = NEVER_NS;
	if (edge_peers_missed(t->mesh->edge))
		t->part_at_ns = loop_now(t->mesh->loop) + PART_WAIT_NS;
}

/* ---- names and mirrors ---- */

/*
 * Our own prefixes as the mesh's ranges: what lies in them and is nobody's is
 * unreachable, and never sent to the real network.
 */
static void widen(struct ip_prefix *p)
{
	static const struct ip_prefix ranges[] = {
		{ { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 100, 64, 0, 0 } }, 10 },
		{ { { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 } }, 48 },
	};

	if (ip_is_v4(&p->addr) && (ip_v4(&p->addr) ^ ip_v4(&ranges[0].addr)) >> 22 == 0)
		p->len = ranges[0].len;
	else if (memcmp(p->addr.byte, ranges[1].addr.byte, 6) == 0)
		p->len = ranges[1].len;
}

/* All that is accepted, peer by peer, in one array. */
struct collected {
	struct edge_node *nodes;
	struct ip_prefix *prefixes;
	unsigned count;
};

static int collect(struct tailnet *t, struct collected *out)
{
	const struct netmap *nm = t->mesh->netmap;
	const struct netmap_node *self = netmap_self(nm);
	unsigned peers = netmap_peer_count(nm);
	size_t prefixes = self->address_count, at = 0;

	for (unsigned i = 0; i < peers; i++)
		prefixes += netmap_peer_at(nm, i)->allowed_count;
	*out = (struct collected){ calloc(peers + 1u, sizeof(*out->nodes)),
				   calloc(prefixes + 1u, sizeof(*out->prefixes)), 0 };
	if (!out->nodes || !out->prefixes)
		return -ENOMEM;
	for (; at < self->address_count; at++) {
		out->prefixes[at] = self->addresses[at];
		widen(&out->prefixes[at]);
	}
	out->nodes[out->count++] =
		(struct edge_node){ self->name, out->prefixes, (unsigned)at, true };
	for (unsigned i = 0; i < peers; i++) {
		const struct netmap_node *node = netmap_peer_at(nm, i);
		struct ip_prefix *first = out->prefixes + at;
		unsigned n = netmap_node_accepted(nm, node, t->login->accept_routes, first);

		out->nodes[out->count++] = (struct edge_node){ node->name, first, n, false };
		at += n;
	}
	return 0;
}

static int publish_addresses(struct tailnet *t)
{
	struct collected all = { 0 };
	char error[256] = "out of memory";
	int err = collect(t, &all);

	if (err == 0)
		err = edge_set_nodes(t->mesh->edge, all.nodes, all.count, error);
	if (err)
		log_limited(&t->names_gate, loop_now(t->mesh->loop), LOG_ERR,
			    "mesh: the addresses of the mesh cannot be used: %s", error);
	free(all.nodes);
	free(all.prefixes);
	return err;
}

static int publish_dns(struct tailnet *t)
{
	const struct netmap *nm = t->mesh->netmap;
	unsigned count = netmap_peer_count(nm);
	const struct netmap_node **peers = calloc(count + 1u, sizeof(*peers));
	struct dns_source source = { .peers = peers,
				     .peer_count = count,
				     .config = netmap_dns(nm),
				     .refuse_resolvers = !t->login->accept_dns };
	int err;

	if (t->is_carrying)
		source.self = netmap_self(nm);
	for (unsigned i = 0; peers && i < count; i++)
		peers[i] = netmap_peer_at(nm, i);
	err = peers ? dns_set(t->mesh->dns, &source) : -ENOMEM;
	if (err)
		log_limited(&t->names_gate, loop_now(t->mesh->loop), LOG_ERR,
			    "mesh: out of memory for the names of the mesh, the old ones stand");
	free(peers);
	return err;
}

/* What was short may be there later, and the server has no reason to send its map again. */
void tailnet_publish_names(struct tailnet *t)
{
	int err = t->is_carrying ? publish_addresses(t) : 0, dns_err = publish_dns(t);

	t->names_at_ns = NEVER_NS;
	if (err || dns_err) {
		t->names_again_ns =
			MIN(MAX(2 * t->names_again_ns, NAMES_AGAIN_NS), NAMES_AGAIN_MAX_NS);
		t->names_at_ns = loop_now(t->mesh->loop) + t->names_again_ns;
	} else {
		t->names_again_ns = 0;
	}
	edge_set_ready(t->mesh->edge, t->is_carrying);
}
