/* The parts by themselves: segments, ranges, buffers, timers, the scoreboard, CUBIC. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/tcp/buffer.h"
#include "daemon/tcp/cc.h"
#include "daemon/tcp/reassembly.h"
#include "daemon/tcp/scoreboard.h"
#include "daemon/tcp/segment.h"
#include "daemon/tcp/timers.h"
#include "shared/util.h"

static size_t write_packet(uint8_t *out, const char *local, const char *remote, size_t len)
{
	struct tcp_flow_key key = { .local_port = 80, .remote_port = 5000 };
	struct tcp_options o = { .has_timestamp = true, .ts_value = 7, .ts_echo = 8 };
	struct tcp_template t;

	assert_int_equal(ip_parse(local, &key.local), 0);
	assert_int_equal(ip_parse(remote, &key.remote), 0);
	tcp_template_init(&t, &key, &o);
	tcp_template_set(&t, 1000, 2000);
	memset(out + t.header_len, 'a', len);
	tcp_template_write(&t, out, 3000, TCP_ACK, len);
	return t.header_len + len;
}

static void test_a_written_segment_is_read_in_both_families(void **state)
{
	static const char *const text[2][2] = { { "100.64.0.1", "100.64.0.2" },
						{ "fd7a::1", "fd7a::2" } };

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		for (size_t len = 0; len < 40; len++) {
			struct tcp_segment s;
			uint8_t packet[200];
			size_t n = write_packet(packet, text[i][0], text[i][1], len);

			assert_int_equal(tcp_segment_parse(packet, n, true, &s), 0);
			assert_int_equal(s.key.local_port, 5000);
			assert_int_equal(s.seq, 3000);
			assert_int_equal(s.ack, 1000);
			assert_int_equal(s.window, 2000);
			assert_int_equal(s.len, len);
			assert_true(s.has_timestamp && s.ts_value == 7 && s.ts_echo == 8);
			for (size_t bit = 0; bit < n * 8; bit++) {
				/* Traffic class, flow label and hop limit are in no checksum. */
				if (i == 1 && (bit / 8 < 4 || bit / 8 == 7))
					continue;
				packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_equal(tcp_segment_parse(packet, n, true, &s), -EBADMSG);
				packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
			}
		}
}

static void test_a_cut_segment_is_refused(void **state)
{
	struct tcp_segment s;
	uint8_t packet[200];
	size_t n = write_packet(packet, "100.64.0.1", "100.64.0.2", 10);

	(void)state;
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(tcp_segment_parse(packet, cut, false, &s), -EBADMSG);
	packet[32] = 0x40; /* a TCP header of 16 bytes */
	assert_int_equal(tcp_segment_parse(packet, n, false, &s), -EBADMSG);
	packet[32] = 0xf0; /* one longer than the packet */
	assert_int_equal(tcp_segment_parse(packet, n, false, &s), -EBADMSG);
	n = write_packet(packet, "100.64.0.1", "100.64.0.2", 10);
	packet[6] = 0x20; /* a fragment */
	assert_int_equal(tcp_segment_parse(packet, n, false, &s), -EBADMSG);
}

static void test_a_malformed_option_ends_the_options_only(void **state)
{
	struct tcp_segment s;
	uint8_t packet[200];
	size_t n = write_packet(packet, "100.64.0.1", "100.64.0.2", 10);

	(void)state;
	packet[40] = 99; /* unknown, and of length 0 */
	packet[41] = 0;
	assert_int_equal(tcp_segment_parse(packet, n, false, &s), 0);
	assert_false(s.has_timestamp);
	assert_int_equal(s.len, 10);
}

