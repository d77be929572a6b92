/*
 * NATs, firewalls and the wire between them. They filter by address and port, as
 * most do, and forget a mapping after 60 s.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "shared/wire.h"

struct event *world_add_event(struct world *w, enum kind kind, uint64_t delay_ns,
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

uint16_t world_map_out(struct world *w, const struct node *n, const struct endpoint *dest)
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

struct node *world_node_at(struct world *w, const struct node *from, const struct endpoint *to)
{
	uint32_t v4 = ip_v4(&to->addr);

	for (unsigned i = 0; i < w->node_count; i++) {
		struct node *n = &w->node[i];

		if (v4 == n->outside || (v4 == n->inside && from == n))
			return n;
	}
	return NULL;
}

bool world_gets_in(struct world *w, struct node *n, const struct endpoint *from,
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
		from.port = world_map_out(w, n, to);
	open_hole(w, n, from.port, to);
	target = world_node_at(w, n, to);
	id = target ? target->id : WORLD_NODES + v4 - world_stun_address(0);
	if (!target && (v4 < world_stun_address(0) || v4 >= world_stun_address(WORLD_REGIONS)))
		return;
	if (target && w->is_cut[n->id][target->id])
		return;
	e = world_add_event(w, EVENT_UDP, 20 * NS_PER_MS + world_random(w, 1000) * NS_PER_US, bytes,
			    len);
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
		e = world_add_event(w, EVENT_RELAY, 40 * NS_PER_MS, bytes, len);
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

void world_forget_nat(struct world *w, const struct node *n)
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
