/*
 * Fail closed: without a daemon, with one that knows nothing yet, and with one
 * that is killed, mesh addresses fail at once and everything else works.
 *
 * argv[1]: none | empty | killed
 */
#include "tests/shim/harness.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/util.h"

#define GOES       5
#define AT_ONCE_MS 50   /* for all of the calls */
#define TIMEOUT_MS 2000 /* somebody waited for one, the first time at least */

/* With a map that is dead, other nodes are unreachable; our own address is only loopback. */
static bool own_works;

/* How long the calls took. */
static uint64_t try_all(int stream, int datagram, struct harness_addr *to)
{
	struct mmsghdr m = { .msg_hdr.msg_name = to, .msg_hdr.msg_namelen = to->len };
	uint64_t start = now_ms();

	assert_int_equal(connect(stream, sa(to), to->len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(sendto(datagram, "x", 1, 0, sa(to), to->len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(sendmsg(datagram, &m.msg_hdr, 0), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(sendmmsg(datagram, &m, 1, 0), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(connect(datagram, sa(to), to->len), -1);
	assert_int_equal(errno, ENETUNREACH);
	return now_ms() - start;
}

static void assert_mesh_is_closed(int family, const char *ip)
{
	struct harness_addr to = at(family, ip, 20000);
	int stream = new_socket(family, SOCK_STREAM), datagram = new_socket(family, SOCK_DGRAM);
	uint64_t quickest = UINT64_MAX;

	/* Others may have the processor once; a time-out is in every go. */
	for (unsigned i = 0; i < GOES && quickest > AT_ONCE_MS; i++) {
		uint64_t took = try_all(stream, datagram, &to);

		assert_in_range(took, 0, TIMEOUT_MS);
		quickest = MIN(quickest, took);
	}
	assert_in_range(quickest, 0, AT_ONCE_MS);
	to = at(family, ip, 0);
	assert_int_equal(bind(stream, sa(&to), to.len), -1);
	assert_int_equal(errno, EADDRNOTAVAIL);
	close(stream);
	close(datagram);
}

static void test_peers_fail_at_once(void **state)
{
	(void)state;
	assert_mesh_is_closed(AF_INET, PEER_V4);
	assert_mesh_is_closed(AF_INET6, PEER_V4);
	assert_mesh_is_closed(AF_INET6, PEER_V6);
	assert_mesh_is_closed(AF_INET, NOWHERE_V4);
}

static void test_our_own_address_is_as_closed_as_it_must_be(void **state)
{
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	if (!own_works) {
		assert_mesh_is_closed(AF_INET, SELF_V4);
	} else {
		assert_int_equal(bind(fd, sa(&own), own.len), 0);
		assert_string_equal(local_ip(fd), SELF_V4);
	}
	close(fd);
}

static void test_other_traffic_is_untouched(void **state)
{
	int server = new_socket(AF_INET, SOCK_STREAM), client = new_socket(AF_INET, SOCK_STREAM);
	struct harness_addr lo = at(AF_INET, "127.0.0.1", 0);

	(void)state;
	assert_int_equal(bind(server, sa(&lo), lo.len), 0);
	assert_int_equal(listen(server, 1), 0);
	lo = at(AF_INET, "127.0.0.1", local_port(server));
	assert_int_equal(connect(client, sa(&lo), lo.len), 0);
	assert_string_equal(peer_ip(client), "127.0.0.1");
	close(client);
	close(server);
}

static void test_names_stay_known(void **state)
{
	struct addrinfo hints = { .ai_family = AF_INET }, *list;

	(void)state;
	if (harness_is_traced())
		skip(); /* these are libc's names */
	if (!own_works)
		return;
	assert_int_equal(getaddrinfo("node-b", NULL, &hints, &list), 0);
	freeaddrinfo(list);
}

/* All its files are closed when it is a zombie. */
static bool is_running(pid_t pid)
{
	char path[32], state = 'Z';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	if (f)
		fclose(f);
	return state != 'Z' && state != 'X';
}

static int kill_daemon(void **state)
{
	unsigned pid, none;

	(void)state;
	read_numbers(FILE_PID, &pid, &none);
	kill((pid_t)pid, SIGKILL);
	for (unsigned i = 0; i < 1000 && is_running((pid_t)pid); i++)
		usleep(10000);
	return is_running((pid_t)pid) ? -1 : 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peers_fail_at_once),
		cmocka_unit_test(test_our_own_address_is_as_closed_as_it_must_be),
		cmocka_unit_test(test_other_traffic_is_untouched),
		cmocka_unit_test(test_names_stay_known),
	};
	const char *how = argc > 1 ? argv[1] : "none";

	if (strcmp(how, "killed") == 0) {
		own_works = true;
		harness_enter(argv, HARNESS_DAEMON);
		return cmocka_run_group_tests(tests, kill_daemon, NULL);
	}
	harness_enter(argv, strcmp(how, "empty") == 0 ? HARNESS_NO_MESH : HARNESS_NO_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
