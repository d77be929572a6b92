/* The parts by themselves: segments, ranges, buffers, timers, the scoreboard. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/tcp/buffer.h"
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
