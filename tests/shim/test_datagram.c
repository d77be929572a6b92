/* UDP with peers and with ourselves: destinations, sources, and who a datagram came from. */
#include "tests/shim/datagrams.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/util.h"

static void test_connected_datagrams_go_to_the_peer_from_our_mesh_address(void **state)
{
	char mirror[IP_TEXT_MAX];
	int fd = datagram(AF_INET);
	struct harness_addr to = at(AF_INET, PEER_V4, PORT);

	(void)state;
	format_mirror(SELF_V4, mirror);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(local_ip(fd), SELF_V4);
	assert_string_equal(peer_text(fd), PEER_V4 ":5353");
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_answer(fd, mirror, "hello", PEER_V4 ":5353");
	close(fd);
}

static void test_unconnected_datagrams_carry_our_source_from_any_socket(void **state)
{
	static const char *const binds[] = { NULL, "0.0.0.0", SELF_V4 };
	char mirror[IP_TEXT_MAX];

	(void)state;
	format_mirror(SELF_V4, mirror);
	for (int i = 0; i < 3; i++) {
		int fd = datagram(AF_INET);

		if (binds[i])
			bind_to(fd, AF_INET, binds[i]);
		send_to(fd, AF_INET, PEER_V4, "a");
		assert_answer(fd, mirror, "a", PEER_V4 ":5353");
		send_to(fd, AF_INET, NODE_C_V4, "b");
		assert_answer(fd, mirror, "b", NODE_C_V4 ":5353");
		close(fd);
	}
}

/* As the kernel has it for sendto() on an IPv4 socket, and on no other. */
static void test_a_destination_without_a_family_is_an_ipv4_one(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT), closed = at(AF_INET, NOWHERE_V4, PORT);
	int fd = datagram(AF_INET), fd6 = datagram(AF_INET6);
	char mirror[IP_TEXT_MAX];

	(void)state;
	format_mirror(SELF_V4, mirror);
	sa(&to)->sa_family = sa(&closed)->sa_family = AF_UNSPEC;
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&closed), closed.len), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	assert_int_equal(sendto(fd, "hello", 5, 0, sa(&to), to.len), 5);
	assert_answer(fd, mirror, "hello", PEER_V4 ":5353");
	assert_int_equal(sendto(fd6, "x", 1, 0, sa(&to), to.len), -1);
	assert_int_equal(errno, EDESTADDRREQ);
	close(fd);
	close(fd6);
}

static void test_ipv6_sockets_reach_both_families(void **state)
{
	char mirror4[IP_TEXT_MAX], mirror6[IP_TEXT_MAX];
	int fd = datagram(AF_INET6);

	(void)state;
	format_mirror(SELF_V4, mirror4);
	format_mirror(SELF_V6, mirror6);
	bind_to(fd, AF_INET6, "::");
	send_to(fd, AF_INET6, PEER_V4, "four");
	assert_answer(fd, mirror4, "four", "mapped:" PEER_V4 ":5353");
	send_to(fd, AF_INET, PEER_V4, "four"); /* an AF_INET name on an AF_INET6 socket */
	assert_answer(fd, mirror4, "four", "mapped:" PEER_V4 ":5353");
	send_to(fd, AF_INET6, PEER_V6, "six");
	assert_answer(fd, mirror6, "six", PEER_V6 ":5353");
	close(fd);
}

static void test_ipv6_only_sockets_reach_ipv6_peers(void **state)
{
	int fd = datagram(AF_INET6), one = 1;
	struct harness_addr to = at(AF_INET6, PEER_V6, PORT), v4 = at(AF_INET6, PEER_V4, PORT);

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	bind_to(fd, AF_INET6, "::");
	send_to(fd, AF_INET6, PEER_V6, "only");
	assert_answer(fd, "::1", "only", PEER_V6 ":5353");
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&v4), v4.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(peer_text(fd), PEER_V6 ":5353");
	assert_string_equal(local_ip(fd), SELF_V6);
	close(fd);
	fd = datagram(AF_INET6);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(local_ip(fd), SELF_V6);
	close(fd);
}

