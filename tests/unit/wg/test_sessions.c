/* Handshakes and timers over hours of a clock that the test moves. */
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

/* Data from node i that arrives. */
static void exchange(struct world *w, int i)
{
	unsigned before = w->node[!i].received;

	world_send(w, i, 1, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[!i].received, before + 1);
}

static void test_either_side_may_start_with_or_without_a_preshared_key(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct world_options o = { .has_psk = n & 1 };
		struct world *w = world_create(&o);

		exchange(w, n >> 1);
		exchange(w, !(n >> 1));
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
	exchange(w, 0);
	exchange(w, 1);
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
	exchange(w, 0);
	exchange(w, 1);
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
	exchange(w, 0);
	world_destroy(w);
}

static void test_only_the_initiator_renews_after_two_minutes(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	world_run(w, 120 * NS_PER_S);
	exchange(w, 0); /* not yet older than 120 s */
	assert_int_equal(initiations(w), 1);
	world_run(w, NS_PER_S);
	exchange(w, 1); /* the responder does not */
	assert_int_equal(initiations(w), 1);
	exchange(w, 0);
	assert_int_equal(w->node[0].sent_type[WG_INITIATION], 2);
	exchange(w, 0);
	exchange(w, 1);
	assert_int_equal(w->node[0].established, 2);
	assert_int_equal(w->node[1].established, 2);
	world_destroy(w);
}

/* A second passes, a packet comes from node 1, and what node 0 says to it is lost. */
static void only_receive(struct world *w)
{
	unsigned before = w->node[0].received;

	w->node[0].peer->timers.keepalive_ns = NEVER_NS; /* that would be a reason at 120 s */
	world_pass(w, NS_PER_S);
	world_drop_all(w);
	world_send(w, 1, 1, 1, 100);
	world_deliver(w);
	assert_int_equal(w->node[0].received, before + 1);
}

static void test_an_initiator_that_only_receives_renews_once_at_165_s(void **state)
{
	struct world *w = world_create(&plain);

	struct node *a = &w->node[0];

	(void)state;
	world_connect(w);
	for (unsigned round = 1; round <= 3; round++) {
		for (int s = 0; s < 165; s++)
			only_receive(w);
		assert_int_equal(a->sent_type[WG_INITIATION], round);
		only_receive(w);
		assert_int_equal(a->sent_type[WG_INITIATION], round + 1);
		if (round == 3)
			break;
		world_settle(w);
		assert_int_equal(a->established, round + 1);
	}
	/* Nobody answers: what comes in does not count as fresh demand. */
	for (int s = 0; s < 12; s++)
		only_receive(w);
	assert_int_equal(a->sent_type[WG_INITIATION], 6);
	assert_int_equal(a->peer->timers.retries, 2);
	world_destroy(w);
}

static void test_keys_older_than_180_s_neither_send_nor_receive(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer_stats stats;
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	world_connect(w);
	world_pass(w, 179 * NS_PER_S);
	world_drop_all(w);
	world_send(w, 1, 9, 1, 100);
	len = world_peek(w, 1, WG_TRANSPORT, copy);
	world_drop_all(w);
	world_pass(w, NS_PER_S);
	world_inject(w, 0, copy, len, &w->node[1].at);
	assert_int_equal(w->node[0].received, 0);
	wg_peer_stats(w->node[0].peer, &stats);
	assert_false(stats.has_session);
	/* The responder, too, starts a handshake now, since it has data. */
	world_send(w, 1, 1, 1, 100);
	assert_int_equal(w->node[1].sent_type[WG_INITIATION], 1);
	world_settle(w);
	assert_int_equal(w->node[0].received, 1);
	world_destroy(w);
}

static void test_all_keys_are_gone_after_nine_minutes(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];

	(void)state;
	world_connect(w);
	world_run(w, 539 * NS_PER_S);
	assert_non_null(a->peer->keypairs.current);
	assert_int_equal(a->dev->indices.count, 1);
	world_run(w, 2 * NS_PER_S);
	for (int i = 0; i < 2; i++) {
		assert_null(w->node[i].peer->keypairs.current);
		assert_null(w->node[i].peer->keypairs.previous);
		assert_null(w->node[i].peer->keypairs.next);
		assert_int_equal(w->node[i].dev->indices.count, 0);
		assert_true(wg_device_deadline(w->node[i].dev) == NEVER_NS);
	}
	exchange(w, 1);
	world_destroy(w);
}

