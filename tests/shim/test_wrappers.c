/*
 * Programs that have functions of libc's names themselves, over libc's syscall(), as those do
 * that bring what an old libc lacked.
 */
#include "tests/shim/harness.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int connects;

/* Written so since libc's headers declare them with types that only gcc lets one redefine. */
int own_connect(int fd, const struct sockaddr *addr, socklen_t len) __asm__("connect");
int own_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	connects++;
	return (int)syscall(SYS_connect, fd, addr, len);
}

static void test_one_over_a_system_call_reaches_the_mesh(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	connects = 0;
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_int_equal(connects, 1);
	assert_string_equal(peer_ip(fd), PEER_V4);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_over_a_system_call_reaches_the_mesh),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
