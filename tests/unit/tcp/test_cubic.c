/* CUBIC by itself: its window, what trains and losses teach it, and the room it borrows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tcp/cubic.h"
#include "shared/util.h"

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
	struct tcp_cc_ack ack = { .now_ns = MAX(NS_PER_S, cc->cubic.heard_ns),
				  .rtt_ns = rtt_ns,
				  .srtt_ns = srtt_ns };

	for (unsigned i = 0; i < 15; i++) {
		cc->ops->acked(cc, &ack);
		ack.now_ns += 4 * NS_PER_MS;
	}
}

static void acked_after(struct tcp_cc *cc, uint64_t rtt_ns)
{
	acked_late(cc, rtt_ns, rtt_ns);
}

/* What came through in the round trip of 100 ms after a loss, with a silence in its midst. */
static bool came_through(struct tcp_cc *cc, uint32_t bytes, uint64_t silent_ns)
{
	const uint64_t round_ns = 100 * NS_PER_MS, step_ns = 5 * NS_PER_MS;
	uint64_t lost_ns = cc->cubic.learn_ns, at_ns;

	for (at_ns = 0; at_ns < round_ns / 2; at_ns += step_ns)
		assert_false(tcp_cc_learned(cc, 0, round_ns, lost_ns + at_ns));
	at_ns += silent_ns - step_ns;
	assert_false(tcp_cc_learned(cc, bytes / 2, round_ns, lost_ns + at_ns));
	while ((at_ns += step_ns) < round_ns)
		assert_false(tcp_cc_learned(cc, 0, round_ns, lost_ns + at_ns));
	return tcp_cc_learned(cc, bytes - bytes / 2, round_ns, lost_ns + round_ns);
}

/* Started by trains on 200 Mbit/s at 100 ms, then lost while so much was queued; so much came
 * through in the round trip after, in the midst of which there was a silence. */
static void learn_by(struct tcp_cc *cc, uint64_t queue_ns, uint32_t delivered, uint64_t silent_ns)
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
	now_ns = cc->cubic.heard_ns;
	cc->ops->lost(cc, now_ns);
	assert_true(came_through(cc, delivered, silent_ns));
}

static void learn(struct tcp_cc *cc, uint64_t queue_ns, uint32_t delivered)
{
	learn_by(cc, queue_ns, delivered, 5 * NS_PER_MS);
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

/* With a window of so much, and 20 ms queued. */
static void lose_at(struct tcp_cc *cc, uint32_t cwnd)
{
	cc->cwnd = cwnd;
	cc->ops->lost(cc, NS_PER_S);
}

/* What a hiccup of the machine keeps from coming through, nobody else has. */
static void test_no_room_is_made_for_a_hiccup(void **state)
{
	struct tcp_cc_ack late = { .rtt_ns = 150 * NS_PER_MS, .srtt_ns = 120 * NS_PER_MS };
	struct tcp_cc cc = { 0 };

	(void)state;
	learn_by(&cc, 20 * NS_PER_MS, 1800000, 40 * NS_PER_MS);
	assert_true(cc.ssthresh > 1800000 && cc.cubic.left_at == 0);
	/* More than it explains is missing. */
	learn_by(&cc, 20 * NS_PER_MS, 1800000, 10 * NS_PER_MS);
	assert_true(cc.ssthresh < 1300000 && cc.cubic.left_at > 0);
	/* An overflow with a hole in the flight. */
	learn(&cc, 20 * NS_PER_MS, 2500000);
	late.now_ns = cc.cubic.heard_ns + 30 * NS_PER_MS;
	cc.cubic.epoch_ns = NS_PER_MS; /* long after the last loss */
	cc.ops->acked(&cc, &late);
	lose_at(&cc, 2400000);
	assert_true(cc.ssthresh == 1680000 && cc.cubic.left_at == 0);
	lose_at(&cc, 1900000);
	assert_true(cc.ssthresh < 1300000 && cc.cubic.left_at > 0);
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
	cc.ops->lost(&cc, cc.cubic.heard_ns);
	assert_true(came_through(&cc, 700000, 5 * NS_PER_MS));
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
	cc->ops->lost(cc, cc->cubic.heard_ns);
	assert_true(came_through(cc, delivered, 5 * NS_PER_MS));
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
		cmocka_unit_test(test_no_room_is_made_for_a_hiccup),
		cmocka_unit_test(test_who_joins_a_full_path_grows_to_a_half_of_it),
		cmocka_unit_test(test_one_train_is_enough_not_to_probe_for_more_than_a_half),
		cmocka_unit_test(test_room_is_made_whenever_others_come_and_once_if_they_do_not),
		cmocka_unit_test(test_no_room_is_made_for_a_clump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
