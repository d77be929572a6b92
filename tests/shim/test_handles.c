/* Functions that a program looks up in a handle, as foreign function interfaces do. */
#include "tests/shim/harness.h"

#include <dlfcn.h>
#include <ifaddrs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/shim/behind.h"

static void *libc_handle(void)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

	assert_non_null(libc);
	return libc;
}

static bool is_shims(const void *function)
{
	Dl_info info;

	assert_int_not_equal(dladdr(function, &info), 0);
	return strstr(info.dli_fname, "libmeshwrap") != NULL;
}

static bool lists_own_address(const struct ifaddrs *list)
{
	bool found = false;

	for (; list; list = list->ifa_next)
		found |= list->ifa_addr && list->ifa_addr->sa_family == AF_INET &&
			 strncmp(sockaddr_text(list->ifa_addr, 16), SELF_V4 ":", sizeof(SELF_V4)) ==
				 0;
	return found;
}

static void test_libcs_handle_gives_what_serves_the_mesh(void **state)
{
	int (*get)(struct ifaddrs * *list);
	int (*dial)(int, const struct sockaddr *, socklen_t);
	void (*give_back)(struct ifaddrs * list);
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	int fd = new_socket(AF_INET, SOCK_STREAM);
	struct ifaddrs *list;

	(void)state;
	*(void **)&get = dlsym(libc_handle(), "getifaddrs");
	*(void **)&give_back = dlsym(libc_handle(), "freeifaddrs");
	*(void **)&dial = dlsym(libc_handle(), "connect");
	assert_int_equal(get(&list), 0);
	assert_true(lists_own_address(list));
	give_back(list);
	assert_int_equal(dial(fd, sa(&to), to.len), 0);
	assert_string_equal(peer_ip(fd), PEER_V4);
	close(fd);
}

/* As the linker's own table of the shim says. */
static void test_each_name_that_is_replaced_is_so_in_handles(void **state)
{
	char command[4200], name[128];
	unsigned count = 0;
	void *found;
	FILE *names;

	(void)state;
	snprintf(command, sizeof(command), "nm -D --defined-only '%s'", getenv("LIBMESHWRAP"));
	names = popen(command, "r");
	assert_non_null(names);
	while (fscanf(names, "%*s %*s %127s", name) == 1) {
		found = dlsym(libc_handle(), name);
		if (!found || strcmp(name, "dlsym") == 0 || strcmp(name, "bind") == 0)
			continue; /* the latter is wrapped, see below */
		if (!is_shims(found))
			fail_msg("%s is libc's", name);
		count++;
	}
	assert_int_equal(pclose(names), 0);
	assert_true(count > 40);
}

static void test_other_names_are_as_they_were(void **state)
{
	void *none = dlsym(libc_handle(), "connect_nobody");

	(void)state;
	assert_null(none);
	assert_non_null(strstr(dlerror(), "connect_nobody"));
	assert_false(is_shims(dlsym(libc_handle(), "getpid")));
	assert_false(is_shims(dlsym(libc_handle(), "dlsym")));
	assert_non_null(dlsym(libc_handle(), "connect"));
	assert_null(dlerror());
}

/* Behind us in the order, and ours calls it; libc's is behind that. */
static void test_a_library_that_wraps_libcs_is_given_libcs(void **state)
{
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	behind_calls = 0;
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	assert_int_equal(behind_calls, 1);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
}

/* By the way of ours, which goes on to what was asked for. */
static void test_other_handles_give_what_serves_the_mesh(void **state)
{
	void *behind = dlopen(behind_path(), RTLD_LAZY | RTLD_NOLOAD);
	int (*tie)(int, const struct sockaddr *, socklen_t);
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	assert_non_null(behind);
	assert_true(is_shims(dlsym(behind, "getsockname"))); /* libc's, which it needs */
	*(void **)&tie = dlsym(behind, "bind");
	behind_calls = 0;
	assert_int_equal(tie(fd, sa(&own), own.len), 0);
	assert_int_equal(behind_calls, 1);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
}

static _Atomic bool is_over;

static void *look_up_all_the_time(void *unused)
{
	while (!is_over)
		assert_non_null(dlsym(RTLD_DEFAULT, "getpid"));
	return unused;
}

/* It is one thread's child, and the others' locks are as they were. */
static void test_a_child_may_look_up_what_threads_looked_up_at_its_fork(void **state)
{
	pthread_t threads[2];
	int status;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look_up_all_the_time, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(20);
			_exit(dlsym(RTLD_DEFAULT, "getppid") ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	is_over = true;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libcs_handle_gives_what_serves_the_mesh),
		cmocka_unit_test(test_each_name_that_is_replaced_is_so_in_handles),
		cmocka_unit_test(test_other_names_are_as_they_were),
		cmocka_unit_test(test_a_library_that_wraps_libcs_is_given_libcs),
		cmocka_unit_test(test_other_handles_give_what_serves_the_mesh),
		cmocka_unit_test(test_a_child_may_look_up_what_threads_looked_up_at_its_fork),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