static void test_ranges_merge_and_are_bounded(void **state)
{
	struct tcp_reassembly r = { 0 };
	struct tcp_sack_block b[4];
	uint32_t base = 0xffffff00u;

	(void)state;
	for (uint32_t i = 0; i < TCP_MAX_RANGES; i++) {
		uint32_t start = base + 10 + 20 * i;

		assert_true(tcp_reassembly_can_add(&r, start, start + 10));
		tcp_reassembly_add(&r, start, start + 10);
	}
	assert_false(tcp_reassembly_can_add(&r, base + 100000, base + 100001));
	assert_true(tcp_reassembly_can_add(&r, base + 20, base + 30));
	tcp_reassembly_add(&r, base + 20, base + 30);
	assert_int_equal(r.count, TCP_MAX_RANGES - 1);
	assert_int_equal(tcp_reassembly_sack(&r, 0, b, 4), 4);
	assert_int_equal(b[0].start, base + 10);
	assert_int_equal(b[0].end, base + 40);
	assert_true(tcp_reassembly_has(&r, base + 15, base + 35, &b[1]));
	assert_false(tcp_reassembly_has(&r, base + 35, base + 45, &b[1]));
	assert_int_equal(tcp_reassembly_advance(&r, base + 10), base + 40);
	assert_int_equal(tcp_reassembly_advance(&r, base + 1000000), base + 1000000);
	assert_int_equal(r.count, 0);
}

static void test_a_buffer_keeps_bytes_across_chunks_and_gives_all_back(void **state)
{
	struct tcp_memory m = { .max = 1u << 20 };
	struct tcp_buffer b;
	uint32_t base = 0xfffffff0u, seq = base;
	uint8_t out[300];

	(void)state;
	tcp_buffer_init(&b);
	while (seq - base < 500000) {
		size_t room;
		uint8_t *to = tcp_buffer_room(&b, &m, base, seq, &room);

		assert_non_null(to);
		for (size_t i = 0; i < room; i++)
			to[i] = (uint8_t)((uint32_t)(seq + i - base) % 251);
		seq += (uint32_t)room;
	}
	for (uint32_t at = 0; at < 499000; at += 777) {
		tcp_buffer_copy(&b, base + at, out, sizeof(out));
		for (size_t i = 0; i < sizeof(out); i++)
			assert_int_equal(out[i], (at + i) % 251);
	}
	tcp_buffer_drop(&b, &m, base, base + 400000);
	assert_true(m.used < 200000);
	tcp_buffer_clear(&b, &m);
	assert_int_equal(m.used, 0);
	tcp_memory_trim(&m);
}

static void test_memory_runs_out_but_for_the_small_block(void **state)
{
	struct tcp_memory m = { .max = 0 };
	struct tcp_buffer b;
	size_t room;

	(void)state;
	tcp_buffer_init(&b);
	assert_non_null(tcp_buffer_room(&b, &m, 5, 5, &room));
	assert_int_equal(room, TCP_SMALL);
	assert_null(tcp_buffer_room(&b, &m, 5, 5 + TCP_SMALL, &room));
	tcp_buffer_clear(&b, &m);
	b.is_bulk = true; /* it had carried more, before memory was short */
	assert_non_null(tcp_buffer_room(&b, &m, 9, 9, &room));
	tcp_buffer_clear(&b, &m);
	tcp_memory_trim(&m);
}

static void test_timers_come_in_order_and_may_be_removed(void **state)
{
	struct tcp_timers timers = { 0 };
	struct tcp_timer timer[200], *popped;
	unsigned count = 0;
	uint64_t last = 0;

	(void)state;
	assert_int_equal(tcp_timers_reserve(&timers, ARRAY_LEN(timer)), 0);
	for (unsigned i = 0; i < ARRAY_LEN(timer); i++) {
		tcp_timer_init(&timer[i]);
		tcp_timer_arm(&timers, &timer[i], 1 + i * 7919 % 1000);
	}
	for (unsigned i = 0; i < ARRAY_LEN(timer); i += 3)
		tcp_timer_remove(&timers, &timer[i]);
	tcp_timer_arm(&timers, &timer[1], UINT64_MAX - 1); /* later: nothing happens */
	for (uint64_t now = 0; now < 2000; now++)
		while ((popped = tcp_timers_pop(&timers, now))) {
			assert_true((popped - timer) % 3 != 0);
			assert_true(now >= last);
			last = now;
			count++;
		}
	assert_int_equal(count, 133);
	assert_true(tcp_timers_next(&timers) == NEVER_NS);
	tcp_timers_finish(&timers);
}

