/* Ports of programs whose dial has failed. */
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/edge/fake_stack.h"
#include "tests/unit/edge/fixture.h"

/* By which it finds out why: no other dial may be found there meanwhile. */
static void test_the_port_of_a_failed_dial_is_nobody_elses_for_a_moment(void **state)
{
	struct endpoint local, mirror;
	int fd;

	(void)state;
	assert_int_equal(shim_prepare(a, B_ADDR, FAKE_PORT_UNREACHABLE, &fd, &local, &mirror), 0);
	program_connect(fd, &mirror);
	two_nodes_wait_flows(a, 0);
	/* The kernel has forgotten it, and the program may have closed its socket. */
	assert_true(sock_is_bound(&local, SOCK_STREAM));
	close(fd);
	assert_true(sock_is_bound(&local, SOCK_STREAM));
	two_nodes_let_pass(a, 2);
	assert_false(sock_is_bound(&local, SOCK_STREAM));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_port_of_a_failed_dial_is_nobody_elses_for_a_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
