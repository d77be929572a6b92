/* All of 127/8 is local, bindable by anybody, and keeps its addresses apart. */
#include "tests/facts/fact.h"

static void test_any_loopback_address_can_be_bound_beside_the_usual_one(void **state)
{
	int a, b, failed = -1;

	(void)state;
	/* Others on this machine may have that port at the usual address. */
	for (int i = 0; i < 20 && failed; i++) {
		a = open_socket(AF_INET, SOCK_STREAM);
		b = open_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(bind_name(a, "127.80.0.2", 0), 0);
		failed = bind_name(b, "127.0.0.1", port_of(a));
		close(a);
		close(b);
	}
	assert_int_equal(failed, 0);
}

static void test_a_wildcard_listener_sees_both_loopback_names(void **state)
{
	int server = open_socket(AF_INET, SOCK_STREAM), client = open_socket(AF_INET, SOCK_STREAM);
	union name peer;
	socklen_t len = sizeof(peer);
	char text[INET6_ADDRSTRLEN];
	int conn;

	(void)state;
	assert_int_equal(bind_name(server, "0.0.0.0", 0), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(bind_name(client, "127.80.0.3", 0), 0);
	assert_int_equal(connect_name(client, "127.80.0.2", port_of(server)), 0);
	conn = accept(server, &peer.sa, &len);
	assert_true(conn >= 0);
	assert_string_equal(ip_text(&peer, text), "127.80.0.3");
	assert_local(conn, "127.80.0.2");
	close(conn);
	close(client);
	close(server);
}

static void test_an_ipv6_wildcard_listener_sees_them_mapped(void **state)
{
	int server = open_socket(AF_INET6, SOCK_STREAM), client = open_socket(AF_INET, SOCK_STREAM);
	union name peer;
	socklen_t len = sizeof(peer);
	char text[INET6_ADDRSTRLEN];
	int conn;

	(void)state;
	set_option(server, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	assert_int_equal(bind_name(server, "::", 0), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(bind_name(client, "127.80.0.3", 0), 0);
	assert_int_equal(connect_name(client, "127.80.0.2", port_of(server)), 0);
	conn = accept(server, &peer.sa, &len);
	assert_true(conn >= 0);
	assert_string_equal(ip_text(&peer, text), "::ffff:127.80.0.3");
	assert_local(conn, "::ffff:127.80.0.2");
	close(conn);
	close(client);
	close(server);
}

/* An unbound or wildcard socket sends to all of loopback from 127.0.0.1. */
static void test_the_kernels_own_source_is_127_0_0_1(void **state)
{
	int server = open_socket(AF_INET, SOCK_DGRAM), fd;

	(void)state;
	assert_int_equal(bind_name(server, "127.80.0.3", 0), 0);
	for (int bound = 0; bound < 2; bound++) {
		fd = open_socket(AF_INET, SOCK_DGRAM);
		if (bound)
			assert_int_equal(bind_name(fd, "0.0.0.0", 0), 0);
		assert_int_equal(connect_name(fd, "127.80.0.3", port_of(server)), 0);
		assert_local(fd, "127.0.0.1");
		close(fd);
	}
	close(server);
}

/* A loopback source cannot leave the machine: what a mirror sends never reaches the network. */
static void test_a_loopback_source_cannot_leave(void **state)
{
	int fd = open_socket(AF_INET, SOCK_DGRAM);

	(void)state;
	assert_int_equal(bind_name(fd, "127.80.0.2", 0), 0);
	assert_int_equal(connect_name(fd, "192.0.2.1", 9), -1);
	assert_true(errno == EINVAL || errno == ENETUNREACH);
	close(fd);
}

/* Binding with SO_REUSEADDR asks whether somebody listens there, or on any address. */
static void test_a_bind_probe_finds_listeners_and_only_them(void **state)
{
	static const char *const places[] = { "0.0.0.0", "127.80.0.2" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		int server = open_socket(AF_INET, SOCK_STREAM), probe = reusable_stream();

		set_option(server, SOL_SOCKET, SO_REUSEADDR, 1);
		set_option(probe, SOL_SOCKET, SO_REUSEPORT, 0);
		assert_int_equal(bind_name(server, places[i], 0), 0);
		assert_int_equal(bind_name(probe, "127.80.0.2", port_of(server)), 0);
		close(probe); /* bound alone does not count */
		assert_int_equal(listen(server, 1), 0);
		probe = open_socket(AF_INET, SOCK_STREAM);
		set_option(probe, SOL_SOCKET, SO_REUSEADDR, 1);
		assert_int_equal(bind_name(probe, "127.80.0.2", port_of(server)), -1);
		assert_int_equal(errno, EADDRINUSE);
		close(probe);
		close(server);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_loopback_address_can_be_bound_beside_the_usual_one),
		cmocka_unit_test(test_a_wildcard_listener_sees_both_loopback_names),
		cmocka_unit_test(test_an_ipv6_wildcard_listener_sees_them_mapped),
		cmocka_unit_test(test_the_kernels_own_source_is_127_0_0_1),
		cmocka_unit_test(test_a_loopback_source_cannot_leave),
		cmocka_unit_test(test_a_bind_probe_finds_listeners_and_only_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
