/* Receiving: acknowledgements, SACK blocks, the window we offer, memory, timestamps that are old.
 */
#include "script.h"
#include "shared/util.h"

static void test_a_batch_is_acknowledged_once_later_and_twice_while_young(void **state)
{
	struct script t;
	uint32_t seq = 1;

	(void)state;
	script_begin(&t);
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
	script_begin(&t);
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
	script_begin(&t);
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
	script_begin(&t);
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
	assert_true(script_stats(&t).memory <= 3 * 4096);
	script_finish(&t);
}

static void test_bytes_without_memory_shut_the_window_until_the_owner_reads(void **state)
{
	const struct tcp_segment *s;
	struct script t;

	(void)state;
	script_init(&t);
	t.config.memory_max = 4096;
	script_start(&t);
	script_connect(&t);
	for (uint32_t i = 0; i < 3; i++)
		script_send(&t, (struct peer){
					.flags = A, .seq = 1 + i * 1240, .ack = 1, .len = 1240 });
	t.first = t.count;
	script_send(&t, (struct peer){ .flags = A, .seq = 3721, .ack = 1, .len = 1240 });
	s = script_expect(&t, A, 1, 4097, 0);
	assert_int_equal(s->window, 0);
	/* Tried again: the same answer. */
	script_send(&t, (struct peer){ .flags = A, .seq = 4097, .ack = 1, .len = 1240 });
	s = script_expect(&t, A, 1, 4097, 0);
	assert_int_equal(s->window, 0);
	script_expect_none(&t);
	assert_int_equal(script_read(&t), 4096);
	script_flush(&t);
	s = script_expect(&t, A, 1, 4097, 0);
	assert_true(s->window > 0);
	script_flush(&t);
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 4097, .ack = 1, .len = 1240 });
	assert_int_equal(script_read(&t), 1240);
	script_finish(&t);
}

/* A window that shrinks over what is in flight would keep Linux from sending it again at once. */
static void test_who_keeps_up_without_memory_is_not_shut_out(void **state)
{
	const struct tcp_segment *s;
	struct tcp_conn *holder;
	struct script t;

	(void)state;
	script_init(&t);
	t.config.memory_max = 4096;
	script_start(&t);
	script_connect(&t);
	script_write(&t, 4096);
	script_flush(&t);
	holder = t.conn;
	t.remote.port++;
	t.first = t.count = 0;
	script_send(&t, (struct peer){ .flags = S });
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	s = script_expect(&t, S | A, 0, 1, 0);
	assert_int_equal(s->window, 16384);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_events(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 1400 });
	script_send(&t, (struct peer){ .flags = A, .seq = 1401, .ack = 1, .len = 1400 });
	script_send(&t, (struct peer){ .flags = A, .seq = 2801, .ack = 1, .len = 1400 });
	assert_int_equal(script_read(&t), 4096);
	t.first = t.count;
	script_flush(&t);
	s = script_expect(&t, A, 1, 4097, 0);
	assert_int_equal(s->window, 16384 >> 10);
	/* And all of it again when memory has come back. */
	tcp_abort(holder, t.now_ns);
	script_flush(&t);
	script_queue(&t, (struct peer){ .flags = A, .seq = 4097, .ack = 1, .len = 1400 });
	script_read(&t);
	t.first = t.count;
	script_flush(&t);
	s = script_expect(&t, A, 1, 5497, 0);
	assert_true(s->window << 10 > 8192);
	script_finish(&t);
}

