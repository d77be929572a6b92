#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/path/disco.h"
#include "daemon/path/paths.h"
#include "shared/util.h"

#define BIG_CALL 3600 /* endpoints: what fits into a relay's packet */

/* One node of ours, and peers played by the test. */
struct player {
	uint8_t key[32], private[32], disco[32];
	struct path_peer *peer;
};

struct bench {
	struct paths *paths;
	uint8_t disco[32];
	uint64_t now_ns;
	struct player a, b;
	unsigned udp, relayed, wireguard, pongs;
	int last_region;
	uint8_t last_dst[32];
	struct endpoint last_to, wireguard_from;
	uint8_t last[2048];
	size_t last_len;
	struct paths_pong pong;
	uint64_t udp_bytes;
};

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

static void netcheck(void *owner, uint32_t ticket, const struct netcheck_report *report)
{
	(void)owner;
	(void)ticket;
	(void)report;
}

static void make_player(struct player *p, uint8_t n)
{
	memset(p, 0, sizeof(*p));
	memset(p->key, n, sizeof(p->key));
	randombytes_buf(p->private, sizeof(p->private));
	crypto_scalarmult_base(p->disco, p->private);
}

static void add(struct bench *t, struct player *p, const char *endpoint)
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

static int set_up(void **state)
{
	const struct paths_callbacks callbacks = { .send_udp = send_udp,
						   .send_relay = send_relay,
						   .wireguard = wireguard,
						   .resolve = resolve,
						   .self_changed = self_changed,
						   .home_changed = home_changed,
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

static int tear_down(void **state)
{
	struct bench *t = *state;

	paths_destroy(t->paths);
	free(t);
	return 0;
}

static size_t seal(struct bench *t, const struct player *p, const uint8_t *plain, size_t len,
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

static struct endpoint at(const char *text)
{
	struct endpoint ep;

	assert_int_equal(endpoint_parse(text, &ep), 0);
	return ep;
}

static void from_udp(struct bench *t, uint8_t *bytes, size_t len, const char *from)
{
	struct udp_datagram d = { bytes, (uint32_t)len, at(from) };

	paths_received_udp(t->paths, &d, 1, t->now_ns);
}

static size_t make_ping(struct bench *t, const struct player *sealer, const uint8_t *node_key,
			uint8_t *packet)
{
	uint8_t txid[DISCO_TXID_LEN], plain[DISCO_PING_LEN];

	randombytes_buf(txid, sizeof(txid));
	return seal(t, sealer, plain, disco_make_ping(txid, node_key, plain), packet);
}

/* Opens the last datagram that was sent, as the player would. */
static enum disco_type last_type(struct bench *t, const struct player *p, struct disco_message *m)
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

static void answer(struct bench *t, const struct player *p, const struct disco_message *ping,
		   const char *from)
{
	struct endpoint ep = at("203.0.113.1:41641");
	uint8_t plain[DISCO_PONG_LEN], packet[DISCO_PACKET_MAX];

	from_udp(t, packet, seal(t, p, plain, disco_make_pong(ping->txid, &ep, plain), packet),
		 from);
}

static void send_some(struct bench *t, struct player *p)
{
	uint8_t data[64] = { 4 };

	paths_send(t->paths, p->peer, data, sizeof(data), sizeof(data), t->now_ns);
}

/* ---- ---- */

static void test_a_ping_is_answered_once_for_each_txid_and_address(void **state)
{
	struct bench *t = *state;
	uint8_t packet[DISCO_PACKET_MAX], copy[DISCO_PACKET_MAX];
	struct disco_message m;
	size_t len;

	add(t, &t->a, NULL);
	len = make_ping(t, &t->a, t->a.key, packet);
	memcpy(copy, packet, len);
	from_udp(t, packet, len, "203.0.113.7:1");
	assert_int_equal(t->udp, 1);
	assert_int_equal(last_type(t, &t->a, &m), DISCO_PONG);
	assert_true(endpoint_equal(&m.src, &t->last_to));
	memcpy(packet, copy, len);
	from_udp(t, packet, len, "203.0.113.7:1");
	assert_int_equal(t->udp, 1);
	memcpy(packet, copy, len);
	from_udp(t, packet, len, "203.0.113.7:2");
	assert_int_equal(t->udp, 2);
}

static void test_an_answer_is_never_longer_than_its_question(void **state)
{
	struct bench *t = *state;
	uint8_t packet[DISCO_PACKET_MAX];
	size_t len;

	add(t, &t->a, NULL);
	len = make_ping(t, &t->a, t->a.key, packet);
	from_udp(t, packet, len, "203.0.113.7:1");
	assert_true(t->udp_bytes <= len);
}

static void test_a_ping_may_only_claim_a_node_that_has_its_key(void **state)
{
	struct bench *t = *state;
	uint8_t packet[DISCO_PACKET_MAX];

	add(t, &t->a, NULL);
	add(t, &t->b, NULL);
	from_udp(t, packet, make_ping(t, &t->b, t->a.key, packet), "203.0.113.7:1");
	assert_int_equal(t->udp, 0);
	/* Nor may the relay's sender differ from the key's owner. */
	paths_received_relay(t->paths, 1, t->a.key, packet, make_ping(t, &t->b, t->b.key, packet),
			     t->now_ns);
	assert_int_equal(t->relayed, 0);
}

static void test_a_stolen_public_disco_key_steals_nothing(void **state)
{
	struct bench *t = *state;
	uint8_t packet[DISCO_PACKET_MAX];
	static const uint8_t none[32];
	struct disco_message m;

	add(t, &t->a, NULL);
	memcpy(t->b.disco, t->a.disco, 32); /* registered by b, which cannot seal with it */
	add(t, &t->b, NULL);
	/* Without a node key nobody can say who of them it was. */
	from_udp(t, packet, make_ping(t, &t->a, none, packet), "203.0.113.7:1");
	assert_int_equal(t->udp, 0);
	from_udp(t, packet, make_ping(t, &t->a, t->a.key, packet), "203.0.113.7:1");
	assert_int_equal(t->udp, 1);
	assert_int_equal(last_type(t, &t->a, &m), DISCO_PONG);
}

static void test_unknown_zero_and_low_order_keys_are_dropped(void **state)
{
	struct bench *t = *state;
	uint8_t packet[DISCO_PACKET_MAX];
	struct player weak;
	struct paths_stats stats;

	make_player(&weak, 0xcc);
	memset(weak.disco, 0, 32);
	weak.disco[0] = 1; /* of low order */
	add(t, &weak, "203.0.113.9:1");
	send_some(t, &weak);
	assert_int_equal(t->relayed, 1);
	assert_int_equal(t->udp, 0);
	from_udp(t, packet, make_ping(t, &t->a, t->a.key, packet), "203.0.113.7:1");
	memset(packet + 6, 0, 32);
	from_udp(t, packet, 124, "203.0.113.7:1");
	from_udp(t, packet, 40, "203.0.113.7:1");
	assert_int_equal(t->udp, 0);
	paths_get_stats(t->paths, &stats);
	assert_int_equal(stats.disco_dropped, 3);
}

static void test_a_peer_without_disco_key_is_spoken_to_by_relay_only(void **state)
{
	struct bench *t = *state;

	memset(t->a.disco, 0, 32);
	add(t, &t->a, "203.0.113.9:1");
	send_some(t, &t->a);
	assert_int_equal(t->relayed, 1);
	assert_memory_equal(t->last_dst, t->a.key, 32);
	assert_int_equal(t->udp, 0);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), -EHOSTUNREACH);
}

static void test_a_wireguard_only_peer_is_sent_to_its_endpoints_in_turn(void **state)
{
	struct bench *t = *state;
	struct endpoint eps[2] = { at("203.0.113.9:1"), at("203.0.113.9:2") };
	struct path_peer_config config = { .endpoints = eps,
					   .endpoint_count = 2,
					   .is_wireguard_only = true };
	uint8_t data[32] = { 4 };

	memcpy(config.node_key, t->a.key, 32);
	assert_int_equal(paths_add_peer(t->paths, &config, &t->a.peer), 0);
	send_some(t, &t->a);
	assert_true(endpoint_equal(&t->last_to, &eps[0]));
	t->now_ns += 11 * NS_PER_S;
	send_some(t, &t->a);
	assert_true(endpoint_equal(&t->last_to, &eps[1]));
	t->now_ns += 9 * NS_PER_S;
	from_udp(t, data, sizeof(data), "203.0.113.9:2");
	t->now_ns += 2 * NS_PER_S;
	send_some(t, &t->a);
	assert_true(endpoint_equal(&t->last_to, &eps[1]));
	assert_int_equal(t->relayed, 0);
	config.endpoint_count = 0;
	assert_int_equal(paths_update_peer(t->paths, t->a.peer, &config, t->now_ns), 0);
	t->now_ns += 11 * NS_PER_S;
	t->udp = 0;
	send_some(t, &t->a);
}

static void call(struct bench *t, const struct player *p, unsigned count)
{
	uint8_t *plain = malloc(2 + BIG_CALL * 18), *packet = malloc(80 + BIG_CALL * 18);

	assert_true(plain && packet && count <= BIG_CALL);
	plain[0] = DISCO_CALL_ME_MAYBE;
	plain[1] = 0;
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = plain + 2 + 18 * i;

		memset(at, 0, 18);
		at[10] = at[11] = 0xff;
		at[12] = 198;
		at[13] = (uint8_t)randombytes_uniform(256);
		at[14] = (uint8_t)(i >> 8);
		at[15] = (uint8_t)i;
		at[17] = 7;
	}
	paths_received_relay(t->paths, 1, p->key, packet, seal(t, p, plain, 2 + count * 18, packet),
			     t->now_ns);
	free(plain);
	free(packet);
}

