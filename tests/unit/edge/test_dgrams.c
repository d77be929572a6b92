/* Programs on two nodes, UDP. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/edge/dgram_private.h"
#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

/* A program's socket; with a time limit on receiving. */
static int udp_at(const struct endpoint *at, struct endpoint *bound)
{
	int one = 1, fd = socket(ip_is_v4(&at->addr) ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
	struct timeval limit = { 20, 0 };

	assert_true(fd >= 0);
	if (!ip_is_v4(&at->addr))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(sock_bind(fd, at), 0);
	assert_int_equal(sock_local(fd, bound), 0);
	return fd;
}

static struct endpoint open_endpoint(struct node *node, const char *addr, uint16_t port,
				     uint32_t flags)
{
	struct endpoint to = mesh_endpoint(addr, port), from = mesh_endpoint("127.0.0.1", 0);
	struct ipc_reply reply;

	assert_int_equal(shim_ask(node, IPC_UDP_OPEN, &from, &to, flags, &reply), 0);
	return (struct endpoint){ reply.mirror, reply.mirror_port };
}

static void send_from(int fd, const struct endpoint *to, const void *data, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = endpoint_to_sockaddr(to, ip_is_v4(&to->addr) ? AF_INET : AF_INET6, &ss);

	assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&ss, ss_len), len);
}

/* Receives what must be this, and says from where. */
static struct endpoint expect(int fd, const void *data, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	uint8_t *got = malloc(65536);
	struct endpoint from = { .port = 0 };

	assert_int_equal(recvfrom(fd, got, 65536, 0, (struct sockaddr *)&ss, &ss_len), len);
	assert_memory_equal(got, data, len);
	assert_int_equal(endpoint_from_sockaddr(&ss, ss_len, &from), 0);
	free(got);
	return from;
}

/* Whom a loopback source stands for, as the shim sees it. */
static struct endpoint who(struct node *node, const struct endpoint *from)
{
	uint32_t mirror;
	struct endpoint ep;
	uint32_t key = ip_is_v4(&from->addr) ? ip_v4(&from->addr) : 0;

	assert_true(map_find_pair(node->map, MAP_UDP_IN, key, from->port, &mirror, &ep.port));
	assert_true(map_from_mirror(node->map, mirror, &ep.addr));
	return ep;
}

static void exchange(const struct endpoint *server_at, const char *addr, bool client_v6only)
{
	struct endpoint client_at =
		sock_endpoint(mirror_of(a, strchr(addr, ':') ? A_ADDR6 : A_ADDR), 0);
	struct endpoint client_ep, server_ep, to, from, peer;
	int client, server = udp_at(server_at, &server_ep);

	if (client_v6only)
		client_at = mesh_endpoint("::1", 0);
	client = udp_at(&client_at, &client_ep);
	to = open_endpoint(a, addr, server_ep.port, client_v6only ? IPC_UDP_V6ONLY : 0);
	for (int i = 0; i < 3; i++) {
		send_from(client, &to, "question", 8);
		from = expect(server, "question", 8);
		peer = who(b, &from);
		assert_int_equal(peer.port, client_ep.port);
		assert_true(ip_equal(
			&peer.addr,
			&(struct ip_addr[]){
				mesh_endpoint(strchr(addr, ':') ? A_ADDR6 : A_ADDR, 0).addr }[0]));
		send_from(server, &from, "answer", 6);
		from = expect(client, "answer", 6);
		assert_true(endpoint_equal(&from, &to));
		peer = who(a, &from);
		assert_int_equal(peer.port, server_ep.port);
	}
	close(client);
	close(server);
}

static int connected_client(uint16_t port)
{
	struct endpoint at = sock_endpoint(mirror_of(a, A_ADDR), 0), ep, to;
	int fd = udp_at(&at, &ep);

	to = open_endpoint(a, B_ADDR, port, 0);
	assert_int_equal(sock_connect(fd, &to), 0);
	return fd;
}

