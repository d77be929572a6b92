/*
 * The ways of a tailnet's packets: WireGuard hands datagrams to paths, which
 * choose UDP or a relay, and gets from them what came by either.
 *
 * A relay that takes no more holds up the whole node's output, so that TCP slows
 * down instead of losing segments; the relays see to it that this is short.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/derp/relays.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"
#include "daemon/path/disco.h"
#include "daemon/path/endpoints.h"
#include "daemon/path/paths.h"
#include "daemon/state.h"
#include "shared/util.h"

/* ---- what paths want ---- */

static void send_udp(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len,
		     size_t segment_len)
{
	struct tailnet *t = owner;

	mesh_send_udp(t->mesh, to, bytes, len, segment_len);
}

static void send_relay(void *owner, int region, const uint8_t dst[static PATHS_KEY_LEN],
		       const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct tailnet *t = owner;
	bool is_urgent = disco_is_packet(bytes, len);
	struct public_key to;
	int err;

	memcpy(to.byte, dst, sizeof(to.byte));
	err = relays_send(t->relays, region, &to, bytes, len, segment_len, is_urgent);
	if (err && err != -ENOBUFS)
		log_limited(&t->relay_gate, loop_now(t->mesh->loop), LOG_DEBUG,
			    "derp: nothing can be sent by relay %d: %s", region, strerror(-err));
}

static void wireguard(void *owner, struct udp_datagram *datagrams, unsigned count)
{
	struct tailnet *t = owner;

	mesh_give_to_wg(t->mesh, datagrams, count);
}

static void start_lookup(struct tailnet *t)
{
	while (t->lookup_count > 0 && !t->is_looking_up) {
		const struct tailnet_lookup *l = &t->lookups[t->lookup_first];

		if (resolver_start(t->mesh->resolver, l->host, 1, 0) == 0) {
			t->is_looking_up = true;
			return;
		}
		t->lookup_first = (t->lookup_first + 1) % TAILNET_LOOKUPS_MAX;
		t->lookup_count--;
	}
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	struct tailnet *t = owner;
	struct tailnet_lookup *l;
	size_t len = strlen(host);

	if (t->lookup_count == TAILNET_LOOKUPS_MAX || len >= sizeof(l->host))
		return; /* this node of the relay map is not probed this time */
	l = &t->lookups[(t->lookup_first + t->lookup_count++) % TAILNET_LOOKUPS_MAX];
	l->token = token;
	memcpy(l->host, host, len + 1);
	start_lookup(t);
}

void tailnet_looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct tailnet *t = ((struct mesh *)owner)->tailnet;
	uint64_t asked = t->lookups[t->lookup_first].token;

	(void)token;
	t->is_looking_up = false;
	t->lookup_first = (t->lookup_first + 1) % TAILNET_LOOKUPS_MAX;
	t->lookup_count--;
	if (t->paths)
		paths_resolved(t->paths, asked, error ? NULL : &ep->addr, error ? 0 : 1,
			       loop_now(t->mesh->loop));
	start_lookup(t);
}

/* ---- latency over HTTPS ---- */

static void probed(void *owner, const char *error, uint64_t round_trip_ns,
		   const struct endpoint *remote)
{
	struct tailnet_probe *probe = owner;
	struct tailnet *t = probe->tailnet;

	(void)remote;
	relay_probe_destroy(probe->probe);
	probe->probe = NULL;
	if (error)
		log_debug("derp: no answer over HTTPS: %s", error);
	paths_https_measured(t->paths, probe->token, error ? 0 : round_trip_ns,
			     loop_now(t->mesh->loop));
}

static const struct derp_node *relay_node(const struct tailnet *t, int region)
{
	const struct derp_map *map = netmap_derp(t->mesh->netmap);

	for (unsigned i = 0; i < map->region_count; i++) {
		const struct derp_region *r = &map->regions[i];

		for (unsigned n = 0; r->id == region && n < r->node_count; n++)
			if (!r->nodes[n].is_stun_only)
				return &r->nodes[n];
	}
	return NULL;
}

/* What cannot be started is not answered either: the report has a time limit. */
static void measure_https(void *owner, int region, uint64_t token)
{
	struct tailnet *t = owner;
	const struct derp_node *node = relay_node(t, region);

	for (unsigned i = 0; node && i < TAILNET_PROBES_MAX; i++) {
		struct tailnet_probe *p = &t->probes[i];

		if (p->probe)
			continue;
		p->tailnet = t;
		p->token = token;
		p->probe = relay_probe_start(t->mesh->loop, t->tls, node, probed, p);
		return;
	}
}

static void self_changed(void *owner)
{
	tailnet_tell_control(owner);
}

static void home_changed(void *owner, int region)
{
	struct tailnet *t = owner;

	relays_set_home(t->relays, region);
}

