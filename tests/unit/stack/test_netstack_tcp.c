/* TCP through two stacks. */
#include "tests/unit/stack/two_stacks.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		stack_test(test_tcp_connects_through_the_stack),
		stack_test(test_a_tcp_segment_behind_extension_headers_or_in_fragments_arrives),
		cmocka_unit_test_setup_teardown(test_a_stream_goes_on_beyond_two_gibibytes,
						setup_wide, teardown_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
