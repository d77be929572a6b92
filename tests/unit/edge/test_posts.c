/* Dials that are posted: they do what asked ones do, and whatever fails is told by the map and a
 * reset. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/edge/posts.h"
#include "daemon/edge/private.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"

static struct endpoint held_at(const struct ipc_post *post)
{
	return sock_endpoint(post->mirror, (uint16_t)a->map->hold_port);
}

/* What the program hears of a dial that was posted: 0, or the map's errno. */
static int meet(int fd, const struct ipc_post *post)
{
	struct endpoint local = { post->dial.request.local, post->dial.request.local_port };
	struct endpoint to = held_at(post);
	struct map_flow flow;
	int err = program_connect(fd, &to) == 0 ? 0 : errno;

	assert_true(err == 0 || err == ECONNRESET);
	assert_true(map_has_flow(a, &local, &to, &flow));
	assert_int_equal(flow.remote_port, post->dial.request.remote_port);
	if (flow.state == MAP_FLOW_FAILED)
		return flow.error;
	assert_int_equal(flow.state, MAP_FLOW_OPEN);
	assert_int_equal(err, 0);
	return 0;
}

static int dial(const char *remote, uint16_t port)
{
	struct ipc_post post;
	int fd = shim_prepare_post(a, remote, port, &post), err;

	if (post.mirror == 0)
		post.mirror = mirror_of(a, B_ADDR); /* the test's map knows no such peer */
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	err = meet(fd, &post);
	if (err == 0)
		return fd;
	close(fd);
	return -err;
}

static void test_a_posted_dial_meets_its_program(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	static const char *const addresses[] = { B_ADDR, B_ADDR6 };

	(void)state;
	assert_int_equal(a->map->takes_posts, 1);
	for (int i = 0; i < 2; i++) {
		uint16_t port;
		int listener = program_listen(&any, &port), fd = dial(addresses[i], port), server;

		assert_true(fd >= 0);
		server = accept(listener, NULL, NULL);
		program_limit(server);
		program_say(fd, server, "posted");
		close(listener);
		two_nodes_hang_up(&t, fd, server);
	}
	assert_int_equal(two_nodes_stats(a).dialled, 2);
}

/* As the kernel shows it: the program's SYN is there before the daemon has read anything. */
static void *meet_later(void *arg)
{
	struct ipc_post *post = arg;

	nanosleep(&(struct timespec){ 0, 20 * NS_PER_MS }, NULL);
	assert_int_equal(shim_post(a, post, sizeof(*post)), 0);
	return NULL;
}

static void test_a_program_may_be_sooner_than_its_post(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	struct ipc_post post;
	pthread_t thread;
	uint16_t port;
	int listener = program_listen(&any, &port), fd = shim_prepare_post(a, B_ADDR, port, &post);

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, meet_later, &post), 0);
	assert_int_equal(meet(fd, &post), 0);
	pthread_join(thread, NULL);
	close(fd);
	close(listener);
}

static void test_failures_come_with_their_errno(void **state)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;

	(void)state;
	close(program_listen(&any, &port));
	assert_int_equal(dial(B_ADDR, port), -ECONNREFUSED);
	assert_int_equal(dial(B_ADDR, FAKE_PORT_TIMES_OUT), -ETIMEDOUT);
	assert_int_equal(dial(B_ADDR, FAKE_PORT_UNREACHABLE), -EHOSTUNREACH);
	two_nodes_wait_flows(a, 0);
	assert_int_equal(a->map->takes_posts, 1);
}

static void test_what_cannot_be_dialled_is_refused(void **state)
{
	struct ipc_post post;
	int fd;

	(void)state;
	assert_int_equal(dial("100.64.0.77", 80), -EHOSTUNREACH);
	a->reachable = ENETDOWN;
	assert_int_equal(dial(B_ADDR, 80), -ENETDOWN);
	a->reachable = 0;
	/* Where a program goes by an old map. */
	fd = shim_prepare_post(a, B_ADDR, 80, &post);
	post.mirror = mirror_of(a, B_ADDR6);
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	assert_int_equal(meet(fd, &post), ENETUNREACH);
	close(fd);
	two_nodes_wait_flows(a, 0);
	assert_int_equal(two_nodes_stats(a).dial_failed, 3);
}

static void test_what_the_daemon_lacks_is_told_and_programs_ask_for_a_while(void **state)
{
	(void)state;
	assert_int_equal(dial(B_ADDR, FAKE_PORT_NO_BUFFERS), -ENOBUFS);
	assert_int_equal(a->map->takes_posts, 0);
	two_nodes_let_pass(a, POSTS_PAUSE_MS / 1000 + 1);
	assert_int_equal(a->map->takes_posts, 1);
}

static void test_a_port_that_is_used_anew_forgets_its_dial(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local;
	struct ipc_post post;
	uint16_t port;
	int listener = program_listen(&any, &port), server;
	int fd = shim_prepare_post(a, B_ADDR, FAKE_PORT_SILENT, &post);

	(void)state;
	local = (struct endpoint){ post.dial.request.local, post.dial.request.local_port };
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	two_nodes_wait_flows(a, 1);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(sock_bind(fd, &local), 0);
	post.dial.request.remote_port = port;
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	assert_int_equal(meet(fd, &post), 0);
	server = accept(listener, NULL, NULL);
	program_limit(server);
	program_say(fd, server, "anew");
	close(listener);
	two_nodes_hang_up(&t, fd, server);
}

