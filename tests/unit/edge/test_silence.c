/* Far sides that fall silent, over the real stack: what programs set for that, and what they hear.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/edge/flow_private.h"
#include "daemon/edge/patience.h"
#include "daemon/tcp/conn.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

#define NOBODY 65534

static struct ipc_patience words(enum ipc_type type, const struct endpoint *local,
				 const struct endpoint *remote, uint32_t flags)
{
	struct ipc_patience p = { .user_timeout_ms = 7000 };

	ipc_make_request(&p.request, type, local, remote, flags);
	p.idle_s = 30;
	p.interval_s = 5;
	p.count = 4;
	return p;
}

/* As the shim says it; returns when the daemon has taken it, with its answer if there is one. */
static ssize_t say(struct node *node, const struct ipc_patience *p, struct ipc_reply *reply)
{
	int fd = shim_dial(node, PATHS_CONTROL);
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(send(fd, p, sizeof(*p), MSG_NOSIGNAL), sizeof(*p));
	n = recv(fd, reply, sizeof(*reply), 0);
	close(fd);
	return n;
}

static void tell(struct node *node, const struct ipc_patience *p)
{
	struct ipc_reply reply;

	assert_int_equal(say(node, p, &reply), 0);
}

struct look {
	struct node *node;
	struct tcp_patience found;
};

static void look_at_the_only_flow(void *arg)
{
	struct look *look = arg;

	look->found = look->node->edge->flows.all->conn->patience;
}

static void expect_patience(struct node *node, unsigned idle_s, unsigned user_timeout_s)
{
	struct look look = { .node = node };

	two_nodes_call(&t, look_at_the_only_flow, &look);
	assert_int_equal(look.found.idle_ns, idle_s * NS_PER_S);
	assert_int_equal(look.found.interval_ns, idle_s ? 5 * NS_PER_S : 0);
	assert_int_equal(look.found.count, idle_s ? 4 : 0);
	assert_int_equal(look.found.user_timeout_ns, user_timeout_s * NS_PER_S);
}

static void test_a_program_tells_its_patience_on_either_side(void **state)
{
	struct endpoint local, remote, from, at;
	struct ipc_patience p;
	int client, server;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		const char *addr = v6 ? B_ADDR6 : B_ADDR;

		two_nodes_join(&t, addr, &client, &server);
		expect_patience(a, 0, 0);
		expect_patience(b, 0, 0);
		assert_int_equal(sock_local(client, &local), 0);
		assert_int_equal(sock_local(server, &at), 0);
		remote = mesh_endpoint(addr, at.port);
		p = words(IPC_PATIENCE, &local, &remote, 0);
		tell(a, &p);
		expect_patience(a, 30, 7);
		expect_patience(b, 0, 0);
		p.idle_s = p.interval_s = p.count = 0;
		tell(a, &p);
		expect_patience(a, 0, 7);
		from = mesh_endpoint(v6 ? A_ADDR6 : A_ADDR, local.port);
		p = words(IPC_PATIENCE, &at, &from, IPC_ACCEPTED);
		tell(b, &p);
		expect_patience(b, 30, 7);
		two_nodes_hang_up(&t, client, server);
	}
}

