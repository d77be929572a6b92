/* More flows than descriptors: the edge, when idle flows do without. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/edge/flow_private.h"
#include "daemon/stack/netstack.h"
#include "shared/util.h"
#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"

/* Each flow has four descriptors in this process; those of the programs stay. */
#define LIMIT 512
#define FLOWS 150
#define ROOM  16 /* descriptors: more than what joining one flow takes */

static int client[FLOWS], server[FLOWS], joined;
static int filler[LIMIT];
static unsigned filled;

static _Atomic bool watches_are_used_up;

/* As libevent calls it. A user may watch so many descriptors only (fs.epoll.max_user_watches). */
int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	struct endpoint peer;

	if (watches_are_used_up && op == EPOLL_CTL_ADD && sock_peer(fd, &peer) == 0) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

/* In the loop, where no edge is about to give back what it has only for a moment. */
static void look_for_room(void *has_room)
{
	int fd[ROOM], count = 0;

	while (count < ROOM && (fd[count] = dup(0)) >= 0)
		count++;
	for (int i = 0; i < count; i++)
		close(fd[i]);
	*(bool *)has_room = count == ROOM;
}

/* The programs share the edges' limit here, and a busy machine's edges stow later. */
static void wait_for_room(void)
{
	bool has_room = false;

	for (int i = 0; i < 20000 && !has_room; i++) {
		if (i > 0)
			nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
		two_nodes_call(&t, look_for_room, &has_room);
	}
	assert_true(has_room);
}

static void close_program(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int teardown(void **state)
{
	(void)state;
	while (filled > 0)
		close(filler[--filled]);
	for (int i = 0; i < joined; i++) {
		close_program(&client[i]);
		close_program(&server[i]);
	}
	joined = 0;
	two_nodes_stop(&t);
	return 0;
}

static int setup(void **state)
{
	teardown(state); /* of the one before, if its setup has failed: cmocka does not */
	two_nodes_start(&t, false);
	for (; joined < FLOWS; joined++) {
		wait_for_room();
		two_nodes_join(&t, joined % 2 ? B_ADDR : B_ADDR6, &client[joined], &server[joined]);
	}
	return 0;
}

static void expect(int fd, int wanted)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);

	assert_int_equal(n < 0 ? -errno : n, wanted);
}

static void reset(int *fd)
{
	struct linger now = { 1, 0 };

	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close_program(fd);
}

/* Each flow has its own bytes. */
static void exchange(int i)
{
	char text[16];

	snprintf(text, sizeof(text), "flow %d", i);
	program_say(client[i], server[i], text);
	snprintf(text, sizeof(text), "answer %d", i);
	program_say(server[i], client[i], text);
}

static void test_idle_flows_are_stowed_and_each_goes_on_as_itself(void **state)
{
	(void)state;
	assert_int_equal(two_nodes_stats(a).flows, FLOWS);
	assert_true(two_nodes_stats(a).flows_stowed > 0);
	assert_true(two_nodes_stats(b).flows_stowed > 0);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < FLOWS; i++)
			exchange(round == 1 ? FLOWS - 1 - i : i);
	srandom(1);
	for (int i = 0; i < 1000; i++)
		exchange((int)(random() % FLOWS));
	assert_true(two_nodes_stats(a).flows_stowed > 0);
}

static void test_bytes_for_all_at_once_arrive(void **state)
{
	char c;

	(void)state;
	for (int i = 0; i < FLOWS; i++) {
		c = (char)i;
		assert_int_equal(send(client[i], &c, 1, MSG_NOSIGNAL), 1);
		c = (char)~i;
		assert_int_equal(send(server[i], &c, 1, MSG_NOSIGNAL), 1);
	}
	for (int i = 0; i < FLOWS; i++) {
		assert_int_equal(recv(server[i], &c, 1, 0), 1);
		assert_int_equal(c, (char)i);
		assert_int_equal(recv(client[i], &c, 1, 0), 1);
		assert_int_equal(c, (char)~i);
	}
}

