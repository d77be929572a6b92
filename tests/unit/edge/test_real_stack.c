/* Two edges over two real netstacks: program, edge, stack, stack, edge, server. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/edge/flow_private.h"
#include "daemon/stack/netstack.h"
#include "shared/util.h"
#include "tests/unit/edge/two_nodes.h"

static struct two_nodes t;
static struct node *const a = &t.node[0], *const b = &t.node[1];

static int setup(void **state)
{
	(void)state;
	two_nodes_start(&t, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	two_nodes_stop(&t);
	return 0;
}

static void test_much_data_both_ways_arrives_whole_in_both_families(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct big up, down;
		pthread_t senders[2];
		int client, server;

		two_nodes_join(&t, v6 ? B_ADDR6 : B_ADDR, &client, &server);
		up = (struct big){ client, 1 };
		down = (struct big){ server, 2 };
		pthread_create(&senders[0], NULL, program_send_big, &up);
		pthread_create(&senders[1], NULL, program_send_big, &down);
		program_expect_big(server, 1);
		program_expect_big(client, 2);
		for (int i = 0; i < 2; i++)
			pthread_join(senders[i], NULL);
		two_nodes_hang_up(&t, client, server);
	}
}

static void test_a_closed_port_refuses(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;

	(void)state;
	close(program_listen(&any, &port));
	assert_int_equal(shim_connect(a, B_ADDR, port), -ECONNREFUSED);
	assert_int_equal(shim_connect(a, B_ADDR6, port), -ECONNREFUSED);
	two_nodes_wait_flows(a, 0);
}

static void test_a_reset_crosses(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;
	int listener = program_listen(&any, &port);
	int client = shim_connect(a, B_ADDR, port);
	int server = accept(listener, NULL, NULL);
	char c;

	(void)state;
	sock_reset_on_close(server);
	close(server);
	assert_int_equal(recv(client, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(client);
	close(listener);
	two_nodes_wait_flows(a, 0);
	two_nodes_wait_flows(b, 0);
}

/* In the loop: how much of a's only flow waits for the far side's window. */
static void held_back(void *count)
{
	struct tcp_conn_info info;

	tcp_conn_info(a->edge->flows.all->conn, &info);
	*(uint64_t *)count =
		info.unacked + info.unsent - MIN(info.unacked + info.unsent, info.peer_window);
}

/* As with a server that has said all and closed, and a client that reads minutes later. */
static void test_what_a_program_said_last_outlives_it_by_minutes(void **state)
{
	static char bytes[1 << 16];
	uint64_t held = 0;
	int client, server;
	size_t said = 0, got = 0;
	ssize_t n;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	while (held < 10000) {
		n = send(client, bytes, sizeof(bytes), 0);
		assert_int_equal(n, sizeof(bytes));
		said += sizeof(bytes);
		/* Twice: not just on its way. */
		two_nodes_call(&t, held_back, &held);
		usleep(held ? 100000 : 2000);
		two_nodes_call(&t, held_back, &held);
	}
	close(client);
	usleep(200000); /* for its end to be seen */
	two_nodes_let_pass(a, 61);
	two_nodes_let_pass(a, 122);
	while ((n = recv(server, bytes, sizeof(bytes), 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, said);
	assert_int_equal(n, 0);
	close(server);
	two_nodes_wait_flows(a, 0);
	two_nodes_wait_flows(b, 0);
}

static void test_large_datagrams_cross_in_fragments(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), to = mesh_endpoint(B_ADDR, 0), ep, at;
	struct timeval limit = { 5, 0 };
	struct sockaddr_storage ss;
	struct ipc_reply reply;
	static uint8_t sent[60000], got[65536];
	int client, server = socket(AF_INET, SOCK_DGRAM, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 31 >> 3);
	setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(sock_bind(server, &any), 0);
	assert_int_equal(sock_local(server, &ep), 0);
	to.port = ep.port;
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &any, &to, 0, &reply), 0);
	at = sock_endpoint(mirror_of(a, A_ADDR), 0);
	client = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(sock_bind(client, &at), 0);
	to = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(sendto(client, sent, sizeof(sent), 0, (struct sockaddr *)&ss,
				endpoint_to_sockaddr(&to, AF_INET, &ss)),
			 sizeof(sent));
	assert_int_equal(recv(server, got, sizeof(got), 0), sizeof(sent));
	assert_memory_equal(sent, got, sizeof(sent));
	close(client);
	close(server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_much_data_both_ways_arrives_whole_in_both_families),
		TEST(test_a_closed_port_refuses),
		TEST(test_a_reset_crosses),
		TEST(test_what_a_program_said_last_outlives_it_by_minutes),
		TEST(test_large_datagrams_cross_in_fragments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
