/* Programs on two nodes, TCP: how they find one another through two edges, and what they see. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"
#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"
#include "tests/unit/edge/kept.h"

static void test_a_program_reaches_a_peer(void **state)
{
	int client, server;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		two_nodes_join(&t, v6 ? B_ADDR6 : B_ADDR, &client, &server);
		program_say(client, server, "to the peer");
		program_say(server, client, "and back");
		two_nodes_hang_up(&t, client, server);
	}
}

/* Half of all programs use AF_INET6 sockets for everything. */
static void test_an_ipv6_socket_reaches_a_peer_by_mapped_addresses(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), at = sock_endpoint(mirror_of(a, A_ADDR6), 0),
			mirror, to;
	struct sockaddr_storage ss;
	struct ipc_reply reply;
	uint16_t port;
	char c;
	int listener = program_listen(&any, &port), server;
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct kept kept;

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, endpoint_to_sockaddr(&at, AF_INET6, &ss)),
			 0);
	assert_int_equal(sock_local(fd, &at), 0);
	to = mesh_endpoint(B_ADDR6, port);
	assert_int_equal(shim_ask(a, IPC_CONNECT, &at, &to, 0, &reply), 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(program_connect(fd, &mirror), 0);
	server = accept(listener, NULL, NULL);
	program_limit(server);
	program_say(fd, server, "mapped");
	kept = kept_of(fd);
	close(fd);
	assert_int_equal(recv(server, &c, 1, 0), 0);
	close(server);
	close(listener);
	two_nodes_wait_idle(&t);
	assert_int_equal(kept_waiting(&kept, 1), 0);
}

static void test_the_listener_sees_the_peers_mirror_and_port(void **state)
{
	struct endpoint seen, local;
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	assert_int_equal(sock_peer(server, &seen), 0);
	assert_int_equal(sock_local(client, &local), 0);
	assert_int_equal(ip_v4(&seen.addr), mirror_of(b, A_ADDR));
	assert_int_equal(seen.port, local.port);
	assert_int_equal(sock_local(server, &seen), 0);
	assert_int_equal(ip_v4(&seen.addr), mirror_of(b, B_ADDR));
	two_nodes_hang_up(&t, client, server);
}

static void listener_at(const struct endpoint *at)
{
	uint16_t port;
	int listener = program_listen(at, &port), client, server;

	client = shim_connect(a, B_ADDR, port);
	assert_true(client >= 0);
	server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	close(listener);
	program_limit(client);
	program_say(server, client, "found");
	two_nodes_hang_up(&t, client, server);
}

static void test_listeners_on_mirror_and_loopback_are_found(void **state)
{
	struct endpoint at = sock_endpoint(INADDR_LOOPBACK, 0);

	(void)state;
	listener_at(&at);
	at = sock_endpoint(mirror_of(b, B_ADDR), 0);
	listener_at(&at);
}

/* Two programs' sockets on one port; which of them took the connect to addr? */
static int which_takes(const int listener[2], const char *addr, uint16_t port)
{
	int taker, server, client = shim_connect(a, addr, port);
	struct pollfd ready[2] = { { listener[0], POLLIN, 0 }, { listener[1], POLLIN, 0 } };

	assert_true(client >= 0);
	assert_int_equal(poll(ready, 2, 20000), 1);
	taker = ready[1].revents != 0;
	server = accept(listener[taker], NULL, NULL);
	two_nodes_hang_up(&t, client, server);
	return taker;
}