static void test_floods_of_calls_and_of_endpoints_are_bounded(void **state)
{
	struct bench *t = *state;
	struct paths_stats stats;

	add(t, &t->a, NULL);
	call(t, &t->a, BIG_CALL);
	assert_true(t->udp > 0 && t->udp <= 100);
	for (unsigned i = 0; i < 1000; i++)
		call(t, &t->a, BIG_CALL);
	assert_true(t->udp <= 500);
	paths_get_stats(t->paths, &stats);
	assert_true(stats.callme_limited >= 990);
	t->udp = 0;
	t->now_ns += 10 * NS_PER_S;
	call(t, &t->a, 3);
	assert_true(t->udp >= 3);
	assert_int_equal(t->relayed, 0); /* a call is not answered with a call */
}

static void test_calls_by_udp_and_to_loopback_are_ignored(void **state)
{
	struct bench *t = *state;
	struct endpoint eps[3] = { at("127.0.0.1:22"), at("[::1]:22"), at("[fe80::1]:22") };
	uint8_t plain[DISCO_PLAIN_MAX], packet[DISCO_PACKET_MAX];
	size_t len;

	add(t, &t->a, NULL);
	len = seal(t, &t->a, plain, disco_make_call_me_maybe(eps, 3, plain), packet);
	paths_received_relay(t->paths, 1, t->a.key, packet, len, t->now_ns);
	assert_int_equal(t->udp, 0);
	eps[0] = at("203.0.113.9:1");
	len = seal(t, &t->a, plain, disco_make_call_me_maybe(eps, 1, plain), packet);
	from_udp(t, packet, len, "203.0.113.9:1");
	assert_int_equal(t->udp, 0);
}