/* For when paths may be called again. */
static void note_found(struct tailnet *t, const struct mesh_peer *peer)
{
	if (t->found_count < TAILNET_FOUND_MAX)
		t->found[t->found_count++] = peer->id;
}

static void direct_changed(void *owner, void *peer_user, const struct endpoint *to)
{
	struct tailnet *t = owner;
	const struct mesh_peer *peer = peer_user;
	const struct netmap_node *node = netmap_peer_by_id(t->mesh->netmap, peer->id);
	char text[ENDPOINT_TEXT_MAX];

	log_debug("mesh: %s: %s%s", node ? node->name : "a peer", to ? "direct to " : "by relay",
		  to ? endpoint_format(to, text) : "");
	if (to)
		note_found(t, peer);
}

static void relay_answered(void *owner, void *peer_user)
{
	note_found(owner, peer_user);
}

static void pong(void *owner, uint32_t ticket, const struct paths_pong *pong)
{
	struct tailnet *t = owner;

	mesh_api_disco_ponged(t->mesh, ticket, pong);
}

static void netchecked(void *owner, uint32_t ticket, const struct netcheck_report *report)
{
	struct tailnet *t = owner;

	mesh_api_netchecked(t->mesh, ticket, report);
}

/* ---- what relays tell ---- */

static void relay_received(void *owner, int region, const struct public_key *from,
			   struct packet *packets, unsigned count)
{
	struct tailnet *t = owner;

	for (unsigned i = 0; i < count; i++)
		paths_received_relay(t->paths, region, from->byte, packets[i].data, packets[i].len,
				     loop_now(t->mesh->loop));
}

static void relay_state(void *owner, int region, bool is_up, const char *sentence)
{
	struct tailnet *t = owner;
	const struct derp_map *map = netmap_derp(t->mesh->netmap);
	const char *code = "";

	calm_expect(&t->mesh->calm, loop_now(t->mesh->loop)); /* TLS takes memory */
	for (unsigned i = 0; i < map->region_count; i++)
		if (map->regions[i].id == region)
			code = map->regions[i].code;
	if (is_up)
		log_debug("derp: relay %d (%s) is connected", region, code);
	else
		log_limited(&t->relay_gate, loop_now(t->mesh->loop), LOG_INFO,
			    "derp: relay %d (%s): %s", region, code, sentence);
	paths_relay_state(t->paths, region, is_up, loop_now(t->mesh->loop));
}

static void relay_blocked(void *owner, bool is_blocked)
{
	struct tailnet *t = owner;

	t->mesh->is_relay_blocked = is_blocked;
	mesh_set_blocked(t->mesh);
}

static void peer_gone(void *owner, int region, const struct public_key *peer,
		      enum relays_gone reason)
{
	struct tailnet *t = owner;

	(void)reason;
	paths_peer_gone(t->paths, region, peer->byte);
}

void tailnet_use_found_paths(struct tailnet *t, uint64_t now_ns)
{
	for (unsigned i = 0; i < t->found_count; i++) {
		struct mesh_peer *peer;

		HASH_FIND(by_id, t->peers, &t->found[i], sizeof(t->found[i]), peer);
		if (peer)
			wg_peer_path_found(peer->wg, now_ns);
	}
	t->found_count = 0;
}

/* ---- datagrams ---- */

void tailnet_received(struct tailnet *t, struct udp_datagram *datagrams, unsigned count)
{
	if (t->paths)
		paths_received_udp(t->paths, datagrams, count, loop_now(t->mesh->loop));
}

void tailnet_transmit(struct tailnet *t, struct mesh_peer *peer, const struct endpoint *to,
		      const uint8_t *bytes, size_t len, size_t segment_len)
{
	uint64_t now_ns = loop_now(t->mesh->loop);

	if (peer && peer->path)
		paths_send(t->paths, peer->path, bytes, len, segment_len, now_ns);
	else if (!peer)
		paths_send_to(t->paths, to, bytes, len, segment_len, now_ns);
}

void tailnet_said_disco_key(struct tailnet *t, struct mesh_peer *peer,
			    const uint8_t key[static NETMAP_KEY_LEN])
{
	if (paths_peer_said_disco_key(t->paths, peer->path, key, loop_now(t->mesh->loop)) < 0)
		log_debug("mesh: a peer's disco key inside the tunnel cannot be used");
}

/* ---- this node, as the server and peers see it ---- */

static void fill_latencies(struct control_self *self, const struct netcheck_report *r)
{
	for (unsigned i = 0; i < r->region_count; i++) {
		const struct netcheck_region_latency *l = &r->region[i];

		if (l->v4_ns && self->latency_count < CONTROL_LATENCIES_MAX) {
			self->latencies[self->latency_count].region = l->region;
			self->latencies[self->latency_count++].latency_ns = l->v4_ns;
		}
		if (l->v6_ns && self->latency_count < CONTROL_LATENCIES_MAX) {
			self->latencies[self->latency_count].region = l->region;
			self->latencies[self->latency_count].is_v6 = true;
			self->latencies[self->latency_count++].latency_ns = l->v6_ns;
		}
	}
}

