#include "world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/crypto/workers.h"
#include "shared/wire.h"

/* Asks twice: a test may let one allocation fail, and it is not the wire that is tested. */
static void *allocate(size_t len)
{
	void *p = malloc(len);

	if (!p)
		p = malloc(len);
	assert(p);
	return p;
}

static struct endpoint at(uint8_t host, uint16_t port)
{
	return (struct endpoint){ ip_from_v4(0xc0000200u + host), port };
}

static void on_transmit(void *owner, struct wg_peer *peer, const struct endpoint *to,
			const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct node *n = owner;
	struct world *w = n->world;

	n->transmits++;
	assert(len > 0 && segment_len > 0);
	for (size_t off = 0; off < len; off += segment_len) {
		size_t one = MIN(segment_len, len - off);
		struct sent *s = &w->wire[w->wire_count++];
		uint32_t type = load_le32(bytes + off);

		assert(w->wire_count < WIRE_MAX && type <= 4);
		*s = (struct sent){ n->id, peer, n->at, *to, (uint32_t)one, allocate(one) };
		memcpy(s->bytes, bytes + off, one);
		n->sent_type[type]++;
		if (type == WG_TRANSPORT && one == WG_TRANSPORT_MIN)
			n->keepalives++;
	}
}

static void on_receive(void *owner, struct wg_peer *peer, struct packet *packets, unsigned count)
{
	struct node *n = owner;

	assert(peer == n->peer && count > 0);
	n->receives++;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *p = packets[i].data;

		uint32_t header = p[0] >> 4 == 4 ? 20 : 40;

		assert(packets[i].len >= header);
		for (uint32_t k = packets[i].len; n->checks_padding && k % 16; k++)
			assert(p[k] == 0);
		if (n->received < DELIVERED_MAX && packets[i].len >= header + 4)
			n->seq[n->received] = load_be32(p + header);
		n->received++;
	}
	if (n->removes_peer_on_receive) {
		n->peer = NULL;
		wg_device_remove_peer(n->dev, peer);
	}
}

static void on_established(void *owner, struct wg_peer *peer)
{
	struct node *n = owner;

	assert(peer == n->peer);
	n->established++;
	if (n->removes_peer_on_established) {
		n->peer = NULL;
		wg_device_remove_peer(n->dev, peer);
	}
}

static void on_wall_clock(void *owner, uint64_t *seconds, uint32_t *nanoseconds)
{
	struct world *w = ((struct node *)owner)->world;

	*seconds = w->wall_s + (w->wall_is_frozen ? 0 : w->now_ns / NS_PER_S);
	*nanoseconds = w->wall_is_frozen ? w->wall_ns : (uint32_t)(w->now_ns % NS_PER_S);
}

static void start(struct node *n, const struct world_options *o)
{
	static const struct wg_callbacks callbacks = { on_transmit, on_receive, on_established,
						       on_wall_clock };
	struct node *other = &n->world->node[!n->id];
	struct ip_prefix allowed[] = {
		{ ip_from_v4(other->inner), 32 },
		{ { { 0xfd, [15] = (uint8_t)(other->id + 1) } }, 128 },
	};
	struct wg_peer_config config = {
		.allowed = allowed,
		.allowed_count = ARRAY_LEN(allowed),
		.has_endpoint = !(n->id == 1 && o->no_endpoint_1),
		.keepalive_s = n->id == 0 ? o->keepalive_s : 0,
		.user = n,
	};
	int err;

	if (config.has_endpoint)
		config.endpoint = other->at;
	n->dev = wg_device_create(n->private_key, MTU, o->is_roaming, &callbacks, n);
	assert(n->dev);
	if (n->world->workers)
		wg_device_set_workers(n->dev, n->world->workers, o->workers);
	memcpy(config.public_key, other->public_key, WG_KEY_LEN);
	if (o->has_psk)
		memset(config.preshared_key, 0x5a, WG_KEY_LEN);
	err = wg_device_add_peer(n->dev, &config, &n->peer);
	assert(!err);
}

struct world *world_create(const struct world_options *options)
{
	struct world *w = calloc(1, sizeof(*w));
	int rc = sodium_init();

	assert(w && rc >= 0);
	w->now_ns = 1000 * NS_PER_S;
	w->wall_s = 1700000000;
	if (options->workers > 1) {
		w->workers = workers_create(options->workers);
		assert(w->workers);
	}
	for (int i = 0; i < 2; i++) {
		struct node *n = &w->node[i];

		n->world = w;
		n->id = i;
		n->at = at((uint8_t)(i + 1), 51820);
		n->inner = 0x64400001u + (unsigned)i;
		n->batch.mtu = MTU;
		randombytes_buf(n->private_key, WG_KEY_LEN);
		crypto_scalarmult_base(n->public_key, n->private_key);
	}
	start(&w->node[0], options);
	start(&w->node[1], options);
	return w;
}

