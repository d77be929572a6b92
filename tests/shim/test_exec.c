/*
 * Children that are started with an environment from which the mesh was taken
 * away: by each way of starting them they are on it all the same.
 */
#include "tests/shim/harness.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/util.h"

/* Not in musl; there it is the shim's alone. */
int execveat(int folder, const char *path, char *const argv[], char *const envp[], int flags)
	__attribute__((weak));
/* glibc's since 2.39. */
int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
		const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
	__attribute__((weak));
int pidfd_spawnp(int *pidfd, const char *name, const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
	__attribute__((weak));

#define BY_SHELL "it's ours" /* a word of a child that a shell has started */

static char self[4096];
static char *const child_words[] = { "a name of its own", "child", "word", NULL };
static char *const no_variables[] = { NULL };

enum way {
	EXECVE,
	EXECLE,
	EXECVPE,
	EXECV,
	EXECVP,
	EXECL,
	EXECLP,
	FEXECVE,
	EXECVEAT,
	EXECVEAT_FILE,
	EXECVEAT_FOLDER,
	WAYS
};

/* In the child: 0 when it is on the mesh and has got its words. */
static int be_child(int argc, char **argv)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);

	bool by_shell = argc == 3 && strcmp(argv[2], BY_SHELL) == 0;

	if (!by_shell &&
	    (argc != 3 || strcmp(argv[0], child_words[0]) != 0 || strcmp(argv[2], "word") != 0))
		return 10;
	if (!getenv("LD_PRELOAD"))
		return 20;
	if (connect(fd, sa(&to), to.len) < 0)
		return 25;
	return strcmp(peer_text(fd), PEER_V4 ":20000") == 0 ? 0 : 30;
}

static void start(enum way way)
{
	extern char **environ;
	static char *empty[] = { NULL };

	if (way == EXECV || way == EXECVP || way == EXECL || way == EXECLP)
		environ = empty;
	switch (way) {
	case EXECVE:
		execve(self, child_words, no_variables);
		break;
	case EXECLE:
		execle(self, child_words[0], "child", "word", NULL, no_variables);
		break;
	case EXECVPE:
		execvpe(self, child_words, no_variables);
		break;
	case EXECV:
		execv(self, child_words);
		break;
	case EXECVP:
		execvp(self, child_words);
		break;
	case EXECL:
		execl(self, child_words[0], "child", "word", NULL);
		break;
	case EXECLP:
		execlp(self, child_words[0], "child", "word", NULL);
		break;
	case FEXECVE:
		fexecve(open(self, O_RDONLY | O_CLOEXEC), child_words, no_variables);
		break;
	case EXECVEAT:
		execveat(AT_FDCWD, self, child_words, no_variables, 0);
		break;
	case EXECVEAT_FILE:
		execveat(open(self, O_RDONLY | O_CLOEXEC), "", child_words, no_variables,
			 AT_EMPTY_PATH);
		break;
	case EXECVEAT_FOLDER:
		*strrchr(self, '/') = '\0';
		execveat(open(self, O_PATH | O_CLOEXEC), self + strlen(self) + 1, child_words,
			 no_variables, 0);
		break;
	case WAYS:
		break;
	}
}

static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void test_exec_with_an_empty_environment_keeps_the_mesh(void **state)
{
	pid_t pid;

	(void)state;
	for (enum way way = EXECVE; way < WAYS; way++) {
		if (way >= EXECVEAT && !execveat)
			break;
		pid = fork();
		if (pid == 0) {
			start(way);
			_exit(99);
		}
		assert_int_equal(status_of(pid), 0);
	}
}

static void test_posix_spawn_with_an_empty_environment_keeps_the_mesh(void **state)
{
	pid_t pid;

	(void)state;
	assert_int_equal(posix_spawn(&pid, self, NULL, NULL, child_words, no_variables), 0);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(posix_spawnp(&pid, self, NULL, NULL, child_words, no_variables), 0);
	assert_int_equal(status_of(pid), 0);
}

static bool libc_has(const char *name)
{
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	bool has = libc && dlsym(libc, name);

	if (libc)
		dlclose(libc);
	return has;
}

static int status_by(int pidfd)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
	close(pidfd);
	return info.si_status;
}

static void test_pidfd_spawn_with_an_empty_environment_keeps_the_mesh(void **state)
{
	int pidfd = -1;

	(void)state;
	if (!libc_has("pidfd_spawn")) {
		assert_int_equal(pidfd_spawn(&pidfd, self, NULL, NULL, child_words, no_variables),
				 ENOSYS);
		assert_int_equal(pidfd_spawnp(&pidfd, self, NULL, NULL, child_words, no_variables),
				 ENOSYS);
		assert_int_equal(pidfd, -1);
		return;
	}
	assert_int_equal(pidfd_spawn(&pidfd, self, NULL, NULL, child_words, no_variables), 0);
	assert_int_equal(status_by(pidfd), 0);
	assert_int_equal(pidfd_spawnp(&pidfd, self, NULL, NULL, child_words, no_variables), 0);
	assert_int_equal(status_by(pidfd), 0);
	assert_int_equal(pidfd_spawn(&pidfd, "/nonexistent", NULL, NULL, child_words, no_variables),
			 ENOENT);
}

