/* Handshakes: who starts, what goes wrong, who forgets; and the keys that follow one another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/wire.h"
#include "world.h"

static const struct world_options plain = { 0 };

static unsigned initiations(struct world *w)
{
	return w->node[0].sent_type[WG_INITIATION] + w->node[1].sent_type[WG_INITIATION];
}

static void test_either_side_may_start_with_or_without_a_preshared_key(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct world_options o = { .has_psk = n & 1 };
		struct world *w = world_create(&o);

		world_exchange(w, n >> 1);
		world_exchange(w, !(n >> 1));
		assert_int_equal(initiations(w), 1);
		world_destroy(w);
	}
}

static void test_different_preshared_keys_make_no_session(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	w->node[0].peer->handshake.preshared.byte[0] ^= 1;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[1].sent_type[WG_RESPONSE], 1);
	assert_int_equal(w->node[0].established + w->node[1].established, 0);
	world_destroy(w);
}

static void test_a_new_preshared_key_is_that_of_the_next_session(void **state)
{
	static const uint8_t key[WG_KEY_LEN] = { 7 };
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	wg_peer_set_preshared_key(w->node[0].peer, key);
	world_exchange(w, 0);
	world_exchange(w, 1);
	/* One side alone makes none with it. */
	wg_peer_renew(w->node[0].peer);
	world_run(w, 6 * NS_PER_S);
	world_send(w, 0, 1, 1, 100);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(w->node[0].established, 1);
	wg_peer_set_preshared_key(w->node[1].peer, key);
	world_run(w, 12 * NS_PER_S);
	assert_int_equal(w->node[0].established, 2);
	world_exchange(w, 0);
	world_exchange(w, 1);
	world_destroy(w);
}

static void test_new_keys_are_made_while_the_old_ones_go_on(void **state)
{
	struct world *w = world_create(&plain);
	unsigned before;

	(void)state;
	world_connect(w);
	world_run(w, 6 * NS_PER_S);
	before = w->node[0].established;
	wg_peer_rekey(w->node[0].peer, w->now_ns);
	world_drop_all(w);
	world_exchange(w, 0); /* under the old ones, since nobody has answered */
	assert_int_equal(w->node[0].established, before);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(w->node[0].established, before + 1);
	world_exchange(w, 0);
	world_exchange(w, 1);
	/* With one that has forgotten all. */
	world_restart(w, 1, &plain);
	world_run(w, 6 * NS_PER_S);
	wg_peer_rekey(w->node[0].peer, w->now_ns);
	world_settle(w);
	world_exchange(w, 0);
	world_exchange(w, 1);
	world_destroy(w);
}

static void test_crossed_initiations_end_in_one_working_session(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 100);
	world_send(w, 1, 2, 1, 100);
	assert_int_equal(w->wire_count, 2);
	world_settle(w);
	world_check_indices(w);
	world_run(w, 20 * NS_PER_S);
	world_check_indices(w);
	assert_int_equal(w->node[0].received, 1);
	assert_int_equal(w->node[1].received, 1);
	world_exchange(w, 0);
	world_exchange(w, 1);
	world_destroy(w);
}

/* As on a long path, where crossing is likely, and its repetition 5 s later, too. */
static void test_crossed_initiations_cost_no_time(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 100);
	world_send(w, 1, 2, 1, 100);
	assert_int_equal(initiations(w), 2);
	world_settle(w);
	world_check_indices(w);
	assert_int_equal(w->node[0].received, 1);
	assert_int_equal(w->node[1].received, 1);
	world_exchange(w, 0);
	world_exchange(w, 1);
	assert_int_equal(initiations(w), 2);
	world_destroy(w);
}

static void test_crossed_initiations_do_not_cross_for_ever(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	/* Both sides keep sending at the same moments, five of which are 5 s. */
	for (int s = 0; s < 12; s++) {
		world_send(w, 0, (uint32_t)s, 1, 100);
		world_send(w, 1, (uint32_t)s, 1, 100);
		world_settle(w);
		world_run(w, NS_PER_S);
	}
	assert_int_equal(w->node[0].received, 12);
	assert_int_equal(w->node[1].received, 12);
	world_destroy(w);
}

static void test_data_staged_after_a_response_does_not_wait_for_more_data(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_deliver(w);
	world_send(w, 1, 1, 1, 100); /* too early to start a handshake of its own */
	world_drop_all(w);           /* the response: nobody will confirm */
	world_restart(w, 0, &plain);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(w->node[0].received, 1);
	world_destroy(w);
}

