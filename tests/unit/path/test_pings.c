/* Pings that somebody asked for, and those of the first seconds with a peer. */
#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "bench.h"
#include "shared/util.h"

static void become(struct bench *t, struct player *p, int home, const char *endpoint)
{
	struct endpoint ep;
	struct path_peer_config config = { .home_region = home, .endpoints = &ep, .user = p };

	memcpy(config.node_key, p->key, 32);
	memcpy(config.disco_key, p->disco, 32);
	if (endpoint) {
		ep = at(endpoint);
		config.endpoint_count = 1;
	}
	assert_int_equal(paths_update_peer(t->paths, p->peer, &config, t->now_ns), 0);
}

/* It has joined; the map does not say yet where it is, nor which key it speaks with. */
static void add_unknown(struct bench *t, struct player *p)
{
	struct path_peer_config config = { .user = p };

	memcpy(config.node_key, p->key, 32);
	assert_int_equal(paths_add_peer(t->paths, &config, &p->peer), 0);
}

static void test_a_ping_waits_for_what_the_map_will_say(void **state)
{
	struct bench *t = *state;
	struct disco_message ping;

	add_unknown(t, &t->a);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), 0);
	run(t, 300 * NS_PER_MS);
	assert_int_equal(t->udp + t->relayed, 0);
	become(t, &t->a, 0, "203.0.113.9:1");
	assert_int_equal(t->udp, 1);
	assert_int_equal(last_type(t, &t->a, &ping), DISCO_PING);
	t->now_ns += 20 * NS_PER_MS;
	answer(t, &t->a, &ping, "203.0.113.9:1");
	assert_int_equal(t->pongs, 1);
	assert_true(t->pong.latency_ns == 20 * NS_PER_MS);
}

static void test_a_ping_takes_a_relay_that_becomes_known(void **state)
{
	struct bench *t = *state;
	struct disco_message ping;

	add_unknown(t, &t->a);
	become(t, &t->a, 0, NULL);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), 0);
	run(t, 300 * NS_PER_MS);
	assert_int_equal(t->relayed, 0);
	become(t, &t->a, 3, NULL);
	assert_int_equal(t->relayed, 2); /* a call, too */
	assert_int_equal(last_type(t, &t->a, &ping), DISCO_PING);
	t->now_ns += 30 * NS_PER_MS;
	answer_by_relay(t, &t->a, &ping, 3);
	assert_int_equal(t->pongs, 1);
	assert_int_equal(t->pong.region, 3);
	assert_true(t->pong.latency_ns == 30 * NS_PER_MS);
	assert_ptr_equal(t->relay_answered, &t->a);
}

static void test_a_ping_that_was_lost_is_sent_again(void **state)
{
	struct bench *t = *state;
	struct disco_message first, ping;
	unsigned sent;

	add(t, &t->a, NULL);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), 0);
	assert_int_equal(last_type(t, &t->a, &first), DISCO_PING);
	run(t, 300 * NS_PER_MS);
	assert_int_equal(t->relayed_pings, 2);
	/* An answer that is slower than the next ping counts, too. */
	answer_by_relay(t, &t->a, &first, 1);
	assert_int_equal(t->pongs, 1);
	assert_true(t->pong.latency_ns == 300 * NS_PER_MS);
	/* Heard of, but asked again: each second. */
	assert_int_equal(paths_ping(t->paths, t->a.peer, 2, t->now_ns), 0);
	sent = t->relayed_pings;
	run(t, 3500 * NS_PER_MS);
	assert_int_equal(t->relayed_pings, sent + 3);
	run(t, 550 * NS_PER_MS);
	assert_int_equal(last_type(t, &t->a, &ping), DISCO_PING);
	t->now_ns += NS_PER_MS;
	answer_by_relay(t, &t->a, &ping, 1);
	assert_int_equal(t->pongs, 2);
	sent = t->relayed_pings;
	run(t, 10 * NS_PER_S);
	assert_int_equal(t->relayed_pings, sent);
}

static void test_nobody_waits_longer_than_five_seconds(void **state)
{
	struct bench *t = *state;

	add_unknown(t, &t->a);
	assert_int_equal(paths_ping(t->paths, t->a.peer, 1, t->now_ns), 0);
	run(t, 4900 * NS_PER_MS);
	assert_int_equal(t->pongs, 0);
	run(t, 200 * NS_PER_MS);
	assert_int_equal(t->pongs, 1);
	assert_true(t->pong.latency_ns == NEVER_NS);
	assert_int_equal(t->udp + t->relayed, 0);
}

/* A packet for a peer that may not know us yet: by relay, nothing else would tell when it does. */
static void test_a_peer_that_was_never_heard_is_pinged_by_relay_at_first(void **state)
{
	struct bench *t = *state;
	struct disco_message ping;
	unsigned sent;

	add(t, &t->a, NULL);
	send_some(t, &t->a);
	assert_int_equal(t->relayed_pings, 1);
	assert_int_equal(last_type(t, &t->a, &ping), DISCO_PING);
	run(t, 800 * NS_PER_MS);
	assert_int_equal(t->relayed_pings, 4);
	assert_null(t->relay_answered);
	answer_by_relay(t, &t->a, &ping, 1);
	assert_ptr_equal(t->relay_answered, &t->a);
	run(t, 9 * NS_PER_S);
	assert_int_equal(t->relayed_pings, 4);
	/* Who stays silent is left in peace after some seconds. */
	add(t, &t->b, NULL);
	send_some(t, &t->b);
	run(t, 6 * NS_PER_S);
	assert_in_range(t->relayed_pings, 4 + 8, 4 + 10);
	sent = t->relayed_pings;
	run(t, 60 * NS_PER_S);
	assert_int_equal(t->relayed_pings, sent);
}

/* The answer to its handshake, which comes before any pong to us. */
static void test_a_peer_without_relay_is_answered_where_it_pinged_from(void **state)
{
	struct bench *t = *state;
	struct endpoint from = at("203.0.113.9:5");
	uint8_t packet[DISCO_PACKET_MAX];

	add_unknown(t, &t->a);
	become(t, &t->a, 0, NULL);
	send_some(t, &t->a);
	assert_int_equal(t->udp, 0);
	from_udp(t, packet, make_ping(t, &t->a, t->a.key, packet), "203.0.113.9:5");
	t->udp_bytes = 0;
	t->last_to = (struct endpoint){ 0 };
	send_some(t, &t->a);
	assert_int_equal(t->udp_bytes, 64);
	assert_true(endpoint_equal(&t->last_to, &from));
	t->now_ns += 6 * NS_PER_S;
	t->last_to = (struct endpoint){ 0 };
	t->udp_bytes = 0;
	send_some(t, &t->a);
	assert_true(t->udp_bytes == DISCO_BOX_AT + DISCO_TAG_LEN + DISCO_PING_LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_ping_waits_for_what_the_map_will_say),
		T(test_a_ping_takes_a_relay_that_becomes_known),
		T(test_a_ping_that_was_lost_is_sent_again),
		T(test_nobody_waits_longer_than_five_seconds),
		T(test_a_peer_that_was_never_heard_is_pinged_by_relay_at_first),
		T(test_a_peer_without_relay_is_answered_where_it_pinged_from),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
