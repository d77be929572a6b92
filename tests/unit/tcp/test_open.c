/* Opening: dialled, accepted, refused, parked, crossed, blocked, timed out; limits, ICMP; being cut
 * off. */
#include <errno.h>
#include <string.h>

#include "script.h"
#include "shared/util.h"

static void start(struct script *t)
{
	script_init(t);
	script_start(t);
}

static void test_a_dial_is_answered(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_connect(&t);
	assert_int_equal(script_stats(&t).opened, 1);
	script_finish(&t);
}

static void test_a_syn_carries_mss_scale_sack_and_timestamp(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	assert_int_equal(t.out[0].s.mss, SCRIPT_MTU - 40);
	assert_true(t.out[0].s.scale != TCP_NO_SCALE && t.out[0].s.sack_permitted);
	assert_true(t.out[0].s.has_timestamp);
	script_finish(&t);
}

/* Our first number, by a secret, a port of ours and the time. */
static uint32_t first_number(uint8_t secret, uint16_t port, uint64_t after_ns)
{
	struct script t;

	script_init(&t);
	t.config.secret[16] = secret;
	script_start(&t);
	t.local.port = port;
	t.now_ns += after_ns;
	script_dial(&t);
	script_finish(&t);
	return t.iss;
}

/* RFC 6528: a clock that only this flow can read. */
static void test_first_numbers_are_keyed_and_move_with_time(void **state)
{
	uint32_t first = first_number(1, 80, 0), moved;

	(void)state;
	assert_int_equal(first_number(1, 80, 0), first);
	assert_int_not_equal(first_number(1, 81, 0), first);
	assert_int_not_equal(first_number(2, 80, 0), first);
	/* Not by a step that another flow would show. */
	assert_int_not_equal(first_number(2, 81, 0) - first_number(2, 80, 0),
			     first_number(1, 81, 0) - first);
	moved = first_number(1, 80, 10 * NS_PER_S) - first;
	assert_in_range(moved, 10 * 200000, 10 * 300000); /* once in 4 us */
}

static void test_a_refused_dial_fails(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	script_send(&t, (struct peer){ .flags = R | A, .ack = 1 });
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ECONNREFUSED);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_a_reset_or_answer_with_a_wrong_number_changes_nothing(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	script_send(&t, (struct peer){ .flags = R | A, .ack = 77 });
	script_send(&t, (struct peer){ .flags = R });
	script_expect_none(&t);
	script_send(&t, (struct peer){ .flags = S | A, .ack = 77 });
	script_expect(&t, R, 77, 0, 0);
	assert_int_equal(script_events(&t), 0);
	script_finish(&t);
}

static void test_an_unanswered_dial_times_out_after_127_seconds(void **state)
{
	static const unsigned gaps_s[] = { 1, 2, 4, 8, 16, 32 };
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	for (unsigned i = 0; i < ARRAY_LEN(gaps_s); i++) {
		script_wait_ms(&t, gaps_s[i] * 1000 - 1);
		script_expect_none(&t);
		script_wait_ms(&t, 1);
		script_expect(&t, S, 0, 0, 0);
	}
	script_wait_ms(&t, 63999);
	assert_int_equal(script_events(&t), 0);
	script_wait_ms(&t, 1);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), ETIMEDOUT);
	script_finish(&t);
}

static void test_a_lost_syn_makes_a_careful_start(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	script_wait_ms(&t, 1000);
	script_expect(&t, S, 0, 0, 0);
	script_send(&t, (struct peer){ .flags = S | A, .ack = 1 });
	script_expect(&t, A, 1, 1, 0);
	script_write(&t, 3 * SCRIPT_MSS);
	script_flush(&t);
	script_expect(&t, A, 1, 1, SCRIPT_MSS);
	script_expect_none(&t);
	script_wait_ms(&t, 2999);
	script_expect_none(&t);
	script_wait_ms(&t, 1);
	script_expect(&t, A, 1, 1, SCRIPT_MSS);
	script_finish(&t);
}

