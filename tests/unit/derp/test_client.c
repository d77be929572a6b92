/* One relay connection, with a relay that follows the protocol or does not. */
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
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "shared/log.h"
#include "shared/wire.h"
#include "tests/unit/derp/mock_stream.h"

#define UPGRADED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"

static const uint8_t magic[8] = { 0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91 };

static struct world {
	struct loop *loop;
	struct derp_client *client;
	struct derp_node node[2];
	struct derp_region region;
	struct private_key own, relay;
	struct public_key own_public, relay_public;
	unsigned ups, downs, batches, packets, gone, drained;
	uint64_t bytes;
	uint8_t last_reason;
	uint32_t wait_ms;
	bool destroys; /* in the next callback */
	char health[256], sentence[256];
} w;

static void leave(void)
{
	if (w.destroys) {
		derp_client_destroy(w.client);
		w.client = NULL;
	}
}

static void up(void *owner)
{
	(void)owner;
	w.ups++;
	leave();
}

static void received(void *owner, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	(void)owner;
	(void)from;
	w.batches++;
	w.packets += count;
	for (unsigned i = 0; i < count; i++) {
		w.bytes += packets[i].len;
		memset(packets[i].data, 0xee, packets[i].len);
	}
	leave();
}

static void peer_gone(void *owner, const struct public_key *peer, uint8_t reason)
{
	(void)owner;
	(void)peer;
	w.gone++;
	w.last_reason = reason;
	leave();
}

static void health(void *owner, const char *sentence)
{
	(void)owner;
	snprintf(w.health, sizeof(w.health), "%s", sentence);
}

static void restarting(void *owner, uint32_t wait_ms)
{
	(void)owner;
	w.wait_ms = wait_ms;
}

static void drained(void *owner)
{
	(void)owner;
	w.drained++;
}

static void down(void *owner, const char *sentence)
{
	(void)owner;
	w.downs++;
	snprintf(w.sentence, sizeof(w.sentence), "%s", sentence);
}

