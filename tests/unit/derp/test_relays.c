/* The set of relays: which connections there are, where packets go, what waits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>
#include <sodium.h>

#include "daemon/derp/client.h"
#include "daemon/derp/relays.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "shared/log.h"
#include "tests/unit/derp/mock_stream.h"

static struct world {
	struct loop *loop;
	struct relays *relays;
	struct derp_node node[2];
	struct derp_region region[2];
	struct derp_map map;
	struct private_key own, relay;
	struct public_key own_public, relay_public;
	unsigned packets, ups, downs;
	int region_seen, blocked_calls;
	bool is_blocked, destroys;
	char sentence[256];
} w;

static void received(void *owner, int region, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	(void)owner;
	(void)from;
	(void)packets;
	w.region_seen = region;
	w.packets += count;
	if (w.destroys) {
		relays_destroy(w.relays);
		w.relays = NULL;
	}
}

static void blocked(void *owner, bool is_blocked)
{
	(void)owner;
	assert_int_not_equal(w.is_blocked, is_blocked);
	w.is_blocked = is_blocked;
	w.blocked_calls++;
}

static void state_told(void *owner, int region, bool is_up, const char *sentence)
{
	(void)owner;
	(void)region;
	if (is_up)
		w.ups++;
	else
		w.downs++;
	snprintf(w.sentence, sizeof(w.sentence), "%s", sentence);
}

/* Everything that is due now. */
static void turn(void)
{
	for (unsigned i = 0; i < 4; i++) {
		event_base_loop(loop_base(w.loop), EVLOOP_NONBLOCK);
		loop_stop(w.loop);
		loop_run(w.loop);
	}
}

static void ticked(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	(void)arg;
}

static int set_up(void **state)
{
	static const struct relays_callbacks callbacks = { received, blocked, NULL, state_told };
	const struct derp_node node = { .name = "1a",
					.host_name = "one.test",
					.cert_name = "",
					.ipv4 = "192.0.2.1",
					.ipv6 = "none",
					.stun_test_ip = "",
					.derp_port = 443 };

	(void)state;
	log_set_level(LOG_ERR);
	memset(&w, 0, sizeof(w));
	mock_reset();
	private_key_generate(&w.own);
	private_key_generate(&w.relay);
	private_key_public(&w.own, &w.own_public);
	private_key_public(&w.relay, &w.relay_public);
	mock.has_relay_key = true;
	memcpy(mock.relay_key, w.relay_public.byte, KEY_LEN);
	w.node[0] = w.node[1] = node;
	w.node[1].host_name = "two.test";
	for (unsigned i = 0; i < 2; i++)
		w.region[i] = (struct derp_region){ .id = (int)i + 1,
						    .code = "",
						    .name = "",
						    .nodes = &w.node[i],
						    .node_count = 1 };
	w.map = (struct derp_map){ w.region, 2 };
	w.loop = loop_create(NULL);
	w.relays = relays_create(w.loop, NULL, &w.own, &callbacks, NULL);
	assert_non_null(w.relays);
	assert_int_equal(relays_set_map(w.relays, &w.map), 0);
	turn();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	relays_destroy(w.relays);
	loop_destroy(w.loop);
	return 0;
}

static void log_in(void)
{
	static const char json[] = "{}";
	uint8_t frame[128];

	mock_connected();
	derp_put_header(frame, DERP_SERVER_INFO, DERP_NONCE + DERP_TAG + 2);
	randombytes_buf(frame + DERP_HEADER, DERP_NONCE);
	assert_int_equal(crypto_box_easy(frame + DERP_HEADER + DERP_NONCE, (const uint8_t *)json, 2,
					 frame + DERP_HEADER, w.own_public.byte, w.relay.byte),
			 0);
	mock_received(frame, DERP_HEADER + DERP_NONCE + DERP_TAG + 2);
}

static void hear(uint8_t from)
{
	uint8_t frame[DERP_HEADER + KEY_LEN + 3];

	derp_put_header(frame, DERP_RECV_PACKET, KEY_LEN + 3);
	memset(frame + DERP_HEADER, from, KEY_LEN + 3);
	mock_received(frame, sizeof(frame));
}