static void test_a_late_answer_to_a_syn_is_no_loss(void **state)
{
	struct script t;
	uint32_t first;

	(void)state;
	start(&t);
	t.has_timestamps = true;
	script_dial(&t);
	first = t.out[t.count - 1].s.ts_value;
	script_wait_ms(&t, 1000);
	script_expect(&t, S, 0, 0, 0);
	script_send(&t, (struct peer){ .flags = S | A, .ack = 1, .ts_echo = first });
	script_expect(&t, A, 1, 1, 0);
	script_write(&t, 3 * (SCRIPT_MSS - 12));
	script_flush(&t);
	for (unsigned i = 0; i < 3; i++)
		script_expect(&t, A, 1 + i * (SCRIPT_MSS - 12), 1, SCRIPT_MSS - 12);
	script_finish(&t);
}

static void test_crossed_syns_open_one_connection(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_expect(&t, S | A, 0, 1, 0);
	script_send(&t, (struct peer){ .flags = S | A, .ack = 1 });
	script_expect(&t, A, 1, 1, 0);
	assert_true(script_events(&t) & TCP_EVENT_CONNECTED);
	script_finish(&t);
}

/* The window beside a SYN is never scaled (RFC 7323, 2.2). */
static void test_the_window_of_a_crossed_syn_is_taken_as_it_is(void **state)
{
	struct tcp_conn_info info;
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_send(&t, (struct peer){ .flags = S | A, .ack = 1 });
	tcp_conn_info(t.conn, &info);
	assert_string_equal(info.state, "ESTABLISHED");
	assert_true(info.peer_window <= UINT16_MAX);
	assert_true(info.peer_window > UINT16_MAX - 128);
	script_finish(&t);
}

static void test_a_syn_waits_for_the_owner(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_wait_ms(&t, 1000);
	script_send(&t, (struct peer){ .flags = S });
	script_wait_ms(&t, 2000);
	script_expect_none(&t);
	assert_int_equal(t.incoming, 1);
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	script_expect(&t, S | A, 0, 1, 0);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	assert_true(script_events(&t) & TCP_EVENT_CONNECTED);
	script_finish(&t);
}

static void test_a_refused_syn_is_reset_and_an_ignored_one_is_not(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	tcp_refuse(t.conn, t.now_ns);
	script_flush(&t);
	script_expect(&t, R | A, 0, 1, 0);
	script_send(&t, (struct peer){ .flags = S });
	tcp_ignore(t.conn);
	script_flush(&t);
	script_expect_none(&t);
	assert_int_equal(t.incoming, 2);
	assert_int_equal(script_stats(&t).conns, 0);
	assert_int_equal(script_stats(&t).parked, 0);
	script_finish(&t);
}

static void test_a_parked_syn_that_is_reset_is_cancelled(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_send(&t, (struct peer){ .flags = R, .seq = 9 });
	assert_int_equal(t.cancelled, 0);
	script_send(&t, (struct peer){ .flags = R, .seq = 1 });
	assert_int_equal(t.cancelled, 1);
	script_finish(&t);
}

static void test_a_parked_syn_that_is_replaced_is_cancelled(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_send(&t, (struct peer){ .flags = S, .seq = 5000 });
	assert_int_equal(t.incoming, 2);
	assert_int_equal(t.cancelled, 1);
	assert_non_null(t.conn);
	script_finish(&t);
}

static void test_a_parked_syn_times_out(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_wait_ms(&t, 69000);
	assert_int_equal(t.cancelled, 0);
	script_wait_ms(&t, 2000);
	assert_int_equal(t.cancelled, 1);
	script_finish(&t);
}