static void test_asking_for_the_own_address_needs_no_traffic(void **state)
{
	static const struct {
		const char *to, *self;
		int family;
	} asks[] = { { PEER_V4, SELF_V4, AF_INET },
		     { SELF_V4, SELF_V4, AF_INET },
		     { PEER_V6, SELF_V6, AF_INET6 },
		     { SELF_V6, SELF_V6, AF_INET6 } };

	(void)state;
	for (int i = 0; i < 4; i++) {
		for (uint16_t port = 0; port < 2; port++) {
			struct harness_addr to = at(asks[i].family, asks[i].to, port);
			int fd = datagram(asks[i].family);

			assert_int_equal(connect(fd, sa(&to), to.len), 0);
			assert_string_equal(local_ip(fd), asks[i].self);
			close(fd);
		}
	}
}

static void test_a_socket_can_leave_the_mesh_again(void **state)
{
	int fd = datagram(AF_INET);
	struct harness_addr mesh = at(AF_INET, PEER_V4, PORT), out = at(AF_INET, "127.0.0.9", 9);
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	(void)state;
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	assert_int_equal(connect(fd, sa(&out), out.len), 0);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
}

/* Its source is a v4-mapped mirror then, with which the kernel lets it go nowhere on IPv6. */
static void test_an_ipv6_socket_can_leave_the_mesh_again(void **state)
{
	struct harness_addr mesh = at(AF_INET6, PEER_V6, PORT), out = at(AF_INET6, "::1", 9);
	int fd = datagram(AF_INET6), v4 = datagram(AF_INET);

	(void)state;
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
	assert_int_equal(connect(fd, sa(&out), out.len), 0);
	assert_string_equal(peer_text(fd), "::1:9");
	assert_string_equal(local_ip(fd), "::1");
	assert_int_equal(connect(v4, sa(&out), out.len), -1);
	assert_int_equal(errno, EAFNOSUPPORT);
	close(fd);
	close(v4);
}

/* It has a source of there, with which the mesh cannot be reached, unless the program chose it. */
static void test_a_socket_that_is_connected_outside_can_come_in(void **state)
{
	struct harness_addr mesh = at(AF_INET6, PEER_V6, PORT), out = at(AF_INET6, "::1", 9);
	int fd;

	(void)state;
	for (int is_bound = 0; is_bound < 2; is_bound++) {
		fd = datagram(AF_INET6);
		if (is_bound)
			bind_to(fd, AF_INET6, "::");
		assert_int_equal(connect(fd, sa(&out), out.len), 0);
		assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
		assert_string_equal(peer_text(fd), PEER_V6 ":5353");
		assert_string_equal(local_ip(fd), SELF_V6);
		close(fd);
	}
	fd = datagram(AF_INET6);
	bind_to(fd, AF_INET6, "::1");
	assert_int_equal(connect(fd, sa(&out), out.len), 0);
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_string_equal(peer_text(fd), "::1:9");
	close(fd);
}

/* To and fro: what we bound for the mesh is never taken for the program's choice. */
static void test_a_socket_goes_in_and_out_as_often_as_it_likes(void **state)
{
	static const struct {
		int family;
		const char *mesh, *self, *out, *any;
	} worlds[] = { { AF_INET, PEER_V4, SELF_V4, "127.0.0.9", "0.0.0.0" },
		       { AF_INET6, PEER_V6, SELF_V6, "::1", "::" } };
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(worlds); i++) {
		int family = worlds[i].family, fd = datagram(family);
		struct harness_addr mesh = at(family, worlds[i].mesh, PORT);
		struct harness_addr out = at(family, worlds[i].out, 9);

		assert_int_equal(sendto(fd, "x", 1, 0, sa(&mesh), mesh.len), 1);
		for (int round = 0; round < 3; round++) {
			assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
			assert_string_equal(local_ip(fd), worlds[i].self);
			assert_int_equal(connect(fd, sa(&out), out.len), 0);
			assert_int_not_equal(strcmp(local_ip(fd), worlds[i].self), 0);
		}
		assert_int_equal(connect(fd, &none, sizeof(none)), 0);
		assert_string_equal(local_ip(fd), worlds[i].any);
		assert_int_equal(sendto(fd, "x", 1, 0, sa(&mesh), mesh.len), 1);
		assert_int_equal(sendto(fd, "x", 1, 0, sa(&out), out.len), 1);
		assert_int_equal(sendto(fd, "x", 1, 0, sa(&mesh), mesh.len), 1);
		close(fd);
	}
}

