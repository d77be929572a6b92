/* Ports of our own, claims on 127/8, the runtime folder, orphans. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cmocka.h>

#include "daemon/edge/claims.h"
#include "daemon/edge/folder.h"
#include "daemon/edge/hold.h"
#include "daemon/edge/sock.h"
#include "daemon/edge/socktable.h"
#include "shared/util.h"

static void expect_range(const char *text, unsigned first, unsigned last)
{
	struct port_range range = port_range_beside(text);

	assert_int_equal(range.first, first);
	assert_int_equal(range.last, last);
}

static void test_our_ports_lie_beside_the_kernels(void **state)
{
	(void)state;
	expect_range("32768\t60999\n", 61000, 65535);
	expect_range("1024\t65535\n", 61000, 65535);
	expect_range("20000 65535", 11808, 19999);
	expect_range("3000 65000", 1024, 2999);
	expect_range("nonsense", 61000, 65535);
	expect_range("9 5", 61000, 65535);
	expect_range("1 99999", 61000, 65535);
	expect_range(NULL, 61000, 65535);
}

static void test_ports_begin_again_after_the_last(void **state)
{
	struct port_range range = { 65534, 65535 };

	(void)state;
	assert_int_equal(port_range_at(&range, 0), 65534);
	assert_int_equal(port_range_at(&range, 1), 65535);
	assert_int_equal(port_range_at(&range, 2), 65534);
	range = port_range_read();
	assert_true(range.first < range.last);
}

static void test_a_block_belongs_to_one_daemon_until_it_is_given_back(void **state)
{
	struct claims one, other;
	unsigned block = CLAIMS_LAST;

	(void)state;
	claims_init(&one);
	claims_init(&other);
	while (block > 200 && claims_take(&one, block) != 0)
		block--;
	assert_int_equal(claims_take(&one, block), 0);
	assert_int_equal(claims_take(&other, block), -EADDRINUSE);
	claims_give_back(&one, block);
	assert_int_equal(claims_take(&other, block), 0);
	claims_finish(&other);
	assert_int_equal(claims_take(&one, block), 0);
	claims_finish(&one);
}

static void test_a_bound_port_is_seen_as_such(void **state)
{
	struct endpoint at = sock_endpoint(INADDR_LOOPBACK, 0);
	int fd = sock_open(&at, SOCK_STREAM);

	(void)state;
	assert_int_equal(sock_bind(fd, &at), 0);
	assert_int_equal(sock_local(fd, &at), 0);
	assert_true(sock_is_bound(&at, SOCK_STREAM));
	close(fd);
	assert_false(sock_is_bound(&at, SOCK_STREAM));
}

static void test_an_orphan_is_told_from_a_half_closed_socket(void **state)
{
	struct endpoint at = sock_endpoint(INADDR_LOOPBACK, 0), theirs, ours;
	int client, server, listener = sock_open(&at, SOCK_STREAM), table = socktable_open();

	(void)state;
	assert_int_equal(sock_bind(listener, &at), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(sock_local(listener, &ours), 0);
	client = sock_open(&at, SOCK_STREAM);
	assert_int_equal(sock_connect(client, &ours), 0);
	assert_int_equal(sock_local(client, &theirs), 0);
	server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	assert_true(table >= 0);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_HELD);
	shutdown(client, SHUT_WR);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_HELD);
	close(client);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_ORPHAN);
	assert_int_equal(socktable_life(-1, &theirs, &ours), SOCK_UNKNOWN);
	sock_reset_on_close(server);
	close(server);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_NONE);
	ip_parse("::1", &theirs.addr);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_UNKNOWN);
	close(table);
	close(listener);
}

static void test_the_table_tells_the_same_of_ipv6_and_nothing_of_other_hosts(void **state)
{
	struct endpoint ours = { .port = 0 }, theirs;
	int listener, server, client, table = socktable_open();

	(void)state;
	assert_int_equal(ip_parse("::1", &ours.addr), 0);
	listener = sock_open(&ours, SOCK_STREAM);
	assert_int_equal(sock_bind(listener, &ours), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(sock_local(listener, &ours), 0);
	client = sock_open(&ours, SOCK_STREAM);
	assert_int_equal(sock_connect(client, &ours), 0);
	assert_int_equal(sock_local(client, &theirs), 0);
	server = accept(listener, NULL, NULL);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_HELD);
	close(client);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_ORPHAN);
	sock_reset_on_close(server);
	close(server);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_NONE);
	/* A client of the proxy may be one. */
	ours = sock_endpoint(INADDR_LOOPBACK, 1);
	assert_int_equal(ip_parse("192.0.2.1", &theirs.addr), 0);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_UNKNOWN);
	assert_int_equal(ip_parse("2001:db8::1", &ours.addr), 0);
	assert_int_equal(ip_parse("2001:db8::2", &theirs.addr), 0);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_UNKNOWN);
	close(table);
	close(listener);
}