void world_destroy(struct world *w)
{
	world_drop_all(w);
	wg_device_destroy(w->node[0].dev);
	wg_device_destroy(w->node[1].dev);
	workers_destroy(w->workers);
	free(w);
}

void world_restart(struct world *w, int i, const struct world_options *options)
{
	wg_device_destroy(w->node[i].dev);
	start(&w->node[i], options);
}

static void lay(struct node *n, uint32_t source, uint32_t destination, uint32_t seq, uint32_t len)
{
	uint8_t *p = batch_reserve(&n->batch, len);

	if (!p) {
		wg_device_send(n->dev, &n->batch, n->world->now_ns);
		batch_reset(&n->batch);
		p = batch_reserve(&n->batch, len);
	}
	if (!p)
		abort();
	memset(p, 0, len);
	p[0] = 0x45;
	store_be16(p + 2, (uint16_t)len);
	store_be32(p + 12, source);
	store_be32(p + 16, destination);
	store_be32(p + 20, seq);
	batch_commit(&n->batch, len);
}

static void flush(struct node *n)
{
	wg_device_send(n->dev, &n->batch, n->world->now_ns);
	batch_reset(&n->batch);
}

void world_send(struct world *w, int i, uint32_t seq, unsigned count, uint32_t len)
{
	struct node *n = &w->node[i];

	for (unsigned k = 0; k < count; k++)
		lay(n, n->inner, w->node[!i].inner, seq + k, len);
	flush(n);
}

void world_send_from_to(struct world *w, int i, uint32_t source, uint32_t destination, uint32_t seq)
{
	lay(&w->node[i], source, destination, seq, 64);
	flush(&w->node[i]);
}

void world_drop_all(struct world *w)
{
	for (unsigned i = 0; i < w->wire_count; i++)
		free(w->wire[i].bytes);
	w->wire_count = 0;
}

bool world_deliver(struct world *w)
{
	struct sent *moving = allocate(sizeof(w->wire));
	struct wg_datagram d[WIRE_MAX];
	unsigned count = w->wire_count;

	memcpy(moving, w->wire, count * sizeof(*moving));
	w->wire_count = 0;
	for (int to = 0; to < 2; to++) {
		unsigned n = 0;

		for (unsigned i = 0; i < count; i++)
			if (moving[i].sender != to &&
			    endpoint_equal(&moving[i].to, &w->node[to].at))
				d[n++] = (struct wg_datagram){ moving[i].bytes, moving[i].len,
							       moving[i].from };
		if (n)
			wg_device_receive(w->node[to].dev, d, n, w->now_ns);
	}
	for (unsigned i = 0; i < count; i++)
		free(moving[i].bytes);
	free(moving);
	return count > 0;
}

void world_settle(struct world *w)
{
	while (world_deliver(w))
		;
}

void world_inject(struct world *w, int i, const void *bytes, uint32_t len,
		  const struct endpoint *from)
{
	uint8_t *copy = allocate(len ? len : 1);
	struct wg_datagram d = { copy, len, *from };

	memcpy(copy, bytes, len);
	wg_device_receive(w->node[i].dev, &d, 1, w->now_ns);
	free(copy);
}

uint32_t world_peek(struct world *w, int sender, uint32_t type, uint8_t copy[static 2048])
{
	for (unsigned i = 0; i < w->wire_count; i++) {
		struct sent *s = &w->wire[i];

		if (s->sender == sender && load_le32(s->bytes) == type) {
			memcpy(copy, s->bytes, s->len);
			return s->len;
		}
	}
	return 0;
}

static void pass(struct world *w, uint64_t ns, bool deliver)
{
	uint64_t end_ns = w->now_ns + ns;

	for (;;) {
		uint64_t a = wg_device_deadline(w->node[0].dev);
		uint64_t b = wg_device_deadline(w->node[1].dev);
		uint64_t next = MAX(MIN(a, b), w->now_ns);

		if (next > end_ns)
			break;
		w->now_ns = next;
		wg_device_expire(w->node[0].dev, next);
		wg_device_expire(w->node[1].dev, next);
		if (deliver)
			world_settle(w);
	}
	w->now_ns = end_ns;
}

void world_pass(struct world *w, uint64_t ns)
{
	pass(w, ns, false);
}

void world_run(struct world *w, uint64_t ns)
{
	pass(w, ns, true);
}

void world_exchange(struct world *w, int i)
{
	unsigned before = w->node[!i].received;

	world_send(w, i, 1, 1, 100);
	world_settle(w);
	assert(w->node[!i].received == before + 1);
}

void world_check_indices(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		const struct wg_peer *p = w->node[i].peer;
		const void *owners[] = { p->keypairs.previous, p->keypairs.current,
					 p->keypairs.next };
		uint32_t want = p->handshake.local_index != 0;

		for (unsigned k = 0; k < ARRAY_LEN(owners); k++)
			want += owners[k] != NULL;
		assert(w->node[i].dev->indices.count == want);
	}
}

void world_connect(struct world *w)
{
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_settle(w);
	assert(w->node[0].established == 1 && w->node[1].established == 1);
}
