/* The test's end of every callback, and the players' packets. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "shared/util.h"

static void send_udp(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len,
		     size_t segment_len)
{
	struct bench *t = owner;

	(void)segment_len;
	t->udp++;
	t->udp_bytes += len;
	t->last_to = *to;
	memcpy(t->last, bytes, len);
	t->last_len = len;
}

static void send_relay(void *owner, int region, const uint8_t dst[static PATHS_KEY_LEN],
		       const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct bench *t = owner;

	(void)segment_len;
	t->relayed++;
	t->relayed_pings += len == DISCO_BOX_AT + DISCO_TAG_LEN + DISCO_PING_LEN;
	t->last_region = region;
	memcpy(t->last_dst, dst, 32);
	memcpy(t->last, bytes, len);
	t->last_len = len;
}

static void wireguard(void *owner, struct udp_datagram *d, unsigned count)
{
	struct bench *t = owner;

	t->wireguard += count;
	t->wireguard_from = d[0].from;
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	(void)owner;
	(void)host;
	(void)token;
}

static void self_changed(void *owner)
{
	(void)owner;
}

static void home_changed(void *owner, int region)
{
	(void)owner;
	(void)region;
}

static void pong(void *owner, uint32_t ticket, const struct paths_pong *p)
{
	struct bench *t = owner;

	(void)ticket;
	t->pongs++;
	t->pong = *p;
}

static void relay_answered(void *owner, void *peer_user)
{
	struct bench *t = owner;

	t->relay_answered = peer_user;
}

static void netcheck(void *owner, uint32_t ticket, const struct netcheck_report *report)
{
	(void)owner;
	(void)ticket;
	(void)report;
}

void make_player(struct player *p, uint8_t n)
{
	memset(p, 0, sizeof(*p));
	memset(p->key, n, sizeof(p->key));
	randombytes_buf(p->private, sizeof(p->private));
	crypto_scalarmult_base(p->disco, p->private);
}

void add(struct bench *t, struct player *p, const char *endpoint)
{
	struct endpoint ep;
	struct path_peer_config config = { .home_region = 1, .endpoints = &ep, .user = p };

	memcpy(config.node_key, p->key, 32);
	memcpy(config.disco_key, p->disco, 32);
	if (endpoint) {
		assert_int_equal(endpoint_parse(endpoint, &ep), 0);
		config.endpoint_count = 1;
	}
	assert_int_equal(paths_add_peer(t->paths, &config, &p->peer), 0);
}

int set_up(void **state)
{
	const struct paths_callbacks callbacks = { .send_udp = send_udp,
						   .send_relay = send_relay,
						   .wireguard = wireguard,
						   .resolve = resolve,
						   .self_changed = self_changed,
						   .home_changed = home_changed,
						   .relay_answered = relay_answered,
						   .pong = pong,
						   .netcheck = netcheck };
	struct paths_config config = { .node_key = { 9 }, .udp_port = 41641 };
	struct ip_addr local = ip_from_v4(0x0a000001);
	struct bench *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->now_ns = 100 * NS_PER_S;
	t->paths = paths_create(&config, &callbacks, t);
	assert_non_null(t->paths);
	paths_disco_key(t->paths, t->disco);
	paths_set_local(t->paths, &local, 1, t->now_ns);
	make_player(&t->a, 0xaa);
	make_player(&t->b, 0xbb);
	*state = t;
	return 0;
}

int tear_down(void **state)
{
	struct bench *t = *state;

	paths_destroy(t->paths);
	free(t);
	return 0;
}

size_t seal(struct bench *t, const struct player *p, const uint8_t *plain, size_t len,
	    uint8_t *packet)
{
	struct disco_box_key box;
	uint8_t nonce[DISCO_NONCE_LEN];

	randombytes_buf(nonce, sizeof(nonce));
	assert_true(disco_box_key(p->private, t->disco, &box));
	memcpy(packet, "TS\xf0\x9f\x92\xac", 6);
	memcpy(packet + 6, p->disco, 32);
	memcpy(packet + 38, nonce, sizeof(nonce));
	crypto_box_easy_afternm(packet + DISCO_BOX_AT, plain, len, nonce, box.byte);
	return DISCO_BOX_AT + DISCO_TAG_LEN + len;
}

struct endpoint at(const char *text)
{
	struct endpoint ep;

	assert_int_equal(endpoint_parse(text, &ep), 0);
	return ep;
}

void from_udp(struct bench *t, uint8_t *bytes, size_t len, const char *from)
{
	struct udp_datagram d = { bytes, (uint32_t)len, at(from) };

	paths_received_udp(t->paths, &d, 1, t->now_ns);
}

size_t make_ping(struct bench *t, const struct player *sealer, const uint8_t *node_key,
		 uint8_t *packet)
{
	uint8_t txid[DISCO_TXID_LEN], plain[DISCO_PING_LEN];

	randombytes_buf(txid, sizeof(txid));
	return seal(t, sealer, plain, disco_make_ping(txid, node_key, plain), packet);
}

enum disco_type last_type(struct bench *t, const struct player *p, struct disco_message *m)
{
	struct disco_box_key box;
	uint8_t *plain;
	size_t len;

	assert_true(disco_box_key(p->private, t->disco, &box));
	plain = disco_open(&box, t->last, t->last_len, &len);
	assert_non_null(plain);
	assert_int_equal(disco_parse(plain, len, m), 0);
	return m->type;
}

void answer(struct bench *t, const struct player *p, const struct disco_message *ping,
	    const char *from)
{
	struct endpoint ep = at("203.0.113.1:41641");
	uint8_t plain[DISCO_PONG_LEN], packet[DISCO_PACKET_MAX];

	from_udp(t, packet, seal(t, p, plain, disco_make_pong(ping->txid, &ep, plain), packet),
		 from);
}

void answer_by_relay(struct bench *t, const struct player *p, const struct disco_message *ping,
		     int region)
{
	struct endpoint ep = { ip_from_v4(0x7f030328), (uint16_t)region };
	uint8_t plain[DISCO_PONG_LEN], packet[DISCO_PACKET_MAX];
	size_t len = seal(t, p, plain, disco_make_pong(ping->txid, &ep, plain), packet);

	paths_received_relay(t->paths, region, p->key, packet, len, t->now_ns);
}

void run(struct bench *t, uint64_t ns)
{
	for (uint64_t end_ns = t->now_ns + ns; t->now_ns < end_ns;) {
		t->now_ns = MIN(end_ns, MAX(t->now_ns + NS_PER_MS, paths_deadline(t->paths)));
		paths_expire(t->paths, t->now_ns);
	}
}

void send_some(struct bench *t, struct player *p)
{
	uint8_t data[64] = { 4 };

	paths_send(t->paths, p->peer, data, sizeof(data), sizeof(data), t->now_ns);
}