static void test_a_replayed_initiation_is_ignored(void **state)
{
	struct world *w = world_create(&plain);
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	len = world_peek(w, 0, WG_INITIATION, copy);
	world_settle(w);
	world_pass(w, NS_PER_S);
	for (int i = 0; i < 10; i++)
		world_inject(w, 1, copy, len, &w->node[0].at);
	assert_int_equal(w->node[1].sent_type[WG_RESPONSE], 1);
	world_exchange(w, 0);
	world_exchange(w, 1);
	world_destroy(w);
}

static void test_a_replayed_response_is_ignored(void **state)
{
	struct world *w = world_create(&plain);
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_deliver(w);
	len = world_peek(w, 1, WG_RESPONSE, copy);
	copy[sizeof(struct wg_response) - 40] ^= 1; /* in the sealed nothing: mac1 is wrong now */
	world_inject(w, 0, copy, len, &w->node[1].at);
	assert_int_equal(w->node[0].established, 0);
	copy[sizeof(struct wg_response) - 40] ^= 1;
	world_settle(w);
	world_inject(w, 0, copy, len, &w->node[1].at);
	assert_int_equal(w->node[0].established, 1);
	world_exchange(w, 0);
	world_destroy(w);
}

static void test_a_lost_response_is_made_good_by_the_next_try(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 2, 100);
	world_deliver(w);
	world_drop_all(w);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(w->node[1].received, 2);
	assert_int_equal(w->node[0].sent_type[WG_INITIATION], 2);
	world_destroy(w);
}

static void test_a_lost_confirmation_is_made_good_by_later_packets(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_deliver(w);
	world_deliver(w);
	world_drop_all(w); /* the keepalive */
	assert_int_equal(w->node[0].established, 1);
	assert_int_equal(w->node[1].established, 0);
	world_exchange(w, 0);
	assert_int_equal(w->node[1].established, 1);
	world_destroy(w);
}

static void test_either_side_may_restart(void **state)
{
	(void)state;
	for (int restarted = 0; restarted < 2; restarted++) {
		for (int sender = 0; sender < 2; sender++) {
			struct world *w = world_create(&plain);

			world_exchange(w, 0);
			world_exchange(w, 1);
			world_run(w, 30 * NS_PER_S);
			world_restart(w, restarted, &plain);
			w->node[!sender].received = 0;
			world_send(w, sender, 5, 1, 100);
			world_settle(w);
			/* The one that remembers finds out by the 15 s rule. */
			assert_int_equal(w->node[!sender].received, sender == restarted);
			world_run(w, 16 * NS_PER_S);
			world_exchange(w, sender);
			world_exchange(w, !sender);
			world_destroy(w);
		}
	}
}

static void test_a_wall_clock_that_stands_still_or_goes_back_does_not_lock_us_out(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	w->wall_is_frozen = true;
	for (int i = 0; i < 5; i++) {
		world_exchange(w, 0);
		world_run(w, 200 * NS_PER_S);
		if (i == 2)
			w->wall_s -= 86400;
	}
	assert_int_equal(w->node[1].sent_type[WG_RESPONSE], 5);
	world_destroy(w);
}

static void test_a_keypair_without_counters_left_is_replaced(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer *peer = w->node[0].peer;

	(void)state;
	world_connect(w);
	world_run(w, 6 * NS_PER_S);
	peer->keypairs.current->send_counter = WG_REJECT_AFTER_MESSAGES - 1;
	world_send(w, 0, 1, 3, 100);
	assert_int_equal(w->node[0].sent_type[WG_TRANSPORT], 2); /* one keepalive, one of these */
	world_settle(w);
	assert_int_equal(w->node[1].received, 3);
	assert_true(peer->keypairs.current->send_counter < 10);
	world_destroy(w);
}

static void test_either_role_renews_after_2_to_the_60_packets(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer *peer = w->node[1].peer;

	(void)state;
	world_connect(w);
	world_run(w, 6 * NS_PER_S);
	peer->keypairs.current->send_counter = WG_REKEY_AFTER_MESSAGES;
	world_exchange(w, 1);
	assert_int_equal(w->node[1].sent_type[WG_INITIATION], 1);
	assert_int_equal(w->node[1].established, 2);
	world_destroy(w);
}

static void test_packets_under_the_previous_keys_still_arrive(void **state)
{
	struct world *w = world_create(&plain);
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	world_connect(w);
	world_run(w, 121 * NS_PER_S);
	world_send(w, 1, 77, 1, 100);
	len = world_peek(w, 1, WG_TRANSPORT, copy);
	world_drop_all(w);
	world_exchange(w, 0); /* new keys */
	assert_int_equal(w->node[0].established, 2);
	world_exchange(w, 1);
	world_inject(w, 0, copy, len, &w->node[1].at);
	assert_int_equal(w->node[0].received, 2);
	assert_int_equal(w->node[0].seq[1], 77);
	world_destroy(w);
}

