/* What happens at the edge's limits, and to those who misbehave. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/apps.h"
#include "shared/paths.h"
#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"

static int dial_control(void)
{
	int fd = shim_dial(a, PATHS_CONTROL);

	assert_true(fd >= 0);
	return fd;
}

static bool is_ready(void)
{
	struct endpoint nobody = mesh_endpoint("0.0.0.0", 0);
	struct ipc_reply reply;

	return shim_ask(a, IPC_READY, &nobody, &nobody, 0, &reply) == 0;
}

static bool was_closed(int fd)
{
	struct timeval limit = { 20, 0 };
	char c;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return recv(fd, &c, 1, 0) == 0 || errno == ECONNRESET;
}

static void test_who_says_nothing_is_dropped_after_a_while(void **state)
{
	int fd = dial_control();

	(void)state;
	assert_true(is_ready()); /* so it was accepted */
	two_nodes_let_pass(a, APPS_SILENCE_S - 1);
	assert_true(send(fd, "", 0, MSG_NOSIGNAL) == 0 || errno == EPIPE);
	close(fd);
	fd = dial_control();
	assert_true(is_ready());
	two_nodes_let_pass(a, APPS_SILENCE_S + 1);
	assert_true(was_closed(fd));
	close(fd);
}

static void test_malformed_questions_are_dropped(void **state)
{
	char junk[200];

	(void)state;
	memset(junk, 'x', sizeof(junk));
	for (size_t len = 1; len <= sizeof(junk); len += 47) {
		int fd = dial_control();

		assert_int_equal(send(fd, junk, len, MSG_NOSIGNAL), len);
		assert_true(was_closed(fd));
		close(fd);
	}
	assert_true(is_ready());
}

static void test_too_many_silent_clients_only_make_the_others_wait(void **state)
{
	static int fds[APPS_MAX];
	struct pollfd ready;

	(void)state;
	for (int i = 0; i < APPS_MAX; i++)
		fds[i] = dial_control();
	two_nodes_let_pass(a, 0);
	ready = (struct pollfd){ dial_control(), POLLIN, 0 };
	struct ipc_request request;
	struct endpoint nobody = mesh_endpoint("0.0.0.0", 0);

	ipc_make_request(&request, IPC_READY, &nobody, &nobody, 0);
	assert_int_equal(send(ready.fd, &request, sizeof(request), 0), sizeof(request));
	while (poll(&ready, 1, 20) == 1)
		fail_msg("the limit is not kept");
	two_nodes_let_pass(a, APPS_SILENCE_S + 1);
	assert_int_equal(poll(&ready, 1, 20000), 1);
	for (int i = 0; i < APPS_MAX; i++)
		close(fds[i]);
	close(ready.fd);
}

static bool is_left_unanswered(void)
{
	return !is_ready();
}

static void test_another_user_gets_no_answer(void **state)
{
	(void)state;
	assert_for_another_user(PATHS_CONTROL, is_left_unanswered);
	assert_true(is_ready());
}

static void create_beside(void *arg)
{
	struct edge_config config = { a->dir, 1420, false, false };
	const struct edge_callbacks none = { 0 };
	char *error = arg;
	struct edge *edge = NULL;
	char long_dir[200];

	assert_int_equal(edge_create(t.loop, &config, &none, NULL, &edge, error), -EEXIST);
	assert_non_null(strstr(error, "already runs"));
	memset(long_dir, 'x', sizeof(long_dir));
	long_dir[199] = '\0';
	config.dir = long_dir;
	assert_int_equal(edge_create(t.loop, &config, &none, NULL, &edge, error), -ENAMETOOLONG);
	config.dir = "/nowhere/at/all";
	assert_int_equal(edge_create(t.loop, &config, &none, NULL, &edge, error), -ENOENT);
}

static void test_a_second_daemon_in_a_folder_is_refused_with_a_sentence(void **state)
{
	char error[256];

	(void)state;
	two_nodes_call(&t, create_beside, error);
	assert_true(is_ready());
}

static int filler[1024];

/* All descriptors but some are taken. */
static int take_descriptors(unsigned spare)
{
	struct rlimit limit;
	int count = 0, fd;

	two_nodes_stats(a); /* the loop has closed what it was about to close */
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 512;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		filler[count++] = fd;
	while (spare-- > 0)
		close(filler[--count]);
	return count;
}

