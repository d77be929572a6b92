/*
 * How many system calls a short connection costs both edges: their thread's are counted, by the
 * linker's --wrap.
 */
#include <stdatomic.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_short_connection_takes_few_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