static void test_traffic_for_an_hour_loses_nothing(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	for (int i = 0; i < 3600; i++) {
		world_exchange(w, i & 1);
		world_run(w, NS_PER_S);
		world_check_indices(w);
	}
	assert_true(w->node[0].established >= 29 && w->node[0].established <= 31);
	world_destroy(w);
}

static void test_a_renewed_session_is_replaced_before_more_is_sent(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	world_run(w, 6 * NS_PER_S);
	wg_peer_renew(w->node[0].peer);
	world_exchange(w, 1); /* the old one still brings us something */
	assert_int_equal(initiations(w), 1);
	world_exchange(w, 0);
	assert_int_equal(initiations(w), 2);
	world_exchange(w, 0);
	assert_int_equal(initiations(w), 2);
	world_check_indices(w);
	world_destroy(w);
}

static void test_a_path_that_is_found_late_is_used_at_once(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 100);
	world_drop_all(w); /* nobody knew the way */
	world_pass(w, 300 * NS_PER_MS);
	wg_peer_path_found(w->node[0].peer, w->now_ns);
	world_settle(w);
	assert_int_equal(initiations(w), 2);
	assert_int_equal(w->node[1].received, 1);
	wg_peer_path_found(w->node[0].peer, w->now_ns); /* there is a session: no matter */
	assert_int_equal(initiations(w), 2);
	world_check_indices(w);
	world_destroy(w);
}

/* The answer is on its way, and a second initiation would make it worthless. */
static void test_a_path_found_just_after_an_initiation_waits_for_its_answer(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 100);
	world_pass(w, 5 * NS_PER_MS);
	wg_peer_path_found(w->node[0].peer, w->now_ns);
	wg_peer_path_found(w->node[0].peer, w->now_ns);
	assert_int_equal(initiations(w), 1);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	world_run(w, NS_PER_S);
	assert_int_equal(initiations(w), 1);
	world_check_indices(w);
	world_destroy(w);
}

static void test_a_path_found_just_after_an_initiation_that_was_lost_is_used_soon(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 100);
	world_drop_all(w);
	world_pass(w, 5 * NS_PER_MS);
	wg_peer_path_found(w->node[0].peer, w->now_ns);
	world_run(w, 400 * NS_PER_MS);
	assert_int_equal(initiations(w), 2);
	assert_int_equal(w->node[1].received, 1);
	world_check_indices(w);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_either_side_may_start_with_or_without_a_preshared_key),
		cmocka_unit_test(test_different_preshared_keys_make_no_session),
		cmocka_unit_test(test_a_new_preshared_key_is_that_of_the_next_session),
		cmocka_unit_test(test_new_keys_are_made_while_the_old_ones_go_on),
		cmocka_unit_test(test_crossed_initiations_end_in_one_working_session),
		cmocka_unit_test(test_crossed_initiations_cost_no_time),
		cmocka_unit_test(test_crossed_initiations_do_not_cross_for_ever),
		cmocka_unit_test(test_data_staged_after_a_response_does_not_wait_for_more_data),
		cmocka_unit_test(test_a_replayed_initiation_is_ignored),
		cmocka_unit_test(test_a_replayed_response_is_ignored),
		cmocka_unit_test(test_a_lost_response_is_made_good_by_the_next_try),
		cmocka_unit_test(test_a_lost_confirmation_is_made_good_by_later_packets),
		cmocka_unit_test(test_either_side_may_restart),
		cmocka_unit_test(
			test_a_wall_clock_that_stands_still_or_goes_back_does_not_lock_us_out),
		cmocka_unit_test(test_a_keypair_without_counters_left_is_replaced),
		cmocka_unit_test(test_either_role_renews_after_2_to_the_60_packets),
		cmocka_unit_test(test_packets_under_the_previous_keys_still_arrive),
		cmocka_unit_test(test_traffic_for_an_hour_loses_nothing),
		cmocka_unit_test(test_a_path_that_is_found_late_is_used_at_once),
		cmocka_unit_test(test_a_path_found_just_after_an_initiation_waits_for_its_answer),
		cmocka_unit_test(
			test_a_path_found_just_after_an_initiation_that_was_lost_is_used_soon),
		cmocka_unit_test(test_a_renewed_session_is_replaced_before_more_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