static void give_descriptors_back(int count)
{
	struct rlimit limit;

	while (count > 0)
		close(filler[--count]);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void test_without_descriptors_a_connect_fails_and_programs_wait(void **state)
{
	struct endpoint local = sock_endpoint(mirror_of(a, A_ADDR), 4711);
	struct endpoint to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT);
	struct ipc_reply reply;
	int count;

	(void)state;
	count = take_descriptors(2); /* the program's and the accepted one */
	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply), ENFILE);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &local, &to, 0, &reply), ENOBUFS);
	close(filler[--count]);
	assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &local, &to, 0, &reply), 0);
	give_descriptors_back(count);
	/* Nothing to accept with: the question waits until there is. */
	count = take_descriptors(1);
	struct pollfd ready = { dial_control(), POLLIN, 0 };
	struct ipc_request request;

	ipc_make_request(&request, IPC_CONNECT, &local, &to, 0);
	assert_int_equal(send(ready.fd, &request, sizeof(request), 0), sizeof(request));
	assert_int_equal(poll(&ready, 1, 30), 0);
	give_descriptors_back(count);
	assert_int_equal(poll(&ready, 1, 20000), 1);
	assert_int_equal(recv(ready.fd, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.error, 0);
	close(ready.fd);
}

static void test_without_descriptors_a_posted_dial_fails_as_soon_as_there_is_one(void **state)
{
	struct endpoint mirror, local;
	struct ipc_post post;
	struct map_flow flow;
	int fd = shim_prepare_post(a, B_ADDR, FAKE_PORT_SILENT, &post), count;

	(void)state;
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	count = take_descriptors(1); /* to post with */
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	filler[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	count += filler[count] >= 0;
	mirror = sock_endpoint(post.mirror, (uint16_t)a->map->hold_port);
	program_connect(fd, &mirror);
	assert_int_equal(errno, EINPROGRESS);
	local = (struct endpoint){ post.dial.request.local, post.dial.request.local_port };
	struct pollfd ready = { fd, POLLOUT, 0 };

	poll(&ready, 1, 50);
	give_descriptors_back(count);
	assert_int_equal(poll(&ready, 1, 20000), 1);
	assert_true(map_has_flow(a, &local, &mirror, &flow));
	/* The daemon may have been quicker than us to take the last one. */
	if (flow.state == MAP_FLOW_FAILED) {
		assert_int_equal(flow.error, ENFILE);
		assert_int_equal(a->map->takes_posts, 0);
	}
	close(fd);
}

static void test_without_descriptors_inbound_connects_are_not_refused_but_wait(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	int count, fd, listener = program_listen(&any, &port);
	struct pollfd ready = { -1, POLLOUT, 0 };
	struct ipc_reply reply;
	struct endpoint to = mesh_endpoint(B_ADDR, port);

	(void)state;
	local = sock_endpoint(mirror_of(a, A_ADDR), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(sock_bind(fd, &local), 0);
	assert_int_equal(sock_local(fd, &local), 0);
	count = take_descriptors(3);
	/* The third is node a's; node b has none. The client's own is soon free again: fill it. */
	int ask = shim_dial(a, PATHS_CONTROL);
	struct ipc_request request;

	assert_true(ask >= 0);
	ipc_make_request(&request, IPC_CONNECT, &local, &to, 0);
	assert_int_equal(send(ask, &request, sizeof(request), 0), sizeof(request));
	assert_int_equal(recv(ask, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.error, 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	program_connect(fd, &mirror);
	ready.fd = fd;
	poll(&ready, 1, 50);
	give_descriptors_back(count);
	/* Whether there was one or not: it was not refused. */
	assert_int_equal(two_nodes_stats(b).inbound_refused, 0);
	close(ask);
	close(fd);
	close(listener);
}

static void test_without_descriptors_questions_to_the_api_wait(void **state)
{
	static const char ask[] = "GET /localapi/v0/status HTTP/1.1\r\nHost: x\r\n\r\n";
	struct pollfd ready = { -1, POLLIN, 0 };
	char answer[16] = "";
	int count;

	(void)state;
	count = take_descriptors(1);
	ready.fd = shim_dial(a, PATHS_API);
	assert_true(ready.fd >= 0);
	assert_int_equal(send(ready.fd, ask, strlen(ask), MSG_NOSIGNAL), strlen(ask));
	assert_int_equal(poll(&ready, 1, 50), 0);
	give_descriptors_back(count);
	assert_int_equal(poll(&ready, 1, 20000), 1);
	assert_int_equal(recv(ready.fd, answer, 12, 0), 12);
	assert_string_equal(answer, "HTTP/1.1 200");
	close(ready.fd);
}

static void test_a_program_that_is_gone_does_not_keep_its_flow_for_ever(void **state)
{
	int client, server;
	char c;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	shutdown(client, SHUT_WR);
	assert_int_equal(recv(server, &c, 1, 0), 0);
	two_nodes_let_pass(a, 61); /* half closed, but alive */
	assert_int_equal(two_nodes_stats(a).flows, 1);
	program_send(server, "x", 1);
	assert_int_equal(recv(client, &c, 1, 0), 1);
	close(client);
	two_nodes_let_pass(a, 122);
	assert_int_equal(two_nodes_stats(a).flows, 0);
	assert_true(recv(server, &c, 1, 0) <= 0);
	close(server);
}

/* In the loop's thread: its next look finds room for much, and the program's end, at once. */
static void empty_and_end(void *arg)
{
	static char bytes[1 << 20];
	int fd = *(int *)arg;

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	shutdown(fd, SHUT_WR);
}

/* Until everything between the two is full. */
static void fill(int fd)
{
	static char bytes[1 << 16];

	for (int i = 0; i < 20; i++) {
		while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			i = 0;
		usleep(1000);
	}
}

static void test_nor_does_one_that_ended_while_much_was_under_way(void **state)
{
	static char bytes[1 << 16];
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	/* The kernel's buffers grow with use. */
	for (int left = 32 << 20; left > 0;) {
		ssize_t n;

		fill(server);
		while ((n = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
			left -= (int)n;
	}
	fill(server);
	two_nodes_call(&t, empty_and_end, &client);
	do
		usleep(50000);
	while (recv(client, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
	close(client);
	two_nodes_let_pass(a, 122);
	assert_int_equal(two_nodes_stats(a).flows, 0);
	close(server);
}

static void test_a_port_that_is_still_in_use_on_the_mesh_is_replaced_there(void **state)
{
	struct endpoint local, to;
	struct ipc_reply reply;
	struct map_flow flow;
	int client, server;
	char c;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	flow = flow_of_socket(a, client, &local);
	close(client);
	assert_int_equal(recv(server, &c, 1, 0), 0);
	/* Its program is gone, but the far side has not finished. */
	to = (struct endpoint){ flow.remote, flow.remote_port };
	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply), 0);
	close(server);
	two_nodes_wait_flows(a, 0);
}

static void test_a_full_listener_queue_makes_the_peer_wait(void **state)
{
	struct endpoint any = sock_endpoint(INADDR_LOOPBACK, 0), at;
	int fds[3], listener = sock_open(&any, SOCK_STREAM), client, server;
	struct endpoint local, mirror;

	(void)state;
	assert_int_equal(sock_bind(listener, &any), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(sock_local(listener, &at), 0);
	for (int i = 0; i < 3; i++) {
		fds[i] = sock_open(&any, SOCK_STREAM);
		sock_connect(fds[i], &at);
	}
	assert_int_equal(shim_prepare(a, B_ADDR, at.port, &client, &local, &mirror), 0);
	fcntl(client, F_SETFL, O_NONBLOCK);
	program_connect(client, &mirror);
	struct pollfd ready[] = { { client, POLLOUT, 0 }, { listener, POLLIN, 0 } };

	assert_int_equal(poll(ready, 1, 50), 0);
	fcntl(listener, F_SETFL, 0);
	while (poll(ready, 2, 20000) > 0 && !ready[0].revents) {
		server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(server >= 0);
		close(server);
	}
	assert_int_equal(ready[0].revents & (POLLOUT | POLLERR), POLLOUT);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close(client);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_who_says_nothing_is_dropped_after_a_while),
		TEST(test_malformed_questions_are_dropped),
		TEST(test_too_many_silent_clients_only_make_the_others_wait),
		TEST(test_another_user_gets_no_answer),
		TEST(test_a_second_daemon_in_a_folder_is_refused_with_a_sentence),
		TEST(test_without_descriptors_a_connect_fails_and_programs_wait),
		TEST(test_without_descriptors_a_posted_dial_fails_as_soon_as_there_is_one),
		TEST(test_without_descriptors_inbound_connects_are_not_refused_but_wait),
		TEST(test_without_descriptors_questions_to_the_api_wait),
		TEST(test_a_program_that_is_gone_does_not_keep_its_flow_for_ever),
		TEST(test_nor_does_one_that_ended_while_much_was_under_way),
		TEST(test_a_port_that_is_still_in_use_on_the_mesh_is_replaced_there),
		TEST(test_a_full_listener_queue_makes_the_peer_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