/* The kernel finds it where there is no such connection. */
static void test_a_listener_at_the_same_port_is_not_the_other_end(void **state)
{
	struct endpoint theirs = sock_endpoint(INADDR_LOOPBACK, 0), ours;
	int listener = sock_open(&theirs, SOCK_STREAM), table = socktable_open();
	uid_t uid;

	(void)state;
	assert_int_equal(sock_bind(listener, &theirs), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(sock_local(listener, &theirs), 0);
	ours = sock_endpoint(INADDR_LOOPBACK + 1, 1);
	assert_int_equal(socktable_taker(table, SOCK_STREAM, &theirs), TAKER_SPECIFIC);
	assert_int_equal(socktable_life(table, &theirs, &ours), SOCK_NONE);
	assert_int_equal(socktable_owner(table, SOCK_STREAM, &theirs, &ours, &uid), -ENOENT);
	close(table);
	close(listener);
}

/* A program's socket, ready for flows. */
static int bound_at(struct endpoint *at, int family, int type, int v6only)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(at, family, &ss);
	int fd = socket(family, type, 0);

	assert_true(fd >= 0);
	if (family == AF_INET6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)),
				 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(sock_local(fd, at), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static struct endpoint text_endpoint(const char *text, uint16_t port)
{
	struct endpoint ep = { .port = port };

	assert_int_equal(ip_parse(text, &ep.addr), 0);
	return ep;
}

static void test_the_table_knows_who_takes_a_new_flow(void **state)
{
	static const struct {
		const char *bound, *asked;
		int family, v6only;
		enum sock_taker expected;
	} c[] = {
		{ "::", "::1", AF_INET6, 1, TAKER_ANY6 },
		{ "::", "::1", AF_INET6, 0, TAKER_ANY },
		{ "::", "127.0.0.9", AF_INET6, 0, TAKER_ANY },
		{ "::", "127.0.0.9", AF_INET6, 1, TAKER_NONE },
		{ "::1", "::1", AF_INET6, 1, TAKER_SPECIFIC },
		{ "127.0.0.9", "127.0.0.9", AF_INET6, 0, TAKER_SPECIFIC },
		{ "127.0.0.9", "127.0.0.9", AF_INET, 0, TAKER_SPECIFIC },
		{ "127.0.0.8", "127.0.0.9", AF_INET, 0, TAKER_NONE },
		{ "0.0.0.0", "127.0.0.9", AF_INET, 0, TAKER_ANY },
		{ "0.0.0.0", "::1", AF_INET, 0, TAKER_NONE },
	};
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	int table = socktable_open();

	(void)state;
	assert_true(table >= 0);
	for (size_t i = 0; i < sizeof(c) / sizeof(*c) * 2; i++) {
		int type = types[i % 2];
		struct endpoint at = text_endpoint(c[i / 2].bound, 0), asked;
		int fd = bound_at(&at, c[i / 2].family, type, c[i / 2].v6only);

		asked = text_endpoint(c[i / 2].asked, at.port);
		assert_int_equal(socktable_taker(table, type, &asked), c[i / 2].expected);
		assert_int_equal(socktable_taker(-1, type, &asked), TAKER_NONE);
		close(fd);
		assert_int_equal(socktable_taker(table, type, &asked), TAKER_NONE);
	}
	close(table);
}

static void test_a_connected_socket_takes_no_new_flow(void **state)
{
	struct endpoint at = text_endpoint("::1", 0), far = text_endpoint("::1", 9);
	int table = socktable_open(), fd = bound_at(&at, AF_INET6, SOCK_DGRAM, 1);

	(void)state;
	assert_int_equal(socktable_taker(table, SOCK_DGRAM, &at), TAKER_SPECIFIC);
	assert_int_equal(sock_connect(fd, &far), 0);
	assert_int_equal(socktable_taker(table, SOCK_DGRAM, &at), TAKER_NONE);
	close(fd);
	close(table);
}

static void test_the_hold_port_falls_back_where_it_is_told_to(void **state)
{
	struct port_range range = port_range_read();
	struct hold hold;

	(void)state;
	assert_int_equal(hold_open(&hold, &range, 0, true), 0);
	assert_false(hold.works);
	assert_string_equal(hold.why, "switched off");
	hold_close(&hold);
	assert_int_equal(hold_open(&hold, &range, 0, false), 0);
	assert_true(hold.works);
	assert_null(hold.why);
	hold_close(&hold);
}

/* As Linux before 5.7 does it for all without CAP_NET_RAW; for this process, from now on. */
static bool forbid_binding_to_devices(void)
{
	struct sock_filter refuse[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_BINDTODEVICE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_LEN(refuse), refuse };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* 0, or the step that went wrong. */
static int dial_first_without_devices(void)
{
	struct port_range range = port_range_read();
	struct endpoint at;
	struct hold hold;
	int fd;

	if (!forbid_binding_to_devices())
		return 1;
	if (hold_open(&hold, &range, 0, false) != 0)
		return 2;
	if (hold.works)
		return 3;
	at = sock_endpoint(0x7f400002, hold.port);
	fd = sock_open(&at, SOCK_STREAM);
	return sock_connect(fd, &at) == 0 && accept(hold.listener, NULL, NULL) >= 0 ? 0 : 4;
}

static void test_who_may_not_tie_sockets_to_lo_dials_first(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(dial_first_without_devices());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Keeps the kernel busy with what comes over lo, so that it puts some of it off. */
static void flood_lo(void)
{
	struct endpoint at = sock_endpoint(INADDR_LOOPBACK, 0);
	char datagram[1000] = { 0 };
	int fd = sock_open(&at, SOCK_DGRAM);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sock_bind(fd, &at) != 0 || sock_local(fd, &at) != 0 || sock_connect(fd, &at) != 0)
		_exit(1);
	for (;;)
		(void)send(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
}

static void test_hold_works_on_a_busy_machine(void **state)
{
	struct port_range range = port_range_read();
	pid_t flood[4];
	int held = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(flood); i++) {
		flood[i] = fork();
		if (flood[i] == 0)
			flood_lo();
		assert_true(flood[i] > 0);
	}
	for (int i = 0; i < 20; i++) {
		struct hold hold;

		assert_int_equal(hold_open(&hold, &range, 0, false), 0);
		if (hold.works)
			held++;
		else
			print_message("%s\n", hold.why);
		hold_close(&hold);
	}
	for (size_t i = 0; i < ARRAY_LEN(flood); i++) {
		kill(flood[i], SIGKILL);
		waitpid(flood[i], NULL, 0);
	}
	assert_int_equal(held, 20);
}

/* The first of so many ports in a row that nobody has, above those the kernel gives out. */
static uint16_t free_ports(unsigned count)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		uint16_t first = (uint16_t)(61001 + ((unsigned)getpid() * 3 + tries) % 4000);
		unsigned found = 0;

		for (; found < count; found++) {
			struct endpoint at = sock_endpoint(0, (uint16_t)(first + found));
			int fd = sock_open(&at, SOCK_STREAM), err = sock_bind(fd, &at);

			close(fd);
			if (err != 0)
				break;
		}
		if (found == count)
			return first;
	}
	fail_msg("there are no free ports");
	return 0;
}

