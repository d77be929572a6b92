/* What programs ask for in place of our own times: keepalive and TCP_USER_TIMEOUT, as in Linux. */
#include <errno.h>

#include "shared/util.h"
#include "tests/unit/tcp/script.h"

static const struct tcp_patience keepalive = { .idle_ns = 10 * NS_PER_S,
					       .interval_ns = 2 * NS_PER_S,
					       .count = 3 };
static const struct tcp_patience user_timeout = { .user_timeout_ns = 2 * NS_PER_S };

static void begin(struct script *t, const struct tcp_patience *patience)
{
	script_init(t);
	t->config.keepalive_ns = 7200 * NS_PER_S;
	script_start(t);
	script_connect(t);
	script_events(t);
	tcp_set_patience(t->conn, patience, t->now_ns);
}

static void answer(struct script *t, uint32_t ack)
{
	script_send(t, (struct peer){ .flags = A, .seq = 1, .ack = ack });
}

static void expect_timeout(struct script *t)
{
	assert_int_equal(script_events(t) & TCP_EVENT_FAILED, TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t->conn), ETIMEDOUT);
	assert_true(tcp_conn_fell_silent(t->conn));
	script_finish(t);
}

static void forget_packets(struct script *t)
{
	t->first = t->count = 0;
}

/* Idle, then so many questions that far apart, and one interval more for the last answer. */
static void test_keepalive_goes_by_idle_interval_and_count(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &keepalive);
	script_wait_ms(&t, 9900);
	script_expect_none(&t);
	script_wait_ms(&t, 200);
	script_expect(&t, A, 0, 1, 0);
	script_wait_ms(&t, 1800);
	script_expect_none(&t);
	script_wait_ms(&t, 2000);
	script_expect(&t, A, 0, 1, 0);
	script_wait_ms(&t, 2000);
	script_expect(&t, A, 0, 1, 0);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 200);
	script_expect(&t, R | A, 1, 1, 0);
	expect_timeout(&t);
}

static void test_an_answer_begins_it_anew(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &keepalive);
	for (int i = 0; i < 4; i++) {
		script_wait_ms(&t, 12500);
		script_expect(&t, A, 0, 1, 0);
		script_expect(&t, A, 0, 1, 0);
		answer(&t, 1);
		script_expect_none(&t);
	}
	assert_int_equal(script_events(&t), 0);
	script_finish(&t);
}

/* What is in flight asks already, and ends after a quarter of an hour: no question beside it. */
static void test_keepalive_leaves_what_is_in_flight_alone(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &keepalive);
	script_write(&t, 10);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 10);
	script_wait_ms(&t, 60 * 1000);
	while (t.first < t.count)
		script_expect(&t, A, 1, 1, 10);
	assert_int_equal(script_events(&t), 0);
	answer(&t, 11);
	/* It may have waited for one more idle time. */
	script_wait_ms(&t, 20 * 1000 + 6 * 1000);
	expect_timeout(&t);
}

/* As a program sets it on a connection that has been silent for longer already. */
static void test_set_late_it_asks_at_once_and_when_taken_back_never(void **state)
{
	static const struct tcp_patience none = { 0 };
	struct script t;

	(void)state;
	begin(&t, &none);
	script_wait_ms(&t, 60 * 1000);
	tcp_set_patience(t.conn, &keepalive, t.now_ns);
	script_wait_ms(&t, 100);
	script_expect(&t, A, 0, 1, 0);
	answer(&t, 1);
	/* Set again it is not asked more often. */
	tcp_set_patience(t.conn, &keepalive, t.now_ns);
	script_wait_ms(&t, 9000);
	script_expect_none(&t);
	tcp_set_patience(t.conn, &none, t.now_ns);
	script_wait_ms(&t, 3600 * 1000);
	script_expect_none(&t);
	assert_int_equal(script_events(&t), 0);
	script_finish(&t);
}

