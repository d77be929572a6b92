/*
 * A socket whose only reference is a message in flight (SCM_RIGHTS) lives on without a descriptor,
 * tells epoll of its events, and ends with the process that holds the socket pair.
 */
#include "tests/facts/fact.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MANY 8

union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(MANY * sizeof(int))];
};

static void send_fds(int to, const int *fds, unsigned count)
{
	union control control = { 0 };
	struct iovec data = { "", 1 };
	struct msghdr msg = { .msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	assert_int_equal(sendmsg(to, &msg, 0), 1);
}

static unsigned look(int from, int fds[MANY], bool *was_cut)
{
	union control control;
	char byte;
	struct iovec data = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	unsigned count = 0;

	assert_int_equal(recvmsg(from, &msg, MSG_PEEK), 1);
	*was_cut = msg.msg_flags & MSG_CTRUNC;
	c = CMSG_FIRSTHDR(&msg);
	if (c) {
		count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	}
	return count;
}

/* Two ends of a connection on loopback; closing ours resets. */
static void connect_pair(int *ours, int *theirs)
{
	const struct linger reset = { 1, 0 };
	int listener = open_socket(AF_INET, SOCK_STREAM);

	assert_int_equal(bind_name(listener, "127.0.0.1", 0), 0);
	assert_int_equal(listen(listener, 1), 0);
	*ours = open_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(connect_name(*ours, "127.0.0.1", port_of(listener)), 0);
	assert_int_equal(setsockopt(*ours, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	*theirs = accept(listener, NULL, NULL);
	assert_true(*theirs >= 0);
	close(listener);
}

static void assert_reset(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void test_its_events_are_told_under_the_number_it_was_registered_with(void **state)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
				     .data.u64 = 42 };
	int epoll = epoll_create1(EPOLL_CLOEXEC), seat = dup(epoll), pair[2], ours, theirs,
	    fds[MANY];
	bool was_cut;
	char c;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	connect_pair(&ours, &theirs);
	assert_int_equal(dup2(ours, seat), seat);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, seat, &event), 0);
	send_fds(pair[0], &ours, 1);
	close(ours);
	/* Another file has the number now. */
	assert_int_equal(dup2(epoll, seat), seat);
	assert_int_equal(epoll_wait(epoll, &event, 1, 0), 0);
	assert_int_equal(send(theirs, "x", 1, 0), 1);
	assert_int_equal(epoll_wait(epoll, &event, 1, 1000), 1);
	assert_int_equal(event.data.u64, 42);
	assert_int_equal(look(pair[1], fds, &was_cut), 1);
	assert_int_equal(dup2(fds[0], seat), seat);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_DEL, seat, NULL), 0);
	assert_int_equal(dup2(epoll, seat), seat);
	assert_int_equal(recv(pair[1], &c, 1, 0), 1); /* drops the message's own reference */
	assert_int_equal(recv(fds[0], &c, 1, 0), 1);
	close(fds[0]);
	assert_reset(theirs);
	close(theirs);
	close(pair[0]);
	close(pair[1]);
	close(seat);
	close(epoll);
}

static void test_looking_without_enough_descriptors_loses_nothing(void **state)
{
	struct rlimit limit, low;
	int pair[2], fds[MANY], highest;
	bool was_cut;
	unsigned count;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	for (int i = 0; i < MANY; i++)
		fds[i] = dup(0);
	send_fds(pair[0], fds, MANY);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	highest = dup(0);
	close(highest);
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = (rlim_t)highest + MANY / 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	count = look(pair[1], fds, &was_cut);
	assert_true(was_cut && count < MANY);
	while (count > 0)
		close(fds[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(look(pair[1], fds, &was_cut), MANY);
	assert_false(was_cut);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
	close(pair[0]);
	close(pair[1]);
}

static void hold_and_wait(int ours, int theirs, int ready)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	send_fds(pair[0], &ours, 1);
	close(ours);
	close(theirs);
	if (write(ready, "1", 1) == 1)
		pause();
	_exit(1);
}

static void test_when_its_holder_is_killed_it_is_closed(void **state)
{
	int pipes[2], ours, theirs;
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	connect_pair(&ours, &theirs);
	pid = fork();
	if (pid == 0)
		hold_and_wait(ours, theirs, pipes[1]);
	close(ours);
	assert_int_equal(read(pipes[0], &c, 1), 1);
	assert_int_equal(recv(theirs, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_reset(theirs);
	close(theirs);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_its_events_are_told_under_the_number_it_was_registered_with),
		cmocka_unit_test(test_looking_without_enough_descriptors_loses_nothing),
		cmocka_unit_test(test_when_its_holder_is_killed_it_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