static void test_accepting_what_was_just_reset_fails(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_send(&t, (struct peer){ .flags = S });
	script_queue(&t, (struct peer){ .flags = R, .seq = 1 });
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	assert_int_equal(t.cancelled, 0);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_limits_hold(void **state)
{
	struct tcp_conn *other;
	struct script t;

	(void)state;
	script_init(&t);
	t.config.max_conns = 1;
	t.config.max_parked = 1;
	script_start(&t);
	script_send(&t, (struct peer){ .flags = S });
	t.remote.port++;
	script_send(&t, (struct peer){ .flags = S });
	script_expect_none(&t); /* too many parked: silence */
	assert_int_equal(tcp_connect(t.tcp, &t.local, &t.remote, &t, t.now_ns, &other), -ENOBUFS);
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	script_expect(&t, S | A, 0, 1, 0);
	script_send(&t, (struct peer){ .flags = S });
	script_expect_none(&t); /* too many connections: the same */
	assert_int_equal(script_stats(&t).syns_unanswered, 2);
	script_finish(&t);
}

static void test_a_live_flow_cannot_be_dialled_again(void **state)
{
	struct tcp_conn *other;
	struct script t;

	(void)state;
	start(&t);
	script_connect(&t);
	assert_int_equal(tcp_connect(t.tcp, &t.local, &t.remote, &t, t.now_ns, &other),
			 -EADDRINUSE);
	t.remote.addr = (struct ip_addr){ { 0xfd } };
	assert_int_equal(tcp_connect(t.tcp, &t.local, &t.remote, &t, t.now_ns, &other),
			 -EAFNOSUPPORT);
	script_finish(&t);
}

static void test_icmp_ends_a_dial_but_not_a_connection(void **state)
{
	struct script_packet syn;
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	syn = t.out[0];
	syn.bytes[24] ^= 1; /* another sequence number: not ours */
	tcp_icmp_error(t.tcp, syn.bytes, syn.len, EHOSTUNREACH, 0, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), 0);
	syn.bytes[24] ^= 1;
	tcp_icmp_error(t.tcp, syn.bytes, syn.len, EHOSTUNREACH, 0, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	t.first = t.count = 0;
	script_connect(&t);
	script_write(&t, 10);
	script_flush(&t);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, ECONNREFUSED, 0, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), 0);
	tcp_icmp_error(t.tcp, t.out[0].bytes, 10, ECONNREFUSED, 0, t.now_ns);
	assert_int_equal(script_stats(&t).bad_segments, 1);
	script_finish(&t);
}

static void test_a_smaller_path_mtu_makes_smaller_segments(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_connect(&t);
	script_write(&t, SCRIPT_MSS);
	script_flush(&t);
	script_expect(&t, A, 1, 1, SCRIPT_MSS);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 1000, t.now_ns);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 960);
	script_expect(&t, A, 961, 1, SCRIPT_MSS - 960);
	script_expect_none(&t);
	script_finish(&t);
}

/* No IPv6 link carries less than 1280 bytes, so who says so lies or errs (RFC 8201, 4). */
static void test_ipv6_segments_are_not_cut_below_its_least_mtu(void **state)
{
	struct script t;

	(void)state;
	script_init(&t);
	endpoint_parse("[fd7a::1]:80", &t.local);
	endpoint_parse("[fd7a::2]:5000", &t.remote);
	t.config.mtu = 1400;
	script_start(&t);
	script_connect(&t);
	script_write(&t, 1240);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 1240);
	tcp_icmp_error(t.tcp, t.out[0].bytes, t.out[0].len, EMSGSIZE, 600, t.now_ns);
	script_flush(&t);
	script_expect(&t, A, 1, 1, 1220);
	script_expect(&t, A, 1221, 1, 20);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_a_segment_for_nobody_is_reset(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	t.iss = 5;
	script_send(&t, (struct peer){ .flags = A, .seq = 10, .ack = 20 });
	script_expect(&t, R, 20, 0, 0);
	script_send(&t, (struct peer){ .flags = R | A, .seq = 10, .ack = 20 });
	script_send(&t, (struct peer){ .flags = S | F, .seq = 10 });
	script_expect_none(&t);
	script_finish(&t);
}

static void test_a_blocked_link_loses_nothing(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_connect(&t);
	script_write(&t, 3 * SCRIPT_MSS);
	t.is_blocked = true;
	script_flush(&t);
	script_wait_ms(&t, 5000);
	script_expect_none(&t);
	t.is_blocked = false;
	script_flush(&t);
	for (unsigned i = 0; i < 3; i++)
		script_expect(&t, A, 1 + i * SCRIPT_MSS, 1, SCRIPT_MSS);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_cut_off_fails_in_silence_and_leaves_what_came(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10 });
	script_wait_ms(&t, 100);
	script_expect(&t, A, 1, 11, 0);
	script_write(&t, 10);
	script_events(&t);
	tcp_cut_off(t.conn, EHOSTUNREACH, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	assert_false(tcp_conn_fell_silent(t.conn));
	assert_int_equal(script_read(&t), 10);
	/* It is dead, and stays so. */
	tcp_cut_off(t.conn, ETIMEDOUT, t.now_ns);
	script_wait_ms(&t, 10000);
	assert_int_equal(script_events(&t), 0);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	script_expect_none(&t);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 0);
	assert_int_equal(script_stats(&t).memory, 0);
	script_finish(&t);
}

