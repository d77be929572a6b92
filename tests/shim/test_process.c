/*
 * The shim among threads, signals, forks and execs: it keeps nothing, so there
 * is nothing that could be lost, leaked or locked.
 */
#include "tests/shim/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/util.h"

static int dial(int fd, uint16_t port)
{
	struct harness_addr to = at(AF_INET, PEER_V4, port);

	return connect(fd, sa(&to), to.len);
}

static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void test_no_descriptor_is_kept(void **state)
{
	int before = open_descriptors(), fd;

	(void)state;
	for (int i = 0; i < 20; i++) {
		fd = new_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(dial(fd, i % 2 ? PORT_ECHO : PORT_REFUSE + EHOSTUNREACH),
				 i % 2 ? 0 : -1);
		close(fd);
	}
	assert_int_equal(open_descriptors(), before);
}

static void test_it_works_with_every_descriptor_closed(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		syscall(SYS_close_range, 0, ~0u, 0);
		_exit(dial(socket(AF_INET, SOCK_STREAM, 0), PORT_ECHO) == 0 ? 0 : errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* To its last descriptor a program may connect it, as the kernel has it; its children are its own.
 */
static void test_it_works_without_a_free_descriptor(void **state)
{
	struct harness_addr to = at(AF_INET, NODE_C_V4, 4000);
	struct rlimit few = { 64, 64 };
	int stream = new_socket(AF_INET, SOCK_STREAM), datagram = new_socket(AF_INET, SOCK_DGRAM);
	int before = open_descriptors(), status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		/* For good: nobody may raise it again. */
		if (setrlimit(RLIMIT_NOFILE, &few) < 0)
			_exit(10);
		while (socket(AF_INET, SOCK_STREAM, 0) >= 0)
			;
		if (errno != EMFILE || dial(stream, PORT_ECHO) < 0)
			_exit(11);
		if (dial(stream, PORT_ECHO) == 0 || errno != EISCONN)
			_exit(12);
		if (sendto(datagram, "x", 1, 0, sa(&to), to.len) != 1)
			_exit(13);
		_exit(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD ? 0 : 14);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(open_descriptors(), before);
	close(stream);
	close(datagram);
}

/* The shim asks the daemon by a name in the old root; the tracer is not in the new one. */
static void test_in_another_root_what_is_there_goes_on(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), expected = harness_is_traced() ? 0 : ENETUNREACH;
	char root[] = "/tmp/meshwrap-root-XXXXXX", data[4];
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* chroot() is root's */
	assert_int_equal(dial(fd, PORT_ECHO), 0);
	assert_non_null(mkdtemp(root));
	pid = fork();
	if (pid == 0) {
		if (chroot(root) < 0 || chdir("/") < 0)
			_exit(100);
		if (write(fd, "ping", 4) != 4 || read(fd, data, 4) != 4 ||
		    strcmp(peer_ip(fd), PEER_V4) != 0)
			_exit(101);
		_exit(dial(socket(AF_INET, SOCK_STREAM, 0), PORT_ECHO) == 0 ? 0 : errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(rmdir(root), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), expected);
	close(fd);
}

#define ALARM_US 500

static int alarms;
static volatile sig_atomic_t alarms_of_dial;

/* Later with each that meets the same dial: on a busy machine none would end between two. */
static void set_alarm(void)
{
	long us = MIN(ALARM_US * (alarms_of_dial + 1L), 999999L);
	struct itimerval once = { { 0, 0 }, { 0, us } };

	setitimer(ITIMER_REAL, &once, NULL);
}

static void on_alarm(int number)
{
	int saved = errno, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct harness_addr to = { .len = 0 };
	struct endpoint ep = { .port = 53 };

	(void)number;
	alarms++;
	ip_parse(PEER_V4, &ep.addr);
	to.len = endpoint_to_sockaddr(&ep, AF_INET, &to.storage);
	sendto(fd, "x", 1, 0, sa(&to), to.len);
	close(fd);
	alarms_of_dial++;
	set_alarm();
	errno = saved;
}

/* Refused by us or by the kernel, and for good? */
static void fail_dial(int fd, int i)
{
	const char *error = strerror(errno), *local = local_text(fd);
	unsigned pid, none;

	read_numbers(FILE_PID, &pid, &none);
	fail_msg("connect %d of 300: %s, from %s; the daemon %s, a second one says %s", i, error,
		 local, kill((pid_t)pid, 0) == 0 ? "lives" : strerror(errno),
		 dial(fd, PORT_ECHO) < 0 ? strerror(errno) : "yes");
}

static void test_signal_handlers_may_use_the_mesh_while_it_is_used(void **state)
{
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval never = { { 0, 0 }, { 0, 0 } };

	(void)state;
	sigaction(SIGALRM, &act, NULL);
	set_alarm();
	for (int i = 0; i < 300; i++) {
		int fd = new_socket(AF_INET, SOCK_STREAM);

		alarms_of_dial = 0;
		/* SA_RESTART or not, the kernel may end a connect with EINTR; then it goes on. */
		while (dial(fd, PORT_ECHO) < 0 && errno != EISCONN)
			if (errno != EINTR && errno != EALREADY)
				fail_dial(fd, i);
		assert_string_equal(peer_text(fd), PEER_V4 ":20000");
		close(fd);
	}
	signal(SIGALRM, SIG_IGN); /* a handler that runs now sets another */
	setitimer(ITIMER_REAL, &never, NULL);
	assert_true(alarms > 0);
}

static sem_t started;
static pid_t waiter;

/* The caller blocks from now on. */
static void blocks_now(void)
{
	waiter = (pid_t)syscall(SYS_gettid);
	sem_post(&started);
}

static void *wait_for_ever(void *fd)
{
	blocks_now();
	dial(*(int *)fd, PORT_HOLD);
	return NULL;
}

static void *accept_for_ever(void *fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	blocks_now();
	accept(*(int *)fd, (struct sockaddr *)&peer, &len);
	return NULL;
}

static void *receive_for_ever(void *fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	char data;

	blocks_now();
	recvfrom(*(int *)fd, &data, 1, 0, (struct sockaddr *)&peer, &len);
	return NULL;
}

static bool is_asleep(void)
{
	char path[64], text[256] = "", *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)waiter);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

/* On a busy machine that takes its time. Asleep is, for moments, also who asks the daemon. */
static void wait_until_blocked(void)
{
	sem_wait(&started);
	for (int i = 0, asleep = 0; asleep < 4; i++) {
		assert_true(i < 2000);
		usleep(5000);
		asleep = is_asleep() ? asleep + 1 : 0;
	}
}

static void cancel(void *(*blocks)(void *), int fd)
{
	pthread_t thread;
	void *result;

	assert_int_equal(pthread_create(&thread, NULL, blocks, &fd), 0);
	wait_until_blocked();
	assert_int_equal(pthread_cancel(thread), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, PTHREAD_CANCELED);
	close(fd);
}

static void test_blocked_calls_are_cancellation_points(void **state)
{
	int before = open_descriptors(), listener = new_socket(AF_INET, SOCK_STREAM);
	int datagram = new_socket(AF_INET, SOCK_DGRAM);
	struct harness_addr own = at(AF_INET, SELF_V4, 0);

	(void)state;
	sem_init(&started, 0, 0);
	assert_int_equal(bind(listener, sa(&own), own.len), 0);
	assert_int_equal(bind(datagram, sa(&own), own.len), 0);
	assert_int_equal(listen(listener, 1), 0);
	cancel(wait_for_ever, new_socket(AF_INET, SOCK_STREAM));
	cancel(accept_for_ever, listener);
	cancel(receive_for_ever, datagram);
	assert_int_equal(open_descriptors(), before);
}

static void *dial_often(void *unused)
{
	(void)unused;
	for (int i = 0; i < 50; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int r = dial(fd, i % 3 ? PORT_ECHO : PORT_FAIL_SOONER + ECONNREFUSED);

		if (i % 3 ? r != 0 : r == 0 || errno != ECONNREFUSED) {
			fprintf(stderr, "dial %d: %d, %s\n", i, r,
				r ? strerror(errno) : "connected");
			return "wrong answer";
		}
		close(fd);
	}
	return NULL;
}

static void test_threads_and_forks_dial_at_once(void **state)
{
	pthread_t threads[4];
	void *result;
	int status;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, dial_often, NULL), 0);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(dial(socket(AF_INET, SOCK_STREAM, 0), PORT_ECHO) == 0 ? 0 : 1);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
}