static void test_the_predecessors_hold_port_is_avoided(void **state)
{
	uint16_t first = free_ports(2);
	struct port_range range = { first, (uint16_t)(first + 1) };
	struct hold hold;

	(void)state;
	for (int i = 0; i < 8; i++) {
		assert_int_equal(hold_open(&hold, &range, first, false), 0);
		assert_int_equal(hold.port, first + 1);
		hold_close(&hold);
	}
}

static void test_a_hold_port_is_not_shared_with_another_daemon(void **state)
{
	uint16_t port = free_ports(1);
	struct port_range range = { port, port };
	struct hold one, other;

	(void)state;
	assert_int_equal(hold_open(&one, &range, 0, false), 0);
	assert_int_equal(hold_open(&other, &range, 0, false), -EADDRINUSE);
	hold_close(&other);
	hold_close(&one);
}

static void test_one_daemon_a_folder(void **state)
{
	char dir[] = "/tmp/meshwrap-test-XXXXXX", lock[64], error[256];
	int fd, other;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(folder_lock(dir, false, &fd, error), 0);
	assert_int_equal(folder_lock(dir, false, &other, error), -EEXIST);
	assert_non_null(strstr(error, "already runs"));
	close(fd);
	assert_int_equal(folder_lock(dir, true, &fd, error), 0);
	close(fd);
	snprintf(lock, sizeof(lock), "%s/lock", dir);
	unlink(lock);
	assert_int_equal(symlink("/etc/passwd", lock), 0);
	assert_int_equal(folder_lock(dir, false, &fd, error), -ELOOP);
	unlink(lock);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(folder_lock(dir, false, &fd, error), -EPERM);
	assert_non_null(strstr(error, "choose another with --dir"));
	rmdir(dir);
	assert_int_equal(folder_lock("/nowhere/at/all", false, &fd, error), -ENOENT);
}

