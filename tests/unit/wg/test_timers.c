/* The timer rules, over hours of a clock that the test moves. */
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

static void test_only_the_initiator_renews_after_two_minutes(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	world_run(w, 120 * NS_PER_S);
	world_exchange(w, 0); /* not yet older than 120 s */
	assert_int_equal(initiations(w), 1);
	world_run(w, NS_PER_S);
	world_exchange(w, 1); /* the responder does not */
	assert_int_equal(initiations(w), 1);
	world_exchange(w, 0);
	assert_int_equal(w->node[0].sent_type[WG_INITIATION], 2);
	world_exchange(w, 0);
	world_exchange(w, 1);
	assert_int_equal(w->node[0].established, 2);
	assert_int_equal(w->node[1].established, 2);
	world_destroy(w);
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
	world_exchange(w, 1);
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
	world_exchange(w, 0);
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
	world_exchange(w, 0);
	world_run(w, 10 * NS_PER_S - 1);
	assert_int_equal(b->keepalives, 0);
	world_run(w, 1);
	assert_int_equal(b->keepalives, 1);
	world_run(w, 60 * NS_PER_S);
	assert_int_equal(b->keepalives, 1);

	/* An answer makes it needless. */
	world_exchange(w, 0);
	world_exchange(w, 1);
	world_run(w, 9 * NS_PER_S);
	world_exchange(w, 0); /* answers in turn, so that node 0 owes nothing */
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
	world_exchange(w, 0);
	world_run(w, 5 * NS_PER_S);
	world_exchange(w, 0);
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
	world_exchange(w, 0);
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
	world_exchange(w, 1);
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

static void test_a_persistent_keepalive_may_begin_change_and_end(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	unsigned before;

	(void)state;
	world_connect(w);
	world_run(w, 20 * NS_PER_S); /* what connecting left to say is said */
	before = a->keepalives;
	wg_peer_set_keepalive(a->peer, 25);
	world_run(w, 50 * NS_PER_S + 1);
	assert_int_equal(a->keepalives, before + 3);
	wg_peer_set_keepalive(a->peer, 10);
	world_run(w, 20 * NS_PER_S + 1);
	assert_int_equal(a->keepalives, before + 6);
	wg_peer_set_keepalive(a->peer, 0);
	world_run(w, 1000 * NS_PER_S);
	assert_int_equal(a->keepalives, before + 6);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_the_initiator_renews_after_two_minutes),
		cmocka_unit_test(test_an_initiator_that_only_receives_renews_once_at_165_s),
		cmocka_unit_test(test_keys_older_than_180_s_neither_send_nor_receive),
		cmocka_unit_test(test_all_keys_are_gone_after_nine_minutes),
		cmocka_unit_test(test_an_unanswered_initiation_is_tried_20_times),
		cmocka_unit_test(test_no_initiation_within_5_s_of_the_last_handshake_message),
		cmocka_unit_test(test_fresh_demand_counts_the_retries_from_zero),
		cmocka_unit_test(test_data_without_an_answer_gets_a_keepalive_after_10_s),
		cmocka_unit_test(test_more_data_during_the_wait_gets_another_keepalive),
		cmocka_unit_test(test_keepalives_are_not_answered_and_idle_peers_are_silent),
		cmocka_unit_test(test_a_peer_that_does_not_answer_data_gets_a_new_handshake),
		cmocka_unit_test(test_a_persistent_keepalive_connects_and_stays),
		cmocka_unit_test(test_a_persistent_keepalive_outlives_an_absent_peer),
		cmocka_unit_test(test_a_persistent_keepalive_may_begin_change_and_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