static void test_a_scoreboard_forgets_sacks_and_splits(void **state)
{
	struct tcp_scoreboard b;

	(void)state;
	tcp_board_init(&b);
	assert_true(tcp_board_reserve(&b, 4));
	for (uint32_t i = 0; i < 4; i++)
		tcp_board_add(&b, i * 1000, 1000, 0, 5);
	tcp_board_mark_sacked(&b, b.head + 1);
	tcp_board_mark_lost(&b, b.head);
	tcp_board_forget_sacks(&b);
	assert_int_equal(b.lost_count, 2);
	assert_int_equal(b.sacked_bytes, 0);
	assert_int_equal(tcp_board_next_lost(&b), b.head);
	assert_int_equal(tcp_board_find(&b, 2500), b.head + 2);
	assert_true(tcp_board_split(&b, 400));
	assert_int_equal(tcp_board_count(&b), 12);
	assert_int_equal(b.pipe, 0);
	assert_int_equal(b.lost_count, 12);
	assert_false(tcp_board_reserve(&b, TCP_BOARD_MAX));
	tcp_board_finish(&b);
}

static void test_slow_start_ends_when_round_trips_grow(void **state)
{
	struct tcp_cc cc = { 0 };
	uint32_t seq = 0xf0000000u;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	for (unsigned round = 0; round < 12 && cc.cwnd < cc.ssthresh; round++) {
		uint32_t flight = cc.cwnd, end = seq + flight;

		for (; seq != end; seq += 1000) {
			struct tcp_cc_ack ack = { .now_ns = round * NS_PER_S,
						  .rtt_ns = (20 + 10 * round) * NS_PER_MS,
						  .srtt_ns = 20 * NS_PER_MS,
						  .acked = 1000,
						  .una = seq + 1000,
						  .nxt = end + flight,
						  .is_limited = true };

			cc.ops->acked(&cc, &ack);
		}
		cc.cwnd -= cc.cwnd % 1000;
	}
	assert_true(cc.ssthresh < TCP_CWND_MAX && cc.cwnd < 1000000);
}

static void test_cubic_returns_to_where_it_lost(void **state)
{
	struct tcp_cc cc = { 0 };
	uint64_t now_ns = NS_PER_S;
	uint32_t seq = 0, before;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	cc.cwnd = before = 500000;
	cc.ops->lost(&cc, now_ns);
	assert_int_equal(cc.ssthresh, 350000);
	cc.cwnd = cc.ssthresh;
	for (unsigned i = 0; i < 400; i++, now_ns += 20 * NS_PER_MS, seq += cc.cwnd) {
		struct tcp_cc_ack ack = { .now_ns = now_ns,
					  .srtt_ns = 20 * NS_PER_MS,
					  .acked = cc.cwnd,
					  .una = seq,
					  .nxt = seq + cc.cwnd,
					  .is_limited = true };

		cc.ops->acked(&cc, &ack);
	}
	assert_true(cc.cwnd > before * 9 / 10 && cc.cwnd < before * 2);
	before = cc.cwnd;
	cc.ops->timed_out(&cc, now_ns);
	cc.cwnd = 1000;
	tcp_cc_undo(&cc);
	assert_int_equal(cc.cwnd, before);
	tcp_cc_idle(&cc, 100 * NS_PER_S, NS_PER_S);
	assert_int_equal(cc.cwnd, 10000);
}

static void test_a_window_that_probes_is_bounded(void **state)
{
	struct tcp_cc_ack ack = { .now_ns = NS_PER_S,
				  .srtt_ns = 20 * NS_PER_MS,
				  .acked = TCP_CWND_MAX,
				  .is_limited = true };
	struct tcp_cc cc = { 0 };

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	cc.ssthresh = 10000;
	cc.cubic.lesson = CUBIC_PROBING;
	for (unsigned i = 0; i < 100; i++)
		cc.ops->acked(&cc, &ack);
	assert_int_equal(cc.cwnd, TCP_CWND_MAX);
}

/* What the window becomes when bytes have come through with that spread, at 100 ms. */
static uint32_t train(struct tcp_cc *cc, uint32_t bytes, uint64_t spread_ns, bool *is_over)
{
	struct tcp_cc_train train = { .min_rtt_ns = 100 * NS_PER_MS,
				      .bytes = bytes,
				      .spread_ns = spread_ns };

	*is_over = tcp_cc_trained(cc, &train, &cc->cwnd);
	return cc->cwnd;
}

