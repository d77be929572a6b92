/*
 * The virtual Internet: 20 ms between any two addresses, 40 ms through a relay,
 * 1 ms within one place. NATs filter by address and port, as most do, and forget
 * a mapping after 60 s.
 */
#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/netmap/types.h"
#include "daemon/path/stun.h"
#include "partner.h"
#include "shared/util.h"
#include "shared/wire.h"

#define EVENTS_MAX   4096
#define MAPPINGS_MAX 512
#define MAPPING_NS   (60 * NS_PER_S)
#define PORT         41641
#define STUN_PORT    3478
#define DATA_LEN     64
#define PACKET_MAX   1500

enum kind { EVENT_UDP, EVENT_RELAY };

struct event {
	uint64_t at_ns, order;
	enum kind kind;
	unsigned node; /* who receives; WORLD_NODES and above: STUN servers */
	struct endpoint from, to;
	int region;
	uint8_t src[32];
	size_t len;
	uint8_t bytes[PACKET_MAX];
};

struct mapping {
	unsigned node;
	struct endpoint inside, dest; /* dest only of hard ones */
	uint16_t port;
	uint64_t used_ns;
	bool is_used;
};

/* A hole: the node sent from this outside port to this address. */
struct hole {
	unsigned node;
	uint16_t port;
	struct endpoint dest;
	uint64_t used_ns;
};

struct flow {
	unsigned a, b;
	uint64_t every_ns, next_ns;
};

struct world {
	uint64_t now_ns, order;
	uint64_t random;
	unsigned node_count, flow_count, event_count, hole_count, loss;
	struct node node[WORLD_NODES];
	struct flow flow[WORLD_NODES];
	struct event *event[EVENTS_MAX];
	struct mapping mapping[MAPPINGS_MAX];
	struct hole hole[MAPPINGS_MAX * 4];
	bool is_relay_up[WORLD_REGIONS + 1];
	bool is_cut[WORLD_NODES][WORLD_NODES];
	uint32_t next_address;
	struct derp_node derp_node[WORLD_REGIONS];
	struct derp_region derp_region[WORLD_REGIONS];
	struct derp_map map;
};

static struct world *seeded; /* libsodium's source of randomness has no owner */

static uint32_t next_random(struct world *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 16);
}

uint32_t world_random(struct world *w, uint32_t below)
{
	return next_random(w) % below;
}

static const char *source_name(void)
{
	return "seeded";
}

static uint32_t source_random(void)
{
	return next_random(seeded);
}

static void source_buf(void *const out, const size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)next_random(seeded);
}

static uint32_t stun_address(unsigned i)
{
	return 0xc6336400u + i; /* 198.51.100.x */
}

struct world *world_create(uint64_t seed)
{
	static struct randombytes_implementation source = { source_name, source_random, NULL,
							    NULL,        source_buf,    NULL };
	static const char *const address[WORLD_REGIONS] = { "198.51.100.0", "198.51.100.1" };
	struct world *w = calloc(1, sizeof(*w));

	assert(w);
	w->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	w->now_ns = NS_PER_S;
	w->next_address = 0xcb007101u; /* 203.0.113.1 */
	seeded = w;
	randombytes_set_implementation(&source);
	for (unsigned i = 0; i < WORLD_REGIONS; i++) {
		w->derp_node[i] = (struct derp_node){ .name = "n",
						      .host_name = "",
						      .cert_name = "",
						      .ipv4 = address[i],
						      .ipv6 = "none",
						      .stun_test_ip = "",
						      .region_id = (int)i + 1,
						      .stun_port = STUN_PORT };
		w->derp_region[i] = (struct derp_region){ .id = (int)i + 1,
							  .code = "r",
							  .name = "R",
							  .score = 1,
							  .nodes = &w->derp_node[i],
							  .node_count = 1 };
		w->is_relay_up[i + 1] = true;
	}
	w->map = (struct derp_map){ w->derp_region, WORLD_REGIONS };
	return w;
}

void world_destroy(struct world *w)
{
	for (unsigned i = 0; i < w->node_count; i++) {
		paths_destroy(w->node[i].paths);
		partner_destroy(w->node[i].partner);
	}
	for (unsigned i = 0; i < w->event_count; i++)
		free(w->event[i]);
	free(w);
}

uint64_t world_now(const struct world *w)
{
	return w->now_ns;
}