/* The new image knows nothing but the descriptor. */
static void test_a_connection_keeps_its_names_across_exec(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);
	char command[256], line[128] = "";
	FILE *out;

	(void)state;
	assert_int_equal(dial(fd, PORT_ECHO), 0);
	fcntl(fd, F_SETFD, 0);
	snprintf(
		command, sizeof(command),
		"/usr/bin/python3 -c 'import socket; print(*socket.socket(fileno=%d).getpeername())'",
		fd);
	if (access("/usr/bin/python3", X_OK) < 0)
		skip(); /* scripts/deps installs it; a bare build need not have it */
	out = popen(command, "r");
	assert_non_null(out);
	assert_non_null(fgets(line, sizeof(line), out));
	assert_int_equal(pclose(out), 0);
	assert_string_equal(line, PEER_V4 " 20000\n");
	close(fd);
}

static void test_nothing_is_printed_unless_asked(void **state)
{
	char command[512], text[1024];
	FILE *out;
	size_t n;

	(void)state;
	if (harness_is_traced())
		skip(); /* it asks by the names that the shim answers */
	snprintf(command, sizeof(command),
		 "%s getent -s files hosts node-b 2>&1; %s getent -s files hosts node-b 2>&1", "",
		 "MESHWRAP_LOG=debug");
	out = popen(command, "r");
	assert_non_null(out);
	n = fread(text, 1, sizeof(text) - 1, out);
	text[n] = '\0';
	pclose(out);
	assert_non_null(strstr(text, "meshwrap["));
	assert_true(strstr(text, "meshwrap[") > text + 5); /* only the second run */
	assert_memory_equal(text, PEER_V6, strlen(PEER_V6));
}

static void test_it_can_be_turned_off(void **state)
{
	(void)state;
	if (harness_is_traced())
		skip(); /* it asks by the names that the shim answers */
	assert_int_not_equal(
		system("MESHWRAP_OFF=1 timeout 5 getent -s files hosts node-b >/dev/null"), 0);
	assert_int_equal(system("timeout 5 getent -s files hosts node-b >/dev/null"), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_descriptor_is_kept),
		cmocka_unit_test(test_it_works_with_every_descriptor_closed),
		cmocka_unit_test(test_it_works_without_a_free_descriptor),
		cmocka_unit_test(test_in_another_root_what_is_there_goes_on),
		cmocka_unit_test(test_signal_handlers_may_use_the_mesh_while_it_is_used),
		cmocka_unit_test(test_blocked_calls_are_cancellation_points),
		cmocka_unit_test(test_threads_and_forks_dial_at_once),
		cmocka_unit_test(test_a_connection_keeps_its_names_across_exec),
		cmocka_unit_test(test_nothing_is_printed_unless_asked),
		cmocka_unit_test(test_it_can_be_turned_off),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