static void test_trains_find_the_end_before_the_window_gets_there(void **state)
{
	const uint32_t held = 2500000; /* 200 Mbit/s */
	struct tcp_cc cc = { 0 };
	uint32_t bytes = 10000, before;
	unsigned rounds = 0;
	bool is_over;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	do {
		before = cc.cwnd;
		train(&cc, bytes, bytes * 40ull, &is_over);
		assert_true(cc.cwnd >= before && cc.cwnd <= 16 * before);
		assert_true(cc.cwnd < held && cc.start.train <= cc.cwnd / 2);
		assert_true(cc.start.is_full || cc.cwnd >= 2 * before);
		bytes = cc.start.train;
		rounds++;
	} while (!is_over);
	assert_int_equal(bytes, 0);
	assert_true(cc.cwnd > held * 8 / 10 && rounds < 6);
}

/* The first has to allow for a least round trip that is nothing but the handshake's. */
static void test_the_second_train_proves_more_than_the_first(void **state)
{
	struct tcp_cc cc = { 0 };
	uint32_t first;
	bool is_over;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	first = train(&cc, 3000, NS_PER_MS / 4, &is_over);
	assert_true(first > 4 * TCP_INITIAL_WINDOW * cc.mss);
	cc.cwnd = TCP_INITIAL_WINDOW * cc.mss;
	assert_true(train(&cc, 3000, NS_PER_MS / 4, &is_over) > first * 5 / 4);
}

static void test_a_train_that_was_delayed_takes_nothing_back(void **state)
{
	const uint32_t held = 2500000; /* 200 Mbit/s */
	struct tcp_cc cc = { 0 };
	bool is_over;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	cc.cwnd = held / 2;
	train(&cc, 250000, 10 * NS_PER_MS, &is_over);
	train(&cc, 250000, 14 * NS_PER_MS, &is_over);
	assert_true(!is_over && cc.start.agreed == 1);
	train(&cc, 250000, 13 * NS_PER_MS, &is_over);
	assert_true(is_over && cc.start.held == held && cc.cwnd == held / 10 * 9);
	/* By more than half as much again, it may be the path. */
	train(&cc, 250000, 16 * NS_PER_MS, &is_over);
	assert_true(cc.start.agreed == 0 && cc.start.held < held);
}

static void test_trains_that_disagree_end_nothing(void **state)
{
	struct tcp_cc cc = { 0 };
	uint32_t before;
	bool is_over;

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	/* Whatever delays acknowledgements: no worse than doubling when it is gone. */
	for (unsigned i = 0; i < 10; i++) {
		before = cc.cwnd;
		train(&cc, 100000, (i % 2 ? 3 : 30) * NS_PER_MS, &is_over);
		assert_true(!is_over && cc.cwnd >= before);
	}
	before = cc.cwnd;
	train(&cc, 100000, 0, &is_over);
	assert_true(!is_over && cc.cwnd >= 2 * before && !cc.start.is_full);
}

/* That round trip lasts for more than a moment; the smoothed one may be another. */
static void acked_late(struct tcp_cc *cc, uint64_t rtt_ns, uint64_t srtt_ns)
{
	struct tcp_cc_ack ack = { .rtt_ns = rtt_ns, .srtt_ns = srtt_ns };

	for (unsigned i = 0; i < 3; i++) {
		ack.now_ns = MAX(NS_PER_S, cc->cubic.recent_until_ns);
		cc->ops->acked(cc, &ack);
	}
}

static void acked_after(struct tcp_cc *cc, uint64_t rtt_ns)
{
	acked_late(cc, rtt_ns, rtt_ns);
}

/* Started by trains on 200 Mbit/s at 100 ms, then lost while so much was queued; so much came
 * through in the round trip after. */
