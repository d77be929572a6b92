/* TCP through two stacks. */
#include "tests/unit/stack/two_stacks.h"

#include "daemon/stack/filter.h"
#include "daemon/stack/icmp.h"
#include "daemon/stack/ip.h"
#include "daemon/tcp/segment.h"
#include "shared/util.h"
#include "shared/wire.h"

static void test_tcp_connects_through_the_stack(void **state)
{
	struct iovec piece[2];
	unsigned count;

	(void)state;
	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		struct endpoint from = at(is_v6, 0, 4000), to = at(is_v6, 1, 80);
		struct tcp_conn *conn;

		a.events = b.events = 0;
		assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &conn),
				 0);
		settle();
		assert_int_equal(b.incoming, 1 + is_v6);
		assert_true(endpoint_equal(&b.local, &to));
		assert_true(endpoint_equal(&b.remote, &from));
		tcp_accept(b.conn, &b, b.now_ns);
		settle();
		assert_true(a.events & TCP_EVENT_CONNECTED);
		assert_true(tcp_send_space(conn, piece) >= 5);
		memcpy(piece[0].iov_base, "hello", 5);
		tcp_send_commit(conn, 5);
		settle();
		assert_true(b.events & TCP_EVENT_READABLE);
		assert_int_equal(tcp_recv_data(b.conn, piece, 2, &count), 5);
		assert_memory_equal(piece[0].iov_base, "hello", 5);
		tcp_recv_consume(b.conn, 5);
		tcp_abort(b.conn, b.now_ns);
		settle();
		assert_true(a.events & TCP_EVENT_FAILED);
		assert_int_equal(tcp_conn_error(conn), ECONNRESET);
		tcp_release(conn, a.now_ns);
	}
}

static void test_a_tcp_segment_behind_extension_headers_or_in_fragments_arrives(void **state)
{
	struct endpoint from = at(true, 0, 4000), to = at(true, 1, 80);
	uint8_t syn[512], part[512];
	struct tcp_conn *conn;
	size_t len, half;

	(void)state;
	a.other = NULL;
	assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &conn), 0);
	netstack_flush(a.ns, a.now_ns);
	len = a.last_len;
	memcpy(syn, a.last, len);
	inject(syn, add_extension(syn, len, 60, 0));
	assert_int_equal(b.incoming, 1);
	tcp_refuse(b.conn, b.now_ns);
	settle();
	assert_true(a.events & TCP_EVENT_FAILED);
	tcp_release(conn, a.now_ns);

	from = at(false, 0, 4001), to = at(false, 1, 80);
	assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &conn), 0);
	netstack_flush(a.ns, a.now_ns);
	len = a.last_len - IPV4_HEADER;
	half = 16;
	memcpy(syn, a.last + IPV4_HEADER, len);
	for (int i = 0; i < 2; i++) {
		const struct ip_fragment fragment = { 5, i ? 16 : 0, i == 0 };
		size_t part_len = i ? len - half : half;

		ip_header_write(part, &v4[0], &v4[1], IP_PROTOCOL_TCP, part_len, &fragment);
		memcpy(part + IPV4_HEADER, syn + fragment.offset, part_len);
		inject(part, IPV4_HEADER + part_len);
	}
	assert_int_equal(b.incoming, 2);
	tcp_refuse(b.conn, b.now_ns);
	settle();
	tcp_release(conn, a.now_ns);
}

/* So many SYNs from ports of their own; returns how many b reported. */
static unsigned syns_of(const struct filter_source *peer, const uint8_t *syn, size_t len,
			unsigned count)
{
	unsigned before = b.incoming;

	for (unsigned i = 0; i < count; i++) {
		uint8_t bytes[128];
		struct packet packet = { bytes, (uint32_t)len };

		memcpy(bytes, syn, len);
		store_be16(bytes + IPV6_HEADER, (uint16_t)(10000 + b.incoming));
		netstack_input(b.ns, peer, &packet, 1, b.now_ns);
		netstack_flush(b.ns, b.now_ns);
	}
	return b.incoming - before;
}

static void test_a_peer_that_fills_the_table_leaves_room_for_others(void **state)
{
	static const struct filter_source greedy, other;
	struct endpoint from = at(true, 0, 4000), to = at(true, 1, 80);
	struct tcp_conn *conn;
	unsigned got;

	(void)state;
	a.other = NULL;
	assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &conn), 0);
	netstack_flush(a.ns, a.now_ns);
	tcp_release(conn, a.now_ns);
	got = syns_of(&greedy, a.last, a.last_len, 5000);
	assert_in_range(got, 2048, 3072);
	/* The same addresses, but another peer. */
	assert_int_equal(syns_of(&other, a.last, a.last_len, 100), 100);
}

static int setup_wide(void **state)
{
	mtu = 65535;
	return setup(state);
}

static int teardown_wide(void **state)
{
	mtu = MTU;
	return teardown(state);
}

