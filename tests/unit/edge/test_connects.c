/* A connect through two edges: how it fails, waits, and ends without its program. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"

static void test_a_closed_port_refuses(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;

	(void)state;
	close(program_listen(&any, &port));
	assert_int_equal(shim_connect(a, B_ADDR, port), -ECONNREFUSED);
	assert_int_equal(shim_connect(a, B_ADDR6, port), -ECONNREFUSED);
	assert_int_equal(two_nodes_stats(b).inbound_refused, 2);
	assert_int_equal(two_nodes_stats(a).dial_failed, 2);
	two_nodes_wait_flows(a, 0);
}

static void test_the_daemons_own_port_is_not_reached_from_the_mesh(void **state)
{
	(void)state;
	assert_int_equal(shim_connect(a, B_ADDR, (uint16_t)b->map->hold_port), -ECONNREFUSED);
	two_nodes_wait_flows(a, 0);
}

static void test_failures_come_with_their_errno(void **state)
{
	(void)state;
	assert_int_equal(shim_connect(a, B_ADDR, FAKE_PORT_TIMES_OUT), -ETIMEDOUT);
	assert_int_equal(shim_connect(a, B_ADDR, FAKE_PORT_UNREACHABLE), -EHOSTUNREACH);
	two_nodes_wait_flows(a, 0);
}

static int ask(const char *local, const char *remote, uint16_t port)
{
	struct endpoint from = mesh_endpoint(local, 40000), to = mesh_endpoint(remote, port);
	struct ipc_reply reply;

	return shim_ask(a, IPC_CONNECT, &from, &to, 0, &reply);
}

static void test_what_cannot_be_dialled_is_refused_at_once(void **state)
{
	(void)state;
	assert_int_equal(ask("127.0.0.1", "100.64.0.77", 80), EHOSTUNREACH);
	assert_int_equal(ask("127.0.0.1", "192.0.2.1", 80), ENETUNREACH);
	assert_int_equal(ask("127.0.0.1", A_ADDR, 80), EINVAL);
	assert_int_equal(ask("::1", B_ADDR6, 80), EAFNOSUPPORT);
	assert_int_equal(ask("127.0.0.1", B_ADDR, FAKE_PORT_NO_BUFFERS), ENOBUFS);
	a->reachable = ENETDOWN;
	assert_int_equal(ask("127.0.0.1", B_ADDR, 80), ENETDOWN);
	a->reachable = 0;
	assert_int_equal(two_nodes_stats(a).flows, 0);
}

static int begin(const char *addr, uint16_t port, int *epoll, struct endpoint *mirror)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	struct endpoint local;
	int fd;

	assert_int_equal(shim_prepare(a, addr, port, &fd, &local, mirror), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(*epoll, EPOLL_CTL_ADD, fd, &event), 0);
	epoll_wait(*epoll, &event, 1, 0);
	return fd;
}

static void test_a_non_blocking_connect_stays_silent_until_the_far_side_answers(void **state)
{
	struct epoll_event event;
	struct endpoint mirror;
	int epoll, fd = begin(B_ADDR, FAKE_PORT_SILENT, &epoll, &mirror);

	(void)state;
	assert_int_equal(program_connect(fd, &mirror), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(epoll_wait(epoll, &event, 1, 100), 0);
	assert_int_equal(two_nodes_stats(a).flows, 1);
	close(fd);
	close(epoll);
}

static void test_edge_triggered_epoll_tells_of_success_and_of_refusal(void **state)
{
	struct endpoint mirror, local, any = sock_endpoint(0, 0);
	struct epoll_event event;
	struct map_flow flow;
	uint16_t port;
	int epoll, fd, listener = program_listen(&any, &port);

	(void)state;
	for (int refused = 0; refused < 2; refused++) {
		fd = begin(B_ADDR, port, &epoll, &mirror);
		program_connect(fd, &mirror);
		assert_int_equal(epoll_wait(epoll, &event, 1, 5000), 1);
		assert_true(event.events & EPOLLOUT);
		assert_int_equal(sock_local(fd, &local), 0);
		assert_true(map_has_flow(a, &local, &mirror, &flow));
		/* Between being met and being reset there is an instant: the map is right in it. */
		assert_int_equal(flow.state, refused ? MAP_FLOW_FAILED : MAP_FLOW_OPEN);
		assert_int_equal(flow.error, refused ? ECONNREFUSED : 0);
		if (!refused)
			assert_int_equal(event.events, EPOLLOUT);
		close(fd);
		close(epoll);
		if (!refused)
			close(listener);
		two_nodes_wait_flows(a, 0);
	}
}

