/* Loss and its recovery: SACK, duplicates, proportional sending, tail probes, timeouts, undo. */
#include <errno.h>

#include "script.h"
#include "shared/util.h"

#define M SCRIPT_MSS

static void test_a_hole_is_sent_again_when_later_segments_are_sacked(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 10);
	script_expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	script_queue(&t,
		     (struct peer){ .flags = A, .seq = 1, .ack = 1, .sack = { 1 + M, 1 + 2 * M } });
	script_queue(&t,
		     (struct peer){ .flags = A, .seq = 1, .ack = 1, .sack = { 1 + M, 1 + 3 * M } });
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 1, .ack = 1, .sack = { 1 + M, 1 + 4 * M } });
	script_expect(&t, A, 1, 1, M);
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
	assert_int_equal(script_stats(&t).retransmitted, 1);
	assert_int_equal(script_stats(&t).fast_recoveries, 1);
	assert_int_equal(script_stats(&t).timeouts, 0);
	assert_true(script_events(&t) & TCP_EVENT_SENT);
	script_finish(&t);
}

/* Segments of data since the last call. */
static unsigned sent_segments(struct script *t)
{
	unsigned count = 0;

	for (; t->first < t->count; t->first++)
		count += t->out[t->first].s.len > 0;
	t->first = t->count = 0;
	return count;
}

/* RFC 6937: seven for ten that arrived, and no silence of half a round trip before. */
static void test_recovery_sends_in_proportion_to_what_arrives(void **state)
{
	const uint32_t acked = 1 + 30 * M, flight = 40;
	unsigned arrived = 0, sent = 0;
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 30);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
	script_write_segments(&t, 40);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = acked });
	script_write_segments(&t, 40);
	assert_int_equal(sent_segments(&t), 30 + flight);
	script_wait_ms(&t, 1);
	for (uint32_t n = 1; n < flight; n++) {
		unsigned now;

		script_send(&t, (struct peer){ .flags = A,
					       .seq = 1,
					       .ack = acked,
					       .sack = { acked + M, acked + (1 + n) * M } });
		now = sent_segments(&t);
		assert_true(now <= 2); /* no burst */
		if (script_stats(&t).fast_recoveries == 0)
			continue;
		sent += now;
		arrived++;
		assert_in_range(sent, arrived * 6 / 10, arrived * 8 / 10 + 1);
	}
	assert_true(arrived > flight / 2);
	assert_int_equal(script_stats(&t).fast_recoveries, 1);
	assert_int_equal(script_stats(&t).retransmitted, 1);
	script_finish(&t);
}

static void test_a_little_reordering_is_no_loss(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 10);
	script_expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 1, .ack = 1, .sack = { 1 + M, 1 + 2 * M } });
	script_wait_ms(&t, 1);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	script_expect_none(&t);
	script_wait_ms(&t, 3);
	assert_int_equal(script_stats(&t).retransmitted, 0);
	script_finish(&t);
}

static void test_without_sack_three_duplicates_mean_loss(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_sack = false;
	script_start(&t);
	script_connect(&t);
	script_write_segments(&t, 10);
	script_expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	for (unsigned i = 0; i < 2; i++)
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect(&t, A, 1, 1, M);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 4 * M });
	script_expect(&t, A, 1 + 4 * M, 1, M); /* a partial acknowledgement: the next hole */
	assert_int_equal(script_stats(&t).timeouts, 0);
	script_finish(&t);
}

static void test_a_lost_tail_is_probed_before_the_timeout(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 3);
	script_expect_train(&t, 1, 3);
	script_wait_ms(&t,
		       35); /* two round trips of 10 ms and a little, and another for the answer */
	script_expect(&t, A, 1 + 2 * M, 1, M);
	assert_int_equal(script_stats(&t).timeouts, 0);
	script_send(&t, (struct peer){
				.flags = A, .seq = 1, .ack = 1, .sack = { 1 + 2 * M, 1 + 3 * M } });
	script_wait_ms(&t, 20);
	script_expect(&t, A, 1, 1, M);
	script_finish(&t);
}

static void test_timeouts_back_off(void **state)
{
	static const unsigned gaps_ms[] = { 210, 420, 840, 1680 };
	struct script t;

	(void)state;
	script_init(&t);
	t.has_sack = false; /* no tail probe before it */
	script_start(&t);
	script_connect(&t);
	script_write_segments(&t, 2);
	script_expect_train(&t, 1, 2);
	for (unsigned i = 0; i < ARRAY_LEN(gaps_ms); i++) {
		script_wait_ms(&t, gaps_ms[i] - 1);
		script_expect_none(&t);
		script_wait_ms(&t, 1);
		script_expect(&t, A, 1, 1, M); /* one segment: the window is shut to it */
	}
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M });
	script_expect(&t, A, 1 + M, 1, M);
	assert_int_equal(script_stats(&t).timeouts, 4);
	script_finish(&t);
}