/* By system() and popen(), with variables for the whole environment; their statuses, and $0. */
static void run_shells(char **variables, int *by_system, int *by_popen, char name[static 16])
{
	extern char **environ;
	char **before = environ, command[sizeof(self) + 64];
	FILE *out;

	snprintf(command, sizeof(command), "'%s' child \"" BY_SHELL "\"", self);
	environ = variables;
	*by_system = system(command);
	snprintf(command, sizeof(command), "echo $0; exec '%s' child \"" BY_SHELL "\"", self);
	out = popen(command, "r");
	if (out && !fgets(name, 16, out))
		*name = '\0';
	*by_popen = out ? pclose(out) : -1;
	environ = before;
}

static void test_shells_of_a_cleared_environment_keep_the_mesh(void **state)
{
	char *none[] = { NULL }, *unwanted[] = { "MESHWRAP_FOLLOW=0", NULL };
	int by_system, by_popen;
	char name[16];

	(void)state;
	assert_int_not_equal(system(NULL), 0);
	run_shells(none, &by_system, &by_popen, name);
	assert_int_equal(by_system, 0);
	assert_int_equal(by_popen, 0);
	assert_string_equal(name, "sh\n");
	run_shells(unwanted, &by_system, &by_popen, name);
	assert_true(WIFEXITED(by_system) && WIFEXITED(by_popen));
	assert_int_equal(WEXITSTATUS(by_system), 20);
	assert_int_equal(WEXITSTATUS(by_popen), 20);
}

static void test_shells_that_have_the_shim_are_started_as_they_are(void **state)
{
	extern char **environ;
	const char *given = getenv("LD_PRELOAD");
	char **before = environ, command[512], variable[512], *preload[] = { variable, NULL };
	int status;

	(void)state;
	/* One of another libc has its own shim. */
	snprintf(command, sizeof(command),
		 "test \"$LD_PRELOAD\" != '%s' || "
		 "tr '\\0' ' ' < /proc/$$/cmdline | grep -q '^sh -c'",
		 given);
	snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", given);
	environ = preload;
	status = system(command);
	environ = before;
	assert_int_equal(status, 0);
}

static void test_a_child_of_vfork_leaves_its_parent_as_it_was(void **state)
{
	static int i; /* not in a register, which vfork() may spoil */
	volatile pid_t pid;
	char *variables[] = { "A=1", "LD_PRELOAD=", NULL };

	(void)state;
	for (i = 0; i < 50; i++) {
		pid = vfork();
		if (pid == 0) {
			execve("/nonexistent/program", child_words, variables);
			if (errno == ENOENT)
				execve(self, child_words, variables);
			_exit(99);
		}
		assert_int_equal(status_of(pid), 0);
	}
	assert_string_equal(variables[0], "A=1");
	assert_string_equal(variables[1], "LD_PRELOAD=");
	assert_null(variables[2]);
}

static int run_with(char *variable)
{
	char *variables[] = { variable, NULL };
	pid_t pid;

	assert_int_equal(posix_spawn(&pid, self, NULL, NULL, child_words, variables), 0);
	return status_of(pid);
}

/* ---- short stacks ---- */

#define SHORT_STACK 24576 /* what some runtimes give a thread; the libc's own part is in it */

static void *spawn_child(void *pid)
{
	return posix_spawnp(pid, self, NULL, NULL, child_words, no_variables) == 0 ? pid : NULL;
}

static void *vfork_child(void *arg)
{
	volatile pid_t pid = vfork();

	if (pid == 0) {
		execvpe(self, child_words, no_variables);
		_exit(99);
	}
	*(pid_t *)arg = pid;
	return pid > 0 ? arg : NULL;
}

static void *vfork_child_of_words(void *arg)
{
	volatile pid_t pid = vfork();

	if (pid == 0) {
		execle(self, child_words[0], "child", "word", NULL, no_variables);
		_exit(99);
	}
	*(pid_t *)arg = pid;
	return pid > 0 ? arg : NULL;
}

static void run_on_short_stack(void *(*run)(void *))
{
	/* On arm64 libc takes none below 128 KiB. */
	size_t size = MAX((size_t)SHORT_STACK, (size_t)PTHREAD_STACK_MIN);
	char *stack = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;
	void *done;
	pid_t pid = -1;

	assert_true(stack != MAP_FAILED);
	stack += 2 * size;
	assert_int_equal(mprotect(stack, size, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, stack, size), 0);
	assert_int_equal(pthread_create(&thread, &attr, run, &pid), 0);
	assert_int_equal(pthread_join(thread, &done), 0);
	assert_ptr_equal(done, &pid);
	assert_int_equal(status_of(pid), 0);
	pthread_attr_destroy(&attr);
	munmap(stack - 2 * size, 3 * size);
}

