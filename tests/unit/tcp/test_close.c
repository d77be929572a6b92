/* Closing: every order, TIME_WAIT and its reuse, resets, release and abort, giving up. */
#include <errno.h>
#include <string.h>

#include "script.h"
#include "shared/util.h"

static const char *state_of(struct script *t)
{
	static struct tcp_conn_info info;

	tcp_conn_info(t->conn, &info);
	return info.state;
}

static void finish(struct script *t)
{
	tcp_send_finish(t->conn);
	script_flush(t);
}

static void to_time_wait(struct script *t)
{
	finish(t);
	script_expect(t, F | A, 1, 1, 0);
	assert_string_equal(state_of(t), "FIN-WAIT-1");
	script_send(t, (struct peer){ .flags = A, .seq = 1, .ack = 2 });
	assert_string_equal(state_of(t), "FIN-WAIT-2");
	script_send(t, (struct peer){ .flags = F | A, .seq = 1, .ack = 2 });
	script_expect(t, A, 2, 2, 0);
	assert_string_equal(state_of(t), "TIME-WAIT");
	assert_true(tcp_recv_ended(t->conn));
	tcp_release(t->conn, t->now_ns);
	script_flush(t);
	script_expect_none(t);
	assert_true(script_stats(t).time_wait > 0);
}

static void test_we_close_first(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	to_time_wait(&t);
	script_wait_ms(&t, 59000);
	assert_int_equal(script_stats(&t).time_wait, 1);
	script_wait_ms(&t, 2000);
	assert_int_equal(script_stats(&t).time_wait, 0);
	script_finish(&t);
}

static void test_the_far_side_closes_first(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = F | A, .seq = 1, .ack = 1 });
	script_expect(&t, A, 1, 2, 0);
	assert_true(script_events(&t) & TCP_EVENT_READABLE);
	assert_true(tcp_recv_ended(t.conn));
	assert_string_equal(state_of(&t), "CLOSE-WAIT");
	script_write(&t, 100); /* half-closed: we still send */
	script_flush(&t);
	script_expect(&t, A, 1, 2, 100);
	finish(&t);
	script_expect(&t, F | A, 101, 2, 0);
	assert_string_equal(state_of(&t), "LAST-ACK");
	script_send(&t, (struct peer){ .flags = A, .seq = 2, .ack = 102 });
	assert_string_equal(state_of(&t), "CLOSED");
	assert_true(script_events(&t) & TCP_EVENT_SENT);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_stats(&t).time_wait, 0);
	script_finish(&t);
}

static void test_both_close_at_once(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	finish(&t);
	script_expect(&t, F | A, 1, 1, 0);
	script_send(&t, (struct peer){ .flags = F | A, .seq = 1, .ack = 1 });
	script_expect(&t, A, 2, 2, 0);
	assert_string_equal(state_of(&t), "CLOSING");
	script_send(&t, (struct peer){ .flags = A, .seq = 2, .ack = 2 });
	assert_string_equal(state_of(&t), "TIME-WAIT");
	script_finish(&t);
}

static void test_a_fin_with_data_and_the_acknowledgement_closes_at_once(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	finish(&t);
	script_expect(&t, F | A, 1, 1, 0);
	script_send(&t, (struct peer){ .flags = F | A, .seq = 1, .ack = 2, .len = 10 });
	script_expect(&t, A, 2, 12, 0);
	assert_string_equal(state_of(&t), "TIME-WAIT");
	assert_int_equal(script_read(&t), 10);
	assert_true(tcp_recv_ended(t.conn));
	script_finish(&t);
}

static void test_an_early_fin_waits_for_what_is_missing(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = F | A, .seq = 101, .ack = 1, .len = 50 });
	script_expect(&t, A, 1, 1, 0);
	assert_false(tcp_recv_ended(t.conn));
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 100 });
	script_expect(&t, A, 1, 152, 0);
	assert_int_equal(script_read(&t), 150);
	assert_true(tcp_recv_ended(t.conn));
	script_finish(&t);
}