static void test_each_kind_of_end_is_passed_on(void **state)
{
	(void)state;
	for (int i = 0; i < FLOWS; i++) {
		int *first = i & 1 ? &client[i] : &server[i];
		int *second = i & 1 ? &server[i] : &client[i];

		switch (i / 2 % 3) {
		case 0:
			shutdown(*first, SHUT_WR);
			expect(*second, 0);
			program_say(*second, *first, "and back");
			shutdown(*second, SHUT_WR);
			expect(*first, 0);
			break;
		case 1:
			reset(first);
			expect(*second, -ECONNRESET);
			break;
		default:
			close_program(first);
			expect(*second, 0);
			close_program(second);
		}
	}
	two_nodes_wait_idle(&t);
	assert_int_equal(two_nodes_stats(a).flows_stowed, 0);
	assert_int_equal(two_nodes_stats(b).flows_stowed, 0);
}

static void test_much_data_passes_through_one_that_was_stowed(void **state)
{
	struct big up = { client[0], 1 };
	pthread_t sender;

	(void)state;
	pthread_create(&sender, NULL, program_send_big, &up);
	program_expect_big(server[0], 1);
	pthread_join(sender, NULL);
	for (int i = 1; i < FLOWS; i++)
		exchange(i);
}

static void test_a_stowed_flow_keeps_its_port(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (int i = 1; i < FLOWS; i += 2) {
		struct endpoint local, to;
		struct ipc_reply reply;
		struct map_flow flow;

		flow = flow_of_socket(a, client[i], &local);
		to = (struct endpoint){ flow.remote, flow.remote_port };
		refused += shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply) == EADDRNOTAVAIL;
		exchange(i);
	}
	assert_int_equal(refused, FLOWS / 2);
}

struct dialled {
	struct endpoint program, remote;
};

/* In the loop: where a program has dialled from whose flow is stowed now. */
static void find_stowed(void *dialled)
{
	struct flow *flow = a->edge->flows.all;

	while (flow && !flow->ticket)
		flow = flow->next;
	assert_non_null(flow);
	*(struct dialled *)dialled = (struct dialled){ flow->program, flow->remote };
}

static void test_a_port_is_used_anew_though_its_stowed_flow_cannot_come_back(void **state)
{
	struct dialled dialled;
	struct ipc_reply reply;

	(void)state;
	wait_for_room();
	two_nodes_call(&t, find_stowed, &dialled);
	watches_are_used_up = true;
	assert_int_equal(shim_ask(a, IPC_CONNECT, &dialled.program, &dialled.remote, 0, &reply), 0);
	watches_are_used_up = false;
	for (int i = 0; i < FLOWS; i++) {
		struct endpoint at;

		assert_int_equal(sock_local(client[i], &at), 0);
		if (endpoint_equal(&at, &dialled.program))
			expect(client[i], -ECONNRESET);
	}
}

static void test_when_the_daemon_ends_programs_see_a_reset(void **state)
{
	(void)state;
	two_nodes_stop(&t);
	for (int i = 0; i < FLOWS; i++) {
		expect(client[i], -ECONNRESET);
		expect(server[i], -ECONNRESET);
		close_program(&client[i]);
		close_program(&server[i]);
	}
	two_nodes_start(&t, false);
}

static void take_all(void)
{
	while ((filler[filled] = dup(0)) >= 0)
		filled++;
}

static void take_all_but(unsigned left)
{
	for (int i = 0; i < 4 && filled > 0; i++)
		close(filler[--filled]); /* to ask with */
	two_nodes_stats(a);              /* the loop has closed what it was about to close */
	take_all();
	assert_true(filled >= left);
	while (left-- > 0)
		close(filler[--filled]);
}

/* Only asked for: the program's own connect() does not follow. */
static int try_connect(void)
{
	struct endpoint local = sock_endpoint(mirror_of(a, A_ADDR), 0);
	struct endpoint to = mesh_endpoint(B_ADDR, FAKE_PORT_SILENT);
	struct ipc_reply reply;
	static uint16_t port = 20000;

	local.port = port++;
	return shim_ask(a, IPC_CONNECT, &local, &to, 0, &reply);
}

