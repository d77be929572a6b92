/* Data: acknowledgements, loss and its recovery, windows, timestamps. */
#include <errno.h>
#include <string.h>

#include "script.h"
#include "shared/util.h"

#define M SCRIPT_MSS

static struct tcp_stats stats_of(struct script *t)
{
	struct tcp_stats stats;

	tcp_get_stats(t->tcp, &stats);
	return stats;
}

static void start(struct script *t)
{
	script_init(t);
	script_start(t);
	script_connect(t);
}

static void expect_train(struct script *t, uint32_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		script_expect(t, A, first + i * M, 1, M);
	script_expect_none(t);
}

static void write_segments(struct script *t, unsigned count)
{
	script_write(t, (size_t)count * M);
	script_flush(t);
}

static void test_the_first_window_is_ten_segments(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	write_segments(&t, 20);
	expect_train(&t, 1, 10);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	expect_train(&t, 1 + 10 * M, 4); /* slow start: two for two, and two more */
	script_finish(&t);
}

static void test_a_small_write_goes_at_once_and_ends_with_push(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_write(&t, 1);
	script_flush(&t);
	assert_true(script_expect(&t, A, 1, 1, 1)->flags & TCP_PSH);
	script_write(&t, 1);
	script_flush(&t);
	script_expect(&t, A, 2, 1, 1);
	script_finish(&t);
}

static void test_a_batch_is_acknowledged_once_later_and_twice_while_young(void **state)
{
	struct script t;
	uint32_t seq = 1;

	(void)state;
	start(&t);
	for (unsigned i = 0; i < 4; i++, seq += 1000)
		script_queue(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1000 });
	script_flush(&t);
	script_expect(&t, A, 1, 2001, 0);
	script_expect(&t, A, 1, 4001, 0);
	script_expect_none(&t);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned k = 0; k < 4; k++, seq += 1000)
			script_queue(
				&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1000 });
		script_flush(&t);
		script_read(&t);
		t.first = i < 99 ? 0 : t.first;
		t.count = i < 99 ? 0 : t.count;
	}
	script_expect(&t, A, 1, seq, 0);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_a_lone_segment_is_acknowledged_after_40_ms(void **state)
{
	struct script t;
	uint32_t seq = 1;

	(void)state;
	start(&t);
	for (unsigned i = 0; i < 9; i++, seq += 10)
		script_send(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 10 });
	for (unsigned i = 1; i < 9; i++)
		script_expect(&t, A, 1, 1 + i * 10, 0);
	script_wait_ms(&t, 39);
	script_expect_none(&t);
	script_wait_ms(&t, 1);
	script_expect(&t, A, 1, seq, 0);
	script_finish(&t);
}

static void test_a_gap_is_reported_by_sack_and_a_repeat_by_dsack(void **state)
{
	const struct tcp_segment *s;
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 101, .ack = 1, .len = 100 });
	s = script_expect(&t, A, 1, 1, 0);
	assert_int_equal(s->sack_count, 1);
	assert_int_equal(s->sack[0].start - t.isn, 101);
	assert_int_equal(s->sack[0].end - t.isn, 201);
	script_send(&t, (struct peer){ .flags = A, .seq = 301, .ack = 1, .len = 100 });
	s = script_expect(&t, A, 1, 1, 0);
	assert_int_equal(s->sack_count, 2);
	assert_int_equal(s->sack[0].start - t.isn, 301);
	assert_int_equal(s->sack[1].start - t.isn, 101);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 100 });
	s = script_expect(&t, A, 1, 201, 0);
	assert_int_equal(s->sack_count, 1);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 100 });
	s = script_expect(&t, A, 1, 201, 0);
	assert_int_equal(s->sack[0].start - t.isn, 1);
	assert_int_equal(s->sack[0].end - t.isn, 101);
	assert_int_equal(script_read(&t), 200);
	script_finish(&t);
}

