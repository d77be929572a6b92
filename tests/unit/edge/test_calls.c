/*
 * How many system calls a short connection costs both edges: their thread's are counted, by the
 * linker's --wrap.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/edge/fixture.h"

#define CONNECTIONS 20

static atomic_uint accepts, names;

static bool is_edges(void)
{
	return t.is_running && pthread_equal(pthread_self(), t.thread);
}

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __real_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len);

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	accepts += is_edges();
	return __real_accept4(fd, addr, len, flags);
}

int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	names += is_edges();
	return __real_getsockname(fd, addr, len);
}

/* A question, its answer, and the end, one connection after the other. */
static void test_a_short_connection_takes_few_calls(void **state)
{
	int client, server;

	(void)state;
	accepts = names = 0; /* those of the start */
	for (int i = 0; i < CONNECTIONS; i++) {
		two_nodes_join(&t, B_ADDR, &client, &server);
		program_say(client, server, "question");
		program_say(server, client, "answer");
		two_nodes_hang_up(&t, client, server);
	}
	/* One that says that nobody waits follows at most on two that came close together. */
	assert_in_range(accepts, CONNECTIONS, CONNECTIONS + CONNECTIONS / 2);
	assert_int_equal(names, 0);
}

/* What the edges' epoll tells of the descriptor. */
static unsigned watched(int fd)
{
	unsigned events = 0, seen;
	char path[64], line[128];
	int target;

	for (int epoll = 0; epoll < 1024; epoll++) {
		FILE *info;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
		info = fopen(path, "re");
		while (info && fgets(line, sizeof(line), info))
			if (sscanf(line, "tfd: %d events: %x", &target, &seen) == 2 && target == fd)
				events |= seen;
		if (info)
			fclose(info);
	}
	return events;
}

static void test_only_a_stream_that_was_full_is_told_of_room(void **state)
{
	int client, server, near;
	struct big big;
	pthread_t sender;

	(void)state;
	two_nodes_join(&t, B_ADDR, &client, &server);
	near = program_edge_end(client);
	program_say(server, client, "little");
	assert_int_equal(watched(near) & (EPOLLIN | EPOLLOUT), EPOLLIN);
	big = (struct big){ server, 7 };
	assert_int_equal(pthread_create(&sender, NULL, program_send_big, &big), 0);
	for (int i = 0; i < 20000 && !(watched(near) & EPOLLOUT); i++)
		usleep(1000);
	assert_int_equal(watched(near) & (EPOLLIN | EPOLLOUT), EPOLLIN | EPOLLOUT);
	program_expect_big(client, 7);
	assert_int_equal(pthread_join(sender, NULL), 0);
	two_nodes_hang_up(&t, client, server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_short_connection_takes_few_calls),
		TEST(test_only_a_stream_that_was_full_is_told_of_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
