/* UDP endpoints: how many, whose goes, and when they are no longer needed. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/dgram.h"
#include "tests/unit/edge/fixture.h"

static void test_idle_udp_endpoints_go_when_no_program_is_bound_any_more(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0), to, bound;
	struct sockaddr_storage ss;
	struct ipc_reply reply;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	unsigned services = a->map->pair_count[MAP_UDP_OUT]; /* these stay */

	(void)state;
	to = mesh_endpoint(B_ADDR, 9);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	to = mesh_endpoint(B_ADDR, 10);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	assert_int_equal(sock_bind(fd, &from), 0);
	assert_int_equal(sock_local(fd, &bound), 0);
	to = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&ss,
				endpoint_to_sockaddr(&to, AF_INET, &ss)),
			 1);
	two_nodes_let_pass(a, 10);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 2);
	two_nodes_let_pass(a, DGRAM_IDLE_S + 1);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 1);
	two_nodes_let_pass(a, 3 * DGRAM_IDLE_S);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 1);
	close(fd);
	two_nodes_let_pass(a, 5 * DGRAM_IDLE_S);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 0);
	assert_int_equal(a->map->pair_count[MAP_UDP_OUT], services);
	assert_int_equal(a->map->pair_count[MAP_UDP_IN], services);
}

static void test_beyond_the_limit_the_oldest_udp_endpoint_goes(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0), to;
	struct ipc_reply reply;
	uint32_t addr;
	uint16_t port;

	(void)state;
	for (unsigned i = 0; i <= DGRAMS_MAX; i++) {
		to = mesh_endpoint(i % 2 ? B_ADDR : B_ADDR6, (uint16_t)(1000 + i));
		assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	}
	assert_int_equal(two_nodes_stats(a).udp_endpoints, DGRAMS_MAX);
	assert_false(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR6), 1000, &addr, &port));
	assert_true(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), 1001, &addr, &port));
}

static void test_a_greedy_peer_pushes_out_its_own_udp_endpoints(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0), to;
	struct edge_stats stats;
	struct ipc_reply reply;
	uint32_t addr;
	uint16_t port;

	(void)state;
	a->is_v6_another_peers = true;
	to = mesh_endpoint(B_ADDR6, 1000);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	for (unsigned i = 0; i < DGRAMS_MAX + 10; i++) {
		to = mesh_endpoint(B_NET, (uint16_t)(1000 + i));
		to.addr.byte[15] = (uint8_t)i;
		assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	}
	assert_true(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR6), 1000, &addr, &port));
	assert_false(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_NET), 1000, &addr, &port));
	stats = two_nodes_stats(a);
	assert_int_equal(stats.udp_endpoints, DGRAMS_MAX);
	assert_int_equal(stats.udp_evicted, 11);
	assert_int_equal(stats.udp_over_share, 11);
}

static void test_a_scan_leaves_no_udp_endpoints_behind(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0),
			to = mesh_endpoint(B_ADDR, 9);
	struct sockaddr_storage ss;
	struct ipc_reply reply;
	struct pollfd ready = { socket(AF_INET, SOCK_DGRAM, 0), POLLIN, 0 };

	(void)state;
	assert_int_equal(sock_bind(ready.fd, &from), 0);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	to = (struct endpoint){ reply.mirror, reply.mirror_port };
	sendto(ready.fd, "x", 1, 0, (struct sockaddr *)&ss,
	       endpoint_to_sockaddr(&to, AF_INET, &ss));
	poll(&ready, 1, 50);
	assert_int_equal(two_nodes_stats(b).udp_endpoints, 0);
	close(ready.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_idle_udp_endpoints_go_when_no_program_is_bound_any_more),
		TEST(test_beyond_the_limit_the_oldest_udp_endpoint_goes),
		TEST(test_a_greedy_peer_pushes_out_its_own_udp_endpoints),
		TEST(test_a_scan_leaves_no_udp_endpoints_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