static void learn(struct tcp_cc *cc, uint64_t queue_ns, uint32_t delivered)
{
	uint64_t now_ns = NS_PER_S;
	uint32_t bytes = 10000;

	tcp_cc_init(cc, &tcp_cc_cubic, 1000);
	while (cc->ssthresh == TCP_CWND_MAX) {
		const struct tcp_cc_train train = { .now_ns = now_ns,
						    .min_rtt_ns = 100 * NS_PER_MS,
						    .bytes = bytes,
						    .spread_ns = bytes * 40ull };

		cc->ops->trained(cc, &train);
		bytes = cc->start.train;
	}
	acked_after(cc, 100 * NS_PER_MS);
	acked_after(cc, 100 * NS_PER_MS + queue_ns);
	cc->ops->lost(cc, now_ns);
	assert_false(tcp_cc_learned(cc, delivered / 2, 100 * NS_PER_MS, now_ns + 50 * NS_PER_MS));
	assert_true(tcp_cc_learned(cc, delivered - delivered / 2, 100 * NS_PER_MS,
				   now_ns + 100 * NS_PER_MS));
}

static void test_who_gets_less_than_trains_told_makes_room(void **state)
{
	struct tcp_cc alone = { 0 }, beside = { 0 }, chance = { 0 };

	(void)state;
	learn(&alone, 20 * NS_PER_MS, 2500000);
	assert_true(alone.ssthresh > 1800000);
	/* A little less than the half of 2.5 MB and of what is queued. */
	learn(&beside, 20 * NS_PER_MS, 1800000);
	assert_true(beside.ssthresh > 1100000 && beside.ssthresh < 1300000);
	assert_true(beside.cubic.w_max * 1000 < 1600000);
	/* Lost without a queue: that tells of nobody. */
	learn(&chance, 0, 1800000);
	assert_true(chance.cubic.left_at == 0 && chance.cubic.probe_most == 0);
}

static void test_who_joins_a_full_path_grows_to_a_half_of_it(void **state)
{
	const struct tcp_cc_ack ack = { .now_ns = 2 * NS_PER_S,
					.srtt_ns = 120 * NS_PER_MS,
					.acked = 100000,
					.is_limited = true };
	struct tcp_cc cc = { 0 };

	(void)state;
	tcp_cc_init(&cc, &tcp_cc_cubic, 1000);
	acked_after(&cc, 100 * NS_PER_MS);
	acked_after(&cc, 120 * NS_PER_MS);
	/* Two trains have agreed on what the path holds when slow start is cut. */
	cc.start = (struct tcp_cc_start){ .held = 2500000, .agreed = 1 };
	cc.cwnd = 1000000;
	cc.ops->lost(&cc, NS_PER_S);
	assert_true(tcp_cc_learned(&cc, 700000, 100 * NS_PER_MS, NS_PER_S + 100 * NS_PER_MS));
	assert_true(cc.cubic.lesson == CUBIC_PROBING && cc.ssthresh == 700000);
	cc.cwnd = cc.ssthresh;
	for (unsigned i = 0; i < 1000 && cc.cubic.lesson == CUBIC_PROBING; i++)
		cc.ops->acked(&cc, &ack);
	assert_true(cc.cubic.lesson == CUBIC_NONE && cc.cwnd > 1400000 && cc.cwnd < 1600000);
}

/* Slow start was cut when a single train had told of 2.5 MB; then so much came through. */
static void cut_short(struct tcp_cc *cc, uint32_t delivered)
{
	*cc = (struct tcp_cc){ 0 };
	tcp_cc_init(cc, &tcp_cc_cubic, 1000);
	acked_after(cc, 100 * NS_PER_MS);
	acked_after(cc, 120 * NS_PER_MS);
	cc->start = (struct tcp_cc_start){ .held = 2500000 };
	cc->cwnd = 3000000;
	cc->ops->lost(cc, NS_PER_S);
	assert_true(tcp_cc_learned(cc, delivered, 100 * NS_PER_MS, NS_PER_S + 100 * NS_PER_MS));
}

static void test_one_train_is_enough_not_to_probe_for_more_than_a_half(void **state)
{
	struct tcp_cc cc;

	(void)state;
	cut_short(&cc, 1300000);
	assert_true(cc.cubic.lesson == CUBIC_NONE && cc.ssthresh == 1300000);
	assert_true(cc.cubic.w_max * 1000 < 1310000);
	/* All of it was ours; or less than a fair part. */
	cut_short(&cc, 2400000);
	assert_int_equal(cc.cubic.lesson, CUBIC_PROBING);
	cut_short(&cc, 900000);
	assert_int_equal(cc.cubic.lesson, CUBIC_PROBING);
}

