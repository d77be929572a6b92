/* Which way a packet takes, and when that changes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "bench.h"
#include "shared/util.h"

static void test_a_peer_without_disco_key_is_spoken_to_by_relay_only(void **state)
{
	struct bench *t = *state;

	memset(t->a.disco, 0, 32);
	add(t, &t->a, "203.0.113.9:1");
	send_some(t, &t->a);
	assert_int_equal(t->relayed, 1);
	assert_memory_equal(t->last_dst, t->a.key, 32);
	assert_int_equal(t->udp, 0);
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
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), -EOPNOTSUPP);
	config.endpoint_count = 0;
	assert_int_equal(paths_update_peer(t->paths, t->a.peer, &config, t->now_ns), 0);
	t->now_ns += 11 * NS_PER_S;
	t->udp = 0;
	send_some(t, &t->a);
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
	paths_relay_state(t->paths, 1, true, t->now_ns);
	paths_send_to(t->paths, &pseudo, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->last_region, 1); /* its home counts for more */
	paths_relay_state(t->paths, 1, false, t->now_ns);
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

static void test_a_peer_whose_home_is_unknown_is_answered_where_it_was_heard(void **state)
{
	struct bench *t = *state;
	struct path_peer_config config = { .home_region = 0 };
	uint8_t data[64] = { 1 };
	struct path_peer *peer;

	memcpy(config.node_key, t->a.key, 32);
	assert_int_equal(paths_add_peer(t->paths, &config, &peer), 0);
	paths_send(t->paths, peer, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->relayed, 0);
	paths_relay_state(t->paths, 5, true, t->now_ns);
	paths_relay_state(t->paths, 6, true, t->now_ns);
	paths_received_relay(t->paths, 5, t->a.key, data, sizeof(data), t->now_ns);
	paths_received_relay(t->paths, 6, t->a.key, data, sizeof(data), t->now_ns);
	paths_peer_gone(t->paths, 5, t->a.key); /* it is not there any more, but elsewhere */
	paths_send(t->paths, peer, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->relayed, 1);
	assert_int_equal(t->last_region, 6);
	paths_relay_state(t->paths, 6, false, t->now_ns);
	paths_send(t->paths, peer, data, sizeof(data), sizeof(data), t->now_ns);
	assert_int_equal(t->relayed, 1);
}

static void test_the_same_node_key_is_added_once(void **state)
{
	struct bench *t = *state;
	struct path_peer_config config = { 0 };
	struct path_peer *peer;

	add(t, &t->a, NULL);
	memcpy(config.node_key, t->a.key, 32);
	assert_int_equal(paths_add_peer(t->paths, &config, &peer), -EEXIST);
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
	const struct CMUnitTest tests[] = {
		T(test_a_peer_without_disco_key_is_spoken_to_by_relay_only),
		T(test_a_wireguard_only_peer_is_sent_to_its_endpoints_in_turn),
		T(test_only_a_pong_to_our_txid_makes_a_path_direct),
		T(test_a_direct_path_is_used_alone_and_then_doubted),
		T(test_an_unreachable_address_is_given_up_at_once),
		T(test_a_changed_disco_key_ends_the_path_and_the_old_key_may_come_back),
		T(test_an_answer_to_a_relayed_datagram_goes_back_by_relay),
		T(test_a_peer_whose_home_is_unknown_is_answered_where_it_was_heard),
		T(test_the_same_node_key_is_added_once),
		T(test_thousands_of_peers_come_and_go),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