static void test_pings_from_everywhere_do_not_grow_the_table(void **state)
{
	struct bench *t = *state;
	struct path_peer_status s;
	uint8_t packet[DISCO_PACKET_MAX];

	add(t, &t->a, "203.0.113.9:1");
	for (unsigned i = 0; i < 5000; i++) {
		struct udp_datagram d = { packet,
					  0,
					  { ip_from_v4(0xc6120000 + i), (uint16_t)(i + 1) } };

		d.len = (uint32_t)make_ping(t, &t->a, t->a.key, packet);
		paths_received_udp(t->paths, &d, 1, t->now_ns);
	}
	t->udp = 0;
	send_some(t, &t->a);
	assert_true(t->udp <= 100);
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct); /* a ping alone moves nothing */
}

static void test_only_a_pong_to_our_txid_makes_a_path_direct(void **state)
{
	struct bench *t = *state;
	struct disco_message forged;
	struct path_peer_status s;

	add(t, &t->a, "203.0.113.9:1");
	add(t, &t->b, NULL);
	send_some(t, &t->a);
	assert_int_equal(t->udp, 1);
	/* The call went last, by relay; ask again for the ping. */
	t->now_ns += 6 * NS_PER_S;
	paths_relay_state(t->paths, 1, true, t->now_ns);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 7, t->now_ns), 0);
	memset(&forged, 0, sizeof(forged));
	answer(t, &t->a, &forged, "203.0.113.9:1");
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct);
	assert_int_equal(t->pongs, 0);
}