static void test_a_dial_brings_its_patience(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local = sock_endpoint(mirror_of(a, A_ADDR), 0);
	struct endpoint mirror, to;
	struct ipc_patience p;
	struct ipc_reply reply;
	uint16_t port;
	int listener = program_listen(&any, &port), fd = socket(AF_INET, SOCK_STREAM, 0), server;

	(void)state;
	assert_int_equal(sock_bind(fd, &local), 0);
	assert_int_equal(sock_local(fd, &local), 0);
	to = mesh_endpoint(B_ADDR, port);
	p = words(IPC_CONNECT, &local, &to, 0);
	assert_int_equal(say(a, &p, &reply), sizeof(reply));
	assert_int_equal(reply.error, 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(program_connect(fd, &mirror), 0);
	server = accept(listener, NULL, NULL);
	close(listener);
	program_say(server, fd, "through");
	expect_patience(a, 30, 7);
	expect_patience(b, 0, 0);
	two_nodes_hang_up(&t, fd, server);
}

static void test_who_names_other_ends_changes_nothing(void **state)
{
	struct endpoint local, remote, from, at;
	struct ipc_patience p;
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	assert_int_equal(sock_local(client, &local), 0);
	assert_int_equal(sock_local(server, &at), 0);
	remote = mesh_endpoint(B_ADDR, at.port);
	from = mesh_endpoint(A_ADDR, local.port);
	for (int wrong = 0; wrong < 6; wrong++) {
		bool accepted = wrong >= 3;

		p = accepted ? words(IPC_PATIENCE, &at, &from, IPC_ACCEPTED)
			     : words(IPC_PATIENCE, &local, &remote, 0);
		if (wrong % 3 == 0)
			p.request.local_port ^= 1;
		if (wrong % 3 == 1)
			p.request.remote_port ^= 1;
		if (wrong % 3 == 2)
			p.request.remote = mesh_endpoint(B_ADDR6, 0).addr;
		tell(accepted ? b : a, &p);
	}
	/* The other side's flow is not an accepted one here. */
	p = words(IPC_PATIENCE, &local, &remote, IPC_ACCEPTED);
	tell(a, &p);
	expect_patience(a, 0, 0);
	expect_patience(b, 0, 0);
	two_nodes_hang_up(&t, client, server);
}

/* Of this thread only: libc's would change all. */
static void become(uid_t uid)
{
	assert_int_equal(syscall(SYS_setresuid, -1, uid, -1), 0);
}

struct telling {
	struct node *node;
	int asker;
	const struct ipc_patience *words;
};

static void tell_in_the_loop(void *arg)
{
	struct telling *telling = arg;

	patience_set(telling->node->edge, telling->asker, telling->words);
}

/* Where all users are allowed: the kernel says whose a socket is. */
static void test_another_users_flow_is_left_alone(void **state)
{
	struct endpoint local, remote, at;
	struct ipc_patience p;
	struct telling telling = { a, -1, &p };
	int client, server, pair[2];

	(void)state;
	if (geteuid() != 0)
		skip();
	for (int own = 0; own < 2; own++) {
		two_nodes_join(&t, B_ADDR, &client, &server);
		if (own) {
			assert_int_equal(fchown(client, NOBODY, -1), 0);
			assert_int_equal(fchown(server, NOBODY, -1), 0);
		}
		become(NOBODY);
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
		become(0);
		telling.asker = pair[0];
		assert_int_equal(sock_local(client, &local), 0);
		assert_int_equal(sock_local(server, &at), 0);
		remote = mesh_endpoint(B_ADDR, at.port);
		p = words(IPC_PATIENCE, &local, &remote, 0);
		telling.node = a;
		two_nodes_call(&t, tell_in_the_loop, &telling);
		expect_patience(a, own ? 30 : 0, own ? 7 : 0);
		remote = mesh_endpoint(A_ADDR, local.port);
		p = words(IPC_PATIENCE, &at, &remote, IPC_ACCEPTED);
		telling.node = b;
		two_nodes_call(&t, tell_in_the_loop, &telling);
		expect_patience(b, own ? 30 : 0, own ? 7 : 0);
		close(pair[0]);
		close(pair[1]);
		two_nodes_hang_up(&t, client, server);
	}
}

static void cut(void *arg)
{
	a->is_cut = b->is_cut = *(bool *)arg;
}

static void expect_reset(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
}

static enum map_flow_state state_in_map(struct node *node, const struct endpoint *local,
					const struct endpoint *peer)
{
	struct map_flow flow;

	if (!map_has_flow(node, local, peer, &flow))
		return MAP_FLOW_FREE;
	assert_int_equal(flow.error, flow.state == MAP_FLOW_LOST ? ETIMEDOUT : 0);
	return flow.state;
}

/* In the loop: as where a router has said by ICMP that it reaches nobody, and then nothing comes.
 */
static void lose_the_way(void *arg)
{
	(void)arg;
	a->edge->flows.all->conn->soft_error = EHOSTUNREACH;
	a->is_cut = b->is_cut = true;
}

static void test_the_map_says_what_a_router_had_said(void **state)
{
	struct endpoint local, peer, remote, at;
	struct ipc_patience p;
	struct map_flow flow;
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	assert_int_equal(sock_local(client, &local), 0);
	assert_int_equal(sock_peer(client, &peer), 0);
	assert_int_equal(sock_local(server, &at), 0);
	remote = mesh_endpoint(B_ADDR, at.port);
	p = words(IPC_PATIENCE, &local, &remote, 0);
	p.user_timeout_ms = 1000;
	tell(a, &p);
	two_nodes_call(&t, lose_the_way, NULL);
	program_send(client, "?", 1);
	expect_reset(client);
	assert_true(map_has_flow(a, &local, &peer, &flow));
	assert_int_equal(flow.state, MAP_FLOW_LOST);
	assert_int_equal(flow.error, EHOSTUNREACH);
	close(server);
}

/* A connection from just this port. */
static int connect_from(struct node *node, struct endpoint *local, const struct endpoint *to)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	struct ipc_reply reply;
	struct endpoint mirror;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(sock_bind(fd, local), 0);
	assert_int_equal(sock_local(fd, local), 0);
	assert_int_equal(shim_ask(node, IPC_CONNECT, local, to, 0, &reply), 0);
	mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	assert_int_equal(program_connect(fd, &mirror), 0);
	program_limit(fd);
	return fd;
}