static void test_broken_off_it_fails_on_both_sides(void **state)
{
	struct script t;

	(void)state;
	script_begin(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1, .len = 10 });
	script_wait_ms(&t, 100);
	script_expect(&t, A, 1, 11, 0);
	script_events(&t);
	tcp_break_off(t.conn, EHOSTUNREACH, t.now_ns);
	script_flush(&t);
	script_expect(&t, R | A, 1, 11, 0);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	assert_int_equal(script_read(&t), 10);
	tcp_break_off(t.conn, ETIMEDOUT, t.now_ns);
	script_wait_ms(&t, 10000);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	script_expect_none(&t);
	tcp_release(t.conn, t.now_ns);
	script_flush(&t);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).conns, 0);
	script_finish(&t);
}

static void test_a_dial_that_is_broken_off_fails_in_silence(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	tcp_break_off(t.conn, EHOSTUNREACH, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	tcp_release(t.conn, t.now_ns);
	script_wait_ms(&t, 10000);
	script_expect_none(&t);
	script_finish(&t);
}

static void test_cut_off_fails_a_dial(void **state)
{
	struct script t;

	(void)state;
	start(&t);
	script_dial(&t);
	tcp_cut_off(t.conn, EHOSTUNREACH, t.now_ns);
	script_flush(&t);
	assert_int_equal(script_events(&t), TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(t.conn), EHOSTUNREACH);
	tcp_release(t.conn, t.now_ns);
	script_wait_ms(&t, 10000);
	script_expect_none(&t);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_dial_is_answered),
		cmocka_unit_test(test_a_syn_carries_mss_scale_sack_and_timestamp),
		cmocka_unit_test(test_first_numbers_are_keyed_and_move_with_time),
		cmocka_unit_test(test_a_refused_dial_fails),
		cmocka_unit_test(test_a_reset_or_answer_with_a_wrong_number_changes_nothing),
		cmocka_unit_test(test_an_unanswered_dial_times_out_after_127_seconds),
		cmocka_unit_test(test_a_lost_syn_makes_a_careful_start),
		cmocka_unit_test(test_a_late_answer_to_a_syn_is_no_loss),
		cmocka_unit_test(test_crossed_syns_open_one_connection),
		cmocka_unit_test(test_the_window_of_a_crossed_syn_is_taken_as_it_is),
		cmocka_unit_test(test_a_syn_waits_for_the_owner),
		cmocka_unit_test(test_a_refused_syn_is_reset_and_an_ignored_one_is_not),
		cmocka_unit_test(test_a_parked_syn_that_is_reset_is_cancelled),
		cmocka_unit_test(test_a_parked_syn_that_is_replaced_is_cancelled),
		cmocka_unit_test(test_a_parked_syn_times_out),
		cmocka_unit_test(test_accepting_what_was_just_reset_fails),
		cmocka_unit_test(test_limits_hold),
		cmocka_unit_test(test_a_live_flow_cannot_be_dialled_again),
		cmocka_unit_test(test_icmp_ends_a_dial_but_not_a_connection),
		cmocka_unit_test(test_a_smaller_path_mtu_makes_smaller_segments),
		cmocka_unit_test(test_ipv6_segments_are_not_cut_below_its_least_mtu),
		cmocka_unit_test(test_a_segment_for_nobody_is_reset),
		cmocka_unit_test(test_a_blocked_link_loses_nothing),
		cmocka_unit_test(test_cut_off_fails_in_silence_and_leaves_what_came),
		cmocka_unit_test(test_cut_off_fails_a_dial),
		cmocka_unit_test(test_broken_off_it_fails_on_both_sides),
		cmocka_unit_test(test_a_dial_that_is_broken_off_fails_in_silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
