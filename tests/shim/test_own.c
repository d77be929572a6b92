/* This node's own mesh addresses: bind, dialling oneself, inbound flows, both ends' names. */
#include "tests/shim/harness.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener(int family, const char *ip, uint16_t *port)
{
	int fd = new_socket(family, SOCK_STREAM);
	struct harness_addr addr = at(family, ip, 0);

	assert_int_equal(bind(fd, sa(&addr), addr.len), 0);
	assert_int_equal(listen(fd, 8), 0);
	*port = local_port(fd);
	return fd;
}

static int dial(int fd, int family, const char *ip, uint16_t port)
{
	struct harness_addr to = at(family, ip, port);

	return connect(fd, sa(&to), to.len);
}

static void assert_text(const char *got, const char *ip, uint16_t port)
{
	char wanted[96];

	snprintf(wanted, sizeof(wanted), "%s:%u", ip, port);
	assert_string_equal(got, wanted);
}

/* accept(), which must report from, and both ends of the connection. */
static void assert_accepts(int server, int client, const char *from, const char *self,
			   uint16_t port)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int conn = accept(server, (struct sockaddr *)&peer, &len);
	uint16_t client_port = local_port(client);

	assert_true(conn >= 0);
	assert_text(sockaddr_text(&peer, len), from, client_port);
	assert_text(peer_text(conn), from, client_port);
	assert_text(local_text(conn), self, port);
	close(conn);
}

static void test_own_mesh_address_is_bound_as_its_mirror(void **state)
{
	uint16_t port;
	int fd = listener(AF_INET, SELF_V4, &port), lo = new_socket(AF_INET, SOCK_STREAM);
	struct harness_addr same = at(AF_INET, "127.0.0.1", port),
			    again = at(AF_INET, SELF_V4, port);
	struct endpoint raw = raw_local(fd);

	(void)state;
	if (!harness_is_traced())
		assert_int_equal(ip_v4(&raw.addr), mirror_of(SELF_V4));
	assert_text(local_text(fd), SELF_V4, port);
	assert_int_equal(bind(lo, sa(&same), same.len), 0); /* no clash with loopback */
	close(lo);
	lo = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(bind(lo, sa(&again), again.len), -1);
	assert_int_equal(errno, EADDRINUSE);
	close(lo);
	close(fd);
}