static void test_set_before_the_connection_stands_it_counts_from_there(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	script_start(&t);
	script_dial(&t);
	tcp_set_patience(t.conn, &keepalive, t.now_ns);
	script_wait_ms(&t, 500);
	script_send(&t, (struct peer){ .flags = S | A, .ack = 1 });
	script_expect(&t, A, 1, 1, 0);
	script_wait_ms(&t, 9900);
	script_expect_none(&t);
	script_wait_ms(&t, 200);
	script_expect(&t, A, 0, 1, 0);
	script_finish(&t);
}

static void test_user_timeout_ends_what_nobody_acknowledges(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &user_timeout);
	script_wait_ms(&t, 60 * 1000); /* nothing waits: nothing ends */
	script_write(&t, 10);
	script_flush(&t);
	script_wait_ms(&t, 1900);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 200);
	expect_timeout(&t);
}

static void test_user_timeout_begins_anew_with_each_progress(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &user_timeout);
	script_write(&t, 40);
	script_flush(&t);
	for (uint32_t acked = 11; acked <= 41; acked += 10) {
		script_wait_ms(&t, 1900);
		assert_int_equal(script_events(&t) & TCP_EVENT_FAILED, 0);
		answer(&t, acked);
	}
	script_wait_ms(&t, 60 * 1000);
	assert_int_equal(script_events(&t) & TCP_EVENT_FAILED, 0);
	script_finish(&t);
}

/* It may also be longer than our own patience of a quarter of an hour. */
static void test_user_timeout_may_be_longer_than_ours(void **state)
{
	static const struct tcp_patience hour = { .user_timeout_ns = 3600 * NS_PER_S };
	struct script t;

	(void)state;
	begin(&t, &hour);
	script_write(&t, 10);
	script_flush(&t);
	script_wait_ms(&t, 3500 * 1000);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 200 * 1000);
	expect_timeout(&t);
}

/* Behind a window that stays shut, too, although the far side answers: as Linux does. */
static void test_user_timeout_counts_behind_a_shut_window(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &user_timeout);
	script_wait_ms(&t, 60 * 1000);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
	script_write(&t, 10);
	script_flush(&t);
	for (int i = 0; i < 19; i++) {
		script_wait_ms(&t, 100);
		assert_int_equal(script_events(&t) & TCP_EVENT_FAILED, 0);
		if (t.count > t.first) {
			forget_packets(&t);
			script_send(
				&t,
				(struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
		}
	}
	script_wait_ms(&t, 2000);
	expect_timeout(&t);
}

/* A machine that slept has asked nobody: at least one timeout comes first. */
static void test_user_timeout_does_not_count_sleep_alone(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &user_timeout);
	script_write(&t, 10);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 10);
	t.now_ns += 3600 * NS_PER_S;
	tcp_expire(t.tcp, t.now_ns);
	script_expect(&t, A, 1, 1, 10);
	assert_int_equal(script_events(&t), 0);
	answer(&t, 11);
	script_wait_ms(&t, 10 * 1000);
	assert_int_equal(script_events(&t) & TCP_EVENT_FAILED, 0);
	script_finish(&t);
}

static void test_set_during_the_wait_it_ends_it(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &(struct tcp_patience){ 0 });
	script_write(&t, 10);
	script_flush(&t);
	script_wait_ms(&t, 60 * 1000);
	assert_int_equal(script_events(&t), 0);
	tcp_set_patience(t.conn, &user_timeout, t.now_ns);
	script_wait_ms(&t, 1000);
	expect_timeout(&t);
}

/* It stands in place of keepalive's count, sooner or later, and does nothing without keepalive. */
static void test_user_timeout_overrides_the_count(void **state)
{
	struct tcp_patience sooner = keepalive, later = keepalive;
	struct script t;

	(void)state;
	sooner.user_timeout_ns = 2 * NS_PER_S;
	begin(&t, &sooner);
	script_wait_ms(&t, 11900);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 200);
	expect_timeout(&t);

	later.user_timeout_ns = 30 * NS_PER_S;
	begin(&t, &later);
	script_wait_ms(&t, 29900);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 200);
	expect_timeout(&t);
}