/* Pings the peer's only endpoint and answers. */
static void make_direct(struct bench *t, struct player *p, const char *endpoint)
{
	struct path_peer_config config = { .user = p };
	struct disco_message ping;
	struct endpoint ep = at(endpoint);

	/* Without a relay the ping is the last that is sent. */
	memcpy(config.node_key, p->key, 32);
	memcpy(config.disco_key, p->disco, 32);
	config.endpoints = &ep;
	config.endpoint_count = 1;
	assert_int_equal(paths_add_peer(t->paths, &config, &p->peer), 0);
	send_some(t, p);
	assert_int_equal(last_type(t, p, &ping), DISCO_PING);
	t->now_ns += 10 * NS_PER_MS;
	answer(t, p, &ping, endpoint);
}

static void test_a_direct_path_is_used_alone_and_then_doubted(void **state)
{
	struct bench *t = *state;
	struct path_peer_status s;

	make_direct(t, &t->a, "203.0.113.9:1");
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_true(s.is_direct && s.is_active);
	assert_int_equal(s.latency_ns, 10 * NS_PER_MS);
	t->udp = 0;
	send_some(t, &t->a);
	assert_int_equal(t->udp, 1);
	/* Heartbeats that nobody answers. */
	for (unsigned i = 0; i < 40; i++) {
		t->now_ns += 100 * NS_PER_MS;
		if (paths_deadline(t->paths) <= t->now_ns)
			paths_expire(t->paths, t->now_ns);
	}
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct);
}

static void test_an_unreachable_address_is_given_up_at_once(void **state)
{
	struct bench *t = *state;
	struct path_peer_status s;
	struct endpoint ep = at("203.0.113.9:1");

	make_direct(t, &t->a, "203.0.113.9:1");
	paths_unreachable(t->paths, &ep, t->now_ns);
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct);
}

static void test_a_changed_disco_key_ends_the_path_and_the_old_key_may_come_back(void **state)
{
	struct bench *t = *state;
	struct path_peer_status s;
	struct player next;
	uint8_t packet[DISCO_PACKET_MAX], zero[32] = { 0 };
	struct disco_message m;

	make_player(&next, 0xaa);
	make_direct(t, &t->a, "203.0.113.9:1");
	assert_int_equal(paths_peer_said_disco_key(t->paths, t->a.peer, zero, t->now_ns), -EINVAL);
	assert_int_equal(paths_peer_said_disco_key(t->paths, t->a.peer, next.disco, t->now_ns), 0);
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct);
	from_udp(t, packet, make_ping(t, &next, next.key, packet), "203.0.113.9:2");
	assert_true(t->udp > 0);
	t->now_ns += 6 * NS_PER_S;
	t->udp = 0;
	from_udp(t, packet, make_ping(t, &t->a, t->a.key, packet), "203.0.113.9:1");
	assert_int_equal(t->udp, 1);
	assert_int_equal(last_type(t, &t->a, &m), DISCO_PONG);
}

static void test_an_answer_to_a_relayed_datagram_goes_back_by_relay(void **state)
{
	struct bench *t = *state;
	uint8_t data[64] = { 1 };
	struct endpoint pseudo;

	add(t, &t->a, NULL);
	paths_received_relay(t->paths, 5, t->a.key, data, sizeof(data), t->now_ns);
	assert_int_equal(t->wireguard, 1);
	pseudo = t->wireguard_from;
	assert_int_equal(pseudo.addr.byte[0], 1);
	paths_send_to(t->paths, &pseudo, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->relayed, 1);
	assert_memory_equal(t->last_dst, t->a.key, 32);
	assert_int_equal(t->last_region, 1);
	/* Its home is not connected, and it was heard where there is a connection. */
	paths_relay_state(t->paths, 5, true, t->now_ns);
	paths_send_to(t->paths, &pseudo, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->last_region, 5);
	paths_peer_gone(t->paths, 5, t->a.key);
	paths_send_to(t->paths, &pseudo, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->last_region, 1);
	paths_remove_peer(t->paths, t->a.peer);
	add(t, &t->b, NULL); /* in the same slot */
	t->relayed = 0;
	paths_send_to(t->paths, &pseudo, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->relayed, 0);
	assert_int_equal(t->udp, 0);
}

