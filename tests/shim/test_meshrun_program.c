/* What meshrun runs: which programs, as what process, with what environment, signals and status. */
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/shim/mesh.h"
#include "tests/shim/stage.h"

static void test_wrong_usage_is_two(void **state)
{
	assert_int_equal(stage_run(*state, "--timeout", "soon", "true"), 2);
	stage_assert_sentence("whole seconds");
	assert_int_equal(stage_run(*state, "--"), 2);
	stage_assert_sentence("no program");
	assert_int_equal(stage_run(*state, "--no-such-option=secret", "true"), 2);
	stage_assert_sentence("meshrun: --no-such-option is no option");
	assert_int_equal(stage_run(*state, "-x", "true"), 2);
	stage_assert_sentence("-x is no option");
	assert_int_equal(stage_run(*state, "--config"), 2);
	stage_assert_sentence("--config needs a value; see meshrun --help");
	assert_int_equal(stage_run(*state, "-h"), 0);
	assert_int_equal(strncmp(stage_output, "usage: meshrun ", 15), 0);
}

static void test_programs_that_cannot_be_run_or_entered_are_told_apart(void **state)
{
	assert_int_equal(stage_run(*state, "no-such-program"), 127);
	stage_assert_sentence("no-such-program: no such program");
	assert_int_equal(stage_run(*state, "/etc/passwd"), 126);
	stage_assert_sentence("/etc/passwd");
	assert_int_equal(stage_run(*state, "/etc"), 126);
	stage_assert_sentence("/etc");
}

static void test_a_static_program_is_traced_and_its_status_is_its_own(void **state)
{
	struct stage *s = *state;

	if (access("/sbin/ldconfig", X_OK) < 0)
		skip(); /* the one static program of every glibc system */
	stage_write_good_meshd(s);
	assert_int_equal(stage_run(s, "--config", s->config, "/sbin/ldconfig", "--version"), 0);
	assert_non_null(strstr(stage_output, "ldconfig"));
	assert_int_equal(stage_run(s, "/sbin/ldconfig", "--no-such-option"), 64);
}

/* Else the tracer would not hear of one thread while another waits for the daemon's answer. */
static void test_a_traced_program_may_be_started_with_its_children_ignored(void **state)
{
	static const char ignore[] = "import os, signal, sys\n"
				     "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
				     "os.environ['MESHWRAP_TRACE'] = '1'\n"
				     "os.execv(sys.argv[1], sys.argv[1:])\n";
	static const char code[] =
		"import os, signal, socket, threading, time\n"
		"daemon = int(open(os.environ['MESHWRAP_DIR'] + '/" FILE_PID "').read())\n"
		"s, other = socket.socket(), socket.socket()\n"
		"os.kill(daemon, signal.SIGSTOP)\n"
		"threading.Thread(target=other.connect, args=(('" PEER_V4 "', 20000),)).start()\n"
		"time.sleep(0.3)\n"
		"begun = time.monotonic()\n"
		"s.getsockname()\n"
		"took = time.monotonic() - begun\n"
		"os.kill(daemon, signal.SIGCONT)\n"
		"print('at once' if took < 2 else took)\n";
	struct stage *s = *state;

	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	stage_write_good_meshd(s);
	assert_int_equal(stage_run(s, "--config", s->config, "/usr/bin/python3", "-c", ignore,
				   s->meshrun, "--", "/usr/bin/python3", "-c", code),
			 0);
	assert_string_equal(stage_output, "at once\n");
}

static void test_a_set_uid_program_is_refused(void **state)
{
	struct stage *s = *state;
	char path[128];

	if (getuid() != 0)
		skip(); /* only root can make a file that is another user's and set-uid */
	snprintf(path, sizeof(path), "%s/setuid", s->root);
	stage_copy("/bin/true", path);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(chmod(path, 04755), 0);
	assert_int_equal(stage_run(s, path), 126);
	stage_assert_sentence("set-uid");
}

/* As some systems install sudo. */
static void test_a_set_uid_program_that_cannot_be_read_is_refused(void **state)
{
	struct stage *s = *state;
	char path[128];
	int status;
	pid_t pid;

	if (getuid() != 0)
		skip();
	snprintf(path, sizeof(path), "%s/setuid", s->root);
	stage_copy("/bin/true", path);
	assert_int_equal(chmod(path, 04111), 0);
	assert_int_equal(chmod(s->root, 0755), 0);
	pid = fork();
	if (pid == 0) {
		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(99);
		status = stage_run(s, path);
		_exit(strstr(stage_output, "set-uid") ? status : 98);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 126);
}

static void test_the_program_gets_the_environment_and_no_child(void **state)
{
	struct stage *s = *state;
	char wanted[512];

	stage_write_good_meshd(s);
	setenv("LD_PRELOAD", "", 1);
	assert_int_equal(stage_run(s, "--config", s->config, "sh", "-c",
				   "echo \"$LD_PRELOAD $MESHWRAP_DIR $RAY_LD_PRELOAD_ON_WORKERS\";"
				   "cat /proc/$$/task/$$/children"),
			 0);
	unsetenv("LD_PRELOAD");
	snprintf(wanted, sizeof(wanted), "%s/libmeshwrap.so %s 1\n", s->root, s->dir);
	assert_memory_equal(stage_output, wanted, strlen(wanted));
	/* Of children there is only cat itself. */
	assert_null(strchr(stage_output + strlen(wanted), ' ')
			    ? strchr(strchr(stage_output + strlen(wanted), ' ') + 1, ' ')
			    : NULL);
}