struct node *world_node(struct world *w, unsigned id)
{
	return &w->node[id];
}

unsigned world_count(const struct world *w)
{
	return w->node_count;
}

/* ---- the network ---- */

static struct event *add_event(struct world *w, enum kind kind, uint64_t delay_ns,
			       const uint8_t *bytes, size_t len)
{
	struct event *e = calloc(1, sizeof(*e));

	assert(e && w->event_count < EVENTS_MAX && len <= PACKET_MAX);
	e->kind = kind;
	e->at_ns = w->now_ns + delay_ns;
	e->order = w->order++;
	e->len = len;
	memcpy(e->bytes, bytes, len);
	w->event[w->event_count++] = e;
	return e;
}

static struct hole *find_hole(struct world *w, const struct node *n, uint16_t port,
			      const struct endpoint *dest)
{
	for (unsigned i = 0; i < w->hole_count; i++) {
		struct hole *h = &w->hole[i];

		if (h->node == n->id && h->port == port && endpoint_equal(&h->dest, dest))
			return w->now_ns - h->used_ns < MAPPING_NS ? h : NULL;
	}
	return NULL;
}

static void open_hole(struct world *w, const struct node *n, uint16_t port,
		      const struct endpoint *dest)
{
	unsigned i = 0;

	while (i < w->hole_count && !(w->hole[i].node == n->id && w->hole[i].port == port &&
				      endpoint_equal(&w->hole[i].dest, dest)))
		i++;
	assert(i < ARRAY_LEN(w->hole));
	if (i == w->hole_count)
		w->hole_count++;
	w->hole[i] = (struct hole){ n->id, port, *dest, w->now_ns };
}

static uint16_t map_out(struct world *w, const struct node *n, const struct endpoint *dest)
{
	struct mapping *free_one = NULL;

	for (unsigned i = 0; i < MAPPINGS_MAX; i++) {
		struct mapping *m = &w->mapping[i];
		bool is_live = m->is_used && w->now_ns - m->used_ns < MAPPING_NS;

		if (is_live && m->node == n->id &&
		    (n->nat == NAT_EASY || endpoint_equal(&m->dest, dest))) {
			m->used_ns = w->now_ns;
			return m->port;
		}
		if (!is_live)
			free_one = m;
	}
	assert(free_one);
	*free_one = (struct mapping){ .node = n->id,
				      .dest = *dest,
				      .port = (uint16_t)(1024 + world_random(w, 60000)),
				      .used_ns = w->now_ns,
				      .is_used = true };
	return free_one->port;
}

static struct node *node_at(struct world *w, const struct node *from, const struct endpoint *to)
{
	uint32_t v4 = ip_v4(&to->addr);

	for (unsigned i = 0; i < w->node_count; i++) {
		struct node *n = &w->node[i];

		if (v4 == n->outside || (v4 == n->inside && from == n))
			return n;
	}
	return NULL;
}

/* Does the packet get in? Rewrites nothing: the receiver has one socket. */
static bool gets_in(struct world *w, struct node *n, const struct endpoint *from,
		    const struct endpoint *to)
{
	if (n->nat == NAT_BLOCKED)
		return false;
	if (n->nat == NAT_NONE)
		return to->port == PORT;
	return find_hole(w, n, to->port, from) != NULL;
}

void world_send_udp(struct world *w, struct node *n, const struct endpoint *to,
		    const uint8_t *bytes, size_t len)
{
	struct endpoint from = { ip_from_v4(n->outside), PORT };
	uint32_t v4 = ip_v4(&to->addr);
	struct node *target;
	struct event *e;
	unsigned id;

	n->udp_sent++;
	if (n->nat == NAT_BLOCKED || !ip_is_v4(&to->addr) || world_random(w, 100) < w->loss)
		return;
	if (n->nat == NAT_EASY || n->nat == NAT_HARD)
		from.port = map_out(w, n, to);
	open_hole(w, n, from.port, to);
	target = node_at(w, n, to);
	id = target ? target->id : WORLD_NODES + v4 - stun_address(0);
	if (!target && (v4 < stun_address(0) || v4 >= stun_address(WORLD_REGIONS)))
		return;
	if (target && w->is_cut[n->id][target->id])
		return;
	e = add_event(w, EVENT_UDP, 20 * NS_PER_MS + world_random(w, 1000) * NS_PER_US, bytes, len);
	e->from = from;
	e->to = *to;
	e->node = id;
}

