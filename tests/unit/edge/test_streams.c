/* Programs on two nodes, TCP: bytes, ends and resets, in both directions. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/edge/flow_private.h"
#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

static void test_much_data_both_ways_at_once_arrives_whole_before_the_end(void **state)
{
	int client, server;
	struct big up, down;
	pthread_t senders[2];

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	up = (struct big){ client, 1 };
	down = (struct big){ server, 2 };
	pthread_create(&senders[0], NULL, program_send_big, &up);
	pthread_create(&senders[1], NULL, program_send_big, &down);
	nanosleep(&(struct timespec){ 0, 50 * NS_PER_MS }, NULL); /* all buffers are full */
	/* One after the other: each direction also stands still for a while. */
	program_expect_big(server, 1);
	program_expect_big(client, 2);
	for (int i = 0; i < 2; i++)
		pthread_join(senders[i], NULL);
	two_nodes_hang_up(&t, client, server);
}

static void test_half_closed_either_way_the_other_direction_goes_on(void **state)
{
	int client, server;
	char c;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	shutdown(client, SHUT_WR);
	assert_int_equal(recv(server, &c, 1, 0), 0);
	program_say(server, client, "late answer");
	two_nodes_hang_up(&t, client, server);
	two_nodes_join(&t, B_ADDR, &client, &server);
	shutdown(server, SHUT_WR);
	assert_int_equal(recv(client, &c, 1, 0), 0);
	program_say(client, server, "late question");
	two_nodes_hang_up(&t, client, server);
}