static enum control_tristate tristate(bool is_known, bool value)
{
	return !is_known ? CONTROL_UNKNOWN : value ? CONTROL_YES : CONTROL_NO;
}

void tailnet_tell_control(struct tailnet *t)
{
	const struct netcheck_report *r = paths_report(t->paths);
	struct control_self self = { .shields_up = t->login->shields_up,
				     .preferred_derp = paths_home(t->paths),
				     .working_udp = tristate(r->region_count, r->has_udp),
				     .working_ipv6 = tristate(r->region_count, r->has_ipv6),
				     .os_has_ipv6 = tristate(true, r->os_has_ipv6) };
	struct paths_endpoint ends[PATHS_SELF_MAX];
	unsigned count = paths_self(t->paths, ends, PATHS_SELF_MAX);

	paths_disco_key(t->paths, self.disco_key);
	for (unsigned i = 0; i < count && i < CONTROL_ENDPOINTS_MAX; i++) {
		self.endpoints[i].ep = ends[i].endpoint;
		self.endpoints[i].type = (enum control_endpoint_type)ends[i].type;
		self.endpoint_count++;
	}
	self.mapping_varies_by_dst =
		tristate(r->mapping_varies != NETCHECK_UNKNOWN, r->mapping_varies == NETCHECK_YES);
	fill_latencies(&self, r);
	control_set_self(t->control, &self);
}

static void set_local(struct tailnet *t)
{
	struct ip_addr addrs[LOCAL_ADDRESSES_MAX];
	int count = local_addresses(addrs);

	if (count < 0)
		log_limited(&t->paths_gate, loop_now(t->mesh->loop), LOG_WARN,
			    "mesh: this host's addresses cannot be read: %s", strerror(-count));
	else
		paths_set_local(t->paths, addrs, (unsigned)count, loop_now(t->mesh->loop));
}

void tailnet_network_changed(void *owner)
{
	struct tailnet *t = owner;

	log_debug("mesh: this host's addresses or routes have changed, or it slept");
	if (t->paths) {
		set_local(t);
		paths_network_changed(t->paths, loop_now(t->mesh->loop));
		relays_network_changed(t->relays);
	}
	control_network_changed(t->control);
}

/* ---- life ---- */

static int create_paths(struct tailnet *t)
{
	const struct paths_callbacks callbacks = { send_udp,     send_relay,     wireguard,
						   resolve,      measure_https,  self_changed,
						   home_changed, direct_changed, relay_answered,
						   pong,         netchecked };
	struct paths_config config = { .udp_port = udp_path_port(t->mesh->udp),
				       .has_fixed_port = t->login->port != 0 };

	wg_device_public_key(t->mesh->wg, config.node_key);
	t->paths = paths_create(&config, &callbacks, t);
	return t->paths ? 0 : -ENOMEM;
}

void tailnet_unreachable(void *owner, const struct endpoint *to)
{
	struct tailnet *t = ((struct mesh *)owner)->tailnet;

	if (t && t->paths)
		paths_unreachable(t->paths, to, loop_now(t->mesh->loop));
}

int tailnet_plane_create(struct tailnet *t, char error[static 256])
{
	const struct relays_callbacks callbacks = { relay_received, relay_blocked, peer_gone,
						    relay_state };
	const struct private_key *key = &state_data(t->state)->node_key;
	int err = mesh_create_wg(t->mesh, key->byte, false, error);

	if (!err)
		err = create_paths(t);
	if (!err) {
		t->relays = relays_create(t->mesh->loop, t->tls, key, &callbacks, t);
		err = t->relays ? 0 : -ENOMEM;
	}
	if (err) {
		tailnet_plane_destroy(t);
		snprintf(error, 256, "cannot start the data plane: out of memory");
		return err;
	}
	set_local(t);
	tailnet_tell_control(t);
	return 0;
}

void tailnet_plane_destroy(struct tailnet *t)
{
	tailnet_drop_peers(t);
	for (unsigned i = 0; i < TAILNET_PROBES_MAX; i++) {
		relay_probe_destroy(t->probes[i].probe);
		t->probes[i].probe = NULL;
	}
	relays_destroy(t->relays);
	t->relays = NULL;
	paths_destroy(t->paths);
	t->paths = NULL;
	wg_device_destroy(t->mesh->wg);
	t->mesh->wg = NULL;
	t->is_carrying = false;
	t->mesh->is_relay_blocked = false;
	mesh_set_blocked(t->mesh);
}