void world_send_relay(struct world *w, struct node *n, int region, const uint8_t dst[32],
		      const uint8_t *bytes, size_t len)
{
	n->relay_sent++;
	if (region < 1 || region > WORLD_REGIONS || !w->is_relay_up[region])
		return;
	for (unsigned i = 0; i < w->node_count; i++) {
		struct event *e;

		if (memcmp(w->node[i].key, dst, 32) != 0)
			continue;
		e = add_event(w, EVENT_RELAY, 40 * NS_PER_MS, bytes, len);
		e->node = i;
		e->region = region;
		memcpy(e->src, n->key, 32);
	}
}

void world_got(struct world *w, struct node *n, const uint8_t *bytes, size_t len, bool is_direct)
{
	uint32_t from, seq;

	assert(len == DATA_LEN);
	from = load_le32(bytes + 4);
	seq = load_le32(bytes + 8);
	assert(from < w->node_count && seq < WORLD_SEQ_MAX);
	n->got[from][seq]++;
	n->last_got_ns[from] = w->now_ns;
	n->is_last_direct[from] = is_direct;
}

/* ---- our nodes ---- */

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

static void set_local(struct world *w, struct node *n)
{
	struct ip_addr ip = ip_from_v4(n->inside);

	paths_set_local(n->paths, &ip, 1, w->now_ns);
}