static void test_own_datagrams_arrive_wherever_the_service_is(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4, "127.0.0.1" };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int server = datagram(AF_INET), client = datagram(AF_INET);
		struct harness_addr to;
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		char data[8], self[64];

		bind_to(server, AF_INET, places[i]);
		to = at(AF_INET, SELF_V4, local_port(server));
		assert_int_equal(sendto(client, "me", 2, 0, sa(&to), to.len), 2);
		assert_int_equal(recvfrom(server, data, 8, 0, (struct sockaddr *)&from, &len), 2);
		snprintf(self, sizeof(self), SELF_V4 ":%u", local_port(client));
		assert_string_equal(sockaddr_text(&from, len), self);
		assert_int_equal(sendto(server, "back", 4, 0, (struct sockaddr *)&from, len), 4);
		assert_int_equal(recv(client, data, 8, 0), 4);
		close(client);
		client = datagram(AF_INET);
		assert_int_equal(connect(client, sa(&to), to.len), 0);
		snprintf(self, sizeof(self), SELF_V4 ":%u", local_port(server));
		assert_string_equal(peer_text(client), self);
		close(client);
		close(server);
	}
}

/* What was sent before connect() gave the client a port on all addresses. */
static void test_a_used_socket_connects_to_ourselves_and_is_answered(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4, "127.0.0.1" };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int server = datagram(AF_INET), client = datagram(AF_INET);
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		struct harness_addr to;
		char data[8];

		bind_to(server, AF_INET, places[i]);
		to = at(AF_INET, SELF_V4, local_port(server));
		assert_int_equal(sendto(client, "a", 1, 0, sa(&to), to.len), 1);
		assert_int_equal(recv(server, data, 8, 0), 1);
		assert_int_equal(connect(client, sa(&to), to.len), 0);
		assert_int_equal(send(client, "me", 2, 0), 2);
		assert_int_equal(recvfrom(server, data, 8, 0, (struct sockaddr *)&from, &len), 2);
		assert_int_equal(sendto(server, "back", 4, 0, (struct sockaddr *)&from, len), 4);
		assert_int_equal(recv(client, data, 8, 0), 4);
		close(client);
		close(server);
	}
}

static void test_own_ipv6_datagrams_reach_a_service_on_plain_loopback(void **state)
{
	int server = datagram(AF_INET6), client = datagram(AF_INET6);
	struct harness_addr to;
	char data[8], self[64];

	(void)state;
	bind_to(server, AF_INET6, "::1");
	to = at(AF_INET6, SELF_V6, local_port(server));
	assert_int_equal(sendto(client, "one", 3, 0, sa(&to), to.len), 3);
	assert_int_equal(recv(server, data, 8, 0), 3);
	assert_int_equal(connect(client, sa(&to), to.len), 0);
	snprintf(self, sizeof(self), SELF_V6 ":%u", local_port(server));
	assert_string_equal(peer_text(client), self);
	assert_string_equal(local_ip(client), SELF_V6);
	assert_int_equal(send(client, "two", 3, 0), 3);
	assert_int_equal(recv(server, data, 8, 0), 3);
	close(client);
	close(server);
}