static void test_a_late_acknowledgement_undoes_the_timeout(void **state)
{
	struct tcp_conn_info before, after;
	uint32_t original;
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	script_write(&t, 12 * (M - 12));
	script_flush(&t);
	tcp_conn_info(t.conn, &before);
	original = t.count;
	script_wait_ms(&t, 1000); /* the tail probe and the timeout */
	assert_true(script_stats(&t).timeouts > 0);
	t.count = original; /* the echo is of the first sending */
	t.first = original;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + (M - 12) });
	tcp_conn_info(t.conn, &after);
	assert_true(after.cwnd >= before.cwnd);
	script_finish(&t);
}

/* Pacing holds back most of what is sent anew; the first acknowledgement finds it "lost". */
static void test_a_smaller_path_mtu_is_no_congestion(void **state)
{
	struct tcp_conn_info before, after;
	struct script t;
	unsigned sent;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 30);
	script_expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
	script_wait_ms(&t, 9); /* paced */
	tcp_conn_info(t.conn, &before);
	assert_true(before.pacing_rate > 0 && before.unacked >= 15 * M);
	sent = t.count;
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 700, t.now_ns);
	script_flush(&t);
	assert_in_range(t.count - sent, 1, 39); /* one at least of the 40 pieces waits */
	script_wait_ms(&t, 2);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M + 660 });
	assert_int_equal(script_stats(&t).fast_recoveries, 0);
	script_wait_ms(&t, 30);
	tcp_conn_info(t.conn, &before);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 30 * M });
	tcp_conn_info(t.conn, &after);
	assert_int_equal(after.unacked, 0);
	assert_true(after.cwnd >= 20 * M);
	assert_int_equal(after.ssthresh, before.ssthresh);
	script_finish(&t);
}

/* It says that more is wrong than what was too long; but one reduction is enough for one flight. */
static void test_a_timeout_after_a_smaller_path_mtu_is_congestion(void **state)
{
	struct tcp_conn_info before, after;
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 30);
	script_expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
	script_wait_ms(&t, 9);
	tcp_conn_info(t.conn, &before);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 700, t.now_ns);
	script_flush(&t);
	tcp_conn_info(t.conn, &after);
	assert_true(after.mss < M && after.ssthresh == before.ssthresh);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 600, t.now_ns);
	script_flush(&t);
	script_wait_ms(&t, 300);
	assert_int_equal(script_stats(&t).timeouts, 1);
	tcp_conn_info(t.conn, &after);
	assert_in_range(after.ssthresh, before.cwnd * 69 / 100, before.cwnd * 70 / 100);
	assert_int_equal(after.cwnd, after.mss);
	script_wait_ms(&t, 3000);
	assert_true(script_stats(&t).timeouts > 2);
	tcp_conn_info(t.conn, &before);
	assert_int_equal(before.ssthresh, after.ssthresh);
	script_finish(&t);
}

/* The timeout of a flight counts once, even if some of it turns out to be too long. */
static void test_a_smaller_path_mtu_after_a_timeout_reduces_no_further(void **state)
{
	struct tcp_conn_info before, after;
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 30);
	script_wait_ms(&t, 300);
	assert_int_equal(script_stats(&t).timeouts, 1);
	tcp_conn_info(t.conn, &before);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 700, t.now_ns);
	script_flush(&t);
	script_wait_ms(&t, 3000);
	assert_true(script_stats(&t).timeouts > 2);
	tcp_conn_info(t.conn, &after);
	assert_true(after.mss < M && before.ssthresh < 10 * M);
	assert_int_equal(after.ssthresh, before.ssthresh);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hole_is_sent_again_when_later_segments_are_sacked),
		cmocka_unit_test(test_recovery_sends_in_proportion_to_what_arrives),
		cmocka_unit_test(test_a_little_reordering_is_no_loss),
		cmocka_unit_test(test_without_sack_three_duplicates_mean_loss),
		cmocka_unit_test(test_a_lost_tail_is_probed_before_the_timeout),
		cmocka_unit_test(test_timeouts_back_off),
		cmocka_unit_test(test_a_smaller_path_mtu_is_no_congestion),
		cmocka_unit_test(test_a_timeout_after_a_smaller_path_mtu_is_congestion),
		cmocka_unit_test(test_a_smaller_path_mtu_after_a_timeout_reduces_no_further),
		cmocka_unit_test(test_a_late_acknowledgement_undoes_the_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
