/*
 * The virtual Internet: 20 ms between any two addresses, 40 ms through a relay,
 * 1 ms within one place.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "inside.h"
#include "partner.h"
#include "shared/wire.h"
#include "tests/unit/path/stun_relay.h"

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

void world_move(struct world *w, struct node *n, bool is_noticed)
{
	world_give_addresses(w, n);
	world_forget_nat(w, n);
	if (!is_noticed || !n->paths)
		return;
	world_set_local(w, n);
	paths_network_changed(n->paths, w->now_ns);
}

void world_rebind(struct world *w, struct node *n)
{
	world_forget_nat(w, n);
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
	struct node *target = world_node_at(w, NULL, &e->from);
	size_t len;

	if (stun_parse_request(e->bytes, e->len, txid) < 0 || !target)
		return;
	len = stun_make_response(txid, &e->from, bytes);
	answer = world_add_event(w, EVENT_UDP, (20 + 20 * (e->node - WORLD_NODES)) * NS_PER_MS,
				 bytes, len);
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
	    (world_node_at(w, NULL, &e->to) != n || !world_gets_in(w, n, &e->from, &e->to)))
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