static void test_a_program_may_be_later_than_the_far_side(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	int fd, server, listener = program_listen(&any, &port);

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, port, &fd, &local, &mirror), 0);
	server = accept(listener, NULL, NULL);
	nanosleep(&(struct timespec){ 0, 100 * NS_PER_MS }, NULL);
	assert_int_equal(program_connect(fd, &mirror), 0);
	program_limit(server);
	program_say(fd, server, "late");
	close(listener);
	two_nodes_hang_up(&t, fd, server);
}

static void test_a_program_that_left_its_connect_takes_the_far_side_with_it(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	char c;
	int fd, server, listener = program_listen(&any, &port);

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, port, &fd, &local, &mirror), 0);
	close(fd);
	server = accept(listener, NULL, NULL);
	program_limit(server);
	assert_true(recv(server, &c, 1, 0) < 0);
	assert_int_equal(errno, ECONNRESET);
	close(listener);
	close(server);
	two_nodes_wait_idle(&t);
}

static void test_a_program_that_dies_while_it_is_dialled_for_ends_the_dial(void **state)
{
	struct endpoint local = sock_endpoint(mirror_of(a, A_ADDR), 4711);
	struct endpoint to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT);
	struct ipc_request request;
	int fd = shim_dial(a, PATHS_CONTROL);

	(void)state;
	assert_true(fd >= 0);
	ipc_make_request(&request, IPC_CONNECT, &local, &to, 0);
	assert_int_equal(send(fd, &request, sizeof(request), 0), sizeof(request));
	two_nodes_wait_flows(a, 1);
	two_nodes_let_pass(a, 4);
	assert_int_equal(two_nodes_stats(a).flows, 1);
	close(fd);
	two_nodes_wait_flows(a, 0);
}

static void test_a_program_that_was_dialled_for_and_does_not_come_is_given_up(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	int fd, listener = program_listen(&any, &port);

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, port, &fd, &local, &mirror), 0);
	assert_int_equal(two_nodes_stats(a).flows, 1);
	two_nodes_let_pass(a, 6);
	two_nodes_wait_flows(a, 0);
	/* Too late now: whom nobody has asked for is sent away. */
	assert_int_equal(program_connect(fd, &mirror), 0);
	program_limit(fd);
	assert_true(recv(fd, &port, 1, 0) <= 0);
	close(fd);
	close(listener);
}

/* Who shares a port with another that is about to connect to the same peer is refused, and takes
 * its place when it does not come. */
static void test_a_port_is_dialled_from_by_one_at_a_time(void **state)
{
	struct endpoint to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT), local, mirror;
	struct endpoint other = mesh_endpoint(B_ADDR, 4711);
	struct ipc_reply reply;
	struct map_flow flow;
	int fd, err = 0;

	(void)state;
	/* A busy machine may let a moment pass. */
	for (int i = 0; i < 100 && err == 0; i++) {
		if (i > 0)
			close(fd);
		assert_int_equal(shim_prepare(a, B_ADDR, FAKE_PORT_SILENT, &fd, &local, &mirror),
				 0);
		err = shim_ask(a, IPC_CONNECT, &local, &other, 0, &reply);
	}
	assert_int_equal(err, EADDRNOTAVAIL);
	assert_true(map_has_flow(a, &local, &mirror, &flow));
	assert_int_equal(flow.remote_port, to.port);
	assert_int_equal(flow.state, MAP_FLOW_HELD);
	nanosleep(&(struct timespec){ 0, 30 * NS_PER_MS }, NULL);
	assert_int_equal(shim_ask(a, IPC_CONNECT, &local, &other, 0, &reply), 0);
	assert_true(map_has_flow(a, &local, &mirror, &flow));
	assert_int_equal(flow.remote_port, other.port);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_closed_port_refuses),
		TEST(test_the_daemons_own_port_is_not_reached_from_the_mesh),
		TEST(test_failures_come_with_their_errno),
		TEST(test_what_cannot_be_dialled_is_refused_at_once),
		TEST(test_a_non_blocking_connect_stays_silent_until_the_far_side_answers),
		TEST(test_edge_triggered_epoll_tells_of_success_and_of_refusal),
		TEST(test_a_program_may_be_later_than_the_far_side),
		TEST(test_a_port_is_dialled_from_by_one_at_a_time),
		TEST(test_a_program_that_left_its_connect_takes_the_far_side_with_it),
		FIRST(test_a_closed_port_refuses),
		FIRST(test_failures_come_with_their_errno),
		FIRST(test_a_program_that_dies_while_it_is_dialled_for_ends_the_dial),
		FIRST(test_a_program_that_was_dialled_for_and_does_not_come_is_given_up),
		FIRST(test_a_program_may_be_later_than_the_far_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
