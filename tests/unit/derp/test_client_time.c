/*
 * What a relay connection does when nothing comes: in each phase of the login, and later.
 * Time passes by moving what the client remembers into the past.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "daemon/derp/client.c"
#include "mock_stream.h"

#define UPGRADED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n"

static struct {
	struct loop *loop;
	struct derp_client *client;
	struct derp_node node;
	struct derp_region region;
	struct private_key own, relay;
	struct public_key own_public, relay_public;
	unsigned ups, downs;
	char sentence[NET_STREAM_REASON_MAX];
} w;

static void up(void *owner)
{
	(void)owner;
	w.ups++;
}

static void got(void *owner, const struct public_key *from, struct packet *packets, unsigned count)
{
	(void)owner;
	(void)from;
	(void)packets;
	(void)count;
}

static void went_down(void *owner, const char *sentence)
{
	(void)owner;
	w.downs++;
	snprintf(w.sentence, sizeof(w.sentence), "%s", sentence);
}

static int set_up(void **state)
{
	static const struct derp_client_callbacks callbacks = { .up = up,
								.received = got,
								.down = went_down };

	(void)state;
	memset(&w, 0, sizeof(w));
	mock_reset();
	private_key_generate(&w.own);
	private_key_generate(&w.relay);
	private_key_public(&w.own, &w.own_public);
	private_key_public(&w.relay, &w.relay_public);
	w.node = (struct derp_node){ .name = "1a",
				     .host_name = "one.test",
				     .cert_name = "",
				     .ipv4 = "192.0.2.1",
				     .ipv6 = "none",
				     .stun_test_ip = "",
				     .derp_port = 443 };
	w.region = (struct derp_region){
		.id = 1, .code = "", .name = "", .nodes = &w.node, .node_count = 1
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

/* So much time passes without a word; then the timer fires, if it was set for then. */
static void pass(uint64_t ns)
{
	struct derp_client *c = w.client;

	c->login_by_ns -= ns;
	c->heard_ns -= ns;
	c->asked_ns -= MIN(c->asked_ns, ns);
	c->pinged_ns -= MIN(c->pinged_ns, ns);
	if (c->pong_by_ns != NEVER_NS)
		c->pong_by_ns -= ns;
	c->armed_ns -= ns;
	if (c->armed_ns <= loop_now(w.loop))
		timer_fired(-1, EV_TIMEOUT, c);
}

static void say(enum derp_type type, const void *payload, size_t len)
{
	uint8_t frame[512];

	derp_put_header(frame, type, len);
	memcpy(frame + DERP_HEADER, payload, len);
	mock_received(frame, DERP_HEADER + len);
}

static void say_key(void)
{
	uint8_t payload[40] = "DERP\xf0\x9f\x94\x91";

	memcpy(payload + 8, w.relay_public.byte, KEY_LEN);
	say(DERP_SERVER_KEY, payload, sizeof(payload));
}

static void log_in(void)
{
	uint8_t payload[64];

	mock_connected();
	mock_received(UPGRADED, sizeof(UPGRADED) - 1);
	say_key();
	randombytes_buf(payload, DERP_NONCE);
	assert_int_equal(crypto_box_easy(payload + DERP_NONCE, (const uint8_t *)"{}", 2, payload,
					 w.own_public.byte, w.relay.byte),
			 0);
	say(DERP_SERVER_INFO, payload, DERP_NONCE + DERP_TAG + 2);
	assert_int_equal(w.ups, 1);
	mock.out_len = 0;
}

static void send_something(void)
{
	assert_int_equal(derp_client_send(w.client, &w.relay_public, (const uint8_t *)"x", 1, 1),
			 1);
	mock.out_len = 0;
}

static void test_a_login_that_stalls_ends_and_says_where(void **state)
{
	static const char *const sentences[] = {
		"no connection to the relay within 10 s",
		"the relay did not answer our request within 10 s",
		"the relay did not say its key within 10 s",
		"the relay did not answer our login within 10 s",
	};

	for (unsigned phase = 0; phase < ARRAY_LEN(sentences); phase++) {
		if (phase > 0)
			mock_connected();
		if (phase > 1)
			mock_received(UPGRADED, sizeof(UPGRADED) - 1);
		if (phase > 2)
			say_key();
		pass(9 * NS_PER_S);
		assert_int_equal(w.downs, 0);
		pass(NS_PER_S);
		assert_int_equal(w.downs, 1);
		assert_string_equal(w.sentence, sentences[phase]);
		assert_null(mock.stream);
		tear_down(state);
		set_up(state);
	}
}

static void test_a_relay_that_answers_nothing_is_left_within_seconds(void **state)
{
	(void)state;
	log_in();
	pass(60 * NS_PER_S); /* nobody asked for anything */
	assert_int_equal(mock.out_len, 0);
	send_something();
	pass(QUIET_NS);
	assert_int_equal(mock.out[0], DERP_TYPE_PING);
	assert_int_equal(w.downs, 0);
	pass(PONG_NS);
	assert_int_equal(w.downs, 1);
	assert_string_equal(w.sentence, "the relay did not answer a ping");
}

static void test_a_relay_that_speaks_is_not_left(void **state)
{
	(void)state;
	log_in();
	for (unsigned i = 0; i < 5; i++) {
		send_something();
		pass(QUIET_NS);
		assert_int_equal(mock.out[0], DERP_TYPE_PING);
		pass(PONG_NS - NS_PER_S);
		say(DERP_KEEP_ALIVE, "", 0); /* any frame will do */
		pass(NS_PER_S);
		mock.out_len = 0;
		assert_int_equal(w.downs, 0);
	}
}

static void test_two_minutes_of_silence_are_the_end(void **state)
{
	(void)state;
	log_in();
	pass(119 * NS_PER_S);
	assert_int_equal(w.downs, 0);
	pass(NS_PER_S);
	assert_string_equal(w.sentence, "the relay was silent for two minutes");
}

/* Frames that nobody knows; len is that of all of it. */
static void say_much(size_t len)
{
	uint8_t frame[4096] = { 0 };

	derp_put_header(frame, (enum derp_type)0x7f, sizeof(frame) - DERP_HEADER);
	for (size_t at = 0; at < len; at += sizeof(frame))
		mock_received(frame, sizeof(frame));
}

static void test_in_a_bulk_transfer_the_kernel_gathers(void **state)
{
	(void)state;
	log_in();
	say_much(BULK_BYTES - 8192);
	w.client->counted_ns -= 2 * BULK_NS; /* that was long ago */
	say_much(8192);
	assert_int_equal(mock.wake_at, 0);
	say_much(BULK_BYTES);
	assert_int_equal(mock.wake_at, BULK_WAKE);
	say_much(BULK_BYTES);
	bulk_timer_fired(-1, EV_TIMEOUT, w.client);
	assert_int_equal(mock.wake_at, BULK_WAKE);
	assert_true(evtimer_pending(w.client->bulk_timer, NULL));
	say_much(BULK_BYTES / 2);
	bulk_timer_fired(-1, EV_TIMEOUT, w.client);
	assert_int_equal(mock.wake_at, 1);
	say_much(2 * BULK_BYTES);
	assert_int_equal(mock.wake_at, BULK_WAKE);
	mock_closed("gone");
	assert_false(evtimer_pending(w.client->bulk_timer, NULL));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_a_login_that_stalls_ends_and_says_where),
		TEST(test_a_relay_that_answers_nothing_is_left_within_seconds),
		TEST(test_a_relay_that_speaks_is_not_left),
		TEST(test_two_minutes_of_silence_are_the_end),
		TEST(test_in_a_bulk_transfer_the_kernel_gathers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
