/* Sending: the first windows, a window that is shut, room for writers, pacing. */
#include "script.h"
#include "shared/util.h"

#define M SCRIPT_MSS

static void test_the_first_window_is_ten_segments(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 20);
	script_expect_train(&t, 1, 10);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	script_expect_train(&t, 1 + 10 * M, 4); /* slow start: two for two, and two more */
	script_finish(&t);
}

static void test_a_small_write_goes_at_once_and_ends_with_push(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 1);
	script_flush(&t);
	assert_true(script_expect(&t, A, 1, 1, 1)->flags & TCP_PSH);
	script_write(&t, 1);
	script_flush(&t);
	script_expect(&t, A, 2, 1, 1);
	script_finish(&t);
}

static void test_a_shut_window_is_probed_until_it_opens(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
	script_write(&t, 100);
	script_flush(&t);
	script_expect_none(&t);
	for (unsigned i = 0; i < 5; i++) {
		script_wait_ms(&t, 210u << i);
		script_expect(&t, A, 0, 1, 0);
		script_expect_none(&t);
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
	}
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect(&t, A, 1, 1, 100);
	script_finish(&t);
}

static void test_an_answered_shut_window_is_waited_for(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
	script_write(&t, 100);
	for (unsigned i = 0; i < 30; i++) {
		script_wait_ms(&t, 100 * 1000);
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
		t.first = t.count = 0;
	}
	assert_false(script_events(&t) & TCP_EVENT_FAILED);
	script_finish(&t);
}

/* The far side took back what it had promised (RFC 9293, 3.8.6.1), and says so again and again. */
static void test_a_window_that_shuts_over_what_is_in_flight_is_waited_for(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 2);
	script_expect_train(&t, 1, 2);
	for (unsigned i = 0; i < 300; i++) {
		script_wait_ms(&t, 10 * 1000);
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
		t.first = t.count = 0;
	}
	assert_false(script_events(&t) & TCP_EVENT_FAILED);
	/* Whether it has opened is asked as often as of any shut window. */
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	t.first = t.count = 0;
	script_wait_ms(&t, 15 * 1000);
	script_expect(&t, A, 1, 1, SCRIPT_MSS);
	script_finish(&t);
}

static void test_a_window_that_opens_over_lost_bytes_brings_them_at_once(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 5);
	script_expect_train(&t, 1, 5);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M, .no_window = true });
	for (unsigned i = 0; i < 60; i++) {
		script_wait_ms(&t, 1000);
		t.first = t.count = 0;
		script_send(&t,
			    (struct peer){ .flags = A, .seq = 1, .ack = 1 + M, .no_window = true });
	}
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M });
	script_expect(&t, A, 1 + M, 1, M);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	script_expect(&t, A, 1 + 2 * M, 1, M);
	script_finish(&t);
}

static void test_writing_goes_on_when_space_grows(void **state)
{
	struct iovec space[2];
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 128 * 1024);
	assert_int_equal(tcp_send_space(t.conn, space), 0);
	script_flush(&t);
	script_events(&t);
	for (uint32_t acked = 1; acked < 80000; acked += 2 * M) {
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = acked + 2 * M });
		t.first = t.count = 0;
	}
	assert_true(script_events(&t) & TCP_EVENT_WRITABLE);
	assert_true(tcp_send_space(t.conn, space) >= 32768);
	script_finish(&t);
}

