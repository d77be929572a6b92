/*
 * How many system calls a short connection costs both edges: their thread's are counted, by the
 * linker's --wrap.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/edge/fixture.h"

#define CONNECTIONS 20

static atomic_uint accepts, names, questions;

static bool is_edges(void)
{
	return t.is_running && pthread_equal(pthread_self(), t.thread);
}

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __real_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

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

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	questions += is_edges();
	return __real_getsockopt(fd, level, name, value, len);
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

static sem_t is_stalled, may_go_on;

static void stall(void *arg)
{
	(void)arg;
	sem_post(&is_stalled);
	while (sem_wait(&may_go_on) != 0)
		;
}

static void *stall_loop(void *arg)
{
	two_nodes_call(&t, stall, NULL);
	return arg;
}

/* No event is needed for it, after which the socket would be asked for its error, too. */
static void test_what_a_program_says_at_once_is_read_when_it_is_met(void **state)
{
	struct endpoint any = sock_endpoint(0, 0), local, mirror;
	uint16_t port;
	int listener = program_listen(&any, &port), client, server;
	char heard[5];
	pthread_t thread;

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, port, &client, &local, &mirror), 0);
	sem_init(&is_stalled, 0, 0);
	sem_init(&may_go_on, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, stall_loop, NULL), 0);
	while (sem_wait(&is_stalled) != 0)
		;
	assert_int_equal(sock_connect(client, &mirror), 0);
	program_send(client, "early", 5);
	questions = 0;
	sem_post(&may_go_on);
	assert_int_equal(pthread_join(thread, NULL), 0);
	server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	program_limit(server);
	assert_int_equal(program_receive(server, heard, sizeof(heard)), sizeof(heard));
	assert_memory_equal(heard, "early", sizeof(heard));
	assert_int_equal(questions, 0);
	close(listener);
	two_nodes_hang_up(&t, client, server);
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
		FIRST(test_what_a_program_says_at_once_is_read_when_it_is_met),
		TEST(test_only_a_stream_that_was_full_is_told_of_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