/* Every second byte of a few: the list of ranges takes more than they do. */
static void test_ranges_count_as_memory_and_stop_where_it_ends(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	t.config.memory_max = 4096 + 8192;
	script_start(&t);
	script_connect(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 1 });
	for (uint32_t seq = 3; seq < 4000; seq += 2) {
		script_send(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1 });
		t.first = t.count = 0;
	}
	assert_in_range(script_stats(&t).memory, 4096 + 8 * 512, 4096 + 8192);
	/* What was taken is there; the rest comes again. */
	script_send(&t, (struct peer){ .flags = A, .seq = 2, .ack = 1, .len = 1200 });
	script_send(&t, (struct peer){ .flags = A, .seq = 1202, .ack = 1, .len = 1200 });
	script_send(&t, (struct peer){ .flags = A, .seq = 2402, .ack = 1, .len = 1200 });
	assert_int_equal(script_read(&t), 3601);
	tcp_abort(t.conn, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_stats(&t).memory, 0);
	script_finish(&t);
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

/* A pause so long that the far side's clock has gone around by more than half. */
static void test_a_timestamp_after_25_days_is_the_new_one(void **state)
{
	const uint32_t ts = 1020 + 25u * 86400 * 1000;
	const struct tcp_segment *s;
	struct script t;

	(void)state;
	script_init(&t);
	t.has_timestamps = true;
	script_start(&t);
	script_connect(&t);
	script_wait_ms(&t, UINT64_C(25) * 86400 * 1000);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10, .ts = ts });
	s = script_expect(&t, A, 1, 11, 0);
	assert_int_equal(s->ts_echo, ts);
	/* What is older than that is old again. */
	script_send(&t,
		    (struct peer){ .flags = A, .seq = 11, .ack = 1, .len = 10, .ts = ts - 1000 });
	script_expect(&t, A, 1, 11, 0);
	script_finish(&t);
}

/*
 * A segment behind a hole of which only the first part can be kept: its second part has no
 * memory, and what it would have touched lies behind that.
 */
static void test_a_segment_that_is_cut_short_for_want_of_memory(void **state)
{
	const uint32_t boundary = 4500; /* of chunks; the small block ends at 4097 */
	struct script t;
	uint32_t seq;
	size_t got;

	(void)state;
	script_init(&t);
	t.isn = 0u - boundary;
	t.config.memory_max = 4096 + 65536;
	script_start(&t);
	script_connect(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10 });
	for (unsigned i = 0; i < 7; i++)
		script_send(&t,
			    (struct peer){ .flags = A, .seq = 21 + 20 * i, .ack = 1, .len = 1 });
	script_send(&t, (struct peer){ .flags = A, .seq = boundary + 100, .ack = 1, .len = 10 });
	script_send(&t, (struct peer){ .flags = A, .seq = 3900, .ack = 1, .len = 800 });
	got = script_read(&t);
	for (seq = 11; seq < 5000; seq = got + 1) {
		t.first = t.count = 0;
		script_send(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 500 });
		got += script_read(&t);
		assert_true(got + 1 > seq);
	}
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_batch_is_acknowledged_once_later_and_twice_while_young),
		cmocka_unit_test(test_a_lone_segment_is_acknowledged_after_40_ms),
		cmocka_unit_test(test_a_gap_is_reported_by_sack_and_a_repeat_by_dsack),
		cmocka_unit_test(test_a_batch_with_many_gaps_is_reported_in_full),
		cmocka_unit_test(test_our_window_shuts_and_tells_when_it_opens),
		cmocka_unit_test(test_the_window_follows_how_fast_the_owner_reads),
		cmocka_unit_test(test_memory_has_a_ceiling_and_a_floor),
		cmocka_unit_test(test_bytes_without_memory_shut_the_window_until_the_owner_reads),
		cmocka_unit_test(test_who_keeps_up_without_memory_is_not_shut_out),
		cmocka_unit_test(test_ranges_count_as_memory_and_stop_where_it_ends),
		cmocka_unit_test(test_an_old_timestamp_is_dropped),
		cmocka_unit_test(test_what_reordering_made_late_is_not_too_old),
		cmocka_unit_test(test_a_timestamp_after_25_days_is_the_new_one),
		cmocka_unit_test(test_a_segment_that_is_cut_short_for_want_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
