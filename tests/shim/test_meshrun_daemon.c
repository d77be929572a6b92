/* The daemon that meshrun finds, starts, waits for, or complains about. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/paths.h"
#include "tests/shim/mesh.h"
#include "tests/shim/stage.h"

static void test_without_daemon_and_config_says_what_to_do(void **state)
{
	assert_int_equal(stage_run(*state, "true"), 1);
	stage_assert_sentence("meshd --config FILE");
}

static void test_an_unreadable_config_is_told(void **state)
{
	assert_int_equal(stage_run(*state, "--config", "/nonexistent/wg.conf", "true"), 1);
	stage_assert_sentence("/nonexistent/wg.conf");
}

static void test_the_daemon_is_started_once_and_stays(void **state)
{
	struct stage *s = *state;
	struct stat before, after;
	char pid_file[128];

	stage_write_good_meshd(s);
	snprintf(pid_file, sizeof(pid_file), "%s/pid", s->dir);
	assert_int_equal(stage_run(s, "--config", s->config, "--", "sh", "-c", "echo ran; exit 7"),
			 7);
	assert_string_equal(stage_output, "ran\n");
	assert_int_equal(stat(pid_file, &before), 0);
	assert_int_equal(stage_run(s, "--config", s->config, "sh", "-c", "exit 3"), 3);
	assert_int_equal(stat(pid_file, &after), 0);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	assert_int_equal(stage_run(s, "true"), 0);
}

static void test_a_daemon_that_ends_is_quoted(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(
		s, "echo 'meshd: starting'; echo 'meshd: wg.conf:3: no PrivateKey' >&2; exit 1");
	assert_int_equal(stage_run(s, "--config", s->config, "echo", "ran"), 1);
	assert_string_equal(stage_output, "meshd: wg.conf:3: no PrivateKey\n");
	stage_write_meshd(s, "exit 1");
	assert_int_equal(truncate(strcat(strcpy(stage_output, s->dir), "/meshd.log"), 0), 0);
	assert_int_equal(stage_run(s, "--config", s->config, "echo", "ran"), 1);
	stage_assert_sentence("without a word");
}

static void test_a_daemon_is_quoted_without_the_times_of_its_log(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(s, "echo '2026-11-23T12:00:00.123Z meshd: wg.conf:3: no PrivateKey' >&2; "
			     "exit 1");
	assert_int_equal(stage_run(s, "--config", s->config, "echo", "ran"), 1);
	assert_string_equal(stage_output, "meshd: wg.conf:3: no PrivateKey\n");
	stage_write_meshd(s, "echo '2026-11-23T12:00:00.123Z warning: control: x: cannot connect'; "
			     "exec sleep 30");
	assert_int_equal(stage_run(s, "--config", s->config, "--timeout", "4", "echo", "ran"), 1);
	stage_assert_sentence("not usable after 4 s: control: x: cannot connect; wait longer");
}

static void test_a_daemon_that_is_killed_is_told(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(s, "echo 'meshd: ready'; kill -KILL $$");
	assert_int_equal(stage_run(s, "--config", s->config, "echo", "ran"), 1);
	stage_assert_sentence("meshd was killed by signal 9");
}

static void test_a_daemon_that_does_not_get_ready_is_ended(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(s, "echo $$ >\"$MESHWRAP_DIR/pid\"; exec sleep 30");
	assert_int_equal(stage_run(s, "--config", s->config, "--timeout", "1", "echo", "ran"), 1);
	stage_assert_sentence("not usable after 1 s; wait longer with --timeout, or see /");
	snprintf(stage_output, sizeof(stage_output), "kill -0 $(cat %s/pid) 2>/dev/null", s->dir);
	for (int i = 0; i < 1000 && system(stage_output) == 0; i++)
		usleep(10000);
	assert_int_not_equal(system(stage_output), 0);
}

/* It is ended with us, so that meshctl has nobody to ask why. */
static void test_what_a_daemon_waits_for_is_told(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(s, "echo 'warning: control: too late'; "
			     "echo 'warning: control: x: cannot connect, trying again'; "
			     "echo 'meshd: waits'; exec sleep 30");
	assert_int_equal(stage_run(s, "--config", s->config, "--timeout", "4", "echo", "ran"), 1);
	stage_assert_sentence("not usable after 4 s: control: x: cannot connect, trying again; "
			      "wait longer with --timeout, or see /");
}