/* A liar's: the stream is over where the FIN says, and does not run past it. */
static void test_bytes_behind_a_fin_are_forgotten(void **state)
{
	struct script t;

	(void)state;
	for (uint32_t behind = 0; behind < 2; behind++) {
		script_begin(&t);
		script_send(&t,
			    (struct peer){ .flags = A, .seq = 101 + behind, .ack = 1, .len = 99 });
		script_expect(&t, A, 1, 1, 0);
		script_send(&t, (struct peer){ .flags = F | A, .seq = 101, .ack = 1 });
		script_expect(&t, A, 1, 1, 0);
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 100 });
		script_expect(&t, A, 1, 102, 0);
		assert_int_equal(script_read(&t), 100);
		assert_true(tcp_recv_ended(t.conn));
		assert_int_equal(script_stats(&t).memory, 0);
		script_finish(&t);
	}
}

static void test_a_lost_fin_is_sent_again(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	finish(&t);
	script_expect(&t, F | A, 1, 1, 0);
	script_wait_ms(&t, 400);
	script_expect(&t, F | A, 1, 1, 0);
	script_finish(&t);
}

static void test_time_wait_repeats_its_acknowledgement(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	to_time_wait(&t);
	script_wait_ms(&t, 1000);
	script_send(&t, (struct peer){ .flags = F | A, .seq = 1, .ack = 2 });
	script_expect(&t, A, 2, 2, 0);
	script_send(&t, (struct peer){ .flags = R | A, .seq = 2, .ack = 2 });
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).time_wait, 1);
	script_finish(&t);
}

static void test_time_wait_gives_way_to_a_newer_syn(void **state)
{
	uint32_t old_iss;
	struct script t;

	(void)state;
	script_begin(&t);
	to_time_wait(&t);
	old_iss = t.iss;
	script_send(&t, (struct peer){ .flags = S, .seq = 0 });
	script_expect(&t, A, 2, 2, 0); /* an old SYN: only its answer */
	assert_int_equal(t.incoming, 0);
	script_send(&t, (struct peer){ .flags = S, .seq = 100 });
	assert_int_equal(t.incoming, 1);
	assert_int_equal(script_stats(&t).time_wait, 0);
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	script_expect(&t, S | A, 0, 101, 0);
	assert_true(seq_lt(old_iss + 2, t.iss));
	script_finish(&t);
}

/* A far side without timestamps that dials again with a lower number: it resets what we have. */
static void test_time_wait_ends_when_a_syn_was_in_earnest(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	to_time_wait(&t);
	script_send(&t, (struct peer){ .flags = S, .seq = (uint32_t)-5000 });
	script_expect(&t, A, 2, 2, 0);
	assert_int_equal(t.incoming, 0);
	script_send(&t, (struct peer){ .flags = R, .seq = 1 });
	script_send(&t, (struct peer){ .flags = R, .seq = 3 });
	assert_int_equal(script_stats(&t).time_wait, 1);
	script_send(&t, (struct peer){ .flags = R, .seq = 2 });
	assert_int_equal(script_stats(&t).time_wait, 0);
	script_wait_ms(&t, 1000);
	script_send(&t, (struct peer){ .flags = S, .seq = (uint32_t)-5000 });
	assert_int_equal(t.incoming, 1);
	script_finish(&t);
}

static void test_time_wait_with_timestamps_goes_by_them(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	to_time_wait(&t);
	script_send(&t, (struct peer){ .flags = S, .seq = 100, .ts = 500 });
	assert_int_equal(t.incoming, 0);
	script_send(&t, (struct peer){ .flags = S, .seq = 0 });
	assert_int_equal(t.incoming, 1);
	script_finish(&t);
}

static void test_time_wait_gives_way_to_our_own_dial(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	to_time_wait(&t);
	script_connect(&t);
	assert_int_equal(script_stats(&t).time_wait, 0);
	script_finish(&t);
}

static void test_time_wait_is_bounded(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.config.max_time_wait = 1;
	script_start(&t);
	script_connect(&t);
	to_time_wait(&t);
	t.remote.port++;
	script_connect(&t);
	to_time_wait(&t);
	assert_int_equal(script_stats(&t).time_wait, 1);
	script_finish(&t);
}

