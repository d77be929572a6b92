/* What anybody may send: it is answered within bounds, and gains nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "bench.h"
#include "daemon/path/private.h"
#include "shared/util.h"

#define BIG_CALL 3600 /* endpoints: what fits into a relay's packet */

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
		t->now_ns += NS_PER_MS;
		paths_received_udp(t->paths, &d, 1, t->now_ns);
	}
	t->udp = 0;
	send_some(t, &t->a);
	assert_true(t->udp <= 100);
	/* What the map says stays, and of the others who came last. */
	assert_int_equal(t->a.peer->candidate_count, CANDIDATES_MAX);
	assert_true(t->a.peer->candidates[0].is_in_map);
	for (unsigned i = 1; i < CANDIDATES_MAX; i++)
		assert_in_range(ip_v4(&t->a.peer->candidates[i].endpoint.addr),
				0xc6120000 + 5001 - CANDIDATES_MAX, 0xc6120000 + 4999);
	path_peer_status(t->paths, t->a.peer, t->now_ns, &s);
	assert_false(s.is_direct); /* a ping alone moves nothing */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_ping_is_answered_once_for_each_txid_and_address),
		T(test_an_answer_is_never_longer_than_its_question),
		T(test_a_ping_may_only_claim_a_node_that_has_its_key),
		T(test_a_stolen_public_disco_key_steals_nothing),
		T(test_unknown_zero_and_low_order_keys_are_dropped),
		T(test_floods_of_calls_and_of_endpoints_are_bounded),
		T(test_calls_by_udp_and_to_loopback_are_ignored),
		T(test_pings_from_everywhere_do_not_grow_the_table),
		T(test_relayed_packets_of_strangers_reach_nobody),
		T(test_a_ping_of_a_removed_or_silent_peer_is_answered_with_never),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