static void test_each_family_has_its_own_listener_on_one_port(void **state)
{
	struct endpoint at = mesh_endpoint("::", 0), v4 = sock_endpoint(0, 0), own;
	uint16_t port;
	int listener[2] = { program_listen(&v4, &port), -1 };

	(void)state;
	at.port = port;
	listener[1] = program_listen(&at, &port);
	assert_int_equal(which_takes(listener, B_ADDR, port), 0);
	assert_int_equal(which_takes(listener, B_ADDR6, port), 1);
	/* Alone, the IPv6 one takes IPv6 only. */
	close(listener[0]);
	assert_int_equal(shim_connect(a, B_ADDR, port), -ECONNREFUSED);
	/* The more specific goes first. */
	own = sock_endpoint(mirror_of(b, B_ADDR6), port);
	listener[0] = program_listen(&own, &port);
	assert_int_equal(which_takes(listener, B_ADDR6, port), 0);
	close(listener[0]);
	close(listener[1]);
}

static void test_a_listener_on_loopback6_learns_the_peer_from_the_map(void **state)
{
	struct endpoint at = mesh_endpoint("::1", 0), from, local;
	uint32_t value_addr;
	uint16_t port, value_port;
	int client, server, listener = program_listen(&at, &port);

	(void)state;
	client = shim_connect(a, B_ADDR6, port);
	assert_true(client >= 0);
	server = accept(listener, NULL, NULL);
	assert_int_equal(sock_peer(server, &from), 0);
	assert_true(map_find_pair(b->map, MAP_TCP_IN, 0, from.port, &value_addr, &value_port));
	assert_int_equal(value_addr, mirror_of(b, A_ADDR6));
	assert_int_equal(sock_local(client, &local), 0);
	assert_int_equal(value_port, local.port);
	close(listener);
	two_nodes_hang_up(&t, client, server);
	assert_false(map_find_pair(b->map, MAP_TCP_IN, 0, from.port, &value_addr, &value_port));
}

static void test_a_taken_source_port_is_replaced_and_told(void **state)
{
	struct endpoint at = sock_endpoint(0, 0), local, mirror, seen, blocker;
	uint32_t value_addr;
	uint16_t port, value_port;
	int err, fd, server, in_the_way, listener = program_listen(&at, &port);

	(void)state;
	/* A port that is free on both nodes, and then taken on the far one. */
	do {
		at = sock_endpoint(mirror_of(a, A_ADDR), 0);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(sock_bind(fd, &at), 0);
		assert_int_equal(sock_local(fd, &local), 0);
		blocker = sock_endpoint(mirror_of(b, A_ADDR), local.port);
		in_the_way = socket(AF_INET, SOCK_STREAM, 0);
		err = sock_bind(in_the_way, &blocker);
		if (err) {
			close(fd);
			close(in_the_way);
		}
	} while (err == -EADDRINUSE);
	assert_int_equal(err, 0);
	struct ipc_reply reply;
	struct endpoint to = mesh_endpoint(B_ADDR, port);

	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply), 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(program_connect(fd, &mirror), 0);
	server = accept(listener, NULL, NULL);
	assert_int_equal(sock_peer(server, &seen), 0);
	assert_int_not_equal(seen.port, local.port);
	assert_true(map_find_pair(b->map, MAP_TCP_IN, ip_v4(&seen.addr), seen.port, &value_addr,
				  &value_port));
	assert_int_equal(value_port, local.port);
	close(in_the_way);
	close(listener);
	two_nodes_hang_up(&t, fd, server);
}

/* Do no more of these connections wait than may? */
static bool connect_often(bool half_close)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;
	char c;
	int client, server, listener = program_listen(&any, &port);
	struct kept kept[300];
	const unsigned n = sizeof(kept) / sizeof(kept[0]);

	for (unsigned i = 0; i < n; i++) {
		client = shim_connect(a, B_ADDR, port);
		assert_true(client >= 0);
		kept[i] = kept_of(client);
		server = accept(listener, NULL, NULL);
		if (half_close)
			shutdown(client, SHUT_WR);
		else
			close(client);
		program_limit(server);
		assert_int_equal(recv(server, &c, 1, 0), 0);
		close(server);
		if (!half_close)
			continue;
		program_limit(client);
		assert_int_equal(recv(client, &c, 1, 0), 0);
		close(client);
	}
	two_nodes_wait_idle(&t);
	/* On a busy machine loopback may be late, and what half-closed is missed. */
	for (int i = 0; i < 1000 && kept_waiting(kept, n) > 0; i++)
		nanosleep(&(struct timespec){ 0, 5 * NS_PER_MS }, NULL);
	close(listener);
	return kept_waiting(kept, n) <= (half_close ? 150 : 0);
}