static bool is_refused(int client)
{
	for (int i = 0; i < 10000; i++) {
		if (send(client, "?", 1, 0) < 0 && errno == ECONNREFUSED)
			return true;
		nanosleep(&(struct timespec){ 0, 2 * NS_PER_MS }, NULL);
	}
	return false;
}

static void test_datagrams_go_both_ways_in_both_families(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);

	(void)state;
	exchange(&any, B_ADDR, false);
	exchange(&any, B_ADDR6, false);
}

static void test_programs_on_mirror_loopback_and_loopback6_are_found(void **state)
{
	struct endpoint at = sock_endpoint(mirror_of(b, B_ADDR), 0);

	(void)state;
	exchange(&at, B_ADDR, false);
	at = sock_endpoint(INADDR_LOOPBACK, 0);
	exchange(&at, B_ADDR, false);
	at = mesh_endpoint("::1", 0);
	exchange(&at, B_ADDR6, false);
}

/* Which of two servers gets what a new client sends to addr? */
static int which_gets(const int server[2], const char *addr, uint16_t port)
{
	struct endpoint at = sock_endpoint(mirror_of(a, strchr(addr, ':') ? A_ADDR6 : A_ADDR), 0);
	struct endpoint to = open_endpoint(a, addr, port, 0), bound;
	struct pollfd ready[2] = { { server[0], POLLIN, 0 }, { server[1], POLLIN, 0 } };
	int taker, client = udp_at(&at, &bound);

	send_from(client, &to, "hello", 5);
	assert_int_equal(poll(ready, 2, 20000), 1);
	taker = ready[1].revents != 0;
	expect(server[taker], "hello", 5);
	close(client);
	return taker;
}

static void test_each_family_has_its_own_server_on_one_port(void **state)
{
	struct endpoint any6 = mesh_endpoint("::", 0), any4 = sock_endpoint(0, 0), bound;
	int server[2];

	(void)state;
	server[0] = udp_at(&any4, &bound);
	any6.port = bound.port;
	server[1] = udp_at(&any6, &bound);
	assert_int_equal(which_gets(server, B_ADDR, bound.port), 0);
	assert_int_equal(which_gets(server, B_ADDR6, bound.port), 1);
	close(server[0]);
	close(server[1]);
}

static void test_ipv4_does_not_reach_a_server_of_ipv6_only(void **state)
{
	struct endpoint any6 = mesh_endpoint("::", 0), bound;
	int client, server = udp_at(&any6, &bound);

	(void)state;
	client = connected_client(bound.port);
	assert_true(is_refused(client));
	close(client);
	close(server);
}

static void test_a_program_with_only_ipv6_uses_the_twin(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);

	(void)state;
	exchange(&any, B_ADDR6, true);
}

static void test_the_daemons_sockets_take_no_port_of_programs(void **state)
{
	struct endpoint to = open_endpoint(a, B_ADDR, 5353, 0), again;
	uint32_t value_addr;
	uint16_t value_port;

	(void)state;
	assert_int_equal(ip_v4(&to.addr), mirror_of(a, B_ADDR));
	assert_true(to.port >= 61000);
	assert_true(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), 5353, &value_addr,
				  &value_port));
	assert_int_equal(value_port, to.port);
	again = open_endpoint(a, B_ADDR, 5353, 0);
	assert_true(endpoint_equal(&to, &again));
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 1);
}

static void test_large_and_empty_datagrams_pass(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), client_ep, server_ep, to;
	int server = udp_at(&any, &server_ep), client;
	static uint8_t big[65507];

	(void)state;
	any = sock_endpoint(mirror_of(a, A_ADDR), 0);
	client = udp_at(&any, &client_ep);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7);
	to = open_endpoint(a, B_ADDR, server_ep.port, 0);
	send_from(client, &to, big, 60000);
	expect(server, big, 60000);
	send_from(client, &to, big, sizeof(big));
	expect(server, big, sizeof(big));
	send_from(client, &to, big, 0);
	expect(server, big, 0);
	close(client);
	close(server);
}