static void test_when_all_is_used_up_connects_fail_and_stowed_flows_wait(void **state)
{
	int connects = 0, err;

	(void)state;
	/* The program's end, and the accepted one. */
	take_all_but(2);
	while ((err = try_connect()) == 0) {
		connects++;
		take_all_but(2);
		assert_true(connects < LIMIT);
	}
	assert_int_equal(err, ENFILE);
	/* What is stowed can be closed all the same, or waits without loss. */
	take_all();
	for (int i = 0; i < FLOWS; i += 3)
		assert_int_equal(send(server[i], "x", 1, MSG_NOSIGNAL), 1);
	reset(&client[1]);
	expect(server[1], -ECONNRESET);
	reset(&server[2]);
	expect(client[2], -ECONNRESET);
	take_all();
	while (filled > 0)
		close(filler[--filled]);
	for (int i = 0; i < FLOWS; i++) {
		char c;

		if (i == 1 || i == 2)
			continue;
		if (i % 3 == 0) {
			assert_int_equal(recv(client[i], &c, 1, 0), 1);
			assert_int_equal(c, 'x');
		}
		exchange(i);
	}
}

/*
 * In the loop: stowed flows of a have their descriptors again, and nothing to do. At this level of
 * pressure they would be without again when the round ends.
 */
static unsigned wake_some(unsigned count)
{
	unsigned woken = 0;

	for (struct flow *flow = a->edge->flows.all; flow && woken < count; flow = flow->next) {
		if (flow->ticket)
			flow_wake(flow);
		woken += flow->ticket == 0;
	}
	return woken;
}

struct news {
	unsigned awake; /* flows that have a descriptor to give */
	int err;
};

/* In the loop: with no descriptor left a hears of a network that it has no block of 127/8 for. */
static void learn_network(void *arg)
{
	struct news *news = arg;
	struct ip_prefix own[2] = { { .len = 10 }, { .len = 64 } };
	struct ip_prefix peer[3] = { { .len = 32 }, { .len = 128 }, { .len = 24 } };
	const struct edge_node nodes[] = { { "node-a", own, 2, true },
					   { "node-b", peer, 3, false } };
	char error[256];

	ip_parse(A_ADDR, &own[0].addr);
	ip_parse(A_ADDR6, &own[1].addr);
	ip_parse(B_ADDR, &peer[0].addr);
	ip_parse(B_ADDR6, &peer[1].addr);
	ip_parse("10.77.0.0", &peer[2].addr);
	news->awake = wake_some(8);
	take_all();
	news->err = edge_set_nodes(a->edge, nodes, 2, error);
}

static void test_a_new_network_finds_a_descriptor_while_flows_are_idle(void **state)
{
	struct endpoint there = mesh_endpoint("10.77.0.9", 0);
	struct news news = { 0 };
	uint32_t mirror;

	(void)state;
	/* Longer than a search that was in vain keeps the edge from the next. */
	nanosleep(&(struct timespec){ 0, 100 * NS_PER_MS }, NULL);
	two_nodes_call(&t, learn_network, &news);
	assert_int_equal(news.awake, 8);
	assert_int_equal(news.err, 0);
	assert_int_equal(map_to_mirror(a->map, &there.addr, &mirror), MAP_PEER);
	while (filled > 0)
		close(filler[--filled]);
	for (int i = 0; i < FLOWS; i++)
		exchange(i);
}

#define LAST_WORDS "last words"

/* In the loop: with no descriptor left b says that in every flow, and some of them fail. */
static void say_and_fail(void *count)
{
	uint64_t now_ns = loop_now(t.loop);
	struct flow *next = b->edge->flows.all;
	struct iovec space[2];

	take_all();
	for (struct flow *flow = next; flow; flow = flow->next) {
		assert_true(tcp_send_space(flow->conn, space) > sizeof(LAST_WORDS));
		memcpy(space[0].iov_base, LAST_WORDS, sizeof(LAST_WORDS));
		tcp_send_commit(flow->conn, sizeof(LAST_WORDS));
	}
	netstack_flush(b->ns, now_ns);
	for (unsigned i = 0; i < *(unsigned *)count; i++) {
		struct flow *flow = next;

		next = flow->next;
		flow_kill(flow, true);
		take_all();
		netstack_flush(b->ns, now_ns);
	}
	/* Longer than a reset waits for a program that takes nothing. */
	nanosleep(&(struct timespec){ 2, NS_PER_S / 2 }, NULL);
}

