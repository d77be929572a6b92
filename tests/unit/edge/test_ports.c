/* Ports of ours: whom each stands for, and a peer that has them all. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/edge/dgram.h"
#include "daemon/edge/private.h"
#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

static void test_who_has_all_ports_of_a_mirror_pushes_out_its_own(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0), to;
	struct ipc_reply reply;
	uint64_t used_ns = 0;
	uint32_t addr;
	uint16_t port;

	(void)state;
	/* The range beside ip_local_port_range is smaller on most machines. */
	for (unsigned i = 0; i < DGRAMS_MAX - 10; i++) {
		if (i == DGRAMS_MAX - 1010)
			used_ns = two_nodes_used_ns(&t);
		to = mesh_endpoint(B_ADDR, (uint16_t)(1000 + i));
		assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	}
	used_ns = two_nodes_used_ns(&t) - used_ns;
	assert_true(used_ns / 1000 < 2 * NS_PER_MS);
	assert_true(
		map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), to.port, &addr, &port));
	assert_int_equal(two_nodes_stats(a).udp_over_share, 0);
	assert_true(two_nodes_stats(a).udp_endpoints > 2000);
}

/* All ports of the range at ::1 that are free, or have become so; taken: by their numbers. */
static void take_ports(const struct port_range *range, int taken[static 65536])
{
	for (unsigned p = range->first; p <= range->last; p++) {
		struct endpoint one = mesh_endpoint("::1", (uint16_t)p);

		if (taken[p])
			continue;
		taken[p] = sock_open(&one, SOCK_STREAM);
		assert_true(taken[p] > 0);
		if (sock_bind(taken[p], &one) != 0) {
			close(taken[p]);
			taken[p] = 0;
		}
	}
}

/* Processor time of a try of each port of the range, all of which are taken. */
static uint64_t cost_of_all(const struct port_range *range)
{
	uint64_t used_ns = program_used_ns();
	struct endpoint one = mesh_endpoint("::1", 0);
	int fd = sock_open(&one, SOCK_STREAM);

	for (unsigned p = range->first; p <= range->last; p++) {
		one.port = (uint16_t)p;
		if (sock_bind(fd, &one) == 0) {
			close(fd);
			fd = sock_open(&one, SOCK_STREAM);
		}
	}
	used_ns = program_used_ns() - used_ns;
	close(fd);
	return used_ns;
}

/*
 * A peer that has all ports of ours at ::1 gets no more, and that is found out without trying
 * all of them.
 */
static void test_without_a_port_at_loopback6_a_connect_costs_little(void **state)
{
	struct endpoint at = mesh_endpoint("::1", 0);
	struct port_range range = port_range_read();
	int listener, *taken = calloc(65536, sizeof(*taken)), result = 0;
	uint64_t used_ns = 0, all_ns = 0;
	uint16_t port;

	(void)state;
	assert_non_null(taken);
	listener = program_listen(&at, &port);
	/* Others on the machine may give one back meanwhile. */
	for (int i = 0; i < 20 && (result != -ECONNREFUSED || used_ns >= all_ns / 3); i++) {
		take_ports(&range, taken);
		used_ns = two_nodes_used_ns(&t);
		result = shim_connect(a, B_ADDR6, port);
		used_ns = two_nodes_used_ns(&t) - used_ns;
		all_ns = cost_of_all(&range);
		if (result >= 0)
			close(result);
	}
	for (unsigned p = 0; p < 65536; p++)
		if (taken[p])
			close(taken[p]);
	free(taken);
	close(listener);
	assert_int_equal(result, -ECONNREFUSED);
	assert_true(used_ns < all_ns / 3);
}

#define FEW_PORTS 32
#define JOINED    24

static void leave_few_ports(void *range)
{
	const struct port_range all = b->edge->ports;

	b->edge->ports.last = (uint16_t)(all.first + FEW_PORTS - 1);
	*(struct port_range *)range = all;
}

static void give_ports_back(void *range)
{
	b->edge->ports = *(struct port_range *)range;
}

/* The port is all that tells its program who the peer is. */
static void test_each_connection_at_loopback6_has_a_port_of_its_own(void **state)
{
	struct endpoint at = mesh_endpoint("::1", 0), local, seen;
	int listener[2], client[JOINED], server[JOINED];
	struct port_range range;
	uint16_t port[2], found;
	uint32_t mirror;

	(void)state;
	two_nodes_call(&t, leave_few_ports, &range);
	for (int i = 0; i < 2; i++)
		listener[i] = program_listen(&at, &port[i]);
	for (int i = 0; i < JOINED; i++) {
		client[i] = shim_connect(a, B_ADDR6, port[i % 2]);
		assert_true(client[i] >= 0);
		server[i] = accept(listener[i % 2], NULL, NULL);
		assert_true(server[i] >= 0);
	}
	for (int i = 0; i < JOINED; i++) {
		assert_int_equal(sock_local(client[i], &local), 0);
		assert_int_equal(sock_peer(server[i], &seen), 0);
		assert_true(map_find_pair(b->map, MAP_TCP_IN, 0, seen.port, &mirror, &found));
		assert_int_equal(mirror, mirror_of(b, A_ADDR6));
		assert_int_equal(found, local.port);
	}
	for (int i = 0; i < JOINED; i++) {
		close(client[i]);
		close(server[i]);
	}
	for (int i = 0; i < 2; i++)
		close(listener[i]);
	two_nodes_wait_idle(&t);
	two_nodes_call(&t, give_ports_back, &range);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_connection_at_loopback6_has_a_port_of_its_own),
		TEST(test_who_has_all_ports_of_a_mirror_pushes_out_its_own),
		TEST(test_without_a_port_at_loopback6_a_connect_costs_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