static void test_a_closed_port_refuses_a_connected_socket(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);
	char c;

	(void)state;
	close(server);
	client = connected_client(server_ep.port);
	assert_true(is_refused(client));
	/* And it comes back when the port opens. */
	server = udp_at(&server_ep, &server_ep);
	struct pollfd ready = { server, POLLIN, 0 };

	for (int i = 0; i < 2000 && poll(&ready, 1, 10) == 0; i++) {
		ssize_t n = send(client, "!", 1, 0);

		(void)n;
	}
	assert_int_equal(recv(server, &c, 1, 0), 1);
	close(client);
	close(server);
}

static void test_a_refused_program_is_not_in_the_way_of_the_next_one(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);
	uint32_t addr;
	uint16_t port;

	(void)state;
	close(server);
	client = connected_client(server_ep.port);
	assert_true(is_refused(client));
	close(client);
	/* While the refusal lasts the map leads nobody there; who asks gets an open way. */
	assert_false(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), server_ep.port, &addr,
				   &port));
	client = connected_client(server_ep.port);
	assert_true(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), server_ep.port, &addr,
				  &port));
	/* It is refused for itself, though the first one had used the same way. */
	assert_true(is_refused(client));
	close(client);
	server = udp_at(&server_ep, &server_ep);
	client = connected_client(server_ep.port);
	assert_int_equal(send(client, "one", 3, 0), 3);
	expect(server, "one", 3);
	close(client);
	close(server);
}

static void test_when_a_server_has_gone_the_far_side_is_told_and_a_new_one_found(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);

	(void)state;
	client = connected_client(server_ep.port);
	assert_int_equal(send(client, "one", 3, 0), 3);
	expect(server, "one", 3);
	close(server);
	assert_true(is_refused(client));
	close(client);
	/* Now at loopback: the old route must not be in the way. */
	any = sock_endpoint(INADDR_LOOPBACK, server_ep.port);
	server = udp_at(&any, &server_ep);
	client = connected_client(server_ep.port);
	assert_int_equal(send(client, "two", 3, 0), 3);
	expect(server, "two", 3);
	close(client);
	close(server);
}

/* In the loop: it sulks no more, but the process may open nothing. */
static void wake_without_descriptors(void *arg)
{
	struct dgram *d = a->edge->dgrams->table;
	struct rlimit old, none;

	(void)arg;
	while (d && d->fd >= 0)
		d = d->hh.next;
	assert_non_null(d);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){ 0, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(dgram_wake(d), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_a_refused_program_is_heard_again_though_no_descriptor_was_left(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);
	struct pollfd ready;

	(void)state;
	close(server);
	client = connected_client(server_ep.port);
	assert_true(is_refused(client));
	two_nodes_call(&t, wake_without_descriptors, NULL);
	server = udp_at(&server_ep, &server_ep);
	ready = (struct pollfd){ server, POLLIN, 0 };
	for (int i = 0; i < 2000 && poll(&ready, 1, 10) == 0; i++) {
		ssize_t n = send(client, "!", 1, 0);

		(void)n;
	}
	expect(server, "!", 1);
	close(client);
	close(server);
}

/* A new program's socket that was heard by the server. */
static int heard_client(int server, uint16_t port)
{
	int client = connected_client(port);

	assert_int_equal(send(client, "new", 3, 0), 3);
	expect(server, "new", 3);
	return client;
}

static void test_an_idle_endpoint_stays_for_the_first_of_many_programs(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client[3 * DGRAM_USERS], server = udp_at(&any, &server_ep);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(client); i++)
		client[i] = heard_client(server, server_ep.port);
	for (size_t i = 1; i < ARRAY_LEN(client); i++)
		close(client[i]);
	two_nodes_let_pass(a, DGRAM_IDLE_S + 1);
	two_nodes_let_pass(a, 3 * DGRAM_IDLE_S);
	assert_int_equal(send(client[0], "still here", 10, 0), 10);
	expect(server, "still here", 10);
	close(client[0]);
	close(server);
}