static void test_a_connection_is_found_by_its_ends_while_it_is_held(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &user_timeout);
	assert_ptr_equal(tcp_find(t.tcp, &t.local, &t.remote), t.conn);
	assert_ptr_equal(tcp_conn_user(t.conn), &t);
	assert_null(tcp_find(t.tcp, &t.remote, &t.local));
	tcp_release(t.conn, t.now_ns);
	assert_null(tcp_find(t.tcp, &t.local, &t.remote));
	script_finish(&t);
}

/* As a listener gives it: before the peer has had an answer to its SYN. */
static void test_one_that_is_parked_keeps_its_patience(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	script_start(&t);
	script_send(&t, (struct peer){ .flags = S });
	assert_ptr_equal(tcp_find(t.tcp, &t.local, &t.remote), t.conn);
	assert_null(tcp_conn_user(t.conn));
	tcp_set_patience(t.conn, &keepalive, t.now_ns);
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	script_expect(&t, S | A, 0, 1, 0);
	script_wait_ms(&t, 10);
	answer(&t, 1);
	script_wait_ms(&t, 1000);
	forget_packets(&t);
	script_wait_ms(&t, 8900);
	script_expect_none(&t);
	script_wait_ms(&t, 200);
	script_expect(&t, A, 0, 1, 0);
	script_finish(&t);
}

static void test_an_owner_asks_when_nothing_is_outstanding(void **state)
{
	struct script t;
	uint64_t asked_ns;

	(void)state;
	begin(&t, &keepalive);
	script_wait_ms(&t, 100);
	asked_ns = t.now_ns;
	assert_true(tcp_ask(t.conn));
	script_flush(&t);
	script_expect(&t, A, 0, 1, 0);
	assert_true(tcp_heard_ns(t.conn) < asked_ns);
	script_wait_ms(&t, 100);
	answer(&t, 1);
	assert_true(tcp_heard_ns(t.conn) > asked_ns);
	script_write(&t, 10);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 10);
	assert_false(tcp_ask(t.conn));
	tcp_cut_off(t.conn, EHOSTUNREACH, t.now_ns);
	assert_false(tcp_ask(t.conn));
	script_events(&t);
	script_finish(&t);
}

/* Its program's kernel counts in the endpoint's place. */
static void test_while_the_owner_waits_keepalive_ends_nothing(void **state)
{
	struct script t;

	(void)state;
	begin(&t, &keepalive);
	tcp_owner_waits(t.conn, true);
	script_wait_ms(&t, 3600 * 1000);
	script_expect_none(&t);
	assert_int_equal(script_events(&t), 0);
	answer(&t, 1);
	assert_int_equal(script_events(&t), TCP_EVENT_HEARD);
	tcp_owner_waits(t.conn, false);
	answer(&t, 1);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 20 * 1000);
	expect_timeout(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keepalive_goes_by_idle_interval_and_count),
		cmocka_unit_test(test_an_answer_begins_it_anew),
		cmocka_unit_test(test_keepalive_leaves_what_is_in_flight_alone),
		cmocka_unit_test(test_set_late_it_asks_at_once_and_when_taken_back_never),
		cmocka_unit_test(test_set_before_the_connection_stands_it_counts_from_there),
		cmocka_unit_test(test_user_timeout_ends_what_nobody_acknowledges),
		cmocka_unit_test(test_user_timeout_begins_anew_with_each_progress),
		cmocka_unit_test(test_user_timeout_may_be_longer_than_ours),
		cmocka_unit_test(test_user_timeout_counts_behind_a_shut_window),
		cmocka_unit_test(test_user_timeout_does_not_count_sleep_alone),
		cmocka_unit_test(test_set_during_the_wait_it_ends_it),
		cmocka_unit_test(test_user_timeout_overrides_the_count),
		cmocka_unit_test(test_a_connection_is_found_by_its_ends_while_it_is_held),
		cmocka_unit_test(test_one_that_is_parked_keeps_its_patience),
		cmocka_unit_test(test_an_owner_asks_when_nothing_is_outstanding),
		cmocka_unit_test(test_while_the_owner_waits_keepalive_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