/* Our SYN is answered after that time, and the first window of data in that. */
static void connect_in(struct script *t, uint64_t handshake_ms, uint64_t data_ms)
{
	script_init(t);
	script_start(t);
	script_dial(t);
	script_wait_ms(t, handshake_ms);
	script_send(t, (struct peer){ .flags = S | A, .seq = 0, .ack = 1 });
	script_expect(t, A, 1, 1, 0);
	script_write_segments(t, 10);
	script_expect_train(t, 1, 10);
	script_wait_ms(t, data_ms);
	script_send(t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
}

static void test_a_handshake_that_had_to_wait_does_not_slow_the_data(void **state)
{
	struct tcp_conn_info info;
	struct script t;

	(void)state;
	connect_in(&t, 900, 20);
	tcp_conn_info(t.conn, &info);
	assert_int_equal(info.srtt_us, 20000);
	script_finish(&t);
}

static void test_a_path_that_turns_out_short_is_paced_no_more(void **state)
{
	struct tcp_conn_info info;
	struct script t;

	(void)state;
	connect_in(&t, 900, 20);
	tcp_conn_info(t.conn, &info);
	assert_true(info.pacing_rate > 0);
	script_write_segments(&t, 1);
	script_expect(&t, A, 1 + 10 * M, 1, M);
	t.now_ns += NS_PER_MS;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 11 * M });
	tcp_conn_info(t.conn, &info);
	assert_int_equal(info.pacing_rate, 0);
	script_write_segments(&t, 10);
	script_expect_train(&t, 1 + 11 * M, 10);
	script_finish(&t);
}

/*
 * What a peer does that runs out of memory: it takes back what it had allowed. From then on it
 * drops what lies or reaches beyond, with the acknowledgement in it (as Linux 6.18 does).
 */
static void shrink_window(struct script *t, uint16_t window)
{
	script_begin(t);
	script_write_segments(t, 4);
	script_expect_train(t, 1, 4);
	t->window = window;
	script_send(t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M });
	script_expect_none(t);
}

static void test_acknowledgements_stay_inside_a_window_that_was_taken_back(void **state)
{
	static const struct {
		uint16_t window;
		uint32_t seq;
	} cases[] = { { 0, 1 + M }, { 4, 1 + M + 512 }, { 29, 1 + 4 * M } };
	struct script t;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		shrink_window(&t, cases[i].window);
		/* Twice, so that the answer does not wait. */
		script_queue(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M, .len = M });
		script_send(&t, (struct peer){ .flags = A, .seq = 1 + M, .ack = 1 + M, .len = M });
		script_expect(&t, A, cases[i].seq, 1 + 2 * M, 0);
		script_expect_none(&t);
		tcp_abort(t.conn, t.now_ns);
		script_flush(&t);
		assert_int_equal(script_expect(&t, R | A, 0, 1 + 2 * M, 0)->seq - t.iss,
				 cases[i].seq);
		script_finish(&t);
	}
}

/*
 * By less than a unit of its scale it may only have rounded. But where that costs us a timeout,
 * it means what it says.
 */
static void test_a_window_taken_back_by_little_is_believed_after_a_timeout(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write(&t, 100);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 100);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .no_window = true });
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M, .no_window = true });
	script_expect(&t, A, 101, 1 + M, 0);
	script_wait_ms(&t, 3000);
	assert_true(script_stats(&t).timeouts > 0);
	t.first = t.count = 0;
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M, .no_window = true });
	script_expect(&t, A, 1, 1 + M, 0);
	script_expect_none(&t);
	script_finish(&t);
}

/* Where two sides have taken back their windows, each stands at the edge that it knows. */
static void test_what_an_old_acknowledgement_says_counts(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 2);
	script_expect_train(&t, 1, 2);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M });
	script_send(&t, (struct peer){ .flags = A, .seq = 1 + M, .ack = 1, .len = M });
	t.first = t.count = 0;
	script_events(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	assert_true(script_events(&t) & TCP_EVENT_SENT);
	script_expect(&t, A, 1 + 2 * M, 1 + 2 * M, 0); /* so that the far side hears of it */
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 3 * M }); /* of nothing */
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 30000);
	assert_int_equal(script_stats(&t).retransmitted, 0);
	script_finish(&t);
}

/* Whoever cannot see the stream has to guess where it stands (RFC 5961, 5). */
static void test_an_acknowledgement_from_far_below_counts_for_nothing(void **state)
{
	static const uint32_t behind[] = { 1u << 18, 1u << 24, 1u << 30, (1u << 31) - 1 };
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 2);
	script_expect_train(&t, 1, 2);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M });
	script_events(&t);
	for (size_t i = 0; i < ARRAY_LEN(behind); i++) {
		script_send(&t, (struct peer){
					.flags = A, .seq = 1 + M - behind[i], .ack = 1 + 2 * M });
		assert_int_equal(script_events(&t), 0);
	}
	script_send(&t, (struct peer){ .flags = A, .seq = 0, .ack = 1 + 2 * M });
	assert_true(script_events(&t) & TCP_EVENT_SENT);
	script_finish(&t);
}