/* The kernel knows of a reset only; the map says on both sides what it was. */
static void test_the_map_says_whose_far_side_fell_silent(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local = sock_endpoint(mirror_of(a, A_ADDR), 0);
	struct endpoint to = mesh_endpoint(B_ADDR, 0), from, seen, served, led;
	bool on = true, off = false;
	struct ipc_patience p;
	int listener = program_listen(&any, &to.port), client, server;

	(void)state;
	client = connect_from(a, &local, &to);
	server = accept(listener, NULL, NULL);
	program_limit(server);
	assert_int_equal(sock_peer(server, &seen), 0);
	assert_int_equal(sock_local(server, &served), 0);
	assert_int_equal(sock_peer(client, &led), 0);
	from = mesh_endpoint(A_ADDR, local.port);
	p = words(IPC_PATIENCE, &local, &to, 0);
	p.idle_s = p.interval_s = p.count = 1;
	p.user_timeout_ms = 0;
	tell(a, &p);
	p.request.flags = IPC_ACCEPTED;
	p.request.local_port = to.port;
	p.request.remote = from.addr;
	p.request.remote_port = from.port;
	tell(b, &p);
	assert_int_equal(state_in_map(a, &local, &led), MAP_FLOW_OPEN);
	assert_int_equal(state_in_map(b, &served, &seen), MAP_FLOW_FREE);
	two_nodes_call(&t, cut, &on);
	expect_reset(client);
	expect_reset(server);
	assert_int_equal(state_in_map(a, &local, &led), MAP_FLOW_LOST);
	assert_int_equal(state_in_map(b, &served, &seen), MAP_FLOW_LOST);

	/* The next one from there is not lost, and is reset by its peer. */
	two_nodes_call(&t, cut, &off);
	client = connect_from(a, &local, &to);
	server = accept(listener, NULL, NULL);
	program_limit(server);
	program_say(client, server, "again");
	assert_int_equal(state_in_map(a, &local, &led), MAP_FLOW_OPEN);
	assert_int_equal(state_in_map(b, &served, &seen), MAP_FLOW_FREE);
	sock_reset_on_close(client);
	close(client);
	expect_reset(server);
	assert_int_equal(state_in_map(b, &served, &seen), MAP_FLOW_FREE);
	close(listener);
	two_nodes_wait_idle(&t);
}

/* Nobody is told of that: the kernel alone knows. */
static void keep(int fd, int count)
{
	const int second = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &second, sizeof(second)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &second, sizeof(second)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &second, sizeof(second)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count)), 0);
}

/* To a listener on 127.0.0.1 or ::1. */
static void join(bool v6, int *client, int *server)
{
	struct endpoint at = mesh_endpoint(v6 ? "::1" : "127.0.0.1", 0);
	uint16_t port;
	int listener = program_listen(&at, &port);

	*client = shim_connect(a, v6 ? B_ADDR6 : B_ADDR, port);
	assert_true(*client >= 0);
	*server = accept(listener, NULL, NULL);
	close(listener);
	program_limit(*client);
	program_limit(*server);
}

