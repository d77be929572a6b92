/*
 * What it does is sections 3 to 6 of the protocol's description and nothing
 * cleverer: trust of 6.5 s, pings every 5 s, no doubt before a timeout. It knows
 * its peers' endpoints from the map at the moment it first sends.
 */
#include "partner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/classify.h"
#include "daemon/path/disco.h"
#include "shared/util.h"
#include "world.h"

#define SPOTS 32

struct spot {
	struct endpoint endpoint;
	uint64_t pinged_ns, got_ns;
	uint8_t txid[DISCO_TXID_LEN], got_txid[DISCO_TXID_LEN];
};

struct view { /* of one other node */
	struct spot spot[SPOTS];
	unsigned count;
	bool is_known, has_best;
	struct endpoint best;
	uint64_t trust_until_ns, last_send_ns;
};

struct partner {
	struct world *w;
	struct node *self;
	unsigned behaviour;
	uint8_t private[32];
	struct view view[WORLD_NODES];
	uint64_t beat_ns;
};

struct partner *partner_create(struct world *w, struct node *self, unsigned behaviour)
{
	struct partner *p = calloc(1, sizeof(*p));

	assert(p);
	p->w = w;
	p->self = self;
	p->behaviour = behaviour;
	p->beat_ns = NEVER_NS;
	randombytes_buf(p->private, sizeof(p->private));
	crypto_scalarmult_base(self->disco, p->private);
	return p;
}

void partner_destroy(struct partner *p)
{
	free(p);
}

static void send_disco(struct partner *p, struct node *to, const struct endpoint *ep,
		       const uint8_t *plain, size_t len)
{
	uint8_t packet[DISCO_PACKET_MAX], nonce[DISCO_NONCE_LEN];
	struct disco_box_key box;
	size_t n;

	assert(disco_box_key(p->private, to->disco, &box));
	randombytes_buf(nonce, sizeof(nonce));
	n = disco_seal(&box, p->self->disco, nonce, plain, len, packet);
	if (ep)
		world_send_udp(p->w, p->self, ep, packet, n);
	else
		world_send_relay(p->w, p->self, 1, to->key, packet, n);
}

static struct spot *spot_of(struct view *v, const struct endpoint *ep)
{
	for (unsigned i = 0; i < v->count; i++) {
		if (endpoint_equal(&v->spot[i].endpoint, ep))
			return &v->spot[i];
	}
	assert(v->count < SPOTS);
	v->spot[v->count] = (struct spot){ .endpoint = *ep };
	return &v->spot[v->count++];
}

static void ping(struct partner *p, struct node *to, struct spot *s)
{
	uint8_t plain[DISCO_PING_LEN];

	if (!(p->behaviour & PARTNER_PINGS))
		return;
	randombytes_buf(s->txid, sizeof(s->txid));
	s->pinged_ns = world_now(p->w);
	send_disco(p, to, &s->endpoint, plain, disco_make_ping(s->txid, p->self->key, plain));
}

static void ping_all(struct partner *p, struct node *to, bool is_forced)
{
	struct view *v = &p->view[to->id];
	uint64_t now_ns = world_now(p->w);
	struct endpoint own[8];
	uint8_t plain[DISCO_PLAIN_MAX];
	unsigned pinged = 0, count;

	if (!v->is_known) {
		count = world_map_endpoints(p->w, to, own, ARRAY_LEN(own));
		for (unsigned i = 0; i < count; i++)
			spot_of(v, &own[i]);
		v->is_known = true;
	}
	for (unsigned i = 0; i < v->count; i++) {
		struct spot *s = &v->spot[i];

		if (!is_forced && s->pinged_ns && now_ns - s->pinged_ns < 5 * NS_PER_S)
			continue;
		ping(p, to, s);
		pinged++;
	}
	if (pinged == 0 || is_forced || !(p->behaviour & PARTNER_CALLS))
		return;
	count = world_map_endpoints(p->w, p->self, own, ARRAY_LEN(own));
	send_disco(p, to, NULL, plain, disco_make_call_me_maybe(own, count, plain));
}

static void take_ping(struct partner *p, struct node *from_node, const struct endpoint *from,
		      const struct disco_message *m)
{
	struct endpoint relay = { ip_from_v4(0x7f030328), 1 };
	uint8_t plain[DISCO_PONG_LEN];
	struct spot *s;

	if (!(p->behaviour & PARTNER_ANSWERS))
		return;
	assert(memcmp(m->node_key, from_node->key, 32) == 0);
	if (from) {
		s = spot_of(&p->view[from_node->id], from);
		if (s->got_ns && memcmp(s->got_txid, m->txid, DISCO_TXID_LEN) == 0)
			return;
		s->got_ns = world_now(p->w);
		memcpy(s->got_txid, m->txid, DISCO_TXID_LEN);
	}
	send_disco(p, from_node, from, plain,
		   disco_make_pong(m->txid, from ? from : &relay, plain));
}