static int set_up(void **state)
{
	static const struct derp_client_callbacks callbacks = { up,     received,   peer_gone,
								health, restarting, drained,
								down };
	const struct derp_node node = { .name = "1a",
					.host_name = "one.test",
					.cert_name = "",
					.ipv4 = "192.0.2.1",
					.ipv6 = "none",
					.stun_test_ip = "",
					.derp_port = 443 };

	(void)state;
	memset(&w, 0, sizeof(w));
	mock_reset();
	private_key_generate(&w.own);
	private_key_generate(&w.relay);
	private_key_public(&w.own, &w.own_public);
	private_key_public(&w.relay, &w.relay_public);
	w.node[0] = w.node[1] = node;
	w.node[1].name = "1b";
	w.node[1].host_name = "two.test";
	w.region = (struct derp_region){
		.id = 1, .code = "", .name = "", .nodes = w.node, .node_count = 2
	};
	w.loop = loop_create(NULL);
	w.client = derp_client_open(w.loop, NULL, &w.own, &w.region, &callbacks, NULL);
	assert_non_null(w.client);
	event_base_loop(loop_base(w.loop), EVLOOP_NONBLOCK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	derp_client_destroy(w.client);
	loop_destroy(w.loop);
	return 0;
}

static void say(uint8_t type, const void *payload, size_t len)
{
	static uint8_t frame[DERP_HEADER + 2 * DERP_PACKET_MAX];

	derp_put_header(frame, (enum derp_type)type, len);
	memcpy(frame + DERP_HEADER, payload, len);
	mock_received(frame, DERP_HEADER + len);
}

static void say_key(void)
{
	uint8_t payload[40];

	memcpy(payload, magic, 8);
	memcpy(payload + 8, w.relay_public.byte, KEY_LEN);
	say(DERP_SERVER_KEY, payload, sizeof(payload));
}

static void say_info(const char *json)
{
	uint8_t payload[512];
	size_t len = strlen(json);

	randombytes_buf(payload, DERP_NONCE);
	assert_int_equal(crypto_box_easy(payload + DERP_NONCE, (const uint8_t *)json, len, payload,
					 w.own_public.byte, w.relay.byte),
			 0);
	say(DERP_SERVER_INFO, payload, DERP_NONCE + DERP_TAG + len);
}

static void log_in_with(const char *json)
{
	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	say_key();
	say_info(json);
}

static void log_in(void)
{
	log_in_with("{\"version\":2}");
	assert_int_equal(w.ups, 1);
	mock.out_len = 0;
}

static void test_a_normal_login_says_request_info_and_home_in_order(void **state)
{
	uint8_t plain[64];

	(void)state;
	derp_client_set_preferred(w.client, true);
	assert_string_equal(mock.options.host, "one.test");
	mock_connected();
	mock.out[mock.out_len] = '\0';
	assert_string_equal((char *)mock.out, "GET /derp HTTP/1.1\r\nHost: one.test\r\n"
					      "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n");
	mock.out_len = 0;
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	assert_int_equal(mock.out_len, 0);
	say_key();
	assert_int_equal(mock.out[0], DERP_CLIENT_INFO);
	assert_memory_equal(mock.out + 5, w.own_public.byte, KEY_LEN);
	assert_int_equal(crypto_box_open_easy(plain, mock.out + 61, load_be32(mock.out + 1) - 56,
					      mock.out + 37, w.own_public.byte, w.relay.byte),
			 0);
	assert_memory_equal(mock.out + mock.out_len - 6, "\x07\0\0\0\1\1", 6);
	assert_int_equal(w.ups, 0);
	say_info("{}");
	assert_int_equal(w.ups, 1);
	mock.out_len = 0;
	derp_client_set_preferred(w.client, true); /* nothing new */
	assert_int_equal(mock.out_len, 0);
	derp_client_set_preferred(w.client, false);
	assert_memory_equal(mock.out, "\x07\0\0\0\1\0", 6);
	assert_string_equal(derp_client_node(w.client), "1a");
}

static void test_a_fast_start_is_one_flight(void **state)
{
	(void)state;
	mock.has_relay_key = true;
	memcpy(mock.relay_key, w.relay_public.byte, KEY_LEN);
	derp_client_set_preferred(w.client, true);
	mock_connected();
	assert_non_null(memmem(mock.out, mock.out_len, "Derp-Fast-Start: 1\r\n\r\n\x02", 23));
	assert_memory_equal(mock.out + mock.out_len - 6, "\x07\0\0\0\1\1", 6);
	mock.out_len = 0;
	say_key();
	assert_int_equal(mock.out_len, 0);
	say_info("{}");
	assert_int_equal(w.ups, 1);
}

static void test_all_of_it_may_come_in_single_bytes_or_at_once(void **state)
{
	(void)state;
	mock.piece = 1;
	log_in();
	mock.piece = 0;
	say(DERP_TYPE_PING, "12345678and more", 16);
	assert_memory_equal(mock.out,
			    "\x13\0\0\0\x08"
			    "12345678",
			    13);
}

static void test_the_next_node_is_tried_and_told_whose_place_it_takes(void **state)
{
	(void)state;
	assert_true(mock.options.attempt_ns > 0);
	mock_closed("cannot connect");
	assert_int_equal(mock.opened, 2);
	assert_string_equal(mock.options.host, "two.test");
	assert_int_equal(mock.options.attempt_ns, 0); /* the last one has all the time */
	mock_connected();
	assert_non_null(memmem(mock.out, mock.out_len, "Ideal-Node: 1a\r\n\r\n", 18));
	assert_int_equal(w.downs, 0);
	mock_closed("cannot connect either");
	assert_int_equal(w.downs, 1);
	assert_string_equal(w.sentence, "cannot connect either");
}

static void test_what_is_no_relay_is_left_with_a_sentence(void **state)
{
	static const struct {
		const char *answer, *sentence;
	} cases[] = {
		{ "HTTP/1.1 426 Upgrade Required\r\n\r\n",
		  "the server does not relay (HTTP status 426)" },
		{ "SSH-2.0-OpenSSH\r\n\r\n", "the server is no relay" },
	};

	for (unsigned i = 0; i < 2; i++) {
		w.region.node_count = 1;
		mock_connected();
		mock_received(cases[i].answer, strlen(cases[i].answer));
		assert_int_equal(w.downs, 1);
		assert_string_equal(w.sentence, cases[i].sentence);
		tear_down(state);
		set_up(state);
	}
}

static void test_a_hang_up_after_our_login_is_a_refusal(void **state)
{
	(void)state;
	w.region.node_count = 1;
	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	say_key();
	mock_closed("the server closed the connection");
	assert_string_equal(w.sentence,
			    "the relay hung up on our login: it may not admit this node");
}

static void test_keys_and_answers_that_do_not_fit_end_the_login(void **state)
{
	uint8_t zeros[40] = { 0 };

	(void)state;
	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	memcpy(zeros, magic, 8);
	say(DERP_SERVER_KEY, zeros, sizeof(zeros)); /* of low order */
	assert_int_equal(mock.opened, 2);
	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	say_key();
	say(DERP_SERVER_INFO, zeros, 40);
	assert_int_equal(w.downs, 1);
	assert_string_equal(w.sentence, "the relay's answer to our login cannot be opened");
}

static void test_runs_of_packets_of_one_source_come_together(void **state)
{
	static uint8_t frames[200 * 100];
	size_t len = 0;

	(void)state;
	log_in();
	for (unsigned i = 0; i < 100; i++) {
		derp_put_header(frames + len, DERP_RECV_PACKET, KEY_LEN + 4);
		memset(frames + len + DERP_HEADER, i < 70 ? 1 : 2, KEY_LEN + 4);
		len += DERP_HEADER + KEY_LEN + 4;
	}
	mock_received(frames, len);
	assert_int_equal(w.packets, 100);
	assert_int_equal(w.batches, 3); /* 64, 6, 30 */
	assert_int_equal(w.bytes, 400);
}

static void test_packets_before_the_login_are_nobodys(void **state)
{
	uint8_t payload[40] = { 0 };

	(void)state;
	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	say(DERP_RECV_PACKET, payload, sizeof(payload));
	assert_int_equal(w.packets, 0);
	assert_int_equal(w.downs, 0);
}

static void test_large_unknown_frames_are_skipped_as_they_come(void **state)
{
	static uint8_t bytes[DERP_HEADER + DERP_FRAME_MAX];
	uint8_t payload[40] = { 0 };

	(void)state;
	log_in();
	derp_put_header(bytes, (enum derp_type)0x7e, DERP_FRAME_MAX);
	mock_received(bytes, sizeof(bytes));
	say(DERP_RECV_PACKET, payload, sizeof(payload));
	assert_int_equal(w.packets, 1);
	assert_int_equal(w.downs, 0);
}

static void test_the_largest_packet_passes_and_a_larger_frame_is_the_end(void **state)
{
	static uint8_t payload[KEY_LEN + DERP_PACKET_MAX];

	(void)state;
	log_in();
	say(DERP_RECV_PACKET, payload, sizeof(payload));
	assert_int_equal(w.bytes, DERP_PACKET_MAX);
	mock_received("\x05\xff\xff\xff\xff", 5);
	assert_int_equal(w.downs, 1);
	assert_string_equal(w.sentence, "the relay sent an impossible frame");
}

static void test_a_storm_of_gone_peers_is_rationed(void **state)
{
	uint8_t payload[33] = { 0 };

	(void)state;
	log_set_level(LOG_ERR);
	log_in();
	payload[32] = 1;
	for (unsigned i = 0; i < 100000; i++)
		say(DERP_PEER_GONE, payload, sizeof(payload));
	assert_in_range(w.gone, 8192, 20000);
	assert_int_equal(w.last_reason, 1);
	assert_int_equal(w.downs, 0);
}

static void test_advice_and_health_are_passed_on_without_control_characters(void **state)
{
	(void)state;
	log_in();
	say(DERP_HEALTH, "bad\n\x1b[1m", 8);
	assert_string_equal(w.health, "bad??[1m");
	say(DERP_HEALTH, "", 0);
	assert_string_equal(w.health, "");
	say(DERP_RESTARTING, "\xff\xff\xff\xff\0\0\0\1", 8);
	assert_int_equal(w.wait_ms, UINT32_MAX);
	say(DERP_KEEP_ALIVE, "", 0);
	say(DERP_TYPE_PONG, "12345678", 8); /* nobody asked */
	assert_int_equal(w.downs, 0);
}

static void test_a_relay_that_does_not_read_gets_no_pongs_and_costs_no_memory(void **state)
{
	struct public_key to = { { 1 } };
	static uint8_t bytes[64 * 1000];

	(void)state;
	log_in();
	mock.is_stuck = true;
	while (derp_client_send(w.client, &to, bytes, sizeof(bytes), 1000) > 0)
		;
	for (unsigned i = 0; i < 100000; i++)
		say(DERP_TYPE_PING, "12345678", 8);
	assert_true(derp_client_queued(w.client) <= DERP_QUEUE_MAX);
	assert_int_equal(derp_client_send(w.client, &to, bytes, sizeof(bytes), 1000), -ENOBUFS);
	mock_drained();
	assert_int_equal(w.drained, 1);
}

static void test_the_relays_limit_drops_what_is_above(void **state)
{
	struct public_key to = { { 1 } };
	uint8_t bytes[1000] = { 0 };

	(void)state;
	log_in_with("{\"TokenBucketBytesPerSecond\":1,\"TokenBucketBytesBurst\":1100}");
	assert_int_equal(derp_client_send(w.client, &to, bytes, 1000, 1000), 1000);
	assert_int_equal(derp_client_send(w.client, &to, bytes, 1000, 1000), -ENOBUFS);
}

static void test_of_many_datagrams_go_as_many_as_the_relays_limit_allows(void **state)
{
	struct public_key to = { { 1 } };
	uint8_t bytes[50 * 100] = { 0 };

	(void)state;
	log_in_with("{\"TokenBucketBytesPerSecond\":1,\"TokenBucketBytesBurst\":1400}");
	mock.out_len = 0;
	assert_int_equal(derp_client_send(w.client, &to, bytes, sizeof(bytes), 100), 1000);
	assert_int_equal(mock.out_len, 10 * (100 + DERP_SEND_EXTRA));
}

static void test_datagrams_become_frames_and_the_last_may_be_shorter(void **state)
{
	struct public_key to = { { 1 } };
	uint8_t bytes[25];

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(derp_client_send(w.client, &to, bytes, 25, 10), -EAGAIN);
	log_in();
	assert_int_equal(derp_client_send(w.client, &to, bytes, 25, 10), 25);
	assert_int_equal(mock.out_len, 3 * DERP_SEND_EXTRA + 25);
	assert_int_equal(load_be32(mock.out + 1), KEY_LEN + 10);
	assert_int_equal(load_be32(mock.out + 2 * 47 + 1), KEY_LEN + 5);
	assert_memory_equal(mock.out + 2 * 47 + DERP_SEND_EXTRA, bytes + 20, 5);
}

static void test_a_ping_is_answered_with_its_own_bytes(void **state)
{
	uint8_t pong[8];

	(void)state;
	log_in();
	derp_client_ping(w.client);
	assert_int_equal(mock.out_len, 13);
	assert_int_equal(mock.out[0], DERP_TYPE_PING);
	derp_client_ping(w.client); /* one at a time */
	assert_int_equal(mock.out_len, 13);
	memcpy(pong, mock.out + 5, 8);
	say(DERP_TYPE_PONG, "notthis!", 8);
	derp_client_ping(w.client);
	assert_int_equal(mock.out_len, 13);
	say(DERP_TYPE_PONG, pong, 8);
	derp_client_ping(w.client);
	assert_int_equal(mock.out_len, 26);
}

static void test_a_client_may_be_destroyed_in_any_callback(void **state)
{
	static const uint8_t types[] = { DERP_RECV_PACKET, DERP_PEER_GONE };
	uint8_t payload[40] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		log_in();
		w.destroys = true;
		say(types[i], payload, sizeof(payload));
		assert_null(w.client);
		tear_down(state);
		set_up(state);
	}
	w.destroys = true;
	log_in_with("{}");
	assert_null(w.client);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_a_normal_login_says_request_info_and_home_in_order),
		TEST(test_a_fast_start_is_one_flight),
		TEST(test_all_of_it_may_come_in_single_bytes_or_at_once),
		TEST(test_the_next_node_is_tried_and_told_whose_place_it_takes),
		TEST(test_what_is_no_relay_is_left_with_a_sentence),
		TEST(test_a_hang_up_after_our_login_is_a_refusal),
		TEST(test_keys_and_answers_that_do_not_fit_end_the_login),
		TEST(test_runs_of_packets_of_one_source_come_together),
		TEST(test_packets_before_the_login_are_nobodys),
		TEST(test_large_unknown_frames_are_skipped_as_they_come),
		TEST(test_the_largest_packet_passes_and_a_larger_frame_is_the_end),
		TEST(test_a_storm_of_gone_peers_is_rationed),
		TEST(test_advice_and_health_are_passed_on_without_control_characters),
		TEST(test_a_relay_that_does_not_read_gets_no_pongs_and_costs_no_memory),
		TEST(test_the_relays_limit_drops_what_is_above),
		TEST(test_of_many_datagrams_go_as_many_as_the_relays_limit_allows),
		TEST(test_datagrams_become_frames_and_the_last_may_be_shorter),
		TEST(test_a_ping_is_answered_with_its_own_bytes),
		TEST(test_a_client_may_be_destroyed_in_any_callback),
	};

	return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