static void test_a_batch_with_many_gaps_is_reported_in_full(void **state)
{
	bool was_told[9] = { false };
	const struct tcp_segment *s;
	struct script t;

	(void)state;
	start(&t);
	for (unsigned i = 0; i < 9; i++)
		script_queue(&t, (struct peer){
					 .flags = A, .seq = 101 + 200 * i, .ack = 1, .len = 100 });
	script_flush(&t);
	for (unsigned acks = 0; acks < 3; acks++) {
		s = script_expect(&t, A, 1, 1, 0);
		for (unsigned k = 0; k < s->sack_count; k++)
			was_told[(s->sack[k].start - t.isn - 101) / 200] = true;
	}
	script_expect_none(&t);
	assert_int_equal(s->sack[0].start - t.isn, 101 + 200 * 8);
	for (unsigned i = 0; i < 9; i++)
		assert_true(was_told[i]);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 100 });
	script_expect(&t, A, 1, 201, 0);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_a_hole_is_sent_again_when_later_segments_are_sacked(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	write_segments(&t, 10);
	expect_train(&t, 1, 10);
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
	assert_int_equal(stats_of(&t).retransmitted, 1);
	assert_int_equal(stats_of(&t).fast_recoveries, 1);
	assert_int_equal(stats_of(&t).timeouts, 0);
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
	start(&t);
	write_segments(&t, 30);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 10 * M });
	write_segments(&t, 40);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = acked });
	write_segments(&t, 40);
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
		if (stats_of(&t).fast_recoveries == 0)
			continue;
		sent += now;
		arrived++;
		assert_in_range(sent, arrived * 6 / 10, arrived * 8 / 10 + 1);
	}
	assert_true(arrived > flight / 2);
	assert_int_equal(stats_of(&t).fast_recoveries, 1);
	assert_int_equal(stats_of(&t).retransmitted, 1);
	script_finish(&t);
}

static void test_a_little_reordering_is_no_loss(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	write_segments(&t, 10);
	expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 1, .ack = 1, .sack = { 1 + M, 1 + 2 * M } });
	script_wait_ms(&t, 1);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 2 * M });
	script_expect_none(&t);
	script_wait_ms(&t, 3);
	assert_int_equal(stats_of(&t).retransmitted, 0);
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
	write_segments(&t, 10);
	expect_train(&t, 1, 10);
	script_wait_ms(&t, 10);
	for (unsigned i = 0; i < 2; i++)
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect(&t, A, 1, 1, M);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 4 * M });
	script_expect(&t, A, 1 + 4 * M, 1, M); /* a partial acknowledgement: the next hole */
	assert_int_equal(stats_of(&t).timeouts, 0);
	script_finish(&t);
}

static void test_a_lost_tail_is_probed_before_the_timeout(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	write_segments(&t, 3);
	expect_train(&t, 1, 3);
	script_wait_ms(&t,
		       35); /* two round trips of 10 ms and a little, and another for the answer */
	script_expect(&t, A, 1 + 2 * M, 1, M);
	assert_int_equal(stats_of(&t).timeouts, 0);
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
	write_segments(&t, 2);
	expect_train(&t, 1, 2);
	for (unsigned i = 0; i < ARRAY_LEN(gaps_ms); i++) {
		script_wait_ms(&t, gaps_ms[i] - 1);
		script_expect_none(&t);
		script_wait_ms(&t, 1);
		script_expect(&t, A, 1, 1, M); /* one segment: the window is shut to it */
	}
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + M });
	script_expect(&t, A, 1 + M, 1, M);
	assert_int_equal(stats_of(&t).timeouts, 4);
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
	assert_true(stats_of(&t).timeouts > 0);
	t.count = original; /* the echo is of the first sending */
	t.first = original;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + (M - 12) });
	tcp_conn_info(t.conn, &after);
	assert_true(after.cwnd >= before.cwnd);
	script_finish(&t);
}

static void test_a_shut_window_is_probed_until_it_opens(void **state)
{
	struct script t;

	(void)state;
	start(&t);
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
	start(&t);
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

static void test_our_window_shuts_and_tells_when_it_opens(void **state)
{
	const struct tcp_segment *s;
	uint32_t seq = 1, window;
	struct script t;

	(void)state;
	script_init(&t);
	t.config.buffer_max = 65536;
	script_start(&t);
	script_connect(&t);
	do {
		script_send(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1000 });
		script_wait_ms(&t, 50);
		seq = t.out[t.count - 1].s.ack - t.isn;
		window = t.out[t.count - 1].s.window;
		t.first = t.count = 0;
	} while (window > 0 && seq < 200000);
	assert_int_equal(window, 0);
	script_send(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1 });
	s = script_expect(&t, A, 1, seq, 0); /* the probe's byte does not fit */
	assert_int_equal(s->window, 0);
	script_expect_none(&t);
	script_read(&t);
	script_flush(&t);
	s = script_expect(&t, A, 1, seq, 0);
	assert_true(s->window > 0);
	script_finish(&t);
}