static void test_keepalive_is_the_programs_own_kernels(void **state)
{
	bool on = true, off = false;
	int client, server;
	char c;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pollfd p = { .events = POLLIN };

		two_nodes_call(&t, cut, &off);
		join(v6, &client, &server);
		keep(client, 3);
		keep(server, 3);
		/* While both are there nothing ends. */
		p.fd = client;
		assert_int_equal(poll(&p, 1, 5500), 0);
		program_say(client, server, "there");
		two_nodes_call(&t, cut, &on);
		assert_int_equal(read(client, &c, 1), -1);
		assert_int_equal(errno, ETIMEDOUT);
		p.fd = server;
		assert_int_equal(poll(&p, 1, 20000), 1);
		assert_int_equal(write(server, "x", 1), -1);
		assert_int_equal(errno, ETIMEDOUT);
		/* The daemon finds out, too. */
		two_nodes_wait_idle(&t);
		close(client);
		close(server);
	}
}

static void count_deaf(void *arg)
{
	*(unsigned *)arg =
		(a->edge->flows.all->hearing == IS_DEAF) + (b->edge->flows.all->hearing == IS_DEAF);
}

static void wait_until_deaf(void)
{
	unsigned deaf = 0;

	for (unsigned i = 0; i < 2000 && deaf < 2; i++) {
		nanosleep(&(struct timespec){ 0, 10 * NS_PER_MS }, NULL);
		two_nodes_call(&t, count_deaf, &deaf);
	}
	assert_int_equal(deaf, 2);
}

/* What was said meanwhile comes, too: the kernel says it again, as over a wire. */
static void test_a_far_side_that_comes_back_in_time_is_heard(void **state)
{
	bool on = true, off = false;
	int client, server;
	char heard[6] = "";

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		join(v6, &client, &server);
		keep(client, 100);
		keep(server, 100);
		two_nodes_call(&t, cut, &on);
		wait_until_deaf();
		program_send(client, "while ", 6);
		two_nodes_call(&t, cut, &off);
		assert_int_equal(recv(server, heard, 6, MSG_WAITALL), 6);
		assert_memory_equal(heard, "while ", 6);
		program_say(server, client, "and after");
		program_say(client, server, "both");
		two_nodes_hang_up(&t, client, server);
	}
}

/* Deaf to its end, the daemon asks the kernel. */
static void test_a_program_may_leave_while_there_is_silence(void **state)
{
	bool on = true, off = false;
	int client, server;

	(void)state;
	join(false, &client, &server);
	keep(client, 100);
	keep(server, 100);
	two_nodes_call(&t, cut, &on);
	wait_until_deaf();
	sock_reset_on_close(client);
	close(client);
	two_nodes_wait_flows(a, 0);
	close(server);
	two_nodes_call(&t, cut, &off);
	two_nodes_wait_flows(b, 0);
}

/* Whose packets have the highest TTL is always heard; the endpoint ends it, if it was told. */
static void test_who_cannot_be_ignored_is_reset(void **state)
{
	struct endpoint local, at, remote;
	struct ipc_patience p;
	const int highest = 255;
	bool on = true;
	int client, server;

	(void)state;
	join(false, &client, &server);
	keep(client, 2);
	assert_int_equal(setsockopt(client, IPPROTO_IP, IP_TTL, &highest, sizeof(highest)), 0);
	assert_int_equal(sock_local(client, &local), 0);
	assert_int_equal(sock_local(server, &at), 0);
	remote = mesh_endpoint(B_ADDR, at.port);
	p = words(IPC_PATIENCE, &local, &remote, 0);
	p.idle_s = p.interval_s = 1;
	p.count = 2;
	p.user_timeout_ms = 0;
	tell(a, &p);
	two_nodes_call(&t, cut, &on);
	expect_reset(client);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_program_tells_its_patience_on_either_side),
		TEST(test_a_dial_brings_its_patience),
		TEST(test_who_names_other_ends_changes_nothing),
		TEST(test_another_users_flow_is_left_alone),
		TEST(test_the_map_says_whose_far_side_fell_silent),
		TEST(test_the_map_says_what_a_router_had_said),
		TEST(test_keepalive_is_the_programs_own_kernels),
		TEST(test_a_far_side_that_comes_back_in_time_is_heard),
		TEST(test_a_program_may_leave_while_there_is_silence),
		TEST(test_who_cannot_be_ignored_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