/* A program that is stopped between the end that close() sends and letting go of the socket is
 * missed. */
static bool connect_often_undisturbed(bool half_close)
{
	for (int i = 0; i < 5; i++)
		if (connect_often(half_close))
			return true;
	return false;
}

static void test_connects_do_not_use_up_the_own_mirrors_ports(void **state)
{
	(void)state;
	assert_true(connect_often_undisturbed(false));
}

static void test_nor_do_those_that_read_to_the_end_after_their_own(void **state)
{
	(void)state;
	assert_true(connect_often_undisturbed(true));
}

static void test_a_port_used_anew_replaces_its_old_flow(void **state)
{
	struct endpoint local, mirror, to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT);
	struct ipc_reply reply;
	int fd;

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, FAKE_PORT_SILENT, &fd, &local, &mirror), 0);
	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply), 0);
	assert_int_equal(two_nodes_stats(a).flows, 1);
	close(fd);
}

static void test_an_open_flow_keeps_its_port(void **state)
{
	struct endpoint local, to;
	struct ipc_reply reply;
	struct map_flow flow;
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	program_say(client, server, "open on both sides");
	flow = flow_of_socket(a, client, &local);
	assert_int_equal(flow.state, MAP_FLOW_OPEN);
	to = (struct endpoint){ flow.remote, flow.remote_port };
	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply), EADDRNOTAVAIL);
	program_say(client, server, "still here");
	two_nodes_hang_up(&t, client, server);
}

static void test_the_fallback_is_named(void **state)
{
	struct edge_stats stats = two_nodes_stats(a);

	(void)state;
	assert_false(stats.synhold);
	assert_string_equal(stats.synhold_why, "switched off");
}

static void test_syn_hold_works_here(void **state)
{
	struct edge_stats stats = two_nodes_stats(a);

	(void)state;
	if (!stats.synhold)
		fail_msg("%s", stats.synhold_why);
}

/* systemd-tmpfiles removes what is old from /tmp, and skips a folder that it cannot lock. */
static void test_who_cleans_up_cannot_lock_the_folder(void **state)
{
	int fd = open(a->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(fd);
}

static void test_ready_is_answered(void **state)
{
	struct endpoint nobody = mesh_endpoint("0.0.0.0", 0);
	struct ipc_reply reply;

	(void)state;
	assert_int_equal(shim_ask(a, IPC_READY, &nobody, &nobody, 0, &reply), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_syn_hold_works_here),
		TEST(test_who_cleans_up_cannot_lock_the_folder),
		TEST(test_ready_is_answered),
		TEST(test_a_program_reaches_a_peer),
		TEST(test_an_ipv6_socket_reaches_a_peer_by_mapped_addresses),
		TEST(test_the_listener_sees_the_peers_mirror_and_port),
		TEST(test_listeners_on_mirror_and_loopback_are_found),
		TEST(test_each_family_has_its_own_listener_on_one_port),
		TEST(test_a_listener_on_loopback6_learns_the_peer_from_the_map),
		TEST(test_a_taken_source_port_is_replaced_and_told),
		TEST(test_connects_do_not_use_up_the_own_mirrors_ports),
		TEST(test_nor_do_those_that_read_to_the_end_after_their_own),
		TEST(test_a_port_used_anew_replaces_its_old_flow),
		TEST(test_an_open_flow_keeps_its_port),
		FIRST(test_the_fallback_is_named),
		FIRST(test_a_program_reaches_a_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