/* An idle node does not wake for each of what it did a minute ago. */
static void test_records_end_many_at_a_time(void **state)
{
	unsigned deadlines = 0;
	struct script t;

	(void)state;
	script_init(&t);
	script_start(&t);
	for (unsigned i = 0; i < 100; i++) {
		t.remote.port++;
		script_connect(&t);
		to_time_wait(&t);
		script_wait_ms(&t, 10);
	}
	assert_int_equal(script_stats(&t).time_wait, 100);
	while (script_stats(&t).time_wait) {
		t.now_ns = tcp_deadline(t.tcp);
		assert_true(t.now_ns != NEVER_NS);
		tcp_expire(t.tcp, t.now_ns);
		deadlines++;
	}
	assert_in_range(deadlines, 1, 5);
	script_finish(&t);
}

static void test_destroying_frees_connections_and_records_in_one_chain(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	script_start(&t);
	for (unsigned i = 0; i < 200; i++) {
		t.remote.port++;
		script_connect(&t);
		if (i % 2)
			continue;
		to_time_wait(&t);
	}
	assert_int_equal(script_stats(&t).conns, 100);
	script_finish(&t);
}

static void finish_by_reset(struct script *t)
{
	tcp_finish_by_reset(t->conn, t->now_ns);
	script_flush(t);
}

static void test_what_was_written_goes_before_our_reset(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 300);
	finish_by_reset(&t);
	script_expect(&t, A, 1, 1, 300);
	script_expect_none(&t);
	/* What comes meanwhile has no taker: not acknowledged, not answered by a reset yet. */
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 50 });
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 301 });
	script_expect(&t, R | A, 301, 1, 0);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_our_reset_goes_at_once_when_nothing_is_before_it(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	finish_by_reset(&t);
	script_expect(&t, R | A, 1, 1, 0);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
	/* Nor does it wait for a shut window. */
	script_begin(&t);
	t.window = 0;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_write(&t, 300);
	finish_by_reset(&t);
	script_expect(&t, R | A, 1, 1, 0);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_a_port_may_be_used_again_before_its_reset(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 300);
	finish_by_reset(&t);
	script_expect(&t, A, 1, 1, 300);
	assert_int_equal(tcp_connect(t.tcp, &t.local, &t.remote, &t, t.now_ns, &t.conn), 0);
	script_flush(&t);
	assert_int_equal(t.out[t.first].s.flags, R | A);
	t.first++;
	script_expect(&t, S, 0, 0, 0);
	assert_int_equal(script_stats(&t).conns, 1);
	script_finish(&t);
}

static void test_our_reset_does_not_wait_for_a_silent_far_side(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 300);
	finish_by_reset(&t);
	script_expect(&t, A, 1, 1, 300);
	script_wait_ms(&t, 1900);
	assert_int_equal(script_stats(&t).conns, 1);
	while (t.first < t.count)
		script_expect(&t, A, 1, 1, 300);
	script_wait_ms(&t, 200);
	script_expect(&t, R | A, 301, 1, 0);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_a_reset_ends_it(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = R | A, .seq = 1, .ack = 1 });
	script_expect_none(&t);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ECONNRESET);
	script_finish(&t);
}

static void test_a_blind_reset_or_syn_is_challenged(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = R, .seq = 100 });
	script_expect(&t, A, 1, 1, 0);
	script_send(&t, (struct peer){ .flags = S, .seq = 1 });
	script_expect_none(&t); /* not more than one in half a second */
	script_wait_ms(&t, 600);
	script_send(&t, (struct peer){ .flags = S, .seq = 77777 });
	script_expect(&t, A, 1, 1, 0);
	script_wait_ms(&t, 600);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 5000 });
	script_expect(&t, A, 1, 1, 0); /* acknowledges what was never sent */
	script_wait_ms(&t, 600);
	script_send(&t, (struct peer){ .flags = R, .seq = 5000000 });
	script_expect_none(&t);
	assert_int_equal(script_events(&t), 0);
	assert_int_equal(script_stats(&t).challenge_acks, 3);
	script_finish(&t);
}

static void test_abort_resets(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	tcp_abort(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, R | A, 1, 1, 0);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_release_delivers_what_was_written(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 10);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, F | A, 1, 1, 10);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 12 });
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 1);
	script_wait_ms(&t, 61000); /* nobody waits for its FIN for ever */
	assert_int_equal(script_stats(&t).conns, 0);
	assert_int_equal(script_stats(&t).memory, 0);
	script_finish(&t);
}