static void test_an_unanswered_initiation_is_tried_20_times(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	uint64_t last_ns = w->now_ns, start_ns = w->now_ns;
	uint8_t before[2048] = { 0 }, msg[2048];
	struct wg_peer_stats stats;
	unsigned count = 1;

	(void)state;
	world_send(w, 0, 1, 3, 100);
	world_peek(w, 0, WG_INITIATION, before);
	world_drop_all(w);
	while (w->now_ns < start_ns + 150 * NS_PER_S) {
		world_pass(w, NS_PER_MS);
		if (!world_peek(w, 0, WG_INITIATION, msg))
			continue;
		assert_true(w->now_ns - last_ns >= WG_REKEY_TIMEOUT);
		assert_true(w->now_ns - last_ns <= WG_REKEY_TIMEOUT + WG_REKEY_JITTER + NS_PER_MS);
		/* A fresh ephemeral, index and timestamp. */
		assert_memory_not_equal(msg + 4, before + 4, 4);
		assert_memory_not_equal(msg + 8, before + 8, 32);
		memcpy(before, msg, sizeof(before));
		last_ns = w->now_ns;
		world_drop_all(w);
		count++;
	}
	assert_int_equal(count, 20);
	wg_peer_stats(a->peer, &stats);
	assert_int_equal(stats.dropped_staged, 3);
	assert_true(wg_staging_is_empty(&a->peer->staging));
	assert_int_equal(a->dev->staged.bytes, 0);
	/* New data starts again, and gets through. */
	exchange(w, 0);
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
	exchange(w, 0);
	assert_int_equal(w->node[1].established, 1);
	world_destroy(w);
}

static void test_no_initiation_within_5_s_of_the_last_handshake_message(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	for (int i = 0; i < 40; i++) {
		world_send(w, 0, 1, 1, 100);
		world_drop_all(w);
		if (i < 39)
			world_pass(w, NS_PER_S / 8);
		world_drop_all(w);
	}
	assert_int_equal(w->node[0].sent_type[WG_INITIATION], 1);
	/* Having answered counts too. */
	world_restart(w, 0, &plain);
	wg_peer_wake(w->node[1].peer, w->now_ns);
	world_deliver(w);
	assert_int_equal(w->node[0].sent_type[WG_RESPONSE], 1);
	world_drop_all(w);
	world_send(w, 0, 1, 1, 100);
	assert_int_equal(w->node[0].sent_type[WG_INITIATION], 1);
	world_destroy(w);
}

static void test_fresh_demand_counts_the_retries_from_zero(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	for (int s = 0; s < 600; s++) {
		world_send(w, 0, (uint32_t)s, 1, 100);
		world_pass(w, NS_PER_S);
		world_drop_all(w);
	}
	assert_true(w->node[0].sent_type[WG_INITIATION] > 100);
	world_send(w, 0, 600, 1, 100);
	world_run(w, 6 * NS_PER_S);
	assert_int_equal(w->node[1].received, 601);
	assert_int_equal(w->node[1].seq[0], 0);
	world_destroy(w);
}

static void test_data_without_an_answer_gets_a_keepalive_after_10_s(void **state)
{
	struct world *w = world_create(&plain);
	struct node *b = &w->node[1];

	(void)state;
	world_connect(w);
	exchange(w, 0);
	world_run(w, 10 * NS_PER_S - 1);
	assert_int_equal(b->keepalives, 0);
	world_run(w, 1);
	assert_int_equal(b->keepalives, 1);
	world_run(w, 60 * NS_PER_S);
	assert_int_equal(b->keepalives, 1);

	/* An answer makes it needless. */
	exchange(w, 0);
	exchange(w, 1);
	world_run(w, 9 * NS_PER_S);
	exchange(w, 0); /* answers in turn, so that node 0 owes nothing */
	world_run(w, NS_PER_S * 2);
	assert_int_equal(b->keepalives, 1);
	world_destroy(w);
}

static void test_more_data_during_the_wait_gets_another_keepalive(void **state)
{
	struct world *w = world_create(&plain);
	struct node *b = &w->node[1];

	(void)state;
	world_connect(w);
	exchange(w, 0);
	world_run(w, 5 * NS_PER_S);
	exchange(w, 0);
	world_run(w, 5 * NS_PER_S);
	assert_int_equal(b->keepalives, 1);
	world_run(w, 10 * NS_PER_S);
	assert_int_equal(b->keepalives, 2);
	world_run(w, 60 * NS_PER_S);
	assert_int_equal(b->keepalives, 2);
	assert_int_equal(initiations(w), 1);
	world_destroy(w);
}

static void test_keepalives_are_not_answered_and_idle_peers_are_silent(void **state)
{
	struct world *w = world_create(&plain);
	unsigned before;

	(void)state;
	world_connect(w);
	exchange(w, 0);
	world_run(w, 30 * NS_PER_S);
	before = w->node[0].transmits + w->node[1].transmits;
	world_run(w, 500 * NS_PER_S);
	assert_int_equal(w->node[0].transmits + w->node[1].transmits, before);
	world_destroy(w);
}

static void test_a_peer_that_does_not_answer_data_gets_a_new_handshake(void **state)
{
	struct world *w = world_create(&plain);
	uint64_t start_ns;

	(void)state;
	world_connect(w);
	start_ns = w->now_ns;
	world_send(w, 0, 1, 1, 100);
	world_drop_all(w);
	while (w->node[0].sent_type[WG_INITIATION] < 2)
		world_pass(w, NS_PER_MS);
	assert_true(w->now_ns - start_ns >= 15 * NS_PER_S);
	assert_true(w->now_ns - start_ns <= 15 * NS_PER_S + WG_REKEY_JITTER + NS_PER_MS);
	world_settle(w);
	assert_int_equal(w->node[0].established, 2);
	world_destroy(w);
}