static void take_pong(struct partner *p, struct node *from_node, const struct disco_message *m)
{
	struct view *v = &p->view[from_node->id];
	uint64_t now_ns = world_now(p->w);

	for (unsigned i = 0; i < v->count; i++) {
		struct spot *s = &v->spot[i];

		if (memcmp(s->txid, m->txid, DISCO_TXID_LEN) != 0 ||
		    now_ns - s->pinged_ns > 5 * NS_PER_S)
			continue;
		if (!v->has_best || now_ns > v->trust_until_ns) {
			v->has_best = true;
			v->best = s->endpoint;
		}
		if (endpoint_equal(&v->best, &s->endpoint))
			v->trust_until_ns = now_ns + 6500 * NS_PER_MS;
	}
}

static void take_disco(struct partner *p, struct node *from_node, const struct endpoint *from,
		       uint8_t *bytes, size_t len)
{
	struct disco_box_key box;
	struct disco_message m;
	size_t plain_len;
	uint8_t *plain;

	assert(disco_box_key(p->private, from_node->disco, &box));
	plain = disco_open(&box, bytes, len, &plain_len);
	assert(plain && disco_parse(plain, plain_len, &m) == 0);
	if (m.type == DISCO_PING) {
		take_ping(p, from_node, from, &m);
	} else if (m.type == DISCO_PONG && from) {
		take_pong(p, from_node, &m);
	} else if (m.type == DISCO_CALL_ME_MAYBE) {
		for (unsigned i = 0; i < m.endpoint_count; i++) {
			struct endpoint ep;

			disco_endpoint(&m, i, &ep);
			spot_of(&p->view[from_node->id], &ep);
		}
		ping_all(p, from_node, true);
	}
}

void partner_received(struct partner *p, const struct endpoint *from, int region,
		      const uint8_t src[32], uint8_t *bytes, size_t len)
{
	(void)region;
	if (classify_datagram(bytes, len) == DATAGRAM_WIREGUARD) {
		world_got(p->w, p->self, bytes, len, from != NULL);
		return;
	}
	if (classify_datagram(bytes, len) != DATAGRAM_DISCO)
		return;
	for (unsigned i = 0; i < world_count(p->w); i++) {
		struct node *n = world_node(p->w, i);

		if (memcmp(n->disco, disco_sender(bytes), 32) == 0) {
			assert(from || memcmp(n->key, src, 32) == 0);
			take_disco(p, n, from, bytes, len);
		}
	}
}

void partner_send(struct partner *p, unsigned to, const uint8_t *bytes, size_t len)
{
	struct view *v = &p->view[to];
	struct node *n = world_node(p->w, to);
	uint64_t now_ns = world_now(p->w);

	v->last_send_ns = now_ns;
	if (p->beat_ns == NEVER_NS)
		p->beat_ns = now_ns + 3 * NS_PER_S;
	if (v->has_best)
		world_send_udp(p->w, p->self, &v->best, bytes, len);
	if (v->has_best && now_ns <= v->trust_until_ns)
		return;
	world_send_relay(p->w, p->self, 1, n->key, bytes, len);
	ping_all(p, n, false);
}

bool partner_is_direct(const struct partner *p, unsigned to)
{
	return p->view[to].has_best && world_now(p->w) <= p->view[to].trust_until_ns;
}

uint64_t partner_deadline(const struct partner *p)
{
	return p->beat_ns;
}

void partner_expire(struct partner *p)
{
	uint64_t now_ns = world_now(p->w);
	bool is_active = false;

	for (unsigned i = 0; i < world_count(p->w); i++) {
		struct view *v = &p->view[i];
		struct node *n = world_node(p->w, i);

		if (!v->last_send_ns || now_ns - v->last_send_ns > 45 * NS_PER_S)
			continue;
		is_active = true;
		if (v->has_best && now_ns > v->trust_until_ns + 5 * NS_PER_S)
			v->has_best = false;
		if (v->has_best)
			ping(p, n, spot_of(v, &v->best));
		if (now_ns > v->trust_until_ns)
			ping_all(p, n, false);
	}
	p->beat_ns = is_active ? now_ns + 3 * NS_PER_S : NEVER_NS;
}