static struct public_key peer(uint8_t byte)
{
	struct public_key key;

	memset(key.byte, byte, KEY_LEN);
	return key;
}

static void test_only_the_home_is_connected_unasked(void **state)
{
	struct relays_status status;

	(void)state;
	assert_int_equal(mock.opened, 0);
	relays_set_home(w.relays, 2);
	turn();
	assert_int_equal(mock.opened, 1);
	assert_string_equal(mock.options.host, "two.test");
	log_in();
	assert_int_equal(w.ups, 1);
	assert_true(relays_status(w.relays, 0, &status));
	assert_int_equal(status.region, 2);
	assert_true(status.is_home && status.is_connected);
	assert_string_equal(status.node, "1a");
	assert_false(relays_status(w.relays, 1, &status));
}

static void test_what_is_sent_first_waits_for_the_login(void **state)
{
	struct public_key to = peer(7);
	struct relays_status status;
	uint8_t bytes[40 * 10] = { 0 };

	(void)state;
	assert_int_equal(relays_send(w.relays, 9, &to, bytes, 10, 10, false), -ENOENT);
	assert_int_equal(relays_send(w.relays, 1, &to, bytes, 0, 10, false), -EMSGSIZE);
	/* 40 datagrams: the oldest 8 are gone. */
	assert_int_equal(relays_send(w.relays, 1, &to, bytes, sizeof(bytes), 10, false), 0);
	turn();
	assert_int_equal(mock.opened, 1);
	mock_connected();
	mock.out_len = 0;
	log_in();
	relays_status(w.relays, 0, &status);
	assert_int_equal(status.tx_packets, 32);
	assert_int_equal(status.tx_dropped, 8);
	assert_non_null(memmem(mock.out, mock.out_len, to.byte, KEY_LEN));
}

static void test_the_region_that_brought_something_is_told_and_so_is_its_end(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	hear(7);
	assert_int_equal(w.region_seen, 1);
	mock_closed("gone");
	turn();
	assert_int_equal(w.downs, 1);
}

static void test_a_lost_connection_is_made_anew_after_a_pause(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock_closed("the relay fell over");
	assert_string_equal(w.sentence, "the relay fell over");
	assert_null(mock.stream);
	/* The first pause is 5 to 15 ms. */
	for (unsigned i = 0; i < 20 && !mock.stream; i++) {
		event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
		turn();
	}
	assert_int_equal(mock.opened, 2);
	log_in();
	assert_int_equal(w.ups, 2);
}

static void test_a_relay_that_always_hangs_up_is_asked_more_and_more_seldom(void **state)
{
	const struct timeval tick = { 0, 5000 };
	struct event *ticking = event_new(loop_base(w.loop), -1, EV_PERSIST, ticked, NULL);
	unsigned logins = 0;
	uint64_t start_ns, lasted_ns = 0;

	(void)state;
	event_add(ticking, &tick);
	relays_set_home(w.relays, 1);
	turn();
	/* Where others have the processor for long there is little time for the second one. */
	for (start_ns = loop_now(w.loop);
	     lasted_ns < 500 * NS_PER_MS || (logins < 2 && lasted_ns < 20 * NS_PER_S);
	     lasted_ns = loop_now(w.loop) - start_ns) {
		turn();
		event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
		if (!mock.stream)
			continue;
		log_in();
		logins++;
		mock_closed("hung up");
	}
	event_free(ticking);
	/* Pauses of 10, 40, 90, 160, 250 ms, half as long at the least. */
	assert_in_range(logins, 2, 9);
	assert_int_equal(w.ups, logins);
}

static void test_a_region_that_leaves_the_map_is_told_to_be_down(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	w.map.region_count = 0;
	assert_int_equal(relays_set_map(w.relays, &w.map), 0);
	assert_int_equal(w.downs, 1);
	turn();
	assert_int_equal(w.downs, 1);
}