static void test_release_with_unread_or_later_bytes_resets(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10 });
	script_expect(&t, A, 1, 11, 0);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, R | A, 1, 11, 0);
	script_finish(&t);

	script_begin(&t);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, F | A, 1, 1, 0);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 2, .len = 10 });
	script_expect(&t, R | A, 2, 1, 0);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_silence_ends_it_after_a_quarter_of_an_hour(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 10);
	script_flush(&t);
	script_wait_ms(&t, 900 * 1000);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 180 * 1000);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ETIMEDOUT);
	script_finish(&t);
}

/* The machine slept, or we were stopped: nobody was asked in all that time. */
static void oversleep(struct script *t)
{
	t->now_ns += 8 * 3600 * NS_PER_S;
	tcp_expire(t->tcp, t->now_ns);
}

static void test_time_that_was_slept_through_is_no_silence(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 10);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 10);
	oversleep(&t);
	oversleep(&t);
	assert_int_equal(script_events(&t), 0);
	script_expect(&t, A, 1, 1, 10);
	/* A far side that has gone is still found out. */
	script_wait_ms(&t, 1000 * 1000);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ETIMEDOUT);
	script_finish(&t);
}

static void test_a_closed_one_that_slept_delivers_what_was_written(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 10);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, F | A, 1, 1, 10);
	oversleep(&t);
	oversleep(&t);
	script_expect(&t, F | A, 1, 1, 10);
	assert_int_equal(script_stats(&t).conns, 1);
	script_wait_ms(&t, 1000 * 1000);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_keepalive_asks_and_gives_up(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.config.keepalive_ns = 100 * NS_PER_S;
	script_start(&t);
	script_connect(&t);
	script_wait_ms(&t, 100 * 1000);
	script_expect(&t, A, 0, 1, 0);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_wait_ms(&t, 90 * 1000);
	script_expect_none(&t);
	script_wait_ms(&t, 700 * 1000);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ETIMEDOUT);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_we_close_first),
		cmocka_unit_test(test_the_far_side_closes_first),
		cmocka_unit_test(test_both_close_at_once),
		cmocka_unit_test(test_a_fin_with_data_and_the_acknowledgement_closes_at_once),
		cmocka_unit_test(test_an_early_fin_waits_for_what_is_missing),
		cmocka_unit_test(test_bytes_behind_a_fin_are_forgotten),
		cmocka_unit_test(test_a_lost_fin_is_sent_again),
		cmocka_unit_test(test_time_wait_repeats_its_acknowledgement),
		cmocka_unit_test(test_time_wait_gives_way_to_a_newer_syn),
		cmocka_unit_test(test_time_wait_ends_when_a_syn_was_in_earnest),
		cmocka_unit_test(test_time_wait_with_timestamps_goes_by_them),
		cmocka_unit_test(test_time_wait_gives_way_to_our_own_dial),
		cmocka_unit_test(test_time_wait_is_bounded),
		cmocka_unit_test(test_records_end_many_at_a_time),
		cmocka_unit_test(test_destroying_frees_connections_and_records_in_one_chain),
		cmocka_unit_test(test_what_was_written_goes_before_our_reset),
		cmocka_unit_test(test_our_reset_goes_at_once_when_nothing_is_before_it),
		cmocka_unit_test(test_a_port_may_be_used_again_before_its_reset),
		cmocka_unit_test(test_our_reset_does_not_wait_for_a_silent_far_side),
		cmocka_unit_test(test_a_reset_ends_it),
		cmocka_unit_test(test_a_blind_reset_or_syn_is_challenged),
		cmocka_unit_test(test_abort_resets),
		cmocka_unit_test(test_release_delivers_what_was_written),
		cmocka_unit_test(test_release_with_unread_or_later_bytes_resets),
		cmocka_unit_test(test_silence_ends_it_after_a_quarter_of_an_hour),
		cmocka_unit_test(test_time_that_was_slept_through_is_no_silence),
		cmocka_unit_test(test_a_closed_one_that_slept_delivers_what_was_written),
		cmocka_unit_test(test_keepalive_asks_and_gives_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