static void test_an_existing_preload_stays_first(void **state)
{
	struct stage *s = *state;
	char wanted[256];

#ifdef SANITIZED
	skip(); /* a sanitized meshrun takes no library before its own */
#endif
	stage_write_good_meshd(s);
	setenv("LD_PRELOAD", "libm.so.6", 1);
	assert_int_equal(stage_run(s, "--config", s->config, "sh", "-c", "echo $LD_PRELOAD"), 0);
	unsetenv("LD_PRELOAD");
	snprintf(wanted, sizeof(wanted), "libm.so.6:%s/libmeshwrap.so\n", s->root);
	assert_string_equal(stage_output, wanted);
}

static void test_signals_and_deaths_are_the_programs_own(void **state)
{
	struct stage *s = *state;
	const char *words[] = { "--config",
				s->config,
				"sh",
				"-c",
				"trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done",
				NULL };
	int out;
	pid_t pid;

	stage_write_good_meshd(s);
	pid = stage_start(s, words, &out);
	assert_int_equal(read(out, stage_output, sizeof(stage_output)), 6);
	kill(pid, SIGUSR1);
	assert_int_equal(stage_end(pid, out), 9);
	assert_int_equal(stage_run(s, "sh", "-c", "kill -KILL $$"), 1000 + SIGKILL);
}

/* Runs words as PID 1 of a new PID namespace; the status, or -1 when that is not allowed. */
static int run_as_init(const struct stage *s, const char *const *words)
{
	int status, out;
	pid_t pid = fork(), init;

	if (pid == 0) {
		if (unshare(CLONE_NEWPID) < 0)
			_exit(98);
		init = stage_start(s, words, &out);
		_exit(stage_end(init, out));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) != 98 ? WEXITSTATUS(status) : -1;
}

static void test_as_pid_one_it_reaps_forwards_and_reports(void **state)
{
	struct stage *s = *state;
	/* An orphan that has ended must be gone, not a zombie that kill -0 still finds. */
	const char *orphan[] = { "sh", "-c",
				 "p=$(sh -c 'sleep 0.05 >/dev/null 2>&1 & echo $!'); sleep 0.3;"
				 "kill -0 $p 2>/dev/null && exit 50; exit 5",
				 NULL };
	const char *killed[] = { "sh", "-c", "kill -TERM $$", NULL };
	const char *forwarded[] = {
		"sh", "-c", "trap 'exit 11' USR1; kill -USR1 1; while :; do sleep 0.02; done", NULL
	};

	stage_write_good_meshd(s);
	assert_int_equal(stage_run(s, "--config", s->config, "true"), 0);
	if (run_as_init(s, killed) < 0)
		skip(); /* a PID namespace, to be PID 1 in, takes a right we do not have */
	assert_int_equal(run_as_init(s, killed), 128 + SIGTERM);
	assert_int_equal(run_as_init(s, forwarded), 11);
	assert_int_equal(run_as_init(s, orphan), 5);
}

/* Without us it would be PID 1 itself, which no key of the terminal stops. */
static void test_as_pid_one_it_leaves_the_program_not_stopped(void **state)
{
	struct stage *s = *state;
	const char *words[] = { "sh", "-c",
				"(sleep 10; kill -KILL $$) >/dev/null 2>&1 & kill -TSTP $$; exit 6",
				NULL };
	int master, status, out;
	char text[64];
	pid_t pid;

	stage_write_good_meshd(s);
	assert_int_equal(stage_run(s, "--config", s->config, "true"), 0);
	pid = forkpty(&master, NULL, NULL, NULL);
	if (pid < 0)
		skip();
	if (pid == 0) {
		if (unshare(CLONE_NEWPID) < 0)
			_exit(98);
		pid = stage_start(s, words, &out);
		_exit(stage_end(pid, out));
	}
	while (read(master, text, sizeof(text)) > 0)
		; /* an error, when the last has closed the terminal */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(master);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 98)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		meshrun_test(test_wrong_usage_is_two),
		meshrun_test(test_programs_that_cannot_be_run_or_entered_are_told_apart),
		meshrun_test(test_a_static_program_is_traced_and_its_status_is_its_own),
		meshrun_test(test_a_traced_program_may_be_started_with_its_children_ignored),
		meshrun_test(test_a_set_uid_program_is_refused),
		meshrun_test(test_a_set_uid_program_that_cannot_be_read_is_refused),
		meshrun_test(test_the_program_gets_the_environment_and_no_child),
		meshrun_test(test_an_existing_preload_stays_first),
		meshrun_test(test_signals_and_deaths_are_the_programs_own),
		meshrun_test(test_as_pid_one_it_reaps_forwards_and_reports),
		meshrun_test(test_as_pid_one_it_leaves_the_program_not_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
