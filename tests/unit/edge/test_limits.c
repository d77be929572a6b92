/* What happens at the edge's limits, and to those who misbehave. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/edge/apps.h"
#include "daemon/edge/dgram.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/edge/fake_stack.h"
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

static int dial_control(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	paths_join(a->dir, PATHS_CONTROL, name.sun_path, sizeof(name.sun_path));
	assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
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

static void test_another_user_gets_no_answer(void **state)
{
	char path[PATHS_MAX + 8];
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0)
		skip();
	paths_join(a->dir, PATHS_CONTROL, path, sizeof(path));
	assert_int_equal(chmod(a->dir, 0755), 0);
	assert_int_equal(chmod(path, 0666), 0);
	child = fork();
	if (child == 0)
		_exit(setuid(65534) == 0 && !is_ready() ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
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

static void test_without_descriptors_inbound_connects_are_not_refused_but_wait(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	int count, fd, listener = program_listen(&any, &port);
	struct sockaddr_storage ss;
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
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int ask = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct ipc_request request;

	paths_join(a->dir, PATHS_CONTROL, name.sun_path, sizeof(name.sun_path));
	ipc_make_request(&request, IPC_CONNECT, &local, &to, 0);
	assert_int_equal(connect(ask, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(send(ask, &request, sizeof(request), 0), sizeof(request));
	assert_int_equal(recv(ask, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.error, 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	connect(fd, (struct sockaddr *)&ss, endpoint_to_sockaddr(&mirror, AF_INET, &ss));
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
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct pollfd ready = { -1, POLLIN, 0 };
	char answer[16] = "";
	int count;

	(void)state;
	paths_join(a->dir, PATHS_API, name.sun_path, sizeof(name.sun_path));
	count = take_descriptors(1);
	ready.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(ready.fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(send(ready.fd, ask, strlen(ask), MSG_NOSIGNAL), strlen(ask));
	assert_int_equal(poll(&ready, 1, 50), 0);
	give_descriptors_back(count);
	assert_int_equal(poll(&ready, 1, 20000), 1);
	assert_int_equal(recv(ready.fd, answer, 12, 0), 12);
	assert_string_equal(answer, "HTTP/1.1 200");
	close(ready.fd);
}

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

static void processor_time(void *arg)
{
	struct timespec *ts = arg;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, ts);
}

static void test_who_has_all_ports_of_a_mirror_pushes_out_its_own(void **state)
{
	struct endpoint from = sock_endpoint(mirror_of(a, A_ADDR), 0), to;
	struct timespec before, after;
	struct ipc_reply reply;
	int64_t used_ns;
	uint32_t addr;
	uint16_t port;

	(void)state;
	/* The range beside ip_local_port_range is smaller on most machines. */
	for (unsigned i = 0; i < DGRAMS_MAX - 10; i++) {
		if (i == DGRAMS_MAX - 1010)
			two_nodes_call(&t, processor_time, &before);
		to = mesh_endpoint(B_ADDR, (uint16_t)(1000 + i));
		assert_int_equal(shim_ask(a, IPC_UDP_OPEN, &from, &to, 0, &reply), 0);
	}
	two_nodes_call(&t, processor_time, &after);
	used_ns =
		(after.tv_sec - before.tv_sec) * (int64_t)NS_PER_S + after.tv_nsec - before.tv_nsec;
	assert_true(used_ns / 1000 < (int64_t)(2 * NS_PER_MS));
	assert_true(
		map_find_pair(a->map, MAP_UDP_OUT, mirror_of(a, B_ADDR), to.port, &addr, &port));
	assert_int_equal(two_nodes_stats(a).udp_over_share, 0);
	assert_true(two_nodes_stats(a).udp_endpoints > 2000);
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
	assert_int_equal(sock_local(client, &local), 0);
	assert_true(map_find_flow(a->map, ip_v4(&local.addr), local.port, &flow));
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
	struct sockaddr_storage ss;
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
	connect(client, (struct sockaddr *)&ss, endpoint_to_sockaddr(&mirror, AF_INET, &ss));
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

static int64_t ns_between(const struct timespec *from, const struct timespec *to)
{
	return (to->tv_sec - from->tv_sec) * (int64_t)NS_PER_S + to->tv_nsec - from->tv_nsec;
}

/* Processor time of a try of each port of the range, all of which are taken. */
static int64_t cost_of_all(const struct port_range *range)
{
	struct timespec before, after;
	struct endpoint one = mesh_endpoint("::1", 0);
	int fd = sock_open(&one, SOCK_STREAM);

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	for (unsigned p = range->first; p <= range->last; p++) {
		one.port = (uint16_t)p;
		if (sock_bind(fd, &one) == 0) {
			close(fd);
			fd = sock_open(&one, SOCK_STREAM);
		}
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	close(fd);
	return ns_between(&before, &after);
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
	struct timespec before, after;
	int64_t used_ns = 0, all_ns = 0;
	uint16_t port;

	(void)state;
	assert_non_null(taken);
	listener = program_listen(&at, &port);
	/* Others on the machine may give one back meanwhile. */
	for (int i = 0; i < 20 && (result != -ECONNREFUSED || used_ns >= all_ns / 3); i++) {
		take_ports(&range, taken);
		two_nodes_call(&t, processor_time, &before);
		result = shim_connect(a, B_ADDR6, port);
		two_nodes_call(&t, processor_time, &after);
		used_ns = ns_between(&before, &after);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_who_says_nothing_is_dropped_after_a_while),
		TEST(test_malformed_questions_are_dropped),
		TEST(test_too_many_silent_clients_only_make_the_others_wait),
		TEST(test_another_user_gets_no_answer),
		TEST(test_a_second_daemon_in_a_folder_is_refused_with_a_sentence),
		TEST(test_without_descriptors_a_connect_fails_and_programs_wait),
		TEST(test_without_descriptors_inbound_connects_are_not_refused_but_wait),
		TEST(test_without_descriptors_questions_to_the_api_wait),
		TEST(test_idle_udp_endpoints_go_when_no_program_is_bound_any_more),
		TEST(test_beyond_the_limit_the_oldest_udp_endpoint_goes),
		TEST(test_a_greedy_peer_pushes_out_its_own_udp_endpoints),
		TEST(test_who_has_all_ports_of_a_mirror_pushes_out_its_own),
		TEST(test_a_scan_leaves_no_udp_endpoints_behind),
		TEST(test_a_program_that_is_gone_does_not_keep_its_flow_for_ever),
		TEST(test_nor_does_one_that_ended_while_much_was_under_way),
		TEST(test_a_port_that_is_still_in_use_on_the_mesh_is_replaced_there),
		TEST(test_a_full_listener_queue_makes_the_peer_wait),
		TEST(test_without_a_port_at_loopback6_a_connect_costs_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
