/* Whose a socket is, where the kernel's table cannot be asked and /proc has to tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/proxy/proxy.c"

static int bound(int type, uint32_t addr, struct endpoint *at)
{
	int fd;

	*at = sock_endpoint(addr, 0);
	fd = sock_open(at, type);
	assert_true(fd >= 0);
	assert_int_equal(sock_bind(fd, at), 0);
	assert_int_equal(sock_local(fd, at), 0);
	at->addr = ip_from_v4(INADDR_LOOPBACK);
	return fd;
}

static void expect_ours(int type, const struct endpoint *theirs, const struct endpoint *ours)
{
	uid_t uid = (uid_t)-1;

	assert_int_equal(proc_owner(type, theirs, ours, &uid), 0);
	assert_int_equal(uid, geteuid());
	/* The table says the same, and so it does where it has to be read. */
	assert_true(proxy_may_use(&(struct proxy){ .socket_table = -1 }, type, theirs, ours));
}

static void test_who_connected_is_told(void **state)
{
	struct endpoint server_at, client_at;
	int server = bound(SOCK_STREAM, INADDR_LOOPBACK, &server_at),
	    client = bound(SOCK_STREAM, INADDR_LOOPBACK, &client_at);
	uid_t uid;

	(void)state;
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(proc_owner(SOCK_STREAM, &client_at, &server_at, &uid), -ENOENT);
	assert_true(sock_connect(client, &server_at) <= 0);
	expect_ours(SOCK_STREAM, &client_at, &server_at);
	close(client);
	close(server);
}

static void test_who_sends_datagrams_is_told(void **state)
{
	static const uint32_t addr[] = { INADDR_LOOPBACK, INADDR_ANY };
	struct endpoint server_at, client_at, other_at;
	int server = bound(SOCK_DGRAM, INADDR_LOOPBACK, &server_at),
	    other = bound(SOCK_DGRAM, INADDR_LOOPBACK, &other_at);
	uid_t uid;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addr); i++) {
		int client = bound(SOCK_DGRAM, addr[i], &client_at);

		expect_ours(SOCK_DGRAM, &client_at, &server_at);
		assert_int_equal(sock_connect(client, &server_at), 0);
		expect_ours(SOCK_DGRAM, &client_at, &server_at);
		/* Connected to somebody else, it is not the sender. */
		assert_int_equal(sock_connect(client, &other_at), 0);
		assert_int_equal(proc_owner(SOCK_DGRAM, &client_at, &server_at, &uid), -ENOENT);
		close(client);
		assert_int_equal(proc_owner(SOCK_DGRAM, &client_at, &server_at, &uid), -ENOENT);
	}
	close(other);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_connected_is_told),
		cmocka_unit_test(test_who_sends_datagrams_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