static void test_a_persistent_keepalive_connects_and_stays(void **state)
{
	struct world_options o = { .is_roaming = true, .keepalive_s = 25, .no_endpoint_1 = true };
	struct world *w = world_create(&o);

	(void)state;
	assert_true(wg_device_deadline(w->node[0].dev) == 0); /* at once */
	world_run(w, 1);
	assert_int_equal(w->node[0].established, 1);
	world_run(w, 100 * NS_PER_S + 1);
	assert_int_equal(w->node[0].keepalives, 5);
	world_run(w, 3600 * NS_PER_S);
	assert_true(wg_peer_can_send(w->node[0].peer, w->now_ns));
	exchange(w, 1);
	world_destroy(w);
}

static void test_a_persistent_keepalive_outlives_an_absent_peer(void **state)
{
	struct world_options o = { .keepalive_s = 25 };
	struct world *w = world_create(&o);

	(void)state;
	for (int i = 0; i < 400; i++) {
		world_pass(w, NS_PER_S);
		world_drop_all(w);
	}
	world_run(w, 40 * NS_PER_S);
	assert_int_equal(w->node[0].established, 1);
	world_destroy(w);
}

static void test_either_side_may_restart(void **state)
{
	(void)state;
	for (int restarted = 0; restarted < 2; restarted++) {
		for (int sender = 0; sender < 2; sender++) {
			struct world *w = world_create(&plain);

			exchange(w, 0);
			exchange(w, 1);
			world_run(w, 30 * NS_PER_S);
			world_restart(w, restarted, &plain);
			w->node[!sender].received = 0;
			world_send(w, sender, 5, 1, 100);
			world_settle(w);
			/* The one that remembers finds out by the 15 s rule. */
			assert_int_equal(w->node[!sender].received, sender == restarted);
			world_run(w, 16 * NS_PER_S);
			exchange(w, sender);
			exchange(w, !sender);
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
		exchange(w, 0);
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
	exchange(w, 1);
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
	exchange(w, 0); /* new keys */
	assert_int_equal(w->node[0].established, 2);
	exchange(w, 1);
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
		exchange(w, i & 1);
		world_run(w, NS_PER_S);
		world_check_indices(w);
	}
	assert_true(w->node[0].established >= 29 && w->node[0].established <= 31);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_either_side_may_start_with_or_without_a_preshared_key),
		cmocka_unit_test(test_different_preshared_keys_make_no_session),
		cmocka_unit_test(test_crossed_initiations_end_in_one_working_session),
		cmocka_unit_test(test_crossed_initiations_do_not_cross_for_ever),
		cmocka_unit_test(test_data_staged_after_a_response_does_not_wait_for_more_data),
		cmocka_unit_test(test_a_replayed_initiation_is_ignored),
		cmocka_unit_test(test_a_replayed_response_is_ignored),
		cmocka_unit_test(test_only_the_initiator_renews_after_two_minutes),
		cmocka_unit_test(test_an_initiator_that_only_receives_renews_once_at_165_s),
		cmocka_unit_test(test_keys_older_than_180_s_neither_send_nor_receive),
		cmocka_unit_test(test_all_keys_are_gone_after_nine_minutes),
		cmocka_unit_test(test_an_unanswered_initiation_is_tried_20_times),
		cmocka_unit_test(test_a_lost_response_is_made_good_by_the_next_try),
		cmocka_unit_test(test_a_lost_confirmation_is_made_good_by_later_packets),
		cmocka_unit_test(test_no_initiation_within_5_s_of_the_last_handshake_message),
		cmocka_unit_test(test_fresh_demand_counts_the_retries_from_zero),
		cmocka_unit_test(test_data_without_an_answer_gets_a_keepalive_after_10_s),
		cmocka_unit_test(test_more_data_during_the_wait_gets_another_keepalive),
		cmocka_unit_test(test_keepalives_are_not_answered_and_idle_peers_are_silent),
		cmocka_unit_test(test_a_peer_that_does_not_answer_data_gets_a_new_handshake),
		cmocka_unit_test(test_a_persistent_keepalive_connects_and_stays),
		cmocka_unit_test(test_a_persistent_keepalive_outlives_an_absent_peer),
		cmocka_unit_test(test_either_side_may_restart),
		cmocka_unit_test(
			test_a_wall_clock_that_stands_still_or_goes_back_does_not_lock_us_out),
		cmocka_unit_test(test_a_keypair_without_counters_left_is_replaced),
		cmocka_unit_test(test_either_role_renews_after_2_to_the_60_packets),
		cmocka_unit_test(test_packets_under_the_previous_keys_still_arrive),
		cmocka_unit_test(test_traffic_for_an_hour_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