static void give_addresses(struct world *w, struct node *n)
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
	give_addresses(w, n);
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
	set_local(w, n);
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
	struct endpoint server = { ip_from_v4(stun_address(0)), STUN_PORT };
	unsigned count;

	assert(max >= 8);
	if (n->partner) {
		out[0] = (struct endpoint){ ip_from_v4(n->inside), PORT };
		if (n->nat != NAT_EASY)
			return 1;
		out[1] = (struct endpoint){ ip_from_v4(n->outside), map_out(w, n, &server) };
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

/* ---- what happens ---- */

void world_traffic(struct world *w, struct node *a, struct node *b, uint64_t every_ns)
{
	for (unsigned i = 0; i < w->flow_count; i++) {
		if (w->flow[i].a == a->id && w->flow[i].b == b->id)
			w->flow[i--] = w->flow[--w->flow_count];
	}
	assert(w->flow_count < WORLD_NODES);
	if (every_ns)
		w->flow[w->flow_count++] = (struct flow){ a->id, b->id, every_ns, w->now_ns };
}

static void forget_nat(struct world *w, const struct node *n)
{
	for (unsigned i = 0; i < MAPPINGS_MAX; i++) {
		if (w->mapping[i].node == n->id)
			w->mapping[i].is_used = false;
	}
	for (unsigned i = 0; i < w->hole_count; i++) {
		if (w->hole[i].node == n->id)
			w->hole[i--] = w->hole[--w->hole_count];
	}
}

void world_move(struct world *w, struct node *n, bool is_noticed)
{
	give_addresses(w, n);
	forget_nat(w, n);
	if (!is_noticed || !n->paths)
		return;
	set_local(w, n);
	paths_network_changed(n->paths, w->now_ns);
}

void world_rebind(struct world *w, struct node *n)
{
	forget_nat(w, n);
}

void world_set_relay(struct world *w, int region, bool is_up)
{
	w->is_relay_up[region] = is_up;
	for (unsigned i = 0; i < w->node_count; i++) {
		if (w->node[i].paths)
			paths_relay_state(w->node[i].paths, region, is_up, w->now_ns);
	}
}

void world_set_loss(struct world *w, unsigned percent)
{
	w->loss = percent;
}

void world_set_one_way(struct world *w, struct node *a, struct node *b, bool is_cut)
{
	w->is_cut[a->id][b->id] = is_cut;
}

static void answer_stun(struct world *w, const struct event *e)
{
	uint8_t txid[STUN_TXID_LEN], bytes[STUN_RESPONSE_MAX];
	struct event *answer;
	struct node *target = node_at(w, NULL, &e->from);
	size_t len;

	if (stun_parse_request(e->bytes, e->len, txid) < 0 || !target)
		return;
	len = stun_make_response(txid, &e->from, bytes);
	answer = add_event(w, EVENT_UDP, (20 + 20 * (e->node - WORLD_NODES)) * NS_PER_MS, bytes,
			   len);
	answer->from = e->to;
	answer->to = e->from;
	answer->node = target->id;
}

static void deliver(struct world *w, struct event *e)
{
	struct udp_datagram d = { e->bytes, (uint32_t)e->len, e->from };
	struct node *n;

	if (e->node >= WORLD_NODES) {
		answer_stun(w, e);
		return;
	}
	n = &w->node[e->node];
	if (e->kind == EVENT_UDP &&
	    (node_at(w, NULL, &e->to) != n || !gets_in(w, n, &e->from, &e->to)))
		return;
	if (n->partner)
		partner_received(n->partner, e->kind == EVENT_UDP ? &e->from : NULL, e->region,
				 e->src, e->bytes, e->len);
	else if (e->kind == EVENT_UDP)
		paths_received_udp(n->paths, &d, 1, w->now_ns);
	else if (w->is_relay_up[e->region])
		paths_received_relay(n->paths, e->region, e->src, e->bytes, e->len, w->now_ns);
}

static void send_data(struct world *w, unsigned from, unsigned to)
{
	struct node *n = &w->node[from];
	uint8_t bytes[DATA_LEN] = { 4 };

	store_le32(bytes + 4, from);
	store_le32(bytes + 8, n->sent[to]++);
	if (n->partner)
		partner_send(n->partner, to, bytes, sizeof(bytes));
	else
		paths_send(n->paths, n->peer[to], bytes, sizeof(bytes), sizeof(bytes), w->now_ns);
}

static uint64_t node_deadline(const struct node *n)
{
	return n->paths ? paths_deadline(n->paths) : partner_deadline(n->partner);
}

static struct event *next_event(struct world *w, unsigned *at)
{
	struct event *first = NULL;

	for (unsigned i = 0; i < w->event_count; i++) {
		struct event *e = w->event[i];

		if (!first || e->at_ns < first->at_ns ||
		    (e->at_ns == first->at_ns && e->order < first->order)) {
			first = e;
			*at = i;
		}
	}
	return first;
}

static uint64_t next_ns(struct world *w)
{
	unsigned at;
	struct event *e = next_event(w, &at);
	uint64_t ns = e ? e->at_ns : NEVER_NS;

	for (unsigned i = 0; i < w->node_count; i++)
		ns = MIN(ns, node_deadline(&w->node[i]));
	for (unsigned i = 0; i < w->flow_count; i++)
		ns = MIN(ns, w->flow[i].next_ns);
	return ns;
}

/* Everything that is due now. */
static void turn(struct world *w)
{
	struct event *e;
	unsigned at;

	while ((e = next_event(w, &at)) && e->at_ns <= w->now_ns) {
		w->event[at] = w->event[--w->event_count];
		deliver(w, e);
		free(e);
	}
	for (unsigned i = 0; i < w->flow_count; i++) {
		struct flow *f = &w->flow[i];

		if (f->next_ns > w->now_ns)
			continue;
		f->next_ns += f->every_ns;
		send_data(w, f->a, f->b);
		send_data(w, f->b, f->a);
	}
	for (unsigned i = 0; i < w->node_count; i++) {
		struct node *n = &w->node[i];

		if (node_deadline(n) > w->now_ns)
			continue;
		if (n->paths)
			paths_expire(n->paths, w->now_ns);
		else
			partner_expire(n->partner);
	}
}

void world_run(struct world *w, uint64_t ns)
{
	uint64_t end_ns = w->now_ns + ns;
	unsigned idle = 0;

	for (;;) {
		uint64_t at_ns = next_ns(w);

		if (at_ns > end_ns)
			break;
		/* Nobody may ask again and again for the same moment. */
		idle = at_ns <= w->now_ns ? idle + 1 : 0;
		assert(idle < 1000);
		w->now_ns = MAX(w->now_ns, at_ns);
		turn(w);
	}
	w->now_ns = end_ns;
}

bool world_is_direct(struct world *w, struct node *from, struct node *to)
{
	struct path_peer_status s;

	if (from->partner)
		return partner_is_direct(from->partner, to->id);
	path_peer_status(from->paths, from->peer[to->id], w->now_ns, &s);
	return s.is_direct;
}

unsigned world_missing(const struct node *to, const struct node *from, uint32_t first, uint32_t end)
{
	unsigned missing = 0;

	for (uint32_t i = first; i < end; i++)
		missing += to->got[from->id][i] == 0;
	return missing;
}