static void test_a_changed_region_is_connected_anew_and_an_unchanged_one_is_not(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	w.node[1].host_name = "other.test";
	assert_int_equal(relays_set_map(w.relays, &w.map), 0);
	turn();
	assert_int_equal(mock.opened, 1);
	w.node[0].host_name = "moved.test";
	assert_int_equal(relays_set_map(w.relays, &w.map), 0);
	turn();
	assert_int_equal(mock.opened, 2);
	assert_string_equal(mock.options.host, "moved.test");
	assert_int_equal(w.downs, 1);
	w.map.region_count = 0;
	assert_int_equal(relays_set_map(w.relays, &w.map), 0);
	turn();
	assert_null(mock.stream);
}

static void test_a_full_queue_blocks_until_it_drains(void **state)
{
	static uint8_t bytes[40 * 1280];
	struct public_key to = peer(7);
	struct relays_status status;

	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock.is_stuck = true;
	mock.out_len = 0;
	for (unsigned i = 0; i < 10; i++)
		relays_send(w.relays, 1, &to, bytes, sizeof(bytes), 1280, false);
	assert_true(w.is_blocked);
	relays_status(w.relays, 0, &status);
	assert_int_equal(status.tx_packets, 3 * 40);
	assert_int_equal(status.tx_dropped, 7 * 40);
	/* There is room for what is urgent. */
	assert_int_equal(relays_send(w.relays, 1, &to, bytes, 100, 100, true), 0);
	mock_drained();
	assert_false(w.is_blocked);
	assert_int_equal(w.blocked_calls, 2);
}

static void test_a_relay_that_stands_still_holds_nobody_up(void **state)
{
	static uint8_t bytes[60 * 1280];
	struct public_key to = peer(7);

	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock.is_stuck = true;
	mock.out_len = 0;
	relays_send(w.relays, 1, &to, bytes, sizeof(bytes), 1280, false);
	assert_true(w.is_blocked);
	while (w.is_blocked) { /* 100 ms */
		event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
		turn();
	}
	relays_send(w.relays, 1, &to, bytes, 1280, 1280, false);
	assert_false(w.is_blocked);
	mock_closed("it broke");
	assert_int_equal(w.blocked_calls, 2);
}

static void test_a_new_home_is_told_to_both_relays(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock.out_len = 0;
	relays_set_home(w.relays, 2);
	assert_memory_equal(mock.out, "\x07\0\0\0\1\0", 6);
	turn();
	assert_int_equal(mock.opened, 2); /* and the old one stays for a while */
}

static void test_a_network_change_pings(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock.out_len = 0;
	relays_network_changed(w.relays);
	assert_int_equal(mock.out[0], DERP_TYPE_PING);
}

static void test_absurd_advice_costs_a_few_seconds_at_most(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	mock_received("\x15\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff", 13);
	mock_received("\x14\0\0\0\x03sad", 8);
	assert_string_equal(w.sentence, "sad");
	mock_closed("bye");
	relays_network_changed(w.relays); /* which overrides it */
	turn();
	assert_int_equal(mock.opened, 2);
}

static void test_the_set_may_be_destroyed_in_a_callback(void **state)
{
	(void)state;
	relays_set_home(w.relays, 1);
	turn();
	log_in();
	w.destroys = true;
	hear(7);
	assert_null(w.relays);
	turn();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_only_the_home_is_connected_unasked),
		TEST(test_what_is_sent_first_waits_for_the_login),
		TEST(test_the_region_that_brought_something_is_told_and_so_is_its_end),
		TEST(test_a_lost_connection_is_made_anew_after_a_pause),
		TEST(test_a_relay_that_always_hangs_up_is_asked_more_and_more_seldom),
		TEST(test_a_region_that_leaves_the_map_is_told_to_be_down),
		TEST(test_a_changed_region_is_connected_anew_and_an_unchanged_one_is_not),
		TEST(test_a_full_queue_blocks_until_it_drains),
		TEST(test_a_relay_that_stands_still_holds_nobody_up),
		TEST(test_a_new_home_is_told_to_both_relays),
		TEST(test_a_network_change_pings),
		TEST(test_absurd_advice_costs_a_few_seconds_at_most),
		TEST(test_the_set_may_be_destroyed_in_a_callback),
	};

	return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