static void test_own_ipv6_address_is_bound_on_any_ipv6_socket(void **state)
{
	int fd = new_socket(AF_INET6, SOCK_STREAM), other, one = 1, value = 0;
	struct harness_addr own = at(AF_INET6, SELF_V6, 0);
	socklen_t len = sizeof(value);
	uint16_t port;

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	port = local_port(fd);
	assert_text(local_text(fd), SELF_V6, port);
	close(fd);
	fd = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	own = at(AF_INET6, SELF_V6, port);
	assert_int_equal(bind(fd, sa(&own), own.len), 0); /* the first is closed */
	close(fd);
	fd = listener(AF_INET6, SELF_V6, &port);
	other = new_socket(AF_INET6, SOCK_STREAM);
	own = at(AF_INET6, SELF_V6, port);
	assert_int_equal(setsockopt(other, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(bind(other, sa(&own), own.len), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(getsockopt(other, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len), 0);
	assert_int_equal(value, 1); /* put back */
	close(other);
	close(fd);
}

static void test_other_mesh_addresses_cannot_be_bound(void **state)
{
	static const char *const v4[] = { PEER_V4, NOWHERE_V4 }, *const v6[] = { PEER_V6,
										 NOWHERE_V6 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct harness_addr a4 = at(AF_INET, v4[i], 0), a6 = at(AF_INET6, v6[i], 0);
		int fd4 = new_socket(AF_INET, SOCK_STREAM), fd6 = new_socket(AF_INET6, SOCK_DGRAM);

		assert_int_equal(bind(fd4, sa(&a4), a4.len), -1);
		assert_int_equal(errno, EADDRNOTAVAIL);
		assert_int_equal(bind(fd6, sa(&a6), a6.len), -1);
		assert_int_equal(errno, EADDRNOTAVAIL);
		close(fd4);
		close(fd6);
	}
}

static void test_own_address_is_reached_wherever_the_listener_is(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4, "127.0.0.1" };
	uint16_t port;

	(void)state;
	for (int i = 0; i < 3; i++) {
		int server = listener(AF_INET, places[i], &port);
		int client = new_socket(AF_INET, SOCK_STREAM);

		errno = 0;
		assert_int_equal(dial(client, AF_INET, SELF_V4, port), 0);
		assert_int_equal(errno, 0);
		assert_text(peer_text(client), SELF_V4, port);
		assert_string_equal(local_ip(client), SELF_V4);
		assert_accepts(server, client, SELF_V4, SELF_V4, port);
		close(client);
		close(server);
	}
}

static void test_own_address_is_reached_without_blocking_too(void **state)
{
	uint16_t port;
	int server = listener(AF_INET, "127.0.0.1", &port);
	int client = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	struct pollfd p = { client, POLLOUT, 0 };

	(void)state;
	assert_int_equal(dial(client, AF_INET, SELF_V4, port), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(p.revents, POLLOUT);
	assert_int_equal(so_error(client), 0);
	assert_text(peer_text(client), SELF_V4, port);
	assert_accepts(server, client, SELF_V4, SELF_V4, port);
	close(client);
	close(server);
	client = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	assert_int_equal(dial(client, AF_INET, SELF_V4, port), -1);
	if (errno == EINPROGRESS) {
		p.fd = client;
		assert_int_equal(poll(&p, 1, 20000), 1);
		assert_int_equal(so_error(client), ECONNREFUSED);
	} else {
		assert_int_equal(errno, ECONNREFUSED);
	}
	close(client);
}

static void test_own_address_without_a_listener_refuses(void **state)
{
	uint16_t port;
	int fd = listener(AF_INET, "127.0.0.1", &port);

	(void)state;
	close(fd);
	fd = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(dial(fd, AF_INET, SELF_V4, port), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	fd = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(dial(fd, AF_INET6, SELF_V6, port), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static void test_own_ipv6_address_is_reached_wherever_the_listener_is(void **state)
{
	static const char *const places[] = { "::", SELF_V6 };
	uint16_t port;
	int server, client, one = 1;
	struct harness_addr lo = at(AF_INET6, "::1", 0);

	(void)state;
	for (int i = 0; i < 2; i++) {
		server = listener(AF_INET6, places[i], &port);
		client = new_socket(AF_INET6, SOCK_STREAM);
		assert_int_equal(dial(client, AF_INET6, SELF_V6, port), 0);
		assert_text(peer_text(client), SELF_V6, port);
		assert_accepts(server, client, SELF_V6, SELF_V6, port);
		close(client);
		close(server);
	}
	server = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(bind(server, sa(&lo), lo.len), 0);
	assert_int_equal(listen(server, 1), 0);
	client = new_socket(AF_INET6, SOCK_STREAM);
	port = local_port(server);
	assert_int_equal(dial(client, AF_INET6, SELF_V6, port), 0);
	assert_text(peer_text(client), SELF_V6, port);
	assert_string_equal(local_ip(client), SELF_V6);
	close(client);
	client = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(dial(client, AF_INET6, "::1", port), 0);
	assert_text(peer_text(client), "::1", port); /* asked for as loopback */
	assert_string_equal(local_ip(client), "::1");
	close(client);
	close(server);
}

static void test_mapped_own_address_binds_and_connects(void **state)
{
	uint16_t port;
	int server = new_socket(AF_INET6, SOCK_STREAM), client = new_socket(AF_INET6, SOCK_STREAM);
	struct harness_addr own = at(AF_INET6, SELF_V4, 0);

	(void)state;
	assert_int_equal(bind(server, sa(&own), own.len), 0);
	assert_int_equal(listen(server, 4), 0);
	port = local_port(server);
	assert_text(local_text(server), "mapped:" SELF_V4, port);
	assert_int_equal(dial(client, AF_INET6, SELF_V4, port), 0);
	assert_text(peer_text(client), "mapped:" SELF_V4, port);
	assert_accepts(server, client, "mapped:" SELF_V4, "mapped:" SELF_V4, port);
	close(client);
	close(server);
}

static void test_an_inbound_peer_is_seen_with_its_mesh_address_and_port(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4 };
	uint16_t port;

	(void)state;
	for (int i = 0; i < 2; i++) {
		int server = listener(AF_INET, places[i], &port);
		int peer = raw_stream(mirror_of(PEER_V4), 0, mirror_of(SELF_V4), port);

		assert_accepts(server, peer, PEER_V4, SELF_V4, port);
		close(peer);
		close(server);
	}
}

static void test_an_inbound_peer_to_a_loopback_service_still_sees_the_mesh(void **state)
{
	uint16_t port;
	int server = listener(AF_INET, "127.0.0.1", &port);
	int peer = raw_stream(mirror_of(PEER_V4), 0, 0x7f000001, port);

	(void)state;
	assert_accepts(server, peer, PEER_V4, SELF_V4, port);
	close(peer);
	close(server);
}

static void test_inbound_families_are_shown_as_the_listener_expects(void **state)
{
	uint16_t port;
	int server = listener(AF_INET6, "::", &port);
	int peer = raw_stream(mirror_of(PEER_V4), 0, mirror_of(SELF_V4), port);

	(void)state;
	assert_accepts(server, peer, "mapped:" PEER_V4, "mapped:" SELF_V4, port);
	close(peer);
	peer = raw_stream(mirror_of(PEER_V6), 0, mirror_of(SELF_V6), port);
	assert_accepts(server, peer, PEER_V6, SELF_V6, port);
	close(peer);
	close(server);
	server = listener(AF_INET, "0.0.0.0", &port);
	peer = raw_stream(mirror_of(PEER_V6), 0, mirror_of(SELF_V6), port);
	assert_accepts(server, peer, PEER_V4, SELF_V4, port); /* that node's IPv4 address */
	close(peer);
	close(server);
}

static void test_an_inbound_flow_from_a_stand_in_port_shows_the_real_one(void **state)
{
	uint16_t port;
	int server = listener(AF_INET, "0.0.0.0", &port), peer, conn;
	unsigned source, real;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);

	(void)state;
	read_numbers(FILE_TCP_IN, &source, &real);
	peer = raw_stream(mirror_of(PEER_V4), (uint16_t)source, mirror_of(SELF_V4), port);
	conn = accept4(server, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
	assert_true(conn >= 0);
	assert_text(sockaddr_text(&from, len), PEER_V4, (uint16_t)real);
	assert_text(peer_text(conn), PEER_V4, (uint16_t)real);
	close(conn);
	close(peer);
	close(server);
}

/* A dial from port that failed: the map knows it by the port until another dials from there. */
static void fail_from(uint16_t port)
{
	struct harness_addr own = at(AF_INET, SELF_V4, port);
	int fd = new_socket(AF_INET, SOCK_STREAM), one = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + EHOSTUNREACH), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	close(fd);
}

/* A connection to fd that has brought a byte, and was reset by its other end. */
static int reset_connection(int fd, uint16_t port)
{
	const struct linger reset = { 1, 0 };
	int client = new_socket(AF_INET, SOCK_STREAM), conn;
	struct pollfd p = { .events = 0 };
	char byte;

	assert_int_equal(dial(client, AF_INET, SELF_V4, port), 0);
	p.fd = conn = accept(fd, NULL, NULL);
	assert_true(conn >= 0);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(read(conn, &byte, 1), 1);
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(client);
	assert_int_equal(poll(&p, 1, 20000), 1);
	return conn;
}

static void test_a_reset_on_the_port_of_a_failed_dial_is_a_reset(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), one = 1, conn;
	struct harness_addr own;
	uint16_t port;
	char byte;

	(void)state;
	close(listener(AF_INET, SELF_V4, &port));
	fail_from(port);
	own = at(AF_INET, SELF_V4, port);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	assert_int_equal(listen(fd, 8), 0);
	conn = reset_connection(fd, port);
	assert_int_equal(recv(conn, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(conn);
	conn = reset_connection(fd, port);
	assert_int_equal(so_error(conn), ECONNRESET);
	close(conn);
	close(fd);
}

static void test_short_buffers_are_cut_off_as_the_kernel_does(void **state)
{
	uint16_t port;
	int server = listener(AF_INET, "0.0.0.0", &port), peer, conn;
	unsigned char short_name[16];
	socklen_t len = 6;

	(void)state;
	peer = raw_stream(mirror_of(PEER_V4), 0, mirror_of(SELF_V4), port);
	memset(short_name, 0xaa, sizeof(short_name));
	conn = accept(server, (struct sockaddr *)short_name, &len);
	assert_true(conn >= 0);
	assert_int_equal(len, 16);
	assert_int_equal(short_name[4], 100);
	assert_int_equal(short_name[5], 64);
	assert_int_equal(short_name[6], 0xaa);
	len = 5;
	memset(short_name, 0xaa, sizeof(short_name));
	assert_int_equal(getpeername(conn, (struct sockaddr *)short_name, &len), 0);
	assert_int_equal(len, 16);
	assert_int_equal(short_name[4], 100);
	assert_int_equal(short_name[5], 0xaa);
	len = 0;
	assert_int_equal(getsockname(conn, (struct sockaddr *)short_name, &len), 0);
	assert_int_equal(len, 16);
	close(conn);
	peer = (close(peer), raw_stream(mirror_of(PEER_V4), 0, mirror_of(SELF_V4), port));
	conn = accept(server, NULL, NULL);
	assert_true(conn >= 0);
	close(conn);
	close(peer);
	close(server);
}

static void test_bad_pointers_are_refused_by_the_kernel(void **state)
{
	uint16_t port;
	int fd = listener(AF_INET, "0.0.0.0", &port);
	struct sockaddr_in name;
	socklen_t len = sizeof(name);

	(void)state;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, (socklen_t *)1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(getsockname(fd, (struct sockaddr *)1, &len), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, NULL), -1);
	assert_int_equal(errno, EFAULT);
	len = (socklen_t)-1;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(bind(fd, (struct sockaddr *)-1, 16), -1);
	assert_int_equal(errno, EFAULT);
	close(fd);
}

static void test_loopback_traffic_stays_loopback(void **state)
{
	uint16_t port;
	int server = listener(AF_INET, "127.0.0.1", &port),
	    client = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	assert_int_equal(dial(client, AF_INET, "127.0.0.1", port), 0);
	assert_text(peer_text(client), "127.0.0.1", port);
	assert_string_equal(local_ip(client), "127.0.0.1");
	assert_accepts(server, client, "127.0.0.1", "127.0.0.1", port);
	close(client);
	close(server);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_mesh_address_is_bound_as_its_mirror),
		cmocka_unit_test(test_own_ipv6_address_is_bound_on_any_ipv6_socket),
		cmocka_unit_test(test_other_mesh_addresses_cannot_be_bound),
		cmocka_unit_test(test_own_address_is_reached_wherever_the_listener_is),
		cmocka_unit_test(test_own_address_is_reached_without_blocking_too),
		cmocka_unit_test(test_own_address_without_a_listener_refuses),
		cmocka_unit_test(test_own_ipv6_address_is_reached_wherever_the_listener_is),
		cmocka_unit_test(test_mapped_own_address_binds_and_connects),
		cmocka_unit_test(test_an_inbound_peer_is_seen_with_its_mesh_address_and_port),
		cmocka_unit_test(test_an_inbound_peer_to_a_loopback_service_still_sees_the_mesh),
		cmocka_unit_test(test_inbound_families_are_shown_as_the_listener_expects),
		cmocka_unit_test(test_an_inbound_flow_from_a_stand_in_port_shows_the_real_one),
		cmocka_unit_test(test_a_reset_on_the_port_of_a_failed_dial_is_a_reset),
		cmocka_unit_test(test_short_buffers_are_cut_off_as_the_kernel_does),
		cmocka_unit_test(test_bad_pointers_are_refused_by_the_kernel),
		cmocka_unit_test(test_loopback_traffic_stays_loopback),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