/* The window after some round trips of 50 ms with 100 segments each, of which so much is read. */
static uint32_t window_for_reader(size_t read_max)
{
	struct script t;
	uint32_t seq = 1, window = 0;
	uint8_t scale;

	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	scale = t.out[0].s.scale; /* of our SYN */
	for (unsigned round = 0; round < 6; round++) {
		size_t left = read_max, n;

		for (unsigned i = 0; i < 100; i++, seq += 1000)
			script_queue(
				&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1000 });
		script_flush(&t);
		for (; left > 0; left -= n) {
			struct iovec data[1];
			unsigned count;

			n = MIN(left, tcp_recv_data(t.conn, data, 1, &count));
			tcp_recv_consume(t.conn, n);
			if (n == 0)
				break;
		}
		script_wait_ms(&t, 50);
		seq = t.out[t.count - 1].s.ack - t.isn; /* what found no room comes again */
		window = (uint32_t)t.out[t.count - 1].s.window << scale;
		t.out[1] = t.out[t.count - 1];
		t.first = t.count = 2;
	}
	script_finish(&t);
	return window;
}

static void test_the_window_follows_how_fast_the_owner_reads(void **state)
{
	(void)state;
	assert_true(window_for_reader(SIZE_MAX) >= 300000);
	assert_true(window_for_reader(5000) <= 140000);
}

static void test_an_old_timestamp_is_dropped(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10, .ts = 900 });
	script_expect(&t, A, 1, 1, 0);
	assert_int_equal(script_read(&t), 0);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10 });
	script_expect(&t, A, 1, 11, 0);
	script_finish(&t);
}

static void test_what_reordering_made_late_is_not_too_old(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10, .ts = 1020 });
	script_expect(&t, A, 1, 11, 0);
	script_send(&t, (struct peer){ .flags = A, .seq = 11, .ack = 1, .len = 10, .ts = 1010 });
	script_expect(&t, A, 1, 21, 0);
	assert_int_equal(script_read(&t), 20);
	script_finish(&t);
}

static void test_writing_goes_on_when_space_grows(void **state)
{
	struct iovec space[2];
	struct script t;

	(void)state;
	start(&t);
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

static void test_memory_has_a_ceiling_and_a_floor(void **state)
{
	struct iovec space[2];
	struct script t;

	(void)state;
	script_init(&t);
	t.config.memory_max = 4096;
	script_start(&t);
	script_connect(&t);
	assert_int_equal(tcp_send_space(t.conn, space), 4096);
	script_write(&t, 4096);
	assert_int_equal(tcp_send_space(t.conn, space), 0);
	script_queue(&t, (struct peer){ .flags = A, .seq = 2001, .ack = 1, .len = 1000 });
	script_queue(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 1000 });
	script_flush(&t);
	assert_int_equal(script_read(&t), 1000);
	assert_true(stats_of(&t).memory <= 3 * 4096);
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
	write_segments(t, 10);
	expect_train(t, 1, 10);
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
	write_segments(&t, 1);
	script_expect(&t, A, 1 + 10 * M, 1, M);
	t.now_ns += NS_PER_MS;
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 + 11 * M });
	tcp_conn_info(t.conn, &info);
	assert_int_equal(info.pacing_rate, 0);
	write_segments(&t, 10);
	expect_train(&t, 1 + 11 * M, 10);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_window_is_ten_segments),
		cmocka_unit_test(test_a_small_write_goes_at_once_and_ends_with_push),
		cmocka_unit_test(test_a_batch_is_acknowledged_once_later_and_twice_while_young),
		cmocka_unit_test(test_a_lone_segment_is_acknowledged_after_40_ms),
		cmocka_unit_test(test_a_gap_is_reported_by_sack_and_a_repeat_by_dsack),
		cmocka_unit_test(test_a_batch_with_many_gaps_is_reported_in_full),
		cmocka_unit_test(test_a_hole_is_sent_again_when_later_segments_are_sacked),
		cmocka_unit_test(test_recovery_sends_in_proportion_to_what_arrives),
		cmocka_unit_test(test_a_little_reordering_is_no_loss),
		cmocka_unit_test(test_without_sack_three_duplicates_mean_loss),
		cmocka_unit_test(test_a_lost_tail_is_probed_before_the_timeout),
		cmocka_unit_test(test_timeouts_back_off),
		cmocka_unit_test(test_a_late_acknowledgement_undoes_the_timeout),
		cmocka_unit_test(test_a_shut_window_is_probed_until_it_opens),
		cmocka_unit_test(test_an_answered_shut_window_is_waited_for),
		cmocka_unit_test(test_our_window_shuts_and_tells_when_it_opens),
		cmocka_unit_test(test_the_window_follows_how_fast_the_owner_reads),
		cmocka_unit_test(test_an_old_timestamp_is_dropped),
		cmocka_unit_test(test_what_reordering_made_late_is_not_too_old),
		cmocka_unit_test(test_writing_goes_on_when_space_grows),
		cmocka_unit_test(test_memory_has_a_ceiling_and_a_floor),
		cmocka_unit_test(test_a_handshake_that_had_to_wait_does_not_slow_the_data),
		cmocka_unit_test(test_a_path_that_turns_out_short_is_paced_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