static void test_what_a_far_side_said_before_it_failed_waits_for_a_descriptor(void **state)
{
	unsigned failed = 8, seen = 0;

	(void)state;
	take_all_but(2);
	while (try_connect() == 0)
		take_all_but(2);
	close(filler[--filled]);
	close(filler[--filled]);
	two_nodes_call(&t, say_and_fail, &failed);
	while (filled > 0)
		close(filler[--filled]);
	for (int i = 0; i < FLOWS; i++) {
		char heard[sizeof(LAST_WORDS)], c;

		assert_int_equal(program_receive(client[i], heard, sizeof(heard)), sizeof(heard));
		assert_string_equal(heard, LAST_WORDS);
		if (recv(server[i], &c, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET) {
			expect(client[i], -ECONNRESET);
			seen++;
		} else {
			exchange(i);
		}
	}
	assert_int_equal(seen, failed);
}

#define MUCH 200000

struct stowing {
	int program;
	bool is_done;
};

/*
 * In the loop: once a's flow of this program has handed on all that came, all that can do without a
 * descriptor do; is this one among them, and its socket full?
 */
static void stow_flow(void *arg)
{
	struct stowing *stowing = arg;
	struct flow *flow = a->edge->flows.all;
	struct endpoint at;

	assert_int_equal(sock_local(stowing->program, &at), 0);
	while (flow && !endpoint_equal(&flow->program, &at))
		flow = flow->next;
	assert_non_null(flow);
	if (tcp_recv_unread(flow->conn) > 0)
		return;
	for (int i = 0; i < FLOWS && !flow->ticket; i++)
		if (!flows_free_descriptors(&a->edge->flows))
			return;
	stowing->is_done = flow->is_untaken;
}

/* It is in the kernel's queue, as the program has not read. */
static void test_what_a_stowed_socket_still_holds_arrives_before_the_reset(void **state)
{
	static char bytes[MUCH];
	struct stowing stowing = { client[0], false };
	int few = 1 << 13;
	size_t got = 0;
	ssize_t n;

	(void)state;
	exchange(0);
	setsockopt(client[0], SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
	program_send(server[0], bytes, sizeof(bytes));
	/* Until a has handed on all of it. */
	for (int left = MUCH, i = 0; left > 0 && i < 1000; i++) {
		usleep(20000);
		assert_int_equal(ioctl(server[0], SIOCOUTQ, &left), 0);
	}
	for (int i = 0; i < 1000 && !stowing.is_done; i++) {
		usleep(i == 0 ? 200000 : 20000);
		two_nodes_call(&t, stow_flow, &stowing);
	}
	assert_true(stowing.is_done);
	reset(&server[0]);
	two_nodes_wait_flows(b, FLOWS - 1);
	usleep(20000);
	while ((n = recv(client[0], bytes, sizeof(bytes), 0)) > 0)
		got += (size_t)n;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(got, MUCH);
	two_nodes_wait_flows(a, FLOWS - 1);
}

#define STOWED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STOWED(test_idle_flows_are_stowed_and_each_goes_on_as_itself),
		STOWED(test_bytes_for_all_at_once_arrive),
		STOWED(test_each_kind_of_end_is_passed_on),
		STOWED(test_much_data_passes_through_one_that_was_stowed),
		STOWED(test_a_stowed_flow_keeps_its_port),
		STOWED(test_a_port_is_used_anew_though_its_stowed_flow_cannot_come_back),
		STOWED(test_when_the_daemon_ends_programs_see_a_reset),
		STOWED(test_when_all_is_used_up_connects_fail_and_stowed_flows_wait),
		STOWED(test_a_new_network_finds_a_descriptor_while_flows_are_idle),
		STOWED(test_what_a_far_side_said_before_it_failed_waits_for_a_descriptor),
		STOWED(test_what_a_stowed_socket_still_holds_arrives_before_the_reset),
	};
	const struct rlimit limit = { LIMIT, LIMIT };

	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