static void test_threads_with_short_stacks_start_children(void **state)
{
	(void)state;
	run_on_short_stack(spawn_child);
	run_on_short_stack(vfork_child);
	run_on_short_stack(vfork_child_of_words);
}

static void test_who_wants_no_mesh_for_a_child_says_so(void **state)
{
	(void)state;
	assert_int_equal(run_with("MESHWRAP_FOLLOW=0"), 20);
	assert_int_equal(run_with("MESHWRAP_OFF=1"), 20);
	assert_int_equal(run_with("MESHWRAP_FOLLOW=1"), 0);
}

static void test_other_preloaded_libraries_stay_and_come_first(void **state)
{
	char *variables[] = { "LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6", NULL };
	char *words[] = { "sh", "-c", "case $LD_PRELOAD in *libm*:*/libmeshwrap.so) exit 7; esac",
			  NULL };
	pid_t pid;

	(void)state;
	if (access("/lib/x86_64-linux-gnu/libm.so.6", R_OK) < 0)
		skip(); /* any library would do; this one is known by its place */
	assert_int_equal(posix_spawn(&pid, "/bin/sh", NULL, NULL, words, variables), 0);
	assert_int_equal(status_of(pid), 7);
}

static void test_an_environment_too_long_to_be_changed_is_left_alone(void **state)
{
	static char *variables[8000];
	pid_t pid;

	(void)state;
	for (int i = 0; i < 7999; i++)
		variables[i] = "A=1";
	assert_int_equal(posix_spawn(&pid, self, NULL, NULL, child_words, variables), 0);
	assert_int_equal(status_of(pid), 20);
}

static void test_errors_of_exec_are_the_kernels(void **state)
{
	char *words[2000];

	(void)state;
	execve("/nonexistent", child_words, no_variables);
	assert_int_equal(errno, ENOENT);
	execve("/etc/passwd", child_words, no_variables);
	assert_int_equal(errno, EACCES);
	setenv("PATH", "/bin:/usr/bin", 1); /* what nobody may look into would give EACCES */
	execvp("no-such-program-here", child_words);
	assert_int_equal(errno, ENOENT);
	for (int i = 0; i < 1999; i++)
		words[i] = "w";
	words[1999] = NULL;
	execve("/nonexistent", words, no_variables);
	assert_int_equal(errno, ENOENT);
}

/* Where /sbin/ldconfig is static, as in every glibc system. */
static void test_a_static_child_is_traced_and_keeps_its_own_name(void **state)
{
	char *words[] = { "other-name", "--no-such-option", NULL }, text[4096], meshrun[4096];
	int pipes[2];
	posix_spawn_file_actions_t actions;
	ssize_t n;
	pid_t pid;

	(void)state;
#ifdef SANITIZED
	skip(); /* a sanitized meshrun insists that nothing is loaded before its runtime */
#endif
	snprintf(meshrun, sizeof(meshrun), "%s", getenv("LIBMESHWRAP"));
	strcpy(strrchr(meshrun, '/'), "/meshrun");
	if (access("/sbin/ldconfig", X_OK) < 0 || access(meshrun, X_OK) < 0)
		skip(); /* a rented container of the tests has no meshrun */
	assert_int_equal(pipe(pipes), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
	assert_int_equal(posix_spawn(&pid, "/sbin/ldconfig", &actions, NULL, words, no_variables),
			 0);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);
	n = read(pipes[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	close(pipes[0]);
	assert_int_equal(status_of(pid), 64);
	if (!strstr(text, "other-name: "))
		fail_msg("%s", text);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exec_with_an_empty_environment_keeps_the_mesh),
		cmocka_unit_test(test_posix_spawn_with_an_empty_environment_keeps_the_mesh),
		cmocka_unit_test(test_pidfd_spawn_with_an_empty_environment_keeps_the_mesh),
		cmocka_unit_test(test_shells_of_a_cleared_environment_keep_the_mesh),
		cmocka_unit_test(test_shells_that_have_the_shim_are_started_as_they_are),
		cmocka_unit_test(test_a_child_of_vfork_leaves_its_parent_as_it_was),
		cmocka_unit_test(test_threads_with_short_stacks_start_children),
		cmocka_unit_test(test_who_wants_no_mesh_for_a_child_says_so),
		cmocka_unit_test(test_other_preloaded_libraries_stay_and_come_first),
		cmocka_unit_test(test_an_environment_too_long_to_be_changed_is_left_alone),
		cmocka_unit_test(test_errors_of_exec_are_the_kernels),
		cmocka_unit_test(test_a_static_child_is_traced_and_keeps_its_own_name),
	};
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (argc > 1 && strcmp(argv[1], "child") == 0)
		return be_child(argc, argv);
	harness_enter(argv, HARNESS_DAEMON);
	return n > 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 99;
}