static void reset_and_see(int one, int other)
{
	char c;

	program_limit(other);
	sock_reset_on_close(one);
	close(one);
	assert_int_equal(recv(other, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(other);
	two_nodes_wait_idle(&t);
}

static void test_a_reset_of_either_side_is_a_reset_for_the_other(void **state)
{
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	reset_and_see(client, server);
	two_nodes_join(&t, B_ADDR, &client, &server);
	reset_and_see(server, client);
}

static void end_reset_and_see(int one, int other)
{
	struct pollfd seen = { .fd = other };
	char c;

	shutdown(one, SHUT_WR);
	assert_int_equal(recv(other, &c, 1, 0), 0);
	sock_reset_on_close(one);
	close(one);
	assert_int_equal(poll(&seen, 1, 20000), 1);
	assert_true(seen.revents & POLLERR);
	close(other);
	two_nodes_wait_idle(&t);
}

/*
 * Writes so much, leaves what came unread, and closes, which is a reset: the other gets all
 * that the program's kernel had handed over, then the reset.
 */
static void say_and_reset(int one, int other, size_t len)
{
	static char bytes[100000];
	size_t sum = 0;
	int left = len > 10000; /* little is there as soon as it is said */
	ssize_t n;

	assert_int_equal(send(other, "unread", 6, 0), 6);
	assert_int_equal(recv(one, bytes, 6, MSG_PEEK | MSG_WAITALL), 6);
	program_limit(one);
	program_limit(other);
	for (size_t at = 0; at < len; at += (size_t)n)
		assert_true((n = send(one, bytes + at, len - at, 0)) > 0);
	for (unsigned i = 0; left > 0 && i < 20000; i++) {
		assert_int_equal(ioctl(one, SIOCOUTQ, &left), 0);
		usleep(1000);
	}
	assert_int_equal(left, 0);
	close(one);
	usleep(20000); /* it is not even looking yet */
	while ((n = recv(other, bytes, 1000, 0)) > 0)
		sum += (size_t)n;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(sum, len);
	close(other);
	two_nodes_wait_idle(&t);
}

static void test_what_was_written_before_a_reset_arrives(void **state)
{
	int client, server;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		two_nodes_join(&t, B_ADDR, &client, &server);
		say_and_reset(client, server, i % 8 ? 5000 : 100000);
		two_nodes_join(&t, B_ADDR, &client, &server);
		say_and_reset(server, client, i % 8 ? 5000 : 100000);
	}
}

/* As where a program has said all and is killed before it has read the answer. */
static void test_a_reset_after_the_end_is_seen_by_the_other(void **state)
{
	int client, server;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	end_reset_and_see(client, server);
	two_nodes_join(&t, B_ADDR, &client, &server);
	end_reset_and_see(server, client);
}

static void test_unread_data_at_close_is_a_reset(void **state)
{
	int client, server;
	char c;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	program_send(client, "unread", 6);
	assert_int_equal(recv(server, &c, 1, MSG_PEEK), 1);
	close(server);
	assert_int_equal(recv(client, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(client);
	two_nodes_wait_idle(&t);
}

/* Reads stop at urgent data and before an end: neither means that nothing is left. */
static void test_what_stands_behind_urgent_data_arrives_and_then_the_end(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		int client, server;
		char got[8];

		two_nodes_join(&t, B_ADDR, &client, &server);
		program_send(client, "before", 6);
		assert_int_equal(send(client, "!", 1, MSG_OOB), 1);
		program_send(client, "behind", 6);
		shutdown(client, SHUT_WR);
		assert_int_equal(recv(server, got, 6, MSG_WAITALL), 6);
		assert_memory_equal(got, "before", 6);
		assert_int_equal(recv(server, got, 6, MSG_WAITALL), 6);
		assert_memory_equal(got, "behind", 6);
		assert_int_equal(recv(server, got, 1, 0), 0);
		two_nodes_hang_up(&t, client, server);
	}
}

static void test_a_reset_is_seen_while_the_far_side_takes_nothing(void **state)
{
	int client, server;
	char bytes[65536] = { 0 };
	ssize_t n;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	fcntl(client, F_SETFL, O_NONBLOCK);
	for (int quiet = 0; quiet < 20;) {
		n = send(client, bytes, sizeof(bytes), MSG_NOSIGNAL);
		quiet = n > 0 ? 0 : quiet + 1;
		nanosleep(&(struct timespec){ 0, 5 * NS_PER_MS }, NULL);
	}
	sock_reset_on_close(client);
	close(client);
	two_nodes_wait_flows(a, 0);
	while ((n = recv(server, bytes, sizeof(bytes), 0)) > 0)
		;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	close(server);
	two_nodes_wait_flows(b, 0);
}

static int unread(int fd)
{
	int count = -1;

	return ioctl(fd, SIOCINQ, &count) == 0 ? count : -1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* False: so much true time has passed that the reset need not have waited, and nothing is known. */
static bool reset_waits(void)
{
	static char bytes[1 << 16];
	size_t sum = 0, got = 0;
	int client, server, edge, left, before, few = 1 << 14;
	uint64_t closed_ns;
	bool is_known;
	ssize_t n;

	two_nodes_join(&t, B_ADDR, &client, &server);
	edge = program_edge_end(client);
	/* So that little moves at a time. */
	setsockopt(server, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
	setsockopt(program_edge_end(server), SOL_SOCKET, SO_SNDBUF, &few, sizeof(few));
	fcntl(client, F_SETFL, O_NONBLOCK);
	for (int quiet = 0; quiet < 40 || unread(edge) == 0;) {
		n = send(client, bytes, sizeof(bytes), MSG_NOSIGNAL);
		quiet = n > 0 ? 0 : quiet + 1;
		sum += n > 0 ? (size_t)n : 0;
		nanosleep(&(struct timespec){ 0, 5 * NS_PER_MS }, NULL);
	}
	assert_int_equal(ioctl(client, SIOCOUTQ, &left), 0);
	sum -= (size_t)left; /* the kernel drops these */
	before = unread(edge);
	assert_true(before > 0);
	sock_reset_on_close(client);
	closed_ns = now_ns();
	close(client);
	/* Some of what it waits for moves a while later. Then so much time passes as it waits at
	 * first. */
	nanosleep(&(struct timespec){ 0, 400 * NS_PER_MS }, NULL);
	while (unread(edge) == before && (n = recv(server, bytes, 10000, 0)) > 0) {
		got += (size_t)n;
		nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
	}
	left = unread(edge);
	two_nodes_let_pass_until(a, closed_ns + 2200 * NS_PER_MS);
	is_known = now_ns() - closed_ns < FLOW_RESET_WAIT_NS;
	while ((n = recv(server, bytes, sizeof(bytes), 0)) > 0)
		got += (size_t)n;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	if (is_known) {
		assert_true(left > 0);
		assert_int_equal(got, sum);
	}
	close(server);
	two_nodes_wait_idle(&t);
	return is_known;
}

/* As long as the far side goes on taking, a reset waits for what was said before it. */
static void test_a_reset_waits_while_the_far_side_takes(void **state)
{
	bool is_known = false;

	(void)state;
	for (int i = 0; i < 20 && !is_known; i++)
		is_known = reset_waits();
	assert_true(is_known);
}

/* Do all sockets of this process whose far end is here reset when the kernel closes them? */
static unsigned count_resetting(const struct endpoint *program)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++) {
		struct endpoint peer;
		struct linger linger;
		socklen_t len = sizeof(linger);

		if (sock_peer(fd, &peer) != 0 || !endpoint_equal(&peer, program))
			continue;
		assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
		assert_true(linger.l_onoff);
		assert_int_equal(linger.l_linger, 0);
		count++;
	}
	return count;
}

static void test_a_killed_daemon_would_reset_what_is_not_whole(void **state)
{
	int client, server;
	struct endpoint at;
	char c;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	program_say(client, server, "begun");
	assert_int_equal(sock_local(client, &at), 0);
	assert_int_equal(count_resetting(&at), 1);
	assert_int_equal(sock_local(server, &at), 0);
	assert_int_equal(count_resetting(&at), 1);
	/* The end of one direction changes nothing for the other. */
	shutdown(server, SHUT_WR);
	assert_int_equal(recv(client, &c, 1, 0), 0);
	assert_int_equal(sock_local(client, &at), 0);
	assert_int_equal(count_resetting(&at), 1);
	two_nodes_hang_up(&t, client, server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_much_data_both_ways_at_once_arrives_whole_before_the_end),
		TEST(test_half_closed_either_way_the_other_direction_goes_on),
		TEST(test_a_reset_of_either_side_is_a_reset_for_the_other),
		TEST(test_a_reset_after_the_end_is_seen_by_the_other),
		TEST(test_what_was_written_before_a_reset_arrives),
		TEST(test_unread_data_at_close_is_a_reset),
		TEST(test_what_stands_behind_urgent_data_arrives_and_then_the_end),
		TEST(test_a_reset_is_seen_while_the_far_side_takes_nothing),
		TEST(test_a_reset_waits_while_the_far_side_takes),
		TEST(test_a_killed_daemon_would_reset_what_is_not_whole),
		FIRST(test_a_killed_daemon_would_reset_what_is_not_whole),
		FIRST(test_half_closed_either_way_the_other_direction_goes_on),
		FIRST(test_a_reset_of_either_side_is_a_reset_for_the_other),
		FIRST(test_a_reset_after_the_end_is_seen_by_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
