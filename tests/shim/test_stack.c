/*
 * Threads with the smallest stack: what the shim does in a call leaves them room, as libc's
 * own does; a signal may come in the middle, whose frame is some kilobytes.
 */
#include "tests/shim/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/util.h"

#define STACK_BYTES  MAX((size_t)PTHREAD_STACK_MIN, (size_t)16384) /* musl's is 2 KiB */
#define SIGNAL_BYTES 4096 /* with all registers of x86-64, and a handler */
#define UNTOUCHED    0xa5
#define MESSAGES     64

static char *no_words[] = { "true", NULL };
extern char **environ;

static void connect_to(uint16_t port, int flags)
{
	struct harness_addr to = at(AF_INET, PEER_V4, port);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	fcntl(fd, F_SETFL, flags);
	(void)!connect(fd, sa(&to), to.len);
	poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, -1);
	so_error(fd);
	local_text(fd);
	peer_text(fd);
	close(fd);
}

static void do_connect(void)
{
	connect_to(PORT_ECHO, 0);
	connect_to(PORT_REFUSE + ECONNREFUSED, 0);
	connect_to(PORT_ECHO, O_NONBLOCK);
}

static void do_accept(void)
{
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int listener = new_socket(AF_INET, SOCK_STREAM), client = new_socket(AF_INET, SOCK_STREAM);

	(void)!bind(listener, sa(&own), own.len);
	(void)!listen(listener, 1);
	(void)!getsockname(listener, sa(&own), &own.len);
	(void)!connect(client, sa(&own), own.len);
	close(accept(listener, sa(&own), &own.len));
	close(client);
	close(listener);
}

static void do_send(void)
{
	struct harness_addr to = at(AF_INET, NODE_C_V4, 4000);
	int fd = new_socket(AF_INET, SOCK_DGRAM);

	(void)!sendto(fd, "x", 1, 0, sa(&to), to.len);
	(void)!recvfrom(fd, NULL, 0, MSG_DONTWAIT, sa(&to), &to.len);
	close(fd);
}

static void do_send_many(void)
{
	static struct harness_addr to[MESSAGES];
	static struct mmsghdr messages[MESSAGES];
	int fd = new_socket(AF_INET, SOCK_DGRAM);

	for (int i = 0; i < MESSAGES; i++) {
		to[i] = at(AF_INET, NODE_C_V4, 4000);
		messages[i].msg_hdr =
			(struct msghdr){ .msg_name = &to[i], .msg_namelen = to[i].len };
	}
	(void)!sendmmsg(fd, messages, MESSAGES, 0);
	(void)!recvmmsg(fd, messages, MESSAGES, MSG_DONTWAIT, NULL);
	close(fd);
}

static void do_list_interfaces(void)
{
	struct ifaddrs *list;

	if (getifaddrs(&list) == 0)
		freeifaddrs(list);
}

static void do_exec(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execvp(no_words[0], no_words);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void do_spawn(void)
{
	pid_t pid;

	if (posix_spawnp(&pid, no_words[0], NULL, NULL, no_words, environ) == 0)
		waitpid(pid, NULL, 0);
}

static void *run(void *call)
{
	void (**function)(void) = call;

	(*function)();
	return NULL;
}

/* Bytes of a thread's stack that were not needed. */
static size_t left_by(void (*call)(void))
{
	unsigned char *stack =
		mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;
	size_t left = 0;

	assert_ptr_not_equal(stack, MAP_FAILED);
	memset(stack, UNTOUCHED, STACK_BYTES);
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, stack, STACK_BYTES), 0);
	assert_int_equal(pthread_create(&thread, &attr, run, &call), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (left < STACK_BYTES && stack[left] == UNTOUCHED)
		left++;
	munmap(stack, STACK_BYTES);
	return left;
}

static void test_every_call_leaves_room_for_a_signal(void **state)
{
	static const struct {
		const char *name;
		void (*call)(void);
	} calls[] = {
		{ "connect", do_connect },
		{ "accept", do_accept },
		{ "sendto", do_send },
		{ "sendmmsg", do_send_many },
		{ "getifaddrs", do_list_interfaces },
		{ "execvp", do_exec },
		{ "posix_spawnp", do_spawn },
	};
	size_t left;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		left = left_by(calls[i].call);
		if (left < SIGNAL_BYTES)
			fail_msg("%s leaves %zu of %zu bytes", calls[i].name, left, STACK_BYTES);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_call_leaves_room_for_a_signal),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