static void test_what_no_mirror_carries_is_refused(void **state)
{
	struct harness_addr peer = at(AF_INET, PEER_V4, 0), to = at(AF_INET, PEER_V4, PORT);
	int fd = datagram(AF_INET), ping = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
	char request[8] = { 8 };

	(void)state;
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&peer), peer.len), -1);
	assert_int_equal(errno, EINVAL); /* port 0, as without us */
	close(fd);
	fd = datagram(AF_INET);
	bind_to(fd, AF_INET, "127.9.9.9");
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&to), to.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(fd);
	if (ping < 0)
		return; /* not permitted here */
	assert_int_equal(sendto(ping, request, 8, 0, sa(&peer), peer.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(connect(ping, sa(&peer), peer.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(ping);
}

static void test_a_name_server_of_this_machine_is_the_daemons(void **state)
{
	struct harness_addr server = at(AF_INET, SERVER_V4, 53);
	char mirror[IP_TEXT_MAX];
	int fd = datagram(AF_INET);

	(void)state;
	format_mirror(SELF_V4, mirror);
	assert_int_equal(sendto(fd, "ask", 3, 0, sa(&server), server.len), 3);
	assert_answer(fd, mirror, "ask", SERVER_V4 ":53");
	close(fd);

	fd = datagram(AF_INET);
	assert_int_equal(connect(fd, sa(&server), server.len), 0);
	assert_string_equal(peer_text(fd), SERVER_V4 ":53");
	assert_int_equal(send(fd, "again", 5, 0), 5);
	assert_answer(fd, mirror, "again", SERVER_V4 ":53");
	close(fd);

	/* It keeps an address that it was given. */
	fd = datagram(AF_INET);
	bind_to(fd, AF_INET, "127.0.0.9");
	assert_int_equal(sendto(fd, "bound", 5, 0, sa(&server), server.len), 5);
	assert_answer(fd, "127.0.0.9", "bound", SERVER_V4 ":53");
	close(fd);
}

static void test_a_name_server_is_reached_by_stream_too(void **state)
{
	struct harness_addr server = at(AF_INET, SERVER_V4, 53);
	int fd = new_socket(AF_INET, SOCK_STREAM);
	char got[4];

	(void)state;
	assert_int_equal(connect(fd, sa(&server), server.len), 0);
	assert_string_equal(peer_text(fd), SERVER_V4 ":53");
	assert_int_equal(send(fd, "ask", 3, 0), 3);
	assert_int_equal(recv(fd, got, sizeof(got), 0), 3);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connected_datagrams_go_to_the_peer_from_our_mesh_address),
		cmocka_unit_test(test_unconnected_datagrams_carry_our_source_from_any_socket),
		cmocka_unit_test(test_a_destination_without_a_family_is_an_ipv4_one),
		cmocka_unit_test(test_ipv6_sockets_reach_both_families),
		cmocka_unit_test(test_ipv6_only_sockets_reach_ipv6_peers),
		cmocka_unit_test(test_asking_for_the_own_address_needs_no_traffic),
		cmocka_unit_test(test_a_socket_can_leave_the_mesh_again),
		cmocka_unit_test(test_an_ipv6_socket_can_leave_the_mesh_again),
		cmocka_unit_test(test_a_socket_that_is_connected_outside_can_come_in),
		cmocka_unit_test(test_a_socket_goes_in_and_out_as_often_as_it_likes),
		cmocka_unit_test(test_own_datagrams_arrive_wherever_the_service_is),
		cmocka_unit_test(test_a_used_socket_connects_to_ourselves_and_is_answered),
		cmocka_unit_test(test_own_ipv6_datagrams_reach_a_service_on_plain_loopback),
		cmocka_unit_test(test_what_no_mirror_carries_is_refused),
		cmocka_unit_test(test_a_name_server_of_this_machine_is_the_daemons),
		cmocka_unit_test(test_a_name_server_is_reached_by_stream_too),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