/* With a window of so much, and 20 ms queued. */
static void lose_at(struct tcp_cc *cc, uint32_t cwnd)
{
	cc->cwnd = cwnd;
	cc->ops->lost(cc, NS_PER_S);
}

static void test_room_is_made_whenever_others_come_and_once_if_they_do_not(void **state)
{
	struct tcp_cc cc = { 0 };

	(void)state;
	learn(&cc, 20 * NS_PER_MS, 2500000);
	lose_at(&cc, 3000000); /* all of the path is ours */
	assert_true(cc.ssthresh > 2000000 && cc.cubic.left_at == 0);
	lose_at(&cc, 2400000); /* four fifths */
	assert_true(cc.ssthresh > 1100000 && cc.ssthresh < 1300000 && cc.cubic.left_at > 0);
	lose_at(&cc, 1900000); /* they took some of it, but less than a half */
	assert_true(cc.ssthresh > 1100000 && cc.ssthresh < 1300000 && cc.cubic.left_at > 0);
	lose_at(&cc, 1500000); /* our half */
	assert_true(cc.ssthresh > 1000000 && cc.ssthresh < 1100000 && cc.cubic.left_at == 0);
	lose_at(&cc, 2400000);
	assert_true(cc.cubic.left_at > 0);
	lose_at(&cc, 2400000); /* nobody took it: the path has become slower */
	assert_true(cc.ssthresh > 1600000 && cc.cubic.told == 0);
	lose_at(&cc, 2000000);
	assert_true(cc.ssthresh > 1300000 && cc.cubic.left_at == 0);
}

/* What a clump of our own overflows for less than a moment tells nothing about others. */
static void test_no_room_is_made_for_a_clump(void **state)
{
	struct tcp_cc cc = { 0 };

	(void)state;
	learn(&cc, 20 * NS_PER_MS, 2500000);
	acked_late(&cc, 100 * NS_PER_MS, 125 * NS_PER_MS);
	lose_at(&cc, 2500000);
	assert_true(cc.ssthresh == 1750000 && cc.cubic.left_at == 0);
	/* Somebody else's queue lasts. */
	acked_late(&cc, 120 * NS_PER_MS, 125 * NS_PER_MS);
	lose_at(&cc, 2500000);
	assert_true(cc.ssthresh > 1100000 && cc.ssthresh < 1300000 && cc.cubic.left_at > 0);
}

/* Round trips of that length, of whole windows; the clock goes on. The widest window of these. */
static uint32_t rounds(struct tcp_cc *cc, unsigned count, uint64_t rtt_ns, uint64_t *now_ns)
{
	struct tcp_cc_ack ack = { .rtt_ns = rtt_ns, .srtt_ns = rtt_ns, .is_limited = true };
	uint32_t most = 0;

	for (unsigned i = 0; i < count * 10; i++) {
		*now_ns += rtt_ns / 10;
		ack.now_ns = *now_ns;
		ack.acked = cc->cwnd / 10;
		cc->ops->acked(cc, &ack);
		most = MAX(most, cc->cwnd);
	}
	return most;
}

/* 3 MB were in flight on a path of 100 ms when it overflowed, 20 ms of it queued: 2.5 MB. */
static uint64_t overflow(struct tcp_cc *cc)
{
	struct tcp_cc_ack ack = { .now_ns = NS_PER_S };
	uint64_t now_ns;

	*cc = (struct tcp_cc){ 0 };
	tcp_cc_init(cc, &tcp_cc_cubic, 1000);
	for (unsigned i = 0; i < 4; i++) {
		ack.rtt_ns = ack.srtt_ns = (i == 0 ? 100 : 120) * NS_PER_MS;
		ack.now_ns += ack.rtt_ns;
		cc->ops->acked(cc, &ack);
	}
	now_ns = ack.now_ns;
	cc->ssthresh = cc->cwnd = 3000000;
	cc->ops->lost(cc, now_ns);
	assert_int_equal(cc->ssthresh, 2100000);
	cc->cwnd = cc->ssthresh;
	return now_ns;
}

