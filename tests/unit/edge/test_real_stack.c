/* Two edges over two real netstacks: program, edge, stack, stack, edge, server. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/flow_private.h"
#include "daemon/stack/netstack.h"
#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

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
	two_nodes_wait_idle(&t);
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
	two_nodes_wait_idle(&t);
}

static void test_large_datagrams_cross_in_fragments(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), to = mesh_endpoint(B_ADDR, 0), ep, at;
	struct timeval limit = { 20, 0 };
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

static void change_peers(void *arg)
{
	struct node *node = arg;

	node->is_v6_another_peers = node->is_net_nobodys = true;
	edge_peers_changed(node->edge);
}

static void test_flows_end_when_their_address_is_another_peers(void **state)
{
	int client4, server4, client6, server6;
	char words[8];

	(void)state;
	two_nodes_join(&t, B_ADDR, &client4, &server4);
	two_nodes_join(&t, B_ADDR6, &client6, &server6);
	program_say(server6, client6, "hello");
	program_send(server6, "bye", 3);
	/* Until that lies in the program's socket. */
	assert_int_equal(recv(client6, words, 3, MSG_PEEK | MSG_WAITALL), 3);
	two_nodes_call(&t, change_peers, a);
	assert_int_equal(recv(client6, words, sizeof(words), 0), 3);
	assert_int_equal(recv(client6, words, sizeof(words), 0), -1);
	assert_int_equal(errno, ECONNRESET);
	two_nodes_wait_flows(a, 1);
	program_say(client4, server4, "still");
	program_say(server4, client4, "there");
	close(client6);
	close(server6);
	two_nodes_hang_up(&t, client4, server4);
}

struct look {
	bool is_another_peers, are_missed;
};

static void look_for_holders(void *arg)
{
	struct look *look = arg;

	a->is_v6_another_peers = look->is_another_peers;
	look->are_missed = edge_peers_missed(a->edge);
}

static bool misses(bool is_another_peers)
{
	struct look look = { .is_another_peers = is_another_peers };

	two_nodes_call(&t, look_for_holders, &look);
	return look.are_missed;
}

static void test_a_flow_outlives_a_holder_who_is_missed_once(void **state)
{
	int client, server;
	char word;

	(void)state;
	two_nodes_join(&t, B_ADDR6, &client, &server);
	for (int i = 0; i < 2; i++) {
		assert_true(misses(true));
		assert_false(misses(false));
		program_say(client, server, "still");
		program_say(server, client, "there");
	}
	assert_true(misses(true));
	assert_false(misses(true));
	assert_int_equal(recv(client, &word, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	two_nodes_wait_flows(a, 0);
	close(client);
	close(server);
}

static void *connect_to_nobody(void *error)
{
	*(int *)error = shim_connect(a, "100.64.9.5", 80);
	return NULL;
}

static void test_a_dial_fails_when_its_address_is_nobodys_any_more(void **state)
{
	pthread_t thread;
	int error = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, connect_to_nobody, &error), 0);
	two_nodes_wait_flows(a, 1);
	two_nodes_call(&t, change_peers, a);
	pthread_join(thread, NULL);
	assert_int_equal(error, -EHOSTUNREACH);
	two_nodes_wait_flows(a, 0);
}

/* Its queue is full, so a peer's SYN waits; then that is nobody's, and has no answer. */
static void test_a_syn_that_waits_is_forgotten_when_its_address_is_another_peers(void **state)
{
	struct endpoint any = mesh_endpoint("::", 0), local, mirror, at = mesh_endpoint("::1", 0);
	struct tcp_stats before, after;
	int fillers[2], listener, client;

	(void)state;
	listener = program_listen(&any, &at.port);
	assert_int_equal(listen(listener, 0), 0);
	for (int i = 0; i < 2; i++) {
		fillers[i] = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
		program_connect(fillers[i], &at);
	}
	assert_int_equal(shim_prepare(b, A_ADDR6, at.port, &client, &local, &mirror), 0);
	two_nodes_wait_flows(a, 1);
	tcp_get_stats(netstack_tcp(a->ns), &before);
	two_nodes_call(&t, change_peers, a);
	two_nodes_wait_flows(a, 0);
	tcp_get_stats(netstack_tcp(a->ns), &after);
	assert_int_equal(after.refused, before.refused);
	assert_int_equal(after.parked, 0);
	assert_int_equal(two_nodes_stats(b).flows, 1);
	for (int i = 0; i < 2; i++)
		close(fillers[i]);
	close(client);
	close(listener);
}

static void test_datagrams_end_when_their_address_is_another_peers(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	struct endpoint four = mesh_endpoint(B_ADDR, 7), six = mesh_endpoint(B_ADDR6, 7), at;
	struct ipc_reply reply;
	int client = socket(AF_INET, SOCK_DGRAM, 0);

	(void)state;
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &any, &four, 0, &reply), 0);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &any, &six, 0, &reply), 0);
	at = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(program_connect(client, &at), 0);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 2);
	two_nodes_call(&t, change_peers, a);
	assert_int_equal(two_nodes_stats(a).udp_endpoints, 1);
	assert_true(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), 7, &(uint32_t){ 0 },
				  &(uint16_t){ 0 }));
	assert_false(map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR6), 7, &(uint32_t){ 0 },
				   &(uint16_t){ 0 }));
	/* A program that is connected there hears it from the kernel. */
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_int_equal(send(client, "x", 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_much_data_both_ways_arrives_whole_in_both_families),
		TEST(test_a_closed_port_refuses),
		TEST(test_a_reset_crosses),
		TEST(test_what_a_program_said_last_outlives_it_by_minutes),
		TEST(test_large_datagrams_cross_in_fragments),
		TEST(test_flows_end_when_their_address_is_another_peers),
		TEST(test_a_flow_outlives_a_holder_who_is_missed_once),
		TEST(test_a_dial_fails_when_its_address_is_nobodys_any_more),
		TEST(test_a_syn_that_waits_is_forgotten_when_its_address_is_another_peers),
		TEST(test_datagrams_end_when_their_address_is_another_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