static void test_junk_is_dropped(void **state)
{
	struct ipc_post post[2];
	int fd = shim_prepare_post(a, B_ADDR, FAKE_PORT_SILENT, post);

	(void)state;
	post[1] = post[0];
	assert_int_equal(shim_post(a, post, 0), 0);
	assert_int_equal(shim_post(a, post, sizeof(post[0]) - 1), 0);
	assert_int_equal(shim_post(a, post, sizeof(post)), 0);
	post[1].dial.request.magic = 0;
	assert_int_equal(shim_post(a, &post[1], sizeof(post[1])), 0);
	post[1] = post[0];
	post[1].mirror = 0x0a000001u;
	assert_int_equal(shim_post(a, &post[1], sizeof(post[1])), 0);
	nanosleep(&(struct timespec){ 0, 100 * NS_PER_MS }, NULL);
	assert_int_equal(two_nodes_stats(a).flows, 0);
	assert_int_equal(shim_post(a, post, sizeof(post[0])), 0);
	two_nodes_wait_flows(a, 1);
	assert_int_equal(two_nodes_stats(a).dial_failed, 0);
	close(fd);
}

static bool is_not_served(void)
{
	struct ipc_post post = { .mirror = mirror_of(a, B_ADDR) };
	struct endpoint local = sock_endpoint(mirror_of(a, A_ADDR), 4711);
	struct endpoint to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT);

	ipc_make_request(&post.dial.request, IPC_CONNECT, &local, &to, 0);
	return shim_post(a, &post, sizeof(post)) == 0;
}

static void test_another_user_is_not_served(void **state)
{
	(void)state;
	assert_for_another_user(PATHS_POSTS, is_not_served);
	nanosleep(&(struct timespec){ 0, 100 * NS_PER_MS }, NULL);
	assert_int_equal(two_nodes_stats(a).flows, 0);
	assert_true(is_not_served());
	two_nodes_wait_flows(a, 1);
}

/* Posts have no answer: whether one was read is seen in the map only. */
static void wait_dialled(const struct endpoint *local, const struct endpoint *to, uint16_t port)
{
	struct map_flow flow = { .remote_port = 0 };

	for (int i = 0; i < 2000 && flow.remote_port != port; i++) {
		assert_true(map_has_flow(a, local, to, &flow));
		nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
	}
	assert_int_equal(flow.remote_port, port);
}

static void allow_all_users(void *arg)
{
	((struct edge *)arg)->config.allow_all_users = true;
}

static struct ipc_post stolen; /* another one's ends, towards where they never wanted to go */

static bool is_posted(void)
{
	return shim_post(a, &stolen, sizeof(stolen)) == 0;
}

static void test_no_user_takes_another_ones_dial(void **state)
{
	struct endpoint local, to;
	struct ipc_post post;
	struct map_flow flow;
	int fd = shim_prepare_post(a, B_ADDR, FAKE_PORT_SILENT, &post);

	(void)state;
	two_nodes_call(&t, allow_all_users, a->edge);
	assert_int_equal(shim_post(a, &post, sizeof(post)), 0);
	two_nodes_wait_flows(a, 1);
	local = (struct endpoint){ post.dial.request.local, post.dial.request.local_port };
	to = held_at(&post);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(program_connect(fd, &to), -1);
	assert_int_equal(errno, EINPROGRESS);
	stolen = post;
	stolen.dial.request.remote_port = 4711;
	assert_for_another_user(PATHS_POSTS, is_posted);
	nanosleep(&(struct timespec){ 0, 100 * NS_PER_MS }, NULL);
	assert_true(map_has_flow(a, &local, &to, &flow));
	assert_int_equal(flow.remote_port, FAKE_PORT_SILENT);
	assert_int_equal(flow.state, MAP_FLOW_HELD);
	/* Its program is gone: then the port may be anybody's. */
	close(fd);
	assert_for_another_user(PATHS_POSTS, is_posted);
	wait_dialled(&local, &to, 4711);
}

static void test_who_may_do_everything_may_take_a_dial(void **state)
{
	struct endpoint local, to;
	int fd = shim_prepare_post(a, B_ADDR, FAKE_PORT_SILENT, &stolen);

	(void)state;
	assert_true(is_posted());
	two_nodes_wait_flows(a, 1);
	local = (struct endpoint){ stolen.dial.request.local, stolen.dial.request.local_port };
	to = held_at(&stolen);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_int_equal(program_connect(fd, &to), -1);
	stolen.dial.request.remote_port = 4711;
	assert_true(is_posted());
	wait_dialled(&local, &to, 4711);
	close(fd);
}

static void test_only_the_owner_may_write_to_the_socket(void **state)
{
	char path[PATHS_MAX + 8];
	struct stat st;

	(void)state;
	paths_join(a->dir, PATHS_POSTS, path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_without_syn_hold_nothing_is_posted(void **state)
{
	(void)state;
	assert_int_equal(a->map->takes_posts, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_posted_dial_meets_its_program),
		TEST(test_a_program_may_be_sooner_than_its_post),
		TEST(test_failures_come_with_their_errno),
		TEST(test_what_cannot_be_dialled_is_refused),
		TEST(test_what_the_daemon_lacks_is_told_and_programs_ask_for_a_while),
		TEST(test_a_port_that_is_used_anew_forgets_its_dial),
		TEST(test_junk_is_dropped),
		TEST(test_another_user_is_not_served),
		TEST(test_no_user_takes_another_ones_dial),
		TEST(test_who_may_do_everything_may_take_a_dial),
		TEST(test_only_the_owner_may_write_to_the_socket),
		FIRST(test_without_syn_hold_nothing_is_posted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