static void test_a_dead_daemons_socket_is_replaced(void **state)
{
	char dir[] = "/tmp/meshwrap-test-XXXXXX", path[64];
	struct stat st;
	int first, second;

	(void)state;
	assert_non_null(mkdtemp(dir));
	first = folder_listen(dir, "control", SOCK_SEQPACKET, false);
	assert_true(first >= 0);
	close(first);
	second = folder_listen(dir, "control", SOCK_SEQPACKET, true);
	assert_true(second >= 0);
	snprintf(path, sizeof(path), "%s/control", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	close(second);
	unlink(path);
	rmdir(dir);
	assert_int_equal(folder_listen(dir, "control", SOCK_SEQPACKET, false), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_our_ports_lie_beside_the_kernels),
		cmocka_unit_test(test_ports_begin_again_after_the_last),
		cmocka_unit_test(test_a_block_belongs_to_one_daemon_until_it_is_given_back),
		cmocka_unit_test(test_a_bound_port_is_seen_as_such),
		cmocka_unit_test(test_an_orphan_is_told_from_a_half_closed_socket),
		cmocka_unit_test(test_the_table_tells_the_same_of_ipv6_and_nothing_of_other_hosts),
		cmocka_unit_test(test_a_listener_at_the_same_port_is_not_the_other_end),
		cmocka_unit_test(test_the_table_knows_who_takes_a_new_flow),
		cmocka_unit_test(test_a_connected_socket_takes_no_new_flow),
		cmocka_unit_test(test_the_hold_port_falls_back_where_it_is_told_to),
		cmocka_unit_test(test_who_may_not_tie_sockets_to_lo_dials_first),
		cmocka_unit_test(test_hold_works_on_a_busy_machine),
		cmocka_unit_test(test_the_predecessors_hold_port_is_avoided),
		cmocka_unit_test(test_a_hold_port_is_not_shared_with_another_daemon),
		cmocka_unit_test(test_one_daemon_a_folder),
		cmocka_unit_test(test_a_dead_daemons_socket_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
