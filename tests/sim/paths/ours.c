/* Nodes of our kind: daemon/path/ as it is, with the world below it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "partner.h"

struct owner {
	struct world *w;
	unsigned id;
};

static struct owner owners[WORLD_NODES];

static struct node *self(void *owner, struct world **w)
{
	struct owner *o = owner;

	*w = o->w;
	return &o->w->node[o->id];
}

static void send_udp(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len,
		     size_t segment_len)
{
	struct world *w;
	struct node *n = self(owner, &w);

	for (size_t at = 0; at < len; at += segment_len)
		world_send_udp(w, n, to, bytes + at, MIN(segment_len, len - at));
}

static void send_relay(void *owner, int region, const uint8_t dst[static PATHS_KEY_LEN],
		       const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct world *w;
	struct node *n = self(owner, &w);

	for (size_t at = 0; at < len; at += segment_len)
		world_send_relay(w, n, region, dst, bytes + at, MIN(segment_len, len - at));
}

static void wireguard(void *owner, struct udp_datagram *d, unsigned count)
{
	struct world *w;
	struct node *n = self(owner, &w);

	for (unsigned i = 0; i < count; i++)
		world_got(w, n, d[i].data, d[i].len, ip_is_v4(&d[i].from.addr));
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	(void)owner;
	(void)host;
	(void)token;
	abort(); /* the map has addresses */
}

static void self_changed(void *owner)
{
	struct world *w;

	self(owner, &w)->self_changes++;
}

static void home_changed(void *owner, int region)
{
	struct world *w;

	(void)region;
	self(owner, &w)->home_changes++;
}

static void pong(void *owner, uint32_t ticket, const struct paths_pong *p)
{
	struct world *w;
	struct node *n = self(owner, &w);

	(void)ticket;
	n->pongs++;
	n->pongs_direct += p->latency_ns != NEVER_NS && p->endpoint.port != 0;
}

static void netcheck_answer(void *owner, uint32_t ticket, const struct netcheck_report *report)
{
	(void)owner;
	(void)ticket;
	(void)report;
}

void world_set_local(struct world *w, struct node *n)
{
	struct ip_addr ip = ip_from_v4(n->inside);

	paths_set_local(n->paths, &ip, 1, w->now_ns);
}

void world_give_addresses(struct world *w, struct node *n)
{
	n->outside = w->next_address++;
	n->inside = n->nat == NAT_EASY || n->nat == NAT_HARD
			    ? 0xc0a80000u + (w->next_address & 0xff) * 256 + 2
			    : n->outside;
}

static struct node *new_node(struct world *w, enum nat nat)
{
	struct node *n = &w->node[w->node_count];

	assert(w->node_count < WORLD_NODES);
	n->id = w->node_count++;
	n->nat = nat;
	memset(n->key, 0x10 + (int)n->id, sizeof(n->key));
	world_give_addresses(w, n);
	return n;
}

struct node *world_add(struct world *w, enum nat nat)
{
	const struct paths_callbacks callbacks = { .send_udp = send_udp,
						   .send_relay = send_relay,
						   .wireguard = wireguard,
						   .resolve = resolve,
						   .self_changed = self_changed,
						   .home_changed = home_changed,
						   .pong = pong,
						   .netcheck = netcheck_answer };
	struct paths_config config = { .udp_port = PORT };
	struct node *n = new_node(w, nat);

	memcpy(config.node_key, n->key, sizeof(n->key));
	owners[n->id] = (struct owner){ w, n->id };
	n->paths = paths_create(&config, &callbacks, &owners[n->id]);
	assert(n->paths);
	paths_disco_key(n->paths, n->disco);
	paths_set_connected_to_control(n->paths, true);
	assert(paths_set_derp_map(n->paths, &w->map, w->now_ns) == 0);
	world_set_local(w, n);
	return n;
}

struct node *world_add_partner(struct world *w, enum nat nat, unsigned behaviour)
{
	struct node *n = new_node(w, nat);

	n->partner = partner_create(w, n, behaviour);
	return n;
}

/* Local addresses, and the easy NAT's mapping as STUN would have shown it. */
unsigned world_map_endpoints(struct world *w, struct node *n, struct endpoint *out, unsigned max)
{
	struct paths_endpoint own[PATHS_SELF_MAX];
	struct endpoint server = { ip_from_v4(world_stun_address(0)), STUN_PORT };
	unsigned count;

	assert(max >= 8);
	if (n->partner) {
		out[0] = (struct endpoint){ ip_from_v4(n->inside), PORT };
		if (n->nat != NAT_EASY)
			return 1;
		out[1] = (struct endpoint){ ip_from_v4(n->outside), world_map_out(w, n, &server) };
		return 2;
	}
	count = paths_self(n->paths, own, 8);
	for (unsigned i = 0; i < count; i++)
		out[i] = own[i].endpoint;
	return count;
}

static void introduce(struct world *w, struct node *to, struct node *who)
{
	struct endpoint endpoints[8];
	struct path_peer_config config = { .endpoints = endpoints, .home_region = 1, .user = who };

	if (!to->paths)
		return;
	memcpy(config.node_key, who->key, sizeof(who->key));
	memcpy(config.disco_key, who->disco, sizeof(who->disco));
	config.endpoint_count = world_map_endpoints(w, who, endpoints, ARRAY_LEN(endpoints));
	if (to->peer[who->id])
		assert(paths_update_peer(to->paths, to->peer[who->id], &config, w->now_ns) == 0);
	else
		assert(paths_add_peer(to->paths, &config, &to->peer[who->id]) == 0);
}

void world_join(struct world *w)
{
	for (unsigned i = 0; i < w->node_count; i++) {
		struct node *n = &w->node[i];

		for (unsigned k = 0; k < w->node_count; k++) {
			if (i != k)
				introduce(w, n, &w->node[k]);
		}
		for (int region = 1; n->paths && region <= WORLD_REGIONS; region++)
			paths_relay_state(n->paths, region, w->is_relay_up[region], w->now_ns);
	}
}