/* It has not heard how far we have come, and takes back its window. */
static void test_an_old_acknowledgement_that_is_news_tells_the_window(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_write_segments(&t, 4);
	script_expect_train(&t, 1, 4);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M });
	script_send(&t, (struct peer){ .flags = A, .seq = 1 + M, .ack = 1, .len = M });
	t.first = t.count = 0;
	t.window = 4;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M });
	script_expect(&t, A, 1 + M + 512, 1 + 2 * M, 0);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_a_younger_timestamp_tells_the_window_too(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	script_write(&t, 4000);
	script_flush(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = M, .ts = 1500 });
	script_send(&t, (struct peer){ .flags = A, .seq = 1 + M, .ack = 1, .len = 1, .ts = 1500 });
	t.first = t.count = 0;
	t.window = 4;
	/* Overtaken by that: it was true before. */
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .ts = 1500 });
	script_expect(&t, A, 1 + 4000, 2 + M, 0);
	t.window = 8;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .ts = 1501 });
	tcp_abort(t.conn, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_expect(&t, R | A, 0, 2 + M, 0)->seq - t.iss, 1 + 1024);
	script_finish(&t);
}

/* RFC 5681, 2: one that asks whether we live, or whether our window has opened, is none. */
static void test_a_probe_of_the_far_side_is_no_duplicate(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_sack = false;
	script_start(&t);
	script_connect(&t);
	script_write_segments(&t, 10);
	script_expect_train(&t, 1, 10);
	for (unsigned i = 0; i < 5; i++)
		script_send(&t, (struct peer){ .flags = A, .seq = 0, .ack = 1 });
	script_expect(&t, A, 1 + 10 * M, 1, 0);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_what_is_sent_again_stays_inside_a_window_that_was_taken_back(void **state)
{
	struct script t;

	(void)state;
	shrink_window(&t, 4);
	script_wait_ms(&t, 1500);
	script_expect(&t, A, 1 + 3 * M, 1, M); /* a tail probe */
	script_expect(&t, A, 1 + M, 1, 512);
	t.first = t.count = 0;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M + 512 });
	t.window = 1000;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M + 512 });
	script_wait_ms(&t, 4000);
	script_expect(&t, A, 1 + M + 512, 1, M - 512);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	script_wait_ms(&t, 4000);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 4 * M });
	assert_true(script_events(&t) & TCP_EVENT_SENT);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_window_is_ten_segments),
		cmocka_unit_test(test_a_small_write_goes_at_once_and_ends_with_push),
		cmocka_unit_test(test_a_shut_window_is_probed_until_it_opens),
		cmocka_unit_test(test_an_answered_shut_window_is_waited_for),
		cmocka_unit_test(test_a_window_that_shuts_over_what_is_in_flight_is_waited_for),
		cmocka_unit_test(test_a_window_that_opens_over_lost_bytes_brings_them_at_once),
		cmocka_unit_test(test_acknowledgements_stay_inside_a_window_that_was_taken_back),
		cmocka_unit_test(test_a_window_taken_back_by_little_is_believed_after_a_timeout),
		cmocka_unit_test(test_what_is_sent_again_stays_inside_a_window_that_was_taken_back),
		cmocka_unit_test(test_what_an_old_acknowledgement_says_counts),
		cmocka_unit_test(test_an_acknowledgement_from_far_below_counts_for_nothing),
		cmocka_unit_test(test_an_old_acknowledgement_that_is_news_tells_the_window),
		cmocka_unit_test(test_a_younger_timestamp_tells_the_window_too),
		cmocka_unit_test(test_a_probe_of_the_far_side_is_no_duplicate),
		cmocka_unit_test(test_writing_goes_on_when_space_grows),
		cmocka_unit_test(test_a_handshake_that_had_to_wait_does_not_slow_the_data),
		cmocka_unit_test(test_a_path_that_turns_out_short_is_paced_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