/* What CUBIC has of the window. */
static uint32_t own(const struct tcp_cc *cc)
{
	return cc->cwnd - cc->cubic.borrowed;
}

static void test_idle_room_is_filled_with_what_was_ours(void **state)
{
	struct tcp_cc cc, plain;
	uint64_t now_ns, plain_ns;

	(void)state;
	now_ns = overflow(&cc);
	plain_ns = overflow(&plain);
	plain.cubic.part = 0;
	assert_true(rounds(&cc, 6, 100 * NS_PER_MS, &now_ns) <= 2475000);
	assert_true(cc.cwnd > 2450000);
	/* CUBIC's own window is what it would be. */
	rounds(&plain, 6, 100 * NS_PER_MS, &plain_ns);
	assert_true(own(&cc) > plain.cwnd - 3000 && own(&cc) < plain.cwnd + 3000);
	/* Once that is more, nothing is borrowed. */
	rounds(&cc, 100, 100 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed == 0 && cc.cwnd > 2500000);
}

static void test_borrowed_room_is_left_where_a_queue_shows_up(void **state)
{
	struct tcp_cc cc;
	uint64_t now_ns;
	uint32_t before;

	(void)state;
	now_ns = overflow(&cc);
	/* A queue since the loss: nothing, nor before a whole round trip is without one. */
	rounds(&cc, 5, 110 * NS_PER_MS, &now_ns);
	assert_int_equal(cc.cubic.borrowed, 0);
	rounds(&cc, 1, 100 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed < 50000);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	before = cc.cubic.borrowed;
	assert_true(before > 150000);
	rounds(&cc, 1, 110 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed < before / 2);
	rounds(&cc, 4, 110 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed < before / 50);
	/* Somebody else is there: slowly, by less than a queue holds. */
	before = cc.cwnd;
	rounds(&cc, 2, 100 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed > 0 && cc.cwnd < before * 1.05);
}

static void test_a_loss_takes_from_cubics_own_window(void **state)
{
	struct tcp_cc cc;
	uint64_t now_ns;
	uint32_t before;

	(void)state;
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	before = own(&cc);
	assert_true(cc.cwnd > before + 200000);
	cc.cubic.srtt_ns = 120 * NS_PER_MS;
	cc.ops->lost(&cc, now_ns);
	assert_true(cc.cubic.borrowed == 0 && cc.ssthresh <= before * 0.701);
	/* It was none: all of it is ours again. */
	cc.cwnd = cc.ssthresh;
	tcp_cc_undo(&cc);
	assert_true(cc.cubic.borrowed > 200000 && own(&cc) <= before * 1.01);
}

/* As a timeout does while a smaller path MTU's segments are sent again. */
static void test_a_window_that_was_cut_owes_nothing(void **state)
{
	struct tcp_cc cc;
	uint64_t now_ns;

	(void)state;
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed > 0);
	cc.cwnd = cc.mss;
	cc.ops->lost(&cc, now_ns);
	assert_true(cc.cubic.borrowed == 0 && cc.cwnd == cc.mss && cc.ssthresh == 2 * cc.mss);
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	cc.cwnd = cc.ssthresh = cc.mss;
	rounds(&cc, 1, 100 * NS_PER_MS, &now_ns);
	assert_in_range(cc.cwnd, cc.mss, 3000000);
}

static void test_nothing_is_borrowed_where_it_is_not_known_or_not_needed(void **state)
{
	const struct tcp_cc_ack idle = { .now_ns = 9 * NS_PER_S,
					 .rtt_ns = 100 * NS_PER_MS,
					 .srtt_ns = 100 * NS_PER_MS,
					 .acked = 1000 };
	struct tcp_cc cc;
	uint64_t now_ns;

	(void)state;
	/* The program has no more to send. */
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	assert_true(cc.cubic.borrowed > 0);
	cc.ops->acked(&cc, &idle);
	assert_true(cc.cubic.borrowed == 0 && cc.cwnd < 2300000);
	/* It was idle. */
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	tcp_cc_idle(&cc, NS_PER_S, NS_PER_S * 2);
	assert_true(cc.cubic.borrowed == 0 && cc.cwnd < 2300000);
	/* A timeout. */
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	cc.ops->timed_out(&cc, now_ns);
	cc.cwnd = cc.ssthresh;
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	assert_int_equal(cc.cubic.borrowed, 0);
	/* Losses without a queue. */
	now_ns = overflow(&cc);
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	for (unsigned i = 0; i < 2; i++) {
		cc.ops->lost(&cc, now_ns);
		cc.cwnd = cc.ssthresh;
	}
	rounds(&cc, 4, 100 * NS_PER_MS, &now_ns);
	assert_int_equal(cc.cubic.borrowed, 0);
}