/* What the daemon finds fault with, but can live with, is not why there is no mesh. */
static void test_a_warning_of_something_else_is_not_the_reason(void **state)
{
	struct stage *s = *state;

	stage_write_meshd(s, "echo 'warning: mesh: the folder can be read by others; chmod it'; "
			     "echo 'warning: meshd: control: no'; exec sleep 30");
	assert_int_equal(stage_run(s, "--config", s->config, "--timeout", "4", "echo", "ran"), 1);
	stage_assert_sentence("not usable after 4 s; wait longer with --timeout, or see /");
	stage_write_meshd(s, "echo 'warning: control: x: cannot connect, trying again'; "
			     "echo 'warning: mesh: the state cannot be saved: no room'; "
			     "exec sleep 30");
	assert_int_equal(stage_run(s, "--config", s->config, "--timeout", "4", "echo", "ran"), 1);
	stage_assert_sentence("not usable after 4 s: control: x: cannot connect, trying again; ");
}

static void test_an_interrupt_while_waiting_ends_everything(void **state)
{
	struct stage *s = *state;
	const char *words[] = { "--config", s->config, "echo", "ran", NULL };
	char pid_file[128];
	int out;
	pid_t pid;

	stage_write_meshd(s, "echo $$ >\"$MESHWRAP_DIR/pid\"; exec sleep 30");
	snprintf(pid_file, sizeof(pid_file), "%s/pid", s->dir);
	pid = stage_start(s, words, &out);
	for (int i = 0; i < 2000 && access(pid_file, F_OK) < 0; i++)
		usleep(10000);
	kill(pid, SIGINT);
	assert_int_equal(stage_end(pid, out), 128 + SIGINT);
	assert_string_equal(stage_output, "");
}

/* The daemon lives, but its sockets are away: closed, and --explain says which call failed how. */
static void test_a_daemon_that_cannot_be_asked_is_explained(void **state)
{
	static const char dial[] = "cd $MESHWRAP_DIR; mkdir away; mv " PATHS_CONTROL " " PATHS_POSTS
				   " away; /usr/bin/python3 -c '"
				   "import socket; s = socket.socket();"
				   "print(s.connect_ex((\"" PEER_V4 "\", 1)))';"
				   "mv away/* .; rmdir away";
	struct stage *s = *state;
	char wanted[16];

	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	stage_write_good_meshd(s);
	snprintf(wanted, sizeof(wanted), "%d\n", ENETUNREACH);
	assert_int_equal(stage_run(s, "--config", s->config, "--explain", "sh", "-c", dial), 0);
	assert_non_null(strstr(stage_output, ": the daemon cannot be asked: connect: ENOENT\n"));
	assert_non_null(strstr(stage_output, wanted));
	setenv("MESHWRAP_TRACE", "1", 1);
	assert_int_equal(stage_run(s, "--explain", "sh", "-c", dial), 0);
	unsetenv("MESHWRAP_TRACE");
	assert_non_null(strstr(stage_output, ": the daemon cannot be asked: connect: ENOENT\n"));
	assert_non_null(strstr(stage_output, wanted));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		meshrun_test(test_without_daemon_and_config_says_what_to_do),
		meshrun_test(test_an_unreadable_config_is_told),
		meshrun_test(test_the_daemon_is_started_once_and_stays),
		meshrun_test(test_a_daemon_that_ends_is_quoted),
		meshrun_test(test_a_daemon_is_quoted_without_the_times_of_its_log),
		meshrun_test(test_a_daemon_that_is_killed_is_told),
		meshrun_test(test_a_daemon_that_does_not_get_ready_is_ended),
		meshrun_test(test_what_a_daemon_waits_for_is_told),
		meshrun_test(test_a_warning_of_something_else_is_not_the_reason),
		meshrun_test(test_an_interrupt_while_waiting_ends_everything),
		meshrun_test(test_a_daemon_that_cannot_be_asked_is_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