static void test_relayed_packets_of_strangers_reach_nobody(void **state)
{
	struct bench *t = *state;
	uint8_t data[64] = { 1 };

	paths_received_relay(t->paths, 1, t->a.key, data, sizeof(data), t->now_ns);
	assert_int_equal(t->wireguard, 0);
}

static void test_a_ping_of_a_removed_or_silent_peer_is_answered_with_never(void **state)
{
	struct bench *t = *state;

	add(t, &t->a, "203.0.113.9:1");
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), 0);
	t->now_ns += 5 * NS_PER_S;
	paths_expire(t->paths, t->now_ns);
	assert_int_equal(t->pongs, 1);
	assert_true(t->pong.latency_ns == NEVER_NS);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(paths_ping(t->paths, t->a.peer, i, t->now_ns), 0);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 99, t->now_ns), -EAGAIN);
	paths_remove_peer(t->paths, t->a.peer);
	assert_int_equal(t->pongs, 65);
	assert_int_equal(paths_netcheck(t->paths, 1, t->now_ns), -ENOENT);
}

static void test_the_same_node_key_is_added_once(void **state)
{
	struct bench *t = *state;
	struct path_peer_config config = { 0 };
	struct path_peer *peer;

	add(t, &t->a, NULL);
	memcpy(config.node_key, t->a.key, 32);
	assert_int_equal(paths_add_peer(t->paths, &config, &peer), -EEXIST);
	assert_ptr_equal(path_peer_user(t->a.peer), &t->a);
}

static void test_thousands_of_peers_come_and_go(void **state)
{
	struct bench *t = *state;
	struct path_peer **peers = calloc(5000, sizeof(struct path_peer *));
	struct path_peer_config config = { .home_region = 1 };

	assert_non_null(peers);
	for (unsigned i = 0; i < 5000; i++) {
		memcpy(config.node_key, &i, sizeof(i));
		memset(config.disco_key, 7, 32);
		memcpy(config.disco_key, &i, sizeof(i));
		assert_int_equal(paths_add_peer(t->paths, &config, &peers[i]), 0);
	}
	for (unsigned i = 0; i < 5000; i++)
		paths_send(t->paths, peers[i], config.node_key, 32, 32, t->now_ns);
	for (unsigned i = 0; i < 1000; i++) {
		t->now_ns = MAX(t->now_ns, paths_deadline(t->paths));
		paths_expire(t->paths, t->now_ns);
	}
	for (unsigned i = 0; i < 5000; i += 2)
		paths_remove_peer(t->paths, peers[i]);
	free(peers);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_a_ping_is_answered_once_for_each_txid_and_address),
		T(test_an_answer_is_never_longer_than_its_question),
		T(test_a_ping_may_only_claim_a_node_that_has_its_key),
		T(test_a_stolen_public_disco_key_steals_nothing),
		T(test_unknown_zero_and_low_order_keys_are_dropped),
		T(test_a_peer_without_disco_key_is_spoken_to_by_relay_only),
		T(test_a_wireguard_only_peer_is_sent_to_its_endpoints_in_turn),
		T(test_floods_of_calls_and_of_endpoints_are_bounded),
		T(test_calls_by_udp_and_to_loopback_are_ignored),
		T(test_pings_from_everywhere_do_not_grow_the_table),
		T(test_only_a_pong_to_our_txid_makes_a_path_direct),
		T(test_a_direct_path_is_used_alone_and_then_doubted),
		T(test_an_unreachable_address_is_given_up_at_once),
		T(test_a_changed_disco_key_ends_the_path_and_the_old_key_may_come_back),
		T(test_an_answer_to_a_relayed_datagram_goes_back_by_relay),
		T(test_relayed_packets_of_strangers_reach_nobody),
		T(test_a_ping_of_a_removed_or_silent_peer_is_answered_with_never),
		T(test_the_same_node_key_is_added_once),
		T(test_thousands_of_peers_come_and_go),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