static void test_an_idle_endpoint_goes_after_many_programs_one_by_one(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int server = udp_at(&any, &server_ep);

	(void)state;
	for (unsigned i = 0; i < 3 * DGRAM_USERS; i++)
		close(heard_client(server, server_ep.port));
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 1);
	two_nodes_let_pass(a, DGRAM_IDLE_S + 1);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 0);
	close(server);
}

struct blocking {
	struct netstack *ns;
	bool blocked;
};

static void set_blocked(void *arg)
{
	struct blocking *b = arg;

	netstack_set_blocked(b->ns, b->blocked);
}

static void test_nothing_is_lost_while_the_stack_is_blocked(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);
	struct blocking block = { a->ns, true };
	struct pollfd ready = { server, POLLIN, 0 };
	uint32_t got;

	(void)state;
	client = connected_client(server_ep.port);
	two_nodes_call(&t, set_blocked, &block);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(send(client, &i, sizeof(i), 0), sizeof(i));
	assert_int_equal(poll(&ready, 1, 50), 0);
	block.blocked = false;
	two_nodes_call(&t, set_blocked, &block);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(recv(server, &got, sizeof(got), 0), sizeof(got));
		assert_int_equal(got, i);
	}
	close(client);
	close(server);
}

/* Each time that the stack is blocked costs the endpoints that have something to say, not all. */
static void test_blocking_does_not_touch_every_endpoint(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), server_ep;
	int client, server = udp_at(&any, &server_ep);
	struct blocking block = { a->ns, true };
	uint64_t used_ns;
	uint32_t got;

	(void)state;
	for (uint16_t i = 0; i < 3000; i++)
		open_endpoint(a, B_ADDR, (uint16_t)(10000 + i), 0);
	client = connected_client(server_ep.port);
	used_ns = two_nodes_used_ns(&t);
	for (uint32_t i = 0; i < 50; i++) {
		block.blocked = true;
		two_nodes_call(&t, set_blocked, &block);
		assert_int_equal(send(client, &i, sizeof(i), 0), sizeof(i));
		nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
		block.blocked = false;
		two_nodes_call(&t, set_blocked, &block);
		assert_int_equal(recv(server, &got, sizeof(got), 0), sizeof(got));
		assert_int_equal(got, i);
	}
	used_ns = two_nodes_used_ns(&t) - used_ns;
	assert_true(used_ns / 50 < 500 * NS_PER_US);
	close(client);
	close(server);
}

static void test_what_is_no_peer_gets_no_endpoint(void **state)
{
	struct endpoint from = mesh_endpoint("127.0.0.1", 0), to = mesh_endpoint("192.0.2.1", 1);
	struct ipc_reply reply;

	(void)state;
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), ENETUNREACH);
	to = mesh_endpoint(A_ADDR, 1);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), EINVAL);
	to = mesh_endpoint(B_ADDR, 1);
	a->reachable = ENETDOWN;
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), ENETDOWN);
	a->reachable = 0;
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_datagrams_go_both_ways_in_both_families),
		TEST(test_programs_on_mirror_loopback_and_loopback6_are_found),
		TEST(test_each_family_has_its_own_server_on_one_port),
		TEST(test_ipv4_does_not_reach_a_server_of_ipv6_only),
		TEST(test_a_program_with_only_ipv6_uses_the_twin),
		TEST(test_the_daemons_sockets_take_no_port_of_programs),
		TEST(test_large_and_empty_datagrams_pass),
		TEST(test_a_closed_port_refuses_a_connected_socket),
		TEST(test_a_refused_program_is_not_in_the_way_of_the_next_one),
		TEST(test_a_refused_program_is_heard_again_though_no_descriptor_was_left),
		TEST(test_when_a_server_has_gone_the_far_side_is_told_and_a_new_one_found),
		TEST(test_an_idle_endpoint_stays_for_the_first_of_many_programs),
		TEST(test_an_idle_endpoint_goes_after_many_programs_one_by_one),
		TEST(test_nothing_is_lost_while_the_stack_is_blocked),
		TEST(test_blocking_does_not_touch_every_endpoint),
		TEST(test_what_is_no_peer_gets_no_endpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
