/* Under load: cookies in both directions, and what a flood may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/wire.h"
#include "world.h"

static const struct world_options plain = { 0 };

static void test_a_loaded_responder_asks_for_a_cookie_and_gets_it_with_the_retry(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];

	(void)state;
	b->dev->load.threshold = 0;
	world_send(w, 0, 1, 1, 100);
	world_deliver(w);
	assert_int_equal(b->sent_type[WG_COOKIE_REPLY], 1);
	assert_int_equal(b->sent_type[WG_RESPONSE], 0);
	assert_null(w->wire[0].peer);
	world_settle(w);
	assert_int_equal(a->sent_type[WG_INITIATION], 1); /* not sent again at once */
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(a->sent_type[WG_INITIATION], 2);
	assert_int_equal(b->received, 1);
	world_destroy(w);
}

static void test_a_loaded_initiator_asks_for_a_cookie_too(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];

	(void)state;
	a->dev->load.threshold = 0;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	assert_int_equal(a->sent_type[WG_COOKIE_REPLY], 1);
	assert_int_equal(a->established, 0);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(b->sent_type[WG_RESPONSE], 2);
	assert_int_equal(b->received, 1);
	world_destroy(w);
}

static void test_a_cookie_is_for_one_address(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];

	(void)state;
	b->dev->load.threshold = 0;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	a->at.port++; /* the NAT changed its mind */
	wg_peer_set_endpoint(b->peer, &a->at);
	world_pass(w, 6 * NS_PER_S);
	world_settle(w);
	assert_int_equal(b->sent_type[WG_COOKIE_REPLY], 2);
	assert_int_equal(b->received, 0);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(b->received, 1);
	world_destroy(w);
}

static void test_under_load_one_source_is_limited_even_with_a_cookie(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];
	unsigned before;

	(void)state;
	b->dev->load.threshold = 0;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	assert_true(a->peer->macs.has_cookie);
	before = a->sent_type[WG_INITIATION];
	/* An initiator that ignores the 5 s rule. */
	for (int i = 0; i < 100; i++) {
		a->peer->timers.has_sent_handshake = false;
		a->peer->timers.retransmit_ns = NEVER_NS;
		wg_peer_wake(a->peer, w->now_ns);
		w->now_ns += 21 * NS_PER_MS; /* the peer's own floor is not the limit */
	}
	assert_int_equal(a->sent_type[WG_INITIATION] - before, 100);
	for (unsigned i = 0; i < w->wire_count; i++)
		world_inject(w, 1, w->wire[i].bytes, w->wire[i].len, &a->at);
	/* All at one moment: the burst, of which the 20 ms rule takes but one. */
	assert_int_equal(b->sent_type[WG_RESPONSE], 1);
	assert_int_equal(b->sent_type[WG_COOKIE_REPLY], 1);
	assert_int_equal(b->peer->dropped_invalid, WG_RATE_BURST - 1);
	world_destroy(w);
}

static void test_a_flood_without_mac1_is_no_load_and_gets_no_answer(void **state)
{
	struct world *w = world_create(&plain);
	struct endpoint from = { ip_from_v4(0x01010101), 1 };
	struct wg_initiation junk = { .type = { WG_INITIATION } };
	struct wg_response junk2 = { .type = { WG_RESPONSE } };

	(void)state;
	for (uint32_t i = 0; i < 5000; i++) {
		store_le32(junk.sender, i);
		world_inject(w, 1, &junk, sizeof(junk), &from);
		world_inject(w, 1, &junk2, sizeof(junk2), &from);
	}
	assert_int_equal(w->wire_count, 0);
	world_connect(w);
	world_destroy(w);
}

static void test_a_flood_with_mac1_turns_cookies_on_and_its_end_turns_them_off(void **state)
{
	struct world *w = world_create(&plain);
	struct node *b = &w->node[1];
	struct endpoint from = { ip_from_v4(0x01010101), 1 };
	struct wg_initiation msg = { .type = { WG_INITIATION } };
	uint8_t reply[2048];

	(void)state;
	/* Anybody who knows the public key can make these. */
	for (uint32_t i = 0; i < WG_LOAD_THRESHOLD + 100; i++) {
		store_le32(msg.sender, i);
		wg_macs_sign(&w->node[0].peer->macs, w->node[0].dev->engine, &msg, sizeof(msg),
			     w->now_ns);
		world_inject(w, 1, &msg, sizeof(msg), &from);
	}
	assert_int_equal(b->sent_type[WG_COOKIE_REPLY], 100);
	assert_int_equal(world_peek(w, 1, WG_COOKIE_REPLY, reply), sizeof(struct wg_cookie_reply));
	world_drop_all(w);
	w->now_ns += 3 * NS_PER_S;
	world_connect(w);
	assert_int_equal(b->sent_type[WG_COOKIE_REPLY], 100);
	world_destroy(w);
}

static void test_a_cookie_reply_that_was_not_asked_for_is_refused(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	struct wg_cookie_reply reply = { .type = { WG_COOKIE_REPLY } };
	uint32_t index;

	(void)state;
	world_send(w, 0, 1, 1, 100);
	index = a->peer->handshake.local_index;
	world_inject(w, 0, &reply, sizeof(reply), &w->node[1].at); /* nobody's index */
	assert_int_equal(a->peer->dropped_invalid, 0);
	store_le32(reply.receiver, index);
	world_inject(w, 0, &reply, sizeof(reply), &w->node[1].at);
	assert_int_equal(a->peer->dropped_invalid, 1);
	assert_false(a->peer->macs.has_cookie);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_a_loaded_responder_asks_for_a_cookie_and_gets_it_with_the_retry),
		cmocka_unit_test(test_a_loaded_initiator_asks_for_a_cookie_too),
		cmocka_unit_test(test_a_cookie_is_for_one_address),
		cmocka_unit_test(test_under_load_one_source_is_limited_even_with_a_cookie),
		cmocka_unit_test(test_a_flood_without_mac1_is_no_load_and_gets_no_answer),
		cmocka_unit_test(
			test_a_flood_with_mac1_turns_cookies_on_and_its_end_turns_them_off),
		cmocka_unit_test(test_a_cookie_reply_that_was_not_asked_for_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