/* Sequence numbers then lie on the other side of all that was remembered at the start. */
static void test_a_stream_goes_on_beyond_two_gibibytes(void **state)
{
	struct endpoint from = at(false, 0, 4000), to = at(false, 1, 80);
	uint64_t sent = 0, received = 0, wanted = UINT64_C(5) << 30;
	struct iovec piece[4];
	struct tcp_conn *conn;
	unsigned count, idle = 0;

	(void)state;
	assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &conn), 0);
	settle();
	tcp_accept(b.conn, &b, b.now_ns);
	settle();
	while (received < wanted && idle < 1000) {
		size_t room = tcp_send_space(conn, piece), len;

		/* What the bytes are is the simulator's matter; here they only count. */
		tcp_send_commit(conn, room);
		sent += room;
		a.now_ns += 10 * NS_PER_US;
		b.now_ns = a.now_ns;
		netstack_expire(a.ns, a.now_ns);
		netstack_expire(b.ns, b.now_ns);
		netstack_flush(a.ns, a.now_ns);
		netstack_flush(b.ns, b.now_ns);
		len = tcp_recv_data(b.conn, piece, 4, &count);
		tcp_recv_consume(b.conn, len);
		received += len;
		idle = len > 0 ? 0 : idle + 1;
	}
	assert_true(received >= wanted);
	assert_true(sent >= received);
	tcp_abort(conn, a.now_ns);
	tcp_abort(b.conn, b.now_ns);
}

static int setup_poor(void **state)
{
	memory_max = 512 * 1024;
	return setup(state);
}

static int teardown_poor(void **state)
{
	memory_max = 0;
	return teardown(state);
}

/* Lets so much time pass; both ends act on their deadlines. */
static void pass(uint64_t ns)
{
	uint64_t end_ns = a.now_ns + ns, next_ns;

	settle();
	while ((next_ns = MIN(netstack_deadline(a.ns), netstack_deadline(b.ns))) <= end_ns) {
		a.now_ns = b.now_ns = MAX(next_ns, a.now_ns);
		netstack_expire(a.ns, a.now_ns);
		netstack_expire(b.ns, b.now_ns);
		settle();
	}
	a.now_ns = b.now_ns = end_ns;
}

static void write_all(struct tcp_conn *conn)
{
	struct iovec piece[2];

	for (size_t n; (n = tcp_send_space(conn, piece)) > 0;)
		tcp_send_commit(conn, n);
}

static size_t read_all(struct tcp_conn *conn)
{
	struct iovec piece[4];
	size_t sum = 0, n;
	unsigned count;

	for (; (n = tcp_recv_data(conn, piece, 4, &count)) > 0; sum += n)
		tcp_recv_consume(conn, n);
	return sum;
}

/*
 * Ten programs that do not read fill the memory, inside windows that were promised. Then
 * one of them reads: it must not wait until the far side happens to try again.
 */
static void test_who_reads_again_when_memory_was_short_goes_on_at_once(void **state)
{
	struct endpoint to = at(false, 1, 80);
	struct tcp_conn *out[10], *in[10];
	size_t got = 0;

	(void)state;
	for (uint16_t i = 0; i < 10; i++) {
		struct endpoint from = at(false, 0, (uint16_t)(4000 + i));

		assert_int_equal(tcp_connect(netstack_tcp(a.ns), &from, &to, &a, a.now_ns, &out[i]),
				 0);
		settle();
		in[i] = b.conn;
		tcp_accept(in[i], &b, b.now_ns);
		pass(10 * NS_PER_MS);
	}
	for (int i = 0; i < 100; i++) {
		for (unsigned k = 0; k < 10; k++)
			write_all(out[k]);
		pass(10 * NS_PER_MS);
	}
	pass(2000 * NS_PER_S);
	assert_false((a.events | b.events) & TCP_EVENT_FAILED);
	for (unsigned k = 0; k < 10; k++) {
		size_t before = read_all(in[k]);

		pass(10 * NS_PER_MS);
		write_all(out[k]);
		pass(100 * NS_PER_MS);
		got = read_all(in[k]);
		print_message("%u: %zu, then %zu\n", k, before, got);
		assert_true(got > 0);
	}
	/* With all memory back none is slow any more. */
	for (int i = 0; i < 20; i++) {
		got = 0;
		for (unsigned k = 0; k < 10; k++) {
			write_all(out[k]);
			pass(10 * NS_PER_MS);
			got += read_all(in[k]);
		}
	}
	assert_true(got > 10 * 16384);
	for (unsigned k = 0; k < 10; k++) {
		tcp_abort(out[k], a.now_ns);
		tcp_abort(in[k], b.now_ns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		stack_test(test_tcp_connects_through_the_stack),
		stack_test(test_a_tcp_segment_behind_extension_headers_or_in_fragments_arrives),
		stack_test(test_a_peer_that_fills_the_table_leaves_room_for_others),
		cmocka_unit_test_setup_teardown(
			test_who_reads_again_when_memory_was_short_goes_on_at_once, setup_poor,
			teardown_poor),
		cmocka_unit_test_setup_teardown(test_a_stream_goes_on_beyond_two_gibibytes,
						setup_wide, teardown_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