static void test_one_loss_by_chance_does_not_end_borrowing(void **state)
{
	struct tcp_cc cc;
	uint64_t now_ns;
	uint32_t before;

	(void)state;
	now_ns = overflow(&cc);
	for (unsigned i = 0; i < 2; i++) {
		rounds(&cc, 10, 100 * NS_PER_MS, &now_ns);
		cc.ops->lost(&cc, now_ns);
		before = cc.cwnd = cc.ssthresh;
		/* Slowly, by less than a queue holds: it may be all but chance. */
		assert_true(rounds(&cc, 2, 100 * NS_PER_MS, &now_ns) < before * 1.08);
		rounds(&cc, 20, 100 * NS_PER_MS, &now_ns);
		assert_true(cc.cubic.borrowed > 150000 && cc.cwnd > 2400000);
		/* The next is none. */
		cc.ops->lost(&cc, now_ns);
		cc.cwnd = cc.ssthresh;
		rounds(&cc, 20, 100 * NS_PER_MS, &now_ns);
		assert_int_equal(cc.cubic.borrowed, 0);
		/* An overflow tells anew what is ours. */
		rounds(&cc, 2, 120 * NS_PER_MS, &now_ns);
		cc.cwnd = 3000000;
		cc.ops->lost(&cc, now_ns);
		cc.cwnd = cc.ssthresh;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_written_segment_is_read_in_both_families),
		cmocka_unit_test(test_a_cut_segment_is_refused),
		cmocka_unit_test(test_a_malformed_option_ends_the_options_only),
		cmocka_unit_test(test_ranges_merge_and_are_bounded),
		cmocka_unit_test(test_a_buffer_keeps_bytes_across_chunks_and_gives_all_back),
		cmocka_unit_test(test_memory_runs_out_but_for_the_small_block),
		cmocka_unit_test(test_timers_come_in_order_and_may_be_removed),
		cmocka_unit_test(test_a_scoreboard_forgets_sacks_and_splits),
		cmocka_unit_test(test_slow_start_ends_when_round_trips_grow),
		cmocka_unit_test(test_cubic_returns_to_where_it_lost),
		cmocka_unit_test(test_idle_room_is_filled_with_what_was_ours),
		cmocka_unit_test(test_borrowed_room_is_left_where_a_queue_shows_up),
		cmocka_unit_test(test_a_loss_takes_from_cubics_own_window),
		cmocka_unit_test(test_a_window_that_was_cut_owes_nothing),
		cmocka_unit_test(test_nothing_is_borrowed_where_it_is_not_known_or_not_needed),
		cmocka_unit_test(test_one_loss_by_chance_does_not_end_borrowing),
		cmocka_unit_test(test_a_window_that_probes_is_bounded),
		cmocka_unit_test(test_trains_find_the_end_before_the_window_gets_there),
		cmocka_unit_test(test_the_second_train_proves_more_than_the_first),
		cmocka_unit_test(test_a_train_that_was_delayed_takes_nothing_back),
		cmocka_unit_test(test_trains_that_disagree_end_nothing),
		cmocka_unit_test(test_who_gets_less_than_trains_told_makes_room),
		cmocka_unit_test(test_who_joins_a_full_path_grows_to_a_half_of_it),
		cmocka_unit_test(test_one_train_is_enough_not_to_probe_for_more_than_a_half),
		cmocka_unit_test(test_room_is_made_whenever_others_come_and_once_if_they_do_not),
		cmocka_unit_test(test_no_room_is_made_for_a_clump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
